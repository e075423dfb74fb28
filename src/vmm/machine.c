/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine-internal.h"

#include "base/log.h"
#include "base/memory.h"
#include "vmm/control.h"
#include "vmm/gdb.h"
#include "vmm/jail.h"
#include "vmm/migrate.h"
#include "vmm/pager.h"
#include "vmm/snapshot.h"
#include "vmm/virtio/pci.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

static int add_device(struct bh_machine *m, const char *words, struct bh_error *err)
{
	struct bh_virtio_device *device;
	struct bh_virtio_loops own;
	int r;

	if (m->device_count == BH_PCI_SLOTS - 1)
		return bh_error_text(err, ENOSPC, "%s: the machine has no slot left: at most %d devices", words, BH_PCI_SLOTS - 1);
	r = bh_virtio_make(&m->vm, m->loops[0], words, &device, &own, err);
	if (r < 0)
		return r;
	m->devices[m->device_count++] = device;
	for (size_t i = 0; i < own.count; i++)
		m->loops[m->loop_count++] = own.items[i];
	r = m->mmio ? bh_virtio_mmio_add(m->mmio, device, err) : bh_virtio_pci_add(m->pci, device, err);
	if (r == 0 && bh_explain_mode != BH_EXPLAIN_OFF) {
		bh_auto_free char *slot = bh_printf("%u", device->place), *threads = bh_printf("%zu", own.count);

		bh_explain("device", "type", device->driver->name, device->transport->name, slot, "thread",
			   own.count == 0 ? "shared" :
			   own.count == 1 ? "own" :
					    threads);
	}
	return r;
}

static int make_virtio(struct bh_machine *m, struct bh_error *err)
{
	/* Linux finds the memory window by ACPI, and probes less without the ports; smaller kernels have no other way. */
	int r = bh_pci_make(&m->vm, m->config->protocol != BH_BOOT_LINUX, &m->pci, err);

	if (m->config->transport == BH_TRANSPORT_MMIO)
		bh_virtio_mmio_make(&m->vm, &m->mmio);
	if (r == 0)
		r = bh_loop_make("devices", &m->loops[0], err);
	if (r == 0)
		m->loop_count = 1;
	for (char *const *words = m->config->devices; r == 0 && words && *words; words++)
		r = add_device(m, *words, err);
	return r;
}

static int start_loops(struct bh_machine *m, struct bh_error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->loop_count; i++)
		r = bh_loop_start(m->loops[i], BH_THREAD_DEVICE, m->config->vm.locked, err);
	if (r == 0 && m->jobs)
		r = bh_loop_start(m->jobs, BH_THREAD_JOBS, m->config->vm.locked, err);
	return r;
}

void bh_machine_pause(struct bh_machine *m)
{
	bh_vm_pause(&m->vm);
	for (size_t i = 0; i < m->loop_count; i++)
		bh_loop_pause(m->loops[i]);
	for (size_t i = 0; i < m->device_count; i++)
		if (m->devices[i]->driver->settle)
			m->devices[i]->driver->settle(m->devices[i]);
}

void bh_machine_resume(struct bh_machine *m)
{
	for (size_t i = 0; i < m->loop_count; i++)
		bh_loop_resume(m->loops[i]);
	bh_vm_resume(&m->vm);
}

int bh_machine_log_dirty(struct bh_machine *m, bool on, struct bh_error *err)
{
	int r = bh_vm_log_dirty(&m->vm, on, err);

	for (size_t i = 0; i < m->device_count; i++) {
		struct bh_virtio_device *device = m->devices[i];

		if (!device->driver->dirty_logged)
			continue;
		pthread_mutex_lock(&device->lock);
		device->driver->dirty_logged(device);
		pthread_mutex_unlock(&device->lock);
	}
	return r;
}

