/* SPDX-License-Identifier: Apache-2.0 */
/*
 * man, completion: a manual page for bulkhead-oci and for each of its commands, and the shell completion, written from the
 * option tables that also parse and print --help. `make install` calls them.
 */
#include "cli/docs.h"

#include "cli/oci/oci.h"

#include <errno.h>
#include <stdio.h>

#define PROGRAM "bulkhead-oci"

static void head(const char *command)
{
	printf(".TH ");
	for (const char *c = PROGRAM; *c; c++)
		putchar(*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
	for (const char *c = command ? command : ""; *c; c++)
		printf("%s%c", c == command ? "-" : "", *c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
	printf(" 8 \"\" \"bulkhead " BH_VERSION "\" \"System Administration\"\n.SH NAME\n" PROGRAM "%s%s \\- ", command ? "\\-" : "",
	       command ? command : "");
}

static void see_also(const char *but)
{
	const char *comma = "";

	printf(".SH SEE ALSO\n");
	if (but) {
		printf(".BR " PROGRAM " (8)");
		comma = ",\n";
	}
	for (const struct bh_command *const *c = bh_oci_commands; *c; c++) {
		if ((*c)->hidden || bh_streq((*c)->name, but))
			continue;
		printf("%s.BR " PROGRAM "\\-%s (8)", comma, (*c)->name);
		comma = ",\n";
	}
	printf("\n");
}

static void man_command(const struct bh_command *command)
{
	head(command->name);
	bh_docs_roff(command->summary);
	printf("\n.SH SYNOPSIS\n.B " PROGRAM "\n[\\fIGLOBAL OPTIONS\\fR] \\fB%s\\fR ", command->name);
	bh_docs_roff(command->synopsis);
	printf("\n.SH DESCRIPTION\n");
	bh_docs_roff(command->description ? command->description : command->summary);
	printf("%s\n", command->description ? "" : ".");
	if (command->sets[0])
		printf(".SH OPTIONS\n");
	bh_docs_each_option(command, bh_docs_roff_option);
	printf(".SH EXIT STATUS\n");
	if (bh_streq(command->name, "run") || bh_streq(command->name, "restore"))
		printf("That of the container's first process (128+n if signal n killed it), or 0 with \\-\\-detach; 1 if the container could not be "
		       "made.\n");
	else if (bh_streq(command->name, "exec"))
		printf("That of the process (128+n if signal n killed it), or 0 with \\-\\-detach; 255 if it could not be started.\n");
	else
		printf("0 for success, 1 for a failure, which is told on stderr and in the file of the global option \\-\\-log.\n");
	see_also(command->name);
}

static void man_overview(void)
{
	head(NULL);
	printf("OCI runtime: runs containers as the Open Container Initiative specifies\n.SH SYNOPSIS\n.B " PROGRAM
	       "\n[\\fIGLOBAL OPTIONS\\fR] \\fICOMMAND\\fR [\\fIOPTIONS\\fR] [\\fICONTAINER\\fR] [\\fIARG\\fR...]\n"
	       ".SH DESCRIPTION\nRuns containers from bundles: folders with a config.json and a root file system. It takes the commands and options of "
	       "runc, so that podman, Docker, containerd, CRI\\-O and people can use it in its place. No process of its own stays when a command has "
	       "ended.\n.PP\n\\fB" PROGRAM "\\fR is \\fBbulkhead\\fR by another name; it is an OCI runtime as well when it is called \\fBrunc\\fR or "
	       "\\fBcrun\\fR.\n.SH GLOBAL OPTIONS\nBefore the command.\n");
	for (const struct bh_option *o = bh_oci_global_options; o->name; o++)
		bh_docs_roff_option(o);
	printf(".SH COMMANDS\n");
	for (const struct bh_command *const *c = bh_oci_commands; *c; c++) {
		if ((*c)->hidden)
			continue;
		printf(".TP\n\\fB%s\\fR\n", (*c)->name);
		bh_docs_roff((*c)->summary);
		printf(". See \\fB" PROGRAM "\\-%s\\fR(8).\n", (*c)->name);
	}
	printf(".SH FILES\n.TP\n/run/bulkhead\\-oci\nState of the containers (\\-\\-root); of an ordinary user: $XDG_RUNTIME_DIR/bulkhead\\-oci.\n");
	see_also(NULL);
}

static int man(void *options, int argc, char **argv)
{
	struct bh_error err = BH_ERROR_INIT;

	(void)options;
	if (argc == 0) {
		man_overview();
		return 0;
	}
	for (const struct bh_command *const *c = bh_oci_commands; *c; c++) {
		if (!bh_streq((*c)->name, argv[0]))
			continue;
		man_command(*c);
		return 0;
	}
	bh_error_text(&err, ENOENT, "No help topic for '%.100s'", argv[0]);
	return bh_oci_fail(&err, 1);
}

const struct bh_command bh_oci_command_man = {
	.name = "man",
	.synopsis = "[COMMAND]",
	.summary = "Write a manual page (roff) to standard output",
	.max_arguments = 1,
	.hidden = true,
	.run = man,
};

static void bash_command(const struct bh_command *command)
{
	bool takes_container = strstr(command->synopsis, "CONTAINER");

	printf("\t%s)\n\t\tcase \"$prev\" in\n", command->name);
	bh_docs_each_option(command, bh_docs_bash_choices);
	printf("\t\tesac\n\t\tif [[ $cur == -* ]]; then COMPREPLY=($(compgen -W \"--help");
	bh_docs_each_option(command, bh_docs_bash_option);
	printf("\" -- \"$cur\"))\n\t\telse COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")); [ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default; fi;;\n",
	       takes_container ? "$(" PROGRAM " ${root:+--root \"$root\"} list -q 2>/dev/null)" : "");
}

static int completion(void *options, int argc, char **argv)
{
	struct bh_error err = BH_ERROR_INIT;

	(void)options, (void)argc;
	if (!bh_streq(argv[0], "bash")) {
		bh_error_text(&err, ENOENT, "completion for '%.100s' is not known: bash is", argv[0]);
		return bh_oci_fail(&err, 1);
	}
	printf("# bash completion for " PROGRAM "; made by `" PROGRAM " completion bash`\n_bulkhead_oci() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} "
	       "prev=${COMP_WORDS[COMP_CWORD-1]} verb= root= i\n\tfor ((i = 1; i < COMP_CWORD; i++)); do\n\t\tcase ${COMP_WORDS[i]} in\n\t\t--root) "
	       "root=${COMP_WORDS[++i]};;\n\t\t--log|--log-format|--rootless|--criu|--cgroup-manager) ((i++));;\n\t\t-*) ;;\n\t\t*) "
	       "verb=${COMP_WORDS[i]}; break;;\n\t\tesac\n\tdone\n\tcase \"$verb\" in\n");
	for (const struct bh_command *const *c = bh_oci_commands; *c; c++)
		if (!(*c)->hidden)
			bash_command(*c);
	printf("\t*) COMPREPLY=($(compgen -W \"");
	for (const struct bh_command *const *c = bh_oci_commands; *c; c++)
		if (!(*c)->hidden)
			printf("%s ", (*c)->name);
	for (const struct bh_option *o = bh_oci_global_options; o->name; o++)
		bh_docs_bash_option(o);
	printf("\" -- \"$cur\"));;\n\tesac\n}\ncomplete -F _bulkhead_oci " PROGRAM "\n");
	return 0;
}

const struct bh_command bh_oci_command_completion = {
	.name = "completion",
	.synopsis = "bash",
	.summary = "Write shell completions to standard output",
	.min_arguments = 1,
	.max_arguments = 1,
	.hidden = true,
	.run = completion,
};
