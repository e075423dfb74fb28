/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs share. One file per verb or small group; each exports its `struct bh_command` and is listed in commands.c. */
#pragma once

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/option.h"

struct bh_cli {
	const char *root;  /* --root, BULKHEAD_ROOT, /var/lib/bulkhead */
	const char *state; /* --state, BULKHEAD_STATE, /run/bulkhead */
	const char *program; /* argv[0]'s last part */
};
extern struct bh_cli bh_cli;

/* Exit codes (documented in bulkhead(1)). */
enum {
	BH_EXIT_FAILURE = 1,          /* the verb failed */
	BH_EXIT_ENGINE = 125,         /* run/create/exec: the engine failed; any verb: wrong usage */
	BH_EXIT_NOT_EXECUTABLE = 126, /* the command was found but can't be executed */
	BH_EXIT_NOT_FOUND = 127,      /* the command was not found */
};

/* Prints "bulkhead: MESSAGE" and returns err->exit_code, or `fallback` if that is 0. */
int bh_cli_fail(const struct bh_error *err, int fallback);

/* The options before the verb; ended by an entry without a name. */
extern const struct bh_option bh_global_options[];
/* All verbs, ended by an entry without a name. */
extern const struct bh_command *const bh_commands[];
