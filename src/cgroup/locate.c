/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a cgroup's folders lie.
 *
 * runtime-spec config-linux.md, "Cgroups Path", leaves most of it to the runtime; callers expect what runc does:
 *
 *	"/a/b"   v1 and v2: below the root of each hierarchy as it's mounted
 *	"a/b"    v1: below the caller's own cgroup of each hierarchy; v2: beside the caller's own, because a v2 folder with
 *	         processes hands no controllers down
 *	(none)   as "ID"
 *
 * `..` and double slashes are resolved by words and never lead above the start. The caller's own cgroups are read from
 * /proc/self/cgroup only for the last two kinds. If such a path isn't there below /sys/fs/cgroup, the mount's root is the
 * caller's own cgroup (a container without a cgroup namespace), and the folder is made in it.
 *
 * A cgroup on record is a list of absolute paths per controller. It comes back from a file, so each is checked to lie in the
 * hierarchy of its controller and to hold no `..`.
 */
#include "cgroup/cgroup-internal.h"

#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#define SELF_CGROUP_MAX 65536

int bh_cgroup_new(struct bh_cgroup **ret_cgroup, struct bh_error *err)
{
	bh_auto_cgroup struct bh_cgroup *cgroup = bh_calloc(1, sizeof *cgroup);
	struct statfs fs;

	for (size_t i = 0; i < FOLDER_COUNT; i++)
		cgroup->folders[i].fd = -1;
	cgroup->placeholder_pidfd = -1;
	cgroup->root_fd = openat(AT_FDCWD, CGROUP_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (cgroup->root_fd < 0)
		return bh_error_set(err, errno, "open " CGROUP_ROOT);
	if (fstatfs(cgroup->root_fd, &fs) < 0)
		return bh_error_set(err, errno, "statfs " CGROUP_ROOT);
	if (fs.f_type == CGROUP2_SUPER_MAGIC)
		cgroup->driver = &bh_cgroup_v2;
	else if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)
		cgroup->driver = &bh_cgroup_v1;
	else
		return bh_error_text(err, ENOTSUP, "no cgroup file system is mounted at " CGROUP_ROOT);
	*ret_cgroup = BH_TAKE_PTR(cgroup);
	return 0;
}

const char *bh_cgroup_hierarchy(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder)
{
	return cgroup->driver->version == 2 ? "" : bh_cgroup_v1_names[folder];
}

const char *bh_cgroup_inner(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder)
{
	return cgroup->folders[folder].path ? cgroup->folders[folder].path : cgroup->path;
}

char *bh_cgroup_place(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder)
{
	const char *hierarchy = bh_cgroup_hierarchy(cgroup, folder), *inner = bh_cgroup_inner(cgroup, folder);

	return bh_printf("%s%s%s", hierarchy, *hierarchy && *inner ? "/" : "", inner);
}

/* --- from a configuration -------------------------------------------------------------------------------------------- */

/* Cleans the path: no leading slash, no empty, "." or ".." components. */
static int clean(const char *path, char **ret_path, struct bh_error *err)
{
	bh_auto_free char *absolute = bh_printf("/%s", path);
	bh_auto_free char *cleaned = bh_path_clean(absolute);
	bh_auto_strv struct bh_strv parts = bh_strv_split(cleaned, '/');

	if (!cleaned[1] || strlen(cleaned) > CGROUP_PATH_MAX || strchr(cleaned, '\n'))
		return bh_error_text(err, EINVAL, "cgroup path '%s': empty, too long or with a line break", path);
	for (size_t i = 0; i < parts.count; i++)
		if (strlen(parts.items[i]) > NAME_MAX)
			return bh_error_text(err, EINVAL, "cgroup path '%s': component '%.64s...' is too long", path, parts.items[i]);
	*ret_path = bh_strdup(cleaned + 1);
	return 0;
}

/* Is `name` among the words of a line's controllers ("cpu,cpuacct", "name=systemd", "")? */
static bool lists(const char *controllers, size_t length, const char *name)
{
	size_t name_length = strlen(name);

	for (const char *at = controllers, *end = controllers + length; at <= end; at += strcspn(at, ",:") + 1)
		if (strcspn(at, ",:") == name_length && strncmp(at, name, name_length) == 0)
			return true;
	return false;
}

/* What /proc/PID/cgroup says of one hierarchy ("4:memory:/a/b"), or NULL. Owned by the caller. */
static char *own_path(const char *text, const char *controller)
{
	for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		const char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;

		if (path && path[1] == '/' && lists(controllers + 1, (size_t)(path - controllers - 1), controller))
			return bh_strndup(path + 2, strcspn(path + 2, "\n"));
	}
	return NULL;
}

