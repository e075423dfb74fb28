/* SPDX-License-Identifier: Apache-2.0 */
/* A disk with several queues: one that waits holds no other, a reset waits for all, limits are the device's. And many requests of one queue, with
 * the kernel's ring and without. */
#include "virtio-test.h"

#include "base/memory.h"
#include "base/time.h"
#include "linux/io-ring.h"
#include "vmm/virtio/table.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SECTORS 64u
#define QUEUES 2
#define SLOW_PAGE (BUFFERS + 0x100000)
#define PATIENCE_MS 20000

static struct driver d;
static struct bh_loop *second;
static int image, faults, came;

static int begin(void **state)
{
	(void)state;
	alarm(3 * PATIENCE_MS / 1000); /* a thread of ours would wait for its own page */
	image = memfd_create("image", MFD_CLOEXEC);
	second = NULL;
	faults = -1;
	came = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return came < 0 || ftruncate(image, SECTORS * 512) < 0 || pwrite(image, "first", 5, 0) != 5 ? -1 : driver_make(&d);
}

static int end(void **state)
{
	(void)state;
	/* Who waits for a page goes on. */
	bh_close_fd(&faults);
	alarm(0);
	bh_loop_stop(d.loop);
	if (second)
		bh_loop_stop(second);
	driver_clear(&d);
	bh_loop_free(second);
	bh_close_fd(&image);
	bh_close_fd(&came);
	return 0;
}

static void start(struct bh_limits limits)
{
	const struct bh_block_config config = {
		.fd = fcntl(image, F_DUPFD_CLOEXEC, 0), .backing_fd = -1, .lock_fd = -1, .queues = QUEUES, .limits = limits
	};

	assert_int_equal(bh_block_make(&d.vm, d.loop, &config, &d.device, NULL), 0);
	driver_start(&d, 1ULL << VIRTIO_BLK_F_MQ, 8);
}

/* Each queue has its request at a place of its own; nobody is notified. */
static void put_read(unsigned queue, uint64_t to)
{
	struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_IN };
	uint64_t place = BUFFERS + queue * 0x1000;

	bh_guest_write(&d.vm.memory, place, &header, sizeof header);
	put_descriptor(&d, queue, 0, place, sizeof header, VRING_DESC_F_NEXT, 1);
	put_descriptor(&d, queue, 1, to, 512, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 2);
	put_descriptor(&d, queue, 2, place + 0x100, 1, VRING_DESC_F_WRITE, 0);
	offer(&d, queue, 0);
}

static void kick(unsigned queue)
{
	uint64_t one = 1;

	assert_int_equal(write(d.device->queues[queue].event_fd, &one, sizeof one), sizeof one);
}

static void tell_interrupt(struct bh_virtio_device *device, unsigned queue)
{
	uint64_t one = 1;

	(void)device;
	(void)queue;
	(void)!write(came, &one, sizeof one);
}

static const struct bh_virtio_transport telling = { .interrupt = tell_interrupt };

static bool wait_for(int fd)
{
	struct pollfd ready = { fd, POLLIN, 0 };

	return poll(&ready, 1, PATIENCE_MS) == 1;
}

/* Whoever touches the page stands until somebody fills it. */
static bool make_slow(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .range = { (uintptr_t)guest(&d, SLOW_PAGE, 4096), 4096 }, .mode = UFFDIO_REGISTER_MODE_MISSING };

	faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	return faults >= 0 && ioctl(faults, UFFDIO_API, &api) == 0 && ioctl(faults, UFFDIO_REGISTER, &range) == 0;
}

static void *reset_device(void *done)
{
	pthread_mutex_lock(&d.device->lock);
	bh_virtio_set_status(d.device, 0);
	pthread_mutex_unlock(&d.device->lock);
	atomic_store((atomic_bool *)done, true);
	return NULL;
}

