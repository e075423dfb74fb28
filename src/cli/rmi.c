/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rmi: takes names from images, and removes the images that have none left.
 *
 * Given by name, only that name goes; the image goes with its last one. Given by id, all its names go; that needs -f if
 * there are several. An image that a container was made from stays, unless -f: then only what the container doesn't
 * need is deleted.
 */
#include "cli/image.h"

#include "oci/image-json.h"

#include <errno.h>
#include <json-c/json.h>

struct rmi_options {
	bool force, no_prune;
};

static const struct bh_option options[] = {
	{ 'f', "force", BH_OPTION_BOOL, offsetof(struct rmi_options, force), NULL, "Also if the image has several names or containers use it", NULL,
	  false },
	{ 0, "no-prune", BH_OPTION_BOOL, offsetof(struct rmi_options, no_prune), NULL, "Accepted for compatibility", NULL, true },
	{ 0 },
};

struct removal {
	const struct rmi_options *options;
	struct bh_image_store store;
	struct json_object *index;
	struct bh_buf out;
};

/* Does the entry lead to the image with this id? */
static bool is_image(struct removal *r, struct json_object *entry, const char *id)
{
	struct bh_descriptor descriptor;
	struct bh_manifest manifest;

	return bh_image_manifest_read(&r->store, entry, &descriptor, &manifest, NULL) == 0 && bh_streq(manifest.config.digest, id);
}

static size_t count_entries(struct removal *r, const char *id)
{
	size_t count = 0;

	for (size_t i = 0; i < bh_image_index_count(r->index); i++)
		count += is_image(r, bh_image_index_entry(r->index, i), id);
	return count;
}

static void drop_entry(struct removal *r, size_t place)
{
	bh_auto_free char *name = bh_image_entry_name(bh_image_index_entry(r->index, place));

	if (name)
		bh_buf_addf(&r->out, "Untagged: %s\n", name);
	json_object_array_del_idx(bh_image_json_array(r->index, "manifests"), place, 1);
}

static int check_unused(struct removal *r, const char *reference, const char *id, struct bh_error *err)
{
	bh_auto_strv struct bh_strv users = { 0 };
	int result = bh_image_users(&r->store, id, &users, err);

	if (result < 0 || !users.count || r->options->force)
		return result;
	return bh_error_text(err, EBUSY,
			     "conflict: unable to remove repository reference \"%s\" (must force) - container %s is using its referenced image %.12s",
			     reference, users.items[0], bh_digest_hex(id));
}

/* An entry whose manifest can't be read has no id: it goes by itself. */
static int remove_broken(struct removal *r, size_t place, const char *reference, struct bh_error *err)
{
	if (!r->options->force)
		return bh_error_prefix(err, "%s (its name can be removed with -f)", reference);
	drop_entry(r, place);
	return 0;
}

static int remove_reference(struct removal *r, const char *reference, struct bh_error *err)
{
	bh_auto_reference struct bh_reference parsed = { 0 };
	bh_auto_free char *name = NULL, *own = NULL;
	struct bh_descriptor descriptor;
	struct bh_manifest manifest;
	size_t place, entries;
	bool by_name;
	int result = bh_image_index_find(&r->store, r->index, reference, &place, err);

	if (result < 0)
		return result;
	result = bh_image_manifest_read(&r->store, bh_image_index_entry(r->index, place), &descriptor, &manifest, err);
	if (result < 0)
		return remove_broken(r, place, reference, err);
	own = bh_image_entry_name(bh_image_index_entry(r->index, place));
	if (bh_reference_parse(reference, &parsed, NULL) == 0)
		name = bh_reference_familiar(&parsed);
	by_name = name && (bh_streq(name, own) || parsed.digest);
	entries = count_entries(r, manifest.config.digest);
	if (!by_name && entries > 1 && !r->options->force)
		return bh_error_text(err, EBUSY, "conflict: unable to delete %.12s (must be forced) - image is referenced in multiple repositories",
				     bh_digest_hex(manifest.config.digest));
	if (!by_name || entries == 1) {
		result = check_unused(r, reference, manifest.config.digest, err);
		if (result < 0)
			return result;
	}
	if (by_name) {
		drop_entry(r, place);
	} else {
		for (size_t i = bh_image_index_count(r->index); i-- > 0;)
			if (is_image(r, bh_image_index_entry(r->index, i), manifest.config.digest))
				drop_entry(r, i);
	}
	if (!by_name || entries == 1)
		bh_buf_addf(&r->out, "Deleted: %s\n", manifest.config.digest);
	return 0;
}

static int finish(struct removal *r, struct bh_error *err)
{
	bh_auto_strv struct bh_strv deleted = { 0 };
	int result = bh_image_index_save(&r->store, r->index, err);

	if (result < 0)
		return result;
	fwrite(r->out.data, 1, r->out.length, stdout);
	return bh_image_collect(&r->store, r->index, &deleted, err);
}

static int run(void *arg, int argc, char **argv)
{
	struct removal r = { .options = arg, .store = BH_IMAGE_STORE_INIT };
	struct bh_error err = BH_ERROR_INIT;
	bh_auto_close int lock = -1;
	int result = bh_image_store_open(bh_cli.root, &r.store, &err), status = 0;

	if (result == 0)
		result = lock = bh_image_store_lock(&r.store, &err);
	if (result >= 0)
		result = bh_image_index_load(&r.store, &r.index, &err);
	if (result < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	bh_staging_sweep(&r.store);
	for (int i = 0; i < argc; i++) {
		bh_error_clear(&err);
		/* With -f, what is not there is as good as removed. */
		result = remove_reference(&r, argv[i], &err);
		if (result < 0 && !(result == -ENOENT && r.options->force))
			status = bh_cli_fail(&err, BH_EXIT_FAILURE);
	}
	if (r.out.length && finish(&r, &err) < 0)
		status = bh_cli_fail(&err, BH_EXIT_FAILURE);
	json_object_put(r.index);
	bh_buf_clear(&r.out);
	bh_image_store_close(&r.store);
	return status;
}

const struct bh_command bh_command_rmi = {
	.name = "rmi",
	.alias = "image.rm image.remove",
	.group = "Images",
	.synopsis = "[OPTIONS] IMAGE [IMAGE...]",
	.summary = "Remove images",
	.sets = { options },
	.options_size = sizeof(struct rmi_options),
	.min_arguments = 1,
	.max_arguments = -1,
	.run = run,
};
