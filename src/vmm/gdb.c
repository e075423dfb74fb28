/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gdb.h"

#include "base/memory.h"
#include "vmm/gdb-session.h"
#include "vmm/loop.h"
#include "vmm/vm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOFTWARE_MAX 256
#define HARDWARE_MAX 4
#define INT3 0xcc

/* Exceptions as run->debug has them, and what DR6 says of them (AMD64 APM volume 2, 13.1). */
#define EXCEPTION_DEBUG 1
#define EXCEPTION_BREAKPOINT 3
#define DR6_HIT(index) (1ULL << (index))
#define DR7_GLOBAL(index) (2ULL << ((index)*2))
#define DR7_RULE(index, rule) ((uint64_t)(rule) << (16 + (index)*4))
#define DR7_FIXED 0x400ULL

struct software {
	uint64_t physical;
	uint64_t address; /* virtual, as it was set */
	uint8_t byte;     /* that the guest has there */
};

struct hardware {
	bool used;
	enum bh_gdb_breakpoint kind;
	uint64_t address, length;
};

struct bh_gdb {
	struct bh_vm *vm;
	struct bh_loop *loop;
	int listen_fd, client_fd, stopped_fd; /* stopped_fd: an eventfd, written by a processor that has stopped */
	bool block_interrupts;                /* while a step is made: KVM can */
	struct bh_gdb_session session;
	/* Changed only while all processors stand. */
	struct software software[SOFTWARE_MAX];
	size_t software_count;
	uint32_t step[BH_VCPUS_MAX]; /* flags of a processor that makes a step */
	struct hardware hardware[HARDWARE_MAX];
	/* Of the first processor that has stopped since the machine was let go; claimed by it. */
	atomic_bool claimed;
	struct bh_gdb_stop stop;
};

/* --- registers -------------------------------------------------------------------------------------------------------------- */

/* KVM's structure in the order of the protocol. */
static void general_places(struct kvm_regs *r, __u64 *places[16])
{
	__u64 *const in_order[16] = { &r->rax, &r->rbx, &r->rcx, &r->rdx, &r->rsi, &r->rdi, &r->rbp, &r->rsp,
				      &r->r8,  &r->r9,  &r->r10, &r->r11, &r->r12, &r->r13, &r->r14, &r->r15 };

	memcpy(places, in_order, sizeof in_order);
}

static void put_x87(const struct kvm_fpu *fpu, struct bh_gdb_registers *registers)
{
	uint32_t full_tags = 0;

	for (unsigned i = 0; i < 8; i++) {
		memcpy(registers->st[i], fpu->fpr[i], sizeof registers->st[i]);
		/* The short tag word says used or not; the long one has two bits each, 3: empty, and 0: valid is right enough. */
		if (!(fpu->ftwx >> i & 1))
			full_tags |= 3u << (2 * i);
	}
	registers->x87[0] = fpu->fcw;
	registers->x87[1] = fpu->fsw;
	registers->x87[2] = full_tags;
	registers->x87[3] = (uint32_t)(fpu->last_ip >> 32);
	registers->x87[4] = (uint32_t)fpu->last_ip;
	registers->x87[5] = (uint32_t)(fpu->last_dp >> 32);
	registers->x87[6] = (uint32_t)fpu->last_dp;
	registers->x87[7] = fpu->last_opcode;
	memcpy(registers->xmm, fpu->xmm, sizeof registers->xmm);
	registers->mxcsr = fpu->mxcsr;
}

static void get_x87(const struct bh_gdb_registers *registers, struct kvm_fpu *fpu)
{
	fpu->ftwx = 0;
	for (unsigned i = 0; i < 8; i++) {
		memcpy(fpu->fpr[i], registers->st[i], sizeof registers->st[i]);
		if ((registers->x87[2] >> (2 * i) & 3) != 3)
			fpu->ftwx |= (uint8_t)(1u << i);
	}
	fpu->fcw = (uint16_t)registers->x87[0];
	fpu->fsw = (uint16_t)registers->x87[1];
	memcpy(fpu->xmm, registers->xmm, sizeof registers->xmm);
	fpu->mxcsr = registers->mxcsr;
}

