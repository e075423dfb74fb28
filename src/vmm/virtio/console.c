/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Console device (specification 5.3), one port: bytes from a descriptor to the guest (hvc0) and back.
 *
 * What can't be written at the moment stays in the guest's buffer, which isn't given back before all of it is gone; what the guest has no
 * buffer for stays outside. So nothing is kept here but how far the first buffer has been written.
 */
#include "vmm/virtio/virtio.h"

#include "base/file.h"
#include "base/memory.h"

#include <errno.h>
#include <linux/virtio_console.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define PCI_CLASS_COMMUNICATION 0x078000
/* Chains in one turn of the loop. */
#define TURN_CHAINS 128

enum { RX, TX, QUEUES };

struct console {
	struct bh_virtio_device device;
	int input_fd, output_fd; /* not the same one */
	bool input_watched, output_watched;
	bool starved;   /* the guest has no buffer for input */
	bool blocked;   /* the output takes no more at the moment */
	size_t written; /* of the first chain in TX */
};

/* On the loop only. */
static void watch(struct console *c)
{
	bool reads = c->device.active && c->device.queues[RX].enabled && !c->starved;

	if (c->input_watched)
		bh_loop_set_events(c->device.loop, c->input_fd, reads ? EPOLLIN : 0);
	if (c->output_watched)
		bh_loop_set_events(c->device.loop, c->output_fd, c->device.active && c->blocked ? EPOLLOUT : 0);
}

static void drop(struct console *c, int fd, bool *watched)
{
	if (*watched)
		bh_loop_remove(c->device.loop, fd);
	*watched = false;
}

static void receive(struct console *c)
{
	struct bh_virtqueue *queue = &c->device.queues[RX];
	struct bh_chain chain;

	for (int i = 0; i < TURN_CHAINS; i++) {
		int r = bh_virtqueue_pop(queue, &chain);
		ssize_t n;

		if (r == 0 && bh_virtqueue_listen(queue))
			continue;
		c->starved = r == 0;
		if (r <= 0)
			break;
		n = readv(c->input_fd, bh_chain_writable(&chain), (int)chain.writable);
		if (n > 0) {
			bh_virtqueue_push(queue, &chain, (size_t)n);
			continue;
		}
		bh_virtqueue_undo_pop(queue);
		/* A chain without room is a broken guest, not the end of the input. */
		if (chain.writable_bytes == 0)
			bh_virtio_fail(&c->device);
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			drop(c, c->input_fd, &c->input_watched);
		break;
	}
	bh_virtqueue_interrupt(queue);
}

/* True once all of the chain has been written, or can never be. */
static bool write_chain(struct console *c, const struct bh_chain *chain)
{
	struct iovec rest[BH_VIRTIO_QUEUE_SIZE];

	while (c->written < chain->readable_bytes) {
		unsigned count = bh_iov_slice(bh_chain_readable(chain), chain->readable, c->written, chain->readable_bytes - c->written, rest);
		ssize_t n = writev(c->output_fd, rest, (int)count);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return false;
		/* Nobody reads it any more. */
		if (n <= 0)
			break;
		c->written += (size_t)n;
	}
	c->written = 0;
	return true;
}

static void transmit(struct console *c)
{
	struct bh_virtqueue *queue = &c->device.queues[TX];
	struct bh_chain chain;
	uint64_t one = 1;
	int chains = 0;

	c->blocked = false;
	do {
		bh_virtqueue_quiet(queue);
		while (chains < TURN_CHAINS && bh_virtqueue_pop(queue, &chain) > 0) {
			if (!write_chain(c, &chain)) {
				bh_virtqueue_undo_pop(queue);
				c->blocked = true;
				break;
			}
			bh_virtqueue_push(queue, &chain, 0);
			chains++;
		}
	} while (chains < TURN_CHAINS && !c->blocked && bh_virtqueue_listen(queue));
	bh_virtqueue_interrupt(queue);
	if (chains == TURN_CHAINS)
		(void)!write(queue->event_fd, &one, sizeof one);
}

