/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers on disk: finding, reading, locking, listing and sweeping. See engine.h for the files and what is true when.
 *
 * Order of making and unmaking, which the sweep relies on:
 *	make:    folder (locked) -> name -> files -> container.json
 *	remove:  cgroup, run-time state -> container.json -> the rest -> name -> folder
 * So a folder without container.json that nobody locks is the trace of a killed command, whichever way it went.
 */
#include "engine/engine-internal.h"

#include "base/log.h"
#include "base/time.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#define RECORD_MAX (1u << 20) /* bytes of a container.json */

static char *absolute_path(const char *path)
{
	bh_auto_free char *cwd = *path == '/' ? NULL : getcwd(NULL, 0);
	bh_auto_free char *joined = cwd ? bh_path_join(cwd, path) : bh_strdup(path);

	return bh_path_clean(joined);
}

int bh_engine_open(const char *root, const char *state, struct bh_engine *ret_engine, struct bh_error *err)
{
	struct bh_engine engine = { .root_fd = -1, .containers_fd = -1, .names_fd = -1, .state_fd = -1 };
	bh_auto_free char *state_containers = bh_path_join(state, "containers");
	int r;

	engine.root_fd = r = bh_make_dir(AT_FDCWD, root, 0711, err);
	if (r >= 0)
		engine.containers_fd = r = bh_make_dir(engine.root_fd, "containers", 0700, err);
	if (r >= 0)
		engine.names_fd = r = bh_make_dir(engine.root_fd, "names", 0700, err);
	if (r >= 0)
		engine.state_fd = r = bh_make_dir(AT_FDCWD, state_containers, 0700, err);
	if (r < 0) {
		bh_engine_close(&engine);
		return r;
	}
	/* The shim and restarts run elsewhere: they need absolute paths. */
	engine.root = absolute_path(root);
	engine.state = absolute_path(state);
	*ret_engine = engine;
	return 0;
}

void bh_engine_close(struct bh_engine *engine)
{
	bh_close_fd(&engine->root_fd);
	bh_close_fd(&engine->containers_fd);
	bh_close_fd(&engine->names_fd);
	bh_close_fd(&engine->state_fd);
	bh_free_ptr(&engine->root);
	bh_free_ptr(&engine->state);
}

const char *bh_status_name(enum bh_status status)
{
	static const char *const names[] = { "created", "running", "paused", "restarting", "exited" };

	return names[status];
}

json_object *bh_engine_read_json(int dirfd, const char *path)
{
	bh_auto_buf struct bh_buf text = { 0 };

	if (bh_read_stored_file_at(dirfd, path, RECORD_MAX, &text, NULL) < 0)
		return NULL;
	return json_tokener_parse(text.data);
}

static bool is_mark(int state_fd, const char *name)
{
	return faccessat(state_fd, name, F_OK, 0) == 0;
}

static void read_health(struct bh_container *c)
{
	json_object *health;

	if (!bh_json_at(c->record, "config.Healthcheck"))
		return;
	health = bh_engine_read_json(c->state_fd, "health.json");
	bh_free_ptr(&c->health);
	c->health = bh_strdup(bh_json_text(health, "Status", NULL));
	json_object_put(health);
}

/* Reads what the start stage and the shim wrote. */
static void read_run_state(struct bh_container *c)
{
	uint64_t start = 0, started = 0, restarts = 0;
	char text[128];
	ssize_t length = readlinkat(c->state_fd, "run", text, sizeof text - 1);

	if (length < 0) {
		/* A start is under way (its command holds the lock) or was killed; a reader can't tell without the lock. */
		c->stale = bh_lock_is_held(c->dir_fd) == 0;
		return;
	}
	text[length] = '\0';
	if (sscanf(text, BH_RUN_FORMAT, &c->pid, &c->pid_start, &c->shim_pid, &c->shim_start, &started, &restarts) != 6)
		c->shim_pid = 0;
	c->started_ns = (int64_t)started;
	c->restart_count = (int64_t)restarts;
	if (c->shim_pid <= 0 || bh_process_start_time(c->shim_pid, &start) < 0 || start != c->shim_start) {
		c->stale = true;
		c->status = BH_STATUS_EXITED;
		c->exit_code = 137;
		return;
	}
	read_health(c);
	if (is_mark(c->state_fd, "restarting"))
		c->status = BH_STATUS_RESTARTING;
	else
		c->status = is_mark(c->state_fd, "paused") ? BH_STATUS_PAUSED : BH_STATUS_RUNNING;
}

#define LOSS_MAX 4096

