/* SPDX-License-Identifier: Apache-2.0 */
/* image inspect: what is known of an image, in Docker's form. */
#include "cli/image.h"

#include "base/time.h"
#include "cli/template.h"
#include "oci/image-json.h"

#include <errno.h>
#include <json-c/json.h>

struct inspect_options {
	const char *format;
};

static const struct bh_option options[] = {
	{ 'f', "format", BH_OPTION_STRING, offsetof(struct inspect_options, format), "FORMAT", "json, or a Go template", NULL, false },
	{ 0 },
};

/* All names that lead to this image, and "repository@digest" for each repository. */
static void add_names(struct bh_image_store *store, struct json_object *index, const struct bh_image *image, struct json_object *object)
{
	struct json_object *tags = json_object_new_array(), *digests = json_object_new_array();
	bh_auto_strv struct bh_strv seen = { 0 };

	for (size_t i = 0; i < bh_image_index_count(index); i++) {
		struct json_object *entry = bh_image_index_entry(index, i);
		bh_auto_reference struct bh_reference reference = { 0 };
		bh_auto_free char *name = bh_image_entry_name(entry), *repository = NULL;
		struct bh_descriptor descriptor;
		struct bh_manifest manifest;

		if (!name || bh_image_manifest_read(store, entry, &descriptor, &manifest, NULL) < 0 || !bh_streq(manifest.config.digest, image->id) ||
		    bh_reference_parse(name, &reference, NULL) < 0)
			continue;
		json_object_array_add(tags, json_object_new_string(name));
		repository = bh_reference_familiar_name(&reference);
		bh_strv_addf(&seen, "%s@%s", repository, descriptor.digest);
	}
	for (size_t i = 0; i < seen.count; i++) {
		bool again = false;

		for (size_t j = 0; j < i; j++)
			again = again || bh_streq(seen.items[i], seen.items[j]);
		if (!again)
			json_object_array_add(digests, json_object_new_string(seen.items[i]));
	}
	json_object_object_add(object, "RepoTags", tags);
	json_object_object_add(object, "RepoDigests", digests);
}

static const char *last_comment(struct json_object *document)
{
	struct json_object *history = bh_image_json_array(document, "history");
	size_t count = history ? json_object_array_length(history) : 0;
	const char *comment = count ? bh_image_json_string(json_object_array_get_idx(history, count - 1), "comment") : NULL;

	return comment ? comment : "";
}

static struct json_object *make_driver(struct bh_image *image)
{
	struct json_object *driver = json_object_new_object(), *data = json_object_new_object();
	struct bh_strv lower = { 0 };
	bh_auto_free char *text = NULL;

	for (size_t i = image->layer_paths.count; i-- > 1;)
		bh_strv_add(&lower, image->layer_paths.items[i - 1]);
	text = bh_strv_join(&lower, ":");
	if (lower.count)
		bh_image_json_add(data, "LowerDir", text);
	if (image->layer_paths.count)
		bh_image_json_add(data, "UpperDir", image->layer_paths.items[image->layer_paths.count - 1]);
	bh_strv_clear(&lower);
	json_object_object_add(driver, "Data", data);
	bh_image_json_add(driver, "Name", "overlay");
	return driver;
}

static struct json_object *make_rootfs(const struct bh_image *image)
{
	struct json_object *rootfs = json_object_new_object(), *layers = json_object_new_array();

	for (size_t i = 0; i < image->diff_ids.count; i++)
		json_object_array_add(layers, json_object_new_string(image->diff_ids.items[i]));
	bh_image_json_add(rootfs, "Type", "layers");
	json_object_object_add(rootfs, "Layers", layers);
	return rootfs;
}

