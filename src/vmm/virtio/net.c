/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network device (specification 5.1): a tap device of the host.
 *
 *	guest --tx--> writev(tap)      readv(tap) --rx--> guest
 *
 * The header that the specification puts before each packet is the one the tap device speaks, so a packet goes between the kernel and
 * the guest's buffers without a copy of ours, and the kernel checks what the guest says in the header. Offloads that the guest takes are
 * told to the tap device (TUNSETOFFLOAD): it then hands over packets of up to 64 KiB and without checksums.
 *
 * Reception with mergeable buffers: a packet is read over as many chains as the largest one needs, and those it didn't fill are kept
 * for the next one; at the end of a turn the rest goes back into the queue, so between turns no buffer is in our hands. Without
 * room the tap device isn't looked at: packets wait in its queue, and the guest's notification begins it again.
 *
 * With a vhost device the kernel does all that (vhost.h), and the loop only passes its interrupts on. What it writes is in no log of ours, so
 * while somebody logs written pages, and while the machine stands, packets go our way, or none.
 */
#include "vmm/virtio/vhost.h"

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/time.h"

#include <errno.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#define PCI_CLASS_NETWORK 0x020000
#define ETHERNET_SIZE 18 /* header with a VLAN's tag */
#define MTU_MIN 68
#define MTU_MAX 65535
#define MTU_DEFAULT 1500
#define SEGMENTED_MAX 65550u /* Ethernet header and the largest IP packet */
/* Packets in one turn; then the other direction, and whoever wants to pause the loop. */
#define TURN_PACKETS 128
/* Of the largest packet in the smallest buffers a driver has. */
#define HELD_MAX 64

enum { RX, TX, QUEUES };

#define BIT(feature) (1ULL << (feature))
#define GUEST_OFFLOADS                                                                                                              \
	(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN) | \
	 BIT(VIRTIO_NET_F_GUEST_UFO))
#define HOST_OFFLOADS \
	(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_HOST_UFO))

/* A chain for packets that come: its elements of `iov`. */
struct held {
	uint16_t head;
	unsigned first, count;
	size_t bytes;
};

struct net {
	struct bh_virtio_device device;
	int fd;
	unsigned mtu;
	bool watched;    /* the tap device is in the loop */
	uint32_t events; /* that it is waited for */
	bool rx_starved; /* no buffers for what comes */
	bool tx_blocked; /* the tap device takes no more at the moment */
	struct bh_limits limits[QUEUES];
	bool limited[QUEUES]; /* waits for its timer */
	struct bh_vhost vhost;
	bool has_vhost;
	/* reception: what has been taken out of the queue and not used */
	struct held held[HELD_MAX];
	unsigned held_first, held_count; /* [first, count) */
	size_t held_bytes;
	unsigned iov_count;
	struct iovec iov[IOV_MAX];
	struct bh_chain chain;
};

static void on_receive_limit(void *context, uint32_t events);
static void on_transmit_limit(void *context, uint32_t events);

/* On the loop only. */
static void watch(struct net *n)
{
	bool receives = n->device.active && n->device.queues[RX].enabled && !n->vhost.running && !n->rx_starved && !n->limited[RX];
	uint32_t events = (receives ? EPOLLIN : 0u) | (n->device.active && n->tx_blocked ? EPOLLOUT : 0u);

	if (n->watched && events != n->events)
		bh_loop_set_events(n->device.loop, n->fd, events);
	n->events = events;
}

/* True if the queue must wait; its timer is set then. */
static bool must_wait(struct net *n, unsigned queue)
{
	int64_t until = bh_limits_are_set(&n->limits[queue]) ? bh_limits_wait(&n->limits[queue], bh_monotonic_ns()) : 0;

	n->limited[queue] = until != 0;
	if (until)
		bh_loop_set_timer(n->device.loop, until, queue == RX ? on_receive_limit : on_transmit_limit, n);
	return until != 0;
}

/* --- to the guest ------------------------------------------------------------------------------------------------------- */

static bool merges(const struct net *n)
{
	return bh_virtio_has(&n->device, BIT(VIRTIO_NET_F_MRG_RXBUF));
}

static size_t room_needed(const struct net *n)
{
	bool segmented = n->device.features & (BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_UFO));

	return sizeof(struct virtio_net_hdr_v1) + (segmented ? BH_MAX(SEGMENTED_MAX, n->mtu + ETHERNET_SIZE) : n->mtu + ETHERNET_SIZE);
}

