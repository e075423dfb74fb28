/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ps: the processes of a container, as pids of the host: as JSON, or as the lines of the machine's own ps(1) that have one
 * of these pids in the column PID. A microVM's are in its own kernel: the lines are those of its agent, with pids inside.
 */
#include "cli/oci/oci.h"

#include "base/file.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>

#define PS_OUTPUT_MAX (64u << 20)

struct ps_options {
	const char *format;
};

static const struct bh_option options[] = {
	{ 'f', "format", BH_OPTION_STRING, offsetof(struct ps_options, format), "FORMAT", "table or json (default table)", NULL, false },
	{ 0 },
};

static int capture(char **argv, struct bh_buf *ret_output, struct bh_error *err)
{
	int pair[2], status = 0, r;
	pid_t pid;

	if (pipe2(pair, O_CLOEXEC) < 0)
		return bh_error_set(err, errno, "make a pipe");
	pid = fork();
	if (pid == 0) {
		dup2(pair[1], STDOUT_FILENO);
		dup2(pair[1], STDERR_FILENO);
		execvp(argv[0], argv);
		dprintf(STDERR_FILENO, "execute %s: %s", argv[0], strerror(errno));
		_exit(127);
	}
	close(pair[1]);
	r = pid < 0 ? -errno : bh_read_fd(pair[0], PS_OUTPUT_MAX, ret_output);
	close(pair[0]);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (r < 0)
		return bh_error_set(err, -r, "run %s", argv[0]);
	if (status != 0)
		return bh_error_text(err, EIO, "exit status %d: %.900s", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
				     ret_output->data);
	return 0;
}

/* The n-th field of a line, as a pointer into it; NULL if it has fewer. */
static const char *field(const char *line, size_t n)
{
	for (;; n--) {
		line += strspn(line, " \t");
		if (!*line || *line == '\n')
			return NULL;
		if (n == 0)
			return line;
		line += strcspn(line, " \t\n");
	}
}

static int pid_column(const char *heading, size_t *ret_column)
{
	const char *name;

	for (size_t i = 0; (name = field(heading, i)); i++) {
		if (strcspn(name, " \t\n") != 3 || memcmp(name, "PID", 3) != 0)
			continue;
		*ret_column = i;
		return 0;
	}
	return -ENOENT;
}

static bool is_one_of(const pid_t *pids, size_t count, long pid)
{
	for (size_t i = 0; i < count; i++)
		if (pids[i] == pid)
			return true;
	return false;
}

static int print_table(const pid_t *pids, size_t count, char **arguments, struct bh_error *err)
{
	bh_auto_strv struct bh_strv argv = { 0 };
	bh_auto_buf struct bh_buf output = { 0 };
	size_t column = 0;
	int r;

	bh_strv_add(&argv, "ps");
	if (*arguments)
		bh_strv_extend(&argv, arguments);
	else
		bh_strv_add(&argv, "-ef");
	r = capture(argv.items, &output, err);
	if (r < 0)
		return r;
	if (!output.length || pid_column(output.data, &column) < 0)
		return bh_error_text(err, EINVAL, "couldn't find PID field in ps output");
	for (const char *line = output.data, *next; *line; line = next) {
		const char *pid = field(line, column);

		next = line + strcspn(line, "\n");
		next += *next == '\n';
		if (line != output.data && (!pid || !isdigit((unsigned char)*pid) || !is_one_of(pids, count, strtol(pid, NULL, 10))))
			continue;
		fwrite(line, 1, (size_t)(next - line), stdout);
	}
	return 0;
}

static void print_json(const pid_t *pids, size_t count)
{
	if (!count)
		printf("null\n");
	for (size_t i = 0; i < count; i++)
		printf("%s%d%s", i ? "," : "[", (int)pids[i], i + 1 < count ? "" : "]\n");
}

static int print_inside(struct bh_bundle *bundle, struct bh_error *err)
{
	struct bh_container_process process = { .pid = -1, .pidfd = -1, .sync_fd = -1 };
	struct bh_container_stdio stdio = { -1, STDOUT_FILENO, STDERR_FILENO, -1, false };
	int r = bh_bundle_spec(bundle, err);

	if (r < 0)
		return r;
	bundle->spec.process.terminal = false;
	r = bh_bundle_exec(bundle, &(struct bh_bundle_exec){ .process = &bundle->spec.process, .stdio = &stdio, .list = true }, &process, err);
	if (r < 0)
		return r;
	while (waitpid(process.pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	bh_close_fd(&process.pidfd);
	return 0;
}

static int run(void *arg, int argc, char **argv)
{
	const struct ps_options *o = arg;
	struct bh_bundle bundle = BH_BUNDLE_INIT_VALUE;
	struct bh_error err = BH_ERROR_INIT;
	bh_auto_free pid_t *pids = NULL;
	size_t count = 0;
	int r = bh_oci_open(argv, false, &bundle, &err);

	if (r == 0)
		r = bh_bundle_pids(&bundle, &pids, &count, &err);
	if (r == 0 && o->format && !bh_streq(o->format, "table") && !bh_streq(o->format, "json"))
		r = bh_error_text(&err, EINVAL, "invalid format option");
	if (r == 0 && bh_streq(o->format, "json"))
		print_json(pids, count);
	else if (r == 0 && bundle.driver->has_own_kernel && bundle.status == BH_BUNDLE_RUNNING && argc == 1)
		r = print_inside(&bundle, &err);
	else if (r == 0)
		r = print_table(pids, count, argv + 1, &err);
	bh_bundle_close(&bundle);
	return r < 0 ? bh_oci_fail(&err, 1) : 0;
}

const struct bh_command bh_oci_command_ps = {
	.name = "ps",
	.synopsis = "[OPTIONS] CONTAINER [PS OPTIONS]",
	.summary = "Show the processes of a container",
	.description = "Runs ps(1) with the given options (default -ef) and shows the lines of the container's processes, by their pids on "
		       "the host. The output of ps must have a column PID. With --format json it is an array of pids. Of a microVM it "
		       "lists the processes inside, unless there are options for ps: they and the pids are those on the host.",
	.sets = { options },
	.options_size = sizeof(struct ps_options),
	.stop_at_argument = true,
	.min_arguments = 1,
	.max_arguments = -1,
	.run = run,
};
