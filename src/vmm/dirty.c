/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of the guest's memory have been written (Linux Documentation/virt/kvm/api.rst, KVM_GET_DIRTY_LOG and "dirty ring"): what an
 * incremental snapshot and each round of a migration begin with.
 *
 * There is one log, memory.dirty, a bit a page. The monitor's own writes go there at once; what the processors write comes from KVM when somebody
 * takes the log, in one of two forms:
 *
 *	bitmaps  KVM keeps a bit a page and gives a copy of all of them: its cost is that of the memory, whatever was written
 *	rings    each processor has a ring of the pages it has written, in memory that is shared with us: its cost is that of the writes. One that is
 *	         full stops its processor, with an exit whose handler moves all rings into the log
 *
 * An entry goes from empty to dirty (KVM), to collected (us), and back (KVM_RESET_DIRTY_RINGS, which protects the pages again). So a page is read,
 * to be sent, only behind that call: what is written later is in a ring again. That is why the log is taken with the ring lock held, too: its bits of a
 * full ring are there before the call. A processor that is in the guest may have pages that are in no ring yet,
 * if the hardware notes them for it: they come with its next exit, and a machine that stands has none.
 *
 * Rings have to be asked for before there are processors, and exclude the bitmaps.
 */
#include "vmm/vm.h"

#include "base/log.h"
#include "base/memory.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define RING_ENTRIES 8192u

static size_t ring_bytes(const struct bh_vm *vm)
{
	return vm->ring_entries * sizeof(struct kvm_dirty_gfn);
}

void bh_dirty_use_rings(struct bh_vm *vm)
{
	/* On this architecture they are the same; older kernels know the second one alone. */
	static const uint32_t names[] = { KVM_CAP_DIRTY_LOG_RING_ACQ_REL, KVM_CAP_DIRTY_LOG_RING };

	for (size_t i = 0; vm->ring_entries == 0 && i < BH_ARRAY_SIZE(names); i++) {
		int most = ioctl(vm->fd, KVM_CHECK_EXTENSION, names[i]);
		uint32_t entries = BH_MIN((uint32_t)BH_MAX(most, 0) / (uint32_t)sizeof(struct kvm_dirty_gfn), RING_ENTRIES);
		struct kvm_enable_cap enable = { .cap = names[i], .args = { entries * sizeof(struct kvm_dirty_gfn) } };

		if (entries && ioctl(vm->fd, KVM_ENABLE_CAP, &enable) == 0)
			vm->ring_entries = entries;
	}
	bh_explain("dirty-log", "by", vm->ring_entries ? "rings" : "bitmaps");
}

int bh_dirty_map_ring(struct bh_vcpu *vcpu, struct bh_error *err)
{
	void *ring;

	if (!vcpu->vm->ring_entries)
		return 0;
	ring = mmap(NULL, ring_bytes(vcpu->vm), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, KVM_DIRTY_LOG_PAGE_OFFSET * sysconf(_SC_PAGESIZE));
	if (ring == MAP_FAILED)
		return bh_error_set(err, errno, "map the ring of pages that processor %u writes", vcpu->index);
	vcpu->ring = ring;
	return 0;
}

void bh_dirty_unmap_ring(struct bh_vcpu *vcpu)
{
	if (vcpu->ring)
		munmap(vcpu->ring, ring_bytes(vcpu->vm));
	vcpu->ring = NULL;
}

/* A page of a memory slot; the slots of shown pages aren't logged. */
static void mark(const struct bh_vm *vm, uint32_t slot, uint64_t page)
{
	const struct bh_guest_memory *memory = &vm->memory;

	if (slot < memory->count && page < memory->regions[slot].size / BH_GUEST_PAGE)
		bh_guest_mark_dirty(memory, memory->regions[slot].host + page * BH_GUEST_PAGE, BH_GUEST_PAGE);
}

