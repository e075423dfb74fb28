/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OCI runtime configuration (runtime-spec 1.2 config.json) as C structures.
 *
 * Field names are those of the specification in C spelling (`maskedPaths` -> masked_paths). Optional numbers are
 * pointers-free: `struct bh_opt_i64 { bool set; int64_t value; }`. All strings and arrays belong to the spec and are
 * freed by bh_spec_clear. The engine fills the structure from the command line; `bulkhead-oci` and restarts read it
 * from config.json.
 */
#pragma once

#include "base/error.h"
#include "base/string.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct bh_opt_i64 {
	bool set;
	int64_t value;
};
struct bh_opt_u64 {
	bool set;
	uint64_t value;
};
#define BH_SOME(x) { .set = true, .value = (x) }

enum bh_namespace_type {
	BH_NS_PID,
	BH_NS_NETWORK,
	BH_NS_MOUNT,
	BH_NS_IPC,
	BH_NS_UTS,
	BH_NS_USER,
	BH_NS_CGROUP,
	BH_NS_TIME,
	BH_NS_COUNT,
};

/* A namespace that is not `present` is the runtime's own ("host"). `path` NULL = a new one, else the one to join. */
struct bh_spec_namespace {
	bool present;
	char *path;
};

struct bh_id_map {
	uint32_t container_id, host_id, size;
};

struct bh_spec_mount {
	char *destination, *source, *type;
	struct bh_strv options;
	struct bh_id_map *uid_mappings, *gid_mappings; /* idmapped bind mounts */
	size_t uid_mapping_count, gid_mapping_count;
};

struct bh_spec_rlimit {
	char *type; /* "RLIMIT_NOFILE" */
	uint64_t soft, hard;
};

struct bh_spec_capabilities {
	bool set; /* false: no "capabilities" object */
	uint64_t bounding, effective, inheritable, permitted, ambient; /* bit n = capability number n */
};

/* process.scheduler: sched_setattr(2). Times in nanoseconds. */
struct bh_spec_scheduler {
	bool set;
	char *policy; /* "SCHED_OTHER" ... */
	int64_t nice, priority;
	struct bh_strv flags; /* "SCHED_FLAG_RESET_ON_FORK" ... */
	uint64_t runtime_ns, deadline_ns, period_ns;
};

struct bh_spec_process {
	bool terminal;
	struct {
		bool set;
		uint16_t height, width;
	} console_size;
	struct {
		uint32_t uid, gid;
		bool umask_set;
		uint32_t umask;
		uint32_t *additional_gids;
		size_t additional_gid_count;
	} user;
	struct bh_strv args, env;
	char *cwd;
	struct bh_spec_capabilities capabilities;
	struct bh_spec_rlimit *rlimits;
	size_t rlimit_count;
	bool no_new_privileges;
	char *apparmor_profile, *selinux_label;
	struct bh_opt_i64 oom_score_adj;
	struct bh_spec_scheduler scheduler;
	struct {
		bool set;
		char *class; /* "IOPRIO_CLASS_BE" ... */
		int64_t priority;
	} io_priority;
	/* Lists of CPUs ("0-3,7") for a further process: before and after it enters the container's cgroup. */
	struct {
		char *initial, *final;
	} exec_cpu_affinity;
};

struct bh_spec_device {
	char *path;
	char type; /* 'c' 'b' 'u' 'p' */
	int64_t major, minor;
	bool mode_set;
	uint32_t file_mode, uid, gid;
};

struct bh_spec_device_rule {
	bool allow;
	char type;            /* 'a' 'c' 'b' */
	int64_t major, minor; /* -1 = any */
	char access[4];       /* subset of "rwm" */
};

struct bh_spec_throttle {
	int64_t major, minor;
	uint64_t rate;
};

struct bh_spec_weight_device {
	int64_t major, minor;
	struct bh_opt_u64 weight, leaf_weight;
};

struct bh_spec_hugepage_limit {
	char *page_size; /* "2MB" */
	uint64_t limit;
};

struct bh_spec_rdma_limit {
	char *device; /* "mlx5_1" */
	struct bh_opt_u64 hca_handles, hca_objects;
};

struct bh_spec_interface_priority {
	char *name;
	uint32_t priority;
};