static bool read_registers(void *context, unsigned thread, struct bh_gdb_registers *registers)
{
	const struct bh_gdb *g = context;
	int fd = g->vm->vcpus[thread].fd;
	struct bh_gdb_registers out = { 0 };
	__u64 *places[16];
	struct kvm_sregs s;
	struct kvm_regs r;
	struct kvm_fpu fpu;

	if (ioctl(fd, KVM_GET_REGS, &r) < 0 || ioctl(fd, KVM_GET_SREGS, &s) < 0 || ioctl(fd, KVM_GET_FPU, &fpu) < 0)
		return false;
	general_places(&r, places);
	for (int i = 0; i < 16; i++)
		out.general[i] = *places[i];
	out.rip = r.rip;
	out.eflags = (uint32_t)r.rflags;
	const struct kvm_segment *const segments[] = { &s.cs, &s.ss, &s.ds, &s.es, &s.fs, &s.gs };

	for (size_t i = 0; i < BH_ARRAY_SIZE(segments); i++)
		out.segments[i] = segments[i]->selector;
	put_x87(&fpu, &out);
	out.fs_base = s.fs.base, out.gs_base = s.gs.base;
	out.cr0 = s.cr0, out.cr2 = s.cr2, out.cr3 = s.cr3, out.cr4 = s.cr4, out.cr8 = s.cr8, out.efer = s.efer;
	*registers = out;
	return true;
}

/* Selectors stay: a segment is more than its number. KVM refuses what no processor can have. */
static bool write_registers(void *context, unsigned thread, const struct bh_gdb_registers *in)
{
	const struct bh_gdb *g = context;
	int fd = g->vm->vcpus[thread].fd;
	__u64 *places[16];
	struct kvm_sregs s, before;
	struct kvm_regs r;
	struct kvm_fpu fpu;

	if (ioctl(fd, KVM_GET_REGS, &r) < 0 || ioctl(fd, KVM_GET_SREGS, &s) < 0 || ioctl(fd, KVM_GET_FPU, &fpu) < 0)
		return false;
	before = s;
	general_places(&r, places);
	for (int i = 0; i < 16; i++)
		*places[i] = in->general[i];
	r.rip = in->rip;
	r.rflags = in->eflags;
	get_x87(in, &fpu);
	s.fs.base = in->fs_base, s.gs.base = in->gs_base;
	s.cr0 = in->cr0, s.cr2 = in->cr2, s.cr3 = in->cr3, s.cr4 = in->cr4, s.cr8 = in->cr8, s.efer = in->efer;
	if (memcmp(&s, &before, sizeof s) != 0 && ioctl(fd, KVM_SET_SREGS, &s) < 0)
		return false;
	return ioctl(fd, KVM_SET_REGS, &r) == 0 && ioctl(fd, KVM_SET_FPU, &fpu) == 0;
}

/* --- memory ------------------------------------------------------------------------------------------------------------------ */

/* Where a virtual address lies, and how many of `length` bytes follow on its page. 0: nowhere. */
static size_t translate(const struct bh_gdb *g, unsigned thread, uint64_t address, size_t length, uint64_t *ret_physical)
{
	struct kvm_translation translation = { .linear_address = address };

	if (ioctl(g->vm->vcpus[thread].fd, KVM_TRANSLATE, &translation) < 0 || !translation.valid)
		return 0;
	*ret_physical = translation.physical_address;
	return BH_MIN(length, (size_t)(BH_GUEST_PAGE - address % BH_GUEST_PAGE));
}

/* The guest's own bytes in the place of our breakpoints. */
static void hide_breakpoints(const struct bh_gdb *g, uint64_t physical, uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < g->software_count; i++)
		if (g->software[i].physical >= physical && g->software[i].physical - physical < length)
			bytes[g->software[i].physical - physical] = g->software[i].byte;
}

static size_t read_memory(void *context, unsigned thread, uint64_t address, void *bytes, size_t length)
{
	const struct bh_gdb *g = context;
	size_t done = 0;

	while (done < length) {
		uint8_t *to = (uint8_t *)bytes + done;
		uint64_t physical;
		size_t part = translate(g, thread, address + done, length - done, &physical);

		if (part == 0 || !bh_guest_read(&g->vm->memory, physical, to, part))
			break;
		hide_breakpoints(g, physical, to, part);
		done += part;
	}
	return done;
}

/* Breakpoints stay, and what is written comes to lie behind them. */
static bool write_part(struct bh_gdb *g, uint64_t physical, const uint8_t *bytes, size_t length)
{
	uint8_t page[BH_GUEST_PAGE];

	memcpy(page, bytes, length);
	for (size_t i = 0; i < g->software_count; i++) {
		struct software *b = &g->software[i];

		if (b->physical < physical || b->physical - physical >= length)
			continue;
		b->byte = bytes[b->physical - physical];
		page[b->physical - physical] = INT3;
	}
	return bh_guest_write(&g->vm->memory, physical, page, length);
}

