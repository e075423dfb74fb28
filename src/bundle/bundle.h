/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an OCI bundle (runtime-spec, runtime.md): what `bulkhead-oci` does, without its command line.
 *
 * Nothing of ours stays resident: a container is its processes, its cgroup, and a folder of the state root:
 *
 *	ROOT/<id>/record      one line of JSON (below), then config.json as it was read. Its rename makes the container exist
 *	ROOT/<id>/cgroups     where its cgroup is, if it isn't as the record has planned it: the systemd unit, then bh_cgroup_paths, each
 *	                      ended by a NUL
 *	ROOT/<id>/init        a link that leads nowhere; its text is the first process: pid and start time (BH_BUNDLE_INIT)
 *	ROOT/<id>/mount       without a mount namespace: the id of the mount that is its root on the host (bh_mount_id)
 *	ROOT/<id>/start.sock  where the created process waits; removed by `start`, so it tells `created` from `running`. Of a microVM it
 *	                      is a link to
 *	ROOT/<id>/agent.sock  its session's socket; microvm.json and microvm.paused are the machine's too (microvm/microvm.h)
 *
 * The folder is made exclusively, which makes ids unique, and is locked while it is being made. Everything else is read
 * from the kernel: the process by its pidfd, paused by the cgroup. A process that is killed half-way leaves a folder from
 * which bh_bundle_delete finds all there is: the record is written before the cgroup, and the cgroup before the process.
 */
#pragma once

#include "base/error.h"
#include "base/string.h"
#include "container/container.h"
#include "oci/spec.h"
#include "runtime/runtime.h"

enum bh_bundle_status { BH_BUNDLE_CREATING, BH_BUNDLE_CREATED, BH_BUNDLE_RUNNING, BH_BUNDLE_PAUSED, BH_BUNDLE_STOPPED };

struct bh_bundle {
	char *id, *bundle, *rootfs, *oci_version;
	struct bh_strv cgroups;  /* where it is, or while it is being made, may be */
	char *cgroup_unit;       /* of systemd, or NULL */
	int64_t created_ns;
	uid_t owner;
	bool systemd_cgroup;
	enum bh_bundle_status status;
	pid_t pid;        /* of the first process; 0 when stopped */
	int pidfd;        /* -1 when stopped */
	int root_fd, dir_fd;
	int notify_fd;    /* sd_notify from inside, or -1 */
	const struct bh_isolation_driver *driver;
	char *state;      /* its folder by dir_fd, for a driver with an own kernel */
	struct bh_buf record;
	size_t config_offset; /* of config.json in `record` */
	bool has_spec;
	struct bh_spec spec;  /* after bh_bundle_spec */
};
#define BH_BUNDLE_INIT_VALUE { .pidfd = -1, .root_fd = -1, .dir_fd = -1, .notify_fd = -1 }

/* "created" ... as `state` says it. */
const char *bh_bundle_status_name(enum bh_bundle_status status);
/* Letters, digits and _ + - . ; not "." or "..". -EINVAL. */
int bh_bundle_check_id(const char *id, struct bh_error *err);
/* -ENOENT ("container does not exist"). One that is half-made or half-removed has status creating or stopped and may
 * have no strings but `id`. */
int bh_bundle_open(const char *root, const char *id, struct bh_bundle *ret_bundle, struct bh_error *err);
void bh_bundle_close(struct bh_bundle *bundle);
/* Parses the configuration that was valid at creation into bundle->spec. */
int bh_bundle_spec(struct bh_bundle *bundle, struct bh_error *err);
/* Ids below the root, sorted. A missing root is empty. */
int bh_bundle_list(const char *root, struct bh_strv *ret_ids, struct bh_error *err);

/* What checkpoint and restore are told (runc-checkpoint(8), runc-restore(8), criu(8)). */
struct bh_bundle_criu {
	const char *program;                  /* criu */
	const char *image_path, *work_path;   /* work_path NULL: logs are beside the images */
	const char *manage_cgroups_mode;      /* NULL: criu's default */
	bool tcp_established, ext_unix_sk, shell_job, file_locks, auto_dedup, lazy_pages;
	/* checkpoint */
	const char *parent_path;              /* relative to image_path, or NULL */
	const char *page_server;              /* address, or NULL */
	int page_server_port, status_fd;      /* -1: none */
	bool leave_running, pre_dump, tcp_skip_in_flight, link_remap;
	/* restore */
	const char *lsm_profile, *lsm_mount_context;
};

