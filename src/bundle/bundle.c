/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers of a state root: finding, reading, listing. See bundle.h for the files.
 *
 * The record's first line is written by us in a folder that only its owner can enter, so it is checked for completeness
 * only; config.json behind it is what the caller gave and goes through the whole parser again whenever it is needed.
 */
#include "bundle/bundle-internal.h"

#include "base/file.h"
#include "base/time.h"
#include "linux/process.h"
#include "linux/syscall.h"
#include "oci/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#define RECORD_MAX (BH_SPEC_JSON_MAX + (64u << 10))
#define CGROUPS_MAX (256u << 10)
#define ID_MAX 255 /* NAME_MAX: it is a folder's name */

const char *bh_bundle_status_name(enum bh_bundle_status status)
{
	static const char *const names[] = { "creating", "created", "running", "paused", "stopped" };

	return names[status];
}

int bh_bundle_check_id(const char *id, struct bh_error *err)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.";

	if (!*id)
		return bh_error_text(err, EINVAL, "container id cannot be empty");
	if (id[strspn(id, allowed)])
		return bh_error_text(err, EINVAL, "invalid container ID format: %.300s: invalid character `%c` in the ID", id, id[strspn(id, allowed)]);
	if (strlen(id) > ID_MAX || bh_streq(id, ".") || bh_streq(id, ".."))
		return bh_error_text(err, EINVAL, "invalid container ID format: %.300s", id);
	return 0;
}

static int read_header(struct bh_bundle *b, json_object *header)
{
	b->bundle = bh_strdup(bh_json_text(header, "bundle", NULL));
	b->rootfs = bh_strdup(bh_json_text(header, "rootfs", NULL));
	b->cgroup_unit = bh_strdup(bh_json_text(header, "unit", NULL));
	bh_json_strv(header, "cgroups", &b->cgroups);
	b->oci_version = bh_strdup(bh_json_text(header, "ociVersion", NULL));
	b->created_ns = bh_json_int(header, "created", 0);
	b->owner = (uid_t)bh_json_int(header, "owner", 0);
	b->systemd_cgroup = bh_json_bool(header, "systemd", false);
	if (bh_isolation_driver_find(bh_json_text(header, "isolation", NULL), &b->driver, NULL) < 0)
		return -EINVAL;
	return b->bundle && b->rootfs && b->oci_version ? 0 : -EINVAL;
}

/* -ENOENT: the container is half-made or half-removed. */
static int read_record(struct bh_bundle *b, struct bh_error *err)
{
	bh_auto_free char *line = NULL;
	const char *end;
	json_object *header;
	int r = bh_read_stored_file_at(b->dir_fd, BH_BUNDLE_RECORD, RECORD_MAX, &b->record, err);

	if (r < 0)
		return r;
	end = memchr(b->record.data, '\n', b->record.length);
	line = end ? bh_strndup(b->record.data, (size_t)(end - b->record.data)) : NULL;
	header = line ? json_tokener_parse(line) : NULL;
	r = header ? read_header(b, header) : -EINVAL;
	json_object_put(header);
	if (r < 0)
		return bh_error_text(err, EINVAL, "container %s: its record is damaged", b->id);
	b->config_offset = (size_t)(end - b->record.data) + 1;
	return 0;
}

struct bh_compartment_place bh_bundle_place(const struct bh_bundle *b)
{
	return (struct bh_compartment_place){ .folders = &b->cgroups, .unit = b->cgroup_unit, .state = b->state };
}

static bool same_words(const struct bh_strv *a, const struct bh_strv *b)
{
	for (size_t i = 0; i < a->count && i < b->count; i++)
		if (!bh_streq(a->items[i], b->items[i]))
			return false;
	return a->count == b->count;
}

void bh_bundle_take_cgroup(struct bh_bundle *b, struct bh_strv *paths, const char *unit)
{
	bh_free_ptr(&b->cgroup_unit);
	bh_strv_clear(&b->cgroups);
	b->cgroup_unit = bh_strdup(unit);
	b->cgroups = *paths;
	*paths = (struct bh_strv){ 0 };
}