/* Why a microVM ended without its workload's exit code. */
static char *read_loss(const struct bh_container *c)
{
	bh_auto_buf struct bh_buf text = { 0 };

	if (c->exit_code != BH_MICROVM_LOST_EXIT || bh_read_file_at(c->dir_fd, BH_MICROVM_LOSS, LOSS_MAX, &text, NULL) < 0 || !text.length)
		return NULL;
	return bh_strdup(text.data);
}

static void read_exit_record(struct bh_container *c)
{
	json_object *record = bh_engine_read_json(c->dir_fd, "exit.json");
	const char *error;

	if (!record)
		return;
	c->exit_code = (int)bh_json_int(record, "exit_code", 255);
	c->oom_killed = bh_json_bool(record, "oom_killed", false);
	c->finished_ns = bh_json_int(record, "finished_ns", 0);
	if (!c->started_ns)
		c->started_ns = bh_json_int(record, "started_ns", 0);
	if (!c->restart_count)
		c->restart_count = bh_json_int(record, "restart_count", 0);
	error = bh_json_text(record, "error", NULL);
	bh_free_ptr(&c->error);
	c->error = error ? bh_strdup(error) : read_loss(c);
	/* A start that failed leaves its reason, but the container has not run: Docker calls it created. */
	c->status = error ? BH_STATUS_CREATED : BH_STATUS_EXITED;
	json_object_put(record);
}

void bh_container_refresh(struct bh_engine *engine, struct bh_container *c)
{
	c->status = BH_STATUS_CREATED;
	c->stale = false;
	c->pid = c->shim_pid = 0;
	c->exit_code = 0;
	c->oom_killed = false;
	c->started_ns = c->finished_ns = c->restart_count = 0;
	bh_close_fd(&c->state_fd);
	c->state_fd = openat(engine->state_fd, c->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->state_fd >= 0)
		read_run_state(c);
	/* The start stage unlinks the old exit record before it writes `run`, so one that is there is of this run. */
	if (c->status != BH_STATUS_RESTARTING)
		read_exit_record(c);
	/* `run --rm` is one operation: a container of it that was made but never started belongs to a killed command. */
	if (c->status == BH_STATUS_CREATED && c->auto_remove && bh_json_bool(c->record, "one_shot", false) && !c->locked)
		c->stale = bh_lock_is_held(c->dir_fd) == 0;
}

void bh_container_set_record(struct bh_container *c)
{
	c->image = bh_json_text(c->record, "image", "");
	c->image_id = bh_json_text(c->record, "image_id", "");
	c->created_ns = bh_json_int(c->record, "created_ns", 0);
	c->tty = bh_json_bool(c->record, "config.Tty", false);
	c->stdin_open = bh_json_bool(c->record, "config.OpenStdin", false);
	c->auto_remove = bh_json_bool(c->record, "auto_remove", false);
	bh_free_ptr(&c->name);
	c->name = bh_strdup(bh_json_text(c->record, "name", ""));
}

