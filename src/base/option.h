/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands and their options as tables.
 *
 * A verb is one `struct bh_command` with tables of `struct bh_option`; each option names the field of the verb's option
 * struct it fills. The same tables parse the command line and produce --help, the man page and the shell completions,
 * so those can't disagree.
 *
 * Parsing follows Docker's command line: `--name value`, `--name=value`, `-n value`, `-nvalue`, `-n=value`, bundles
 * (`-it`), `--flag=false`. `--` ends the options. With `stop_at_argument` the first argument ends them as well (run, exec).
 */
#pragma once

#include "base/string.h"

enum bh_option_type {
	BH_OPTION_BOOL,       /* bool */
	BH_OPTION_STRING,     /* const char * (points into argv) */
	BH_OPTION_LIST,       /* struct bh_strv, every use adds */
	BH_OPTION_INT,        /* int64_t */
	BH_OPTION_BYTES,      /* int64_t; "-1" allowed: unlimited */
	BH_OPTION_DURATION,   /* int64_t nanoseconds */
	BH_OPTION_NANO,       /* int64_t billionths: --cpus */
	BH_OPTION_OPTIONAL,   /* const char *: "" when given without "=value" (--explain, --explain=json) */
	BH_OPTION_TRISTATE,   /* int: -1 not given (the caller presets it), 0, 1 */
};

struct bh_option {
	char short_name;          /* 0 = none */
	const char *name;         /* long name without dashes; NULL ends a table */
	enum bh_option_type type;
	size_t offset;            /* of the field in the verb's option struct */
	const char *argument;     /* placeholder for the value in help; NULL for flags */
	const char *help;         /* one line */
	const char *choices;      /* "a|b|c": the only values allowed (also completed), or NULL */
	bool hidden;
};

#define BH_OPTION_SETS_MAX 6

struct bh_command {
	const char *name;          /* "run", or "image inspect" for two-word verbs; NULL ends a table */
	const char *alias;         /* further names, separated by spaces, two words joined by a dot ("image.ls"), or NULL */
	const char *group;         /* heading in the overview */
	const char *synopsis;      /* "[OPTIONS] IMAGE [COMMAND] [ARG...]" */
	const char *summary;       /* one line */
	const char *description;   /* paragraphs for the man page, or NULL */
	const struct bh_option *sets[BH_OPTION_SETS_MAX];
	size_t options_size;       /* of the option struct, allocated zeroed */
	bool stop_at_argument;
	int min_arguments, max_arguments; /* max -1: any number */
	void (*preset)(void *options);    /* defaults other than zero, or NULL */
	int (*run)(void *options, int argc, char **argv); /* arguments only; returns the exit status */
	void (*clear)(void *options);     /* or NULL; lists are cleared by the caller */
	bool hidden;
};

/*
 * Fills `options` from argv[0..argc) and leaves the arguments, in order, in argv[0..*ret_argc).
 * -EINVAL with the error's words as Docker says them ("unknown flag: --x"). -ECANCELED when --help was asked for.
 */
int bh_options_parse(const struct bh_option *const *sets, void *options, bool stop_at_argument, int argc, char **argv,
		     int *ret_argc, struct bh_error *err);
/* Frees what the parser allocated (lists). */
void bh_options_clear(const struct bh_option *const *sets, void *options);

/* Writes the help of one verb, as `--help` prints it. */
void bh_command_help(const struct bh_command *command, const char *program, struct bh_buf *out);
