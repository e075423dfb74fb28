/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All that the kernel counts for a cgroup, as the JSON that `events --stats` of runc prints (its type types.Stats): monitoring
 * agents parse exactly those names. Numbers go from the kernel's files to the text without a structure between, one function
 * per part and version.
 *
 * As there: a number of 0 is left out where Go's "omitempty" leaves it out (`limit` and `failcnt` of a memory entry, `kernel` and
 * `user` are always there); times are nanoseconds; v2's numbers are told in v1's shape where there is one (swap includes
 * memory, "rbytes" is an entry with op "Read").
 */
#include "cgroup/cgroup-internal.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#define STAT_FILE_MAX (1u << 20)
#define LIST_MAX 4096 /* cpus, memory nodes, devices in one list */
/* USER_HZ: the unit of cpuacct.stat, the same on every kernel that Linux programs see. */
#define NS_PER_TICK 10000000ull

/* --- JSON ------------------------------------------------------------------------------------------------------------- */

/* Adds a comma if something stands before. */
static void separate(struct bh_buf *out)
{
	char last = out->length ? out->data[out->length - 1] : '{';

	if (last != '{' && last != '[')
		bh_buf_addc(out, ',');
}

static void open_object(struct bh_buf *out, const char *key)
{
	separate(out);
	bh_buf_addf(out, "\"%s\":{", key);
}

static void close_object(struct bh_buf *out)
{
	bh_buf_addc(out, '}');
}

static void add_always(struct bh_buf *out, const char *key, uint64_t value)
{
	separate(out);
	bh_buf_addf(out, "\"%s\":%llu", key, (unsigned long long)value);
}

static void add(struct bh_buf *out, const char *key, uint64_t value)
{
	if (value)
		add_always(out, key, value);
}

/* --- files ------------------------------------------------------------------------------------------------------------ */

static void read_text(int folder_fd, const char *file, struct bh_buf *ret_text)
{
	if (folder_fd < 0 || bh_read_file_at(folder_fd, file, STAT_FILE_MAX, ret_text, NULL) < 0)
		bh_buf_adds(ret_text, "");
}

/* A number, or "max" as the largest one. */
static uint64_t read_number(int folder_fd, const char *file)
{
	char text[64];

	if (folder_fd < 0 || !bh_cgroup_read(folder_fd, file, text, sizeof text))
		return 0;
	return bh_has_prefix(text, "max") ? UINT64_MAX : bh_cgroup_read_number(folder_fd, file, 0);
}

static const char *next_line(const char *line)
{
	const char *end = strchr(line, '\n');

	return end ? end + 1 : line + strlen(line);
}

/* The numbers of one line, separated by spaces, as an array; nothing if there is none. */
static void add_number_list(struct bh_buf *out, const char *key, const char *text)
{
	size_t count = 0;
	char *end;

	for (unsigned long long value = strtoull(text, &end, 10); end != text && count < LIST_MAX; value = strtoull(text, &end, 10)) {
		if (count++ == 0) {
			separate(out);
			bh_buf_addf(out, "\"%s\":[", key);
		}
		separate(out);
		bh_buf_addf(out, "%llu", value);
		text = end;
	}
	if (count)
		bh_buf_addc(out, ']');
}

/* "0-3,7" as an array of numbers. */
static void add_ranges(struct bh_buf *out, const char *key, const char *text)
{
	bh_auto_buf struct bh_buf list = { 0 };
	size_t count = 0;

	while (*text >= '0' && *text <= '9') {
		char *end;
		unsigned long first = strtoul(text, &end, 10), last = *end == '-' ? strtoul(end + 1, &end, 10) : first;

		for (unsigned long i = first; i <= last && count < LIST_MAX; i++, count++)
			bh_buf_addf(&list, "%lu ", i);
		text = *end == ',' ? end + 1 : "";
	}
	add_number_list(out, key, list.data ? list.data : "");
}

/* --- cpu -------------------------------------------------------------------------------------------------------------- */

