/* SPDX-License-Identifier: Apache-2.0 */
/* The socket device, between a guest that the tests play and Unix sockets. */
#include "virtio-test.h"

#include "base/memory.h"

#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

/* cmocka wants these first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define CID 7
#define HOST 2
#define GUEST_PORT 1000
#define HOST_PORT 80
#define WINDOW (64u << 10)
#define QUEUE_SIZE 16
#define RX_BUFFERS (BUFFERS + 0x100000)
#define RX_SPACING 0x2000u
#define RX_LENGTH 4096u
enum { RX, TX, EVENT };

static struct driver d;
static int broker = -1, listener = -1;
static struct sockaddr_un address;
static struct virtio_vsock_hdr got; /* the last packet */
static uint8_t got_bytes[RX_LENGTH];

static void offer_rx(uint16_t index, uint32_t length)
{
	put_descriptor(&d, RX, index, RX_BUFFERS + index * RX_SPACING, length, VRING_DESC_F_WRITE, 0);
	offer(&d, RX, index);
}

static void make_device(void)
{
	int pair[2], own;
	socklen_t length = sizeof(sa_family_t);
	struct bh_vsock_config config = { .cid = CID, .stream_fd = -1 };

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	broker = pair[1];
	config.broker_fd = pair[0];
	own = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	/* An address of the kernel's choice, in no folder. */
	assert_int_equal(bind(own, (struct sockaddr *)&address, length), 0);
	length = sizeof address;
	assert_int_equal(getsockname(own, (struct sockaddr *)&address, &length), 0);
	assert_int_equal(listen(own, 8), 0);
	config.listen_fd = own;
	listener = (int)length;
	assert_int_equal(bh_vsock_make(&d.vm, d.loop, &config, &d.device, NULL), 0);
}

static int begin(void **state)
{
	(void)state;
	assert_int_equal(driver_make(&d), 0);
	make_device();
	driver_start(&d, 0, QUEUE_SIZE);
	for (uint16_t i = 0; i < QUEUE_SIZE; i++)
		offer_rx(i, RX_LENGTH);
	notify_device(&d, RX);
	return 0;
}

static int end(void **state)
{
	(void)state;
	driver_clear(&d);
	bh_close_fd(&broker);
	return 0;
}

/* --- the guest ------------------------------------------------------------------------------------------------------ */

static struct virtio_vsock_hdr packet(uint16_t op, uint32_t guest_port, uint32_t host_port)
{
	return (struct virtio_vsock_hdr){
		.src_cid = CID, .dst_cid = HOST, .src_port = guest_port, .dst_port = host_port, .type = VIRTIO_VSOCK_TYPE_STREAM, .op = op, .buf_alloc = WINDOW
	};
}

/* `length`: of the data that the chain has. */
static void send_packet(const struct virtio_vsock_hdr *header, const void *bytes, uint32_t length)
{
	uint8_t *to = guest(&d, BUFFERS, sizeof *header + length);

	memcpy(to, header, sizeof *header);
	if (length)
		memcpy(to + sizeof *header, bytes, length);
	put_descriptor(&d, TX, 0, BUFFERS, (uint32_t)sizeof *header + length, 0, 0);
	offer(&d, TX, 0);
	notify_device(&d, TX);
	if (!is_broken(&d))
		assert_int_equal(take_used(&d, TX, NULL), 0);
}

static void send_op(uint16_t op, uint32_t flags)
{
	struct virtio_vsock_hdr header = packet(op, GUEST_PORT, HOST_PORT);

	header.flags = flags;
	send_packet(&header, NULL, 0);
}

static void send_data(uint32_t guest_port, const void *bytes, uint32_t length)
{
	struct virtio_vsock_hdr header = packet(VIRTIO_VSOCK_OP_RW, guest_port, HOST_PORT);

	header.len = length;
	send_packet(&header, bytes, length);
}

