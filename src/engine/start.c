/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a container.
 *
 *	CLI ── fork ── start stage: state folder, snapshot, user, cgroup, first process, run link ── execve ── shim
 *
 * The start stage is the same process before and after: what it clones stays its child. The command that forked it
 * holds one end of a socketpair; the stage sends STARTED or ERROR over it, and the shim goes on with the other frames.
 *
 * Order, with what each step leaves if the stage is killed right after it (the next command's reap cleans all of it):
 *	1 STATE/containers/<id>/       the trace that says "a start was under way"
 *	2 snapshot, as a detached mount: gone with the process
 *	3 cgroup                       found by the container's id
 *	4 attach.sock
 *	5 first process                dies with the stage (PR_SET_PDEATHSIG); its mounts live in its own namespace
 *	6 run link                   written while the process prepares itself
 * Until 6 the container is known by its folder of 1, and everything in its cgroup is killed with it.
 */
#include "engine/engine-internal.h"

#include "base/log.h"
#include "base/time.h"
#include "linux/path.h"
#include "runtime/runtime.h"
#include "shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

struct stage {
	struct bh_engine *engine;
	struct bh_container *c;
	struct bh_spec *spec;
	const struct bh_isolation_driver *driver;
	struct bh_compartment compartment;
	struct bh_container_stdio stdio;    /* the container's ends */
	int stdin_fd, stdout_fd, stderr_fd; /* ours */
	int listen_fd;
	int root_fd;
	char *clients;
	int client_fd; /* the one that started it, -1 on a restart */
	bool owner;
	int64_t restart_count, backoff_ms;
	struct bh_frame_started started;
};

static void stage_init(struct stage *s, struct bh_engine *engine, struct bh_container *c)
{
	*s = (struct stage){
		.engine = engine,
		.c = c,
		.stdio = { -1, -1, -1, -1 },
		.stdin_fd = -1,
		.stdout_fd = -1,
		.stderr_fd = -1,
		.listen_fd = -1,
		.root_fd = -1,
		.client_fd = -1,
		.compartment = BH_COMPARTMENT_INIT,
	};
}

int bh_engine_make_state_folder(struct bh_engine *engine, struct bh_container *c, struct bh_error *err)
{
	if (mkdirat(engine->state_fd, c->id, 0700) < 0 && errno != EEXIST)
		return bh_error_set(err, errno, "mkdir %s/containers/%s", engine->state, c->id);
	bh_close_fd(&c->state_fd);
	c->state_fd = bh_open_dir(engine->state_fd, c->id, O_NOFOLLOW, err);
	return BH_MIN(c->state_fd, 0);
}

static int make_state_folder(struct stage *s, struct bh_error *err)
{
	return bh_engine_make_state_folder(s->engine, s->c, err);
}

static int load_spec(struct stage *s, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	struct bh_spec *spec;
	int r;

	if (s->c->spec) {
		s->spec = s->c->spec;
		return 0;
	}
	r = bh_read_file_at(s->c->dir_fd, "config.json", BH_SPEC_JSON_MAX, &text, err);
	if (r < 0)
		return r;
	spec = bh_calloc(1, sizeof *spec);
	r = bh_spec_parse(text.data, text.length, spec, err);
	if (r < 0) {
		free(spec);
		return bh_error_prefix(err, "container %.12s: config.json", s->c->id);
	}
	s->c->spec = s->spec = spec;
	return 0;
}

static int find_driver(struct stage *s, struct bh_error *err)
{
	return bh_container_isolation(s->c, &s->driver, err);
}

static int mount_root(struct stage *s, struct bh_error *err)
{
	struct bh_snapshot snapshot = { 0 };
	bh_auto_close int userns = -1;
	int r;

	if (s->spec->namespaces[BH_NS_USER].present) {
		userns = r = bh_engine_userns_fd(s->spec, err);
		if (r < 0)
			return r;
	}
	r = bh_container_snapshot(s->engine, s->c, &snapshot, err);
	if (r < 0)
		return r;
	/* With id-mapped layers older kernels need a second way of mounting, and what a first try has begun as volatile can't
	 * be mounted again. */
	snapshot.is_volatile = snapshot.is_volatile && userns < 0;
	s->root_fd = r = snapshot.driver->mount(&snapshot, userns, err);
	bh_snapshot_clear(&snapshot);
	return r < 0 ? bh_error_prefix(err, "root file system") : 0;
}

static int resolve_user(struct stage *s, struct bh_error *err)
{
	bh_auto_strv struct bh_strv groups = { 0 };
	bh_auto_free char *home = NULL;
	int r;

	bh_json_strv(s->c->record, "host_config.GroupAdd", &groups);
	r = bh_container_resolve_user(s->root_fd, bh_json_text(s->c->record, "config.User", ""), &groups, &s->spec->process, &home, err);
	if (r < 0)
		return r;
	if (home && !bh_env_get(&s->spec->process.env, "HOME")) {
		bh_auto_free char *pair = bh_printf("HOME=%s", home);

		bh_env_set(&s->spec->process.env, pair);
	}
	return 0;
}

/* "container:<id>" -> the namespace of that container's first process, held by an fd so that its pid can't be another's. */
static int join_peers(struct stage *s, struct bh_error *err)
{
	static const char *const files[BH_NS_COUNT] = {
		[BH_NS_PID] = "pid", [BH_NS_NETWORK] = "net", [BH_NS_MOUNT] = "mnt",     [BH_NS_IPC] = "ipc",
		[BH_NS_UTS] = "uts", [BH_NS_USER] = "user",   [BH_NS_CGROUP] = "cgroup", [BH_NS_TIME] = "time",
	};

	for (size_t i = 0; i < BH_NS_COUNT; i++) {
		struct bh_spec_namespace *ns = &s->spec->namespaces[i];
		bh_auto_free char *path = NULL;
		struct bh_container peer;
		uint64_t start = 0;
		int fd, r;

		if (!ns->path || !bh_has_prefix(ns->path, "container:"))
			continue;
		r = bh_engine_find(s->engine, ns->path + strlen("container:"), &peer, err);
		if (r < 0)
			return r;
		path = bh_printf("/proc/%d/ns/%s", (int)peer.pid, files[i]);
		fd = peer.pid ? open(path, O_RDONLY | O_CLOEXEC) : -1;
		r = fd < 0 || bh_process_start_time(peer.pid, &start) < 0 || start != peer.pid_start ? -ESRCH : 0;
		if (r < 0)
			bh_error_text(err, ESRCH, "cannot join the %s namespace of a non running container: %s", files[i], peer.name);
		bh_container_clear(&peer);
		if (r < 0)
			return r;
		free(ns->path);
		ns->path = bh_printf("/proc/self/fd/%d", fd); /* the fd lives as long as this stage */
		ns->present = true;
	}
	return 0;
}

static int make_pipe(int *ret_read, int *ret_write, struct bh_error *err)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return bh_error_set(err, errno, "pipe");
	*ret_read = fds[0];
	*ret_write = fds[1];
	return 0;
}

