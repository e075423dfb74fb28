/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.json: the list of images and names.
 *
 * It is changed as a JSON tree, so that what other tools put there (annotations, nested indexes) survives. Names of other
 * tools are read as they are meant: skopeo and umoci write what stood behind the last colon ("latest", "busybox:1.36"),
 * containerd writes the full name beside it.
 */
#include "image/store.h"

#include "base/file.h"
#include "oci/image-json.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>

#define ID_PREFIX_MIN 3

int bh_image_index_load(struct bh_image_store *store, struct json_object **ret_index, struct bh_error *err)
{
	bh_auto_buf struct bh_buf content = { 0 };
	struct bh_error why = BH_ERROR_INIT;
	struct json_object *index = NULL;
	int r = bh_read_stored_file_at(store->content_fd, "index.json", BH_IMAGE_JSON_MAX, &content, &why);

	if (r == -ENOENT) {
		index = json_object_new_object();
		json_object_object_add(index, "schemaVersion", json_object_new_int(2));
	} else if (r < 0 || (r = bh_image_json_parse(content.data, content.length, "index.json", &index, &why)) < 0) {
		return bh_error_text(err, -r, "%s/content: %s", store->root, why.message);
	}
	if (!json_object_is_type(index, json_type_object)) {
		json_object_put(index);
		return bh_error_text(err, EINVAL, "%s/content/index.json: not a JSON object", store->root);
	}
	if (!bh_image_json_array(index, "manifests"))
		json_object_object_add(index, "manifests", json_object_new_array());
	*ret_index = index;
	return 0;
}

int bh_image_index_save(struct bh_image_store *store, struct json_object *index, struct bh_error *err)
{
	const char *text = bh_image_json_text(index);

	return bh_write_file_at(store->content_fd, "index.json", text, strlen(text), 0644, BH_WRITE_SYNC, err);
}

size_t bh_image_index_count(struct json_object *index)
{
	struct json_object *manifests = bh_image_json_array(index, "manifests");

	return manifests ? json_object_array_length(manifests) : 0;
}

struct json_object *bh_image_index_entry(struct json_object *index, size_t place)
{
	return json_object_array_get_idx(bh_image_json_array(index, "manifests"), place);
}

static char *familiar(const char *text)
{
	bh_auto_reference struct bh_reference reference = { 0 };

	if (bh_reference_parse(text, &reference, NULL) < 0)
		return NULL;
	return bh_reference_familiar(&reference);
}

char *bh_image_entry_name(struct json_object *entry)
{
	const char *name = bh_descriptor_annotation(entry, BH_ANNOTATION_REF_NAME);
	const char *full = bh_descriptor_annotation(entry, BH_ANNOTATION_FULL_NAME);
	bh_auto_reference struct bh_reference reference = { 0 };

	/* The full name counts when the short one is only its tag, or missing; a tool that renames changes the short one. */
	if (full && bh_reference_parse(full, &reference, NULL) == 0 && (!name || bh_streq(name, reference.tag)))
		return bh_reference_familiar(&reference);
	return name ? familiar(name) : NULL;
}

static bool has_name(struct json_object *entry, const char *name)
{
	bh_auto_free char *own = bh_image_entry_name(entry);

	return bh_streq(own, name);
}

static bool leads_to(struct json_object *entry, const char *digest)
{
	return bh_streq(bh_image_json_string(entry, "digest"), digest);
}

static void drop_name(struct json_object *entry)
{
	struct json_object *annotations = bh_image_json_object(entry, "annotations");

	if (!annotations)
		return;
	json_object_object_del(annotations, BH_ANNOTATION_REF_NAME);
	json_object_object_del(annotations, BH_ANNOTATION_FULL_NAME);
	if (!json_object_object_length(annotations))
		json_object_object_del(entry, "annotations");
}

/* Takes `name` from whoever has it. His entry goes if he has another one, else it becomes nameless. */
static void release_name(struct json_object *index, const char *name)
{
	struct json_object *manifests = bh_image_json_array(index, "manifests");

	for (size_t i = json_object_array_length(manifests); i-- > 0;) {
		struct json_object *entry = json_object_array_get_idx(manifests, i);
		bool other = false;

		if (!has_name(entry, name))
			continue;
		for (size_t j = 0; j < json_object_array_length(manifests); j++)
			other = other || (j != i && leads_to(json_object_array_get_idx(manifests, j), bh_image_json_string(entry, "digest")));
		if (other)
			json_object_array_del_idx(manifests, i, 1);
		else
			drop_name(entry);
	}
}

