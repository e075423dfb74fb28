/* SPDX-License-Identifier: Apache-2.0 */
/* The network device, with a packet socket in the place of a tap device, and rate limits. */
#include "virtio-test.h"

#include <linux/virtio_net.h>
#include <poll.h>
#include <sys/socket.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define HEADER 12u
#define MERGEABLE (1ULL << VIRTIO_NET_F_MRG_RXBUF)
enum { RX, TX };

struct net_test {
	struct driver d;
	int wire; /* the other end */
};

static struct net_test t;

static void start(const struct bh_net_config *limits, uint64_t features, uint16_t size)
{
	struct bh_net_config config = limits ? *limits : (struct bh_net_config){ 0 };
	const uint8_t mac[] = { 0x52, 0x54, 0, 1, 2, 3 };
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	t.wire = pair[1];
	assert_int_equal(driver_make(&t.d), 0);
	config.fd = pair[0];
	config.vhost_fd = -1;
	config.mac = mac;
	assert_int_equal(bh_net_make(&t.d.vm, t.d.loop, &config, &t.d.device, NULL), 0);
	driver_start(&t.d, features, size);
	assert_true(t.d.device->active);
}

static int end(void **state)
{
	(void)state;
	driver_clear(&t.d);
	close(t.wire);
	return 0;
}

static void offer_buffer(uint16_t index, uint32_t length)
{
	put_descriptor(&t.d, RX, index, BUFFERS + index * 0x2000u, length, VRING_DESC_F_WRITE, 0);
	offer(&t.d, RX, index);
}

static void send_from_wire(size_t length)
{
	uint8_t packet[4096] = { 0 };

	for (size_t i = HEADER; i < length; i++)
		packet[i] = (uint8_t)i;
	assert_int_equal(send(t.wire, packet, length, 0), length);
}

static void test_config(void **state)
{
	(void)state;
	start(NULL, 0, 16);
	assert_int_equal(bh_virtio_read_config(t.d.device, 0, 4), 0x01005452);
	assert_int_equal(bh_virtio_read_config(t.d.device, 4, 2), 0x0302);
	assert_int_equal(bh_virtio_read_config(t.d.device, 6, 2), VIRTIO_NET_S_LINK_UP);
	/* A socket can't do the work of a tap device. */
	assert_false(t.d.device->offered & 1ULL << VIRTIO_NET_F_CSUM);
}

static void test_transmit(void **state)
{
	uint8_t *bytes, packet[256];
	uint32_t length;

	(void)state;
	start(NULL, 0, 16);
	bytes = guest(&t.d, BUFFERS, 0x2000);
	memset(bytes, 0, HEADER);
	memset(bytes + HEADER, 'a', 60);
	memset(bytes + 0x1000, 'b', 40);
	put_descriptor(&t.d, TX, 0, BUFFERS, HEADER, VRING_DESC_F_NEXT, 1);
	put_descriptor(&t.d, TX, 1, BUFFERS + HEADER, 60, VRING_DESC_F_NEXT, 2);
	put_descriptor(&t.d, TX, 2, BUFFERS + 0x1000, 40, 0, 0);
	offer(&t.d, TX, 0);
	notify_device(&t.d, TX);
	assert_int_equal(take_used(&t.d, TX, &length), 0);
	assert_int_equal(length, 0);
	assert_int_equal(t.d.interrupts[TX], 1);
	assert_int_equal(recv(t.wire, packet, sizeof packet, 0), HEADER + 100);
	assert_int_equal(packet[HEADER + 59], 'a');
	assert_int_equal(packet[HEADER + 60], 'b');
	/* Shorter than its header: lost, and given back. */
	put_descriptor(&t.d, TX, 3, BUFFERS, HEADER - 1, 0, 0);
	offer(&t.d, TX, 3);
	notify_device(&t.d, TX);
	assert_int_equal(take_used(&t.d, TX, NULL), 3);
	assert_int_equal(recv(t.wire, packet, sizeof packet, 0), -1);
}

/* A socket that is full: nothing is lost, and it goes on by itself. */
static void test_transmit_blocked(void **state)
{
	static char packet[4096];
	unsigned sent = 0, came = 0;

	(void)state;
	start(NULL, 0, 16);
	put_descriptor(&t.d, TX, 0, BUFFERS, 4000, 0, 0);
	while (sent < 1000) {
		offer(&t.d, TX, 0);
		sent++;
		notify_device(&t.d, TX);
		if (take_used(&t.d, TX, NULL) < 0)
			break;
	}
	assert_in_range(sent, 2, 999);
	for (int idle = 0; idle < 3; idle++) {
		while (recv(t.wire, packet, sizeof packet, 0) > 0)
			came++;
		turn(&t.d);
	}
	assert_int_equal(came, sent);
	assert_int_equal(take_used(&t.d, TX, NULL), 0);
}

