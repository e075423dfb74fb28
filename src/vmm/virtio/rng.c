/* SPDX-License-Identifier: Apache-2.0 */
/* Entropy device (specification 5.4): fills what it is given with the host's randomness. The smallest real device: read it first. */
#include "vmm/virtio/virtio.h"

#include "base/memory.h"

#include <stdlib.h>
#include <sys/random.h>

#define PCI_CLASS_OTHER 0xff0000
#define REQUEST_MAX 4096 /* a guest that asks for more gets a part, and asks again */

static void notify(struct bh_virtio_device *device, unsigned index)
{
	struct bh_virtqueue *queue = &device->queues[index];
	uint8_t bytes[REQUEST_MAX];
	struct bh_chain chain;

	do {
		bh_virtqueue_quiet(queue);
		while (bh_virtqueue_pop(queue, &chain) > 0) {
			ssize_t n = getrandom(bytes, BH_MIN(chain.writable_bytes, sizeof bytes), 0);

			bh_virtqueue_push(queue, &chain, n > 0 ? bh_chain_write(&chain, 0, bytes, (size_t)n) : 0);
		}
		bh_virtqueue_interrupt(queue);
	} while (bh_virtqueue_listen(queue));
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