/* linux.resources. Memory in bytes, -1 = unlimited; cpu times in microseconds. */
struct bh_spec_resources {
	struct bh_spec_device_rule *devices;
	size_t device_count;
	struct {
		struct bh_opt_i64 limit, reservation, swap, kernel, kernel_tcp;
		struct bh_opt_u64 swappiness;
		bool disable_oom_killer, use_hierarchy, check_before_update;
	} memory;
	struct {
		struct bh_opt_u64 shares, period, realtime_period, burst;
		struct bh_opt_i64 quota, realtime_runtime, idle;
		char *cpus, *mems;
	} cpu;
	struct bh_opt_i64 pids_limit;
	struct {
		struct bh_opt_u64 weight, leaf_weight;
		struct bh_spec_weight_device *weight_devices;
		struct bh_spec_throttle *read_bps, *write_bps, *read_iops, *write_iops;
		size_t weight_device_count, read_bps_count, write_bps_count, read_iops_count, write_iops_count;
	} block_io;
	struct bh_spec_hugepage_limit *hugepage_limits;
	size_t hugepage_limit_count;
	struct {
		struct bh_opt_u64 class_id; /* 32 bits */
		struct bh_spec_interface_priority *priorities;
		size_t priority_count;
	} network;
	struct bh_spec_rdma_limit *rdma;
	size_t rdma_count;
	struct bh_strv unified; /* "key=value" */
};

struct bh_spec_seccomp_arg {
	uint32_t index;
	uint64_t value, value_two;
	char *op; /* "SCMP_CMP_EQ" ... */
};

struct bh_spec_seccomp_rule {
	struct bh_strv names;
	char *action;
	bool errno_set;
	uint32_t errno_ret;
	struct bh_spec_seccomp_arg *args;
	size_t arg_count;
};

/* Which filter: none, the built-in default profile (compiled at build time where possible), or the rules below. */
enum bh_seccomp_source { BH_SECCOMP_NONE, BH_SECCOMP_DEFAULT, BH_SECCOMP_RULES };

struct bh_spec_seccomp {
	enum bh_seccomp_source source;
	char *default_action;
	bool default_errno_set;
	uint32_t default_errno_ret;
	struct bh_strv architectures, flags;
	bool flags_set; /* also if the list is empty; without one SPEC_ALLOW is set, as with runc */
	char *listener_path, *listener_metadata;
	struct bh_spec_seccomp_rule *rules;
	size_t rule_count;
};

struct bh_spec_hook {
	char *path;
	struct bh_strv args, env;
	bool env_given;    /* also an empty one */
	int64_t timeout_s; /* 0 = none */
};

struct bh_spec_hooks {
	struct bh_spec_hook *items;
	size_t count;
};

struct bh_spec_net_device {
	char *host_name, *name; /* `name` NULL: it keeps its name */
};

struct bh_spec_io_memory {
	uint64_t first_gfn, first_mfn, mfn_count;
};

/* The `vm` object: for the driver that makes virtual machines. */
struct bh_spec_vm {
	bool set;
	struct {
		char *path;
		struct bh_strv parameters;
	} hypervisor;
	struct {
		char *path, *initrd;
		struct bh_strv parameters;
	} kernel;
	struct {
		char *path, *format; /* "raw", "qcow2", "vdi", "vmdk", "vhd" */
	} image;
	struct {
		char *device_tree;
		uint32_t vcpus;
		uint64_t memory_bytes;
		struct bh_strv dtdevs;
		struct bh_spec_io_memory *io_memories;
		size_t io_memory_count;
		uint32_t *irqs;
		size_t irq_count;
	} hw_config;
};

struct bh_spec {
	char *oci_version;
	struct {
		char *path;
		bool readonly;
	} root;
	char *hostname, *domainname;
	struct bh_spec_process process;
	bool has_process;
	struct bh_spec_mount *mounts;
	size_t mount_count;
	struct {
		struct bh_spec_hooks prestart, create_runtime, create_container, start_container, poststart, poststop;
	} hooks;
	struct bh_strv annotations; /* "key=value", see bh_map_write_key */

