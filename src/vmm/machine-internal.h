/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's parts, for the files that serve it (machine.c), save it (snapshot.c), send it (migrate.c) and are asked about it (control.c). */
#pragma once

#include "vmm/devices/devices.h"
#include "vmm/devices/pci.h"
#include "vmm/machine.h"
#include "vmm/virtio/mmio.h"
#include "vmm/virtio/table.h"

#define BH_MACHINE_LOOPS_MAX (BH_PCI_SLOTS * BH_VIRTIO_LOOPS_MAX + 1)

struct bh_control;
struct bh_gdb;
struct bh_pager;

/* How far a migration is; anybody may look. */
struct bh_migration_progress {
	atomic_bool active, cancelled;
	atomic_ulong rounds, sent, left; /* bytes */
};

struct bh_machine {
	const struct bh_machine_config *config;
	struct bh_vm vm;
	struct bh_pci *pci;
	struct bh_virtio_mmio *mmio;   /* where its devices are that aren't on PCI; NULL: there */
	struct bh_loop *loops[BH_MACHINE_LOOPS_MAX]; /* the first one serves all devices that have none of their own */
	size_t loop_count;
	pthread_mutex_t list_lock;     /* of the list of devices, which the jobs' thread changes (plug.c) while the owner's may look at it */
	struct bh_virtio_device *devices[BH_PCI_SLOTS];
	size_t device_count;
	bool pluggable;                /* as it was started, wherever that was */
	struct bh_serial *serial;
	struct bh_test_device *test_device; /* NULL: none */
	struct bh_loop *jobs;          /* what takes long: snapshots, migration. NULL without a control socket */
	struct bh_control *control;
	struct bh_gdb *gdb;            /* or NULL */
	struct bh_migration_progress migration;
	struct bh_pager *pager;        /* what loads a snapshot's memory by need, or NULL */
	atomic_bool stands;            /* paused by the user, or made to stand; a job pauses beside that */
	atomic_bool reboots;           /* the next power-off is a reset */
	uint8_t snapshot_id[16];       /* of the last snapshot, which an incremental one builds on; zero: none */
	int signal_fd;
	uint8_t pending[4096];         /* input that the serial port hasn't taken yet */
	size_t pending_start, pending_end;
	bool input_closed, output_waits;
	int output_errno;
};

/* Everything stands still when it returns: vcpus outside of the guest, loops between two handlers, no buffer in flight. Not from a handler of a
 * device's loop. */
void bh_machine_pause(struct bh_machine *machine);
void bh_machine_resume(struct bh_machine *machine);
/* Begins with an empty log of written pages, or ends it (bh_vm_log_dirty). Also those are told who write past the monitor: what was written before
 * this returns may not be in the log. */
int bh_machine_log_dirty(struct bh_machine *machine, bool on, struct bh_error *err);
/* Of a machine that stands still: what KVM keeps and all devices, but not the memory. */
int bh_machine_save(struct bh_machine *machine, struct bh_buf *out, struct bh_error *err);
int bh_machine_load(struct bh_machine *machine, struct bh_state_reader *in, struct bh_error *err);
