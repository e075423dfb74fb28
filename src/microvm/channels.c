/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest says, and what becomes of it.
 *
 * A channel (agent/message.h) is the workload's or that of an exec, whose files have come with the question over agent.sock: so the
 * bytes of an exec go directly between its files and the guest, and a slow reader only holds up its own channel.
 *
 * Nothing here waits, opens a file or ends the process: tests/fuzz/agent-host.c feeds it with what a guest could send.
 */
#include "microvm/session-internal.h"

#include "base/log.h"
#include "base/time.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

void session_init(struct session *s, const struct bh_session_setup *setup)
{
	*s = (struct session){ .setup = setup, .guest_fd = -1, .console_fd = -1, .control_fd = -1, .signal_fd = -1, .monitor_pidfd = -1 };
	for (size_t i = 0; i < SESSION_CLIENTS_MAX; i++)
		s->clients[i].fd = -1;
	s->begin_ns = bh_monotonic_ns();
	s->is_held = true;
}

void session_report(struct session *s, const struct bh_error *error)
{
	struct bh_session_report word = { .started = !error };

	if (error)
		word.error = *error;
	(void)!send(s->setup->report_fd, &word, sizeof word, MSG_NOSIGNAL);
	s->is_held = s->setup->start->waits;
}

/* The reason of a panic, or the last line of the console with something in it. */
char *session_last_words(const struct session *s)
{
	const char *text = s->console.data ? s->console.data : "", *end_of_text = text + s->console.length, *begin;
	const char *panic = strstr(text, "Kernel panic");

	if (panic)
		return bh_printf("%.*s", (int)strcspn(panic, "\n"), panic);
	while (end_of_text > text && (unsigned char)end_of_text[-1] <= ' ')
		end_of_text--;
	for (begin = end_of_text; begin > text && begin[-1] != '\n'; begin--)
		continue;
	if (begin == end_of_text)
		return bh_strdup("it said nothing on its console");
	return bh_printf("its last words: %.*s", (int)(end_of_text - begin), begin);
}

struct session_channel *session_find(struct session *s, uint32_t id)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(s->channels); i++)
		if (s->channels[i].id == id)
			return &s->channels[i];
	return NULL;
}

/* --- channels ------------------------------------------------------------------------------------------------------- */

static void put(struct session *s, enum bh_agent_type type, const struct session_channel *c, const void *payload, size_t length)
{
	bh_agent_put(&s->out, type, c->id, 0, payload, length);
}

static void put_request(struct session *s, const struct session_channel *c, const char *bytes, size_t length)
{
	for (size_t at = 0; at < length; at += BH_AGENT_PAYLOAD_MAX)
		put(s, BH_AGENT_REQUEST, c, bytes + at, BH_MIN(length - at, (size_t)BH_AGENT_PAYLOAD_MAX));
}

struct bh_agent_size session_terminal_size(int fd)
{
	struct winsize size = { 0 };

	if (fd >= 0)
		ioctl(fd, TIOCGWINSZ, &size);
	return (struct bh_agent_size){ size.ws_row, size.ws_col };
}

/* `fds` are taken over; with a terminal only the first, for all three. */
struct session_channel *session_open(struct session *s, struct bh_agent_run run, int fds[BH_AGENT_STREAMS], const char *request, size_t length)
{
	struct session_channel *c = session_find(s, 0);

	if (!c)
		return NULL;
	*c = (struct session_channel){ .id = s->next_channel++, .terminal_fd = -1 };
	run.has_stdin = fds[0] >= 0;
	if (run.terminal) {
		c->terminal_fd = fcntl(fds[0], F_DUPFD_CLOEXEC, 3);
		fds[1] = fcntl(fds[0], F_DUPFD_CLOEXEC, 3);
		run.size = session_terminal_size(fds[0]);
	}
	bh_agent_source_init(&c->input, BH_TAKE_FD(fds[0]));
	bh_agent_sink_init(&c->output[BH_AGENT_STDOUT], BH_TAKE_FD(fds[1]));
	bh_agent_sink_init(&c->output[BH_AGENT_STDERR], BH_TAKE_FD(fds[2]));
	put_request(s, c, request, length);
	put(s, BH_AGENT_RUN, c, &run, sizeof run);
	return c;
}

static void close_channel(struct session_channel *c)
{
	bh_close_fd(&c->terminal_fd);
	bh_agent_source_clear(&c->input);
	bh_agent_sink_clear(&c->output[BH_AGENT_STDOUT]);
	bh_agent_sink_clear(&c->output[BH_AGENT_STDERR]);
	c->id = 0;
}

static struct session_client *client_of(struct session *s, const struct session_channel *c)
{
	for (size_t i = 0; i < SESSION_CLIENTS_MAX; i++)
		if (s->clients[i].fd >= 0 && s->clients[i].channel == c->id)
			return &s->clients[i];
	return NULL;
}

