/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/namespace.h"

#include "base/file.h"
#include "base/log.h"
#include "linux/mount.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

const struct bh_namespace bh_namespaces[BH_NS_COUNT] = {
	[BH_NS_PID] = { "pid", "pid", CLONE_NEWPID },
	[BH_NS_NETWORK] = { "network", "net", CLONE_NEWNET },
	[BH_NS_MOUNT] = { "mount", "mnt", CLONE_NEWNS },
	[BH_NS_IPC] = { "ipc", "ipc", CLONE_NEWIPC },
	[BH_NS_UTS] = { "uts", "uts", CLONE_NEWUTS },
	[BH_NS_USER] = { "user", "user", CLONE_NEWUSER },
	[BH_NS_CGROUP] = { "cgroup", "cgroup", CLONE_NEWCGROUP },
	[BH_NS_TIME] = { "time", "time", CLONE_NEWTIME },
};

int bh_namespace_open(int dirfd, const char *path, enum bh_namespace_type type, struct bh_error *err)
{
	bh_auto_close int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	int flag;

	if (fd < 0)
		return bh_error_set(err, errno, "open the %s namespace %s", bh_namespaces[type].name, path);
	flag = ioctl(fd, NS_GET_NSTYPE);
	if (flag < 0)
		return bh_error_text(err, EINVAL, "%s is not a namespace", path);
	if (flag != bh_namespaces[type].flag)
		return bh_error_text(err, EINVAL, "%s is not a %s namespace", path, bh_namespaces[type].name);
	return BH_TAKE_FD(fd);
}

/* The two maps of a user namespace. */
struct map_kind {
	const char *file, *program;
};
static const struct map_kind uid_map = { "uid_map", "newuidmap" }, gid_map = { "gid_map", "newgidmap" };

#define SAID_MAX 512

/* Runs a set-uid program of the system; what it says goes into the error. */
static int run_program(const char *path, char *const *argv, struct bh_error *err)
{
	static char *const no_environment[] = { NULL };
	bh_auto_close int said = memfd_create("said", MFD_CLOEXEC);
	char text[SAID_MAX] = "";
	int status = 0;
	pid_t pid = said < 0 ? -1 : fork();

	if (pid == 0) {
		if (dup2(said, 1) >= 0 && dup2(said, 2) >= 0)
			execve(path, argv, no_environment);
		_exit(127);
	}
	if (pid < 0)
		return bh_error_set(err, errno, "run %s", path);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (status == 0)
		return 0;
	if (pread(said, text, sizeof text - 1, 0) > 0)
		text[strcspn(text, "\n")] = '\0';
	return bh_error_text(err, EPERM, "%s failed: %s", path, *text ? text : "it says nothing");
}

static int map_by_program(pid_t pid, const struct map_kind *kind, const struct bh_id_map *maps, size_t count, struct bh_error *err)
{
	static const char *const folders[] = { "/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin" };
	bh_auto_strv struct bh_strv argv = { 0 };
	bh_auto_free char *path = NULL;

	bh_strv_add(&argv, kind->program);
	bh_strv_addf(&argv, "%d", (int)pid);
	for (size_t i = 0; i < count; i++) {
		bh_strv_addf(&argv, "%u", maps[i].container_id);
		bh_strv_addf(&argv, "%u", maps[i].host_id);
		bh_strv_addf(&argv, "%u", maps[i].size);
	}
	for (size_t i = 0; i < BH_ARRAY_SIZE(folders); i++) {
		free(path);
		path = bh_printf("%s/%s", folders[i], kind->program);
		if (access(path, X_OK) == 0)
			return run_program(path, argv.items, err);
	}
	return bh_error_text(err, EPERM, "an ordinary user needs the program %s for this %s", kind->program, kind->file);
}

static bool is_own_id(const struct map_kind *kind, const struct bh_id_map *maps, size_t count)
{
	return count == 1 && maps->size == 1 && maps->host_id == (kind == &uid_map ? (uint32_t)geteuid() : (uint32_t)getegid());
}

