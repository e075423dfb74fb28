/* SPDX-License-Identifier: Apache-2.0 */
/*
 * completion, man: shell completions and the manual page, written from the option tables that also parse and print
 * --help. `make` calls them to install the results; a user can too.
 */
#include "cli/docs.h"

#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>

void bh_docs_each_option(const struct bh_command *command, void (*visit)(const struct bh_option *))
{
	for (size_t s = 0; s < BH_OPTION_SETS_MAX && command->sets[s]; s++)
		for (const struct bh_option *o = command->sets[s]; o->name; o++)
			if (!o->hidden)
				visit(o);
}

/* roff: a leading dot or quote begins a request, a backslash an escape, and a plain - is a hyphen. */
void bh_docs_roff(const char *text)
{
	for (; *text; text++) {
		if (*text == '\\')
			fputs("\\e", stdout);
		else if (*text == '-')
			fputs("\\-", stdout);
		else
			putchar(*text);
	}
}

void bh_docs_roff_option(const struct bh_option *o)
{
	printf(".TP\n");
	if (o->short_name)
		printf("\\fB\\-%c\\fR, ", o->short_name);
	printf("\\fB\\-\\-");
	bh_docs_roff(o->name);
	printf("\\fR");
	if (o->argument) {
		printf(o->type == BH_OPTION_OPTIONAL ? "\\fI" : " \\fI");
		bh_docs_roff(o->argument);
		printf("\\fR");
	}
	printf("\n");
	bh_docs_roff(o->help);
	if (o->choices) {
		printf(" (");
		bh_docs_roff(o->choices);
		printf(")");
	}
	printf("\n");
}

static void man_command(const struct bh_command *command)
{
	printf(".SS bulkhead ");
	bh_docs_roff(command->name);
	printf(" ");
	bh_docs_roff(command->synopsis);
	printf("\n");
	bh_docs_roff(command->summary);
	printf(".\n");
	if (command->alias) {
		printf(".PP\nAliases: ");
		bh_docs_roff(command->alias);
		printf("\n");
	}
	if (command->description) {
		printf(".PP\n");
		bh_docs_roff(command->description);
		printf("\n");
	}
	bh_docs_each_option(command, bh_docs_roff_option);
}

static const char man_head[] =
	".TH BULKHEAD 1 \"\" \"bulkhead " BH_VERSION "\" \"User Commands\"\n"
	".SH NAME\nbulkhead \\- run OCI images as containers or microVMs, without a daemon\n"
	".SH SYNOPSIS\n\\fBbulkhead\\fR [\\fIGLOBAL OPTIONS\\fR] \\fICOMMAND\\fR [\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]\n"
	".SH DESCRIPTION\nBulkhead runs OCI images as containers, or each in a virtual machine of its own (\\-\\-isolation vm), and virtual machines with disks of\ntheir own (vm). There is no daemon: a command does its work and ends; one small process per\n"
	"container (bulkhead\\-shim) stays.\n.SH GLOBAL OPTIONS\n";

static const char man_tail[] =
	".SH EXIT STATUS\n.TP\n0\nSuccess.\n.TP\n1\nThe command failed.\n.TP\n125\nThe command line is wrong, or (run, create) Bulkhead itself failed.\n"
	".TP\n126\nThe command to run was found but can't be executed.\n.TP\n127\nThe command to run was not found.\n"
	".TP\n128+n\nThe container's command was killed by signal n.\n"
	".SH ENVIRONMENT\n.TP\nBULKHEAD_ROOT\nSame as \\-\\-root.\n.TP\nBULKHEAD_STATE\nSame as \\-\\-state.\n"
	".TP\nBULKHEAD_KERNEL, BULKHEAD_ACCEL\nA microVM's kernel and accelerator, where \\-\\-kernel and \\-\\-accel don't say it.\n"
	".SH FILES\n.TP\n/etc/bulkhead/config\nWhat they are where neither says it: lines \\(dqkernel = FILE\\(dq and \\(dqaccel = NAME\\(dq.\n.TP\n/var/lib/bulkhead\nImages, containers and volumes (\\-\\-root).\n.TP\n/run/bulkhead\nRun\\-time state (\\-\\-state).\n";

