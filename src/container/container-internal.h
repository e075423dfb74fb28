/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the container driver share. The theory of operation is at the top of container.c. */
#pragma once

#include "container/container.h"
#include "linux/mount.h"
#include "linux/namespace.h"
#include "linux/seccomp.h"

#include <stdbool.h>

/* --- the conversation between the caller and the first process (sync.c) ------------------------------------------- */

enum bh_message_kind {
	BH_MESSAGE_GO = 1,   /* to the child: id maps are written (root mount attached as an fd), or: execute */
	BH_MESSAGE_READY,    /* from the child or the stub: everything is tried, waiting for GO */
	BH_MESSAGE_ERROR,    /* from the child: `text`, errnum, exit_code; it ends now */
	BH_MESSAGE_TERMINAL, /* from the child: the pty master is attached */
	BH_MESSAGE_PID,      /* from a helper process or the stub: the pid of the container's process is `value` */
	BH_MESSAGE_FAILED,   /* from the stub: the workload could not be executed, errnum says why */
	BH_MESSAGE_WARNING,  /* from the child: `text` for the person who started it, whose stderr is no longer its own */
	BH_MESSAGE_SECCOMP,  /* from the child: the seccomp listener is attached */
	BH_MESSAGE_NETWORK,  /* from the child: move the host's devices into this network namespace, then GO */
	BH_MESSAGE_HOOKS,    /* from the child: run the hooks that belong outside, then GO */
	BH_MESSAGE_COPY,     /* from the child: the copy for mount number `value` is wanted, with GO */
	BH_MESSAGE_IDMAP,    /* from the child: id-map the attached copy for mount number `value`, then GO */
};

struct bh_message {
	unsigned kind;
	int value;
	int errnum, exit_code;
	char text[1024];
};

/* `pass_fd` -1 = none. */
int bh_sync_send(int sync, const struct bh_message *message, int pass_fd);
/* 1: a message, 0: the other side is closed, -ECONNRESET: closed before it read or accepted what was sent, -errno. *ret_fd
 * (may be NULL) is -1 if none came. */
int bh_sync_receive(int sync, struct bh_message *ret_message, int *ret_fd);
int bh_sync_send_error(int sync, const struct bh_error *why);

/* --- one start ---------------------------------------------------------------------------------------------------- */

struct bh_job_mount {
	struct bh_mount_options options;
	int source_fd; /* binds: the detached copy (or, without the mount API, O_PATH of the source) */
	char *link;    /* copy-symlink: what the source says; it is no mount then */
	char *inside;  /* binds of a part of the container's own root: its path there, looked up when its turn comes */
	bool from_caller; /* the same, but the caller makes the copy when the child asks for it */
	bool in_turn;  /* the child makes the copy when its turn comes: the mount table lists mounts in the order of their making */
};

/* Prepared by the caller's side; the child inherits it all by fork and adds what it opens. */
struct bh_job {
	const struct bh_container_create *request;
	const struct bh_spec *spec;
	const struct bh_spec_process *process;
	struct bh_cgroup *cgroup;
	struct bh_container_stdio *stdio;
	int preserve_fds;
	bool parent_fate;
	bool run;              /* execute without waiting for bh_container_start */
	bool exec;             /* a further process in a running container */
	bool no_new_keyring;
	bool all_cpus;

	int join_fds[BH_NS_COUNT]; /* namespaces to join, or -1 */
	bool joined[BH_NS_COUNT];  /* before the user namespace was entered */
	uint64_t new_flags;        /* CLONE_NEW* of the namespaces to make */
	bool host_mounts;          /* no mount namespace: the caller's */
	bool user_namespace;       /* in a new or a joined one: host root is not our root */

	int enter_pidfd;           /* exec: whose namespaces; -1: the files in join_fds */
	int enter_flags;           /* exec: CLONE_NEW* of the namespaces to enter */

