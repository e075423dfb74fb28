/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the parts of an archive to images.
 *
 * An archive is an OCI layout (index.json), Docker's format (manifest.json), or, since Docker 25, both at once: then the
 * layout counts, for its manifests keep their digests, and names that only manifest.json has are added. In Docker's
 * format there is no manifest; one is made from the configuration and the layers, in this order.
 *
 * Every digest that one part gives of another is compared with what was really read.
 */
#include "image/helper/parts.h"

#include "base/file.h"
#include "image/helper/blobs.h"
#include "oci/image-json.h"

#include <errno.h>
#include <json-c/json.h>

#define INDEX_DEPTH_MAX 4
#define LINK_DEPTH_MAX 8
#define IMAGES_MAX 1000

char *parts_clean_path(const char *path, const char *target)
{
	const char *slash = strrchr(path, '/');
	bh_auto_free char *joined = *target == '/' || !slash ? bh_printf("/%s", target) : bh_printf("/%.*s/%s", (int)(slash - path), path, target);
	bh_auto_free char *clean = bh_path_clean(joined);

	return bh_strdup(clean + 1);
}

struct part *parts_add(struct parts *parts, const char *path)
{
	struct part *part;

	parts->items = bh_grow(parts->items, &parts->capacity, parts->count + 1, sizeof *parts->items);
	part = &parts->items[parts->count++];
	*part = (struct part){ .path = parts_clean_path("", path) };
	return part;
}

void parts_clear(struct parts *parts)
{
	for (size_t i = 0; i < parts->count; i++) {
		free(parts->items[i].path);
		free(parts->items[i].target);
		bh_buf_clear(&parts->items[i].content);
	}
	free(parts->items);
	*parts = (struct parts){ 0 };
}

static struct part *find_path(const struct parts *parts, const char *path, int depth)
{
	for (size_t i = parts->count; i-- > 0;) {
		struct part *part = &parts->items[i];

		if (!bh_streq(part->path, path))
			continue;
		if (part->kind != PART_LINK)
			return part;
		return depth ? find_path(parts, part->target, depth - 1) : NULL;
	}
	return NULL;
}

static struct part *find_digest(const struct parts *parts, const char *digest)
{
	struct part *broken = NULL;
	char path[128];

	for (size_t i = parts->count; i-- > 0;) {
		struct part *part = &parts->items[i];

		if (bh_streq(part->intake.digest, digest)) {
			if (!*part->why)
				return part;
			broken = part;
		}
	}
	snprintf(path, sizeof path, "blobs/sha256/%s", bh_digest_hex(digest));
	return broken ? broken : find_path(parts, path, LINK_DEPTH_MAX);
}

static int refuse_part(const struct part *part, const char *what, struct bh_error *err)
{
	if (part)
		return bh_error_text(err, EBADMSG, "%s (%s in the archive): %s", what, part->path, *part->why ? part->why : "not what it should be");
	return bh_error_text(err, ENOENT, "%s is missing in the archive", what);
}

/* A document by its digest: from the archive, the layout's folder, or the store. Copied, since parts may move. */
static int read_document(struct parts *parts, const char *digest, const char *what, struct bh_buf *ret_content, struct bh_error *err)
{
	const struct part *part = find_digest(parts, digest);
	char name[160];

	snprintf(name, sizeof name, "%s %s", what, digest);
	if (parts->folder)
		return helper_read_blob(parts->h, parts->folder, digest, ret_content, err);
	if (part && part->kind == PART_KNOWN)
		return helper_read_blob(parts->h, SANDBOX_CONTENT, digest, ret_content, err);
	if (!part || *part->why || part->kind != PART_DOCUMENT || !bh_streq(part->intake.digest, digest))
		return refuse_part(part, name, err);
	bh_buf_reset(ret_content);
	bh_buf_add(ret_content, part->content.data, part->content.length);
	return 0;
}

