/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The json-file log, in Docker's format: {"log":"text\n","stream":"stdout","time":"..."} per line. A line longer than
 * BH_FRAME_MAX is split into records without a newline. All records of one read are written with one write(2).
 * Rotation: log -> log.1 -> ... -> log.(max_file-1); the oldest is removed.
 */
#include "shim/shim-internal.h"

#include <fcntl.h>

static void add_record(struct shim_log *log, int stream, const char *bytes, size_t length)
{
	char time_text[BH_TIME_TEXT_MAX];

	bh_buf_adds(&log->batch, "{\"log\":");
	bh_buf_add_jsonn(&log->batch, bytes, length);
	bh_buf_addf(&log->batch, ",\"stream\":\"%s\",\"time\":\"%s\"}\n", stream ? "stderr" : "stdout", bh_format_time(bh_now_ns(), time_text));
}

/* With the first bytes: many containers never write any. */
static void open_log(struct shim_log *log)
{
	struct stat st;

	log->fd = openat(log->dir_fd, "log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	log->size = log->fd >= 0 && fstat(log->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static void rotate(struct shim_log *log)
{
	char from[32], to[32];

	for (int64_t n = log->max_file - 1; n > 0; n--) {
		snprintf(from, sizeof from, n == 1 ? "log" : "log.%lld", (long long)n - 1);
		snprintf(to, sizeof to, "log.%lld", (long long)n);
		renameat(log->dir_fd, from, log->dir_fd, to);
	}
	if (log->max_file <= 1)
		unlinkat(log->dir_fd, "log", 0);
	bh_close_fd(&log->fd);
	open_log(log);
}

static void write_batch(struct shim_log *log)
{
	if (log->batch.length == 0)
		return;
	if (log->fd < 0)
		open_log(log);
	/* A full disk loses log lines, never the container: Docker does the same. */
	if (log->fd >= 0 && bh_write_all(log->fd, log->batch.data, log->batch.length) == 0)
		log->size += log->batch.length;
	bh_buf_reset(&log->batch);
	if (log->max_size && log->size >= log->max_size)
		rotate(log);
}

void shim_log_write(struct shim_log *log, int stream, const char *bytes, size_t length)
{
	struct bh_buf *line = &log->lines[stream];

	if (!log->enabled)
		return;
	while (length) {
		size_t take = BH_MIN(length, BH_FRAME_MAX - line->length);
		const char *newline = memchr(bytes, '\n', take);

		if (newline)
			take = (size_t)(newline - bytes) + 1;
		bh_buf_add(line, bytes, take);
		if (newline || line->length >= BH_FRAME_MAX) {
			add_record(log, stream, line->data, line->length);
			bh_buf_reset(line);
		}
		bytes += take;
		length -= take;
	}
	write_batch(log);
}

void shim_log_flush(struct shim_log *log)
{
	for (int stream = 0; stream < 2; stream++) {
		if (log->enabled && log->lines[stream].length)
			add_record(log, stream, log->lines[stream].data, log->lines[stream].length);
		bh_buf_reset(&log->lines[stream]);
	}
	write_batch(log);
}
