/* SPDX-License-Identifier: Apache-2.0 */
/* `vm kernel`: the kernels that microVMs boot. */
#include "base/table.h"
#include "cli/cli.h"
#include "microvm/kernel.h"

#include <errno.h>
#include <stdio.h>

static int install(char **argv, struct bh_error *err)
{
	bh_auto_free char *version = NULL;
	int r = bh_guest_kernel_install(bh_cli.root, argv[0], &version, err);

	if (r == 0)
		printf("%s\n", version);
	return r;
}

static int list(char **argv, struct bh_error *err)
{
	static const char *const headings[] = { "VERSION", "DEFAULT", NULL };
	struct bh_guest_kernel chosen = { 0 };
	bh_auto_strv struct bh_strv versions = { 0 };
	bh_auto_buf struct bh_buf text = { 0 };
	struct bh_table table;
	int r = argv[0] ? bh_error_text(err, EINVAL, "vm kernel list takes no argument") : bh_guest_kernel_list(bh_cli.root, &versions, err);

	if (r < 0)
		return r;
	bh_guest_kernel_find(bh_cli.root, NULL, &chosen, NULL);
	if (chosen.version && !bh_strv_contains(&versions, chosen.version))
		bh_strv_add(&versions, chosen.version); /* the machine's own */
	bh_table_init(&table, headings);
	for (size_t i = 0; i < versions.count; i++) {
		bh_table_add(&table, versions.items[i]);
		bh_table_add(&table, bh_streq(versions.items[i], chosen.version) ? chosen.image : "");
	}
	bh_table_render(&table, true, &text);
	fputs(text.data, stdout);
	bh_table_clear(&table);
	bh_guest_kernel_clear(&chosen);
	return 0;
}

static int remove_kernels(char **argv, struct bh_error *err)
{
	int r = argv[0] ? 0 : bh_error_text(err, EINVAL, "vm kernel rm: which one?");

	for (; r == 0 && *argv; argv++) {
		r = bh_guest_kernel_remove(bh_cli.root, *argv, err);
		if (r == 0)
			printf("%s\n", *argv);
	}
	return r;
}

static int run(void *options, int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(char **argv, struct bh_error *err);
	} actions[] = { { "install", install }, { "list", list }, { "ls", list }, { "rm", remove_kernels } };
	struct bh_error err = BH_ERROR_INIT;

	(void)options, (void)argc;
	for (size_t i = 0; i < BH_ARRAY_SIZE(actions); i++)
		if (bh_streq(argv[0], actions[i].name))
			return actions[i].run(argv + 1, &err) < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
	bh_error_text(&err, EINVAL, "vm kernel: install [VERSION], list, or rm VERSION");
	return bh_cli_fail(&err, BH_EXIT_FAILURE);
}

const struct bh_command bh_command_vm_kernel = {
	.name = "vm kernel",
	.group = "Machines",
	.synopsis = "install [VERSION] | list | rm VERSION...",
	.summary = "Get, list and remove the kernels that microVMs boot",
	.description = "install fetches Debian's newest cloud kernel of that version (default 6.12) from the package sources of this machine and keeps "
		       "what microVMs need of it below the root folder; nothing is installed on this machine. A microVM boots the kernel that --kernel or "
		       "BULKHEAD_KERNEL or /etc/bulkhead/config names, else the newest that was fetched, else the newest Debian kernel in /boot.",
	.min_arguments = 1,
	.max_arguments = -1,
	.run = run,
};
