/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From staging into the store, and out of it.
 *
 * Adding: rename blobs, rename layers, sync both folders, then replace index.json. An object that is there already wins
 * (it has the same digest, so it is the same). Everything an image needs is looked for under the lock before the index
 * names it, since a collection may have taken what the helper saw.
 *
 * Collecting: the marks start at index.json and at the containers' image ids; what is not marked goes.
 */
#include "base/file.h"
#include "base/log.h"
#include "image/helper.h"
#include "oci/image-json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <sys/file.h>

/* Moves staging/FOLDER/<hex> to target_fd/PREFIX<hex> for every digest of the list. */
static int move_objects(struct bh_staging *staging, const char *folder, struct json_object *digests, int target_fd, const char *prefix,
			struct bh_error *err)
{
	size_t count = digests ? json_object_array_length(digests) : 0;

	for (size_t i = 0; i < count; i++) {
		const char *digest = json_object_get_string(json_object_array_get_idx(digests, i));
		char from[128], to[128];

		if (!digest || !bh_digest_is_valid(digest))
			return bh_error_text(err, EBADMSG, "bulkhead-image: '%.80s' is not a digest", digest ? digest : "");
		snprintf(from, sizeof from, "%s/%s", folder, bh_digest_hex(digest));
		snprintf(to, sizeof to, "%s%s", prefix, bh_digest_hex(digest));
		if (renameat2(staging->fd, from, target_fd, to, RENAME_NOREPLACE) < 0 && errno != EEXIST)
			return bh_error_set(err, errno, "move %s into the store", digest);
	}
	return 0;
}

/* A layer folder without meta.json is no layer: whoever left it there, it must not block the rename. */
static void clear_broken_layers(struct bh_image_store *store, struct json_object *diff_ids)
{
	size_t count = diff_ids ? json_object_array_length(diff_ids) : 0;

	for (size_t i = 0; i < count; i++) {
		const char *diff_id = json_object_get_string(json_object_array_get_idx(diff_ids, i));

		if (diff_id && bh_digest_is_valid(diff_id) && !bh_image_layer_exists(store, diff_id))
			bh_remove_tree_at(store->layers_fd, bh_digest_hex(diff_id), NULL);
	}
}

static int sync_folders(struct bh_image_store *store, struct bh_error *err)
{
	bh_auto_close int blobs = bh_open_dir(store->content_fd, "blobs/sha256", 0, err);

	if (blobs < 0)
		return blobs;
	if (fsync(blobs) < 0 || fsync(store->layers_fd) < 0)
		return bh_error_set(err, errno, "sync the image store");
	return 0;
}

static int check_complete(struct bh_image_store *store, struct json_object *entry, struct bh_error *err)
{
	struct bh_image image = { 0 };
	struct bh_manifest manifest;
	int r = bh_image_entry_read(store, entry, &image, &manifest, err);

	for (size_t i = 0; r == 0 && i < manifest.layer_count; i++) {
		int64_t size = bh_image_blob_size(store, manifest.layers[i].digest);

		if (size < 0)
			r = bh_error_set(err, (int)-size, "layer %s", manifest.layers[i].digest);
		else if (!bh_image_layer_exists(store, image.diff_ids.items[i]))
			r = bh_error_set(err, ENOENT, "unpacked layer %s", image.diff_ids.items[i]);
	}
	bh_image_clear(&image);
	return r;
}

/* A nameless entry of an image that now has a name (under another manifest of the same configuration) is done with. */
static void drop_nameless(struct bh_image_store *store, struct json_object *index, const char *id)
{
	for (size_t i = bh_image_index_count(index); i-- > 0;) {
		struct json_object *entry = bh_image_index_entry(index, i);
		bh_auto_free char *name = bh_image_entry_name(entry);
		struct bh_descriptor descriptor;
		struct bh_manifest manifest;

		if (!name && bh_image_manifest_read(store, entry, &descriptor, &manifest, NULL) == 0 && bh_streq(manifest.config.digest, id))
			json_object_array_del_idx(bh_image_json_array(index, "manifests"), i, 1);
	}
}

static int add_image(struct bh_image_store *store, struct json_object *index, struct json_object *image, const struct bh_strv *names,
		     struct bh_error *err)
{
	struct json_object *entry = bh_image_json_object(image, "manifest");
	bh_auto_strv struct bh_strv own = { 0 };
	struct bh_descriptor manifest;
	int r = bh_descriptor_parse(entry, "bulkhead-image: manifest", &manifest, err);

	if (r == 0)
		r = check_complete(store, entry, err);
	if (r < 0)
		return r;
	if (!names->count) {
		bh_image_json_strings(bh_image_json_array(image, "names"), &own);
		names = &own;
	}
	if (!names->count)
		bh_image_index_set(index, NULL, &manifest);
	for (size_t i = 0; i < names->count; i++)
		bh_image_index_set(index, names->items[i], &manifest);
	if (names->count && bh_image_json_string(image, "id"))
		drop_nameless(store, index, bh_image_json_string(image, "id"));
	return 0;
}