int bh_machine_save(struct bh_machine *m, struct bh_buf *out, struct bh_error *err)
{
	int r = bh_vm_save(&m->vm, out, err);

	bh_serial_save(m->serial, out);
	bh_pci_save_ports(m->pci, out);
	bh_state_put(out, bh_rtc_selected(), 1);
	bh_state_put(out, bh_events_waiting(), 1);
	bh_state_put(out, m->pluggable, 1);
	bh_plug_save(out);
	if (m->test_device) {
		bh_firmware_config_save(out);
		bh_test_device_save(m->test_device, out);
	}
	bh_state_put(out, m->device_count, 1);
	bh_state_put(out, m->config->transport, 1);
	for (size_t i = 0; i < m->device_count; i++)
		bh_state_put(out, m->devices[i]->place, 1);
	for (size_t i = 0; r == 0 && i < m->device_count; i++)
		m->devices[i]->transport->save(m->devices[i], out);
	return r;
}

/* Where devices have come and gone, their slots are no longer in the order of the list. */
static int load_places(struct bh_machine *m, struct bh_state_reader *in, struct bh_error *err)
{
	unsigned places[BH_PCI_SLOTS];
	uint32_t taken = 1; /* the bridge's */
	bool same = true;

	for (size_t i = 0; i < m->device_count; i++) {
		places[i] = (unsigned)bh_state_get(in, 1);
		if (in->failed || places[i] >= BH_PCI_SLOTS || taken & 1u << places[i])
			return bh_error_text(err, EINVAL, "the machine's saved state is damaged");
		taken |= 1u << places[i];
		same &= places[i] == m->devices[i]->place;
	}
	if (same)
		return 0;
	if (m->mmio)
		return bh_error_text(err, EINVAL, "the machine's saved state is damaged");
	for (size_t i = 0; i < m->device_count; i++)
		bh_virtio_pci_remove(m->devices[i]);
	for (size_t i = 0; i < m->device_count; i++)
		bh_virtio_pci_place(m->pci, m->devices[i], places[i]);
	return 0;
}

int bh_machine_load(struct bh_machine *m, struct bh_state_reader *in, struct bh_error *err)
{
	int r = bh_vm_load(&m->vm, in, err);
	uint64_t count, transport;

	if (r < 0)
		return r;
	bh_serial_load(m->serial, in);
	bh_pci_load_ports(m->pci, in);
	bh_rtc_select((uint8_t)bh_state_get(in, 1));
	bh_events_set_waiting((uint8_t)bh_state_get(in, 1));
	m->pluggable = bh_state_get(in, 1) != 0;
	bh_plug_load(in);
	if (m->test_device) {
		bh_firmware_config_load(in);
		bh_test_device_load(m->test_device, in);
	}
	count = bh_state_get(in, 1);
	transport = bh_state_get(in, 1);
	if (in->failed || count != m->device_count)
		return bh_error_text(err, EINVAL, "the saved machine has %llu devices, this one %zu", (unsigned long long)count, m->device_count);
	if (transport != m->config->transport)
		return bh_error_text(err, EINVAL, "the saved machine has its devices on another bus than this one (%s)", m->mmio ? "mmio" : "pci");
	r = load_places(m, in, err);
	for (size_t i = 0; r == 0 && i < m->device_count; i++)
		r = m->devices[i]->transport->load(m->devices[i], in, err);
	if (r == 0 && (in->failed || in->at != in->end))
		r = bh_error_text(err, EINVAL, "the machine's saved state is damaged");
	return r;
}

/* The vcpus have ended: nobody reaches a device but its loop. */
static void free_virtio(struct bh_machine *m)
{
	if (m->jobs)
		bh_loop_stop(m->jobs);
	for (size_t i = 0; i < m->loop_count; i++)
		bh_loop_stop(m->loops[i]);
	for (size_t i = 0; i < m->device_count; i++) {
		bh_virtio_detach(m->devices[i]);
		bh_virtio_free(m->devices[i]);
	}
	for (size_t i = 0; i < m->loop_count; i++)
		bh_loop_free(m->loops[i]);
	bh_loop_free(m->jobs);
	bh_pager_free(m->pager);
	bh_virtio_mmio_free(m->mmio);
	bh_pci_free(m->pci);
}