int bh_bundle_record_cgroup(struct bh_bundle *b, const struct bh_cgroup *cgroup, struct bh_error *err)
{
	const char *unit = cgroup ? bh_cgroup_unit(cgroup) : NULL;
	bh_auto_strv struct bh_strv paths = { 0 };
	bh_auto_buf struct bh_buf text = { 0 };

	if (cgroup)
		bh_cgroup_paths(cgroup, &paths);
	/* The record has told it. */
	if (same_words(&b->cgroups, &paths) && bh_streq(b->cgroup_unit, unit))
		return 0;
	bh_bundle_take_cgroup(b, &paths, unit);
	bh_buf_adds(&text, b->cgroup_unit ? b->cgroup_unit : "");
	bh_buf_addc(&text, '\0');
	for (size_t i = 0; i < b->cgroups.count; i++)
		bh_buf_add(&text, b->cgroups.items[i], strlen(b->cgroups.items[i]) + 1);
	return bh_create_file_at(b->dir_fd, BH_BUNDLE_CGROUPS, text.data, text.length, 0600, err);
}

/* Missing when what was planned is what was made; or its maker was killed before the process had been cloned (then it may be empty too),
 * and what was planned is all that there can be. */
static int read_cgroups(struct bh_bundle *b, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	int r = bh_read_stored_file_at(b->dir_fd, BH_BUNDLE_CGROUPS, CGROUPS_MAX, &text, err);
	const char *at = text.data, *end = at + text.length;

	if (r < 0 && r != -ENOENT)
		return r;
	if (text.length == 0)
		return 0;
	bh_free_ptr(&b->cgroup_unit);
	bh_strv_clear(&b->cgroups);
	if (*at)
		b->cgroup_unit = bh_strdup(at);
	for (at += strlen(at) + 1; at < end; at += strlen(at) + 1)
		bh_strv_add(&b->cgroups, at);
	return 0;
}

