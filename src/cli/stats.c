/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats: use of resources, from the containers' cgroups. On a terminal a table that is drawn anew every second; in a
 * pipe one block of lines per second; --no-stream one sample.
 */
#include "base/table.h"
#include "base/time.h"
#include "cli/cli.h"
#include "cli/containers.h"
#include "cli/template.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>

struct stats_options {
	bool all, no_stream, no_trunc;
	const char *format;
};

static const struct bh_option options[] = {
	{ 'a', "all", BH_OPTION_BOOL, offsetof(struct stats_options, all), NULL, "Show stopped containers too", NULL, false },
	{ 0, "format", BH_OPTION_STRING, offsetof(struct stats_options, format), "FORMAT", "json, table or a Go template", NULL, false },
	{ 0, "no-stream", BH_OPTION_BOOL, offsetof(struct stats_options, no_stream), NULL, "One sample instead of a stream", NULL, false },
	{ 0, "no-trunc", BH_OPTION_BOOL, offsetof(struct stats_options, no_trunc), NULL, "Don't shorten", NULL, false },
	{ 0 },
};

struct sample {
	char id[BH_ID_LENGTH + 1];
	char *name;
	int64_t time_ns;
	struct bh_cgroup_stats stats;
	double cpu_percent;
	bool running;
};

struct samples {
	struct sample *items;
	size_t count, capacity;
};

static void samples_clear(struct samples *s)
{
	for (size_t i = 0; i < s->count; i++)
		free(s->items[i].name);
	free(s->items);
	*s = (struct samples){ 0 };
}

