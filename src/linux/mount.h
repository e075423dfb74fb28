/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts as objects: made detached (fsopen(2), open_tree(2)), given their attributes while nobody can see them, and then
 * attached onto an fd. On kernels without the new mount API (before 5.12) bh_mount_classic does the same work with
 * mount(2) on /proc/self/fd paths, where the target is held as an fd all the same.
 */
#pragma once

#include "base/error.h"
#include "base/string.h"

#include <stdint.h>

/* Mount options in the words of mount(8), runc and the runtime specification, sorted by who takes them. */
struct bh_mount_options {
	uint64_t set, clear;                      /* MOUNT_ATTR_* of this mount */
	uint64_t atime;                           /* of `set`, by words that ask for a way of keeping access times ... */
	bool atime_given;                         /* ... and whether there was one (those that only end a way don't count) */
	uint64_t recursive_set, recursive_clear;  /* MOUNT_ATTR_* of it and all below */
	unsigned long flags;                      /* MS_* of the file system (sync, dirsync, lazytime) */
	unsigned long propagation;                /* MS_SHARED, MS_PRIVATE, MS_SLAVE, MS_UNBINDABLE; 0 = not asked for */
	bool propagation_recursive;
	bool bind, recursive_bind, remount;
	bool copy_up;                             /* tmpcopyup: a tmpfs begins with what lay below it */
	bool idmap, recursive_idmap;
	bool copy_symlink;                        /* of crun(1): a source that is a link is made again, not followed */
	struct bh_strv data;                      /* "size=64k", for the file system itself */
};
void bh_mount_options_parse(const struct bh_strv *words, struct bh_mount_options *ret_options);
/* The words that are understood, by index; NULL behind the last. */
const char *bh_mount_option_name(size_t index);
/* A bind with any attribute has these and no other: what its source's mount has besides is cleared, as mount(2) with
 * MS_REMOUNT does it. Changes `options`; without attributes nothing. */
void bh_mount_options_exact(struct bh_mount_options *options);
/* In a user namespace the attributes of a mount from outside are locked (mount_namespaces(7)): leaves those that are not spoken of,
 * and is false if `asked` takes one away or changes how access times are kept. */
bool bh_mount_options_keep_locked(struct bh_mount_options *exact, const struct bh_mount_options *asked, int mount_fd);
void bh_mount_options_clear(struct bh_mount_options *options);

/* A new file system, mounted nowhere. Returns the fd of its root (O_PATH, O_CLOEXEC). */
int bh_mount_new(const char *type, const char *source, const struct bh_mount_options *options, struct bh_error *err);
/* A detached copy of the mount at dirfd/path ("" = dirfd itself). */
int bh_mount_copy(int dirfd, const char *path, bool recursive, struct bh_error *err);
/* Applies attributes and propagation to a mount by its fd. */
int bh_mount_set(int mount_fd, const struct bh_mount_options *options, struct bh_error *err);
int bh_mount_set_propagation(int mount_fd, unsigned long propagation, bool recursive, struct bh_error *err);
int bh_mount_set_readonly(int mount_fd, bool recursive, struct bh_error *err);
/* Shows the owners of files as the user namespace maps them. Only while the mount is detached. */
int bh_mount_set_idmap(int mount_fd, int userns_fd, bool recursive, struct bh_error *err);
/* Attaches a detached mount on target_fd ("" name) or on the single name below it, which must not be a link.
 * -errno without words: the caller knows what it is. */
int bh_mount_attach(int mount_fd, int target_fd, const char *name);

/* Names a mount, also one that is still detached, for as long as it is there, or (Linux 6.8) the machine runs. */
#define BH_MOUNT_ID_MAX 32
int bh_mount_id(int mount_fd, char ret_id[BH_MOUNT_ID_MAX], struct bh_error *err);
/* Takes the mount off `path`, with all that is mounted below it, if it is the one with this id. -ENOENT: it isn't. */
int bh_mount_detach(const char *path, const char *id, struct bh_error *err);

/* The same by mount(2): a new file system (`source_fd` -1) or a bind of source_fd, on target_fd. Needs /proc. The mount
 * covers target_fd, so the caller opens the target again to get into it. */
int bh_mount_classic(const char *type, const char *source, int source_fd, const struct bh_mount_options *options, int target_fd,
		     struct bh_error *err);
/*
 * A new file system by mount(2) on `path`, in one call: for a place that nobody else can change, reached from the current
 * folder or by words that hold no link. The file system has its attributes before it is attached (the kernel makes the mount
 * with them), as one from bh_mount_new has. Read-only only for the types whose file system is there already ("cgroup2"). -EINVAL: the options can't be said in mount(2)'s words with the same meaning; -errno
 * without words otherwise: bh_mount_new will find them.
 */
int bh_mount_at_once(const char *type, const char *source, const struct bh_mount_options *options, const char *path);

/* Second part of a classic bind: applies the attributes to the mount whose root is mounted_fd. */
int bh_mount_classic_set(int mounted_fd, const struct bh_mount_options *options, struct bh_error *err);