int bh_image_commit(struct bh_image_store *store, struct bh_staging *staging, struct json_object *result, const struct bh_strv *names,
		    struct bh_error *err)
{
	static const struct bh_strv no_names;
	bh_auto_json struct json_object *index = NULL;
	struct json_object *images = bh_image_json_array(result, "images");
	bh_auto_close int lock = bh_image_store_lock(store, err);
	int r;

	if (lock < 0)
		return lock;
	clear_broken_layers(store, bh_image_json_array(result, "layers"));
	r = move_objects(staging, "blobs", bh_image_json_array(result, "blobs"), store->content_fd, "blobs/sha256/", err);
	if (r == 0)
		r = move_objects(staging, "layers", bh_image_json_array(result, "layers"), store->layers_fd, "", err);
	if (r == 0)
		r = sync_folders(store, err);
	if (r < 0 || !images)
		return r;
	r = bh_image_index_load(store, &index, err);
	for (size_t i = 0; r == 0 && i < json_object_array_length(images); i++)
		r = add_image(store, index, json_object_array_get_idx(images, i), i == 0 ? names : &no_names, err);
	return r < 0 ? r : bh_image_index_save(store, index, err);
}

/* Calls `visit` with the parsed record of every container. */
static void each_container(struct bh_image_store *store, void (*visit)(void *context, struct json_object *record), void *context)
{
	bh_auto_close int all = openat(store->root_fd, "containers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bh_auto_closedir DIR *dir = all < 0 ? NULL : fdopendir(all);
	struct dirent *entry;

	if (dir)
		all = -1;
	while (dir && (entry = readdir(dir))) {
		bh_auto_free char *path = bh_printf("%s/container.json", entry->d_name);
		bh_auto_json struct json_object *record = NULL;
		bh_auto_buf struct bh_buf content = { 0 };

		if (entry->d_name[0] != '.' && bh_read_file_at(dirfd(dir), path, BH_IMAGE_JSON_MAX, &content, NULL) == 0 &&
		    bh_image_json_parse(content.data, content.length, path, &record, NULL) == 0)
			visit(context, record);
	}
}

struct users {
	const char *image_id;
	struct bh_strv *containers;
};

static void add_user(void *context, struct json_object *record)
{
	struct users *users = context;
	const char *name = bh_image_json_string(record, "name"), *id = bh_image_json_string(record, "id");

	if (!bh_streq(bh_image_json_string(record, "image_id"), users->image_id))
		return;
	if (name && *name)
		bh_strv_add(users->containers, name);
	else
		bh_strv_addf(users->containers, "%.12s", id ? id : "?");
}

int bh_image_users(struct bh_image_store *store, const char *image_id, struct bh_strv *ret_containers, struct bh_error *err)
{
	struct users users = { image_id, ret_containers };

	(void)err;
	each_container(store, add_user, &users);
	return 0;
}

struct marks {
	struct bh_image_store *store;
	struct bh_strv blobs, layers, disks; /* hex */
};

void bh_image_disk_key(const struct bh_strv *layer_paths, char ret_key[BH_DIGEST_HEX_LENGTH + 1])
{
	char digest[BH_DIGEST_MAX];
	struct bh_sha256 hash;

	bh_sha256_init(&hash);
	for (size_t i = 0; i < layer_paths->count; i++) {
		const char *path = layer_paths->items[i], *end = path + strlen(path) - (bh_has_suffix(path, "/diff") ? strlen("/diff") : 0),
			   *begin = end;

		while (begin > path && begin[-1] != '/')
			begin--;
		bh_sha256_update(&hash, begin, (size_t)(end - begin));
		bh_sha256_update(&hash, " ", 1);
	}
	bh_sha256_digest(&hash, digest);
	memcpy(ret_key, bh_digest_hex(digest), BH_DIGEST_HEX_LENGTH + 1);
}

static void mark(struct bh_strv *set, const char *digest)
{
	if (digest && bh_digest_is_valid(digest) && !bh_strv_contains(set, bh_digest_hex(digest)))
		bh_strv_add(set, bh_digest_hex(digest));
}

static void mark_config(struct marks *marks, const char *digest)
{
	bh_auto_buf struct bh_buf content = { 0 };
	char key[BH_DIGEST_HEX_LENGTH + 1];
	struct bh_image image = { 0 };

	mark(&marks->blobs, digest);
	if (!digest || !bh_digest_is_valid(digest) || bh_image_blob_read(marks->store, digest, &content, NULL) < 0 ||
	    bh_image_config_parse(content.data, content.length, &image, NULL) < 0)
		return;
	for (size_t i = 0; i < image.diff_ids.count; i++)
		mark(&marks->layers, image.diff_ids.items[i]);
	bh_image_layer_paths(marks->store, &image);
	bh_image_disk_key(&image.layer_paths, key);
	bh_strv_add(&marks->disks, key);
	bh_image_clear(&image);
}

/* Everything below a descriptor is marked, also the platforms of an index that this machine doesn't run. */
static void mark_tree(struct marks *marks, const char *digest, int depth)
{
	bh_auto_buf struct bh_buf content = { 0 };
	bh_auto_json struct json_object *document = NULL;
	struct json_object *list;

	mark(&marks->blobs, digest);
	if (depth == 0 || !digest || !bh_digest_is_valid(digest) || bh_image_blob_read(marks->store, digest, &content, NULL) < 0 ||
	    bh_image_json_parse(content.data, content.length, "manifest", &document, NULL) < 0)
		return;
	list = bh_image_json_array(document, "manifests");
	for (size_t i = 0; list && i < json_object_array_length(list); i++)
		mark_tree(marks, bh_image_json_string(json_object_array_get_idx(list, i), "digest"), depth - 1);
	list = bh_image_json_array(document, "layers");
	for (size_t i = 0; list && i < json_object_array_length(list); i++)
		mark(&marks->blobs, bh_image_json_string(json_object_array_get_idx(list, i), "digest"));
	mark_config(marks, bh_image_json_string(document, "config.digest"));
}

static void mark_container(void *context, struct json_object *record)
{
	mark_config(context, bh_image_json_string(record, "image_id"));
}

/* A layer goes by one rename into staging before its files are deleted: a kill can't leave a half-empty layer that looks
 * like a whole one, and the rest is swept with staging. */
static int delete_object(struct bh_image_store *store, int folder_fd, const char *name, bool is_layer, struct bh_error *err)
{
	bh_auto_free char *staged = bh_printf("staging/image-deleted-%s", name);

	if (!is_layer)
		return bh_remove_tree_at(folder_fd, name, err);
	bh_remove_tree_at(store->root_fd, staged, NULL);
	if (renameat2(folder_fd, name, store->root_fd, staged, 0) < 0)
		return bh_error_set(err, errno, "delete layer %s", name);
	return bh_remove_tree_at(store->root_fd, staged, err);
}

/* Removes the entries of a folder that are not marked. Names that are no digests are other tools' and stay. */
static int sweep(struct bh_image_store *store, int folder_fd, const struct bh_strv *marked, struct bh_strv *deleted, struct bh_error *err)
{
	bh_auto_close int list = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bh_auto_closedir DIR *dir = list < 0 ? NULL : fdopendir(list);
	struct dirent *entry;

	if (!dir)
		return bh_error_set(err, errno, "list the image store");
	list = -1;
	while ((entry = readdir(dir))) {
		int r;

		if (!bh_digest_is_hex(entry->d_name) || bh_strv_contains(marked, entry->d_name))
			continue;
		r = delete_object(store, folder_fd, entry->d_name, folder_fd == store->layers_fd, err);
		if (r < 0)
			return r;
		if (deleted)
			bh_strv_addf(deleted, "sha256:%s", entry->d_name);
	}
	return 0;
}

/* Machines that run have theirs open. */
static int sweep_disks(struct bh_image_store *store, const struct bh_strv *marked, struct bh_error *err)
{
	bh_auto_close int disks = openat(store->root_fd, "disks", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return disks < 0 ? 0 : sweep(store, disks, marked, NULL, err);
}

int bh_image_collect(struct bh_image_store *store, struct json_object *index, struct bh_strv *deleted, struct bh_error *err)
{
	struct marks marks = { .store = store };
	bh_auto_close int guard = openat(store->root_fd, "content", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bh_auto_close int blobs = bh_open_dir(store->content_fd, "blobs/sha256", 0, err);
	int r;

	if (guard < 0 || blobs < 0)
		return guard < 0 ? bh_error_set(err, errno, "open %s/content", store->root) : blobs;
	r = bh_lock_fd(guard, true, true);
	if (r < 0)
		return r == -EAGAIN ? 0 : bh_error_set(err, -r, "lock %s/content", store->root);
	for (size_t i = 0; i < bh_image_index_count(index); i++)
		mark_tree(&marks, bh_image_json_string(bh_image_index_entry(index, i), "digest"), 8);
	each_container(store, mark_container, &marks);
	r = sweep(store, blobs, &marks.blobs, deleted, err);
	if (r == 0)
		r = sweep(store, store->layers_fd, &marks.layers, deleted, err);
	if (r == 0)
		r = sweep_disks(store, &marks.disks, err);
	bh_strv_clear(&marks.disks);
	bh_strv_clear(&marks.blobs);
	bh_strv_clear(&marks.layers);
	return r;
}
