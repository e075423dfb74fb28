/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the first process of a container, or a further one (exec), does on its way: tables of stages, run in order. The
 * first failure goes to the caller in its own words and ends the process.
 */
#include "container/container-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static int stage_begin(struct bh_job *job, struct bh_error *err)
{
	struct pollfd closed = { job->sync_child, POLLHUP, 0 };
	sigset_t none;

	/* These, and "about to exec" at the end, are the words by which scripts know the stages in runc's debug log. */
	bh_debug("nsexec container setup");
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return bh_error_set(err, errno, "PR_SET_DUMPABLE");
	/* A caller that passes signals on has them blocked for itself; the workload would inherit that. */
	sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return bh_error_set(err, errno, "unblock the signals");
	umask(0);
	if (!job->parent_fate)
		return 0;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return bh_error_set(err, errno, "PR_SET_PDEATHSIG");
	/* It may have died before the signal was asked for: then the socket is closed on its side. */
	if (poll(&closed, 1, 0) > 0)
		_exit(1);
	return 0;
}

/* The cgroup namespace takes the cgroup we are in as its root, so it is made after entering. */
static int stage_cgroup(struct bh_job *job, struct bh_error *err)
{
	int r = job->cgroup ? bh_cgroup_enter_self(job->cgroup, err) : 0;

	if (r < 0)
		return r;
	if (!job->exec && job->spec->namespaces[BH_NS_CGROUP].present && job->join_fds[BH_NS_CGROUP] < 0 && !(job->new_flags & CLONE_NEWCGROUP)) {
		if (unshare(CLONE_NEWCGROUP) < 0)
			return bh_error_set(err, errno, "make a cgroup namespace");
	}
	return 0;
}

int bh_child_wait(struct bh_job *job, int *ret_fd)
{
	struct bh_message message;

	/* With the caller's end open here, its death would never be heard of. */
	bh_close_fd(&job->sync_caller);
	return bh_sync_receive(job->sync_child, &message, ret_fd) == 1 && message.kind == BH_MESSAGE_GO ? 0 : -EPIPE;
}

/* Becomes root of the user namespace, once its maps are there. */
static int stage_user_namespace(struct bh_job *job, struct bh_error *err)
{
	int root_fd = -1;

	if (!job->user_namespace)
		return 0;
	if (job->new_flags & CLONE_NEWUSER) {
		if (bh_child_wait(job, &root_fd) < 0)
			_exit(1);
		if (root_fd >= 0)
			job->root_fd = root_fd;
	}
	/* EINVAL: it has no id 0. What we may do there we may do as anybody. */
	if ((syscall(SYS_setresgid, 0, 0, 0) < 0 && errno != EINVAL) || (syscall(SYS_setresuid, 0, 0, 0) < 0 && errno != EINVAL))
		return bh_error_set(err, errno, "become root of the user namespace");
	/* Changing the user makes a process dumpable as fs.suid_dumpable says. */
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? bh_error_set(err, errno, "PR_SET_DUMPABLE") : 0;
}

static int set_time_offsets(struct bh_job *job, struct bh_error *err)
{
	bh_auto_free char *text = bh_printf("monotonic %lld %u\nboottime %lld %u\n", (long long)job->spec->time_offsets.monotonic_secs,
					    job->spec->time_offsets.monotonic_nanosecs, (long long)job->spec->time_offsets.boottime_secs,
					    job->spec->time_offsets.boottime_nanosecs);

	int r = bh_write_value_at(job->proc_fd, "self/timens_offsets", text, err);

	/* The files of a process that isn't dumpable are the host root's. In a user namespace that has just been made nobody else
	 * is who could look into this one while it is. */
	if (r == -EACCES && job->new_flags & CLONE_NEWUSER) {
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
		r = bh_write_value_at(job->proc_fd, "self/timens_offsets", text, err);
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	}
	return r;
}

