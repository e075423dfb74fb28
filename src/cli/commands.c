/* SPDX-License-Identifier: Apache-2.0 */
/* The list of verbs. To add one: write its file, declare its table here, add it in the order the overview shows. */
#include "cli/cli.h"

#define VERB(name) extern const struct bh_command bh_command_##name;
#include "cli/verbs.def"
#undef VERB

#define VERB(name) &bh_command_##name,
const struct bh_command *const bh_commands[] = {
#include "cli/verbs.def"
	NULL,
};
