/* SPDX-License-Identifier: Apache-2.0 */
/* The table of isolation drivers. */
#include "runtime/runtime.h"

#include "base/string.h"

#include <errno.h>

static const struct bh_isolation_driver *const drivers[] = { &bh_isolation_container, &bh_isolation_vm };

int bh_isolation_driver_find(const char *name, const struct bh_isolation_driver **ret_driver, struct bh_error *err)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(drivers); i++) {
		if (name && *name && !bh_streq(name, drivers[i]->name))
			continue;
		*ret_driver = drivers[i];
		return 0;
	}
	return bh_error_text(err, EINVAL, "--isolation %s: there are container and vm", name);
}