void session_answer(struct session_client *client, enum bh_session_tell tell, const struct bh_agent_failure *failure, uint32_t exit_code)
{
	struct bh_session_answer word = { .tell = tell, .exit_code = exit_code };

	if (failure)
		word.failure = *failure;
	if (client)
		(void)!send(client->fd, &word, sizeof word, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void session_put_signal(struct session *s, const struct session_channel *c, uint32_t number)
{
	put(s, BH_AGENT_SIGNAL, c, &number, sizeof number);
}

void session_put_size(struct session *s, const struct session_channel *c, struct bh_agent_size size)
{
	if (size.rows && size.columns)
		put(s, BH_AGENT_RESIZE, c, &size, sizeof size);
}

/* An ended process whose output has been passed on. */
void session_finish_ended(struct session *s)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(s->channels); i++) {
		struct session_channel *c = &s->channels[i];

		if (!c->id || !c->ended || !bh_agent_sink_is_empty(&c->output[BH_AGENT_STDOUT]) || !bh_agent_sink_is_empty(&c->output[BH_AGENT_STDERR]))
			continue;
		if (c->id == BH_AGENT_WORKLOAD) {
			s->is_over = true;
			s->exit_code = (int)(c->exit_code & 255);
			return;
		}
		session_answer(client_of(s, c), BH_TELL_EXITED, NULL, c->exit_code);
		close_channel(c);
	}
}

/* --- frames of the guest ------------------------------------------------------------------------------------------------ */

static void take_started(struct session *s, struct session_channel *c)
{
	char text[32];

	c->running = true;
	if (c->id != BH_AGENT_WORKLOAD) {
		session_answer(client_of(s, c), BH_TELL_STARTED, NULL, 0);
		return;
	}
	s->is_started = true;
	snprintf(text, sizeof text, "%lld", (long long)((bh_monotonic_ns() - s->begin_ns) / 1000000));
	bh_explain("workload", "ms", text);
	bh_explain_disable();
	if (s->setup->start->waits)
		session_answer_start(s, NULL);
	else
		session_report(s, NULL);
	for (uint32_t number = 1; number < 64; number++)
		if (s->early_signals >> number & 1)
			session_put_signal(s, c, number);
}

void session_answer_start(struct session *s, const struct bh_error *error)
{
	struct bh_agent_failure failure = { 0 };

	if (error) {
		failure = (struct bh_agent_failure){ .errnum = error->errnum, .exit_code = error->exit_code, .of_workload = error->of_workload };
		snprintf(failure.text, sizeof failure.text, "%s", error->message);
	}
	for (size_t i = 0; i < SESSION_CLIENTS_MAX; i++)
		if (s->clients[i].fd >= 0 && s->clients[i].channel == BH_AGENT_WORKLOAD) {
			session_answer(&s->clients[i], error ? BH_TELL_FAILED : BH_TELL_STARTED, &failure, 0);
			s->clients[i].channel = 0;
		}
}

static void take_failed(struct session *s, struct session_channel *c, const struct bh_agent_frame *f)
{
	struct bh_agent_failure failure = { 0 };
	struct bh_error error = BH_ERROR_INIT;

	memcpy(&failure, f->payload, f->length);
	for (char *at = failure.text; *at; at++)
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			*at = '?'; /* it is shown on a terminal */
	if (c->id == BH_AGENT_WORKLOAD) {
		bh_error_text(&error, BH_MAX(failure.errnum, 0), "%s", failure.text);
		error.exit_code = failure.exit_code & 255;
		error.of_workload = failure.of_workload != 0;
		if (s->setup->start->waits)
			session_answer_start(s, &error);
		else
			session_report(s, &error);
		s->is_over = true;
		s->exit_code = error.exit_code;
		return;
	}
	session_answer(client_of(s, c), BH_TELL_FAILED, &failure, 0);
	close_channel(c);
}

/* They have to be there before the workload: the agent takes one frame after the other. */
static void open_shares(struct session *s)
{
	s->next_channel = BH_AGENT_WORKLOAD + 1;
	for (size_t i = 0; i < s->share_count; i++) {
		int fds[BH_AGENT_STREAMS] = { s->share_fds[i], fcntl(s->share_fds[i], F_DUPFD_CLOEXEC, 3), -1 };

		session_open(s, (struct bh_agent_run){ .kind = BH_AGENT_SHARE, .share = (uint8_t)i }, fds, "{}", 2);
	}
	s->share_count = 0;
}

void session_start_workload(struct session *s)
{
	int fds[BH_AGENT_STREAMS] = { s->setup->start->stdin_fd, s->setup->start->stdout_fd, s->setup->start->stderr_fd };
	uint32_t next = s->next_channel;

	if (s->setup->terminal_fd >= 0)
		fds[0] = s->setup->terminal_fd;
	s->is_waiting = false;
	s->next_channel = BH_AGENT_WORKLOAD;
	session_open(s, (struct bh_agent_run){ .kind = (uint8_t)s->setup->kind, .terminal = s->setup->terminal_fd >= 0 }, fds,
		     s->setup->request->data, s->setup->request->length);
	s->next_channel = next;
}

