/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that drives a virtio device as the bytes say: the first one is the device, then come steps of one byte and its operands. Whatever
 * happens, the device stays in its guest's memory and can be reset, saved and loaded.
 */
#include "../unit/virtio-test.h"

#include "base/memory.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define QUEUE_SIZE 16
#define STEPS_MAX 512
#define IMAGE_SIZE (64 << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *at, *end;
};

static uint64_t take(struct input *in, unsigned size)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < size && in->at < in->end; i++)
		value |= (uint64_t)*in->at++ << (8 * i);
	return value;
}

static int make_block(struct driver *d, int *ret_peer)
{
	struct bh_block_config config = { .fd = memfd_create("image", MFD_CLOEXEC), .backing_fd = -1, .lock_fd = -1, .queues = 2 };

	*ret_peer = -1;
	return ftruncate(config.fd, IMAGE_SIZE) < 0 ? -1 : bh_block_make(&d->vm, d->loop, &config, &d->device, NULL);
}

static int make_net(struct driver *d, int *ret_peer)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -1;
	*ret_peer = pair[1];
	return bh_net_make(&d->vm, d->loop, &(struct bh_net_config){ .fd = pair[0], .vhost_fd = -1 }, &d->device, NULL);
}

static int make_console(struct driver *d, int *ret_peer)
{
	struct bh_console_config config;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -1;
	*ret_peer = pair[1];
	config = (struct bh_console_config){ pair[0], fcntl(pair[0], F_DUPFD_CLOEXEC, 0) };
	return bh_console_make(&d->vm, d->loop, &config, &d->device, NULL);
}

static int make_rng(struct driver *d, int *ret_peer)
{
	*ret_peer = -1;
	return bh_rng_make(&d->vm, d->loop, &d->device, NULL);
}

static int make_balloon(struct driver *d, int *ret_peer)
{
	*ret_peer = -1;
	return bh_balloon_make(&d->vm, d->loop, 100, &d->device, NULL);
}

static void save_and_load(struct driver *d)
{
	bh_auto_buf struct bh_buf saved = { 0 };
	struct bh_state_reader in;

	bh_virtio_save(d->device, &saved);
	bh_virtio_set_status(d->device, 0);
	in = bh_state_reader(saved.data, saved.length);
	if (bh_virtio_load(d->device, &in, NULL) < 0 || in.at != in.end)
		abort();
}

/* The saved state itself comes from bytes. */
static void load_bytes(struct driver *d, struct input *bytes)
{
	struct bh_state_reader in = bh_state_reader(bytes->at, (size_t)(bytes->end - bytes->at));
	struct bh_error err = BH_ERROR_INIT;

	bh_virtio_set_status(d->device, 0);
	if (bh_virtio_load(d->device, &in, &err) < 0)
		driver_start(d, 0, QUEUE_SIZE);
	bytes->at = in.at;
}

static void put(struct driver *d, struct input *in, unsigned queue)
{
	uint16_t index = (uint16_t)(take(in, 1) % QUEUE_SIZE);
	/* Most of them are in memory. */
	uint64_t address = take(in, 3) % (MEMORY + MEMORY / 16), length = take(in, 2);

	if (guest(d, d->device->queues[queue].descriptors, 16 * QUEUE_SIZE))
		put_descriptor(d, queue, index, address, (uint32_t)length, (uint16_t)(take(in, 1) & 7), (uint16_t)(take(in, 1) % (QUEUE_SIZE + 1)));
}

static void write_memory(struct driver *d, struct input *in)
{
	uint64_t address = take(in, 3) % MEMORY;
	size_t length = take(in, 1) % 64;

	length = BH_MIN(length, (size_t)(in->end - in->at));
	bh_guest_write(&d->vm.memory, address, in->at, length);
	in->at += length;
}

static void step(struct driver *d, struct input *in, int peer)
{
	uint8_t what = (uint8_t)take(in, 1);
	unsigned queue = (what >> 4) % d->device->queue_count;
	const struct bh_virtqueue *q = &d->device->queues[queue];
	char bytes[2048] = { 0 };

	switch (what & 15) {
	case 0 ... 4:
		put(d, in, queue);
		break;
	case 5 ... 7:
		if (q->size && bh_virtqueue_is_valid(q))
			offer(d, queue, (uint16_t)(take(in, 1) % (QUEUE_SIZE + 1)));
		break;
	case 8:
		write_memory(d, in);
		break;
	case 9:
	case 10:
		notify_device(d, queue);
		break;
	case 11:
		if (peer >= 0)
			(void)!send(peer, bytes, take(in, 2) % sizeof bytes, MSG_NOSIGNAL);
		turn(d);
		break;
	case 12:
		if (peer >= 0)
			(void)!recv(peer, bytes, sizeof bytes, 0);
		turn(d);
		break;
	case 13:
		driver_start(d, take(in, 8) & d->device->offered, QUEUE_SIZE);
		break;
	case 14:
		bh_virtio_write_config(d->device, take(in, 1), 1u << take(in, 1) % 4, take(in, 4));
		break;
	default:
		if (queue)
			load_bytes(d, in);
		else
			save_and_load(d);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int (*const devices[])(struct driver *, int *) = { make_block, make_net, make_console, make_rng, make_balloon };
	struct input in = { data, data + size };
	struct driver d;
	int peer = -1;

	signal(SIGPIPE, SIG_IGN);
	if (size == 0 || driver_make(&d) < 0)
		return 0;
	if (devices[take(&in, 1) % BH_ARRAY_SIZE(devices)](&d, &peer) < 0)
		abort();
	driver_start(&d, d.device->offered, QUEUE_SIZE);
	for (int i = 0; i < STEPS_MAX && in.at < in.end; i++)
		step(&d, &in, peer);
	turn(&d);
	bh_virtio_set_status(d.device, 0);
	turn(&d);
	driver_clear(&d);
	bh_close_fd(&peer);
	return 0;
}