static bool write_memory(void *context, unsigned thread, uint64_t address, const void *bytes, size_t length)
{
	struct bh_gdb *g = context;

	for (size_t done = 0; done < length;) {
		uint64_t physical;
		size_t part = translate(g, thread, address + done, length - done, &physical);

		if (part == 0 || !write_part(g, physical, (const uint8_t *)bytes + done, part))
			return false;
		done += part;
	}
	return true;
}

/* --- breakpoints ------------------------------------------------------------------------------------------------------------- */

static bool insert_software(struct bh_gdb *g, unsigned thread, uint64_t address)
{
	static const uint8_t int3 = INT3;
	struct software *b = &g->software[g->software_count];

	for (size_t i = 0; i < g->software_count; i++)
		if (g->software[i].address == address)
			return true;
	if (g->software_count == SOFTWARE_MAX || translate(g, thread, address, 1, &b->physical) != 1 ||
	    !bh_guest_read(&g->vm->memory, b->physical, &b->byte, 1))
		return false;
	b->address = address;
	/* The same byte by another address has its breakpoint already. */
	hide_breakpoints(g, b->physical, &b->byte, 1);
	if (!bh_guest_write(&g->vm->memory, b->physical, &int3, 1))
		return false;
	g->software_count++;
	return true;
}

static void remove_software(struct bh_gdb *g, size_t index)
{
	struct software b = g->software[index];
	bool shared = false;

	g->software[index] = g->software[--g->software_count];
	for (size_t i = 0; i < g->software_count; i++)
		shared = shared || g->software[i].physical == b.physical;
	if (!shared)
		bh_guest_write(&g->vm->memory, b.physical, &b.byte, 1);
}

static bool insert_hardware(struct bh_gdb *g, const struct hardware *wanted)
{
	for (size_t i = 0; i < HARDWARE_MAX; i++) {
		if (g->hardware[i].used)
			continue;
		g->hardware[i] = *wanted;
		return true;
	}
	return false;
}

/* As often as it is asked: removing what isn't there is success. */
static void remove_breakpoint(struct bh_gdb *g, enum bh_gdb_breakpoint kind, uint64_t address)
{
	for (size_t i = g->software_count; kind == BH_GDB_SOFTWARE && i-- > 0;)
		if (g->software[i].address == address)
			remove_software(g, i);
	for (size_t i = 0; kind != BH_GDB_SOFTWARE && i < HARDWARE_MAX; i++)
		if (g->hardware[i].kind == kind && g->hardware[i].address == address)
			g->hardware[i].used = false;
}

static bool set_breakpoint(void *context, unsigned thread, enum bh_gdb_breakpoint kind, uint64_t address, uint64_t length, bool on)
{
	struct bh_gdb *g = context;
	struct hardware wanted = { true, kind, address, kind == BH_GDB_HARDWARE ? 1 : length };

	if (!on) {
		remove_breakpoint(g, kind, address);
		return true;
	}
	if (kind == BH_GDB_SOFTWARE)
		return insert_software(g, thread, address);
	if ((wanted.length != 1 && wanted.length != 2 && wanted.length != 4 && wanted.length != 8) || address % wanted.length)
		return false;
	return insert_hardware(g, &wanted);
}

static void remove_all(struct bh_gdb *g)
{
	while (g->software_count)
		remove_software(g, g->software_count - 1);
	memset(g->hardware, 0, sizeof g->hardware);
}

/* --- running and standing ---------------------------------------------------------------------------------------------------- */

static uint64_t debug_control(const struct bh_gdb *g, uint64_t addresses[HARDWARE_MAX])
{
	/* By length: 1, 2, 8, 4. What is read only can't be watched: reads and writes are. */
	static const uint8_t lengths[] = { [1] = 0, [2] = 1, [4] = 3, [8] = 2 };
	uint64_t dr7 = 0;

	for (unsigned i = 0; i < HARDWARE_MAX; i++) {
		const struct hardware *h = &g->hardware[i];
		unsigned access = h->kind == BH_GDB_HARDWARE ? 0 : h->kind == BH_GDB_WATCH_WRITE ? 1 : 3;

		if (!h->used)
			continue;
		addresses[i] = h->address;
		dr7 |= DR7_FIXED | DR7_GLOBAL(i) | DR7_RULE(i, access | (unsigned)lengths[h->length] << 2);
	}
	return dr7;
}

