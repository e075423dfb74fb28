/* SPDX-License-Identifier: Apache-2.0 */
// timeout: 60
// lab: always
/*
 * Where an OCI runtime's cgroups lie, and what is taken over, listed, opened again and removed: linux.cgroupsPath absolute, relative,
 * with dots and missing; every hierarchy; records; folders below for exec. On the real kernel.
 */
#include "cgroup/cgroup-internal.h"
#include "cgroup-test.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

static struct bh_cgroup_host host;
static char name[64], path[128];
static struct bh_spec_resources none;
static struct bh_strv made; /* folders of the present test's last cgroup */

static int new_name(void **state)
{
	static int number;

	(void)state;
	bh_error_clear(&err);
	snprintf(name, sizeof name, "bulkhead-place-%d-%d", (int)getpid(), number++);
	snprintf(path, sizeof path, "/%s", name);
	return 0;
}

static int make(const char *cgroups_path, struct bh_cgroup **ret)
{
	struct bh_cgroup_request request = { .path = cgroups_path, .name = name, .resources = &none, .every_hierarchy = true, .strict = true };

	int r = bh_cgroup_make(&request, ret, &err);

	if (r == 0) {
		bh_strv_clear(&made);
		bh_cgroup_paths(*ret, &made);
	}
	return r;
}

/* What a test that failed in the middle leaves. */
static int clean_up(void **state)
{
	int r = bh_cgroup_remove_paths(&made, NULL, NULL);

	(void)state;
	bh_strv_clear(&made);
	return r;
}

