/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hostile guest could send to its session, with an exec at the side of the workload. The first byte says after how many bytes
 * the exec comes, and how the rest is cut into pieces.
 */
#include "microvm/session-internal.h"

#include <fcntl.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int no_file(void)
{
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static void add_exec(struct session *s)
{
	int fds[BH_AGENT_STREAMS] = { no_file(), no_file(), no_file() };
	struct session_channel *c;

	if (!s->is_greeted)
		s->next_channel = BH_AGENT_WORKLOAD + 1;
	c = session_open(s, (struct bh_agent_run){ .kind = BH_AGENT_EXEC }, fds, "{}", 2);
	for (int i = 0; i < BH_AGENT_STREAMS && !c; i++)
		close(fds[i]);
	if (c) {
		session_put_signal(s, c, 15);
		session_put_size(s, c, (struct bh_agent_size){ 24, 80 });
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct session session;
	const struct bh_monitor monitor = { .name = "none", .transport = "vport" };
	const struct bh_microvm_start start = { .stdin_fd = no_file(), .stdout_fd = no_file(), .stderr_fd = -1 };
	struct bh_buf request = { 0 };
	const struct bh_session_setup setup = {
		.start = &start, .monitor = &monitor, .request = &request, .listen_fd = -1, .terminal_fd = -1, .report_fd = -1
	};
	size_t piece = size ? 1 + data[0] % 64 : 1;
	char *words;

	bh_buf_adds(&request, "{\"config\":{}}");
	session_init(&session, &setup);
	for (size_t at = 1; at < size && !session.is_over; at += piece) {
		size_t length = BH_MIN(piece, size - at);

		if (data[0] & 64 && at == 1 + piece)
			add_exec(&session);
		session_take_console(&session, data + at, length);
		if (session_take(&session, data + at, length, NULL) < 0)
			break;
		for (size_t i = 0; i < BH_ARRAY_SIZE(session.channels); i++)
			if (session.channels[i].id)
				bh_agent_sink_credit(&session.channels[i].output[BH_AGENT_STDOUT], session.channels[i].id, BH_AGENT_STDOUT,
						     &session.out);
		session_finish_ended(&session);
	}
	words = session_last_words(&session);
	free(words);
	if (!session.is_greeted) {
		close(start.stdin_fd);
		close(start.stdout_fd);
	}
	session_clear(&session);
	bh_buf_clear(&request);
	return 0;
}
