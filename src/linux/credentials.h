/* SPDX-License-Identifier: Apache-2.0 */
/* Capability sets, limits and other properties a process gives up before it becomes the workload. */
#pragma once

#include "base/error.h"

#include <stdint.h>

struct bh_capability_sets {
	uint64_t effective, permitted, inheritable;
};

/* capset(2) of the calling process. Clearing a capability from `inheritable` also takes it from the ambient set. */
int bh_capabilities_set(const struct bh_capability_sets *sets, struct bh_error *err);
/* The calling process's permitted set (capget(2)). */
uint64_t bh_capabilities_permitted(void);
/* Gives up all but what handling files of every owner takes: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, MKNOD, SETFCAP
 * (capabilities(7)). For a process that reads what others have made. */
int bh_capabilities_keep_for_files(struct bh_error *err);
/* Drops everything that is not in `keep` from the bounding set. */
int bh_capabilities_bound(uint64_t keep, struct bh_error *err);
/* Raises these in the ambient set (they must be permitted and inheritable). */
int bh_capabilities_ambient(uint64_t ambient, struct bh_error *err);
/* "RLIMIT_NOFILE" -> number, or -1. */
int bh_rlimit_number(const char *name);
