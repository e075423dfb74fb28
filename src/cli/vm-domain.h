/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the `vm` verbs for machines with a name. */
#pragma once

#include "cli/cli.h"
#include "engine/domain.h"

/* Runs the action on each machine named in argv, found under its lock if `locked`; an error is printed and the rest goes on. Returns 1 if
 * any failed. */
int bh_cli_for_each_domain(int argc, char **argv, bool locked, int (*action)(struct bh_domain *domain, void *context, struct bh_error *err), void *context);
/* Finds the one machine; prints the error and returns false if it can't. */
bool bh_cli_open_domain(const char *name, bool lock, struct bh_domain *ret_domain);
