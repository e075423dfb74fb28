/* SPDX-License-Identifier: Apache-2.0 */
/* Entropy, console and balloon devices. */
#include "virtio-test.h"

#include "base/memory.h"

#include <fcntl.h>
#include <linux/virtio_balloon.h>
#include <signal.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { RX, TX };

static struct driver d;
static int to_guest, from_guest;

static int end(void **state)
{
	(void)state;
	driver_clear(&d);
	return 0;
}

static int end_console(void **state)
{
	bh_close_fd(&to_guest);
	bh_close_fd(&from_guest);
	return end(state);
}

static void test_rng(void **state)
{
	uint32_t length;
	uint8_t *bytes, sum = 0;

	(void)state;
	assert_int_equal(driver_make(&d), 0);
	assert_int_equal(bh_rng_make(&d.vm, d.loop, &d.device, NULL), 0);
	driver_start(&d, 0, 8);
	put_descriptor(&d, 0, 0, BUFFERS, 100, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
	put_descriptor(&d, 0, 1, BUFFERS + 0x1000, 100, VRING_DESC_F_WRITE, 0);
	offer(&d, 0, 0);
	notify_device(&d, 0);
	assert_int_equal(take_used(&d, 0, &length), 0);
	assert_int_equal(length, 200);
	bytes = guest(&d, BUFFERS, 0x2000);
	for (int i = 0; i < 100; i++)
		sum |= bytes[i], sum |= bytes[0x1000 + i];
	assert_int_not_equal(sum, 0);
	assert_int_equal(bytes[100], 0);
	assert_int_equal(d.interrupts[0], 1);
	/* A part of what was asked for is an answer too. */
	put_descriptor(&d, 0, 2, BUFFERS, 1 << 20, VRING_DESC_F_WRITE, 0);
	offer(&d, 0, 2);
	notify_device(&d, 0);
	assert_int_equal(take_used(&d, 0, &length), 2);
	assert_int_equal(length, 64 << 10);
	/* Nothing to write into. */
	put_descriptor(&d, 0, 3, BUFFERS, 16, 0, 0);
	offer(&d, 0, 3);
	notify_device(&d, 0);
	assert_int_equal(take_used(&d, 0, &length), 3);
	assert_int_equal(length, 0);
}

static void start_console(void)
{
	struct bh_console_config config;
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	config = (struct bh_console_config){ in[0], out[1] };
	to_guest = in[1];
	from_guest = out[0];
	assert_int_equal(driver_make(&d), 0);
	assert_int_equal(bh_console_make(&d.vm, d.loop, &config, &d.device, NULL), 0);
	driver_start(&d, 0, 8);
}

static void test_input(void **state)
{
	uint32_t length;

	(void)state;
	start_console();
	assert_int_equal(write(to_guest, "words", 5), 5);
	turn(&d);
	turn(&d);
	assert_int_equal(take_used(&d, RX, NULL), -1);
	put_descriptor(&d, RX, 0, BUFFERS, 3, VRING_DESC_F_WRITE, 0);
	put_descriptor(&d, RX, 1, BUFFERS + 3, 100, VRING_DESC_F_WRITE, 0);
	offer(&d, RX, 0);
	notify_device(&d, RX);
	turn(&d);
	assert_int_equal(take_used(&d, RX, &length), 0);
	assert_int_equal(length, 3);
	/* The end comes while there is no room; the rest isn't lost. */
	bh_close_fd(&to_guest);
	turn(&d);
	turn(&d);
	offer(&d, RX, 1);
	notify_device(&d, RX);
	turn(&d);
	assert_int_equal(take_used(&d, RX, &length), 1);
	assert_int_equal(length, 2);
	assert_memory_equal(guest(&d, BUFFERS, 5), "words", 5);
}

static void test_output(void **state)
{
	static char text[100000];
	bh_auto_buf struct bh_buf saved = { 0 };
	struct bh_state_reader in;
	size_t came = 0;

	(void)state;
	start_console();
	assert_true(fcntl(from_guest, F_SETPIPE_SZ, 65536) >= 65536);
	memset(guest(&d, BUFFERS, 100000), 'x', 100000);
	put_descriptor(&d, TX, 0, BUFFERS, 100000, 0, 0);
	offer(&d, TX, 0);
	notify_device(&d, TX);
	/* The pipe is full: the buffer stays the device's, through a snapshot too. */
	assert_int_equal(take_used(&d, TX, NULL), -1);
	bh_virtio_save(d.device, &saved);
	bh_virtio_set_status(d.device, 0);
	in = bh_state_reader(saved.data, saved.length);
	assert_int_equal(bh_virtio_load(d.device, &in, NULL), 0);
	assert_ptr_equal(in.at, in.end);
	while (came < sizeof text) {
		ssize_t n = read(from_guest, text, sizeof text);

		assert_true(n > 0);
		came += (size_t)n;
		turn(&d);
		turn(&d);
	}
	assert_int_equal(came, sizeof text);
	assert_int_equal(take_used(&d, TX, NULL), 0);
	/* Nobody reads: the guest goes on. */
	bh_close_fd(&from_guest);
	turn(&d);
	offer(&d, TX, 0);
	notify_device(&d, TX);
	assert_int_equal(take_used(&d, TX, NULL), 0);
}

static void test_no_room(void **state)
{
	(void)state;
	start_console();
	put_descriptor(&d, RX, 0, BUFFERS, 3, 0, 0);
	offer(&d, RX, 0);
	notify_device(&d, RX);
	assert_int_equal(write(to_guest, "words", 5), 5);
	turn(&d);
	assert_true(is_broken(&d));
	turn(&d);
}

/* --- balloon ------------------------------------------------------------------------------------------------------------ */

enum { INFLATE, DEFLATE, STATISTICS, REPORTING };

static void start_balloon(uint64_t features)
{
	assert_int_equal(driver_make(&d), 0);
	assert_int_equal(bh_balloon_make(&d.vm, d.loop, 2, &d.device, NULL), 0);
	driver_start(&d, features, 8);
}

static uint8_t first_byte(uint64_t address)
{
	return *(uint8_t *)guest(&d, address, 1);
}

static void test_inflate(void **state)
{
	/* The last three aren't the guest's. */
	const uint32_t pages[] = { 0x300, 0x301, 0x303, MEMORY >> 12, UINT32_MAX, 1u << 31 };

	(void)state;
	start_balloon(0);
	assert_int_equal(bh_virtio_read_config(d.device, 0, 4), 2);
	memset(guest(&d, 0x300000, 0x5000), 'x', 0x5000);
	bh_guest_write(&d.vm.memory, BUFFERS, pages, sizeof pages);
	put_descriptor(&d, INFLATE, 0, BUFFERS, sizeof pages, 0, 0);
	offer(&d, INFLATE, 0);
	notify_device(&d, INFLATE);
	assert_int_equal(take_used(&d, INFLATE, NULL), 0);
	assert_int_equal(first_byte(0x300000), 0);
	assert_int_equal(first_byte(0x301fff), 0);
	assert_int_equal(first_byte(0x302000), 'x');
	assert_int_equal(first_byte(0x303000), 0);
	assert_int_equal(first_byte(0x304000), 'x');
	bh_virtio_write_config(d.device, 4, 4, 3);
	offer(&d, DEFLATE, 0);
	put_descriptor(&d, DEFLATE, 0, BUFFERS, sizeof pages, 0, 0);
	notify_device(&d, DEFLATE);
	assert_int_equal(take_used(&d, DEFLATE, NULL), 0);
	bh_balloon_set_target(d.device, UINT32_MAX);
	assert_int_equal(bh_virtio_read_config(d.device, 0, 4), MEMORY >> 12);
	assert_int_equal(d.interrupts[BH_VIRTIO_QUEUES_MAX], 1);
}

static void test_statistics(void **state)
{
	const struct virtio_balloon_stat entries[] = { { VIRTIO_BALLOON_S_MEMFREE, 1000 }, { 999, 5 }, { VIRTIO_BALLOON_S_MEMTOT, 4000 } };
	struct bh_balloon_statistics statistics;

	(void)state;
	start_balloon(1ULL << VIRTIO_BALLOON_F_STATS_VQ);
	bh_balloon_statistics(d.device, &statistics);
	assert_int_equal(statistics.updates, 0);
	bh_guest_write(&d.vm.memory, BUFFERS, entries, sizeof entries);
	put_descriptor(&d, STATISTICS, 0, BUFFERS, sizeof entries, 0, 0);
	offer(&d, STATISTICS, 0);
	notify_device(&d, STATISTICS);
	assert_int_equal(take_used(&d, STATISTICS, NULL), -1); /* it stays until somebody asks */
	bh_balloon_statistics(d.device, &statistics);
	assert_int_equal(statistics.updates, 1);
	assert_int_equal(statistics.values[VIRTIO_BALLOON_S_MEMFREE], 1000);
	assert_int_equal(statistics.values[VIRTIO_BALLOON_S_MEMTOT], 4000);
	assert_int_equal(take_used(&d, STATISTICS, NULL), 0);
	assert_int_equal(d.interrupts[STATISTICS], 1);
}

/* Whole pages of the buffers, by the queue that follows those the guest has taken. */
static void test_reporting(void **state)
{
	(void)state;
	start_balloon(1ULL << VIRTIO_BALLOON_F_REPORTING);
	memset(guest(&d, 0x300000, 0x5000), 'x', 0x5000);
	put_descriptor(&d, STATISTICS, 0, 0x300800, 0x2000, VRING_DESC_F_WRITE, 0);
	offer(&d, STATISTICS, 0);
	notify_device(&d, STATISTICS);
	assert_int_equal(take_used(&d, STATISTICS, NULL), 0);
	assert_int_equal(first_byte(0x300800), 'x');
	assert_int_equal(first_byte(0x301000), 0);
	assert_int_equal(first_byte(0x302000), 'x');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_rng, end),
		cmocka_unit_test_teardown(test_input, end_console),
		cmocka_unit_test_teardown(test_output, end_console),
		cmocka_unit_test_teardown(test_no_room, end_console),
		cmocka_unit_test_teardown(test_inflate, end),
		cmocka_unit_test_teardown(test_statistics, end),
		cmocka_unit_test_teardown(test_reporting, end),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