static void test_receive(void **state)
{
	uint32_t length;
	uint8_t *bytes;

	(void)state;
	start(NULL, 0, 16);
	/* Before there is a buffer it stays outside, and the tap device isn't asked for ever. */
	send_from_wire(HEADER + 100);
	turn(&t.d);
	turn(&t.d);
	assert_int_equal(take_used(&t.d, RX, NULL), -1);
	offer_buffer(0, 0x1000);
	notify_device(&t.d, RX);
	turn(&t.d);
	assert_int_equal(take_used(&t.d, RX, &length), 0);
	assert_int_equal(length, HEADER + 100);
	bytes = guest(&t.d, BUFFERS, 0x1000);
	assert_int_equal(bytes[10], 1); /* num_buffers */
	assert_int_equal(bytes[HEADER + 99], HEADER + 99);
	assert_int_equal(t.d.interrupts[RX], 1);
}

static void test_receive_merged(void **state)
{
	uint32_t length;
	uint8_t *bytes;

	(void)state;
	start(NULL, MERGEABLE, 16);
	for (uint16_t i = 0; i < 8; i++)
		offer_buffer(i, 600);
	notify_device(&t.d, RX);
	send_from_wire(1512);
	send_from_wire(100);
	turn(&t.d);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(take_used(&t.d, RX, &length), i);
		assert_int_equal(length, i < 2 ? 600 : 312);
	}
	bytes = guest(&t.d, BUFFERS, 0x6000);
	assert_int_equal(bytes[10], 3);
	assert_int_equal(bytes[0x2000], (uint8_t)600);
	assert_int_equal(bytes[0x4000 + 311], (uint8_t)1511);
	assert_int_equal(take_used(&t.d, RX, &length), 3);
	assert_int_equal(length, 100);
	assert_int_equal(take_used(&t.d, RX, &length), -1);
	assert_int_equal(t.d.interrupts[RX], 1);
	/* Nothing is in the device's hands: the next buffer is the fifth one. */
	assert_int_equal(t.d.device->queues[RX].next_available, 4);
}

/* Too little room is no room: the guest is asked to tell of the next buffer behind those that are there. */
static void test_famine(void **state)
{
	(void)state;
	start(NULL, MERGEABLE | BH_VIRTIO_F_EVENT_IDX, 16);
	offer_buffer(0, 600);
	offer_buffer(1, 600);
	notify_device(&t.d, RX);
	send_from_wire(1400);
	turn(&t.d);
	assert_int_equal(take_used(&t.d, RX, NULL), -1);
	assert_int_equal(asked_event(&t.d, RX), 2);
	assert_int_equal(t.d.device->queues[RX].next_available, 0);
	offer_buffer(2, 600);
	notify_device(&t.d, RX);
	turn(&t.d);
	assert_int_equal(take_used(&t.d, RX, NULL), 0);
	assert_int_equal(take_used(&t.d, RX, NULL), 1);
	assert_int_equal(take_used(&t.d, RX, NULL), 2);
}

static void test_hostile_buffers(void **state)
{
	(void)state;
	start(NULL, MERGEABLE, 16);
	offer_buffer(0, HEADER - 1);
	notify_device(&t.d, RX);
	send_from_wire(100);
	turn(&t.d);
	assert_true(is_broken(&t.d));
	turn(&t.d);
	driver_start(&t.d, 0, 16);
	offer_buffer(1, 4096);
	notify_device(&t.d, RX);
	turn(&t.d);
	assert_int_equal(take_used(&t.d, RX, NULL), 1);
}

/* The other end goes away: the guest is told that the link is down. */
static void test_link_down(void **state)
{
	(void)state;
	start(NULL, 1ULL << VIRTIO_NET_F_STATUS, 16);
	close(t.wire);
	turn(&t.d);
	assert_int_equal(bh_virtio_read_config(t.d.device, 6, 2), 0);
	assert_int_equal(t.d.interrupts[BH_VIRTIO_QUEUES_MAX], 1);
	t.wire = -1;
	put_descriptor(&t.d, TX, 0, BUFFERS, 100, 0, 0);
	offer(&t.d, TX, 0);
	notify_device(&t.d, TX);
	assert_int_equal(take_used(&t.d, TX, NULL), 0);
}

