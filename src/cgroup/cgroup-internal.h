/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share; see cgroup.c for the theory of operation. */
#pragma once

#include "cgroup/cgroup.h"

#define CGROUP_ROOT "/sys/fs/cgroup"
#define CGROUP_PATH_MAX 1024
#define CGROUP_SPENT_MAX 8
#define CGROUP_FILE_MAX (16u << 20) /* bytes of cgroup.procs that are read */
#define CGROUP_WAIT_NS (5ll * 1000000000) /* for dying processes to be gone */

/* The folders a cgroup can consist of. On v2 only FOLDER_UNIFIED is used; on v1 it is the hybrid layout's v2 tree, which
 * has no controllers (or a few) but the core: cgroup.freeze, cgroup.kill, cgroup.events, cpu.stat. The last ones are only
 * made by request->every_hierarchy. */
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
	FOLDER_NET_CLS,
	FOLDER_NET_PRIO,
	FOLDER_RDMA,
	FOLDER_LAZY_COUNT,
	FOLDER_PERF_EVENT = FOLDER_LAZY_COUNT,
	FOLDER_MISC,
	FOLDER_SYSTEMD,
	FOLDER_COUNT,
};
/* Names of the v1 hierarchies' folders, and how v2 calls the same controller (NULL: not a v2 controller). */
extern const char *const bh_cgroup_v1_names[FOLDER_COUNT];
extern const char *const bh_cgroup_v2_names[FOLDER_COUNT];

struct bh_cgroup {
	const struct bh_cgroup_driver *driver;
	int root_fd; /* /sys/fs/cgroup */
	char *path;  /* below a hierarchy's root, without leading slash */
	bool every, strict, rootless;
	bool path_given; /* by the caller, so that it must be there */
	char *unit;      /* systemd's name for it, "user:NAME" on the user's manager */
	int spent[CGROUP_SPENT_MAX]; /* files that were read or written once: closed with the folders, all by one call */
	unsigned spent_count;
	char *self_text; /* what /proc/self/cgroup told, if it was needed */
	struct {
		int fd;           /* the folder, or -1 */
		char *path;       /* below the hierarchy's root, if it isn't the one above */
		unsigned made;    /* components of the path that this handle made, from its end: removed again if creation fails */
		bool alias;       /* another folder by a second name: co-mounted controllers */
		bool unopened;    /* made, but nobody has needed its fd yet: bh_cgroup_open_made */
	} folders[FOLDER_COUNT];
	int placeholder_pidfd; /* keeps a systemd scope alive until the first process is inside */
};

/* One value for one file. `alternative`: only tried if the write before it found no file. `optional`: no word if there is
 * no such file. */
struct bh_cgroup_write {
	enum bh_cgroup_folder folder;
	char file[64];
	char *value;
	bool alternative, optional;
	bool unified; /* from the unified map */
	bool done;
};
struct bh_cgroup_writes {
	struct bh_cgroup_write *items;
	size_t count, capacity;
};
void bh_cgroup_writes_clear(struct bh_cgroup_writes *writes);

/* plan.c: what `resources` ask of one controller, as files and values of cgroup version 1 or 2. Appends to `writes`. `cgroup` tells
 * how strict to be and what is in use; NULL: neither matters. */
int bh_cgroup_plan(enum bh_cgroup_folder controller, const struct bh_cgroup *cgroup, int version, const struct bh_spec_resources *resources, struct bh_cgroup_writes *writes,
		   struct bh_error *err);
/* The "unified" map of the resources: for the v2 folder. */
int bh_cgroup_plan_unified(const struct bh_spec_resources *resources, struct bh_cgroup_writes *writes, struct bh_error *err);
uint64_t bh_cgroup_weight_from_shares(uint64_t shares);
/* blockIO.weight (10..1000) as io.weight (1..10000). */
uint64_t bh_cgroup_io_weight(uint64_t weight);

/* devices.c: the rules reduced to "deny (or allow) all but these". */
struct bh_device_set {
	bool allow_all; /* what holds where no exception matches */
	struct bh_spec_device_rule *exceptions;
	size_t count, capacity;
};
int bh_device_set_from_rules(const struct bh_spec_device_rule *rules, size_t count, struct bh_device_set *ret_set, struct bh_error *err);
void bh_device_set_clear(struct bh_device_set *set);
/* The set that v1's devices.list shows. */
int bh_device_set_from_list(const char *list, struct bh_device_set *ret_set, struct bh_error *err);
/* Takes from `rule` the access that an exception for the very same devices has. */
void bh_device_set_subtract(const struct bh_device_set *set, struct bh_spec_device_rule *rule);
/* "c 1:3 rwm", as v1's files take it. */
void bh_device_rule_format(const struct bh_spec_device_rule *rule, char ret_text[64]);