uint32_t bh_dirty_read_ring(struct bh_vcpu *vcpu)
{
	uint32_t read = 0;

	for (; vcpu->ring && read < vcpu->vm->ring_entries; read++) {
		struct kvm_dirty_gfn *entry = &vcpu->ring[vcpu->ring_next % vcpu->vm->ring_entries];

		if (!(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
			break;
		mark(vcpu->vm, entry->slot, entry->offset);
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		vcpu->ring_next++;
	}
	return read;
}

/* With the ring lock held. */
static int empty_rings(struct bh_vm *vm, struct bh_error *err)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		bh_dirty_read_ring(&vm->vcpus[i]);
	return ioctl(vm->fd, KVM_RESET_DIRTY_RINGS, 0) < 0 ? bh_error_set(err, errno, "make room in the rings of written pages") : 0;
}

int bh_dirty_empty_rings(struct bh_vm *vm, struct bh_error *err)
{
	int r;

	pthread_mutex_lock(&vm->ring_lock);
	r = empty_rings(vm, err);
	pthread_mutex_unlock(&vm->ring_lock);
	return r;
}

bool bh_dirty_ring_is_stuck(struct bh_vcpu *vcpu)
{
	/* At first both are 0, and the first full ring has entries. */
	bool stuck = vcpu->ring_next == vcpu->ring_full_at;

	vcpu->ring_full_at = vcpu->ring_next;
	return stuck;
}

int bh_dirty_ring_full(struct bh_vcpu *vcpu, struct bh_error *err)
{
	int r;

	pthread_mutex_lock(&vcpu->vm->ring_lock);
	r = empty_rings(vcpu->vm, err);
	if (r == 0 && bh_dirty_ring_is_stuck(vcpu))
		r = bh_error_text(err, EOVERFLOW, "processor %u: this KVM has run over the end of its ring of written pages; --dirty bitmap works",
				  vcpu->index);
	pthread_mutex_unlock(&vcpu->vm->ring_lock);
	return r;
}

int bh_vm_log_dirty(struct bh_vm *vm, bool on, struct bh_error *err)
{
	int r = 0;

	if (on == (atomic_load(&vm->memory.dirty) != NULL))
		return 0;
	/* What an earlier log has left in the rings goes nowhere. */
	if (on && vm->ring_entries)
		r = bh_dirty_empty_rings(vm, err);
	if (r == 0 && on)
		bh_guest_log_dirty(&vm->memory, true);
	if (r == 0)
		r = bh_vm_set_memslots(vm, on ? KVM_MEM_LOG_DIRTY_PAGES : 0, err);
	if (!on || r < 0)
		bh_guest_log_dirty(&vm->memory, false);
	return r < 0 ? bh_error_prefix(err, "log which memory is written") : 0;
}

static int take_bitmaps(struct bh_vm *vm, uint64_t *bitmap, struct bh_error *err)
{
	for (size_t i = 0; i < vm->memory.count; i++) {
		const struct bh_guest_region *region = &vm->memory.regions[i];
		size_t first = bh_guest_page(region->address) / 64, words = (region->size / BH_GUEST_PAGE + 63) / 64;
		bh_auto_free uint64_t *log = bh_calloc(words, sizeof *log);
		struct kvm_dirty_log request = { .slot = (uint32_t)i, .dirty_bitmap = log };

		if (ioctl(vm->fd, KVM_GET_DIRTY_LOG, &request) < 0)
			return bh_error_set(err, errno, "ask which memory the guest has written");
		/* A second region begins at 3 GiB, so its bits begin with a word. */
		for (size_t w = 0; w < words; w++)
			bitmap[first + w] |= log[w];
	}
	return 0;
}

int bh_vm_take_dirty(struct bh_vm *vm, uint64_t *bitmap, struct bh_error *err)
{
	_Atomic uint64_t *ours = atomic_load(&vm->memory.dirty);
	int r;

	pthread_mutex_lock(&vm->ring_lock);
	r = vm->ring_entries ? empty_rings(vm, err) : take_bitmaps(vm, bitmap, err);
	for (size_t w = 0; r == 0 && ours && w < bh_vm_dirty_words(vm); w++)
		if (atomic_load_explicit(&ours[w], memory_order_relaxed))
			bitmap[w] |= atomic_exchange(&ours[w], 0);
	pthread_mutex_unlock(&vm->ring_lock);
	return r;
}
