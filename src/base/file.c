/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/syscall.h>

/* `whole`: a read that gives less than asked for has reached the end (true for files on disk, not for /proc or pipes). */
static int read_to_end(int fd, size_t max, bool whole, struct bh_buf *ret_content)
{
	struct bh_buf content = { 0 };

	for (;;) {
		ssize_t n;

		bh_buf_reserve(&content, content.length ? content.length : 4096);
		n = read(fd, content.data + content.length, content.capacity - content.length - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || content.length + (size_t)n > max) {
			int r = n < 0 ? -errno : -EFBIG;

			bh_buf_clear(&content);
			return r;
		}
		if (n == 0)
			break;
		content.length += (size_t)n;
		if (whole && content.length < content.capacity - 1)
			break;
	}
	content.data[content.length] = '\0';
	bh_buf_clear(ret_content);
	*ret_content = content;
	return 0;
}

int bh_read_fd(int fd, size_t max, struct bh_buf *ret_content)
{
	return read_to_end(fd, max, false, ret_content);
}

int bh_read_stored_fd(int fd, size_t max, struct bh_buf *ret_content)
{
	return read_to_end(fd, max, true, ret_content);
}

int bh_read_stored_file_at(int dirfd, const char *path, size_t max, struct bh_buf *ret_content, struct bh_error *err)
{
	bh_auto_close int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int r;

	if (fd < 0)
		return bh_error_set(err, errno, "open %s", path);
	r = read_to_end(fd, max, true, ret_content);
	return r < 0 ? bh_error_set(err, -r, "read %s", path) : 0;
}

int bh_read_file_at(int dirfd, const char *path, size_t max, struct bh_buf *ret_content, struct bh_error *err)
{
	bh_auto_close int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int r;

	if (fd < 0)
		return bh_error_set(err, errno, "open %s", path);
	r = bh_read_fd(fd, max, ret_content);
	if (r < 0)
		return bh_error_set(err, -r, "read %s", path);
	return 0;
}

int bh_write_value_at(int dirfd, const char *path, const char *value, struct bh_error *err)
{
	bh_auto_close int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	size_t length = strlen(value);

	if (fd < 0)
		return bh_error_set(err, errno, "open %s", path);
	if (write(fd, value, length) != (ssize_t)length)
		return bh_error_set(err, errno, "write '%s' to %s", value, path);
	return 0;
}

int bh_write_all(int fd, const void *bytes, size_t length)
{
	const char *p = bytes;

	while (length) {
		ssize_t n = write(fd, p, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		length -= (size_t)n;
	}
	return 0;
}

int bh_read_all(int fd, void *bytes, size_t length)
{
	char *p = bytes;

	while (length) {
		ssize_t n = read(fd, p, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		p += n;
		length -= (size_t)n;
	}
	return 0;
}

static int sync_folder(int dirfd, const char *name)
{
	bh_auto_free char *folder = bh_strdup(name);
	char *slash = strrchr(folder, '/');
	bh_auto_close int fd = -1;

	if (slash)
		slash[1] = '\0';
	fd = openat(dirfd, slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* By number: the C library of the small static programs doesn't know renameat2. */
static int rename_at(int dirfd, const char *from, const char *to, bool exclusive)
{
	if (!exclusive)
		return renameat(dirfd, from, dirfd, to);
	return (int)syscall(SYS_renameat2, dirfd, from, dirfd, to, RENAME_NOREPLACE);
}

int bh_write_file_at(int dirfd, const char *name, const void *bytes, size_t length, mode_t mode, unsigned flags, struct bh_error *err)
{
	static unsigned counter;
	bh_auto_free char *temporary = bh_printf("%s.tmp-%d-%u", name, (int)getpid(), counter++);
	bh_auto_close int fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	int r;

	if (fd < 0)
		return bh_error_set(err, errno, "create %s", temporary);
	r = bh_write_all(fd, bytes, length);
	if (r == 0 && (flags & BH_WRITE_SYNC) && fsync(fd) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(dirfd, temporary, 0);
		return bh_error_set(err, -r, "write %s", name);
	}
	r = rename_at(dirfd, temporary, name, flags & BH_WRITE_EXCL);
	if (r == 0 && (flags & BH_WRITE_SYNC))
		return sync_folder(dirfd, name) < 0 ? bh_error_set(err, errno, "sync the folder of %s", name) : 0;
	if (r < 0) {
		r = errno;
		unlinkat(dirfd, temporary, 0);
		return bh_error_set(err, r, "rename %s", name);
	}
	return 0;
}

int bh_create_file_at(int dirfd, const char *name, const void *bytes, size_t length, mode_t mode, struct bh_error *err)
{
	bh_auto_close int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	int r;

	if (fd < 0)
		return bh_error_set(err, errno, "create %s", name);
	r = bh_write_all(fd, bytes, length);
	if (r < 0) {
		unlinkat(dirfd, name, 0);
		return bh_error_set(err, -r, "write %s", name);
	}
	return 0;
}

int bh_mkdir_all(int dirfd, const char *path, mode_t mode, struct bh_error *err)
{
	bh_auto_free char *copy = bh_strdup(path);

	if (mkdirat(dirfd, path, mode) == 0 || errno == EEXIST)
		return 0;
	if (errno != ENOENT)
		return bh_error_set(err, errno, "mkdir %s", path);
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdirat(dirfd, copy, mode) < 0 && errno != EEXIST)
			return bh_error_set(err, errno, "mkdir %s", copy);
		*p = '/';
	}
	if (mkdirat(dirfd, path, mode) < 0 && errno != EEXIST)
		return bh_error_set(err, errno, "mkdir %s", path);
	return 0;
}

int bh_open_dir(int dirfd, const char *path, int flags, struct bh_error *err)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);

	if (fd < 0)
		return bh_error_set(err, errno, "open folder %s", path);
	return fd;
}

