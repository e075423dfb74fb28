/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container driver: theory of operation.
 *
 * Two processes. The caller (single-threaded, usually a child of the command that will become the container's shim)
 * prepares everything that can be prepared outside: it opens namespaces to join, copies the sources of binds as
 * detached mounts, opens the root, makes the exec stub. Then it clones the first process straight into its new
 * namespaces, which inherits all of this, and works through the stages in child.c: cgroup, namespaces, root,
 * mounts, devices, masks, pivot_root, limits, user, capabilities, filter. Last it executes the workload through the stub
 * (src/container/stub).
 *
 * Invariants:
 *  1. In the common case nothing is exchanged before the end: the child needs the caller only for the id maps of a user
 *     namespace (and the root mount made for it), for hooks that run outside, and for the word to execute.
 *  2. Everything the child opens is O_CLOEXEC and below the root fd, and is closed at once before a path of the
 *     configuration is followed.
 *  3. The child is not dumpable from its first instruction in a namespace that others may share.
 *  4. What fails in the child is said in its own words through the sync socket; then it is reaped here. Mounts, namespaces
 *     and fds end with it, so a failure leaves nothing.
 *  5. End of stream on the sync socket after READY means executed; BH_MESSAGE_FAILED from the stub means not.
 *
 * When a user or pid namespace is joined, or another one beside a user namespace, one more process is needed: it joins them and
 * clones the first process from there as its sibling (CLONE_PARENT), so that it still is the caller's child, and ends.
 */
#include "container/container-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "linux/namespace.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

#define INIT_MAX (16u << 20) /* bytes of bulkhead-guest, where it has to be copied */

static const unsigned char exec_stub[] = {
#include "exec-stub.inc"
};

/* --- preparing ---------------------------------------------------------------------------------------------------- */

void bh_job_init(struct bh_job *job)
{
	*job = (struct bh_job){
		.sync_caller = -1,
		.sync_child = -1,
		.stub_fd = -1,
		.init_fd = -1,
		.nodes_fd = -1,
		.root_fd = -1,
		.dev_fd = -1,
		.proc_fd = -1,
		.proc_mount_fd = -1,
		.sys_mount_fd = -1,
		.folder_fd = -1,
		.terminal_fd = -1,
		.enter_pidfd = -1,
		.seccomp_fd = -1,
		.asked_fd = -1,
		.rdt_fds = { -1, -1 },
	};
	for (int i = 0; i < BH_NS_COUNT; i++)
		job->join_fds[i] = -1;
}

void bh_job_clear(struct bh_job *job)
{
	int *fds[] = { &job->sync_caller, &job->enter_pidfd, &job->sync_child, &job->stub_fd,    &job->init_fd, &job->nodes_fd,
		       &job->root_fd,     &job->seccomp_fd,  &job->rdt_fds[0], &job->rdt_fds[1], &job->asked_fd };

	bh_close_fds(fds, BH_ARRAY_SIZE(fds));
	for (int i = 0; i < BH_NS_COUNT; i++)
		bh_close_fd(&job->join_fds[i]);
	for (size_t i = 0; job->mounts && i < job->spec->mount_count; i++) {
		bh_mount_options_clear(&job->mounts[i].options);
		free(job->mounts[i].inside);
		free(job->mounts[i].link);
		bh_close_fd(&job->mounts[i].source_fd);
	}
	bh_seccomp_filter_clear(&job->filter);
	free(job->mounts);
	free(job->exec_path);
	bh_strv_clear(&job->environment);
}

static int check_spec(const struct bh_job *job, bool no_pivot, struct bh_error *err)
{
	const struct bh_spec *spec = job->spec;

	/* A process is needed for the start only (config.md). */
	if (!spec->has_process && !spec->process.args.count && job->run)
		return bh_error_text(err, EINVAL, "the configuration has no process");
	if (spec->has_process && !spec->process.args.count)
		return bh_error_text(err, EINVAL, "the configuration has no command to run");
	if (spec->hostname && *spec->hostname && !spec->namespaces[BH_NS_UTS].present)
		return bh_error_text(err, EINVAL, "hostname: unable to set hostname without a private UTS namespace");
	if (spec->domainname && *spec->domainname && !spec->namespaces[BH_NS_UTS].present)
		return bh_error_text(err, EINVAL, "domainname: unable to set domainname without a private UTS namespace");
	if (no_pivot && spec->rootfs_propagation && bh_has_suffix(spec->rootfs_propagation, "private"))
		return bh_error_text(err, EINVAL, "linux.rootfsPropagation: rootfsPropagation of [r]private is not safe without pivot_root");
	if (spec->time_offsets.set && !spec->namespaces[BH_NS_TIME].present)
		return bh_error_text(err, EINVAL,
				     "linux.timeOffsets: time namespace offsets specified, but time namespace isn't enabled in the config");
	return 0;
}

/* Without a mount namespace of its own all that it mounts lies below one mount, which the caller has made and takes off again. */
static int check_host_mounts(const struct bh_job *job, struct bh_error *err)
{
	const struct bh_container_create *q = job->request;

	if (job->spec->namespaces[BH_NS_MOUNT].present)
		return 0;
	if (q->rootless || job->spec->namespaces[BH_NS_USER].present)
		return bh_error_text(err, EINVAL, "linux.namespaces: beside a user namespace a container needs a mount namespace of its own");
	if (q->rootfs.mount_fd < 0 || !q->rootfs.path || q->file_count)
		return bh_error_text(err, EINVAL, "linux.namespaces: a container needs a mount namespace of its own");
	return 0;
}

/* What happens in the container's mount namespace must never happen in ours. */
static int check_mount_namespace(int fd, struct bh_error *err)
{
	struct stat joined, own;

	if (fd < 0)
		return 0;
	if (fstat(fd, &joined) < 0 || stat("/proc/self/ns/mnt", &own) < 0)
		return bh_error_set(err, errno, "compare mount namespaces");
	if (joined.st_ino == own.st_ino && joined.st_dev == own.st_dev)
		return bh_error_text(err, EINVAL, "linux.namespaces: a container needs a mount namespace of its own");
	return 0;
}

static int prepare_namespaces(struct bh_job *job, struct bh_error *err)
{
	bool into_cgroup = job->cgroup && bh_cgroup_is_entered_by_clone(job->cgroup);

	for (int i = 0; i < BH_NS_COUNT; i++) {
		const struct bh_spec_namespace *n = &job->spec->namespaces[i];

		if (!n->present || (i == BH_NS_USER && job->request->rootless))
			continue;
		if (n->path) {
			job->join_fds[i] = bh_namespace_open(AT_FDCWD, n->path, (enum bh_namespace_type)i, err);
			if (job->join_fds[i] < 0)
				return job->join_fds[i];
		} else if (i != BH_NS_TIME && (i != BH_NS_CGROUP || into_cgroup)) {
			job->new_flags |= (uint64_t)bh_namespaces[i].flag;
		}
	}
	job->user_namespace = job->spec->namespaces[BH_NS_USER].present || job->request->rootless;
	return check_mount_namespace(job->join_fds[BH_NS_MOUNT], err);
}

static char *source_path(const struct bh_job *job, const char *path)
{
	return *path != '/' && job->request->bundle ? bh_path_join(job->request->bundle, path) : bh_strdup(path);
}

int bh_job_open_source(const struct bh_job *job, const char *path, struct bh_error *err)
{
	bh_auto_free char *full = source_path(job, path);
	int fd = open(full, O_PATH | O_CLOEXEC);

	return fd < 0 ? bh_error_set(err, errno, "open the mount source %s", path) : fd;
}

int bh_job_copy_source(const struct bh_job *job, const char *path, bool recursive, struct bh_error *err)
{
	bh_auto_free char *full = source_path(job, path);
	int fd = bh_mount_copy(AT_FDCWD, full, recursive, err);

	return fd == -ENOSYS ? bh_job_open_source(job, path, err) : fd;
}

int bh_job_map_source(struct bh_job *job, size_t index, int userns_fd, struct bh_error *err)
{
	const struct bh_spec_mount *m = &job->spec->mounts[index];
	const struct bh_mount_options *o = &job->mounts[index].options;
	bh_auto_close int own = -1;
	int r;

	if (!o->idmap && !o->recursive_idmap && !m->uid_mapping_count)
		return 0;
	if (m->uid_mapping_count) {
		own = bh_user_namespace_new(m->uid_mappings, m->uid_mapping_count, m->gid_mappings, m->gid_mapping_count, err);
		if (own < 0)
			return own;
	} else if (userns_fd < 0) {
		return bh_error_text(err, EINVAL, "mount %s: idmap without mappings needs a user namespace", m->destination);
	}
	r = bh_mount_set_idmap(job->mounts[index].source_fd, own >= 0 ? own : userns_fd, o->recursive_idmap, err);
	if (r < 0) {
		bh_error_prefix(err, "id-map the mount %s", m->destination);
		return r;
	}
	bh_explain("id-map", "mount", m->destination);
	return 0;
}

static int map_sources(struct bh_job *job, int userns_fd, struct bh_error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < job->spec->mount_count; i++)
		if (!job->mounts[i].inside && !job->mounts[i].link)
			r = bh_job_map_source(job, i, userns_fd, err);
	return r;
}

