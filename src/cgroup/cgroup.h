/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control groups: one handle, two drivers (v1 also hybrid, v2), chosen by what is mounted at /sys/fs/cgroup.
 *
 * A cgroup is held by directory fds (one per hierarchy on v1, one on v2), so later steps can't be led elsewhere by a
 * renamed path. Costs that shaped the interface: a write of a *foreign* pid into cgroup.procs takes an 11 ms grace
 * period, so a process enters by clone3(CLONE_INTO_CGROUP) (v2) or by writing "0" to `tasks` itself (v1); on v1 only the
 * hierarchies that the container needs get a folder (see bh_cgroup_create).
 * Every step that changes the machine calls bh_explain("cgroup", ...).
 */
#pragma once

#include "base/error.h"
#include "base/string.h"
#include "oci/spec.h"

struct bh_cgroup; /* opaque; owned by the caller, freed by bh_cgroup_free */

struct bh_cgroup_host {
	int version;            /* 1 (also hybrid) or 2 */
	bool hybrid;            /* v1 with some controllers on a v2 tree */
	char driver[16];        /* "v1" or "v2" */
	struct bh_strv controllers; /* "cpu", "memory", ... usable here */
	struct bh_strv missing;     /* "io: not in cgroup.controllers" - for `info` */
};
int bh_cgroup_host(struct bh_cgroup_host *ret_host, struct bh_error *err);
void bh_cgroup_host_clear(struct bh_cgroup_host *host);

/*
 * What a runtime asks for. `path` is linux.cgroupsPath as it stands (runtime-spec config-linux.md): absolute paths lie below the
 * root of each hierarchy as it is mounted, relative ones below the caller's own cgroup (v1) or beside it (v2: a folder with
 * processes hands no controllers down), and without one `name` does, in the same place. ".." never leads above that.
 */
struct bh_cgroup_request {
	const char *path;
	const char *name; /* the container's id */
	const struct bh_spec_resources *resources;
	bool every_hierarchy; /* v1: a folder in each hierarchy that is mounted, also name=systemd, for callers that look there */
	bool strict;          /* a limit that this machine can't hold is an error, not a warning */
	bool none;            /* no cgroup is made; a limit is an error, device rules are left out */
	bool rootless;        /* no permission is fine as long as no path and no limit was asked for; device rules may be left out */
	struct bh_opt_i64 owner_uid; /* v2: the host's uid that may manage cgroups below (kernel: /sys/kernel/cgroup/delegate) */
	bool systemd;         /* `path` is "slice:prefix:name" or empty: systemd makes the cgroup (systemd.c) */
	const struct bh_strv *annotations; /* "org.systemd.property.NAME=VALUE" among others; may be NULL */
	/* Called before anything is made, with each folder that may be made and the unit (bh_cgroup_paths below has their form), for
	 * a caller that wants to find them if it is killed. May be NULL. */
	int (*planned)(void *context, const struct bh_strv *paths, const char *unit, struct bh_error *err);
	void *planned_context;
};
/*
 * Makes the cgroup with the limits applied and the device rules in force, before any process is in it. On failure nothing
 * is left. Folders that exist already are taken over if they are empty and not frozen (-EBUSY otherwise). The handle has to
 * be kept until the first process is inside. With `none`, or rootless without permission and without limits: 0 and a NULL cgroup.
 */
int bh_cgroup_make(const struct bh_cgroup_request *request, struct bh_cgroup **ret_cgroup, struct bh_error *err);
/*
 * The engine's short form: an absolute path, only the folders that do something, a limit that this machine can't hold
 * (controller missing, no permission) is told once by bh_warn_once and skipped, unless its controller is there.
 * A path of one component is cheapest: no folder above has to be made and removed.
 */
int bh_cgroup_create(const char *path, const struct bh_spec_resources *resources, struct bh_cgroup **ret_cgroup, struct bh_error *err);
/* Opens an existing one by the same path. -ENOENT. */
int bh_cgroup_open(const char *path, struct bh_cgroup **ret_cgroup, struct bh_error *err);

