/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -v, --mount, --tmpfs and volumes.
 *
 * Volumes live in ROOT/volumes/<name>/_data; a name of 64 hex digits is an anonymous one, which `rm -v` and --rm remove.
 * The first container that mounts a still empty volume copies into it what its image has at that place (Docker's rule,
 * unless `nocopy`).
 */
#include "engine/engine-internal.h"

#include "base/log.h"
#include "linux/copy.h"
#include "linux/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/wait.h>

void bh_mount_list_clear(struct bh_mount_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		struct bh_mount_request *m = &list->items[i];

		free(m->type);
		free(m->source);
		free(m->target);
		free(m->propagation);
		bh_strv_clear(&m->options);
	}
	free(list->items);
	*list = (struct bh_mount_list){ 0 };
}

static void request_clear(struct bh_mount_request *m)
{
	struct bh_mount_list one = { .items = bh_memdup(m, sizeof *m), .count = 1 };

	bh_mount_list_clear(&one);
	*m = (struct bh_mount_request){ 0 };
}

/* Takes the request; a later one for the same target replaces the earlier. */
static int add_request(struct bh_mount_list *list, struct bh_mount_request *m, struct bh_error *err)
{
	char *clean;

	if (!m->target || *m->target != '/') {
		bh_error_text(err, EINVAL, "invalid mount path: '%s' mount path must be absolute", m->target ? m->target : "");
		request_clear(m);
		return -EINVAL;
	}
	clean = bh_path_clean(m->target);
	free(m->target);
	m->target = clean;
	if (bh_streq(clean, "/")) {
		bh_error_text(err, EINVAL, "invalid specification: destination can't be '/'");
		request_clear(m);
		return -EINVAL;
	}
	for (size_t i = 0; i < list->count; i++) {
		if (!bh_streq(list->items[i].target, m->target))
			continue;
		request_clear(&list->items[i]);
		list->items[i] = *m;
		return 0;
	}
	list->items = bh_grow(list->items, &list->capacity, list->count + 1, sizeof *list->items);
	list->items[list->count++] = *m;
	return 0;
}

/* The last word counts. */
static void set_text(char **text, const char *value)
{
	free(*text);
	*text = bh_strdup(value);
}

static bool is_propagation(const char *word)
{
	static const char *const words[] = { "shared", "slave", "private", "rshared", "rslave", "rprivate", "unbindable", "runbindable" };

	for (size_t i = 0; i < BH_ARRAY_SIZE(words); i++)
		if (bh_streq(words[i], word))
			return true;
	return false;
}

static int volume_mode(struct bh_mount_request *m, const char *modes, struct bh_error *err)
{
	bh_auto_strv struct bh_strv words = bh_strv_split(modes, ',');

	for (size_t i = 0; i < words.count; i++) {
		const char *word = words.items[i];

		if (bh_streq(word, "ro"))
			m->readonly = true;
		else if (bh_streq(word, "nocopy"))
			m->nocopy = true;
		else if (is_propagation(word))
			set_text(&m->propagation, word);
		else if (bh_streq(word, "exec") || bh_streq(word, "noexec") || bh_streq(word, "suid") || bh_streq(word, "nosuid") ||
			 bh_streq(word, "dev") || bh_streq(word, "nodev"))
			bh_strv_add(&m->options, word);
		else if (!bh_streq(word, "rw") && !bh_streq(word, "z") && !bh_streq(word, "Z") && *word)
			return bh_error_text(err, EINVAL, "invalid mode: %s", modes);
	}
	return 0;
}

static bool is_volume_name(const char *name)
{
	return *name && strlen(name) < 255 && *name != '.' && *name != '-' &&
	       !name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")];
}

