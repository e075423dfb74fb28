/* SPDX-License-Identifier: Apache-2.0 */
/* tag: a further name for an image. */
#include "cli/image.h"

#include "oci/image-json.h"

#include <errno.h>

struct tag_options {
	bool unused;
};

static const struct bh_option options[] = { { 0 } };

static int tag(const char *source, const char *target, struct bh_error *err)
{
	bh_auto(bh_image_store_close) struct bh_image_store store = BH_IMAGE_STORE_INIT;
	bh_auto_reference struct bh_reference reference = { 0 };
	bh_auto_json struct json_object *index = NULL;
	bh_auto_free char *name = NULL;
	bh_auto_close int lock = -1;
	struct bh_descriptor descriptor;
	size_t place;
	int r = bh_reference_parse(target, &reference, err);

	if (r == 0 && reference.digest)
		r = bh_error_text(err, EINVAL, "refusing to create a tag with a digest reference");
	if (r == 0)
		r = bh_image_store_open(bh_cli.root, &store, err);
	if (r == 0)
		r = lock = bh_image_store_lock(&store, err);
	if (r >= 0)
		r = bh_image_index_load(&store, &index, err);
	if (r == 0)
		r = bh_image_index_find(&store, index, source, &place, err);
	if (r == 0)
		r = bh_descriptor_parse(bh_image_index_entry(index, place), "index.json: manifests[]", &descriptor, err);
	if (r < 0)
		return r;
	name = bh_reference_familiar(&reference);
	bh_image_index_set(index, name, &descriptor);
	return bh_image_index_save(&store, index, err);
}

static int run(void *arg, int argc, char **argv)
{
	struct bh_error err = BH_ERROR_INIT;

	(void)arg, (void)argc;
	return tag(argv[0], argv[1], &err) < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
}

const struct bh_command bh_command_tag = {
	.name = "tag",
	.alias = "image.tag",
	.group = "Images",
	.synopsis = "SOURCE[:TAG] TARGET[:TAG]",
	.summary = "Give an image a further name",
	.sets = { options },
	.options_size = sizeof(struct tag_options),
	.min_arguments = 2,
	.max_arguments = 2,
	.run = run,
};
