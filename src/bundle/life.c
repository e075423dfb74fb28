/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to a container after its creation: start, kill, pause, exec, delete (runtime-spec, runtime.md "Operations"). */
#include "bundle/bundle-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#define DELETE_WAIT_MS 10000 /* for a killed process to be gone */
#define DELETE_PROMPT_MS 500 /* after which it may be that something holds it */

int bh_bundle_run_hooks(struct bh_bundle *b, const struct bh_spec_hooks *hooks, const char *kind, struct bh_error *err)
{
	struct bh_hook_state state = {
		.id = b->id,
		.bundle = b->bundle,
		.status = bh_bundle_status_name(b->status),
		.pid = b->status == BH_BUNDLE_STOPPED ? 0 : b->pid,
	};

	return bh_container_hooks(&b->spec, hooks, kind, &state, err);
}

int bh_bundle_run_creation_hooks(const struct bh_bundle *b, pid_t pid, struct bh_error *err)
{
	struct bh_hook_state state = { .id = b->id, .bundle = b->bundle, .status = "created", .pid = pid };
	int r = bh_container_hooks(&b->spec, &b->spec.hooks.prestart, "prestart", &state, err);

	state.status = "creating";
	return r < 0 ? r : bh_container_hooks(&b->spec, &b->spec.hooks.create_runtime, "createRuntime", &state, err);
}

/* ECONNREFUSED: nobody holds the other end any more. */
static int connect_start(struct bh_bundle *b, struct bh_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	bh_auto_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/" BH_BUNDLE_SOCKET, b->dir_fd);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
		return BH_TAKE_FD(fd);
	if (errno == ECONNREFUSED)
		return bh_error_text(err, ECONNREFUSED, "cannot start a container that has stopped");
	return bh_error_set(err, errno, "connect to the container's process");
}

int bh_bundle_start(struct bh_bundle *b, struct bh_error *err)
{
	bh_auto_close int connection = -1;
	int r;

	if (b->status == BH_BUNDLE_STOPPED)
		return bh_error_text(err, EINVAL, "cannot start a container that has stopped");
	if (b->status != BH_BUNDLE_CREATED)
		return bh_error_text(err, EINVAL, "cannot start an already running container");
	r = bh_bundle_spec(b, err);
	if (r == 0)
		r = connection = connect_start(b, err);
	if (r < 0)
		return r;
	/* From here nobody else can start it. */
	if (unlinkat(b->dir_fd, BH_BUNDLE_SOCKET, 0) < 0)
		return bh_error_text(err, EINVAL, "cannot start an already running container");
	r = b->driver->start(connection, err);
	if (r < 0) {
		bh_pidfd_send_signal(b->pidfd, SIGKILL);
		return r;
	}
	if (!b->spec.process.args.count) {
		/* The specification wants an error, crun and OCI's validation programs have an exit status of 0: it is said, and no more. */
		bh_log(BH_LOG_ERROR, "the configuration of container %s has no process: there was nothing to start", b->id);
		return 0;
	}
	b->status = BH_BUNDLE_RUNNING;
	r = bh_bundle_run_hooks(b, &b->spec.hooks.poststart, "poststart", err);
	if (r < 0)
		bh_pidfd_send_signal(b->pidfd, SIGKILL);
	return r;
}

/* Then the end of its first process is not the end of the others. */
static bool shares_pids(struct bh_bundle *b)
{
	const struct bh_spec_namespace *pid = &b->spec.namespaces[BH_NS_PID];

	return bh_bundle_spec(b, NULL) == 0 && (!pid->present || pid->path);
}