/* The path inside, if `path` is a part of the container's own root that mounts before it may have covered. */
static const char *path_inside(const struct bh_job *job, const char *path)
{
	const char *root = job->request->rootfs.path;
	size_t length = root ? strlen(root) : 0;

	return length > 1 && strncmp(path, root, length) == 0 && path[length] == '/' ? path + length : NULL;
}

/*
 * The child makes a copy when its turn comes, unless it can't: from inside a user namespace the source might be out of reach,
 * and could not be id-mapped; and an fd in /proc shows a mount of our own namespace, which the child can't copy.
 */
static bool must_copy_early(const struct bh_job *job, const struct bh_spec_mount *m, const struct bh_mount_options *o)
{
	return job->user_namespace || o->idmap || o->recursive_idmap || m->uid_mapping_count || bh_has_prefix(m->source, "/proc/");
}

/* The child's namespace has left the peer groups that a shared or slave copy belongs to. So it asks us for the copy, in turn. */
static bool belongs_to_peers(const struct bh_job *job, const struct bh_mount_options *o)
{
	const char *root = job->spec->rootfs_propagation;

	return (root && (strstr(root, "shared") || strstr(root, "slave"))) || o->propagation == MS_SHARED || o->propagation == MS_SLAVE;
}

/* NULL: it is none. */
static char *read_link(const struct bh_job *job, const char *path)
{
	bh_auto_free char *full = source_path(job, path);
	char text[PATH_MAX];
	ssize_t length = readlink(full, text, sizeof text);

	return length < 0 || (size_t)length == sizeof text ? NULL : bh_strndup(text, (size_t)length);
}

