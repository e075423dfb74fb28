/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Domains: virtual machines with a name, a definition and disks of their own (the `vm` verbs), kept in files like containers.
 *
 *	ROOT/vms/<name>/     domain.json (the definition, written last: without it there is no domain), disks/ (what we made),
 *	                     snapshots/<snapshot>/{snapshot.json,state,memory,disk-N}, log (the console's), exit.json, config.json (with
 *	                     an image: the OCI configuration of its processes)
 *	STATE/vms/<name>/    run (while its shim lives), running.json (domain-devices.c), attach.sock (console), control.sock (vmm/control.h), vsock.sock (to reach the guest:
 *	                     "CONNECT PORT"), the mark `stopping`
 *
 * The monitor is the first process of a bulkhead-shim, just as a container's is: the shim keeps the console's log, serves it to `vm console`, starts the
 * monitor again after a reset, and cleans up at the end. Whoever changes a domain holds flock(LOCK_EX) on its folder; readers take none.
 */
#pragma once

#include "base/string.h"
#include "oci/json.h"

#include <sys/types.h>

#define BH_DOMAIN_NAME_MAX 63
#define BH_DOMAIN_SHIM_PREFIX "vm/" /* before the name: what its shim calls it, where a container has an id */
#define BH_DOMAIN_DISKS_MAX 16
#define BH_DOMAIN_NETS_MAX 8

struct bh_domain_disk {
	char *path, *format, *serial; /* format: "raw" or "qcow2"; serial may be NULL */
	int64_t queues; /* each with a thread; more than one only of a raw disk, 0: one */
	bool readonly;
	bool ours; /* in the domain's own folder: goes with it, and is copied by clone and snapshot */
};

struct bh_domain_net {
	char *tap;    /* an existing device, or NULL: one is made */
	char *bridge; /* that it is put on, or NULL */
	char *mac;
	bool vhost;   /* the kernel moves its packets, where it can */
	char *address, *gateway; /* of the first card of a machine with an image: "10.0.0.2/24", what its agent gives it; or NULL */
};

/* A machine whose root file system comes from an image (domain-image.c). */
struct bh_domain_image {
	char *reference, *id; /* as it was asked for, and the digest of what it was then; reference NULL: the machine has none */
	char *user;           /* whom its processes run as, looked up inside; "": root */
	int64_t stop_signal;
};

/* All strings are owned, or NULL. */
struct bh_domain_definition {
	char *uuid, *kernel, *initrd, *append;
	struct bh_domain_image image;
	char *cpu;  /* which features the processors have, NULL: all of the host's */
	char *boot; /* how the kernel is entered: "linux" or "pvh", NULL: as it can be */
	char *transport; /* how the guest reaches its devices: "mmio", NULL: by PCI */
	int64_t memory_bytes, cpus, cid; /* cid: the vsock address, 0: none */
	bool hugepages, autostart, multiboot;
	struct bh_domain_disk disks[BH_DOMAIN_DISKS_MAX];
	size_t disk_count;
	struct bh_domain_net nets[BH_DOMAIN_NETS_MAX];
	size_t net_count;
};
void bh_domain_definition_clear(struct bh_domain_definition *definition);
int bh_domain_definition_parse(const char *text, size_t length, struct bh_domain_definition *ret_definition, struct bh_error *err);
/* Readable JSON; the caller's. */
char *bh_domain_definition_text(const struct bh_domain_definition *definition);
/* -EINVAL for what no machine can be. */
int bh_domain_definition_check(const struct bh_domain_definition *definition, struct bh_error *err);
/* What a user should know: more than the host has. A line each. */
void bh_domain_definition_warn(const struct bh_domain_definition *definition, struct bh_strv *ret_warnings);
/* A disk by its path or serial number, a card by its address: its number, or how many there are. */
size_t bh_domain_find_disk(const struct bh_domain_definition *definition, const char *name);
size_t bh_domain_find_net(const struct bh_domain_definition *definition, const char *mac);
void bh_domain_remove_disk(struct bh_domain_definition *definition, size_t number);
void bh_domain_remove_net(struct bh_domain_definition *definition, size_t number);
void bh_domain_disk_copy(const struct bh_domain_disk *disk, struct bh_domain_disk *ret_copy);
void bh_domain_net_copy(const struct bh_domain_net *net, struct bh_domain_net *ret_copy);
/* A new locally administered address. */
char *bh_domain_random_mac(void);
/* The common subset of a libvirt domain (format: https://libvirt.org/formatdomain.html); what is left out is told in ret_warnings. */
int bh_domain_import_xml(const char *text, size_t length, char **ret_name, struct bh_domain_definition *ret_definition, struct bh_strv *ret_warnings,
			 struct bh_error *err);

enum bh_domain_status { BH_DOMAIN_SHUT_OFF, BH_DOMAIN_RUNNING, BH_DOMAIN_PAUSED };
const char *bh_domain_status_name(enum bh_domain_status status); /* "shut off" ... as virsh has it */

struct bh_domain {
	char name[BH_DOMAIN_NAME_MAX + 1];
	char *root, *state; /* borrowed: the global folders */
	int dir_fd, state_fd; /* state_fd -1: it doesn't run */
	bool locked;
	struct bh_domain_definition definition;
	enum bh_domain_status status;
	pid_t pid, shim_pid;
	uint64_t pid_start, shim_start;
	int64_t started_ns;
};

/* `fill` (may be NULL) makes what belongs to it in its folder, and adds that to the definition, under the domain's lock and before there is a
 * definition on disk; if it fails, all goes again. */
