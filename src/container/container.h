/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container driver: turns a spec into a first process inside its namespaces. See container.c for the theory of
 * operation. Linux only, needs CAP_SYS_ADMIN (or a user namespace map, rootless).
 */
#pragma once

#include "base/error.h"
#include "cgroup/cgroup.h"
#include "oci/spec.h"

#include <sys/types.h>

/* How the caller gives the root file system. */
struct bh_rootfs {
	int mount_fd;          /* a detached mount (fsmount/open_tree) that becomes the root; -1: use `path` */
	const char *path;      /* a folder that is bind-mounted as the root (bundle's rootfs) */
	/* Both, for a container without a mount namespace: then the mount is attached on `path`, becomes private, and has all of the
	 * container's mounts below it. The caller takes it off when no process is left, after a failure as well. */
	/* Called instead of both when not NULL, in a process that is in the initial user namespace and may make mounts:
	 * returns a detached mount fd or -errno. `userns_fd` is the container's user namespace for id-mapped mounts, or -1. */
	int (*mount)(void *context, int userns_fd, struct bh_error *err);
	void *mount_context;
};

struct bh_container_stdio {
	int stdin_fd, stdout_fd, stderr_fd; /* given to the process; -1 = /dev/null */
	/* terminal: the driver allocates the pty inside the container's devpts, makes its slave fd 0-2, the controlling
	 * terminal and /dev/console, and returns the master here (owned by the caller afterwards). */
	int ret_terminal_fd;
	bool plain_newlines; /* what is written comes out as it was written: whoever shows it adds the carriage returns */
};

/* A small file of the container's own (/etc/hosts): it lives on a tmpfs that only its mount namespace knows. */
struct bh_container_file {
	const char *target;
	const char *content;
	size_t length;
};

struct bh_container_create {
	const struct bh_spec *spec;
	struct bh_rootfs rootfs;
	struct bh_cgroup *cgroup;     /* made by the caller; NULL = the caller's own cgroup */
	struct bh_container_stdio *stdio;
	const char *bundle;           /* folder for relative paths and hooks' state; may be NULL */
	const char *id;               /* for hooks' state */
	const struct bh_container_file *files; /* made after the mounts of the spec, mounted on their targets; 0644, root's */
	size_t file_count;
	const char *init_path;        /* --init: absolute host path of bulkhead-guest to run as pid 1, or NULL */
	bool keep_in_parent_fate;     /* PR_SET_PDEATHSIG SIGKILL: the container dies with the process that creates it */
	/* bh_container_run only: called in the caller as soon as the first process has been cloned, while it prepares itself:
	 * time that costs nothing. Not called when the pid is not known yet (a pid namespace is joined). */
	int (*cloned)(void *context, pid_t pid, struct bh_error *err);
	void *cloned_context;
	/* The caller is an ordinary user. Then it enters a user namespace (new with the configuration's maps or the own ids
	 * alone, or the one to join) and a mount namespace of its own, for good, and goes on there as their root. */
	bool rootless;
	bool no_new_keyring;          /* keep the caller's session keyring (--no-new-keyring) */
	bool all_cpus;                /* all CPUs that its cgroup allows, whatever the caller's own affinity is */
	bool no_pivot;                /* chroot instead of pivot_root, for machines whose root is the initial ramfs (--no-pivot) */
	int preserve_fds;             /* fds 3..3+n-1 stay open in the process, but those that are close-on-exec */
	/* bh_container_create only, 0 = none: a listening SOCK_SEQPACKET socket that outlives the caller. The process goes on
	 * waiting there after bh_container_release, until somebody connects (bh_container_start_remote). */
	int start_socket;
};

/* A container between create and exec, or running. Plain data; nothing to free but the fds. */
struct bh_container_process {
	pid_t pid;       /* in the caller's pid namespace; a direct child of the caller */
	int pidfd;       /* O_CLOEXEC */
	int sync_fd;     /* create -> start: the child waits on its end; after start: EOF once exec happened. O_CLOEXEC */
};

/*
 * Clones the first process, which enters cgroup and namespaces, builds the root file system, drops privileges, and then
 * waits for bh_container_start just before execve. Everything that can fail in it has been tried when this returns.
 * On failure the child is dead and reaped, and `err` carries the child's own words; err->exit_code is 127 (command not
 * found) or 126 (found, not executable) when the executable was already looked up and missing, else 125.
 */
