/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sd_notify(3) from inside a container.
 *
 * A service manager takes messages from the processes of the service's own cgroup only, and a container's are elsewhere. So
 * the container gets a socket of ours, and who has started it (`run`, `start`) waits there for READY=1, and says it to the
 * manager, and then the pid of the container's first process. Nothing else is passed on, and nobody stays for it: afterwards
 * the socket has no other end, which sd_notify ignores.
 *
 * The socket is in a folder of the state, which is mounted, as crun does it, on the path that the manager's own socket has
 * outside; where that can't be or would be in the way, on /run/notify, as runc does it. NOTIFY_SOCKET tells which.
 */
#include "bundle/bundle-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define FOLDER "notify"
#define INSIDE "/run/notify"
#define SOCKET "notify"
#define LINK "notify.sock"
#define MESSAGE_MAX 4096

static bool is_at_or_below(const char *path, const char *folder)
{
	size_t length = strlen(folder);

	return strncmp(path, folder, length) == 0 && (!path[length] || path[length] == '/');
}

/* Not where the container has file systems of the kernel, nor where a systemd inside has its own socket, nor what the
 * configuration mounts there. */
static bool can_have_managers_path(const struct bh_bundle *b, const char *manager)
{
	static const char *const others[] = { "/proc", "/sys", "/dev", "/run/systemd" };

	if (*manager != '/' || !manager[1] || strstr(manager, "/.") || strstr(manager, "//") || bh_has_suffix(manager, "/"))
		return false;
	for (size_t i = 0; i < BH_ARRAY_SIZE(others); i++)
		if (is_at_or_below(manager, others[i]))
			return false;
	for (size_t i = 0; i < b->spec.mount_count; i++)
		if (is_at_or_below(b->spec.mounts[i].destination, manager))
			return false;
	return true;
}

int bh_bundle_prepare_notify(struct bh_bundle *b, const char *manager, struct bh_error *err)
{
	bh_auto_free char *source = bh_printf("/proc/self/fd/%d/" FOLDER, b->dir_fd);
	bool same_path = can_have_managers_path(b, manager);
	const char *inside = same_path ? manager : INSIDE;
	bh_auto_free char *variable = bh_printf("NOTIFY_SOCKET=%s/%s", inside, same_path ? SOCKET : LINK);

	if (mkdirat(b->dir_fd, FOLDER, 0755) < 0)
		return bh_error_set(err, errno, "make the folder " FOLDER);
	bh_spec_add_mount(&b->spec, inside, "bind", source, "bind,nosuid,noexec,nodev,ro");
	bh_env_set(&b->spec.process.env, variable);
	return 0;
}

int bh_bundle_listen_notify(struct bh_bundle *b, struct bh_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	bh_auto_close int fd = -1;

	if (faccessat(b->dir_fd, FOLDER, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/" FOLDER "/" SOCKET, b->dir_fd);
	unlink(address.sun_path);
	/* Whoever the workload runs as may write to it. */
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || chmod(address.sun_path, 0777) < 0)
		return bh_error_set(err, errno, "make the notify socket");
	if (symlinkat(SOCKET, b->dir_fd, FOLDER "/" LINK) < 0 && errno != EEXIST)
		return bh_error_set(err, errno, "make a link to the notify socket");
	b->notify_fd = BH_TAKE_FD(fd);
	return 0;
}

static void tell_manager(const struct bh_bundle *b, const char *manager)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	bh_auto_free char *pid = bh_printf("MAINPID=%d", (int)b->pid);
	const char *const messages[] = { "READY=1", pid };
	bh_auto_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t length = (socklen_t)strlen(manager);

	if (fd < 0 || length < 2 || length >= sizeof address.sun_path)
		return;
	memcpy(address.sun_path, manager, length);
	if (*manager == '@')
		address.sun_path[0] = '\0';
	length += (socklen_t)offsetof(struct sockaddr_un, sun_path);
	for (size_t i = 0; i < BH_ARRAY_SIZE(messages); i++)
		sendto(fd, messages[i], strlen(messages[i]), MSG_NOSIGNAL, (struct sockaddr *)&address, length);
}

bool bh_bundle_take_notify(struct bh_bundle *b, const char *manager)
{
	char text[MESSAGE_MAX + 1];
	ssize_t n = recv(b->notify_fd, text, MESSAGE_MAX, MSG_DONTWAIT);

	if (n <= 0)
		return false;
	text[n] = '\0';
	if (strncmp(text, "READY=1", 7) != 0 && !strstr(text, "\nREADY=1"))
		return false;
	tell_manager(b, manager);
	bh_close_fd(&b->notify_fd);
	return true;
}

void bh_bundle_wait_notify(struct bh_bundle *b, const char *manager)
{
	while (b->notify_fd >= 0) {
		struct pollfd fds[] = { { b->notify_fd, POLLIN, 0 }, { b->pidfd, POLLIN, 0 } };

		if (poll(fds, BH_ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			return;
		if (fds[0].revents)
			bh_bundle_take_notify(b, manager);
		else if (fds[1].revents)
			return;
	}
}
