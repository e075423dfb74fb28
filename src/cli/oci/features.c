/* SPDX-License-Identifier: Apache-2.0 */
/* features: the features document of the runtime specification. */
#include "cli/oci/oci.h"

#include "base/file.h"
#include "container/container.h"

static int features(void *arg, int argc, char **argv)
{
	bh_auto_buf struct bh_buf text = { 0 };

	(void)arg;
	(void)argc;
	(void)argv;
	bh_spec_features_write(&text);
	return bh_write_all(STDOUT_FILENO, text.data, text.length) < 0 ? 1 : 0;
}

const struct bh_command bh_oci_command_features = {
	.name = "features",
	.synopsis = "",
	.summary = "Show what of the specification is understood, as JSON",
	.max_arguments = 0,
	.run = features,
};