/* Offsets can be written only between making the namespace and entering it. */
static int stage_time(struct bh_job *job, struct bh_error *err)
{
	bh_auto_close int fd = -1;
	int r;

	if (!job->spec->namespaces[BH_NS_TIME].present || job->join_fds[BH_NS_TIME] >= 0)
		return 0;
	if (unshare(bh_namespaces[BH_NS_TIME].flag) < 0)
		return bh_error_set(err, errno, "make a time namespace");
	r = job->spec->time_offsets.set ? set_time_offsets(job, err) : 0;
	if (r < 0)
		return r;
	fd = openat(job->proc_fd, "self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, bh_namespaces[BH_NS_TIME].flag) < 0)
		return bh_error_set(err, errno, "enter the time namespace");
	return 0;
}

static int stage_join(struct bh_job *job, struct bh_error *err)
{
	static const enum bh_namespace_type types[] = { BH_NS_NETWORK, BH_NS_IPC, BH_NS_UTS, BH_NS_CGROUP, BH_NS_TIME, BH_NS_MOUNT };

	for (size_t i = 0; i < BH_ARRAY_SIZE(types); i++) {
		int fd = job->join_fds[types[i]];

		if (fd >= 0 && !job->joined[types[i]] && setns(fd, bh_namespaces[types[i]].flag) < 0)
			return bh_error_set(err, errno, "join the %s namespace %s", bh_namespaces[types[i]].name, job->spec->namespaces[types[i]].path);
	}
	return 0;
}

static bool needs_private_proc(const struct bh_job *job)
{
	if (bh_job_has_labels(job))
		return true;
	if (job->exec)
		return false;
	return job->spec->sysctl.count || (job->process->oom_score_adj.set && !job->user_namespace) || job->spec->namespaces[BH_NS_TIME].present;
}

static int stage_session(struct bh_job *job, struct bh_error *err)
{
	int r;

	/* For exec the stub does it in the process that it clones. */
	if (!job->exec && setsid() < 0)
		return bh_error_set(err, errno, "setsid");
	if (needs_private_proc(job)) {
		job->proc_fd = bh_private_proc(err);
		r = job->proc_fd < 0 ? job->proc_fd : bh_child_key_label(job, err);
		if (r < 0)
			return r;
	}
	/* Keys of the caller's session must not be reachable. A kernel without keyrings has none to hide. */
	if (!job->no_new_keyring && syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL, 0, 0, 0) < 0 && errno != ENOSYS && errno != EDQUOT &&
	    errno != EPERM)
		return bh_error_set(err, errno, "make a session keyring");
	bh_debug("child process in init()");
	return 0;
}

static int stage_names(struct bh_job *job, struct bh_error *err)
{
	const struct bh_spec *spec = job->spec;

	if (spec->hostname && *spec->hostname) {
		if (sethostname(spec->hostname, strlen(spec->hostname)) < 0)
			return bh_error_set(err, errno, "set the host name %.100s", spec->hostname);
		bh_explain("hostname", "name", spec->hostname);
	}
	if (spec->domainname && *spec->domainname) {
		if (setdomainname(spec->domainname, strlen(spec->domainname)) < 0)
			return bh_error_set(err, errno, "set the domain name %.100s", spec->domainname);
		bh_explain("hostname", "domain", spec->domainname);
	}
	return job->new_flags & CLONE_NEWNET ? bh_loopback_up(err) : 0;
}

