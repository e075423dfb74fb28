/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session: one process per microVM, which stands for its workload (microvm.h).
 *
 * Order: it starts the monitor, gives up every right, and only then reads the first byte that comes from the guest. From then on one
 * poll(2) serves the guest's stream, the container's streams, signals, the guest's console, and agent.sock.
 *
 * A channel (agent/message.h) is the workload's or that of an exec, whose files have come with the question over agent.sock: so the
 * bytes of an exec go directly between its files and the guest, and a slow reader only holds up its own channel.
 *
 * What the guest says out of turn ends the session. The guest's memory and disks are lost then, the host's aren't touched.
 */
#include "microvm/microvm-internal.h"

#include "agent/flow.h"
#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "linux/syscall.h"
#include "vmm/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/securebits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

#define LOST_EXIT 255      /* the machine ended, and nobody knows how the workload did */
#define CONSOLE_MAX 4096   /* bytes of the console that are kept for words */
#define OUT_MAX (1u << 20) /* bytes for the guest that wait; above that no stream is read */
#define CLIENTS_MAX BH_AGENT_CHANNELS_MAX

struct channel {
	uint32_t id; /* 0: free */
	bool running, ended;
	uint32_t exit_code;
	int terminal_fd; /* its slave, for its size */
	struct bh_agent_source input;
	struct bh_agent_sink output[BH_AGENT_STREAMS]; /* stdout, stderr */
};

struct client {
	int fd;
	uint32_t channel; /* its exec, 0: none */
};

struct session {
	const struct bh_session_setup *setup;
	int guest_fd, console_fd, control_fd, signal_fd, monitor_pidfd;
	bool is_greeted, is_started;
	int64_t begin_ns;
	uint64_t early_signals; /* that came before there was a workload */
	struct channel channels[BH_AGENT_CHANNELS_MAX];
	uint32_t next_channel;
	struct client clients[CLIENTS_MAX];
	struct bh_buf in, out, console;
	size_t out_begin;
};

/* --- the end ------------------------------------------------------------------------------------------------------------ */

static _Noreturn void end(int code)
{
	/* The monitor ends with us; files are closed, in the order in which others look at them: first the streams, then us. */
	_exit(code);
}

static void report(struct session *s, const struct bh_error *error)
{
	struct bh_session_report word = { .started = !error };

	if (error)
		word.error = *error;
	(void)!send(s->setup->report_fd, &word, sizeof word, MSG_NOSIGNAL);
	close(s->setup->report_fd);
}

static _Noreturn void fail(struct session *s, struct bh_error *error)
{
	if (!error->exit_code)
		error->exit_code = 125;
	report(s, error);
	end(error->exit_code);
}

/* The last line of the console with something in it. */
static char *last_words(const struct session *s)
{
	const char *text = s->console.data ? s->console.data : "", *last_end = text + s->console.length, *begin;

	while (last_end > text && (unsigned char)last_end[-1] <= ' ')
		last_end--;
	for (begin = last_end; begin > text && begin[-1] != '\n'; begin--)
		continue;
	return begin == last_end ? bh_strdup("it said nothing on its console") : bh_printf("its last words: %.*s", (int)(last_end - begin), begin);
}

static struct channel *find_channel(struct session *s, uint32_t id)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(s->channels); i++)
		if (s->channels[i].id == id)
			return &s->channels[i];
	return NULL;
}

static _Noreturn void lose(struct session *s, const char *what)
{
	bh_auto_free char *words = last_words(s);
	struct channel *c = find_channel(s, BH_AGENT_WORKLOAD);
	struct bh_error error = BH_ERROR_INIT;

	bh_error_text(&error, EIO, "%s (%s)", what, words);
	if (!s->is_started)
		fail(s, &error);
	if (c && c->output[BH_AGENT_STDERR].fd >= 0)
		dprintf(c->output[BH_AGENT_STDERR].fd, "bulkhead: %s\n", error.message);
	else if (c && c->terminal_fd >= 0)
		dprintf(c->terminal_fd, "bulkhead: %s\r\n", error.message);
	end(LOST_EXIT);
}