/* `flags` beside what breakpoints need. */
static void set_debugging(struct bh_gdb *g, unsigned thread, uint32_t flags)
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP | flags };
	uint64_t addresses[HARDWARE_MAX] = { 0 }, dr7 = debug_control(g, addresses);

	if (dr7) {
		debug.control |= KVM_GUESTDBG_USE_HW_BP;
		for (unsigned i = 0; i < HARDWARE_MAX; i++)
			debug.arch.debugreg[i] = addresses[i];
		debug.arch.debugreg[7] = dr7;
	}
	ioctl(g->vm->vcpus[thread].fd, KVM_SET_GUEST_DEBUG, &debug);
}

static void resume(void *context, const enum bh_gdb_action *actions)
{
	struct bh_gdb *g = context;
	bool which[BH_VCPUS_MAX] = { 0 };

	atomic_store(&g->claimed, false);
	for (unsigned i = 0; i < g->vm->vcpu_count; i++) {
		which[i] = actions[i] != BH_GDB_STAY;
		g->step[i] = actions[i] == BH_GDB_STEP ? KVM_GUESTDBG_SINGLESTEP | (g->block_interrupts ? KVM_GUESTDBG_BLOCKIRQ : 0) : 0;
		set_debugging(g, i, g->step[i]);
	}
	bh_vm_release(g->vm, which);
}

static void interrupt(void *context)
{
	struct bh_gdb *g = context;
	struct bh_gdb_stop stop = { .reason = BH_GDB_BY_INTERRUPT, .thread = g->session.thread };

	bh_vm_hold(g->vm);
	/* One that met a breakpoint in this moment has the word. */
	if (atomic_exchange(&g->claimed, true))
		stop = g->stop;
	bh_gdb_stopped(&g->session, &stop);
}

/* The guest has its breakpoints for itself again. */
static void detach(void *context)
{
	static const struct kvm_guest_debug none = { 0 };
	struct bh_gdb *g = context;
	bool all[BH_VCPUS_MAX];

	bh_vm_hold(g->vm);
	remove_all(g);
	for (unsigned i = 0; i < g->vm->vcpu_count; i++)
		ioctl(g->vm->vcpus[i].fd, KVM_SET_GUEST_DEBUG, &none);
	memset(all, true, sizeof all);
	bh_vm_release(g->vm, all);
}

static void end_machine(void *context)
{
	struct bh_gdb *g = context;

	bh_vm_end(g->vm, BH_VM_STOPPED, 0, "ended by the debugger");
}

static unsigned count_threads(void *context)
{
	const struct bh_gdb *g = context;

	return BH_MIN(g->vm->vcpu_count, (unsigned)BH_GDB_THREADS_MAX);
}

static const struct bh_gdb_target target = {
	.threads = count_threads,
	.read_registers = read_registers,
	.write_registers = write_registers,
	.read_memory = read_memory,
	.write_memory = write_memory,
	.set_breakpoint = set_breakpoint,
	.resume = resume,
	.interrupt = interrupt,
	.detach = detach,
	.kill = end_machine,
};

/* --- on a processor's thread ------------------------------------------------------------------------------------------------- */

static bool is_ours(const struct bh_gdb *g, uint64_t address)
{
	for (size_t i = 0; i < g->software_count; i++)
		if (g->software[i].address == address)
			return true;
	return false;
}

static struct bh_gdb_stop describe(const struct bh_gdb *g, const struct bh_vcpu *vcpu)
{
	const struct kvm_debug_exit_arch *exit = &vcpu->run->debug.arch;
	struct bh_gdb_stop stop = { .thread = vcpu->index, .reason = BH_GDB_BY_TRAP };

	if (exit->exception == EXCEPTION_BREAKPOINT)
		stop.reason = BH_GDB_BY_BREAKPOINT, stop.breakpoint = BH_GDB_SOFTWARE;
	for (unsigned i = 0; exit->exception == EXCEPTION_DEBUG && i < HARDWARE_MAX; i++) {
		if (!g->hardware[i].used || !(exit->dr6 & DR6_HIT(i)))
			continue;
		stop.reason = BH_GDB_BY_BREAKPOINT;
		stop.breakpoint = g->hardware[i].kind;
		stop.address = g->hardware[i].address;
		break;
	}
	return stop;
}

static void on_debug(void *context, struct bh_vcpu *vcpu)
{
	struct bh_gdb *g = context;
	uint64_t one = 1;

	if (vcpu->run->debug.arch.exception == EXCEPTION_BREAKPOINT && !is_ours(g, vcpu->run->debug.arch.pc)) {
		set_debugging(g, vcpu->index, g->step[vcpu->index] | KVM_GUESTDBG_INJECT_BP);
		return;
	}
	bh_vm_hold_from(vcpu);
	/* A later one finds its breakpoint again when it goes on. */
	if (!atomic_exchange(&g->claimed, true)) {
		g->stop = describe(g, vcpu);
		(void)!write(g->stopped_fd, &one, sizeof one);
	}
}

