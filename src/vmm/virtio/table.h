/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices by name, as the monitor's command line has them: TYPE[,KEY[=VALUE]]...
 *
 *	block,fd=N[,format=raw|qcow2][,backing=N[,backing-format=raw|qcow2]][,readonly][,queues=N][,serial=TEXT][,LIMIT...]
 *	net,fd=N[,mac=XX:XX:XX:XX:XX:XX][,mtu=N][,LIMIT...]
 *	fs,server=N,tag=TEXT
 *	rng
 *	balloon[,pages=N]
 *	console[,in=N][,out=N]
 *	vsock,cid=N[,listen=N][,broker=N][,stream=N,port=N]
 *
 * A LIMIT is bytes-per-second=N, bytes-burst=N, operations-per-second=N or operations-burst=N (limit.h); of a net device for each direction.
 * Descriptors are numbers of inherited ones and are taken over.
 */
#pragma once

#include "vmm/virtio/virtio.h"

#define BH_VIRTIO_LOOPS_MAX BH_BLOCK_QUEUES_MAX
struct bh_virtio_loops {
	struct bh_loop *items[BH_VIRTIO_LOOPS_MAX];
	size_t count;
};

/* Makes the device and, for one with threads of its own, their loops; one without any is served from `shared`, and so is each if ret_loops is NULL.
 * Descriptors of a disk or a network card are taken over also when it fails. */
int bh_virtio_make(struct bh_vm *vm, struct bh_loop *shared, const char *words, struct bh_virtio_device **ret_device, struct bh_virtio_loops *ret_loops,
		   struct bh_error *err);