int bh_make_dir(int dirfd, const char *path, mode_t mode, struct bh_error *err)
{
	int r = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (r >= 0)
		return r;
	r = bh_mkdir_all(dirfd, path, mode, err);
	return r < 0 ? r : bh_open_dir(dirfd, path, 0, err);
}

/* Folder depth below which a hostile tree is refused instead of using up our stack and fds. */
#define REMOVE_DEPTH_MAX 4096
#define REMOVE_BATCH 8192 /* bytes of directory entries read at once */

struct remove_level {
	int fd;
	bool begun; /* has been read before */
	char name[NAME_MAX + 1];
};

/* getdents64(2) itself: readdir(3) costs four more system calls and 32 kB for each folder. */
struct folder_entry {
	uint64_t inode;
	int64_t offset;
	unsigned short length;
	unsigned char type;
	char name[];
};

/* A folder below dirfd that is no mount point (RESOLVE_NO_XDEV; on kernels without openat2 the device numbers tell). */
static int open_same_mount(int dirfd, const char *name)
{
	struct open_how how = { .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_NO_XDEV };
	struct stat above, here;
	int fd = (int)syscall(SYS_openat2, dirfd, name, &how, sizeof how);

	if (fd >= 0 || errno != ENOSYS)
		return fd;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && (fstat(fd, &here) < 0 || fstatat(dirfd, ".", &above, 0) < 0 || here.st_dev != above.st_dev)) {
		close(fd);
		errno = EXDEV;
		return -1;
	}
	return fd;
}

static int remove_open(int dirfd, const char *name)
{
	int fd = open_same_mount(dirfd, name);

	if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, 0700, 0) == 0)
		fd = open_same_mount(dirfd, name);
	return fd < 0 ? -errno : fd;
}

/* Removes what is no folder. Returns 1 if it is one. */
static int remove_entry(int fd, const char *name, unsigned char type)
{
	if (type == DT_DIR)
		return 1;
	for (int attempt = 0; attempt < 2; attempt++) {
		if (unlinkat(fd, name, 0) == 0 || errno == ENOENT)
			return 0;
		if (errno == EISDIR)
			return 1;
		if ((errno != EPERM && errno != EACCES) || fchmod(fd, 0700) < 0)
			break;
	}
	return -errno;
}

/*
 * Removes the entries of the folder on top of the stack. Returns 0 when it is empty, or 1 when it holds a folder, whose
 * name is put in `ret_child`. Reading begins anew each time, which is correct since what was read before is gone.
 */
