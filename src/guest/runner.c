/* SPDX-License-Identifier: Apache-2.0 */
/* The program that makes a process (`bulkhead guest-process`): how it is started, and what it says. */
#include "guest/guest-internal.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

/* The ends that the runner gets, at their numbers; all of ours are close-on-exec. */
static _Noreturn void run(int request_fd, int result, const int streams[BH_AGENT_STREAMS], unsigned kind)
{
	static char *const environment[] = { NULL };
	static char kinds[][16] = { [BH_AGENT_START] = "start", [BH_AGENT_EXEC] = "exec", [BH_AGENT_LIST] = "list", [BH_AGENT_TRANSFER] = "transfer" };
	char name[] = "bulkhead", verb[] = "guest-process";
	char *const argv[] = { name, verb, kinds[kind <= BH_AGENT_TRANSFER ? kind : BH_AGENT_LIST], NULL };
	int high[2 + BH_AGENT_STREAMS];
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	high[0] = result;
	high[1] = request_fd;
	for (int i = 0; i < BH_AGENT_STREAMS; i++)
		high[2 + i] = streams[i];
	for (size_t i = 0; i < BH_ARRAY_SIZE(high); i++)
		high[i] = high[i] < 0 ? -1 : fcntl(high[i], F_DUPFD_CLOEXEC, 16);
	for (size_t i = 0; i < BH_ARRAY_SIZE(high); i++)
		if (high[i] < 0)
			close(BH_AGENT_RESULT_FD + (int)i);
		else
			dup2(high[i], BH_AGENT_RESULT_FD + (int)i);
	execve(GUEST_PROGRAM, argv, environment);
	guest_say("execute " GUEST_PROGRAM ": %s", strerror(errno));
	_exit(125);
}

pid_t guest_runner_start(int request_fd, const int streams[BH_AGENT_STREAMS], unsigned kind, int *ret_result_fd)
{
	int pair[2];
	pid_t pid;

	if (lseek(request_fd, 0, SEEK_SET) < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		run(request_fd, pair[1], streams, kind);
	if (pid < 0)
		pid = -errno;
	close(pair[1]);
	if (pid < 0)
		close(pair[0]);
	else
		*ret_result_fd = pair[0];
	return pid;
}

int guest_runner_result(int result_fd, struct bh_agent_result *ret_result, int *ret_terminal_fd)
{
	struct bh_agent_result result = { 0 };
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part = { &result, sizeof result };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
	ssize_t n = recvmsg(result_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;

	if (n < 0)
		return -EAGAIN;
	if (n != (ssize_t)sizeof result)
		return -ECHILD;
	result.failure.text[BH_AGENT_TEXT_MAX] = '\0';
	*ret_result = result;
	*ret_terminal_fd = -1;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(ret_terminal_fd, CMSG_DATA(c), sizeof *ret_terminal_fd);
	return 0;
}
