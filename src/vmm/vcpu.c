/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One processor: its registers at the beginning, its thread, and what becomes of each exit from the guest.
 *
 * A kick is `immediate_exit` plus a signal: the flag catches a thread that is about to enter the guest, the signal one that is in it
 * (KVM api.rst, "KVM_RUN"). The signal's handler does nothing; only these threads ever get it.
 */
#include "vmm/vm.h"

#include "base/memory.h"
#include "base/time.h"
#include "vmm/jail.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define CR0_PE 1ULL
#define CR0_ET (1ULL << 4)
#define CR0_NE (1ULL << 5)
#define CR0_PG (1ULL << 31)
#define CR4_PAE (1ULL << 5)
#define EFER_LME (1ULL << 8)
#define EFER_LMA (1ULL << 10)
#define RFLAGS_RESERVED 2ULL
#define MSR_IA32_MISC_ENABLE 0x1a0
#define MISC_ENABLE_FAST_STRING 1ULL
#define LAPIC_LVT0 0x350
#define LAPIC_LVT1 0x360
#define LAPIC_MODE_EXTINT (7u << 8)
#define LAPIC_MODE_NMI (4u << 8)

#define KICK_SIGNAL SIGRTMIN

const char *bh_exit_kind_name(enum bh_exit_kind kind)
{
	static const char *const names[] = { "io in",        "io out",     "mmio read",   "mmio write", "halt", "shutdown",
					     "system event", "dirty ring", "interrupted", "failed",     "other" };

	return names[kind];
}

static void on_kick(int number)
{
	(void)number;
}

static int set_local_apic(struct bh_vcpu *vcpu, struct bh_error *err)
{
	struct kvm_lapic_state state;
	uint32_t value;

	if (ioctl(vcpu->fd, KVM_GET_LAPIC, &state) < 0)
		return bh_error_set(err, errno, "read the interrupt controller of processor %u", vcpu->index);
	/* As firmware leaves it: the old interrupt controller and NMIs come through the local pins (MP specification 3.6.2.2). */
	value = LAPIC_MODE_EXTINT;
	memcpy(state.regs + LAPIC_LVT0, &value, sizeof value);
	value = LAPIC_MODE_NMI;
	memcpy(state.regs + LAPIC_LVT1, &value, sizeof value);
	if (ioctl(vcpu->fd, KVM_SET_LAPIC, &state) < 0)
		return bh_error_set(err, errno, "set up the interrupt controller of processor %u", vcpu->index);
	return 0;
}

static int set_msrs(struct bh_vcpu *vcpu, struct bh_error *err)
{
	struct {
		struct kvm_msrs header;
		struct kvm_msr_entry entries[1];
	} msrs = { .header.nmsrs = 1, .entries = { { .index = MSR_IA32_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRING } } };

	return ioctl(vcpu->fd, KVM_SET_MSRS, &msrs) < 0 ? bh_error_set(err, errno, "set the model registers of processor %u", vcpu->index) : 0;
}

/* One bank, the fewest there can be, instead of the 32 that KVM gives by itself: a kernel visits each with several exits, and the host's
 * errors are not passed on. */
static int set_machine_check(struct bh_vcpu *vcpu, struct bh_error *err)
{
	uint64_t banks = 1;

	if (ioctl(vcpu->vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MCE) <= 0)
		return 0;
	return ioctl(vcpu->fd, KVM_X86_SETUP_MCE, &banks) < 0 ? bh_error_set(err, errno, "set the machine check banks of processor %u", vcpu->index) :
								0;
}

int bh_vcpu_make(struct bh_vm *vm, unsigned index, struct bh_vcpu *ret_vcpu, struct bh_error *err)
{
	struct bh_vcpu *vcpu = ret_vcpu;
	int size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0), r;

	vcpu->vm = vm;
	vcpu->index = index;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (vcpu->fd < 0)
		return bh_error_set(err, errno, "make processor %u", index);
	vcpu->run = size < 0 ? MAP_FAILED : mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		vcpu->run = NULL;
		r = bh_error_set(err, errno, "map the state of processor %u", index);
	} else {
		r = bh_vcpu_set_cpuid(vcpu, err);
	}
	if (r == 0)
		r = bh_dirty_map_ring(vcpu, err);
	if (r == 0)
		r = set_machine_check(vcpu, err);
	if (r == 0)
		r = set_msrs(vcpu, err);
	if (r == 0)
		r = set_local_apic(vcpu, err);
	if (r < 0)
		bh_vcpu_clear(vcpu);
	return r;
}

void bh_vcpu_clear(struct bh_vcpu *vcpu)
{
	int size = vcpu->run ? ioctl(vcpu->vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0) : 0;

	if (vcpu->run && size > 0)
		munmap(vcpu->run, (size_t)size);
	vcpu->run = NULL;
	bh_dirty_unmap_ring(vcpu);
	bh_close_fd(&vcpu->fd);
}

