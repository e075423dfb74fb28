/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processors say they are: all that KVM can give (KVM_GET_SUPPORTED_CPUID) or a model's part of it, with what differs per processor filled in.
 * (AMD64 APM volume 3 appendix E, Intel SDM volume 2A CPUID.)
 */
#include "vmm/vm.h"

#include "base/memory.h"
#include "vmm/cpu-model.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define LEAF1_ECX_TSC_DEADLINE (1u << 24)
#define LEAF1_ECX_HYPERVISOR (1u << 31)
#define LEAF1_EDX_HTT (1u << 28)

static struct kvm_cpuid2 *new_table(void)
{
	struct kvm_cpuid2 *table = bh_calloc(1, sizeof *table + BH_CPUID_ENTRIES_MAX * sizeof table->entries[0]);

	table->nent = BH_CPUID_ENTRIES_MAX;
	return table;
}

int bh_vm_load_cpuid(struct bh_vm *vm, const char *model, struct bh_error *err)
{
	bool deadline = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;

	vm->host_cpuid = new_table();
	if (ioctl(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, vm->host_cpuid) < 0)
		return bh_error_set(err, errno, "ask KVM what processors it can give");
	for (unsigned i = 0; i < vm->host_cpuid->nent; i++)
		if (vm->host_cpuid->entries[i].function == 1)
			vm->host_cpuid->entries[i].ecx |= LEAF1_ECX_HYPERVISOR | (deadline ? LEAF1_ECX_TSC_DEADLINE : 0);
	vm->cpuid = new_table();
	memcpy(vm->cpuid, vm->host_cpuid, sizeof *vm->cpuid + vm->host_cpuid->nent * sizeof vm->cpuid->entries[0]);
	return model ? bh_cpu_model_apply(model, vm->cpuid, err) : 0;
}

/* How many low bits of an APIC id tell the processors of a package apart. */
static unsigned id_bits(unsigned count)
{
	unsigned bits = 0;

	while ((1u << bits) < count)
		bits++;
	return bits;
}

/* One package; each processor a core with one thread. */
static void set_topology(struct kvm_cpuid_entry2 *entry, unsigned index, unsigned count)
{
	entry->edx = index;
	entry->ecx = entry->index & 0xff;
	switch (entry->index) {
	case 0:
		entry->eax = 0;
		entry->ebx = 1;
		entry->ecx |= 1 << 8;
		break;
	case 1:
		entry->eax = id_bits(count);
		entry->ebx = count;
		entry->ecx |= 2 << 8;
		break;
	default:
		entry->eax = entry->ebx = 0;
		break;
	}
}

int bh_vcpu_set_cpuid(struct bh_vcpu *vcpu, struct bh_error *err)
{
	const struct bh_vm *vm = vcpu->vm;
	unsigned count = vm->vcpus_wanted;
	bh_auto_free struct kvm_cpuid2 *table = new_table();

	memcpy(table, vm->cpuid, sizeof *table + vm->cpuid->nent * sizeof table->entries[0]);
	for (unsigned i = 0; i < table->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &table->entries[i];

		if (entry->function == 1) {
			entry->ebx = (entry->ebx & 0xffff) | BH_MIN(count, 255u) << 16 | vcpu->index << 24;
			entry->edx = count > 1 ? entry->edx | LEAF1_EDX_HTT : entry->edx & ~LEAF1_EDX_HTT;
		} else if (entry->function == 0xb || entry->function == 0x1f) {
			set_topology(entry, vcpu->index, count);
		} else if (entry->function == 0x80000008) {
			entry->ecx = (entry->ecx & ~0xf0ffu) | (count - 1) | id_bits(count) << 12;
		} else if (entry->function == 0x8000001e) {
			entry->eax = vcpu->index;
			entry->ebx = (entry->ebx & ~0xffffu) | vcpu->index;
			entry->ecx = 0;
		}
	}
	return ioctl(vcpu->fd, KVM_SET_CPUID2, table) < 0 ? bh_error_set(err, errno, "set the features of processor %u", vcpu->index) : 0;
}
