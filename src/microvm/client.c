/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side of agent.sock: exec and pause.
 *
 * An exec's files are given to the session. What the caller gets as the process is a child that stands for it: it passes
 * signals on and ends with its exit code; if it is killed, so is the process in the guest.
 */
#include "microvm/microvm-internal.h"

#include "base/file.h"
#include "linux/syscall.h"
#include "oci/json.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <termios.h>

static int ask(int connection, const struct bh_session_question *question, const int *fds, size_t count, struct bh_error *err)
{
	union {
		char bytes[CMSG_SPACE(BH_ASK_FDS * sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec part = { (void *)question, sizeof *question };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (count) {
		struct cmsghdr *c = &control.align;

		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(count * sizeof(int)) };
		memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	}
	return sendmsg(connection, &message, MSG_NOSIGNAL) < 0 ? bh_error_set(err, errno, "ask the microVM") : 0;
}

static int hear(int connection, struct bh_session_answer *ret_answer, struct bh_error *err)
{
	ssize_t n;

	do
		n = recv(connection, ret_answer, sizeof *ret_answer, 0);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof *ret_answer)
		return bh_error_text(err, EPIPE, "the microVM has ended");
	ret_answer->failure.text[BH_AGENT_TEXT_MAX] = '\0';
	return 0;
}

/* How a start went. */
static int take_answer(const struct bh_session_answer *answer, struct bh_error *err)
{
	if (answer->tell == BH_TELL_STARTED)
		return 0;
	if (err) {
		err->exit_code = answer->failure.exit_code & 255;
		err->of_workload = answer->failure.of_workload != 0;
	}
	return bh_error_text(err, BH_MAX(answer->failure.errnum, 0), "%s", answer->failure.text);
}

/* --- the child that stands for the process -------------------------------------------------------------------------------- */

static void send_size(int connection, int terminal_fd)
{
	struct bh_session_question q = { .ask = BH_ASK_RESIZE };
	struct winsize size = { 0 };

	if (ioctl(terminal_fd, TIOCGWINSZ, &size) < 0)
		return;
	q.size = (struct bh_agent_size){ size.ws_row, size.ws_col };
	ask(connection, &q, NULL, 0, NULL);
}

static void forward(int connection, int signal_fd, int terminal_fd)
{
	struct signalfd_siginfo info;

	while (read(signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
		const struct bh_session_question q = { .ask = BH_ASK_SIGNAL, .signal = info.ssi_signo };

		if (info.ssi_signo == SIGWINCH && terminal_fd >= 0)
			send_size(connection, terminal_fd);
		else
			ask(connection, &q, NULL, 0, NULL);
	}
}

static _Noreturn void stand_for(int connection, int terminal_fd)
{
	struct bh_session_answer answer;
	struct pollfd set[2];
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	setsid();
	if (terminal_fd >= 0)
		ioctl(terminal_fd, TIOCSCTTY, 0);
	if (terminal_fd >= 0) /* it may have been set before its signal could come here */
		send_size(connection, terminal_fd);
	set[0] = (struct pollfd){ .fd = connection, .events = POLLIN };
	set[1] = (struct pollfd){ .fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK), .events = POLLIN };
	for (;;) {
		if (poll(set, 2, -1) < 0)
			continue;
		if (set[1].revents)
			forward(connection, set[1].fd, terminal_fd);
		if (!set[0].revents)
			continue;
		if (hear(connection, &answer, NULL) < 0)
			_exit(137); /* the machine was killed, and all in it */
		if (answer.tell == BH_TELL_EXITED)
			_exit((int)(answer.exit_code & 255));
	}
}

/* Of the caller's files it keeps these two, as 3 and 4. */
static void keep_only(int connection, int terminal_fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), high = fcntl(connection, F_DUPFD_CLOEXEC, 16),
	    terminal = terminal_fd < 0 ? -1 : fcntl(terminal_fd, F_DUPFD_CLOEXEC, 16);

	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
	dup2(high, 3);
	if (terminal >= 0)
		dup2(terminal, 4);
	bh_close_range(terminal >= 0 ? 5 : 4, ~0u, 0);
}

static int clone_stand_in(int connection, int terminal_fd, pid_t *ret_pid, int *ret_pidfd, struct bh_error *err)
{
	pid_t pid = fork();

	if (pid < 0)
		return bh_error_set(err, errno, "fork");
	if (pid == 0) {
		keep_only(connection, terminal_fd);
		stand_for(3, terminal_fd < 0 ? -1 : 4);
	}
	*ret_pidfd = bh_pidfd_open(pid);
	*ret_pid = pid;
	return *ret_pidfd < 0 ? bh_error_set(err, -*ret_pidfd, "open a pidfd") : 0;
}

/* --- exec ----------------------------------------------------------------------------------------------------------------- */

