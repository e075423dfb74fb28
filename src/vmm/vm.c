/* SPDX-License-Identifier: Apache-2.0 */
/* Putting a machine together (Linux Documentation/virt/kvm/api.rst). */
#include "vmm/vm.h"

#include "base/log.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Below the hole's end, where no RAM and no device is: what Intel's real mode needs of the host. */
#define IDENTITY_MAP_ADDRESS 0xfffbc000ULL
#define TSS_ADDRESS 0xfffbd000UL

/* The first number behind those of guest memory. */
#define SHOWN_MEMSLOT 16

static int open_kvm(struct bh_vm *vm, int kvm_fd, struct bh_error *err)
{
	static const struct {
		int number;
		const char *name;
	} needed[] = {
		{ KVM_CAP_IRQCHIP, "an interrupt controller" },  { KVM_CAP_USER_MEMORY, "user memory" },
		{ KVM_CAP_SET_TSS_ADDR, "a place for the TSS" }, { KVM_CAP_EXT_CPUID, "CPUID" },
		{ KVM_CAP_MP_STATE, "processor states" },        { KVM_CAP_IMMEDIATE_EXIT, "immediate exits" },
		{ KVM_CAP_IRQFD, "interrupts by eventfd" },      { KVM_CAP_IOEVENTFD, "eventfds for registers" },
		{ KVM_CAP_SIGNAL_MSI, "message interrupts" },    { KVM_CAP_IOEVENTFD_ANY_LENGTH, "eventfds for writes of any size" },
	};
	int version;

	vm->kvm_fd = kvm_fd >= 0 ? kvm_fd : open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm_fd < 0)
		return bh_error_set(err, errno, "open /dev/kvm");
	version = ioctl(vm->kvm_fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION)
		return bh_error_text(err, ENOTSUP, "/dev/kvm speaks version %d of its interface, not %d", version, KVM_API_VERSION);
	for (size_t i = 0; i < BH_ARRAY_SIZE(needed); i++)
		if (ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, needed[i].number) <= 0)
			return bh_error_text(err, ENOTSUP, "this KVM lacks %s", needed[i].name);
	return 0;
}

static int make_vm(struct bh_vm *vm, struct bh_error *err)
{
	uint64_t identity = IDENTITY_MAP_ADDRESS;

	vm->fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	if (vm->fd < 0)
		return bh_error_set(err, errno, "make a virtual machine");
	if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0 || ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_ADDRESS) < 0)
		return bh_error_set(err, errno, "place KVM's own pages");
	return 0;
}

/* Behind the memory slots: a change of those waits for all readers of KVM's tables, and for some 7 ms (Linux 6.18) if a new table of interrupts is on
 * its way to them. */
static int make_interrupt_controllers(struct bh_vm *vm, bool pit, struct bh_error *err)
{
	struct kvm_pit_config pit_config = { .flags = KVM_PIT_SPEAKER_DUMMY };

	if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return bh_error_set(err, errno, "make the interrupt controllers");
	if (pit && ioctl(vm->fd, KVM_CREATE_PIT2, &pit_config) < 0)
		return bh_error_set(err, errno, "make the timer");
	return 0;
}

int bh_vm_set_memslots(struct bh_vm *vm, uint32_t flags, struct bh_error *err)
{
	for (size_t i = 0; i < vm->memory.count; i++) {
		const struct bh_guest_region *region = &vm->memory.regions[i];
		struct kvm_userspace_memory_region slot = {
			.slot = (uint32_t)i,
			.flags = flags,
			.guest_phys_addr = region->address,
			.memory_size = region->size,
			.userspace_addr = (uintptr_t)region->host,
		};

		if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
			return bh_error_set(err, errno, "give the guest %llu MiB of memory at 0x%llx", (unsigned long long)(region->size >> 20),
					    (unsigned long long)region->address);
	}
	return 0;
}

static int set_memory(struct bh_vm *vm, struct bh_error *err)
{
	for (size_t i = 0; bh_explain_mode != BH_EXPLAIN_OFF && i < vm->memory.count; i++) {
		bh_auto_free char *address = bh_printf("0x%llx", (unsigned long long)vm->memory.regions[i].address);
		bh_auto_free char *size = bh_printf("%llu", (unsigned long long)vm->memory.regions[i].size);

		bh_explain("memslot", "address", address, "bytes", size);
	}
	return bh_vm_set_memslots(vm, 0, err);
}

int bh_vm_show_page(struct bh_vm *vm, unsigned number, uint64_t address, const void *host)
{
	struct kvm_userspace_memory_region slot = {
		.slot = SHOWN_MEMSLOT + number,
		.flags = KVM_MEM_READONLY,
		.guest_phys_addr = address,
		.memory_size = host ? BH_GUEST_PAGE : 0,
		.userspace_addr = (uintptr_t)host,
	};

	if (host && ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_READONLY_MEM) <= 0)
		return -ENOTSUP;
	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0 ? -errno : 0;
}

