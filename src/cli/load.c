/* SPDX-License-Identifier: Apache-2.0 */
/* load: images from an archive or an OCI layout. */
#include "cli/image.h"

#include "oci/image-json.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>

struct load_options {
	const char *input;
	bool quiet;
};

static const struct bh_option options[] = {
	{ 'i', "input", BH_OPTION_STRING, offsetof(struct load_options, input), "FILE",
	  "Read from an archive file or the folder of an OCI layout instead of stdin", NULL, false },
	{ 'q', "quiet", BH_OPTION_BOOL, offsetof(struct load_options, quiet), NULL, "Print nothing but errors", NULL, false },
	{ 0 },
};

static int open_input(const char *path, struct bh_image_job *job, int *fd, struct bh_error *err)
{
	struct stat st;

	*fd = path && !bh_streq(path, "-") ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY) : fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	if (*fd < 0 || fstat(*fd, &st) < 0)
		return bh_error_set(err, errno, "open %s", path ? path : "stdin");
	if (isatty(*fd))
		return bh_error_text(err, EINVAL, "requested load from stdin, but stdin is a terminal; use -i FILE or a pipe");
	if (S_ISDIR(st.st_mode))
		job->source_fd = *fd;
	else
		job->input_fd = *fd;
	return 0;
}

static void print_images(struct json_object *result)
{
	struct json_object *images = bh_image_json_array(result, "images");

	for (size_t i = 0; images && i < json_object_array_length(images); i++) {
		struct json_object *image = json_object_array_get_idx(images, i), *names = bh_image_json_array(image, "names");

		for (size_t n = 0; n < json_object_array_length(names); n++)
			printf("Loaded image: %s\n", json_object_get_string(json_object_array_get_idx(names, n)));
		if (!json_object_array_length(names))
			printf("Loaded image ID: %s\n", bh_image_json_string(image, "id"));
	}
}

static int load(const struct load_options *o, struct bh_error *err)
{
	static const struct bh_strv no_names;
	bh_auto_json struct json_object *request = json_object_new_object(), *result = NULL;
	bh_auto(bh_image_store_close) struct bh_image_store store = BH_IMAGE_STORE_INIT;
	struct bh_image_job job = { "load", request, -1, -1, -1 };
	struct bh_staging staging = BH_STAGING_INIT;
	bh_auto_close int input = -1;
	int r = open_input(o->input, &job, &input, err);

	if (r < 0)
		return r;
	json_object_object_add(request, "source", json_object_new_int(job.source_fd >= 0));
	r = bh_cli_image_run(&store, &job, &staging, &no_names, &result, err);
	if (r < 0)
		return bh_error_prefix(err, "load %s", o->input ? o->input : "from stdin");
	if (!o->quiet)
		print_images(result);
	return 0;
}

static int run(void *arg, int argc, char **argv)
{
	struct bh_error err = BH_ERROR_INIT;

	(void)argc, (void)argv;
	return load(arg, &err) < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
}

const struct bh_command bh_command_load = {
	.name = "load",
	.alias = "image.load",
	.group = "Images",
	.synopsis = "[OPTIONS]",
	.summary = "Load images from an archive (docker, OCI) or an OCI layout",
	.sets = { options },
	.options_size = sizeof(struct load_options),
	.run = run,
};
