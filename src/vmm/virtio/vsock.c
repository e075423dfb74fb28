/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Socket device (specification 5.10): streams between programs in the guest and Unix sockets of the host.
 *
 *	the guest connects to port P of the host    the starter is asked over the broker socket and answers with a connected socket: this process can
 *	                                            reach no path itself
 *	the host connects to the guest              at the listening socket: "CONNECT P\n", and after "OK N\n" the stream
 *
 * A connection holds at most WINDOW bytes that its host side hasn't taken yet: that is the credit the guest has (5.10.6.3), and one that
 * sends more is cut off. In the other direction bytes stay in the host's socket until the guest has a buffer and credit for them, and are
 * read straight into it. Connections take turns, so none waits for another's slow end.
 *
 * Packets without data wait as marks on their connection, never as memory; refusals of what is no connection wait in a short
 * ring, and a guest that doesn't take them loses some.
 */
#include "vmm/virtio/virtio.h"

#include "base/memory.h"
#include "base/time.h"

#include <errno.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PCI_CLASS_COMMUNICATION 0x078000
#define CONNECTIONS_MAX 1024
#define HOST_CID 2
#define WINDOW (64u << 10)
#define PACKET_MAX (64u << 10) /* of data to the guest */
#define REFUSALS_MAX 64
#define HOST_PORT_FIRST 0x40000000u
#define ACCEPT_AGAIN_NS 100000000
#define HOLD_NS 5000000000 /* for a driver that gives no new buffer for events */
#define HELLO_MAX 32       /* bytes of "CONNECT <port>\n" */
#define SHUTDOWN_BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

enum { RX, TX, EVENT, QUEUES };

enum state {
	GREETING,   /* the host's side hasn't said which port yet */
	CONNECTING, /* the guest is asked */
	ASKING,     /* the broker is asked */
	OPEN,
};

/* What is to be told to the guest. */
enum { OWE_REQUEST = 1, OWE_RESPONSE = 2, OWE_CREDIT = 4, OWE_SHUTDOWN = 8 };

struct connection {
	struct vsock *device;
	int fd;      /* -1 while the broker is asked */
	uint32_t id; /* for the broker */
	enum state state;
	uint32_t guest_port, host_port;
	unsigned owe;
	/* from the guest to the host */
	struct bh_buf pending; /* not yet taken by the host's socket; at most WINDOW */
	uint32_t forwarded, told_forwarded;
	bool guest_ended; /* it sends no more */
	/* from the host to the guest */
	uint32_t guest_window, guest_forwarded, sent;
	bool host_ended, guest_deaf;
	uint32_t watched; /* events that the loop waits for */
	bool unwatched;   /* taken out of the loop, which would tell of its hang-up for ever while nothing can be read */
	char hello[HELLO_MAX];
	size_t hello_length;
};

struct vsock {
	struct bh_virtio_device device;
	uint64_t cid;
	int listen_fd, broker_fd, stream_fd;
	uint32_t stream_port;
	struct connection *connections[CONNECTIONS_MAX];
	size_t count, turn;
	uint32_t next_id, next_port;
	struct virtio_vsock_hdr refusals[REFUSALS_MAX];
	size_t refusal_count;
	bool starved;         /* the guest has no buffer for us */
	bool tell_reset;      /* the machine was restored: connections of before are gone */
	bool holds;           /* new ones of the host until the guest has heard of that, which would take it for theirs */
	uint16_t reset_index; /* of the event queue, when it was told */
};

static void on_socket(void *context, uint32_t events);
static void serve_guest(struct vsock *v);

/* --- connections -------------------------------------------------------------------------------------------------------- */

static struct connection *find(const struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	for (size_t i = 0; i < v->count; i++)
		if (v->connections[i]->state != GREETING && v->connections[i]->guest_port == guest_port && v->connections[i]->host_port == host_port)
			return v->connections[i];
	return NULL;
}

static struct connection *new_connection(struct vsock *v, int fd, enum state state)
{
	struct connection *c;

	if (v->count == CONNECTIONS_MAX)
		return NULL;
	c = bh_calloc(1, sizeof *c);
	*c = (struct connection){ .device = v, .fd = fd, .id = v->next_id++, .state = state };
	v->connections[v->count++] = c;
	return c;
}