/* --- channels ----------------------------------------------------------------------------------------------------------- */

static void put(struct session *s, enum bh_agent_type type, const struct channel *c, const void *payload, size_t length)
{
	bh_agent_put(&s->out, type, c->id, 0, payload, length);
}

static void put_request(struct session *s, const struct channel *c, const char *bytes, size_t length)
{
	for (size_t at = 0; at < length; at += BH_AGENT_PAYLOAD_MAX)
		put(s, BH_AGENT_REQUEST, c, bytes + at, BH_MIN(length - at, (size_t)BH_AGENT_PAYLOAD_MAX));
}

static struct bh_agent_size terminal_size(int fd)
{
	struct winsize size = { 0 };

	if (fd >= 0)
		ioctl(fd, TIOCGWINSZ, &size);
	return (struct bh_agent_size){ size.ws_row, size.ws_col };
}

/* `fds` are taken over; with a terminal only the first, for all three. */
static struct channel *open_channel(struct session *s, enum bh_agent_kind kind, bool terminal, int fds[BH_AGENT_STREAMS], const char *request,
				    size_t length)
{
	struct bh_agent_run run = { .kind = (uint8_t)kind, .terminal = terminal, .has_stdin = fds[0] >= 0 };
	struct channel *c = find_channel(s, 0);

	if (!c)
		return NULL;
	*c = (struct channel){ .id = s->next_channel++, .terminal_fd = -1 };
	if (terminal) {
		c->terminal_fd = fcntl(fds[0], F_DUPFD_CLOEXEC, 3);
		fds[1] = fcntl(fds[0], F_DUPFD_CLOEXEC, 3);
		run.size = terminal_size(fds[0]);
	}
	bh_agent_source_init(&c->input, BH_TAKE_FD(fds[0]));
	bh_agent_sink_init(&c->output[BH_AGENT_STDOUT], BH_TAKE_FD(fds[1]));
	bh_agent_sink_init(&c->output[BH_AGENT_STDERR], BH_TAKE_FD(fds[2]));
	put_request(s, c, request, length);
	put(s, BH_AGENT_RUN, c, &run, sizeof run);
	return c;
}

static void close_channel(struct channel *c)
{
	bh_close_fd(&c->terminal_fd);
	bh_agent_source_clear(&c->input);
	bh_agent_sink_clear(&c->output[BH_AGENT_STDOUT]);
	bh_agent_sink_clear(&c->output[BH_AGENT_STDERR]);
	c->id = 0;
}

static struct client *client_of(struct session *s, const struct channel *c)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (s->clients[i].fd >= 0 && s->clients[i].channel == c->id)
			return &s->clients[i];
	return NULL;
}

static void answer(struct client *client, enum bh_session_tell tell, const struct bh_agent_failure *failure, uint32_t exit_code)
{
	struct bh_session_answer word = { .tell = tell, .exit_code = exit_code };

	if (failure)
		word.failure = *failure;
	if (client)
		(void)!send(client->fd, &word, sizeof word, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void put_signal(struct session *s, const struct channel *c, uint32_t number)
{
	put(s, BH_AGENT_SIGNAL, c, &number, sizeof number);
}

static void put_size(struct session *s, const struct channel *c, struct bh_agent_size size)
{
	if (size.rows && size.columns)
		put(s, BH_AGENT_RESIZE, c, &size, sizeof size);
}

/* An ended process whose output has been passed on. */
static void finish_ended(struct session *s)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(s->channels); i++) {
		struct channel *c = &s->channels[i];

		if (!c->id || !c->ended || !bh_agent_sink_is_empty(&c->output[BH_AGENT_STDOUT]) || !bh_agent_sink_is_empty(&c->output[BH_AGENT_STDERR]))
			continue;
		if (c->id == BH_AGENT_WORKLOAD)
			end((int)(c->exit_code & 255));
		answer(client_of(s, c), BH_TELL_EXITED, NULL, c->exit_code);
		close_channel(c);
	}
}