struct bh_bundle_create {
	const char *root, *id, *bundle; /* `bundle` absolute */
	int bundle_fd;                  /* the same folder, taken over; or 0: it is opened by its path */
	const char *pid_file;           /* or NULL */
	bool systemd_cgroup;
	bool no_cgroup;                 /* it stays in the caller's */
	const char *isolation;          /* of a configuration that doesn't say it: a driver's name; NULL: the default */
	bool rootless;                  /* cgroups are used as far as this user may */
	bool no_pivot, no_new_keyring;  /* as in struct bh_container_create */
	const char *notify;             /* $NOTIFY_SOCKET: the process tells this service manager when it is ready; or NULL */
	bool run;                       /* create and start in one: no start socket, nothing waits in between */
	const struct bh_bundle_criu *restore; /* with `run`: not a new process but those of a checkpoint; or NULL */
	const char *config;             /* instead of "config.json" in `bundle`; may be absolute */
	int preserve_fds;
	struct bh_container_stdio *stdio;
	/* Called with the parsed configuration before anything is made. May be NULL. */
	int (*configured)(void *context, struct bh_spec *spec, struct bh_error *err);
	/* Called with the terminal's master (which stays in `stdio`) before a created process is released. May be NULL. */
	int (*terminal)(void *context, int master_fd, struct bh_error *err);
	void *context;
};
/* Reads and checks config.json, makes the container, and leaves its process waiting, or running with `run`; it is a child of
 * the caller. On failure nothing is left. */
int bh_bundle_create(const struct bh_bundle_create *request, struct bh_bundle *ret_bundle, struct bh_error *err);
/* What the process has to say to the service manager at the socket `manager` ($NOTIFY_SOCKET): listens (before bh_bundle_start; a
 * running creation does it), takes one message and passes READY=1 on (true then, and notify_fd is closed), or waits for that or
 * the process's end. */
int bh_bundle_listen_notify(struct bh_bundle *bundle, struct bh_error *err);
bool bh_bundle_take_notify(struct bh_bundle *bundle, const char *manager);
void bh_bundle_wait_notify(struct bh_bundle *bundle, const char *manager);
/* Writes what the processes of a running or paused one are into criu->image_path. Unless it's told otherwise the container is
 * deleted then. -EOPNOTSUPP: criu can't work on this kernel. */
int bh_bundle_checkpoint(struct bh_bundle *bundle, const struct bh_bundle_criu *criu, struct bh_error *err);
/* Lets a created one run and calls the poststart hooks; -EBUSY/-EINVAL in runc's words when it isn't `created`. */
int bh_bundle_start(struct bh_bundle *bundle, struct bh_error *err);
int bh_bundle_kill(struct bh_bundle *bundle, int signal, bool all, struct bh_error *err);
int bh_bundle_pause(struct bh_bundle *bundle, bool pause, struct bh_error *err);
/* New limits; what `resources` doesn't set stays as it is. */
int bh_bundle_update(struct bh_bundle *bundle, const struct bh_spec_resources *resources, struct bh_error *err);
/* The host's pids of all its processes; the array is the caller's. */
int bh_bundle_pids(struct bh_bundle *bundle, pid_t **ret_pids, size_t *ret_count, struct bh_error *err);
/* What runc's `events --stats` has in "data"; and out-of-memory events (bh_cgroup_watch_read). -ENOENT without a cgroup. */
int bh_bundle_write_stats(struct bh_bundle *bundle, struct bh_buf *out, struct bh_error *err);
int bh_bundle_watch(struct bh_bundle *bundle, struct bh_cgroup_watch *ret_watch, struct bh_error *err);
/* Removes a stopped one (a created one is killed first), or with `force` one in any state, and calls the poststop hooks. */
int bh_bundle_delete(struct bh_bundle *bundle, bool force, struct bh_error *err);

struct bh_bundle_exec {
	const struct bh_spec_process *process;
	struct bh_container_stdio *stdio;
	const char *pid_file;
	int preserve_fds;
	bool ignore_paused;
	const struct bh_strv *cgroups;  /* folders below the container's (bh_cgroup_descend); may be NULL */
	bool list;                      /* of a microVM: not a process, but the list of those there are, on its standard output */
};
/* A further process inside, a child of the caller. */
int bh_bundle_exec(struct bh_bundle *bundle, const struct bh_bundle_exec *request, struct bh_container_process *ret_process, struct bh_error *err);

/* The state object of runtime-spec, runtime.md, with runc's additions (rootfs, created, owner), indented by two or on one line. */
void bh_bundle_state(struct bh_bundle *bundle, const char *owner, bool indented, struct bh_buf *out);
/* Atomically: callers wait for the file and read it at once. */
int bh_bundle_write_pid_file(const char *path, pid_t pid, struct bh_error *err);
