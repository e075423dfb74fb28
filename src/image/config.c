/* SPDX-License-Identifier: Apache-2.0 */
/* The image configuration (image-spec config.md), with Docker's additions (Healthcheck). Hostile input. */
#include "image/store.h"

#include "base/time.h"
#include "oci/image-json.h"

#include <errno.h>
#include <json-c/json.h>

/* Members that are copied as they are: path in the document, place in the structure. */
static const struct {
	const char *path;
	size_t offset;
} text_members[] = {
	{ "architecture", offsetof(struct bh_image, architecture) },
	{ "os", offsetof(struct bh_image, os) },
	{ "author", offsetof(struct bh_image, author) },
	{ "config.User", offsetof(struct bh_image, user) },
	{ "config.WorkingDir", offsetof(struct bh_image, working_dir) },
	{ "config.StopSignal", offsetof(struct bh_image, stop_signal) },
}, list_members[] = {
	{ "config.Env", offsetof(struct bh_image, env) },
	{ "config.Entrypoint", offsetof(struct bh_image, entrypoint) },
	{ "config.Cmd", offsetof(struct bh_image, cmd) },
	{ "rootfs.diff_ids", offsetof(struct bh_image, diff_ids) },
}, set_members[] = { /* objects whose keys are the members of a set */
	{ "config.Volumes", offsetof(struct bh_image, volumes) },
	{ "config.ExposedPorts", offsetof(struct bh_image, exposed_ports) },
};

static void parse_healthcheck(struct json_object *object, struct bh_image *image)
{
	struct json_object *test = bh_image_json_array(object, "Test");

	if (!test || json_object_array_length(test) == 0 || bh_image_json_strings(test, &image->healthcheck.test) < 0)
		return;
	image->healthcheck.set = true;
	image->healthcheck.interval_ns = bh_image_json_int(object, "Interval", 0);
	image->healthcheck.timeout_ns = bh_image_json_int(object, "Timeout", 0);
	image->healthcheck.start_period_ns = bh_image_json_int(object, "StartPeriod", 0);
	image->healthcheck.retries = bh_image_json_int(object, "Retries", 0);
}

static int parse_members(struct json_object *document, struct bh_image *image, struct bh_error *err)
{
	char *base = (char *)image;

	for (size_t i = 0; i < BH_ARRAY_SIZE(text_members); i++)
		*(char **)(void *)(base + text_members[i].offset) = bh_strdup(bh_image_json_string(document, text_members[i].path));
	for (size_t i = 0; i < BH_ARRAY_SIZE(list_members); i++)
		if (bh_image_json_strings(bh_image_json_array(document, list_members[i].path), (void *)(base + list_members[i].offset)) < 0)
			return bh_error_text(err, EINVAL, "image configuration: %s: expected strings", list_members[i].path);
	for (size_t i = 0; i < BH_ARRAY_SIZE(set_members); i++) {
		struct json_object *set = bh_image_json_object(document, set_members[i].path);

		if (!set)
			continue;
		json_object_object_foreach(set, key, value)
		{
			(void)value;
			bh_strv_add((void *)(base + set_members[i].offset), key);
		}
	}
	return 0;
}

static int parse(struct json_object *document, struct bh_image *image, struct bh_error *err)
{
	struct json_object *labels = bh_image_json_object(document, "config.Labels");
	const char *created = bh_image_json_string(document, "created");
	int r = parse_members(document, image, err);

	if (r < 0)
		return r;
	image->has_entrypoint = bh_image_json_array(document, "config.Entrypoint");
	image->has_cmd = bh_image_json_array(document, "config.Cmd");
	if (labels) {
		json_object_object_foreach(labels, key, value)
		{
			if (json_object_is_type(value, json_type_string))
				bh_strv_addf(&image->labels, "%s=%s", key, json_object_get_string(value));
		}
	}
	if (created && bh_parse_time(created, &image->created_ns) < 0)
		return bh_error_text(err, EINVAL, "image configuration: created: '%.60s' is not a time", created);
	parse_healthcheck(bh_image_json_object(document, "config.Healthcheck"), image);
	if (!bh_image_json_array(document, "rootfs.diff_ids"))
		return bh_error_text(err, EINVAL, "image configuration: rootfs.diff_ids: expected an array");
	for (size_t i = 0; i < image->diff_ids.count; i++)
		if (!bh_digest_is_valid(image->diff_ids.items[i]))
			return bh_error_text(err, EINVAL, "image configuration: rootfs.diff_ids[%zu]: '%.100s' is not a sha256 digest", i,
					     image->diff_ids.items[i]);
	return 0;
}

int bh_image_config_parse(const char *json, size_t length, struct bh_image *ret_image, struct bh_error *err)
{
	bh_auto_json struct json_object *document = NULL;
	struct bh_image image = { .size_bytes = -1 };
	int r = bh_image_json_parse(json, length, "image configuration", &document, err);

	if (r == 0)
		r = parse(document, &image, err);
	if (r < 0) {
		bh_image_clear(&image);
		return r;
	}
	*ret_image = image;
	return 0;
}

void bh_image_clear(struct bh_image *image)
{
	free(image->name);
	for (size_t i = 0; i < BH_ARRAY_SIZE(text_members); i++)
		free(*(char **)(void *)((char *)image + text_members[i].offset));
	for (size_t i = 0; i < BH_ARRAY_SIZE(list_members); i++)
		bh_strv_clear((void *)((char *)image + list_members[i].offset));
	for (size_t i = 0; i < BH_ARRAY_SIZE(set_members); i++)
		bh_strv_clear((void *)((char *)image + set_members[i].offset));
	bh_strv_clear(&image->labels);
	bh_strv_clear(&image->healthcheck.test);
	bh_strv_clear(&image->layer_paths);
	*image = (struct bh_image){ 0 };
}