/* -ENOENT when there is no such container (or a half-made one). */
static int load(struct bh_engine *engine, const char *id, struct bh_container *ret_container)
{
	struct bh_container c = { .dir_fd = -1, .state_fd = -1 };

	if (strlen(id) != BH_ID_LENGTH)
		return -ENOENT;
	memcpy(c.id, id, BH_ID_LENGTH);
	c.dir_fd = openat(engine->containers_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (c.dir_fd < 0)
		return -errno;
	c.record = bh_engine_read_json(c.dir_fd, "container.json");
	if (!c.record) {
		bh_container_clear(&c);
		return -ENOENT;
	}
	bh_container_set_record(&c);
	bh_container_refresh(engine, &c);
	*ret_container = c;
	return 0;
}

void bh_container_unlock(struct bh_container *c)
{
	if (c->locked)
		flock(c->dir_fd, LOCK_UN);
	c->locked = false;
}

void bh_container_clear(struct bh_container *c)
{
	bh_container_unlock(c);
	bh_close_fd(&c->dir_fd);
	bh_close_fd(&c->state_fd);
	json_object_put(c->record);
	c->record = NULL;
	bh_free_ptr(&c->name);
	bh_free_ptr(&c->error);
	bh_free_ptr(&c->health);
	if (c->spec)
		bh_spec_clear(c->spec);
	bh_free_ptr(&c->spec);
}

static bool is_hex(const char *text)
{
	return *text && !text[strspn(text, "0123456789abcdef")];
}

static int find_by_prefix(struct bh_engine *engine, const char *prefix, char ret_id[BH_ID_LENGTH + 1], struct bh_error *err)
{
	int fd = openat(engine->containers_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bh_auto_closedir DIR *dir = fdopendir(fd);
	struct dirent *entry;
	int found = 0;

	while (dir && (entry = readdir(dir))) {
		if (strlen(entry->d_name) != BH_ID_LENGTH || !bh_has_prefix(entry->d_name, prefix))
			continue;
		if (++found > 1)
			return bh_error_text(err, EINVAL, "multiple containers found with ID prefix %s", prefix);
		memcpy(ret_id, entry->d_name, BH_ID_LENGTH + 1);
	}
	return found ? 0 : -ENOENT;
}

/* A name's link holds the id in base 64: the 64 hex digits would need a disk block, 43 characters fit into the inode. */
static const char digits64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
#define ID_BYTES (BH_ID_LENGTH / 2)

void bh_engine_name_text(const char *id, char ret_text[BH_NAME_TEXT_LENGTH + 1])
{
	unsigned char bytes[ID_BYTES + 1] = { 0 };

	bh_parse_hex(id, bytes, ID_BYTES);
	for (size_t i = 0; i < BH_NAME_TEXT_LENGTH; i++) {
		size_t bit = i * 6;
		unsigned pair = (unsigned)bytes[bit / 8] << 8 | bytes[bit / 8 + 1];

		ret_text[i] = digits64[pair >> (10 - bit % 8) & 63];
	}
	ret_text[BH_NAME_TEXT_LENGTH] = '\0';
}

int bh_engine_read_name(struct bh_engine *engine, const char *name, char ret_id[BH_ID_LENGTH + 1])
{
	unsigned char bytes[ID_BYTES + 1] = { 0 };
	char text[BH_NAME_TEXT_LENGTH + 1];

	if (strchr(name, '/') || !*name || readlinkat(engine->names_fd, name, text, sizeof text) != BH_NAME_TEXT_LENGTH)
		return -ENOENT;
	for (size_t i = 0; i < BH_NAME_TEXT_LENGTH; i++) {
		const char *digit = memchr(digits64, text[i], sizeof digits64 - 1);
		unsigned value = digit ? (unsigned)(digit - digits64) << (10 - i * 6 % 8) : 0;

		if (!digit)
			return -ENOENT;
		bytes[i * 6 / 8] |= (unsigned char)(value >> 8);
		bytes[i * 6 / 8 + 1] |= (unsigned char)value;
	}
	bh_format_hex(bytes, ID_BYTES, ret_id);
	return 0;
}

int bh_engine_find(struct bh_engine *engine, const char *reference, struct bh_container *ret_container, struct bh_error *err)
{
	const char *name = *reference == '/' ? reference + 1 : reference;
	char id[BH_ID_LENGTH + 1];
	int r = -ENOENT;

	if (strlen(name) == BH_ID_LENGTH && is_hex(name))
		r = load(engine, name, ret_container);
	if (r < 0 && bh_engine_read_name(engine, name, id) == 0)
		r = load(engine, id, ret_container);
	if (r < 0 && is_hex(name) && strlen(name) < BH_ID_LENGTH) {
		r = find_by_prefix(engine, name, id, err);
		if (r == -EINVAL)
			return r;
		if (r == 0)
			r = load(engine, id, ret_container);
	}
	return r == 0 ? 0 : bh_error_text(err, ENOENT, "No such container: %s", reference);
}

int bh_engine_find_locked(struct bh_engine *engine, const char *reference, struct bh_container *ret_container, struct bh_error *err)
{
	struct bh_container c = { .dir_fd = -1, .state_fd = -1 };
	int r = bh_engine_find(engine, reference, &c, err);

	if (r < 0)
		return r;
	r = bh_lock_fd(c.dir_fd, true, false);
	if (r < 0) {
		bh_container_clear(&c);
		return bh_error_set(err, -r, "lock container %s", reference);
	}
	c.locked = true;
	/* It may have been changed or removed while we waited. */
	json_object_put(c.record);
	c.record = bh_engine_read_json(c.dir_fd, "container.json");
	if (c.record) {
		bh_container_set_record(&c);
		bh_container_refresh(engine, &c);
		if (c.stale || (c.state_fd >= 0 && c.shim_pid == 0))
			bh_engine_reap(engine, &c, NULL);
		else if (c.status == BH_STATUS_EXITED || c.status == BH_STATUS_CREATED)
			bh_engine_settle(engine, &c, NULL);
	}
	if (!c.record) {
		bh_container_clear(&c);
		return bh_error_text(err, ENOENT, "No such container: %s", reference);
	}
	*ret_container = c;
	return 0;
}

void bh_engine_drop_names_of(struct bh_engine *engine, const char *id)
{
	int fd = openat(engine->names_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bh_auto_closedir DIR *dir = fdopendir(fd);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char owner[BH_ID_LENGTH + 1];

		if (bh_engine_read_name(engine, entry->d_name, owner) == 0 && bh_streq(owner, id))
			unlinkat(engine->names_fd, entry->d_name, 0);
	}
}

/* Removes a half-made container if nobody is working on it. */
void bh_engine_sweep_half_made(struct bh_engine *engine, const char *id)
{
	struct bh_container c = { .dir_fd = -1, .state_fd = -1 };

	memcpy(c.id, id, BH_ID_LENGTH + 1);
	c.dir_fd = openat(engine->containers_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (c.dir_fd < 0)
		return;
	if (bh_lock_fd(c.dir_fd, true, true) == 0 && faccessat(c.dir_fd, "container.json", F_OK, 0) < 0 && errno == ENOENT) {
		c.locked = true;
		bh_info("removing what a killed command left of container %.12s", id);
		bh_engine_remove_files(engine, &c, NULL);
	}
	bh_container_clear(&c);
}

static void reap_if_stale(struct bh_engine *engine, struct bh_container *c)
{
	if (!c->stale || bh_lock_fd(c->dir_fd, true, true) < 0)
		return;
	c->locked = true;
	bh_container_refresh(engine, c);
	if (c->state_fd >= 0 && !c->shim_pid)
		c->stale = true; /* a start was under way, and nobody holds the lock but us */
	if (c->stale)
		bh_engine_reap(engine, c, NULL);
	bh_container_unlock(c);
}

static int newest_first(const void *a, const void *b)
{
	const struct bh_container *x = a, *y = b;

	return (x->created_ns < y->created_ns) - (x->created_ns > y->created_ns);
}

int bh_engine_list(struct bh_engine *engine, struct bh_container **ret_containers, size_t *ret_count, struct bh_error *err)
{
	int fd = bh_open_dir(engine->containers_fd, ".", 0, err);
	bh_auto_closedir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct bh_container *list = NULL;
	size_t count = 0, capacity = 0;
	struct dirent *entry;

	if (fd < 0)
		return fd;
	while (dir && (entry = readdir(dir))) {
		struct bh_container c = { .dir_fd = -1, .state_fd = -1 };

		if (strlen(entry->d_name) != BH_ID_LENGTH)
			continue;
		if (load(engine, entry->d_name, &c) < 0) {
			bh_engine_sweep_half_made(engine, entry->d_name);
			continue;
		}
		reap_if_stale(engine, &c);
		if (!c.record) { /* --rm: reaping removed it */
			bh_container_clear(&c);
			continue;
		}
		bh_close_fd(&c.dir_fd);
		bh_close_fd(&c.state_fd);
		list = bh_grow(list, &capacity, count + 1, sizeof *list);
		list[count++] = c;
	}
	if (count)
		qsort(list, count, sizeof *list, newest_first);
	*ret_containers = list;
	*ret_count = count;
	return 0;
}

char *bh_container_compartment_path(const struct bh_container *c)
{
	const char *parent = bh_json_text(c->record, "cgroup_parent", NULL);

	return parent && *parent ? bh_printf("%s/bulkhead-%s", parent, c->id) : bh_printf("/bulkhead-%s", c->id);
}

int bh_container_snapshot(struct bh_engine *engine, const struct bh_container *c, struct bh_snapshot *ret_snapshot, struct bh_error *err)
{
	struct bh_snapshot snapshot = { 0 };
	const char *driver = bh_json_text(c->record, "snapshot.driver", "overlay");
	bh_auto_strv struct bh_strv layers = { 0 };

	snapshot.driver = bh_snapshot_driver_by_name(driver);
	if (!snapshot.driver)
		return bh_error_text(err, EINVAL, "container %.12s: unknown snapshot driver '%s'", c->id, driver);
	bh_json_strv(c->record, "snapshot.layers", &layers);
	for (size_t i = 0; i < layers.count; i++)
		bh_strv_addf(&snapshot.layers, "%s/%s", engine->root, layers.items[i]);
	snapshot.path = bh_printf("%s/containers/%s", engine->root, c->id);
	/* What nobody will ever see again need not be synced when it is unmounted. Only for `run`: a volatile upper can't be
	 * mounted twice. */
	snapshot.is_volatile = c->auto_remove && bh_json_bool(c->record, "one_shot", false);
	*ret_snapshot = snapshot;
	return 0;
}
