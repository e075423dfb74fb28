/* SPDX-License-Identifier: Apache-2.0 */
/* history: how an image was made, newest step first. */
#include "cli/image.h"

#include "base/time.h"
#include "cli/template.h"
#include "oci/image-json.h"

#include <errno.h>
#include <json-c/json.h>

#define CREATED_BY_WIDTH 45

struct history_options {
	const char *format;
	bool quiet, no_trunc;
	int human;
};

static const struct bh_option options[] = {
	{ 0, "format", BH_OPTION_STRING, offsetof(struct history_options, format), "FORMAT", "table, json, or a Go template", NULL, false },
	{ 'H', "human", BH_OPTION_TRISTATE, offsetof(struct history_options, human), NULL, "Sizes and times for people (default true)", NULL, false },
	{ 0, "no-trunc", BH_OPTION_BOOL, offsetof(struct history_options, no_trunc), NULL, "Don't shorten", NULL, false },
	{ 'q', "quiet", BH_OPTION_BOOL, offsetof(struct history_options, quiet), NULL, "Show ids only", NULL, false },
	{ 0 },
};

static const char *const headings[][2] = {
	{ "ID", "IMAGE" },
	{ "CreatedSince", "CREATED" },
	{ "CreatedAt", "CREATED AT" },
	{ "CreatedBy", "CREATED BY" },
	{ "Size", "SIZE" },
	{ "Comment", "COMMENT" },
	{ NULL, NULL },
};

static void preset(void *arg)
{
	((struct history_options *)arg)->human = -1;
}

/* The step's command on one line, cut to the column's width. */
static char *shorten(const char *text, bool cut)
{
	struct bh_buf b = { 0 };

	for (const char *p = text; *p; p++)
		bh_buf_addc(&b, *p == '\t' || *p == '\n' ? ' ' : *p);
	if (cut && b.length > CREATED_BY_WIDTH) {
		size_t end = CREATED_BY_WIDTH - 1;

		while (end && (b.data[end] & 0xc0) == 0x80)
			end--;
		b.length = end;
		b.data[end] = '\0';
		bh_buf_adds(&b, "…");
	}
	return bh_buf_take(&b);
}

static struct json_object *make_row(const struct history_options *o, const char *id, struct json_object *step, int64_t size)
{
	const char *created = bh_image_json_string(step, "created"), *by = bh_image_json_string(step, "created_by");
	const char *comment = bh_image_json_string(step, "comment");
	struct json_object *row = json_object_new_object();
	bh_auto_free char *command = shorten(by ? by : "", !o->no_trunc), *at = NULL, *since = NULL, *exact = bh_printf("%lld", (long long)size);
	int64_t created_ns = 0;
	char text[BH_TIME_TEXT_MAX];

	if (created && bh_parse_time(created, &created_ns) < 0)
		created_ns = 0;
	since = bh_cli_since(created_ns);
	at = bh_strdup(bh_format_time(created_ns, text));
	bh_image_json_add(row, "Comment", comment ? comment : "");
	bh_image_json_add(row, "CreatedAt", at);
	bh_image_json_add(row, "CreatedBy", command);
	bh_image_json_add(row, "CreatedSince", since);
	bh_image_json_add(row, "ID", id);
	bh_image_json_add(row, "Size", o->human ? bh_format_bytes_decimal((uint64_t)size, text) : exact);
	return row;
}

static int64_t layer_size(struct bh_image_store *store, const struct bh_image *image, const struct bh_manifest *manifest, size_t layer)
{
	struct bh_layer_meta meta;

	if (layer >= manifest->layer_count)
		return 0;
	if (bh_image_layer_meta(store, image->diff_ids.items[layer], &meta, NULL) == 0)
		return meta.bytes;
	return BH_MAX(bh_image_blob_size(store, manifest->layers[layer].digest), 0);
}

/* Steps in order, lowest first, turned around at the end. An image without history gets a step per layer. */
static struct json_object *make_rows(const struct history_options *o, struct bh_image_store *store, const struct bh_image *image,
				     const struct bh_manifest *manifest, struct json_object *document)
{
	struct json_object *history = bh_image_json_array(document, "history"), *rows = json_object_new_array();
	size_t steps = history ? json_object_array_length(history) : 0, layer = 0, count;
	bh_auto_json struct json_object *ordered = json_object_new_array();
	bh_auto_free char *id = o->no_trunc ? bh_strdup(image->id) : bh_strndup(bh_digest_hex(image->id), 12);

	for (size_t i = 0; i < steps || layer < manifest->layer_count; i++) {
		struct json_object *step = i < steps ? json_object_array_get_idx(history, i) : NULL, *empty = NULL;
		bool is_empty = step && json_object_is_type(step, json_type_object) && json_object_object_get_ex(step, "empty_layer", &empty) &&
				json_object_get_boolean(empty);
		int64_t size = is_empty ? 0 : layer_size(store, image, manifest, layer);

		layer += !is_empty;
		json_object_array_add(ordered, make_row(o, "<missing>", step, size));
	}
	count = json_object_array_length(ordered);
	if (count)
		bh_image_json_add(json_object_array_get_idx(ordered, count - 1), "ID", id);
	while (count)
		json_object_array_add(rows, json_object_get(json_object_array_get_idx(ordered, --count)));
	return rows;
}

static int history(const struct history_options *o, const char *reference, struct bh_error *err)
{
	struct bh_template_list list = { .format = o->quiet && !o->format ? "{{.ID}}" : o->format, .headings = headings };
	bh_auto(bh_image_store_close) struct bh_image_store store = BH_IMAGE_STORE_INIT;
	bh_auto_json struct json_object *index = NULL, *document = NULL, *rows = NULL;
	bh_auto(bh_image_clear) struct bh_image image = { 0 };
	bh_auto_buf struct bh_buf config = { 0 }, out = { 0 };
	struct bh_manifest manifest = { .layer_count = 0 };
	size_t place;
	int r = bh_image_store_open(bh_cli.root, &store, err);

	list.table = o->human ? "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}" :
				"{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
	if (r == 0)
		r = bh_image_index_load(&store, &index, err);
	if (r == 0)
		r = bh_image_index_find(&store, index, reference, &place, err);
	if (r == 0)
		r = bh_image_entry_read(&store, bh_image_index_entry(index, place), &image, &manifest, err);
	if (r == 0)
		r = bh_image_blob_read(&store, image.id, &config, err);
	if (r == 0)
		r = bh_image_json_parse(config.data, config.length, "image configuration", &document, err);
	if (r < 0)
		return r;
	rows = make_rows(o, &store, &image, &manifest, document);
	r = bh_template_render_list(&list, rows, &out, err);
	if (r == 0 && out.length)
		fwrite(out.data, 1, out.length, stdout);
	return r;
}

static int run(void *arg, int argc, char **argv)
{
	struct bh_error err = BH_ERROR_INIT;

	(void)argc;
	return history(arg, argv[0], &err) < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
}

const struct bh_command bh_command_history = {
	.name = "history",
	.alias = "image.history",
	.group = "Images",
	.synopsis = "[OPTIONS] IMAGE",
	.summary = "Show how an image was made",
	.sets = { options },
	.options_size = sizeof(struct history_options),
	.min_arguments = 1,
	.max_arguments = 1,
	.preset = preset,
	.run = run,
};