static void test_saved(void **state)
{
	bh_auto_buf struct bh_buf saved = { 0 };
	struct bh_state_reader in;

	(void)state;
	start(NULL, MERGEABLE, 16);
	for (uint16_t i = 0; i < 8; i++)
		offer_buffer(i, 600);
	send_from_wire(100);
	notify_device(&t.d, RX);
	turn(&t.d);
	bh_virtio_save(t.d.device, &saved);
	bh_virtio_set_status(t.d.device, 0);
	in = bh_state_reader(saved.data, saved.length);
	assert_int_equal(bh_virtio_load(t.d.device, &in, NULL), 0);
	assert_ptr_equal(in.at, in.end);
	turn(&t.d);
	send_from_wire(50);
	turn(&t.d);
	assert_int_equal(take_used(&t.d, RX, NULL), 0);
	assert_int_equal(take_used(&t.d, RX, NULL), 1);
}

static void test_limits(void **state)
{
	struct bh_limits limits = { .bytes = { .rate = 1000, .burst = 500 }, .operations = { .rate = 10 } };
	int64_t now = 5000000000;

	(void)state;
	assert_false(bh_limits_are_set(&(struct bh_limits){ 0 }));
	bh_limits_init(&limits, now);
	assert_int_equal(bh_limits_wait(&limits, now), 0);
	/* More than there is: a debt of 1500, and one byte more. */
	bh_limits_take(&limits, 2000);
	assert_int_equal(bh_limits_wait(&limits, now), now + 1501000000);
	assert_int_equal(bh_limits_wait(&limits, now + 1501000000), 0);
	/* A long rest fills the bucket, and no more. */
	now += 3600000000000;
	assert_int_equal(bh_limits_wait(&limits, now), 0);
	assert_int_equal(limits.bytes.level, 500);
	for (int i = 0; i < 10; i++)
		bh_limits_take(&limits, 1);
	assert_int_equal(bh_limits_wait(&limits, now), now + 100000000);
	limits = (struct bh_limits){ .bytes = { .rate = UINT64_MAX, .burst = UINT64_MAX } };
	bh_limits_init(&limits, now);
	bh_limits_take(&limits, UINT64_MAX);
	bh_limits_wait(&limits, INT64_MAX);
	assert_true(limits.bytes.level > 0);
}

static void test_limited(void **state)
{
	const struct bh_net_config config = { .transmit.operations = { .rate = 100, .burst = 2 }, .receive.operations = { .rate = 100, .burst = 2 } };
	char packet[256];

	(void)state;
	start(&config, 0, 16);
	for (uint16_t i = 0; i < 3; i++) {
		put_descriptor(&t.d, TX, i, BUFFERS, 100, 0, 0);
		offer(&t.d, TX, i);
		offer_buffer((uint16_t)(8 + i), 2000);
		send_from_wire(100);
	}
	notify_device(&t.d, TX);
	notify_device(&t.d, RX);
	turn(&t.d);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(take_used(&t.d, TX, NULL), i);
		assert_int_equal(take_used(&t.d, RX, NULL), 8 + i);
		assert_int_equal(recv(t.wire, packet, sizeof packet, 0), 100);
	}
	assert_int_equal(take_used(&t.d, TX, NULL), -1);
	assert_int_equal(take_used(&t.d, RX, NULL), -1);
	poll(NULL, 0, 30);
	turn(&t.d);
	turn(&t.d);
	assert_int_equal(take_used(&t.d, TX, NULL), 2);
	assert_int_equal(take_used(&t.d, RX, NULL), 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_config, end),
		cmocka_unit_test_teardown(test_transmit, end),
		cmocka_unit_test_teardown(test_transmit_blocked, end),
		cmocka_unit_test_teardown(test_receive, end),
		cmocka_unit_test_teardown(test_receive_merged, end),
		cmocka_unit_test_teardown(test_famine, end),
		cmocka_unit_test_teardown(test_hostile_buffers, end),
		cmocka_unit_test_teardown(test_link_down, end),
		cmocka_unit_test_teardown(test_saved, end),
		cmocka_unit_test(test_limits),
		cmocka_unit_test_teardown(test_limited, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