static int make_test_devices(struct bh_machine *m, struct bh_error *err)
{
	int r = bh_debug_exit_make(&m->vm, err);

	if (r == 0)
		r = bh_firmware_config_make(&m->vm, err);
	if (r == 0)
		r = bh_pm_timer_make(&m->vm, err);
	return r < 0 ? r : bh_test_device_make(&m->vm, &m->test_device, err);
}

static int make_devices(struct bh_machine *m, struct bh_error *err)
{
	int r = bh_serial_make(&m->vm, m->config->protocol == BH_BOOT_LINUX, &m->serial, err);

	if (r == 0)
		r = bh_reset_ports_make(&m->vm, err);
	if (r == 0)
		r = bh_rtc_make(&m->vm, err);
	if (r == 0)
		r = bh_power_make(&m->vm, err);
	if (r == 0)
		r = bh_events_make(&m->vm, err);
	if (r == 0)
		r = bh_panic_port_make(&m->vm, err);
	/* The tables of one that comes from elsewhere may name them. */
	m->pluggable = m->config->pluggable;
	if (r == 0 && (m->pluggable || m->config->restore_count || m->config->incoming_fd >= 0))
		r = bh_plug_make(&m->vm, err);
	if (r == 0 && m->config->test_devices)
		r = make_test_devices(m, err);
	if (r == 0)
		r = make_virtio(m, err);
	if (r == 0 && m->config->control_fd >= 0)
		r = bh_loop_make("jobs", &m->jobs, err);
	if (r == 0 && m->config->control_fd >= 0)
		r = bh_control_make(m, m->config->control_fd, &m->control, err);
	if (r == 0 && m->config->gdb_fd >= 0)
		r = bh_gdb_make(&m->vm, m->config->gdb_fd, &m->gdb, err);
	return r;
}

static int load_kernel(struct bh_machine *m, struct bh_error *err)
{
	struct bh_boot_request request = m->config->boot;
	const struct bh_boot_acpi acpi = {
		.vcpus = m->vm.vcpu_count,
		.fixed = m->config->test_devices,
		.pluggable = m->pluggable,
		.mmio_devices = m->mmio ? (unsigned)m->device_count : 0,
	};
	struct bh_entry entry;
	int r;

	bh_boot_place_reset(&m->vm.memory);
	request.acpi_root = bh_boot_acpi(&acpi, &m->vm.memory);
	if (m->config->protocol == BH_BOOT_MULTIBOOT)
		r = bh_boot_multiboot(&request, &m->vm.memory, &entry, err);
	else if (m->config->protocol == BH_BOOT_PVH)
		r = bh_boot_pvh(&request, &m->vm.memory, &entry, err);
	else
		r = bh_boot_linux(&request, &m->vm.memory, &entry, err);
	if (r == 0 && bh_explain_mode != BH_EXPLAIN_OFF) {
		bh_auto_free char *address = bh_printf("0x%llx", (unsigned long long)entry.rip);

		bh_explain("entry", "kernel", m->config->boot.kernel.name, "address", address, "mode",
			   entry.mode == BH_ENTRY_LONG ? "long" : "protected");
	}
	if (m->config->loaded)
		m->config->loaded(m->config->loaded_context);
	return r < 0 ? r : bh_vcpu_set_entry(&m->vm.vcpus[0], &entry, err);
}

/* A machine that begins, or begins again from a snapshot, isn't the one that was saved: the guest gets new randomness of its own by this. */
static int renew_generation(struct bh_machine *m, struct bh_error *err)
{
	uint8_t id[16];

	if (getrandom(id, sizeof id, 0) != sizeof id)
		return bh_error_set(err, errno, "getrandom");
	bh_guest_write(&m->vm.memory, BH_BOOT_GENERATION, id, sizeof id);
	if (m->config->restore_count)
		bh_events_raise(&m->vm, BH_EVENT_GENERATION);
	return 0;
}