/* "[SOURCE:]TARGET[:MODES]" */
static int parse_volume(struct bh_mount_list *list, const char *text, struct bh_error *err)
{
	bh_auto_strv struct bh_strv parts = bh_strv_split(text, ':');
	struct bh_mount_request m = { 0 };
	int r = 0;

	if (parts.count > 3 || (parts.count > 1 && (!*parts.items[0] || !*parts.items[1])))
		return bh_error_text(err, EINVAL, "invalid volume specification: '%s'", text);
	m.target = bh_strdup(parts.items[parts.count > 1 ? 1 : 0]);
	m.type = bh_strdup("volume");
	if (parts.count > 1) {
		const char *source = parts.items[0];

		m.source = bh_strdup(source);
		if (*source == '/' || *source == '.' || *source == '~') {
			bh_free_ptr(&m.type);
			m.type = bh_strdup("bind");
			m.create_source = true;
		} else if (!is_volume_name(source)) {
			r = bh_error_text(
				err, EINVAL,
				"create %s: \"%s\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed",
				source, source);
		}
	}
	if (r == 0 && parts.count == 3)
		r = volume_mode(&m, parts.items[2], err);
	if (r < 0) {
		request_clear(&m);
		return r;
	}
	return add_request(list, &m, err);
}

static int mount_field(struct bh_mount_request *m, const char *key, const char *value, struct bh_error *err)
{
	bool flag = true;
	char **text = NULL;

	if (bh_streq(key, "type"))
		text = &m->type;
	else if (bh_streq(key, "source") || bh_streq(key, "src"))
		text = &m->source;
	else if (bh_streq(key, "target") || bh_streq(key, "dst") || bh_streq(key, "destination"))
		text = &m->target;
	else if (bh_streq(key, "bind-propagation"))
		text = &m->propagation;
	if (text) {
		set_text(text, value ? value : "");
		return 0;
	}
	if (bh_streq(key, "tmpfs-size") || bh_streq(key, "tmpfs-mode")) {
		bh_strv_addf(&m->options, "%s=%s", key + strlen("tmpfs-"), value ? value : "");
		return 0;
	}
	if (value && bh_parse_bool(value, &flag) < 0)
		return bh_error_text(err, EINVAL, "invalid value for %s: %s", key, value);
	if (bh_streq(key, "readonly") || bh_streq(key, "ro"))
		m->readonly = flag;
	else if (bh_streq(key, "volume-nocopy"))
		m->nocopy = flag;
	else
		return bh_error_text(err, EINVAL, "unexpected key '%s' in '%s'", key, key);
	return 0;
}

static int check_mount(const struct bh_mount_request *m, const char *text, struct bh_error *err)
{
	if (!m->target)
		return bh_error_text(err, EINVAL, "invalid argument \"%s\" for \"--mount\" flag: target is required", text);
	if (bh_streq(m->type, "bind") && !m->source)
		return bh_error_text(err, EINVAL, "invalid argument \"%s\" for \"--mount\" flag: source is required", text);
	if (m->propagation && !is_propagation(m->propagation))
		return bh_error_text(err, EINVAL, "invalid propagation value: %s", m->propagation);
	if (bh_streq(m->type, "bind") && *m->source != '/')
		return bh_error_text(err, EINVAL, "invalid mount config for type \"bind\": invalid mount path: '%s' mount path must be absolute",
				     m->source);
	if (bh_streq(m->type, "bind") && access(m->source, F_OK) < 0)
		return bh_error_text(err, errno, "invalid mount config for type \"bind\": bind source path does not exist: %s", m->source);
	if (bh_streq(m->type, "volume") && m->source && !is_volume_name(m->source))
		return bh_error_text(err, EINVAL, "invalid volume name: %s", m->source);
	if (!bh_streq(m->type, "bind") && !bh_streq(m->type, "volume") && !bh_streq(m->type, "tmpfs"))
		return bh_error_text(err, EINVAL, "mount type unknown: \"%s\"", m->type);
	return 0;
}

/* "type=bind,src=/a,dst=/b,readonly" */
static int parse_mount(struct bh_mount_list *list, const char *text, struct bh_error *err)
{
	bh_auto_strv struct bh_strv fields = bh_strv_split(text, ',');
	struct bh_mount_request m = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < fields.count; i++) {
		char *equals = strchr(fields.items[i], '=');

		if (equals)
			*equals = '\0';
		r = mount_field(&m, fields.items[i], equals ? equals + 1 : NULL, err);
	}
	if (!m.type)
		m.type = bh_strdup("volume");
	if (r == 0)
		r = check_mount(&m, text, err);
	if (r < 0) {
		request_clear(&m);
		return r;
	}
	return add_request(list, &m, err);
}

