/* SPDX-License-Identifier: Apache-2.0 */
/* Tap devices (Linux Documentation/networking/tuntap.rst), for virtual machines. */
#pragma once

#include "base/error.h"

#include <net/if.h>

/*
 * Opens the tap device `name`, which is made if it isn't there, or a new one (NULL); puts it on a bridge (NULL: none) and brings it up. One that was
 * made here goes with its descriptor. The descriptor doesn't block, and frames have a virtio header. ret_name may be NULL. Needs CAP_NET_ADMIN.
 */
int bh_tap_open(const char *name, const char *bridge, char ret_name[IFNAMSIZ], struct bh_error *err);
