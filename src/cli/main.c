/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead: global options, then one verb.
 *
 * A verb of two words ("image inspect") is looked up before one of a single word, so that families can grow without
 * changing the table's shape.
 */
#include "cli/cli.h"

#include "cli/oci/oci.h"

#include <errno.h>
#include <stdio.h>

struct bh_cli bh_cli;

struct global_options {
	const char *root, *state, *log_level;
	bool debug, version;
};

const struct bh_option bh_global_options[] = {
	{ 0, "root", BH_OPTION_STRING, offsetof(struct global_options, root), "DIR",
	  "Folder of images and containers (BULKHEAD_ROOT; default /var/lib/bulkhead)", NULL, false },
	{ 0, "state", BH_OPTION_STRING, offsetof(struct global_options, state), "DIR",
	  "Folder of run-time state, on tmpfs (BULKHEAD_STATE; default /run/bulkhead)", NULL, false },
	{ 'l', "log-level", BH_OPTION_STRING, offsetof(struct global_options, log_level), "LEVEL", "error, warning, info or debug (default warning)",
	  "error|warning|warn|info|debug", false },
	{ 'D', "debug", BH_OPTION_BOOL, offsetof(struct global_options, debug), NULL, "Same as --log-level debug", NULL, false },
	{ 'v', "version", BH_OPTION_BOOL, offsetof(struct global_options, version), NULL, "Show the version and end", NULL, false },
	{ 0 },
};
static const struct bh_option *const global_sets[BH_OPTION_SETS_MAX] = { bh_global_options };

int bh_cli_fail(const struct bh_error *err, int fallback)
{
	fflush(stdout);
	dprintf(STDERR_FILENO, "bulkhead: %s\n", err->message);
	return err->exit_code ? err->exit_code : fallback;
}

static bool is_word_of(const char *word, const char *list)
{
	bh_auto_strv struct bh_strv words = bh_strv_split(list, ' ');

	return bh_strv_contains(&words, word);
}

/* Sets *ret_words to how many arguments the name took. */
static const struct bh_command *find_command(int argc, char **argv, int *ret_words)
{
	bh_auto_free char *two = argc > 1 ? bh_printf("%s %s", argv[0], argv[1]) : bh_strdup(argv[0]);
	bh_auto_free char *dotted = argc > 1 ? bh_printf("%s.%s", argv[0], argv[1]) : bh_strdup(argv[0]);

	for (int words = argc > 1 ? 2 : 1; words > 0; words--) {
		const char *name = words == 2 ? two : argv[0], *alias = words == 2 ? dotted : argv[0];

		for (const struct bh_command *const *c = bh_commands; *c; c++) {
			if (!bh_streq((*c)->name, name) && !((*c)->alias && is_word_of(alias, (*c)->alias)))
				continue;
			*ret_words = words;
			return *c;
		}
	}
	return NULL;
}

/* The second word, if this is a name of two words (apart by `separator`) in the family; else NULL. */
static const char *word_in_family(const char *name, const char *family, char separator)
{
	size_t length = strlen(family);

	return strncmp(name, family, length) == 0 && name[length] == separator ? name + length + 1 : NULL;
}

static void print_member(const struct bh_command *command, const char *word, bool show, size_t *count)
{
	if (word && (*count)++ == 0 && show)
		printf("Commands:\n");
	if (word && show)
		printf("  %-16s %s\n", word, command->summary);
}

/* How many begin with this word, also by alias ("image ls"); `show`: lists them. */
static size_t count_family(const char *family, bool show)
{
	size_t count = 0;

	for (const struct bh_command *const *c = bh_commands; *c; c++) {
		bh_auto_strv struct bh_strv aliases = bh_strv_split((*c)->alias ? (*c)->alias : "", ' ');

		if ((*c)->hidden)
			continue;
		print_member(*c, word_in_family((*c)->name, family, ' '), show, &count);
		for (size_t i = 0; i < aliases.count; i++)
			print_member(*c, word_in_family(aliases.items[i], family, '.'), show, &count);
	}
	if (count && show)
		printf("\nRun 'bulkhead %s COMMAND --help' for the options of a command.\n", family);
	return count;
}

static void print_overview(FILE *out)
{
	const char *group = NULL;

	fprintf(out, "Usage:  bulkhead [OPTIONS] COMMAND\n\nRuns OCI images as containers or microVMs, and virtual machines, without a daemon.\n");
	for (const struct bh_command *const *c = bh_commands; *c; c++) {
		if ((*c)->hidden)
			continue;
		if (!group || !bh_streq(group, (*c)->group))
			fprintf(out, "\n%s:\n", (*c)->group);
		group = (*c)->group;
		fprintf(out, "  %-16s %s\n", (*c)->name, (*c)->summary);
	}
	fprintf(out, "\nGlobal options:\n");
	for (const struct bh_option *o = bh_global_options; o->name; o++)
		fprintf(out, "  %s%c%s--%s%s%s\t%s\n", o->short_name ? "-" : " ", o->short_name ? o->short_name : ' ', o->short_name ? ", " : "  ",
			o->name, o->argument ? " " : "", o->argument ? o->argument : "", o->help);
	fprintf(out, "\nRun 'bulkhead COMMAND --help' for the options of a command.\n");
}

