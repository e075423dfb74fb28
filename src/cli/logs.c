/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logs: reads the json-file log, oldest rotated file first.
 *
 * Following waits on inotify for the container's folder: new bytes, a rotation, or the exit record; no polling.
 */
#include "base/time.h"
#include "cli/cli.h"
#include "cli/containers.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>

struct logs_options {
	bool follow, timestamps, details;
	const char *tail, *since, *until;
};

static const struct bh_option options[] = {
	{ 0, "details", BH_OPTION_BOOL, offsetof(struct logs_options, details), NULL, "Show extra details (labels of the log driver: none here)",
	  NULL, false },
	{ 'f', "follow", BH_OPTION_BOOL, offsetof(struct logs_options, follow), NULL, "Go on with new lines until the container stops", NULL, false },
	{ 0, "since", BH_OPTION_STRING, offsetof(struct logs_options, since), "TIME",
	  "Only lines since a time (RFC 3339, Unix seconds) or a duration ago", NULL, false },
	{ 'n', "tail", BH_OPTION_STRING, offsetof(struct logs_options, tail), "N", "Only the last N lines, or all", NULL, false },
	{ 't', "timestamps", BH_OPTION_BOOL, offsetof(struct logs_options, timestamps), NULL, "Show the time of each line", NULL, false },
	{ 0, "until", BH_OPTION_STRING, offsetof(struct logs_options, until), "TIME", "Only lines before a time or a duration ago", NULL, false },
	{ 0 },
};

#define RECORD_MAX (1u << 20) /* bytes of one log record: a line of BH_FRAME_MAX bytes, escaped, is far below */

struct reader {
	const struct logs_options *options;
	int64_t since_ns, until_ns; /* 0: no bound */
	int64_t tail;               /* -1: all */
	struct bh_strv *last;       /* the last `tail` records, while they are collected */
	struct bh_buf partial;
};

static int parse_moment(const char *text, int64_t *ret_ns)
{
	int64_t ns;

	if (bh_parse_time(text, ret_ns) == 0)
		return 0;
	if (bh_parse_nano(text, ret_ns) == 0) /* Unix seconds with decimals */
		return 0;
	if (bh_parse_duration(text, &ns) < 0)
		return -EINVAL;
	*ret_ns = bh_now_ns() - ns;
	return 0;
}

static void print_record(const struct reader *reader, const char *record)
{
	json_object *object = json_tokener_parse(record);
	json_object *log = bh_json_at(object, "log");
	const char *stream = bh_json_text(object, "stream", "stdout"), *time_text = bh_json_text(object, "time", "");
	int64_t ns = 0;
	bool wanted = json_object_is_type(log, json_type_string) && bh_parse_time(time_text, &ns) == 0;

	if (wanted && (!reader->since_ns || ns >= reader->since_ns) && (!reader->until_ns || ns <= reader->until_ns)) {
		FILE *out = bh_streq(stream, "stderr") ? stderr : stdout;

		if (reader->options->timestamps)
			fprintf(out, "%s ", time_text);
		fwrite(json_object_get_string(log), 1, (size_t)json_object_get_string_len(log), out);
	}
	json_object_put(object);
}

static void take_record(struct reader *reader, const char *record)
{
	if (!reader->last) {
		print_record(reader, record);
		return;
	}
	if (reader->tail == 0)
		return;
	if (reader->last->count == (size_t)reader->tail)
		bh_strv_remove(reader->last, 0);
	bh_strv_add(reader->last, record);
}

/* Reads on from where the fd stands; an unfinished last line stays in `partial`. */
static int read_records(struct reader *reader, int fd, struct bh_error *err)
{
	char bytes[65536];
	ssize_t n;

	while ((n = read(fd, bytes, sizeof bytes)) > 0) {
		const char *p = bytes, *end = bytes + n, *newline;

		while ((newline = memchr(p, '\n', (size_t)(end - p)))) {
			bh_buf_add(&reader->partial, p, (size_t)(newline - p));
			take_record(reader, reader->partial.data ? reader->partial.data : "");
			bh_buf_reset(&reader->partial);
			p = newline + 1;
		}
		if (reader->partial.length + (size_t)(end - p) > RECORD_MAX)
			return bh_error_text(err, EFBIG, "log: a record is longer than %u bytes", RECORD_MAX);
		bh_buf_add(&reader->partial, p, (size_t)(end - p));
	}
	return n < 0 ? bh_error_set(err, errno, "read log") : 0;
}

