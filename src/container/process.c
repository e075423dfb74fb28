/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a process that could do everything to one that may do what the workload may: limits, fds, working directory,
 * user, capabilities, no_new_privs, seccomp, and the execution.
 *
 * The order follows from what each step needs. Limits are raised while CAP_SYS_RESOURCE is there. All fds are closed
 * before a path of the configuration is followed, so that a working directory or an executable named
 * /proc/self/fd/N finds nothing (CVE-2024-21626). The bounding set is dropped first (it needs CAP_SETPCAP), then the
 * groups and the user change with the permitted set kept, then the capability sets become the final ones. The
 * executable is looked up as the final user. The seccomp filter comes last; without no_new_privs its installation
 * needs CAP_SYS_ADMIN, which then is held until just after it.
 */
#include "container/container-internal.h"

#include "base/log.h"
#include "linux/credentials.h"
#include "linux/path.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define CAP_BIT(capability) (UINT64_C(1) << (capability))

/* --- limits ------------------------------------------------------------------------------------------------------- */

static int set_limit(struct bh_job *job, const struct bh_spec_rlimit *wanted, struct bh_error *err)
{
	struct rlimit limit = { wanted->soft, wanted->hard }, now;
	int number = bh_rlimit_number(wanted->type);
	char text[64];

	if (number < 0)
		return bh_error_text(err, EINVAL, "unknown limit '%.40s'", wanted->type);
	if (limit.rlim_cur > limit.rlim_max)
		return bh_error_text(err, EINVAL, "%s: the soft limit is above the hard one", wanted->type);
	if (setrlimit((__rlimit_resource_t)number, &limit) < 0) {
		if (errno != EPERM || getrlimit((__rlimit_resource_t)number, &now) < 0)
			return bh_error_set(err, errno, "set %s", wanted->type);
		/* Without CAP_SYS_RESOURCE a hard limit can't be raised: what this machine gives is what there is. */
		limit.rlim_max = BH_MIN(limit.rlim_max, now.rlim_max);
		limit.rlim_cur = BH_MIN(limit.rlim_cur, limit.rlim_max);
		if (setrlimit((__rlimit_resource_t)number, &limit) < 0)
			return bh_error_set(err, errno, "set %s", wanted->type);
		bh_job_warn(job, "%s is held at %llu: this machine allows no more", wanted->type, (unsigned long long)limit.rlim_max);
	}
	snprintf(text, sizeof text, "%llu:%llu", (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
	bh_explain("rlimit", "type", wanted->type, "value", text);
	return 0;
}

static int write_oom_score(int proc_fd, const char *path, int64_t score)
{
	bh_auto_close int fd = openat(proc_fd, path, O_WRONLY | O_CLOEXEC);
	char text[24];
	int length = snprintf(text, sizeof text, "%lld", (long long)score);

	return fd < 0 || write(fd, text, (size_t)length) != length ? -errno : 0;
}

int bh_job_oom_score(struct bh_job *job, int proc_fd, const char *path, struct bh_error *err)
{
	int64_t score = job->process->oom_score_adj.value;
	char text[24];
	int r;

	if (!job->process->oom_score_adj.set)
		return 0;
	if (score < -1000 || score > 1000)
		return bh_error_text(err, EINVAL, "process.oomScoreAdj: %lld is not between -1000 and 1000", (long long)score);
	r = write_oom_score(proc_fd, path, score);
	if (r == -EACCES || r == -EPERM) {
		/* As runc: an ordinary user gets what it can have. */
		if (job->user_namespace || bh_in_user_namespace())
			return 0;
		bh_job_warn(job, "oom_score_adj %lld needs CAP_SYS_RESOURCE; it stays as it is", (long long)score);
		return 0;
	}
	if (r < 0)
		return bh_error_set(err, -r, "set oom_score_adj");
	snprintf(text, sizeof text, "%lld", (long long)score);
	bh_explain("rlimit", "type", "oom_score_adj", "value", text);
	return 0;
}

/* A user namespace's root may not even raise it: its own files in /proc belong to the host's root. So those who are to
 * enter one do it before, and for a new one the caller does it. */
int bh_child_oom_score_before(struct bh_job *job, struct bh_error *err)
{
	bh_auto_close int proc = -1;

	if (!job->process->oom_score_adj.set)
		return 0;
	proc = bh_private_proc(err);
	return proc < 0 ? proc : bh_job_oom_score(job, proc, "self/oom_score_adj", err);
}

int bh_child_limits(struct bh_job *job, struct bh_error *err)
{
	int r = job->exec || job->user_namespace ? 0 : bh_job_oom_score(job, job->proc_fd, "self/oom_score_adj", err);

	for (size_t i = 0; r == 0 && i < job->process->rlimit_count; i++)
		r = set_limit(job, &job->process->rlimits[i], err);
	return r;
}

/* --- fds and folder ----------------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Closes everything above the standard streams and the preserved fds but the few that the end still needs. */
int bh_child_close_fds(struct bh_job *job, struct bh_error *err)
{
	int start_socket = job->exec || job->run || job->request->start_socket <= 0 ? -1 : job->request->start_socket;
	int keep[] = { 2 + job->preserve_fds, job->sync_child, job->stub_fd, job->init_fd, start_socket, bh_explain_mode ? bh_explain_fd() : -1 };
	int r, last = -1;

	qsort(keep, BH_ARRAY_SIZE(keep), sizeof keep[0], compare);
	/* The preserved ones are as they came: what is close-on-exec among them is not the caller's. */
	for (size_t i = 0; i < BH_ARRAY_SIZE(keep); i++) {
		/* Nothing below the first kept one is ours to close: those are the streams and the preserved fds. */
		if (last >= 0 && keep[i] > last + 1) {
			r = bh_close_range((unsigned)last + 1, (unsigned)keep[i] - 1, 0);
			if (r < 0)
				return bh_error_set(err, -r, "close_range");
		}
		if (keep[i] >= 2 + job->preserve_fds)
			last = keep[i];
	}
	r = bh_close_range((unsigned)last + 1, ~0U, 0);
	return r < 0 ? bh_error_set(err, -r, "close_range") : 0;
}

static int make_folders(const char *path)
{
	bh_auto_close int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = root < 0 ? -errno : bh_make_in_root(root, path, BH_NODE_DIRECTORY, NULL);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? fd : 0;
}

static int enter_working_directory(const char *path, struct bh_error *err)
{
	char now[PATH_MAX];

	if (chdir(path) < 0 && (errno != ENOENT || make_folders(path) < 0 || chdir(path) < 0))
		return bh_error_set(err, errno, "enter the working directory %s", path);
	/* A folder outside the root (reached through a leaked fd) has no path here: getcwd says "(unreachable)". */
	if (syscall(SYS_getcwd, now, sizeof now) < 0 || *now != '/')
		return bh_error_text(err, EXDEV, "the working directory %s is outside the root file system", path);
	return 0;
}

int bh_child_working_directory(struct bh_job *job, struct bh_error *err)
{
	const char *path = job->process->cwd;
	int r;

	if (!job->process->args.count)
		return 0;
	if (!path || *path != '/')
		return bh_error_text(err, EINVAL, "the working directory '%.200s' is not absolute", path ? path : "");
	/* pivot_root has left us there already. */
	if (!job->exec && bh_streq(path, "/"))
		return 0;
	r = enter_working_directory(path, err);
	/* A root whose rights the file system doesn't know (a user namespace's, NFS) tries again as the user, as runc does. */
	job->cwd_is_late = r == -EACCES;
	return job->cwd_is_late ? 0 : r;
}

int bh_child_late_working_directory(struct bh_job *job, struct bh_error *err)
{
	return job->cwd_is_late ? enter_working_directory(job->process->cwd, err) : 0;
}

/* --- credentials -------------------------------------------------------------------------------------------------- */

static int set_groups(const struct bh_job *job, struct bh_error *err)
{
	const struct bh_spec_process *p = job->process;
	bool keep = bh_map_get(&job->spec->annotations, BH_KEEP_GROUPS);

	/* A user namespace that an ordinary user has made denies it to everybody (user_namespaces(7)); runc goes on as well. */
	if (!keep && setgroups(p->user.additional_gid_count, p->user.additional_gids) < 0 &&
	    !(errno == EPERM && (job->user_namespace || bh_setgroups_is_denied())))
		return bh_error_set(err, errno, "set the supplementary groups");
	if (!job->user_namespace && bh_started_in_group(p->user.gid))
		return 0;
	if (syscall(SYS_setresgid, p->user.gid, p->user.gid, p->user.gid) < 0)
		return bh_error_set(err, errno, "become group %u", p->user.gid);
	return 0;
}

static int set_user(const struct bh_spec_process *p, struct bh_error *err)
{
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || syscall(SYS_setresuid, p->user.uid, p->user.uid, p->user.uid) < 0)
		return bh_error_set(err, errno, "become user %u", p->user.uid);
	return 0;
}

void bh_job_clamp_capabilities(struct bh_job *job)
{
	struct bh_spec_capabilities *c = &job->capabilities;
	uint64_t own, missing;

	*c = job->process->capabilities;
	/* The kernel's rule (capabilities(7)); buildah gives ambient ones that are not inheritable. */
	for (int i = 0; c->ambient & ~(c->permitted & c->inheritable) && bh_capability_name(i); i++)
		if ((c->ambient & ~(c->permitted & c->inheritable)) >> i & 1)
			bh_warn("can't raise ambient capability %s: it is not inheritable", bh_capability_name(i));
	c->ambient &= c->permitted & c->inheritable;
	/* A user namespace's root has them all there; and nearly every machine gives the usual ones. */
	if (job->user_namespace || !(c->permitted & ~bh_capability_default_set()))
		return;
	own = bh_capabilities_permitted();
	missing = c->permitted & ~own;
	for (int i = 0; bh_capability_name(i); i++)
		if (missing >> i & 1)
			bh_warn("this machine does not allow %s: the container runs without it", bh_capability_name(i));
	c->permitted &= own;
	c->effective &= own;
	c->inheritable &= own;
	c->ambient &= own;
}

/* Is CAP_SYS_ADMIN held for the filter's sake only? */
static bool admin_for_seccomp(const struct bh_job *job)
{
	return job->filter.count && !job->process->no_new_privileges && !(job->capabilities.effective & CAP_BIT(CAP_SYS_ADMIN));
}

static int set_capabilities(const struct bh_job *job, uint64_t extra, struct bh_error *err)
{
	const struct bh_spec_capabilities *c = &job->capabilities;
	struct bh_capability_sets sets = { c->effective | extra, c->permitted | extra, c->inheritable };

	return bh_capabilities_set(&sets, err);
}

static void explain_credentials(const struct bh_job *job)
{
	const struct bh_spec_process *p = job->process;
	bh_auto_buf struct bh_buf names = { 0 };
	char user[48];

	if (bh_explain_mode == BH_EXPLAIN_OFF)
		return;
	for (int i = 0; bh_capability_name(i); i++)
		if (job->capabilities.permitted >> i & 1)
			bh_buf_addf(&names, "%s%s", names.length ? "," : "", bh_capability_name(i) + 4);
	snprintf(user, sizeof user, "%u:%u", p->user.uid, p->user.gid);
	bh_explain("user", "uid:gid", user);
	bh_explain("capability", "kept", names.length ? names.data : "none");
}

int bh_child_credentials(struct bh_job *job, struct bh_error *err)
{
	const struct bh_spec_process *p = job->process;
	int r = bh_capabilities_bound(job->capabilities.bounding, err);

	if (r == 0)
		r = set_groups(job, err);
	if (r == 0 && p->user.uid)
		r = set_user(p, err);
	if (r == 0)
		r = set_capabilities(job, admin_for_seccomp(job) ? CAP_BIT(CAP_SYS_ADMIN) : 0, err);
	if (r == 0)
		r = bh_capabilities_ambient(job->capabilities.ambient, err);
	if (r < 0)
		return r;
	umask(p->user.umask_set ? p->user.umask & 0777 : 0022);
	/* The kernel forgets it when the user changes, so it is asked for again. */
	if (job->parent_fate && (p->user.uid || p->user.gid) && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return bh_error_set(err, errno, "PR_SET_PDEATHSIG");
	explain_credentials(job);
	return 0;
}

/* --- the executable ----------------------------------------------------------------------------------------------- */

static int not_found(const char *name, struct bh_error *err)
{
	if (err)
		err->exit_code = 127;
	return bh_error_text(err, ENOENT, "exec: \"%s\": executable file not found in $PATH", name);
}

static const char *exec_words(int errnum, struct bh_error *err)
{
	/* In the words of runc, which its callers look for. */
	static const struct {
		int errnum;
		const char *words;
	} known[] = {
		{ ENOENT, "no such file or directory" },
		{ ENOTDIR, "not a directory" },
		{ EACCES, "permission denied" },
		{ EISDIR, "is a directory" },
		{ ENOEXEC, "exec format error" },
		{ E2BIG, "argument list too long" },
		{ ETXTBSY, "text file busy" },
		{ EPERM, "operation not permitted" },
		{ ELOOP, "too many levels of symbolic links" },
	};
	const char *words = strerror(errnum);

	for (size_t i = 0; i < BH_ARRAY_SIZE(known); i++)
		if (known[i].errnum == errnum)
			words = known[i].words;
	if (err)
		err->exit_code = errnum == ENOENT || errnum == ENOTDIR ? 127 : 126;
	return words;
}

int bh_exec_error(const char *name, int errnum, struct bh_error *err)
{
	const char *words = exec_words(errnum, err);

	return name ? bh_error_text(err, errnum, "exec: \"%s\": %s", name, words) : bh_error_text(err, errnum, "exec: %s", words);
}

int bh_execve_error(const char *name, int errnum, struct bh_error *err)
{
	const char *words = exec_words(errnum, err);

	return bh_error_text(err, errnum, "exec %s%s%s", name ? name : "", name ? ": " : "", words);
}

/* 0 if it can be executed, else the reason. */
static int examine(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return -EACCES;
	/* As the effective user: access(2) would forget CAP_DAC_OVERRIDE of one that is not root. */
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

static int search_path(struct bh_job *job, const char *name, struct bh_error *err)
{
	const char *path = bh_env_get(&job->process->env, "PATH");
	bh_auto_strv struct bh_strv folders = bh_strv_split(path ? path : DEFAULT_PATH, ':');
	int denied = 0;

	for (size_t i = 0; i < folders.count; i++) {
		bh_auto_free char *candidate = bh_printf("%s/%s", *folders.items[i] ? folders.items[i] : ".", name);
		int r = examine(candidate);

		if (r == 0) {
			job->exec_path = BH_TAKE_PTR(candidate);
			return 0;
		}
		if (r == -EACCES)
			denied = EACCES;
	}
	return denied ? bh_exec_error(name, denied, err) : not_found(name, err);
}

/* Without a process the container is there until the start, which then has nothing to start. */
static int wait_for_nothing(struct bh_job *job, struct bh_error *err)
{
	int r = bh_child_wait_for_start(job, err);

	if (r == 0)
		_exit(0);
	return r;
}

int bh_child_find_executable(struct bh_job *job, struct bh_error *err)
{
	const char *name = job->process->args.count ? job->process->args.items[0] : NULL;
	int r;

	if (!name)
		return wait_for_nothing(job, err);
	if (!*name)
		return not_found(name, err);
	if (!strchr(name, '/'))
		return search_path(job, name, err);
	r = examine(name);
	if (r < 0)
		return bh_exec_error(name, -r, err);
	job->exec_path = bh_strdup(name);
	return 0;
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

static bool filter_stops_stub(const struct bh_job *job)
{
	const struct bh_seccomp_filter *f = &job->filter;

	if (!f->count || f->builtin)
		return false;
	if (!job->run && !(bh_seccomp_allows(f, SYS_read, 3) && bh_seccomp_allows(f, SYS_write, 3)))
		return true;
	if (!job->run && job->request->start_socket > 0 && !(bh_seccomp_allows(f, SYS_accept4, 3) && bh_seccomp_allows(f, SYS_rt_sigaction, SIGTERM)))
		return true;
	if (!job->exec)
		return false;
	return !bh_seccomp_allows(f, SYS_clone, CLONE_PARENT) || !bh_seccomp_allows(f, SYS_setsid, 0) ||
	       (job->terminal_fd >= 0 && !bh_seccomp_allows(f, SYS_ioctl, 0));
}

/* Enters the container's pid namespace by a clone of this process instead of the stub's. */
static int clone_early(struct bh_job *job, struct bh_error *err)
{
	struct clone_args args = { .flags = CLONE_PARENT };
	struct bh_message message = { .kind = BH_MESSAGE_PID };

	if (!job->user_namespace && job->spec->process.capabilities.bounding & CAP_BIT(CAP_SYS_PTRACE))
		return bh_error_text(err, EPERM, "exec: a container that may trace and whose filter forbids clone could reach the runtime's binary");
	message.value = bh_clone3(&args);
	if (message.value < 0)
		return bh_error_set(err, -message.value, "clone");
	if (message.value > 0)
		_exit(bh_sync_send(job->sync_child, &message, -1) < 0);
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setsid() < 0 || (job->terminal_fd >= 0 && ioctl(0, TIOCSCTTY, 0) < 0))
		return bh_error_set(err, errno, "begin a session");
	return 0;
}

/* A filter of the user's own may forbid what the stub does. Then it is done here, before the filter is there. */
int bh_child_early(struct bh_job *job, struct bh_error *err)
{
	int r = 0;

	if (filter_stops_stub(job)) {
		job->stub_only_executes = true;
		if (job->exec)
			r = clone_early(job, err);
		else if (!job->run)
			r = bh_child_wait_for_start(job, err);
	}
	if (r == 0 && job->stub_by_path && fchdir(job->stub_fd) < 0)
		r = bh_error_set(err, errno, "enter the stub's folder");
	return r;
}

static int install_filter(struct bh_job *job, struct bh_error *err)
{
	static const char *const sources[] = { [BH_SECCOMP_NONE] = "none", [BH_SECCOMP_DEFAULT] = "default", [BH_SECCOMP_RULES] = "configuration" };
	char count[24];
	int r;

	if (!job->filter.count)
		return 0;
	r = bh_seccomp_install(&job->filter, err);
	if (r > 0)
		r = bh_child_pass_listener(job, r, err);
	if (r < 0)
		return r;
	snprintf(count, sizeof count, "%zu", job->filter.count);
	bh_explain("seccomp", "instructions", count, "source", sources[job->spec->seccomp.source]);
	return 0;
}

int bh_child_lock_down(struct bh_job *job, struct bh_error *err)
{
	int r;

	if (job->locked_down)
		return 0;
	job->locked_down = true;
	if (job->process->no_new_privileges) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
			return bh_error_set(err, errno, "set no_new_privs");
		bh_explain("no_new_privs", "value", "1");
	}
	r = install_filter(job, err);
	return r == 0 && admin_for_seccomp(job) ? set_capabilities(job, 0, err) : r;
}

static void explain_exec(const struct bh_job *job)
{
	bh_auto_free char *args = NULL;

	if (bh_explain_mode == BH_EXPLAIN_OFF)
		return;
	args = bh_strv_join(&job->process->args, " ");
	bh_explain("exec", "path", job->exec_path, "args", args, "init", job->init_fd >= 0 ? "bulkhead-guest" : NULL);
}

/* The stub's instructions (exec-stub.h). */
static void stub_letters(const struct bh_job *job, char *text, size_t size)
{
	bool clones = job->exec && !job->stub_only_executes, waits = !job->run && !job->stub_only_executes;
	char init[16] = "", start[16] = "";

	if (job->init_fd >= 0)
		snprintf(init, sizeof init, "i%d", job->init_fd);
	if (waits && job->request->start_socket > 0)
		snprintf(start, sizeof start, "a%d", job->request->start_socket);
	snprintf(text, size, "%d%s%s%s%s%s%s%s", job->sync_child, clones ? "f" : "", clones ? "s" : "", clones && job->terminal_fd >= 0 ? "t" : "",
		 waits ? "w" : "", start, job->stub_by_path ? "c" : "", init);
}

_Noreturn void bh_child_execute(struct bh_job *job)
{
	char *const *environment = bh_child_environment_items(job);
	size_t count = job->process->args.count, n = 0;
	char **argv = bh_calloc(count + 5, sizeof *argv);
	struct bh_error err = BH_ERROR_INIT;
	char letters[64];

	explain_exec(job);
	bh_debug("%s", job->exec ? "setns_init: about to exec" : "init: closing the pipe to signal completion");
	stub_letters(job, letters, sizeof letters);
	argv[n++] = letters;
	if (job->stub_by_path)
		argv[n++] = job->process->cwd;
	/* With --init the first process is our own program, on a mount that nobody can write to; it starts the workload. */
	if (job->init_fd >= 0)
		argv[n++] = (char *)"init";
	argv[n++] = job->exec_path;
	memcpy(argv + n, job->process->args.items, count * sizeof *argv);
	fcntl(job->sync_child, F_SETFD, 0);
	if (job->init_fd >= 0)
		fcntl(job->init_fd, F_SETFD, 0);
	if (!job->exec && !job->run && job->request->start_socket > 0)
		fcntl(job->request->start_socket, F_SETFD, 0);
	if (job->stub_by_path)
		execve("exec", argv, environment);
	else
		syscall(SYS_execveat, job->stub_fd, "", argv, environment, AT_EMPTY_PATH);
	bh_error_set(&err, errno, "execute the last stage");
	bh_child_fail(job, &err);
}