static void add_throttling(struct bh_buf *out, const char *cpu_stat, bool v2)
{
	open_object(out, "throttling");
	add(out, "periods", bh_cgroup_find_number(cpu_stat, "nr_periods", 0));
	add(out, "throttledPeriods", bh_cgroup_find_number(cpu_stat, "nr_throttled", 0));
	add(out, "throttledTime",
	    v2 ? bh_cgroup_find_number(cpu_stat, "throttled_usec", 0) * 1000 : bh_cgroup_find_number(cpu_stat, "throttled_time", 0));
	close_object(out);
}

/* cpuacct.usage_all: a heading, then "CPU USER SYSTEM" for each cpu; column 1 or 2 of it. */
static void add_usage_column(struct bh_buf *out, const char *key, const char *usage_all, int column)
{
	bh_auto_buf struct bh_buf list = { 0 };

	for (const char *line = next_line(usage_all); *line; line = next_line(line)) {
		unsigned long long user, system;

		if (sscanf(line, "%*u %llu %llu", &user, &system) == 2)
			bh_buf_addf(&list, "%llu ", column == 1 ? user : system);
	}
	add_number_list(out, key, list.data ? list.data : "");
}

static void add_cpu_v1(const struct bh_cgroup *cgroup, struct bh_buf *out)
{
	bh_auto_buf struct bh_buf percpu = { 0 }, all = { 0 }, ticks = { 0 }, stat = { 0 };
	int cpuacct = cgroup->folders[FOLDER_CPUACCT].fd;
	struct bh_cgroup_stats core = { 0 };

	/* Without a folder there the v2 tree's core has counted the sum. */
	if (cpuacct < 0 && cgroup->folders[FOLDER_UNIFIED].fd >= 0)
		bh_cgroup_stats_cpu_core(cgroup->folders[FOLDER_UNIFIED].fd, &core);
	read_text(cpuacct, "cpuacct.usage_percpu", &percpu);
	read_text(cpuacct, "cpuacct.usage_all", &all);
	read_text(cpuacct, "cpuacct.stat", &ticks);
	read_text(cgroup->folders[FOLDER_CPU].fd, "cpu.stat", &stat);
	open_object(out, "cpu");
	open_object(out, "usage");
	add(out, "total", cpuacct >= 0 ? read_number(cpuacct, "cpuacct.usage") : core.cpu_usage_ns);
	add_number_list(out, "percpu", percpu.data);
	add_usage_column(out, "percpu_kernel", all.data, 2);
	add_usage_column(out, "percpu_user", all.data, 1);
	add_always(out, "kernel", cpuacct >= 0 ? bh_cgroup_find_number(ticks.data, "system", 0) * NS_PER_TICK : core.cpu_system_ns);
	add_always(out, "user", cpuacct >= 0 ? bh_cgroup_find_number(ticks.data, "user", 0) * NS_PER_TICK : core.cpu_user_ns);
	close_object(out);
	add_throttling(out, stat.data, false);
	close_object(out);
}

/* Pressure stall information (kernel: Documentation/accounting/psi.rst): "some avg10=0.00 avg60=0.00 avg300=0.00 total=0". */
static void add_pressure(int folder_fd, const char *file, struct bh_buf *out)
{
	char text[512];
	bool any = false;

	if (!bh_cgroup_read(folder_fd, file, text, sizeof text))
		return;
	for (const char *line = text; *line; line = next_line(line)) {
		char kind[8], average[3][16];
		unsigned long long total;

		if (sscanf(line, "%7[a-z] avg10=%15[0-9.] avg60=%15[0-9.] avg300=%15[0-9.] total=%llu", kind, average[0], average[1], average[2],
			   &total) != 5)
			continue;
		if (!any)
			open_object(out, "psi");
		any = true;
		separate(out);
		bh_buf_addf(out, "\"%s\":{\"avg10\":%g,\"avg60\":%g,\"avg300\":%g,\"total\":%llu}", kind, strtod(average[0], NULL),
			    strtod(average[1], NULL), strtod(average[2], NULL), total);
	}
	if (any)
		close_object(out);
}

