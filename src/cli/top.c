/* SPDX-License-Identifier: Apache-2.0 */
/*
 * top: the processes of a container, as the host sees them. Without options the columns of `ps -ef`, read from /proc;
 * with options the host's ps(1) is asked and its lines are filtered by the container's pids (what docker top does).
 */
#include "base/table.h"
#include "base/time.h"
#include "cli/cli.h"
#include "cli/containers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

struct process {
	pid_t pid;
	long long ppid, tty;
	unsigned long long user_ticks, system_ticks, start_ticks;
	uid_t uid;
	char name[64];
};

static int read_process(pid_t pid, struct process *ret_process)
{
	bh_auto_free char *stat_path = bh_printf("/proc/%d/stat", (int)pid), *folder = bh_printf("/proc/%d", (int)pid);
	bh_auto_buf struct bh_buf text = { 0 };
	struct process p = { .pid = pid };
	char *open, *close;
	struct stat st;

	if (bh_read_file_at(AT_FDCWD, stat_path, 4096, &text, NULL) < 0 || stat(folder, &st) < 0)
		return -ESRCH;
	open = strchr(text.data, '(');
	close = strrchr(text.data, ')');
	if (!open || !close || close < open)
		return -EINVAL;
	snprintf(p.name, sizeof p.name, "%.*s", (int)(close - open - 1), open + 1);
	p.uid = st.st_uid;
	/* proc(5): 3 state, 4 ppid, 7 tty_nr, 14 utime, 15 stime, 22 starttime */
	if (sscanf(close + 2, "%*c %lld %*d %*d %lld %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu", &p.ppid, &p.tty, &p.user_ticks,
		   &p.system_ticks, &p.start_ticks) != 5)
		return -EINVAL;
	*ret_process = p;
	return 0;
}

static char *command_line(const struct process *p)
{
	bh_auto_free char *path = bh_printf("/proc/%d/cmdline", (int)p->pid);
	struct bh_buf text = { 0 };

	if (bh_read_file_at(AT_FDCWD, path, 1u << 20, &text, NULL) < 0 || text.length == 0) {
		bh_buf_clear(&text);
		return bh_printf("[%s]", p->name);
	}
	for (size_t i = 0; i + 1 < text.length; i++)
		if (!text.data[i])
			text.data[i] = ' ';
	return bh_buf_take(&text);
}

static double uptime(void)
{
	bh_auto_buf struct bh_buf text = { 0 };
	double seconds = 0;

	if (bh_read_file_at(AT_FDCWD, "/proc/uptime", 128, &text, NULL) == 0)
		seconds = strtod(text.data, NULL);
	return seconds;
}

/* From /etc/passwd: libc's getpwuid would need its shared libraries, and this program is static. */
static char *user_name(uid_t uid)
{
	bh_auto_buf struct bh_buf text = { 0 };
	bh_auto_strv struct bh_strv lines = { 0 };

	if (bh_read_file_at(AT_FDCWD, "/etc/passwd", 1u << 20, &text, NULL) < 0)
		return NULL;
	lines = bh_strv_split(text.data, '\n');
	for (size_t i = 0; i < lines.count; i++) {
		bh_auto_strv struct bh_strv fields = bh_strv_split(lines.items[i], ':');
		uint64_t number;

		if (fields.count >= 3 && bh_parse_uint(fields.items[2], UINT32_MAX, &number) == 0 && number == uid)
			return bh_strdup(fields.items[0]);
	}
	return NULL;
}

static void add_row(struct bh_table *table, const struct process *p)
{
	double hertz = (double)sysconf(_SC_CLK_TCK), age = uptime() - (double)p->start_ticks / hertz;
	unsigned long long cpu_s = (unsigned long long)((double)(p->user_ticks + p->system_ticks) / hertz);
	time_t start = (time_t)((double)bh_now_ns() / 1e9 - age);
	bh_auto_free char *command = command_line(p);
	bh_auto_free char *user = user_name(p->uid);
	struct tm tm;
	char when[16];

	localtime_r(&start, &tm);
	strftime(when, sizeof when, "%H:%M", &tm);
	if (user)
		bh_table_add(table, user);
	else
		bh_table_addf(table, "%u", (unsigned)p->uid);
	bh_table_addf(table, "%d", (int)p->pid);
	bh_table_addf(table, "%lld", p->ppid);
	bh_table_addf(table, "%d", age > 0 ? (int)(100.0 * (double)cpu_s / age) : 0);
	bh_table_add(table, when);
	if (p->tty)
		bh_table_addf(table, "pts/%u", minor((dev_t)p->tty));
	else
		bh_table_add(table, "?");
	bh_table_addf(table, "%02llu:%02llu:%02llu", cpu_s / 3600, cpu_s / 60 % 60, cpu_s % 60);
	bh_table_add(table, command);
}

void bh_cli_print_processes(const pid_t *pids, size_t count)
{
	static const char *const headings[] = { "UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD", NULL };
	bh_auto_buf struct bh_buf out = { 0 };
	struct bh_table table;

	bh_table_init(&table, headings);
	for (size_t i = 0; i < count; i++) {
		struct process p;

		if (read_process(pids[i], &p) == 0)
			add_row(&table, &p);
	}
	bh_table_render(&table, true, &out);
	bh_table_clear(&table);
	fputs(out.data, stdout);
}