/* Moves what is held to the front of the arrays. */
static void compact(struct net *n)
{
	unsigned first = n->held_first < n->held_count ? n->held[n->held_first].first : n->iov_count;

	memmove(n->iov, n->iov + first, (n->iov_count - first) * sizeof *n->iov);
	memmove(n->held, n->held + n->held_first, (n->held_count - n->held_first) * sizeof *n->held);
	n->iov_count -= first;
	n->held_count -= n->held_first;
	n->held_first = 0;
	for (unsigned i = 0; i < n->held_count; i++)
		n->held[i].first -= first;
}

/* Takes chains until there is room for a packet, the queue is empty, or no more can be held. */
static bool hold(struct net *n, size_t needed)
{
	struct bh_virtqueue *queue = &n->device.queues[RX];

	compact(n);
	while (n->held_count < HELD_MAX && n->iov_count + BH_VIRTIO_QUEUE_SIZE <= IOV_MAX &&
	       (n->held_count == 0 || (merges(n) && n->held_bytes < needed))) {
		int r = bh_virtqueue_pop(queue, &n->chain);

		if (r == 0)
			break;
		if (r > 0 && n->chain.writable_bytes < sizeof(struct virtio_net_hdr_v1))
			bh_virtio_fail(&n->device);
		if (!n->device.active)
			return false;
		memcpy(n->iov + n->iov_count, bh_chain_writable(&n->chain), n->chain.writable * sizeof *n->iov);
		n->held[n->held_count++] = (struct held){ n->chain.head, n->iov_count, n->chain.writable, n->chain.writable_bytes };
		n->iov_count += n->chain.writable;
		n->held_bytes += n->chain.writable_bytes;
	}
	/* A driver whose whole queue is too small gets what fits. */
	return n->held_count && (!merges(n) || n->held_bytes >= needed || n->held_count == queue->size || n->held_count == HELD_MAX);
}

static void give_back(struct net *n)
{
	for (; n->held_first < n->held_count; n->held_count--)
		bh_virtqueue_undo_pop(&n->device.queues[RX]);
	n->held_first = n->held_count = n->iov_count = 0;
	n->held_bytes = 0;
}

/* The packet lies in the first chains. */
static void deliver(struct net *n, size_t length)
{
	uint16_t buffers = 0;
	size_t room = 0;

	for (unsigned i = n->held_first; room < length; i++, buffers++)
		room += n->held[i].bytes;
	for (unsigned i = 0; i < buffers; i++) {
		const struct held *held = &n->held[n->held_first++];
		size_t part = BH_MIN(length, held->bytes);

		n->chain.head = held->head;
		n->chain.readable = n->chain.readable_bytes = 0;
		n->chain.writable = held->count;
		n->chain.writable_bytes = held->bytes;
		memcpy(n->chain.iov, n->iov + held->first, held->count * sizeof *n->iov);
		if (i == 0)
			bh_chain_write(&n->chain, offsetof(struct virtio_net_hdr_v1, num_buffers), &buffers, sizeof buffers);
		bh_virtqueue_push(&n->device.queues[RX], &n->chain, part);
		length -= part;
		n->held_bytes -= held->bytes;
	}
}

/* False if the tap device has no more, or there is no room. */
static bool receive_one(struct net *n)
{
	const size_t needed = room_needed(n);
	const struct held *first;
	ssize_t length;

	if (must_wait(n, RX))
		return false;
	if (!hold(n, needed)) {
		n->rx_starved = n->device.active;
		return false;
	}
	first = &n->held[n->held_first];
	do
		length = readv(n->fd, n->iov + first->first, (int)(n->iov_count - first->first));
	while (length < 0 && errno == EINTR);
	if (length < (ssize_t)sizeof(struct virtio_net_hdr_v1))
		return length >= 0;
	/* Too long for all the buffers of a small queue: lost. */
	if (merges(n) && n->held_bytes < needed && (size_t)length == n->held_bytes)
		return true;
	bh_limits_take(&n->limits[RX], (size_t)length);
	deliver(n, (size_t)length);
	return true;
}

static void receive(struct net *n)
{
	struct bh_virtqueue *queue = &n->device.queues[RX];

	if (!n->device.active || !queue->enabled)
		return;
	n->rx_starved = false;
	bh_virtqueue_quiet(queue);
	for (int i = 0; i < TURN_PACKETS; i++) {
		bool more;

		if (receive_one(n))
			continue;
		/* The guest is to tell us of buffers behind those that we have seen. What has come in between ends the famine at once. */
		more = n->rx_starved && bh_virtqueue_listen(queue);
		give_back(n);
		if (!more)
			break;
		n->rx_starved = false;
	}
	give_back(n);
	bh_virtqueue_interrupt(queue);
}

