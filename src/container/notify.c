/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seccomp filters that forbid what the start itself needs, and filters with a listener (runtime-spec config-linux.md,
 * "The Container Process State").
 *
 * The process installs its filter, and the kernel gives it the listener; the process passes that on to the caller, who
 * knows the pid as the host sees it, and who sends both with the container's state to the agent at listenerPath. The
 * process does not wait for that: a call that the agent has to judge waits in the kernel anyway. If the agent can't be
 * reached, the process is killed. From the filter on the process needs a few calls that must be free of charge: they are
 * looked up in the filter before anything is made.
 */
#include "container/container-internal.h"

#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

/* --- what a filter must allow -------------------------------------------------------------------------------------- */

struct needed {
	int number;
	const char *name;
};

static int need(const struct bh_job *job, const struct needed *calls, size_t count, struct bh_error *err)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t action = bh_seccomp_action(&job->filter, calls[i].number, 3);

		if (action == SECCOMP_RET_USER_NOTIF)
			return bh_error_text(err, EINVAL, "linux.seccomp: SCMP_ACT_NOTIFY cannot be used for the %s syscall", calls[i].name);
		if (action != SECCOMP_RET_ALLOW && action != SECCOMP_RET_LOG)
			return bh_error_text(err, EINVAL, "linux.seccomp: with SCMP_ACT_NOTIFY the %s syscall must be allowed", calls[i].name);
	}
	return 0;
}

int bh_check_seccomp(struct bh_job *job, struct bh_error *err)
{
	static const struct needed always[] = { { SYS_sendmsg, "sendmsg" } };
	static const struct needed waiting[] = { { SYS_read, "read" }, { SYS_write, "write" }, { SYS_accept4, "accept4" } };
	uint32_t execve;
	int r;

	if (job->filter.count)
		bh_debug("seccomp filter flags: %u", job->filter.flags);
	if (!job->filter.count || job->filter.builtin)
		return 0;
	execve = bh_seccomp_action(&job->filter, SYS_execve, 0);
	if (execve != SECCOMP_RET_ALLOW && execve != SECCOMP_RET_LOG && execve != SECCOMP_RET_USER_NOTIF)
		return bh_error_text(err, EPERM, "linux.seccomp: the filter does not allow execve, so nothing can be started");
	job->notifies = bh_seccomp_notifies(&job->filter);
	if (!job->notifies)
		return 0;
	if (!job->spec->seccomp.listener_path || !*job->spec->seccomp.listener_path)
		return bh_error_text(err, EINVAL, "linux.seccomp.listenerPath: seccomp listenerPath is not set");
	r = need(job, always, BH_ARRAY_SIZE(always), err);
	return r == 0 && !job->run ? need(job, waiting, BH_ARRAY_SIZE(waiting), err) : r;
}

/* --- the listener --------------------------------------------------------------------------------------------------- */

int bh_child_pass_listener(struct bh_job *job, int listener, struct bh_error *err)
{
	const struct bh_message message = { .kind = BH_MESSAGE_SECCOMP };
	int r = bh_sync_send(job->sync_child, &message, listener);

	return r < 0 ? bh_error_set(err, -r, "pass the seccomp listener on") : 0;
}

/* A path may be longer than a socket's address holds: then its folder is reached through an fd. */
static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	bh_auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), folder_fd = -1;
	const char *slash = strrchr(path, '/');

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof address.sun_path && slash) {
		bh_auto_free char *folder = bh_strndup(path, (size_t)(slash - path) + 1);

		folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (folder_fd < 0 || strlen(slash) > sizeof address.sun_path - 40)
			return folder_fd < 0 ? -errno : -ENAMETOOLONG;
		snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d%s", folder_fd, slash);
	} else {
		snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	}
	return connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : BH_TAKE_FD(fd);
}

static void write_process_state(const struct bh_job *job, pid_t pid, struct bh_buf *out)
{
	const char *metadata = job->spec->seccomp.listener_metadata;
	struct bh_hook_state state = { .status = job->exec ? "running" : "creating", .pid = pid };

	if (job->exec) {
		state.id = job->exec_request->id;
		state.bundle = job->exec_request->bundle;
		state.pid = job->exec_request->init_pid;
	} else {
		state.id = job->request->id;
		state.bundle = job->request->bundle;
	}
	bh_buf_adds(out, "{\"ociVersion\":\"" BH_SPEC_VERSION "\",\"fds\":[\"seccompFd\"],");
	bh_buf_addf(out, "\"pid\":%d", (int)pid);
	if (metadata && *metadata) {
		bh_buf_adds(out, ",\"metadata\":");
		bh_buf_add_json(out, metadata);
	}
	bh_buf_adds(out, ",\"state\":");
	bh_hook_state_write(job->spec, &state, out);
	bh_buf_addc(out, '}');
}

static int send_with_fd(int socket_fd, const struct bh_buf *text, int fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .header = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) } };
	struct iovec part = { text->data, text->length };
	struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space };
	ssize_t n;

	memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
	do
		n = sendmsg(socket_fd, &header, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n < text->length ? bh_write_all(socket_fd, text->data + n, text->length - (size_t)n) : 0;
}

int bh_caller_send_listener(struct bh_job *job, pid_t pid, struct bh_error *err)
{
	const char *path = job->spec->seccomp.listener_path;
	bh_auto_close int listener = BH_TAKE_FD(job->seccomp_fd), agent = connect_to(path);
	bh_auto_buf struct bh_buf state = { 0 };
	int r;

	if (agent < 0)
		return bh_error_set(err, -agent, "failed to connect with seccomp agent specified in the seccomp profile: %s", path);
	write_process_state(job, pid, &state);
	r = send_with_fd(agent, &state, listener);
	if (r < 0)
		return bh_error_set(err, -r, "cannot send seccomp fd to %s", path);
	bh_explain("seccomp", "listener", path);
	return 0;
}