static void add_cpu_v2(const struct bh_cgroup *cgroup, struct bh_buf *out)
{
	int fd = cgroup->folders[FOLDER_UNIFIED].fd;
	bh_auto_buf struct bh_buf stat = { 0 };

	read_text(fd, "cpu.stat", &stat);
	open_object(out, "cpu");
	open_object(out, "usage");
	add(out, "total", bh_cgroup_find_number(stat.data, "usage_usec", 0) * 1000);
	add_always(out, "kernel", bh_cgroup_find_number(stat.data, "system_usec", 0) * 1000);
	add_always(out, "user", bh_cgroup_find_number(stat.data, "user_usec", 0) * 1000);
	close_object(out);
	add_throttling(out, stat.data, true);
	add_pressure(fd, "cpu.pressure", out);
	close_object(out);
}

/* --- cpuset ----------------------------------------------------------------------------------------------------------- */

static void add_cpuset(const struct bh_cgroup *cgroup, struct bh_buf *out)
{
	static const struct {
		const char *key, *file;
	} numbers[] = {
		{ "mem_hardwall", "cpuset.mem_hardwall" },
		{ "mem_exclusive", "cpuset.mem_exclusive" },
		{ "memory_migrate", "cpuset.memory_migrate" },
		{ "memory_spread_page", "cpuset.memory_spread_page" },
		{ "memory_spread_slab", "cpuset.memory_spread_slab" },
		{ "memory_pressure", "cpuset.memory_pressure" },
		{ "sched_load_balance", "cpuset.sched_load_balance" },
	};
	int fd = cgroup->driver->version == 1 ? cgroup->folders[FOLDER_CPUSET].fd : -1;
	bh_auto_buf struct bh_buf cpus = { 0 }, mems = { 0 };
	char level[32] = "";
	int64_t relax = 0;

	read_text(fd, "cpuset.cpus", &cpus);
	read_text(fd, "cpuset.mems", &mems);
	open_object(out, "cpuset");
	add_ranges(out, "cpus", cpus.data);
	add_always(out, "cpu_exclusive", read_number(fd, "cpuset.cpu_exclusive"));
	add_ranges(out, "mems", mems.data);
	for (size_t i = 0; i < BH_ARRAY_SIZE(numbers); i++)
		add_always(out, numbers[i].key, read_number(fd, numbers[i].file));
	if (fd >= 0 && bh_cgroup_read(fd, "cpuset.sched_relax_domain_level", level, sizeof level)) {
		level[strcspn(level, "\n")] = '\0';
		(void)bh_parse_int(level, INT32_MIN, INT32_MAX, &relax);
	}
	bh_buf_addf(out, ",\"sched_relax_domain_level\":%lld", (long long)relax);
	close_object(out);
}

/* --- memory ----------------------------------------------------------------------------------------------------------- */

struct memory_entry {
	uint64_t limit, usage, max, failcnt;
};

static void add_memory_entry(struct bh_buf *out, const char *key, const struct memory_entry *entry)
{
	open_object(out, key);
	add_always(out, "limit", entry->limit);
	add(out, "usage", entry->usage);
	add(out, "max", entry->max);
	add_always(out, "failcnt", entry->failcnt);
	close_object(out);
}

/* memory.stat, line by line. */
static void add_raw(struct bh_buf *out, const char *stat)
{
	if (!*stat)
		return;
	open_object(out, "raw");
	for (const char *line = stat; *line; line = next_line(line)) {
		char key[64];
		unsigned long long value;

		if (sscanf(line, "%63[A-Za-z0-9_.] %llu", key, &value) == 2)
			add_always(out, key, value);
	}
	close_object(out);
}

static struct memory_entry read_memory_v1(int fd, const char *kind)
{
	bh_auto_free char *usage = bh_printf("memory.%susage_in_bytes", kind), *max = bh_printf("memory.%smax_usage_in_bytes", kind);
	bh_auto_free char *failcnt = bh_printf("memory.%sfailcnt", kind), *limit = bh_printf("memory.%slimit_in_bytes", kind);

