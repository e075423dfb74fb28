/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio devices (Virtual I/O Device specification 1.2): the seam between what a device does and how a guest reaches it.
 *
 *	guest's driver  <-- transport (pci.c, mmio.c) -->  bh_virtio_device  <-- bh_virtio_driver: a const table, one file per device
 *	                <-- queues in guest memory (queue.c) -->
 *
 * A device is the structure below at the beginning of the driver's own one. The transport keeps the device's status, features and
 * queues by what the guest writes; queue.c takes buffers out of guest memory, and it is the only place that does: whatever it gives
 * out lies in guest memory and has the shape the specification wants.
 *
 * Threads and locks: `lock` is held whenever an operation of the driver runs. Queue notifications arrive on the device's loop; reset,
 * activation and configuration come from a vcpu. A device waits for nothing while it holds the lock but for its own disk.
 *
 * A `parallel` driver's `notify` is the exception: it holds its queue's own lock, so each queue may have a loop of its own, and what one
 * waits for holds no other. What such queues share is atomic (status, active, vectors, counters), or doesn't change while the device is
 * active (features), or the driver's to guard. A reset takes the device's lock and then every queue's: it waits for what is being done.
 *
 * A guest that breaks the rules gets a device that needs a reset (2.1.1), and no more: bh_virtio_fail.
 */
#pragma once

#include "base/iov.h"
#include "vmm/limit.h"
#include "vmm/disk/disk.h"
#include "vmm/loop.h"
#include "vmm/state.h"
#include "vmm/vm.h"


/* 2.1: bits of the status. */
#define BH_VIRTIO_ACKNOWLEDGE 1
#define BH_VIRTIO_DRIVER 2
#define BH_VIRTIO_DRIVER_OK 4
#define BH_VIRTIO_FEATURES_OK 8
#define BH_VIRTIO_NEEDS_RESET 64
#define BH_VIRTIO_FAILED 128

/* 6: the features that are the same for all devices. */
#define BH_VIRTIO_F_INDIRECT_DESC (1ULL << 28)
#define BH_VIRTIO_F_EVENT_IDX (1ULL << 29)
#define BH_VIRTIO_F_VERSION_1 (1ULL << 32)

#define BH_VIRTIO_QUEUE_SIZE 256  /* the most buffers of a queue, and of a chain */
#define BH_VIRTIO_QUEUES_MAX 34
#define BH_VIRTIO_NO_VECTOR 0xffff
#define BH_VIRTIO_CONFIG_MAX 256

struct bh_virtio_device;

/* --- queues (2.7, split virtqueues) --------------------------------------------------------------------------------- */

struct bh_virtqueue {
	struct bh_virtio_device *device;
	unsigned index;
	/* what the guest has set */
	uint16_t size;
	bool enabled;
	uint64_t descriptors, available, used; /* guest physical */
	_Atomic uint16_t vector;               /* the transport's business */
	/* where we are */
	uint16_t next_available, next_used;
	uint16_t signalled; /* next_used when the guest was last interrupted, or had no need of it */
	int event_fd;       /* readable: the guest has put buffers in. The transport writes, the loop reads. */
	struct bh_loop *loop; /* borrowed: where it is served */
	pthread_mutex_t lock; /* of a parallel driver; and whoever enables the queue */
};

/* One chain of buffers: first what the driver has written for us, then what we are to write. */
struct bh_chain {
	uint16_t head;
	unsigned readable, writable; /* elements of iov: [0, readable), [readable, readable + writable) */
	size_t readable_bytes, writable_bytes;
	struct iovec iov[BH_VIRTIO_QUEUE_SIZE];
};

/* 1: *ret_chain is the next one; 0: there is none, or the queue isn't in use; -EINVAL: the guest has broken the rules, the device
 * needs a reset. The bytes stay the guest's: it may change them while they are looked at. */
