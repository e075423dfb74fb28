/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `cp`: the side in the compartment. It packs or unpacks a tar stream (storage/transfer.h) and is
 *
 *	of a running or paused container   a child of ours, with the root directory of the container's first process as a descriptor:
 *	                                   so it sees all mounts of the container, and no path leads out
 *	of a stopped one                   the same over the container's root file system, mounted as a start does it, with its
 *	                                   volumes, in a mount namespace of the child's own. The container is locked meanwhile
 *	of a microVM that runs             a process in the guest, made over the session like an exec; it does the same there
 *	of a stopped one                   the only process of a guest that is started for it, without network, with the microVM's own kernel,
 *	                                   disks and folders of the host: no file system that a guest has written is mounted here
 *
 * The child works as root of the container's user namespace: owners in the stream are the container's numbers, and it has no power over
 * the host's files. Without such a namespace it keeps the capabilities that files need and no other.
 */
#include "engine/engine-internal.h"

#include "base/log.h"
#include "linux/credentials.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

struct copy {
	struct bh_engine *engine;
	struct bh_container *c;
	const struct bh_transfer_request *request;
	int root_fd, userns_fd; /* -1: the host's */
	bool is_stopped;
};

/* --- the child ---------------------------------------------------------------------------------------------------------- */

/* Groups first: afterwards they couldn't be changed. */
static int become_inner_root(int userns_fd, struct bh_error *err)
{
	if (setns(userns_fd, CLONE_NEWUSER) < 0)
		return bh_error_set(err, errno, "enter the container's user namespace");
	if ((setgroups(0, NULL) < 0 && errno != EPERM) || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return bh_error_set(err, errno, "become root of the container's user namespace");
	bh_explain("namespace", "type", "user", "action", "enter");
	return 0;
}

static int serve(struct copy *copy, const struct bh_container_stdio *stdio, struct bh_error *err)
{
	int r = 0;

	if (copy->is_stopped)
		r = bh_container_mount_files(copy->c->spec, copy->root_fd, copy->userns_fd, !copy->request->is_unpack, err);
	if (r == 0 && copy->userns_fd >= 0)
		r = become_inner_root(copy->userns_fd, err);
	if (r == 0)
		r = bh_capabilities_keep_for_files(err);
	if (r == 0)
		r = bh_transfer_serve(copy->request, copy->root_fd, copy->userns_fd >= 0, stdio->stdin_fd, stdio->stdout_fd, err);
	if (r == 0)
		bh_explain("copy", "path", copy->request->path, "direction", copy->request->is_unpack ? "in" : "out");
	return r;
}

/* Whoever reads the command's output, or writes its input, shall see when that ends and not when we do. */
static void drop_standard_streams(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; null >= 0 && fd <= 2; fd++)
		dup2(null, fd);
}

static void enter_child(struct bh_exec *exec)
{
	signal(SIGPIPE, SIG_IGN);
	bh_close_fd(&exec->stdin_fd);
	bh_close_fd(&exec->stdout_fd);
	bh_close_fd(&exec->stderr_fd);
	drop_standard_streams();
}

static _Noreturn void child(struct copy *copy, struct bh_exec *exec, const struct bh_container_stdio *stdio)
{
	struct bh_error err = BH_ERROR_INIT;

	enter_child(exec);
	if (serve(copy, stdio, &err) == 0)
		_exit(0);
	bh_write_all(stdio->stderr_fd, err.message, strlen(err.message));
	_exit(1);
}

/* --- the parent --------------------------------------------------------------------------------------------------------- */

static int load_spec(struct bh_container *c, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	int r = c->spec ? 0 : bh_read_file_at(c->dir_fd, "config.json", BH_SPEC_JSON_MAX, &text, err);

	if (r < 0 || c->spec)
		return r;
	c->spec = bh_calloc(1, sizeof *c->spec);
	return bh_spec_parse(text.data, text.length, c->spec, err);
}

static bool is_own_namespace(int fd)
{
	struct stat theirs, ours;

	return fstat(fd, &theirs) == 0 && stat("/proc/self/ns/user", &ours) == 0 && theirs.st_ino == ours.st_ino && theirs.st_dev == ours.st_dev;
}

static int open_running(struct copy *copy, struct bh_error *err)
{
	pid_t pid = copy->c->pid;
	bh_auto_free char *root = bh_printf("/proc/%d/root", (int)pid), *userns = bh_printf("/proc/%d/ns/user", (int)pid);
	bh_auto_close int pidfd = bh_process_open(pid, copy->c->pid_start);

	copy->root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	copy->userns_fd = open(userns, O_RDONLY | O_CLOEXEC);
	/* What was opened is the container's if its process still lives. */
	if (pidfd < 0 || bh_pidfd_wait(pidfd, 0) != 0)
		return bh_error_text(err, ESRCH, "it has just ended: try again");
	if (copy->root_fd < 0 || copy->userns_fd < 0)
		return bh_error_set(err, errno, "open the root directory and user namespace of process %d", (int)pid);
	if (is_own_namespace(copy->userns_fd))
		bh_close_fd(&copy->userns_fd);
	bh_explain("copy", "root", root);
	return 0;
}

