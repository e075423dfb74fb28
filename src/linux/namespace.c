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
#include <sys/mount.h>
#include <sys/socket.h>
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

static int write_map(int proc_fd, const char *file, const struct bh_id_map *maps, size_t count, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	int r;

	if (!count)
		return bh_error_text(err, EINVAL, "the user namespace has no %s", file);
	for (size_t i = 0; i < count; i++)
		bh_buf_addf(&text, "%u %u %u\n", maps[i].container_id, maps[i].host_id, maps[i].size);
	r = bh_write_value_at(proc_fd, file, text.data, err);
	if (r < 0)
		return r;
	text.data[text.length - 1] = '\0';
	bh_explain("id-map", "file", file, "map", text.data);
	return 0;
}

int bh_id_maps_write(int proc_fd, const struct bh_id_map *uid_maps, size_t uid_count, const struct bh_id_map *gid_maps, size_t gid_count,
		     struct bh_error *err)
{
	int r = write_map(proc_fd, "uid_map", uid_maps, uid_count, err);

	return r < 0 ? r : write_map(proc_fd, "gid_map", gid_maps, gid_count, err);
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
	r = proc < 0 ? proc : bh_id_maps_write(proc, uid_maps, uid_count, gid_maps, gid_count, err);
	if (r == 0)
		r = bh_namespace_open(proc, "ns/user", BH_NS_USER, err);
	bh_pidfd_send_signal(pidfd, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	close(pidfd);
	return r;
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
	bh_auto_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
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
