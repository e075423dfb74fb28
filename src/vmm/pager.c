/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pager.h"

#include "base/memory.h"
#include "base/time.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#define MESSAGES 16
#define BACKGROUND_CHUNKS 16 /* between two looks for faults */

struct bh_pager {
	struct bh_machine *machine;
	struct bh_snapshot_source *sources;
	struct bh_loop *loop;
	int fd;
	uint64_t next;   /* the first chunk that may be missing */
	uint8_t *loaded; /* a byte a chunk */
	uint8_t buffer[BH_SNAPSHOT_CHUNK];
};

static int read_chunk(const struct bh_snapshot_source *source, uint64_t number, uint8_t *bytes, size_t length, struct bh_error *err)
{
	for (size_t done = 0; done < length;) {
		ssize_t n = pread(source->fd, bytes + done, length - done, (off_t)(number * BH_SNAPSHOT_CHUNK + done));

		if (n == 0)
			return bh_error_text(err, ENODATA, "the snapshot's memory file ends too early");
		if (n < 0 && errno != EINTR)
			return bh_error_set(err, errno, "read the snapshot's memory");
		done += n > 0 ? (size_t)n : 0;
	}
	if (bh_crc32c(0, bytes, length) != source->crc)
		return bh_error_text(err, EINVAL, "the snapshot's memory was altered (at 0x%llx)", (unsigned long long)number * BH_SNAPSHOT_CHUNK);
	return 0;
}

int bh_snapshot_load_all(struct bh_machine *m, const struct bh_snapshot_source *sources, struct bh_error *err)
{
	int r = 0;

	for (uint64_t number = 0; r == 0 && number < bh_snapshot_chunks(&m->vm.memory); number++) {
		size_t length;
		uint8_t *to = bh_snapshot_chunk_at(&m->vm.memory, number, &length);

		/* New memory is zero. */
		if (sources[number].fd >= 0)
			r = read_chunk(&sources[number], number, to, length, err);
	}
	return r;
}

/* --- by need -------------------------------------------------------------------------------------------------------- */

static int place(struct bh_pager *p, uint8_t *to, size_t length, const uint8_t *bytes)
{
	while (length) {
		struct uffdio_copy copy = { .dst = (uintptr_t)to, .src = (uintptr_t)bytes, .len = length };
		struct uffdio_zeropage zero = { .range = { (uintptr_t)to, length } };
		int r = bytes ? ioctl(p->fd, UFFDIO_COPY, &copy) : ioctl(p->fd, UFFDIO_ZEROPAGE, &zero);
		int64_t done = bytes ? copy.copy : zero.zeropage;

		if (r == 0)
			return 0;
		/* Part of it was done, or is to be tried again; a page that is there already is as good. */
		if (done < 0)
			done = 0;
		if (errno == EEXIST)
			done = BH_GUEST_PAGE;
		else if (errno != EAGAIN && done == 0)
			return -errno;
		to += done;
		bytes = bytes ? bytes + done : NULL;
		length -= BH_MIN(length, (size_t)done);
	}
	return 0;
}

static void load(struct bh_pager *p, uint64_t number)
{
	struct bh_error err = BH_ERROR_INIT;
	const struct bh_snapshot_source *source = &p->sources[number];
	size_t length;
	uint8_t *to = bh_snapshot_chunk_at(&p->machine->vm.memory, number, &length);
	struct uffdio_range range = { (uintptr_t)to, length };
	int r = source->fd < 0 ? 0 : read_chunk(source, number, p->buffer, length, &err);

	if (r == 0 && !p->loaded[number]) {
		r = place(p, to, length, source->fd < 0 ? NULL : p->buffer);
		if (r < 0)
			bh_error_set(&err, -r, "put the snapshot's memory in place");
	} else if (r == 0) {
		/* Two waited for it: the second one only has to be woken. */
		ioctl(p->fd, UFFDIO_WAKE, &range);
	}
	if (r == 0) {
		p->loaded[number] = 1;
		return;
	}
	bh_vm_end(&p->machine->vm, BH_VM_FAILED, 0, "%s", err.message);
	/* Whoever waits gets zeros instead of waiting for ever: nothing runs in the guest any more. */
	place(p, to, length, NULL);
	p->loaded[number] = 1;
}

