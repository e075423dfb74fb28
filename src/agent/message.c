/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/message.h"

#include <errno.h>

enum { NO_CHANNEL, CHANNEL, STREAM };

#define EXACTLY(type) sizeof(type), sizeof(type)

/* Which side may send it, how long its payload is, and what it is about. */
static const struct {
	const char *name;
	unsigned from;
	size_t min, max;
	int about;
} table[BH_AGENT_TYPES] = {
	[BH_AGENT_HELLO] = { "hello", BH_AGENT_HOST | BH_AGENT_GUEST, EXACTLY(struct bh_agent_hello), NO_CHANNEL },
	[BH_AGENT_REQUEST] = { "request", BH_AGENT_HOST, 1, BH_AGENT_PAYLOAD_MAX, CHANNEL },
	[BH_AGENT_RUN] = { "run", BH_AGENT_HOST, EXACTLY(struct bh_agent_run), CHANNEL },
	[BH_AGENT_STARTED] = { "started", BH_AGENT_GUEST, 0, 0, CHANNEL },
	[BH_AGENT_FAILED] = { "failed", BH_AGENT_GUEST, BH_AGENT_FAILURE_MIN, BH_AGENT_FAILURE_MIN + BH_AGENT_TEXT_MAX, CHANNEL },
	[BH_AGENT_EXITED] = { "exited", BH_AGENT_GUEST, EXACTLY(uint32_t), CHANNEL },
	[BH_AGENT_DATA] = { "data", BH_AGENT_HOST | BH_AGENT_GUEST, 1, BH_AGENT_PAYLOAD_MAX, STREAM },
	[BH_AGENT_END] = { "end", BH_AGENT_HOST | BH_AGENT_GUEST, 0, 0, STREAM },
	[BH_AGENT_CREDIT] = { "credit", BH_AGENT_HOST | BH_AGENT_GUEST, EXACTLY(uint32_t), STREAM },
	[BH_AGENT_RESIZE] = { "resize", BH_AGENT_HOST, EXACTLY(struct bh_agent_size), CHANNEL },
	[BH_AGENT_SIGNAL] = { "signal", BH_AGENT_HOST, EXACTLY(uint32_t), CHANNEL },
	[BH_AGENT_POWER] = { "power", BH_AGENT_HOST, EXACTLY(uint32_t), NO_CHANNEL },
	[BH_AGENT_CLOCK] = { "clock", BH_AGENT_HOST, EXACTLY(int64_t), NO_CHANNEL },
};

void bh_agent_put(struct bh_buf *out, enum bh_agent_type type, uint32_t channel, enum bh_agent_stream stream, const void *payload, size_t length)
{
	const struct bh_agent_header header = { .length = (uint32_t)length, .type = (uint8_t)type, .stream = (uint8_t)stream, .channel = channel };

	bh_buf_add(out, &header, sizeof header);
	if (length)
		bh_buf_add(out, payload, length);
}

/* Standard input flows to the guest, the others from it; credit flows the other way. */
static bool is_stream_of(enum bh_agent_side from, unsigned type, unsigned stream)
{
	bool to_guest = stream == BH_AGENT_STDIN, sends = (from == BH_AGENT_HOST) == to_guest;

	return stream < BH_AGENT_STREAMS && sends == (type != BH_AGENT_CREDIT);
}

static const char *fault(enum bh_agent_side from, const struct bh_agent_header *h)
{
	if (h->type == 0 || h->type >= BH_AGENT_TYPES)
		return "of an unknown type";
	if (!(table[h->type].from & (unsigned)from))
		return "that this side doesn't send";
	if (h->length < table[h->type].min || h->length > table[h->type].max)
		return "of a wrong length";
	if (h->reserved)
		return "with reserved bits";
	if ((h->channel == 0) != (table[h->type].about == NO_CHANNEL))
		return "of a wrong channel";
	if (table[h->type].about == STREAM ? !is_stream_of(from, h->type, h->stream) : h->stream != 0)
		return "of a wrong stream";
	return NULL;
}

int bh_agent_take(enum bh_agent_side from, const void *bytes, size_t length, struct bh_agent_frame *ret_frame, size_t *ret_used, struct bh_error *err)
{
	struct bh_agent_header header;
	const char *what;

	if (length < sizeof header)
		return 0;
	memcpy(&header, bytes, sizeof header);
	what = fault(from, &header);
	if (what)
		return bh_error_text(err, EPROTO, "a frame %s (type %u, length %u, stream %u, channel %u)", what, header.type, header.length,
				     header.stream, header.channel);
	if (length - sizeof header < header.length)
		return 0;
	*ret_frame = (struct bh_agent_frame){
		.type = (enum bh_agent_type)header.type,
		.stream = (enum bh_agent_stream)header.stream,
		.channel = header.channel,
		.payload = (const char *)bytes + sizeof header,
		.length = header.length,
	};
	*ret_used = sizeof header + header.length;
	return 1;
}