/* --- from the guest ----------------------------------------------------------------------------------------------------- */

/* False: the tap device takes no more now. A packet it refuses is lost, as on a wire. */
static bool send_packet(struct net *n, const struct bh_chain *chain)
{
	ssize_t sent;

	if (chain->readable_bytes < sizeof(struct virtio_net_hdr_v1) || !n->watched)
		return true;
	do
		sent = writev(n->fd, bh_chain_readable(chain), (int)chain->readable);
	while (sent < 0 && errno == EINTR);
	return sent >= 0 || errno != EAGAIN;
}

static void transmit(struct net *n)
{
	struct bh_virtqueue *queue = &n->device.queues[TX];
	uint64_t one = 1;
	int packets = 0;

	if (!n->device.active || !queue->enabled)
		return;
	n->tx_blocked = false;
	do {
		bh_virtqueue_quiet(queue);
		while (packets < TURN_PACKETS && !must_wait(n, TX) && bh_virtqueue_pop(queue, &n->chain) > 0) {
			if (!send_packet(n, &n->chain)) {
				bh_virtqueue_undo_pop(queue);
				n->tx_blocked = true;
				break;
			}
			bh_limits_take(&n->limits[TX], n->chain.readable_bytes);
			bh_virtqueue_push(queue, &n->chain, 0);
			packets++;
		}
	} while (packets < TURN_PACKETS && !n->tx_blocked && !n->limited[TX] && bh_virtqueue_listen(queue));
	bh_virtqueue_interrupt(queue);
	if (packets == TURN_PACKETS)
		(void)!write(queue->event_fd, &one, sizeof one);
}

/* --- by the kernel ------------------------------------------------------------------------------------------------------ */

static void set_kicks(struct net *n, uint32_t events)
{
	for (unsigned i = 0; i < QUEUES; i++)
		bh_loop_set_events(n->device.loop, n->device.queues[i].event_fd, events);
}

/* The loop looks at both queues again, and may start it again. Any thread, with the lock held. */
static void stop_vhost(struct net *n)
{
	uint64_t one = 1;

	if (!n->vhost.running)
		return;
	bh_vhost_stop(&n->vhost, &n->device);
	set_kicks(n, EPOLLIN);
	for (unsigned i = 0; i < QUEUES; i++)
		(void)!write(n->device.queues[i].event_fd, &one, sizeof one);
}

/* On the loop. False: packets go our way. */
static bool start_vhost(struct net *n)
{
	int r;

	if (!n->device.queues[RX].enabled || !n->device.queues[TX].enabled)
		return false;
	if (!n->has_vhost || !n->watched || !n->device.active || atomic_load(&n->device.vm->memory.dirty))
		return false;
	if (n->vhost.running)
		return true;
	r = bh_vhost_start(&n->vhost, &n->device, n->fd);
	if (r < 0) {
		bh_warn("net: the kernel doesn't serve the queues, the monitor does: %s", strerror(-r));
		n->has_vhost = false;
		return false;
	}
	n->rx_starved = n->tx_blocked = false;
	set_kicks(n, 0);
	bh_explain("vhost", "device", "net", "queues", "by the kernel");
	return true;
}

static void on_call(void *context, uint32_t events)
{
	struct bh_virtqueue *queue = context;
	struct net *n = (struct net *)queue->device;
	uint64_t count;

	(void)events;
	pthread_mutex_lock(&n->device.lock);
	if (read(n->vhost.call_fds[queue->index], &count, sizeof count) == sizeof count && n->device.active)
		bh_virtio_interrupt(&n->device, queue->index);
	pthread_mutex_unlock(&n->device.lock);
}

static void on_vhost_error(void *context, uint32_t events)
{
	struct bh_virtqueue *queue = context;
	struct net *n = (struct net *)queue->device;
	uint64_t count;

	(void)events;
	pthread_mutex_lock(&n->device.lock);
	if (read(n->vhost.error_fds[queue->index], &count, sizeof count) == sizeof count && n->vhost.running) {
		stop_vhost(n);
		bh_virtio_fail(&n->device);
	}
	pthread_mutex_unlock(&n->device.lock);
}

static int add_vhost(struct net *n, int fd, struct bh_error *err)
{
	struct bh_loop *loop = n->device.loop;
	int r = bh_vhost_make(fd, &n->device.vm->memory, QUEUES, &n->vhost, err);

	n->has_vhost = r == 0;
	for (unsigned i = 0; r == 0 && i < QUEUES; i++) {
		r = bh_loop_add(loop, n->vhost.call_fds[i], EPOLLIN, on_call, &n->device.queues[i], err);
		if (r == 0)
			r = bh_loop_add(loop, n->vhost.error_fds[i], EPOLLIN, on_vhost_error, &n->device.queues[i], err);
	}
	return r;
}

