/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of a domain's agent: connections, an exec with its streams and ends, the request to power off. A child plays the guest. */
#include "microvm/microvm-internal.h"

#include "base/file.h"
#include "linux/socket.h"
#include "oci/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

/* --- the guest ---------------------------------------------------------------------------------------------------------------- */

struct guest {
	int fd;
	struct bh_buf in;
};

static void put(struct guest *g, enum bh_agent_type type, uint32_t channel, enum bh_agent_stream stream, const void *payload, size_t length)
{
	struct bh_buf out = { 0 };

	bh_agent_put(&out, type, channel, stream, payload, length);
	if (bh_write_all(g->fd, out.data, out.length) < 0)
		_exit(1);
	bh_buf_clear(&out);
}

/* Waits for the next frame of this kind; others are passed over. */
static struct bh_agent_frame take(struct guest *g, enum bh_agent_type type)
{
	static char payload[BH_AGENT_PAYLOAD_MAX];

	for (;;) {
		struct bh_agent_frame frame;
		char bytes[4096];
		size_t used;
		ssize_t n;
		int r;

		while ((r = bh_agent_take(BH_AGENT_HOST, g->in.data, g->in.length, &frame, &used, NULL)) > 0) {
			memcpy(payload, frame.payload, frame.length);
			frame.payload = payload;
			g->in.length -= used;
			memmove(g->in.data, g->in.data + used, g->in.length);
			if (frame.type == type)
				return frame;
		}
		n = r < 0 ? -1 : read(g->fd, bytes, sizeof bytes);
		if (n <= 0)
			_exit(2);
		bh_buf_add(&g->in, bytes, (size_t)n);
	}
}

static void greet(struct guest *g, uint32_t version)
{
	const struct bh_agent_hello hello = { .version = version };

	put(g, BH_AGENT_HELLO, 0, 0, &hello, sizeof hello);
	take(g, BH_AGENT_HELLO);
}

static void finish(struct guest *g, uint32_t code)
{
	put(g, BH_AGENT_END, 1, BH_AGENT_STDOUT, NULL, 0);
	put(g, BH_AGENT_EXITED, 1, 0, &code, sizeof code);
}

/* Gives back what it gets, tells what it was asked to run on standard error, and ends with 5. */
static void play_cat(struct guest *g)
{
	struct bh_agent_frame f;

	greet(g, BH_AGENT_VERSION);
	f = take(g, BH_AGENT_REQUEST);
	put(g, BH_AGENT_STARTED, 1, 0, NULL, 0);
	put(g, BH_AGENT_DATA, 1, BH_AGENT_STDERR, f.payload, f.length);
	f = take(g, BH_AGENT_DATA);
	put(g, BH_AGENT_DATA, 1, BH_AGENT_STDOUT, f.payload, f.length);
	take(g, BH_AGENT_END);
	finish(g, 5);
}

static void play_nowhere(struct guest *g)
{
	struct bh_agent_failure failure = { .errnum = ENOENT, .exit_code = 127, .of_workload = 1, .text = "exec: \"x\"\033[2J" };

	greet(g, BH_AGENT_VERSION);
	take(g, BH_AGENT_RUN);
	put(g, BH_AGENT_FAILED, 1, 0, &failure, BH_AGENT_FAILURE_MIN + strlen(failure.text));
}

static void play_power_failure(struct guest *g)
{
	greet(g, BH_AGENT_VERSION);
	take(g, BH_AGENT_RUN);
	put(g, BH_AGENT_STARTED, 1, 0, NULL, 0);
}

static void play_other_version(struct guest *g)
{
	greet(g, BH_AGENT_VERSION + 1);
}

static void play_liar(struct guest *g)
{
	greet(g, BH_AGENT_VERSION);
	take(g, BH_AGENT_RUN);
	put(g, BH_AGENT_STARTED, 2, 0, NULL, 0);
}

/* Ends with the number of the signal it gets. */
static void play_signalled(struct guest *g)
{
	uint32_t number;

	greet(g, BH_AGENT_VERSION);
	take(g, BH_AGENT_RUN);
	put(g, BH_AGENT_STARTED, 1, 0, NULL, 0);
	memcpy(&number, take(g, BH_AGENT_SIGNAL).payload, sizeof number);
	finish(g, number);
}

/* Ends with the terminal's columns once they have changed, and says what the first ones were. */
static void play_terminal(struct guest *g)
{
	struct bh_agent_run run;
	struct bh_agent_size size;
	char text[32];

	greet(g, BH_AGENT_VERSION);
	memcpy(&run, take(g, BH_AGENT_RUN).payload, sizeof run);
	snprintf(text, sizeof text, "%d %d %d\n", run.terminal, run.size.rows, run.size.columns);
	put(g, BH_AGENT_STARTED, 1, 0, NULL, 0);
	put(g, BH_AGENT_DATA, 1, BH_AGENT_STDOUT, text, strlen(text));
	memcpy(&size, take(g, BH_AGENT_RESIZE).payload, sizeof size);
	finish(g, size.columns);
}

