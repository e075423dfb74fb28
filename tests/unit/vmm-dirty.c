/* SPDX-License-Identifier: Apache-2.0 */
/* The log of written pages, without KVM: what comes out of a processor's ring, and what lasts. */
#include "vmm/vm.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MEMORY (4u << 20)
#define ENTRIES 8u

static struct bh_vm vm;
static struct bh_vcpu vcpu;
static struct kvm_dirty_gfn ring[ENTRIES];
static uint32_t filled; /* as KVM counts them */

static int start(void **state)
{
	(void)state;
	vm = (struct bh_vm)BH_VM_INIT;
	vm.ring_entries = ENTRIES;
	vcpu = (struct bh_vcpu){ .vm = &vm, .fd = -1, .ring = ring };
	memset(ring, 0, sizeof ring);
	filled = 0;
	assert_int_equal(bh_guest_memory_make(MEMORY, BH_MEMORY_ANONYMOUS, &vm.memory, NULL), 0);
	bh_guest_log_dirty(&vm.memory, true);
	return 0;
}

static int end(void **state)
{
	(void)state;
	bh_guest_memory_clear(&vm.memory);
	return 0;
}

static void fill(uint32_t slot, uint64_t page)
{
	ring[filled++ % ENTRIES] = (struct kvm_dirty_gfn){ .flags = KVM_DIRTY_GFN_F_DIRTY, .slot = slot, .offset = page };
}

static bool is_logged(uint64_t page)
{
	return atomic_load(&vm.memory.dirty)[page / 64] & 1ULL << page % 64;
}

static uint64_t count_logged(void)
{
	uint64_t count = 0;

	for (size_t w = 0; w < bh_vm_dirty_words(&vm); w++)
		count += (uint64_t)__builtin_popcountll(atomic_load(&vm.memory.dirty)[w]);
	return count;
}

static void test_ring(void **state)
{
	(void)state;
	assert_int_equal(bh_dirty_read_ring(&vcpu), 0);
	fill(0, 3);
	fill(0, MEMORY / 4096 - 1);
	assert_int_equal(bh_dirty_read_ring(&vcpu), 2);
	assert_true(is_logged(3) && is_logged(MEMORY / 4096 - 1));
	assert_int_equal(count_logged(), 2);
	/* They wait for KVM, which takes the pages' right to be written away again; until then they aren't read twice. */
	assert_int_equal(ring[0].flags, KVM_DIRTY_GFN_F_RESET);
	assert_int_equal(ring[1].flags, KVM_DIRTY_GFN_F_RESET);
	assert_int_equal(bh_dirty_read_ring(&vcpu), 0);
	/* Around its end; and a full one is read once. */
	memset(ring, 0, sizeof ring);
	for (uint64_t page = 100; page < 100 + ENTRIES; page++)
		fill(0, page);
	assert_int_equal(bh_dirty_read_ring(&vcpu), ENTRIES);
	assert_int_equal(count_logged(), 2 + ENTRIES);
	assert_int_equal(bh_dirty_read_ring(&vcpu), 0);
}

/* Slots that aren't memory's, pages behind its end. */
static void test_nowhere(void **state)
{
	(void)state;
	fill(16, 0);
	fill(1 << 16, 0);
	fill(UINT32_MAX, 1);
	fill(0, MEMORY / 4096);
	fill(0, UINT64_MAX);
	assert_int_equal(bh_dirty_read_ring(&vcpu), 5);
	assert_int_equal(count_logged(), 0);
	/* And a log that has ended: nothing, and it begins empty again. */
	fill(0, 1);
	bh_guest_mark_dirty(&vm.memory, bh_guest_at(&vm.memory, 0x2000, 1), 1);
	bh_guest_log_dirty(&vm.memory, false);
	assert_int_equal(bh_dirty_read_ring(&vcpu), 1);
	bh_guest_log_dirty(&vm.memory, true);
	assert_int_equal(count_logged(), 0);
}

/* KVM says again and again that it is full, and nothing comes out of it. */
static void test_stuck(void **state)
{
	(void)state;
	fill(0, 1);
	bh_dirty_read_ring(&vcpu);
	assert_false(bh_dirty_ring_is_stuck(&vcpu));
	/* Whoever has emptied it in between. */
	fill(0, 2);
	bh_dirty_read_ring(&vcpu);
	assert_false(bh_dirty_ring_is_stuck(&vcpu));
	bh_dirty_read_ring(&vcpu);
	assert_true(bh_dirty_ring_is_stuck(&vcpu));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ring, start, end),
		cmocka_unit_test_setup_teardown(test_nowhere, start, end),
		cmocka_unit_test_setup_teardown(test_stuck, start, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