	return (struct memory_entry){
		.usage = read_number(fd, usage), .max = read_number(fd, max), .failcnt = read_number(fd, failcnt), .limit = read_number(fd, limit)
	};
}

static void add_memory_v1(const struct bh_cgroup *cgroup, struct bh_buf *out)
{
	static const struct {
		const char *key, *kind;
	} entries[] = { { "usage", "" }, { "swap", "memsw." }, { "kernel", "kmem." }, { "kernelTCP", "kmem.tcp." } };
	int fd = cgroup->folders[FOLDER_MEMORY].fd;
	bh_auto_buf struct bh_buf stat = { 0 };

	read_text(fd, "memory.stat", &stat);
	open_object(out, "memory");
	add(out, "cache", bh_cgroup_find_number(stat.data, "cache", 0));
	for (size_t i = 0; i < BH_ARRAY_SIZE(entries); i++) {
		struct memory_entry entry = read_memory_v1(fd, entries[i].kind);

		add_memory_entry(out, entries[i].key, &entry);
	}
	add_raw(out, stat.data);
	close_object(out);
}

static void add_memory_v2(const struct bh_cgroup *cgroup, struct bh_buf *out)
{
	int fd = cgroup->folders[FOLDER_UNIFIED].fd;
	struct memory_entry memory = { .limit = read_number(fd, "memory.max"),
				       .usage = read_number(fd, "memory.current"),
				       .max = read_number(fd, "memory.peak") };
	struct memory_entry swap = { .limit = read_number(fd, "memory.swap.max"), .usage = read_number(fd, "memory.swap.current") }, none = { 0 };
	bh_auto_buf struct bh_buf stat = { 0 }, events = { 0 };

	swap.usage += memory.usage;
	swap.limit = swap.limit == UINT64_MAX || memory.limit == UINT64_MAX ? UINT64_MAX : swap.limit + memory.limit;
	read_text(fd, "memory.stat", &stat);
	read_text(fd, "memory.events", &events);
	open_object(out, "memory");
	add(out, "cache", bh_cgroup_find_number(stat.data, "file", 0));
	add_memory_entry(out, "usage", &memory);
	add_memory_entry(out, "swap", &swap);
	add_memory_entry(out, "kernel", &none);
	add_memory_entry(out, "kernelTCP", &none);
	add_raw(out, stat.data);
	add_pressure(fd, "memory.pressure", out);
	close_object(out);
}

/* --- pids ------------------------------------------------------------------------------------------------------------- */

static void add_pids(int fd, struct bh_buf *out)
{
	uint64_t limit = read_number(fd, "pids.max");

	open_object(out, "pids");
	add(out, "current", read_number(fd, "pids.current"));
	/* No limit is told as none. */
	add(out, "limit", limit == UINT64_MAX ? 0 : limit);
	close_object(out);
}

/* --- block I/O -------------------------------------------------------------------------------------------------------- */

static void add_block_entry(struct bh_buf *out, const char *key, size_t *count, unsigned major, unsigned minor, const char *op, uint64_t value)
{
	if ((*count)++ == 0) {
		separate(out);
		bh_buf_addf(out, "\"%s\":[", key);
	}
	separate(out);
	bh_buf_addc(out, '{');
	add(out, "major", major);
	add(out, "minor", minor);
	if (*op) {
		separate(out);
		bh_buf_adds(out, "\"op\":");
		bh_buf_add_json(out, op);
	}
	add(out, "value", value);
	bh_buf_addc(out, '}');
}

static void end_block_entries(struct bh_buf *out, size_t count)
{
	if (count)
		bh_buf_addc(out, ']');
}

