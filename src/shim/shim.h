/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shim's two interfaces: its command line (from the engine) and the attach protocol (with the CLI).
 *
 * Attach protocol: AF_UNIX SOCK_SEQPACKET, one message = one frame: a byte of type, then the payload. The peer is on the
 * same machine and of the same build, so integers are in host order. The socket lies in the container's state folder,
 * which only root can enter.
 */
#pragma once

#include <stdint.h>

enum bh_frame_type {
	/* client -> shim */
	BH_FRAME_STDIN = 'i',     /* bytes for the process */
	BH_FRAME_STDIN_END = 'e', /* no more */
	BH_FRAME_RESIZE = 'w',    /* struct bh_frame_size */
	BH_FRAME_QUIET = 'q',     /* send me the exit frame only (`wait`) */
	/* shim -> client */
	BH_FRAME_STDOUT = 'o',
	BH_FRAME_STDERR = 'r',
	BH_FRAME_EXIT = 'x', /* struct bh_frame_exit; the last frame */
	/* engine's start stage -> client, before the shim runs */
	BH_FRAME_STARTED = 's', /* struct bh_frame_started: the process runs */
	BH_FRAME_ERROR = '!',   /* struct bh_error: it could not be started; the last frame */
};

struct bh_frame_size {
	uint16_t rows, columns;
};

struct bh_frame_started {
	int32_t pid, shim_pid;
	uint64_t pid_start, shim_start;
	int64_t started_ns;
};

struct bh_frame_exit {
	int32_t exit_code; /* 0-255, 128+n for signal n */
	uint32_t oom_killed;
	int64_t finished_ns;
};

#define BH_FRAME_MAX 16384 /* payload bytes; also the longest log line before it is split, as Docker does */

/*
 * Command line: bulkhead-shim ID key=value...; fds are numbers of inherited descriptors.
 *	dir= state=       folders of the container: persistent and run-time
 *	pid= pidfd=       the container's first process, a child of this process
 *	stdin= stdout= stderr=   pipe ends, or tty= the pty master
 *	listen= clients=  attach socket; connected clients (a,b,c): the command that started it, or survivors of a restart
 *	owner=1           the first client cleans up after the exit frame, if it is still there
 *	remove=1          --rm: with an owner no exit record is written, since the container is removed at once
 *	oom=              memory.events or memory.oom_control
 *	log=1             keep the json-file log; log-max-size= log-max-file=
 *	restart=no|on-failure|always|unless-stopped|on-code  restart-code=  restart-max= restart-count= backoff-ms= started-ms= (monotonic)
 *	started-ns=       real time of the start, for the exit record
 *	health-interval-ms=
 *	once=1            stdin ends when the last client goes
 *	engine= root= state-dir=    the bulkhead program and its global options, for restarts, clean-up and health probes
 *
 * The shim runs `ENGINE --root R --state S shim-start ID ...` (in its own place: it becomes that program, which becomes
 * the shim again) for a restart, `shim-finish ID` (in its own place) after the last exit when no owner is there, and
 * `health-probe ID` as a child.
 */
