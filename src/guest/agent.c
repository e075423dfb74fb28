/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent: first process of a microVM's guest. agent/message.h has the protocol.
 *
 * It knows nothing of OCI. For each process that the host wants it runs the program `bulkhead guest-process`, which is the same
 * container driver as on a host; that makes the process, tells its pid (or the reason why not) through a socket, and ends. The
 * process then is an orphan and thereby ours, so that we signal and reap it, and its pid can't become another's before we have.
 *
 * One thread, one poll(2) over the host's stream, a signalfd for SIGCHLD, and the streams of each process. What comes from the
 * host is trusted in its meaning (it owns this machine) but checked in its form. What the workload does to us is bounded: its
 * streams are pipes, and nothing of it is parsed.
 *
 * The same serves a connection to a domain's agent (domain.c) in a process of its own, where the processes end with the connection.
 *
 * The end: when the workload has ended and its output was sent, disks are synced, EXITED is the last frame, and the machine goes off.
 */
#include "guest/guest-internal.h"

#include "agent/flow.h"
#include "base/file.h"
#include "base/time.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>

#define CLOCK_TOLERANCE_NS 1000000000
#define HOST_ENDS_MS 5000
#define OUT_MAX (256u << 10) /* bytes for the host that wait; above that no stream is read */

struct process {
	uint32_t channel; /* 0: free */
	int request_fd;   /* its JSON */
	size_t request_size;
	pid_t runner, pid; /* who makes it; itself. 0: not there (any more) */
	int result_fd;
	bool terminal, ended, is_reported;
	uint32_t exit_code;
	int terminal_fd; /* for its size; streams have copies */
	struct bh_agent_size size;
	struct bh_agent_sink input;
	struct bh_agent_source output[BH_AGENT_STREAMS]; /* stdout, stderr */
	struct guest_share share;
};

static struct process processes[BH_AGENT_CHANNELS_MAX];
static int host_fd = -1;
static bool is_connection; /* one of many to a domain (domain.c): its end is not the machine's */
static struct bh_buf out, in;
static size_t out_begin;

static struct process *find(uint32_t channel)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(processes); i++)
		if (processes[i].channel == channel)
			return &processes[i];
	return NULL;
}

static void release(struct process *p)
{
	bh_close_fd(&p->request_fd);
	bh_close_fd(&p->result_fd);
	bh_close_fd(&p->terminal_fd);
	bh_agent_sink_clear(&p->input);
	bh_agent_source_clear(&p->output[BH_AGENT_STDOUT]);
	bh_agent_source_clear(&p->output[BH_AGENT_STDERR]);
	guest_share_clear(&p->share);
	p->channel = 0;
}

void guest_agent_clear(void)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(processes); i++)
		if (processes[i].channel)
			release(&processes[i]);
	bh_buf_clear(&out);
	bh_buf_clear(&in);
	out_begin = 0;
}

static struct process *acquire(uint32_t channel)
{
	struct process *p = find(channel);

	if (p)
		return p;
	p = find(0);
	if (!p)
		return NULL;
	*p = (struct process){ .channel = channel, .request_fd = memfd_create("request", MFD_CLOEXEC), .result_fd = -1, .terminal_fd = -1 };
	bh_agent_sink_init(&p->input, -1);
	bh_agent_source_init(&p->output[BH_AGENT_STDOUT], -1);
	bh_agent_source_init(&p->output[BH_AGENT_STDERR], -1);
	return p;
}

static void put_failure(struct process *p, const struct bh_agent_failure *failure)
{
	size_t length = strnlen(failure->text, BH_AGENT_TEXT_MAX);

	bh_agent_put(&out, BH_AGENT_FAILED, p->channel, 0, failure, BH_AGENT_FAILURE_MIN + length);
	release(p);
}

static void fail(struct process *p, const char *what, int errnum)
{
	struct bh_agent_failure failure = { .errnum = errnum, .exit_code = 125 };

	snprintf(failure.text, sizeof failure.text, "%s in the guest: %s", what, strerror(errnum));
	put_failure(p, &failure);
}