/* Sees that a layer is stored and unpacked, and reports it. */
static int use_layer(struct parts *parts, const struct part *part, const char *digest, const char *diff_id, struct bh_error *err)
{
	struct helper *h = parts->h;
	char name[160];
	int r;

	snprintf(name, sizeof name, "layer %s", digest);
	if (parts->folder)
		return helper_unpack_blob(h, parts->folder, INTAKE_STORE, digest, diff_id, err);
	if (part && part->kind == PART_KNOWN && !*part->why)
		return helper_unpack_blob(h, SANDBOX_CONTENT, 0, digest, diff_id, err);
	if (!part && helper_store_blob_size(h, digest) >= 0) /* the archive leaves out what the reader has: it has it */
		return helper_unpack_blob(h, SANDBOX_CONTENT, 0, digest, diff_id, err);
	if (!part || *part->why || part->kind != PART_LAYER)
		return refuse_part(part, name, err);
	r = helper_check_intake(&part->intake, digest, diff_id, err);
	if (r < 0)
		return r;
	helper_report(h, "blobs", digest);
	helper_report(h, "layers", diff_id);
	return 0;
}

static int keep_document(struct parts *parts, const struct bh_buf *content, char ret_digest[BH_DIGEST_MAX], struct bh_error *err)
{
	int r = helper_take_bytes(parts->h, content->data, content->length, ret_digest, err);

	if (r == 0)
		helper_report(parts->h, "blobs", ret_digest);
	return r;
}

static int check_counts(const struct bh_image *image, size_t layers, struct bh_error *err)
{
	if (image->diff_ids.count == layers)
		return 0;
	return bh_error_text(err, EINVAL, "the image has %zu layers in its manifest and %zu in its configuration", layers, image->diff_ids.count);
}

/* An image of an OCI layout: `descriptor` leads to a manifest whose document is `text`. */
static int make_oci_image(struct parts *parts, const struct bh_descriptor *descriptor, const struct bh_buf *text, const struct bh_strv *names,
			  struct bh_error *err)
{
	bh_auto_buf struct bh_buf config = { 0 };
	bh_auto(bh_image_clear) struct bh_image image = { 0 };
	struct bh_descriptor found = *descriptor;
	struct bh_manifest manifest;
	char digest[BH_DIGEST_MAX];
	int r = bh_manifest_parse(text->data, text->length, &manifest, err);

	if (r == 0)
		r = read_document(parts, manifest.config.digest, "image configuration", &config, err);
	if (r == 0)
		r = bh_image_config_parse(config.data, config.length, &image, err);
	if (r == 0)
		r = check_counts(&image, manifest.layer_count, err);
	for (size_t i = 0; r == 0 && i < manifest.layer_count; i++)
		r = use_layer(parts, find_digest(parts, manifest.layers[i].digest), manifest.layers[i].digest, image.diff_ids.items[i], err);
	if (r == 0)
		r = keep_document(parts, &config, digest, err);
	if (r == 0)
		r = keep_document(parts, text, digest, err);
	if (r < 0)
		return r;
	found.size = (int64_t)text->length;
	if (!*found.media_type)
		snprintf(found.media_type, sizeof found.media_type, "%s", BH_MEDIA_MANIFEST);
	helper_report_image(parts->h, &found, manifest.config.digest, names);
	return 0;
}

/* Names that manifest.json gives to the configuration. */
static void add_docker_names(const struct parts *parts, const char *config_digest, struct bh_strv *names)
{
	const struct part *part = find_path(parts, "manifest.json", LINK_DEPTH_MAX);
	bh_auto_json struct json_object *list = NULL;

	if (!part || part->kind != PART_DOCUMENT || bh_image_json_parse(part->content.data, part->content.length, "manifest.json", &list, NULL) < 0 ||
	    !json_object_is_type(list, json_type_array))
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *image = json_object_array_get_idx(list, i);
		bh_auto_free char *path = parts_clean_path("", bh_image_json_string(image, "Config") ? bh_image_json_string(image, "Config") : "");
		const struct part *config = find_path(parts, path, LINK_DEPTH_MAX);
		bh_auto_strv struct bh_strv tags = { 0 };

		if (!config || !bh_streq(config->intake.digest, config_digest))
			continue;
		bh_image_json_strings(bh_image_json_array(image, "RepoTags"), &tags);
		for (size_t t = 0; t < tags.count; t++) {
			bh_auto_reference struct bh_reference reference = { 0 };
			bh_auto_free char *name = bh_reference_parse(tags.items[t], &reference, NULL) == 0 ? bh_reference_familiar(&reference) : NULL;

			if (name && !bh_strv_contains(names, name))
				bh_strv_add(names, name);
		}
	}
}

