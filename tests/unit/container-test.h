/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the container driver stand on: a test folder with a busybox root, running, and looking at output. */
#pragma once

#include "container/container.h"

#include "base/file.h"
#include "linux/mount.h"
#include "linux/namespace.h"
#include "linux/syscall.h"

#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
#define OUTPUT_MAX (4u << 20)

static struct bh_spec spec_storage;
static struct bh_error error;
static struct bh_container_create request;
static struct bh_container_stdio stdio;
static char folder[64], output[OUTPUT_MAX];
static int output_fd = -1;
static bool create_first, exec_terminal;

/* A path in the test's folder; a few may be in use at once. */
static const char *in_test(const char *name)
{
	static char paths[8][512];
	static unsigned next;
	char *path = paths[next++ % BH_ARRAY_SIZE(paths)];

	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

static void make_directory(const char *name)
{
	assert_int_equal(mkdir(in_test(name), 0755), 0);
}

static void make_file(const char *name, const char *content)
{
	if (strchr(name, '/') && strncmp(name, "host/", 5) == 0)
		mkdir(in_test("host"), 0755);
	assert_int_equal(bh_write_file_at(AT_FDCWD, in_test(name), content, strlen(content), 0644, 0, NULL), 0);
}

static void default_spec(struct bh_spec *spec)
{
	bh_spec_default(spec);
	bh_strv_add(&spec->process.env, "PATH=/bin");
}

static void map_users(struct bh_spec *spec, uint32_t first)
{
	const struct bh_id_map map = { 0, first, 65536 };

	spec->namespaces[BH_NS_USER].present = true;
	free(spec->uid_mappings);
	free(spec->gid_mappings);
	spec->uid_mappings = bh_memdup(&map, sizeof map);
	spec->gid_mappings = bh_memdup(&map, sizeof map);
	spec->uid_mapping_count = spec->gid_mapping_count = 1;
}

static int setup(void **state)
{
	static const char *const folders[] = { "root", "root/bin", "root/etc", "root/dev", "root/proc", "root/sys", "root/tmp" };
	static const char *const applets[] = { "sh", "cat", "cut", "echo", "env", "false", "grep", "head", "hostname", "id", "ip", "kill", "ls", "mkdir",
					       "mount", "ps", "pwd", "readlink", "rmdir", "sleep", "stat", "stty", "test", "touch", "true", "tty", "wc" };

	(void)state;
	snprintf(folder, sizeof folder, "/tmp/bh-container-XXXXXX");
	if (!mkdtemp(folder) || chmod(folder, 0755) < 0)
		return -1;
	for (size_t i = 0; i < BH_ARRAY_SIZE(folders); i++)
		if (mkdir(in_test(folders[i]), 0755) < 0)
			return -1;
	chmod(in_test("root/tmp"), 01777);
	if (link("/bin/busybox", in_test("root/bin/busybox")) < 0) {
		bh_auto_buf struct bh_buf bytes = { 0 };

		if (bh_read_file_at(AT_FDCWD, "/bin/busybox", 16u << 20, &bytes, NULL) < 0 ||
		    bh_write_file_at(AT_FDCWD, in_test("root/bin/busybox"), bytes.data, bytes.length, 0755, 0, NULL) < 0)
			return -1;
	}
	for (size_t i = 0; i < BH_ARRAY_SIZE(applets); i++) {
		bh_auto_free char *name = bh_printf("root/bin/%s", applets[i]);

		if (symlink("busybox", in_test(name)) < 0)
			return -1;
	}
	/* Above the numbers that a test of preserved fds wants for itself. */
	int fd = memfd_create("output", MFD_CLOEXEC);
	output_fd = fcntl(fd, F_DUPFD_CLOEXEC, 20);
	close(fd);
	return output_fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	bh_linux_force_enosys(0);
	bh_spec_clear(&spec_storage);
	close(output_fd);
	create_first = exec_terminal = false;
	return bh_remove_tree_at(AT_FDCWD, folder, NULL);
}

/* A fresh request with the default configuration on this test's root. */
static struct bh_spec *fixture(void **state)
{
	(void)state;
	bh_spec_clear(&spec_storage);
	default_spec(&spec_storage);
	stdio = (struct bh_container_stdio){ -1, output_fd, output_fd, -1, false };
	request = (struct bh_container_create){ .rootfs = { .mount_fd = -1, .path = in_test("root") }, .stdio = &stdio };
	static char root[512];
	snprintf(root, sizeof root, "%s", in_test("root"));
	request.rootfs.path = root;
	return &spec_storage;
}

static void set_command(struct bh_spec *spec, const char *script)
{
	bh_strv_clear(&spec->process.args);
	bh_strv_add(&spec->process.args, "sh");
	bh_strv_add(&spec->process.args, "-c");
	bh_strv_add(&spec->process.args, script);
}

static void start_output(void)
{
	assert_int_equal(ftruncate(output_fd, 0), 0);
	assert_int_equal(lseek(output_fd, 0, SEEK_SET), 0);
	output[0] = '\0';
	bh_error_clear(&error);
}

static void drain_terminal(int master)
{
	size_t length = 0;
	ssize_t n;

	while (length < OUTPUT_MAX - 1 && (n = read(master, output + length, OUTPUT_MAX - 1 - length)) > 0)
		length += (size_t)n;
	output[length] = '\0';
	close(master);
}

/* Waits for the end and takes the output. The exit code, or -1 if a signal ended it. */
static int finish(struct bh_container_process *p)
{
	int status;
	ssize_t n;

	if (stdio.ret_terminal_fd >= 0)
		drain_terminal(stdio.ret_terminal_fd);
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	close(p->pidfd);
	if (p->sync_fd >= 0)
		close(p->sync_fd);
	if (stdio.ret_terminal_fd < 0) {
		n = pread(output_fd, output, OUTPUT_MAX - 1, 0);
		output[n < 0 ? 0 : n] = '\0';
	}
	stdio.ret_terminal_fd = -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void create(struct bh_spec *spec, struct bh_container_process *ret)
{
	start_output();
	request.spec = spec;
	if (bh_container_create(&request, ret, &error) < 0)
		fail_msg("%s", error.message);
}

static void start(struct bh_spec *spec, struct bh_container_process *ret)
{
	start_output();
	request.spec = spec;
	if (bh_container_run(&request, ret, &error) < 0)
		fail_msg("%s", error.message);
}

/* Runs what is set; the exit code of the workload, or of the driver's error. */
static int run_set(struct bh_spec *spec)
{
	struct bh_container_process p;
	int r;

	start_output();
	request.spec = spec;
	r = create_first ? bh_container_create(&request, &p, &error) : bh_container_run(&request, &p, &error);
	if (r == 0 && create_first)
		r = bh_container_start(&p, &error);
	if (r < 0) {
		if (getenv("BH_TEST_VERBOSE"))
			print_message("error: %s\n", error.message);
		assert_true(error.message[0] && error.exit_code);
		return error.exit_code;
	}
	r = finish(&p);
	return r == -1 ? 128 + SIGKILL : r;
}

static int run(struct bh_spec *spec, const char *script)
{
	set_command(spec, script);
	return run_set(spec);
}

static int run_args(struct bh_spec *spec, const char *first, ...)
{
	va_list args;

	bh_strv_clear(&spec->process.args);
	va_start(args, first);
	for (const char *word = first; word; word = va_arg(args, const char *))
		bh_strv_add(&spec->process.args, word);
	va_end(args);
	return run_set(spec);
}

/* Executes a script in a running container; NULL: a command that is not there. */
static int exec_in(struct bh_spec *spec, struct bh_container_process *container, const char *script)
{
	struct bh_spec_process process = { .cwd = (char *)"/tmp", .capabilities = spec->process.capabilities, .terminal = exec_terminal };
	struct bh_container_exec exec = {
		.init_pid = container->pid, .init_pidfd = container->pidfd, .spec = spec, .process = &process, .stdio = &stdio,
	};
	struct bh_container_process p;
	int r;

	start_output();
	bh_strv_add(&process.env, "PATH=/bin");
	bh_strv_add(&process.args, script ? "sh" : "nope");
	if (script) {
		bh_strv_add(&process.args, "-c");
		bh_strv_add(&process.args, script);
	}
	r = bh_container_exec(&exec, &p, &error);
	bh_strv_clear(&process.env);
	bh_strv_clear(&process.args);
	return r < 0 ? error.exit_code : finish(&p);
}

static void join(struct bh_spec *spec, enum bh_namespace_type type, pid_t pid)
{
	spec->namespaces[type].present = true;
	free(spec->namespaces[type].path);
	spec->namespaces[type].path = bh_printf("/proc/%d/ns/%s", (int)pid, bh_namespaces[type].file);
}

static void expect(const char *text)
{
	if (!strstr(output, text))
		fail_msg("expected '%s' in:\n%s", text, output);
}

static void expect_not(const char *text)
{
	if (strstr(output, text))
		fail_msg("unexpected '%s' in:\n%s", text, output);
}

static void expect_error(const char *text)
{
	if (!strstr(error.message, text))
		fail_msg("expected '%s' in the error '%s'", text, error.message);
}

static void read_back(const char *name)
{
	bh_auto_buf struct bh_buf content = { 0 };

	assert_int_equal(bh_read_file_at(AT_FDCWD, in_test(name), OUTPUT_MAX - 1, &content, NULL), 0);
	memcpy(output, content.data, content.length + 1);
}

static void assert_file(const char *name, const char *content)
{
	read_back(name);
	assert_string_equal(output, content);
}

static int count_entries(const char *name)
{
	bh_auto_closedir DIR *dir = opendir(in_test(name));
	int count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	return count - 2;
}

static int count_open_fds(void)
{
	bh_auto_closedir DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(dir))
		count++;
	return count;
}

static char *host_mounts(void)
{
	struct bh_buf content = { 0 };

	assert_int_equal(bh_read_file_at(AT_FDCWD, "/proc/self/mountinfo", 4u << 20, &content, NULL), 0);
	return bh_buf_take(&content);
}

static char *status_line(pid_t pid, const char *key)
{
	bh_auto_free char *path = bh_printf("/proc/%d/status", (int)pid);
	bh_auto_buf struct bh_buf content = { 0 };
	char *line;

	assert_int_equal(bh_read_file_at(AT_FDCWD, path, 65536, &content, NULL), 0);
	line = strstr(content.data, key);
	assert_non_null(line);
	return bh_strndup(line, strcspn(line, "\n") + 1);
}

static void add_hook(struct bh_spec_hooks *hooks, const char *name, const char *script, int64_t timeout_s)
{
	struct bh_spec_hook *hook;

	hooks->items = bh_realloc(hooks->items, (hooks->count + 1) * sizeof *hooks->items);
	hook = &hooks->items[hooks->count++];
	*hook = (struct bh_spec_hook){ .path = bh_strdup("/bin/sh"), .timeout_s = timeout_s };
	bh_strv_add(&hook->args, "sh");
	bh_strv_add(&hook->args, "-c");
	bh_strv_add(&hook->args, script);
	bh_strv_add(&hook->args, name);
	bh_strv_add(&hook->env, "PATH=/bin:/usr/bin");
}

static void free_hooks(struct bh_spec_hooks *hooks)
{
	for (size_t i = 0; i < hooks->count; i++) {
		free(hooks->items[i].path);
		bh_strv_clear(&hooks->items[i].args);
		bh_strv_clear(&hooks->items[i].env);
	}
	free(hooks->items);
	*hooks = (struct bh_spec_hooks){ 0 };
}

static int wait_for_fd(int fd, int timeout_ms)
{
	struct pollfd p = { fd, POLLIN, 0 };

	return poll(&p, 1, timeout_ms);
}
