/* SPDX-License-Identifier: Apache-2.0 */
/* features: what of the runtime specification is understood (runtime-spec features.md). */
#include "cli/oci/oci.h"

#include "base/file.h"

static int run(void *arg, int argc, char **argv)
{
	bh_auto_buf struct bh_buf text = { 0 };

	(void)arg, (void)argc, (void)argv;
	bh_spec_features_write(&text);
	return bh_write_all(STDOUT_FILENO, text.data, text.length) < 0 ? 1 : 0;
}

const struct bh_command bh_oci_command_features = {
	.name = "features",
	.synopsis = "",
	.summary = "Tell as JSON what of the runtime specification is understood",
	.description = "The document is the one of the runtime specification's features.md. It tells what this program knows, not what the "
		       "machine has.",
	.run = run,
};