/* --- the first instruction ------------------------------------------------------------------------------------------ */

static struct kvm_segment flat(uint16_t selector, uint8_t type, bool code, bool wide)
{
	return (struct kvm_segment){
		.limit = UINT32_MAX,
		.selector = selector,
		.type = type,
		.present = 1,
		.db = !(code && wide),
		.s = 1,
		.l = code && wide,
		.g = 1,
	};
}

static void set_segments(const struct bh_entry *entry, struct kvm_sregs *s)
{
	bool wide = entry->mode == BH_ENTRY_LONG;
	struct kvm_segment data = flat(0x18, 0x3, false, wide);

	/* The selectors that Linux's boot protocol names; others don't care. */
	s->cs = flat(0x10, 0xb, true, wide);
	s->ds = s->es = s->fs = s->gs = s->ss = data;
	s->tr = (struct kvm_segment){ .limit = 0x67, .selector = 0x20, .type = 0xb, .present = 1 };
	s->ldt = (struct kvm_segment){ .unusable = 1 };
	s->gdt.base = entry->gdt;
	s->gdt.limit = entry->gdt_size ? (uint16_t)(entry->gdt_size - 1) : 0;
	s->idt.base = 0;
	s->idt.limit = 0;
	s->cr0 = CR0_PE | CR0_ET; /* PVH wants all others clear */
	s->cr4 = 0;
	s->efer = 0;
	if (wide) {
		s->cr3 = entry->cr3;
		s->cr4 = CR4_PAE;
		s->cr0 |= CR0_NE | CR0_PG;
		s->efer = EFER_LME | EFER_LMA;
	}
}

int bh_vcpu_set_entry(struct bh_vcpu *vcpu, const struct bh_entry *entry, struct bh_error *err)
{
	struct kvm_regs regs = {
		.rip = entry->rip,
		.rsp = entry->rsp,
		.rax = entry->rax,
		.rbx = entry->rbx,
		.rsi = entry->rsi,
		.rflags = RFLAGS_RESERVED,
	};
	struct kvm_sregs sregs;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		return bh_error_set(err, errno, "read the registers of processor %u", vcpu->index);
	set_segments(entry, &sregs);
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
		return bh_error_set(err, errno, "set the registers of processor %u", vcpu->index);
	return 0;
}

/* --- exits ---------------------------------------------------------------------------------------------------------- */

static enum bh_exit_kind port_access(struct bh_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	unsigned size = run->io.size;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += size) {
		uint64_t value = 0;

		if (run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&value, data, size);
			bh_bus_write(&vcpu->vm->ports, run->io.port, size, value);
		} else {
			bh_bus_read(&vcpu->vm->ports, run->io.port, size, &value);
			memcpy(data, &value, size);
		}
	}
	return run->io.direction == KVM_EXIT_IO_OUT ? BH_EXIT_IO_OUT : BH_EXIT_IO_IN;
}

static enum bh_exit_kind memory_access(struct bh_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	unsigned size = BH_MIN(run->mmio.len, 8u);
	uint64_t value = 0;

	if (run->mmio.is_write) {
		memcpy(&value, run->mmio.data, size);
		bh_bus_write(&vcpu->vm->mmio, run->mmio.phys_addr, size, value);
		return BH_EXIT_MMIO_WRITE;
	}
	bh_bus_read(&vcpu->vm->mmio, run->mmio.phys_addr, size, &value);
	memcpy(run->mmio.data, &value, size);
	return BH_EXIT_MMIO_READ;
}

static enum bh_exit_kind fail(struct bh_vcpu *vcpu, const char *what, uint64_t detail)
{
	struct kvm_regs regs = { 0 };

	ioctl(vcpu->fd, KVM_GET_REGS, &regs);
	bh_vm_end(vcpu->vm, BH_VM_FAILED, 0, "processor %u: %s (0x%llx) at instruction 0x%llx", vcpu->index, what, (unsigned long long)detail,
		  (unsigned long long)regs.rip);
	return BH_EXIT_FAILED;
}

static enum bh_exit_kind system_event(struct bh_vcpu *vcpu)
{
	switch (vcpu->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		bh_vm_end(vcpu->vm, BH_VM_POWERED_OFF, 0, "powered off");
		break;
	case KVM_SYSTEM_EVENT_RESET:
		bh_vm_end(vcpu->vm, BH_VM_RESET, 0, "reset");
		break;
	default:
		bh_vm_end(vcpu->vm, BH_VM_FAILED, 0, "processor %u: system event %u", vcpu->index, vcpu->run->system_event.type);
		break;
	}
	return BH_EXIT_SYSTEM_EVENT;
}

/* Stands while the machine is paused, or held by a debugger. KVM_RUN has just come back without having entered the guest, so no access is half done;
 * or has met a breakpoint, which is between two instructions. */