static void drop(struct connection *c)
{
	struct vsock *v = c->device;
	size_t i = 0;

	while (v->connections[i] != c)
		i++;
	v->connections[i] = v->connections[--v->count];
	bh_loop_remove(v->device.loop, c->fd);
	bh_close_fd(&c->fd);
	bh_buf_clear(&c->pending);
	free(c);
}

static void drop_all(struct vsock *v)
{
	while (v->count)
		drop(v->connections[v->count - 1]);
}

static uint32_t credit(const struct connection *c)
{
	uint32_t used = c->sent - c->guest_forwarded;

	return used >= c->guest_window ? 0 : c->guest_window - used;
}

static bool can_read(const struct connection *c)
{
	return c->state == OPEN && !c->host_ended && !c->guest_deaf && !c->device->starved && credit(c);
}

static void watch(struct connection *c)
{
	uint32_t events = (c->state == GREETING || can_read(c) ? EPOLLIN : 0u) | (c->pending.length ? EPOLLOUT : 0u);

	if (events == c->watched && !c->unwatched)
		return;
	if (!c->unwatched)
		bh_loop_set_events(c->device->device.loop, c->fd, events);
	else if (events && bh_loop_add(c->device->device.loop, c->fd, events, on_socket, c, NULL) == 0)
		c->unwatched = false;
	c->watched = events;
}

static bool open_fd(struct connection *c, int fd)
{
	c->fd = fd;
	return bh_loop_add(c->device->device.loop, fd, 0, on_socket, c, NULL) == 0;
}

/* --- packets to the guest ------------------------------------------------------------------------------------------------- */

static struct virtio_vsock_hdr header_of(const struct connection *c, uint16_t op)
{
	return (struct virtio_vsock_hdr){
		.src_cid = HOST_CID,
		.dst_cid = c->device->cid,
		.src_port = c->host_port,
		.dst_port = c->guest_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.buf_alloc = WINDOW,
		.fwd_cnt = c->forwarded,
	};
}

/* What is no connection, or none any more. */
static void refuse(struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	if (v->refusal_count == REFUSALS_MAX)
		return;
	v->refusals[v->refusal_count++] = (struct virtio_vsock_hdr){
		.src_cid = HOST_CID,
		.dst_cid = v->cid,
		.src_port = host_port,
		.dst_port = guest_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = VIRTIO_VSOCK_OP_RST,
	};
}

static void reset_connection(struct connection *c)
{
	if (c->state != GREETING)
		refuse(c->device, c->guest_port, c->host_port);
	drop(c);
}

static bool pop(struct vsock *v, struct bh_chain *chain)
{
	struct bh_virtqueue *queue = &v->device.queues[RX];
	int r = bh_virtqueue_pop(queue, chain);

	/* The guest is to tell of new buffers; some may have come while we asked for that. */
	if (r == 0 && bh_virtqueue_listen(queue))
		r = bh_virtqueue_pop(queue, chain);
	/* Data that never fits would be offered by its socket again and again. */
	if (r > 0 && chain->writable_bytes <= sizeof(struct virtio_vsock_hdr)) {
		bh_virtio_fail(&v->device);
		r = -1;
	}
	v->starved = r <= 0;
	return r > 0;
}

static void push(struct vsock *v, const struct bh_chain *chain, const struct virtio_vsock_hdr *header)
{
	bh_chain_write(chain, 0, header, sizeof *header);
	bh_virtqueue_push(&v->device.queues[RX], chain, sizeof *header + header->len);
}

static bool send_refusals(struct vsock *v)
{
	struct bh_chain chain;

	while (v->refusal_count) {
		if (!pop(v, &chain))
			return false;
		push(v, &chain, &v->refusals[0]);
		memmove(v->refusals, v->refusals + 1, --v->refusal_count * sizeof v->refusals[0]);
	}
	return true;
}

static uint16_t take_owed(struct connection *c, uint32_t *ret_flags)
{
	static const struct {
		unsigned bit;
		uint16_t op;
	} order[] = {
		{ OWE_REQUEST, VIRTIO_VSOCK_OP_REQUEST },
		{ OWE_RESPONSE, VIRTIO_VSOCK_OP_RESPONSE },
		{ OWE_CREDIT, VIRTIO_VSOCK_OP_CREDIT_UPDATE },
		{ OWE_SHUTDOWN, VIRTIO_VSOCK_OP_SHUTDOWN },
	};
	size_t i = 0;

	while (!(c->owe & order[i].bit))
		i++;
	c->owe &= ~order[i].bit;
	*ret_flags = order[i].bit == OWE_SHUTDOWN ? VIRTIO_VSOCK_SHUTDOWN_SEND : 0;
	return order[i].op;
}

