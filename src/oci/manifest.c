/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/manifest.h"

#include "oci/image-json.h"

#include <errno.h>
#include <json-c/json.h>

static const struct {
	const char *media_type;
	enum bh_media_kind kind;
} media_kinds[] = {
	{ BH_MEDIA_MANIFEST, BH_MEDIA_KIND_MANIFEST },
	{ "application/vnd.docker.distribution.manifest.v2+json", BH_MEDIA_KIND_MANIFEST },
	{ BH_MEDIA_INDEX, BH_MEDIA_KIND_INDEX },
	{ "application/vnd.docker.distribution.manifest.list.v2+json", BH_MEDIA_KIND_INDEX },
};

enum bh_media_kind bh_media_kind(const char *media_type)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(media_kinds); i++)
		if (bh_streq(media_kinds[i].media_type, media_type))
			return media_kinds[i].kind;
	return BH_MEDIA_KIND_OTHER;
}

int bh_descriptor_parse(struct json_object *object, const char *what, struct bh_descriptor *ret_descriptor, struct bh_error *err)
{
	struct bh_descriptor d = { .size = bh_image_json_int(object, "size", -1) };
	const char *media_type = bh_image_json_string(object, "mediaType");
	bh_auto_free char *field = bh_printf("%s.digest", what);
	int r = bh_digest_copy(bh_image_json_string(object, "digest"), field, d.digest, err);

	if (r < 0)
		return r;
	if (media_type && strlen(media_type) >= sizeof d.media_type)
		return bh_error_text(err, EINVAL, "%s.mediaType: longer than %zu bytes", what, sizeof d.media_type - 1);
	snprintf(d.media_type, sizeof d.media_type, "%s", media_type ? media_type : "");
	*ret_descriptor = d;
	return 0;
}

struct json_object *bh_descriptor_new(const char *media_type, const char *digest, int64_t size)
{
	struct json_object *object = json_object_new_object();

	bh_image_json_add(object, "mediaType", media_type);
	bh_image_json_add(object, "digest", digest);
	json_object_object_add(object, "size", json_object_new_int64(size));
	return object;
}

const char *bh_descriptor_annotation(struct json_object *descriptor, const char *name)
{
	return bh_image_json_exact(bh_image_json_object(descriptor, "annotations"), name);
}

int bh_manifest_parse(const char *json, size_t length, struct bh_manifest *ret_manifest, struct bh_error *err)
{
	bh_auto_json struct json_object *document = NULL;
	struct json_object *layers;
	int r = bh_image_json_parse(json, length, "image manifest", &document, err);

	if (r < 0)
		return r;
	r = bh_descriptor_parse(bh_image_json_object(document, "config"), "image manifest: config", &ret_manifest->config, err);
	if (r < 0)
		return r;
	layers = bh_image_json_array(document, "layers");
	if (!layers)
		return bh_error_text(err, EINVAL, "image manifest: layers: expected an array");
	ret_manifest->layer_count = json_object_array_length(layers);
	if (ret_manifest->layer_count > BH_IMAGE_LAYERS_MAX)
		return bh_error_text(err, E2BIG, "image manifest: %zu layers, more than %d", ret_manifest->layer_count, BH_IMAGE_LAYERS_MAX);
	for (size_t i = 0; i < ret_manifest->layer_count; i++) {
		char what[64];

		snprintf(what, sizeof what, "image manifest: layers[%zu]", i);
		r = bh_descriptor_parse(json_object_array_get_idx(layers, i), what, &ret_manifest->layers[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}

void bh_manifest_write(const struct bh_manifest *manifest, struct bh_buf *out)
{
	bh_auto_json struct json_object *document = json_object_new_object();
	struct json_object *layers = json_object_new_array();
	const struct bh_descriptor *c = &manifest->config;

	json_object_object_add(document, "schemaVersion", json_object_new_int(2));
	bh_image_json_add(document, "mediaType", BH_MEDIA_MANIFEST);
	json_object_object_add(document, "config", bh_descriptor_new(c->media_type, c->digest, c->size));
	for (size_t i = 0; i < manifest->layer_count; i++) {
		const struct bh_descriptor *l = &manifest->layers[i];

		json_object_array_add(layers, bh_descriptor_new(l->media_type, l->digest, l->size));
	}
	json_object_object_add(document, "layers", layers);
	bh_buf_adds(out, bh_image_json_text(document));
}

const char *bh_machine_architecture(void)
{
#if defined(__x86_64__)
	return "amd64";
#elif defined(__aarch64__)
	return "arm64";
#elif defined(__riscv) && __riscv_xlen == 64
	return "riscv64";
#elif defined(__s390x__)
	return "s390x";
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
	return "ppc64le";
#else
#error "name this architecture as Go does"
#endif
}

int bh_index_pick(struct json_object *index, const char *what, size_t *ret_place, struct bh_error *err)
{
	struct json_object *manifests = bh_image_json_array(index, "manifests");
	size_t count = manifests ? json_object_array_length(manifests) : 0, unnamed = count;

	if (!manifests)
		return bh_error_text(err, EINVAL, "%s: manifests: expected an array", what);
	for (size_t i = 0; i < count; i++) {
		struct json_object *entry = json_object_array_get_idx(manifests, i);
		const char *architecture = bh_image_json_string(entry, "platform.architecture");

		if (!bh_image_json_object(entry, "platform") && unnamed == count) {
			unnamed = i;
		} else if (bh_streq(architecture, bh_machine_architecture()) && bh_streq(bh_image_json_string(entry, "platform.os"), "linux")) {
			*ret_place = i;
			return 0;
		}
	}
	if (unnamed == count)
		return bh_error_text(err, ENOENT, "%s: no image for linux/%s in it", what, bh_machine_architecture());
	*ret_place = unnamed;
	return 0;
}