static int prepare_mount(struct bh_job *job, size_t index, struct bh_error *err)
{
	const struct bh_spec_mount *m = &job->spec->mounts[index];
	struct bh_job_mount *prepared = &job->mounts[index];
	struct bh_mount_options *o = &prepared->options;

	bh_mount_options_parse(&m->options, o);
	if (bh_streq(m->type, "bind"))
		o->bind = true;
	if (o->bind && !o->remount) {
		if (!m->source || !*m->source)
			return bh_error_text(err, EINVAL, "a bind mount needs a source");
		prepared->link = o->copy_symlink ? read_link(job, m->source) : NULL;
		if (prepared->link)
			return 0;
		prepared->inside = bh_strdup(path_inside(job, m->source));
		if (prepared->inside)
			return 0;
		if (!must_copy_early(job, m, o)) {
			prepared->from_caller = belongs_to_peers(job, o);
			prepared->in_turn = !prepared->from_caller;
			return 0;
		}
		prepared->source_fd = bh_job_copy_source(job, m->source, o->recursive_bind, err);
		if (prepared->source_fd < 0)
			return prepared->source_fd;
	} else if (o->idmap || o->recursive_idmap || m->uid_mapping_count) {
		return bh_error_text(err, EINVAL, "only a bind mount can be id-mapped");
	}
	return bh_check_proc_mount(m, prepared, err);
}

static int prepare_mounts(struct bh_job *job, struct bh_error *err)
{
	const struct bh_spec *spec = job->spec;

	job->mounts = bh_calloc(spec->mount_count + 1, sizeof *job->mounts);
	for (size_t i = 0; i < spec->mount_count; i++)
		job->mounts[i].source_fd = -1;
	for (size_t i = 0; i < spec->mount_count; i++) {
		int r = prepare_mount(job, i, err);

		if (r < 0) {
			bh_error_prefix(err, "mount %s", spec->mounts[i].destination);
			return r;
		}
	}
	return 0;
}

