/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first process of a domain that was made from an image: a machine that stays, which people execute commands in.
 *
 *	serial console ◄──► terminal of the image's first process (its entry point and command)
 *	vsock, connections from the host ──► a child of ours for each, which serves it (agent.c): the execs of `vm exec`
 *
 * The first process is described by /request, which the host has put into the initramfs: nobody has to be connected for it to
 * run. It has a terminal, so a shell in it is usable from `vm console`, and what it says is in the console's log. Once it
 * runs we listen; so whoever gets a connection finds something to execute commands in.
 *
 * The end: when it has ended, disks are synced and the machine goes off. The host asks for the end over a connection, whose server signals
 * us: then the process gets its stop signal; later its terminal hangs up, which is what ends a shell; at last it is killed.
 *
 * One thread, one poll(2). Nothing from the host or the workload is parsed here.
 */
#include "guest/guest-internal.h"

#include "base/file.h"
#include "base/time.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>

#define CONNECTIONS_MAX 64
#define HANG_UP_MS 2000 /* after the request to end */
#define KILL_MS 10000
#define GIVE_UP_MS 15000
#define LAST_OUTPUT_MS 2000 /* of the console, when all has ended */

/* One direction of the console. */
struct pipe {
	char bytes[4096];
	size_t begin, end;
};

struct domain {
	int signal_fd, listen_fd, console_fd;
	int stop_signal;
	/* the image's first process */
	pid_t runner, pid;
	int result_fd, terminal_fd;
	struct pipe to_terminal, to_console;
	/* servers of connections */
	pid_t servers[CONNECTIONS_MAX];
	/* the end, once it was asked for */
	bool ending, reboot;
	int64_t asked_ms;
	int step; /* of end_steps: done */
};

static int64_t now_ms(void)
{
	return bh_monotonic_ns() / 1000000;
}

static _Noreturn void end(const struct domain *d)
{
	guest_machine_sync();
	if (d->reboot)
		guest_machine_reboot();
	guest_machine_power_off();
}

/* --- the console ---------------------------------------------------------------------------------------------------------- */

static bool pipe_is_empty(const struct pipe *p)
{
	return p->begin == p->end;
}