/* The next packet for the guest is in `got`; its operation, or 0: there is none. The buffer goes back, if it is wanted again. */
static int receive(bool again)
{
	uint32_t length;
	int index = take_used(&d, RX, &length);

	if (index < 0)
		return 0;
	memcpy(&got, guest(&d, RX_BUFFERS + (unsigned)index * RX_SPACING, sizeof got), sizeof got);
	assert_int_equal(length, sizeof got + got.len);
	memcpy(got_bytes, guest(&d, RX_BUFFERS + (unsigned)index * RX_SPACING + sizeof got, got.len), got.len);
	assert_int_equal(got.src_cid, HOST);
	assert_int_equal(got.dst_cid, CID);
	assert_int_equal(got.type, VIRTIO_VSOCK_TYPE_STREAM);
	if (again) {
		offer_rx((uint16_t)index, RX_LENGTH);
		notify_device(&d, RX);
	}
	return got.op;
}

/* --- the host --------------------------------------------------------------------------------------------------------- */

static void answer(uint32_t id, uint32_t errnum, int fd)
{
	struct {
		uint32_t id, errnum;
	} reply = { id, errnum };
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr header;
	} control = { .header = { CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec part = { &reply, sizeof reply };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
		message.msg_control = &control;
		message.msg_controllen = sizeof control;
	}
	assert_int_equal(sendmsg(broker, &message, 0), sizeof reply);
	bh_close_fd(&fd);
	turn(&d);
}

static uint32_t take_question(uint32_t port)
{
	uint32_t question[2];

	assert_int_equal(recv(broker, question, sizeof question, 0), sizeof question);
	assert_int_equal(question[0], port);
	return question[1];
}

/* The guest's connection from this port to HOST_PORT; the host's end of it. */
static int connect_guest(uint32_t guest_port, uint32_t window)
{
	struct virtio_vsock_hdr request = packet(VIRTIO_VSOCK_OP_REQUEST, guest_port, HOST_PORT);
	int pair[2];

	request.buf_alloc = window;
	send_packet(&request, NULL, 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	answer(take_question(HOST_PORT), 0, pair[0]);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RESPONSE);
	assert_int_equal(got.dst_port, guest_port);
	assert_int_equal(got.src_port, HOST_PORT);
	assert_int_equal(got.buf_alloc, WINDOW);
	return pair[1];
}

/* The host's side, which asks for a port of the guest. */
static int connect_host(const char *hello)
{
	int host = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(host, (struct sockaddr *)&address, (socklen_t)listener), 0);
	assert_int_equal(send(host, hello, strlen(hello), 0), strlen(hello));
	turn(&d);
	turn(&d);
	return host;
}

static void assert_ended(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);

	/* Reset, if the device hadn't read all. */
	assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
	close(fd);
}

static void assert_hears(int fd, const char *text)
{
	char bytes[64];
	ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);

	assert_int_equal(n, strlen(text));
	assert_memory_equal(bytes, text, strlen(text));
}

/* --- tests ------------------------------------------------------------------------------------------------------------ */

static void test_guest_connects(void **state)
{
	int host = connect_guest(GUEST_PORT, WINDOW);

	(void)state;
	send_data(GUEST_PORT, "hello", 5);
	assert_hears(host, "hello");
	assert_int_equal(send(host, "world!", 6, 0), 6);
	turn(&d);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(got.len, 6);
	assert_int_equal(got.fwd_cnt, 5);
	assert_memory_equal(got_bytes, "world!", 6);
	assert_int_equal(receive(true), 0);
	/* Both ends are closed in the guest. */
	send_op(VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND);
	assert_ended(host);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RST);
	assert_int_equal(receive(true), 0);
}

static void test_half_close(void **state)
{
	int host = connect_guest(GUEST_PORT, WINDOW);
	char byte;

	(void)state;
	assert_int_equal(send(host, "last", 4, 0), 4);
	assert_int_equal(shutdown(host, SHUT_WR), 0);
	turn(&d);
	turn(&d);
	/* The end comes behind the data. */
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(got.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	send_data(GUEST_PORT, "still", 5);
	assert_hears(host, "still");
	assert_int_equal(recv(host, &byte, 1, MSG_DONTWAIT), -1);
	send_op(VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND);
	assert_ended(host);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RST);
}