typedef int (*bh_domain_fill)(void *context, int dir_fd, struct bh_domain_definition *definition, struct bh_error *err);
int bh_domain_create(const char *root, const char *state, const char *name, struct bh_domain_definition *definition, bh_domain_fill fill, void *context,
		     struct bh_error *err);
/* -ENOENT "no such virtual machine: X". `lock`: for changing it. */
int bh_domain_open(const char *root, const char *state, const char *name, bool lock, struct bh_domain *ret_domain, struct bh_error *err);
void bh_domain_unlock(struct bh_domain *domain);
void bh_domain_clear(struct bh_domain *domain);
/* Looks again whether it runs. */
void bh_domain_refresh(struct bh_domain *domain);
/* Names of all, sorted. */
int bh_domain_list(const char *root, struct bh_strv *ret_names, struct bh_error *err);
/* Writes the definition of a locked domain anew. */
int bh_domain_save(struct bh_domain *domain, struct bh_error *err);
int bh_domain_remove(struct bh_domain *domain, struct bh_error *err);

struct bh_domain_start {
	bool paused;
	const char *snapshot;  /* a saved one to start from, or NULL */
	int incoming_fd;       /* -1, or a connection from which the machine comes */
	const char *explain;
};
/* Starts a locked domain that is shut off; the lock ends. Returns when its monitor runs. */
int bh_domain_start(struct bh_domain *domain, const struct bh_domain_start *start, struct bh_error *err);
/* For the shim: after a reset (doesn't return), and after the end. */
struct bh_restart_handover;
_Noreturn void bh_domain_restart(const char *root, const char *state, const char *name, const struct bh_restart_handover *handover);
int bh_domain_finish(struct bh_domain *domain, struct bh_error *err);
/* Pulls the plug; returns when all is gone. One that doesn't run is success. */
int bh_domain_destroy(struct bh_domain *domain, struct bh_error *err);
/* Waits until it has ended, at most timeout_ms (-1: for ever): true then. */
bool bh_domain_wait(struct bh_domain *domain, int64_t timeout_ms);
/* A connection to its console (frames of shim.h). */
int bh_domain_attach(struct bh_domain *domain, struct bh_error *err);
/* bh_vm_request at its control socket. */
int bh_domain_request(struct bh_domain *domain, const char *command, json_object *members, const int *files, size_t file_count, json_object **ret_answer,
		      struct bh_error *err);

/* Gives a locked domain that runs a further disk or card, at once. -ENOTSUP: one whose devices can't come and go. */
int bh_domain_plug_disk(struct bh_domain *domain, const struct bh_domain_disk *disk, struct bh_error *err);
int bh_domain_plug_net(struct bh_domain *domain, const struct bh_domain_net *net, struct bh_error *err);
/* Asks the guest to let go of one (bh_domain_find_disk, bh_domain_find_net), and takes it away. -ENOENT: it has none of that name; -ETIMEDOUT (as
 * -EINVAL with the monitor's words): the guest goes on using it. */
int bh_domain_unplug(struct bh_domain *domain, const char *device, int64_t timeout_ms, struct bh_error *err);

/* Snapshots of a running domain: its state, memory and own disks at one moment. */
int bh_domain_snapshot(struct bh_domain *domain, const char *snapshot, struct bh_error *err);
int bh_domain_snapshots(struct bh_domain *domain, struct bh_strv *ret_names, struct bh_error *err);
/* -ENOENT if there is no such snapshot. */
int bh_domain_snapshot_check(struct bh_domain *domain, const char *snapshot, struct bh_error *err);
int bh_domain_snapshot_remove(struct bh_domain *domain, const char *snapshot, struct bh_error *err);
/* Puts the disks of the snapshot in the place of the domain's own. It is shut off. */
int bh_domain_snapshot_put_back(struct bh_domain *domain, const char *snapshot, struct bh_error *err);
/* A new domain with copies of this one's own disks, new addresses and a new uuid; with a snapshot: that one, and it can be started from it. */
int bh_domain_clone(struct bh_domain *domain, const char *name, const char *snapshot, struct bh_error *err);

/* --- machines with an image --- */

struct bh_domain_image_options {
	const char *root, *state, *name, *reference;
	int64_t disk_bytes; /* of the writable disk; 0: the default */
	char *const *command; /* instead of the image's; NULL or empty: that, or a shell */
};
#define BH_DOMAIN_DISK_DEFAULT (8LL << 30)
/* A bh_domain_fill: the image's disk and the writable one, and the configuration. -ENOENT: no such image. */
int bh_domain_image_fill(void *options, int dir_fd, struct bh_domain_definition *definition, struct bh_error *err);
/* Presses the power button: one with an image is asked through its agent, which ends its first process; any other by ACPI. */
int bh_domain_power_button(struct bh_domain *domain, bool reboot, struct bh_error *err);
/* As bh_engine_exec, in a machine with an image; if it has just been started, waits until it is up. */
struct bh_exec;
struct bh_exec_options;
int bh_domain_exec(struct bh_domain *domain, const struct bh_exec_options *options, char *const *command, struct bh_exec *ret_exec, struct bh_error *err);

/* Requests to a monitor by its socket's path. Sends {"command": command, ...members} with the files, waits for the answer. `members`: an
 * object, borrowed, or NULL. *ret_answer (may be NULL): the answer, a new reference. The monitor's own words are the error if it refuses. */
int bh_vm_request(const char *socket, const char *command, json_object *members, const int *files, size_t file_count, json_object **ret_answer,
		  struct bh_error *err);
