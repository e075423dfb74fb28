/* SPDX-License-Identifier: Apache-2.0 */
/* Entropy device (specification 5.4): randomness of the host's kernel, written straight into the guest's buffers. */
#include "vmm/virtio/virtio.h"

#include "base/memory.h"

#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#define PCI_CLASS_OTHER 0x00ff00
/* Of one request: more would take time that others wait for. */
#define REQUEST_MAX (64u << 10)
/* In one turn; a guest that asks for ever lets the other devices of the loop have theirs. */
#define TURN_BYTES (1u << 20)

static size_t fill(const struct bh_chain *chain)
{
	const struct iovec *iov = bh_chain_writable(chain);
	size_t done = 0;

	for (unsigned i = 0; i < chain->writable && done < REQUEST_MAX; i++) {
		size_t part = BH_MIN(iov[i].iov_len, REQUEST_MAX - done);
		ssize_t n = getrandom(iov[i].iov_base, part, 0);

		done += n > 0 ? (size_t)n : 0;
		if (n < (ssize_t)part)
			break;
	}
	return done;
}

static void notify(struct bh_virtio_device *device, unsigned index)
{
	struct bh_virtqueue *queue = &device->queues[index];
	struct bh_chain chain;
	size_t given = 0;
	uint64_t one = 1;

	do {
		bh_virtqueue_quiet(queue);
		while (given < TURN_BYTES && bh_virtqueue_pop(queue, &chain) > 0) {
			size_t written = fill(&chain);

			bh_virtqueue_push(queue, &chain, written);
			/* An empty request costs something too. */
			given += BH_MAX(written, 1024u);
		}
	} while (given < TURN_BYTES && bh_virtqueue_listen(queue));
	bh_virtqueue_interrupt(queue);
	if (given >= TURN_BYTES)
		(void)!write(queue->event_fd, &one, sizeof one);
}

static void free_rng(struct bh_virtio_device *device)
{
	bh_virtio_clear(device);
	free(device);
}

static const struct bh_virtio_driver driver = {
	.name = "rng",
	.id = 4,
	.pci_class = PCI_CLASS_OTHER,
	.notify = notify,
	.free = free_rng,
};

int bh_rng_make(struct bh_vm *vm, struct bh_loop *loop, struct bh_virtio_device **ret_device, struct bh_error *err)
{
	struct bh_virtio_device *device = bh_calloc(1, sizeof *device);
	int r = bh_virtio_init(device, &driver, vm, loop, 1, 0, err);

	if (r < 0)
		free(device);
	else
		*ret_device = device;
	return r;
}
