/* SPDX-License-Identifier: Apache-2.0 */
/* vm exec: commands in a machine that was made from an image. */
#include "cli/containers.h"
#include "cli/vm-domain.h"

static int exec_main(void *options, int argc, char **argv)
{
	struct bh_exec_options *o = options;
	const struct bh_stream stream = { .input = o->interactive, .tty = o->tty, .detach_keys = o->detach_keys };
	struct bh_error err = BH_ERROR_INIT;
	struct bh_domain domain;
	struct bh_exec exec;
	int status = 0, r;

	(void)argc;
	r = o->detach ? 0 : bh_stream_check(&stream, &err);
	if (o->tty)
		bh_terminal_size(&o->rows, &o->columns);
	if (r == 0)
		r = bh_cli_enable_explain(o->explain, &err);
	if (r < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	if (!bh_cli_open_domain(argv[0], false, &domain))
		return BH_EXIT_FAILURE;
	r = bh_domain_exec(&domain, o, argv + 1, &exec, &err);
	if (r < 0)
		status = bh_cli_fail(&err, BH_EXIT_FAILURE);
	else if (!o->detach)
		status = bh_cli_watch_exec(o, &exec, &err);
	bh_domain_clear(&domain);
	return status;
}

const struct bh_command bh_command_vm_exec = {
	.name = "vm exec",
	.group = "Machines",
	.synopsis = "[OPTIONS] NAME COMMAND [ARG...]",
	.summary = "Run a command in a running machine that was made from an image",
	.description = "Waits for a machine that has just been started. Exit status: that of the command; 126 if it can't be executed, 127 if it was not found, "
		       "1 if the machine doesn't run, 137 if it ends meanwhile.",
	.sets = { bh_cli_exec_options },
	.options_size = sizeof(struct bh_exec_options),
	.stop_at_argument = true,
	.min_arguments = 2,
	.max_arguments = -1,
	.run = exec_main,
};