static int parse_tmpfs(struct bh_mount_list *list, const char *text, struct bh_error *err)
{
	size_t length = strcspn(text, ":");
	struct bh_mount_request m = { .type = bh_strdup("tmpfs"), .target = bh_strndup(text, length) };

	if (text[length]) {
		bh_auto_strv struct bh_strv options = bh_strv_split(text + length + 1, ',');

		bh_strv_extend(&m.options, options.items);
	}
	return add_request(list, &m, err);
}

int bh_engine_parse_mounts(const struct bh_create_options *o, const struct bh_image *image, struct bh_mount_list *ret_list, struct bh_error *err)
{
	struct bh_mount_list list = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < image->volumes.count; i++)
		r = parse_volume(&list, image->volumes.items[i], err);
	for (size_t i = 0; r == 0 && i < o->volume.count; i++)
		r = parse_volume(&list, o->volume.items[i], err);
	for (size_t i = 0; r == 0 && i < o->mount.count; i++)
		r = parse_mount(&list, o->mount.items[i], err);
	for (size_t i = 0; r == 0 && i < o->tmpfs.count; i++)
		r = parse_tmpfs(&list, o->tmpfs.items[i], err);
	if (r < 0) {
		bh_mount_list_clear(&list);
		return r;
	}
	*ret_list = list;
	return 0;
}

static int make_volume(struct bh_engine *engine, const char *name, char **ret_path, struct bh_error *err)
{
	bh_auto_free char *relative = bh_printf("volumes/%s/_data", name);
	bh_auto_free char *folder = bh_printf("volumes/%s", name);
	int r = bh_mkdir_all(engine->root_fd, folder, 0711, err);

	if (r == 0 && mkdirat(engine->root_fd, relative, 0755) < 0 && errno != EEXIST)
		r = bh_error_set(err, errno, "create volume %s", name);
	if (r == 0)
		*ret_path = bh_path_join(engine->root, relative);
	return r;
}

static void describe(json_object *mounts, const struct bh_mount_request *m, const char *name, const char *source)
{
	json_object *entry = json_object_new_object();

	json_object_object_add(entry, "Type", json_object_new_string(m->type));
	if (name)
		json_object_object_add(entry, "Name", json_object_new_string(name));
	json_object_object_add(entry, "Source", json_object_new_string(source ? source : ""));
	json_object_object_add(entry, "Destination", json_object_new_string(m->target));
	if (name)
		json_object_object_add(entry, "Driver", json_object_new_string("local"));
	json_object_object_add(entry, "Mode", json_object_new_string(m->readonly ? "ro" : ""));
	json_object_object_add(entry, "RW", json_object_new_boolean(!m->readonly));
	json_object_object_add(entry, "Propagation",
			       json_object_new_string(bh_streq(m->type, "bind") ? (m->propagation ? m->propagation : "rprivate") : ""));
	if (name && !m->nocopy)
		json_object_object_add(entry, "copy", json_object_new_boolean(true));
	if (name && !m->source)
		json_object_object_add(entry, "anonymous", json_object_new_boolean(true));
	json_object_array_add(mounts, entry);
}

static void add_tmpfs(struct bh_spec *spec, const struct bh_mount_request *m)
{
	struct bh_spec_mount *mount;

	bh_spec_remove_mount(spec, m->target);
	mount = bh_spec_add_mount(spec, m->target, "tmpfs", "tmpfs", "noexec,nosuid,nodev");
	if (m->readonly)
		bh_strv_add(&mount->options, "ro");
	bh_strv_extend(&mount->options, m->options.items);
}

static void add_bind(struct bh_spec *spec, const struct bh_mount_request *m, const char *source)
{
	struct bh_spec_mount *mount;

	bh_spec_remove_mount(spec, m->target);
	mount = bh_spec_add_mount(spec, m->target, "bind", source, "rbind");
	bh_strv_add(&mount->options, m->readonly ? "ro" : "rw");
	bh_strv_add(&mount->options, m->propagation ? m->propagation : "rprivate");
	bh_strv_extend(&mount->options, m->options.items);
}