static pid_t spawn(const struct bh_cgroup *cgroup)
{
	int ready[2];
	char byte = 0;
	pid_t pid;

	assert_return_code(pipe2(ready, O_CLOEXEC), errno);
	pid = fork_into(cgroup);
	if (pid == 0) {
		(void)!write(ready[1], "r", 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* The path after "CONTROLLERS:" in /proc/PID/cgroup. */
static char *seen_path(pid_t pid, const char *controllers)
{
	bh_auto_free char *file = bh_printf("/proc/%d/cgroup", (int)pid), *key = bh_printf(":%s:", controllers);
	bh_auto_buf struct bh_buf text = { 0 };
	char *at;

	OK(bh_read_file_at(AT_FDCWD, file, 65536, &text, &err));
	at = strstr(text.data, key);
	return at ? bh_strndup(at + strlen(key), strcspn(at + strlen(key), "\n")) : NULL;
}

static char *dirname_of(const char *text)
{
	const char *slash = strrchr(text, '/');

	return bh_strndup(text, slash ? (size_t)(slash - text) : 0);
}

/* --- tests ---------------------------------------------------------------------------------------------------------------- */

static void test_every_hierarchy(void **state)
{
	bh_auto_buf struct bh_buf text = { 0 };
	bh_auto_free char *file = NULL;
	struct bh_cgroup *cgroup;
	size_t found = 0;
	pid_t pid;

	(void)state;
	OK(make(path, &cgroup));
	pid = spawn(cgroup);
	file = bh_printf("/proc/%d/cgroup", (int)pid);
	OK(bh_read_file_at(AT_FDCWD, file, 65536, &text, &err));
	for (const char *line = text.data; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		bh_auto_free char *copy = bh_strndup(line, strcspn(line, "\n"));

		assert_string_equal(strrchr(copy, ':') + 1, path);
		found++;
	}
	assert_true(found >= 1);
	end(pid);
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
}

static void test_relative_and_missing_paths(void **state)
{
	const char *controllers = host.version == 2 ? "" : "memory";
	bh_auto_free char *own = seen_path(getpid(), controllers);
	bh_auto_free char *top = host.version == 2 ? dirname_of(own) : bh_strdup(bh_streq(own, "/") ? "" : own);
	const char *paths[] = { "", NULL, NULL, NULL };
	bh_auto_free char *plain = bh_strdup(name), *dotted = bh_printf("../../../x/.././%s", name), *deep = bh_printf("%s/a/b", name);

	(void)state;
	paths[1] = plain;
	paths[2] = dotted;
	paths[3] = deep;
	for (size_t i = 0; i < BH_ARRAY_SIZE(paths); i++) {
		bh_auto_free char *expected = bh_printf("%s/%s", top, i == 3 ? deep : name), *seen = NULL;
		struct bh_cgroup *cgroup;
		pid_t pid;

		OK(make(paths[i], &cgroup));
		pid = spawn(cgroup);
		seen = seen_path(pid, controllers);
		assert_string_equal(seen, expected);
		end(pid);
		OK(bh_cgroup_destroy(cgroup, &err));
		bh_cgroup_free(cgroup);
	}
	/* What lies above belongs to whoever wants it: as runc, only the container's own folder goes. */
	struct bh_strv parents = { 0 };
	bh_auto_free char *parent = bh_printf("%s/a", name);
	struct bh_cgroup *cgroup;

	OK(make(parent, &cgroup));
	bh_cgroup_paths(cgroup, &parents);
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
	OK(make(plain, &cgroup));
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
	bh_strv_clear(&parents);
}

static void test_failure_takes_new_parents_back(void **state)
{
	bh_auto_free char *deep = bh_printf("%s/a/b", path), *top = NULL;
	struct bh_spec_resources bad = { .cpu.cpus = (char *)"4095" };
	struct bh_cgroup_request request = { .path = deep, .name = name, .resources = &bad, .every_hierarchy = true, .strict = true };
	struct bh_cgroup *cgroup = NULL;

	(void)state;
	assert_true(bh_cgroup_make(&request, &cgroup, &err) < 0);
	assert_null(cgroup);
	top = bh_printf("/sys/fs/cgroup/%s%s", host.version == 2 ? "" : "memory", path);
	assert_int_not_equal(access(top, F_OK), 0);
}

static void test_existing_cgroups(void **state)
{
	struct bh_cgroup *first, *second = NULL;
	pid_t pid;

	(void)state;
	OK(make(path, &first));
	/* Empty: taken over. */
	OK(make(path, &second));
	pid = spawn(second);
	bh_cgroup_free(second);
	second = NULL;
	assert_int_equal(make(path, &second), -EBUSY);
	assert_non_null(strstr(err.message, "container's cgroup is not empty: 1 process(es) found"));
	end(pid);
	OK(bh_cgroup_freeze(first, true, &err));
	assert_int_equal(make(path, &second), -EBUSY);
	assert_string_equal(err.message, "container's cgroup unexpectedly frozen");
	OK(bh_cgroup_freeze(first, false, &err));
	assert_null(second);
	OK(bh_cgroup_destroy(first, &err));
	bh_cgroup_free(first);
}

/* Does the folder's cgroup.procs list the process? */
static bool has_pid(const char *folder, pid_t pid)
{
	bh_auto_free char *file = bh_printf("%s/cgroup.procs", folder), *line = bh_printf("%d\n", (int)pid);
	bh_auto_buf struct bh_buf text = { 0 };

	OK(bh_read_file_at(AT_FDCWD, file, 65536, &text, &err));
	return text.length && strstr(text.data, line);
}

static void test_records(void **state)
{
	static const char *const bad[] = { "memory=/etc",
					   "memory=/sys/fs/cgroup/memory/../../x",
					   "pids=/sys/fs/cgroup/memory/x",
					   "nothing=/sys/fs/cgroup/x",
					   "memory",
					   "memory=",
					   "=/sys/fs/cgroup",
					   "=/sys/fs/cgroup/",
					   "memory=/sys/fs/cgroup/memory//x" };
	struct bh_strv paths = { 0 };
	struct bh_cgroup *cgroup, *again = NULL;
	bh_auto_free pid_t *pids = NULL;
	size_t count = 0;
	bool frozen = true;
	pid_t pid, second;

	(void)state;
	OK(make("", &cgroup));
	pid = spawn(cgroup);
	bh_cgroup_paths(cgroup, &paths);
	assert_true(host.version == 2 ? paths.count == 1 : paths.count >= 2);
	bh_cgroup_free(cgroup);
	OK(bh_cgroup_open_paths(&paths, NULL, &again, &err));
	OK(bh_cgroup_pids(again, &pids, &count, &err));
	assert_int_equal(count, 1);
	assert_int_equal(pids[0], pid);
	OK(bh_cgroup_paths_are_frozen(&paths, &frozen));
	assert_false(frozen);
	OK(bh_cgroup_freeze(again, true, &err));
	OK(bh_cgroup_paths_are_frozen(&paths, &frozen));
	assert_true(frozen);
	OK(bh_cgroup_freeze(again, false, &err));
	bh_cgroup_free(again);
	/* For a further process the folders need not be opened. */
	OK(bh_cgroup_open_paths_to_enter(&paths, NULL, &again, &err));
	second = spawn(again);
	bh_cgroup_free(again);
	for (size_t i = 0; i < paths.count; i++)
		assert_true(has_pid(strchr(paths.items[i], '/'), second));
	/* With processes inside: they are killed first. */
	OK(bh_cgroup_remove_paths(&paths, NULL, &err));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(waitpid(second, NULL, 0), second);
	OK(bh_cgroup_paths_are_frozen(&paths, &frozen));
	assert_false(frozen);
	assert_int_equal(bh_cgroup_open_paths_to_enter(&paths, NULL, &again, &err), -ENOENT);
	assert_int_equal(bh_cgroup_open_paths(&paths, NULL, &again, &err), -ENOENT);
	OK(bh_cgroup_remove_paths(&paths, NULL, &err));
	bh_strv_clear(&paths);
	for (size_t i = 0; i < BH_ARRAY_SIZE(bad); i++) {
		bh_strv_add(&paths, bad[i]);
		assert_int_equal(bh_cgroup_open_paths(&paths, NULL, &again, &err), -EINVAL);
		assert_int_equal(bh_cgroup_remove_paths(&paths, NULL, &err), -EINVAL);
		bh_strv_clear(&paths);
	}
}

static void test_folders_below(void **state)
{
	struct bh_cgroup *cgroup, *below;
	struct bh_strv paths = { 0 }, where = { 0 };
	bh_auto_free char *seen = NULL, *expected = bh_printf("%s/sub", path);
	const char *controllers = host.version == 2 ? "" : "memory";
	pid_t pid;

	(void)state;
	OK(make(path, &cgroup));
	bh_cgroup_paths(cgroup, &paths);
	bh_cgroup_open_all_made(cgroup);
	for (size_t i = 0; i < FOLDER_COUNT; i++)
		if (cgroup->folders[i].fd >= 0)
			assert_int_equal(mkdirat(cgroup->folders[i].fd, "sub", 0755), 0);
	/* A cpuset of v1 takes nobody before it has cpus. */
	if (cgroup->folders[FOLDER_CPUSET].fd >= 0) {
		char cpus[256], mems[256];

		bh_cgroup_read(cgroup->folders[FOLDER_CPUSET].fd, "cpuset.cpus", cpus, sizeof cpus);
		bh_cgroup_read(cgroup->folders[FOLDER_CPUSET].fd, "cpuset.mems", mems, sizeof mems);
		bh_cgroup_put(cgroup->folders[FOLDER_CPUSET].fd, "sub/cpuset.cpus", cpus);
		bh_cgroup_put(cgroup->folders[FOLDER_CPUSET].fd, "sub/cpuset.mems", mems);
	}
	OK(bh_cgroup_open_paths(&paths, NULL, &below, &err));
	bh_strv_add(&where, host.version == 2 ? "/sub" : "memory:sub");
	OK(bh_cgroup_descend(below, &where, &err));
	pid = spawn(below);
	seen = seen_path(pid, controllers);
	assert_string_equal(seen, expected);
	end(pid);
	bh_strv_clear(&where);
	bh_strv_add(&where, "../..");
	assert_int_equal(bh_cgroup_descend(below, &where, &err), -EINVAL);
	assert_non_null(strstr(err.message, "is not a sub cgroup path"));
	bh_strv_clear(&where);
	bh_strv_add(&where, "nothere");
	assert_true(bh_cgroup_descend(below, &where, &err) < 0);
	assert_non_null(strstr(err.message, " adding pid "));
	assert_non_null(strstr(err.message, "no such file or directory"));
	bh_strv_add(&where, "memory:a:b");
	assert_int_equal(bh_cgroup_descend(below, &where, &err), -EINVAL);
	bh_strv_clear(&where);
	bh_cgroup_free(below);
	bh_strv_clear(&paths);
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
}

static void test_hybrid_refuses_unified(void **state)
{
	struct bh_spec_resources r = { 0 };
	struct bh_cgroup_request request = { .path = path, .name = name, .resources = &r, .every_hierarchy = true, .strict = true };
	struct bh_cgroup *cgroup = NULL;

	(void)state;
	if (host.version == 2)
		skip();
	bh_strv_add(&r.unified, "memory.min=131072");
	assert_int_equal(bh_cgroup_make(&request, &cgroup, &err), -EINVAL);
	assert_string_equal(err.message, "invalid configuration: cannot use unified on cgroup v1");
	bh_strv_clear(&r.unified);
}

static void test_every_controller_is_handed_down(void **state)
{
	bh_auto_free char *deep = NULL, *top = NULL;
	struct bh_cgroup *cgroup;
	char all[512], own[512];

	(void)state;
	if (host.version != 2) {
		print_message("# lab: only on v2\n");
		skip();
	}
	deep = bh_printf("%s/a", path);
	top = bh_printf("/sys/fs/cgroup%s", path);
	OK(make(deep, &cgroup));
	assert_true(bh_cgroup_read(cgroup->root_fd, "cgroup.controllers", all, sizeof all));
	assert_true(bh_cgroup_read(bh_cgroup_any_fd(cgroup), "cgroup.controllers", own, sizeof own));
	assert_string_equal(own, all);
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
	assert_int_equal(rmdir(top), 0);
}

/* A user without rights on cgroups, in a child: files of root with mode 0755 are enough for that. */
static int as_nobody(int (*work)(void))
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
			_exit(99);
		_exit(work());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int rootless_tries(void)
{
	struct bh_spec_resources limits = { .pids_limit = BH_SOME(10) };
	struct bh_cgroup_request request = { .path = "", .name = name, .resources = &none, .every_hierarchy = true, .strict = true, .rootless = true };
	struct bh_cgroup *cgroup = (void *)&limits;
	const char *words = host.version == 2 ? "rootless needs no limits + no cgrouppath when no permission is granted for cgroups" :
						"cannot set pids limit: container could not join or create cgroup";

	if (bh_cgroup_make(&request, &cgroup, &err) < 0 || cgroup)
		return 1;
	request.resources = &limits;
	if (bh_cgroup_make(&request, &cgroup, &err) >= 0 || !strstr(err.message, words))
		return 2;
	request.resources = &none;
	request.path = path;
	if (bh_cgroup_make(&request, &cgroup, &err) >= 0 || !strstr(err.message, "permission denied"))
		return 3;
	return 0;
}

static void test_rootless(void **state)
{
	(void)state;
	assert_int_equal(as_nobody(rootless_tries), 0);
}

static void test_owner(void **state)
{
	struct bh_cgroup_request request = {
		.path = path, .name = name, .resources = &none, .every_hierarchy = true, .strict = true, .owner_uid = BH_SOME(4711)
	};
	struct bh_cgroup *cgroup;
	struct stat st;

	(void)state;
	OK(bh_cgroup_make(&request, &cgroup, &err));
	if (host.version == 2) {
		assert_int_equal(fstat(bh_cgroup_any_fd(cgroup), &st), 0);
		assert_int_equal(st.st_uid, 4711);
		assert_int_equal(fstatat(bh_cgroup_any_fd(cgroup), "cgroup.procs", &st, 0), 0);
		assert_int_equal(st.st_uid, 4711);
		assert_int_equal(fstatat(bh_cgroup_any_fd(cgroup), "memory.max", &st, 0), 0);
		assert_int_equal(st.st_uid, 0);
	}
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
}

#define REAL(test) cmocka_unit_test_setup_teardown(test, new_name, clean_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		REAL(test_every_hierarchy),
		REAL(test_relative_and_missing_paths),
		REAL(test_failure_takes_new_parents_back),
		REAL(test_existing_cgroups),
		REAL(test_records),
		REAL(test_folders_below),
		REAL(test_hybrid_refuses_unified),
		REAL(test_every_controller_is_handed_down),
		REAL(test_rootless),
		REAL(test_owner),
	};

	if (bh_cgroup_host(&host, &err) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
