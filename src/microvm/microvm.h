/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Microvms: theory of operation.
 *
 *	start stage ── clone ──► session ── clone ──► monitor (QEMU or bulkhead-vmm, jailed) ──► guest kernel ──► bulkhead-guest ──► workload
 *	     = shim later          │ one byte stream (agent/message.h) ─────────────────────────────────────┘
 *	                           └ agent.sock ◄── exec, pause
 *
 * The session stands for the workload: it is the "first process" that the shim knows. It has the other ends of the container's
 * streams, hands on every signal, and ends with the workload's exit code. So whatever works with a container's first process
 * (stop, kill, wait, logs, attach, restarts) works with a microVM.
 *
 * Before it there is, made by the caller: the kernel (kernel.c), an initramfs with the agent and this program (initramfs.c), the
 * image as a read-only disk that all its microVMs share, and a writable disk of the container's own (disk.c). Inside, the agent puts
 * the two together by overlayfs, and the same container driver as on a host makes the process: nothing of the OCI configuration
 * is interpreted a second time.
 *
 * Invariants:
 *  1. The session parses what a hostile guest sends, so it keeps no rights: a user of its own, no capability, an empty file system.
 *  2. The monitor dies with the session (PR_SET_PDEATHSIG), the session with the shim: a kill of any of them leaves nothing.
 *  3. Session and monitor live in the container's cgroup, whose memory limit is the guest's memory and what a monitor needs besides.
 *  4. The guest writes to its own disk only; the image's is opened read-only before the monitor gets it.
 */
#pragma once

#include "base/error.h"
#include "cgroup/cgroup.h"
#include "oci/spec.h"
#include "storage/transfer.h"

#include <sys/types.h>

#define BH_MICROVM_MEMORY_DEFAULT ((int64_t)512 << 20)
#define BH_MICROVM_MEMORY_MIN ((int64_t)128 << 20) /* of a machine whose size is given: a kernel takes half of it */
#define BH_MICROVM_CPUS_MAX 64
#define BH_MICROVM_LOST_EXIT 255 /* the machine has ended, and nobody knows how the workload did */
#define BH_MICROVM_LOSS "microvm.lost" /* a file with the reason then; empty before */

struct bh_microvm_file {
	const char *target, *content; /* as of struct bh_container_file */
};

/* `--network tap...` (network.c): its device, made on a bridge or handed in by name, and what the guest is told. */
struct bh_microvm_network {
	bool is_set;
	char *tap, *bridge, *address, *gateway, *mac; /* NULL: none, or chosen */
};
bool bh_microvm_network_is_tap(const char *mode);
int bh_microvm_network_parse(const char *mode, struct bh_microvm_network *ret_network, struct bh_error *err);
void bh_microvm_network_clear(struct bh_microvm_network *network);

/* What a microVM needs beside its OCI configuration. */
struct bh_microvm {
	const char *root;          /* --root: kernels/, initramfs/, disks/ below it */
	const char *folder;        /* the container's own: its writable disk, and BH_MICROVM_LOSS */
	const char *image_key;     /* names the image's content: hex digits */
	/* Called when the image has no disk yet: returns a detached read-only mount of its files. */
	int (*mount_image)(void *context, struct bh_error *err);
	void *mount_context;
	const char *rootfs;        /* instead of the four above: a folder of the host is the root file system; or NULL */
	const char *user;          /* as the user said it, looked up inside; NULL: the configuration has it in numbers */
	const struct bh_strv *groups;
	const struct bh_microvm_file *files;
	size_t file_count;
	bool init;                 /* --init */
	bool list;                 /* exec: not a process, but the list of those there are, on its standard output */
	/* Not a process, but files in or out on its streams (storage/transfer.h); or NULL. An exec of the running microVM, or a start whose
	 * workload it is: then the machine has no network. */
	const struct bh_transfer_request *transfer;
	const char *kernel;        /* a file; NULL: see bh_guest_kernel_find (kernel.h) */
	const struct bh_strv *kernel_parameters; /* beside our own; may be NULL */
	const char *accelerator;   /* "kvm", "tcg", "auto"; NULL: what BULKHEAD_ACCEL or the configuration says, else "auto" */
	int64_t memory;            /* bytes that the workload may have, and the machine's if that isn't less than there can be; 0: the default */
	int64_t cpus_nano;         /* 0: one */
	const char *network;       /* "tap..."; else it has none but the loopback device */
};

struct bh_microvm_start {
	const struct bh_microvm *vm;
	const struct bh_spec *spec;
	struct bh_cgroup *cgroup;
	const char *id;
	const char *state;         /* run-time folder: agent.sock */
	int stdin_fd, stdout_fd, stderr_fd; /* -1: none */
	bool dies_with_caller;
	bool waits;                /* the workload isn't started: bh_microvm_start_waiting does it */
	int (*cloned)(void *context, pid_t pid, struct bh_error *err);
	void *cloned_context;
};