static void free_vhost(struct net *n)
{
	for (unsigned i = 0; i < n->vhost.queue_count; i++) {
		bh_loop_remove(n->device.loop, n->vhost.call_fds[i]);
		bh_loop_remove(n->device.loop, n->vhost.error_fds[i]);
	}
	bh_vhost_clear(&n->vhost);
}

/* Somebody has begun, or ended, to log what is written. */
static void dirty_logged(struct bh_virtio_device *device)
{
	struct net *n = (struct net *)device;
	uint64_t one = 1;

	if (atomic_load(&device->vm->memory.dirty))
		stop_vhost(n);
	else
		(void)!write(device->queues[RX].event_fd, &one, sizeof one);
}

/* --- events ------------------------------------------------------------------------------------------------------------- */

static void link_down(struct net *n)
{
	uint16_t status = 0;

	stop_vhost(n);
	bh_loop_remove(n->device.loop, n->fd);
	n->watched = false;
	memcpy(n->device.config + offsetof(struct virtio_net_config, status), &status, sizeof status);
	bh_virtio_config_changed(&n->device);
}

static void on_tap(void *context, uint32_t events)
{
	struct net *n = context;

	pthread_mutex_lock(&n->device.lock);
	if (events & EPOLLIN)
		receive(n);
	if (events & EPOLLOUT)
		transmit(n);
	/* Somebody has taken the tap device away. It would be told of for ever. */
	if (events & (EPOLLERR | EPOLLHUP))
		link_down(n);
	watch(n);
	pthread_mutex_unlock(&n->device.lock);
}

static void notify(struct bh_virtio_device *device, unsigned queue)
{
	struct net *n = (struct net *)device;

	if (start_vhost(n)) {
		watch(n);
		return;
	}
	if (queue == RX)
		n->rx_starved = false;
	else if (!n->limited[TX])
		transmit(n);
	watch(n);
}

static void on_receive_limit(void *context, uint32_t events)
{
	struct net *n = context;

	(void)events;
	pthread_mutex_lock(&n->device.lock);
	n->limited[RX] = false;
	watch(n);
	pthread_mutex_unlock(&n->device.lock);
}

static void on_transmit_limit(void *context, uint32_t events)
{
	struct net *n = context;

	(void)events;
	pthread_mutex_lock(&n->device.lock);
	n->limited[TX] = false;
	transmit(n);
	watch(n);
	pthread_mutex_unlock(&n->device.lock);
}

static void reset(struct bh_virtio_device *device)
{
	struct net *n = (struct net *)device;

	stop_vhost(n);
	n->rx_starved = n->tx_blocked = false;
}

/* 5.1.6.3, 5.1.6.4: what the guest has taken, the tap device may do. */
static void activate(struct bh_virtio_device *device)
{
	static const struct {
		uint64_t feature;
		unsigned offload;
	} table[] = {
		{ BIT(VIRTIO_NET_F_GUEST_CSUM), TUN_F_CSUM }, { BIT(VIRTIO_NET_F_GUEST_TSO4), TUN_F_TSO4 },
		{ BIT(VIRTIO_NET_F_GUEST_TSO6), TUN_F_TSO6 }, { BIT(VIRTIO_NET_F_GUEST_ECN), TUN_F_TSO_ECN },
		{ BIT(VIRTIO_NET_F_GUEST_UFO), TUN_F_UFO },
	};
	struct net *n = (struct net *)device;
	unsigned offloads = 0;

	for (size_t i = 0; i < BH_ARRAY_SIZE(table); i++)
		if (bh_virtio_has(device, table[i].feature))
			offloads |= table[i].offload;
	/* The rest depends on checksums (5.1.3.1). */
	ioctl(n->fd, TUNSETOFFLOAD, offloads & TUN_F_CSUM ? offloads : 0);
}

/* The kernel would go on with the addresses that it has. */
static void disabling(struct bh_virtio_device *device)
{
	stop_vhost((struct net *)device);
}

static void settle(struct bh_virtio_device *device)
{
	pthread_mutex_lock(&device->lock);
	stop_vhost((struct net *)device);
	pthread_mutex_unlock(&device->lock);
}

