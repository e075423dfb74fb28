/* SPDX-License-Identifier: Apache-2.0 */
/* Starting bulkhead-vmm, jailed (jail.h). The only part of this folder that its starters link. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define BH_VMM_DEVICES_MAX 31
#define BH_VMM_DEVICE_FILES_MAX 3
#define BH_VMM_SNAPSHOTS_MAX 16

/* A virtio device: words as in virtio/table.h, and the files that belong to it: "fd=" and the like are added to the words. */
struct bh_vmm_device {
	const char *words;
	struct {
		const char *key; /* NULL: no more */
		int fd;          /* stays the caller's */
	} files[BH_VMM_DEVICE_FILES_MAX];
};

struct bh_vmm_request {
	int64_t memory;             /* bytes */
	int64_t cpus;
	const char *cpu;            /* MODEL[,+FEATURE][,-FEATURE]...: which features the processors have (cpu-model.h); NULL: all */
	int kernel_fd, initrd_fd;   /* initrd -1: none; these and all others stay the caller's */
	const char *initrd_name;    /* what the kernel is told it is, or NULL */
	const char *command_line;   /* or NULL */
	const char *boot;           /* how the kernel is entered: "auto", "linux", "pvh", "multiboot"; NULL: auto */
	const char *kernel_name;    /* a path, or NULL: its last part becomes the first word of a multiboot kernel's command line */
	bool hugetlb, pit;
	bool test_devices;          /* those of test guests (docs/vmm.md, "Test guests") */
	/* Instead of a kernel (kernel_fd -1): snapshots, the full one first; or a connection from which the machine comes. */
	const struct bh_vmm_snapshot {
		int state_fd, memory_fd;
	} *snapshots;
	size_t snapshot_count;
	int incoming_fd;            /* -1: none */
	bool lazy;                  /* load a snapshot's memory when it is needed */
	bool paused;                /* the machine waits for a request to go on */
	int gdb_fd;                 /* a listening socket for a debugger; 0 or -1: none */
	int control_fd;             /* a listening socket (docs/vmm.md), -1: none */
	const char *dirty;          /* how KVM logs written pages: "bitmap" or "ring"; NULL: as it is usual */
	bool pluggable;             /* disks and network cards may come and go while the guest runs; on PCI */
	const char *transport;      /* how the guest reaches its devices: "pci" or "mmio"; NULL: pci */
	const struct bh_vmm_device *devices;
	size_t device_count;        /* at most BH_VMM_DEVICES_MAX */
	int reset_status;           /* the monitor's exit status when the guest resets its machine */
	const int *streams;         /* three: its standard input, output and error; NULL: the caller's own */
	const char *explain;        /* NULL: no; "": as text; "json" */
};

/* Told apart from what a guest or a failure gives. */
#define BH_VMM_RESET_STATUS 124

/* Standard input and output are the serial port, standard error is for messages. *ret_pidfd is the caller's to close and to wait for;
 * with the caller's end the monitor ends too. */
int bh_vmm_spawn(const struct bh_vmm_request *request, pid_t *ret_pid, int *ret_pidfd, struct bh_error *err);