/* From a kernel, from a snapshot, or from another machine that moves here; then the threads. */
static int boot(struct bh_machine *m, struct bh_error *err)
{
	int r;

	if (m->config->restore_count)
		r = bh_snapshot_restore(m, err);
	else if (m->config->incoming_fd >= 0)
		r = bh_migration_receive(m, err);
	else
		r = load_kernel(m, err);
	if (r == 0 && m->config->incoming_fd < 0)
		r = renew_generation(m, err);
	if (r == 0 && m->config->paused) {
		atomic_store(&m->stands, true);
		bh_vm_pause(&m->vm);
	}
	if (r == 0)
		r = start_loops(m, err);
	if (r == 0 && m->gdb)
		r = bh_gdb_start(m->gdb, m->config->vm.locked, err);
	return r < 0 ? r : bh_vm_start(&m->vm, NULL, err);
}

static int catch_signals(struct bh_machine *m, struct bh_error *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	m->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return m->signal_fd < 0 ? bh_error_set(err, errno, "signalfd") : 0;
}

static void take_signal(struct bh_machine *m)
{
	struct signalfd_siginfo info;

	if (read(m->signal_fd, &info, sizeof info) == sizeof info)
		bh_vm_end(&m->vm, BH_VM_STOPPED, 128 + (int)info.ssi_signo, "ended by signal %u", info.ssi_signo);
}

static void read_input(struct bh_machine *m)
{
	ssize_t n = read(m->config->input_fd, m->pending, sizeof m->pending);

	if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
		m->input_closed = true;
	m->pending_start = 0;
	m->pending_end = n > 0 ? (size_t)n : 0;
}

/* What can't be written stays in the port until it is full; a guest doesn't end for that. */
static void write_output(struct bh_machine *m)
{
	int r = bh_serial_flush(m->serial, m->config->output_fd);

	m->output_waits = r == -EAGAIN;
	if (r < 0 && r != -EAGAIN && !m->output_errno)
		m->output_errno = -r;
}