/* --- frames of the guest ------------------------------------------------------------------------------------------------ */

static void take_started(struct session *s, struct channel *c)
{
	char text[32];

	c->running = true;
	if (c->id != BH_AGENT_WORKLOAD) {
		answer(client_of(s, c), BH_TELL_STARTED, NULL, 0);
		return;
	}
	s->is_started = true;
	snprintf(text, sizeof text, "%lld", (long long)((bh_monotonic_ns() - s->begin_ns) / 1000000));
	bh_explain("workload", "ms", text);
	report(s, NULL);
	for (uint32_t number = 1; number < 64; number++)
		if (s->early_signals >> number & 1)
			put_signal(s, c, number);
}

static void take_failed(struct session *s, struct channel *c, const struct bh_agent_frame *f)
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
		fail(s, &error);
	}
	answer(client_of(s, c), BH_TELL_FAILED, &failure, 0);
	close_channel(c);
}

static int take_hello(struct session *s, const struct bh_agent_frame *f)
{
	struct bh_agent_hello hello, own = { .version = BH_AGENT_VERSION, .now_ns = bh_now_ns() };
	int fds[BH_AGENT_STREAMS] = { s->setup->start->stdin_fd, s->setup->start->stdout_fd, s->setup->start->stderr_fd };
	char text[32];

	memcpy(&hello, f->payload, sizeof hello);
	if (s->is_greeted || hello.version != BH_AGENT_VERSION)
		return -EPROTO;
	s->is_greeted = true;
	snprintf(text, sizeof text, "%lld", (long long)((bh_monotonic_ns() - s->begin_ns) / 1000000));
	bh_explain("agent", "transport", s->setup->monitor->transport, "ms", text);
	if (getrandom(own.entropy, sizeof own.entropy, 0) != (ssize_t)sizeof own.entropy)
		return -EIO;
	bh_agent_put(&s->out, BH_AGENT_HELLO, 0, 0, &own, sizeof own);
	if (s->setup->terminal_fd >= 0)
		fds[0] = s->setup->terminal_fd;
	s->next_channel = BH_AGENT_WORKLOAD;
	open_channel(s, BH_AGENT_START, s->setup->terminal_fd >= 0, fds, s->setup->request->data, s->setup->request->length);
	return 0;
}

static int take_exited(struct channel *c, const struct bh_agent_frame *f)
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