static int run_ps(char **arguments, int count, struct bh_buf *ret_output, struct bh_error *err)
{
	bh_auto_strv struct bh_strv args = { 0 };
	int fds[2], status, r;
	pid_t pid;

	bh_strv_add(&args, "ps");
	for (int i = 0; i < count; i++)
		bh_strv_add(&args, arguments[i]);
	if (pipe2(fds, O_CLOEXEC) < 0)
		return bh_error_set(err, errno, "pipe");
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		execvp("ps", args.items);
		_exit(127);
	}
	close(fds[1]);
	r = pid < 0 ? -errno : bh_read_fd(fds[0], 16u << 20, ret_output);
	close(fds[0]);
	if (pid > 0 && (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0))
		return bh_error_text(err, EINVAL, "ps failed with these options%s", WEXITSTATUS(status) == 127 ? " (is it installed?)" : "");
	return r < 0 ? bh_error_set(err, -r, "run ps") : 0;
}

/* Which word of the heading is PID. */
static int pid_column(const char *heading)
{
	bh_auto_free char *copy = bh_strdup(heading);
	char *save = NULL;
	int column = 0;

	for (char *word = strtok_r(copy, " \t", &save); word; word = strtok_r(NULL, " \t", &save), column++)
		if (bh_streq(word, "PID"))
			return column;
	return -1;
}

static bool line_has_pid(const char *line, int column, const pid_t *pids, size_t count)
{
	bh_auto_free char *copy = bh_strdup(line);
	char *save = NULL, *word = strtok_r(copy, " \t", &save);

	for (; word && column > 0; column--)
		word = strtok_r(NULL, " \t", &save);
	for (size_t i = 0; word && i < count; i++)
		if (pids[i] == (pid_t)strtol(word, NULL, 10))
			return true;
	return false;
}

static int print_ps(char **arguments, int argument_count, const pid_t *pids, size_t count, struct bh_error *err)
{
	bh_auto_buf struct bh_buf output = { 0 };
	bh_auto_strv struct bh_strv lines = { 0 };
	int column, r = run_ps(arguments, argument_count, &output, err);

	if (r < 0)
		return r;
	lines = bh_strv_split(output.data, '\n');
	column = pid_column(lines.items[0]);
	if (column < 0)
		return bh_error_text(err, EINVAL, "Couldn't find PID field in ps output");
	printf("%s\n", lines.items[0]);
	for (size_t i = 1; i < lines.count; i++)
		if (line_has_pid(lines.items[i], column, pids, count))
			printf("%s\n", lines.items[i]);
	return 0;
}

/* Behind a kernel of its own: it has to be asked. */
static int print_guest(struct bh_engine *engine, struct bh_container *c, struct bh_error *err)
{
	char *const command[] = { NULL };
	const struct bh_exec_options options = { .list = true };
	bh_auto_buf struct bh_buf output = { 0 };
	struct bh_exec exec;
	int r = bh_engine_exec(engine, c, &options, command, &exec, err);

	if (r < 0)
		return r;
	r = bh_read_fd(exec.stdout_fd, 16u << 20, &output);
	waitpid(exec.pid, NULL, 0);
	bh_close_fd(&exec.pidfd);
	bh_close_fd(&exec.stdout_fd);
	bh_close_fd(&exec.stderr_fd);
	if (r < 0)
		return bh_error_set(err, -r, "read the list of processes");
	fwrite(output.data, 1, output.length, stdout);
	return 0;
}

static int print_top(struct bh_engine *engine, struct bh_container *c, char **arguments, int argument_count, struct bh_error *err)
{
	bh_auto_free char *path = bh_container_compartment_path(c);
	const struct bh_isolation_driver *driver;
	bh_auto_free pid_t *pids = NULL;
	size_t count = 0;
	int r;

	if (c->status != BH_STATUS_RUNNING && c->status != BH_STATUS_PAUSED)
		return bh_error_text(err, ESRCH, "container %s is not running", c->id);
	r = bh_container_isolation(c, &driver, err);
	if (r == 0 && driver->has_own_kernel && argument_count)
		return bh_error_text(err, EINVAL, "a microVM's processes aren't the host's: its ps can be run by exec");
	if (r == 0 && driver->has_own_kernel)
		return print_guest(engine, c, err);
	if (r == 0)
		r = driver->pids(BH_PLACE(path), &pids, &count, err);
	if (r < 0)
		return r;
	if (argument_count)
		return print_ps(arguments, argument_count, pids, count, err);
	bh_cli_print_processes(pids, count);
	return 0;
}

static int run(void *options, int argc, char **argv)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_container container;
	struct bh_engine engine;
	int r = bh_engine_open(bh_cli.root, bh_cli.state, &engine, &err);

	(void)options;
	if (r < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	r = bh_engine_find(&engine, argv[0], &container, &err);
	if (r == 0) {
		r = print_top(&engine, &container, argv + 1, argc - 1, &err);
		bh_container_clear(&container);
	}
	bh_engine_close(&engine);
	return r < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
}

const struct bh_command bh_command_top = {
	.name = "top",
	.group = "Containers",
	.synopsis = "CONTAINER [PS OPTIONS]",
	.summary = "Show the processes of a container",
	.stop_at_argument = true,
	.min_arguments = 1,
	.max_arguments = -1,
	.run = run,
};
