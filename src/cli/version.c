/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdio.h>

struct version_options {
	const char *format;
};

static const struct bh_option options[] = {
	{ 'f', "format", BH_OPTION_STRING, offsetof(struct version_options, format), "FORMAT", "Output format: json", "json", false },
	{ 0 },
};

static int run(void *arg, int argc, char **argv)
{
	const struct version_options *o = arg;

	(void)argc, (void)argv;
	if (o->format)
		printf("{\"Version\":\"%s\",\"OCIVersion\":\"1.2.0\",\"Os\":\"linux\",\"Arch\":\"amd64\"}\n", BH_VERSION);
	else
		printf("bulkhead version %s\nspec: 1.2.0\n", BH_VERSION);
	return 0;
}

const struct bh_command bh_command_version = {
	.name = "version",
	.group = "System",
	.synopsis = "[OPTIONS]",
	.summary = "Show the version",
	.sets = { options },
	.options_size = sizeof(struct version_options),
	.run = run,
};
