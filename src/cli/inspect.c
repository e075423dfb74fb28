/* SPDX-License-Identifier: Apache-2.0 */
/* inspect: containers and images by name or id, as Docker's JSON. */
#include "cli/cli.h"
#include "cli/containers.h"
#include "cli/image.h"
#include "cli/template.h"

#include <errno.h>
#include <stdio.h>

struct inspect_options {
	const char *format, *type;
	bool size;
};

static const struct bh_option options[] = {
	{ 'f', "format", BH_OPTION_STRING, offsetof(struct inspect_options, format), "FORMAT", "json, or a Go template", NULL, false },
	{ 's', "size", BH_OPTION_BOOL, offsetof(struct inspect_options, size), NULL, "Show total file sizes of containers", NULL, false },
	{ 0, "type", BH_OPTION_STRING, offsetof(struct inspect_options, type), "TYPE", "container or image", "container|image", false },
	{ 0 },
};

static json_object *inspect_one(struct bh_engine *engine, const struct inspect_options *o, const char *name, struct bh_error *err)
{
	struct bh_container container;
	json_object *object = NULL;

	if (!bh_streq(o->type, "image") && bh_engine_find(engine, name, &container, err) == 0) {
		object = bh_engine_inspect(engine, &container, o->size);
		bh_container_clear(&container);
		return object;
	}
	if (!bh_streq(o->type, "container")) {
		bh_auto(bh_image_store_close) struct bh_image_store store = BH_IMAGE_STORE_INIT;

		if (bh_image_store_open(bh_cli.root, &store, err) == 0 && bh_cli_image_inspect(&store, name, &object, err) == 0)
			return object;
	}
	if (!object && !o->type)
		bh_error_text(err, ENOENT, "No such object: %s", name);
	return object;
}

static int print_object(const char *format, json_object *object, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	int r = bh_template_render(format, object, &text, err);

	if (r == 0)
		printf("%s\n", text.data ? text.data : "");
	return r;
}

static int run(void *arg, int argc, char **argv)
{
	const struct inspect_options *o = arg;
	struct bh_error err = BH_ERROR_INIT;
	json_object *all = json_object_new_array();
	struct bh_engine engine;
	int status = 0;

	if (bh_engine_open(bh_cli.root, bh_cli.state, &engine, &err) < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	for (int i = 0; i < argc; i++) {
		json_object *object = inspect_one(&engine, o, argv[i], &err);

		if (!object || (o->format && !bh_streq(o->format, "json") && print_object(o->format, object, &err) < 0))
			status = bh_cli_fail(&err, BH_EXIT_FAILURE);
		if (object)
			json_object_array_add(all, object);
	}
	if (!o->format || bh_streq(o->format, "json"))
		printf("%s\n",
		       json_object_to_json_string_ext(all, (o->format ? JSON_C_TO_STRING_PLAIN : JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED) |
								   JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(all);
	bh_engine_close(&engine);
	return status;
}

const struct bh_command bh_command_inspect = {
	.name = "inspect",
	.group = "Containers",
	.synopsis = "[OPTIONS] NAME|ID [NAME|ID...]",
	.summary = "Show all there is to know about containers and images",
	.sets = { options },
	.options_size = sizeof(struct inspect_options),
	.min_arguments = 1,
	.max_arguments = -1,
	.run = run,
};