/* The root as a detached mount; -1 in root_fd leaves it to the child's mount(2). */
static int open_root(struct bh_job *job, int userns_fd, struct bh_error *err)
{
	const struct bh_rootfs *rootfs = &job->request->rootfs;
	int fd;

	if (rootfs->mount) {
		fd = rootfs->mount(rootfs->mount_context, userns_fd, err);
	} else if (rootfs->mount_fd >= 0) {
		fd = fcntl(rootfs->mount_fd, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return bh_error_set(err, errno, "keep the root mount");
	} else if (rootfs->path) {
		fd = bh_mount_copy(AT_FDCWD, rootfs->path, true, err);
		if (fd == -ENOSYS)
			return 0;
	} else {
		return bh_error_text(err, EINVAL, "the container has no root file system");
	}
	if (fd < 0)
		return fd;
	job->root_fd = fd;
	return rootfs->path && !rootfs->mount ? bh_mount_set_propagation(fd, MS_PRIVATE, true, err) : 0;
}

/* A program as a memfd that nobody can change any more. */
static int sealed_program(const char *name, const void *bytes, size_t size, struct bh_error *err)
{
	bh_auto_close int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	int r;

	/* MFD_EXEC came with 6.3; before that every memfd is executable. */
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return bh_error_set(err, errno, "memfd_create");
	r = bh_write_all(fd, bytes, size);
	if (r < 0)
		return bh_error_set(err, -r, "write a memfd");
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return bh_error_set(err, errno, "seal a memfd");
	return BH_TAKE_FD(fd);
}

/* For a filter that knows execve but not execveat: the stub as a file of a detached tmpfs, which is read-only then. */
static int stub_folder(struct bh_error *err)
{
	static const struct bh_mount_options options = { .set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV };
	bh_auto_close int fd = bh_mount_new("tmpfs", "tmpfs", &options, err);
	bh_auto_close int file = fd < 0 ? -1 : openat(fd, "exec", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0755);
	int r;

	if (fd < 0)
		return fd;
	if (file < 0 || fchmod(file, 0755) < 0)
		return bh_error_set(err, errno, "make the exec stub");
	r = bh_write_all(file, exec_stub, sizeof exec_stub);
	if (r < 0)
		return bh_error_set(err, -r, "write the exec stub");
	bh_close_fd(&file);
	r = bh_mount_set_readonly(fd, false, err);
	return r < 0 ? r : BH_TAKE_FD(fd);
}

int bh_job_make_stub(struct bh_job *job, struct bh_error *err)
{
	if (!job->filter.builtin && !bh_seccomp_allows(&job->filter, SYS_execveat, 0)) {
		job->stub_by_path = true;
		job->stub_fd = stub_folder(err);
	} else {
		job->stub_fd = sealed_program("exec", exec_stub, sizeof exec_stub, err);
	}
	return job->stub_fd < 0 ? job->stub_fd : 0;
}

int bh_job_make_sync(struct bh_job *job, struct bh_error *err)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return bh_error_set(err, errno, "make the sync socket");
	job->sync_caller = pair[0];
	job->sync_child = pair[1];
	return 0;
}

/* The program lies on a mount of its own that is read-only: a container can't write to it through /proc/1/exe. */
static int open_init(struct bh_job *job, const char *path, struct bh_error *err)
{
	static const struct bh_mount_options readonly = { .set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV };
	int r;

	job->init_fd = bh_mount_copy(AT_FDCWD, path, false, err);
	if (job->init_fd == -ENOSYS) {
		bh_auto_buf struct bh_buf bytes = { 0 };

		r = bh_read_file_at(AT_FDCWD, path, INIT_MAX, &bytes, err);
		if (r == 0)
			job->init_fd = sealed_program("init", bytes.data, bytes.length, err);
		return r < 0 ? r : BH_MIN(job->init_fd, 0);
	}
	return job->init_fd < 0 ? job->init_fd : bh_mount_set(job->init_fd, &readonly, err);
}

static int prepare(struct bh_job *job, const struct bh_container_create *request, struct bh_error *err)
{
	int r;

	job->request = request;
	job->spec = request->spec;
	job->process = &request->spec->process;
	job->cgroup = request->cgroup;
	job->stdio = request->stdio;
	job->preserve_fds = request->preserve_fds;
	job->all_cpus = request->all_cpus;
	job->parent_fate = request->keep_in_parent_fate;
	job->no_new_keyring = request->no_new_keyring;
	r = request->rootless ? bh_rootless_enter(job->spec, err) : 0;
	if (r == 0)
		r = check_spec(job, request->no_pivot, err);
	if (r == 0)
		r = check_host_mounts(job, err);
	job->host_mounts = !job->spec->namespaces[BH_NS_MOUNT].present;
	bh_job_take_labels(job);
	if (r == 0)
		r = bh_check_schedule(job->spec, job->process, err);
	if (r == 0)
		r = prepare_namespaces(job, err);
	bh_job_clamp_capabilities(job);
	if (r == 0)
		r = bh_check_sysctls(job, err);
	if (r == 0)
		r = prepare_mounts(job, err);
	if (r == 0)
		r = bh_seccomp_compile(&job->spec->seccomp, job->process->capabilities.bounding, &job->filter, err);
	if (r == 0)
		r = bh_check_seccomp(job, err);
	if (r == 0)
		r = request->init_path ? open_init(job, request->init_path, err) : 0;
	/* What the child keeps to its end comes one after the other. */
	if (r == 0)
		r = bh_job_make_sync(job, err);
	if (r == 0)
		r = bh_job_make_stub(job, err);
	if (r == 0)
		r = bh_job_make_nodes(job, err);
	if (r == 0 && !(job->new_flags & CLONE_NEWUSER)) {
		r = open_root(job, job->join_fds[BH_NS_USER], err);
		if (r == 0)
			r = map_sources(job, job->join_fds[BH_NS_USER], err);
	}
	return r < 0 ? r : bh_job_prepare_rdt(job, request->id, err);
}

