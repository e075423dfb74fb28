/* SPDX-License-Identifier: Apache-2.0 */
/* Shared between the files of src/microvm only. */
#pragma once

#include "microvm/microvm.h"

#include "agent/message.h"
#include "microvm/kernel.h"

/* The files of the modules that a microVM needs, relative to kernel->modules, dependencies first. */
int bh_guest_kernel_modules(const struct bh_guest_kernel *kernel, struct bh_strv *ret_files, struct bh_error *err);
/* The same from the text of modules.dep and a list of names. */
void bh_modules_order(const char *modules_dep, const char *const *names, struct bh_strv *ret_files);

/* What the configuration file says; NULL: nothing. Its keys: kernel, accel. */
struct bh_microvm_defaults {
	char *kernel, *accelerator;
};
#define BH_MICROVM_CONFIG "/etc/bulkhead/config"
/* A file that isn't there says nothing; errors name file and line. */
int bh_microvm_defaults_read(const char *path, struct bh_microvm_defaults *ret_defaults, struct bh_error *err);
void bh_microvm_defaults_clear(struct bh_microvm_defaults *defaults);

/* The line of this file in the text of modules.dep, or NULL. */
const char *bh_modules_line(const char *modules_dep, const char *file);
/* By the numbers in them, as sort -V does. */
int bh_compare_versions(const char *a, const char *b);

/* The kernel's command line: further words with a space behind, and how the agent is to run. */
#define BH_MICROVM_COMMAND_LINE                                                                                                                         \
	"console=ttyS0 quiet loglevel=3 panic=-1 oops=panic reboot=t tsc=reliable no_timer_check random.trust_cpu=on mitigations=off cgroup_no_v1=all " \
	"pci=noearly 8250.nr_uarts=1 cryptomgr.notests %srdinit=/bulkhead-guest -- agent %s"

/* Opens the initramfs for this kernel, made if it isn't there yet. Returns the fd or -errno. */
int bh_initramfs_open(const char *root, const struct bh_guest_kernel *kernel, struct bh_error *err);

/* Archive in the "newc" format (kernel: Documentation/driver-api/early-userspace/buffer-format.rst). */
struct bh_cpio {
	int fd;
	uint64_t offset;
	unsigned next_inode;
};
int bh_cpio_add(struct bh_cpio *cpio, const char *name, mode_t mode, dev_t device, const void *bytes, size_t length);
/* With the content of a file, as it is when it is read. */
int bh_cpio_add_file(struct bh_cpio *cpio, const char *name, mode_t mode, const char *path, struct bh_error *err);
int bh_cpio_end(struct bh_cpio *cpio);

/* The image as a read-only disk, and the container's writable one. Return fds or -errno. */
int bh_microvm_image_disk(const struct bh_microvm *vm, struct bh_error *err);
int bh_microvm_writable_disk(const struct bh_microvm *vm, struct bh_error *err);
/* Makes an empty ext4 file system of this size, sparse, in the empty file. */
int bh_microvm_make_ext4(int fd, int64_t size, struct bh_error *err);
/* Bytes: what the workload may have, and what the machine has. */
static inline int64_t bh_microvm_limit(const struct bh_microvm *vm)
{
	return vm->memory > 0 ? vm->memory : BH_MICROVM_MEMORY_DEFAULT;
}
static inline int64_t bh_microvm_size(const struct bh_microvm *vm)
{
	int64_t limit = bh_microvm_limit(vm), kernel = (int64_t)96 << 20;

	/* So little is what the workload may have, and the kernel has its part beside it. */
	if (limit <= BH_MICROVM_MEMORY_MIN)
		return BH_MAX((limit + kernel + ((1 << 20) - 1)) >> 20 << 20, BH_MICROVM_MEMORY_MIN);
	return BH_MAX(limit, BH_MICROVM_MEMORY_MIN + kernel);
}

#define BH_MICROVM_IMAGE_TYPE "erofs"
#define BH_MICROVM_SHARED_ROOT "shared" /* in its place: the first share is the root */

/* What the guest's program is asked to make (src/cli/guest-process.c reads it). `process` NULL: that of the configuration. */
struct bh_microvm_request {
	const struct bh_spec *spec;
	const struct bh_spec_process *process;
	const char *id, *user;
	const struct bh_strv *groups;
	const struct bh_microvm *vm; /* of a start */
	bool privileged;
	const struct bh_transfer_request *transfer;
	const struct bh_microvm_network *network;
	const struct bh_microvm_shares *shares; /* of a start */
	bool virtio_shares;          /* they come by virtio-fs, "share0" ... */
};
int bh_microvm_request_write(const struct bh_microvm_request *request, struct bh_buf *out, struct bh_error *err);
/* The address of its network device; the caller's. */
char *bh_microvm_network_mac(const struct bh_microvm_network *network, const char *id);

/* A folder of the host, or a file. */
struct bh_microvm_share {
	int fd;
	bool readonly;
};