static int make_streams(struct stage *s, struct bh_error *err)
{
	int r = 0;

	if (s->spec->process.terminal)
		return 0;
	if (s->c->stdin_open)
		r = make_pipe(&s->stdio.stdin_fd, &s->stdin_fd, err);
	if (r == 0)
		r = make_pipe(&s->stdout_fd, &s->stdio.stdout_fd, err);
	if (r == 0)
		r = make_pipe(&s->stderr_fd, &s->stdio.stderr_fd, err);
	return r;
}

/* Bound through the folder's fd: the state path may be longer than the 107 bytes of sun_path. */
static int make_socket(struct stage *s, struct bh_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (s->listen_fd >= 0)
		return 0;
	s->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (s->listen_fd < 0)
		return bh_error_set(err, errno, "socket");
	snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/attach.sock", s->c->state_fd);
	if (bind(s->listen_fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(s->listen_fd, 16) < 0)
		return bh_error_set(err, errno, "listen on attach.sock");
	return 0;
}

static int write_state(void *context, pid_t pid, struct bh_error *err)
{
	struct stage *s = context;
	struct bh_frame_started *now = &s->started;
	char text[128];
	int r;

	/* Of the last run; once run link is there, an exit record means this run's. */
	unlinkat(s->c->dir_fd, "exit.json", 0);
	*now = (struct bh_frame_started){ .pid = pid, .shim_pid = getpid(), .started_ns = bh_now_ns() };
	bh_process_start_time(now->pid, &now->pid_start); /* stays 0 if it has ended already: then nobody will signal it */
	r = bh_process_start_time(now->shim_pid, &now->shim_start);
	if (r < 0)
		return bh_error_set(err, -r, "read our own start time");
	snprintf(text, sizeof text, BH_RUN_FORMAT, now->pid, now->pid_start, now->shim_pid, now->shim_start, (uint64_t)now->started_ns,
		 (uint64_t)s->restart_count);
	r = symlinkat(text, s->c->state_fd, "run");
	if (r < 0 && errno == EEXIST) { /* of the last run, on a restart: replaced in one step */
		unlinkat(s->c->state_fd, "run.new", 0);
		r = symlinkat(text, s->c->state_fd, "run.new");
		if (r == 0)
			r = renameat(s->c->state_fd, "run.new", s->c->state_fd, "run");
	}
	if (r < 0)
		return bh_error_set(err, errno, "record the container's process");
	if (r == 0 && s->restart_count)
		unlinkat(s->c->state_fd, "restarting", 0);
	return r;
}

#define HEALTH_STARTING "{\"Status\":\"starting\",\"FailingStreak\":0,\"Log\":[]}\n"

static int write_health(struct stage *s, struct bh_error *err)
{
	if (!bh_json_at(s->c->record, "config.Healthcheck"))
		return 0;
	return bh_write_file_at(s->c->state_fd, "health.json", HEALTH_STARTING, strlen(HEALTH_STARTING), 0600, 0, err);
}

static int make_working_dir(struct stage *s, struct bh_error *err)
{
	const struct bh_spec_process *process = &s->spec->process;
	int fd;

	if (bh_streq(process->cwd, "/"))
		return 0;
	/* Docker makes a missing one. Below a mount of the user's the driver looks again, after the mounts. */
	fd = bh_make_in_root(s->root_fd, process->cwd, BH_NODE_DIRECTORY, err);
	if (fd < 0)
		return bh_error_prefix(err, "working directory %s", process->cwd);
	close(fd);
	return 0;
}

static int run_process(struct stage *s, struct bh_error *err)
{
	bh_auto_place struct bh_engine_place place;
	struct bh_engine_microvm microvm; /* freed with this process */
	bh_auto_free char *bundle = bh_printf("%s/containers/%s", s->engine->root, s->c->id);
	bh_auto_free char *init = bh_json_bool(s->c->record, "host_config.Init", false) ? bh_find_program("bulkhead-guest") : NULL;
	struct bh_container_file files[BH_ETC_FILES_MAX]; /* freed with this process */
	struct bh_container_create request = {
		.spec = s->spec,
		.files = files,
		.file_count = bh_engine_etc_files(s->c, s->spec, files),
		.rootfs = { .mount_fd = s->root_fd },
		.stdio = &s->stdio,
		.bundle = bundle,
		.id = s->c->id,
		.init_path = init,
		.keep_in_parent_fate = true,
		.cloned = write_state,
		.cloned_context = s,
	};
	int r;

	bh_engine_place(s->c, &place);
	if (s->driver->has_own_kernel) {
		bh_engine_microvm_init(s->engine, s->c, &microvm);
		bh_engine_microvm_add_files(&microvm, s->spec);
		place.place.microvm = &microvm.vm;
	}
	r = s->driver->run(&place.place, &request, &s->compartment, err);
	/* The pid was not known early. */
	if (r == 0 && !s->started.pid)
		r = write_state(s, s->compartment.process.pid, err);
	return r;
}

/* First use of a volume: the image's content goes into it, from here also when the root file system is mounted elsewhere. */
static int fill_volumes(struct stage *s, struct bh_error *err)
{
	int r;

	if (!s->driver->has_own_kernel)
		return bh_engine_fill_volumes(s->engine, s->c, s->root_fd, err);
	if (!bh_engine_has_volumes_to_fill(s->c))
		return 0;
	r = mount_root(s, err);
	if (r == 0)
		r = bh_engine_fill_volumes(s->engine, s->c, s->root_fd, err);
	bh_close_fd(&s->root_fd);
	return r;
}

static int run_stage(struct stage *s, struct bh_error *err)
{
	/* With a kernel of its own the root, its users and folders are inside. */
	static const struct {
		int (*run)(struct stage *, struct bh_error *);
		bool on_this_kernel;
	} steps[] = {
		{ make_state_folder, false }, { load_spec, false },       { find_driver, false }, { mount_root, true },
		{ resolve_user, true },       { make_working_dir, true }, { join_peers, true },   { make_streams, false },
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < BH_ARRAY_SIZE(steps); i++)
		if (!steps[i].on_this_kernel || !s->driver->has_own_kernel)
			r = steps[i].run(s, err);
	if (r == 0)
		r = fill_volumes(s, err);
	if (r == 0)
		r = write_health(s, err);
	if (r == 0)
		r = make_socket(s, err);
	if (r == 0)
		r = run_process(s, err);
	return r;
}

static void send_frame(int fd, enum bh_frame_type type, const void *payload, size_t length)
{
	char message[1 + sizeof(struct bh_error)] = { (char)type };

	if (length)
		memcpy(message + 1, payload, length);
	if (fd >= 0)
		(void)!send(fd, message, 1 + length, MSG_NOSIGNAL);
}

/* The start failed: nothing of it stays but the reason. */
static void undo_stage(struct stage *s, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };

	if (!err->exit_code)
		err->exit_code = 125;
	if (s->driver)
		s->driver->abandon(&s->compartment);
	bh_buf_addf(&text, "{\"exit_code\":%d,\"finished_ns\":%" PRId64 ",\"error\":", err->exit_code, bh_now_ns());
	bh_buf_add_json(&text, err->message);
	bh_buf_adds(&text, "}\n");
	bh_write_file_at(s->c->dir_fd, "exit.json", text.data, text.length, 0600, 0, NULL);
	bh_remove_tree_at(s->engine->state_fd, s->c->id, NULL);
}

