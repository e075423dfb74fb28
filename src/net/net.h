/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network seam: one const table per driver, chosen by `--network`.
 *
 * A driver says whether the container gets a network namespace of its own, and brings the namespace up once it exists.
 * `none` has only the loopback device, `host` shares the host's network, `container:NAME` shares another container's.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>

struct bh_network_driver {
	const char *name;
	bool own_namespace;
	bool takes_argument; /* "container:NAME" */
};

extern const struct bh_network_driver bh_network_none;
extern const struct bh_network_driver bh_network_host;
extern const struct bh_network_driver bh_network_container;

/* NULL or "default" gives the default driver (none). *ret_argument points behind the colon, or is NULL. */
int bh_network_driver_find(const char *mode, const struct bh_network_driver **ret_driver, const char **ret_argument, struct bh_error *err);
