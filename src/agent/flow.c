/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/flow.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define PIECE 4096u /* PIPE_BUF: a pipe that poll(2) calls writable takes it without waiting */
#define CREDIT_STEP (BH_AGENT_WINDOW / 4)

void bh_agent_sink_init(struct bh_agent_sink *sink, int fd)
{
	*sink = (struct bh_agent_sink){ .fd = fd, .window = BH_AGENT_WINDOW };
}

void bh_agent_sink_clear(struct bh_agent_sink *sink)
{
	bh_close_fd(&sink->fd);
	bh_buf_clear(&sink->waiting);
	sink->begin = 0;
}

bool bh_agent_sink_is_empty(const struct bh_agent_sink *sink)
{
	return sink->begin == sink->waiting.length;
}

static void drop(struct bh_agent_sink *sink)
{
	sink->owed += (uint32_t)(sink->waiting.length - sink->begin);
	bh_buf_reset(&sink->waiting);
	sink->begin = 0;
}

int bh_agent_sink_receive(struct bh_agent_sink *sink, const void *bytes, size_t length)
{
	if (sink->ended || length > sink->window)
		return -EPROTO;
	sink->window -= (uint32_t)length;
	if (sink->begin >= BH_AGENT_WINDOW) { /* what a slow reader leaves never lies more than a window from the begin */
		memmove(sink->waiting.data, sink->waiting.data + sink->begin, sink->waiting.length - sink->begin);
		sink->waiting.length -= sink->begin;
		sink->begin = 0;
	}
	bh_buf_add(&sink->waiting, bytes, length);
	bh_agent_sink_flush(sink);
	return 0;
}

int bh_agent_sink_end(struct bh_agent_sink *sink)
{
	if (sink->ended)
		return -EPROTO;
	sink->ended = true;
	bh_agent_sink_flush(sink);
	return 0;
}

void bh_agent_sink_flush(struct bh_agent_sink *sink)
{
	while (sink->fd >= 0 && !bh_agent_sink_is_empty(sink)) {
		struct pollfd p = { .fd = sink->fd, .events = POLLOUT };
		size_t left = sink->waiting.length - sink->begin;
		ssize_t n;

		if (poll(&p, 1, 0) != 1 || !(p.revents & (POLLOUT | POLLERR | POLLHUP | POLLNVAL)))
			return;
		n = write(sink->fd, sink->waiting.data + sink->begin, BH_MIN(left, (size_t)PIECE));
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0)
			bh_close_fd(&sink->fd); /* its reader has gone */
		else
			sink->begin += (size_t)n, sink->owed += (uint32_t)n;
	}
	if (sink->fd < 0)
		drop(sink);
	if (!bh_agent_sink_is_empty(sink))
		return;
	bh_buf_reset(&sink->waiting);
	sink->begin = 0;
	if (sink->ended && !sink->keep_open)
		bh_close_fd(&sink->fd);
}

void bh_agent_sink_credit(struct bh_agent_sink *sink, uint32_t channel, enum bh_agent_stream stream, struct bh_buf *out)
{
	if (sink->ended || sink->owed < CREDIT_STEP)
		return;
	bh_agent_put(out, BH_AGENT_CREDIT, channel, stream, &sink->owed, sizeof sink->owed);
	sink->window += sink->owed;
	sink->owed = 0;
}

void bh_agent_source_init(struct bh_agent_source *source, int fd)
{
	*source = (struct bh_agent_source){ .fd = fd, .credit = BH_AGENT_WINDOW };
}

void bh_agent_source_clear(struct bh_agent_source *source)
{
	bh_close_fd(&source->fd);
}

int bh_agent_source_credit(struct bh_agent_source *source, const void *payload)
{
	uint32_t more;

	memcpy(&more, payload, sizeof more);
	if (more > BH_AGENT_WINDOW - source->credit)
		return -EPROTO;
	source->credit += more;
	return 0;
}

void bh_agent_source_read(struct bh_agent_source *source, uint32_t channel, enum bh_agent_stream stream, struct bh_buf *out)
{
	char bytes[BH_AGENT_PAYLOAD_MAX];
	size_t size = BH_MIN((size_t)source->credit, sizeof bytes);
	ssize_t n;

	if (source->fd < 0 || size == 0)
		return;
	n = read(source->fd, bytes, size);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		source->credit -= (uint32_t)n;
		bh_agent_put(out, BH_AGENT_DATA, channel, stream, bytes, (size_t)n);
		return;
	}
	/* The end; of a terminal (EIO) too. */
	bh_agent_put(out, BH_AGENT_END, channel, stream, NULL, 0);
	bh_close_fd(&source->fd);
}
