/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seccomp filters: from the runtime configuration's linux.seccomp (runtime-spec config-linux.md), from Docker's JSON
 * profiles, or the built-in default profile, to a BPF program, and into force by seccomp(2).
 */
#pragma once

#include "base/error.h"
#include "oci/spec.h"

#include <linux/filter.h>

struct bh_seccomp_filter {
	struct sock_filter *instructions;
	size_t count;
	unsigned flags; /* SECCOMP_FILTER_FLAG_... */
	bool builtin;   /* `instructions` is read-only data of the program, compiled at build time: nothing to free */
};

/*
 * Compiles the rules for x86_64, and i386 and x32 as far as `architectures` lists them. `capabilities` (bit n = capability
 * n, the bounding set) selects the parts of the default profile (BH_SECCOMP_DEFAULT); for the usual sets that is the
 * program that was compiled at build time. BH_SECCOMP_NONE gives an empty filter.
 * System calls of unknown name are left out, as runc does; so is a rule whose action is the default action.
 * -EINVAL: bad action, operator or index; -E2BIG: more than the kernel takes (4096 instructions).
 */
int bh_seccomp_compile(const struct bh_spec_seccomp *spec, uint64_t capabilities, struct bh_seccomp_filter *ret_filter, struct bh_error *err);
void bh_seccomp_filter_clear(struct bh_seccomp_filter *filter);

/* Puts it in force for the calling thread: seccomp(2), or prctl(2) where that is missing. Needs no_new_privs or
 * CAP_SYS_ADMIN. An empty filter is success. Returns 0, or the listener's fd (> 0, O_CLOEXEC) if an action is NOTIFY. */
int bh_seccomp_install(const struct bh_seccomp_filter *filter, struct bh_error *err);

/* Has it an answer that asks a listener? */
bool bh_seccomp_notifies(const struct bh_seccomp_filter *filter);

/* What it answers to this x86-64 system call with this first argument (and zeros): SECCOMP_RET_... without data. */
uint32_t bh_seccomp_action(const struct bh_seccomp_filter *filter, int number, uint64_t first_argument);

/* The words of the specification that are understood, by index; NULL behind the last. */
enum bh_seccomp_words { BH_SECCOMP_ACTIONS, BH_SECCOMP_OPERATORS, BH_SECCOMP_ARCHITECTURES, BH_SECCOMP_FLAGS };
const char *bh_seccomp_word(enum bh_seccomp_words kind, size_t index);

/* Would it let this x86-64 system call with this first argument (and zeros) through? */
bool bh_seccomp_allows(const struct bh_seccomp_filter *filter, int number, uint64_t first_argument);

#define BH_SECCOMP_PROFILE_MAX (1u << 20) /* bytes of a profile */

/*
 * Reads a profile in Docker's format (docs: Seccomp security profiles for Docker): linux.seccomp of the runtime
 * configuration plus archMap, and for each rule includes/excludes by capability, architecture and kernel. Rules that don't
 * hold here are left out. `capabilities` is the bounding set. The result is to be freed by bh_seccomp_spec_clear.
 */
int bh_seccomp_profile_parse(const char *json, size_t length, uint64_t capabilities, struct bh_spec_seccomp *ret_seccomp, struct bh_error *err);
void bh_seccomp_spec_clear(struct bh_spec_seccomp *seccomp);
