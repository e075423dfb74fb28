/* SPDX-License-Identifier: Apache-2.0 */
// timeout: 300
// lab: always
/*
 * The container driver and linux.seccomp: the agent of a filter with a listener, every action as a workload sees it,
 * filters under which nothing can be started. Needs root.
 */
#pragma GCC diagnostic ignored "-Wunused-function" /* of the fixture */
#include "container-test.h"

#include <linux/seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct bh_spec_seccomp_rule *add_rule(struct bh_spec *s, const char *name, const char *action)
{
	struct bh_spec_seccomp *f = &s->seccomp;
	struct bh_spec_seccomp_rule *rule;

	f->rules = bh_realloc(f->rules, (f->rule_count + 1) * sizeof *f->rules);
	rule = &f->rules[f->rule_count++];
	*rule = (struct bh_spec_seccomp_rule){ .action = bh_strdup(action) };
	bh_strv_add(&rule->names, name);
	return rule;
}

static struct bh_spec *filtered(void **state, const char *default_action)
{
	struct bh_spec *s = fixture(state);

	s->seccomp.source = BH_SECCOMP_RULES;
	s->seccomp.default_action = bh_strdup(default_action);
	return s;
}

/* --- the agent ------------------------------------------------------------------------------------------------------ */

static int receive_listener(int connection, char *text, size_t size)
{
	char space[CMSG_SPACE(sizeof(int))];
	struct iovec part = { text, size - 1 };
	struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space };
	ssize_t n = recvmsg(connection, &header, 0);
	int fd = -1;

	if (n <= 0 || !CMSG_FIRSTHDR(&header))
		return -1;
	text[n] = '\0';
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof fd);
	return fd;
}

/* Answers every call it is asked about with this errno, until nobody is left who could ask. */
static void answer(int listener, int errnum)
{
	for (;;) {
		struct seccomp_notif question;
		struct seccomp_notif_resp reply;
		struct pollfd p = { listener, POLLIN, 0 };

		if (poll(&p, 1, 10000) <= 0 || !(p.revents & POLLIN))
			return;
		memset(&question, 0, sizeof question);
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &question) < 0)
			return;
		reply = (struct seccomp_notif_resp){ .id = question.id, .error = -errnum };
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &reply);
	}
}

/* An agent at `socket` of the test's folder that leaves what it got in the file `agent`, once for each connection. */
static pid_t start_agent(int connections)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t pid;

	snprintf(address.sun_path, sizeof address.sun_path, "%s", in_test("socket"));
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(fd, 4), 0);
	pid = fork();
	if (pid == 0) {
		for (int i = 0; i < connections; i++) {
			char text[4096] = "";
			int connection = accept(fd, NULL, NULL), listener = receive_listener(connection, text, sizeof text);
			bh_auto_free char *name = bh_printf("agent%d", i);

			bh_write_file_at(AT_FDCWD, in_test(name), text, strlen(text), 0644, 0, NULL);
			if (fork() == 0) {
				answer(listener, 100 + i);
				_exit(0);
			}
			close(listener);
			close(connection);
		}
		while (wait(NULL) > 0)
			continue;
		_exit(0);
	}
	close(fd);
	return pid;
}

static void end_agent(pid_t pid)
{
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	unlink(in_test("socket"));
}

static struct bh_spec *with_agent(void **state)
{
	struct bh_spec *s = filtered(state, "SCMP_ACT_ALLOW");

	add_rule(s, "mkdir", "SCMP_ACT_NOTIFY");
	s->seccomp.listener_path = bh_strdup(in_test("socket"));
	s->seccomp.listener_metadata = bh_strdup("of \"ours\"");
	bh_strv_add(&s->annotations, "org.example=1");
	request.id = "boxid";
	request.bundle = folder;
	return s;
}

