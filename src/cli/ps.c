/* SPDX-License-Identifier: Apache-2.0 */
/* ps: the containers. */
#include "base/table.h"
#include "base/time.h"
#include "cli/cli.h"
#include "cli/containers.h"
#include "cli/template.h"

#include <errno.h>
#include <stdio.h>

struct ps_options {
	bool all, quiet, no_trunc, latest, size;
	int64_t last;
	const char *format;
	struct bh_strv filter;
};

static const struct bh_option options[] = {
	{ 'a', "all", BH_OPTION_BOOL, offsetof(struct ps_options, all), NULL, "Show stopped containers too", NULL, false },
	{ 'f', "filter", BH_OPTION_LIST, offsetof(struct ps_options, filter), "KEY=VALUE",
	  "Show those that match: id, name, label, status, exited, ancestor, health, before, since", NULL, false },
	{ 0, "format", BH_OPTION_STRING, offsetof(struct ps_options, format), "FORMAT", "json, table or a Go template", NULL, false },
	{ 'n', "last", BH_OPTION_INT, offsetof(struct ps_options, last), "N", "Show the N last created (all states)", NULL, false },
	{ 'l', "latest", BH_OPTION_BOOL, offsetof(struct ps_options, latest), NULL, "Show the last created (all states)", NULL, false },
	{ 0, "no-trunc", BH_OPTION_BOOL, offsetof(struct ps_options, no_trunc), NULL, "Don't shorten", NULL, false },
	{ 'q', "quiet", BH_OPTION_BOOL, offsetof(struct ps_options, quiet), NULL, "Show IDs only", NULL, false },
	{ 's', "size", BH_OPTION_BOOL, offsetof(struct ps_options, size), NULL, "Show the size of the writable layer", NULL, false },
	{ 0 },
};

static void preset(void *arg)
{
	struct ps_options *o = arg;

	o->last = -1;
}

static bool has_label(struct bh_container *c, const char *filter)
{
	const char *equals = strchr(filter, '=');
	bh_auto_free char *key = bh_strndup(filter, equals ? (size_t)(equals - filter) : strlen(filter));
	json_object *labels = bh_json_at(c->record, "config.Labels"), *value = NULL;

	if (!json_object_object_get_ex(labels, key, &value))
		return false;
	return !equals || bh_streq(json_object_get_string(value), equals + 1);
}

static bool is_ancestor(struct bh_container *c, const char *value)
{
	size_t length = strlen(value);
	const char *id = strchr(c->image_id, ':') ? strchr(c->image_id, ':') + 1 : c->image_id;

	return bh_streq(c->image, value) || (strncmp(c->image, value, length) == 0 && bh_streq(c->image + length, ":latest")) ||
	       bh_streq(c->image_id, value) || (length >= 4 && bh_has_prefix(id, value));
}

/* `reference`: the container that before= or since= names, or NULL. */
static int matches(struct bh_container *c, const char *filter, const struct bh_container *reference, bool *ret_matches, struct bh_error *err)
{
	const char *equals = strchr(filter, '='), *value = equals ? equals + 1 : "";
	bh_auto_free char *key = bh_strndup(filter, equals ? (size_t)(equals - filter) : strlen(filter));

	if (!equals)
		return bh_error_text(err, EINVAL, "bad format of filter (expected name=value): '%s'", filter);
	if (bh_streq(key, "id"))
		*ret_matches = bh_has_prefix(c->id, value);
	else if (bh_streq(key, "name"))
		*ret_matches = strstr(c->name, *value == '/' ? value + 1 : value) != NULL;
	else if (bh_streq(key, "label"))
		*ret_matches = has_label(c, value);
	else if (bh_streq(key, "status"))
		*ret_matches = bh_streq(bh_status_name(c->status), value);
	else if (bh_streq(key, "exited"))
		*ret_matches = c->status == BH_STATUS_EXITED && c->exit_code == (int)strtol(value, NULL, 10);
	else if (bh_streq(key, "ancestor"))
		*ret_matches = is_ancestor(c, value);
	else if (bh_streq(key, "health"))
		*ret_matches = bh_streq(c->health ? c->health : "none", value);
	else if (bh_streq(key, "before"))
		*ret_matches = reference && c->created_ns < reference->created_ns;
	else if (bh_streq(key, "since"))
		*ret_matches = reference && c->created_ns > reference->created_ns;
	else
		return bh_error_text(err, EINVAL, "invalid filter '%s'", key);
	return 0;
}