/* Until the machine has ended. */
static void serve(struct bh_machine *m)
{
	enum { END, SIGNAL, OUTPUT, WRITABLE, INPUT, CONTROL };

	while (atomic_load(&m->vm.end) == BH_VM_RUNNING) {
		bool waiting = m->pending_start < m->pending_end;
		struct pollfd fds[] = {
			[END] = { m->vm.end_fd, POLLIN, 0 },
			[SIGNAL] = { m->signal_fd, POLLIN, 0 },
			[OUTPUT] = { bh_serial_event_fd(m->serial), POLLIN, 0 },
			[WRITABLE] = { m->output_waits ? m->config->output_fd : -1, POLLOUT, 0 },
			[INPUT] = { m->input_closed || waiting ? -1 : m->config->input_fd, POLLIN, 0 },
			[CONTROL] = { bh_control_event_fd(m->control), POLLIN, 0 },
		};

		if (poll(fds, BH_ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			break;
		if (fds[SIGNAL].revents)
			take_signal(m);
		if (fds[OUTPUT].revents || fds[WRITABLE].revents)
			write_output(m);
		if (fds[INPUT].revents)
			read_input(m);
		if (fds[CONTROL].revents)
			bh_control_serve(m->control);
		if (m->pending_start < m->pending_end)
			m->pending_start += bh_serial_input(m->serial, m->pending + m->pending_start, m->pending_end - m->pending_start);
	}
}

static void explain_exits(const struct bh_vm *vm)
{
	for (unsigned i = 0; bh_explain_mode != BH_EXPLAIN_OFF && i < vm->vcpu_count; i++) {
		struct kvm_regs regs = { 0 };
		char at[24], index[12];

		/* Waits until the processor has left the guest. */
		ioctl(vm->vcpus[i].fd, KVM_GET_REGS, &regs);
		snprintf(at, sizeof at, "0x%llx", (unsigned long long)regs.rip);
		snprintf(index, sizeof index, "%u", i);
		bh_explain("end", "vcpu", index, "instruction", at);
		for (int kind = 0; kind < BH_EXIT_KINDS; kind++) {
			unsigned long count = atomic_load(&vm->vcpus[i].exits[kind]), ns = atomic_load(&vm->vcpus[i].busy_ns[kind]);
			char number[24], vcpu[12], microseconds[24];

			if (count == 0)
				continue;
			snprintf(vcpu, sizeof vcpu, "%u", i);
			snprintf(number, sizeof number, "%lu", count);
			snprintf(microseconds, sizeof microseconds, "%lu", ns / 1000);
			bh_explain("exits", "vcpu", vcpu, "reason", bh_exit_kind_name((enum bh_exit_kind)kind), "count", number, "us", microseconds);
		}
	}
}

static void explain_devices(const struct bh_machine *m)
{
	for (size_t i = 0; bh_explain_mode != BH_EXPLAIN_OFF && i < m->device_count; i++) {
		struct bh_virtio_device *device = m->devices[i];
		char slot[24], notifications[24], interrupts[24];

		snprintf(slot, sizeof slot, "%u", device->place);
		snprintf(notifications, sizeof notifications, "%lu", atomic_load(&device->notifications));
		snprintf(interrupts, sizeof interrupts, "%lu", atomic_load(&device->interrupts));
		bh_explain("end", "device", device->driver->name, device->transport->name, slot, "notifications", notifications, "interrupts",
			   interrupts);
	}
}

/* A power-off that was asked for as half of a reboot is a reset. */
static enum bh_vm_end_kind end_kind(const struct bh_machine *m)
{
	enum bh_vm_end_kind kind = (enum bh_vm_end_kind)atomic_load(&m->vm.end);

	return kind == BH_VM_POWERED_OFF && atomic_load(&m->reboots) ? BH_VM_RESET : kind;
}

/* The configuration space of the bridge and of each device. */
static void add_config_pages(const struct bh_machine_config *config, struct bh_vm_config *vm)
{
	unsigned count = 1;

	while (config->transport == BH_TRANSPORT_PCI && config->devices && count < BH_PCI_SLOTS && config->devices[count - 1])
		count++;
	vm->pages.address = BH_PCI_ECAM_START;
	vm->pages.stride = BH_PCI_ECAM_STRIDE;
	vm->pages.count = count;
}

int bh_machine_run(const struct bh_machine_config *config, struct bh_machine_end *ret_end, struct bh_error *err)
{
	struct bh_machine m = {
		.config = config, .list_lock = PTHREAD_MUTEX_INITIALIZER, .vm = BH_VM_INIT, .signal_fd = -1, .input_closed = config->input_fd < 0
	};
	struct bh_vm_config vm = config->vm;
	int r = catch_signals(&m, err);

	add_config_pages(config, &vm);
	if (r == 0)
		r = bh_vm_make(&vm, config->kvm_fd, &m.vm, err);
	if (r == 0)
		r = make_devices(&m, err);
	if (r == 0)
		r = boot(&m, err);
	if (r == 0 && config->vm.locked)
		r = bh_jail_lock(BH_THREAD_OWNER, err);
	if (r == 0) {
		serve(&m);
		/* Before the processors' threads are gone, which it may want to stop. */
		bh_gdb_stop(m.gdb, m.vm.exit_code);
		bh_vm_stop(&m.vm);
		if (m.jobs) {
			/* A migration's answer is its machine's last word here. */
			bh_loop_stop(m.jobs);
			bh_control_serve(m.control);
		}
		write_output(&m);
		*ret_end = (struct bh_machine_end){
			.kind = end_kind(&m),
			.exit_code = m.vm.exit_code,
			.output_errno = m.output_errno,
		};
		memcpy(ret_end->words, m.vm.words, sizeof m.vm.words);
		explain_exits(&m.vm);
		explain_devices(&m);
	}
	bh_vm_stop(&m.vm);
	bh_gdb_free(m.gdb);
	free_virtio(&m);
	bh_control_free(m.control);
	bh_vm_clear(&m.vm);
	bh_serial_free(m.serial);
	bh_plug_clear();
	bh_test_device_free(m.test_device);
	bh_close_fd(&m.signal_fd);
	return r;
}
