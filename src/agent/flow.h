/* SPDX-License-Identifier: Apache-2.0 */
/* The two ends of a channel's stream, the same code on both sides: a source reads a file and sends, a sink receives and writes a file. */
#pragma once

#include "agent/message.h"

/* Files are waited for with poll(2) and written in pieces that a pipe takes whole, so they need not be made non-blocking, which
 * would change them for whoever has them too. */
struct bh_agent_sink {
	int fd;                 /* owned; -1: what comes is dropped */
	struct bh_buf waiting;  /* received and not written, from `begin` on */
	size_t begin;
	uint32_t window, owed;  /* what the sender may still send, and what it has to be told that it may again */
	bool ended;             /* nothing more comes */
	bool keep_open;         /* it is somebody else's too: not closed at its end */
};

struct bh_agent_source {
	int fd;                 /* owned; -1: it has ended, or there is none */
	uint32_t credit;
};

void bh_agent_sink_init(struct bh_agent_sink *sink, int fd);
void bh_agent_sink_clear(struct bh_agent_sink *sink);
/* -EPROTO: more than its window, or after its end. */
int bh_agent_sink_receive(struct bh_agent_sink *sink, const void *bytes, size_t length);
int bh_agent_sink_end(struct bh_agent_sink *sink);
/* Writes what can be written now. */
void bh_agent_sink_flush(struct bh_agent_sink *sink);
/* Gives credit for what has been written, when it is worth a frame. */
void bh_agent_sink_credit(struct bh_agent_sink *sink, uint32_t channel, enum bh_agent_stream stream, struct bh_buf *out);
/* Has all that came been written (or dropped)? */
bool bh_agent_sink_is_empty(const struct bh_agent_sink *sink);

void bh_agent_source_init(struct bh_agent_source *source, int fd);
void bh_agent_source_clear(struct bh_agent_source *source);
/* -EPROTO: more than was ever sent. */
int bh_agent_source_credit(struct bh_agent_source *source, const void *payload);
/* Reads once and sends what came, or the end of the stream. Only when poll(2) has said that the file is readable. */
void bh_agent_source_read(struct bh_agent_source *source, uint32_t channel, enum bh_agent_stream stream, struct bh_buf *out);