/* The controller's name in /proc/PID/cgroup and in runc's cgroup_paths. */
static const char *controller_key(enum bh_cgroup_folder folder)
{
	return folder == FOLDER_UNIFIED ? "" : folder == FOLDER_SYSTEMD ? "name=systemd" : bh_cgroup_v1_names[folder];
}

/* "OWN/inner", or "inner" if the hierarchy is mounted with our own cgroup as its root. */
static char *below_own(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *own, const char *inner)
{
	const char *hierarchy = bh_cgroup_hierarchy(cgroup, folder);
	bh_auto_free char *place = bh_printf("%s/%s", *hierarchy ? hierarchy : ".", own ? own : "");

	if (!own || !*own || bh_has_prefix(own, "../") || faccessat(cgroup->root_fd, place, F_OK, 0) < 0)
		return bh_strdup(inner);
	return bh_printf("%s/%s", own, inner);
}

/* The kernel gives the file as a whole, or as much of it as the buffer takes. */
static int read_self(struct bh_cgroup *cgroup, struct bh_error *err)
{
	struct bh_buf text = { 0 };
	int fd, r;

	if (cgroup->self_text)
		return 0;
	fd = bh_cgroup_spend(cgroup, openat(AT_FDCWD, "/proc/self/cgroup", O_RDONLY | O_CLOEXEC));
	r = fd < 0 ? -errno : bh_read_stored_fd(fd, SELF_CGROUP_MAX, &text);
	if (r < 0)
		return bh_error_set(err, -r, "read /proc/self/cgroup");
	cgroup->self_text = bh_buf_take(&text);
	return 0;
}

const char *bh_cgroup_self_text(const struct bh_cgroup *cgroup)
{
	return cgroup->self_text;
}

static int locate_relative(struct bh_cgroup *cgroup, struct bh_error *err)
{
	int r = read_self(cgroup, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < FOLDER_COUNT; i++) {
		bh_auto_free char *own = own_path(cgroup->self_text, controller_key((enum bh_cgroup_folder)i));

		if (cgroup->driver->version == 2) {
			char *slash = own ? strrchr(own, '/') : NULL;

			if (own)
				*(slash ? slash : own) = '\0';
		}
		cgroup->folders[i].path = below_own(cgroup, (enum bh_cgroup_folder)i, own, cgroup->path);
		if (cgroup->driver->version == 2)
			break;
	}
	return 0;
}

int bh_cgroup_locate(struct bh_cgroup *cgroup, const char *path, const char *name, struct bh_error *err)
{
	const char *given = path && *path ? path : NULL;
	int r = clean(given ? given : name, &cgroup->path, err);

	cgroup->path_given = given;
	if (r < 0 || (given && *given == '/'))
		return r;
	return locate_relative(cgroup, err);
}

int bh_cgroup_hierarchies(struct bh_cgroup *cgroup, unsigned *ret_folders, struct bh_error *err)
{
	unsigned folders = 0;
	int r = read_self(cgroup, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < FOLDER_COUNT; i++) {
		bh_auto_free char *own = own_path(cgroup->self_text, controller_key((enum bh_cgroup_folder)i));

		folders |= own ? 1u << i : 0;
	}
	*ret_folders = folders;
	return 0;
}

/*
 * systemd keeps its units in one hierarchy (v2, or name=systemd on v1, pure or hybrid) and makes folders in the others only where
 * it has something to control. A runtime's container has a folder of the same path in all of them.
 */
int bh_cgroup_locate_process(struct bh_cgroup *cgroup, pid_t pid, struct bh_error *err)
{
	bh_auto_free char *file = bh_printf("/proc/%d/cgroup", (int)pid), *own = NULL;
	bh_auto_buf struct bh_buf text = { 0 };
	int r = bh_read_file_at(AT_FDCWD, file, SELF_CGROUP_MAX, &text, err);

	if (r < 0)
		return r;
	own = own_path(text.data, controller_key(cgroup->driver->version == 2 ? FOLDER_UNIFIED : FOLDER_SYSTEMD));
	if (!own || !*own)
		return bh_error_text(err, ENOENT, "%s: systemd's cgroup hierarchy is not there", file);
	cgroup->path_given = true;
	return clean(own, &cgroup->path, err);
}

/* --- to and from a record ---------------------------------------------------------------------------------------------- */

static void add_record(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, struct bh_strv *ret_paths)
{
	bh_auto_free char *place = bh_cgroup_place(cgroup, folder);

	bh_strv_addf(ret_paths, "%s=" CGROUP_ROOT "/%s", controller_key(folder), place);
}

