/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a name to an image that can be mounted. This is on the start path of every container: index.json, the manifest
 * and the configuration are read and verified, and one system call per layer sees that it is unpacked. Nothing else.
 */
#include "image/store.h"

#include "base/file.h"
#include "image/helper.h"
#include "oci/image-json.h"

#include <errno.h>
#include <json-c/json.h>
#include <sys/file.h>

#define INDEX_DEPTH_MAX 4 /* an index may lead to an index */

/* Follows indexes of platforms until a manifest's blob is in `content`. */
static int read_manifest_blob(struct bh_image_store *store, struct json_object *entry, struct bh_descriptor *descriptor, struct bh_buf *content,
			      struct bh_error *err)
{
	int r = bh_descriptor_parse(entry, "index.json: manifests[]", descriptor, err);

	for (int depth = 0; r == 0; depth++) {
		bh_auto_json struct json_object *index = NULL;
		size_t place;

		r = bh_image_blob_read(store, descriptor->digest, content, err);
		if (r < 0)
			return r;
		if (descriptor->size < 0)
			descriptor->size = (int64_t)content->length;
		if (bh_media_kind(descriptor->media_type) != BH_MEDIA_KIND_INDEX)
			return 0;
		if (depth == INDEX_DEPTH_MAX)
			return bh_error_text(err, ELOOP, "image index %s: nested too deep", descriptor->digest);
		r = bh_image_json_parse(content->data, content->length, "image index", &index, err);
		if (r == 0)
			r = bh_index_pick(index, "image index", &place, err);
		if (r == 0)
			r = bh_descriptor_parse(bh_image_index_entry(index, place), "image index: manifests[]", descriptor, err);
	}
	return r;
}

int bh_image_manifest_read(struct bh_image_store *store, struct json_object *entry, struct bh_descriptor *ret_descriptor,
			   struct bh_manifest *ret_manifest, struct bh_error *err)
{
	bh_auto_buf struct bh_buf content = { 0 };
	int r = read_manifest_blob(store, entry, ret_descriptor, &content, err);

	return r < 0 ? r : bh_manifest_parse(content.data, content.length, ret_manifest, err);
}

int bh_image_entry_read(struct bh_image_store *store, struct json_object *entry, struct bh_image *ret_image, struct bh_manifest *ret_manifest,
			struct bh_error *err)
{
	bh_auto_buf struct bh_buf content = { 0 };
	struct bh_image image = { .size_bytes = -1 };
	struct bh_descriptor descriptor;
	int r = bh_image_manifest_read(store, entry, &descriptor, ret_manifest, err);

	if (r == 0)
		r = bh_image_blob_read(store, ret_manifest->config.digest, &content, err);
	if (r == 0)
		r = bh_image_config_parse(content.data, content.length, &image, err);
	if (r < 0)
		return r;
	if (image.diff_ids.count != ret_manifest->layer_count) {
		r = bh_error_text(err, EINVAL, "image %s: %zu layers in the manifest, %zu in the configuration", ret_manifest->config.digest,
				  ret_manifest->layer_count, image.diff_ids.count);
		bh_image_clear(&image);
		return r;
	}
	memcpy(image.id, ret_manifest->config.digest, sizeof image.id);
	memcpy(image.manifest, descriptor.digest, sizeof image.manifest);
	image.name = bh_image_entry_name(entry);
	*ret_image = image;
	return 0;
}

static int unpack_missing(struct bh_image_store *store, const struct bh_manifest *manifest, const struct bh_image *image, struct bh_error *err)
{
	for (size_t i = 0; i < image->diff_ids.count; i++)
		if (!bh_image_layer_exists(store, image->diff_ids.items[i]))
			return bh_image_helper_unpack(store, manifest, &image->diff_ids, err);
	return 0;
}

int bh_image_resolve(struct bh_image_store *store, const char *reference, struct bh_image *ret_image, struct bh_error *err)
{
	bh_auto_json struct json_object *index = NULL;
	struct bh_image image = { 0 };
	struct bh_manifest manifest;
	size_t place;
	int r = bh_lock_fd(store->content_fd, false, false);

	if (r < 0)
		return bh_error_set(err, -r, "lock %s/content", store->root);
	r = bh_image_index_load(store, &index, err);
	if (r == 0)
		r = bh_image_index_find(store, index, reference, &place, err);
	if (r == 0)
		r = bh_image_entry_read(store, bh_image_index_entry(index, place), &image, &manifest, err);
	if (r < 0)
		return r;
	r = unpack_missing(store, &manifest, &image, err);
	if (r < 0) {
		bh_image_clear(&image);
		return r;
	}
	bh_image_layer_paths(store, &image);
	*ret_image = image;
	return 0;
}