/* Volumes that nobody has used yet get the image's content from here. */
static int mount_root(struct copy *copy, struct bh_error *err)
{
	struct bh_snapshot snapshot = { 0 };
	int r = bh_container_snapshot(copy->engine, copy->c, &snapshot, err);

	if (r < 0)
		return r;
	snapshot.is_volatile = false; /* a mount of that kind would be the last one */
	copy->root_fd = r = snapshot.driver->mount(&snapshot, copy->userns_fd, err);
	bh_snapshot_clear(&snapshot);
	if (r < 0)
		return bh_error_prefix(err, "root file system");
	return bh_engine_has_volumes_to_fill(copy->c) ? bh_engine_fill_volumes(copy->engine, copy->c, copy->root_fd, err) : 0;
}

static int open_stopped(struct copy *copy, struct bh_error *err)
{
	int r = load_spec(copy->c, err);

	if (r == 0 && copy->c->spec->namespaces[BH_NS_USER].present)
		copy->userns_fd = r = bh_engine_userns_fd(copy->c->spec, err);
	if (r >= 0)
		r = mount_root(copy, err);
	if (r < 0)
		return r;
	bh_explain("mount", "type", "root", "source", "detached mount", "target", "/");
	copy->is_stopped = true;
	return 0;
}

/* exec->pid is 0 in the child. */
static int fork_child(struct bh_exec *exec, struct bh_error *err)
{
	exec->pid = fork();
	if (exec->pid < 0)
		return bh_error_set(err, errno, "fork");
	if (exec->pid > 0)
		exec->pidfd = bh_pidfd_open(exec->pid);
	return exec->pid > 0 && exec->pidfd < 0 ? bh_error_set(err, -exec->pidfd, "open a pidfd") : 0;
}

static int run_beside(struct copy *copy, struct bh_exec *exec, struct bh_container_stdio *stdio, struct bh_error *err)
{
	bool runs = copy->c->status == BH_STATUS_RUNNING || copy->c->status == BH_STATUS_PAUSED;
	int r = runs ? open_running(copy, err) : open_stopped(copy, err);

	if (r == 0)
		r = fork_child(exec, err);
	if (r == 0 && exec->pid == 0)
		child(copy, exec, stdio);
	return r;
}

/* The guest's first process is asked for a process that does it. */
static int run_in_guest(struct copy *copy, const struct bh_isolation_driver *driver, struct bh_exec *exec, struct bh_container_stdio *stdio,
			struct bh_error *err)
{
	bh_auto_place struct bh_engine_place place;
	struct bh_engine_microvm microvm;
	struct bh_container_exec request = { .init_pid = copy->c->pid, .init_pidfd = -1, .stdio = stdio };
	struct bh_container_process process = { .pid = -1, .pidfd = -1, .sync_fd = -1 };
	int r = load_spec(copy->c, err);

	if (r < 0)
		return r;
	bh_engine_place(copy->c, &place);
	bh_engine_microvm_init(copy->engine, copy->c, &microvm);
	microvm.vm.transfer = copy->request;
	place.place.microvm = &microvm.vm;
	copy->c->spec->process.terminal = false;
	request.spec = copy->c->spec;
	request.process = &copy->c->spec->process;
	r = driver->exec(&place.place, &request, &process, err);
	bh_engine_microvm_clear(&microvm);
	exec->pid = process.pid;
	exec->pidfd = process.pidfd;
	return r;
}

/* --- a stopped microVM -------------------------------------------------------------------------------------------------- */

static int fill_volumes(struct copy *copy, struct bh_error *err)
{
	int r = bh_engine_has_volumes_to_fill(copy->c) ? mount_root(copy, err) : 0;

	bh_close_fd(&copy->root_fd);
	return r;
}

/* The guest's only process is the copy. It ends as that does; 0, or its exit code. */
static int run_guest(struct copy *copy, const struct bh_isolation_driver *driver, struct bh_container_stdio *stdio, struct bh_error *err)
{
	bh_auto_place struct bh_engine_place place;
	struct bh_engine_microvm microvm; /* freed with this process */
	struct bh_compartment compartment = BH_COMPARTMENT_INIT;
	struct bh_container_create request = { .spec = copy->c->spec, .stdio = stdio, .id = copy->c->id, .keep_in_parent_fate = true };
	int status = 0, r;

	bh_engine_place(copy->c, &place);
	bh_engine_microvm_init(copy->engine, copy->c, &microvm);
	microvm.vm.transfer = copy->request;
	place.place.microvm = &microvm.vm;
	copy->c->spec->process.terminal = false;
	r = driver->run(&place.place, &request, &compartment, err);
	if (r < 0)
		return r;
	/* Its streams end with it. */
	bh_close_fd(&stdio->stdin_fd);
	bh_close_fd(&stdio->stdout_fd);
	while (waitpid(compartment.process.pid, &status, 0) < 0 && errno == EINTR)
		continue;
	bh_close_fd(&compartment.process.pidfd);
	driver->abandon(&compartment);
	return WIFEXITED(status) ? WEXITSTATUS(status) : BH_MICROVM_LOST_EXIT;
}