static struct json_object *make_object(struct bh_image_store *store, struct json_object *index, struct bh_image *image,
				       const struct bh_manifest *manifest, struct json_object *document)
{
	struct json_object *object = json_object_new_object(), *config = bh_image_json_object(document, "config");
	int64_t size = bh_cli_image_size(store, image, manifest);
	char created[BH_TIME_TEXT_MAX];

	bh_image_layer_paths(store, image);
	bh_image_json_add(object, "Id", image->id);
	add_names(store, index, image, object);
	bh_image_json_add(object, "Parent", "");
	bh_image_json_add(object, "Comment", last_comment(document));
	bh_image_json_add(object, "Created", bh_format_time(image->created_ns, created));
	bh_image_json_add(object, "Author", image->author ? image->author : "");
	json_object_object_add(object, "Config", config ? json_object_get(config) : json_object_new_object());
	bh_image_json_add(object, "Architecture", image->architecture ? image->architecture : "");
	bh_image_json_add(object, "Variant", bh_image_json_string(document, "variant"));
	bh_image_json_add(object, "Os", image->os ? image->os : "");
	json_object_object_add(object, "Size", json_object_new_int64(size));
	json_object_object_add(object, "VirtualSize", json_object_new_int64(size));
	json_object_object_add(object, "GraphDriver", make_driver(image));
	json_object_object_add(object, "RootFS", make_rootfs(image));
	bh_image_json_add(object, "ManifestDigest", image->manifest);
	return object;
}

int bh_cli_image_inspect(struct bh_image_store *store, const char *reference, struct json_object **ret_object, struct bh_error *err)
{
	bh_auto_json struct json_object *index = NULL, *document = NULL;
	bh_auto(bh_image_clear) struct bh_image image = { 0 };
	bh_auto_buf struct bh_buf config = { 0 };
	struct bh_manifest manifest;
	size_t place;
	int r = bh_image_index_load(store, &index, err);

	if (r == 0)
		r = bh_image_index_find(store, index, reference, &place, err);
	if (r == 0)
		r = bh_image_entry_read(store, bh_image_index_entry(index, place), &image, &manifest, err);
	if (r == 0)
		r = bh_image_blob_read(store, image.id, &config, err);
	if (r == 0)
		r = bh_image_json_parse(config.data, config.length, "image configuration", &document, err);
	if (r == 0)
		*ret_object = make_object(store, index, &image, &manifest, document);
	return r;
}

static int print(const struct inspect_options *o, struct json_object *found, struct bh_error *err)
{
	bool as_json = o->format && bh_streq(o->format, "json");

	if (!o->format || as_json) {
		puts(json_object_to_json_string_ext(
			found, JSON_C_TO_STRING_NOSLASHESCAPE | (as_json ? JSON_C_TO_STRING_PLAIN : JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED)));
		return 0;
	}
	for (size_t i = 0; i < json_object_array_length(found); i++) {
		bh_auto_buf struct bh_buf out = { 0 };
		int r = bh_template_render(o->format, json_object_array_get_idx(found, i), &out, err);

		if (r < 0)
			return r;
		bh_buf_addc(&out, '\n');
		fwrite(out.data, 1, out.length, stdout);
	}
	return 0;
}

static int run(void *arg, int argc, char **argv)
{
	bh_auto(bh_image_store_close) struct bh_image_store store = BH_IMAGE_STORE_INIT;
	bh_auto_json struct json_object *found = json_object_new_array();
	struct bh_error err = BH_ERROR_INIT;
	int status = 0;

	if (bh_image_store_open(bh_cli.root, &store, &err) < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	for (int i = 0; i < argc; i++) {
		struct json_object *object = NULL;

		if (bh_cli_image_inspect(&store, argv[i], &object, &err) < 0)
			status = bh_cli_fail(&err, BH_EXIT_FAILURE);
		else
			json_object_array_add(found, object);
	}
	if (print(arg, found, &err) < 0)
		status = bh_cli_fail(&err, BH_EXIT_FAILURE);
	return status;
}

const struct bh_command bh_command_image_inspect = {
	.name = "image inspect",
	.group = "Images",
	.synopsis = "[OPTIONS] IMAGE [IMAGE...]",
	.summary = "Show what is known of images, as JSON",
	.sets = { options },
	.options_size = sizeof(struct inspect_options),
	.min_arguments = 1,
	.max_arguments = -1,
	.run = run,
};