static const struct bh_container *find_reference(const struct bh_container *list, size_t count, const char *filter)
{
	const char *value = strchr(filter, '=');

	if (!value || (!bh_has_prefix(filter, "before=") && !bh_has_prefix(filter, "since=")))
		return NULL;
	for (size_t i = 0; i < count; i++)
		if (bh_streq(list[i].name, value + 1) || bh_has_prefix(list[i].id, value + 1))
			return &list[i];
	return NULL;
}

/* Filters of one key are alternatives, those of different keys must all hold (labels must all hold): Docker's rule. */
static int is_wanted(struct bh_container *list, size_t count, struct bh_container *c, const struct bh_strv *filters, bool *ret_wanted,
		     struct bh_error *err)
{
	*ret_wanted = true;
	for (size_t i = 0; i < filters->count; i++) {
		size_t key_length = strcspn(filters->items[i], "=");
		bool any = false, first = true;

		for (size_t j = 0; j < filters->count; j++) {
			bool one = false;
			int r;

			if (strncmp(filters->items[j], filters->items[i], key_length + 1) != 0)
				continue;
			if (j < i)
				first = false;
			r = matches(c, filters->items[j], find_reference(list, count, filters->items[j]), &one, err);
			if (r < 0)
				return r;
			if (bh_has_prefix(filters->items[i], "label=") && !one) {
				*ret_wanted = false;
				return 0;
			}
			any = any || one;
		}
		if (first && !any)
			*ret_wanted = false;
	}
	return 0;
}

static void add_text(json_object *object, const char *key, const char *value)
{
	json_object_object_add(object, key, json_object_new_string(value ? value : ""));
}

static char *join_labels(struct bh_container *c)
{
	json_object *labels = bh_json_at(c->record, "config.Labels");
	struct bh_buf text = { 0 };

	if (labels) {
		json_object_object_foreach(labels, key, value)
			bh_buf_addf(&text, "%s%s=%s", text.length ? "," : "", key, json_object_get_string(value));
	}
	return bh_buf_take(&text);
}

static char *quoted_command(struct bh_container *c, bool no_trunc)
{
	const char *command = bh_json_text(c->record, "command", "");

	if (no_trunc || strlen(command) <= 20)
		return bh_printf("\"%s\"", command);
	return bh_printf("\"%.19s\xe2\x80\xa6\"", command);
}

static char *size_text(struct bh_engine *engine, struct bh_container *c)
{
	struct bh_snapshot_usage usage = { 0 };
	struct bh_snapshot snapshot;
	char text[32];

	if (bh_container_snapshot(engine, c, &snapshot, NULL) < 0)
		return bh_strdup("");
	snapshot.driver->usage(&snapshot, &usage, NULL);
	bh_snapshot_clear(&snapshot);
	return bh_strdup(bh_format_bytes_decimal(usage.bytes, text));
}

/* What the templates of `ps --format` can name. */
static json_object *row_object(struct bh_engine *engine, struct bh_container *c, const struct ps_options *o)
{
	json_object *row = json_object_new_object();
	char age[BH_TIME_TEXT_MAX], time_text[BH_TIME_TEXT_MAX];
	bh_auto_free char *id = o->no_trunc ? bh_strdup(c->id) : bh_strndup(c->id, BH_SHORT_ID_LENGTH);
	bh_auto_free char *command = quoted_command(c, o->no_trunc), *labels = join_labels(c), *status = bh_container_status_text(c);
	bh_auto_free char *running_for = bh_printf("%s ago", bh_format_age(bh_now_ns() - c->created_ns, age));
	bh_auto_free char *size = o->size ? size_text(engine, c) : NULL;

	add_text(row, "ID", id);
	add_text(row, "Image", c->image);
	add_text(row, "Command", command);
	add_text(row, "RunningFor", running_for);
	add_text(row, "CreatedAt", bh_format_time(c->created_ns, time_text));
	add_text(row, "Status", status);
	add_text(row, "State", bh_status_name(c->status));
	add_text(row, "Ports", "");
	add_text(row, "Names", c->name);
	add_text(row, "Labels", labels);
	add_text(row, "Size", size);
	add_text(row, "Networks", bh_json_text(c->record, "host_config.NetworkMode", "none"));
	add_text(row, "Mounts", "");
	add_text(row, "LocalVolumes", "0");
	return row;
}