static bool send_owed(struct connection *c)
{
	struct vsock *v = c->device;
	struct bh_chain chain;

	while (c->owe) {
		struct virtio_vsock_hdr header;
		uint32_t flags;

		if (!pop(v, &chain))
			return false;
		header = header_of(c, take_owed(c, &flags));
		header.flags = flags;
		c->told_forwarded = c->forwarded;
		push(v, &chain, &header);
	}
	return true;
}

/* One buffer's worth of what the host has sent. False if the guest has no buffer. */
static bool send_data(struct connection *c)
{
	struct vsock *v = c->device;
	struct virtio_vsock_hdr header = header_of(c, VIRTIO_VSOCK_OP_RW);
	struct iovec iov[BH_VIRTIO_QUEUE_SIZE];
	struct msghdr message = { .msg_iov = iov };
	struct bh_chain chain;
	ssize_t n;

	if (!pop(v, &chain))
		return false;
	message.msg_iovlen = bh_iov_slice(bh_chain_writable(&chain), chain.writable, sizeof header, BH_MIN(credit(c), PACKET_MAX), iov);
	n = message.msg_iovlen ? recvmsg(c->fd, &message, MSG_DONTWAIT) : -1;
	if (n <= 0) {
		bh_virtqueue_undo_pop(&v->device.queues[RX]);
		/* Its end comes behind all it has said. */
		if (n == 0 || (message.msg_iovlen && errno != EAGAIN && errno != EINTR)) {
			c->host_ended = true;
			c->owe |= OWE_SHUTDOWN;
			return send_owed(c);
		}
		return true;
	}
	header.len = (uint32_t)n;
	c->sent += (uint32_t)n;
	c->told_forwarded = c->forwarded;
	push(v, &chain, &header);
	return true;
}

/* --- bytes to the host ---------------------------------------------------------------------------------------------------- */

/* False: the connection is gone. */
static bool flush(struct connection *c)
{
	while (c->pending.length) {
		ssize_t n = send(c->fd, c->pending.data, c->pending.length, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			reset_connection(c);
			return false;
		}
		memmove(c->pending.data, c->pending.data + n, c->pending.length - (size_t)n);
		c->pending.length -= (size_t)n;
		c->forwarded += (uint32_t)n;
	}
	/* Before it has run out of credit. */
	if (c->state == OPEN && c->forwarded - c->told_forwarded >= WINDOW / 2)
		c->owe |= OWE_CREDIT;
	if (c->guest_ended && !c->pending.length) {
		shutdown(c->fd, SHUT_WR);
		if (c->host_ended || c->guest_deaf) {
			reset_connection(c);
			return false;
		}
	}
	return true;
}

/* --- packets from the guest ----------------------------------------------------------------------------------------------- */

/* The host's side is there: the guest is told. */
static void connect_to(struct connection *c, int fd)
{
	if (!open_fd(c, fd)) {
		reset_connection(c);
		return;
	}
	c->state = OPEN;
	c->owe |= OWE_RESPONSE;
}

struct question {
	uint32_t port, id;
};
struct reply {
	uint32_t id, errnum;
};