int bh_bundle_kill(struct bh_bundle *b, int signal, bool all, struct bh_error *err)
{
	struct bh_compartment_place place = bh_bundle_place(b);
	int r;

	if (all || (signal == SIGKILL && shares_pids(b))) {
		r = b->driver->signal(&place, signal, err);
		if (r == -ENOENT && all)
			return 0;
		if (r != -ENOENT)
			return r;
	}
	if (b->pidfd < 0)
		return bh_error_text(err, ESRCH, "container not running");
	r = bh_pidfd_send_signal(b->pidfd, signal);
	/* On v1 a frozen process doesn't die. */
	if (r == 0 && signal == SIGKILL && b->status == BH_BUNDLE_PAUSED)
		b->driver->pause(&place, false, NULL);
	if (r == -ESRCH)
		return bh_error_text(err, ESRCH, "container not running");
	return r < 0 ? bh_error_set(err, -r, "send signal %d", signal) : 0;
}

int bh_bundle_pause(struct bh_bundle *b, bool pause, struct bh_error *err)
{
	struct bh_compartment_place place = bh_bundle_place(b);

	if (pause && b->status != BH_BUNDLE_RUNNING && b->status != BH_BUNDLE_CREATED)
		return bh_error_text(err, EINVAL, "container not running");
	if (!pause && b->status != BH_BUNDLE_PAUSED)
		return bh_error_text(err, EINVAL, "container not paused");
	return b->driver->pause(&place, pause, err);
}

int bh_bundle_update(struct bh_bundle *b, const struct bh_spec_resources *resources, struct bh_error *err)
{
	struct bh_compartment_place place = bh_bundle_place(b);

	if (b->status == BH_BUNDLE_STOPPED || b->status == BH_BUNDLE_CREATING)
		return bh_error_text(err, EINVAL, "container not running");
	return b->driver->update(&place, resources, err);
}

int bh_bundle_write_stats(struct bh_bundle *b, struct bh_buf *out, struct bh_error *err)
{
	struct bh_compartment_place place = bh_bundle_place(b);

	return b->driver->write_stats(&place, NULL, out, err);
}

int bh_bundle_watch(struct bh_bundle *b, struct bh_cgroup_watch *ret_watch, struct bh_error *err)
{
	struct bh_compartment_place place = bh_bundle_place(b);

	return b->driver->watch(&place, ret_watch, err);
}

int bh_bundle_pids(struct bh_bundle *b, pid_t **ret_pids, size_t *ret_count, struct bh_error *err)
{
	struct bh_compartment_place place = bh_bundle_place(b);
	int r;

	r = b->driver->pids(&place, ret_pids, ret_count, err);
	if (r == -ENOENT) {
		*ret_pids = NULL;
		*ret_count = 0;
		return 0;
	}
	return r;
}

/* Nearly always two files are all that is in it. */
static int remove_folder(struct bh_bundle *b, struct bh_error *err)
{
	unlinkat(b->dir_fd, BH_BUNDLE_INIT, 0);
	unlinkat(b->dir_fd, BH_BUNDLE_RECORD, 0);
	return bh_remove_tree_at(b->root_fd, b->id, err);
}

int bh_bundle_remove(struct bh_bundle *b, struct bh_error *err)
{
	struct bh_compartment_place place = bh_bundle_place(b);
	int r = b->cgroups.count || b->cgroup_unit ? b->driver->destroy(&place, err) : 0;

	if (r == 0 && (!b->has_spec || bh_bundle_shares_mounts(b)))
		r = bh_bundle_detach_root(b, err);
	return r < 0 ? r : remove_folder(b, err);
}

/* SIGKILL, and until it is gone; a frozen one is thawed by the cgroup's end. */
static int end_process(struct bh_bundle *b, struct bh_error *err)
{
	struct bh_compartment_place place = bh_bundle_place(b);

	if (b->pidfd < 0 || b->status == BH_BUNDLE_STOPPED)
		return 0;
	if (b->status == BH_BUNDLE_PAUSED)
		b->driver->pause(&place, false, NULL);
	bh_pidfd_send_signal(b->pidfd, SIGKILL);
	if (bh_pidfd_wait(b->pidfd, DELETE_PROMPT_MS) == 0) {
		b->driver->take_back(&place, b->pid, NULL);
		if (bh_pidfd_wait(b->pidfd, DELETE_WAIT_MS) == 0)
			return bh_error_text(err, EBUSY, "container init still running");
	}
	b->status = BH_BUNDLE_STOPPED;
	return 0;
}

