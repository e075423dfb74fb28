/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File system device (specification 5.11): FUSE requests of the guest, handed on to a file server.
 *
 * The monitor has no right to any file, so the server is a process of its own (files.h) at the other end of a socket. A request goes there from guest
 * memory and its reply comes back into guest memory, in two system calls each, one request at a time. The device has a thread of its own,
 * which waits for the server.
 */
#include "vmm/virtio/virtio.h"

#include "base/memory.h"
#include "vmm/files.h"

#include <errno.h>
#include <linux/fuse.h>
#include <linux/virtio_fs.h>
#include <stdlib.h>
#include <string.h>

#define PCI_CLASS_STORAGE 0x018000
#define TAG_MAX 36

enum { HIGH_PRIORITY, REQUESTS, QUEUES };

struct fs {
	struct bh_virtio_device device;
	int server_fd;
};

/* A server that is gone answers everything with an error of input and output. */
static size_t refuse(const struct bh_chain *chain)
{
	struct fuse_in_header in = { 0 };
	struct fuse_out_header out = { .len = sizeof out, .error = -EIO };

	bh_chain_read(chain, 0, &in, sizeof in);
	out.unique = in.unique;
	return chain->writable_bytes < sizeof out ? 0 : bh_chain_write(chain, 0, &out, sizeof out);
}

static size_t serve(struct fs *f, const struct bh_chain *chain)
{
	size_t length = 0;

	if (f->server_fd < 0 ||
	    bh_files_ask(f->server_fd, bh_chain_readable(chain), chain->readable, bh_chain_writable(chain), chain->writable, &length) < 0) {
		bh_close_fd(&f->server_fd);
		return refuse(chain);
	}
	return length;
}

static void notify(struct bh_virtio_device *device, unsigned index)
{
	struct bh_virtqueue *queue = &device->queues[index];
	struct bh_chain chain;

	do {
		bh_virtqueue_quiet(queue);
		while (bh_virtqueue_pop(queue, &chain) > 0)
			bh_virtqueue_push(queue, &chain, serve((struct fs *)device, &chain));
		bh_virtqueue_interrupt(queue);
	} while (bh_virtqueue_listen(queue));
}

/* The server's open files are no part of a machine's state. */
static void save(struct bh_virtio_device *device, struct bh_buf *out)
{
	bh_state_put(out, device->active, 1);
}

static int load(struct bh_virtio_device *device, struct bh_state_reader *in, struct bh_error *err)
{
	if (bh_state_get(in, 1))
		return bh_error_text(err, ENOTSUP, "%s: a machine that has mounted a shared folder can't be continued elsewhere", device->driver->name);
	return 0;
}

static void free_fs(struct bh_virtio_device *device)
{
	struct fs *f = (struct fs *)device;

	bh_close_fd(&f->server_fd);
	bh_virtio_clear(device);
	free(f);
}

static const struct bh_virtio_driver driver = {
	.name = "fs",
	.id = 26,
	.pci_class = PCI_CLASS_STORAGE,
	.notify = notify,
	.save = save,
	.load = load,
	.free = free_fs,
};

int bh_fs_make(struct bh_vm *vm, struct bh_loop *loop, const struct bh_fs_config *config, struct bh_virtio_device **ret_device, struct bh_error *err)
{
	struct virtio_fs_config space = { .num_request_queues = 1 };
	struct fs *f = bh_calloc(1, sizeof *f);
	int r;

	f->server_fd = config->server_fd;
	if (!config->tag || !*config->tag || strlen(config->tag) > TAG_MAX)
		r = bh_error_text(err, EINVAL, "fs: a tag of 1 to %d bytes is needed", TAG_MAX);
	else
		r = bh_virtio_init(&f->device, &driver, vm, loop, QUEUES, 0, err);
	if (r < 0) {
		bh_close_fd(&f->server_fd);
		free(f);
		return r;
	}
	memcpy(space.tag, config->tag, strlen(config->tag));
	memcpy(f->device.config, &space, sizeof space);
	f->device.config_size = sizeof space;
	*ret_device = &f->device;
	return 0;
}