/* What a microVM gets of the host's files (shares.c). */
struct bh_microvm_shares {
	struct bh_microvm_share folders[BH_AGENT_SHARES_MAX], *files;
	size_t count, file_count;
	char **sources; /* by mount of the configuration: what is mounted there inside; NULL: it is none of the host's */
	size_t source_count;
};
/* A mount of the configuration that is a folder or file of the host. */
bool bh_microvm_is_share(const struct bh_spec_mount *mount);
/* Opens all of them. Cleared by bh_microvm_shares_clear, after a failure as well. */
int bh_microvm_shares_open(const struct bh_microvm *vm, const struct bh_spec *spec, struct bh_microvm_shares *shares, struct bh_error *err);
void bh_microvm_shares_clear(struct bh_microvm_shares *shares);
/* In a process with one thread: makes the folder of single files. */
int bh_microvm_shares_gather(struct bh_microvm_shares *shares, struct bh_error *err);

/* --- monitors ------------------------------------------------------------------------------------------------------- */

struct bh_monitor_request {
	int64_t memory, cpus;
	int kernel_fd, initrd_fd, image_fd, writable_fd; /* image_fd, writable_fd -1: none */
	const int *share_fds; /* file servers (vmm/files.h), if it has virtio-fs */
	size_t share_count;
	int tap_fd; /* -1: no network device */
	const char *mac;
	const char *command_line;
	int agent_fd;   /* the monitor's end of the stream to the agent */
	int console_fd; /* serial port, and its messages */
	int control_fd; /* see bh_monitor */
};

/* What runs the guest's processors and devices. */
struct bh_monitor {
	const char *name;      /* of the accelerator */
	const char *transport; /* how the agent finds the stream: an argument of bulkhead-guest */
	bool has_virtio_fs; /* else shared folders come over the agent's stream */
	int64_t boot_timeout_ms;
	/* Bytes for the control stream: once after the start, to stop the machine, and to let it go on. What comes back isn't needed. */
	const char *greeting, *pause, *resume;
	/* 0, or -errno with what is missing and how to check it. */
	int (*check)(struct bh_error *err);
	/* A jailed child of the caller, which dies with it. The request's fds stay the caller's. */
	int (*spawn)(const struct bh_monitor_request *request, pid_t *ret_pid, int *ret_pidfd, struct bh_error *err);
};
extern const struct bh_monitor bh_monitor_kvm, bh_monitor_tcg;
/* By name, or NULL: what BULKHEAD_ACCEL says, or the configuration; else ("auto") the best that works. */
int bh_monitor_find(const char *wanted, const struct bh_monitor **ret_monitor, char **ret_why, struct bh_error *err);

/* A host user that no account has: for a child with this pid. */
#define BH_MICROVM_UID(pid) (0x78000000u + (uint32_t)(pid))

/* --- session -------------------------------------------------------------------------------------------------------- */

struct bh_session_setup {
	const struct bh_microvm_start *start;
	const struct bh_monitor *monitor;
	enum bh_agent_kind kind; /* of the process: BH_AGENT_START, or BH_AGENT_EXEC of a connection to a domain */
	struct bh_monitor_request machine; /* its agent_fd, console_fd and control_fd are the session's to make */
	const struct bh_buf *request;      /* the workload's JSON */
	struct bh_microvm_shares *shares;
	int listen_fd;  /* agent.sock */
	int terminal_fd; /* the terminal's slave, or -1 */
	int loss_fd;     /* BH_MICROVM_LOSS, or -1 */
	int report_fd;  /* struct bh_session_report, once; back comes, if it waits (start->waits), one byte: the release */
};
struct bh_session_report {
	bool started;
	struct bh_error error;
};
/* In the session's process. */
_Noreturn void bh_session_main(const struct bh_session_setup *setup);
/* The same for an exec in a domain: there is no monitor to start, but a connection to the domain's agent. */
_Noreturn void bh_session_exec(const struct bh_session_setup *setup, int guest_fd);
/* Its report, for who has made it: 0, or its error. */
int bh_session_hear(int report_fd, struct bh_error *err);

/* A terminal's two ends; the slave is non-blocking. A size of 0 is unknown. */
int bh_microvm_terminal(uint16_t rows, uint16_t columns, int *ret_master, int *ret_slave, struct bh_error *err);
/* A connection to agent.sock in this folder. */
int bh_microvm_connect(const char *state, struct bh_error *err);
/* The mark of bh_microvm_is_paused, of an earlier run. */
void bh_microvm_forget_pause(int state_fd);

/* agent.sock: SOCK_SEQPACKET, one struct each way; peers are of one build, and only root can enter the folder. */
enum bh_session_ask { BH_ASK_EXEC, BH_ASK_LIST, BH_ASK_SIGNAL, BH_ASK_RESIZE, BH_ASK_PAUSE, BH_ASK_RESUME, BH_ASK_START, BH_ASK_TRANSFER, BH_ASK_END };
#define BH_ASK_FDS 4 /* request, stdin, stdout, stderr; with a terminal: request, terminal */
struct bh_session_question {
	uint32_t ask;
	uint32_t signal;
	struct bh_agent_size size;
	bool terminal, has[BH_ASK_FDS]; /* which fds come */
};
enum bh_session_tell { BH_TELL_STARTED, BH_TELL_FAILED, BH_TELL_EXITED, BH_TELL_DONE };
struct bh_session_answer {
	uint32_t tell;
	uint32_t exit_code;
	struct bh_agent_failure failure;
};