/* --- cloning ------------------------------------------------------------------------------------------------------ */

pid_t bh_job_clone(struct bh_job *job, uint64_t extra_flags, int *ret_pidfd)
{
	int cgroup_fd = job->cgroup ? bh_cgroup_clone_fd(job->cgroup) : -1;
	struct clone_args args = {
		.flags = job->new_flags | extra_flags | (ret_pidfd ? CLONE_PIDFD : 0),
		.pidfd = (uint64_t)(uintptr_t)ret_pidfd,
		.exit_signal = extra_flags & CLONE_PARENT ? 0 : SIGCHLD,
	};

	pid_t pid;

	if (cgroup_fd < 0)
		return bh_clone3(&args);
	args.flags |= CLONE_INTO_CGROUP;
	args.cgroup = (uint64_t)cgroup_fd;
	pid = bh_clone3(&args);
	if (pid != -ENOSYS || bh_cgroup_clone_fd(job->cgroup) >= 0)
		return pid;
	/* No clone3: the child enters by itself, and makes the cgroup namespace after that. */
	job->new_flags &= ~(uint64_t)CLONE_NEWCGROUP;
	return bh_job_clone(job, extra_flags, ret_pidfd);
}

void bh_job_warn(struct bh_job *job, const char *format, ...)
{
	struct bh_message message = { .kind = BH_MESSAGE_WARNING };
	bh_auto_free char *text = NULL;
	va_list args;

	va_start(args, format);
	text = bh_vprintf(format, args);
	va_end(args);
	snprintf(message.text, sizeof message.text, "%s", text);
	if (job->sync_child < 0)
		bh_warn("%s", message.text);
	else
		bh_sync_send(job->sync_child, &message, -1);
}

/* With the rights of the host's root, which end at the user namespace: its owner may have none over a namespace that was made
 * outside. What only the owner may enter is joined from inside (stage_join). */
static void join_early(struct bh_job *job)
{
	static const enum bh_namespace_type types[] = { BH_NS_NETWORK, BH_NS_IPC, BH_NS_UTS, BH_NS_CGROUP, BH_NS_TIME };

	for (size_t i = 0; job->user_namespace && i < BH_ARRAY_SIZE(types); i++) {
		int fd = job->join_fds[types[i]];

		job->joined[types[i]] = fd >= 0 && setns(fd, bh_namespaces[types[i]].flag) == 0;
	}
}

/* The intermediate process: joins what only children enter (pid) or what decides who owns new namespaces (user). */
static _Noreturn void intermediate_main(struct bh_job *job)
{
	static const enum bh_namespace_type types[] = { BH_NS_PID, BH_NS_USER };
	struct bh_message message = { .kind = BH_MESSAGE_PID };
	struct bh_error err = BH_ERROR_INIT;

	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (job->user_namespace && !(job->new_flags & CLONE_NEWUSER) && bh_child_oom_score_before(job, &err) < 0)
		bh_child_fail(job, &err);
	join_early(job);
	for (size_t i = 0; i < BH_ARRAY_SIZE(types); i++) {
		int fd = job->join_fds[types[i]];

		if (fd < 0 || setns(fd, bh_namespaces[types[i]].flag) == 0)
			continue;
		bh_error_set(&err, errno, "join the %s namespace %s", bh_namespaces[types[i]].name, job->spec->namespaces[types[i]].path);
		bh_child_fail(job, &err);
	}
	message.value = bh_job_clone(job, CLONE_PARENT, NULL);
	if (message.value == 0)
		bh_child_main(job);
	if (message.value < 0) {
		bh_error_set(&err, -message.value, "clone the first process");
		bh_child_fail(job, &err);
	}
	_exit(bh_sync_send(job->sync_child, &message, -1) < 0);
}