static void test_refused(void **state)
{
	(void)state;
	send_op(VIRTIO_VSOCK_OP_REQUEST, 0);
	assert_int_equal(receive(true), 0);
	answer(take_question(HOST_PORT), ECONNREFUSED, -1);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RST);
	/* An answer without a socket, and one that nobody waits for. */
	send_op(VIRTIO_VSOCK_OP_REQUEST, 0);
	answer(take_question(HOST_PORT), 0, -1);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RST);
	answer(12345, 0, dup(broker));
	assert_int_equal(receive(true), 0);
	/* The guest gives up before the answer. */
	send_op(VIRTIO_VSOCK_OP_REQUEST, 0);
	send_op(VIRTIO_VSOCK_OP_RST, 0);
	answer(take_question(HOST_PORT), 0, dup(broker));
	assert_int_equal(receive(true), 0);
	/* Nobody answers any more. */
	bh_close_fd(&broker);
	turn(&d);
	send_op(VIRTIO_VSOCK_OP_REQUEST, 0);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RST);
}

static void test_host_connects(void **state)
{
	struct virtio_vsock_hdr response;
	bh_auto_free char *ok = NULL;
	int host;

	(void)state;
	/* In two pieces, the second with the first bytes of the stream. */
	host = connect_host("CONN");
	assert_int_equal(send(host, "ECT 1234\nearly", 14, 0), 14);
	turn(&d);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(got.dst_port, 1234);
	response = packet(VIRTIO_VSOCK_OP_RESPONSE, 1234, got.src_port);
	ok = bh_printf("OK %u\n", got.src_port);
	send_packet(&response, NULL, 0);
	assert_hears(host, ok);
	turn(&d);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(got.len, 5);
	/* The word of ours is no byte of the guest's. */
	assert_int_equal(got.fwd_cnt, 0);
	response.op = VIRTIO_VSOCK_OP_RST;
	send_packet(&response, NULL, 0);
	assert_ended(host);
}

static void test_bad_hello(void **state)
{
	static const char *const words[] = { "GET / HTTP/1.1\r\n\r\n", "CONNECT \n", "CONNECT 4294967296\n", "CONNECT -1\n",
					     "CONNECT 00000000000000000000000000000000000000000000001\n" };

	(void)state;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		int host = connect_host(words[i]);
		char byte;

		assert_true(recv(host, &byte, 1, MSG_DONTWAIT) <= 0 && errno != EAGAIN);
		close(host);
	}
	assert_int_equal(receive(true), 0);
}

static void test_guest_credit(void **state)
{
	int host = connect_guest(GUEST_PORT, 100);
	struct virtio_vsock_hdr update = packet(VIRTIO_VSOCK_OP_CREDIT_UPDATE, GUEST_PORT, HOST_PORT);
	char bytes[250] = "";

	(void)state;
	assert_int_equal(send(host, bytes, sizeof bytes, 0), sizeof bytes);
	turn(&d);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(got.len, 100);
	turn(&d);
	assert_int_equal(receive(true), 0);
	update.buf_alloc = 100;
	update.fwd_cnt = 70;
	send_packet(&update, NULL, 0);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(got.len, 70);
	/* A count from nowhere, and a window that shrinks: no credit. */
	update.fwd_cnt = 5000;
	send_packet(&update, NULL, 0);
	update.fwd_cnt = 170;
	update.buf_alloc = 0;
	send_packet(&update, NULL, 0);
	assert_int_equal(receive(true), 0);
	update.buf_alloc = 100;
	send_packet(&update, NULL, 0);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(got.len, 80);
	close(host);
}