/*
 * Two may delete the same container, such as a foreground run at its end and a command: one does it, and runs the hooks.
 * The other finds the folder gone, and must not take a new one of the same name for it. (A container that is being made is
 * locked by its maker.)
 */
static bool is_deleted(struct bh_bundle *b)
{
	struct stat st;

	if (b->status != BH_BUNDLE_CREATING)
		bh_lock_fd(b->dir_fd, true, false);
	return fstat(b->dir_fd, &st) == 0 && st.st_nlink == 0;
}

int bh_bundle_delete(struct bh_bundle *b, bool force, struct bh_error *err)
{
	int r;

	if (!force && (b->status == BH_BUNDLE_RUNNING || b->status == BH_BUNDLE_PAUSED || b->status == BH_BUNDLE_CREATING))
		return bh_error_text(err, EBUSY, "cannot delete container %s that is not stopped: %s", b->id, bh_bundle_status_name(b->status));
	/* First of all: the process of a maker that was killed holds its lock until it ends itself. */
	r = end_process(b, err);
	if (r < 0)
		return r;
	if (is_deleted(b))
		return 0;
	if (bh_bundle_spec(b, NULL) < 0)
		return bh_bundle_remove(b, err);
	r = bh_bundle_remove(b, err);
	if (r == 0)
		r = bh_container_remove_rdt(&b->spec, b->id, err);
	return r < 0 ? r : bh_bundle_run_hooks(b, &b->spec.hooks.poststop, "poststop", err);
}

static int check_microvm_exec(const struct bh_bundle_exec *request, struct bh_error *err)
{
	if (request->preserve_fds)
		return bh_error_text(err, ENOTSUP, "--preserve-fds: a microVM's process gets its standard streams only");
	return request->cgroups && request->cgroups->count ? bh_error_text(err, ENOTSUP, "--cgroup: a microVM has cgroups of its own") : 0;
}

int bh_bundle_exec(struct bh_bundle *b, const struct bh_bundle_exec *request, struct bh_container_process *ret_process, struct bh_error *err)
{
	struct bh_compartment_place place = bh_bundle_place(b);
	const struct bh_microvm vm = { .list = request->list };
	struct bh_spec_process process = *request->process;
	struct bh_container_exec exec = {
		.init_pid = b->pid,
		.init_pidfd = b->pidfd,
		.all_cpus = true,
		.id = b->id,
		.bundle = b->bundle,
		.process = request->process,
		.stdio = request->stdio,
		.preserve_fds = request->preserve_fds,
		.rootless = bh_started_as() != 0,
	};
	int r;

	if (b->status == BH_BUNDLE_STOPPED || b->status == BH_BUNDLE_CREATING)
		return bh_error_text(err, EINVAL, "cannot exec in a stopped container");
	if (b->status == BH_BUNDLE_PAUSED && !request->ignore_paused)
		return bh_error_text(err, EINVAL, "cannot exec in a paused container (use --ignore-paused to override)");
	r = bh_bundle_spec(b, err);
	if (r < 0)
		return r;
	if (b->driver->has_own_kernel) {
		r = check_microvm_exec(request, err);
		process.selinux_label = process.apparmor_profile = NULL; /* of the host's kernel */
		exec.process = &process;
	}
	if (r < 0)
		return r;
	exec.spec = &b->spec;
	place.below = request->cgroups;
	place.microvm = &vm;
	r = b->driver->exec(&place, &exec, ret_process, err);
	if (r == 0 && request->pid_file)
		r = bh_bundle_write_pid_file(request->pid_file, ret_process->pid, err);
	/* It's ours until the caller has it. */
	if (r < 0 && ret_process->pidfd >= 0)
		bh_pidfd_send_signal(ret_process->pidfd, SIGKILL);
	return r;
}