static int read_all(struct reader *reader, struct bh_container *c, int *ret_fd, struct bh_error *err)
{
	for (int n = 1000; n >= 0; n--) {
		char name[32];
		int fd, r;

		snprintf(name, sizeof name, n ? "log.%d" : "log", n);
		if (n && faccessat(c->dir_fd, name, F_OK, 0) < 0)
			continue;
		fd = openat(c->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0)
			continue;
		r = read_records(reader, fd, err);
		if (n == 0 && r == 0) {
			*ret_fd = fd;
			return 0;
		}
		close(fd);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool is_running(const struct bh_container *c)
{
	return c->status != BH_STATUS_CREATED && c->status != BH_STATUS_EXITED;
}

/* After the container's folder changed: reads on, and goes to the new file after a rotation. */
static int follow_once(struct reader *reader, struct bh_container *c, int *fd, struct bh_error *err)
{
	struct stat now, ours;
	int r = *fd >= 0 ? read_records(reader, *fd, err) : 0;

	if (r < 0 || fstatat(c->dir_fd, "log", &now, AT_SYMLINK_NOFOLLOW) < 0)
		return r;
	if (*fd >= 0 && fstat(*fd, &ours) == 0 && ours.st_ino == now.st_ino)
		return 0;
	bh_close_fd(fd);
	*fd = openat(c->dir_fd, "log", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return *fd >= 0 ? read_records(reader, *fd, err) : 0;
}

static int follow(struct reader *reader, struct bh_engine *engine, struct bh_container *c, int fd, struct bh_error *err)
{
	bh_auto_close int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), log_fd = fd;
	bh_auto_free char *path = bh_printf("/proc/self/fd/%d", c->dir_fd);
	char events[4096];

	if (watch < 0 || inotify_add_watch(watch, path, IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF) < 0)
		return bh_error_set(err, errno, "watch the log of container %s", c->name);
	for (;;) {
		struct pollfd p = { .fd = watch, .events = POLLIN };
		bool running;
		int r;

		/* State before content: what was written before the end is read after we know of it. */
		bh_container_refresh(engine, c);
		running = is_running(c);
		r = follow_once(reader, c, &log_fd, err);
		fflush(stdout);
		if (r < 0 || !running)
			return r;
		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			return bh_error_set(err, errno, "poll");
		while (read(watch, events, sizeof events) > 0)
			;
	}
}

static int print_logs(struct reader *reader, struct bh_engine *engine, struct bh_container *c, struct bh_error *err)
{
	bh_auto_strv struct bh_strv last = { 0 };
	int fd = -1, r;

	if (bh_streq(bh_json_text(c->record, "host_config.LogConfig.Type", "json-file"), "none"))
		return bh_error_text(err, ENOTSUP, "configured logging driver does not support reading");
	reader->last = reader->tail >= 0 ? &last : NULL;
	r = read_all(reader, c, &fd, err);
	reader->last = NULL;
	if (r < 0)
		return r;
	for (size_t i = 0; i < last.count; i++)
		print_record(reader, last.items[i]);
	if (reader->options->follow)
		return follow(reader, engine, c, fd, err);
	bh_close_fd(&fd);
	return 0;
}

static int parse_options(struct reader *reader, const struct logs_options *o, struct bh_error *err)
{
	reader->options = o;
	reader->tail = -1;
	if (o->tail && !bh_streq(o->tail, "all") && bh_parse_int(o->tail, -1, INT32_MAX, &reader->tail) < 0)
		return bh_error_text(err, EINVAL, "invalid value for \"tail\": %s", o->tail);
	if (o->since && parse_moment(o->since, &reader->since_ns) < 0)
		return bh_error_text(err, EINVAL, "invalid value for \"since\": %s", o->since);
	if (o->until && parse_moment(o->until, &reader->until_ns) < 0)
		return bh_error_text(err, EINVAL, "invalid value for \"until\": %s", o->until);
	return 0;
}

static int run(void *arg, int argc, char **argv)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_container container;
	struct reader reader = { 0 };
	struct bh_engine engine;
	int r = parse_options(&reader, arg, &err);

	(void)argc;
	if (r == 0)
		r = bh_engine_open(bh_cli.root, bh_cli.state, &engine, &err);
	if (r < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	r = bh_engine_find(&engine, argv[0], &container, &err);
	if (r == 0) {
		r = print_logs(&reader, &engine, &container, &err);
		bh_container_clear(&container);
	}
	bh_buf_clear(&reader.partial);
	bh_engine_close(&engine);
	return r < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
}

const struct bh_command bh_command_logs = {
	.name = "logs",
	.group = "Containers",
	.synopsis = "[OPTIONS] CONTAINER",
	.summary = "Show what a container has written",
	.sets = { options },
	.options_size = sizeof(struct logs_options),
	.min_arguments = 1,
	.max_arguments = 1,
	.run = run,
};