/* --- making a process ----------------------------------------------------------------------------------------------- */

static int make_streams(struct process *p, const struct bh_agent_run *run, int theirs[BH_AGENT_STREAMS])
{
	for (int i = 0; i < BH_AGENT_STREAMS && !run->terminal; i++) {
		bool to = i == BH_AGENT_STDIN;
		int fds[2];

		if (to && !run->has_stdin)
			continue;
		if (pipe2(fds, O_CLOEXEC) < 0)
			return -errno;
		theirs[i] = fds[to ? 0 : 1];
		bh_set_nonblock(fds[to ? 1 : 0], true);
		if (to)
			p->input.fd = fds[1];
		else
			p->output[i].fd = fds[0];
	}
	return 0;
}

static void run_share(struct process *p, const struct bh_agent_run *run)
{
	int r = p->share.fd ? -EBUSY : guest_share_mount(&p->share, run->share);

	if (r < 0)
		fail(p, "mount a folder of the host", -r);
	else
		bh_agent_put(&out, BH_AGENT_STARTED, p->channel, 0, NULL, 0);
}

static void run_process(struct process *p, const struct bh_agent_run *run)
{
	int theirs[BH_AGENT_STREAMS] = { -1, -1, -1 }, r;

	if (p->runner || p->pid || p->ended)
		return;
	p->terminal = run->terminal;
	p->size = run->size;
	r = make_streams(p, run, theirs);
	if (r == 0)
		r = guest_runner_start(p->request_fd, theirs, run->kind, &p->result_fd);
	for (int i = 0; i < BH_AGENT_STREAMS; i++)
		bh_close_fd(&theirs[i]);
	bh_close_fd(&p->request_fd);
	if (r < 0)
		fail(p, "start the process", -r);
	else
		p->runner = r;
}

static void resize(struct process *p, const struct bh_agent_size *size)
{
	const struct winsize window = { .ws_row = size->rows, .ws_col = size->columns };

	p->size = *size;
	if (p->terminal_fd >= 0 && size->rows && size->columns)
		ioctl(p->terminal_fd, TIOCSWINSZ, &window);
}

static void take_terminal(struct process *p, int fd)
{
	bh_set_nonblock(fd, true);
	p->terminal_fd = fd;
	bh_agent_sink_clear(&p->input);
	p->input.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	p->output[BH_AGENT_STDOUT].fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	resize(p, &p->size);
	bh_agent_sink_flush(&p->input);
}

/* The runner's word, if it has said it. */
static void read_result(struct process *p)
{
	struct bh_agent_result result;
	int terminal_fd, r = guest_runner_result(p->result_fd, &result, &terminal_fd);

	if (r == -EAGAIN)
		return;
	bh_close_fd(&p->result_fd);
	if (r < 0) {
		fail(p, "make the process", -r);
	} else if (result.pid <= 0) {
		bh_close_fd(&terminal_fd);
		put_failure(p, &result.failure);
	} else {
		p->pid = result.pid;
		bh_agent_put(&out, BH_AGENT_STARTED, p->channel, 0, NULL, 0);
		if (terminal_fd >= 0)
			take_terminal(p, terminal_fd);
	}
}

/* --- the end of a process ------------------------------------------------------------------------------------------- */

static void read_results(void)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(processes); i++)
		if (processes[i].channel && processes[i].result_fd >= 0)
			read_result(&processes[i]);
}

static void note_end(pid_t pid, int status)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(processes); i++) {
		struct process *p = &processes[i];

		if (p->channel && p->runner == pid)
			p->runner = 0;
		if (!p->channel || p->pid != pid)
			continue;
		p->pid = 0;
		p->ended = true;
		p->exit_code = WIFSIGNALED(status) ? 128u + (unsigned)WTERMSIG(status) : (unsigned)WEXITSTATUS(status);
	}
}