/* One that KVM doesn't take is shown later, or read by exits. */
static void show_pages(struct bh_vm *vm, const struct bh_vm_config *config)
{
	size_t size = (size_t)config->pages.count * BH_GUEST_PAGE;

	if (!size)
		return;
	vm->pages = bh_aligned_alloc(BH_GUEST_PAGE, size);
	memset(vm->pages, 0xff, size);
	while (vm->page_count < config->pages.count && bh_vm_show_page(vm, vm->page_count, config->pages.address + vm->page_count * config->pages.stride,
								       vm->pages + vm->page_count * BH_GUEST_PAGE) == 0)
		vm->page_count++;
}

uint8_t *bh_vm_page(struct bh_vm *vm, unsigned number)
{
	return number < vm->page_count ? vm->pages + number * BH_GUEST_PAGE : NULL;
}

static int make_vcpus(struct bh_vm *vm, unsigned count, struct bh_error *err)
{
	int most = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS), r = 0;

	if (count < 1 || count > BH_VCPUS_MAX || (most > 0 && count > (unsigned)most))
		return bh_error_text(err, EINVAL, "%u processors: from 1 to %d", count, most > 0 ? BH_MIN(most, BH_VCPUS_MAX) : BH_VCPUS_MAX);
	vm->vcpus = bh_calloc(count, sizeof *vm->vcpus);
	for (unsigned i = 0; r == 0 && i < count; i++) {
		r = bh_vcpu_make(vm, i, &vm->vcpus[i], err);
		if (r == 0)
			vm->vcpu_count++;
	}
	return r;
}

int bh_vm_make(const struct bh_vm_config *config, int kvm_fd, struct bh_vm *ret_vm, struct bh_error *err)
{
	struct bh_vm *vm = ret_vm;
	int r;

	*vm = (struct bh_vm)BH_VM_INIT;
	vm->timed = config->timed;
	vm->locked = config->locked;
	vm->vcpus_wanted = config->vcpus;
	vm->pit = config->pit;
	r = open_kvm(vm, kvm_fd, err);
	if (r == 0)
		r = bh_guest_memory_make(config->memory, config->backing, &vm->memory, err);
	if (r == 0)
		r = make_vm(vm, err);
	if (r == 0)
		r = set_memory(vm, err);
	if (r == 0) {
		show_pages(vm, config);
		r = make_interrupt_controllers(vm, config->pit, err);
	}
	/* Before there are processors. */
	if (r == 0 && config->dirty_ring)
		bh_dirty_use_rings(vm);
	if (r == 0)
		r = bh_vm_load_cpuid(vm, config->cpu, err);
	if (r == 0) {
		vm->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		r = vm->end_fd < 0 ? bh_error_set(err, errno, "make an eventfd") : make_vcpus(vm, config->vcpus, err);
	}
	if (r < 0)
		bh_vm_clear(vm);
	return r;
}

/* Of what ends the machine; and a thread that may be joined any moment isn't kicked any more. Taken last, also with pause_lock held. */
static pthread_mutex_t end_lock = PTHREAD_MUTEX_INITIALIZER;

/* All but this one, NULL: all. */
static void kick_vcpus(struct bh_vm *vm, const struct bh_vcpu *but)
{
	pthread_mutex_lock(&end_lock);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (&vm->vcpus[i] != but)
			bh_vcpu_kick(&vm->vcpus[i]);
	pthread_mutex_unlock(&end_lock);
}

static void join_vcpus(struct bh_vm *vm)
{
	bool started[BH_VCPUS_MAX];

	pthread_mutex_lock(&end_lock);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		started[i] = atomic_exchange(&vm->vcpus[i].started, false);
	pthread_mutex_unlock(&end_lock);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (started[i])
			pthread_join(vm->vcpus[i].thread, NULL);
}

void bh_vm_stop(struct bh_vm *vm)
{
	bh_vm_end(vm, BH_VM_STOPPED, 0, "stopped");
	join_vcpus(vm);
}

void bh_vm_clear(struct bh_vm *vm)
{
	bh_vm_stop(vm);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		bh_vcpu_clear(&vm->vcpus[i]);
	bh_free_ptr(&vm->vcpus);
	bh_free_ptr(&vm->cpuid);
	bh_free_ptr(&vm->host_cpuid);
	bh_bus_clear(&vm->ports);
	bh_bus_clear(&vm->mmio);
	bh_close_fd(&vm->fd);
	bh_close_fd(&vm->kvm_fd);
	bh_close_fd(&vm->end_fd);
	bh_guest_memory_clear(&vm->memory);
	bh_free_ptr(&vm->pages);
	vm->page_count = vm->vcpu_count = 0;
}

