/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state that KVM keeps of a machine (Linux Documentation/virt/kvm/api.rst): of the machine the interrupt controllers, the timer
 * and the clock; of each processor its registers.
 *
 * Order matters where one thing reads another: special registers before the local APIC (its base), CPUID before model registers, the TSC before its
 * deadline, events and the run state last.
 *
 * The guest's clocks don't stand still while its state lies in a file or is on its way: the clock of KVM and the time stamp counters are loaded
 * advanced by what the host's clock says has gone by since they were read (api.rst, KVM_SET_CLOCK and KVM_VCPU_TSC_OFFSET), so
 * that a guest that nobody tells has the right time. Both by the same, since a guest checks one with the other.
 */
#include "vmm/vm.h"

#include "base/log.h"
#include "base/memory.h"
#include "base/time.h"
#include "vmm/cpu-model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define MSRS_MAX 1024
#define XSAVE_MAX (64u << 10)
#define MSR_IA32_TSC 0x10
#define MSR_IA32_TSC_DEADLINE 0x6e0
#define ASLEEP_MAX_NS (10LL * 366 * 86400 * 1000000000) /* longer: one of the two clocks was wrong */

/* Fixed-size structures that one ioctl reads and another one writes. */
struct part {
	unsigned long get, set;
	unsigned size;
	const char *name;
};

static const struct part before_lapic[] = {
	{ KVM_GET_REGS, KVM_SET_REGS, sizeof(struct kvm_regs), "registers" },
	{ KVM_GET_SREGS, KVM_SET_SREGS, sizeof(struct kvm_sregs), "special registers" },
	{ KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, sizeof(struct kvm_debugregs), "debug registers" },
	{ KVM_GET_XCRS, KVM_SET_XCRS, sizeof(struct kvm_xcrs), "extended control registers" },
	{ KVM_GET_LAPIC, KVM_SET_LAPIC, sizeof(struct kvm_lapic_state), "local APIC" },
};
static const struct part behind_msrs[] = {
	{ KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, sizeof(struct kvm_vcpu_events), "events" },
	{ KVM_GET_MP_STATE, KVM_SET_MP_STATE, sizeof(struct kvm_mp_state), "run state" },
};

static int save_parts(int fd, const struct part *parts, size_t count, struct bh_buf *out, struct bh_error *err)
{
	for (size_t i = 0; i < count; i++) {
		uint8_t bytes[sizeof(struct kvm_lapic_state)] = { 0 };

		if (ioctl(fd, parts[i].get, bytes) < 0)
			return bh_error_set(err, errno, "read a processor's %s", parts[i].name);
		bh_state_put_bytes(out, bytes, parts[i].size);
	}
	return 0;
}

static int load_parts(int fd, const struct part *parts, size_t count, struct bh_state_reader *in, struct bh_error *err)
{
	for (size_t i = 0; i < count; i++) {
		uint8_t bytes[sizeof(struct kvm_lapic_state)] = { 0 };

		bh_state_get_exactly(in, bytes, parts[i].size);
		if (in->failed)
			return bh_error_text(err, EINVAL, "the saved state of a processor is damaged (%s)", parts[i].name);
		if (ioctl(fd, parts[i].set, bytes) < 0)
			return bh_error_set(err, errno, "set a processor's %s as they were saved", parts[i].name);
	}
	return 0;
}

/* --- floating point and vector registers ---------------------------------------------------------------------------- */

static unsigned xsave_size(const struct bh_vm *vm)
{
	int size = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	return BH_MIN(BH_MAX((unsigned)BH_MAX(size, 0), (unsigned)sizeof(struct kvm_xsave)), XSAVE_MAX);
}

static int save_xsave(struct bh_vcpu *vcpu, struct bh_buf *out, struct bh_error *err)
{
	unsigned size = xsave_size(vcpu->vm);
	bh_auto_free uint8_t *bytes = bh_calloc(1, size);
	bool wide = size > sizeof(struct kvm_xsave);

	if (ioctl(vcpu->fd, wide ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, bytes) < 0)
		return bh_error_set(err, errno, "read the vector registers of processor %u", vcpu->index);
	bh_state_put_bytes(out, bytes, size);
	return 0;
}

