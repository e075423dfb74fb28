/* SPDX-License-Identifier: Apache-2.0 */
/* One conversation with criu (criu.c), for checkpoint.c and restore.c. */
#pragma once

#include "bundle/bundle-internal.h"

/* Numbers of the messages and their fields: CRIU, images/rpc.proto. */
enum bh_criu_request { BH_CRIU_DUMP = 1, BH_CRIU_RESTORE = 2, BH_CRIU_PRE_DUMP = 4, BH_CRIU_NOTIFY = 6, BH_CRIU_VERSION = 10 };
enum bh_criu_option {
	BH_CRIU_IMAGES_DIR_FD = 1,
	BH_CRIU_PID = 2,
	BH_CRIU_LEAVE_RUNNING = 3,
	BH_CRIU_EXT_UNIX_SK = 4,
	BH_CRIU_TCP_ESTABLISHED = 5,
	BH_CRIU_EVASIVE_DEVICES = 6,
	BH_CRIU_SHELL_JOB = 7,
	BH_CRIU_FILE_LOCKS = 8,
	BH_CRIU_LOG_LEVEL = 9,
	BH_CRIU_LOG_FILE = 10,
	BH_CRIU_PAGE_SERVER = 11,
	BH_CRIU_NOTIFY_SCRIPTS = 12,
	BH_CRIU_ROOT = 13,
	BH_CRIU_PARENT_IMG = 14,
	BH_CRIU_TRACK_MEM = 15,
	BH_CRIU_AUTO_DEDUP = 16,
	BH_CRIU_WORK_DIR_FD = 17,
	BH_CRIU_LINK_REMAP = 18,
	BH_CRIU_EXT_MNT = 23,
	BH_CRIU_MANAGE_CGROUPS = 24,
	BH_CRIU_CG_ROOT = 25,
	BH_CRIU_RST_SIBLING = 26,
	BH_CRIU_INHERIT_FD = 27,
	BH_CRIU_MANAGE_CGROUPS_MODE = 34,
	BH_CRIU_EXTERNAL = 37,
	BH_CRIU_EMPTY_NS = 38,
	BH_CRIU_JOIN_NS = 39,
	BH_CRIU_FREEZE_CGROUP = 44,
	BH_CRIU_TCP_SKIP_IN_FLIGHT = 46,
	BH_CRIU_LAZY_PAGES = 48,
	BH_CRIU_ORPHAN_PTS_MASTER = 50,
	BH_CRIU_CONFIG_FILE = 51,
	BH_CRIU_LSM_PROFILE = 53,
	BH_CRIU_LSM_MOUNT_CONTEXT = 63,
};

/* Fields of a message, one behind the other. */
void bh_criu_number(struct bh_buf *message, unsigned field, int64_t value);
void bh_criu_text(struct bh_buf *message, unsigned field, const char *value);
/* A message of two texts (its fields 1 and 2), as a field. */
void bh_criu_pair(struct bh_buf *message, unsigned field, const char *first, const char *second);
/* inherit_fd: what was `key` becomes fd `fd` of criu. */
void bh_criu_inherit(struct bh_buf *message, const char *key, int fd);

#define BH_CRIU_FIRST_FD 4 /* where bh_criu_call.fds begin in criu */
#define BH_CRIU_DESCRIPTORS "descriptors.json" /* beside the images: what fds 0-2 were */
#define BH_CRIU_DESCRIPTORS_MAX 65536

struct bh_criu_call {
	const char *program;
	const char *folder, *log;  /* of the log, for words; NULL: there is none */
	const struct bh_container_stdio *stdio; /* NULL: none */
	const int *fds;            /* further fds for criu */
	size_t fd_count;
	const struct bh_cgroup *cgroup; /* where criu runs, and what it restores; NULL: where we are */
	/* With `prepare`: fds of folders that criu mounts in, which it can only in its own mount namespace: there they are opened
	 * again, and these numbers stand for that. -1: none. */
	int folder_fds[2];
	/* In the process that becomes criu. May be NULL. */
	int (*prepare)(void *context, struct bh_error *err);
	/* A step of criu's: its name, the pid of the first process if it is known, and for some an fd, which is the callee's. */
	int (*notify)(void *context, const char *step, pid_t pid, int fd, struct bh_error *err);
	void *context;
};
struct bh_criu_answer {
	int version; /* 31700 for 3.17 */
	pid_t pid;
};
/* Starts criu, asks, and waits for its end. `options` may be NULL. -ENOENT: there is no such program. */
int bh_criu_call(const struct bh_criu_call *call, enum bh_criu_request request, struct bh_buf *options, struct bh_criu_answer *ret_answer,
		 struct bh_error *err);

/* The folders of images and of logs, opened. */
struct bh_criu_folders {
	int images_fd, work_fd; /* work_fd -1: the images' */
	const char *log_folder;
};
#define BH_CRIU_FOLDERS_INIT { .images_fd = -1, .work_fd = -1 }
int bh_criu_open_folders(const struct bh_bundle_criu *criu, bool make, struct bh_criu_folders *ret_folders, struct bh_error *err);
void bh_criu_close_folders(struct bh_criu_folders *folders);
/* The options that dump and restore share. */
int bh_criu_common_options(const struct bh_bundle *bundle, const struct bh_bundle_criu *criu, const struct bh_criu_folders *folders, const char *log,
			   struct bh_buf *options, struct bh_error *err);
/* Namespaces that were given by path are criu's by this name. */
const char *bh_criu_namespace_key(enum bh_namespace_type type);
bool bh_criu_is_bind(const struct bh_spec_mount *mount);
/* A mount's destination with the links of the root file system resolved, as criu sees it. */
char *bh_criu_destination(const char *rootfs, const char *destination);
/* Nodes that were bound from the host, which is the case in a user namespace. */
bool bh_criu_device_at(const struct bh_spec *spec, size_t index, const char **ret_path);
/* Are hidden files covered with the host's null device? Otherwise with that of the container's own /dev. */
bool bh_criu_masks_with_hosts_null(const struct bh_spec *spec);
