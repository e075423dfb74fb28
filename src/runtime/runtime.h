/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The isolation seam: what the engine asks of a technology that runs a workload in a compartment of its own.
 *
 * One const table per driver, chosen by `--isolation` and kept in the container's record. `container` (namespaces and
 * cgroups) is the first, `vm` (a machine with its own kernel) the second. A compartment is named by its place:
 * for a container that is its cgroup ("/bulkhead-<id>"). Everything that must outlive the process which created it can be found by that
 * name alone, so that any later command can clean up after a kill.
 */
#pragma once

#include "base/error.h"
#include "cgroup/cgroup.h"
#include "container/container.h"
#include "microvm/microvm.h"

struct bh_compartment {
	struct bh_container_process process;
	struct bh_cgroup *cgroup;
	int oom_fd; /* tells OOM kills (see bh_cgroup_oom_fd), -1 if nothing does; the caller's */
};
#define BH_COMPARTMENT_INIT { .process = { .pidfd = -1, .sync_fd = -1 }, .cgroup = NULL, .oom_fd = -1 }

/*
 * Where a compartment is. An absolute path of one's own choosing is all that the engine needs. An OCI runtime has its callers'
 * wishes: it makes a cgroup by a request, and keeps on record where that has put it.
 */
struct bh_compartment_place {
	const char *path;
	const struct bh_cgroup_request *request; /* create, run: instead of `path`; may end without a cgroup (rootless) */
	const struct bh_strv *folders;           /* the rest: instead of `path`, from bh_cgroup_paths; empty: there is no cgroup */
	const char *unit;                        /* with `folders`: bh_cgroup_unit */
	const struct bh_strv *below;             /* exec: in folders below it (bh_cgroup_descend); may be NULL */
	const char *state;                       /* a driver with an own kernel: the run-time folder, for its socket */
	const struct bh_microvm *microvm;        /* the same: run, exec (user and groups) */
};
#define BH_PLACE(at) (&(const struct bh_compartment_place){ .path = (at) })

struct bh_isolation_driver {
	const char *name;
	/* The root file system, users and mounts are inside, behind a kernel of its own: the caller can't look at them. place->state and
	 * place->microvm are needed. */
	bool has_own_kernel;
	/* Makes the compartment with its limits, and the first process in it, which waits at a socket (a container's is
	 * request->start_socket, a microVM's BH_MICROVM_SOCKET in place->state). Until it is released it ends with the caller.
	 * request->cgroup is filled in. On failure nothing is left. */
	int (*create)(const struct bh_compartment_place *place, struct bh_container_create *request, struct bh_compartment *ret_compartment, struct bh_error *err);
	/* It goes on waiting when the caller has ended. */
	int (*release)(struct bh_compartment *compartment, struct bh_error *err);
	/* Create and start in one, without the wait between: request->cloned is the place for what must be done early. */
	int (*run)(const struct bh_compartment_place *place, struct bh_container_create *request, struct bh_compartment *ret_compartment, struct bh_error *err);
	/* Over a connection to the socket: lets the process run; returns when it has executed, or with the reason why not (then the
	 * compartment is to be ended). */
	int (*start)(int connection, struct bh_error *err);
	/* Ends what `create` made, after a failure before or at start. */
	void (*abandon)(struct bh_compartment *compartment);
	/* A further process inside, a child of the caller. request->cgroup is filled in. */
	int (*exec)(const struct bh_compartment_place *place, struct bh_container_exec *request, struct bh_container_process *ret_process, struct bh_error *err);
	int (*pause)(const struct bh_compartment_place *place, bool pause, struct bh_error *err);
	int (*is_paused)(const struct bh_compartment_place *place, bool *ret_paused, struct bh_error *err);
	/* To every process in it. */
	int (*signal)(const struct bh_compartment_place *place, int signal, struct bh_error *err);
	/* Asks what runs in it to kill all its processes and to end in order; NULL: there is nothing to put in order. -errno: it can't answer. */
	int (*end)(const struct bh_compartment_place *place, struct bh_error *err);
	/* A killed process of it that doesn't end is freed from what others have done to it. */
	int (*take_back)(const struct bh_compartment_place *place, pid_t pid, struct bh_error *err);
	/* New limits for it; what `resources` doesn't set stays. */
	int (*update)(const struct bh_compartment_place *place, const struct bh_spec_resources *resources, struct bh_error *err);
	int (*stats)(const struct bh_compartment_place *place, struct bh_cgroup_stats *ret_stats, struct bh_error *err);
	/* As runc's `events` has it; network_interfaces is JSON (NULL: null). */
	int (*write_stats)(const struct bh_compartment_place *place, const char *network_interfaces, struct bh_buf *out, struct bh_error *err);
	/* Out of memory, and its end; see bh_cgroup_watch_read. */
	int (*watch)(const struct bh_compartment_place *place, struct bh_cgroup_watch *ret_watch, struct bh_error *err);
	/* Pids on the host of all its processes; the array is the caller's. */
	int (*pids)(const struct bh_compartment_place *place, pid_t **ret_pids, size_t *ret_count, struct bh_error *err);
	/* Kills what is left in it and removes it. One that isn't there is success. */
	int (*destroy)(const struct bh_compartment_place *place, struct bh_error *err);
};

extern const struct bh_isolation_driver bh_isolation_container, bh_isolation_vm;

/* "container", "vm"; NULL gives the default. -EINVAL with the names there are. */
int bh_isolation_driver_find(const char *name, const struct bh_isolation_driver **ret_driver, struct bh_error *err);