int bh_virtqueue_pop(struct bh_virtqueue *queue, struct bh_chain *ret_chain);
/* Puts the last popped chain back: it will be popped again. */
void bh_virtqueue_undo_pop(struct bh_virtqueue *queue);
/* Gives a chain back; `written`: bytes of its writable part that now hold something. */
void bh_virtqueue_push(struct bh_virtqueue *queue, const struct bh_chain *chain, size_t written);
/* Is there another one behind the last that was popped? A hint: it isn't looked at. */
bool bh_virtqueue_has_more(const struct bh_virtqueue *queue);
/* Interrupts the guest if it wants to hear of what was pushed. Once after a batch of pushes. */
void bh_virtqueue_interrupt(struct bh_virtqueue *queue);
/* Asks the guest not to notify, while we look at the queue anyway; and to notify again: true if something came in between. */
void bh_virtqueue_quiet(struct bh_virtqueue *queue);
bool bh_virtqueue_listen(struct bh_virtqueue *queue);
/* The same for the next chain that the guest gives, while others may wait. Returns how many it has given until now, modulo 65536. */
uint16_t bh_virtqueue_listen_behind(struct bh_virtqueue *queue);
/* Are its three areas in guest memory and aligned? */
bool bh_virtqueue_is_valid(const struct bh_virtqueue *queue);
/* For the transport: the guest enables it; one that isn't valid breaks the device. */
void bh_virtqueue_enable(struct bh_virtqueue *queue);
/* For a transport whose guest may stop using a queue without a reset: nothing of it is served any more. While the device
 * is active it isn't to be enabled again, since the driver may hold buffers of it. */
void bh_virtqueue_disable(struct bh_virtqueue *queue);
/* As after a reset. */
void bh_virtqueue_clear(struct bh_virtqueue *queue);
/* As if the guest had notified. On the queue's loop, without a lock. */
void bh_virtqueue_serve(struct bh_virtqueue *queue);

static inline const struct iovec *bh_chain_readable(const struct bh_chain *chain)
{
	return chain->iov;
}
static inline const struct iovec *bh_chain_writable(const struct bh_chain *chain)
{
	return chain->iov + chain->readable;
}
/* Copies up to `length` bytes from `offset` of the readable part, or to `offset` of the writable part; how many there were. */
size_t bh_chain_read(const struct bh_chain *chain, size_t offset, void *bytes, size_t length);
size_t bh_chain_write(const struct bh_chain *chain, size_t offset, const void *bytes, size_t length);

/* --- devices -------------------------------------------------------------------------------------------------------- */

struct bh_virtio_driver {
	const char *name;   /* "block": for --explain and errors */
	uint16_t id;        /* 5: device types */
	uint32_t pci_class; /* class, subclass, interface: 0x018000 */
	bool parallel;      /* `notify` runs with the queue's lock instead of the device's */
	/* Any may be NULL. All are called with the lock held. */
	void (*activate)(struct bh_virtio_device *device); /* DRIVER_OK: `features` and queues are what they will be */
	void (*reset)(struct bh_virtio_device *device);    /* forget the guest's buffers; the queues are cleared after this */
	void (*notify)(struct bh_virtio_device *device, unsigned queue); /* on the queue's loop */
	void (*config_written)(struct bh_virtio_device *device, unsigned offset, unsigned length); /* `config` has it already */
	void (*disabling)(struct bh_virtio_device *device); /* the guest stops using one of the queues: nobody but a loop may serve any now */
	void (*dirty_logged)(struct bh_virtio_device *device); /* the log of written pages (memory.h) has begun, or ended */
	/* Loops are paused. `settle`: no buffer is in flight any more when it returns. */
	void (*settle)(struct bh_virtio_device *device);
	void (*save)(struct bh_virtio_device *device, struct bh_buf *out);
	int (*load)(struct bh_virtio_device *device, struct bh_state_reader *in, struct bh_error *err); /* then `activate`, if it was active */
	void (*free)(struct bh_virtio_device *device); /* the structure too; loops have ended */
};

struct bh_virtio_transport {
	const char *name; /* "pci": for --explain and the control socket */
	/* queue BH_VIRTIO_QUEUES_MAX: the configuration has changed. Any thread. */
	void (*interrupt)(struct bh_virtio_device *device, unsigned queue);
	/* The transport's state and the device's. Everything that could touch it is paused. */
	void (*save)(struct bh_virtio_device *device, struct bh_buf *out);
	int (*load)(struct bh_virtio_device *device, struct bh_state_reader *in, struct bh_error *err);
	void (*detach)(struct bh_virtio_device *device); /* gives up its registers; the processors have ended */
};