static void add_names(struct json_object *entry, const char *name)
{
	struct json_object *annotations = json_object_new_object();
	bh_auto_reference struct bh_reference reference = { 0 };

	bh_image_json_add(annotations, BH_ANNOTATION_REF_NAME, name);
	if (bh_reference_parse(name, &reference, NULL) == 0) {
		bh_auto_free char *full = bh_reference_full(&reference);

		bh_image_json_add(annotations, BH_ANNOTATION_FULL_NAME, full);
	}
	json_object_object_add(entry, "annotations", annotations);
}

void bh_image_index_set(struct json_object *index, const char *name, const struct bh_descriptor *manifest)
{
	struct json_object *manifests = bh_image_json_array(index, "manifests"), *entry;

	if (name)
		release_name(index, name);
	for (size_t i = json_object_array_length(manifests); i-- > 0;) {
		bh_auto_free char *own = NULL;

		entry = json_object_array_get_idx(manifests, i);
		if (!leads_to(entry, manifest->digest))
			continue;
		if (!name)
			return;
		own = bh_image_entry_name(entry);
		if (!own) /* the image gets a name: its nameless entry is done with */
			json_object_array_del_idx(manifests, i, 1);
	}
	entry = bh_descriptor_new(*manifest->media_type ? manifest->media_type : BH_MEDIA_MANIFEST, manifest->digest, manifest->size);
	if (name)
		add_names(entry, name);
	json_object_array_add(manifests, entry);
}

static int find_by_reference(struct json_object *index, const char *text, size_t *ret_place)
{
	bh_auto_reference struct bh_reference wanted = { 0 };
	bh_auto_free char *name = NULL, *repository = NULL;
	size_t count = bh_image_index_count(index);

	if (bh_reference_parse(text, &wanted, NULL) < 0)
		return -ENOENT;
	name = bh_reference_familiar(&wanted);
	repository = bh_reference_familiar_name(&wanted);
	for (size_t i = 0; i < count; i++) {
		struct json_object *entry = bh_image_index_entry(index, i);
		bh_auto_reference struct bh_reference own = { 0 };
		bh_auto_free char *own_name = NULL, *own_repository = NULL;

		if (!wanted.digest && !has_name(entry, name))
			continue;
		if (wanted.digest) {
			own_name = bh_image_entry_name(entry);
			if (!own_name || !leads_to(entry, wanted.digest) || bh_reference_parse(own_name, &own, NULL) < 0)
				continue;
			own_repository = bh_reference_familiar_name(&own);
			if (!bh_streq(repository, own_repository))
				continue;
		}
		*ret_place = i;
		return 0;
	}
	return -ENOENT;
}

/* By a prefix of the image id (the configuration's digest), or of the manifest's digest. */
static int find_by_id(struct bh_image_store *store, struct json_object *index, const char *text, size_t *ret_place, struct bh_error *err)
{
	const char *hex = bh_has_prefix(text, "sha256:") ? bh_digest_hex(text) : text;
	size_t length = strlen(hex), count = bh_image_index_count(index), found = count;
	char id[BH_DIGEST_MAX] = "";

	if (length < ID_PREFIX_MIN || length > BH_DIGEST_HEX_LENGTH || strspn(hex, "0123456789abcdef") != length)
		return -ENOENT;
	for (size_t i = 0; i < count; i++) {
		struct bh_descriptor descriptor;
		struct bh_manifest manifest;

		if (bh_image_manifest_read(store, bh_image_index_entry(index, i), &descriptor, &manifest, NULL) < 0)
			continue;
		if (!bh_has_prefix(bh_digest_hex(manifest.config.digest), hex) && !bh_has_prefix(bh_digest_hex(descriptor.digest), hex))
			continue;
		if (found < count && !bh_streq(id, manifest.config.digest))
			return bh_error_text(err, EINVAL, "ambiguous image id prefix: %s", text);
		if (found == count)
			found = i;
		memcpy(id, manifest.config.digest, sizeof id);
	}
	if (found == count)
		return -ENOENT;
	*ret_place = found;
	return 0;
}

int bh_image_index_find(struct bh_image_store *store, struct json_object *index, const char *reference, size_t *ret_place, struct bh_error *err)
{
	int r = find_by_reference(index, reference, ret_place);

	if (r == -ENOENT)
		r = find_by_id(store, index, reference, ret_place, err);
	if (r == -ENOENT)
		return bh_error_text(err, ENOENT, "No such image: %s", reference);
	return r;
}
