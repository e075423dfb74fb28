/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket device: what a guest may send, and what the host's sockets do meanwhile. Each step is a byte that says what happens, and
 * what that needs: a packet of the guest's (its header's fields from few values, so that connections come about), new buffers, words
 * of the host's, an answer of the broker.
 */
#include "../unit/virtio-test.h"

#include <linux/virtio_vsock.h>
#include <stdlib.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CID 3
#define STEPS_MAX 400
#define QUEUE_SIZE 8
#define HOSTS 4
enum { RX, TX };

struct input {
	const uint8_t *at, *end;
};

static struct driver d;
static int broker, hosts[HOSTS];
static unsigned next_host;
static uint32_t last_id;

static uint8_t next(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static void guest_packet(struct input *in)
{
	uint8_t flags = next(in);
	struct virtio_vsock_hdr header = {
		.src_cid = flags & 1 ? next(in) : CID,
		.dst_cid = flags & 2 ? next(in) : 2,
		.src_port = next(in) % 4,
		.dst_port = flags & 4 ? 0x40000000u + next(in) % 4 : next(in) % 4,
		.len = next(in) * (flags & 8 ? 0x1010101u : 1u),
		.type = flags & 16 ? next(in) : VIRTIO_VSOCK_TYPE_STREAM,
		.op = next(in) % 9,
		.flags = next(in),
		.buf_alloc = flags & 32 ? next(in) : 65536,
		.fwd_cnt = flags & 64 ? next(in) * 0x1010101u : 0,
	};
	uint32_t length = flags & 128 ? next(in) : (uint32_t)sizeof header + header.len % 70000;

	memcpy(guest(&d, BUFFERS, sizeof header), &header, sizeof header);
	put_descriptor(&d, TX, 0, BUFFERS, length, 0, 0);
	offer(&d, TX, 0);
	notify_device(&d, TX);
	while (take_used(&d, TX, NULL) >= 0)
		;
}

static void new_buffers(struct input *in)
{
	uint32_t length = next(in) * 32u;

	while (take_used(&d, RX, NULL) >= 0)
		;
	put_descriptor(&d, RX, 1, BUFFERS + 0x20000, length, VRING_DESC_F_WRITE, 0);
	offer(&d, RX, 1);
	notify_device(&d, RX);
}

static void broker_answers(struct input *in)
{
	uint32_t question[2], reply[2] = { last_id, next(in) & 1 };
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr header;
	} control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec part = { reply, sizeof reply };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	int pair[2];

	if (recv(broker, question, sizeof question, MSG_DONTWAIT) == sizeof question)
		reply[0] = last_id = question[1];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
		abort();
	memcpy(CMSG_DATA(&control.header), &pair[0], sizeof pair[0]);
	(void)!sendmsg(broker, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	close(pair[0]);
	close(hosts[next_host]);
	hosts[next_host] = pair[1];
	next_host = (next_host + 1) % HOSTS;
	turn(&d);
}

static void host_acts(struct input *in)
{
	static char bytes[4096];
	uint8_t what = next(in);
	int fd = hosts[what % HOSTS];

	switch (what / HOSTS % 4) {
	case 0:
		(void)!send(fd, bytes, 1 + next(in) * 16u, MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case 1:
		(void)!recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
		break;
	case 2:
		shutdown(fd, next(in) % 3);
		break;
	default:
		close(fd);
		hosts[what % HOSTS] = -1;
		break;
	}
	turn(&d);
}

static void step(struct input *in)
{
	switch (next(in) % 5) {
	case 0:
		new_buffers(in);
		break;
	case 1:
		broker_answers(in);
		break;
	case 2:
		host_acts(in);
		break;
	default:
		guest_packet(in);
		break;
	}
	if (is_broken(&d))
		driver_start(&d, 0, QUEUE_SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bh_vsock_config config = { .cid = CID, .listen_fd = -1, .stream_fd = -1 };
	struct input in = { data, data + size };
	int pair[2];

	for (unsigned i = 0; i < HOSTS; i++)
		hosts[i] = -1;
	if (driver_make(&d) < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) < 0)
		abort();
	config.broker_fd = pair[0];
	broker = pair[1];
	if (bh_vsock_make(&d.vm, d.loop, &config, &d.device, NULL) < 0)
		abort();
	driver_start(&d, 0, QUEUE_SIZE);
	for (unsigned i = 0; i < STEPS_MAX && in.at < in.end; i++)
		step(&in);
	driver_clear(&d);
	close(broker);
	for (unsigned i = 0; i < HOSTS; i++)
		if (hosts[i] >= 0)
			close(hosts[i]);
	return 0;
}
