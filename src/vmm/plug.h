/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that come and go while the machine runs: disks and network cards on PCI, by ACPI (devices/plug.c). The machine stands still while its
 * list changes; a new device is served by the loop that all share, as the jail lets no thread be made.
 */
#pragma once

#include "base/error.h"

#include <stddef.h>

struct bh_machine;

#define BH_UNPLUG_MS 10000 /* that a guest has, unless something else is said */

/* 0: the device of these words can become the one at `at`. */
int bh_machine_may_plug(const struct bh_machine *machine, const char *words, size_t at, struct bh_error *err);
/* Makes the device of these words (virtio/table.h: block or net) the one at `at` of the machine's list, and tells the guest. Descriptors in the words
 * are taken over, also when it fails. On the jobs' thread. */
int bh_machine_plug(struct bh_machine *machine, const char *words, size_t at, struct bh_error *err);
/* Asks the guest to let go of the device at `at`, and frees it then. -ETIMEDOUT: it hasn't in this time; the device stays, and may be asked for
 * again. On the jobs' thread. */
int bh_machine_unplug(struct bh_machine *machine, size_t at, int timeout_ms, struct bh_error *err);