static int apply_one(struct bh_engine *engine, const struct bh_mount_request *m, struct bh_spec *spec, json_object *mounts, struct bh_error *err)
{
	bh_auto_free char *source = NULL, *name = NULL;
	int r = 0;

	if (bh_streq(m->type, "tmpfs")) {
		add_tmpfs(spec, m);
		describe(mounts, m, NULL, NULL);
		return 0;
	}
	if (bh_streq(m->type, "volume")) {
		unsigned char random[32];
		char hex[2 * sizeof random + 1];

		if (!m->source && getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
			return bh_error_set(err, errno, "getrandom");
		bh_format_hex(random, sizeof random, hex);
		name = bh_strdup(m->source ? m->source : hex);
		r = make_volume(engine, name, &source, err);
	} else {
		bh_auto_free char *cwd = *m->source == '/' ? NULL : getcwd(NULL, 0);
		bh_auto_free char *absolute = cwd ? bh_path_join(cwd, m->source) : bh_strdup(m->source);

		source = bh_path_clean(absolute);
		if (m->create_source && access(source, F_OK) < 0)
			r = bh_mkdir_all(AT_FDCWD, source, 0755, err);
	}
	if (r < 0)
		return r;
	add_bind(spec, m, source);
	describe(mounts, m, name, source);
	return 0;
}

int bh_engine_apply_mounts(struct bh_engine *engine, const struct bh_mount_list *list, struct bh_spec *spec, json_object *ret_mounts,
			   struct bh_error *err)
{
	for (size_t i = 0; i < list->count; i++) {
		int r = apply_one(engine, &list->items[i], spec, ret_mounts, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static bool is_empty_folder(int fd)
{
	bh_auto_closedir DIR *dir = fdopendir(fcntl(fd, F_DUPFD_CLOEXEC, 3));
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (!bh_streq(entry->d_name, ".") && !bh_streq(entry->d_name, ".."))
			return false;
	return dir != NULL;
}

bool bh_engine_has_volumes_to_fill(struct bh_container *c)
{
	json_object *mounts = bh_json_at(c->record, "mounts");

	for (size_t i = 0; mounts && i < json_object_array_length(mounts); i++)
		if (bh_json_bool(json_object_array_get_idx(mounts, i), "copy", false))
			return true;
	return false;
}

int bh_engine_fill_volumes(struct bh_engine *engine, struct bh_container *c, int root_fd, struct bh_error *err)
{
	json_object *mounts = bh_json_at(c->record, "mounts");

	for (size_t i = 0; mounts && i < json_object_array_length(mounts); i++) {
		json_object *entry = json_object_array_get_idx(mounts, i);
		const char *name = bh_json_text(entry, "Name", NULL);
		bh_auto_close int source = -1, target = -1;
		int r;

		if (!name || !bh_json_bool(entry, "copy", false))
			continue;
		target = open(bh_json_text(entry, "Source", ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (target < 0)
			return bh_error_set(err, errno, "open volume %s", name);
		if (!is_empty_folder(target))
			continue;
		source = bh_open_in_root(root_fd, bh_json_text(entry, "Destination", "/"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (source < 0)
			continue; /* the image has nothing there */
		r = bh_copy_tree(source, target, err);
		if (r < 0)
			return bh_error_prefix(err, "copy the image's content into volume %s", name);
	}
	(void)engine;
	return 0;
}

int bh_engine_remove_volumes(struct bh_engine *engine, struct bh_container *c, struct bh_error *err)
{
	json_object *mounts = bh_json_at(c->record, "mounts");

	for (size_t i = 0; mounts && i < json_object_array_length(mounts); i++) {
		json_object *entry = json_object_array_get_idx(mounts, i);
		bh_auto_free char *path = bh_printf("volumes/%s", bh_json_text(entry, "Name", ""));
		int r;

		if (!bh_json_bool(entry, "anonymous", false))
			continue;
		r = bh_remove_tree_at(engine->root_fd, path, err);
		if (r < 0)
			return r;
	}
	return 0;
}