/* Follows an entry of index.json through indexes to this machine's manifest. */
static int follow(struct parts *parts, struct json_object *entry, struct bh_descriptor *descriptor, struct bh_buf *text, struct bh_error *err)
{
	int r = bh_descriptor_parse(entry, "index.json: manifests[]", descriptor, err);

	for (int depth = 0; r == 0; depth++) {
		bh_auto_json struct json_object *index = NULL;
		size_t place;

		r = read_document(parts, descriptor->digest, "image manifest", text, err);
		if (r < 0 || bh_media_kind(descriptor->media_type) != BH_MEDIA_KIND_INDEX)
			return r;
		if (depth == INDEX_DEPTH_MAX)
			return bh_error_text(err, ELOOP, "image index %s: nested too deep", descriptor->digest);
		r = bh_image_json_parse(text->data, text->length, "image index", &index, err);
		if (r == 0)
			r = bh_index_pick(index, "image index", &place, err);
		if (r == 0)
			r = bh_descriptor_parse(bh_image_index_entry(index, place), "image index: manifests[]", descriptor, err);
	}
	return r;
}

/* Does the same manifest occur before in the list? Then its names were taken together there. */
static bool seen_before(struct json_object *index, size_t place)
{
	const char *digest = bh_image_json_string(bh_image_index_entry(index, place), "digest");

	for (size_t i = 0; i < place; i++)
		if (bh_streq(bh_image_json_string(bh_image_index_entry(index, i), "digest"), digest))
			return true;
	return false;
}

static void collect_names(const struct parts *parts, struct json_object *index, size_t place, const struct bh_buf *text, struct bh_strv *names)
{
	const char *digest = bh_image_json_string(bh_image_index_entry(index, place), "digest");
	struct bh_manifest manifest;

	for (size_t i = place; i < bh_image_index_count(index); i++) {
		struct json_object *entry = bh_image_index_entry(index, i);
		bh_auto_free char *name = bh_streq(bh_image_json_string(entry, "digest"), digest) ? bh_image_entry_name(entry) : NULL;

		if (name && !bh_strv_contains(names, name))
			bh_strv_add(names, name);
	}
	if (bh_manifest_parse(text->data, text->length, &manifest, NULL) == 0)
		add_docker_names(parts, manifest.config.digest, names);
}

static int make_from_index(struct parts *parts, const struct part *part, struct bh_error *err)
{
	bh_auto_json struct json_object *index = NULL;
	int r = bh_image_json_parse(part->content.data, part->content.length, "index.json", &index, err);
	size_t count = r == 0 ? bh_image_index_count(index) : 0;

	if (r == 0 && (!count || count > IMAGES_MAX))
		r = bh_error_text(err, EINVAL, "index.json: %zu images", count);
	for (size_t i = 0; r == 0 && i < count; i++) {
		bh_auto_strv struct bh_strv names = { 0 };
		bh_auto_buf struct bh_buf text = { 0 };
		struct bh_descriptor descriptor;

		if (seen_before(index, i))
			continue;
		r = follow(parts, bh_image_index_entry(index, i), &descriptor, &text, err);
		if (r < 0)
			break;
		collect_names(parts, index, i, &text, &names);
		r = make_oci_image(parts, &descriptor, &text, &names, err);
	}
	return r;
}

/* Layer `place` of an image in Docker's format. */
static int add_docker_layer(struct parts *parts, const char *name, const char *diff_id, struct bh_descriptor *ret_layer, struct bh_error *err)
{
	bh_auto_free char *path = parts_clean_path("", name);
	const struct part *part = find_path(parts, path, LINK_DEPTH_MAX);
	enum bh_compression compression;
	int r;

	if (!part || *part->why || !*part->intake.digest) {
		bh_auto_free char *what = bh_printf("layer %.200s", name);

		return refuse_part(part, what, err);
	}
	r = use_layer(parts, part, part->intake.digest, diff_id, err);
	if (r < 0)
		return r;
	/* Podman's name is that of the archive itself, so a part known by name is not compressed. */
	compression = part->kind == PART_LAYER               ? part->intake.compression :
		      bh_streq(part->intake.digest, diff_id) ? BH_COMPRESSION_NONE :
							       BH_COMPRESSION_GZIP;
	memcpy(ret_layer->digest, part->intake.digest, sizeof ret_layer->digest);
	snprintf(ret_layer->media_type, sizeof ret_layer->media_type, "%s", helper_layer_media_type(compression));
	ret_layer->size = part->intake.size;
	return 0;
}