static bool has_file(const struct bh_bundle *b, const char *name)
{
	return faccessat(b->dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool is_paused(struct bh_bundle *b)
{
	const struct bh_compartment_place place = bh_bundle_place(b);
	bool paused = false;

	return b->driver->is_paused(&place, &paused, NULL) == 0 && paused;
}

static void read_status(struct bh_bundle *b)
{
	uint64_t start = 0;
	char text[64];
	ssize_t length = readlinkat(b->dir_fd, BH_BUNDLE_INIT, text, sizeof text - 1);
	int pid = 0;

	b->status = BH_BUNDLE_STOPPED;
	if (length < 0) {
		/* Its maker holds the lock, or is dead. */
		if (bh_lock_fd(b->dir_fd, false, true) == -EAGAIN)
			b->status = BH_BUNDLE_CREATING;
		return;
	}
	text[length] = '\0';
	if (sscanf(text, "%d:%" SCNx64, &pid, &start) != 2)
		return;
	b->pidfd = bh_process_open(pid, start);
	/* A process that nobody has waited for yet has ended all the same. */
	if (b->pidfd >= 0 && bh_pidfd_wait(b->pidfd, 0) > 0)
		bh_close_fd(&b->pidfd);
	if (b->pidfd < 0)
		return;
	b->pid = pid;
	if (has_file(b, BH_BUNDLE_SOCKET))
		b->status = bh_lock_fd(b->dir_fd, false, true) == -EAGAIN ? BH_BUNDLE_CREATING : BH_BUNDLE_CREATED;
	else
		b->status = is_paused(b) ? BH_BUNDLE_PAUSED : BH_BUNDLE_RUNNING;
}

int bh_bundle_open(const char *root, const char *id, struct bh_bundle *ret_bundle, struct bh_error *err)
{
	struct bh_bundle b = BH_BUNDLE_INIT_VALUE;
	int r = bh_bundle_check_id(id, err);

	if (r < 0)
		return r;
	b.root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	b.dir_fd = b.root_fd < 0 ? -1 : openat(b.root_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (b.dir_fd < 0) {
		r = errno == ENOENT ? bh_error_text(err, ENOENT, "container does not exist") : bh_error_set(err, errno, "open %s/%s", root, id);
		bh_close_fd(&b.root_fd);
		return r;
	}
	b.id = bh_strdup(id);
	b.state = bh_printf("/proc/self/fd/%d", b.dir_fd);
	r = bh_isolation_driver_find(NULL, &b.driver, err);
	if (r == 0)
		r = read_record(&b, err);
	if (r == -ENOENT)
		r = 0;
	if (r == 0)
		r = read_cgroups(&b, err);
	if (r < 0) {
		bh_bundle_close(&b);
		return r;
	}
	read_status(&b);
	*ret_bundle = b;
	return 0;
}

void bh_bundle_close(struct bh_bundle *b)
{
	int *fds[] = { &b->pidfd, &b->notify_fd, &b->dir_fd, &b->root_fd };
	char **strings[] = { &b->id, &b->bundle, &b->rootfs, &b->cgroup_unit, &b->oci_version, &b->state };

	for (size_t i = 0; i < BH_ARRAY_SIZE(strings); i++)
		bh_free_ptr(strings[i]);
	bh_strv_clear(&b->cgroups);
	bh_close_fds(fds, BH_ARRAY_SIZE(fds));
	bh_buf_clear(&b->record);
	if (b->has_spec)
		bh_spec_clear(&b->spec);
	b->has_spec = false;
}

void bh_bundle_default_maps(struct bh_spec *spec)
{
	const struct bh_spec_namespace *n = &spec->namespaces[BH_NS_USER];
	const struct bh_id_map own_uid = { 0, geteuid(), 1 }, own_gid = { 0, getegid(), 1 };

	if (!n->present || n->path || spec->uid_mapping_count || spec->gid_mapping_count)
		return;
	spec->uid_mappings = bh_memdup(&own_uid, sizeof own_uid);
	spec->gid_mappings = bh_memdup(&own_gid, sizeof own_gid);
	spec->uid_mapping_count = spec->gid_mapping_count = 1;
}

int bh_bundle_spec(struct bh_bundle *b, struct bh_error *err)
{
	int r;

	if (b->has_spec)
		return 0;
	if (!b->config_offset)
		return bh_error_text(err, ENOENT, "container %s has no configuration", b->id);
	r = bh_spec_parse(b->record.data + b->config_offset, b->record.length - b->config_offset, &b->spec, err);
	b->has_spec = r == 0;
	if (r == 0)
		bh_bundle_default_maps(&b->spec);
	return r;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int bh_bundle_list(const char *root, struct bh_strv *ret_ids, struct bh_error *err)
{
	bh_auto_closedir DIR *dir = opendir(root);
	struct bh_strv ids = { 0 };
	struct dirent *entry;

	if (!dir && errno != ENOENT)
		return bh_error_set(err, errno, "open %s", root);
	while (dir && (entry = readdir(dir)))
		if (entry->d_type == DT_DIR && bh_bundle_check_id(entry->d_name, NULL) == 0)
			bh_strv_add(&ids, entry->d_name);
	if (ids.count)
		qsort(ids.items, ids.count, sizeof *ids.items, by_name);
	*ret_ids = ids;
	return 0;
}

struct writer {
	struct bh_buf *out;
	bool indented;
};

static void begin_member(const struct writer *w, const char *key, bool first)
{
	if (!first)
		bh_buf_addc(w->out, ',');
	bh_buf_adds(w->out, w->indented ? "\n  " : "");
	bh_buf_add_json(w->out, key);
	bh_buf_adds(w->out, w->indented ? ": " : ":");
}

static void add_member(const struct writer *w, const char *key, const char *value)
{
	begin_member(w, key, false);
	bh_buf_add_json(w->out, value ? value : "");
}

static void add_annotations(const struct writer *w, const struct bh_strv *annotations)
{
	if (!annotations->count)
		return;
	begin_member(w, "annotations", false);
	bh_buf_addc(w->out, '{');
	for (size_t i = 0; i < annotations->count; i++) {
		const char *value;

		bh_buf_adds(w->out, i ? "," : "");
		bh_buf_adds(w->out, w->indented ? "\n    " : "");
		value = bh_map_write_key(annotations->items[i], w->out);
		bh_buf_adds(w->out, w->indented ? ": " : ":");
		bh_buf_add_json(w->out, value);
	}
	bh_buf_adds(w->out, w->indented ? "\n  }" : "}");
}

void bh_bundle_state(struct bh_bundle *b, const char *owner, bool indented, struct bh_buf *out)
{
	const struct writer w = { out, indented };
	char created[BH_TIME_TEXT_MAX];

	bh_buf_addc(out, '{');
	begin_member(&w, "ociVersion", true);
	bh_buf_add_json(out, b->oci_version ? b->oci_version : "");
	add_member(&w, "id", b->id);
	begin_member(&w, "pid", false);
	bh_buf_addf(out, "%d", (int)b->pid);
	add_member(&w, "status", bh_bundle_status_name(b->status));
	add_member(&w, "bundle", b->bundle);
	add_member(&w, "rootfs", b->rootfs);
	add_member(&w, "created", bh_format_time(b->created_ns, created));
	if (bh_bundle_spec(b, NULL) == 0)
		add_annotations(&w, &b->spec.annotations);
	add_member(&w, "owner", owner);
	bh_buf_adds(out, indented ? "\n}" : "}");
}
