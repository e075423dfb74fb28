/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole machine: a virtual machine, its devices, a kernel, and the loop that serves them from the caller's thread.
 */
#pragma once

#include "vmm/boot/boot.h"

#define BH_SNAPSHOTS_MAX 16

struct bh_machine_config {
	struct bh_vm_config vm;
	enum bh_boot_protocol protocol; /* not AUTO */
	struct bh_boot_request boot;
	void (*loaded)(void *context); /* the kernel's and the initrd's bytes aren't needed any more; may be NULL */
	void *loaded_context;
	int kvm_fd;        /* -1: open /dev/kvm; else taken over */
	int input_fd;      /* what the serial port receives, -1: nothing */
	int output_fd;     /* where it sends */
	bool test_devices; /* those that only test guests look for, port 0xf4 among them (devices.h) */
	/* Instead of a kernel: snapshots, the full one first, then incremental ones in their order; or a connection over which another
	 * monitor sends its machine (-1: none). */
	struct bh_snapshot_files {
		int state_fd, memory_fd; /* taken over */
	} restore[BH_SNAPSHOTS_MAX];
	size_t restore_count;
	int incoming_fd;
	int userfault_fd;  /* /dev/userfaultfd, for memory that is loaded when it is needed; -1: it is loaded first */
	bool paused;       /* the machine stands until it is told to go on */
	int gdb_fd;        /* a listening socket for a debugger (gdb.h), for whom the machine stands; -1: none */
	int control_fd;    /* a listening socket (control.h), -1: none */
	enum bh_transport { BH_TRANSPORT_PCI, BH_TRANSPORT_MMIO } transport; /* how the guest reaches its devices; a snapshot's number for it */
	bool pluggable; /* disks and network cards may come and go (plug.h); on PCI alone */
	char *const *devices; /* as virtio/table.h has them; NULL or NULL-terminated */
};

struct bh_machine_end {
	enum bh_vm_end_kind kind;
	int exit_code;
	char words[256];
	int output_errno; /* what the serial port's output first failed with; 0: all was written */
};

/* Makes the machine, runs it until it ends, and frees it. SIGTERM, SIGINT and SIGHUP end it: BH_VM_STOPPED. Counters go to --explain. */
int bh_machine_run(const struct bh_machine_config *config, struct bh_machine_end *ret_end, struct bh_error *err);