static bool find_chunk(const struct bh_guest_memory *memory, uint64_t host, uint64_t *ret_number)
{
	for (size_t i = 0; i < memory->count; i++) {
		const struct bh_guest_region *region = &memory->regions[i];

		if (host < (uintptr_t)region->host || host - (uintptr_t)region->host >= region->size)
			continue;
		*ret_number = bh_guest_page(region->address + (host - (uintptr_t)region->host)) * BH_GUEST_PAGE / BH_SNAPSHOT_CHUNK;
		return true;
	}
	return false;
}

static void background(void *context, uint32_t events)
{
	struct bh_pager *p = context;
	uint64_t count = bh_snapshot_chunks(&p->machine->vm.memory);

	(void)events;
	for (int i = 0; i < BACKGROUND_CHUNKS && p->next < count; p->next++) {
		if (p->loaded[p->next])
			continue;
		load(p, p->next);
		i++;
	}
	if (p->next < count)
		bh_loop_set_timer(p->loop, bh_monotonic_ns() + 1, background, p);
}

static void on_fault(void *context, uint32_t events)
{
	struct bh_pager *p = context;
	struct uffd_msg messages[MESSAGES];
	ssize_t n = read(p->fd, messages, sizeof messages);
	uint64_t number;

	(void)events;
	for (size_t i = 0; n > 0 && i < (size_t)n / sizeof *messages; i++)
		if (messages[i].event == UFFD_EVENT_PAGEFAULT && find_chunk(&p->machine->vm.memory, messages[i].arg.pagefault.address, &number))
			load(p, number);
}

static int watch_memory(struct bh_pager *p, struct bh_error *err)
{
	const struct bh_guest_memory *memory = &p->machine->vm.memory;
	struct uffdio_api api = { .api = UFFD_API };

	p->fd = ioctl(p->machine->config->userfault_fd, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	if (p->fd < 0 || ioctl(p->fd, UFFDIO_API, &api) < 0)
		return bh_error_set(err, errno, "watch for faults in guest memory");
	for (size_t i = 0; i < memory->count; i++) {
		struct uffdio_register range = { .range = { (uintptr_t)memory->regions[i].host, memory->regions[i].size },
						 .mode = UFFDIO_REGISTER_MODE_MISSING };

		/* A huge page would have to be filled at once. */
		madvise(memory->regions[i].host, memory->regions[i].size, MADV_NOHUGEPAGE);
		if (ioctl(p->fd, UFFDIO_REGISTER, &range) < 0)
			return bh_error_set(err, errno, "watch for faults in guest memory");
	}
	return 0;
}

int bh_pager_make(struct bh_machine *m, struct bh_snapshot_source *sources, struct bh_pager **ret_pager, struct bh_error *err)
{
	struct bh_pager *p = bh_calloc(1, sizeof *p);
	int r;

	p->machine = m;
	p->sources = sources;
	p->fd = -1;
	p->loaded = bh_calloc(bh_snapshot_chunks(&m->vm.memory), 1);
	*ret_pager = p; /* the machine's to free, whatever comes */
	r = watch_memory(p, err);
	if (r == 0)
		r = bh_loop_make("pager", &p->loop, err);
	if (r == 0)
		r = bh_loop_add(p->loop, p->fd, EPOLLIN, on_fault, p, err);
	if (r == 0) {
		bh_loop_set_timer(p->loop, bh_monotonic_ns() + 1, background, p);
		/* At once: loading the devices may touch memory. */
		r = bh_loop_start(p->loop, BH_THREAD_DEVICE, m->config->vm.locked, err);
	}
	return r;
}

void bh_pager_free(struct bh_pager *p)
{
	if (!p)
		return;
	bh_loop_free(p->loop);
	bh_close_fd(&p->fd);
	free(p->sources);
	free(p->loaded);
	free(p);
}