static void reap(void)
{
	for (;;) {
		siginfo_t info = { 0 };
		int status;

		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
			return;
		/* If it is a process of a runner, then that has ended before it became ours, and spoken before it ended. */
		read_results();
		if (waitpid(info.si_pid, &status, 0) == info.si_pid)
			note_end(info.si_pid, status);
	}
}

/* Writes all that waits, to the last byte. */
static void flush_all(void)
{
	struct pollfd p = { .fd = host_fd, .events = POLLOUT };

	while (out_begin < out.length && poll(&p, 1, -1) >= 0) {
		ssize_t n = write(host_fd, out.data + out_begin, out.length - out_begin);

		if (n > 0)
			out_begin += (size_t)n;
		else if (n < 0 && errno != EAGAIN && errno != EINTR)
			return;
	}
}

/* What was sent may still be on its way, in the kernel or in the device's queue, and would go with the machine. The host ends the machine, or the
 * connection, when it has heard how the workload ended; one that does neither is waited for HOST_ENDS_MS. */
static void await_host(void)
{
	struct pollfd p = { .fd = host_fd, .events = POLLIN };
	char bytes[256];

	for (int64_t end_ns = bh_monotonic_ns() + HOST_ENDS_MS * 1000000LL, left_ns; (left_ns = end_ns - bh_monotonic_ns()) > 0;) {
		ssize_t n;

		if (poll(&p, 1, (int)(left_ns / 1000000) + 1) <= 0)
			continue;
		n = read(host_fd, bytes, sizeof bytes);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return;
	}
}

/* Those of this connection, also one that is just being made. */
static void kill_all(void)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(processes); i++)
		if (processes[i].channel && processes[i].runner) {
			kill(processes[i].runner, SIGKILL);
			waitpid(processes[i].runner, NULL, 0);
		}
	read_results();
	for (size_t i = 0; i < BH_ARRAY_SIZE(processes); i++)
		if (processes[i].channel && processes[i].pid)
			kill(processes[i].pid, SIGKILL);
}

/* Nobody hears us any more. */
static _Noreturn void leave(void)
{
	if (!is_connection)
		guest_machine_power_off();
	kill_all();
	_exit(0);
}

/* An ended process whose output is sent. What still holds a further process's pipe open doesn't hold up its end for ever: when
 * nothing more is there to read, that is all. */
static void finish_ended(void)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(processes); i++) {
		struct process *p = &processes[i];

		if (!p->channel || !p->ended || p->output[BH_AGENT_STDOUT].fd >= 0 || p->output[BH_AGENT_STDERR].fd >= 0)
			continue;
		if (p->channel == BH_AGENT_WORKLOAD && !is_connection)
			guest_machine_sync();
		bh_agent_put(&out, BH_AGENT_EXITED, p->channel, 0, &p->exit_code, sizeof p->exit_code);
		if (p->channel == BH_AGENT_WORKLOAD && !is_connection) {
			flush_all();
			await_host();
			guest_machine_power_off();
		}
		release(p);
	}
}

/* --- frames of the host --------------------------------------------------------------------------------------------- */

static void add_request(struct process *p, const struct bh_agent_frame *f)
{
	p->request_size += f->length;
	if (p->request_size <= BH_AGENT_REQUEST_MAX && p->request_fd >= 0 && bh_write_all(p->request_fd, f->payload, f->length) == 0)
		return;
	fail(p, "keep the request", ENOSPC);
}

static void signal_process(const struct process *p, const struct bh_agent_frame *f)
{
	uint32_t number;

	memcpy(&number, f->payload, sizeof number);
	if (p->pid && number < NSIG)
		kill(p->pid, (int)number);
}