struct bh_microvm_process {
	pid_t pid; /* of the session */
	int pidfd;
	int terminal_fd; /* with a terminal: its master; else -1 */
	int sync_fd;     /* of one that waits, else -1: it ends with this fd, unless it is released */
};
/* Returns when the workload has executed, or with the guest's own words and exit code (127, 126, 125); if it waits, when the machine is
 * ready for it. */
int bh_microvm_start(const struct bh_microvm_start *start, struct bh_microvm_process *ret_process, struct bh_error *err);

/* It goes on waiting when the caller has ended. Closes the fd. */
int bh_microvm_release(int *sync_fd, struct bh_error *err);
/* `connection` leads to the agent.sock of one that waits. As bh_microvm_start; after a failure its session ends. */
int bh_microvm_start_waiting(int connection, struct bh_error *err);

struct bh_microvm_exec {
	const char *state, *id;
	const struct bh_spec *spec;
	const struct bh_spec_process *process;
	const char *user;          /* as above */
	const struct bh_strv *groups;
	bool privileged, list;
	const struct bh_transfer_request *transfer; /* as above */
	int stdin_fd, stdout_fd, stderr_fd;
};
/* A further process; the child that stands for it passes signals on and ends with its exit code. */
int bh_microvm_exec(const struct bh_microvm_exec *exec, pid_t *ret_pid, int *ret_pidfd, int *ret_terminal_fd, struct bh_error *err);

/*
 * Domains with an image (domain.c; engine/domain-image.c): machines that stay. No session stands for such a machine: its monitor is a
 * shim's, its first process is described in its initramfs, and each exec connects to the agent in it.
 */
struct bh_microvm_domain {
	const struct bh_microvm *vm;  /* root, image_key, mount_image, kernel, user, groups */
	const struct bh_spec *spec;   /* of the first process */
	const char *id;
	const char *append;           /* further words for the kernel, or NULL */
	const struct bh_microvm_network *network; /* the addresses of its first card, if is_set */
	int stop_signal;
};
#define BH_MICROVM_DISK_IMAGE "image" /* the serial numbers of its two disks */
#define BH_MICROVM_DISK_WRITABLE "writable"
#define BH_MICROVM_DISK_SIZE_MIN ((int64_t)64 << 20)
/* Makes the two in this folder: "image.erofs", which all machines of the image share, and "writable.img", an empty file system of this size. */
int bh_microvm_domain_disks(const struct bh_microvm *vm, int folder_fd, int64_t size, struct bh_error *err);
/* What its monitor boots. All three are the caller's. */
int bh_microvm_domain_boot(const struct bh_microvm_domain *domain, int *ret_kernel_fd, int *ret_initrd_fd, char **ret_command_line,
			   struct bh_error *err);
/* Asks at the machine's vsock socket for its agent; waits at most timeout_ms. -EAGAIN: nobody listens (yet). Returns the stream. */
int bh_microvm_domain_connect(const char *socket, int timeout_ms, struct bh_error *err);
/* As bh_microvm_exec, over such a stream (which stays the caller's). `dies_with_caller`: is killed, there and here, when the caller ends. */
int bh_microvm_domain_exec(int stream_fd, const struct bh_microvm_exec *exec, bool dies_with_caller, pid_t *ret_pid, int *ret_pidfd,
			   int *ret_terminal_fd, struct bh_error *err);
/* Asks it to power off, or to start again, after its first process has ended. */
int bh_microvm_domain_power(int stream_fd, bool reboot, struct bh_error *err);

/* Has the guest kill the workload, write its disks and end. Returns when the session has passed that on; -errno: there is no session or workload
 * that could. */
int bh_microvm_end(const char *state, struct bh_error *err);
/* Stops the machine's processors, or lets them go on. */
int bh_microvm_pause(const char *state, bool pause, struct bh_error *err);
/* Are they stopped? Asks nobody: there is a mark in the folder. */
bool bh_microvm_is_paused(const char *state);

/* The cgroup's limits for a microVM with this configuration: those of the machine, not of what runs in it. They borrow from `spec`. */
struct bh_spec_resources bh_microvm_resources(const struct bh_microvm *vm, const struct bh_spec *spec);

/* In the run-time folder of one that runs: an object with Accelerator, Kernel, Memory (the machine's), MemoryLimit (the workload's), Cpus. */
#define BH_MICROVM_RECORD "microvm.json"
/* The workload's limit in bytes, as that tells it; 0: it doesn't. */
int64_t bh_microvm_memory_limit(const char *state);
/* The socket in there by which the session is asked. */
#define BH_MICROVM_SOCKET "agent.sock"

/* The accelerator that would be used, by name (wanted NULL: as above), and why not a better one (NULL: it is the best). -ENODEV with what to do. */
int bh_microvm_accelerator(const char *wanted, const char **ret_name, char **ret_why, struct bh_error *err);

/* Can this configuration be a microVM's? -EINVAL with the option that can't. */
int bh_microvm_check(const struct bh_spec *spec, struct bh_error *err);