struct bh_virtio_device {
	const struct bh_virtio_driver *driver;
	struct bh_vm *vm;
	struct bh_loop *loop;    /* borrowed: where its queues are served that have no other */
	pthread_mutex_t lock;
	uint64_t offered, features; /* `features`: what the guest has taken */
	_Atomic uint8_t status;
	uint8_t generation; /* of the configuration */
	unsigned place;     /* its slot on PCI, or its number on the MMIO bus, from 1 on */
	atomic_bool active; /* DRIVER_OK, and not broken */
	unsigned queue_count;
	struct bh_virtqueue queues[BH_VIRTIO_QUEUES_MAX];
	uint8_t config[BH_VIRTIO_CONFIG_MAX]; /* device-specific configuration as the guest reads it */
	unsigned config_size, config_writable; /* bytes; config_writable: the guest may write the first ones, 0: none */
	const struct bh_virtio_transport *transport;
	void *transport_data;
	atomic_ulong notifications, interrupts; /* that were served, and sent */
};

/* First thing of every device's make function: sets the common part, makes the queues' eventfds and serves them from `loop`.
 * `offered`: features of the device's own; those all devices have are added. */
int bh_virtio_init(struct bh_virtio_device *device, const struct bh_virtio_driver *driver, struct bh_vm *vm, struct bh_loop *loop, unsigned queue_count,
		   uint64_t offered, struct bh_error *err);
/* Of a parallel driver: the queue is served from this loop. Before the loops are started. */
int bh_virtio_move_queue(struct bh_virtio_device *device, unsigned queue, struct bh_loop *loop, struct bh_error *err);
/* For a driver's `free`. */
void bh_virtio_clear(struct bh_virtio_device *device);
/* Frees it by its driver. NULL is nothing. */
void bh_virtio_free(struct bh_virtio_device *device);

/* The rest is called with the lock held; bh_virtio_interrupt and bh_virtio_fail with the queue's in a parallel driver's `notify`. */

/* Interrupts the guest: a queue's index, or BH_VIRTIO_QUEUES_MAX for the configuration. */
static inline void bh_virtio_interrupt(struct bh_virtio_device *device, unsigned queue)
{
	atomic_fetch_add_explicit(&device->interrupts, 1, memory_order_relaxed);
	device->transport->interrupt(device, queue);
}

/* `config` has been changed by the device: the guest is told. */
void bh_virtio_config_changed(struct bh_virtio_device *device);
/* The guest broke the rules: the device does nothing more until it is reset. */
void bh_virtio_fail(struct bh_virtio_device *device);
static inline bool bh_virtio_has(const struct bh_virtio_device *device, uint64_t feature)
{
	return (device->features & feature) == feature;
}

/* Takes it from its transport, before it is freed. One without is nothing. */
void bh_virtio_detach(struct bh_virtio_device *device);

/* For transports. Halves: the low 32 bits of what has 64, or the high ones. */
uint32_t bh_virtio_offered_half(const struct bh_virtio_device *device, uint32_t half); /* of the features; 0 beyond the second half */
void bh_virtio_accept_half(struct bh_virtio_device *device, uint32_t half, uint32_t features);
static inline void bh_virtio_set_half(uint64_t *value, bool high, uint32_t half)
{
	*value = high ? (*value & UINT32_MAX) | (uint64_t)half << 32 : (*value & ~(uint64_t)UINT32_MAX) | half;
}
void bh_virtio_set_status(struct bh_virtio_device *device, uint8_t status); /* 0: reset */
uint64_t bh_virtio_read_config(struct bh_virtio_device *device, uint64_t offset, unsigned size);
void bh_virtio_write_config(struct bh_virtio_device *device, uint64_t offset, unsigned size, uint64_t value);
/* Status, features, queues, and the driver's own. */
void bh_virtio_save(struct bh_virtio_device *device, struct bh_buf *out);
int bh_virtio_load(struct bh_virtio_device *device, struct bh_state_reader *in, struct bh_error *err);

/* --- the devices ---------------------------------------------------------------------------------------------------- */