/* What the device has passed on, as it tells when it is asked. */
static uint32_t ask_forwarded(uint32_t guest_port)
{
	struct virtio_vsock_hdr header = packet(VIRTIO_VSOCK_OP_CREDIT_REQUEST, guest_port, HOST_PORT);

	send_packet(&header, NULL, 0);
	while (receive(true))
		assert_int_equal(got.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	return got.fwd_cnt;
}

/* Sends until nothing is forwarded any more and the window is full; bytes that the guest has sent, `sent` of them before. */
static uint32_t fill(uint32_t guest_port, uint32_t sent)
{
	static char bytes[16 << 10];
	uint32_t left;

	while ((left = WINDOW - (sent - ask_forwarded(guest_port)))) {
		uint32_t length = BH_MIN(left, (uint32_t)sizeof bytes);

		send_data(guest_port, bytes, length);
		sent += length;
		assert_true(sent < 64u << 20);
	}
	return sent;
}

static void test_host_is_slow(void **state)
{
	static char bytes[1 << 20];
	int slow = connect_guest(GUEST_PORT, WINDOW), other = connect_guest(GUEST_PORT + 1, WINDOW);
	uint32_t sent = fill(GUEST_PORT, 0), taken = 0;
	ssize_t n;

	(void)state;
	/* Nobody waits for it. */
	send_data(GUEST_PORT + 1, "quick", 5);
	assert_hears(other, "quick");
	/* What the guest was allowed to send comes out, all of it. */
	while ((n = recv(slow, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
		taken += (uint32_t)n;
		turn(&d);
	}
	assert_int_equal(taken, sent);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(got.fwd_cnt, sent);
	/* One byte more than it was allowed. */
	fill(GUEST_PORT, sent);
	send_data(GUEST_PORT, "x", 1);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RST);
	send_data(GUEST_PORT + 1, "alive", 5);
	assert_hears(other, "alive");
	close(slow);
	close(other);
}

static void test_guest_is_slow(void **state)
{
	int host = connect_guest(GUEST_PORT, WINDOW);
	unsigned packets = 0;

	(void)state;
	for (unsigned i = 0; i < QUEUE_SIZE + 8; i++) {
		assert_int_equal(send(host, "one", 3, 0), 3);
		turn(&d);
	}
	/* As many as there were buffers; the rest waits in its socket, and the end of the host with it. */
	close(host);
	turn(&d);
	while (receive(false))
		packets++;
	assert_int_equal(packets, QUEUE_SIZE);
	for (uint16_t i = 0; i < 4; i++)
		offer_rx(i, RX_LENGTH);
	notify_device(&d, RX);
	turn(&d);
	turn(&d);
	assert_int_equal(receive(false), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(got.len, 8 * 3);
	assert_int_equal(receive(false), VIRTIO_VSOCK_OP_SHUTDOWN);
}

static void test_wrong_packets(void **state)
{
	int host = connect_guest(GUEST_PORT, WINDOW);
	struct virtio_vsock_hdr header = packet(VIRTIO_VSOCK_OP_RW, GUEST_PORT, HOST_PORT);

	(void)state;
	/* A foreign address, another type, no such connection. */
	header.src_cid = CID + 1;
	send_packet(&header, NULL, 0);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RST);
	header = packet(VIRTIO_VSOCK_OP_REQUEST, GUEST_PORT + 1, HOST_PORT);
	header.type = 2;
	send_packet(&header, NULL, 0);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RST);
	send_data(GUEST_PORT + 1, "x", 1);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RST);
	/* A refusal is never refused. */
	header = packet(VIRTIO_VSOCK_OP_RST, GUEST_PORT + 1, HOST_PORT);
	send_packet(&header, NULL, 0);
	assert_int_equal(receive(true), 0);
	/* More data than the chain has. */
	header = packet(VIRTIO_VSOCK_OP_RW, GUEST_PORT, HOST_PORT);
	header.len = 100;
	send_packet(&header, "0123456789", 10);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RST);
	assert_ended(host);
	host = connect_guest(GUEST_PORT, WINDOW);
	send_op(77, 0);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RST);
	assert_ended(host);
	/* Half a header is nothing. */
	put_descriptor(&d, TX, 0, BUFFERS, 20, 0, 0);
	offer(&d, TX, 0);
	notify_device(&d, TX);
	assert_int_equal(take_used(&d, TX, NULL), 0);
	assert_false(is_broken(&d));
}

