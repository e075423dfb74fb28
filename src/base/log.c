/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/string.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>

static enum bh_log_level current_level = BH_LOG_WARNING;
static void (*log_sink)(enum bh_log_level level, const char *text);
static const char *const level_names[] = { "error", "warning", "info", "debug" };

enum bh_explain_mode bh_explain_mode;

/* Lives in a MAP_SHARED page: all processes of one start count with the same counter and the same clock zero. */
struct explain_shared {
	atomic_uint sequence;
	int64_t start_ns;
};
static struct explain_shared *explain_shared;
static int explain_fd = -1;

void bh_log_set_level(enum bh_log_level level)
{
	current_level = level;
}

bool bh_log_parse_level(const char *name, enum bh_log_level *ret_level)
{
	if (bh_streq(name, "warn"))
		name = "warning";
	for (size_t i = 0; i < BH_ARRAY_SIZE(level_names); i++) {
		if (strcmp(name, level_names[i]) != 0)
			continue;
		*ret_level = (enum bh_log_level)i;
		return true;
	}
	return false;
}

void bh_log_set_sink(void (*sink)(enum bh_log_level level, const char *text))
{
	log_sink = sink;
}

void bh_log(enum bh_log_level level, const char *format, ...)
{
	char line[1200];
	va_list args;
	int length;

	if (level > current_level)
		return;
	length = log_sink ? 0 : snprintf(line, sizeof line, "bulkhead: %s: ", level_names[level]);
	va_start(args, format);
	length += vsnprintf(line + length, sizeof line - (size_t)length - 1, format, args);
	va_end(args);
	length = BH_MIN(length, (int)sizeof line - 2);
	if (log_sink) {
		log_sink(level, line);
		return;
	}
	line[length] = '\n';
	(void)!write(STDERR_FILENO, line, (size_t)length + 1);
}

static int64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void bh_explain_enable(enum bh_explain_mode mode, int fd)
{
	void *page = mmap(NULL, sizeof *explain_shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return;
	explain_shared = page;
	explain_shared->start_ns = monotonic_ns();
	explain_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	bh_explain_mode = explain_fd < 0 ? BH_EXPLAIN_OFF : mode;
}

void bh_explain_disable(void)
{
	bh_explain_mode = BH_EXPLAIN_OFF;
	if (explain_fd >= 0)
		close(explain_fd);
	explain_fd = -1;
}

int bh_explain_fd(void)
{
	return explain_fd;
}

static void add_text_pair(struct bh_buf *line, const char *key, const char *value)
{
	bh_buf_addf(line, " %s=", key);
	if (*value && !value[strcspn(value, " \t\n\"")])
		bh_buf_adds(line, value);
	else
		bh_buf_add_json(line, value);
}

static void add_json_pair(struct bh_buf *line, const char *key, const char *value)
{
	bh_buf_addc(line, ',');
	bh_buf_add_json(line, key);
	bh_buf_addc(line, ':');
	bh_buf_add_json(line, value);
}

void bh_explain_step(const char *step, ...)
{
	bh_auto_buf struct bh_buf line = { 0 };
	unsigned sequence = atomic_fetch_add(&explain_shared->sequence, 1) + 1;
	const char *key;
	va_list args;

	if (bh_explain_mode == BH_EXPLAIN_JSON) {
		bh_buf_addf(&line, "{\"seq\":%u,\"time_us\":%lld,\"pid\":%d,\"step\":", sequence,
			    (long long)((monotonic_ns() - explain_shared->start_ns) / 1000), (int)getpid());
		bh_buf_add_json(&line, step);
	} else {
		bh_buf_addf(&line, bh_explain_mode == BH_EXPLAIN_LOG ? "%u %s" : "%3u %-11s", sequence, step);
	}
	va_start(args, step);
	while ((key = va_arg(args, const char *))) {
		const char *value = va_arg(args, const char *);

		if (!value)
			continue;
		if (bh_explain_mode == BH_EXPLAIN_JSON)
			add_json_pair(&line, key, value);
		else
			add_text_pair(&line, key, value);
	}
	va_end(args);
	if (bh_explain_mode == BH_EXPLAIN_LOG) {
		bh_debug("%s", line.data);
		return;
	}
	bh_buf_adds(&line, bh_explain_mode == BH_EXPLAIN_JSON ? "}\n" : "\n");
	(void)!write(explain_fd, line.data, line.length);
}
