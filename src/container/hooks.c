/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hooks (runtime-spec config.md, "POSIX-platform Hooks").
 *
 * prestart and createRuntime run in the caller when the container's namespaces and mounts are there and pivot_root has
 * not happened; createContainer then in the container's namespaces; startContainer just before the workload, inside its
 * root; poststart and poststop by whoever starts and deletes. A hook gets the container's state as JSON on stdin, no fd
 * beside its standard streams, and the time its configuration gives it: the wait is bounded by poll on its pidfd. One whose
 * configuration says nothing of an environment has its caller's; for startContainer that is the workload's. What it prints is kept for the words of its failure, which are those of runc.
 */
#include "container/container-internal.h"

#include "base/log.h"
#include "base/time.h"
#include "linux/syscall.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
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

/* A hook while it runs. What it prints is for the error's words if it fails; more than that is read and forgotten. */
#define SAID_MAX 4096

struct running {
	pid_t pid;
	int pidfd;
	int outputs[2]; /* its stdout and stderr, -1 at their end */
	int failed_fd;  /* gives an errno if it could not be executed */
	struct bh_buf said[2];
	bool late;
};

static void running_clear(struct running *r)
{
	for (int i = 0; i < 2; i++) {
		bh_close_fd(&r->outputs[i]);
		bh_buf_clear(&r->said[i]);
	}
	bh_close_fd(&r->pidfd);
	bh_close_fd(&r->failed_fd);
}

/* A folder to begin in: the bundle, or for what runs inside the container's root, that. */
static void enter_folder(const struct bh_hook_state *state)
{
	const char *folder = state->folder ? state->folder : state->bundle ? state->bundle : "/";

	if (chdir(folder) < 0)
		bh_debug("hook: enter %s: %s", folder, strerror(errno));
}

