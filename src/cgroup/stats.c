/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics: what the kernel's files say, in one unit per field. A file that is missing leaves its field at the default;
 * v1 and v2 name the same things differently, so each has its function and they share only the parsing.
 *
 * v1 counts block I/O only in a blkio folder, which exists only with a block-I/O limit. Otherwise it's summed from
 * /proc/PID/io: the kernel adds the counters of ended children to their parent, so nothing that was waited for is lost.
 */
#include "cgroup/cgroup-internal.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>

/* Above this, memory.limit_in_bytes means "no limit" (PAGE_COUNTER_MAX, rounded down to a page, is just below 2^63). */
#define MEMORY_UNLIMITED 0x7000000000000000ull

uint64_t bh_cgroup_find_number(const char *text, const char *key, uint64_t fallback)
{
	size_t length = strlen(key);

	for (const char *line = text; line && *line;) {
		if (strncmp(line, key, length) == 0 && line[length] == ' ')
			return strtoull(line + length + 1, NULL, 10);
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	return fallback;
}

uint64_t bh_cgroup_read_number(int folder_fd, const char *file, uint64_t fallback)
{
	char text[64];

	if (folder_fd < 0 || !bh_cgroup_read(folder_fd, file, text, sizeof text) || *text < '0' || *text > '9')
		return fallback;
	return strtoull(text, NULL, 10);
}

void bh_cgroup_stats_cpu_core(int folder_fd, struct bh_cgroup_stats *stats)
{
	char text[2048];

	if (!bh_cgroup_read(folder_fd, "cpu.stat", text, sizeof text))
		return;
	stats->cpu_usage_ns = bh_cgroup_find_number(text, "usage_usec", 0) * 1000;
	stats->cpu_user_ns = bh_cgroup_find_number(text, "user_usec", 0) * 1000;
	stats->cpu_system_ns = bh_cgroup_find_number(text, "system_usec", 0) * 1000;
	stats->cpu_periods = bh_cgroup_find_number(text, "nr_periods", 0);
	stats->cpu_throttled_periods = bh_cgroup_find_number(text, "nr_throttled", 0);
	stats->cpu_throttled_ns = bh_cgroup_find_number(text, "throttled_usec", 0) * 1000;
}

static void stats_memory_v1(int fd, struct bh_cgroup_stats *stats)
{
	char text[4096];

	stats->memory_usage = bh_cgroup_read_number(fd, "memory.usage_in_bytes", 0);
	stats->memory_limit = bh_cgroup_read_number(fd, "memory.limit_in_bytes", UINT64_MAX);
	if (stats->memory_limit >= MEMORY_UNLIMITED)
		stats->memory_limit = UINT64_MAX;
	stats->memory_max_usage = bh_cgroup_read_number(fd, "memory.max_usage_in_bytes", 0);
	if (bh_cgroup_read(fd, "memory.stat", text, sizeof text)) {
		stats->memory_cache = bh_cgroup_find_number(text, "total_cache", 0);
		stats->memory_inactive_file = bh_cgroup_find_number(text, "total_inactive_file", 0);
		stats->memory_swap = bh_cgroup_find_number(text, "total_swap", 0);
	}
	if (bh_cgroup_read(fd, "memory.oom_control", text, sizeof text))
		stats->oom_kills = bh_cgroup_parse_oom_kills(text);
}

/* "8:0 Read 4096" lines. */
static void add_blkio_v1(int fd, const char *file, const char *alternative, uint64_t *read_total, uint64_t *write_total)
{
	char text[4096];

	if (!bh_cgroup_read(fd, file, text, sizeof text) || !strstr(text, "Read"))
		if (!bh_cgroup_read(fd, alternative, text, sizeof text))
			return;
	for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL) {
		char direction[16];
		unsigned long long value;

		if (sscanf(line, "%*u:%*u %15s %llu", direction, &value) != 2)
			continue;
		if (bh_streq(direction, "Read"))
			*read_total += value;
		else if (bh_streq(direction, "Write"))
			*write_total += value;
	}
}

