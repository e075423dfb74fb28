/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a container of a bundle.
 *
 * Order, with what each step leaves if we are killed right after it (bh_bundle_delete finds all of it):
 *	1 ROOT/<id>/          taken exclusively, locked by us until the end
 *	2 start.sock          for `create`
 *	3 record              names every folder that the cgroup may get, and the unit
 *	4 cgroup
 *	  mount               for a container without a mount namespace
 *	5 first process       ends with us until it is released; in its cgroup from its first moment
 *	6 cgroups, init link, pid file, terminal
 *	7 release             it waits at start.sock, or runs
 */
#include "bundle/bundle-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "linux/namespace.h"
#include "linux/process.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#define RECORD_TEMPORARY BH_BUNDLE_RECORD ".new"

struct making {
	const struct bh_bundle_create *request;
	struct bh_bundle bundle;
	struct bh_buf config;
	struct bh_compartment compartment;
	int bundle_fd;                           /* until the configuration is read, or -1 */
	const struct bh_container_create *start; /* under way */
	int root_mount;                          /* see host-root.c */
	int start_socket;
	bool linked; /* the init link is written */
};

static int read_config(struct making *m, const char *name, struct bh_error *err)
{
	/* A FIFO in the bundle must not hold us: our caller's signals are blocked already. What is named by option may be a pipe. */
	bool named = m->request->config;
	int fd, r;

	if (m->bundle_fd < 0)
		m->bundle_fd = bh_open_dir(AT_FDCWD, m->request->bundle, O_PATH, err);
	if (m->bundle_fd < 0)
		return m->bundle_fd;
	fd = openat(m->bundle_fd, name, O_RDONLY | O_NOCTTY | O_CLOEXEC | (named ? 0 : O_NONBLOCK));
	r = fd < 0 ? -errno : (named ? bh_read_fd : bh_read_stored_fd)(fd, BH_SPEC_JSON_MAX, &m->config);
	bh_close_fds((int *[]){ &m->bundle_fd, &fd }, 2);
	if (r == -ENOENT)
		return bh_error_text(err, ENOENT, "JSON specification file %s not found", name);
	return r < 0 ? bh_error_set(err, -r, "read %s", name) : 0;
}

static int load_config(struct making *m, struct bh_error *err)
{
	int r = read_config(m, m->request->config ? m->request->config : "config.json", err);

	if (r == 0)
		r = bh_spec_parse(m->config.data, m->config.length, &m->bundle.spec, err);
	if (r < 0)
		return r;
	m->bundle.has_spec = true;
	bh_bundle_default_maps(&m->bundle.spec);
	r = bh_bundle_mount_options(&m->bundle.spec, err);
	if (r < 0)
		return r;
	if (!m->bundle.spec.root.path)
		return bh_error_text(err, EINVAL, "root.path: missing");
	bh_cgroup_add_runtime_device_rules(&m->bundle.spec);
	r = bh_bundle_find_driver(&m->bundle.spec, m->request->isolation, &m->bundle.driver, err);
	if (r < 0)
		return r;
	return m->request->configured ? m->request->configured(m->request->context, &m->bundle.spec, err) : 0;
}

