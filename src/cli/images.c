/* SPDX-License-Identifier: Apache-2.0 */
/* images: the list of images, one row per name. */
#include "cli/image.h"

#include "cli/template.h"
#include "oci/image-json.h"

#include <errno.h>
#include <fnmatch.h>
#include <json-c/json.h>

struct images_options {
	struct bh_strv filters;
	const char *format;
	bool all, quiet, no_trunc, digests;
};

static const struct bh_option options[] = {
	{ 'a', "all", BH_OPTION_BOOL, offsetof(struct images_options, all), NULL, "Accepted for compatibility: there are no intermediate images",
	  NULL, false },
	{ 'f', "filter", BH_OPTION_LIST, offsetof(struct images_options, filters), "FILTER",
	  "reference=PATTERN, dangling=BOOL, label=KEY[=VALUE], before=IMAGE, since=IMAGE", NULL, false },
	{ 0, "format", BH_OPTION_STRING, offsetof(struct images_options, format), "FORMAT", "table, json, or a Go template", NULL, false },
	{ 0, "digests", BH_OPTION_BOOL, offsetof(struct images_options, digests), NULL, "Show digests", NULL, false },
	{ 0, "no-trunc", BH_OPTION_BOOL, offsetof(struct images_options, no_trunc), NULL, "Don't shorten ids", NULL, false },
	{ 'q', "quiet", BH_OPTION_BOOL, offsetof(struct images_options, quiet), NULL, "Show ids only", NULL, false },
	{ 0 },
};

static const char *const headings[][2] = {
	{ "Repository", "REPOSITORY" }, { "Tag", "TAG" },   { "Digest", "DIGEST" }, { "ID", "IMAGE ID" }, { "CreatedSince", "CREATED" },
	{ "CreatedAt", "CREATED AT" },  { "Size", "SIZE" }, { NULL, NULL },
};

struct row {
	int64_t created_ns;
	char *name;
	struct json_object *object;
};

struct listing {
	const struct images_options *options;
	struct bh_image_store store;
	const char *pattern;         /* the argument, or NULL */
	int64_t before_ns, since_ns; /* of the filters; 0 = none */
	struct row *rows;
	size_t count, capacity;
};

static bool match_reference(const char *pattern, const char *name)
{
	bh_auto_free char *repository = name ? bh_strndup(name, (size_t)(strrchr(name, ':') ? strrchr(name, ':') - name : (ptrdiff_t)strlen(name))) :
					       NULL;

	return name && (fnmatch(pattern, name, 0) == 0 || fnmatch(pattern, repository, 0) == 0);
}

static bool match_label(const struct bh_image *image, const char *label)
{
	size_t length = strlen(label);
	bool has_value = strchr(label, '=');

	for (size_t i = 0; i < image->labels.count; i++) {
		const char *own = image->labels.items[i];

		if (strncmp(own, label, length) == 0 && (has_value ? !own[length] : own[length] == '='))
			return true;
	}
	return false;
}

static bool is_listed(const struct listing *l, const struct bh_image *image)
{
	const struct bh_strv *filters = &l->options->filters;

	if (l->pattern) {
		bh_auto_reference struct bh_reference reference = { 0 };
		bh_auto_free char *name = NULL;

		if (!match_reference(l->pattern, image->name) &&
		    (bh_reference_parse(l->pattern, &reference, NULL) < 0 ||
		     !(name = strrchr(l->pattern, ':') ? bh_reference_familiar(&reference) : bh_reference_familiar_name(&reference)) ||
		     !match_reference(name, image->name)))
			return false;
	}
	if ((l->before_ns && image->created_ns >= l->before_ns) || (l->since_ns && image->created_ns <= l->since_ns))
		return false;
	for (size_t i = 0; i < filters->count; i++) {
		const char *f = filters->items[i];

		if (bh_has_prefix(f, "reference=") && !match_reference(f + strlen("reference="), image->name))
			return false;
		if (bh_has_prefix(f, "label=") && !match_label(image, f + strlen("label=")))
			return false;
		if (bh_has_prefix(f, "dangling=")) {
			bool wanted = false;

			if (bh_parse_bool(f + strlen("dangling="), &wanted) < 0 || wanted == (image->name != NULL))
				return false;
		}
	}
	return true;
}

/* Checks the filters' words once, and looks up the images that before= and since= name. */
static int check_filters(struct listing *l, struct json_object *index, struct bh_error *err)
{
	const struct bh_strv *filters = &l->options->filters;

	for (size_t i = 0; i < filters->count; i++) {
		const char *f = filters->items[i], *value = strchr(f, '=');
		int64_t *time = bh_has_prefix(f, "before=") ? &l->before_ns : bh_has_prefix(f, "since=") ? &l->since_ns : NULL;
		struct bh_image image = { 0 };
		struct bh_manifest manifest;
		bool flag;
		size_t place;
		int r;

		if (!value)
			return bh_error_text(err, EINVAL,
					     "invalid argument \"%s\" for \"-f, --filter\" flag: bad format of filter (expected name=value)", f);
		if (bh_has_prefix(f, "dangling=") && bh_parse_bool(value + 1, &flag) < 0)
			return bh_error_text(err, EINVAL, "invalid filter 'dangling=[%s]'", value + 1);
		if (!time && !bh_has_prefix(f, "reference=") && !bh_has_prefix(f, "label=") && !bh_has_prefix(f, "dangling="))
			return bh_error_text(err, EINVAL, "invalid filter '%.*s'", (int)(value - f), f);
		if (!time)
			continue;
		r = bh_image_index_find(&l->store, index, value + 1, &place, err);
		if (r == 0)
			r = bh_image_entry_read(&l->store, bh_image_index_entry(index, place), &image, &manifest, err);
		if (r < 0)
			return r;
		*time = image.created_ns;
		bh_image_clear(&image);
	}
	return 0;
}