static int load_xsave(struct bh_vcpu *vcpu, struct bh_state_reader *in, struct bh_error *err)
{
	unsigned size = xsave_size(vcpu->vm);
	bh_auto_free uint8_t *bytes = bh_calloc(1, size);
	size_t length;
	const uint8_t *from = bh_state_get_bytes(in, &length);

	if (!from || length > size)
		return bh_error_text(err, EINVAL, "the saved vector registers don't fit this machine's processors");
	memcpy(bytes, from, length);
	return ioctl(vcpu->fd, KVM_SET_XSAVE, bytes) < 0 ? bh_error_set(err, errno, "set the vector registers of processor %u", vcpu->index) : 0;
}

/* --- model-specific registers --------------------------------------------------------------------------------------- */

struct msr {
	struct kvm_msrs header;
	struct kvm_msr_entry entry;
};

/* Those that KVM names; one that can't be read is not there. */
static int save_msrs(struct bh_vcpu *vcpu, struct bh_buf *out, struct bh_error *err)
{
	bh_auto_free struct kvm_msr_list *list = bh_calloc(1, sizeof *list + MSRS_MAX * sizeof list->indices[0]);
	bh_auto_buf struct bh_buf values = { 0 };
	uint32_t count = 0;

	list->nmsrs = MSRS_MAX;
	if (ioctl(vcpu->vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, list) < 0)
		return bh_error_set(err, errno, "ask for the names of model registers");
	for (uint32_t i = 0; i < list->nmsrs; i++) {
		struct msr msr = { .header.nmsrs = 1, .entry.index = list->indices[i] };

		if (ioctl(vcpu->fd, KVM_GET_MSRS, &msr) != 1)
			continue;
		bh_state_put(&values, msr.entry.index, 4);
		bh_state_put(&values, msr.entry.data, 8);
		count++;
	}
	bh_state_put(out, count, 4);
	bh_buf_add(out, values.data, values.length);
	return 0;
}

/* What this KVM refuses and the guest never used (zero) is no loss. `ticks`: how far the time stamp counter has gone on meanwhile. */
static int load_msrs(struct bh_vcpu *vcpu, uint64_t ticks, struct bh_state_reader *in, struct bh_error *err)
{
	uint32_t count = (uint32_t)bh_state_get(in, 4);
	uint64_t deadline = 0;

	for (uint32_t i = 0; !in->failed && i < BH_MIN(count, (uint32_t)MSRS_MAX); i++) {
		struct msr msr = { .header.nmsrs = 1 };

		msr.entry.index = (uint32_t)bh_state_get(in, 4);
		msr.entry.data = bh_state_get(in, 8);
		if (msr.entry.index == MSR_IA32_TSC_DEADLINE) {
			deadline = msr.entry.data;
			continue;
		}
		if (msr.entry.index == MSR_IA32_TSC)
			msr.entry.data += ticks;
		if (!in->failed && ioctl(vcpu->fd, KVM_SET_MSRS, &msr) != 1 && msr.entry.data)
			bh_debug("processor %u: model register 0x%x is not taken", vcpu->index, msr.entry.index);
	}
	if (in->failed || count > MSRS_MAX)
		return bh_error_text(err, EINVAL, "the saved model registers are damaged");
	if (deadline) {
		struct msr msr = { .header.nmsrs = 1, .entry = { .index = MSR_IA32_TSC_DEADLINE, .data = deadline } };

		if (ioctl(vcpu->fd, KVM_SET_MSRS, &msr) != 1)
			return bh_error_text(err, EINVAL, "set the timer of processor %u", vcpu->index);
	}
	return 0;
}

/* --- processors ----------------------------------------------------------------------------------------------------- */

/* What a guest sees, also where KVM can't hide some of it. `*table` has room for BH_CPUID_ENTRIES_MAX; the caller frees it. */
static int features_seen(struct bh_vcpu *vcpu, struct kvm_cpuid2 **table, struct bh_error *err)
{
	*table = bh_calloc(1, sizeof **table + BH_CPUID_ENTRIES_MAX * sizeof(*table)->entries[0]);
	(*table)->nent = BH_CPUID_ENTRIES_MAX;
	return ioctl(vcpu->fd, KVM_GET_CPUID2, *table) < 0 ? bh_error_set(err, errno, "read the features of processor %u", vcpu->index) : 0;
}