int bh_vm_start(struct bh_vm *vm, const struct bh_entry *entry, struct bh_error *err)
{
	int r = entry ? bh_vcpu_set_entry(&vm->vcpus[0], entry, err) : 0;

	/* The others first: they wait in KVM for what the first one sends them. */
	for (unsigned i = vm->vcpu_count; r == 0 && i-- > 0;)
		r = bh_vcpu_start(&vm->vcpus[i], err);
	return r;
}

void bh_vm_end(struct bh_vm *vm, enum bh_vm_end_kind kind, int exit_code, const char *format, ...)
{
	uint64_t one = 1;
	va_list args;

	/* The words are complete before the others can see that it has ended. */
	pthread_mutex_lock(&end_lock);
	if (atomic_load(&vm->end) == BH_VM_RUNNING) {
		vm->exit_code = exit_code;
		va_start(args, format);
		vsnprintf(vm->words, sizeof vm->words, format, args);
		va_end(args);
		atomic_store(&vm->end, (int)kind);
	}
	pthread_mutex_unlock(&end_lock);
	kick_vcpus(vm, NULL);
	/* Those that are parked have to see it too. */
	pthread_mutex_lock(&vm->pause_lock);
	pthread_cond_broadcast(&vm->pause_changed);
	pthread_mutex_unlock(&vm->pause_lock);
	if (vm->end_fd >= 0)
		(void)!write(vm->end_fd, &one, sizeof one);
}

static bool all_stand(const struct bh_vm *vm)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (vm->vcpus[i].started && !vm->vcpus[i].parked)
			return false;
	return true;
}

void bh_vm_pause(struct bh_vm *vm)
{
	pthread_mutex_lock(&vm->pause_lock);
	vm->paused = true;
	kick_vcpus(vm, NULL);
	while (!all_stand(vm) && atomic_load(&vm->end) == BH_VM_RUNNING)
		pthread_cond_wait(&vm->pause_changed, &vm->pause_lock);
	pthread_mutex_unlock(&vm->pause_lock);
}

void bh_vm_hold(struct bh_vm *vm)
{
	pthread_mutex_lock(&vm->pause_lock);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vm->vcpus[i].held = true;
	kick_vcpus(vm, NULL);
	while (!all_stand(vm) && atomic_load(&vm->end) == BH_VM_RUNNING)
		pthread_cond_wait(&vm->pause_changed, &vm->pause_lock);
	pthread_mutex_unlock(&vm->pause_lock);
}

void bh_vm_hold_from(struct bh_vcpu *vcpu)
{
	struct bh_vm *vm = vcpu->vm;

	pthread_mutex_lock(&vm->pause_lock);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vm->vcpus[i].held = true;
	kick_vcpus(vm, vcpu);
	pthread_mutex_unlock(&vm->pause_lock);
}

void bh_vm_release(struct bh_vm *vm, const bool which[BH_VCPUS_MAX])
{
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		ioctl(vm->vcpus[i].fd, KVM_KVMCLOCK_CTRL, 0);
	pthread_mutex_lock(&vm->pause_lock);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vm->vcpus[i].held = vm->vcpus[i].held && !which[i];
	pthread_cond_broadcast(&vm->pause_changed);
	pthread_mutex_unlock(&vm->pause_lock);
}

void bh_vm_resume(struct bh_vm *vm)
{
	/* Its own clock went on: it is told that nothing hung. A guest without that clock can't be told. */
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		ioctl(vm->vcpus[i].fd, KVM_KVMCLOCK_CTRL, 0);
	pthread_mutex_lock(&vm->pause_lock);
	vm->paused = false;
	pthread_cond_broadcast(&vm->pause_changed);
	pthread_mutex_unlock(&vm->pause_lock);
}

void bh_vm_set_irq(struct bh_vm *vm, unsigned line, bool level)
{
	struct kvm_irq_level irq = { .irq = line, .level = level };

	/* It fails only for a line that isn't there. */
	ioctl(vm->fd, KVM_IRQ_LINE, &irq);
}

void bh_vm_signal_msi(struct bh_vm *vm, uint64_t address, uint32_t data)
{
	struct kvm_msi msi = { .address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data };

	/* It fails where the guest has given an address that is no interrupt controller's: its own loss. */
	ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);
}

int bh_vm_watch_register(struct bh_vm *vm, uint64_t address, int event_fd, bool on)
{
	struct kvm_ioeventfd watch = { .addr = address, .fd = event_fd, .flags = on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN };

	return ioctl(vm->fd, KVM_IOEVENTFD, &watch) < 0 ? -errno : 0;
}

int bh_vm_watch_value(struct bh_vm *vm, uint64_t address, uint32_t value, int event_fd, bool on)
{
	struct kvm_ioeventfd watch = {
		.addr = address,
		.fd = event_fd,
		.len = sizeof value,
		.datamatch = value,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH | (on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	return ioctl(vm->fd, KVM_IOEVENTFD, &watch) < 0 ? -errno : 0;
}