static int man_main(void *options, int argc, char **argv)
{
	(void)options, (void)argc, (void)argv;
	fputs(man_head, stdout);
	for (const struct bh_option *o = bh_global_options; o->name; o++)
		bh_docs_roff_option(o);
	printf(".SH COMMANDS\n");
	for (const struct bh_command *const *c = bh_commands; *c; c++)
		if (!(*c)->hidden)
			man_command(*c);
	fputs(man_tail, stdout);
	return 0;
}

const struct bh_command bh_command_man = {
	.name = "man",
	.group = "System",
	.synopsis = "",
	.summary = "Write the manual page (roff) to standard output",
	.hidden = true,
	.run = man_main,
};

void bh_docs_bash_option(const struct bh_option *o)
{
	printf(" --%s", o->name);
	if (o->short_name)
		printf(" -%c", o->short_name);
}

void bh_docs_bash_choices(const struct bh_option *o)
{
	bh_auto_strv struct bh_strv words = { 0 };
	bh_auto_free char *list = NULL;

	if (!o->choices)
		return;
	words = bh_strv_split(o->choices, '|');
	list = bh_strv_join(&words, " ");
	printf("\t\t--%s) COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")); return;;\n", o->name, list);
}

/* What an argument of the verb is, told by the first word of its synopsis behind the options. */
static const char *argument_kind(const struct bh_command *command)
{
	if (strstr(command->synopsis, "CONTAINER"))
		return "$(bulkhead ps -a --format '{{.Names}}' 2>/dev/null)";
	if (strncmp(command->name, "vm ", 3) == 0 && strstr(command->synopsis, "NAME") && !bh_streq(command->name, "vm create"))
		return "$(bulkhead vm list -aq 2>/dev/null)";
	if (strstr(command->synopsis, "IMAGE"))
		return "$(bulkhead images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null)";
	return "";
}

static void bash_command(const struct bh_command *command)
{
	printf("\t\"%s\")\n\t\tcase \"$prev\" in\n", command->name);
	bh_docs_each_option(command, bh_docs_bash_choices);
	printf("\t\tesac\n\t\tif [[ $cur == -* ]]; then COMPREPLY=($(compgen -W \"--help");
	bh_docs_each_option(command, bh_docs_bash_option);
	printf("\" -- \"$cur\"))\n\t\telse COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")); [ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default; fi;;\n",
	       argument_kind(command));
}

/* The words that may come next where `verb` is all there is so far: of the names that begin with `family`, the next one. */
static void bash_words(const char *verb, const char *family)
{
	printf("\t%s) COMPREPLY=($(compgen -W \"%s", verb, *family ? "" : "image vm ");
	for (const struct bh_command *const *c = bh_commands; *c; c++)
		if (!(*c)->hidden && strncmp((*c)->name, family, strlen(family)) == 0 && !strchr((*c)->name + strlen(family), ' '))
			printf("%s ", (*c)->name + strlen(family));
	printf("\" -- \"$cur\"));;\n");
}

static int completion_main(void *options, int argc, char **argv)
{
	(void)options, (void)argc;
	if (!bh_streq(argv[0], "bash")) {
		dprintf(STDERR_FILENO, "bulkhead: completion for '%s' is not known: bash is\n", argv[0]);
		return BH_EXIT_FAILURE;
	}
	printf("# bash completion for bulkhead; made by `bulkhead completion bash`\n_bulkhead() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}"
	       " verb= i\n\tfor ((i = 1; i < COMP_CWORD; i++)); do\n\t\tcase ${COMP_WORDS[i]} in --root|--state|--log-level|-l) ((i++));; -*) ;; *) verb=${COMP_WORDS[i]};"
	       " break;; esac\n\tdone\n\tcase $verb in image|vm) ((i + 1 < COMP_CWORD)) && verb+=\" ${COMP_WORDS[i+1]}\";; esac\n\tcase \"$verb\" in\n");
	for (const struct bh_command *const *c = bh_commands; *c; c++)
		if (!(*c)->hidden)
			bash_command(*c);
	bash_words("image", "image ");
	bash_words("vm", "vm ");
	bash_words("*", "");
	printf("\tesac\n}\ncomplete -F _bulkhead bulkhead bh\n");
	return 0;
}

const struct bh_command bh_command_completion = {
	.name = "completion",
	.group = "System",
	.synopsis = "bash",
	.summary = "Write shell completions to standard output",
	.min_arguments = 1,
	.max_arguments = 1,
	.run = completion_main,
};
