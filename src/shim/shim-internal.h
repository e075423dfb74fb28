/* SPDX-License-Identifier: Apache-2.0 */
/* What the shim's files share: one structure, since the program serves one container. */
#pragma once

#include "base/file.h"
#include "base/time.h"
#include "shim/shim.h"

#include <stdbool.h>
#include <sys/types.h>

#define SHIM_CLIENTS_MAX 32

enum shim_restart { SHIM_RESTART_NO, SHIM_RESTART_ON_FAILURE, SHIM_RESTART_ALWAYS, SHIM_RESTART_UNLESS_STOPPED, SHIM_RESTART_ON_CODE };

struct shim_log {
	bool enabled;
	int fd; /* -1: nothing was written yet */
	int dir_fd;
	uint64_t size, max_size; /* max_size 0: never rotated */
	int64_t max_file;
	struct bh_buf lines[2]; /* the unfinished line of stdout and stderr */
	struct bh_buf batch;    /* JSON lines of one read, written at once */
};

struct shim {
	const char *id;
	int dir_fd, state_fd;
	pid_t pid;
	int pidfd;
	int stdin_fd, out_fd[2]; /* out_fd[0] is the pty master on a terminal */
	int tty_fd;
	int listen_fd;
	int clients[SHIM_CLIENTS_MAX];
	bool quiet[SHIM_CLIENTS_MAX]; /* wants the exit frame only */
	size_t client_count;
	int owner; /* fd of the owning client while it is connected, else -1 */
	int oom_fd;
	bool remove, stdin_once;
	enum shim_restart restart;
	int64_t restart_code; /* with SHIM_RESTART_ON_CODE: the only exit code that means again */
	int64_t restart_max, restart_count, backoff_ms, started_ms /* monotonic */, started_ns /* real time */;
	int64_t health_interval_ms, health_next_ms;
	pid_t health_pid;
	int health_pidfd;
	const char *engine, *root, *state_dir;
	struct shim_log log;
	char pending[BH_FRAME_MAX]; /* stdin bytes the process has not taken yet */
	size_t pending_length;
	bool pending_end;
};

void shim_log_write(struct shim_log *log, int stream, const char *bytes, size_t length);
/* Writes what is left of unfinished lines. */
void shim_log_flush(struct shim_log *log);

/* Sends one frame to every client; a client that went is dropped. Waits for slow ones up to `timeout_ms` (-1: for ever:
 * back-pressure reaches the process, nothing is lost). */
void shim_broadcast(struct shim *shim, enum bh_frame_type type, const void *bytes, size_t length, int timeout_ms);
void shim_client_add(struct shim *shim, int fd);
/* Reads one frame of a client and acts on it. */
void shim_client_read(struct shim *shim, size_t index);
/* Moves pending stdin bytes to the process. */
void shim_stdin_flush(struct shim *shim);
/* Copies what is readable on output `stream` once; false at its end, or when nothing is there. */
bool shim_output_read(struct shim *shim, int stream);
