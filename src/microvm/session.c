/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session: one process per microVM, which stands for its workload (microvm.h).
 *
 * Order: it starts the monitor, gives up every right, and only then reads the first byte that comes from the guest. From then on one
 * poll(2) serves the guest's stream, the container's streams, signals, the guest's console, and agent.sock.
 *
 * What the guest says out of turn (channels.c) ends the session. The guest's memory and disks are lost then, the host's aren't touched.
 */
#include "microvm/session-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "linux/seccomp.h"
#include "linux/syscall.h"
#include "vmm/files.h"
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

#define KILLED_EXIT 137    /* an exec whose machine ended: it was killed with all that was in it */
#define OUT_MAX (1u << 20) /* bytes for the guest that wait; above that no stream is read */

/* --- the end ------------------------------------------------------------------------------------------------------------ */

static _Noreturn void fail(struct session *s, struct bh_error *error)
{
	if (!error->exit_code)
		error->exit_code = 125;
	session_report(s, error);
	session_answer_start(s, error);
	_exit(error->exit_code);
}

/* Not by dprintf(3), which asks for the file's position: that is no call of the list below. */
static void write_words(int fd, const char *words, const char *end)
{
	bh_auto_free char *line = bh_printf("bulkhead: %s%s", words, end);

	bh_write_all(fd, line, strlen(line));
}

static _Noreturn void lose(struct session *s, const char *what)
{
	bool is_exec = s->setup->kind == BH_AGENT_EXEC;
	bh_auto_free char *words = is_exec ? NULL : session_last_words(s);
	struct session_channel *c = session_find(s, BH_AGENT_WORKLOAD);
	struct bh_error error = BH_ERROR_INIT;

	if (words)
		bh_error_text(&error, EIO, "%s (%s)", what, words);
	else
		bh_error_text(&error, EIO, "%s", what);
	if (!s->is_started)
		fail(s, &error);
	if (s->setup->loss_fd >= 0)
		bh_write_all(s->setup->loss_fd, error.message, strlen(error.message));
	if (c && c->output[BH_AGENT_STDERR].fd >= 0)
		write_words(c->output[BH_AGENT_STDERR].fd, error.message, "\n");
	else if (c && c->terminal_fd >= 0)
		write_words(c->terminal_fd, error.message, "\r\n");
	_exit(is_exec ? KILLED_EXIT : BH_MICROVM_LOST_EXIT);
}

/* --- the guest's stream and console --------------------------------------------------------------------------------------- */