static void act_on_process(const struct bh_agent_frame *f)
{
	struct process *p = f->type == BH_AGENT_REQUEST ? acquire(f->channel) : find(f->channel);
	struct bh_agent_run run;
	struct bh_agent_size size;

	if (!p) /* it has ended meanwhile */
		return;
	switch (f->type) {
	case BH_AGENT_REQUEST:
		add_request(p, f);
		return;
	case BH_AGENT_RUN:
		memcpy(&run, f->payload, sizeof run);
		if (run.kind == BH_AGENT_SHARE)
			run_share(p, &run);
		else
			run_process(p, &run);
		return;
	case BH_AGENT_DATA:
		bh_agent_sink_receive(&p->input, f->payload, f->length); /* of a share: counted only */
		if (p->share.fd)
			guest_share_take(&p->share, f->payload, f->length);
		return;
	case BH_AGENT_END:
		if (!p->terminal)
			bh_agent_sink_end(&p->input);
		return;
	case BH_AGENT_CREDIT:
		bh_agent_source_credit(&p->output[f->stream], f->payload);
		return;
	case BH_AGENT_RESIZE:
		memcpy(&size, f->payload, sizeof size);
		resize(p, &size);
		return;
	default:
		signal_process(p, f);
		return;
	}
}

/* A machine that was saved and restored has the time of then; one that keeps its own clock isn't disturbed. */
static void greet(struct bh_agent_hello hello)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (is_connection && llabs(hello.now_ns - ((int64_t)now.tv_sec * 1000000000 + now.tv_nsec)) < CLOCK_TOLERANCE_NS)
		hello.now_ns = 0;
	guest_machine_greet(&hello);
}

static void act(const struct bh_agent_frame *f)
{
	struct bh_agent_hello hello;
	int64_t now_ns;
	uint32_t power;

	if (f->channel) {
		act_on_process(f);
	} else if (f->type == BH_AGENT_HELLO) {
		memcpy(&hello, f->payload, sizeof hello);
		greet(hello);
	} else if (f->type == BH_AGENT_CLOCK) {
		memcpy(&now_ns, f->payload, sizeof now_ns);
		guest_machine_set_clock(now_ns);
	} else if (is_connection) {
		memcpy(&power, f->payload, sizeof power);
		kill(1, power == BH_AGENT_REBOOT ? GUEST_SIGNAL_REBOOT : GUEST_SIGNAL_POWER_OFF);
		leave();
	}
}

int guest_agent_take(const void *bytes, size_t length, struct bh_error *err)
{
	struct bh_agent_frame frame;
	size_t at = 0, used;
	int r;

	bh_buf_add(&in, bytes, length);
	while ((r = bh_agent_take(BH_AGENT_HOST, in.data + at, in.length - at, &frame, &used, err)) > 0) {
		act(&frame);
		at += used;
	}
	memmove(in.data, in.data + at, in.length - at);
	in.length -= at;
	return r;
}

static void read_host(void)
{
	char bytes[65536];
	ssize_t n = read(host_fd, bytes, sizeof bytes);
	struct bh_error err = BH_ERROR_INIT;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		if (!is_connection) /* whose end is nothing to tell */
			guest_say("the host is gone");
	} else if (guest_agent_take(bytes, (size_t)n, &err) < 0) {
		guest_say("%s", err.message);
	} else {
		return;
	}
	leave();
}

/* --- the loop ------------------------------------------------------------------------------------------------------- */

#define WATCHED_MAX (2 + 4 * BH_AGENT_CHANNELS_MAX)
static struct pollfd watched[WATCHED_MAX];

static void watch(size_t at, int fd, short events)
{
	watched[at] = (struct pollfd){ .fd = events ? fd : -1, .events = events };
}

