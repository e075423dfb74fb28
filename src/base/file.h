/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File descriptors and files, always relative to a directory fd.
 *
 * Every fd is opened O_CLOEXEC. Files that others read are replaced by write-to-temporary + rename, so a reader sees
 * the old or the new content and never a part. Locks are open-file-description locks on the object's own fd: they end
 * with the process, whatever kills it.
 */
#pragma once

#include "base/error.h"
#include "base/string.h"

#include <sys/stat.h>

/* Reads the whole file; -EFBIG beyond `max` bytes. Text is NUL-terminated behind its length. */
int bh_read_file_at(int dirfd, const char *path, size_t max, struct bh_buf *ret_content, struct bh_error *err);
/* The same for a file on disk or tmpfs, where a short read is the end: one system call less. */
int bh_read_stored_file_at(int dirfd, const char *path, size_t max, struct bh_buf *ret_content, struct bh_error *err);
int bh_read_stored_fd(int fd, size_t max, struct bh_buf *ret_content);
int bh_read_fd(int fd, size_t max, struct bh_buf *ret_content);
/* One write(2) of the whole value into an existing file (cgroup, /proc, sysctl). The error names path and value. */
int bh_write_value_at(int dirfd, const char *path, const char *value, struct bh_error *err);
/* Loops over short writes and EINTR. -errno. */
int bh_write_all(int fd, const void *bytes, size_t length);
/* Reads exactly `length` bytes: 0, -errno, or -ENODATA if the stream ends before. */
int bh_read_all(int fd, void *bytes, size_t length);

enum bh_write_flags {
	BH_WRITE_SYNC = 1,   /* fsync the file before the rename and the folder after it */
	BH_WRITE_EXCL = 2,   /* -EEXIST if the name is there already */
};
/* Creates or replaces dirfd/name atomically. */
int bh_write_file_at(int dirfd, const char *name, const void *bytes, size_t length, mode_t mode, unsigned flags, struct bh_error *err);

/* Creates dirfd/name, which must not exist, and writes it in place: for folders that nobody reads yet. */
int bh_create_file_at(int dirfd, const char *name, const void *bytes, size_t length, mode_t mode, struct bh_error *err);

/* mkdir -p below dirfd (AT_FDCWD for absolute paths); follows existing folders. Returns 0 also when it is there. */
int bh_mkdir_all(int dirfd, const char *path, mode_t mode, struct bh_error *err);
/* Opens a directory O_DIRECTORY|O_CLOEXEC (add O_PATH, O_NOFOLLOW by flags). Returns the fd or -errno. */
int bh_open_dir(int dirfd, const char *path, int flags, struct bh_error *err);
/* mkdir_all + open_dir. */
int bh_make_dir(int dirfd, const char *path, mode_t mode, struct bh_error *err);

/* Removes dirfd/name and all below it. Never follows a link, never crosses into another mount, makes folders writable
 * as needed. A missing name is success. */
int bh_remove_tree_at(int dirfd, const char *name, struct bh_error *err);

/* Takes an exclusive (or shared) open-file-description lock on the fd; waits unless `nonblock` (-EAGAIN then). */
int bh_lock_fd(int fd, bool exclusive, bool nonblock);
void bh_unlock_fd(int fd);
/* Is an exclusive lock held by somebody else on the fd? 1, 0 or -errno. */
int bh_lock_is_held(int fd);

int bh_set_cloexec(int fd, bool on);
int bh_set_nonblock(int fd, bool on);
/* Joins with one slash between. */
char *bh_path_join(const char *a, const char *b);
/* "/a//b/./c/" -> "/a/b/c", ".." resolved by words only, never above the root. The input must be absolute. */
char *bh_path_clean(const char *path);
/* The folder that holds this program (from /proc/self/exe), owned by the caller. */
char *bh_program_dir(void);
/* A sibling program: in this program's folder (a build tree), else in ../libexec/bulkhead (installed), else beside it by
 * name for `bulkhead` itself in ../../bin. Owned by the caller; not checked beyond existence. */
char *bh_find_program(const char *name);
