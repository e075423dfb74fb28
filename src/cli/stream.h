/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal's side of a container: raw mode, window size, detach keys, signals, and the copying of streams between
 * our standard streams and a shim's attach socket (run, attach, start -a) or an exec's pipes.
 */
#pragma once

#include "base/error.h"
#include "engine/engine.h"
#include "shim/shim.h"

#include <stdbool.h>
#include <termios.h>

struct bh_stream {
	bool input;              /* copy our stdin */
	bool tty;                /* the process has a terminal: raw mode here, sizes are sent */
	bool signals;            /* pass signals we get to the process */
	const char *detach_keys; /* NULL: ctrl-p,ctrl-q */
	bool no_stdout, no_stderr;
	pid_t pid;               /* the process signals go to, by pidfd */
	int pidfd;
};

enum bh_stream_end {
	BH_STREAM_EXITED,   /* *ret_exit is filled in */
	BH_STREAM_DETACHED, /* by the detach keys */
	BH_STREAM_LOST,     /* the shim is gone without an exit frame */
};

/* Checks -i/-t against what our stdin is, in Docker's words, and the detach keys. */
int bh_stream_check(const struct bh_stream *stream, struct bh_error *err);
/* Copies until the end; restores the terminal. */
int bh_stream_attach(const struct bh_stream *stream, int socket_fd, enum bh_stream_end *ret_end, struct bh_frame_exit *ret_exit, struct bh_error *err);
/* The same for an exec; waits for the process and gives its exit code (128+n for a signal). */
int bh_stream_exec(const struct bh_stream *stream, struct bh_exec *exec, enum bh_stream_end *ret_end, int *ret_exit_code, struct bh_error *err);
/* Could some of the last stream's output not be written (it has been told)? Then success would be a lie. */
bool bh_stream_lost_output(void);
/* Our terminal's size; false if stdin is none. */
bool bh_terminal_size(uint16_t *ret_rows, uint16_t *ret_columns);
