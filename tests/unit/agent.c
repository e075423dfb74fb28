/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's frames, and the windows of its streams. */
#include "agent/flow.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

static int take(enum bh_agent_side from, const struct bh_buf *bytes, struct bh_agent_frame *frame)
{
	size_t used;

	return bh_agent_take(from, bytes->data, bytes->length, frame, &used, NULL);
}

static void test_frames_come_back(void **state)
{
	bh_auto_buf struct bh_buf out = { 0 };
	struct bh_agent_frame frame;
	size_t used = 0;

	(void)state;
	bh_agent_put(&out, BH_AGENT_DATA, 7, BH_AGENT_STDERR, "hello", 5);
	bh_agent_put(&out, BH_AGENT_END, 7, BH_AGENT_STDERR, NULL, 0);
	for (size_t length = 0; length < sizeof(struct bh_agent_header) + 5; length++)
		assert_int_equal(bh_agent_take(BH_AGENT_GUEST, out.data, length, &frame, &used, NULL), 0);
	assert_int_equal(bh_agent_take(BH_AGENT_GUEST, out.data, out.length, &frame, &used, NULL), 1);
	assert_int_equal(frame.type, BH_AGENT_DATA);
	assert_int_equal(frame.channel, 7);
	assert_int_equal(frame.stream, BH_AGENT_STDERR);
	assert_memory_equal(frame.payload, "hello", 5);
	assert_int_equal(bh_agent_take(BH_AGENT_GUEST, out.data + used, out.length - used, &frame, &used, NULL), 1);
	assert_int_equal(frame.type, BH_AGENT_END);
}

static void test_what_a_side_may_not_say(void **state)
{
	static const struct {
		enum bh_agent_side from;
		enum bh_agent_type type;
		uint32_t channel;
		enum bh_agent_stream stream;
		size_t length;
	} bad[] = {
		{ BH_AGENT_GUEST, BH_AGENT_RUN, 1, 0, sizeof(struct bh_agent_run) },     /* the host's word */
		{ BH_AGENT_HOST, BH_AGENT_EXITED, 1, 0, 4 },                             /* the guest's */
		{ BH_AGENT_GUEST, BH_AGENT_DATA, 1, BH_AGENT_STDIN, 1 },                 /* against the stream */
		{ BH_AGENT_HOST, BH_AGENT_DATA, 1, BH_AGENT_STDOUT, 1 },                 /* against the stream */
		{ BH_AGENT_GUEST, BH_AGENT_CREDIT, 1, BH_AGENT_STDOUT, 4 },              /* for its own stream */
		{ BH_AGENT_GUEST, BH_AGENT_DATA, 1, BH_AGENT_STREAMS, 1 },               /* no stream */
		{ BH_AGENT_GUEST, BH_AGENT_DATA, 0, BH_AGENT_STDOUT, 1 },                /* no channel */
		{ BH_AGENT_GUEST, BH_AGENT_HELLO, 1, 0, sizeof(struct bh_agent_hello) }, /* a channel */
		{ BH_AGENT_GUEST, BH_AGENT_EXITED, 1, 0, 3 },                            /* too short */
		{ BH_AGENT_GUEST, BH_AGENT_EXITED, 1, 0, 5 },                            /* too long */
		{ BH_AGENT_GUEST, BH_AGENT_DATA, 1, BH_AGENT_STDOUT, BH_AGENT_PAYLOAD_MAX + 1 },
		{ BH_AGENT_GUEST, BH_AGENT_FAILED, 1, 0, sizeof(struct bh_agent_failure) }, /* no room for the zero */
		{ BH_AGENT_GUEST, BH_AGENT_TYPES, 1, 0, 0 },
		{ BH_AGENT_GUEST, 0, 1, 0, 0 },
	};
	static char payload[BH_AGENT_PAYLOAD_MAX + 1];

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(bad); i++) {
		bh_auto_buf struct bh_buf out = { 0 };
		struct bh_agent_frame frame;

		bh_agent_put(&out, bad[i].type, bad[i].channel, bad[i].stream, payload, bad[i].length);
		assert_int_equal(take(bad[i].from, &out, &frame), -EPROTO);
	}
}