static struct json_object *make_row(const struct listing *l, const struct bh_image *image, int64_t size)
{
	struct json_object *row = json_object_new_object();
	const char *colon = image->name ? strrchr(image->name, ':') : NULL;
	bh_auto_free char *repository = image->name ? bh_strndup(image->name, (size_t)(colon ? colon - image->name : (ptrdiff_t)strlen(image->name))) :
						      bh_strdup("<none>");
	bh_auto_free char *since = bh_cli_since(image->created_ns), *at = bh_cli_created_at(image->created_ns);
	bh_auto_free char *id = l->options->no_trunc ? bh_strdup(image->id) : bh_strndup(bh_digest_hex(image->id), 12);
	char size_text[32];

	bh_image_json_add(row, "Containers", "N/A");
	bh_image_json_add(row, "CreatedAt", at);
	bh_image_json_add(row, "CreatedSince", since);
	bh_image_json_add(row, "Digest", image->manifest);
	bh_image_json_add(row, "ID", id);
	bh_image_json_add(row, "Repository", repository);
	bh_image_json_add(row, "SharedSize", "N/A");
	bh_image_json_add(row, "Size", bh_format_bytes_decimal((uint64_t)size, size_text));
	bh_image_json_add(row, "Tag", colon ? colon + 1 : "<none>");
	bh_image_json_add(row, "UniqueSize", "N/A");
	bh_image_json_add(row, "VirtualSize", size_text);
	return row;
}

static void add_entry(struct listing *l, struct json_object *entry)
{
	bh_auto(bh_image_clear) struct bh_image image = { 0 };
	struct bh_error why = BH_ERROR_INIT;
	struct bh_manifest manifest;

	if (bh_image_entry_read(&l->store, entry, &image, &manifest, &why) < 0) {
		bh_auto_free char *name = bh_image_entry_name(entry);

		bh_warn("image %s: %s", name ? name : "without a name", why.message);
		return;
	}
	if (!is_listed(l, &image))
		return;
	l->rows = bh_grow(l->rows, &l->capacity, l->count + 1, sizeof *l->rows);
	l->rows[l->count++] = (struct row){
		.created_ns = image.created_ns,
		.name = bh_strdup(image.name ? image.name : ""),
		.object = make_row(l, &image, bh_cli_image_size(&l->store, &image, &manifest)),
	};
}

/* Newest first, as Docker does. */
static int compare_rows(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->created_ns != y->created_ns)
		return x->created_ns < y->created_ns ? 1 : -1;
	return strcmp(x->name, y->name);
}

static int print(struct listing *l, struct bh_error *err)
{
	const struct images_options *o = l->options;
	struct bh_template_list list = {
		.format = o->quiet && !o->format ? "{{.ID}}" : o->format,
		.table = o->digests ? "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}" :
				      "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
		.headings = headings,
	};
	bh_auto_json struct json_object *rows = json_object_new_array();
	bh_auto_buf struct bh_buf out = { 0 };
	int r;

	if (l->count)
		qsort(l->rows, l->count, sizeof *l->rows, compare_rows);
	for (size_t i = 0; i < l->count; i++)
		json_object_array_add(rows, json_object_get(l->rows[i].object));
	r = bh_template_render_list(&list, rows, &out, err);
	if (r == 0 && out.length)
		fwrite(out.data, 1, out.length, stdout);
	return r;
}

static int run(void *arg, int argc, char **argv)
{
	struct listing l = { .options = arg, .store = BH_IMAGE_STORE_INIT, .pattern = argc ? argv[0] : NULL };
	bh_auto_json struct json_object *index = NULL;
	struct bh_error err = BH_ERROR_INIT;
	int r = bh_image_store_open(bh_cli.root, &l.store, &err);

	if (r == 0)
		r = bh_image_index_load(&l.store, &index, &err);
	if (r == 0)
		r = check_filters(&l, index, &err);
	for (size_t i = 0; r == 0 && i < bh_image_index_count(index); i++)
		add_entry(&l, bh_image_index_entry(index, i));
	if (r == 0)
		r = print(&l, &err);
	for (size_t i = 0; i < l.count; i++) {
		free(l.rows[i].name);
		json_object_put(l.rows[i].object);
	}
	free(l.rows);
	bh_image_store_close(&l.store);
	return r < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
}

const struct bh_command bh_command_images = {
	.name = "images",
	.alias = "image.ls image.list",
	.group = "Images",
	.synopsis = "[OPTIONS] [REPOSITORY[:TAG]]",
	.summary = "List images",
	.sets = { options },
	.options_size = sizeof(struct images_options),
	.max_arguments = 1,
	.run = run,
};
