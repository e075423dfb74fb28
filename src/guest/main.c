/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead-guest. In a microVM the kernel starts it as `bulkhead-guest agent TRANSPORT` (agent.c), in a domain with an image as
 * `bulkhead-guest agent domain:SIGNAL` (domain.c). This file is the other life:
 *
 * bulkhead-guest as pid 1 of a container (--init): starts the workload, forwards signals to it, reaps what is orphaned,
 * and ends as the workload ended.
 *
 * Usage: init FILE ARG0 [ARG...]. All signals are blocked here and taken one by one with sigwaitinfo, so there is no
 * handler and no race; the workload gets the mask and dispositions this program was started with. The workload has a
 * process group of its own, in the foreground if there is a terminal, so that job control works as without an init.
 */
#include "guest/guest-internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void run_workload(char **argv, const sigset_t *mask)
{
	int errnum;

	setpgid(0, 0);
	/* As a background group this call would stop us: SIGTTOU is still blocked. */
	tcsetpgrp(STDIN_FILENO, getpid());
	sigprocmask(SIG_SETMASK, mask, NULL);
	execv(argv[1], argv + 2);
	errnum = errno;
	dprintf(STDERR_FILENO, "exec: \"%s\": %s\n", argv[1], strerror(errnum));
	_exit(errnum == ENOENT || errnum == ENOTDIR ? 127 : 126);
}

/* Reaps all that has ended. Returns the workload's exit code once it is among them, else -1. */
static int reap(pid_t workload)
{
	int status, code = -1;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == workload)
			code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	return code;
}

int main(int argc, char **argv)
{
	sigset_t all, mask;
	pid_t workload;
	int code = -1;

	if (argc == 3 && getpid() == 1 && strcmp(argv[0], GUEST_AGENT) == 0) {
		if (strncmp(argv[2], GUEST_DOMAIN, strlen(GUEST_DOMAIN)) == 0)
			guest_domain_main(argv[2]);
		guest_agent_main(argv[2]);
	}
	if (argc < 3) {
		dprintf(STDERR_FILENO, "usage: init FILE ARG0 [ARG...]\n");
		return 125;
	}
	prctl(PR_SET_NAME, "init");
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &mask);
	workload = fork();
	if (workload == 0)
		run_workload(argv, &mask);
	if (workload < 0) {
		dprintf(STDERR_FILENO, "init: fork: %s\n", strerror(errno));
		return 126;
	}
	while (code < 0) {
		int signal = sigwaitinfo(&all, NULL);

		if (signal == SIGCHLD)
			code = reap(workload);
		/* What the terminal sends to its foreground group has reached the workload already. */
		else if (signal > 0 && signal != SIGTTIN && signal != SIGTTOU)
			kill(workload, signal);
	}
	return code;
}