static void watch_all(int signal_fd)
{
	bool room = out.length - out_begin < OUT_MAX;

	watch(0, host_fd, (short)(POLLIN | (out_begin < out.length ? POLLOUT : 0)));
	watch(1, signal_fd, POLLIN);
	for (size_t i = 0; i < BH_AGENT_CHANNELS_MAX; i++) {
		struct process *p = &processes[i];
		size_t at = 2 + 4 * i;

		if (!p->channel) {
			for (size_t k = 0; k < 4; k++)
				watch(at + k, -1, 0);
			continue;
		}
		watch(at, p->result_fd, POLLIN);
		watch(at + 1, p->input.fd, bh_agent_sink_is_empty(&p->input) ? 0 : POLLOUT);
		for (int stream = BH_AGENT_STDOUT; stream <= BH_AGENT_STDERR; stream++)
			watch(at + 1 + (size_t)stream, p->output[stream].fd, room && p->output[stream].credit ? POLLIN : 0);
		if (p->share.fd)
			watch(at + 1 + BH_AGENT_STDOUT, p->share.fd, p->share.is_busy ? 0 : POLLIN);
	}
}

/* An ended process's stream that others hold open gives what is there, and then its end. */
static void read_stream(struct process *p, int stream, bool readable)
{
	struct pollfd one = { .fd = p->output[stream].fd, .events = POLLIN };

	if (one.fd < 0)
		return;
	if (readable)
		bh_agent_source_read(&p->output[stream], p->channel, (enum bh_agent_stream)stream, &out);
	else if (p->ended && p->output[stream].credit && poll(&one, 1, 0) == 0) {
		bh_agent_put(&out, BH_AGENT_END, p->channel, (enum bh_agent_stream)stream, NULL, 0);
		bh_agent_source_clear(&p->output[stream]);
	}
}

static void serve_processes(void)
{
	for (size_t i = 0; i < BH_AGENT_CHANNELS_MAX; i++) {
		struct process *p = &processes[i];
		size_t at = 2 + 4 * i;

		if (!p->channel)
			continue;
		bh_agent_sink_flush(&p->input);
		bh_agent_sink_credit(&p->input, p->channel, BH_AGENT_STDIN, &out);
		if (p->share.fd) {
			guest_share_read(&p->share);
			guest_share_send(&p->share, &p->output[BH_AGENT_STDOUT], p->channel, &out);
			continue;
		}
		for (int stream = BH_AGENT_STDOUT; stream <= BH_AGENT_STDERR; stream++)
			read_stream(p, stream, watched[at + 1 + (size_t)stream].revents != 0);
	}
}

static void write_host(void)
{
	ssize_t n = out_begin < out.length ? write(host_fd, out.data + out_begin, out.length - out_begin) : 0;

	if (n > 0)
		out_begin += (size_t)n;
	if (out_begin < out.length && out_begin < OUT_MAX)
		return;
	memmove(out.data, out.data + out_begin, out.length - out_begin);
	out.length -= out_begin;
	out_begin = 0;
}

static int block_signals(void)
{
	sigset_t set;

	sigfillset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static _Noreturn void serve(int signal_fd)
{
	const struct bh_agent_hello hello = { .version = BH_AGENT_VERSION };
	struct signalfd_siginfo signals[8];

	bh_agent_put(&out, BH_AGENT_HELLO, 0, 0, &hello, sizeof hello);
	/* A port takes its first byte when the host has connected. */
	if (host_fd < 0 || bh_write_all(host_fd, out.data, out.length) < 0)
		leave();
	bh_buf_reset(&out);
	bh_set_nonblock(host_fd, true);
	for (;;) {
		watch_all(signal_fd);
		if (poll(watched, WATCHED_MAX, -1) < 0)
			continue;
		while (read(signal_fd, signals, sizeof signals) > 0)
			continue;
		read_results();
		reap();
		if (watched[0].revents & (POLLIN | POLLHUP | POLLERR))
			read_host();
		serve_processes();
		finish_ended();
		write_host();
	}
}

void guest_agent_main(const char *transport)
{
	int signal_fd;

	guest_machine_prepare();
	signal_fd = block_signals();
	host_fd = guest_machine_connect(transport);
	serve(signal_fd);
}

void guest_agent_serve(int connection_fd)
{
	is_connection = true;
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* what the runners leave is ours */
	host_fd = connection_fd;
	serve(block_signals());
}
