/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine: containers as objects with a life, kept in files.
 *
 *	ROOT/containers/<id>/    container.json (the record, written last: without it there is no container), config.json
 *	                         (OCI spec), upper/ work/ (writable layer), log (once something was written), exit.json,
 *	                         of a microVM also disk and microvm.lost (microvm/microvm.h)
 *	ROOT/names/<name>        a link whose text is the id (base 64); made exclusively, so a name is unique
 *	ROOT/volumes/<name>/_data
 *	STATE/containers/<id>/   run (while its shim lives), attach.sock, health.json,
 *	                         and the marks `stopping`, `restarting`, `paused`
 *
 * Truth: a container is *running* when `run` names a shim that lives (pid and start time); *exited* when exit.json
 * is there; else *created*. A `run` whose shim is gone is the trace of a kill -9: readers report the container as
 * exited with 137, and the next command that changes something (and `ps`) cleans it by bh_engine_reap.
 *
 * Locks: whoever changes a container holds flock(LOCK_EX) on its folder's fd. Readers take none.
 */
#pragma once

#include "base/error.h"
#include "base/file.h"
#include "base/string.h"
#include "engine/options.h"
#include "image/image.h"
#include "oci/json.h"
#include "oci/spec.h"
#include "runtime/runtime.h"
#include "storage/snapshot.h"
#include "storage/transfer.h"


struct bh_engine {
	char *root, *state;
	int root_fd, containers_fd, names_fd, state_fd; /* state_fd: STATE/containers */
};

int bh_engine_open(const char *root, const char *state, struct bh_engine *ret_engine, struct bh_error *err);
void bh_engine_close(struct bh_engine *engine);

enum bh_status { BH_STATUS_CREATED, BH_STATUS_RUNNING, BH_STATUS_PAUSED, BH_STATUS_RESTARTING, BH_STATUS_EXITED };
const char *bh_status_name(enum bh_status status); /* "created" ... */

#define BH_ID_LENGTH 64
#define BH_SHORT_ID_LENGTH 12

/* One container as found on disk. All strings are owned. */
struct bh_container {
	char id[BH_ID_LENGTH + 1];
	char *name;
	int dir_fd;   /* ROOT/containers/<id> */
	int state_fd; /* STATE/containers/<id>, -1 if it has none */
	bool locked;

	/* the record; the fields that engine code itself needs */
	json_object *record;
	const char *image, *image_id; /* borrowed from `record` */
	int64_t created_ns;
	bool tty, stdin_open, auto_remove;
	struct bh_spec *spec; /* owned; NULL until somebody needed it (a fresh `create` has it at hand) */

	/* run-time truth */
	enum bh_status status;
	bool stale; /* its shim was killed: needs bh_engine_reap */
	pid_t pid, shim_pid;
	uint64_t pid_start, shim_start; /* /proc/<pid>/stat field 22 */
	int64_t started_ns, finished_ns, restart_count;
	int exit_code;
	bool oom_killed;
	char *health; /* "starting", "healthy", "unhealthy"; NULL without a health check */
	char *error; /* why the last start failed, or NULL */
};

/* By full id, unique id prefix, or name. -ENOENT "No such container: X". */
int bh_engine_find(struct bh_engine *engine, const char *reference, struct bh_container *ret_container, struct bh_error *err);
/* find + exclusive lock + read again under the lock; a stale one is reaped first (and may thereby vanish: -ENOENT). */
int bh_engine_find_locked(struct bh_engine *engine, const char *reference, struct bh_container *ret_container, struct bh_error *err);
void bh_container_unlock(struct bh_container *container);
void bh_container_clear(struct bh_container *container);
/* Reads state and exit record again. */
void bh_container_refresh(struct bh_engine *engine, struct bh_container *container);
/* All containers, newest first. Also sweeps what a killed command left behind (half-made containers, dangling names,
 * stale states) unless somebody holds its lock. */
int bh_engine_list(struct bh_engine *engine, struct bh_container **ret_containers, size_t *ret_count, struct bh_error *err);

/* create: makes record, spec and writable layer; nothing runs. The container comes back locked. */
int bh_engine_create(struct bh_engine *engine, const struct bh_create_options *options, struct bh_container *ret_container, struct bh_error *err);