static void read_guest(struct session *s)
{
	char bytes[65536];
	ssize_t n = recv(s->guest_fd, bytes, sizeof bytes, MSG_DONTWAIT);
	struct bh_error err = BH_ERROR_INIT;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		bh_close_fd(&s->guest_fd);
	else if (session_take(s, bytes, (size_t)n, &err) < 0)
		lose(s, err.message);
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

static void read_console(struct session *s)
{
	char bytes[4096];
	ssize_t n = recv(s->console_fd, bytes, sizeof bytes, MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		bh_close_fd(&s->console_fd);
	if (n > 0)
		session_take_console(s, bytes, (size_t)n);
}

/* --- agent.sock ----------------------------------------------------------------------------------------------------------- */

static void control(struct session *s, const char *text)
{
	(void)!send(s->control_fd, text, strlen(text), MSG_NOSIGNAL);
}

static void start_exec(struct session *s, struct session_client *client, const struct bh_session_question *q, int fds[BH_ASK_FDS])
{
	static const char *const words[] = { "the microVM's workload has not been started", "the microVM has no room for a further process" };
	struct bh_agent_failure failure = { .errnum = EBUSY, .exit_code = 125 };
	const uint8_t kind = q->ask == BH_ASK_LIST ? BH_AGENT_LIST : q->ask == BH_ASK_TRANSFER ? BH_AGENT_TRANSFER : BH_AGENT_EXEC;
	const struct bh_agent_run run = { .kind = kind, .terminal = q->terminal };
	bh_auto_buf struct bh_buf request = { 0 };
	struct session_channel *c;
	int r = fds[0] < 0 || client->channel || !s->is_started ? -EINVAL : bh_read_fd(fds[0], BH_AGENT_REQUEST_MAX, &request);

	c = r < 0 || !request.length ? NULL : session_open(s, run, fds + 1, request.data, request.length);
	if (c) {
		client->channel = c->id;
		return;
	}
	snprintf(failure.text, sizeof failure.text, "%s", words[s->is_started]);
	session_answer(client, BH_TELL_FAILED, &failure, 0);
}

static void start_workload(struct session *s, struct session_client *client)
{
	struct bh_agent_failure failure = { .errnum = EBUSY, .exit_code = 125, .text = "the microVM's workload has been started already" };

	if (!s->is_waiting || client->channel) {
		session_answer(client, BH_TELL_FAILED, &failure, 0);
		return;
	}
	client->channel = BH_AGENT_WORKLOAD;
	session_start_workload(s);
}

/* The agent ends the machine in order when its workload has ended. */
static void end_workload(struct session *s, struct session_client *client)
{
	struct bh_agent_failure failure = { .errnum = ESRCH, .text = "the microVM's workload doesn't run" };
	const struct session_channel *c = s->is_started ? session_find(s, BH_AGENT_WORKLOAD) : NULL;

	if (c && !c->ended)
		session_put_signal(s, c, SIGKILL);
	session_answer(client, c ? BH_TELL_DONE : BH_TELL_FAILED, &failure, 0);
}

/* The guest's clock may have stood (on a software CPU it did). */
static void resume_guest(struct session *s)
{
	int64_t now_ns = bh_now_ns();

	control(s, s->setup->monitor->resume);
	if (s->is_greeted)
		bh_agent_put(&s->out, BH_AGENT_CLOCK, 0, 0, &now_ns, sizeof now_ns);
}

static void act_on_client(struct session *s, struct session_client *client, const struct bh_session_question *q, int fds[BH_ASK_FDS])
{
	struct session_channel *c = client->channel ? session_find(s, client->channel) : NULL;

	switch (q->ask) {
	case BH_ASK_EXEC:
	case BH_ASK_LIST:
	case BH_ASK_TRANSFER:
		start_exec(s, client, q, fds);
		break;
	case BH_ASK_START:
		start_workload(s, client);
		break;
	case BH_ASK_END:
		end_workload(s, client);
		break;
	case BH_ASK_SIGNAL:
		if (c && q->signal < 65)
			session_put_signal(s, c, q->signal);
		break;
	case BH_ASK_RESIZE:
		if (c)
			session_put_size(s, c, q->size);
		break;
	case BH_ASK_PAUSE:
		control(s, s->setup->monitor->pause);
		session_answer(client, BH_TELL_DONE, NULL, 0);
		break;
	case BH_ASK_RESUME:
		resume_guest(s);
		session_answer(client, BH_TELL_DONE, NULL, 0);
		break;
	default:
		break;
	}
}

static void drop_client(struct session *s, struct session_client *client)
{
	struct session_channel *c = client->channel ? session_find(s, client->channel) : NULL;

	/* Whoever stood for the process was killed. Who only starts the workload may go. */
	if (c && !c->ended && c->id != BH_AGENT_WORKLOAD)
		session_put_signal(s, c, SIGKILL);
	bh_close_fd(&client->fd);
	client->channel = 0;
}

static void read_client(struct session *s, struct session_client *client)
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

	for (size_t i = 0; fd >= 0 && i < SESSION_CLIENTS_MAX; i++)
		if (s->clients[i].fd < 0) {
			s->clients[i] = (struct session_client){ .fd = BH_TAKE_FD(fd) };
			break;
		}
	bh_close_fd(&fd);
}

/* --- signals -------------------------------------------------------------------------------------------------------------- */

static void read_signals(struct session *s)
{
	struct session_channel *c = session_find(s, BH_AGENT_WORKLOAD);
	struct signalfd_siginfo info;

	while (read(s->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
		if (info.ssi_signo == SIGCHLD || (info.ssi_signo == SIGPIPE && info.ssi_pid == (uint32_t)getpid()))
			continue;
		if (info.ssi_signo == SIGWINCH && c && c->terminal_fd >= 0)
			session_put_size(s, c, session_terminal_size(c->terminal_fd));
		else if (!s->is_started)
			s->early_signals |= info.ssi_signo < 64 ? 1ull << info.ssi_signo : 0;
		else if (c)
			session_put_signal(s, c, info.ssi_signo);
	}
}

/* --- the loop ------------------------------------------------------------------------------------------------------------- */

enum { AT_GUEST, AT_CONSOLE, AT_CONTROL, AT_SIGNALS, AT_MONITOR, AT_LISTEN, AT_STARTER, AT_CLIENTS, AT_CHANNELS = AT_CLIENTS + SESSION_CLIENTS_MAX };
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
	watch(&set[AT_STARTER], s->setup->report_fd, s->is_held ? POLLIN : 0);
	for (size_t i = 0; i < SESSION_CLIENTS_MAX; i++)
		watch(&set[AT_CLIENTS + i], s->clients[i].fd, POLLIN);
	for (size_t i = 0; i < BH_AGENT_CHANNELS_MAX; i++) {
		const struct session_channel *c = &s->channels[i];
		struct pollfd *at = &set[AT_CHANNELS + 3 * i];

		watch(&at[0], c->id ? c->input.fd : -1, room && c->running && c->input.credit ? POLLIN : 0);
		for (int stream = BH_AGENT_STDOUT; stream <= BH_AGENT_STDERR; stream++)
			watch(&at[stream], c->id ? c->output[stream].fd : -1, bh_agent_sink_is_empty(&c->output[stream]) ? 0 : POLLOUT);
	}
}

static void serve_channels(struct session *s, const struct pollfd *set)
{
	for (size_t i = 0; i < BH_AGENT_CHANNELS_MAX; i++) {
		struct session_channel *c = &s->channels[i];

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
	const struct session_channel *c = session_find(s, BH_AGENT_WORKLOAD);

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
	if (!s->is_over && (!c || !c->ended))
		lose(s, "the virtual machine ended");
	bh_close_fd(&s->monitor_pidfd);
}

/* It lets us go, or has ended before it could make known that we are there. */
static void hear_starter(struct session *s)
{
	char word;

	if (recv(s->setup->report_fd, &word, 1, MSG_DONTWAIT) != 1)
		_exit(BH_MICROVM_LOST_EXIT);
	s->is_held = false;
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
		if (set[AT_STARTER].revents)
			hear_starter(s);
		if (set[AT_CONSOLE].revents)
			read_console(s);
		if (set[AT_CONTROL].revents)
			drop_control_answers(s);
		if (set[AT_GUEST].revents & (POLLIN | POLLHUP | POLLERR))
			read_guest(s);
		if (set[AT_LISTEN].revents)
			accept_client(s);
		for (size_t i = 0; i < SESSION_CLIENTS_MAX; i++)
			if (set[AT_CLIENTS + i].revents && s->clients[i].fd >= 0)
				read_client(s, &s->clients[i]);
		serve_channels(s, set);
		if (s->monitor_pidfd >= 0 || s->setup->kind == BH_AGENT_EXEC)
			check_end(s, s->monitor_pidfd >= 0 && set[AT_MONITOR].revents != 0);
		session_finish_ended(s);
		if (s->is_over) /* the monitor ends with us */
			_exit(s->exit_code);
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

/* Processes of their own, since they keep rights that this one gives up. */
static int start_file_servers(struct session *s, struct bh_error *err)
{
	int r = bh_microvm_shares_gather(s->setup->shares, err);
	pid_t pid;

	for (size_t i = 0; r == 0 && i < s->setup->shares->count; i++) {
		r = bh_files_spawn(s->setup->shares->folders[i].fd, s->setup->shares->folders[i].readonly, &s->share_fds[i], &pid, err);
		s->share_count += r == 0;
	}
	return r;
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
	machine.share_fds = s->share_fds;
	machine.share_count = s->share_count;
	if (r == 0)
		r = s->setup->monitor->spawn(&machine, &pid, &s->monitor_pidfd, err);
	bh_close_fd(&machine.agent_fd);
	bh_close_fd(&machine.console_fd);
	bh_close_fd(&machine.control_fd);
	if (s->setup->monitor->has_virtio_fs) /* it has them */
		while (s->share_count)
			bh_close_fd(&s->share_fds[--s->share_count]);
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
	int keep[14 + BH_AGENT_SHARES_MAX] = { STDERR_FILENO,
					       s->guest_fd,
					       s->console_fd,
					       s->control_fd,
					       s->monitor_pidfd,
					       s->signal_fd,
					       s->setup->listen_fd,
					       s->setup->terminal_fd,
					       s->setup->report_fd,
					       s->setup->loss_fd,
					       s->setup->start->stdin_fd,
					       s->setup->start->stdout_fd,
					       s->setup->start->stderr_fd,
					       bh_explain_fd() };
	int from = STDERR_FILENO + 1;

	memcpy(keep + 14, s->share_fds, s->share_count * sizeof *keep);
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

	/* A machine's session has had its network since its birth. */
	if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | (s->setup->kind == BH_AGENT_EXEC ? CLONE_NEWNET : 0)) < 0)
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

/* All that the loop needs; anything else ends the process. */
static int lock(struct bh_error *err)
{
	static const char *const calls[] = {
		"poll",        "read",  "write",           "recvfrom",     "sendto",        "recvmsg",    "sendmsg",    "accept4", "close",
		"fcntl",       "ioctl", "getrandom",       "getpid",       "clock_gettime", "brk",        "mmap",       "munmap",  "mremap",
		"madvise",     "futex", "restart_syscall", "rt_sigreturn", "exit",          "exit_group", "newfstatat", "fstat",
#ifdef __SANITIZE_ADDRESS__
		"sigaltstack", /* before each call that doesn't return */
#endif
	};
	char kill_process[] = "SCMP_ACT_KILL_PROCESS", allow[] = "SCMP_ACT_ALLOW";
	bh_auto_strv struct bh_strv names = { 0 };
	struct bh_spec_seccomp_rule rule = { .action = allow };
	const struct bh_spec_seccomp rules = { .source = BH_SECCOMP_RULES, .default_action = kill_process, .rules = &rule, .rule_count = 1 };
	struct bh_seccomp_filter filter = { 0 };
	int r;

	for (size_t i = 0; i < BH_ARRAY_SIZE(calls); i++)
		bh_strv_add(&names, calls[i]);
	rule.names = names;
	r = bh_seccomp_compile(&rules, 0, &filter, err);
	if (r == 0)
		r = bh_seccomp_install(&filter, err);
	bh_seccomp_filter_clear(&filter);
	return r < 0 ? r : 0;
}

static int setup_signals(struct session *s, struct bh_error *err)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	s->signal_fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signal_fd < 0 ? bh_error_set(err, errno, "signalfd") : 0;
}

/* Its words go to who starts it, and later to the workload's streams: somebody may wait for the end of ours. */
static void quiet_standard_streams(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	dup2(null, 0);
	dup2(null, 1);
	dup2(null, 2);
	close(null);
}

/* From here on there is nothing but the fds, and bytes of the guest are read. */
static _Noreturn void serve(struct session *s)
{
	struct bh_error err = BH_ERROR_INIT;
	int r;

	close_others(s);
	r = give_up_rights(s, &err);
	if (r == 0)
		r = lock(&err);
	if (r < 0)
		fail(s, &err);
	loop(s);
}

static int prepare(struct session *s, const struct bh_session_setup *setup, struct bh_error *err)
{
	int r;

	session_init(s, setup);
	if (setup->start->dies_with_caller)
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	quiet_standard_streams();
	r = setup_signals(s, err);
	return r < 0 ? r : take_terminal(s, err);
}

void bh_session_main(const struct bh_session_setup *setup)
{
	static struct session session;
	struct bh_error err = BH_ERROR_INIT;
	int r = prepare(&session, setup, &err);

	if (r == 0)
		r = start_file_servers(&session, &err);
	if (r == 0)
		r = start_monitor(&session, &err);
	if (r < 0)
		fail(&session, &err);
	serve(&session);
}

void bh_session_exec(const struct bh_session_setup *setup, int guest_fd)
{
	static struct session session;
	struct bh_error err = BH_ERROR_INIT;
	int r = prepare(&session, setup, &err);

	session.guest_fd = guest_fd;
	if (r < 0)
		fail(&session, &err);
	serve(&session);
}
