/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/io-ring.h"

#include "base/memory.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FEATURES (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE)

static int control(const struct bh_io_ring *ring, unsigned operation, const void *argument, unsigned count)
{
	return syscall(SYS_io_uring_register, ring->fd, operation, argument, count) < 0 ? -errno : 0;
}

static int restrict_to(const struct bh_io_ring *ring, int file_fd)
{
	const struct io_uring_restriction allowed[] = {
		{ .opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE },
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV },
	};
	int r = control(ring, IORING_REGISTER_FILES, &file_fd, 1);

	if (r == 0)
		r = control(ring, IORING_REGISTER_EVENTFD, &ring->event_fd, 1);
	if (r == 0)
		r = control(ring, IORING_REGISTER_RESTRICTIONS, allowed, BH_ARRAY_SIZE(allowed));
	return r < 0 ? r : control(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

static void *map(const struct bh_io_ring *ring, size_t size, uint64_t what)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, (off_t)what);

	return at == MAP_FAILED ? NULL : at;
}

static int map_all(struct bh_io_ring *ring, const struct io_uring_params *p)
{
	size_t submit_size = p->sq_off.array + p->sq_entries * sizeof(unsigned);
	size_t result_size = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
	uint8_t *at;

	ring->rings_size = BH_MAX(submit_size, result_size);
	ring->rings = at = map(ring, ring->rings_size, IORING_OFF_SQ_RING);
	ring->entries = map(ring, p->sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
	if (!at || !ring->entries)
		return -errno;
	ring->submit_tail = (unsigned *)(at + p->sq_off.tail);
	ring->submit_array = (unsigned *)(at + p->sq_off.array);
	ring->submit_mask = p->sq_entries - 1;
	ring->result_head = (unsigned *)(at + p->cq_off.head);
	ring->result_tail = (unsigned *)(at + p->cq_off.tail);
	ring->result_mask = p->cq_entries - 1;
	ring->results = (struct io_uring_cqe *)(at + p->cq_off.cqes);
	return 0;
}

int bh_io_ring_make(int file_fd, unsigned depth, struct bh_io_ring *ret_ring)
{
	struct io_uring_params params = { .flags = IORING_SETUP_R_DISABLED };
	struct bh_io_ring ring = BH_IO_RING_INIT;
	int r = 0;

	ring.depth = depth;
	ring.fd = (int)syscall(SYS_io_uring_setup, depth, &params);
	if (ring.fd < 0)
		return -errno;
	ring.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ring.event_fd < 0)
		r = -errno;
	else if ((params.features & FEATURES) != FEATURES || params.sq_entries != depth)
		r = -ENOSYS;
	if (r == 0)
		r = map_all(&ring, &params);
	if (r == 0)
		r = restrict_to(&ring, file_fd);
	if (r < 0)
		bh_io_ring_clear(&ring);
	else
		*ret_ring = ring;
	return r;
}

void bh_io_ring_clear(struct bh_io_ring *ring)
{
	if (ring->entries)
		munmap(ring->entries, ring->depth * sizeof(struct io_uring_sqe));
	if (ring->rings)
		munmap(ring->rings, ring->rings_size);
	bh_close_fd(&ring->event_fd);
	bh_close_fd(&ring->fd);
	*ring = (struct bh_io_ring)BH_IO_RING_INIT;
}

void bh_io_ring_put(struct bh_io_ring *ring, unsigned slot, const struct iovec *iov, unsigned count, uint64_t offset)
{
	unsigned tail = *ring->submit_tail;

	ring->entries[slot] = (struct io_uring_sqe){
		.opcode = IORING_OP_READV,
		.flags = IOSQE_FIXED_FILE, /* the first one */
		.off = offset,
		.addr = (uintptr_t)iov,
		.len = count,
		.user_data = slot,
	};
	ring->submit_array[tail & ring->submit_mask] = slot;
	__atomic_store_n(ring->submit_tail, tail + 1, __ATOMIC_RELEASE);
	ring->waiting++;
}

unsigned bh_io_ring_submit(struct bh_io_ring *ring, uint8_t *ret_refused)
{
	unsigned refused;

	while (ring->waiting) {
		long taken = syscall(SYS_io_uring_enter, ring->fd, ring->waiting, 0, 0, NULL, 0);

		if (taken < 0 && errno == EINTR)
			continue;
		if (taken <= 0)
			break;
		ring->waiting -= (unsigned)taken;
	}
	/* The kernel looks at the ring only when it is called: the rest can be taken back. */
	refused = ring->waiting;
	ring->waiting = 0;
	for (unsigned i = 0; i < refused; i++)
		ret_refused[i] = (uint8_t)ring->submit_array[(*ring->submit_tail - refused + i) & ring->submit_mask];
	__atomic_store_n(ring->submit_tail, *ring->submit_tail - refused, __ATOMIC_RELEASE);
	return refused;
}

bool bh_io_ring_take(struct bh_io_ring *ring, unsigned *ret_slot, int *ret_result)
{
	unsigned head = *ring->result_head;
	const struct io_uring_cqe *result = &ring->results[head & ring->result_mask];

	if (head == __atomic_load_n(ring->result_tail, __ATOMIC_ACQUIRE))
		return false;
	*ret_slot = (unsigned)result->user_data;
	*ret_result = result->res;
	__atomic_store_n(ring->result_head, head + 1, __ATOMIC_RELEASE);
	return true;
}
