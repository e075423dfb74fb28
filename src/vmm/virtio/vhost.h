/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtqueues that the host's kernel serves instead of a loop of ours (linux/vhost.h; /dev/vhost-net).
 *
 *	guest -- kick (ioeventfd) --> kernel's worker <--> tap device
 *	guest <-- MSI -- the device's loop <-- call (eventfd) --
 *
 * The worker reads and writes guest memory by itself, without our looking at descriptors and without our log of written pages. So a device
 * uses it only between two stops: after bh_vhost_stop the kernel has no buffer any more, and the queue is where a loop can go on.
 */
#pragma once

#include "vmm/virtio/virtio.h"

#define BH_VHOST_QUEUES_MAX 2

struct bh_vhost {
	int fd;
	unsigned queue_count;
	int call_fds[BH_VHOST_QUEUES_MAX], error_fds[BH_VHOST_QUEUES_MAX]; /* readable: the guest is to be interrupted; it broke the rules */
	bool running;
};

/* Takes over `fd`, also when it fails, makes the caller its owner and tells it where guest memory is. */
int bh_vhost_make(int fd, const struct bh_guest_memory *memory, unsigned queue_count, struct bh_vhost *ret_vhost, struct bh_error *err);
void bh_vhost_clear(struct bh_vhost *vhost);

/* The queues of an active device, with `backend_fd` (a tap device) behind them. Nobody else serves them from now on. After a failure none is
 * served, and all are where they were. */
int bh_vhost_start(struct bh_vhost *vhost, struct bh_virtio_device *device, int backend_fd);
/* Waits for the worker, sets the queues to where it was, and interrupts the guest for what it has done. Nothing if it isn't running. */
void bh_vhost_stop(struct bh_vhost *vhost, struct bh_virtio_device *device);