static void take_request(struct vsock *v, const struct virtio_vsock_hdr *h)
{
	bool given = v->stream_fd >= 0 && h->dst_port == v->stream_port;
	struct connection *c = given || v->broker_fd >= 0 ? new_connection(v, -1, ASKING) : NULL;
	struct question question;

	if (!c) {
		refuse(v, h->src_port, h->dst_port);
		return;
	}
	c->guest_port = h->src_port;
	c->host_port = h->dst_port;
	c->guest_window = h->buf_alloc;
	c->guest_forwarded = h->fwd_cnt;
	if (given) {
		connect_to(c, BH_TAKE_FD(v->stream_fd));
		return;
	}
	question = (struct question){ c->host_port, c->id };
	if (send(v->broker_fd, &question, sizeof question, MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof question)
		reset_connection(c);
}

static void take_response(struct connection *c)
{
	bh_auto_free char *ok = bh_printf("OK %u\n", c->host_port);

	if (c->state != CONNECTING) {
		reset_connection(c);
		return;
	}
	c->state = OPEN;
	bh_buf_adds(&c->pending, ok);
	/* These are no bytes of the guest's. */
	c->forwarded -= (uint32_t)strlen(ok);
	c->told_forwarded = c->forwarded;
	flush(c);
}

static void take_data(struct connection *c, const struct bh_chain *chain, uint32_t length)
{
	if (c->state != OPEN || c->guest_ended || length > WINDOW - BH_MIN(c->pending.length, (size_t)WINDOW) ||
	    length > chain->readable_bytes - sizeof(struct virtio_vsock_hdr)) {
		reset_connection(c);
		return;
	}
	bh_buf_reserve(&c->pending, length);
	bh_chain_read(chain, sizeof(struct virtio_vsock_hdr), c->pending.data + c->pending.length, length);
	c->pending.length += length;
	flush(c);
}

static void take_shutdown(struct connection *c, uint32_t flags)
{
	if (flags & VIRTIO_VSOCK_SHUTDOWN_RCV)
		c->guest_deaf = true;
	if (flags & VIRTIO_VSOCK_SHUTDOWN_SEND)
		c->guest_ended = true;
	if (c->state == OPEN)
		flush(c);
	else
		reset_connection(c);
}

static void take_packet(struct vsock *v, const struct bh_chain *chain)
{
	struct virtio_vsock_hdr h;
	struct connection *c;

	if (bh_chain_read(chain, 0, &h, sizeof h) < sizeof h)
		return;
	c = find(v, h.src_port, h.dst_port);
	if (h.src_cid != v->cid || h.dst_cid != HOST_CID || h.type != VIRTIO_VSOCK_TYPE_STREAM || (!c && h.op != VIRTIO_VSOCK_OP_REQUEST)) {
		if (h.op != VIRTIO_VSOCK_OP_RST)
			refuse(v, h.src_port, h.dst_port);
		return;
	}
	if (c) {
		c->guest_window = h.buf_alloc;
		c->guest_forwarded = h.fwd_cnt;
	}
	switch (h.op) {
	case VIRTIO_VSOCK_OP_REQUEST:
		if (c)
			reset_connection(c);
		else
			take_request(v, &h);
		break;
	case VIRTIO_VSOCK_OP_RESPONSE:
		take_response(c);
		break;
	case VIRTIO_VSOCK_OP_RST:
		drop(c);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		take_shutdown(c, h.flags);
		break;
	case VIRTIO_VSOCK_OP_RW:
		take_data(c, chain, h.len);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		c->owe |= OWE_CREDIT;
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	default:
		reset_connection(c);
		break;
	}
}

/* --- the loop ------------------------------------------------------------------------------------------------------------- */

/* Everything that can go to the guest, in turns. */
static void serve_guest(struct vsock *v)
{
	size_t rounds = v->count;

	if (send_refusals(v)) {
		for (size_t i = 0; i < rounds && !v->starved && v->count; i++) {
			struct connection *c = v->connections[v->turn++ % v->count];

			if (send_owed(c) && can_read(c))
				send_data(c);
		}
	}
	send_refusals(v);
	bh_virtqueue_interrupt(&v->device.queues[RX]);
	/* A broken device: nobody will take what the sockets have, and they would wake us for ever. */
	if (!v->device.active)
		drop_all(v);
	for (size_t i = 0; i < v->count; i++)
		watch(v->connections[i]);
}

/* "CONNECT <port>\n", byte by byte: what follows belongs to the stream. */
static void read_hello(struct connection *c)
{
	struct vsock *v = c->device;
	int64_t port;

	while (c->hello_length < sizeof c->hello - 1) {
		ssize_t n = recv(c->fd, c->hello + c->hello_length, 1, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0)
			break;
		if (c->hello[c->hello_length++] != '\n')
			continue;
		c->hello[c->hello_length - 1] = '\0';
		if (!bh_has_prefix(c->hello, "CONNECT ") || bh_parse_int(c->hello + strlen("CONNECT "), 0, UINT32_MAX, &port) < 0)
			break;
		c->guest_port = (uint32_t)port;
		c->host_port = v->next_port++;
		c->state = CONNECTING;
		c->owe |= OWE_REQUEST;
		return;
	}
	drop(c);
}

/* Both directions are closed over there; what it has sent before may still wait for the guest. */
static void take_hang_up(struct connection *c)
{
	if (c->host_ended || c->state != OPEN) {
		reset_connection(c);
	} else if (!can_read(c)) {
		bh_loop_remove(c->device->device.loop, c->fd);
		c->unwatched = true;
	}
}

static void on_socket(void *context, uint32_t events)
{
	struct connection *c = context;
	struct vsock *v = c->device;

	pthread_mutex_lock(&v->device.lock);
	if (c->state == GREETING)
		read_hello(c);
	else if (events & EPOLLOUT)
		flush(c);
	else if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN))
		take_hang_up(c);
	serve_guest(v);
	pthread_mutex_unlock(&v->device.lock);
}