static int check_arguments(const struct bh_command *command, int argc)
{
	if (argc >= command->min_arguments && (command->max_arguments < 0 || argc <= command->max_arguments))
		return 0;
	if (command->min_arguments == command->max_arguments)
		dprintf(STDERR_FILENO, "bulkhead: '%s' takes %d argument%s\n", command->name, command->min_arguments,
			command->min_arguments == 1 ? "" : "s");
	else if (argc < command->min_arguments)
		dprintf(STDERR_FILENO, "bulkhead: '%s' needs at least %d argument%s\n", command->name, command->min_arguments,
			command->min_arguments == 1 ? "" : "s");
	else
		dprintf(STDERR_FILENO, "bulkhead: '%s' takes at most %d argument%s\n", command->name, command->max_arguments,
			command->max_arguments == 1 ? "" : "s");
	return BH_EXIT_ENGINE;
}

static int print_help(const struct bh_command *command)
{
	bh_auto_buf struct bh_buf help = { 0 };

	bh_command_help(command, "bulkhead", &help);
	return bh_write_all(STDOUT_FILENO, help.data, help.length) < 0 ? BH_EXIT_FAILURE : 0;
}

static int run_command(const struct bh_command *command, int argc, char **argv)
{
	bh_auto_free void *options = bh_calloc(1, command->options_size);
	struct bh_error err = BH_ERROR_INIT;
	int status;

	if (command->preset)
		command->preset(options);
	switch (bh_options_parse(command->sets, options, command->stop_at_argument, argc, argv, &argc, &err)) {
	case 0:
		break;
	case -ECANCELED:
		return print_help(command);
	default:
		return bh_cli_fail(&err, BH_EXIT_ENGINE);
	}
	status = check_arguments(command, argc);
	if (status == 0 && geteuid() != 0 && !bh_streq(command->group, "System")) {
		dprintf(STDERR_FILENO, "bulkhead: '%s' needs root: containers of an ordinary user are not there yet\n", command->name);
		status = BH_EXIT_ENGINE;
	}
	if (status == 0)
		status = command->run(options, argc, argv);
	if (command->clear)
		command->clear(options);
	bh_options_clear(command->sets, options);
	if (fflush(stdout) != 0 && status == 0) {
		dprintf(STDERR_FILENO, "bulkhead: write to stdout: %s\n", strerror(errno));
		status = BH_EXIT_FAILURE;
	}
	return status;
}

static const char *choose(const char *option, const char *variable, const char *fallback)
{
	const char *value = option ? option : getenv(variable);

	return value && *value ? value : fallback;
}

/* A link with the name of another runtime lets its callers find this one. */
static bool is_runtime_name(const char *program)
{
	return bh_streq(program, "bulkhead-oci") || bh_streq(program, "runc") || bh_streq(program, "crun");
}

int main(int argc, char **argv)
{
	struct global_options global = { 0 };
	struct bh_error err = BH_ERROR_INIT;
	enum bh_log_level level = BH_LOG_WARNING;
	const struct bh_command *command;
	int words = 0, r;
	bool help;

	bh_cli.program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	if (is_runtime_name(bh_cli.program))
		return bh_oci_main(argc, argv);
	r = bh_options_parse(global_sets, &global, true, argc - 1, argv + 1, &argc, &err);
	argv++;
	if (r == -ECANCELED || (r == 0 && (argc == 0 ? !global.version : bh_streq(argv[0], "help") && argc == 1))) {
		print_overview(stdout);
		return 0;
	}
	if (r < 0)
		return bh_cli_fail(&err, BH_EXIT_ENGINE);
	if (global.version) {
		printf("bulkhead version %s\n", BH_VERSION);
		return 0;
	}
	if (global.log_level)
		bh_log_parse_level(global.log_level, &level);
	bh_log_set_level(global.debug ? BH_LOG_DEBUG : level);
	if ((global.root && !*global.root) || (global.state && !*global.state)) {
		dprintf(STDERR_FILENO, "bulkhead: --root and --state need the path of a folder\n");
		return BH_EXIT_ENGINE;
	}
	bh_cli.root = choose(global.root, "BULKHEAD_ROOT", "/var/lib/bulkhead");
	bh_cli.state = choose(global.state, "BULKHEAD_STATE", "/run/bulkhead");
	help = bh_streq(argv[0], "help");
	argv += help;
	argc -= help;
	command = find_command(argc, argv, &words);
	if (command && help)
		return print_help(command);
	if (!command && (argc == 1 || bh_streq(argv[1], "--help") || bh_streq(argv[1], "-h")) && count_family(argv[0], true))
		return 0;
	if (!command && argc > 1 && count_family(argv[0], false)) {
		dprintf(STDERR_FILENO, "bulkhead: '%s %s' is not a bulkhead command; see 'bulkhead %s --help'\n", argv[0], argv[1], argv[0]);
		return BH_EXIT_ENGINE;
	}
	if (!command) {
		dprintf(STDERR_FILENO, "bulkhead: '%s' is not a bulkhead command; see 'bulkhead --help'\n", argv[0]);
		return BH_EXIT_ENGINE;
	}
	return run_command(command, argc - words, argv + words);
}