static void add_fd(struct bh_strv *args, const char *key, int fd)
{
	if (fd < 0)
		return;
	fcntl(fd, F_SETFD, 0);
	bh_strv_addf(args, "%s=%d", key, fd);
}

static void add_log(struct stage *s, struct bh_strv *args)
{
	json_object *log = bh_json_at(s->c->record, "host_config.LogConfig");
	const char *max_size = bh_json_text(log, "Config.max-size", NULL), *max_file = bh_json_text(log, "Config.max-file", NULL);
	uint64_t bytes;

	if (!bh_streq(bh_json_text(log, "Type", "json-file"), "json-file"))
		return;
	bh_strv_add(args, "log=1");
	if (max_size && bh_parse_bytes(max_size, &bytes) == 0)
		bh_strv_addf(args, "log-max-size=%" PRIu64, bytes);
	if (max_file)
		bh_strv_addf(args, "log-max-file=%s", max_file);
}

static void add_policy(struct stage *s, struct bh_strv *args)
{
	json_object *record = s->c->record;
	const char *restart = bh_json_text(record, "host_config.RestartPolicy.Name", "no");
	json_object *health = bh_json_at(record, "config.Healthcheck");

	bh_strv_addf(args, "started-ns=%" PRId64, s->started.started_ns);
	bh_strv_addf(args, "restart-count=%" PRId64, s->restart_count);
	if (!bh_streq(restart, "no")) {
		bh_strv_addf(args, "restart=%s", restart);
		bh_strv_addf(args, "restart-max=%" PRId64, bh_json_int(record, "host_config.RestartPolicy.MaximumRetryCount", 0));
		bh_strv_addf(args, "backoff-ms=%" PRId64, s->backoff_ms);
		bh_strv_addf(args, "started-ms=%" PRId64, bh_monotonic_ns() / 1000000);
	}
	if (health) {
		int64_t interval = bh_json_int(health, "Interval", 0);

		bh_strv_addf(args, "health-interval-ms=%" PRId64, interval ? interval / 1000000 : 30000);
	}
	if (bh_json_bool(record, "config.StdinOnce", false))
		bh_strv_add(args, "once=1");
}