/*
 * A cgroup on record: "controller=/absolute/path" for each folder ("memory=...", "name=systemd=...", "=..." for the v2 tree), the
 * keys and values of runc's `cgroup_paths`; and the systemd unit, if there is one ("runc-x.scope"; "user:runc-x.scope" on the
 * user's own manager), else NULL. Both are checked when they come back.
 */
void bh_cgroup_paths(const struct bh_cgroup *cgroup, struct bh_strv *ret_paths);
const char *bh_cgroup_unit(const struct bh_cgroup *cgroup);
/* -ENOENT if no folder of it is left. */
int bh_cgroup_open_paths(const struct bh_strv *paths, const char *unit, struct bh_cgroup **ret_cgroup, struct bh_error *err);
/* The same for nothing but letting a process enter. */
int bh_cgroup_open_paths_to_enter(const struct bh_strv *paths, const char *unit, struct bh_cgroup **ret_cgroup, struct bh_error *err);
/* Is it frozen, in either way? Opens nothing else. -EINVAL: the record is unusual, bh_cgroup_is_frozen has to look. */
int bh_cgroup_paths_are_frozen(const struct bh_strv *paths, bool *ret_frozen);
/* Kills what is inside, removes the folders, stops the unit. Cheapest when all is empty. What is missing is success. */
int bh_cgroup_remove_paths(const struct bh_strv *paths, const char *unit, struct bh_error *err);
/* exec --cgroup: makes the handle stand for folders below, which must exist. Each item is "PATH" (all folders) or
 * "CONTROLLER[,CONTROLLER...]:PATH". */
int bh_cgroup_descend(struct bh_cgroup *cgroup, const struct bh_strv *where, struct bh_error *err);
/* v2: the folder where `pid` is now; for exec into a container whose first process has moved to a folder below (the clone into
 * the container's own then fails with EBUSY). */
int bh_cgroup_open_of_process(pid_t pid, struct bh_cgroup **ret_cgroup, struct bh_error *err);

void bh_cgroup_free(struct bh_cgroup *cgroup);

/*
 * The device rules of an OCI runtime: nothing is allowed but what the configuration's rules allow, and after them the
 * runtime's own, which no configuration can take away (the default devices, terminals, mknod of anything). Changes
 * spec->resources.devices in place; before bh_cgroup_make.
 */
void bh_cgroup_add_runtime_device_rules(struct bh_spec *spec);

/* The directory fd for CLONE_INTO_CGROUP (borrowed): v2's folder, also the one of the hybrid layout's v2 tree, which nobody
 * can enter otherwise without an 8-12 ms grace period. -1: nothing to clone into. The first process *must* be cloned into it;
 * bh_cgroup_enter_self does the rest. */
int bh_cgroup_clone_fd(const struct bh_cgroup *cgroup);
/* v2: the clone is all, so a cgroup namespace can be made by the same clone. v1: bh_cgroup_enter_self has to come first. */
bool bh_cgroup_is_entered_by_clone(const struct bh_cgroup *cgroup);

/*
 * What a container may see of cgroups below its /sys/fs/cgroup: its own folders, to be bind-mounted, and nothing else.
 * (On v1 a `cgroup` mount in the container's cgroup namespace would show the caller's whole hierarchy wherever this cgroup
 * has no folder.) For index 0, 1, ...: the name ("memory"; "" on v2: it is the mount itself) and the folder's fd (borrowed,
 * O_PATH; -1 if it was only made and nobody has looked into it). -ENOENT behind the last.
 */
int bh_cgroup_mount_source(const struct bh_cgroup *cgroup, size_t index, const char **ret_name, int *ret_fd);
/* The folder by its path on the host, owned by the caller; NULL if there is none of this name. */
char *bh_cgroup_mount_path(const struct bh_cgroup *cgroup, const char *name);
int bh_cgroup_version(const struct bh_cgroup *cgroup);
/* What /proc/self/cgroup said before the container's process was made, so that a file that is the same for all hierarchies but for
 * the paths need not be read again. NULL if nobody has needed it. */
const char *bh_cgroup_self_text(const struct bh_cgroup *cgroup);
/* v1: the calling process (freshly cloned, single-threaded) enters what it wasn't cloned into. v2: no-op. Allocates nothing, opens by the held fds
 * only, so it works in a child that shares no path with the caller. Before the cgroup namespace is unshared. */