static void park(struct bh_vcpu *vcpu)
{
	struct bh_vm *vm = vcpu->vm;

	pthread_mutex_lock(&vm->pause_lock);
	while ((vm->paused || vcpu->held) && atomic_load(&vm->end) == BH_VM_RUNNING) {
		vcpu->parked = true;
		pthread_cond_broadcast(&vm->pause_changed);
		pthread_cond_wait(&vm->pause_changed, &vm->pause_lock);
	}
	vcpu->parked = false;
	/* A kick that comes after this one's pause sets it again. */
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&vm->pause_lock);
}

static enum bh_exit_kind ring_full(struct bh_vcpu *vcpu)
{
	struct bh_error err = BH_ERROR_INIT;

	if (bh_dirty_ring_full(vcpu, &err) < 0)
		bh_vm_end(vcpu->vm, BH_VM_FAILED, 0, "%s", err.message);
	return BH_EXIT_DIRTY_RING;
}

static enum bh_exit_kind handle(struct bh_vcpu *vcpu)
{
	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_IO:
		return port_access(vcpu);
	case KVM_EXIT_MMIO:
		return memory_access(vcpu);
	case KVM_EXIT_HLT:
		return BH_EXIT_HALT;
	case KVM_EXIT_INTR:
		return BH_EXIT_INTERRUPTED;
	case KVM_EXIT_SHUTDOWN:
		bh_vm_end(vcpu->vm, BH_VM_FAULTED, 0, "processor %u: triple fault", vcpu->index);
		return BH_EXIT_SHUTDOWN;
	case KVM_EXIT_SYSTEM_EVENT:
		return system_event(vcpu);
	case KVM_EXIT_DIRTY_RING_FULL:
		return ring_full(vcpu);
	case KVM_EXIT_DEBUG:
		if (!vcpu->vm->on_debug)
			return fail(vcpu, "a breakpoint that nobody has set", vcpu->run->debug.arch.exception);
		vcpu->vm->on_debug(vcpu->vm->debug_context, vcpu);
		park(vcpu);
		return BH_EXIT_OTHER;
	case KVM_EXIT_FAIL_ENTRY:
		return fail(vcpu, "KVM can't enter the guest", vcpu->run->fail_entry.hardware_entry_failure_reason);
	case KVM_EXIT_INTERNAL_ERROR:
		return fail(vcpu, "KVM can't run this instruction", vcpu->run->internal.suberror);
	default:
		return fail(vcpu, "an exit that isn't known", vcpu->run->exit_reason);
	}
}

static void *run_vcpu(void *arg)
{
	struct bh_vcpu *vcpu = arg;
	struct bh_vm *vm = vcpu->vm;
	struct bh_error err = BH_ERROR_INIT;
	char name[16];

	snprintf(name, sizeof name, "vcpu %u", vcpu->index);
	pthread_setname_np(pthread_self(), name);
	if (vm->locked && bh_jail_lock(BH_THREAD_VCPU, &err) < 0)
		bh_vm_end(vm, BH_VM_FAILED, 0, "%s", err.message);
	while (atomic_load_explicit(&vm->end, memory_order_relaxed) == BH_VM_RUNNING) {
		enum bh_exit_kind kind;
		int64_t start;

		if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
			if (errno != EINTR && errno != EAGAIN) {
				fail(vcpu, "KVM_RUN failed", (uint64_t)errno);
				break;
			}
			atomic_fetch_add_explicit(&vcpu->exits[BH_EXIT_INTERRUPTED], 1, memory_order_relaxed);
			park(vcpu);
			continue;
		}
		start = vm->timed ? bh_monotonic_ns() : 0;
		kind = handle(vcpu);
		atomic_fetch_add_explicit(&vcpu->exits[kind], 1, memory_order_relaxed);
		if (vm->timed)
			atomic_fetch_add_explicit(&vcpu->busy_ns[kind], (unsigned long)(bh_monotonic_ns() - start), memory_order_relaxed);
	}
	return NULL;
}

int bh_vcpu_start(struct bh_vcpu *vcpu, struct bh_error *err)
{
	struct sigaction action = { .sa_handler = on_kick };
	sigset_t all, before, kick;
	int r;

	sigaction(KICK_SIGNAL, &action, NULL);
	/* One that is to stand from the beginning doesn't enter the guest. */
	if (vcpu->vm->paused || vcpu->held)
		vcpu->run->immediate_exit = 1;
	/* Signals are the business of the thread that made us. */
	sigfillset(&all);
	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	sigdelset(&all, KICK_SIGNAL);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	r = pthread_create(&vcpu->thread, NULL, run_vcpu, vcpu);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r != 0)
		return bh_error_set(err, r, "start the thread of processor %u", vcpu->index);
	vcpu->started = true;
	return 0;
}

void bh_vcpu_kick(struct bh_vcpu *vcpu)
{
	if (!vcpu->started || !vcpu->run)
		return;
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(vcpu->thread, KICK_SIGNAL);
}