static void listen_again(void *context, uint32_t events)
{
	struct vsock *v = context;

	(void)events;
	v->holds = false;
	bh_loop_set_events(v->device.loop, v->listen_fd, EPOLLIN);
}

static void hold(struct vsock *v)
{
	v->holds = true;
	bh_loop_set_events(v->device.loop, v->listen_fd, 0);
	bh_loop_set_timer(v->device.loop, bh_monotonic_ns() + HOLD_NS, listen_again, v);
}

static void release(struct vsock *v)
{
	if (!v->holds)
		return;
	bh_loop_set_timer(v->device.loop, 0, listen_again, v);
	listen_again(v, 0);
}

static void on_listen(void *context, uint32_t events)
{
	struct vsock *v = context;
	int fd = accept4(v->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct connection *c;

	(void)events;
	/* Without a free descriptor the one who waits would wake us for ever. */
	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
		bh_loop_set_events(v->device.loop, v->listen_fd, 0);
		bh_loop_set_timer(v->device.loop, bh_monotonic_ns() + ACCEPT_AGAIN_NS, listen_again, v);
		return;
	}
	pthread_mutex_lock(&v->device.lock);
	/* Before the guest's driver is there nobody could be asked. */
	c = fd >= 0 && v->device.active ? new_connection(v, fd, GREETING) : NULL;
	if (!c)
		bh_close_fd(&fd);
	else if (!open_fd(c, fd))
		drop(c);
	else
		watch(c);
	pthread_mutex_unlock(&v->device.lock);
}

static int take_file(struct msghdr *message)
{
	int fd = -1;

	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part))
		if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS && part->cmsg_len == CMSG_LEN(sizeof fd))
			memcpy(&fd, CMSG_DATA(part), sizeof fd);
	return fd;
}

static void take_reply(struct vsock *v, const struct reply *reply, int fd)
{
	size_t i = 0;

	while (i < v->count && (v->connections[i]->state != ASKING || v->connections[i]->id != reply->id))
		i++;
	if (i == v->count || reply->errnum || fd < 0) {
		bh_close_fd(&fd);
		if (i < v->count)
			reset_connection(v->connections[i]);
		return;
	}
	connect_to(v->connections[i], fd);
}

static void on_broker(void *context, uint32_t events)
{
	struct vsock *v = context;
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct reply reply;
	struct iovec part = { &reply, sizeof reply };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_LEN(sizeof(int)) };
	ssize_t n = recvmsg(v->broker_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	(void)events;
	pthread_mutex_lock(&v->device.lock);
	if (n == sizeof reply) {
		take_reply(v, &reply, take_file(&message));
		serve_guest(v);
	} else if (n >= 0 || (errno != EAGAIN && errno != EINTR)) {
		/* Nobody is there any more. */
		bh_loop_remove(v->device.loop, v->broker_fd);
		bh_close_fd(&v->broker_fd);
	}
	pthread_mutex_unlock(&v->device.lock);
}

static void send_event(struct vsock *v)
{
	const struct virtio_vsock_event event = { .id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET };
	struct bh_virtqueue *queue = &v->device.queues[EVENT];
	struct bh_chain chain;

	if (!v->tell_reset || bh_virtqueue_pop(queue, &chain) <= 0)
		return;
	v->tell_reset = false;
	v->reset_index = bh_virtqueue_listen_behind(queue);
	hold(v);
	bh_chain_write(&chain, 0, &event, sizeof event);
	bh_virtqueue_push(queue, &chain, sizeof event);
	bh_virtqueue_interrupt(queue);
}

