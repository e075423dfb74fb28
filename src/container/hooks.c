/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hooks (runtime-spec config.md, "POSIX-platform Hooks").
 *
 * prestart and createRuntime run in the caller when the container's namespaces and mounts are there and pivot_root has
 * not happened; createContainer then in the container's namespaces; startContainer just before the workload, inside its
 * root; poststart and poststop by whoever starts and deletes. A hook gets the container's state as JSON on stdin, no fd
 * beside its standard streams, and the time its configuration gives it: the wait is bounded by poll on its pidfd.
 */
#include "container/container-internal.h"

#include "base/log.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

void bh_hook_state_write(const struct bh_spec *spec, const struct bh_hook_state *state, struct bh_buf *out)
{
	bh_buf_adds(out, "{\"ociVersion\":");
	bh_buf_add_json(out, spec->oci_version ? spec->oci_version : BH_SPEC_VERSION);
	bh_buf_adds(out, ",\"id\":");
	bh_buf_add_json(out, state->id ? state->id : "");
	bh_buf_adds(out, ",\"status\":");
	bh_buf_add_json(out, state->status);
	if (state->pid > 0)
		bh_buf_addf(out, ",\"pid\":%d", (int)state->pid);
	bh_buf_adds(out, ",\"bundle\":");
	bh_buf_add_json(out, state->bundle ? state->bundle : "");
	bh_buf_adds(out, ",\"annotations\":");
	bh_map_write(&spec->annotations, out);
	bh_buf_addc(out, '}');
}

/* stdin of a hook: a memfd, so that a hook that doesn't read can't hold us up. */
static int state_fd(const struct bh_buf *state)
{
	int fd = memfd_create("state", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (write(fd, state->data, state->length) != (ssize_t)state->length || lseek(fd, 0, SEEK_SET) < 0) {
		close(fd);
		return -EIO;
	}
	return fd;
}

static _Noreturn void execute_hook(const struct bh_spec_hook *hook, int stdin_fd)
{
	static char *const nothing[] = { NULL };
	char *arguments[] = { hook->path, NULL };
	int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (dup2(stdin_fd, 0) < 0 || (null_fd >= 0 && dup2(null_fd, 1) < 0) || bh_close_range(3, ~0U, 0) < 0)
		_exit(126);
	execve(hook->path, hook->args.count ? hook->args.items : arguments, hook->env.count ? hook->env.items : nothing);
	_exit(127);
}

static int wait_for_hook(const struct bh_spec_hook *hook, const char *kind, pid_t pid, struct bh_error *err)
{
	int timeout = hook->timeout_s > 0 ? (int)BH_MIN(hook->timeout_s, INT32_MAX / 1000) * 1000 : -1;
	bh_auto_close int pidfd = bh_pidfd_open(pid);
	struct pollfd ended = { pidfd, POLLIN, 0 };
	int status = 0, n = pidfd < 0 ? 1 : poll(&ended, 1, timeout);

	if (n == 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (n == 0)
		return bh_error_text(err, ETIMEDOUT, "%s hook %s did not end within %lld s", kind, hook->path, (long long)hook->timeout_s);
	if (WIFSIGNALED(status))
		return bh_error_text(err, ECHILD, "%s hook %s was killed by signal %d", kind, hook->path, WTERMSIG(status));
	if (WEXITSTATUS(status))
		return bh_error_text(err, ECHILD, "%s hook %s ended with status %d", kind, hook->path, WEXITSTATUS(status));
	bh_explain("hook", "kind", kind, "path", hook->path);
	return 0;
}

int bh_container_hooks(const struct bh_spec *spec, const struct bh_spec_hooks *hooks, const char *kind, const struct bh_hook_state *state,
		       struct bh_error *err)
{
	bh_auto_buf struct bh_buf json = { 0 };

	if (!hooks->count)
		return 0;
	bh_hook_state_write(spec, state, &json);
	for (size_t i = 0; i < hooks->count; i++) {
		bh_auto_close int stdin_fd = state_fd(&json);
		pid_t pid = stdin_fd < 0 ? stdin_fd : fork();
		int r;

		if (pid == 0)
			execute_hook(&hooks->items[i], stdin_fd);
		if (pid < 0)
			return bh_error_set(err, stdin_fd < 0 ? -stdin_fd : errno, "run the %s hook %s", kind, hooks->items[i].path);
		r = wait_for_hook(&hooks->items[i], kind, pid, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static struct bh_hook_state state_of(const struct bh_job *job, const char *status, pid_t pid)
{
	return (struct bh_hook_state){ job->request->id, job->request->bundle, status, pid };
}

int bh_caller_hooks(struct bh_job *job, pid_t pid, struct bh_error *err)
{
	struct bh_hook_state state = state_of(job, "creating", pid);
	int r = bh_container_hooks(job->spec, &job->spec->hooks.prestart, "prestart", &state, err);

	return r < 0 ? r : bh_container_hooks(job->spec, &job->spec->hooks.create_runtime, "createRuntime", &state, err);
}

static int ask_and_wait(struct bh_job *job, unsigned kind, struct bh_error *err)
{
	struct bh_message message = { .kind = kind };
	int r = bh_sync_send(job->sync_child, &message, -1);

	if (r < 0)
		return bh_error_set(err, -r, "talk to the caller");
	/* The caller gave up: it has its own words. */
	if (bh_sync_receive(job->sync_child, &message, NULL) != 1 || message.kind != BH_MESSAGE_GO)
		_exit(1);
	return 0;
}

/* For the word to start: through the sync socket, or with a start socket by the first connection there, which then
 * takes the sync socket's place. */
int bh_child_wait_for_start(struct bh_job *job, struct bh_error *err)
{
	int listener = job->request->start_socket;
	int r = ask_and_wait(job, BH_MESSAGE_READY, err);
	bh_auto_close int connection = -1;

	if (r < 0 || listener <= 0)
		return r;
	do
		connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	while (connection < 0 && errno == EINTR);
	if (connection < 0 || dup3(connection, job->sync_child, O_CLOEXEC) < 0)
		return bh_error_set(err, errno, "wait for the start");
	close(listener);
	return 0;
}

int bh_child_create_hooks(struct bh_job *job, struct bh_error *err)
{
	struct bh_hook_state state;
	int r = 0;

	if (job->spec->hooks.prestart.count || job->spec->hooks.create_runtime.count)
		r = ask_and_wait(job, BH_MESSAGE_HOOKS, err);
	if (r < 0 || !job->spec->hooks.create_container.count)
		return r;
	state = state_of(job, "creating", getpid());
	return bh_container_hooks(job->spec, &job->spec->hooks.create_container, "createContainer", &state, err);
}

/* These belong to `start`, so the word to start is waited for here instead of in the stub. */
int bh_child_start_hooks(struct bh_job *job, struct bh_error *err)
{
	struct bh_hook_state state;
	int r = 0;

	if (!job->spec->hooks.start_container.count)
		return 0;
	state = state_of(job, "created", getpid());
	/* The listener is passed to the one who creates, so the filter can't wait for the one who starts. */
	if (!job->run && job->notifies)
		r = bh_child_lock_down(job, err);
	if (r == 0 && !job->run)
		r = bh_child_wait_for_start(job, err);
	job->run = true;
	return r < 0 ? r : bh_container_hooks(job->spec, &job->spec->hooks.start_container, "startContainer", &state, err);
}
