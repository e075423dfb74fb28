/* SPDX-License-Identifier: Apache-2.0 */
/* spec: a config.json to begin with. */
#include "cli/oci/oci.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>

struct spec_options {
	const char *bundle;
	bool rootless;
};

static const struct bh_option options[] = {
	{ 'b', "bundle", BH_OPTION_STRING, offsetof(struct spec_options, bundle), "DIR", "Write it into this folder (default: the current one)", NULL,
	  false },
	{ 0, "rootless", BH_OPTION_BOOL, offsetof(struct spec_options, rootless), NULL, "For an ordinary user", NULL, false },
	{ 0 },
};

static void fill(struct bh_spec *spec)
{
	bh_spec_default(spec);
	spec->has_process = true;
	spec->process.terminal = true;
	bh_strv_add(&spec->process.args, "sh");
	bh_strv_add(&spec->process.env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	bh_strv_add(&spec->process.env, "TERM=xterm");
	spec->root.path = bh_strdup("rootfs");
	spec->root.readonly = true;
	spec->hostname = bh_strdup("bulkhead");
}

static int run(void *arg, int argc, char **argv)
{
	const struct spec_options *o = arg;
	bh_auto_buf struct bh_buf text = { 0 };
	struct bh_spec spec = { 0 };
	struct bh_error err = BH_ERROR_INIT;
	int r, dir = bh_open_dir(AT_FDCWD, o->bundle ? o->bundle : ".", O_PATH, &err);

	(void)argc, (void)argv;
	if (dir < 0)
		return bh_oci_fail(&err, 1);
	fill(&spec);
	bh_spec_write(&spec, &text);
	r = bh_write_file_at(dir, "config.json", text.data, text.length, 0666, BH_WRITE_EXCL, &err);
	if (r == -EEXIST)
		bh_error_text(&err, EEXIST, "File config.json exists. Remove it first");
	close(dir);
	bh_spec_clear(&spec);
	return r < 0 ? bh_oci_fail(&err, 1) : 0;
}

const struct bh_command bh_oci_command_spec = {
	.name = "spec",
	.synopsis = "[OPTIONS]",
	.summary = "Write a config.json to begin with",
	.sets = { options },
	.options_size = sizeof(struct spec_options),
	.run = run,
};