static uint64_t host_memory(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void add_sample(struct samples *s, struct bh_container *c)
{
	bh_auto_free char *path = bh_container_compartment_path(c);
	const struct bh_isolation_driver *driver;
	struct sample *item;

	s->items = bh_grow(s->items, &s->capacity, s->count + 1, sizeof *s->items);
	item = &s->items[s->count++];
	*item = (struct sample){ .name = bh_strdup(c->name), .time_ns = bh_monotonic_ns() };
	memcpy(item->id, c->id, sizeof item->id);
	if (c->status != BH_STATUS_RUNNING && c->status != BH_STATUS_PAUSED)
		return;
	item->running = bh_container_isolation(c, &driver, NULL) == 0 && driver->stats(BH_PLACE(path), &item->stats, NULL) == 0;
}

static int take_named(struct bh_engine *engine, int argc, char **argv, struct samples *s, struct bh_error *err)
{
	for (int i = 0; i < argc; i++) {
		struct bh_container c;
		int r = bh_engine_find(engine, argv[i], &c, err);

		if (r < 0)
			return r;
		add_sample(s, &c);
		bh_container_clear(&c);
	}
	return 0;
}

static int take_samples(struct bh_engine *engine, const struct stats_options *o, int argc, char **argv, struct samples *s, struct bh_error *err)
{
	struct bh_container *list = NULL;
	size_t count = 0;
	int r;

	if (argc)
		return take_named(engine, argc, argv, s, err);
	r = bh_engine_list(engine, &list, &count, err);
	for (size_t i = 0; r == 0 && i < count; i++)
		if (o->all || list[i].status == BH_STATUS_RUNNING || list[i].status == BH_STATUS_PAUSED)
			add_sample(s, &list[i]);
	for (size_t i = 0; i < count; i++)
		bh_container_clear(&list[i]);
	free(list);
	return r;
}

static void compare(struct samples *now, const struct samples *before)
{
	for (size_t i = 0; i < now->count; i++) {
		struct sample *a = &now->items[i];

		for (size_t j = 0; j < before->count; j++) {
			const struct sample *b = &before->items[j];

			if (strcmp(a->id, b->id) != 0 || !b->running || a->time_ns <= b->time_ns || a->stats.cpu_usage_ns < b->stats.cpu_usage_ns)
				continue;
			a->cpu_percent = 100.0 * (double)(a->stats.cpu_usage_ns - b->stats.cpu_usage_ns) / (double)(a->time_ns - b->time_ns);
		}
	}
}

static void add_field(json_object *row, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void add_field(json_object *row, const char *key, const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	text = bh_vprintf(format, args);
	va_end(args);
	json_object_object_add(row, key, json_object_new_string(text));
	free(text);
}

static json_object *row_object(const struct sample *s, bool no_trunc)
{
	uint64_t limit = BH_MIN(s->stats.memory_limit, host_memory());
	/* What Docker shows as used: without page cache that could go at once. */
	uint64_t used = s->stats.memory_usage - BH_MIN(s->stats.memory_inactive_file, s->stats.memory_usage);
	json_object *row = json_object_new_object();
	char a[32], b[32];

	if (!s->running)
		limit = used = 0;
	add_field(row, "ID", "%.*s", no_trunc ? BH_ID_LENGTH : BH_SHORT_ID_LENGTH, s->id);
	add_field(row, "Container", "%.*s", no_trunc ? BH_ID_LENGTH : BH_SHORT_ID_LENGTH, s->id);
	add_field(row, "Name", "%s", s->name);
	add_field(row, "CPUPerc", "%.2f%%", s->cpu_percent);
	add_field(row, "MemUsage", "%s / %s", bh_format_bytes_binary(used, a), bh_format_bytes_binary(limit, b));
	add_field(row, "MemPerc", "%.2f%%", limit ? 100.0 * (double)used / (double)limit : 0.0);
	add_field(row, "NetIO", "0B / 0B");
	add_field(row, "BlockIO", "%s / %s", bh_format_bytes_decimal(s->stats.block_read_bytes, a),
		  bh_format_bytes_decimal(s->stats.block_write_bytes, b));
	add_field(row, "PIDs", "%llu", (unsigned long long)s->stats.pids_current);
	return row;
}

static const char *const columns[][2] = {
	{ "ID", "CONTAINER ID" }, { "Name", "NAME" },     { "CPUPerc", "CPU %" },     { "MemUsage", "MEM USAGE / LIMIT" },
	{ "MemPerc", "MEM %" },   { "NetIO", "NET I/O" }, { "BlockIO", "BLOCK I/O" }, { "PIDs", "PIDS" },
	{ NULL, NULL },
};
#define COLUMN_COUNT (BH_ARRAY_SIZE(columns) - 1)

static void print_table(json_object *rows, bool redraw)
{
	const char *headings[COLUMN_COUNT + 1] = { 0 };
	bh_auto_buf struct bh_buf out = { 0 };
	struct bh_table table;

	for (size_t i = 0; i < COLUMN_COUNT; i++)
		headings[i] = columns[i][1];
	bh_table_init(&table, headings);
	for (size_t r = 0; r < json_object_array_length(rows); r++)
		for (size_t i = 0; i < COLUMN_COUNT; i++)
			bh_table_add(&table, bh_json_text(json_object_array_get_idx(rows, r), columns[i][0], ""));
	if (redraw)
		bh_buf_adds(&out, "\033[H\033[J"); /* home, clear to the end */
	bh_table_render(&table, true, &out);
	bh_table_clear(&table);
	fwrite(out.data, 1, out.length, stdout);
	fflush(stdout);
}

static int print_samples(const struct stats_options *o, const struct samples *s, struct bh_error *err)
{
	const struct bh_template_list format = { .format = o->format, .table = "{{.ID}}", .headings = columns };
	json_object *rows = json_object_new_array();
	bh_auto_buf struct bh_buf text = { 0 };
	int r = 0;

	for (size_t i = 0; i < s->count; i++)
		json_object_array_add(rows, row_object(&s->items[i], o->no_trunc));
	if (!o->format || bh_streq(o->format, "table"))
		print_table(rows, !o->no_stream && isatty(STDOUT_FILENO));
	else
		r = bh_template_render_list(&format, rows, &text, err);
	fputs(text.data ? text.data : "", stdout);
	fflush(stdout);
	json_object_put(rows);
	return r;
}

#define SAMPLE_MS 1000

static int stream(struct bh_engine *engine, const struct stats_options *o, int argc, char **argv, struct bh_error *err)
{
	bh_auto(samples_clear) struct samples before = { 0 };
	int r = take_samples(engine, o, argc, argv, &before, err);

	while (r == 0) {
		struct samples now = { 0 };

		poll(NULL, 0, SAMPLE_MS); /* the sampling interval itself */
		r = take_samples(engine, o, argc, argv, &now, err);
		if (r == 0) {
			compare(&now, &before);
			r = print_samples(o, &now, err);
		}
		samples_clear(&before);
		before = now;
		if (o->no_stream || ferror(stdout))
			break;
	}
	return r;
}

static int run(void *arg, int argc, char **argv)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_engine engine;
	int r = bh_engine_open(bh_cli.root, bh_cli.state, &engine, &err);

	if (r == 0) {
		r = stream(&engine, arg, argc, argv, &err);
		bh_engine_close(&engine);
	}
	return r < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
}

const struct bh_command bh_command_stats = {
	.name = "stats",
	.group = "Containers",
	.synopsis = "[OPTIONS] [CONTAINER...]",
	.summary = "Show the use of resources, live",
	.sets = { options },
	.options_size = sizeof(struct stats_options),
	.max_arguments = -1,
	.run = run,
};
