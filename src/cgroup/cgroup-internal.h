/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share; see cgroup.c for the theory of operation. */
#pragma once

#include "cgroup/cgroup.h"

#define CGROUP_ROOT "/sys/fs/cgroup"
#define CGROUP_PATH_MAX 1024
#define CGROUP_FILE_MAX (16u << 20) /* bytes of cgroup.procs that are read */
#define CGROUP_WAIT_NS (5ll * 1000000000) /* for dying processes to be gone */

/* The folders a cgroup can consist of. On v2 only FOLDER_UNIFIED is used; on v1 it is the hybrid layout's v2 tree, which
 * has no controllers (or a few) but the core: cgroup.freeze, cgroup.kill, cgroup.events, cpu.stat. */
enum bh_cgroup_folder {
	FOLDER_UNIFIED,
	FOLDER_MEMORY,
	FOLDER_CPU,
	FOLDER_CPUACCT,
	FOLDER_PIDS,
	FOLDER_CPUSET,
	FOLDER_BLKIO,
	FOLDER_HUGETLB,
	FOLDER_DEVICES,
	FOLDER_FREEZER,
	FOLDER_COUNT,
};
/* Names of the v1 hierarchies, and how v2 calls the same controller (NULL: not a v2 controller). */
extern const char *const bh_cgroup_v1_names[FOLDER_COUNT];
extern const char *const bh_cgroup_v2_names[FOLDER_COUNT];

struct bh_cgroup {
	const struct bh_cgroup_driver *driver;
	int root_fd; /* /sys/fs/cgroup */
	char *path;  /* below a hierarchy's root, without leading slash */
	struct {
		int fd;    /* the folder, or -1 */
		bool made; /* by this handle: removed again if creation fails */
	} folders[FOLDER_COUNT];
};

/* One value for one file. `alternative`: only tried if the write before it found no file. `optional`: no word if there is
 * no such file. */
struct bh_cgroup_write {
	enum bh_cgroup_folder folder;
	char file[64];
	char *value;
	bool alternative, optional;
	bool done;
};
struct bh_cgroup_writes {
	struct bh_cgroup_write *items;
	size_t count, capacity;
};
void bh_cgroup_writes_clear(struct bh_cgroup_writes *writes);

/* plan.c: what `resources` ask of one controller, as files and values of cgroup version 1 or 2. Appends to `writes`. */
int bh_cgroup_plan(enum bh_cgroup_folder controller, int version, const struct bh_spec_resources *resources, struct bh_cgroup_writes *writes,
		   struct bh_error *err);
/* The "unified" map of the resources: for the v2 folder. */
int bh_cgroup_plan_unified(const struct bh_spec_resources *resources, struct bh_cgroup_writes *writes, struct bh_error *err);
uint64_t bh_cgroup_weight_from_shares(uint64_t shares);

/* devices.c: the rules reduced to "deny (or allow) all but these". */
struct bh_device_set {
	bool allow_all; /* what holds where no exception matches */
	struct bh_spec_device_rule *exceptions;
	size_t count, capacity;
};
int bh_device_set_from_rules(const struct bh_spec_device_rule *rules, size_t count, struct bh_device_set *ret_set, struct bh_error *err);
void bh_device_set_clear(struct bh_device_set *set);
/* "c 1:3 rwm", as v1's files take it. */
void bh_device_rule_format(const struct bh_spec_device_rule *rule, char ret_text[64]);

/* devices-bpf.c: loads the program for `set` and attaches it to the v2 folder. */
int bh_cgroup_attach_device_program(int folder_fd, const struct bh_device_set *set, struct bh_error *err);

struct bh_cgroup_driver {
	const char *name;
	int version;
	int (*create)(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, struct bh_error *err);
	int (*open)(struct bh_cgroup *cgroup, struct bh_error *err); /* -ENOENT */
	int (*enter_self)(const struct bh_cgroup *cgroup, struct bh_error *err);
	int (*update)(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, struct bh_error *err);
	int (*freeze)(struct bh_cgroup *cgroup, bool frozen, struct bh_error *err);
	int (*is_frozen)(struct bh_cgroup *cgroup, bool *ret_frozen, struct bh_error *err);
	void (*stats)(const struct bh_cgroup *cgroup, struct bh_cgroup_stats *stats);
	const char *oom_file;
	enum bh_cgroup_folder oom_folder;
};
extern const struct bh_cgroup_driver bh_cgroup_v1, bh_cgroup_v2;

/* cgroup.c: shared steps */
/* "/sys/fs/cgroup/memory/bulkhead-1" (with "/FILE" if not NULL), for words only. */
char *bh_cgroup_words(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *file);
/* The first folder that is there: where processes can be listed. */
int bh_cgroup_any_fd(const struct bh_cgroup *cgroup);
bool bh_cgroup_is_cgroupfs(int fd, int version);
/* Makes (or takes over, if it is empty) the folder `path` below `parent_fd` and stores it. -ENOENT: no such parent. */
int bh_cgroup_make_folder(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *hierarchy, struct bh_error *err);
/* Writes them in order; values that are refused because another has to be changed first are tried again at the end. */
int bh_cgroup_apply(struct bh_cgroup *cgroup, struct bh_cgroup_writes *writes, struct bh_error *err);
int bh_cgroup_write(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *file, const char *value, struct bh_error *err);
/* A small file's first bytes, NUL-terminated; "" if it can't be read. Returns whether it could. */
bool bh_cgroup_read(int folder_fd, const char *file, char *ret_text, size_t size);
int bh_cgroup_read_pids(int folder_fd, struct bh_buf *ret_text, struct bh_error *err);
/* v2 core, also in the hybrid layout. */
int bh_cgroup_core_freeze(struct bh_cgroup *cgroup, bool frozen, struct bh_error *err);
int bh_cgroup_core_is_frozen(struct bh_cgroup *cgroup, bool *ret_frozen, struct bh_error *err);

/* stats.c */
uint64_t bh_cgroup_read_number(int folder_fd, const char *file, uint64_t fallback);
/* The number behind `key` in "key value" lines; `fallback` if there is no such line. */
uint64_t bh_cgroup_find_number(const char *text, const char *key, uint64_t fallback);
void bh_cgroup_stats_v1(const struct bh_cgroup *cgroup, struct bh_cgroup_stats *stats);
void bh_cgroup_stats_v2(const struct bh_cgroup *cgroup, struct bh_cgroup_stats *stats);
/* cpu.stat of a v2 folder: also there without the cpu controller. */
void bh_cgroup_stats_cpu_core(int folder_fd, struct bh_cgroup_stats *stats);
