/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps one virtual machine with a processor that never runs. With KVM's first machine and after its last the kernel patches code that all processors
 * run (the scheduler's preemption notifiers, the local APIC's keys); QEMU's software CPU now and then goes on executing the breakpoint that stands there
 * meanwhile, for ever. With this there is no first and no last one.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/kvm.h>

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR), vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);

	if (vm < 0 || ioctl(vm, KVM_CREATE_IRQCHIP, 0) < 0 || ioctl(vm, KVM_CREATE_VCPU, 0) < 0) {
		perror("hold kvm");
		return 1;
	}
	for (;;)
		pause();
}
