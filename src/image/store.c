/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's files.
 *
 * Two locks, both of the flock kind and so gone with their holder:
 *	ROOT/images.lock   exclusive while index.json changes or staged objects are moved in (milliseconds);
 *	ROOT/content       (the folder's own fd) shared by everybody who relies on objects that he found: a load that
 *	                   skips what is there already, a run that has resolved an image and not yet recorded its
 *	                   container; exclusive, without waiting, by the collection of unreferenced objects.
 * Order on disk: blobs and layers are complete and synced in staging, then renamed, then index.json names them. A crash
 * leaves unreferenced objects at most, which the next collection removes.
 */
#include "image/store.h"

#include "base/file.h"
#include "oci/image-json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <sys/file.h>

#define LAYOUT "{\"imageLayoutVersion\":\"1.0.0\"}"
#define EMPTY_INDEX "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[]}"
#define FOLDER_MODE 0700 /* layers hold setuid files: nobody but root may reach them */

static int make_layout(struct bh_image_store *store, struct bh_error *err)
{
	int r = bh_mkdir_all(store->content_fd, "blobs/sha256", FOLDER_MODE, err);

	if (r == 0)
		r = bh_mkdir_all(store->root_fd, "staging", FOLDER_MODE, err);
	if (r == 0) {
		r = bh_write_file_at(store->content_fd, "index.json", EMPTY_INDEX, sizeof EMPTY_INDEX - 1, 0644, BH_WRITE_EXCL, err);
		if (r == -EEXIST)
			r = 0;
	}
	if (r == 0)
		r = bh_write_file_at(store->content_fd, "oci-layout", LAYOUT, sizeof LAYOUT - 1, 0644, 0, err);
	return r;
}

int bh_image_store_open(const char *root, struct bh_image_store *ret_store, struct bh_error *err)
{
	struct bh_image_store store = { .root_fd = -1, .content_fd = -1, .layers_fd = -1 };
	int r;

	store.root = *root == '/' ? bh_strdup(root) : realpath(root, NULL);
	if (!store.root) { /* a relative path that isn't there yet */
		r = bh_mkdir_all(AT_FDCWD, root, FOLDER_MODE, err);
		if (r < 0)
			return r;
		store.root = realpath(root, NULL);
		if (!store.root)
			return bh_error_set(err, errno, "open %s", root);
	}
	r = store.root_fd = bh_make_dir(AT_FDCWD, store.root, FOLDER_MODE, err);
	if (r >= 0)
		r = store.content_fd = bh_make_dir(store.root_fd, "content", FOLDER_MODE, err);
	if (r >= 0)
		r = store.layers_fd = bh_make_dir(store.root_fd, "layers", FOLDER_MODE, err);
	if (r >= 0 && faccessat(store.content_fd, "oci-layout", F_OK, 0) < 0)
		r = make_layout(&store, err);
	if (r < 0) {
		bh_image_store_close(&store);
		return bh_error_prefix(err, "image store %s", root);
	}
	*ret_store = store;
	return 0;
}

void bh_image_store_close(struct bh_image_store *store)
{
	bh_close_fd(&store->layers_fd);
	bh_close_fd(&store->content_fd);
	bh_close_fd(&store->root_fd);
	free(store->root);
	store->root = NULL;
}

int bh_image_store_lock(struct bh_image_store *store, struct bh_error *err)
{
	int fd = openat(store->root_fd, "images.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), r;

	if (fd < 0)
		return bh_error_set(err, errno, "open %s/images.lock", store->root);
	r = bh_lock_fd(fd, true, false);
	if (r < 0) {
		close(fd);
		return bh_error_set(err, -r, "lock %s/images.lock", store->root);
	}
	return fd;
}

static void blob_path(const char *digest, char ret_path[128])
{
	snprintf(ret_path, 128, "blobs/sha256/%s", bh_digest_hex(digest));
}

int bh_image_blob_read(struct bh_image_store *store, const char *digest, struct bh_buf *ret_content, struct bh_error *err)
{
	bh_auto_buf struct bh_buf content = { 0 };
	char path[128], found[BH_DIGEST_MAX];
	int fd, r;

	blob_path(digest, path);
	fd = openat(store->content_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return bh_error_text(err, ENOENT, "%s: not in the store", digest);
	if (fd < 0)
		return bh_error_set(err, errno, "open %s/content/%s", store->root, path);
	r = bh_read_stored_fd(fd, BH_IMAGE_JSON_MAX, &content);
	close(fd);
	if (r < 0)
		return bh_error_set(err, -r, "read %s/content/%s", store->root, path);
	bh_digest_of(content.data, content.length, found);
	if (!bh_streq(found, digest))
		return bh_error_text(err, EBADMSG, "%s: damaged in the store (its content has the digest %s)", digest, found);
	bh_buf_clear(ret_content);
	*ret_content = content;
	content = (struct bh_buf){ 0 };
	return 0;
}

int64_t bh_image_blob_size(struct bh_image_store *store, const char *digest)
{
	struct stat st;
	char path[128];

	blob_path(digest, path);
	return fstatat(store->content_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : (int64_t)st.st_size;
}

int bh_image_blob_write(struct bh_image_store *store, const void *bytes, size_t length, char ret_digest[BH_DIGEST_MAX], struct bh_error *err)
{
	char path[128], digest[BH_DIGEST_MAX];
	int r;

	bh_digest_of(bytes, length, digest);
	blob_path(digest, path);
	r = bh_write_file_at(store->content_fd, path, bytes, length, 0644, BH_WRITE_SYNC, err);
	if (r == 0)
		memcpy(ret_digest, digest, sizeof digest);
	return r;
}

static void layer_path(const char *diff_id, const char *name, char ret_path[128])
{
	snprintf(ret_path, 128, "%s/%s", bh_digest_hex(diff_id), name);
}

bool bh_image_layer_exists(struct bh_image_store *store, const char *diff_id)
{
	char path[128];

	layer_path(diff_id, "meta.json", path);
	return faccessat(store->layers_fd, path, F_OK, 0) == 0;
}

int bh_image_layer_meta(struct bh_image_store *store, const char *diff_id, struct bh_layer_meta *ret_meta, struct bh_error *err)
{
	bh_auto_buf struct bh_buf content = { 0 };
	bh_auto_json struct json_object *meta = NULL;
	char path[128];
	int r;

	layer_path(diff_id, "meta.json", path);
	r = bh_read_file_at(store->layers_fd, path, 4096, &content, err);
	if (r == 0)
		r = bh_image_json_parse(content.data, content.length, path, &meta, err);
	if (r < 0)
		return bh_error_prefix(err, "layer %s", diff_id);
	ret_meta->bytes = bh_image_json_int(meta, "size", 0);
	ret_meta->inodes = bh_image_json_int(meta, "inodes", 0);
	return 0;
}

void bh_image_layer_paths(struct bh_image_store *store, struct bh_image *image)
{
	for (size_t i = 0; i < image->diff_ids.count; i++) {
		bool again = false;

		for (size_t j = i + 1; j < image->diff_ids.count && !again; j++)
			again = bh_streq(image->diff_ids.items[i], image->diff_ids.items[j]);
		if (!again)
			bh_strv_addf(&image->layer_paths, "%s/layers/%s/diff", store->root, bh_digest_hex(image->diff_ids.items[i]));
	}
}

int bh_image_measure(struct bh_image_store *store, struct bh_image *image, struct bh_error *err)
{
	int64_t bytes = 0;

	for (size_t i = 0; i < image->diff_ids.count; i++) {
		struct bh_layer_meta meta;
		int r = bh_image_layer_meta(store, image->diff_ids.items[i], &meta, err);

		if (r < 0)
			return r;
		bytes += meta.bytes;
	}
	image->size_bytes = bytes;
	return 0;
}

int bh_staging_create(struct bh_image_store *store, struct bh_staging *ret_staging, struct bh_error *err)
{
	static unsigned counter;
	struct bh_staging staging = BH_STAGING_INIT;
	bh_auto_close int all = bh_make_dir(store->root_fd, "staging", FOLDER_MODE, err);

	if (all < 0)
		return all;
	for (;;) {
		struct stat st;

		snprintf(staging.name, sizeof staging.name, "image-%d-%u", (int)getpid(), counter++);
		if (mkdirat(all, staging.name, FOLDER_MODE) < 0 && errno == EEXIST)
			continue;
		staging.fd = openat(all, staging.name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (staging.fd < 0 && errno != ENOENT)
			return bh_error_set(err, errno, "make %s/staging/%s", store->root, staging.name);
		/* A sweeper may have taken it between mkdir and lock: then it is gone, and the next one is tried. */
		if (staging.fd >= 0 && bh_lock_fd(staging.fd, true, true) == 0 && fstat(staging.fd, &st) == 0 && st.st_nlink > 0)
			break;
		bh_close_fd(&staging.fd);
	}
	*ret_staging = staging;
	return 0;
}

void bh_staging_remove(struct bh_image_store *store, struct bh_staging *staging)
{
	bh_auto_free char *path = staging->fd >= 0 ? bh_printf("staging/%s", staging->name) : NULL;

	if (!path)
		return;
	bh_remove_tree_at(store->root_fd, path, NULL);
	bh_close_fd(&staging->fd);
}

void bh_staging_sweep(struct bh_image_store *store)
{
	bh_auto_close int all = openat(store->root_fd, "staging", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bh_auto_close int list = all < 0 ? -1 : dup(all);
	bh_auto_closedir DIR *dir = list < 0 ? NULL : fdopendir(list);
	struct dirent *entry;

	if (dir)
		list = -1;
	while (dir && (entry = readdir(dir))) {
		bh_auto_close int fd = -1;

		if (!bh_has_prefix(entry->d_name, "image-"))
			continue;
		fd = openat(all, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (fd >= 0 && bh_lock_fd(fd, true, true) == 0)
			bh_remove_tree_at(all, entry->d_name, NULL);
	}
}