static void on_input(void *context, uint32_t events)
{
	struct console *c = context;

	pthread_mutex_lock(&c->device.lock);
	if (c->device.active && c->device.queues[RX].enabled && !c->starved)
		receive(c);
	/* Its end would be told of for ever; what is still in it is read when the guest has room. */
	if (events & (EPOLLHUP | EPOLLERR) && (c->starved || !c->device.active))
		drop(c, c->input_fd, &c->input_watched);
	watch(c);
	pthread_mutex_unlock(&c->device.lock);
}

static void on_output(void *context, uint32_t events)
{
	struct console *c = context;

	pthread_mutex_lock(&c->device.lock);
	if (events & (EPOLLHUP | EPOLLERR))
		drop(c, c->output_fd, &c->output_watched);
	if (c->device.active && c->device.queues[TX].enabled)
		transmit(c);
	watch(c);
	pthread_mutex_unlock(&c->device.lock);
}

static void notify(struct bh_virtio_device *device, unsigned queue)
{
	struct console *c = (struct console *)device;

	if (queue == RX)
		c->starved = false;
	else
		transmit(c);
	/* Input that has ended while there was no room for it. */
	if (queue == RX && !c->input_watched && c->input_fd >= 0)
		receive(c);
	watch(c);
}

static void reset(struct bh_virtio_device *device)
{
	struct console *c = (struct console *)device;

	c->starved = c->blocked = false;
	c->written = 0;
}

static void save(struct bh_virtio_device *device, struct bh_buf *out)
{
	bh_state_put(out, ((struct console *)device)->written, 8);
}

static int load(struct bh_virtio_device *device, struct bh_state_reader *in, struct bh_error *err)
{
	(void)err;
	((struct console *)device)->written = bh_state_get(in, 8);
	return 0;
}

static void free_console(struct bh_virtio_device *device)
{
	struct console *c = (struct console *)device;

	drop(c, c->input_fd, &c->input_watched);
	drop(c, c->output_fd, &c->output_watched);
	bh_virtio_clear(device);
	bh_close_fd(&c->input_fd);
	bh_close_fd(&c->output_fd);
	free(c);
}

static const struct bh_virtio_driver driver = {
	.name = "console",
	.id = 3,
	.pci_class = PCI_CLASS_COMMUNICATION,
	.reset = reset,
	.notify = notify,
	.save = save,
	.load = load,
	.free = free_console,
};

/* A file can always be read and written, and epoll doesn't take it. */
static int add(struct console *c, int fd, bh_loop_handler *handler, bool *ret_watched, struct bh_error *err)
{
	int r;

	if (fd < 0)
		return 0;
	r = bh_set_nonblock(fd, true);
	if (r < 0)
		return bh_error_set(err, -r, "the console's descriptor");
	r = bh_loop_add(c->device.loop, fd, 0, handler, c, err);
	*ret_watched = r == 0;
	return r == -EPERM ? 0 : r;
}

int bh_console_make(struct bh_vm *vm, struct bh_loop *loop, const struct bh_console_config *config, struct bh_virtio_device **ret_device,
		    struct bh_error *err)
{
	struct console *c = bh_calloc(1, sizeof *c);
	int r;

	c->input_fd = config->input_fd;
	c->output_fd = config->output_fd;
	r = bh_virtio_init(&c->device, &driver, vm, loop, QUEUES, 0, err);
	if (r == 0)
		r = add(c, c->input_fd, on_input, &c->input_watched, err);
	if (r == 0)
		r = add(c, c->output_fd, on_output, &c->output_watched, err);
	if (r < 0) {
		free_console(&c->device);
		return r;
	}
	c->device.config_size = sizeof(struct virtio_console_config);
	*ret_device = &c->device;
	return 0;
}