/* "8:0 Read 4096" or "8:0 4096" lines; a last "Total 4096" is left out. Returns how many there were. */
static size_t add_block_file(int fd, const char *file, const char *key, struct bh_buf *out)
{
	bh_auto_buf struct bh_buf text = { 0 };
	size_t count = 0;

	read_text(fd, file, &text);
	for (const char *line = text.data; *line && count < LIST_MAX; line = next_line(line)) {
		unsigned major, minor;
		unsigned long long value;
		char op[16] = "";

		if (sscanf(line, "%u:%u %15[A-Za-z] %llu", &major, &minor, op, &value) != 4) {
			*op = '\0';
			if (sscanf(line, "%u:%u %llu", &major, &minor, &value) != 3)
				continue;
		}
		add_block_entry(out, key, &count, major, minor, op, value);
	}
	end_block_entries(out, count);
	return count;
}

/* The first of the schedulers' statistics that has any lines: BFQ, CFQ (old kernels), the throttling layer. */
static void add_block_io_v1(const struct bh_cgroup *cgroup, struct bh_buf *out)
{
	static const struct {
		const char *key, *file;
	} tables[] = {
		{ "ioServiceBytesRecursive", "io_service_bytes_recursive" },
		{ "ioServicedRecursive", "io_serviced_recursive" },
		{ "ioQueueRecursive", "io_queued_recursive" },
		{ "ioServiceTimeRecursive", "io_service_time_recursive" },
		{ "ioWaitTimeRecursive", "io_wait_time_recursive" },
		{ "ioMergedRecursive", "io_merged_recursive" },
		{ "ioTimeRecursive", "time_recursive" },
		{ "sectorsRecursive", "sectors_recursive" },
	};
	static const char *const schedulers[] = { "blkio.bfq.", "blkio.", "blkio.throttle." };
	int fd = cgroup->folders[FOLDER_BLKIO].fd;

	open_object(out, "blkio");
	for (size_t s = 0; s < BH_ARRAY_SIZE(schedulers); s++) {
		size_t lines = 0;

		for (size_t i = 0; i < BH_ARRAY_SIZE(tables); i++) {
			char file[64];

			/* Only two exist for the throttling layer, and the second one decides whether a scheduler counts. */
			if (i >= 2 && lines == 0)
				break;
			snprintf(file, sizeof file, "%s%s", schedulers[s], tables[i].file);
			lines += add_block_file(fd, file, tables[i].key, out);
		}
		if (lines)
			break;
	}
	close_object(out);
}

static void add_block_io_v2(const struct bh_cgroup *cgroup, struct bh_buf *out)
{
	static const struct {
		const char *key, *name[2];
	} tables[] = { { "ioServiceBytesRecursive", { "rbytes", "wbytes" } }, { "ioServicedRecursive", { "rios", "wios" } } };
	static const char *const ops[] = { "Read", "Write" };
	int fd = cgroup->folders[FOLDER_UNIFIED].fd;
	bh_auto_buf struct bh_buf text = { 0 };

	read_text(fd, "io.stat", &text);
	open_object(out, "blkio");
	for (size_t t = 0; t < BH_ARRAY_SIZE(tables); t++) {
		size_t count = 0;

		for (const char *line = text.data; *line && count < LIST_MAX; line = next_line(line)) {
			bh_auto_free char *copy = bh_strndup(line, strcspn(line, "\n"));
			unsigned major, minor;

			if (sscanf(copy, "%u:%u", &major, &minor) != 2)
				continue;
			for (size_t i = 0; i < 2; i++) {
				bh_auto_free char *key = bh_printf(" %s=", tables[t].name[i]);
				const char *at = strstr(copy, key);

				if (at)
					add_block_entry(out, tables[t].key, &count, major, minor, ops[i], strtoull(at + strlen(key), NULL, 10));
			}
		}
		end_block_entries(out, count);
	}
	add_pressure(fd, "io.pressure", out);
	close_object(out);
}

/* --- huge pages ------------------------------------------------------------------------------------------------------- */

