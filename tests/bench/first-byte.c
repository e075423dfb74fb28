/* SPDX-License-Identifier: Apache-2.0 */
/*
 * first-byte ROUNDS INPUT COMMAND...: runs the command ROUNDS times with INPUT as its standard input, and prints the best time from fork to the first byte
 * of its standard output, in us: for a virtual machine whose first instructions print, or go on, until it runs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* -1: it printed nothing. */
static double run(const char *input, char **argv)
{
	int in[2], out[2];
	double begun, took = -1;
	char bytes[4096];
	pid_t pid;

	if (pipe(in) < 0 || pipe(out) < 0 || write(in[1], input, strlen(input)) < 0)
		exit(1);
	close(in[1]);
	begun = now_us();
	pid = fork();
	if (pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[0]), close(out[0]), close(out[1]);
		execvp(argv[0], argv);
		_exit(127);
	}
	close(in[0]), close(out[1]);
	while (read(out[0], bytes, sizeof bytes) > 0)
		if (took < 0)
			took = now_us() - begun;
	close(out[0]);
	waitpid(pid, NULL, 0);
	return took;
}

int main(int argc, char **argv)
{
	double best = -1;

	if (argc < 4)
		return 2;
	for (int i = 0; i < atoi(argv[1]); i++) {
		double took = run(argv[2], argv + 3);

		if (took >= 0 && (best < 0 || took < best))
			best = took;
	}
	printf("%.0f\n", best);
	return best < 0;
}