static int clone_through_intermediate(struct bh_job *job, struct bh_container_process *process, struct bh_error *err)
{
	struct clone_args args = { .exit_signal = SIGCHLD };

	job->helper = bh_clone3(&args);
	if (job->helper == 0)
		intermediate_main(job);
	if (job->helper < 0)
		return bh_error_set(err, -job->helper, "clone");
	bh_close_fd(&job->sync_child);
	return bh_follow(job, process, BH_MESSAGE_PID, err);
}

static bool needs_intermediate(const struct bh_job *job)
{
	if (job->join_fds[BH_NS_USER] >= 0 || job->join_fds[BH_NS_PID] >= 0)
		return true;
	for (int i = 0; job->user_namespace && !job->request->rootless && i < BH_NS_COUNT; i++)
		if (i != BH_NS_MOUNT && job->join_fds[i] >= 0)
			return true;
	return false;
}

static int clone_process(struct bh_job *job, struct bh_container_process *process, struct bh_error *err)
{
	pid_t pid;

	if (needs_intermediate(job))
		return clone_through_intermediate(job, process, err);
	pid = bh_job_clone(job, 0, &process->pidfd);
	if (pid == 0)
		bh_child_main(job);
	if (pid < 0)
		return bh_error_set(err, -pid, "clone the first process");
	process->pid = pid;
	bh_close_fd(&job->sync_child);
	return 0;
}

/* --- the caller's side -------------------------------------------------------------------------------------------- */

/* The workload's pipes are given to its user, who opens /dev/stdout again in many images; from inside the user namespace
 * nobody could, as they belong to a user that is not mapped. */
static void own_streams(const struct bh_job *job)
{
	const struct bh_spec *spec = job->spec;
	uint32_t uid;

	if (!job->stdio || job->process->terminal || !bh_id_to_host(spec->uid_mappings, spec->uid_mapping_count, job->process->user.uid, &uid))
		return;
	for (int i = 0; i < 3; i++) {
		int fd = (const int[]){ job->stdio->stdin_fd, job->stdio->stdout_fd, job->stdio->stderr_fd }[i];
		struct stat st;

		if (fd >= 0 && fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)) && fchown(fd, uid, (gid_t)-1) < 0)
			bh_debug("fd %d keeps its owner: %s", fd, strerror(errno));
	}
}

static int serve_user_namespace(struct bh_job *job, const struct bh_container_process *process, struct bh_error *err)
{
	const struct bh_message go = { .kind = BH_MESSAGE_GO };
	const struct bh_spec *spec = job->spec;
	bh_auto_free char *path = bh_printf("/proc/%d", (int)process->pid);
	/* The pid can't be another's: it is our own child and not reaped. */
	bh_auto_close int proc = bh_open_dir(AT_FDCWD, path, 0, err);
	bh_auto_close int userns = -1;
	int r = proc < 0 ? proc :
			   bh_id_maps_write(process->pid, proc, spec->uid_mappings, spec->uid_mapping_count, spec->gid_mappings,
					    spec->gid_mapping_count, err);

	if (r < 0)
		return r;
	r = bh_job_oom_score(job, proc, "oom_score_adj", err);
	if (r < 0)
		return r;
	userns = bh_namespace_open(proc, "ns/user", BH_NS_USER, err);
	r = userns < 0 ? userns : open_root(job, userns, err);
	if (r == 0)
		r = map_sources(job, userns, err);
	if (r == 0)
		own_streams(job);
	if (r < 0)
		return r;
	r = bh_sync_send(job->sync_caller, &go, job->root_fd);
	return r < 0 ? bh_error_set(err, -r, "talk to the container's first process") : 0;
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		continue;
}

/* The helper has told the pid and ends. */
static int take_pid(struct bh_job *job, struct bh_container_process *process, pid_t pid, struct bh_error *err)
{
	if (job->helper > 0)
		reap(job->helper);
	job->helper = 0;
	process->pid = pid;
	process->pidfd = bh_pidfd_or_folder(pid);
	if (process->pidfd < 0)
		return bh_error_set(err, -process->pidfd, "open a pidfd of the container's process");
	return bh_caller_schedule(job, pid, err);
}

static int take_failure(const struct bh_message *message, const char *command, struct bh_error *err)
{
	if (message->kind == BH_MESSAGE_ERROR) {
		if (err)
			err->exit_code = message->exit_code;
		return bh_error_text(err, message->errnum, "%s", message->text);
	}
	if (err)
		err->of_workload = true;
	return bh_execve_error(command, message->errnum, err);
}

