/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command lines: the first byte chooses a verb, the rest is its arguments, separated by NUL bytes. What parses for `run`
 * goes on through the options' second step (mounts, limits, devices, namespaces), which nothing of must touch the host.
 */
#include "cli/cli.h"
#include "engine/engine-internal.h"

#define ARGUMENTS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t split(char *text, size_t length, char **argv)
{
	size_t count = 0;

	for (char *p = text; p < text + length && count < ARGUMENTS_MAX; p += strlen(p) + 1)
		argv[count++] = p;
	argv[count] = NULL;
	return count;
}

static void build_run(struct bh_create_options *options)
{
	struct bh_engine engine = { .root_fd = -1, .containers_fd = -1, .names_fd = -1, .state_fd = -1 };
	struct bh_mount_list mounts = { 0 };
	struct bh_image image = { 0 };
	struct bh_spec spec = { 0 };
	struct bh_error err = BH_ERROR_INIT;

	bh_spec_default(&spec);
	if (bh_engine_apply_options(&engine, options, &spec, &err) == 0)
		bh_engine_apply_userns(&engine, options, "0123456789abcdef", &spec, &err);
	if (bh_engine_parse_mounts(options, &image, &mounts, &err) == 0)
		bh_mount_list_clear(&mounts);
	bh_engine_add_env(&spec.process.env, &options->env_file, &options->env, &err);
	bh_spec_clear(&spec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct bh_command *command;
	struct bh_error err = BH_ERROR_INIT;
	char *argv[ARGUMENTS_MAX + 1], *text;
	void *options;
	size_t verbs = 0;
	int argc;

	while (bh_commands[verbs])
		verbs++;
	if (size < 2)
		return 0;
	/* Half of all inputs are for `run`, which has most of the options. */
	command = bh_commands[data[0] < 128 ? 0 : data[0] % verbs];
	text = bh_malloc(size);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	argc = (int)split(text, size - 1, argv);
	options = bh_calloc(1, command->options_size);
	if (command->preset)
		command->preset(options);
	if (bh_options_parse(command->sets, options, command->stop_at_argument, argc, argv, &argc, &err) == 0 && command == bh_commands[0])
		build_run(options);
	bh_options_clear(command->sets, options);
	free(options);
	free(text);
	return 0;
}