/* How a start is watched. */
struct bh_start {
	bool attach;          /* keep the connection to its streams in ret_client_fd, and own the clean-up (`run` without -d) */
	int ret_client_fd;    /* SOCK_SEQPACKET, frames of shim.h; -1 if not attached */
	pid_t ret_shim_pid;   /* a child of the caller */
};
/* Starts a locked, stopped container; the lock ends before it returns. err->exit_code is 127, 126 or 125 on failure. */
int bh_engine_start(struct bh_engine *engine, struct bh_container *container, struct bh_start *start, struct bh_error *err);
/* The second half of a start, in the process that becomes the shim. Does not return. For restarts (`shim-start`). */
struct bh_restart_handover {
	int listen_fd;       /* -1: make one */
	const char *clients; /* "5,6" or NULL */
	bool owner;
	int64_t restart_count, backoff_ms;
};
_Noreturn void bh_engine_restart(struct bh_engine *engine, const char *id, const struct bh_restart_handover *handover);
/* After the last exit: removes cgroup and run-time state, with auto_remove the whole container. */
int bh_engine_finish(struct bh_engine *engine, struct bh_container *container, struct bh_error *err);
/* What finish does, for a container whose shim was killed: kills what is left in its cgroup, writes the exit record. */
int bh_engine_reap(struct bh_engine *engine, struct bh_container *container, struct bh_error *err);

int bh_engine_kill(struct bh_engine *engine, struct bh_container *container, int signal, struct bh_error *err);
/* SIGTERM (or its stop signal), then SIGKILL after the timeout (-1: never, BH_UNSET: the container's own). Returns when
 * shim and clean-up are done. */
int bh_engine_stop(struct bh_engine *engine, struct bh_container *container, int64_t timeout_s, struct bh_error *err);
int bh_engine_pause(struct bh_engine *engine, struct bh_container *container, bool pause, struct bh_error *err);
int bh_engine_remove(struct bh_engine *engine, struct bh_container *container, bool force, bool volumes, struct bh_error *err);
int bh_engine_rename(struct bh_engine *engine, struct bh_container *container, const char *name, struct bh_error *err);
/* Waits until it has stopped; sets the exit code. `removed`: wait until it is gone. */
int bh_engine_wait(struct bh_engine *engine, struct bh_container *container, int *ret_exit_code, struct bh_error *err);
/* Opens a connection to the shim's attach socket. */
int bh_engine_attach(struct bh_container *container, struct bh_error *err);

struct bh_exec_options {
	bool detach, interactive, tty, privileged;
	bool list; /* a microVM's: the list of its processes, as top shows it, instead of a command */
	struct bh_strv env, env_file;
	const char *user, *workdir, *detach_keys;
	const char *explain;
	uint16_t rows, columns; /* of its terminal when it begins; 0: not known */
};
struct bh_exec {
	pid_t pid;
	int pidfd;
	int stdin_fd, stdout_fd, stderr_fd; /* our ends of its pipes, -1 if none */
	int tty_fd;                         /* pty master */
};
#define BH_EXEC_INIT { .pidfd = -1, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .tty_fd = -1 }
void bh_exec_close(struct bh_exec *exec);
/* Runs a further process in a running container; it is a child of the caller. -d gives it /dev/null. */
int bh_engine_exec(struct bh_engine *engine, struct bh_container *container, const struct bh_exec_options *options, char *const *command,
		   struct bh_exec *ret_exec, struct bh_error *err);
/*
 * cp: starts the side that packs or unpacks inside the container. It reads exec's stdin_fd or writes its stdout_fd, says a failure in one
 * line on stderr_fd, and then ends with another status than 0; it is a child of the caller, or one that stands for it. A container that
 * doesn't run comes back locked, and has to stay so until that has ended.
 */
int bh_engine_copy(struct bh_engine *engine, const char *reference, const struct bh_transfer_request *request, struct bh_container *ret_container,
		   struct bh_exec *ret_exec, struct bh_error *err);
/* Runs the container's health command once and records the result (internal verb of the shim). */
int bh_engine_health_probe(struct bh_engine *engine, struct bh_container *container, struct bh_error *err);

/* Docker-shaped `inspect` object; a new reference. */
json_object *bh_engine_inspect(struct bh_engine *engine, struct bh_container *container, bool with_size);
/* "Up 5 minutes (healthy)", "Exited (0) 3 seconds ago", "Created". */
char *bh_container_status_text(struct bh_container *container);
/* "/bulkhead-<id>": no folder of its own above, which would cost two more system calls in each hierarchy. */
char *bh_container_compartment_path(const struct bh_container *container);
/* The isolation driver that the record names. */
int bh_container_isolation(struct bh_container *container, const struct bh_isolation_driver **ret_driver, struct bh_error *err);
int bh_container_snapshot(struct bh_engine *engine, const struct bh_container *container, struct bh_snapshot *ret_snapshot, struct bh_error *err);