static void test_beside(void **state)
{
	struct uffdio_zeropage zero = { .range = { 0, 4096 } };
	atomic_bool done = false;
	pthread_t thread;

	(void)state;
	if (!make_slow())
		skip();
	start((struct bh_limits){ 0 });
	d.device->transport = &telling;
	assert_int_equal(bh_loop_make("second", &second, NULL), 0);
	assert_int_equal(bh_virtio_move_queue(d.device, 1, second, NULL), 0);
	assert_int_equal(bh_loop_start(d.loop, BH_THREAD_DEVICE, false, NULL), 0);
	assert_int_equal(bh_loop_start(second, BH_THREAD_DEVICE, false, NULL), 0);
	put_read(1, SLOW_PAGE);
	kick(1);
	assert_true(wait_for(faults));
	/* It reads now, and will until the page is there. The other queue doesn't wait for it. */
	put_read(0, BUFFERS + 0x2000);
	kick(0);
	assert_true(wait_for(came));
	assert_int_equal(take_used(&d, 0, NULL), 0);
	assert_memory_equal(guest(&d, BUFFERS + 0x2000, 5), "first", 5);
	assert_int_equal(take_used(&d, 1, NULL), -1);
	/* A reset does: after it nothing of ours writes into the guest's memory. */
	assert_int_equal(pthread_create(&thread, NULL, reset_device, &done), 0);
	poll(NULL, 0, 20);
	assert_false(atomic_load(&done));
	zero.range.start = (uintptr_t)guest(&d, SLOW_PAGE, 4096);
	assert_int_equal(ioctl(faults, UFFDIO_ZEROPAGE, &zero), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_memory_equal(guest(&d, SLOW_PAGE, 5), "first", 5);
	assert_false(d.device->active);
	assert_false(d.device->queues[1].enabled);
}

static void test_limits(void **state)
{
	int64_t begun = bh_monotonic_ns();

	(void)state;
	start((struct bh_limits){ .operations = { .rate = 20, .burst = 1 } });
	put_read(0, BUFFERS + 0x2000);
	notify_device(&d, 0);
	assert_int_equal(take_used(&d, 0, NULL), 0);
	/* What the one has used up the other waits for. */
	put_read(1, BUFFERS + 0x3000);
	notify_device(&d, 1);
	while (take_used(&d, 1, NULL) < 0) {
		assert_true(bh_monotonic_ns() - begun < PATIENCE_MS * 1000000LL);
		turn(&d);
	}
	assert_true(bh_monotonic_ns() - begun >= 50000000);
}

static void test_state(void **state)
{
	bh_auto_buf struct bh_buf saved = { 0 };
	struct bh_state_reader in;

	(void)state;
	start((struct bh_limits){ 0 });
	assert_int_equal(bh_virtio_read_config(d.device, offsetof(struct virtio_blk_config, num_queues), 2), QUEUES);
	put_read(1, BUFFERS + 0x2000);
	notify_device(&d, 1);
	assert_int_equal(take_used(&d, 1, NULL), 0);
	/* This one is found by whoever continues. */
	put_read(1, BUFFERS + 0x3000);
	bh_virtio_save(d.device, &saved);
	bh_virtio_set_status(d.device, 0);
	in = bh_state_reader(saved.data, saved.length);
	assert_int_equal(bh_virtio_load(d.device, &in, NULL), 0);
	assert_ptr_equal(in.at, in.end);
	turn(&d);
	assert_int_equal(take_used(&d, 1, NULL), 0);
	assert_memory_equal(guest(&d, BUFFERS + 0x3000, 5), "first", 5);
	/* One that breaks the rules by its queue breaks the device. */
	put_descriptor(&d, 1, 0, MEMORY, 16, VRING_DESC_F_NEXT, 1);
	offer(&d, 1, 0);
	notify_device(&d, 1);
	assert_true(is_broken(&d));
	assert_int_equal(d.interrupts[BH_VIRTIO_QUEUES_MAX], 1);
	put_read(0, BUFFERS + 0x2000);
	notify_device(&d, 0);
	assert_int_equal(take_used(&d, 0, NULL), -1);
}

static void expect_refused(const char *rest, const char *words)
{
	bh_auto_free char *device = bh_printf("block,fd=%d%s", fcntl(image, F_DUPFD_CLOEXEC, 0), rest);
	struct bh_error err = BH_ERROR_INIT;
	struct bh_virtio_loops loops;

	assert_true(bh_virtio_make(&d.vm, d.loop, device, &d.device, &loops, &err) < 0);
	assert_non_null(strstr(err.message, words));
}

/* --- many at once -------------------------------------------------------------------------------------------------------- */

#define MANY 80
#define PLACE(i) (BUFFERS + (i)*0x1000u)

/* Request `i` of queue 0, with its data at `data`. */
static void put_request(unsigned i, uint32_t type, uint64_t sector, uint64_t data)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };
	uint16_t first = (uint16_t)(3 * i), writable = type == VIRTIO_BLK_T_IN ? VRING_DESC_F_WRITE : 0;

	bh_guest_write(&d.vm.memory, PLACE(i), &header, sizeof header);
	*(uint8_t *)guest(&d, PLACE(i) + 0x100, 1) = 0xff;
	put_descriptor(&d, 0, first, PLACE(i), sizeof header, VRING_DESC_F_NEXT, (uint16_t)(first + 1));
	put_descriptor(&d, 0, (uint16_t)(first + 1), data, 512, writable | VRING_DESC_F_NEXT, (uint16_t)(first + 2));
	put_descriptor(&d, 0, (uint16_t)(first + 2), PLACE(i) + 0x100, 1, VRING_DESC_F_WRITE, 0);
	offer(&d, 0, first);
}