static int write_map(pid_t pid, int proc_fd, const struct map_kind *kind, const struct bh_id_map *maps, size_t count, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	struct bh_error why = BH_ERROR_INIT;
	int r;

	if (!count)
		return bh_error_text(err, EINVAL, "the user namespace has no %s", kind->file);
	for (size_t i = 0; i < count; i++)
		bh_buf_addf(&text, "%u %u %u\n", maps[i].container_id, maps[i].host_id, maps[i].size);
	r = bh_write_value_at(proc_fd, kind->file, text.data, &why);
	if (r == -EPERM && kind == &gid_map && is_own_id(kind, maps, count)) {
		r = bh_write_value_at(proc_fd, "setgroups", "deny", &why);
		if (r == 0)
			r = bh_write_value_at(proc_fd, kind->file, text.data, &why);
	} else if (r == -EPERM && geteuid() != 0) {
		r = map_by_program(pid, kind, maps, count, &why);
	}
	if (r < 0)
		return bh_error_text(err, why.errnum, "%s", why.message);
	text.data[text.length - 1] = '\0';
	bh_explain("id-map", "file", kind->file, "map", text.data);
	return 0;
}

int bh_id_maps_write(pid_t pid, int proc_fd, const struct bh_id_map *uid_maps, size_t uid_count, const struct bh_id_map *gid_maps, size_t gid_count,
		     struct bh_error *err)
{
	int r = write_map(pid, proc_fd, &uid_map, uid_maps, uid_count, err);

	return r < 0 ? r : write_map(pid, proc_fd, &gid_map, gid_maps, gid_count, err);
}

int bh_user_namespace_new(const struct bh_id_map *uid_maps, size_t uid_count, const struct bh_id_map *gid_maps, size_t gid_count, struct bh_error *err)
{
	int pidfd = -1;
	const struct clone_args args = { .flags = CLONE_NEWUSER | CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD };
	bh_auto_free char *path = NULL;
	bh_auto_close int proc = -1;
	pid_t pid = bh_clone3(&args);
	int r;

	/* It only has to be there while its namespace is opened; then it is killed. */
	if (pid == 0) {
		for (;;)
			pause();
	}
	if (pid < 0)
		return bh_error_set(err, -pid, "make a user namespace");
	path = bh_printf("/proc/%d", (int)pid);
	proc = bh_open_dir(AT_FDCWD, path, 0, err);
	r = proc < 0 ? proc : bh_id_maps_write(pid, proc, uid_maps, uid_count, gid_maps, gid_count, err);
	if (r == 0)
		r = bh_namespace_open(proc, "ns/user", BH_NS_USER, err);
	bh_pidfd_send_signal(pidfd, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	close(pidfd);
	return r;
}

#define INITIAL_USER_NAMESPACE 0xEFFFFFFDU /* its inode number is fixed: linux/nsfs.h, USER_NS_INIT_INO */

bool bh_in_user_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/user", &st) == 0 && st.st_ino != INITIAL_USER_NAMESPACE;
}

bool bh_setgroups_is_denied(void)
{
	bh_auto_buf struct bh_buf text = { 0 };

	return bh_read_file_at(AT_FDCWD, "/proc/self/setgroups", 16, &text, NULL) == 0 && bh_has_prefix(text.data, "deny");
}

bool bh_id_to_host(const struct bh_id_map *maps, size_t count, uint32_t container_id, uint32_t *ret_host_id)
{
	for (size_t i = 0; i < count; i++) {
		if (container_id < maps[i].container_id || container_id - maps[i].container_id >= maps[i].size)
			continue;
		*ret_host_id = maps[i].host_id + (container_id - maps[i].container_id);
		return true;
	}
	return false;
}

bool bh_id_is_mapped(const struct bh_id_map *maps, size_t count, uint32_t container_id)
{
	uint32_t host_id;

	return bh_id_to_host(maps, count, container_id, &host_id);
}

int bh_loopback_up(struct bh_error *err)
{
	bh_auto(bh_close_helper) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		return bh_error_set(err, errno, "bring up the loopback interface");
	bh_explain("network", "interface", "lo", "state", "up");
	return 0;
}

int bh_private_proc(struct bh_error *err)
{
	static const struct bh_mount_options options = { .set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC };
	struct bh_error why = BH_ERROR_INIT;
	bh_auto_close int fd = bh_mount_new("proc", "proc", &options, &why);
	struct statfs fs;

	/* A pid namespace that this user namespace doesn't own, or an older kernel: then a copy of the /proc we were started
	 * with, which is checked to be procfs's own root, without what may be mounted on top of things in it. */
	if (fd < 0)
		fd = bh_mount_copy(AT_FDCWD, "/proc", false, &why);
	if (fd < 0)
		fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return bh_error_set(err, errno, "open procfs");
	if (fstatfs(fd, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC)
		return bh_error_text(err, EINVAL, "/proc is not procfs");
	return BH_TAKE_FD(fd);
}