/* False: nothing more will come from there. */
static bool pipe_fill(struct pipe *p, int fd)
{
	ssize_t n = read(fd, p->bytes, sizeof p->bytes);

	if (n > 0) {
		p->begin = 0;
		p->end = (size_t)n;
	}
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void pipe_drain(struct pipe *p, int fd)
{
	ssize_t n = fd < 0 ? (ssize_t)(p->end - p->begin) : write(fd, p->bytes + p->begin, p->end - p->begin);

	if (n > 0)
		p->begin += (size_t)n;
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		p->begin = p->end; /* nobody takes it */
}

/* The terminal of the process is the one that edits lines and makes signals. */
static void open_console(struct domain *d)
{
	struct termios raw;

	d->console_fd = open("/dev/console", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (d->console_fd < 0) {
		guest_say("open the console: %s", strerror(errno));
		return;
	}
	if (tcgetattr(d->console_fd, &raw) == 0) {
		cfmakeraw(&raw);
		tcsetattr(d->console_fd, TCSANOW, &raw);
	}
}

static void hang_up(struct domain *d)
{
	bh_close_fd(&d->terminal_fd);
	d->to_terminal.begin = d->to_terminal.end;
}

static void serve_console(struct domain *d, short console_events, short terminal_events)
{
	if (console_events & (POLLIN | POLLHUP | POLLERR) && pipe_is_empty(&d->to_terminal) && !pipe_fill(&d->to_terminal, d->console_fd))
		bh_close_fd(&d->console_fd);
	if (terminal_events & (POLLIN | POLLHUP | POLLERR) && pipe_is_empty(&d->to_console) && !pipe_fill(&d->to_console, d->terminal_fd))
		hang_up(d);
	if (!pipe_is_empty(&d->to_terminal))
		pipe_drain(&d->to_terminal, d->terminal_fd);
	if (!pipe_is_empty(&d->to_console))
		pipe_drain(&d->to_console, d->console_fd);
}

/* --- the image's first process ---------------------------------------------------------------------------------------------- */

static void start_first(struct domain *d)
{
	static const int none[BH_AGENT_STREAMS] = { -1, -1, -1 };
	bh_auto_close int request_fd = open(GUEST_REQUEST, O_RDONLY | O_CLOEXEC);
	pid_t pid = request_fd < 0 ? -errno : guest_runner_start(request_fd, none, BH_AGENT_START, &d->result_fd);

	if (pid < 0) {
		guest_say("start the image's first process: %s", strerror(-pid));
		end(d);
	}
	d->runner = pid;
	unlink(GUEST_REQUEST);
}

static void read_first_result(struct domain *d)
{
	const struct winsize size = { .ws_row = 24, .ws_col = 80 }; /* nothing tells a serial console's */
	struct bh_agent_result result;
	int r = d->result_fd < 0 ? -EAGAIN : guest_runner_result(d->result_fd, &result, &d->terminal_fd);

	if (r == -EAGAIN)
		return;
	bh_close_fd(&d->result_fd);
	if (r < 0 || result.pid <= 0) {
		guest_say("%s", r < 0 ? "the image's first process could not be made" : result.failure.text);
		end(d);
	}
	d->pid = result.pid;
	if (d->terminal_fd >= 0) {
		ioctl(d->terminal_fd, TIOCSWINSZ, &size);
		bh_set_nonblock(d->terminal_fd, true);
	}
	d->listen_fd = guest_machine_listen();
}

/* What it said last is still in its terminal. */
static _Noreturn void end_after_first(struct domain *d, int status)
{
	int64_t until = now_ms() + LAST_OUTPUT_MS;

	for (int64_t left; d->console_fd >= 0 && (left = until - now_ms()) > 0;) {
		struct pollfd set[2] = { { .fd = d->console_fd, .events = POLLOUT }, { .fd = d->terminal_fd, .events = POLLIN } };

		if (pipe_is_empty(&d->to_console) && (poll(&set[1], 1, 0) != 1 || d->terminal_fd < 0))
			break;
		if (pipe_is_empty(&d->to_console) && !pipe_fill(&d->to_console, d->terminal_fd))
			break;
		if (poll(set, 1, (int)left) == 1)
			pipe_drain(&d->to_console, d->console_fd);
	}
	if (WIFSIGNALED(status))
		guest_say("the first process was ended by signal %d", WTERMSIG(status));
	else
		guest_say("the first process ended with %d", WEXITSTATUS(status));
	end(d);
}

/* --- connections ------------------------------------------------------------------------------------------------------------ */

static void accept_connection(struct domain *d)
{
	bh_auto_close int fd = guest_machine_accept(d->listen_fd);
	size_t i = 0;

	while (i < CONNECTIONS_MAX && d->servers[i])
		i++;
	if (fd < 0 || i == CONNECTIONS_MAX)
		return;
	d->servers[i] = fork();
	if (d->servers[i] == 0) {
		close(d->signal_fd);
		close(d->listen_fd);
		bh_close_fd(&d->console_fd);
		bh_close_fd(&d->terminal_fd);
		guest_agent_serve(fd);
	}
	if (d->servers[i] < 0) {
		guest_say("fork: %s", strerror(errno));
		d->servers[i] = 0;
	}
}

static void reap(struct domain *d)
{
	int status;
	pid_t pid;

	for (;;) {
		siginfo_t info = { 0 };

		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
			return;
		/* The runner's word comes before its process's end. */
		read_first_result(d);
		pid = waitpid(info.si_pid, &status, 0);
		if (pid == d->runner)
			d->runner = 0;
		if (pid == d->pid)
			end_after_first(d, status);
		for (size_t i = 0; i < CONNECTIONS_MAX; i++)
			if (d->servers[i] == pid)
				d->servers[i] = 0;
	}
}

/* --- the end that was asked for ----------------------------------------------------------------------------------------------- */

static void ask_to_end(struct domain *d)
{
	kill(d->pid, d->stop_signal);
}

static void kill_first(struct domain *d)
{
	kill(d->pid, SIGKILL);
}

static void give_up(struct domain *d)
{
	guest_say("the first process doesn't end");
	end(d);
}

static const struct {
	int64_t after_ms;
	void (*act)(struct domain *d);
} end_steps[] = { { 0, ask_to_end }, { HANG_UP_MS, hang_up }, { KILL_MS, kill_first }, { GIVE_UP_MS, give_up } };

static int time_left(const struct domain *d)
{
	int64_t left;

	if (!d->ending)
		return -1;
	left = d->asked_ms + end_steps[d->step].after_ms - now_ms();
	return (int)BH_MAX(left, (int64_t)0);
}

static void go_on_ending(struct domain *d)
{
	while (d->ending && time_left(d) == 0)
		end_steps[d->step++].act(d);
}

static void read_signals(struct domain *d)
{
	struct signalfd_siginfo info;

	while (read(d->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
		if (info.ssi_signo == SIGCHLD || d->ending)
			continue;
		d->reboot = (int)info.ssi_signo == GUEST_SIGNAL_REBOOT;
		d->ending = true;
		d->asked_ms = now_ms();
	}
	reap(d);
}

static void prepare(struct domain *d, const char *mode)
{
	int64_t number;
	sigset_t set;

	guest_machine_prepare();
	d->stop_signal = bh_parse_int(mode + strlen(GUEST_DOMAIN), 1, NSIG - 1, &number) < 0 ? SIGTERM : (int)number;
	sigfillset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, GUEST_SIGNAL_POWER_OFF);
	sigaddset(&set, GUEST_SIGNAL_REBOOT);
	d->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	open_console(d);
}

void guest_domain_main(const char *mode)
{
	static struct domain domain = { .listen_fd = -1, .console_fd = -1, .result_fd = -1, .terminal_fd = -1 };
	struct domain *d = &domain;

	prepare(d, mode);
	start_first(d);
	for (;;) {
		bool takes = pipe_is_empty(&d->to_terminal), gives = pipe_is_empty(&d->to_console);
		struct pollfd set[] = {
			{ .fd = d->signal_fd, .events = POLLIN },
			{ .fd = d->result_fd, .events = POLLIN },
			{ .fd = d->listen_fd, .events = POLLIN },
			{ .fd = d->terminal_fd < 0 && takes ? -1 : d->console_fd, .events = (short)((takes ? POLLIN : 0) | (gives ? 0 : POLLOUT)) },
			{ .fd = takes && !gives ? -1 : d->terminal_fd, .events = (short)((gives ? POLLIN : 0) | (takes ? 0 : POLLOUT)) },
		};

		if (poll(set, BH_ARRAY_SIZE(set), time_left(d)) < 0)
			continue;
		read_first_result(d);
		if (set[0].revents)
			read_signals(d);
		if (set[2].revents)
			accept_connection(d);
		serve_console(d, set[3].revents, set[4].revents);
		go_on_ending(d);
	}
}