static int save_cpuid(struct bh_vcpu *vcpu, struct bh_buf *out, struct bh_error *err)
{
	bh_auto_free struct kvm_cpuid2 *table = NULL;
	int r = features_seen(vcpu, &table, err);

	if (r < 0)
		return r;
	bh_state_put_bytes(out, table->entries, table->nent * sizeof table->entries[0]);
	return 0;
}

static int load_cpuid(struct bh_vcpu *vcpu, struct bh_state_reader *in, struct bh_error *err)
{
	bh_auto_free struct kvm_cpuid2 *table = bh_calloc(1, sizeof *table + BH_CPUID_ENTRIES_MAX * sizeof table->entries[0]);
	bh_auto_free struct kvm_cpuid2 *shown = NULL;
	size_t length;
	const uint8_t *from = bh_state_get_bytes(in, &length);
	int r;

	if (!from || length % sizeof table->entries[0] || length / sizeof table->entries[0] > BH_CPUID_ENTRIES_MAX)
		return bh_error_text(err, EINVAL, "the saved features of processor %u are damaged", vcpu->index);
	table->nent = (uint32_t)(length / sizeof table->entries[0]);
	memcpy(table->entries, from, length);
	r = features_seen(vcpu, &shown, err);
	/* KVM would take them, and the guest would use what isn't there. */
	if (r == 0)
		r = bh_cpu_model_check(table, vcpu->vm->host_cpuid, shown, err);
	if (r < 0)
		return r;
	return ioctl(vcpu->fd, KVM_SET_CPUID2, table) < 0 ?
		       bh_error_set(err, errno, "set the features of processor %u as they were saved", vcpu->index) :
		       0;
}

static int save_vcpu(struct bh_vcpu *vcpu, struct bh_buf *out, struct bh_error *err)
{
	int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
	int r = save_cpuid(vcpu, out, err);

	bh_state_put(out, (uint64_t)BH_MAX(khz, 0), 4);
	if (r == 0)
		r = save_parts(vcpu->fd, before_lapic, BH_ARRAY_SIZE(before_lapic), out, err);
	if (r == 0)
		r = save_xsave(vcpu, out, err);
	if (r == 0)
		r = save_msrs(vcpu, out, err);
	if (r == 0)
		r = save_parts(vcpu->fd, behind_msrs, BH_ARRAY_SIZE(behind_msrs), out, err);
	return r;
}

static int load_vcpu(struct bh_vcpu *vcpu, uint64_t asleep_ns, struct bh_state_reader *in, struct bh_error *err)
{
	int r = load_cpuid(vcpu, in, err);
	uint64_t khz = bh_state_get(in, 4);

	/* Where the processor can't scale, the guest's own clock source has to cope: kvm-clock does. */
	if (r == 0 && khz && (int)khz != ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0) && ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (unsigned long)khz) < 0)
		bh_debug("processor %u: this machine can't run its time stamp counter at %llu kHz", vcpu->index, (unsigned long long)khz);
	if (r == 0)
		r = load_parts(vcpu->fd, before_lapic, BH_ARRAY_SIZE(before_lapic), in, err);
	if (r == 0)
		r = load_xsave(vcpu, in, err);
	if (r == 0)
		r = load_msrs(vcpu, (uint64_t)((unsigned __int128)asleep_ns * khz / 1000000), in, err);
	if (r == 0)
		r = load_parts(vcpu->fd, behind_msrs, BH_ARRAY_SIZE(behind_msrs), in, err);
	return r;
}

/* --- the machine ---------------------------------------------------------------------------------------------------- */

static const unsigned chips[] = { KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC };

static int save_machine(struct bh_vm *vm, struct bh_buf *out, struct bh_error *err)
{
	struct kvm_pit_state2 pit = { 0 };
	struct kvm_clock_data clock = { 0 };

	for (size_t i = 0; i < BH_ARRAY_SIZE(chips); i++) {
		struct kvm_irqchip chip = { .chip_id = chips[i] };

		if (ioctl(vm->fd, KVM_GET_IRQCHIP, &chip) < 0)
			return bh_error_set(err, errno, "read interrupt controller %zu", i);
		bh_state_put_bytes(out, &chip, sizeof chip);
	}
	bh_state_put(out, vm->pit, 1);
	if (vm->pit) {
		if (ioctl(vm->fd, KVM_GET_PIT2, &pit) < 0)
			return bh_error_set(err, errno, "read the timer");
		bh_state_put_bytes(out, &pit, sizeof pit);
	}
	if (ioctl(vm->fd, KVM_GET_CLOCK, &clock) < 0)
		return bh_error_set(err, errno, "read the clock");
	bh_state_put(out, clock.clock, 8);
	return 0;
}

static int load_machine(struct bh_vm *vm, uint64_t asleep_ns, struct bh_state_reader *in, struct bh_error *err)
{
	struct kvm_clock_data clock = { 0 };

	for (size_t i = 0; i < BH_ARRAY_SIZE(chips); i++) {
		struct kvm_irqchip chip = { 0 };

		bh_state_get_exactly(in, &chip, sizeof chip);
		chip.chip_id = chips[i];
		if (in->failed || ioctl(vm->fd, KVM_SET_IRQCHIP, &chip) < 0)
			return bh_error_set(err, in->failed ? EINVAL : errno, "set interrupt controller %zu as it was saved", i);
	}
	if (bh_state_get(in, 1)) {
		struct kvm_pit_state2 pit = { 0 };

		bh_state_get_exactly(in, &pit, sizeof pit);
		if (in->failed || !vm->pit || ioctl(vm->fd, KVM_SET_PIT2, &pit) < 0)
			return bh_error_text(err, EINVAL, "set the timer as it was saved");
	}
	clock.clock = bh_state_get(in, 8) + asleep_ns;
	if (in->failed || ioctl(vm->fd, KVM_SET_CLOCK, &clock) < 0)
		return bh_error_text(err, EINVAL, "set the clock as it was saved");
	return 0;
}

/* Since the state was saved, by the host's clock; nothing where that clock can't be right. */
static uint64_t time_asleep(int64_t saved_ns)
{
	int64_t now_ns = bh_now_ns(), asleep_ns;

	if (saved_ns <= 0 || now_ns <= saved_ns)
		return 0;
	asleep_ns = now_ns - saved_ns;
	return asleep_ns > ASLEEP_MAX_NS ? 0 : (uint64_t)asleep_ns;
}

int bh_vm_save(struct bh_vm *vm, struct bh_buf *out, struct bh_error *err)
{
	int r = 0;

	bh_state_put(out, vm->vcpu_count, 4);
	bh_state_put(out, (uint64_t)bh_now_ns(), 8);
	for (unsigned i = 0; r == 0 && i < vm->vcpu_count; i++)
		r = save_vcpu(&vm->vcpus[i], out, err);
	return r < 0 ? r : save_machine(vm, out, err);
}

int bh_vm_load(struct bh_vm *vm, struct bh_state_reader *in, struct bh_error *err)
{
	uint32_t count = (uint32_t)bh_state_get(in, 4);
	uint64_t asleep_ns = time_asleep((int64_t)bh_state_get(in, 8));
	int r = 0;

	if (count != vm->vcpu_count)
		return bh_error_text(err, EINVAL, "the saved machine has %u processors, this one %u", count, vm->vcpu_count);
	for (unsigned i = 0; r == 0 && i < vm->vcpu_count; i++)
		r = load_vcpu(&vm->vcpus[i], asleep_ns, in, err);
	if (r == 0)
		r = load_machine(vm, asleep_ns, in, err);
	/* Its watchdogs are told that nothing hung. A guest without KVM's clock can't be told. */
	for (unsigned i = 0; r == 0 && i < vm->vcpu_count; i++)
		ioctl(vm->vcpus[i].fd, KVM_KVMCLOCK_CTRL, 0);
	return r;
}
