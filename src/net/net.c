/* SPDX-License-Identifier: Apache-2.0 */
/* The list of network drivers; each is one table. */
#include "net/net.h"

#include "base/string.h"

#include <errno.h>

const struct bh_network_driver bh_network_none = { .name = "none", .own_namespace = true };
const struct bh_network_driver bh_network_host = { .name = "host", .own_namespace = false };
const struct bh_network_driver bh_network_container = { .name = "container", .own_namespace = false, .takes_argument = true };

static const struct bh_network_driver *const drivers[] = { &bh_network_none, &bh_network_host, &bh_network_container };

int bh_network_driver_find(const char *mode, const struct bh_network_driver **ret_driver, const char **ret_argument, struct bh_error *err)
{
	size_t length;

	if (!mode || !*mode || bh_streq(mode, "default"))
		mode = "none";
	length = strcspn(mode, ":");
	for (size_t i = 0; i < BH_ARRAY_SIZE(drivers); i++) {
		if (strlen(drivers[i]->name) != length || memcmp(drivers[i]->name, mode, length) != 0)
			continue;
		if (drivers[i]->takes_argument != (mode[length] == ':') || (mode[length] && !mode[length + 1]))
			break;
		*ret_driver = drivers[i];
		*ret_argument = mode[length] ? mode + length + 1 : NULL;
		return 0;
	}
	return bh_error_text(err, EINVAL, "network %s not found: this build knows none, host and container:NAME", mode);
}
