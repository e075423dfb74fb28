/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network device (specification 5.1) on a tap device (Linux Documentation/networking/tuntap.rst).
 *
 * Frames go between the tap and the guest's buffers by readv and writev, without a copy of ours: both sides have the same header in
 * front (virtio_net_hdr_v1, TUNSETVNETHDRSZ). What the guest can take or leave to us (checksums, large segments) is the tap's own
 * offload. While the guest has no buffer the tap isn't read: then the kernel drops what its queue can't hold, as a card does.
 *
 * The tap may be told its offloads by whoever owns it: a call that is refused leaves them off on both sides.
 */
#include "vmm/virtio/virtio.h"

#include "base/memory.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PCI_CLASS_ETHERNET 0x020000
#define HEADER_SIZE sizeof(struct virtio_net_hdr_v1)
#define FRAME_MAX 65562 /* of a large segment, with its header (5.1.6.3.1) */
#define FEATURE(name) (1ULL << VIRTIO_NET_F_##name)

enum { RX, TX, QUEUES };

struct net {
	struct bh_virtio_device device;
	int tap_fd;
	bool reading; /* the tap is in the loop for reading */
};

static void watch(struct net *n, bool reading)
{
	if (reading != n->reading)
		bh_loop_set_events(n->device.loop, n->tap_fd, reading ? EPOLLIN : 0);
	n->reading = reading;
}

/* One frame into one chain: drivers that take large ones give large buffers (no merging is offered). */
static int receive_one(struct net *n, const struct bh_chain *chain)
{
	ssize_t length = readv(n->tap_fd, bh_chain_writable(chain), (int)chain->writable);

	if (length < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	return (int)length;
}

static void receive(struct net *n)
{
	struct bh_virtqueue *queue = &n->device.queues[RX];
	struct bh_chain chain;
	int r = 0;

	while (r >= 0) {
		r = bh_virtqueue_pop(queue, &chain);
		if (r == 0 && bh_virtqueue_listen(queue))
			continue;
		if (r <= 0)
			break;
		if (chain.writable_bytes < HEADER_SIZE) {
			bh_virtio_fail(&n->device);
			break;
		}
		r = receive_one(n, &chain);
		if (r < 0)
			bh_virtqueue_undo_pop(queue);
		else
			bh_virtqueue_push(queue, &chain, (size_t)r);
	}
	bh_virtqueue_interrupt(queue);
	/* -EAGAIN: the tap is empty; else the guest is, or the tap is gone. */
	watch(n, r == -EAGAIN);
}

/* A frame that the tap refuses is lost, as on a wire. */
static void send_all(struct net *n)
{
	struct bh_virtqueue *queue = &n->device.queues[TX];
	struct bh_chain chain;

	do {
		bh_virtqueue_quiet(queue);
		while (bh_virtqueue_pop(queue, &chain) > 0) {
			if (chain.readable_bytes > HEADER_SIZE && chain.readable_bytes <= FRAME_MAX)
				(void)!writev(n->tap_fd, bh_chain_readable(&chain), (int)chain.readable);
			bh_virtqueue_push(queue, &chain, 0);
		}
		bh_virtqueue_interrupt(queue);
	} while (bh_virtqueue_listen(queue));
}

static void on_tap(void *context, uint32_t events)
{
	struct net *n = context;

	pthread_mutex_lock(&n->device.lock);
	if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN))
		bh_loop_remove(n->device.loop, n->tap_fd);
	else if (n->device.active)
		receive(n);
	else
		watch(n, false);
	pthread_mutex_unlock(&n->device.lock);
}

static void notify(struct bh_virtio_device *device, unsigned index)
{
	struct net *n = (struct net *)device;

	if (index == RX)
		receive(n);
	else
		send_all(n);
}

/* What the guest can take from the tap. */
static void activate(struct bh_virtio_device *device)
{
	struct net *n = (struct net *)device;
	unsigned offload = 0;

	if (bh_virtio_has(device, FEATURE(GUEST_CSUM)))
		offload |= TUN_F_CSUM;
	if (bh_virtio_has(device, FEATURE(GUEST_TSO4)))
		offload |= TUN_F_TSO4;
	if (bh_virtio_has(device, FEATURE(GUEST_TSO6)))
		offload |= TUN_F_TSO6;
	if (bh_virtio_has(device, FEATURE(GUEST_ECN)))
		offload |= TUN_F_TSO_ECN;
	ioctl(n->tap_fd, TUNSETOFFLOAD, (unsigned long)offload);
}

static void reset(struct bh_virtio_device *device)
{
	watch((struct net *)device, false);
}

/* Where the machine has been restored or moved to, nobody knows yet where it is: its driver announces it (5.1.6.5.4). */
static int load(struct bh_virtio_device *device, struct bh_state_reader *in, struct bh_error *err)
{
	(void)in, (void)err;
	((struct net *)device)->reading = false;
	return 0;
}

static void free_net(struct bh_virtio_device *device)
{
	struct net *n = (struct net *)device;

	bh_loop_remove(device->loop, n->tap_fd);
	bh_close_fd(&n->tap_fd);
	bh_virtio_clear(device);
	free(n);
}

static const struct bh_virtio_driver driver = {
	.name = "net",
	.id = 1,
	.pci_class = PCI_CLASS_ETHERNET,
	.activate = activate,
	.reset = reset,
	.notify = notify,
	.load = load,
	.free = free_net,
};

static int parse_mac(const char *text, uint8_t mac[6], struct bh_error *err)
{
	unsigned b[6];
	char rest;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &rest) != 6 || b[0] & 1)
		return bh_error_text(err, EINVAL, "net: %s is no address of a network card", text);
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
	return 0;
}

static int prepare_tap(const struct net *n, struct bh_error *err)
{
	int size = HEADER_SIZE;

	/* The starter has set it, if it is one of its own. */
	if (ioctl(n->tap_fd, TUNSETVNETHDRSZ, &size) < 0)
		return bh_error_set(err, errno, "net: set up the tap device");
	return 0;
}

int bh_net_make(struct bh_vm *vm, struct bh_loop *loop, const struct bh_net_config *config, struct bh_virtio_device **ret_device, struct bh_error *err)
{
	const uint64_t offload = FEATURE(CSUM) | FEATURE(GUEST_CSUM) | FEATURE(HOST_TSO4) | FEATURE(HOST_TSO6) | FEATURE(HOST_ECN) | FEATURE(GUEST_TSO4) |
				 FEATURE(GUEST_TSO6) | FEATURE(GUEST_ECN);
	struct virtio_net_config space = { .status = VIRTIO_NET_S_LINK_UP };
	struct net *n = bh_calloc(1, sizeof *n);
	int r = config->mac ? parse_mac(config->mac, space.mac, err) : 0;

	n->tap_fd = config->tap_fd;
	if (r == 0)
		r = prepare_tap(n, err);
	if (r == 0)
		r = bh_virtio_init(&n->device, &driver, vm, loop, QUEUES, offload | FEATURE(STATUS) | (config->mac ? FEATURE(MAC) : 0), err);
	if (r < 0) {
		bh_close_fd(&n->tap_fd);
		free(n);
		return r;
	}
	n->device.config_size = offsetof(struct virtio_net_config, max_virtqueue_pairs);
	memcpy(n->device.config, &space, n->device.config_size);
	r = bh_loop_add(loop, n->tap_fd, 0, on_tap, n, err);
	if (r < 0)
		free_net(&n->device);
	else
		*ret_device = &n->device;
	return r;
}