void bh_cgroup_paths(const struct bh_cgroup *cgroup, struct bh_strv *ret_paths)
{
	for (size_t i = 0; i < FOLDER_COUNT; i++)
		if (cgroup->folders[i].fd >= 0 || cgroup->folders[i].unopened)
			add_record(cgroup, (enum bh_cgroup_folder)i, ret_paths);
}

int bh_cgroup_tell_plan(struct bh_cgroup *cgroup, const struct bh_cgroup_request *request, const char *unit, struct bh_error *err)
{
	bh_auto_strv struct bh_strv paths = { 0 };
	unsigned folders = cgroup->driver->version == 2 ? 1u << FOLDER_UNIFIED : ~0u;
	int r = 0;

	if (!request->planned)
		return 0;
	/* One in each hierarchy is all, then: where there is no hierarchy no folder is made. */
	if (cgroup->driver->version == 1 && cgroup->every)
		r = bh_cgroup_hierarchies(cgroup, &folders, err);
	for (size_t i = 0; r == 0 && cgroup->path && i < FOLDER_COUNT; i++)
		if (folders & 1u << i)
			add_record(cgroup, (enum bh_cgroup_folder)i, &paths);
	return r < 0 ? r : request->planned(request->planned_context, &paths, unit, err);
}

const char *bh_cgroup_unit(const struct bh_cgroup *cgroup)
{
	return cgroup->unit;
}

/* The folder whose key begins the record; sets the path behind it. FOLDER_COUNT if there is none. */
static enum bh_cgroup_folder parse_record(const char *record, const char **ret_path)
{
	for (size_t i = 0; i < FOLDER_COUNT; i++) {
		const char *key = controller_key((enum bh_cgroup_folder)i);
		size_t length = strlen(key);

		if (strncmp(record, key, length) == 0 && record[length] == '=' && record[length + 1] == '/') {
			*ret_path = record + length + 1;
			return (enum bh_cgroup_folder)i;
		}
	}
	return FOLDER_COUNT;
}

/* Controllers that share a hierarchy may be on record by its real name ("/sys/fs/cgroup/cpu,cpuacct/x"). */
static const char *skip_hierarchy(const char *path, const char *hierarchy)
{
	size_t length = strcspn(path, "/");

	if (!*hierarchy)
		return path;
	if (path[length] != '/')
		return NULL;
	for (const char *at = path; at < path + length; at += strcspn(at, ",/") + 1)
		if (strcspn(at, ",/") == strlen(hierarchy) && strncmp(at, hierarchy, strlen(hierarchy)) == 0)
			return path + length + 1;
	return NULL;
}

static int read_record(struct bh_cgroup *cgroup, const char *record, struct bh_error *err)
{
	const char *path = NULL, *inner = NULL;
	enum bh_cgroup_folder folder = parse_record(record, &path);
	bh_auto_free char *cleaned = NULL;

	if (folder < FOLDER_COUNT && (cgroup->driver->version == 1 || folder == FOLDER_UNIFIED) && bh_has_prefix(path, CGROUP_ROOT "/"))
		inner = skip_hierarchy(path + sizeof CGROUP_ROOT, bh_cgroup_hierarchy(cgroup, folder));
	if (inner && clean(inner, &cleaned, NULL) == 0 && bh_streq(cleaned, inner)) {
		free(cgroup->folders[folder].path);
		cgroup->folders[folder].path = BH_TAKE_PTR(cleaned);
		if (!cgroup->path)
			cgroup->path = bh_strdup(inner);
		return 0;
	}
	return bh_error_text(err, EINVAL, "bad cgroup path on record: '%s'", record);
}

/* A handle with the recorded paths and nothing open. */
static int from_record(const struct bh_strv *paths, const char *unit, struct bh_cgroup **ret_cgroup, struct bh_error *err)
{
	bh_auto_cgroup struct bh_cgroup *cgroup = NULL;
	int r = bh_cgroup_new(&cgroup, err);

	for (size_t i = 0; r == 0 && i < paths->count; i++)
		r = read_record(cgroup, paths->items[i], err);
	if (r < 0)
		return r;
	cgroup->unit = bh_strdup(unit);
	*ret_cgroup = BH_TAKE_PTR(cgroup);
	return 0;
}