/* Its making is what makes the id unique. */
static int take_id(struct making *m, struct bh_error *err)
{
	struct bh_bundle *b = &m->bundle;
	const char *root = m->request->root, *id = m->request->id;

	b->root_fd = bh_make_dir(AT_FDCWD, root, 0700, err);
	if (b->root_fd < 0)
		return b->root_fd;
	if (mkdirat(b->root_fd, id, 0711) < 0)
		return errno == EEXIST ? bh_error_text(err, EEXIST, "container with given ID already exists") :
					 bh_error_set(err, errno, "make %s/%s", root, id);
	b->id = bh_strdup(id);
	b->dir_fd = openat(b->root_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (b->dir_fd < 0)
		return bh_error_set(err, errno, "open %s/%s", root, id);
	b->state = bh_printf("/proc/self/fd/%d", b->dir_fd);
	bh_lock_fd(b->dir_fd, true, true);
	return 0;
}

/* The name is reached through the folder's fd: the path may be longer than a socket's address holds. */
static int make_socket(struct making *m, struct bh_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	bh_auto_close int fd = -1;

	if (m->request->run)
		return 0;
	if (m->bundle.driver->has_own_kernel) /* its session makes the socket */
		return symlinkat(BH_MICROVM_SOCKET, m->bundle.dir_fd, BH_BUNDLE_SOCKET) < 0 ? bh_error_set(err, errno, "make a link to the socket") : 0;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/" BH_BUNDLE_SOCKET, m->bundle.dir_fd);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 1) < 0)
		return bh_error_set(err, errno, "make the socket %s/%s/" BH_BUNDLE_SOCKET, m->request->root, m->request->id);
	m->start_socket = BH_TAKE_FD(fd);
	return 0;
}

static int make_notify(struct making *m, struct bh_error *err)
{
	int r;

	if (m->request->notify && m->bundle.driver->has_own_kernel) {
		bh_warn("a microVM's process can't reach the service manager's socket: readiness isn't passed on");
		return 0;
	}
	r = m->request->notify ? bh_bundle_prepare_notify(&m->bundle, m->request->notify, err) : 0;

	return r == 0 && m->request->notify && m->request->run ? bh_bundle_listen_notify(&m->bundle, err) : r;
}

/* As runc: a destination may be given as seen from outside. */
static void strip_root(struct bh_bundle *b)
{
	size_t length = strlen(b->rootfs);

	for (size_t i = 0; length > 1 && i < b->spec.mount_count; i++) {
		char *destination = b->spec.mounts[i].destination;

		if (strncmp(destination, b->rootfs, length) == 0 && destination[length] == '/')
			memmove(destination, destination + length, strlen(destination + length) + 1);
	}
}

static int fill_bundle(struct making *m, struct bh_error *err)
{
	struct bh_bundle *b = &m->bundle;

	(void)err;
	b->bundle = bh_strdup(m->request->bundle);
	b->rootfs = *b->spec.root.path == '/' ? bh_strdup(b->spec.root.path) : bh_path_join(b->bundle, b->spec.root.path);
	strip_root(b);
	b->oci_version = bh_strdup(b->spec.oci_version);
	b->created_ns = bh_now_ns();
	b->owner = bh_started_as();
	return 0;
}

/* Called when the cgroup's places are known, and before anything is there; twice with systemd, which chooses them. */
static int write_record(void *context, const struct bh_strv *cgroups, const char *unit, struct bh_error *err)
{
	struct making *m = context;
	struct bh_bundle *b = &m->bundle;
	struct bh_strv planned = { 0 };
	int r;

	for (size_t i = 0; i < cgroups->count; i++)
		bh_strv_add(&planned, cgroups->items[i]);
	bh_bundle_take_cgroup(b, &planned, unit);
	b->record.length = 0;
	bh_buf_adds(&b->record, "{\"ociVersion\":");
	bh_buf_add_json(&b->record, b->oci_version);
	bh_buf_adds(&b->record, ",\"bundle\":");
	bh_buf_add_json(&b->record, b->bundle);
	bh_buf_adds(&b->record, ",\"rootfs\":");
	bh_buf_add_json(&b->record, b->rootfs);
	if (unit) {
		bh_buf_adds(&b->record, ",\"unit\":");
		bh_buf_add_json(&b->record, unit);
	}
	bh_buf_adds(&b->record, ",\"cgroups\":[");
	for (size_t i = 0; i < cgroups->count; i++) {
		if (i)
			bh_buf_addc(&b->record, ',');
		bh_buf_add_json(&b->record, cgroups->items[i]);
	}
	bh_buf_addf(&b->record, "],\"isolation\":\"%s\",\"systemd\":%s,\"created\":%" PRId64 ",\"owner\":%u}\n", b->driver->name,
		    m->request->systemd_cgroup ? "true" : "false", b->created_ns, (unsigned)b->owner);
	b->config_offset = b->record.length;
	bh_buf_add(&b->record, m->config.data, m->config.length);
	/* The folder is locked by us and will go as a whole if we are killed: the temporary name needs not be unique. */
	r = bh_create_file_at(b->dir_fd, RECORD_TEMPORARY, b->record.data, b->record.length, 0600, err);
	if (r == 0 && renameat(b->dir_fd, RECORD_TEMPORARY, b->dir_fd, BH_BUNDLE_RECORD) < 0)
		r = bh_error_set(err, errno, "rename %s/%s/" RECORD_TEMPORARY, m->request->root, b->id);
	return r;
}

/* Called while the process prepares itself, as soon as its pid is known. */
static int write_init(void *context, pid_t pid, struct bh_error *err)
{
	struct making *m = context;
	uint64_t start = 0;
	char text[64];
	int r = bh_bundle_record_cgroup(&m->bundle, m->start ? m->start->cgroup : m->compartment.cgroup, err);

	if (r < 0)
		return r;
	m->linked = true;
	bh_process_start_time(pid, &start); /* stays 0 if it has ended already: then nobody will take another for it */
	snprintf(text, sizeof text, "%d:%" PRIx64, (int)pid, start);
	if (symlinkat(text, m->bundle.dir_fd, BH_BUNDLE_INIT) < 0)
		return bh_error_set(err, errno, "make %s/%s/" BH_BUNDLE_INIT, m->request->root, m->request->id);
	r = m->request->pid_file ? bh_bundle_write_pid_file(m->request->pid_file, pid, err) : 0;
	/* The container driver does it itself. */
	return r == 0 && m->bundle.driver->has_own_kernel ? bh_bundle_run_creation_hooks(&m->bundle, pid, err) : r;
}

int bh_bundle_write_pid_file(const char *path, pid_t pid, struct bh_error *err)
{
	const char *slash = strrchr(path, '/');
	bh_auto_free char *folder = slash ? bh_strndup(path, (size_t)(slash - path) + 1) : bh_strdup(".");
	bh_auto_close int dir = bh_open_dir(AT_FDCWD, folder, O_PATH, err);
	char text[16];
	int length = snprintf(text, sizeof text, "%d", (int)pid);

	return dir < 0 ? dir : bh_write_file_at(dir, slash ? slash + 1 : path, text, (size_t)length, 0644, 0, err);
}

/* The user namespace's root manages the cgroups below its own, if it is told so by a writable cgroup mount (v2). */
static struct bh_opt_i64 cgroup_owner(const struct bh_spec *spec)
{
	static const struct bh_opt_i64 nobody = { 0 };
	const struct bh_spec_namespace *ns = spec->namespaces;
	uint32_t uid;

	if (!ns[BH_NS_USER].present || !ns[BH_NS_CGROUP].present || ns[BH_NS_CGROUP].path)
		return nobody;
	if (!bh_id_to_host(spec->uid_mappings, spec->uid_mapping_count, 0, &uid))
		return nobody;
	for (size_t i = 0; i < spec->mount_count; i++) {
		const struct bh_spec_mount *m = &spec->mounts[i];

		if ((bh_streq(m->type, "cgroup") || bh_streq(m->type, "cgroup2")) && !bh_strv_contains(&m->options, "ro"))
			return (struct bh_opt_i64)BH_SOME(uid);
	}
	return nobody;
}

static struct bh_cgroup_request cgroup_request(struct making *m)
{
	const struct bh_bundle *b = &m->bundle;

	return (struct bh_cgroup_request){
		.path = b->spec.cgroups_path,
		.name = b->id,
		.resources = &b->spec.resources,
		.every_hierarchy = true,
		.strict = true,
		.none = m->request->no_cgroup,
		.rootless = m->request->rootless,
		.owner_uid = cgroup_owner(&b->spec),
		.systemd = m->request->systemd_cgroup,
		.annotations = &b->spec.annotations,
		.planned = write_record,
		.planned_context = m,
	};
}

static int restored(void *context, pid_t pid, struct bh_error *err)
{
	struct making *m = context;
	struct bh_container_process *p = &m->compartment.process;

	p->pid = pid;
	p->pidfd = bh_pidfd_or_folder(pid);
	if (p->pidfd < 0)
		return bh_error_set(err, -p->pidfd, "open the restored process");
	return write_init(m, pid, err);
}

static int restore_process(struct making *m, struct bh_error *err)
{
	const struct bh_bundle_create *q = m->request;
	const struct bh_cgroup_request cgroup = cgroup_request(m);
	struct bh_bundle_restore request = { .criu = q->restore, .stdio = q->stdio, .restored = restored, .context = m };
	int r = 0;

	if (m->bundle.driver->has_own_kernel)
		r = bh_error_text(err, ENOTSUP, "a checkpoint cannot be restored as a microVM");
	if (r == 0 && bh_bundle_shares_mounts(&m->bundle))
		r = bh_error_text(err, EINVAL, "a container without a mount namespace of its own cannot be restored");
	if (r == 0)
		r = bh_cgroup_make(&cgroup, &m->compartment.cgroup, err);
	request.cgroup = m->compartment.cgroup;
	if (r == 0)
		r = bh_bundle_restore(&m->bundle, &request, err);
	if (r == 0 && !m->linked)
		r = bh_error_text(err, EIO, "criu told of no process");
	if (r == 0 && q->stdio->ret_terminal_fd >= 0 && q->terminal)
		r = q->terminal(q->context, q->stdio->ret_terminal_fd, err);
	m->bundle.pid = m->compartment.process.pid;
	m->bundle.status = BH_BUNDLE_RUNNING;
	return r;
}

static int run_process(struct making *m, struct bh_error *err)
{
	const struct bh_bundle_create *q = m->request;
	struct bh_bundle *b = &m->bundle;
	struct bh_container_create request = {
		.spec = &b->spec,
		.rootfs = { .mount_fd = -1, .path = b->rootfs },
		.stdio = q->stdio,
		.bundle = b->bundle,
		.id = b->id,
		.cloned = write_init,
		.cloned_context = m,
		.preserve_fds = q->preserve_fds,
		.all_cpus = true,
		.no_pivot = q->no_pivot,
		.no_new_keyring = q->no_new_keyring,
		.start_socket = q->run ? 0 : m->start_socket,
		.rootless = b->owner != 0,
	};
	const struct bh_cgroup_request cgroup = cgroup_request(m);
	struct bh_compartment_place place = { .request = &cgroup, .state = b->state };
	struct bh_container_process *p = &m->compartment.process;
	struct bh_microvm vm;
	int r = 0;

	if (q->restore)
		return restore_process(m, err);
	if (b->driver->has_own_kernel) {
		place.microvm = &vm;
		r = bh_bundle_prepare_microvm(q, b, &vm, err);
	} else if (bh_bundle_shares_mounts(b) && b->owner == 0) {
		r = bh_bundle_make_root(b, &m->root_mount, err);
		request.rootfs.mount_fd = m->root_mount;
	}
	m->start = &request;
	if (r == 0)
		r = (q->run ? b->driver->run : b->driver->create)(&place, &request, &m->compartment, err);
	if (r == 0 && !m->linked)
		r = write_init(m, p->pid, err);
	if (r == 0 && q->stdio && q->stdio->ret_terminal_fd >= 0 && q->terminal)
		r = q->terminal(q->context, q->stdio->ret_terminal_fd, err);
	b->pid = p->pid;
	if (r == 0 && !q->run)
		return b->driver->release(&m->compartment, err);
	b->status = BH_BUNDLE_RUNNING;
	return r == 0 ? bh_bundle_run_hooks(b, &b->spec.hooks.poststart, "poststart", err) : r;
}

static void undo(struct making *m)
{
	/* The folder is ours only if take_id got it. */
	if ((m->compartment.process.pidfd >= 0 || m->compartment.cgroup) && m->bundle.driver)
		m->bundle.driver->abandon(&m->compartment);
	if (m->root_mount >= 0)
		bh_bundle_detach_root(&m->bundle, NULL);
	if (m->bundle.id)
		bh_remove_tree_at(m->bundle.root_fd, m->bundle.id, NULL);
	if (m->linked && m->request->pid_file)
		unlink(m->request->pid_file);
}

int bh_bundle_create(const struct bh_bundle_create *request, struct bh_bundle *ret_bundle, struct bh_error *err)
{
	struct making m = { .request = request,
			    .bundle = BH_BUNDLE_INIT_VALUE,
			    .compartment = BH_COMPARTMENT_INIT,
			    .start_socket = -1,
			    .root_mount = -1,
			    .bundle_fd = request->bundle_fd > 0 ? request->bundle_fd : -1 };
	static int (*const steps[])(struct making *, struct bh_error *) = { load_config, take_id, make_socket, make_notify, fill_bundle, run_process };
	int r = bh_bundle_check_id(request->id, err);

	for (size_t i = 0; r == 0 && i < BH_ARRAY_SIZE(steps); i++)
		r = steps[i](&m, err);
	if (r < 0) {
		undo(&m);
		bh_bundle_close(&m.bundle);
	} else {
		m.bundle.pidfd = m.compartment.process.pidfd;
		bh_unlock_fd(m.bundle.dir_fd);
		*ret_bundle = m.bundle;
		bh_close_fd(&m.compartment.process.sync_fd);
		bh_close_fd(&m.compartment.oom_fd);
		bh_cgroup_free(m.compartment.cgroup);
	}
	bh_close_fds((int *[]){ &m.start_socket, &m.bundle_fd, &m.root_mount }, 3);
	bh_buf_clear(&m.config);
	return r;
}
