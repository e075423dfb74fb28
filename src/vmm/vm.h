/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtual machine: KVM's handles, the guest's memory, its processors and the two buses.
 *
 * Threads: the caller's thread owns everything and puts it together; each vcpu has a thread of its own, which does nothing but
 * KVM_RUN and the accesses that KVM hands out. A machine ends once: the first bh_vm_end wins, wakes the caller (end_fd) and takes
 * every vcpu out of the guest.
 */
#pragma once

#include "vmm/bus.h"
#include "vmm/memory.h"
#include "vmm/state.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <sys/types.h>

#define BH_VCPUS_MAX 64
#define BH_CPUID_ENTRIES_MAX 256

/* Why the guest stood still: counted per vcpu. */
enum bh_exit_kind {
	BH_EXIT_IO_IN,
	BH_EXIT_IO_OUT,
	BH_EXIT_MMIO_READ,
	BH_EXIT_MMIO_WRITE,
	BH_EXIT_HALT,
	BH_EXIT_SHUTDOWN,
	BH_EXIT_SYSTEM_EVENT,
	BH_EXIT_DIRTY_RING,  /* full */
	BH_EXIT_INTERRUPTED, /* a signal of ours or somebody's */
	BH_EXIT_FAILED,
	BH_EXIT_OTHER,
	BH_EXIT_KINDS
};
const char *bh_exit_kind_name(enum bh_exit_kind kind);

enum bh_vm_end_kind {
	BH_VM_RUNNING,
	BH_VM_POWERED_OFF, /* by the guest: ACPI, or a halt that nothing can end */
	BH_VM_RESET,       /* the guest asked for a reset: keyboard controller, ACPI, control register */
	BH_VM_FAULTED,     /* a triple fault: a reset too, but few ask for one in this way */
	BH_VM_EXITED,      /* the guest gave an exit code at the debug port */
	BH_VM_STOPPED,     /* by us */
	BH_VM_MOVED,       /* it runs in another monitor now */
	BH_VM_FAILED,      /* KVM can't go on: `words` */
};

struct bh_vm;

struct bh_vcpu {
	struct bh_vm *vm;
	unsigned index;
	int fd;
	struct kvm_run *run;
	struct kvm_dirty_gfn *ring;          /* the pages it has written (dirty.c), NULL: there is none */
	uint32_t ring_next;                  /* the first entry that wasn't read yet, without wrap-around; under the machine's ring lock */
	uint32_t ring_full_at;               /* what that was behind the last exit because of a full ring; under it too */
	pthread_t thread;
	atomic_bool started;
	bool parked;                         /* under the machine's pause lock */
	bool held;                           /* so too: stands for the debugger, whatever `paused` says */
	atomic_ulong exits[BH_EXIT_KINDS];
	atomic_ulong busy_ns[BH_EXIT_KINDS]; /* spent on them outside of the guest, if vm->timed */
};

/* What a loader says about the first instruction. The other processors wait for INIT and SIPI. */
struct bh_entry {
	enum { BH_ENTRY_PROTECTED, BH_ENTRY_LONG } mode; /* 32-bit without paging; 64-bit with the page tables at `cr3` */
	uint64_t rip, rsp, rax, rbx, rsi;
	uint64_t cr3;
	uint64_t gdt;  /* where the loader's descriptor table lies, 0: the segment registers alone */
	uint16_t gdt_size;
};

struct bh_vm_config {
	uint64_t memory;                   /* bytes */
	enum bh_memory_backing backing;
	unsigned vcpus;                    /* 1..BH_VCPUS_MAX */
	const char *cpu;                   /* which features the processors have (cpu-model.h), NULL: all of the host's */
	bool pit;                          /* the 8254 timer, which small kernels count with */
	bool dirty_ring;                   /* log written pages by rings, where this KVM can (dirty.c) */
	bool timed;                        /* measure the time of each exit */
	bool locked;                       /* the threads of the processors lock themselves in (jail.h) */
	struct {
		uint64_t address, stride;
		unsigned count;
	} pages;                           /* which bh_vm_page has from the beginning */
};