static void notify(struct bh_virtio_device *device, unsigned index)
{
	struct vsock *v = (struct vsock *)device;
	struct bh_virtqueue *queue = &device->queues[index];
	struct bh_chain chain;

	send_event(v);
	if (index == RX)
		v->starved = false;
	do {
		bh_virtqueue_quiet(queue);
		while (index == TX && bh_virtqueue_pop(queue, &chain) > 0) {
			take_packet(v, &chain);
			bh_virtqueue_push(queue, &chain, 0);
		}
		if (index == TX)
			bh_virtqueue_interrupt(queue);
		serve_guest(v);
		/* Buffers for us stay in their queue: only new ones are news. */
	} while (bh_virtqueue_listen(queue) && index == TX);
	/* The driver gives the event's buffer back when it has ended the connections of before (5.10.6.7). */
	if (v->holds && bh_virtqueue_listen_behind(&device->queues[EVENT]) != v->reset_index && !v->tell_reset)
		release(v);
}

static void reset(struct bh_virtio_device *device)
{
	struct vsock *v = (struct vsock *)device;

	drop_all(v);
	v->refusal_count = 0;
	v->tell_reset = false;
	v->starved = true;
	release(v);
}

/* Connections aren't part of a machine's state: those of before end (5.10.6.7). */
static int load(struct bh_virtio_device *device, struct bh_state_reader *in, struct bh_error *err)
{
	struct vsock *v = (struct vsock *)device;

	(void)in, (void)err;
	v->tell_reset = true;
	if (device->status & BH_VIRTIO_DRIVER_OK)
		hold(v);
	return 0;
}

static void free_vsock(struct bh_virtio_device *device)
{
	struct vsock *v = (struct vsock *)device;

	reset(device);
	bh_loop_set_timer(device->loop, 0, listen_again, v);
	bh_loop_remove(device->loop, v->listen_fd);
	bh_loop_remove(device->loop, v->broker_fd);
	bh_close_fd(&v->listen_fd);
	bh_close_fd(&v->broker_fd);
	bh_close_fd(&v->stream_fd);
	bh_virtio_clear(device);
	free(v);
}

static const struct bh_virtio_driver driver = {
	.name = "vsock",
	.id = 19,
	.pci_class = PCI_CLASS_COMMUNICATION,
	.reset = reset,
	.notify = notify,
	.load = load,
	.free = free_vsock,
};

int bh_vsock_make(struct bh_vm *vm, struct bh_loop *loop, const struct bh_vsock_config *config, struct bh_virtio_device **ret_device,
		  struct bh_error *err)
{
	struct vsock *v = bh_calloc(1, sizeof *v);
	int r;

	v->cid = config->cid;
	v->listen_fd = config->listen_fd;
	v->broker_fd = config->broker_fd;
	v->stream_fd = config->stream_fd;
	v->stream_port = config->stream_port;
	v->next_port = HOST_PORT_FIRST;
	v->starved = true;
	if (v->cid < BH_VSOCK_CID_MIN || v->cid >= UINT32_MAX)
		r = bh_error_text(err, EINVAL, "vsock: the address %llu: from %d on", (unsigned long long)v->cid, BH_VSOCK_CID_MIN);
	else
		r = bh_virtio_init(&v->device, &driver, vm, loop, QUEUES, 0, err);
	if (r < 0) {
		bh_close_fd(&v->listen_fd);
		bh_close_fd(&v->broker_fd);
		bh_close_fd(&v->stream_fd);
		free(v);
		return r;
	}
	memcpy(v->device.config, &v->cid, sizeof v->cid);
	v->device.config_size = sizeof v->cid;
	if (v->listen_fd >= 0)
		r = bh_loop_add(loop, v->listen_fd, EPOLLIN, on_listen, v, err);
	if (r == 0 && v->broker_fd >= 0)
		r = bh_loop_add(loop, v->broker_fd, EPOLLIN, on_broker, v, err);
	if (r < 0)
		free_vsock(&v->device);
	else
		*ret_device = &v->device;
	return r;
}