static uint8_t status_of(unsigned i)
{
	return *(uint8_t *)guest(&d, PLACE(i) + 0x100, 1);
}

/* Until so many have come back. False: they don't. */
static bool take_all(unsigned count)
{
	int64_t until = bh_monotonic_ns() + PATIENCE_MS * 1000000LL;

	for (unsigned i = 0; i < count; i++)
		while (take_used(&d, 0, NULL) < 0) {
			if (bh_monotonic_ns() > until)
				return false;
			turn(&d);
		}
	return true;
}

/* Each sector gets a byte of its own; the last ones don't exist. Without cmocka: a child does it too. */
static bool write_and_read(void)
{
	uint8_t bytes[SECTORS * 512];

	for (unsigned i = 0; i < MANY; i++) {
		memset(guest(&d, PLACE(i) + 0x200, 512), (int)i + 1, 512);
		put_request(i, VIRTIO_BLK_T_OUT, i, PLACE(i) + 0x200);
	}
	notify_device(&d, 0);
	if (!take_all(MANY) || pread(image, bytes, sizeof bytes, 0) != sizeof bytes)
		return false;
	for (unsigned i = 0; i < MANY; i++)
		if (status_of(i) != (i < SECTORS ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR) || (i < SECTORS && bytes[i * 512 + 511] != i + 1))
			return false;
	/* The image has become shorter. */
	if (ftruncate(image, SECTORS / 2 * 512) < 0)
		return false;
	for (unsigned i = 0; i < SECTORS; i++)
		put_request(i, VIRTIO_BLK_T_IN, i, PLACE(SECTORS - 1 - i) + 0x200);
	notify_device(&d, 0);
	if (!take_all(SECTORS))
		return false;
	for (unsigned i = 0; i < SECTORS; i++)
		if (status_of(i) != (i < SECTORS / 2 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR) ||
		    (i < SECTORS / 2 && *(uint8_t *)guest(&d, PLACE(SECTORS - 1 - i) + 0x200, 1) != i + 1))
			return false;
	return take_used(&d, 0, NULL) < 0;
}

static void test_many(void **state)
{
	(void)state;
	start((struct bh_limits){ 0 });
	driver_start(&d, 0, 256);
	assert_true(write_and_read());
}

static bool deny(unsigned call, unsigned errnum)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | errnum),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { BH_ARRAY_SIZE(filter), filter };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

/* A kernel without rings, one that doesn't let us, and one that takes no requests. */
static void test_without_ring(void **state)
{
	static const struct {
		unsigned call, errnum;
	} hosts[] = { { SYS_io_uring_setup, ENOSYS }, { SYS_io_uring_setup, EPERM }, { SYS_io_uring_register, EINVAL }, { SYS_io_uring_enter, EAGAIN } };
	int status;

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(hosts); i++) {
		pid_t child = fork();

		if (child == 0) {
			if (!deny(hosts[i].call, hosts[i].errnum) || ftruncate(image, SECTORS * 512) < 0)
				_exit(2);
			start((struct bh_limits){ 0 });
			driver_start(&d, 0, 256);
			_exit(write_and_read() ? 0 : 1);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
	}
}

/* Two reads that the kernel can't end yet; whether it has them. */
static bool hold_two(void)
{
	struct bh_io_ring ring;

	if (!make_slow() || bh_io_ring_make(image, 1, &ring) < 0)
		return false;
	bh_io_ring_clear(&ring);
	start((struct bh_limits){ 0 });
	driver_start(&d, 0, 256);
	put_request(0, VIRTIO_BLK_T_IN, 0, SLOW_PAGE);
	put_request(1, VIRTIO_BLK_T_IN, 1, SLOW_PAGE + 512);
	notify_device(&d, 0);
	assert_true(wait_for(faults));
	assert_int_equal(take_used(&d, 0, NULL), -1);
	return true;
}

static void *fill_slow(void *unused)
{
	struct uffdio_zeropage zero = { .range = { (uintptr_t)guest(&d, SLOW_PAGE, 4096), 4096 } };

	(void)unused;
	poll(NULL, 0, 20);
	return ioctl(faults, UFFDIO_ZEROPAGE, &zero) < 0 ? &faults : NULL;
}