static void print_table(struct bh_engine *engine, struct bh_container **rows, size_t count, const struct ps_options *o)
{
	static const char *const plain[] = { "CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES", NULL };
	static const char *const sized[] = { "CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES", "SIZE", NULL };
	bh_auto_buf struct bh_buf out = { 0 };
	struct bh_table table;

	bh_table_init(&table, o->size ? sized : plain);
	for (size_t i = 0; i < count; i++) {
		struct bh_container *c = rows[i];
		char age[BH_TIME_TEXT_MAX];
		bh_auto_free char *command = quoted_command(c, o->no_trunc), *status = bh_container_status_text(c);

		bh_table_addf(&table, "%.*s", o->no_trunc ? BH_ID_LENGTH : BH_SHORT_ID_LENGTH, c->id);
		bh_table_add(&table, c->image);
		bh_table_add(&table, command);
		bh_table_addf(&table, "%s ago", bh_format_age(bh_now_ns() - c->created_ns, age));
		bh_table_add(&table, status);
		bh_table_add(&table, "");
		bh_table_add(&table, c->name);
		if (o->size) {
			bh_auto_free char *size = size_text(engine, c);

			bh_table_add(&table, size);
		}
	}
	bh_table_render(&table, true, &out);
	bh_table_clear(&table);
	fputs(out.data ? out.data : "", stdout);
}

static const char *const headings[][2] = {
	{ "ID", "CONTAINER ID" },
	{ "Image", "IMAGE" },
	{ "Command", "COMMAND" },
	{ "RunningFor", "CREATED" },
	{ "CreatedAt", "CREATED AT" },
	{ "Status", "STATUS" },
	{ "State", "STATE" },
	{ "Ports", "PORTS" },
	{ "Names", "NAMES" },
	{ "Labels", "LABELS" },
	{ "Size", "SIZE" },
	{ "Networks", "NETWORKS" },
	{ "Mounts", "MOUNTS" },
	{ "LocalVolumes", "LOCAL VOLUMES" },
	{ NULL, NULL },
};

static int print_rows(struct bh_engine *engine, struct bh_container **rows, size_t count, const struct ps_options *o, struct bh_error *err)
{
	const struct bh_template_list format = { .format = o->format, .table = "{{.ID}}", .headings = headings };
	bh_auto_buf struct bh_buf text = { 0 };
	json_object *array;
	int r;

	if (o->quiet) {
		for (size_t i = 0; i < count; i++)
			printf("%.*s\n", o->no_trunc ? BH_ID_LENGTH : BH_SHORT_ID_LENGTH, rows[i]->id);
		return 0;
	}
	if (!o->format || bh_streq(o->format, "table")) {
		print_table(engine, rows, count, o);
		return 0;
	}
	array = json_object_new_array();
	for (size_t i = 0; i < count; i++)
		json_object_array_add(array, row_object(engine, rows[i], o));
	r = bh_template_render_list(&format, array, &text, err);
	json_object_put(array);
	fputs(text.data ? text.data : "", stdout);
	return r;
}

static int select_rows(struct bh_container *list, size_t count, const struct ps_options *o, struct bh_container ***ret_rows, size_t *ret_count,
		       struct bh_error *err)
{
	struct bh_container **rows = bh_calloc(count, sizeof(struct bh_container *));
	int64_t last = o->latest ? 1 : o->last;
	bool by_status = false;
	size_t n = 0;

	for (size_t i = 0; i < o->filter.count; i++)
		by_status = by_status || bh_has_prefix(o->filter.items[i], "status=") || bh_has_prefix(o->filter.items[i], "exited=");
	*ret_rows = rows;
	for (size_t i = 0; i < count; i++) {
		bool wanted, runs = list[i].status != BH_STATUS_CREATED && list[i].status != BH_STATUS_EXITED;
		int r = is_wanted(list, count, &list[i], &o->filter, &wanted, err);

		if (r < 0)
			return r;
		if (wanted && (runs || o->all || last >= 0 || by_status) && (last < 0 || (int64_t)n < last))
			rows[n++] = &list[i];
	}
	*ret_count = n;
	return 0;
}

static int run(void *arg, int argc, char **argv)
{
	const struct ps_options *o = arg;
	struct bh_error err = BH_ERROR_INIT;
	/* Not freed: the process ends, and taking a hundred records apart would be a tenth of its time. */
	static struct bh_container *list;
	static struct bh_container **rows;
	size_t count = 0, row_count = 0;
	struct bh_engine engine;
	int r;

	(void)argc, (void)argv;
	if (bh_engine_open(bh_cli.root, bh_cli.state, &engine, &err) < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	r = bh_engine_list(&engine, &list, &count, &err);
	if (r == 0)
		r = select_rows(list, count, o, &rows, &row_count, &err);
	if (r == 0)
		r = print_rows(&engine, rows, row_count, o, &err);
	bh_engine_close(&engine);
	return r < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
}

const struct bh_command bh_command_ps = {
	.name = "ps",
	.alias = "list ls",
	.group = "Containers",
	.synopsis = "[OPTIONS]",
	.summary = "List containers",
	.sets = { options },
	.options_size = sizeof(struct ps_options),
	.max_arguments = 0,
	.preset = preset,
	.run = run,
};