void bh_cgroup_open_places(struct bh_cgroup *cgroup)
{
	for (size_t i = 0; i < FOLDER_COUNT; i++) {
		bh_auto_free char *place = NULL;

		if (!cgroup->folders[i].path)
			continue;
		place = bh_cgroup_place(cgroup, (enum bh_cgroup_folder)i);
		cgroup->folders[i].fd = openat(cgroup->root_fd, place, O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
}

int bh_cgroup_open_paths_to_enter(const struct bh_strv *paths, const char *unit, struct bh_cgroup **ret_cgroup, struct bh_error *err)
{
	bh_auto_cgroup struct bh_cgroup *cgroup = NULL;
	int r = from_record(paths, unit, &cgroup, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < FOLDER_COUNT; i++) {
		if (!cgroup->folders[i].path)
			continue;
		if (bh_cgroup_any_fd(cgroup) < 0)
			bh_cgroup_open_made(cgroup, (enum bh_cgroup_folder)i);
		else
			cgroup->folders[i].unopened = true;
	}
	if (bh_cgroup_any_fd(cgroup) < 0)
		return bh_error_text(err, ENOENT, "no cgroup %s", cgroup->path ? cgroup->path : "is on record");
	*ret_cgroup = BH_TAKE_PTR(cgroup);
	return 0;
}

int bh_cgroup_open_paths(const struct bh_strv *paths, const char *unit, struct bh_cgroup **ret_cgroup, struct bh_error *err)
{
	bh_auto_cgroup struct bh_cgroup *cgroup = NULL;
	int r = from_record(paths, unit, &cgroup, err);

	if (r < 0)
		return r;
	bh_cgroup_open_places(cgroup);
	if (bh_cgroup_any_fd(cgroup) < 0)
		return bh_error_text(err, ENOENT, "no cgroup %s", cgroup->path ? cgroup->path : "is on record");
	/* A folder that is added later (a first limit of its controller) gets the same name. */
	*ret_cgroup = BH_TAKE_PTR(cgroup);
	return 0;
}

/* An absolute path is all that is needed to remove a folder or to read a file in it; what is unusual about it is left to those who look
 * closer. */
static enum bh_cgroup_folder parse_usual_record(const char *record, const char **ret_path)
{
	enum bh_cgroup_folder folder = parse_record(record, ret_path);

	if (folder == FOLDER_COUNT || !bh_has_prefix(*ret_path, CGROUP_ROOT "/") || strstr(*ret_path, "/.") || strstr(*ret_path, "//"))
		return FOLDER_COUNT;
	return folder == FOLDER_UNIFIED || skip_hierarchy(*ret_path + sizeof CGROUP_ROOT, bh_cgroup_v1_names[folder]) ? folder : FOLDER_COUNT;
}

int bh_cgroup_paths_are_frozen(const struct bh_strv *paths, bool *ret_frozen)
{
	char file[PATH_MAX + 32], text[256];
	bool frozen = false;
	const char *path;

	for (size_t i = 0; !frozen && i < paths->count; i++) {
		enum bh_cgroup_folder folder = parse_usual_record(paths->items[i], &path);

		if (folder == FOLDER_COUNT)
			return -EINVAL;
		if (folder != FOLDER_UNIFIED && folder != FOLDER_FREEZER)
			continue;
		if (snprintf(file, sizeof file, "%s/%s", path, folder == FOLDER_UNIFIED ? "cgroup.events" : "freezer.state") >= (int)sizeof file)
			return -ENAMETOOLONG;
		if (bh_cgroup_read(AT_FDCWD, file, text, sizeof text))
			frozen = folder == FOLDER_UNIFIED ? bh_cgroup_find_number(text, "frozen", 0) == 1 : bh_has_prefix(text, "FR");
	}
	*ret_frozen = frozen;
	return 0;
}

/* The usual case: folders that are empty, and nothing above them that is ours. */
static bool remove_empty(const struct bh_strv *paths)
{
	const char *path;

	for (size_t i = 0; i < paths->count; i++) {
		if (parse_usual_record(paths->items[i], &path) == FOLDER_COUNT || strstr(path, "/bulkhead/"))
			return false;
		if (rmdir(path) == 0)
			bh_explain("cgroup", "rmdir", path);
		else if (errno != ENOENT)
			return false;
	}
	return true;
}

int bh_cgroup_remove_paths(const struct bh_strv *paths, const char *unit, struct bh_error *err)
{
	bh_auto_cgroup struct bh_cgroup *cgroup = NULL;
	int r;

	if (!unit && remove_empty(paths))
		return 0;
	r = from_record(paths, unit, &cgroup, err);
	return r < 0 ? r : bh_cgroup_remove_located(cgroup, err);
}

/* --- folders below, and where a process is ------------------------------------------------------------------------------ */

static int descend_in(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *below, struct bh_error *err)
{
	const char *inner = bh_cgroup_inner(cgroup, folder);
	bh_auto_free char *joined = bh_printf("/%s/%s", inner, below), *path = bh_path_clean(joined), *place = NULL;
	size_t length = strlen(inner);
	int fd;

	if (strncmp(path + 1, inner, length) != 0 || (path[1 + length] && path[1 + length] != '/'))
		return bh_error_text(err, EINVAL, "%s is not a sub cgroup path", below);
	free(cgroup->folders[folder].path);
	cgroup->folders[folder].path = bh_strdup(path + 1);
	place = bh_cgroup_place(cgroup, folder);
	fd = openat(cgroup->root_fd, place, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return bh_error_text(err, errno, "error adding pid to cgroups: open " CGROUP_ROOT "/%s/cgroup.procs: %s", place,
				     errno == ENOENT ? "no such file or directory" : strerror(errno));
	bh_close_fd(&cgroup->folders[folder].fd);
	cgroup->folders[folder].fd = fd;
	return 0;
}

static int descend_all(struct bh_cgroup *cgroup, const char *below, struct bh_error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < FOLDER_COUNT; i++)
		if (cgroup->folders[i].fd >= 0)
			r = descend_in(cgroup, (enum bh_cgroup_folder)i, below, err);
	return r;
}

static enum bh_cgroup_folder find_folder(const struct bh_cgroup *cgroup, const char *controller)
{
	for (size_t i = FOLDER_UNIFIED + 1; i < FOLDER_COUNT; i++)
		if (cgroup->folders[i].fd >= 0 && bh_streq(controller_key((enum bh_cgroup_folder)i), controller))
			return (enum bh_cgroup_folder)i;
	return FOLDER_COUNT;
}

static int descend_some(struct bh_cgroup *cgroup, const char *item, unsigned *used, struct bh_error *err)
{
	const char *colon = strchr(item, ':');
	bh_auto_free char *list = bh_strndup(item, (size_t)(colon - item));
	bh_auto_strv struct bh_strv controllers = bh_strv_split(list, ',');
	int r = 0;

	if (strchr(colon + 1, ':'))
		return bh_error_text(err, EINVAL, "invalid --cgroup argument: %s", item);
	if (controllers.count == 0)
		return bh_error_text(err, EINVAL, "invalid --cgroup argument: %s (empty <controller> prefix)", item);
	for (size_t i = 0; r == 0 && i < controllers.count; i++) {
		const char *name = controllers.items[i];
		enum bh_cgroup_folder folder = find_folder(cgroup, name);

		if (!*name)
			return bh_error_text(err, EINVAL, "invalid --cgroup argument: %s (empty <controller> prefix)", item);
		if (folder == FOLDER_COUNT)
			return bh_error_text(err, EINVAL, "unknown controller %s in SubCgroupPaths", name);
		if (*used & 1u << folder)
			return bh_error_text(err, EINVAL, "invalid --cgroup argument(s): controller %s specified multiple times", name);
		*used |= 1u << folder;
		r = descend_in(cgroup, folder, colon + 1, err);
	}
	return r;
}

int bh_cgroup_descend(struct bh_cgroup *cgroup, const struct bh_strv *where, struct bh_error *err)
{
	unsigned used = 0;
	int r = 0;

	bh_cgroup_open_all_made(cgroup);
	for (size_t i = 0; r == 0 && i < where->count; i++) {
		if (strchr(where->items[i], ':'))
			r = descend_some(cgroup, where->items[i], &used, err);
		else if (where->count == 1)
			r = descend_all(cgroup, where->items[i], err);
		else
			r = bh_error_text(err, EINVAL, "invalid --cgroup argument: %s (missing <controller>: prefix)", where->items[i]);
	}
	return r;
}

int bh_cgroup_open_of_process(pid_t pid, struct bh_cgroup **ret_cgroup, struct bh_error *err)
{
	bh_auto_cgroup struct bh_cgroup *cgroup = NULL;
	bh_auto_free char *file = bh_printf("/proc/%d/cgroup", (int)pid), *own = NULL;
	bh_auto_buf struct bh_buf text = { 0 };
	int r = bh_cgroup_new(&cgroup, err);

	if (r == 0)
		r = bh_read_file_at(AT_FDCWD, file, SELF_CGROUP_MAX, &text, err);
	if (r < 0)
		return r;
	own = own_path(text.data, "");
	if (cgroup->driver->version != 2 || !own)
		return bh_error_text(err, ENOTSUP, "%s: not a cgroup v2 path", file);
	r = clean(own, &cgroup->path, err);
	if (r == 0)
		r = cgroup->driver->open(cgroup, err);
	if (r < 0)
		return r;
	*ret_cgroup = BH_TAKE_PTR(cgroup);
	return 0;
}