static uint64_t find_after(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

/* Sums what the living processes (and their ended children) read and wrote, and counts them. */
static void stats_from_processes(int folder_fd, struct bh_cgroup_stats *stats)
{
	bh_auto_buf struct bh_buf pids = { 0 };

	if (bh_cgroup_read_pids(folder_fd, &pids, NULL) < 0)
		return;
	for (const char *line = pids.data; line && *line; line = strchr(line, '\n'), line += line != NULL) {
		char path[64], text[512];

		snprintf(path, sizeof path, "/proc/%.*s/io", (int)strcspn(line, "\n"), line);
		if (!bh_cgroup_read(AT_FDCWD, path, text, sizeof text))
			continue;
		stats->block_read_bytes += find_after(text, "\nread_bytes: ");
		stats->block_write_bytes += find_after(text, "\nwrite_bytes: ");
	}
}

/* Threads, as pids.current counts them. */
static uint64_t count_tasks(int folder_fd)
{
	bh_auto_buf struct bh_buf tasks = { 0 };
	uint64_t count = 0;

	if (folder_fd < 0 || bh_read_file_at(folder_fd, "tasks", CGROUP_FILE_MAX, &tasks, NULL) < 0)
		return 0;
	for (size_t i = 0; i < tasks.length; i++)
		count += tasks.data[i] == '\n';
	return count;
}

void bh_cgroup_stats_v1(const struct bh_cgroup *cgroup, struct bh_cgroup_stats *stats)
{
	int unified = cgroup->folders[FOLDER_UNIFIED].fd, cpuacct = cgroup->folders[FOLDER_CPUACCT].fd;
	int cpu = cgroup->folders[FOLDER_CPU].fd, pids = cgroup->folders[FOLDER_PIDS].fd, blkio = cgroup->folders[FOLDER_BLKIO].fd;
	char text[1024];

	if (unified >= 0) {
		bh_cgroup_stats_cpu_core(unified, stats);
	} else if (cpuacct >= 0) {
		stats->cpu_usage_ns = bh_cgroup_read_number(cpuacct, "cpuacct.usage", 0);
		stats->cpu_user_ns = bh_cgroup_read_number(cpuacct, "cpuacct.usage_user", 0);
		stats->cpu_system_ns = bh_cgroup_read_number(cpuacct, "cpuacct.usage_sys", 0);
	}
	if (cpu >= 0 && bh_cgroup_read(cpu, "cpu.stat", text, sizeof text)) {
		stats->cpu_periods = bh_cgroup_find_number(text, "nr_periods", 0);
		stats->cpu_throttled_periods = bh_cgroup_find_number(text, "nr_throttled", 0);
		stats->cpu_throttled_ns = bh_cgroup_find_number(text, "throttled_time", 0);
	}
	if (cgroup->folders[FOLDER_MEMORY].fd >= 0)
		stats_memory_v1(cgroup->folders[FOLDER_MEMORY].fd, stats);
	if (pids >= 0)
		stats->pids_current = bh_cgroup_read_number(pids, "pids.current", 0);
	else
		stats->pids_current = count_tasks(cgroup->folders[FOLDER_MEMORY].fd >= 0 ? cgroup->folders[FOLDER_MEMORY].fd : cpuacct);
	stats->pids_limit = bh_cgroup_read_number(pids, "pids.max", UINT64_MAX);
	if (blkio < 0) {
		stats_from_processes(bh_cgroup_any_fd(cgroup), stats);
		return;
	}
	add_blkio_v1(blkio, "blkio.throttle.io_service_bytes_recursive", "blkio.bfq.io_service_bytes_recursive", &stats->block_read_bytes,
		     &stats->block_write_bytes);
	add_blkio_v1(blkio, "blkio.throttle.io_serviced_recursive", "blkio.bfq.io_serviced_recursive", &stats->block_read_ios, &stats->block_write_ios);
}

/* "8:0 rbytes=1 wbytes=2 rios=3 wios=4 ..." lines. */
static void stats_io_v2(int fd, struct bh_cgroup_stats *stats)
{
	bh_auto_buf struct bh_buf text = { 0 };
	static const struct {
		const char *key;
		size_t offset;
	} fields[] = {
		{ " rbytes=", offsetof(struct bh_cgroup_stats, block_read_bytes) },
		{ " wbytes=", offsetof(struct bh_cgroup_stats, block_write_bytes) },
		{ " rios=", offsetof(struct bh_cgroup_stats, block_read_ios) },
		{ " wios=", offsetof(struct bh_cgroup_stats, block_write_ios) },
	};

	if (bh_read_file_at(fd, "io.stat", 1u << 20, &text, NULL) < 0)
		return;
	for (size_t i = 0; i < BH_ARRAY_SIZE(fields); i++) {
		uint64_t *total = (uint64_t *)(void *)((char *)stats + fields[i].offset);

		for (const char *at = text.data; at && (at = strstr(at, fields[i].key)); at++)
			*total += strtoull(at + strlen(fields[i].key), NULL, 10);
	}
}

void bh_cgroup_stats_v2(const struct bh_cgroup *cgroup, struct bh_cgroup_stats *stats)
{
	int fd = cgroup->folders[FOLDER_UNIFIED].fd;
	char text[4096];

	bh_cgroup_stats_cpu_core(fd, stats);
	stats->memory_usage = bh_cgroup_read_number(fd, "memory.current", 0);
	stats->memory_limit = bh_cgroup_read_number(fd, "memory.max", UINT64_MAX);
	stats->memory_max_usage = bh_cgroup_read_number(fd, "memory.peak", 0);
	stats->memory_swap = bh_cgroup_read_number(fd, "memory.swap.current", 0);
	if (bh_cgroup_read(fd, "memory.stat", text, sizeof text)) {
		stats->memory_cache = bh_cgroup_find_number(text, "file", 0);
		stats->memory_inactive_file = bh_cgroup_find_number(text, "inactive_file", 0);
	}
	if (bh_cgroup_read(fd, "memory.events", text, sizeof text))
		stats->oom_kills = bh_cgroup_parse_oom_kills(text);
	stats->pids_current = bh_cgroup_read_number(fd, "pids.current", 0);
	stats->pids_limit = bh_cgroup_read_number(fd, "pids.max", UINT64_MAX);
	stats_io_v2(fd, stats);
}