struct bh_vm {
	int kvm_fd, fd;
	int end_fd;                        /* eventfd: readable once the machine has ended */
	struct bh_guest_memory memory;
	uint8_t *pages;                    /* shown from the beginning, and how many; NULL: none */
	unsigned page_count;
	struct bh_bus ports, mmio;
	struct bh_vcpu *vcpus;
	unsigned vcpu_count, vcpus_wanted; /* made so far; in the end as many as wanted */
	bool timed, locked, pit;
	uint32_t ring_entries;             /* of each processor's ring, 0: written pages are logged in KVM's bitmaps */
	pthread_mutex_t ring_lock;         /* of the rings, and of who takes the log */
	/* What a processor calls that has met a breakpoint or made a step, on its thread; it stands afterwards if it is held. NULL: nobody debugs. */
	void (*on_debug)(void *context, struct bh_vcpu *vcpu);
	void *debug_context;
	struct kvm_cpuid2 *cpuid;          /* what the processors have */
	struct kvm_cpuid2 *host_cpuid;     /* what they could have */
	pthread_mutex_t pause_lock;
	pthread_cond_t pause_changed;
	bool paused;                       /* under pause_lock: vcpus park themselves */
	atomic_int end;                    /* enum bh_vm_end_kind */
	int exit_code;
	char words[256];
};
#define BH_VM_INIT \
	{ \
		.kvm_fd = -1, .fd = -1, .end_fd = -1, .memory = BH_GUEST_MEMORY_INIT, .pause_lock = PTHREAD_MUTEX_INITIALIZER, \
		.pause_changed = PTHREAD_COND_INITIALIZER, .ring_lock = PTHREAD_MUTEX_INITIALIZER \
	}

/* Opens `kvm_fd` (-1: /dev/kvm; else taken over), checks what is needed, makes memory, interrupt controllers and processors.
 * Nothing runs yet. */
int bh_vm_make(const struct bh_vm_config *config, int kvm_fd, struct bh_vm *ret_vm, struct bh_error *err);
/* Ends the machine, if it hasn't, and waits for the vcpu threads: after it nobody reaches a device from the guest. */
void bh_vm_stop(struct bh_vm *vm);
/* The same, and frees all. */
void bh_vm_clear(struct bh_vm *vm);

/* Sets the first processor's registers (NULL: they have been loaded) and starts all of them. */
int bh_vm_start(struct bh_vm *vm, const struct bh_entry *entry, struct bh_error *err);
/* Takes every vcpu out of the guest, with its last access complete, and holds it; returns when all stand. Nothing if they do already. A
 * machine that is paused before its start begins to stand. */
void bh_vm_pause(struct bh_vm *vm);
void bh_vm_resume(struct bh_vm *vm);
/* For a debugger: every vcpu stands until it is released, paused or not. Returns when all do, also if the machine has ended; before the start
 * they will. bh_vm_hold_from is for a vcpu's own thread: it only has the others stop. */