static void test_notify(void **state)
{
	for (int two_steps = 0; two_steps < 2; two_steps++) {
		struct bh_spec *s = with_agent(state);
		pid_t agent = start_agent(1);

		create_first = two_steps;
		assert_int_equal(run(s, "echo pid $$; mkdir /tmp/x"), 1);
		expect("mkdir: can't create directory '/tmp/x': Network is down"); /* 100 */
		end_agent(agent);
		read_back("agent0");
		expect("{\"ociVersion\":\"1.2.0\",\"fds\":[\"seccompFd\"],\"pid\":");
		expect(",\"metadata\":\"of \\\"ours\\\"\",\"state\":{\"ociVersion\":\"1.2.0\",\"id\":\"boxid\",\"status\":\"creating\",\"pid\":");
		expect(",\"annotations\":{\"org.example\":\"1\"}}}");
		expect_not("\"pid\":1,");
	}
}

static void test_notify_exec(void **state)
{
	struct bh_spec *s = with_agent(state);
	pid_t agent = start_agent(2);
	struct bh_container_process p;

	set_command(s, "sleep 63");
	start(s, &p);
	assert_int_equal(exec_in(s, &p, "mkdir /tmp/x"), 1);
	expect("can't create directory '/tmp/x': Network is unreachable"); /* 101 */
	kill(p.pid, SIGKILL);
	finish(&p);
	end_agent(agent);
	read_back("agent1");
	expect("\"status\":\"running\"");
}

static void test_notify_with_start_hooks(void **state)
{
	struct bh_spec *s = with_agent(state);
	pid_t agent = start_agent(1);

	create_first = true;
	add_hook(&s->hooks.start_container, "start", "mkdir /tmp/hook 2>/tmp/hook-error; exit 0", 0);
	assert_int_equal(run(s, "cat /tmp/hook-error"), 0);
	expect("Network is down");
	end_agent(agent);
	free_hooks(&s->hooks.start_container);
}

static void test_notify_refused(void **state)
{
	static const char *const needed[] = { "sendmsg", "write", "read", "accept4" };
	struct bh_spec *s = with_agent(state);

	assert_int_equal(run(s, "true"), 125);
	expect_error("failed to connect with seccomp agent specified in the seccomp profile");
	free(s->seccomp.listener_path);
	s->seccomp.listener_path = NULL;
	assert_int_equal(run(s, "true"), 125);
	expect_error("seccomp listenerPath is not set");
	for (size_t i = 0; i < BH_ARRAY_SIZE(needed); i++) {
		bh_auto_free char *words = bh_printf("SCMP_ACT_NOTIFY cannot be used for the %s syscall", needed[i]);

		s = with_agent(state);
		add_rule(s, needed[i], "SCMP_ACT_NOTIFY");
		create_first = true;
		assert_int_equal(run(s, "true"), 125);
		expect_error(words);
	}
	s = with_agent(state);
	add_rule(s, "sendmsg", "SCMP_ACT_ERRNO");
	assert_int_equal(run(s, "true"), 125);
	expect_error("with SCMP_ACT_NOTIFY the sendmsg syscall must be allowed");
	s = filtered(state, "SCMP_ACT_NOTIFY");
	assert_int_equal(run(s, "true"), 125);
	expect_error("SCMP_ACT_NOTIFY cannot be used as default action");
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* --- actions ---------------------------------------------------------------------------------------------------------- */

static void test_actions(void **state)
{
	static const struct {
		const char *action;
		bool errno_set;
		uint32_t errno_ret;
		int exit_code;
		const char *expected;
	} cases[] = {
		{ "SCMP_ACT_ERRNO", false, 0, 1, "Operation not permitted" },
		{ "SCMP_ACT_ERRNO", true, 28, 1, "No space left on device" },
		{ "SCMP_ACT_TRACE", true, 5, 1, "Function not " },
		{ "SCMP_ACT_KILL", false, 0, 128 + SIGSYS, "" },
		{ "SCMP_ACT_KILL_THREAD", false, 0, 128 + SIGSYS, "" },
		{ "SCMP_ACT_KILL_PROCESS", false, 0, 128 + SIGSYS, "" },
		{ "SCMP_ACT_TRAP", false, 0, 128 + SIGSYS, "" },
		{ "SCMP_ACT_LOG", false, 0, 0, "" },
		{ "SCMP_ACT_ALLOW", false, 0, 0, "" },
	};

	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		struct bh_spec *s = filtered(state, i % 2 ? "SCMP_ACT_ALLOW" : "SCMP_ACT_LOG");
		struct bh_spec_seccomp_rule *rule = add_rule(s, "mkdir", cases[i].action);

		rmdir(in_test("root/tmp/x"));
		rule->errno_set = cases[i].errno_set;
		rule->errno_ret = cases[i].errno_ret;
		bh_strv_add(&rule->names, "no_such_call");
		assert_int_equal(run(s, "busybox mkdir /tmp/x; e=$?; true; exit $e"), cases[i].exit_code);
		expect(cases[i].expected);
		assert_int_equal(access(in_test("root/tmp/x"), F_OK), cases[i].exit_code ? -1 : 0);
	}
	rmdir(in_test("root/tmp/x"));
}