/* "hugetlb.2MB.limit_in_bytes" or "hugetlb.2MB.max" tells that the size exists. Returns its name, owned by the caller. */
static char *page_size_of(const char *file, const char *suffix)
{
	size_t prefix = strlen("hugetlb."), length = strlen(file);

	if (!bh_has_prefix(file, "hugetlb.") || length <= prefix + strlen(suffix) || !bh_streq(file + length - strlen(suffix), suffix))
		return NULL;
	length -= prefix + strlen(suffix);
	return memchr(file + prefix, '.', length) ? NULL : bh_strndup(file + prefix, length);
}

static void add_page_size(int fd, const char *size, bool v2, struct bh_buf *out)
{
	bh_auto_free char *reserved = bh_printf("hugetlb.%s.rsvd.%s", size, v2 ? "current" : "usage_in_bytes");
	/* Reserved pages are the ones that limits hold for, where the kernel counts them (5.7). */
	const char *kind = faccessat(fd, reserved, F_OK, 0) == 0 ? ".rsvd" : "";
	bh_auto_free char *usage = bh_printf("hugetlb.%s%s.%s", size, kind, v2 ? "current" : "usage_in_bytes");
	bh_auto_free char *max = bh_printf("hugetlb.%s%s.max_usage_in_bytes", size, kind);
	bh_auto_free char *failures = bh_printf("hugetlb.%s%s.%s", size, v2 ? "" : kind, v2 ? "events" : "failcnt");
	bh_auto_buf struct bh_buf events = { 0 };

	if (v2)
		read_text(fd, failures, &events);
	open_object(out, size);
	add(out, "usage", read_number(fd, usage));
	add(out, "max", v2 ? 0 : read_number(fd, max));
	add_always(out, "failcnt", v2 ? bh_cgroup_find_number(events.data, "max", 0) : read_number(fd, failures));
	close_object(out);
}

static void add_huge_pages(const struct bh_cgroup *cgroup, struct bh_buf *out)
{
	bool v2 = cgroup->folders[FOLDER_HUGETLB].fd < 0;
	int fd = cgroup->folders[v2 ? FOLDER_UNIFIED : FOLDER_HUGETLB].fd;
	int list_fd = fd < 0 ? -1 : openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bh_auto_closedir DIR *dir = list_fd < 0 ? NULL : fdopendir(list_fd);
	struct dirent *entry;

	open_object(out, "hugetlb");
	while (dir && (entry = readdir(dir))) {
		bh_auto_free char *size = page_size_of(entry->d_name, v2 ? ".max" : ".limit_in_bytes");

		if (size)
			add_page_size(fd, size, v2, out);
	}
	close_object(out);
}

int bh_cgroup_write_stats(struct bh_cgroup *cgroup, const char *intel_rdt, const char *network_interfaces, struct bh_buf *out, struct bh_error *err)
{
	bool v2 = cgroup->driver->version == 2;
	char pids[8];

	bh_cgroup_open_all_made(cgroup);
	if (!bh_cgroup_read(bh_cgroup_any_fd(cgroup), "cgroup.procs", pids, sizeof pids) && errno != EOPNOTSUPP)
		return bh_error_set(err, errno == ENODEV ? ENOENT : errno, "read cgroup %s", cgroup->path);
	bh_buf_addc(out, '{');
	if (v2)
		add_cpu_v2(cgroup, out);
	else
		add_cpu_v1(cgroup, out);
	add_cpuset(cgroup, out);
	if (v2)
		add_memory_v2(cgroup, out);
	else
		add_memory_v1(cgroup, out);
	add_pids(cgroup->folders[v2 ? FOLDER_UNIFIED : FOLDER_PIDS].fd, out);
	if (v2)
		add_block_io_v2(cgroup, out);
	else
		add_block_io_v1(cgroup, out);
	add_huge_pages(cgroup, out);
	bh_buf_addf(out, ",\"intel_rdt\":%s,\"network_interfaces\":%s}", intel_rdt ? intel_rdt : "{}",
		    network_interfaces ? network_interfaces : "null");
	return 0;
}