/* A bind of the container's own tree, which only the child could copy; the right to map it is ours alone. */
static int map_copy(struct bh_job *job, pid_t pid, struct bh_error *err)
{
	size_t index = (size_t)job->asked.value;
	bh_auto_free char *path = bh_printf("/proc/%d/ns/user", (int)pid);
	bh_auto_close int userns = -1;
	int r;

	if (index >= job->spec->mount_count || !job->mounts[index].inside || job->asked_fd < 0)
		return bh_error_text(err, EPROTO, "the container's process asks for an id map of no mount");
	if (job->user_namespace) {
		userns = bh_namespace_open(AT_FDCWD, path, BH_NS_USER, err);
		if (userns < 0)
			return userns;
	}
	job->mounts[index].source_fd = job->asked_fd;
	r = bh_job_map_source(job, index, userns, err);
	job->mounts[index].source_fd = -1;
	return r;
}

/* The copy that the child asks for when its turn comes. */
static int copy_for_child(struct bh_job *job, int *ret_fd, struct bh_error *err)
{
	size_t index = (size_t)job->asked.value;
	int fd;

	if (index >= job->spec->mount_count || !job->mounts[index].from_caller)
		return bh_error_text(err, EPROTO, "the container's process asks for a copy of no mount");
	fd = bh_job_copy_source(job, job->spec->mounts[index].source, job->mounts[index].options.recursive_bind, err);
	if (fd < 0) {
		bh_error_prefix(err, "mount %s", job->spec->mounts[index].destination);
		return fd;
	}
	*ret_fd = fd;
	return 0;
}

/* What has come before the helper told the pid waits for that. */
static int serve(struct bh_job *job, const struct bh_container_process *process, struct bh_error *err)
{
	const struct bh_message go = { .kind = BH_MESSAGE_GO };
	unsigned kind = job->asked.kind;
	bh_auto_close int answer = -1;
	int r = 0;

	if (process->pid <= 0)
		return 0;
	if (job->seccomp_fd >= 0)
		r = bh_caller_send_listener(job, process->pid, err);
	if (r < 0 || !kind)
		return r;
	if (kind == BH_MESSAGE_NETWORK)
		r = bh_caller_network(job, process->pid, err);
	else if (kind == BH_MESSAGE_HOOKS)
		r = bh_caller_hooks(job, process->pid, err);
	else if (kind == BH_MESSAGE_COPY)
		r = copy_for_child(job, &answer, err);
	else
		r = map_copy(job, process->pid, err);
	job->asked.kind = 0;
	bh_close_fd(&job->asked_fd);
	if (r < 0)
		return r;
	r = bh_sync_send(job->sync_caller, &go, answer);
	return r < 0 ? bh_error_set(err, -r, "talk to the container's first process") : 0;
}

static bool is_asked(unsigned kind)
{
	return kind == BH_MESSAGE_NETWORK || kind == BH_MESSAGE_HOOKS || kind == BH_MESSAGE_IDMAP || kind == BH_MESSAGE_COPY;
}

int bh_follow(struct bh_job *job, struct bh_container_process *process, unsigned until, struct bh_error *err)
{
	for (;;) {
		struct bh_message message = { 0 };
		int fd = -1, r = bh_sync_receive(job->sync_caller, &message, &fd);

		if (r < 0 && r != -ECONNRESET)
			return bh_error_set(err, -r, "read from the container's process");
		if (r == 0 && !until && process->pid > 0)
			return 0;
		if (r <= 0)
			return bh_error_text(err, ECHILD, "the container's process ended before it was ready");
		if (message.kind == BH_MESSAGE_ERROR || message.kind == BH_MESSAGE_FAILED)
			return take_failure(&message, job->process->args.count ? job->process->args.items[0] : NULL, err);
		if (message.kind == BH_MESSAGE_WARNING)
			bh_warn("%s", message.text);
		if (message.kind == BH_MESSAGE_TERMINAL && job->stdio)
			job->stdio->ret_terminal_fd = BH_TAKE_FD(fd);
		if (message.kind == BH_MESSAGE_SECCOMP)
			job->seccomp_fd = BH_TAKE_FD(fd);
		if (is_asked(message.kind)) {
			job->asked = message;
			bh_close_fd(&job->asked_fd);
			job->asked_fd = BH_TAKE_FD(fd);
		}
		bh_close_fd(&fd);
		r = 0;
		if (message.kind == BH_MESSAGE_PID)
			r = take_pid(job, process, message.value, err);
		if (r == 0)
			r = serve(job, process, err);
		if (r < 0 || message.kind == until)
			return r;
	}
}

