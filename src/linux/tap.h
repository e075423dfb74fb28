/* SPDX-License-Identifier: Apache-2.0 */
/* Tap devices: network devices whose other end is a file descriptor (linux Documentation/networking/tuntap.rst). */
#pragma once

#include "base/error.h"

#define BH_TAP_NAME_SIZE 16 /* with its NUL: IFNAMSIZ */

/*
 * Opens the tap device `name`, which is made if there is none; NULL: a new one with a name of the kernel's choice. It carries whole
 * frames behind a virtio network header, doesn't block, is put on the bridge `bridge` (NULL: on none), and set up. One that was made goes when
 * its descriptor is closed. Needs CAP_NET_ADMIN. The descriptor is the caller's.
 */
int bh_tap_open(const char *name, const char *bridge, char ret_name[BH_TAP_NAME_SIZE], struct bh_error *err);
/*
 * Opens /dev/vhost-net, by which the kernel serves the queues of a virtual machine's network card (linux/vhost.h). -ENOENT where the kernel has
 * none, with a message that says so. The descriptor is the caller's.
 */
int bh_vhost_net_open(struct bh_error *err);