	int sync_caller, sync_child;
	pid_t helper;              /* a process that ends once it has told the pid of the container's; 0 = none */
	int stub_fd;           /* sealed memfd with the exec stub, or a folder that holds it as "exec" (stub_by_path) */
	bool stub_by_path;     /* the filter forbids execveat */
	bool stub_only_executes; /* what else the stub would do has been done before the filter, which forbids it */
	int nodes_fd;          /* devices for a new user namespace: a detached tmpfs with a node for each, named by index; or -1 */
	int init_fd;           /* --init: detached read-only mount of bulkhead-guest */
	struct {
		const char *selinux, *apparmor, *mount; /* NULL: none, or not known here */
	} labels;
	struct bh_spec_capabilities capabilities; /* what of process->capabilities this machine can give */
	struct bh_job_mount *mounts; /* one per spec->mounts */
	struct bh_seccomp_filter filter;
	bool notifies;         /* the filter has a listener */
	bool locked_down;      /* the filter is in force */
	int seccomp_fd;        /* in the caller: the listener, until the agent has it */
	int rdt_fds[2];        /* `tasks` of the resctrl groups to enter, -1: none */
	struct bh_message asked; /* in the caller: what the child waits for, until it is done; kind 0: nothing */
	int asked_fd;
	const struct bh_container_exec *exec_request; /* exec, in the caller only */

	/* The child's own. Its fds are closed all at once just before the end (close_range), not one by one. */
	int root_fd;           /* the container's root; in the caller: the detached mount */
	int dev_fd;            /* the container's /dev */
	bool null_is_made;     /* its `null` is a node that we made there */
	bool dev_is_fresh;     /* a tmpfs that we just mounted: nobody else has put anything there */
	bool dev_readonly;
	int proc_mount_fd;     /* the procfs that we mounted on /proc */
	bool proc_is_plain;    /* nothing was mounted on it or below it since */
	bool proc_is_sealed;   /* read-only until its paths are protected */
	int sys_mount_fd;      /* the sysfs that we mounted on /sys, unless something may have covered it since */
	int folder_fd;         /* the current folder, if bh_enter_own chose it */
	int proc_fd;           /* private procfs */
	int terminal_fd;       /* pty slave */
	bool cwd_is_late;      /* only the final user may enter the working directory */
	char *exec_path;       /* the workload's file as found inside */
	struct bh_strv environment; /* instead of process->env, if something had to be added */
};

void bh_job_init(struct bh_job *job);
void bh_job_clear(struct bh_job *job);