/* --- the connection ----------------------------------------------------------------------------------------------------------- */

static void drop_client(struct bh_gdb *g)
{
	if (g->client_fd < 0)
		return;
	bh_loop_remove(g->loop, g->client_fd);
	bh_close_fd(&g->client_fd);
	bh_gdb_end(&g->session);
}

/* A debugger waits for its answers: one that doesn't take them is gone. False: it is. */
static bool send_answers(struct bh_gdb *g)
{
	struct bh_buf *out = &g->session.out;
	bool sent = out->length == 0 || send(g->client_fd, out->data, out->length, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)out->length;

	bh_buf_reset(out);
	return sent;
}

static void on_client(void *context, uint32_t events)
{
	struct bh_gdb *g = context;
	char bytes[4096];
	ssize_t n = recv(g->client_fd, bytes, sizeof bytes, MSG_DONTWAIT);

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		bh_gdb_feed(&g->session, bytes, (size_t)n);
	if (send_answers(g) && n > 0 && !g->session.ended)
		return;
	/* Whoever has detached has let it go already. */
	if (atomic_load(&g->vm->end) == BH_VM_RUNNING)
		detach(g);
	drop_client(g);
}

static void on_connection(void *context, uint32_t events)
{
	struct bh_gdb *g = context;
	struct bh_error err = BH_ERROR_INIT;
	int fd = accept4(g->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	(void)events;
	if (fd < 0)
		return;
	if (g->client_fd >= 0 || bh_loop_add(g->loop, fd, EPOLLIN, on_client, g, &err) < 0) {
		close(fd);
		return;
	}
	g->client_fd = fd;
	bh_vm_hold(g->vm);
	for (unsigned i = 0; i < g->vm->vcpu_count; i++)
		set_debugging(g, i, 0);
	bh_gdb_begin(&g->session, &target, g);
}

static void on_stopped(void *context, uint32_t events)
{
	struct bh_gdb *g = context;
	uint64_t count;

	(void)events;
	(void)!read(g->stopped_fd, &count, sizeof count);
	/* It may have been told already, or the debugger has gone. */
	if (g->client_fd < 0 || !g->session.running || !atomic_load(&g->claimed))
		return;
	bh_vm_hold(g->vm);
	bh_gdb_stopped(&g->session, &g->stop);
	if (!send_answers(g)) {
		detach(g);
		drop_client(g);
	}
}

int bh_gdb_make(struct bh_vm *vm, int listen_fd, struct bh_gdb **ret_gdb, struct bh_error *err)
{
	struct bh_gdb *g = bh_calloc(1, sizeof *g);
	int supported = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG2), r;

	g->vm = vm;
	g->listen_fd = listen_fd;
	g->client_fd = -1;
	g->block_interrupts = supported > 0 && supported & KVM_GUESTDBG_BLOCKIRQ;
	g->stopped_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = g->stopped_fd < 0 ? bh_error_set(err, errno, "make an eventfd") : bh_loop_make("gdb", &g->loop, err);
	if (r == 0)
		r = bh_loop_add(g->loop, g->listen_fd, EPOLLIN, on_connection, g, err);
	if (r == 0)
		r = bh_loop_add(g->loop, g->stopped_fd, EPOLLIN, on_stopped, g, err);
	if (r < 0) {
		bh_gdb_free(g);
		return r;
	}
	vm->debug_context = g;
	vm->on_debug = on_debug;
	bh_gdb_description();
	bh_vm_hold(vm);
	*ret_gdb = g;
	return 0;
}

int bh_gdb_start(struct bh_gdb *g, bool locked, struct bh_error *err)
{
	return bh_loop_start(g->loop, BH_THREAD_DEVICE, locked, err);
}

void bh_gdb_stop(struct bh_gdb *g, int status)
{
	if (!g)
		return;
	bh_loop_stop(g->loop);
	if (g->client_fd < 0)
		return;
	bh_gdb_exited(&g->session, status);
	send_answers(g);
}

void bh_gdb_free(struct bh_gdb *g)
{
	if (!g)
		return;
	if (g->loop)
		bh_loop_stop(g->loop);
	drop_client(g);
	bh_loop_free(g->loop);
	bh_close_fd(&g->listen_fd);
	bh_close_fd(&g->stopped_fd);
	free(g);
}
