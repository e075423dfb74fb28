/* SPDX-License-Identifier: Apache-2.0 */
/*
 * measure ROUNDS NAME COMMAND... [-- NAME COMMAND...]...: runs the commands in turn, ROUNDS times (plus two to warm up), and
 * prints a line for each: name, best, median and 90th percentile of the time from fork to the command's exit in ms, median
 * and best CPU time in ms of everything it started. Whatever a command leaves running becomes a child of this program and
 * is waited for outside of the measured time, but its CPU time counts.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COMMANDS_MAX 16
#define WARM_UP 2

struct command {
	char *name, **argv;
	double *wall_ms, *cpu_ms;
};

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double cpu_of(const struct rusage *u)
{
	return (double)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) * 1e3 + (double)(u->ru_utime.tv_usec + u->ru_stime.tv_usec) / 1e3;
}

static pid_t start(char **argv)
{
	pid_t pid = fork();

	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 0);
		dup2(null, 1);
		execvp(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static void run(const struct command *c, double *wall_ms, double *cpu_ms)
{
	double begun = now_ms();
	struct rusage usage;
	pid_t pid = start(c->argv), reaped;
	int status;

	*cpu_ms = 0;
	/* Until nothing is left: wait4 gives each process's time with that of the children it has waited for. */
	while ((reaped = wait4(-1, &status, 0, &usage)) > 0 || errno == EINTR) {
		*cpu_ms += cpu_of(&usage);
		if (reaped != pid)
			continue;
		*wall_ms = now_ms() - begun;
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
			fprintf(stderr, "%s: ended with status %#x\n", c->name, status);
			exit(1);
		}
	}
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static size_t parse(char **argv, struct command *commands, size_t rounds)
{
	size_t count = 0;

	while (*argv && count < COMMANDS_MAX) {
		struct command *c = &commands[count++];

		c->name = *argv++;
		c->argv = argv;
		c->wall_ms = calloc(rounds, sizeof *c->wall_ms);
		c->cpu_ms = calloc(rounds, sizeof *c->cpu_ms);
		if (!c->wall_ms || !c->cpu_ms)
			exit(1);
		while (*argv && strcmp(*argv, "--") != 0)
			argv++;
		if (*argv)
			*argv++ = NULL;
	}
	return count;
}

int main(int argc, char **argv)
{
	struct command commands[COMMANDS_MAX];
	size_t rounds = argc > 3 ? strtoul(argv[1], NULL, 10) : 0, count;
	double wall = 0, cpu = 0;

	if (rounds == 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0) {
		fprintf(stderr, "usage: measure ROUNDS NAME COMMAND... [-- NAME COMMAND...]...\n");
		return 2;
	}
	count = parse(argv + 2, commands, rounds);
	for (size_t r = 0; r < rounds + WARM_UP; r++) {
		for (size_t i = 0; i < count; i++) {
			run(&commands[i], &wall, &cpu);
			if (r >= WARM_UP) {
				commands[i].wall_ms[r - WARM_UP] = wall;
				commands[i].cpu_ms[r - WARM_UP] = cpu;
			}
		}
	}
	for (size_t i = 0; i < count; i++) {
		struct command *c = &commands[i];

		qsort(c->wall_ms, rounds, sizeof *c->wall_ms, compare);
		qsort(c->cpu_ms, rounds, sizeof *c->cpu_ms, compare);
		printf("%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\n", c->name, c->wall_ms[0], c->wall_ms[rounds / 2], c->wall_ms[rounds * 9 / 10],
		       c->cpu_ms[rounds / 2], c->cpu_ms[0]);
	}
	return 0;
}