void bh_vm_hold(struct bh_vm *vm);
void bh_vm_hold_from(struct bh_vcpu *vcpu);
void bh_vm_release(struct bh_vm *vm, const bool which[BH_VCPUS_MAX]);
/* From any thread, any number of times. */
void bh_vm_end(struct bh_vm *vm, enum bh_vm_end_kind kind, int exit_code, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* dirty.c: the log of written pages, by the guest (KVM) and by us. */
int bh_vm_log_dirty(struct bh_vm *vm, bool on, struct bh_error *err);
/* Adds to `bitmap` (a bit a page, bh_guest_page; as many words as bh_vm_dirty_words says) what was written since the last call. */
int bh_vm_take_dirty(struct bh_vm *vm, uint64_t *bitmap, struct bh_error *err);
static inline size_t bh_vm_dirty_words(const struct bh_vm *vm)
{
	return (vm->memory.size / BH_GUEST_PAGE + 63) / 64;
}

/* Has KVM log by rings, if it can; before there are processors. */
void bh_dirty_use_rings(struct bh_vm *vm);
int bh_dirty_map_ring(struct bh_vcpu *vcpu, struct bh_error *err); /* nothing if they aren't used */
void bh_dirty_unmap_ring(struct bh_vcpu *vcpu);
/* Moves what is in a processor's ring to the log; the ring lock is held. Returns how many entries there were. */
uint32_t bh_dirty_read_ring(struct bh_vcpu *vcpu);
/* Of all processors, and makes room in their rings. Any thread. */
int bh_dirty_empty_rings(struct bh_vm *vm, struct bh_error *err);
/* The same, for an exit of this processor that says that its ring is full. -EOVERFLOW: nothing was in it since the last such exit. A KVM that notes a
 * page with each write that it emulates may run over the ring's end; then pages are lost, and it says "full" for ever. */
int bh_dirty_ring_full(struct bh_vcpu *vcpu, struct bh_error *err);
/* What decides that, once the rings are empty; the ring lock is held. */
bool bh_dirty_ring_is_stuck(struct bh_vcpu *vcpu);
/* vm.c: gives KVM the guest's memory, or changes these flags of it. */
int bh_vm_set_memslots(struct bh_vm *vm, uint32_t flags, struct bh_error *err);

/* Raises or lowers a line of the interrupt controllers (global system interrupt; 0..15 are the PC's). Any thread. */
void bh_vm_set_irq(struct bh_vm *vm, unsigned line, bool level);

/* Sends a message-signalled interrupt: what a device would write to this address. Any thread. */
void bh_vm_signal_msi(struct bh_vm *vm, uint64_t address, uint32_t data);
/* Lets the guest read a page of ours at this address without an exit; its writes are exits. `number`: from 0, one for each such page. With
 * `host` NULL no longer. -ENOTSUP if this KVM can't. */
int bh_vm_show_page(struct bh_vm *vm, unsigned number, uint64_t address, const void *host);
/* One that was shown when the machine was made, which is a matter of microseconds; behind it the first takes KVM some milliseconds (vm.c). All its bits
 * are one. The machine's; NULL: this number has none. */
uint8_t *bh_vm_page(struct bh_vm *vm, unsigned number);
/* Has writes of any size to a device register signal the eventfd instead of leaving the guest; or no longer. */
int bh_vm_watch_register(struct bh_vm *vm, uint64_t address, int event_fd, bool on);
/* The same, of 32-bit writes of this value alone; others leave the guest. */
int bh_vm_watch_value(struct bh_vm *vm, uint64_t address, uint32_t value, int event_fd, bool on);

/* cpuid.c: what the processors say they are. */
int bh_vm_load_cpuid(struct bh_vm *vm, const char *model, struct bh_error *err);
int bh_vcpu_set_cpuid(struct bh_vcpu *vcpu, struct bh_error *err);
/* vcpu.c */
int bh_vcpu_make(struct bh_vm *vm, unsigned index, struct bh_vcpu *ret_vcpu, struct bh_error *err);
void bh_vcpu_clear(struct bh_vcpu *vcpu); /* its thread has ended */
int bh_vcpu_set_entry(struct bh_vcpu *vcpu, const struct bh_entry *entry, struct bh_error *err);
int bh_vcpu_start(struct bh_vcpu *vcpu, struct bh_error *err);
/* Takes it out of the guest, now or at its next entry. Nothing if its thread doesn't run. For vm.c: nobody may join the thread meanwhile. */
void bh_vcpu_kick(struct bh_vcpu *vcpu);

/* state.c: everything that KVM keeps. The machine is paused, or not yet started. What is loaded comes from bytes that are hostile: KVM
 * checks registers, we the shape. */
int bh_vm_save(struct bh_vm *vm, struct bh_buf *out, struct bh_error *err);
int bh_vm_load(struct bh_vm *vm, struct bh_state_reader *in, struct bh_error *err);