static int make_request(const struct bh_microvm_exec *x, struct bh_error *err)
{
	const struct bh_microvm_request request = {
		.spec = x->spec,
		.process = x->process,
		.id = x->id,
		.user = x->user,
		.groups = x->groups,
		.privileged = x->privileged,
		.transfer = x->transfer,
	};
	bh_auto_buf struct bh_buf text = { 0 };
	bh_auto_close int fd = memfd_create("request", MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return bh_error_set(err, errno, "memfd_create");
	r = bh_microvm_request_write(&request, &text, err);
	if (r < 0)
		return r;
	r = bh_write_all(fd, text.data, text.length);
	if (r < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return bh_error_set(err, r < 0 ? -r : errno, "write the request");
	return BH_TAKE_FD(fd);
}

static int start(int connection, const struct bh_microvm_exec *x, int request_fd, int slave, struct bh_error *err)
{
	const int streams[] = { request_fd, slave >= 0 ? slave : x->stdin_fd, slave >= 0 ? -1 : x->stdout_fd, slave >= 0 ? -1 : x->stderr_fd };
	struct bh_session_question q = { .ask = x->transfer ? BH_ASK_TRANSFER : x->list ? BH_ASK_LIST : BH_ASK_EXEC, .terminal = slave >= 0 };
	struct bh_session_answer answer;
	int fds[BH_ASK_FDS], r;
	size_t count = 0;

	for (size_t i = 0; i < BH_ASK_FDS; i++) {
		q.has[i] = streams[i] >= 0;
		if (q.has[i])
			fds[count++] = streams[i];
	}
	r = ask(connection, &q, fds, count, err);
	if (r == 0)
		r = hear(connection, &answer, err);
	return r < 0 ? r : take_answer(&answer, err);
}

static void make_raw(int slave)
{
	struct termios raw;

	if (tcgetattr(slave, &raw) < 0)
		return;
	cfmakeraw(&raw);
	tcsetattr(slave, TCSANOW, &raw);
}

int bh_microvm_exec(const struct bh_microvm_exec *x, pid_t *ret_pid, int *ret_pidfd, int *ret_terminal_fd, struct bh_error *err)
{
	bh_auto_close int connection = bh_microvm_connect(x->state, err), request = -1, master = -1, slave = -1;
	int r = connection;

	if (r >= 0)
		request = r = make_request(x, err);
	if (r >= 0 && x->process->terminal) {
		r = bh_microvm_terminal(x->process->console_size.height, x->process->console_size.width, &master, &slave, err);
		if (r >= 0)
			make_raw(slave);
	}
	if (r >= 0)
		r = start(connection, x, request, slave, err);
	if (r >= 0)
		r = clone_stand_in(connection, slave, ret_pid, ret_pidfd, err);
	if (r < 0)
		return r;
	*ret_terminal_fd = BH_TAKE_FD(master);
	return 0;
}

/* --- the machine ---------------------------------------------------------------------------------------------------------- */

#define PAUSED "microvm.paused"
#define RECORD_MAX 4096
#define END_ANSWER_S 2

void bh_microvm_forget_pause(int state_fd)
{
	unlinkat(state_fd, PAUSED, 0);
}

bool bh_microvm_is_paused(const char *state)
{
	bh_auto_free char *path = bh_path_join(state, PAUSED);

	return access(path, F_OK) == 0;
}

int64_t bh_microvm_memory_limit(const char *state)
{
	bh_auto_free char *path = bh_path_join(state, BH_MICROVM_RECORD);
	bh_auto_buf struct bh_buf text = { 0 };
	json_object *record;
	int64_t memory;

	if (bh_read_file_at(AT_FDCWD, path, RECORD_MAX, &text, NULL) < 0)
		return 0;
	record = json_tokener_parse(text.data);
	memory = bh_json_int(record, "MemoryLimit", 0);
	json_object_put(record);
	return memory;
}

int bh_microvm_pause(const char *state, bool pause, struct bh_error *err)
{
	const struct bh_session_question q = { .ask = pause ? BH_ASK_PAUSE : BH_ASK_RESUME };
	bh_auto_close int connection = bh_microvm_connect(state, err), folder = -1;
	struct bh_session_answer answer;
	int r = connection < 0 ? connection : ask(connection, &q, NULL, 0, err);

	if (r == 0)
		r = hear(connection, &answer, err);
	if (r == 0)
		r = folder = bh_open_dir(AT_FDCWD, state, 0, err);
	if (r < 0)
		return r;
	if (pause)
		return bh_write_file_at(folder, PAUSED, "", 0, 0600, 0, err);
	bh_microvm_forget_pause(folder);
	return 0;
}

int bh_microvm_start_waiting(int connection, struct bh_error *err)
{
	const struct bh_session_question q = { .ask = BH_ASK_START };
	struct bh_session_answer answer;
	int r = ask(connection, &q, NULL, 0, err);

	if (r == 0)
		r = hear(connection, &answer, err);
	return r < 0 ? r : take_answer(&answer, err);
}

int bh_microvm_end(const char *state, struct bh_error *err)
{
	const struct bh_session_question q = { .ask = BH_ASK_END };
	const struct timeval limit = { .tv_sec = END_ANSWER_S };
	bh_auto_close int connection = bh_microvm_connect(state, err);
	struct bh_session_answer answer;
	int r = connection < 0 ? connection : 0;

	if (r == 0 && setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0)
		r = bh_error_set(err, errno, "limit the time for an answer");
	if (r == 0)
		r = ask(connection, &q, NULL, 0, err);
	if (r == 0)
		r = hear(connection, &answer, err);
	if (r == 0 && answer.tell != BH_TELL_DONE)
		r = bh_error_text(err, ESRCH, "%s", answer.failure.text);
	return r;
}