/* A device that serves nobody must not be woken by its sockets for ever. */
static void test_broken(void **state)
{
	int host = connect_guest(GUEST_PORT, WINDOW);

	(void)state;
	offer(&d, TX, QUEUE_SIZE);
	notify_device(&d, TX);
	assert_true(is_broken(&d));
	turn(&d);
	assert_ended(host);
}

static void test_small_buffers(void **state)
{
	int host;

	(void)state;
	driver_start(&d, 0, QUEUE_SIZE);
	offer_rx(0, RX_LENGTH);
	notify_device(&d, RX);
	host = connect_guest(GUEST_PORT, WINDOW);
	while (take_used(&d, RX, NULL) >= 0)
		;
	/* connect_guest gave its buffer back: that one first. */
	assert_int_equal(send(host, "x", 1, 0), 1);
	turn(&d);
	assert_int_equal(receive(false), VIRTIO_VSOCK_OP_RW);
	offer_rx(0, sizeof got);
	assert_int_equal(send(host, "x", 1, 0), 1);
	notify_device(&d, RX);
	assert_true(is_broken(&d));
	turn(&d);
	assert_ended(host);
}

static void test_many(void **state)
{
	struct virtio_vsock_hdr request = packet(VIRTIO_VSOCK_OP_REQUEST, 0, HOST_PORT);

	(void)state;
	for (request.src_port = 1; request.src_port <= 1024; request.src_port++) {
		send_packet(&request, NULL, 0);
		take_question(HOST_PORT);
	}
	assert_int_equal(receive(true), 0);
	send_packet(&request, NULL, 0);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RST);
	assert_int_equal(got.dst_port, 1025);
}

static void test_restore(void **state)
{
	int host = connect_guest(GUEST_PORT, WINDOW);
	bh_auto_buf struct bh_buf saved = { 0 };
	struct virtio_vsock_event event;
	struct bh_state_reader in;
	uint32_t length;

	(void)state;
	bh_virtio_save(d.device, &saved);
	bh_virtio_free(d.device);
	assert_ended(host);
	bh_close_fd(&broker);
	make_device();
	d.device->transport = &counting;
	d.device->transport_data = &d;
	in = bh_state_reader(saved.data, saved.length);
	assert_int_equal(bh_virtio_load(d.device, &in, NULL), 0);
	turn(&d);
	put_descriptor(&d, EVENT, 3, BUFFERS, sizeof event, VRING_DESC_F_WRITE, 0);
	offer(&d, EVENT, 3);
	notify_device(&d, EVENT);
	assert_int_equal(take_used(&d, EVENT, &length), 3);
	assert_int_equal(length, sizeof event);
	memcpy(&event, guest(&d, BUFFERS, sizeof event), sizeof event);
	assert_int_equal(event.id, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	/* Until the guest has heard it, the host's new connections wait. */
	host = connect_host("CONNECT 1234\n");
	notify_device(&d, EVENT);
	turn(&d);
	assert_int_equal(receive(true), 0);
	/* Once; and new connections work. */
	offer(&d, EVENT, 3);
	notify_device(&d, EVENT);
	turn(&d);
	turn(&d);
	assert_int_equal(take_used(&d, EVENT, NULL), -1);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_REQUEST);
	close(host);
	turn(&d);
	assert_int_equal(receive(true), VIRTIO_VSOCK_OP_RST);
	close(connect_guest(GUEST_PORT, WINDOW));
	/* Cut off anywhere, it is refused. */
	for (size_t i = 0; i < saved.length; i++) {
		in = bh_state_reader(saved.data, i);
		assert_int_not_equal(bh_virtio_load(d.device, &in, NULL), 0);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_guest_connects), TEST(test_half_close),   TEST(test_refused),       TEST(test_host_connects), TEST(test_bad_hello),
		TEST(test_guest_credit),   TEST(test_host_is_slow), TEST(test_guest_is_slow), TEST(test_wrong_packets), TEST(test_broken),
		TEST(test_small_buffers),  TEST(test_many),         TEST(test_restore),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