static int find_config(struct parts *parts, struct json_object *entry, struct bh_buf *config, struct bh_error *err)
{
	const char *name = bh_image_json_string(entry, "Config");
	bh_auto_free char *path = name ? parts_clean_path("", name) : NULL;
	const struct part *part = path ? find_path(parts, path, LINK_DEPTH_MAX) : NULL;

	if (!name)
		return bh_error_text(err, EINVAL, "manifest.json: Config: expected a string");
	if (part && part->kind == PART_KNOWN)
		return helper_read_blob(parts->h, SANDBOX_CONTENT, part->intake.digest, config, err);
	if (!part || *part->why || part->kind != PART_DOCUMENT)
		return refuse_part(part, "image configuration", err);
	bh_buf_add(config, part->content.data, part->content.length);
	return 0;
}

static int make_docker_image(struct parts *parts, struct json_object *entry, struct bh_error *err)
{
	struct bh_descriptor descriptor = { .media_type = BH_MEDIA_MANIFEST };
	struct bh_manifest manifest = { .config.media_type = BH_MEDIA_CONFIG };
	bh_auto_buf struct bh_buf config = { 0 }, text = { 0 };
	bh_auto_strv struct bh_strv layers = { 0 }, names = { 0 };
	bh_auto(bh_image_clear) struct bh_image image = { 0 };
	int r = find_config(parts, entry, &config, err);

	if (r == 0)
		r = bh_image_config_parse(config.data, config.length, &image, err);
	if (r == 0 && bh_image_json_strings(bh_image_json_array(entry, "Layers"), &layers) < 0)
		r = bh_error_text(err, EINVAL, "manifest.json: Layers: expected strings");
	if (r == 0 && layers.count > BH_IMAGE_LAYERS_MAX)
		r = bh_error_text(err, E2BIG, "manifest.json: %zu layers, more than %d", layers.count, BH_IMAGE_LAYERS_MAX);
	if (r == 0)
		r = check_counts(&image, layers.count, err);
	for (size_t i = 0; r == 0 && i < layers.count; i++)
		r = add_docker_layer(parts, layers.items[i], image.diff_ids.items[i], &manifest.layers[i], err);
	if (r == 0)
		r = keep_document(parts, &config, manifest.config.digest, err);
	if (r < 0)
		return r;
	manifest.layer_count = layers.count;
	manifest.config.size = (int64_t)config.length;
	bh_manifest_write(&manifest, &text);
	descriptor.size = (int64_t)text.length;
	r = keep_document(parts, &text, descriptor.digest, err);
	if (r < 0)
		return r;
	add_docker_names(parts, manifest.config.digest, &names);
	helper_report_image(parts->h, &descriptor, manifest.config.digest, &names);
	return 0;
}

static int make_from_manifest(struct parts *parts, const struct part *part, struct bh_error *err)
{
	bh_auto_json struct json_object *list = NULL;
	int r = bh_image_json_parse(part->content.data, part->content.length, "manifest.json", &list, err);

	if (r == 0 && (!json_object_is_type(list, json_type_array) || !json_object_array_length(list) || json_object_array_length(list) > IMAGES_MAX))
		r = bh_error_text(err, EINVAL, "manifest.json: expected an array of images");
	for (size_t i = 0; r == 0 && i < json_object_array_length(list); i++)
		r = make_docker_image(parts, json_object_array_get_idx(list, i), err);
	return r;
}

int parts_make_images(struct parts *parts, struct bh_error *err)
{
	const struct part *index = find_path(parts, "index.json", LINK_DEPTH_MAX), *manifest = find_path(parts, "manifest.json", LINK_DEPTH_MAX);

	if (index && index->kind == PART_DOCUMENT && find_path(parts, "oci-layout", LINK_DEPTH_MAX))
		return make_from_index(parts, index, err);
	if (manifest && manifest->kind == PART_DOCUMENT)
		return make_from_manifest(parts, manifest, err);
	return bh_error_text(err, EINVAL,
			     "not an image archive: neither manifest.json nor an OCI layout is in it (use 'bulkhead import' for a root file system)");
}