static void test_out_of_order(void **state)
{
	pthread_t thread;
	void *failed;

	(void)state;
	if (!hold_two())
		skip();
	put_request(2, VIRTIO_BLK_T_IN, 2, PLACE(2) + 0x200);
	notify_device(&d, 0);
	assert_true(take_all(1));
	assert_int_equal(status_of(2), VIRTIO_BLK_S_OK);
	assert_int_equal(status_of(0), 0xff);
	/* A pause waits for the others, and answers them. */
	assert_int_equal(pthread_create(&thread, NULL, fill_slow, NULL), 0);
	d.device->driver->settle(d.device);
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	assert_int_equal(status_of(0), VIRTIO_BLK_S_OK);
	assert_int_equal(status_of(1), VIRTIO_BLK_S_OK);
	assert_true(take_all(2));
}

static void test_reset_waits(void **state)
{
	pthread_t thread;
	void *failed;

	(void)state;
	if (!hold_two())
		skip();
	assert_int_equal(pthread_create(&thread, NULL, fill_slow, NULL), 0);
	pthread_mutex_lock(&d.device->lock);
	bh_virtio_set_status(d.device, 0);
	pthread_mutex_unlock(&d.device->lock);
	/* They have come, and the guest's memory is its own again. */
	assert_memory_equal(guest(&d, SLOW_PAGE, 5), "first", 5);
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	driver_start(&d, 0, 256);
	assert_true(write_and_read());
}

/* What whoever takes over the monitor could do with a ring. */
static void test_ring_is_restricted(void **state)
{
	char text[16] = { 0 };
	struct iovec iov = { text, sizeof text };
	struct bh_io_ring ring;
	uint8_t refused[4];
	int result = 0, other = memfd_create("other", MFD_CLOEXEC);
	unsigned slot;

	(void)state;
	if (bh_io_ring_make(image, 4, &ring) < 0)
		skip();
	bh_io_ring_put(&ring, 0, &iov, 1, 0);
	assert_int_equal(bh_io_ring_submit(&ring, refused), 0);
	assert_true(wait_for(ring.event_fd));
	assert_true(bh_io_ring_take(&ring, &slot, &result));
	assert_int_equal(result, sizeof text);
	assert_string_equal(text, "first");
	for (int what = 0; what < 3; what++) {
		bh_io_ring_put(&ring, 1, &iov, 1, 0);
		if (what == 0)
			ring.entries[1].opcode = IORING_OP_WRITEV;
		if (what == 1)
			ring.entries[1].opcode = IORING_OP_OPENAT;
		if (what == 2)
			ring.entries[1].flags = 0, ring.entries[1].fd = other; /* another file */
		bh_io_ring_submit(&ring, refused);
		assert_true(bh_io_ring_take(&ring, &slot, &result));
		assert_int_equal(result, -EACCES);
	}
	assert_int_equal(syscall(SYS_io_uring_register, ring.fd, IORING_UNREGISTER_FILES, NULL, 0), -1);
	assert_int_equal(errno, EACCES);
	bh_io_ring_clear(&ring);
	bh_close_fd(&other);
}

static void test_words(void **state)
{
	bh_auto_free char *device = bh_printf("block,fd=%d,queues=3", fcntl(image, F_DUPFD_CLOEXEC, 0));
	struct bh_virtio_loops loops;

	(void)state;
	expect_refused(",queues=0", "at least one");
	expect_refused(",queues=9", "up to 8");
	assert_int_equal(bh_virtio_make(&d.vm, d.loop, device, &d.device, &loops, NULL), 0);
	assert_int_equal(loops.count, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_ptr_equal(d.device->queues[i].loop, loops.items[i]);
	bh_virtio_free(d.device);
	d.device = NULL;
	for (size_t i = 0; i < loops.count; i++)
		bh_loop_free(loops.items[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_beside, begin, end),       cmocka_unit_test_setup_teardown(test_limits, begin, end),
		cmocka_unit_test_setup_teardown(test_state, begin, end),        cmocka_unit_test_setup_teardown(test_many, begin, end),
		cmocka_unit_test_setup_teardown(test_without_ring, begin, end), cmocka_unit_test_setup_teardown(test_out_of_order, begin, end),
		cmocka_unit_test_setup_teardown(test_reset_waits, begin, end),  cmocka_unit_test_setup_teardown(test_ring_is_restricted, begin, end),
		cmocka_unit_test_setup_teardown(test_words, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