static void test_flags(void **state)
{
	static const char *const flags[] = { "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
					     "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" };

	for (size_t i = 0; i < BH_ARRAY_SIZE(flags); i++) {
		struct bh_spec *s = with_agent(state);
		pid_t agent = start_agent(1);

		bh_strv_add(&s->seccomp.flags, flags[i]);
		assert_int_equal(run(s, "mkdir /tmp/x"), 1);
		expect("Network is down");
		end_agent(agent);
	}
}

static void test_nothing_can_start(void **state)
{
	static const char *const defaults[] = { "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_TRACE" };

	for (int two_steps = 0; two_steps < 2; two_steps++) {
		for (size_t i = 0; i < BH_ARRAY_SIZE(defaults); i++) {
			struct bh_spec *s = filtered(state, defaults[i]);

			create_first = two_steps;
			assert_int_equal(run(s, "true"), 125);
			expect_error("the filter does not allow execve");
		}
	}
#ifdef __SANITIZE_ADDRESS__
	/* The sanitizer's own calls behind the filter would fail, and then its attempt to end. */
	return;
#endif
	/* Only what the start itself needs: the workload is executed, and can do no more than fail. */
	for (int two_steps = 0; two_steps < 2; two_steps++) {
		struct bh_spec *s = filtered(state, "SCMP_ACT_ERRNO");

		create_first = two_steps;
		add_rule(s, "execve", "SCMP_ACT_ALLOW");
		s->process.no_new_privileges = true;
		assert_int_not_equal(run(s, "true"), 0);
		assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	}
}

static void test_unknown_words(void **state)
{
	struct bh_spec *s = filtered(state, "SCMP_ACT_MAYBE");

	assert_int_equal(run(s, "true"), 125);
	expect_error("linux.seccomp: string SCMP_ACT_MAYBE is not a valid action for seccomp");
	s = filtered(state, "SCMP_ACT_ALLOW");
	bh_strv_add(&s->seccomp.architectures, "SCMP_ARCH_VAX");
	assert_int_equal(run(s, "true"), 125);
	expect_error("linux.seccomp: string SCMP_ARCH_VAX is not a valid arch for seccomp");
	s = filtered(state, "SCMP_ACT_ALLOW");
	bh_strv_add(&s->seccomp.flags, "SECCOMP_FILTER_FLAG_NEW");
	assert_int_equal(run(s, "true"), 125);
	expect_error("seccomp flag \"SECCOMP_FILTER_FLAG_NEW\" is not known");
	s = filtered(state, "SCMP_ACT_ALLOW");
	bh_strv_add(&s->seccomp.architectures, "SCMP_ARCH_S390X");
	assert_int_equal(run(s, "true"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_notify),  TEST(test_notify_exec), TEST(test_notify_with_start_hooks), TEST(test_notify_refused),
		TEST(test_actions), TEST(test_flags),       TEST(test_nothing_can_start),       TEST(test_unknown_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