int bh_container_create(const struct bh_container_create *request, struct bh_container_process *ret_process, struct bh_error *err);
/* Lets it execve and returns when that has happened (or failed: as above, child reaped). */
int bh_container_start(struct bh_container_process *process, struct bh_error *err);

/* Leaves the process waiting at its start socket; the caller may end. Closes sync_fd. Until this is called the process
 * ends with the caller. */
int bh_container_release(struct bh_container_process *process, struct bh_error *err);
/* Starts a released process over a connection to its start socket: returns when it has executed, or with its own words
 * for why it didn't; then it is ending. */
int bh_container_start_remote(int connection, struct bh_error *err);

/* Create and start in one: nothing waits in between, and process->sync_fd is at its end already. The child's own words
 * for every failure, as above. */
int bh_container_run(const struct bh_container_create *request, struct bh_container_process *ret_process, struct bh_error *err);

struct bh_container_exec {
	pid_t init_pid;               /* whose namespaces to join; verified through the pidfd */
	int init_pidfd;
	const struct bh_spec *spec;   /* the container's: seccomp, namespaces; without a mount namespace its root is init_pid's */
	const char *id, *bundle;      /* for the state that a seccomp agent gets; may be NULL */
	const struct bh_spec_process *process;
	struct bh_cgroup *cgroup;
	struct bh_container_stdio *stdio;
	int preserve_fds;             /* fds 3..3+n-1 stay open in the process */
	bool rootless;                /* as in bh_container_create; the caller stays where it is */
	bool no_new_keyring, all_cpus; /* as bh_container_create has them */
	bool privileged;
};
/* Runs a further process inside; the process is a direct child of the caller (in the joined pid namespace). */
int bh_container_exec(const struct bh_container_exec *request, struct bh_container_process *ret_process, struct bh_error *err);

/* The features document (runtime-spec features.md): what of the specification is understood, indented for people. */
void bh_spec_features_write(struct bh_buf *out);

/* Removes what linux.intelRdt left outside: to be called when the container is deleted and no process is left. */
int bh_container_remove_rdt(const struct bh_spec *spec, const char *id, struct bh_error *err);

/* The annotation by which a process keeps the supplementary groups of the caller (crun(1); podman's --group-add keep-groups). */
#define BH_KEEP_GROUPS "run.oci.keep_original_groups"

/* What a hook is told about its container. */
struct bh_hook_state {
	const char *id, *bundle, *status; /* "creating", "created", "running", "stopped" */
	pid_t pid;                        /* 0 = none */
	/* Called in a hook's process before it executes; NULL: nothing. */
	int (*prepare)(void *context);
	void *context;
	const char *folder;               /* where they begin; NULL: in the bundle */
	char *const *environment;         /* of hooks whose configuration has none, not even an empty one; NULL: the caller's own */
};
/* Runs hooks of one kind ("poststart", "poststop") in order, each within its time; the first failure ends it. create,
 * run and start run the other kinds themselves. */
int bh_container_hooks(const struct bh_spec *spec, const struct bh_spec_hooks *hooks, const char *kind, const struct bh_hook_state *state,
		       struct bh_error *err);

/*
 * The files of a container that doesn't run, below root_fd, a detached mount of its root file system: attaches that, and the folders and files
 * of the host that the configuration binds, in a mount namespace that the caller enters for good. `userns_fd`: the container's user
 * namespace for id-mapped mounts, or -1. `readonly`: the root is, whatever the configuration says. -errno with words.
 */
int bh_container_mount_files(const struct bh_spec *spec, int root_fd, int userns_fd, bool readonly, struct bh_error *err);

/* Resolves "user", "user:group", "1000:1000" against /etc/passwd and /etc/group *inside* the root (opened with
 * RESOLVE_IN_ROOT below root_fd): uid, gid, supplementary groups, and HOME. A strict parser: overlong or negative
 * numbers are errors, not wrapped. */
int bh_container_resolve_user(int root_fd, const char *user, const struct bh_strv *group_add, struct bh_spec_process *process,
			      char **ret_home, struct bh_error *err);