static void quiet_standard_streams(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
	close(null);
}

/* This program, which the shim becomes again for restarts and for cleaning up. */
static char *program_path(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

	return n < 0 ? bh_strdup("/usr/bin/bulkhead") : bh_strndup(path, (size_t)n);
}

/* Becomes the shim. Returns only if that failed. */
static void become_shim(struct stage *s, struct bh_error *err)
{
	bh_auto_free char *shim = bh_find_program("bulkhead-shim"), *engine = program_path();
	bh_auto_strv struct bh_strv args = { 0 };
	char *const environment[] = { NULL };

	bh_strv_add(&args, "bulkhead-shim");
	bh_strv_add(&args, s->c->id);
	bh_strv_addf(&args, "pid=%d", (int)s->compartment.process.pid);
	add_fd(&args, "pidfd", s->compartment.process.pidfd);
	add_fd(&args, "dir", s->c->dir_fd);
	add_fd(&args, "state", s->c->state_fd);
	add_fd(&args, "stdin", s->stdin_fd);
	add_fd(&args, "stdout", s->stdout_fd);
	add_fd(&args, "stderr", s->stderr_fd);
	add_fd(&args, "tty", s->stdio.ret_terminal_fd);
	add_fd(&args, "listen", s->listen_fd);
	add_fd(&args, "clients", s->client_fd);
	if (s->clients)
		bh_strv_addf(&args, "clients=%s", s->clients);
	if (s->owner)
		bh_strv_add(&args, "owner=1");
	if (s->c->auto_remove)
		bh_strv_add(&args, "remove=1");
	add_fd(&args, "oom", s->compartment.oom_fd);
	add_log(s, &args);
	add_policy(s, &args);
	bh_strv_addf(&args, "engine=%s", engine);
	bh_strv_addf(&args, "root=%s", s->engine->root);
	bh_strv_addf(&args, "state-dir=%s", s->engine->state);
	execve(shim, args.items, environment);
	bh_error_set(err, errno, "execute %s", shim);
}