int bh_cgroup_enter_self(const struct bh_cgroup *cgroup, struct bh_error *err);

/* Only what is set in `resources` changes. With device rules the whole list is replaced, without a moment in which a device
 * that both lists allow is refused. */
int bh_cgroup_update(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, struct bh_error *err);
/* Freezes/thaws and returns when the kernel says all tasks are (cgroup.events / FROZEN), by waiting on the file, not by
 * sleeping. */
int bh_cgroup_freeze(struct bh_cgroup *cgroup, bool frozen, struct bh_error *err);
int bh_cgroup_is_frozen(struct bh_cgroup *cgroup, bool *ret_frozen, struct bh_error *err);
/* SIGKILL to every process in it and below (cgroup.kill, or pids through pidfds until empty). Thaws first. */
int bh_cgroup_kill(struct bh_cgroup *cgroup, struct bh_error *err);
int bh_cgroup_signal(struct bh_cgroup *cgroup, int signal, struct bh_error *err);
/* v1: a killed process that somebody has moved into another, frozen cgroup doesn't end before it is back in this one. */
int bh_cgroup_take_back(struct bh_cgroup *cgroup, pid_t pid, struct bh_error *err);
/* Pids in the caller's pid namespace, of it and all below. */
int bh_cgroup_pids(struct bh_cgroup *cgroup, pid_t **ret_pids, size_t *ret_count, struct bh_error *err);
/* Removes it with everything below; processes must be gone or dying (waits for the last to go, bounded at 5 s, by
 * cgroup.events / inotify or retry on EBUSY with poll on pidfds). A missing one is success. */
int bh_cgroup_destroy(struct bh_cgroup *cgroup, struct bh_error *err);
/* Open, kill, destroy in one, by path, and cheaper when nothing is left inside. A missing one is success. */
int bh_cgroup_remove(const char *path, struct bh_error *err);

/* An fd whose content tells OOM kills (memory.events or memory.oom_control), owned by the caller, and the parser for
 * what pread(fd, 0) gives. The shim keeps the fd and needs nothing else from this folder. -ENOENT without memory. */
int bh_cgroup_oom_fd(const struct bh_cgroup *cgroup);
uint64_t bh_cgroup_parse_oom_kills(const char *content);

struct bh_cgroup_stats {
	uint64_t cpu_usage_ns, cpu_user_ns, cpu_system_ns, cpu_throttled_ns, cpu_periods, cpu_throttled_periods;
	uint64_t memory_usage, memory_limit /* UINT64_MAX: none */, memory_max_usage, memory_cache, memory_inactive_file, memory_swap;
	uint64_t pids_current, pids_limit /* UINT64_MAX: none */;
	uint64_t block_read_bytes, block_write_bytes, block_read_ios, block_write_ios;
	uint64_t oom_kills;
};
int bh_cgroup_stats(struct bh_cgroup *cgroup, struct bh_cgroup_stats *ret_stats, struct bh_error *err);

/*
 * All that is counted, as the object that `events --stats` of runc has in "data" (its types.Stats). The parts that aren't a
 * cgroup's come from the caller as JSON: `intel_rdt` (NULL: {}) and `network_interfaces` (NULL: null).
 */
int bh_cgroup_write_stats(struct bh_cgroup *cgroup, const char *intel_rdt, const char *network_interfaces, struct bh_buf *out, struct bh_error *err);

/* Out of memory, and the end: poll `fd` for POLLIN, then read what it was. -ENOENT without the memory controller. */
struct bh_cgroup_watch {
	int fd;
	int folder_fd, control_fd, version;
	uint64_t oom_kills;
};
int bh_cgroup_watch_open(struct bh_cgroup *cgroup, struct bh_cgroup_watch *ret_watch, struct bh_error *err);
/* `ended`: its folder was removed, or (v2) the last process has gone. v1 has no event for the latter: watch the pidfd too. */
void bh_cgroup_watch_read(struct bh_cgroup_watch *watch, bool *ret_oom, bool *ret_ended);
void bh_cgroup_watch_close(struct bh_cgroup_watch *watch);