/* devices-bpf.c: loads the program for `set` and attaches it to the v2 folder; `replace`: in one step in the place of the one that
 * this project attached before. */
int bh_cgroup_attach_device_program(int folder_fd, const struct bh_device_set *set, bool replace, struct bh_error *err);

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

/* locate.c: where the folders lie */
int bh_cgroup_new(struct bh_cgroup **ret_cgroup, struct bh_error *err); /* all folders closed, no path yet */
int bh_cgroup_locate(struct bh_cgroup *cgroup, const char *path, const char *name, struct bh_error *err);
/* Opens the folders whose own path is set. */
void bh_cgroup_open_places(struct bh_cgroup *cgroup);
/* Below the root of its hierarchy, without leading slash. Borrowed. */
const char *bh_cgroup_inner(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder);
/* Below CGROUP_ROOT: "memory/a/b". Owned by the caller. */
char *bh_cgroup_place(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder);
/* "" on v2, else the folder's name. */
const char *bh_cgroup_hierarchy(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder);
void bh_cgroup_free_ptr(struct bh_cgroup **cgroup);
#define bh_auto_cgroup __attribute__((cleanup(bh_cgroup_free_ptr)))

/* Bits (1u << folder) of the v1 hierarchies, and the v2 tree, that the kernel has, wherever they are mounted. */
int bh_cgroup_hierarchies(struct bh_cgroup *cgroup, unsigned *ret_folders, struct bh_error *err);
/* Takes the paths that /proc/PID/cgroup tells for the process. */
int bh_cgroup_locate_process(struct bh_cgroup *cgroup, pid_t pid, struct bh_error *err);

/* systemd.c */
/* Has systemd make the scope, and locates its folders. The placeholder inside lives until it is ended. */
/* Calls request->planned with each folder that this cgroup could have, once its place is known, and the unit (may be NULL). */
int bh_cgroup_tell_plan(struct bh_cgroup *cgroup, const struct bh_cgroup_request *request, const char *unit, struct bh_error *err);
int bh_cgroup_start_unit(struct bh_cgroup *cgroup, const struct bh_cgroup_request *request, struct bh_error *err);
void bh_cgroup_end_placeholder(struct bh_cgroup *cgroup);
int bh_cgroup_update_unit(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, struct bh_error *err);
/* A missing one is success. */
int bh_cgroup_stop_unit(struct bh_cgroup *cgroup, struct bh_error *err);

/* processes.c */
/* Waits until cgroup.events says "KEY VALUE". */
int bh_cgroup_wait_for_event(int folder_fd, const char *key, uint64_t value, int64_t deadline_ns);
/* The processes inside end or have ended; waits for them. Sets whether there were any. */
int bh_cgroup_wait_for_pids(struct bh_cgroup *cgroup, int64_t deadline_ns, bool *ret_any);
/* destroy.c: kills and removes the folders whose own path is set. */
int bh_cgroup_remove_located(struct bh_cgroup *cgroup, struct bh_error *err);
/* The container may nest cgroups as deep as it likes: what lies deeper than this is not followed, which bounds our stack
 * and fds. */
#define NESTING_MAX 64

/* cgroup.c: shared steps */
/* Returns -errno without words: the caller decides whether it matters. */
int bh_cgroup_put(int folder_fd, const char *file, const char *value);
void bh_cgroup_explain_write(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *file, const char *value);
/* "/sys/fs/cgroup/memory/bulkhead-1" (with "/FILE" if not NULL), for words only. */
char *bh_cgroup_words(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *file);
/* The first folder that is there: where processes can be listed. */
int bh_cgroup_any_fd(const struct bh_cgroup *cgroup);
bool bh_cgroup_is_cgroupfs(int fd, int version);
/* Makes (or takes over, if it is empty) the folder `path` below `parent_fd` and stores it. -ENOENT: no such parent. */
int bh_cgroup_make_folder(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, struct bh_error *err);
/* Leaves an fd (or what is none) to the handle, which closes it in the end together with all others. The fd may be used until the next
 * one. */
int bh_cgroup_spend(struct bh_cgroup *cgroup, int fd);
/* The fd of a folder that was made without looking into it. */
void bh_cgroup_open_made(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder);
void bh_cgroup_open_all_made(struct bh_cgroup *cgroup);
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
