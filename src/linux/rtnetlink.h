/* SPDX-License-Identifier: Apache-2.0 */
/* Network devices by rtnetlink(7). */
#pragma once

#include "base/error.h"

/*
 * Moves the device `name` of the calling process's network namespace into another one as `new_name` (NULL: the same), with
 * its global permanent addresses, and brings it up there (runtime-spec config-linux.md, "Network Devices"). Needs
 * CAP_NET_ADMIN in both. The process must have one thread: it visits the other namespace for a moment.
 */
int bh_net_device_move(const char *name, int netns_fd, const char *new_name, struct bh_error *err);
/* Puts the device on a bridge (NULL: leaves it where it is), and sets it up. Needs CAP_NET_ADMIN. */
int bh_net_device_set_up(const char *name, const char *bridge, struct bh_error *err);