/* A container without a mount namespace has only its root. */
static int enter_root(struct bh_job *job, struct bh_error *err)
{
	if (fchdir(job->root_fd) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return bh_error_set(err, errno, "enter the container's root");
	bh_explain("chroot", "new_root", "of the container");
	return 0;
}

/* Enters all namespaces of a running container at once (Linux 5.8), or one by one by the files opened before. The user
 * namespace goes last there: the others were opened with the rights we have now. */
static int stage_enter(struct bh_job *job, struct bh_error *err)
{
	static const enum bh_namespace_type order[] = { BH_NS_NETWORK, BH_NS_IPC, BH_NS_UTS,   BH_NS_CGROUP,
							BH_NS_TIME,    BH_NS_PID, BH_NS_MOUNT, BH_NS_USER };

	if (job->enter_pidfd >= 0 && setns(job->enter_pidfd, job->enter_flags) < 0) {
		int r = errno == EINVAL ? bh_job_open_namespaces(job, job->exec_request->init_pid, job->enter_pidfd, err) : 1;

		/* Entered none of them. */
		job->enter_pidfd = -1;
		if (r < 0)
			return r;
		if (r > 0)
			return bh_error_set(err, errno, "enter the container's namespaces");
	}
	for (size_t i = 0; job->enter_pidfd < 0 && i < BH_ARRAY_SIZE(order); i++) {
		int fd = job->join_fds[order[i]];

		if (fd >= 0 && setns(fd, bh_namespaces[order[i]].flag) < 0)
			return bh_error_set(err, errno, "enter the container's %s namespace", bh_namespaces[order[i]].name);
	}
	for (int i = 0; i < BH_NS_COUNT; i++)
		if (job->enter_flags & bh_namespaces[i].flag)
			bh_explain("namespace", "type", bh_namespaces[i].name, "joined", "of the container");
	if (job->host_mounts)
		return enter_root(job, err);
	job->root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return job->root_fd < 0 ? bh_error_set(err, errno, "open the container's root") : 0;
}

static int stage_explain_namespaces(struct bh_job *job, struct bh_error *err)
{
	(void)err;
	for (int i = 0; bh_explain_mode != BH_EXPLAIN_OFF && i < BH_NS_COUNT; i++) {
		const struct bh_spec_namespace *n = &job->spec->namespaces[i];

		if (n->present)
			bh_explain("namespace", "type", bh_namespaces[i].name, n->path ? "joined" : "new", n->path ? n->path : "yes");
	}
	return 0;
}

static int run_stages(struct bh_job *job, const bh_stage *stages, struct bh_error *err)
{
	int r = 0;

	for (; r == 0 && *stages; stages++)
		r = (*stages)(job, err);
	return r;
}

static const bh_stage create_stages[] = {
	stage_begin,
	bh_child_rdt,
	stage_cgroup,
	bh_child_affinity,
	stage_user_namespace,
	stage_join,
	stage_explain_namespaces,
	stage_session,
	stage_time,
	stage_names,
	bh_child_network,
	bh_child_attach_root,
	bh_child_mounts,
	bh_child_files,
	bh_child_devices,
	bh_child_terminal,
	bh_child_create_hooks,
	bh_child_sysctls,
	bh_child_protect_paths,
	bh_child_pivot,
	bh_child_stdio,
	bh_child_limits,
	bh_child_schedule,
	bh_child_labels,
	bh_child_environment,
	bh_child_close_fds,
	bh_child_working_directory,
	bh_child_credentials,
	bh_child_late_working_directory,
	bh_child_find_executable,
	bh_child_start_hooks,
	bh_child_early,
	bh_child_lock_down,
	NULL,
};

static const bh_stage exec_stages[] = {
	stage_begin,
	bh_child_rdt,
	stage_cgroup,
	bh_child_affinity,
	bh_child_oom_score_before,
	stage_enter,
	stage_user_namespace,
	stage_session,
	bh_child_terminal,
	bh_child_stdio,
	bh_child_limits,
	bh_child_schedule,
	bh_child_labels,
	bh_child_environment,
	bh_child_close_fds,
	bh_child_working_directory,
	bh_child_credentials,
	bh_child_late_working_directory,
	bh_child_find_executable,
	bh_child_early,
	bh_child_lock_down,
	NULL,
};

_Noreturn void bh_child_fail(struct bh_job *job, const struct bh_error *why)
{
	bh_sync_send_error(job->sync_child, why);
	_exit(1);
}

_Noreturn void bh_child_main(struct bh_job *job)
{
	struct bh_error err = BH_ERROR_INIT;

	bh_leave_helpers_open();
	if (run_stages(job, job->exec ? exec_stages : create_stages, &err) < 0)
		bh_child_fail(job, &err);
	bh_child_execute(job);
}