static int remove_batch(int fd, bool again, char ret_child[NAME_MAX + 1])
{
	_Alignas(struct folder_entry) char batch[REMOVE_BATCH];

	if (again && lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	for (;;) {
		ssize_t n = syscall(SYS_getdents64, fd, batch, sizeof batch);

		if (n <= 0)
			return n < 0 ? -errno : 0;
		for (ssize_t at = 0; at < n;) {
			const struct folder_entry *entry = (const void *)(batch + at);
			int r;

			at += entry->length;
			if (bh_streq(entry->name, ".") || bh_streq(entry->name, ".."))
				continue;
			r = remove_entry(fd, entry->name, entry->type);
			if (r < 0)
				return r;
			if (r > 0 && unlinkat(fd, entry->name, AT_REMOVEDIR) < 0) {
				snprintf(ret_child, NAME_MAX + 1, "%s", entry->name);
				return 1;
			}
		}
		if ((size_t)n < sizeof batch / 2) /* the whole folder: the caller's rmdir tells if not */
			return 0;
	}
}

/* Depth-first with an explicit stack of open folders. */
static int remove_below(int parent_fd, const char *name, struct remove_level **levels, size_t *capacity, size_t *depth)
{
	int fd = remove_open(parent_fd, name);

	if (fd < 0)
		return fd;
	*levels = bh_grow(*levels, capacity, 1, sizeof **levels);
	(*levels)[0].fd = fd;
	(*levels)[0].begun = false;
	snprintf((*levels)[0].name, sizeof(*levels)[0].name, "%s", "");
	*depth = 1;
	while (*depth) {
		struct remove_level *top = &(*levels)[*depth - 1];
		char child[NAME_MAX + 1];
		int above, r = remove_batch(top->fd, top->begun, child);

		top->begun = true;

		if (r < 0)
			return r;
		if (r > 0) {
			if (*depth >= REMOVE_DEPTH_MAX)
				return -ELOOP;
			fd = remove_open(top->fd, child);
			if (fd < 0)
				return fd;
			*levels = bh_grow(*levels, capacity, *depth + 1, sizeof **levels);
			(*levels)[*depth].fd = fd;
			(*levels)[*depth].begun = false;
			memcpy((*levels)[(*depth)++].name, child, sizeof child);
			continue;
		}
		above = *depth > 1 ? (*levels)[*depth - 2].fd : parent_fd;
		if (unlinkat(above, *depth > 1 ? top->name : name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
			if (errno != ENOTEMPTY && errno != EEXIST)
				return -errno;
			continue; /* something was added meanwhile, or the folder was larger than one batch */
		}
		close(top->fd);
		(*depth)--;
	}
	return 0;
}

int bh_remove_tree_at(int dirfd, const char *name, struct bh_error *err)
{
	bh_auto_free struct remove_level *levels = NULL;
	size_t capacity = 0, depth = 0;
	int r;

	/* The usual case first: an empty folder, or nothing there. */
	if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno == ENOTDIR)
		r = unlinkat(dirfd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
	else if (errno == ENOTEMPTY || errno == EEXIST)
		r = remove_below(dirfd, name, &levels, &capacity, &depth);
	else
		r = -errno;
	while (depth)
		close(levels[--depth].fd);
	return r < 0 ? bh_error_set(err, -r, "remove %s", name) : 0;
}

int bh_lock_fd(int fd, bool exclusive, bool nonblock)
{
	int operation = (exclusive ? LOCK_EX : LOCK_SH) | (nonblock ? LOCK_NB : 0);

	while (flock(fd, operation) < 0) {
		if (errno != EINTR)
			return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	}
	return 0;
}

void bh_unlock_fd(int fd)
{
	flock(fd, LOCK_UN);
}

int bh_lock_is_held(int fd)
{
	if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
		flock(fd, LOCK_UN);
		return 0;
	}
	return errno == EWOULDBLOCK ? 1 : -errno;
}

static int set_flag(int fd, int get, int set, int flag, bool on)
{
	int flags = fcntl(fd, get);

	if (flags < 0 || fcntl(fd, set, on ? flags | flag : flags & ~flag) < 0)
		return -errno;
	return 0;
}

int bh_set_cloexec(int fd, bool on)
{
	return set_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on);
}

int bh_set_nonblock(int fd, bool on)
{
	return set_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, on);
}

char *bh_path_join(const char *a, const char *b)
{
	size_t length = strlen(a);

	while (length && a[length - 1] == '/')
		length--;
	while (*b == '/')
		b++;
	return bh_printf("%.*s/%s", (int)length, a, b);
}

char *bh_path_clean(const char *path)
{
	bh_auto_strv struct bh_strv parts = bh_strv_split(path, '/');
	bh_auto_strv struct bh_strv kept = { 0 };
	struct bh_buf b = { 0 };

	for (size_t i = 0; i < parts.count; i++) {
		const char *part = parts.items[i];

		if (!*part || bh_streq(part, "."))
			continue;
		if (!bh_streq(part, ".."))
			bh_strv_add(&kept, part);
		else if (kept.count)
			bh_strv_remove(&kept, kept.count - 1);
	}
	for (size_t i = 0; i < kept.count; i++)
		bh_buf_addf(&b, "/%s", kept.items[i]);
	if (!kept.count)
		bh_buf_addc(&b, '/');
	return bh_buf_take(&b);
}

char *bh_program_dir(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
	char *slash;

	if (n < 0)
		return bh_strdup("/usr/bin");
	path[n] = '\0';
	slash = strrchr(path, '/');
	if (slash)
		*slash = '\0';
	return bh_strdup(path);
}

char *bh_find_program(const char *name)
{
	static const char *const places[] = { "", "/../libexec/bulkhead", "/../../bin" };
	bh_auto_free char *folder = bh_program_dir();
	char *path = NULL;

	for (size_t i = 0; i < BH_ARRAY_SIZE(places); i++) {
		free(path);
		path = bh_printf("%s%s/%s", folder, places[i], name);
		if (access(path, X_OK) == 0)
			break;
	}
	return path;
}