static void play_powered(struct guest *g)
{
	const struct bh_agent_hello hello = { .version = BH_AGENT_VERSION };
	uint32_t power;

	put(g, BH_AGENT_HELLO, 0, 0, &hello, sizeof hello);
	memcpy(&power, take(g, BH_AGENT_POWER).payload, sizeof power);
	_exit(power == BH_AGENT_REBOOT ? 42 : 41);
}

static int start_guest(void (*play)(struct guest *g), pid_t *ret_pid)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	*ret_pid = fork();
	if (*ret_pid == 0) {
		struct guest guest = { .fd = fds[1] };

		close(fds[0]);
		play(&guest);
		_exit(0);
	}
	close(fds[1]);
	return fds[0];
}

static int ended_with(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* --- exec ----------------------------------------------------------------------------------------------------------------------- */

struct run {
	struct bh_spec spec;
	pid_t guest, pid;
	int pidfd, terminal_fd;
	int in[2], out[2], err[2];
};

static int run(struct run *x, void (*play)(struct guest *g), bool terminal, struct bh_error *err)
{
	struct bh_microvm_exec request = { .id = "box", .spec = &x->spec, .process = &x->spec.process, .user = "somebody" };
	int stream, r;

	bh_spec_default(&x->spec);
	bh_strv_add(&x->spec.process.args, "some-command");
	x->spec.process.terminal = terminal;
	if (terminal) {
		x->spec.process.console_size.height = 24;
		x->spec.process.console_size.width = 80;
	}
	x->pidfd = x->terminal_fd = -1;
	stream = start_guest(play, &x->guest); /* before the pipes, which it must not hold open */
	assert_int_equal(pipe2(x->in, O_CLOEXEC) | pipe2(x->out, O_CLOEXEC) | pipe2(x->err, O_CLOEXEC), 0);
	request.stdin_fd = terminal ? -1 : x->in[0];
	request.stdout_fd = terminal ? -1 : x->out[1];
	request.stderr_fd = terminal ? -1 : x->err[1];
	r = bh_microvm_domain_exec(stream, &request, true, &x->pid, &x->pidfd, &x->terminal_fd, err);
	close(stream);
	close(x->in[0]);
	close(x->out[1]);
	close(x->err[1]);
	return r;
}

static void run_clear(struct run *x)
{
	waitpid(x->guest, NULL, 0);
	bh_spec_clear(&x->spec);
	bh_close_fd(&x->pidfd);
	bh_close_fd(&x->terminal_fd);
	bh_close_fd(&x->in[1]);
	close(x->out[0]);
	close(x->err[0]);
}

/* A session becomes a user of its own. */
static bool is_root(void)
{
	return geteuid() == 0;
}

static void test_an_exec_has_its_streams_and_its_exit_code(void **state)
{
	bh_auto_buf struct bh_buf out = { 0 }, told = { 0 };
	struct run x = { 0 };

	(void)state;
	if (!is_root())
		skip();
	assert_int_equal(run(&x, play_cat, false, NULL), 0);
	assert_int_equal(write(x.in[1], "hello", 5), 5);
	bh_close_fd(&x.in[1]);
	assert_int_equal(bh_read_fd(x.out[0], 4096, &out), 0);
	assert_int_equal(bh_read_fd(x.err[0], 65536, &told), 0);
	assert_string_equal(out.data, "hello");
	assert_non_null(strstr(told.data, "\"user\":\"somebody\""));
	assert_non_null(strstr(told.data, "some-command"));
	assert_int_equal(ended_with(x.pid), 5);
	run_clear(&x);
}

static void test_what_the_guest_says_of_a_failure_is_the_error(void **state)
{
	struct bh_error err = BH_ERROR_INIT;
	struct run x = { 0 };

	(void)state;
	if (!is_root())
		skip();
	assert_int_equal(run(&x, play_nowhere, false, &err), -ENOENT);
	assert_string_equal(err.message, "exec: \"x\"?[2J");
	assert_int_equal(err.exit_code, 127);
	assert_true(err.of_workload);
	run_clear(&x);
}

static void test_a_machine_that_ends_has_killed_it(void **state)
{
	bh_auto_buf struct bh_buf told = { 0 };
	struct run x = { 0 };

	(void)state;
	if (!is_root())
		skip();
	assert_int_equal(run(&x, play_power_failure, false, NULL), 0);
	assert_int_equal(bh_read_fd(x.err[0], 4096, &told), 0);
	assert_string_equal(told.data, "bulkhead: the virtual machine ended\n");
	assert_int_equal(ended_with(x.pid), 137);
	run_clear(&x);
}

static void test_a_guest_that_breaks_the_rules_is_left(void **state)
{
	struct bh_error err = BH_ERROR_INIT;
	struct run x = { 0 }, y = { 0 };

	(void)state;
	if (!is_root())
		skip();
	assert_true(run(&x, play_liar, false, &err) < 0);
	assert_non_null(strstr(err.message, "broke the protocol"));
	run_clear(&x);
	err = (struct bh_error)BH_ERROR_INIT;
	assert_true(run(&y, play_other_version, false, &err) < 0);
	assert_non_null(strstr(err.message, "another version"));
	run_clear(&y);
}

static void test_signals_are_passed_on(void **state)
{
	struct run x = { 0 };

	(void)state;
	if (!is_root())
		skip();
	assert_int_equal(run(&x, play_signalled, false, NULL), 0);
	assert_int_equal(kill(x.pid, SIGUSR2), 0);
	assert_int_equal(ended_with(x.pid), SIGUSR2);
	run_clear(&x);
}

static void test_a_terminal_has_its_size(void **state)
{
	const struct winsize size = { .ws_row = 30, .ws_col = 99 };
	char text[32] = "";
	struct run x = { 0 };

	(void)state;
	if (!is_root())
		skip();
	assert_int_equal(run(&x, play_terminal, true, NULL), 0);
	assert_true(x.terminal_fd >= 0);
	assert_true(read(x.terminal_fd, text, sizeof text - 1) > 0);
	assert_string_equal(text, "1 24 80\n");
	assert_int_equal(ioctl(x.terminal_fd, TIOCSWINSZ, &size), 0);
	assert_int_equal(ended_with(x.pid), 99);
	run_clear(&x);
}

/* --- connections ------------------------------------------------------------------------------------------------------------------ */

static int ask(const char *answer, int timeout_ms, struct bh_error *err)
{
	char folder[] = "/tmp/bulkhead-unit.XXXXXX", question[64] = "";
	bh_auto_free char *path = NULL;
	int listener, fd;
	pid_t pid;

	assert_non_null(mkdtemp(folder));
	path = bh_printf("%s/socket", folder);
	listener = bh_unix_listen(path, NULL);
	assert_true(listener >= 0);
	pid = fork();
	if (pid == 0) {
		int peer = accept(listener, NULL, NULL);

		if (recv(peer, question, sizeof question - 1, 0) < 0 || strcmp(question, "CONNECT 1024\n") != 0)
			_exit(1);
		(void)!write(peer, answer, strlen(answer));
		if (timeout_ms < 1000) /* it is silent, and stays */
			recv(peer, question, 1, 0);
		_exit(0);
	}
	close(listener);
	fd = bh_microvm_domain_connect(path, timeout_ms, err);
	if (fd < 0)
		ended_with(pid);
	else
		assert_int_equal(ended_with(pid), 0);
	unlink(path);
	rmdir(folder);
	return fd;
}

static void test_a_connection_begins_behind_the_answer(void **state)
{
	char rest[8] = "";
	int fd = ask("OK 1073741824\nrest", 10000, NULL);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(read(fd, rest, sizeof rest - 1), 4);
	assert_string_equal(rest, "rest");
	close(fd);
}

static void test_a_refusal_is_told_from_nonsense(void **state)
{
	struct bh_error err = BH_ERROR_INIT;

	(void)state;
	assert_int_equal(bh_microvm_domain_connect("/nowhere/socket", 10000, &err), -EAGAIN);
	assert_int_equal(ask("", 10000, &err), -EAGAIN);
	assert_int_equal(ask("OK", 10000, &err), -EAGAIN);
	assert_int_equal(ask("NO\n", 10000, &err), -EPROTO);
	assert_int_equal(ask("OK 123456789012345678901234567890", 10000, &err), -EPROTO);
	assert_int_equal(ask("O", 50, &err), -ETIMEDOUT);
}

static void test_power_is_told_and_understood(void **state)
{
	pid_t pid;
	int fd = start_guest(play_powered, &pid);

	(void)state;
	assert_int_equal(bh_microvm_domain_power(fd, false, NULL), 0);
	assert_int_equal(ended_with(pid), 41);
	close(fd);
	fd = start_guest(play_powered, &pid);
	assert_int_equal(bh_microvm_domain_power(fd, true, NULL), 0);
	assert_int_equal(ended_with(pid), 42);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_exec_has_its_streams_and_its_exit_code),
		cmocka_unit_test(test_what_the_guest_says_of_a_failure_is_the_error),
		cmocka_unit_test(test_a_machine_that_ends_has_killed_it),
		cmocka_unit_test(test_a_guest_that_breaks_the_rules_is_left),
		cmocka_unit_test(test_signals_are_passed_on),
		cmocka_unit_test(test_a_terminal_has_its_size),
		cmocka_unit_test(test_a_connection_begins_behind_the_answer),
		cmocka_unit_test(test_a_refusal_is_told_from_nonsense),
		cmocka_unit_test(test_power_is_told_and_understood),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