_Noreturn static void stage_main(struct stage *s)
{
	struct bh_error err = BH_ERROR_INIT;

	if (run_stage(s, &err) == 0) {
		send_frame(s->client_fd, BH_FRAME_STARTED, &s->started, sizeof s->started);
		if (s->client_fd >= 0 && !s->owner)
			bh_close_fd(&s->client_fd); /* nobody stays to watch */
		flock(s->c->dir_fd, LOCK_UN);
		quiet_standard_streams();
		become_shim(s, &err);
	}
	undo_stage(s, &err);
	send_frame(s->client_fd, BH_FRAME_ERROR, &err, sizeof err);
	_exit(err.exit_code);
}

static int receive_result(int fd, struct bh_container *c, struct bh_error *err)
{
	char message[1 + sizeof(struct bh_error)];
	struct bh_frame_started started;
	ssize_t n;

	do
		n = recv(fd, message, sizeof message, 0);
	while (n < 0 && errno == EINTR);
	if (n == 1 + (ssize_t)sizeof started && message[0] == BH_FRAME_STARTED) {
		memcpy(&started, message + 1, sizeof started);
		c->status = BH_STATUS_RUNNING;
		c->pid = started.pid;
		c->pid_start = started.pid_start;
		c->shim_pid = started.shim_pid;
		c->shim_start = started.shim_start;
		c->started_ns = started.started_ns;
		return 0;
	}
	if (n == (ssize_t)sizeof message && message[0] == BH_FRAME_ERROR) {
		memcpy(err, message + 1, sizeof *err);
		err->message[sizeof err->message - 1] = '\0';
		return err->errnum ? -err->errnum : -EINVAL;
	}
	return bh_error_text(err, EIO, "the start stage ended without a word (killed?)");
}