/* block.c (5.2). `fd`: the image, taken over. Several queues are for raw images: qcow2's tables are used by one thread at a time. */
#define BH_BLOCK_QUEUES_MAX 8
struct bh_block_config {
	int fd;
	enum bh_disk_format format;
	int backing_fd; /* the image behind a qcow2 image, only read; -1: none */
	enum bh_disk_format backing_format;
	int lock_fd;        /* its maker's lock on the disk, kept open as long as the device lives; taken over; -1: none */
	bool readonly;
	bool no_rings;      /* requests are served one by one: where no io_uring may be made any more */
	unsigned queues;    /* 1..BH_BLOCK_QUEUES_MAX */
	const char *serial; /* at most 20 bytes, or NULL */
	struct bh_limits limits;
};
int bh_block_make(struct bh_vm *vm, struct bh_loop *loop, const struct bh_block_config *config, struct bh_virtio_device **ret_device, struct bh_error *err);

/* net.c (5.1). `fd`: a tap device with virtio headers (linux/tap.h), or a packet socket that speaks the same; taken over. */
struct bh_net_config {
	int fd;
	const uint8_t *mac; /* six bytes; NULL: one is made up */
	unsigned mtu;       /* told to the guest; 0: nothing is said, packets are of Ethernet's usual size */
	struct bh_limits receive, transmit; /* to and from the guest */
	int vhost_fd;       /* /dev/vhost-net, which then serves the queues, without limits; taken over; -1: none */
};
int bh_net_make(struct bh_vm *vm, struct bh_loop *loop, const struct bh_net_config *config, struct bh_virtio_device **ret_device, struct bh_error *err);

/* rng.c (5.4). */
int bh_rng_make(struct bh_vm *vm, struct bh_loop *loop, struct bh_virtio_device **ret_device, struct bh_error *err);

/* console.c (5.3). Different descriptors, taken over; -1: none. */
struct bh_console_config {
	int input_fd, output_fd;
};
int bh_console_make(struct bh_vm *vm, struct bh_loop *loop, const struct bh_console_config *config, struct bh_virtio_device **ret_device,
		    struct bh_error *err);

/* balloon.c (5.5). `pages` (4 KiB): how many the guest is asked for; it gives what it can. */
#define BH_BALLOON_STATISTICS 10
struct bh_balloon_statistics {
	uint32_t pages;                         /* that the guest has given up */
	uint32_t updates;                       /* 0: it hasn't said anything yet */
	uint64_t values[BH_BALLOON_STATISTICS]; /* by VIRTIO_BALLOON_S_...: swapped in and out, faults, free, total, available memory ... */
};
int bh_balloon_make(struct bh_vm *vm, struct bh_loop *loop, uint32_t pages, struct bh_virtio_device **ret_device, struct bh_error *err);
/* Both from any thread; they take the lock. */
void bh_balloon_set_target(struct bh_virtio_device *device, uint32_t pages);
/* The last ones; the guest is asked for new ones. */
void bh_balloon_statistics(struct bh_virtio_device *device, struct bh_balloon_statistics *ret_statistics);

/* vsock.c (5.10). Its descriptors are taken over. */
#define BH_VSOCK_CID_MIN 3
struct bh_vsock_config {
	uint64_t cid;  /* the guest's address */
	int listen_fd; /* a listening stream socket: who connects says "CONNECT <port>\n", hears "OK <port>\n", and talks to the guest; -1: none */
	/* SOCK_SEQPACKET, -1: none. A guest that connects to a port of the host: { u32 port, u32 id } is sent; the answer is { u32 id, u32 errno }, and
	 * with errno 0 a connected stream socket (SCM_RIGHTS). */
	int broker_fd;
	/* A connected stream socket for the first connection of the guest to this port, without asking anybody; -1: none. */
	int stream_fd;
	uint32_t stream_port;
};
int bh_vsock_make(struct bh_vm *vm, struct bh_loop *loop, const struct bh_vsock_config *config, struct bh_virtio_device **ret_device, struct bh_error *err);

/* fs.c (5.11) */
struct bh_fs_config {
	int server_fd;   /* to a file server (files.h); taken over */
	const char *tag; /* the name by which the guest mounts it */
};
int bh_fs_make(struct bh_vm *vm, struct bh_loop *loop, const struct bh_fs_config *config, struct bh_virtio_device **ret_device, struct bh_error *err);