	/* linux */
	struct bh_spec_namespace namespaces[BH_NS_COUNT];
	struct bh_id_map *uid_mappings, *gid_mappings;
	size_t uid_mapping_count, gid_mapping_count;
	struct {
		bool set;
		int64_t monotonic_secs, boottime_secs;
		uint32_t monotonic_nanosecs, boottime_nanosecs;
	} time_offsets;
	struct bh_spec_device *devices;
	size_t device_count;
	char *cgroups_path;
	struct bh_spec_resources resources;
	struct bh_strv sysctl; /* "net.core.somaxconn=256" */
	char *rootfs_propagation, *mount_label;
	struct bh_strv masked_paths, readonly_paths;
	struct bh_spec_seccomp seccomp;
	struct {
		bool set;
		char *domain; /* "LINUX", "LINUX32" */
		struct bh_strv flags;
	} personality;
	struct {
		bool set;
		char *clos_id, *l3_cache_schema, *mem_bw_schema;
		struct bh_strv schemata;
		bool enable_cmt, enable_mbm, enable_monitoring;
	} intel_rdt;
	struct bh_spec_net_device *net_devices;
	size_t net_device_count;
	struct {
		bool set;
		char *mode, *nodes; /* "MPOL_BIND", "0-1,3" */
		struct bh_strv flags;
	} memory_policy;

	struct bh_spec_vm vm;
};

#define BH_SPEC_VERSION "1.2.0" /* of the specification, as this program writes it */
#define BH_SPEC_VERSION_MAX "1.3.0" /* the newest whose fields are understood */
#define BH_SPEC_JSON_MAX (4u << 20) /* bytes of a config.json */
#define BH_SPEC_JSON_DEPTH 32

/* Parses and checks. An error names the JSON path ("linux.resources.memory.limit: expected an integer"). */
int bh_spec_parse(const char *json, size_t length, struct bh_spec *ret_spec, struct bh_error *err);
/* The process object alone (runc's exec --process). */
int bh_spec_parse_process(const char *json, size_t length, struct bh_spec_process *ret_process, struct bh_error *err);
void bh_spec_process_clear(struct bh_spec_process *process);
/* The object linux.resources alone (runc's update --resources) into ret_spec->resources; all else of it is zero. */
int bh_spec_parse_resources(const char *json, size_t length, struct bh_spec *ret_spec, struct bh_error *err);
/* Writes config.json. BH_SECCOMP_DEFAULT becomes the annotation "io.bulkhead.seccomp=default" and is read back. */
void bh_spec_write(const struct bh_spec *spec, struct bh_buf *out);
void bh_spec_clear(struct bh_spec *spec);

/*
 * Maps (annotations, sysctl, unified) are lists of "key=value". A '=' inside a key is kept as the byte 0xff, which no
 * UTF-8 text holds. Adds the key of an item as a JSON string, and returns its value.
 */
const char *bh_map_write_key(const char *item, struct bh_buf *out);
/* The whole map as a JSON object. */
void bh_map_write(const struct bh_strv *map, struct bh_buf *out);
/* The value of a key, or NULL. */
const char *bh_map_get(const struct bh_strv *map, const char *key);

/* A list of numbers as the kernel writes them ("0-3,7"): the highest is below `max`, and every number is told in order.
 * -EINVAL if it is anything else. An empty text is an empty list. */
int bh_parse_number_list(const char *text, unsigned max, void (*add)(void *context, unsigned number), void *context);

/* The defaults that Docker gives a container: mounts, namespaces (pid network mount ipc uts cgroup), capabilities,
 * masked and read-only paths, device rules. `spec` must be all zero. */
void bh_spec_default(struct bh_spec *spec);
/* What --privileged changes: all capabilities, no seccomp, no masks, all devices allowed, writable /sys and cgroup. */
void bh_spec_privileged(struct bh_spec *spec);

/* Appends an empty, zeroed element and returns it; valid until the next call. */
struct bh_spec_mount *bh_spec_add_mount(struct bh_spec *spec, const char *destination, const char *type, const char *source, const char *options);
struct bh_spec_mount *bh_spec_find_mount(struct bh_spec *spec, const char *destination);
void bh_spec_remove_mount(struct bh_spec *spec, const char *destination);

/* "CAP_CHOWN" / "chown" -> number, or -1; and back (NULL if unknown). */
int bh_capability_number(const char *name);
const char *bh_capability_name(int number);
/* Docker's 14 default capabilities as a bit set. */
uint64_t bh_capability_default_set(void);
/* Every capability this program knows. */
uint64_t bh_capability_all_set(void);
