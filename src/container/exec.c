/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A further process in a running container.
 *
 * The helper process enters all namespaces of the container's first process and gives up its privileges there, but it
 * is itself no member of the container's pid namespace: only its children would be. Its only child is cloned by the exec
 * stub, as a sibling, so the caller is the parent. Processes of the container that may trace others (CAP_SYS_PTRACE)
 * thus never find the runtime's binary in a /proc/PID/exe, nor its memory or fds.
 */
#include "container/container-internal.h"

#include "base/file.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>

int bh_job_open_namespaces(struct bh_job *job, pid_t pid, int pidfd, struct bh_error *err)
{
	for (int i = 0; i < BH_NS_COUNT; i++) {
		bh_auto_free char *path = NULL;

		if (!(job->enter_flags & bh_namespaces[i].flag))
			continue;
		path = bh_printf("/proc/%d/ns/%s", (int)pid, bh_namespaces[i].file);
		job->join_fds[i] = bh_namespace_open(AT_FDCWD, path, (enum bh_namespace_type)i, err);
		if (job->join_fds[i] < 0)
			return job->join_fds[i];
	}
	/* Were they that process's files, and not those of a later one with the same number? */
	return bh_pidfd_send_signal(pidfd, 0) < 0 ? bh_error_text(err, ESRCH, "the container is not running") : 0;
}

static int open_root(struct bh_job *job, pid_t pid, int pidfd, struct bh_error *err)
{
	bh_auto_free char *path = bh_printf("/proc/%d/root", (int)pid);

	job->root_fd = bh_open_dir(AT_FDCWD, path, O_PATH, err);
	if (job->root_fd < 0)
		return job->root_fd;
	return bh_pidfd_send_signal(pidfd, 0) < 0 ? bh_error_text(err, ESRCH, "the container is not running") : 0;
}

static int prepare_namespaces(struct bh_job *job, const struct bh_container_exec *request, struct bh_error *err)
{
	int r;

	for (int i = 0; i < BH_NS_COUNT; i++)
		if (request->spec->namespaces[i].present)
			job->enter_flags |= bh_namespaces[i].flag;
	if (request->rootless)
		job->enter_flags |= CLONE_NEWUSER;
	job->user_namespace = job->enter_flags & CLONE_NEWUSER;
	job->host_mounts = !(job->enter_flags & CLONE_NEWNS);
	r = job->host_mounts ? open_root(job, request->init_pid, request->init_pidfd, err) : 0;
	if (r < 0)
		return r;
	if (!bh_linux_has(BH_CALL_SETNS_PIDFD))
		return bh_job_open_namespaces(job, request->init_pid, request->init_pidfd, err);
	job->enter_pidfd = fcntl(request->init_pidfd, F_DUPFD_CLOEXEC, 3);
	return job->enter_pidfd < 0 ? bh_error_set(err, errno, "keep the container's pidfd") : 0;
}

static int prepare(struct bh_job *job, const struct bh_container_exec *request, struct bh_error *err)
{
	struct bh_spec_seccomp none = { .source = BH_SECCOMP_NONE };
	int r;

	job->exec = true;
	job->exec_request = request;
	job->run = true;
	job->spec = request->spec;
	job->process = request->process;
	job->cgroup = request->cgroup;
	job->stdio = request->stdio;
	job->preserve_fds = request->preserve_fds;
	job->all_cpus = request->all_cpus;
	job->no_new_keyring = request->no_new_keyring;
	if (!request->process->args.count)
		return bh_error_text(err, EINVAL, "no command to run");
	bh_job_take_labels(job);
	r = bh_check_schedule(request->spec, request->process, err);
	if (r == 0)
		r = prepare_namespaces(job, request, err);
	if (r == 0)
		r = bh_seccomp_compile(request->privileged ? &none : &request->spec->seccomp, request->process->capabilities.bounding, &job->filter,
				       err);
	if (r == 0)
		r = bh_check_seccomp(job, err);
	bh_job_clamp_capabilities(job);
	if (r == 0)
		r = bh_job_make_sync(job, err);
	if (r == 0)
		r = bh_job_make_stub(job, err);
	return r < 0 ? r : bh_job_join_rdt(job, request->id, err);
}

int bh_container_exec(const struct bh_container_exec *request, struct bh_container_process *ret_process, struct bh_error *err)
{
	struct bh_container_process process = { .pid = -1, .pidfd = -1, .sync_fd = -1 };
	struct bh_job job;
	int r;

	bh_job_init(&job);
	if (request->stdio)
		request->stdio->ret_terminal_fd = -1;
	r = prepare(&job, request, err);
	if (r == 0) {
		job.helper = bh_job_clone_with_affinity(&job, err);
		if (job.helper == 0)
			bh_child_main(&job);
		if (job.helper < 0)
			r = job.helper;
		bh_close_fd(&job.sync_child);
	}
	if (r == 0)
		r = bh_follow(&job, &process, 0, err);
	if (r == 0) {
		process.sync_fd = BH_TAKE_FD(job.sync_caller);
		*ret_process = process;
	} else {
		bh_job_kill(&job, &process);
		if (err && !err->exit_code)
			err->exit_code = 125;
	}
	bh_job_clear(&job);
	return r;
}
