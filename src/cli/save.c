/* SPDX-License-Identifier: Apache-2.0 */
/* save: images as an archive. */
#include "cli/image.h"

#include "oci/image-json.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>

struct save_options {
	const char *output, *format;
};

static const struct bh_option options[] = {
	{ 'o', "output", BH_OPTION_STRING, offsetof(struct save_options, output), "FILE", "Write to a file instead of stdout", NULL, false },
	{ 0, "format", BH_OPTION_STRING, offsetof(struct save_options, format), "FORMAT",
	  "docker-archive (default; also an OCI layout) or oci-archive", "docker-archive|oci-archive", false },
	{ 0 },
};

/* The archive is written beside its place and renamed when it is whole. What isn't a plain file is written as it is. */
struct output {
	int fd;
	char *path, *temporary;
};

static int open_output(const char *path, struct output *output, struct bh_error *err)
{
	struct stat st;

	if (!path || bh_streq(path, "-")) {
		output->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	} else if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		output->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	} else {
		output->path = bh_strdup(path);
		output->temporary = bh_printf("%s.tmp-%d", path, (int)getpid());
		output->fd = open(output->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	}
	if (output->fd < 0)
		return bh_error_set(err, errno, "open %s", path ? path : "stdout");
	if (isatty(output->fd))
		return bh_error_text(err, EINVAL, "cowardly refusing to save to a terminal; use -o FILE or a pipe");
	return 0;
}

static int close_output(struct output *output, int r, struct bh_error *err)
{
	if (r == 0 && output->temporary && rename(output->temporary, output->path) < 0)
		r = bh_error_set(err, errno, "rename %s to %s", output->temporary, output->path);
	if (r < 0 && output->temporary)
		unlink(output->temporary);
	bh_close_fd(&output->fd);
	free(output->temporary);
	free(output->path);
	return r;
}

/* {"manifest": ..., "names": [...]}; an image asked for by its id has no names in the archive. */
static int add_image(struct bh_image_store *store, struct json_object *index, const char *reference, struct json_object *images, struct bh_error *err)
{
	struct json_object *image, *names, *entry;
	bh_auto_reference struct bh_reference parsed = { 0 };
	struct bh_descriptor descriptor;
	struct bh_manifest manifest;
	size_t place;
	int r = bh_image_index_find(store, index, reference, &place, err);

	if (r < 0)
		return r;
	entry = bh_image_index_entry(index, place);
	r = bh_image_manifest_read(store, entry, &descriptor, &manifest, err);
	if (r < 0)
		return bh_error_prefix(err, "%s", reference);
	image = json_object_new_object();
	names = json_object_new_array();
	if (bh_reference_parse(reference, &parsed, NULL) == 0 && parsed.tag) {
		bh_auto_free char *name = bh_reference_familiar(&parsed), *own = bh_image_entry_name(entry);

		if (bh_streq(name, own))
			json_object_array_add(names, json_object_new_string(name));
	}
	json_object_object_add(image, "manifest", bh_descriptor_new(descriptor.media_type, descriptor.digest, descriptor.size));
	json_object_object_add(image, "names", names);
	/* Two names of one image become one image with two names. */
	for (size_t i = 0; i < json_object_array_length(images); i++) {
		struct json_object *other = json_object_array_get_idx(images, i);

		if (!bh_streq(bh_image_json_string(other, "manifest.digest"), descriptor.digest))
			continue;
		if (json_object_array_length(names))
			json_object_array_add(bh_image_json_array(other, "names"), json_object_get(json_object_array_get_idx(names, 0)));
		json_object_put(image);
		return 0;
	}
	json_object_array_add(images, image);
	return 0;
}

static int write_images(struct bh_image_store *store, struct json_object *request, int fd, struct bh_error *err)
{
	bh_auto_json struct json_object *result = NULL;
	struct bh_image_job job = { "save", request, -1, fd, -1 };
	struct bh_staging staging = BH_STAGING_INIT;
	int r;

	bh_staging_sweep(store);
	r = bh_staging_create(store, &staging, err);
	if (r == 0)
		r = bh_image_helper_run(store, &job, &staging, &result, err);
	bh_staging_remove(store, &staging);
	return r;
}

static int save(const struct save_options *o, int argc, char **argv, struct bh_error *err)
{
	bh_auto_json struct json_object *request = json_object_new_object(), *index = NULL;
	bh_auto(bh_image_store_close) struct bh_image_store store = BH_IMAGE_STORE_INIT;
	struct json_object *images = json_object_new_array();
	struct output output = { .fd = -1 };
	int r = bh_image_store_open(bh_cli.root, &store, err);

	bh_image_json_add(request, "format", o->format ? o->format : "docker-archive");
	json_object_object_add(request, "images", images);
	if (r == 0)
		r = bh_lock_fd(store.content_fd, false, false);
	if (r == 0)
		r = bh_image_index_load(&store, &index, err);
	for (int i = 0; r == 0 && i < argc; i++)
		r = add_image(&store, index, argv[i], images, err);
	if (r < 0)
		return r;
	r = open_output(o->output, &output, err);
	if (r == 0)
		r = write_images(&store, request, output.fd, err);
	return close_output(&output, r, err);
}

static int run(void *arg, int argc, char **argv)
{
	struct bh_error err = BH_ERROR_INIT;

	return save(arg, argc, argv, &err) < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
}

const struct bh_command bh_command_save = {
	.name = "save",
	.alias = "image.save",
	.group = "Images",
	.synopsis = "[OPTIONS] IMAGE [IMAGE...]",
	.summary = "Write images to an archive",
	.sets = { options },
	.options_size = sizeof(struct save_options),
	.min_arguments = 1,
	.max_arguments = -1,
	.run = run,
};