int bh_engine_start(struct bh_engine *engine, struct bh_container *container, struct bh_start *start, struct bh_error *err)
{
	bh_auto_close int ours = -1, theirs = -1;
	int fds[2], r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return bh_error_set(err, errno, "socketpair");
	ours = fds[0];
	theirs = fds[1];
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return bh_error_set(err, errno, "fork");
	if (pid == 0) {
		struct stage stage;

		setsid(); /* a Ctrl-C at our terminal is not for the shim */
		prctl(PR_SET_DUMPABLE, 0);
		close(ours);
		stage_init(&stage, engine, container);
		stage.client_fd = theirs;
		stage.owner = start->attach;
		stage_main(&stage);
	}
	bh_close_fd(&theirs);
	r = receive_result(ours, container, err);
	bh_container_unlock(container);
	if (r < 0) {
		waitpid(pid, NULL, 0);
		if (!err->exit_code)
			err->exit_code = 125;
		return r;
	}
	start->ret_shim_pid = pid;
	start->ret_client_fd = start->attach ? BH_TAKE_FD(ours) : -1;
	return 0;
}

/* On a restart the folder of the state is there already, with marks of the last run. */
static void clear_marks(struct bh_container *c)
{
	static const char *const marks[] = { "paused", "health.json" };

	for (size_t i = 0; i < BH_ARRAY_SIZE(marks); i++)
		unlinkat(c->state_fd, marks[i], 0);
}

static int prepare_restart(struct bh_engine *engine, struct bh_container *c, struct bh_error *err)
{
	struct bh_snapshot snapshot = { 0 };
	int r = bh_engine_destroy_compartment(c, err);

	clear_marks(c);
	if (r < 0)
		return r;
	if (!bh_json_bool(c->record, "restart_fresh", false))
		return 0;
	r = bh_container_snapshot(engine, c, &snapshot, err);
	if (r == 0) {
		r = snapshot.driver->reset(&snapshot, err);
		bh_snapshot_clear(&snapshot);
	}
	return r;
}

_Noreturn void bh_engine_restart(struct bh_engine *engine, const char *id, const struct bh_restart_handover *handover)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_container c;
	struct stage stage;

	if (bh_engine_find(engine, id, &c, &err) < 0 || bh_lock_fd(c.dir_fd, true, false) < 0)
		_exit(125);
	c.locked = true;
	bh_container_refresh(engine, &c);
	stage_init(&stage, engine, &c);
	stage.listen_fd = handover->listen_fd;
	if (stage.listen_fd >= 0)
		fcntl(stage.listen_fd, F_SETFD, FD_CLOEXEC);
	stage.clients = bh_strdup(handover->clients);
	stage.owner = handover->owner;
	stage.restart_count = handover->restart_count;
	stage.backoff_ms = handover->backoff_ms;
	if (c.state_fd < 0 || faccessat(c.state_fd, "stopping", F_OK, 0) == 0 || prepare_restart(engine, &c, &err) < 0) {
		bh_engine_finish(engine, &c, NULL);
		_exit(0);
	}
	/* Attached clients see the end of their connection if the start fails: the fds close with this process. */
	stage_main(&stage);
}