void bh_job_kill(struct bh_job *job, struct bh_container_process *process)
{
	struct bh_message message = { 0 };

	/* The container's process may have failed before the helper told its pid. */
	while (job->helper > 0 && bh_sync_receive(job->sync_caller, &message, NULL) == 1)
		if (message.kind == BH_MESSAGE_PID)
			take_pid(job, process, message.value, NULL);
	if (job->helper > 0)
		reap(job->helper);
	job->helper = 0;
	bh_close_fd(&job->sync_caller);
	if (process->pid > 0) {
		kill(process->pid, SIGKILL);
		reap(process->pid);
	}
	bh_close_fd(&process->pidfd);
	if (job->stdio)
		bh_close_fd(&job->stdio->ret_terminal_fd);
}

static int try_create(const struct bh_container_create *request, bool run, struct bh_container_process *ret_process, struct bh_error *err)
{
	struct bh_container_process process = { .pid = -1, .pidfd = -1, .sync_fd = -1 };
	struct bh_job job;
	int r;

	bh_job_init(&job);
	job.run = run;
	if (request->stdio)
		request->stdio->ret_terminal_fd = -1;
	r = prepare(&job, request, err);
	if (r == 0)
		r = clone_process(&job, &process, err);
	if (r == 0 && job.new_flags & CLONE_NEWUSER)
		r = serve_user_namespace(&job, &process, err);
	if (r == 0 && run && request->cloned && process.pid > 0)
		r = request->cloned(request->cloned_context, process.pid, err);
	if (r == 0)
		r = bh_follow(&job, &process, run ? 0 : BH_MESSAGE_READY, err);
	if (r == 0) {
		process.sync_fd = BH_TAKE_FD(job.sync_caller);
		*ret_process = process;
	} else {
		bh_job_kill(&job, &process);
		if (job.rdt_fds[0] >= 0)
			bh_container_remove_rdt(job.spec, request->id, NULL);
		if (err && !err->exit_code)
			err->exit_code = 125;
	}
	bh_job_clear(&job);
	return r;
}

static int create(const struct bh_container_create *request, bool run, struct bh_container_process *ret_process, struct bh_error *err)
{
	bool mount_api = bh_linux_has(BH_CALL_MOUNT_API);
	int r = try_create(request, run, ret_process, err);

	/* Linux 5.2 to 5.11 have all of the mount API but mount_setattr, which shows at the root mount. Then once more, with mount(2). */
	if (r == 0 || !mount_api || bh_linux_has(BH_CALL_MOUNT_API))
		return r;
	if (err)
		*err = (struct bh_error)BH_ERROR_INIT;
	return try_create(request, run, ret_process, err);
}

int bh_container_create(const struct bh_container_create *request, struct bh_container_process *ret_process, struct bh_error *err)
{
	return create(request, false, ret_process, err);
}

int bh_container_run(const struct bh_container_create *request, struct bh_container_process *ret_process, struct bh_error *err)
{
	return create(request, true, ret_process, err);
}

int bh_container_release(struct bh_container_process *process, struct bh_error *err)
{
	const struct bh_message go = { .kind = BH_MESSAGE_GO };
	int r = bh_sync_send(process->sync_fd, &go, -1);

	bh_close_fd(&process->sync_fd);
	return r < 0 ? bh_error_set(err, -r, "leave the container's process waiting") : 0;
}

int bh_container_start_remote(int connection, struct bh_error *err)
{
	struct bh_message message = { 0 };
	int r = bh_sync_receive(connection, &message, NULL);

	if (r == 0)
		return 0;
	if (r == -ECONNRESET)
		return bh_error_text(err, ECONNRESET, "cannot start a container that has stopped");
	return r < 0 ? bh_error_set(err, -r, "hear how the start went") : take_failure(&message, NULL, err);
}

int bh_container_start(struct bh_container_process *process, struct bh_error *err)
{
	const struct bh_message go = { .kind = BH_MESSAGE_GO };
	struct bh_message message = { 0 };
	int r = bh_sync_send(process->sync_fd, &go, -1);

	if (r == 0)
		r = bh_sync_receive(process->sync_fd, &message, NULL);
	if (r == 0)
		return 0;
	if (r < 0)
		bh_error_set(err, -r, "tell the container's process to start");
	else
		r = take_failure(&message, NULL, err);
	if (err && !err->exit_code)
		err->exit_code = 125;
	kill(process->pid, SIGKILL);
	reap(process->pid);
	bh_close_fd(&process->pidfd);
	bh_close_fd(&process->sync_fd);
	return r;
}
