/* SPDX-License-Identifier: Apache-2.0 */
/* IPv4 addresses of a network device of this namespace. */
#pragma once

#include "base/error.h"

/* Gives the device its address ("10.0.0.2/24"; NULL: none), brings it up, and makes `gateway` (NULL: none) the way to everywhere else. */
int bh_inet_configure(const char *device, const char *address, const char *gateway, struct bh_error *err);