static int take_hello(struct session *s, const struct bh_agent_frame *f, struct bh_error *err)
{
	struct bh_agent_hello hello, own = { .version = BH_AGENT_VERSION, .now_ns = bh_now_ns() };
	char text[32];

	memcpy(&hello, f->payload, sizeof hello);
	if (s->is_greeted)
		return -EPROTO;
	if (hello.version != BH_AGENT_VERSION) /* a domain that has run since before an upgrade */
		return bh_error_text(err, EOPNOTSUPP, "the agent in the machine is of another version (%u, not %u): start the machine again",
				     hello.version, BH_AGENT_VERSION);
	s->is_greeted = true;
	snprintf(text, sizeof text, "%lld", (long long)((bh_monotonic_ns() - s->begin_ns) / 1000000));
	bh_explain("agent", "transport", s->setup->monitor->transport, "ms", text);
	if (getrandom(own.entropy, sizeof own.entropy, 0) != (ssize_t)sizeof own.entropy)
		return -EIO;
	bh_agent_put(&s->out, BH_AGENT_HELLO, 0, 0, &own, sizeof own);
	open_shares(s);
	s->next_channel = BH_AGENT_WORKLOAD + 1 + BH_AGENT_SHARES_MAX;
	s->is_waiting = s->setup->start->waits;
	if (s->is_waiting)
		session_report(s, NULL);
	else
		session_start_workload(s);
	return 0;
}

static int take_exited(struct session_channel *c, const struct bh_agent_frame *f)
{
	memcpy(&c->exit_code, f->payload, sizeof c->exit_code);
	if (!c->running || c->ended || c->exit_code > 255)
		return -EPROTO;
	c->ended = true;
	bh_agent_source_clear(&c->input);
	for (int stream = BH_AGENT_STDOUT; stream <= BH_AGENT_STDERR; stream++)
		bh_agent_sink_end(&c->output[stream]);
	return 0;
}

static int act(struct session *s, const struct bh_agent_frame *f, struct bh_error *err)
{
	struct session_channel *c = f->channel ? session_find(s, f->channel) : NULL;

	if (f->type == BH_AGENT_HELLO)
		return take_hello(s, f, err);
	if (!c || c->ended)
		return -EPROTO;
	switch (f->type) {
	case BH_AGENT_STARTED:
		if (c->running)
			return -EPROTO;
		take_started(s, c);
		return 0;
	case BH_AGENT_FAILED:
		if (c->running)
			return -EPROTO;
		take_failed(s, c, f);
		return 0;
	case BH_AGENT_EXITED:
		return take_exited(c, f);
	case BH_AGENT_DATA:
		return bh_agent_sink_receive(&c->output[f->stream], f->payload, f->length);
	case BH_AGENT_END:
		return bh_agent_sink_end(&c->output[f->stream]);
	default: /* credit */
		return bh_agent_source_credit(&c->input, f->payload);
	}
}

int session_take(struct session *s, const void *bytes, size_t length, struct bh_error *err)
{
	struct bh_agent_frame frame;
	size_t at = 0, used;
	int r = 0;

	bh_buf_add(&s->in, bytes, length);
	while (!s->is_over && (r = bh_agent_take(BH_AGENT_GUEST, s->in.data + at, s->in.length - at, &frame, &used, err)) > 0) {
		r = act(s, &frame, err);
		if (r == -EOPNOTSUPP)
			return -EPROTO;
		if (r < 0)
			return bh_error_text(err, EPROTO, "the guest broke the protocol: frame %d of channel %u", (int)frame.type, frame.channel);
		at += used;
	}
	if (r < 0)
		return bh_error_prefix(err, "the guest broke the protocol");
	memmove(s->in.data, s->in.data + at, s->in.length - at);
	s->in.length -= at;
	return 0;
}

void session_take_console(struct session *s, const void *bytes, size_t length)
{
	const unsigned char *at = bytes;

	for (size_t i = 0; i < length; i++)
		if (at[i] == '\n' || at[i] >= ' ')
			bh_buf_addc(&s->console, at[i] == 0x7f ? '?' : (char)at[i]);
	if (s->console.length > 2 * SESSION_CONSOLE_MAX) {
		memmove(s->console.data, s->console.data + s->console.length - SESSION_CONSOLE_MAX, SESSION_CONSOLE_MAX + 1);
		s->console.length = SESSION_CONSOLE_MAX;
	}
}

void session_clear(struct session *s)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(s->channels); i++)
		if (s->channels[i].id)
			close_channel(&s->channels[i]);
	for (size_t i = 0; i < SESSION_CLIENTS_MAX; i++)
		bh_close_fd(&s->clients[i].fd);
	bh_buf_clear(&s->in);
	bh_buf_clear(&s->out);
	bh_buf_clear(&s->console);
}