static int act(struct session *s, const struct bh_agent_frame *f)
{
	struct channel *c = f->channel ? find_channel(s, f->channel) : NULL;

	if (f->type == BH_AGENT_HELLO)
		return take_hello(s, f);
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

static void read_guest(struct session *s)
{
	char bytes[65536];
	ssize_t n = recv(s->guest_fd, bytes, sizeof bytes, MSG_DONTWAIT);
	struct bh_error err = BH_ERROR_INIT;
	struct bh_agent_frame frame;
	size_t at = 0, used;
	int r;

	if (n <= 0) {
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		bh_close_fd(&s->guest_fd);
		return;
	}
	bh_buf_add(&s->in, bytes, (size_t)n);
	while ((r = bh_agent_take(BH_AGENT_GUEST, s->in.data + at, s->in.length - at, &frame, &used, &err)) > 0) {
		if (act(s, &frame) < 0) {
			bh_auto_free char *what = bh_printf("the guest broke the protocol (frame %d, channel %u)", frame.type, frame.channel);

			lose(s, what);
		}
		at += used;
	}
	if (r < 0) {
		bh_error_prefix(&err, "the guest broke the protocol");
		lose(s, err.message);
	}
	memmove(s->in.data, s->in.data + at, s->in.length - at);
	s->in.length -= at;
}

static void write_guest(struct session *s)
{
	ssize_t n;

	if (s->guest_fd < 0 || s->out_begin == s->out.length)
		return;
	n = send(s->guest_fd, s->out.data + s->out_begin, s->out.length - s->out_begin, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0)
		s->out_begin += (size_t)n;
	if (s->out_begin < s->out.length && s->out_begin < OUT_MAX)
		return;
	memmove(s->out.data, s->out.data + s->out_begin, s->out.length - s->out_begin);
	s->out.length -= s->out_begin;
	s->out_begin = 0;
}

/* The console is for words about a guest that ended; only its end is kept. */
static void read_console(struct session *s)
{
	char bytes[4096];
	ssize_t n = recv(s->console_fd, bytes, sizeof bytes, MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		bh_close_fd(&s->console_fd);
	for (ssize_t i = 0; i < n; i++)
		if (bytes[i] == '\n' || (unsigned char)bytes[i] >= ' ')
			bh_buf_addc(&s->console, bytes[i] == 0x7f ? '?' : bytes[i]);
	if (s->console.length > 2 * CONSOLE_MAX) {
		memmove(s->console.data, s->console.data + s->console.length - CONSOLE_MAX, CONSOLE_MAX);
		s->console.length = CONSOLE_MAX;
	}
}

/* --- agent.sock ----------------------------------------------------------------------------------------------------------- */

static void control(struct session *s, const char *text)
{
	(void)!send(s->control_fd, text, strlen(text), MSG_NOSIGNAL);
}

static void start_exec(struct session *s, struct client *client, const struct bh_session_question *q, int fds[BH_ASK_FDS])
{
	struct bh_agent_failure failure = { .errnum = EBUSY, .exit_code = 125, .text = "the microVM has no room for a further process" };
	bh_auto_buf struct bh_buf request = { 0 };
	struct channel *c;
	int r = fds[0] < 0 || client->channel || !s->is_started ? -EINVAL : bh_read_fd(fds[0], BH_AGENT_REQUEST_MAX, &request);

	c = r < 0 || !request.length ? NULL : open_channel(s, BH_AGENT_EXEC, q->terminal, fds + 1, request.data, request.length);
	if (c)
		client->channel = c->id;
	else
		answer(client, BH_TELL_FAILED, &failure, 0);
}

static void act_on_client(struct session *s, struct client *client, const struct bh_session_question *q, int fds[BH_ASK_FDS])
{
	struct channel *c = client->channel ? find_channel(s, client->channel) : NULL;

	switch (q->ask) {
	case BH_ASK_EXEC:
		start_exec(s, client, q, fds);
		break;
	case BH_ASK_SIGNAL:
		if (c && q->signal < 65)
			put_signal(s, c, q->signal);
		break;
	case BH_ASK_RESIZE:
		if (c)
			put_size(s, c, q->size);
		break;
	case BH_ASK_PAUSE:
	case BH_ASK_RESUME:
		control(s, q->ask == BH_ASK_PAUSE ? s->setup->monitor->pause : s->setup->monitor->resume);
		answer(client, BH_TELL_DONE, NULL, 0);
		break;
	default:
		break;
	}
}

static void drop_client(struct session *s, struct client *client)
{
	struct channel *c = client->channel ? find_channel(s, client->channel) : NULL;

	/* Whoever stood for the process was killed. */
	if (c && !c->ended)
		put_signal(s, c, SIGKILL);
	bh_close_fd(&client->fd);
	client->channel = 0;
}

static void read_client(struct session *s, struct client *client)
{
	struct bh_session_question q;
	union {
		char bytes[CMSG_SPACE(BH_ASK_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part = { &q, sizeof q };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
	ssize_t n = recvmsg(client->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	int fds[BH_ASK_FDS] = { -1, -1, -1, -1 }, came[BH_ASK_FDS];
	size_t count = 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(came, CMSG_DATA(c), count * sizeof(int));
	}
	for (size_t i = 0, k = 0; n == (ssize_t)sizeof q && i < BH_ASK_FDS; i++)
		if (q.has[i] && k < count)
			fds[i] = came[k++];
	if (n == (ssize_t)sizeof q)
		act_on_client(s, client, &q, fds);
	for (size_t i = 0; i < BH_ASK_FDS; i++)
		bh_close_fd(&fds[i]);
	if (n != (ssize_t)sizeof q)
		drop_client(s, client);
}

static void accept_client(struct session *s)
{
	int fd = accept4(s->setup->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	for (size_t i = 0; fd >= 0 && i < CLIENTS_MAX; i++)
		if (s->clients[i].fd < 0) {
			s->clients[i] = (struct client){ .fd = BH_TAKE_FD(fd) };
			break;
		}
	bh_close_fd(&fd);
}

/* --- signals -------------------------------------------------------------------------------------------------------------- */

static void read_signals(struct session *s)
{
	struct channel *c = find_channel(s, BH_AGENT_WORKLOAD);
	struct signalfd_siginfo info;

	while (read(s->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
		if (info.ssi_signo == SIGCHLD || (info.ssi_signo == SIGPIPE && info.ssi_pid == (uint32_t)getpid()))
			continue;
		if (info.ssi_signo == SIGWINCH && c && c->terminal_fd >= 0)
			put_size(s, c, terminal_size(c->terminal_fd));
		else if (!s->is_started)
			s->early_signals |= info.ssi_signo < 64 ? 1ull << info.ssi_signo : 0;
		else if (c)
			put_signal(s, c, info.ssi_signo);
	}
}

/* --- the loop ------------------------------------------------------------------------------------------------------------- */

enum { AT_GUEST, AT_CONSOLE, AT_CONTROL, AT_SIGNALS, AT_MONITOR, AT_LISTEN, AT_CLIENTS, AT_CHANNELS = AT_CLIENTS + CLIENTS_MAX };
#define WATCHED_MAX (AT_CHANNELS + 3 * BH_AGENT_CHANNELS_MAX)

static void watch(struct pollfd *at, int fd, int events)
{
	*at = (struct pollfd){ .fd = events ? fd : -1, .events = (short)events };
}

static void watch_all(const struct session *s, struct pollfd set[WATCHED_MAX])
{
	bool room = s->out.length - s->out_begin < OUT_MAX;

	watch(&set[AT_GUEST], s->guest_fd, POLLIN | (s->out_begin < s->out.length ? POLLOUT : 0));
	watch(&set[AT_CONSOLE], s->console_fd, POLLIN);
	watch(&set[AT_CONTROL], s->control_fd, POLLIN);
	watch(&set[AT_SIGNALS], s->signal_fd, POLLIN);
	watch(&set[AT_MONITOR], s->monitor_pidfd, POLLIN);
	watch(&set[AT_LISTEN], s->setup->listen_fd, POLLIN);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		watch(&set[AT_CLIENTS + i], s->clients[i].fd, POLLIN);
	for (size_t i = 0; i < BH_AGENT_CHANNELS_MAX; i++) {
		const struct channel *c = &s->channels[i];
		struct pollfd *at = &set[AT_CHANNELS + 3 * i];

		watch(&at[0], c->id ? c->input.fd : -1, room && c->running && c->input.credit ? POLLIN : 0);
		for (int stream = BH_AGENT_STDOUT; stream <= BH_AGENT_STDERR; stream++)
			watch(&at[stream], c->id ? c->output[stream].fd : -1, bh_agent_sink_is_empty(&c->output[stream]) ? 0 : POLLOUT);
	}
}

static void serve_channels(struct session *s, const struct pollfd *set)
{
	for (size_t i = 0; i < BH_AGENT_CHANNELS_MAX; i++) {
		struct channel *c = &s->channels[i];

		if (!c->id)
			continue;
		if (set[AT_CHANNELS + 3 * i].revents && c->input.fd == set[AT_CHANNELS + 3 * i].fd)
			bh_agent_source_read(&c->input, c->id, BH_AGENT_STDIN, &s->out);
		for (int stream = BH_AGENT_STDOUT; stream <= BH_AGENT_STDERR; stream++) {
			bh_agent_sink_flush(&c->output[stream]);
			bh_agent_sink_credit(&c->output[stream], c->id, (enum bh_agent_stream)stream, &s->out);
		}
	}
}

static void drop_control_answers(struct session *s)
{
	char bytes[4096];
	ssize_t n = recv(s->control_fd, bytes, sizeof bytes, MSG_DONTWAIT);

	if (n == 0)
		bh_close_fd(&s->control_fd);
}

/* The stream is read to its end before the monitor's end counts: its last frame may be in there. */
static void check_end(struct session *s, bool monitor_ended)
{
	const struct channel *c = find_channel(s, BH_AGENT_WORKLOAD);

	if (s->guest_fd >= 0 && !monitor_ended)
		return;
	while (s->guest_fd >= 0) {
		struct pollfd p = { .fd = s->guest_fd, .events = POLLIN };

		if (poll(&p, 1, 0) <= 0)
			break;
		read_guest(s);
	}
	while (s->console_fd >= 0) {
		struct pollfd p = { .fd = s->console_fd, .events = POLLIN };

		if (poll(&p, 1, s->guest_fd < 0 && !monitor_ended ? 1000 : 0) <= 0)
			break;
		read_console(s);
	}
	if (!c || !c->ended)
		lose(s, "the virtual machine ended");
	bh_close_fd(&s->monitor_pidfd);
}

static int time_left(const struct session *s)
{
	int64_t left = s->setup->monitor->boot_timeout_ms - (bh_monotonic_ns() - s->begin_ns) / 1000000;

	return s->is_greeted ? -1 : (int)BH_MAX(left, (int64_t)0);
}

static _Noreturn void loop(struct session *s)
{
	static struct pollfd set[WATCHED_MAX];

	for (;;) {
		int left = time_left(s), n;

		watch_all(s, set);
		n = poll(set, WATCHED_MAX, left);
		if (n == 0 && left == 0)
			lose(s, "the guest did not report in time");
		if (n <= 0)
			continue;
		if (set[AT_SIGNALS].revents)
			read_signals(s);
		if (set[AT_CONSOLE].revents)
			read_console(s);
		if (set[AT_CONTROL].revents)
			drop_control_answers(s);
		if (set[AT_GUEST].revents & (POLLIN | POLLHUP | POLLERR))
			read_guest(s);
		if (set[AT_LISTEN].revents)
			accept_client(s);
		for (size_t i = 0; i < CLIENTS_MAX; i++)
			if (set[AT_CLIENTS + i].revents && s->clients[i].fd >= 0)
				read_client(s, &s->clients[i]);
		serve_channels(s, set);
		if (s->monitor_pidfd >= 0)
			check_end(s, set[AT_MONITOR].revents != 0);
		finish_ended(s);
		write_guest(s);
	}
}

/* --- set-up --------------------------------------------------------------------------------------------------------------- */

static int make_pair(int *ret_ours, int *ret_theirs, struct bh_error *err)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return bh_error_set(err, errno, "make a socket");
	*ret_ours = fds[0];
	*ret_theirs = fds[1];
	return 0;
}

static int start_monitor(struct session *s, struct bh_error *err)
{
	struct bh_monitor_request machine = s->setup->machine;
	pid_t pid;
	int r = make_pair(&s->guest_fd, &machine.agent_fd, err);

	if (r == 0)
		r = make_pair(&s->console_fd, &machine.console_fd, err);
	if (r == 0)
		r = make_pair(&s->control_fd, &machine.control_fd, err);
	if (r == 0)
		r = s->setup->monitor->spawn(&machine, &pid, &s->monitor_pidfd, err);
	bh_close_fd(&machine.agent_fd);
	bh_close_fd(&machine.console_fd);
	bh_close_fd(&machine.control_fd);
	if (r == 0)
		control(s, s->setup->monitor->greeting);
	return r;
}

/* Its own session and, with one, terminal: the terminal's changes of size come as signals. */
static int take_terminal(const struct session *s, struct bh_error *err)
{
	struct termios raw;

	setsid();
	if (s->setup->terminal_fd < 0)
		return 0;
	if (ioctl(s->setup->terminal_fd, TIOCSCTTY, 0) < 0 || tcgetattr(s->setup->terminal_fd, &raw) < 0)
		return bh_error_set(err, errno, "take the terminal");
	cfmakeraw(&raw); /* the guest's terminal is the one that edits lines and makes signals */
	return tcsetattr(s->setup->terminal_fd, TCSANOW, &raw) < 0 ? bh_error_set(err, errno, "set the terminal") : 0;
}

static int compare_ints(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static void close_others(const struct session *s)
{
	int keep[] = { 2,
		       s->guest_fd,
		       s->console_fd,
		       s->control_fd,
		       s->monitor_pidfd,
		       s->signal_fd,
		       s->setup->listen_fd,
		       s->setup->terminal_fd,
		       s->setup->report_fd,
		       s->setup->start->stdin_fd,
		       s->setup->start->stdout_fd,
		       s->setup->start->stderr_fd,
		       bh_explain_fd() };
	int from = 3;

	qsort(keep, BH_ARRAY_SIZE(keep), sizeof *keep, compare_ints);
	for (size_t i = 0; i < BH_ARRAY_SIZE(keep); i++) {
		if (keep[i] < from)
			continue;
		if (keep[i] > from)
			bh_close_range((unsigned)from, (unsigned)keep[i] - 1, 0);
		from = keep[i] + 1;
	}
	bh_close_range((unsigned)from, ~0u, 0);
}

/* From here on nothing can be opened, and nothing is ours but the fds. */
static int give_up_rights(const struct session *s, struct bh_error *err)
{
	uid_t uid = BH_MICROVM_UID(getpid());

	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		return bh_error_set(err, errno, "leave the host's namespaces");
	/* The capabilities stay for as long as leaving the file system needs them. */
	if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) < 0 || setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 ||
	    setresuid(uid, uid, uid) < 0)
		return bh_error_set(err, errno, "become a user of its own");
	if (bh_jail_enter(err) < 0)
		return -EPERM;
	if (s->setup->start->dies_with_caller && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return bh_error_set(err, errno, "die with the shim");
	return 0;
}

static int setup_signals(struct session *s, struct bh_error *err)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	s->signal_fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signal_fd < 0 ? bh_error_set(err, errno, "signalfd") : 0;
}

static void quiet_standard_streams(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	dup2(null, 0);
	dup2(null, 1);
	close(null);
}

void bh_session_main(const struct bh_session_setup *setup)
{
	static struct session session;
	struct session *s = &session;
	struct bh_error err = BH_ERROR_INIT;
	int r;

	*s = (struct session){ .setup = setup, .guest_fd = -1, .console_fd = -1, .control_fd = -1, .signal_fd = -1, .monitor_pidfd = -1 };
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		s->clients[i].fd = -1;
	s->begin_ns = bh_monotonic_ns();
	if (setup->start->dies_with_caller)
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	quiet_standard_streams();
	r = setup_signals(s, &err);
	if (r == 0)
		r = take_terminal(s, &err);
	if (r == 0)
		r = start_monitor(s, &err);
	if (r == 0) {
		close_others(s);
		r = give_up_rights(s, &err);
	}
	if (r < 0)
		fail(s, &err);
	loop(s);
}