static _Noreturn void execute_hook(const struct bh_spec_hook *hook, char *const *inherited, int stdin_fd, int stdout_fd, int stderr_fd, int failed_fd)
{
	static char *const nothing[] = { NULL };
	char *arguments[] = { hook->path, NULL };
	char *const *environment = !hook->env_given ? inherited : hook->env.count ? hook->env.items : nothing;
	int errnum;

	if (dup2(stdin_fd, 0) >= 0 && dup2(stdout_fd, 1) >= 0 && dup2(stderr_fd, 2) >= 0 && bh_close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
		execve(hook->path, hook->args.count ? hook->args.items : arguments, environment);
	errnum = errno;
	_exit(write(failed_fd, &errnum, sizeof errnum) == sizeof errnum ? 127 : 126);
}

/* The ends that the hook gets lie above the standard streams, so that one dup2 can't undo another. */
static int make_pipe(int *ret_read, int *ret_write)
{
	int ends[2], moved;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	moved = fcntl(ends[1], F_DUPFD_CLOEXEC, 3);
	close(ends[1]);
	if (moved < 0) {
		close(ends[0]);
		return -EMFILE;
	}
	*ret_read = ends[0];
	*ret_write = moved;
	return 0;
}

static int begin_hook(const struct bh_spec_hook *hook, const struct bh_hook_state *state, const struct bh_buf *json, struct running *ret)
{
	bh_auto_close int stdin_fd = state_fd(json), stdout_fd = -1, stderr_fd = -1, failed_fd = -1;
	int r = stdin_fd < 0 ? stdin_fd : make_pipe(&ret->outputs[0], &stdout_fd);

	if (r == 0)
		r = make_pipe(&ret->outputs[1], &stderr_fd);
	if (r == 0)
		r = make_pipe(&ret->failed_fd, &failed_fd);
	if (r < 0)
		return r;
	ret->pid = bh_clone3(&(struct clone_args){ .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&ret->pidfd, .exit_signal = SIGCHLD });
	if (ret->pid == 0) {
		enter_folder(state);
		if (state->prepare && state->prepare(state->context) < 0)
			_exit(126);
		execute_hook(hook, state->environment ? state->environment : environ, stdin_fd, stdout_fd, stderr_fd, failed_fd);
	}
	return BH_MIN(ret->pid, 0);
}

static void take_output(struct running *r, int which)
{
	char bytes[SAID_MAX];
	ssize_t n = read(r->outputs[which], bytes, sizeof bytes);

	if (n > 0)
		bh_buf_add(&r->said[which], bytes, BH_MIN((size_t)n, SAID_MAX - BH_MIN(r->said[which].length, (size_t)SAID_MAX)));
	else if (n == 0 || errno != EINTR)
		bh_close_fd(&r->outputs[which]);
}

/* Until it has ended, whoever else still holds its streams; or until its time is over. */
static void watch_hook(struct running *r, int64_t timeout_s)
{
	int64_t end_ns = bh_monotonic_ns() + BH_MIN(timeout_s, INT32_MAX / 1000) * 1000000000;

	for (;;) {
		struct pollfd fds[] = { { r->pidfd, POLLIN, 0 }, { r->outputs[0], POLLIN, 0 }, { r->outputs[1], POLLIN, 0 } };
		int64_t left_ms = (end_ns - bh_monotonic_ns() + 999999) / 1000000;
		bool ended;

		/* Before 5.2 there is no pidfd: the end of its streams is all that is seen before its own. */
		if (r->pidfd < 0 && r->outputs[0] < 0 && r->outputs[1] < 0)
			return;
		if (poll(fds, BH_ARRAY_SIZE(fds), timeout_s ? (int)BH_MAX(left_ms, 0) : -1) == 0) {
			r->late = true;
			kill(r->pid, SIGKILL);
			return;
		}
		ended = r->pidfd < 0 || fds[0].revents;
		for (int i = 0; i < 2; i++)
			if (fds[i + 1].revents)
				take_output(r, i);
		if (ended && !fds[1].revents && !fds[2].revents)
			return;
	}
}

static const char *trimmed(struct bh_buf *said)
{
	while (said->length && strchr(" \t\r\n", said->data[said->length - 1]))
		said->data[--said->length] = '\0';
	return said->length ? said->data : "";
}

/* As Go's os/exec tells it, for that is what callers of runc have always seen. */
static int hook_error(const struct bh_spec_hook *hook, struct running *r, int status, struct bh_error *err)
{
	char what[64];
	int errnum;

	if (r->late)
		return bh_error_text(err, ETIMEDOUT, "hook ran past specified timeout of %lld.0s", (long long)hook->timeout_s);
	if (read(r->failed_fd, &errnum, sizeof errnum) == sizeof errnum)
		return bh_error_set(err, errnum, "fork/exec %s", hook->path);
	if (WIFSIGNALED(status)) {
		snprintf(what, sizeof what, "signal: %s", strsignal(WTERMSIG(status)));
		what[8] = (char)tolower((unsigned char)what[8]);
	} else {
		snprintf(what, sizeof what, "exit status %d", WEXITSTATUS(status));
	}
	return bh_error_text(err, ECHILD, "%s, stdout: %s, stderr: %s", what, trimmed(&r->said[0]), trimmed(&r->said[1]));
}

static int run_hook(const struct bh_spec_hook *hook, const char *kind, const struct bh_hook_state *state, const struct bh_buf *json,
		    struct bh_error *err)
{
	bh_auto(running_clear) struct running running = { .pidfd = -1, .outputs = { -1, -1 }, .failed_fd = -1 };
	int status = 0, r = begin_hook(hook, state, json, &running);

	if (r < 0)
		return bh_error_set(err, -r, "run %s", hook->path);
	watch_hook(&running, hook->timeout_s);
	while (waitpid(running.pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (status || running.late)
		return hook_error(hook, &running, status, err);
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
		int r = run_hook(&hooks->items[i], kind, state, &json, err);

		if (r < 0) {
			bh_error_prefix(err, "error running %s hook #%zu", kind, i);
			return r;
		}
	}
	return 0;
}

static struct bh_hook_state state_of(const struct bh_job *job, const char *status, pid_t pid)
{
	return (struct bh_hook_state){ .id = job->request->id, .bundle = job->request->bundle, .status = status, .pid = pid };
}

int bh_caller_hooks(struct bh_job *job, pid_t pid, struct bh_error *err)
{
	/* runtime.md, "Lifecycle": prestart comes behind the step that ends `creating`, createRuntime is told of as part of it. */
	struct bh_hook_state state = state_of(job, "created", pid);
	int r = bh_container_hooks(job->spec, &job->spec->hooks.prestart, "prestart", &state, err);

	state.status = "creating";
	return r < 0 ? r : bh_container_hooks(job->spec, &job->spec->hooks.create_runtime, "createRuntime", &state, err);
}

static int ask(struct bh_job *job, const struct bh_message *question, int fd, int *ret_fd, struct bh_error *err)
{
	int r = bh_sync_send(job->sync_child, question, fd);

	if (r < 0)
		return bh_error_set(err, -r, "talk to the caller");
	/* The caller gave up: it has its own words. */
	if (bh_child_wait(job, ret_fd) < 0)
		_exit(1);
	return 0;
}

int bh_child_ask_about(struct bh_job *job, unsigned kind, int value, int fd, struct bh_error *err)
{
	return ask(job, &(const struct bh_message){ .kind = kind, .value = value }, fd, NULL, err);
}

int bh_child_ask_for(struct bh_job *job, unsigned kind, int value, int *ret_fd, struct bh_error *err)
{
	return ask(job, &(const struct bh_message){ .kind = kind, .value = value }, -1, ret_fd, err);
}

int bh_child_ask(struct bh_job *job, unsigned kind, struct bh_error *err)
{
	return bh_child_ask_about(job, kind, 0, -1, err);
}

static void end_by_signal(int number)
{
	_exit(128 + number);
}

/* The first process of a pid namespace gets only signals that it handles. One that is ignored stays so. */
static void handle_signals(void)
{
	static const int numbers[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };
	struct sigaction handled = { .sa_handler = end_by_signal }, before;

	for (size_t i = 0; i < BH_ARRAY_SIZE(numbers); i++)
		if (sigaction(numbers[i], &handled, &before) == 0 && before.sa_handler == SIG_IGN)
			sigaction(numbers[i], &before, NULL);
}

/* For the word to start: through the sync socket, or with a start socket by the first connection there, which then
 * takes the sync socket's place. */
int bh_child_wait_for_start(struct bh_job *job, struct bh_error *err)
{
	int listener = job->request->start_socket, r;
	bh_auto_close int connection = -1;

	/* Before anybody can know that it is created. */
	if (listener > 0)
		handle_signals();
	r = bh_child_ask(job, BH_MESSAGE_READY, err);
	if (r < 0 || listener <= 0)
		return r;
	do
		connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	while (connection < 0 && errno == EINTR);
	if (connection < 0)
		return bh_error_set(err, errno, "wait for the start");
	if (dup3(connection, job->sync_child, O_CLOEXEC) < 0) {
		r = bh_error_set(err, errno, "wait for the start");
		job->sync_child = BH_TAKE_FD(connection); /* whoever starts it wants to hear that */
		return r;
	}
	close(listener);
	return 0;
}

int bh_child_create_hooks(struct bh_job *job, struct bh_error *err)
{
	struct bh_hook_state state;
	int r = 0;

	if (job->spec->hooks.prestart.count || job->spec->hooks.create_runtime.count)
		r = bh_child_ask(job, BH_MESSAGE_HOOKS, err);
	if (r < 0 || !job->spec->hooks.create_container.count)
		return r;
	state = state_of(job, "creating", getpid());
	/* As runc: beside the root that will be. */
	state.folder = job->request->rootfs.path;
	return bh_container_hooks(job->spec, &job->spec->hooks.create_container, "createContainer", &state, err);
}

/* These run under the workload's filter (runc does it so). Where the filter asks a listener, that is the workload's alone. */
static int lock_down_hook(void *context)
{
	struct bh_job *job = context;

	return bh_seccomp_notifies(&job->filter) ? 0 : bh_child_lock_down(job, NULL);
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
	state.folder = "/";
	state.prepare = lock_down_hook;
	state.context = job;
	state.environment = bh_child_environment_items(job);
	return r < 0 ? r : bh_container_hooks(job->spec, &job->spec->hooks.start_container, "startContainer", &state, err);
}