/* The caller's side (container.c). Takes messages until one of kind `until`, or for 0 until the end of the stream. */
int bh_follow(struct bh_job *job, struct bh_container_process *process, unsigned until, struct bh_error *err);
/* After a failure: nothing of the processes is left. */
void bh_job_kill(struct bh_job *job, struct bh_container_process *process);
int bh_job_make_stub(struct bh_job *job, struct bh_error *err);
int bh_job_make_sync(struct bh_job *job, struct bh_error *err);
/* A warning for the person who started it; from the child it goes through the caller. */
void bh_job_warn(struct bh_job *job, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* oom_score_adj of the process whose file is proc_fd/path, if the configuration has one. */
int bh_job_oom_score(struct bh_job *job, int proc_fd, const char *path, struct bh_error *err);
int bh_child_oom_score_before(struct bh_job *job, struct bh_error *err);
/* Fills job->capabilities. */
void bh_job_clamp_capabilities(struct bh_job *job);
/* clone3 with the job's new namespaces and cgroup; ret_pidfd may be NULL. */
pid_t bh_job_clone(struct bh_job *job, uint64_t extra_flags, int *ret_pidfd);

/* exec: the namespaces to enter as files, for kernels before 5.8 (exec.c). */
int bh_job_open_namespaces(struct bh_job *job, pid_t init_pid, int init_pidfd, struct bh_error *err);

/* The child's side (child.c). */
typedef int (*bh_stage)(struct bh_job *job, struct bh_error *err);
_Noreturn void bh_child_main(struct bh_job *job);
_Noreturn void bh_child_fail(struct bh_job *job, const struct bh_error *why);
/* Until the caller says GO (perhaps with an fd). -EPIPE: it gave up, or died. */
int bh_child_wait(struct bh_job *job, int *ret_fd);
/* Opens the source of a bind with the rights of the calling process; relative paths are the bundle's. */
/* Id-maps the copy of mount `index` if it asks for it: by its own mappings, or by a user namespace (-1: none). */
int bh_job_map_source(struct bh_job *job, size_t index, int userns_fd, struct bh_error *err);
/* A detached copy of the source, or, without the mount API, the source itself as O_PATH. */
int bh_job_copy_source(const struct bh_job *job, const char *path, bool recursive, struct bh_error *err);
int bh_job_open_source(const struct bh_job *job, const char *path, struct bh_error *err);

/* Pieces of the child's work, each in the file of its name. */
int bh_child_attach_root(struct bh_job *job, struct bh_error *err);      /* rootfs.c */
int bh_child_mounts(struct bh_job *job, struct bh_error *err);
int bh_child_files(struct bh_job *job, struct bh_error *err);
int bh_child_pivot(struct bh_job *job, struct bh_error *err);
int bh_mount_cgroups(struct bh_job *job, const struct bh_spec_mount *mount, const struct bh_mount_options *options, struct bh_error *err); /* cgroups.c */
/* proc-mounts.c: what may be mounted on /proc and inside it. By the words of a destination, before anything is made; and by
 * the target that they led to. */
int bh_check_proc_mount(const struct bh_spec_mount *mount, const struct bh_job_mount *prepared, struct bh_error *err);
int bh_check_proc_target(int target_fd, const char *destination, struct bh_error *err);
enum bh_attach_kind {
	BH_ATTACH_ANY,             /* the mount's root may be a folder or a file */
	BH_ATTACH_DIRECTORY,       /* it is a folder */
	BH_ATTACH_PLAIN_DIRECTORY, /* and the target must be one itself, not a link to one */
};
/* Attaches on `destination` inside the root, making it if it is missing. */
int bh_attach_inside(struct bh_job *job, int mount_fd, const char *destination, enum bh_attach_kind kind, struct bh_error *err);
/*
 * own-mounts.c: mount(2) by name in the file systems that we have just mounted ourselves; the argument for its safety is there.
 * bh_mount_own returns whether the mount is made; what it doesn't do is done by bh_mount_new and bh_attach_inside.
 */
int bh_enter_own(struct bh_job *job, int folder_fd);
bool bh_mount_own(struct bh_job *job, const struct bh_spec_mount *mount, const struct bh_mount_options *options);
/* A new tmpfs with these options, as an fd to be attached like one from bh_mount_new; or -errno without words: not this way. */
int bh_mount_staged(struct bh_job *job, const struct bh_spec_mount *mount, const struct bh_mount_options *options);
/* What protect.c does with the paths of our own procfs and sysfs; 1: done, 0: nothing there, negative: the careful way has to
 * be taken. A path is read-only as the copy of a procfs that is read-only meanwhile. */
struct bh_own_covers {
	char null[32];    /* where in the current folder the container's null device is found */
	char tmpfs[64];   /* where in the current folder an empty tmpfs lies already */
};
int bh_seal_own(struct bh_job *job, const char *path);
int bh_mask_own(struct bh_job *job, struct bh_own_covers *covers, const char *path, bool *ret_directory);
/* Shall procfs be read-only until then? */
bool bh_proc_can_be_sealed(const struct bh_job *job);
/* Ends that, before something that depends on it is done. */
int bh_unseal_proc(struct bh_job *job, struct bh_error *err);
/* Notes what a mount on `destination` may have covered; `by_words`: no link led there. */
void bh_note_mount(struct bh_job *job, const char *destination, bool by_words);
bool bh_has_early_hooks(const struct bh_spec *spec);
/* The rest of the path if it is one plain name below `folder` ("/dev", "/dev/pts" -> "pts"), else NULL. */
const char *bh_single_name_below(const char *folder, const char *path);
int bh_child_devices(struct bh_job *job, struct bh_error *err);          /* devices.c */
int bh_job_make_nodes(struct bh_job *job, struct bh_error *err);
int bh_child_protect_paths(struct bh_job *job, struct bh_error *err);    /* protect.c */
int bh_check_sysctls(const struct bh_job *job, struct bh_error *err);    /* sysctl.c */
int bh_child_sysctls(struct bh_job *job, struct bh_error *err);
int bh_child_terminal(struct bh_job *job, struct bh_error *err);         /* terminal.c */
int bh_child_stdio(struct bh_job *job, struct bh_error *err);
/* schedule.c: scheduler, I/O priority, affinity, memory policy, personality. The check before anything is made. */
int bh_check_schedule(const struct bh_spec *spec, const struct bh_spec_process *process, struct bh_error *err);
int bh_child_schedule(struct bh_job *job, struct bh_error *err);
/* The words of memoryPolicy, by index; NULL behind the last. */
const char *bh_memory_policy_mode(size_t index);
const char *bh_memory_policy_flag(size_t index);
int bh_child_affinity(struct bh_job *job, struct bh_error *err);
/* exec: the first clone, with execCPUAffinity.initial; and what of the scheduler only the caller can set. */
pid_t bh_job_clone_with_affinity(struct bh_job *job, struct bh_error *err);
int bh_caller_schedule(const struct bh_job *job, pid_t pid, struct bh_error *err);
int bh_child_limits(struct bh_job *job, struct bh_error *err);           /* process.c */
int bh_child_close_fds(struct bh_job *job, struct bh_error *err);
int bh_child_working_directory(struct bh_job *job, struct bh_error *err);
int bh_child_late_working_directory(struct bh_job *job, struct bh_error *err);
int bh_child_environment(struct bh_job *job, struct bh_error *err);     /* environment.c */
/* The folder of the user with this number by the root's /etc/passwd; "/" without one. */
char *const *bh_child_environment_items(const struct bh_job *job); /* what it has become, for execve */
char *bh_home_of_user(int root_fd, uint32_t uid);
int bh_child_credentials(struct bh_job *job, struct bh_error *err);
int bh_child_find_executable(struct bh_job *job, struct bh_error *err);
int bh_child_early(struct bh_job *job, struct bh_error *err);
int bh_child_lock_down(struct bh_job *job, struct bh_error *err);
/* "exec: "NAME": no such file or directory" with exit code 127 or 126; `name` NULL if it isn't known any more. */
int bh_exec_error(const char *name, int errnum, struct bh_error *err);
/* The same for what only execve(2) found (a missing interpreter): "exec NAME: no such file or directory". */
int bh_execve_error(const char *name, int errnum, struct bh_error *err);
_Noreturn void bh_child_execute(struct bh_job *job);
/* notify.c: refuses a filter under which nothing could be started, or whose listener couldn't be passed on. */
int bh_check_seccomp(struct bh_job *job, struct bh_error *err);
int bh_child_pass_listener(struct bh_job *job, int listener, struct bh_error *err);
int bh_caller_send_listener(struct bh_job *job, pid_t pid, struct bh_error *err);
/* intel-rdt.c: linux.intelRdt. The first two work on any folder that looks like resctrl, for tests. */
int bh_rdt_prepare(int resctrl_fd, const struct bh_spec *spec, const char *id, int ret_fds[2], struct bh_error *err);
int bh_rdt_remove(int resctrl_fd, const struct bh_spec *spec, const char *id, struct bh_error *err);
int bh_job_prepare_rdt(struct bh_job *job, const char *id, struct bh_error *err);
int bh_job_join_rdt(struct bh_job *job, const char *id, struct bh_error *err);
int bh_child_rdt(struct bh_job *job, struct bh_error *err);
/* rootless.c */
int bh_rootless_enter(const struct bh_spec *spec, struct bh_error *err);
/* network.c: linux.netDevices, asked for by the child and done by the caller. */
int bh_child_network(struct bh_job *job, struct bh_error *err);
int bh_caller_network(struct bh_job *job, pid_t pid, struct bh_error *err);
/* Asks the caller for something and waits until it is done. */
int bh_child_ask(struct bh_job *job, unsigned kind, struct bh_error *err);
int bh_child_ask_about(struct bh_job *job, unsigned kind, int value, int fd, struct bh_error *err);
int bh_child_ask_for(struct bh_job *job, unsigned kind, int value, int *ret_fd, struct bh_error *err);
/* The container's state as hooks and agents get it (runtime-spec runtime.md, "State"). */
void bh_hook_state_write(const struct bh_spec *spec, const struct bh_hook_state *state, struct bh_buf *out);
int bh_child_create_hooks(struct bh_job *job, struct bh_error *err);     /* hooks.c */
int bh_child_start_hooks(struct bh_job *job, struct bh_error *err);
int bh_child_wait_for_start(struct bh_job *job, struct bh_error *err);
bool bh_job_has_labels(const struct bh_job *job);
/* Fills job->labels: what of the labels this machine knows. */
void bh_job_take_labels(struct bh_job *job);
int bh_child_labels(struct bh_job *job, struct bh_error *err);
int bh_child_key_label(struct bh_job *job, struct bh_error *err);
/* The option that gives a new file system linux.mountLabel. */
void bh_label_mount(const struct bh_job *job, const char *type, struct bh_mount_options *o);
int bh_caller_hooks(struct bh_job *job, pid_t pid, struct bh_error *err);