/* Stays when the command is killed: the copy ends with its pipes, and what it needed is removed. The lock is held through our descriptor. If
 * this process is killed, the next command finds a state folder without a shim, and cleans up as after a start that was killed. */
static _Noreturn void child_with_guest(struct copy *copy, const struct bh_isolation_driver *driver, struct bh_exec *exec,
				       struct bh_container_stdio *stdio)
{
	struct bh_error err = BH_ERROR_INIT;
	int r;

	setsid();
	enter_child(exec);
	r = fill_volumes(copy, &err);
	if (r == 0)
		r = bh_engine_make_state_folder(copy->engine, copy->c, &err);
	if (r == 0)
		r = run_guest(copy, driver, stdio, &err);
	bh_remove_tree_at(copy->engine->state_fd, copy->c->id, NULL);
	if (r < 0)
		bh_write_all(stdio->stderr_fd, err.message, strlen(err.message));
	_exit(r < 0 ? 1 : r);
}

static int run_in_new_guest(struct copy *copy, const struct bh_isolation_driver *driver, struct bh_exec *exec, struct bh_container_stdio *stdio,
			    struct bh_error *err)
{
	int r = load_spec(copy->c, err);

	if (r == 0)
		r = fork_child(exec, err);
	if (r == 0 && exec->pid == 0)
		child_with_guest(copy, driver, exec, stdio);
	return r;
}

/* --- both --------------------------------------------------------------------------------------------------------------- */

static int run_in_microvm(struct copy *copy, const struct bh_isolation_driver *driver, struct bh_exec *exec, struct bh_container_stdio *stdio,
			  struct bh_error *err)
{
	if (copy->c->status == BH_STATUS_PAUSED)
		return bh_error_text(err, EBUSY, "its microVM is paused and can't answer: unpause it first");
	return copy->c->status == BH_STATUS_RUNNING ? run_in_guest(copy, driver, exec, stdio, err) : run_in_new_guest(copy, driver, exec, stdio, err);
}

static int run(struct copy *copy, struct bh_exec *exec, struct bh_error *err)
{
	const struct bh_exec_options pipes = { .interactive = copy->request->is_unpack };
	struct bh_container_stdio stdio = { .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .ret_terminal_fd = -1 };
	const struct bh_isolation_driver *driver;
	int r = bh_container_isolation(copy->c, &driver, err);

	if (r == 0 && copy->c->status == BH_STATUS_RESTARTING)
		r = bh_error_text(err, EBUSY, "it is restarting: try again when it is up");
	if (r == 0)
		r = bh_engine_exec_pipes(&pipes, exec, &stdio, err);
	if (r == 0)
		r = driver->has_own_kernel ? run_in_microvm(copy, driver, exec, &stdio, err) : run_beside(copy, exec, &stdio, err);
	bh_close_fd(&stdio.stdin_fd);
	bh_close_fd(&stdio.stdout_fd);
	bh_close_fd(&stdio.stderr_fd);
	return r;
}

static bool needs_lock(const struct bh_container *c)
{
	return c->status == BH_STATUS_CREATED || c->status == BH_STATUS_EXITED;
}

/* One that doesn't run has to stay so. */
static int find(struct bh_engine *engine, const char *reference, struct bh_container *ret_container, struct bh_error *err)
{
	int r = bh_engine_find(engine, reference, ret_container, err);

	if (r < 0 || !needs_lock(ret_container))
		return r;
	bh_container_clear(ret_container);
	r = bh_engine_find_locked(engine, reference, ret_container, err);
	if (r == 0 && !needs_lock(ret_container))
		bh_container_unlock(ret_container);
	return r;
}

int bh_engine_copy(struct bh_engine *engine, const char *reference, const struct bh_transfer_request *request, struct bh_container *ret_container,
		   struct bh_exec *ret_exec, struct bh_error *err)
{
	struct copy copy = { .engine = engine, .c = ret_container, .request = request, .root_fd = -1, .userns_fd = -1 };
	struct bh_exec exec = BH_EXEC_INIT;
	int r = find(engine, reference, ret_container, err);

	if (r < 0)
		return r;
	r = run(&copy, &exec, err);
	bh_close_fd(&copy.root_fd);
	bh_close_fd(&copy.userns_fd);
	if (r < 0) {
		bh_exec_close(&exec);
		bh_error_prefix(err, "container %s", ret_container->name);
		bh_container_clear(ret_container);
		return r;
	}
	*ret_exec = exec;
	return 0;
}