static void make_pipe(int *ret_read, int *ret_write)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	*ret_read = fds[0];
	*ret_write = fds[1];
}

static void test_a_window_is_a_limit(void **state)
{
	static char bytes[BH_AGENT_WINDOW + 1];
	bh_auto_buf struct bh_buf out = { 0 };
	struct bh_agent_sink sink;
	struct bh_agent_frame frame;
	int reader, writer;

	(void)state;
	make_pipe(&reader, &writer);
	assert_true(fcntl(writer, F_SETPIPE_SZ, 4096) > 0);
	bh_agent_sink_init(&sink, writer);
	assert_int_equal(bh_agent_sink_receive(&sink, bytes, sizeof bytes), -EPROTO);
	assert_int_equal(bh_agent_sink_receive(&sink, bytes, BH_AGENT_WINDOW), 0);
	assert_int_equal(bh_agent_sink_receive(&sink, bytes, 1), -EPROTO);
	assert_false(bh_agent_sink_is_empty(&sink));
	bh_agent_sink_credit(&sink, 1, BH_AGENT_STDOUT, &out);
	assert_int_equal(out.length, 0); /* one page went into the pipe: not worth a frame */
	for (size_t left = BH_AGENT_WINDOW; left > 0;) {
		ssize_t n = read(reader, bytes, sizeof bytes);

		assert_true(n > 0);
		left -= (size_t)n;
		bh_agent_sink_flush(&sink);
	}
	assert_true(bh_agent_sink_is_empty(&sink));
	bh_agent_sink_credit(&sink, 1, BH_AGENT_STDOUT, &out);
	assert_int_equal(take(BH_AGENT_HOST, &out, &frame), 1);
	assert_int_equal(frame.type, BH_AGENT_CREDIT);
	assert_int_equal(*(const uint32_t *)frame.payload, BH_AGENT_WINDOW);
	assert_int_equal(bh_agent_sink_receive(&sink, bytes, BH_AGENT_WINDOW), 0);
	close(reader);
	bh_agent_sink_flush(&sink); /* nobody reads: it is dropped, and counts as passed on */
	assert_true(bh_agent_sink_is_empty(&sink));
	assert_int_equal(bh_agent_sink_end(&sink), 0);
	assert_int_equal(bh_agent_sink_end(&sink), -EPROTO);
	bh_agent_sink_clear(&sink);
}

static void test_a_source_keeps_to_its_credit(void **state)
{
	const uint32_t some = 5, too_much = BH_AGENT_WINDOW;
	bh_auto_buf struct bh_buf out = { 0 };
	struct bh_agent_source source;
	struct bh_agent_frame frame;
	int reader, writer;

	(void)state;
	make_pipe(&reader, &writer);
	assert_int_equal(write(writer, "0123456789", 10), 10);
	bh_agent_source_init(&source, reader);
	source.credit = 0;
	bh_agent_source_read(&source, 1, BH_AGENT_STDIN, &out);
	assert_int_equal(out.length, 0);
	assert_int_equal(bh_agent_source_credit(&source, &some), 0);
	bh_agent_source_read(&source, 1, BH_AGENT_STDIN, &out);
	assert_int_equal(take(BH_AGENT_HOST, &out, &frame), 1);
	assert_int_equal(frame.length, 5);
	assert_int_equal(source.credit, 0);
	assert_int_equal(bh_agent_source_credit(&source, &too_much), 0);
	assert_int_equal(bh_agent_source_credit(&source, &some), -EPROTO);
	close(writer);
	bh_buf_reset(&out);
	bh_agent_source_read(&source, 1, BH_AGENT_STDIN, &out);
	bh_agent_source_read(&source, 1, BH_AGENT_STDIN, &out);
	assert_int_equal(out.length, 2 * sizeof(struct bh_agent_header) + 5);
	assert_int_equal(source.fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames_come_back),
		cmocka_unit_test(test_what_a_side_may_not_say),
		cmocka_unit_test(test_a_window_is_a_limit),
		cmocka_unit_test(test_a_source_keeps_to_its_credit),
	};

	signal(SIGPIPE, SIG_IGN); /* as both sides have it */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
