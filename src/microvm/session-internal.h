/* SPDX-License-Identifier: Apache-2.0 */
/* The session's state, and what happens to it (channels.c) apart from where bytes come from (session.c). */
#pragma once

#include "microvm/microvm-internal.h"

#include "agent/flow.h"

#define SESSION_CLIENTS_MAX BH_AGENT_CHANNELS_MAX
#define SESSION_CONSOLE_MAX 4096 /* bytes of the console that are kept for words */

struct session_channel {
	uint32_t id; /* 0: free */
	bool running, ended;
	uint32_t exit_code;
	int terminal_fd; /* its slave, for its size */
	struct bh_agent_source input;
	struct bh_agent_sink output[BH_AGENT_STREAMS]; /* stdout, stderr */
};

struct session_client {
	int fd;
	uint32_t channel; /* its exec, or the workload until that has begun; 0: none */
};

struct session {
	const struct bh_session_setup *setup;
	int guest_fd, console_fd, control_fd, signal_fd, monitor_pidfd;
	int share_fds[BH_AGENT_SHARES_MAX]; /* the file servers', until channels have them */
	size_t share_count;
	bool is_greeted, is_started;
	bool is_held; /* by the starter: its end is ours */
	bool is_waiting; /* for BH_ASK_START */
	int64_t begin_ns;
	uint64_t early_signals; /* that came before there was a workload */
	struct session_channel channels[BH_AGENT_CHANNELS_MAX];
	uint32_t next_channel;
	struct session_client clients[SESSION_CLIENTS_MAX];
	struct bh_buf in, out, console;
	size_t out_begin;
	/* The end, when it has come: */
	bool is_over;
	int exit_code;
};

/* All of it, before the first byte. */
void session_init(struct session *s, const struct bh_session_setup *setup);
void session_clear(struct session *s);

/* Takes bytes that the guest has sent. -EPROTO with words: it broke the protocol. */
int session_take(struct session *s, const void *bytes, size_t length, struct bh_error *err);
/* Takes what the guest's console says. */
void session_take_console(struct session *s, const void *bytes, size_t length);
/* What there is to tell of a machine that ended; the caller's. */
char *session_last_words(const struct session *s);

/* Tells the starter how the start went, once; `error` NULL: well. */
void session_report(struct session *s, const struct bh_error *error);

/* Has the guest make the workload. */
void session_start_workload(struct session *s);
/* Tells whoever waits for the workload's beginning that there is none. */
void session_answer_start(struct session *s, const struct bh_error *error);

struct session_channel *session_find(struct session *s, uint32_t id);
/* A process to be made. `fds` are taken over; with a terminal only the first, for all three. NULL: no room. */
struct session_channel *session_open(struct session *s, struct bh_agent_run run, int fds[BH_AGENT_STREAMS], const char *request, size_t length);
void session_put_signal(struct session *s, const struct session_channel *c, uint32_t number);
void session_put_size(struct session *s, const struct session_channel *c, struct bh_agent_size size);
struct bh_agent_size session_terminal_size(int fd);
void session_answer(struct session_client *client, enum bh_session_tell tell, const struct bh_agent_failure *failure, uint32_t exit_code);
/* Ended processes whose output has been passed on: their clients are told, and the workload's end is the session's. */
void session_finish_ended(struct session *s);