static void free_net(struct bh_virtio_device *device)
{
	struct net *n = (struct net *)device;

	stop_vhost(n);
	free_vhost(n);
	if (n->watched)
		bh_loop_remove(device->loop, n->fd);
	bh_loop_set_timer(device->loop, 0, on_receive_limit, n);
	bh_loop_set_timer(device->loop, 0, on_transmit_limit, n);
	bh_virtio_clear(device);
	bh_close_fd(&n->fd);
	free(n);
}

static const struct bh_virtio_driver driver = {
	.name = "net",
	.id = 1,
	.pci_class = PCI_CLASS_NETWORK,
	.activate = activate,
	.reset = reset,
	.notify = notify,
	.disabling = disabling,
	.dirty_logged = dirty_logged,
	.settle = settle,
	.free = free_net,
};

/* --- making it ---------------------------------------------------------------------------------------------------------- */

static int fill_config(struct net *n, const struct bh_net_config *config, struct bh_error *err)
{
	struct virtio_net_config c = { .status = VIRTIO_NET_S_LINK_UP, .max_virtqueue_pairs = 1, .mtu = (uint16_t)n->mtu };

	if (config->mac)
		memcpy(c.mac, config->mac, sizeof c.mac);
	else if (getrandom(c.mac, sizeof c.mac, 0) != sizeof c.mac)
		return bh_error_set(err, errno, "getrandom");
	/* One of nobody's, for one receiver. */
	if (!config->mac)
		c.mac[0] = (uint8_t)((c.mac[0] & ~1) | 2);
	if (c.mac[0] & 1)
		return bh_error_text(err, EINVAL, "a network card's address can't be a group's");
	memcpy(n->device.config, &c, sizeof c);
	n->device.config_size = offsetof(struct virtio_net_config, mtu) + sizeof c.mtu;
	return 0;
}

/* All that this kernel's tap devices can; none for a socket. */
static uint64_t offloads_of(int fd)
{
	const unsigned most = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

	if (ioctl(fd, TUNSETOFFLOAD, most) < 0)
		return 0;
	if (ioctl(fd, TUNSETOFFLOAD, most | TUN_F_UFO) == 0)
		return GUEST_OFFLOADS | HOST_OFFLOADS;
	return (GUEST_OFFLOADS | HOST_OFFLOADS) & ~(BIT(VIRTIO_NET_F_GUEST_UFO) | BIT(VIRTIO_NET_F_HOST_UFO));
}

static int prepare(struct net *n, const struct bh_net_config *config, struct bh_error *err)
{
	int size = sizeof(struct virtio_net_hdr_v1), r;

	if (config->mtu && (config->mtu < MTU_MIN || config->mtu > MTU_MAX))
		return bh_error_text(err, EINVAL, "an MTU of %u: from %d to %d", config->mtu, MTU_MIN, MTU_MAX);
	r = bh_set_nonblock(n->fd, true);
	if (r < 0)
		return bh_error_set(err, -r, "the tap device");
	if (ioctl(n->fd, TUNSETVNETHDRSZ, &size) < 0 && errno != ENOTTY)
		return bh_error_set(err, errno, "set the size of the tap device's header");
	return fill_config(n, config, err);
}

int bh_net_make(struct bh_vm *vm, struct bh_loop *loop, const struct bh_net_config *config, struct bh_virtio_device **ret_device, struct bh_error *err)
{
	uint64_t features = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_MRG_RXBUF) | offloads_of(config->fd);
	struct net *n = bh_calloc(1, sizeof *n);
	int r;

	n->fd = config->fd;
	n->vhost.fd = -1;
	n->mtu = config->mtu ? config->mtu : MTU_DEFAULT;
	n->limits[RX] = config->receive;
	n->limits[TX] = config->transmit;
	for (unsigned i = 0; i < QUEUES; i++)
		bh_limits_init(&n->limits[i], bh_monotonic_ns());
	r = prepare(n, config, err);
	if (r == 0)
		r = bh_virtio_init(&n->device, &driver, vm, loop, QUEUES, config->mtu ? features | BIT(VIRTIO_NET_F_MTU) : features, err);
	if (r < 0) {
		bh_close_fd(&n->fd);
		if (config->vhost_fd >= 0)
			close(config->vhost_fd);
		free(n);
		return r;
	}
	r = bh_loop_add(loop, n->fd, 0, on_tap, n, err);
	if (config->vhost_fd >= 0) {
		int added = add_vhost(n, config->vhost_fd, err);
		r = r < 0 ? r : added;
	}
	if (r < 0) {
		free_net(&n->device);
		return r;
	}
	n->watched = true;
	*ret_device = &n->device;
	return 0;
}
