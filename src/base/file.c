/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>

int bh_read_fd(int fd, size_t max, struct bh_buf *ret_content)
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
	}
	content.data[content.length] = '\0';
	bh_buf_clear(ret_content);
	*ret_content = content;
	return 0;
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
	r = renameat2(dirfd, temporary, dirfd, name, flags & BH_WRITE_EXCL ? RENAME_NOREPLACE : 0);
	if (r == 0 && (flags & BH_WRITE_SYNC))
		return sync_folder(dirfd, name) < 0 ? bh_error_set(err, errno, "sync the folder of %s", name) : 0;
	if (r < 0) {
		r = errno;
		unlinkat(dirfd, temporary, 0);
		return bh_error_set(err, r, "rename %s", name);
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

struct remove_level {
	DIR *dir;
	char name[NAME_MAX + 1];
};

static int remove_entry(int dirfd, const char *name, bool *ret_is_folder)
{
	*ret_is_folder = false;
	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM && errno != EACCES)
		return -errno;
	if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return -errno;
	*ret_is_folder = true;
	return 0;
}

static int remove_open(int dirfd, const char *name, dev_t device, DIR **ret_dir)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, 0700, 0) == 0)
		fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && device && st.st_dev != device) {
		close(fd);
		return -EXDEV;
	}
	*ret_dir = fdopendir(fd);
	if (!*ret_dir) {
		close(fd);
		return -ENOMEM;
	}
	return 0;
}

/* Depth-first with an explicit stack of open folders: one step either descends, removes an entry, or leaves a level. */
static int remove_below(int parent_fd, const char *name, struct remove_level **levels, size_t *capacity, size_t *depth)
{
	struct stat st;
	int r;

	if (fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	*levels = bh_grow(*levels, capacity, 1, sizeof **levels);
	r = remove_open(parent_fd, name, 0, &(*levels)[0].dir);
	if (r < 0)
		return r;
	*depth = 1;
	snprintf((*levels)[0].name, sizeof (*levels)[0].name, "%s", "");
	while (*depth) {
		struct remove_level *top = &(*levels)[*depth - 1];
		int fd = dirfd(top->dir);
		struct dirent *entry = readdir(top->dir);
		bool folder;

		if (!entry) {
			int parent = *depth > 1 ? dirfd((*levels)[*depth - 2].dir) : parent_fd;

			closedir(top->dir);
			(*depth)--;
			if (unlinkat(parent, *depth ? top->name : name, AT_REMOVEDIR) < 0 && errno != ENOENT)
				return -errno;
			continue;
		}
		if (bh_streq(entry->d_name, ".") || bh_streq(entry->d_name, ".."))
			continue;
		r = remove_entry(fd, entry->d_name, &folder);
		if (r == -EPERM || r == -EACCES) {
			fchmod(fd, 0700);
			r = remove_entry(fd, entry->d_name, &folder);
		}
		if (r < 0)
			return r;
		if (!folder)
			continue;
		if (*depth >= REMOVE_DEPTH_MAX)
			return -ELOOP;
		*levels = bh_grow(*levels, capacity, *depth + 1, sizeof **levels);
		top = &(*levels)[*depth];
		snprintf(top->name, sizeof top->name, "%s", entry->d_name);
		r = remove_open(fd, entry->d_name, st.st_dev, &top->dir);
		if (r < 0)
			return r;
		(*depth)++;
	}
	return 0;
}

int bh_remove_tree_at(int dirfd, const char *name, struct bh_error *err)
{
	bh_auto_free struct remove_level *levels = NULL;
	size_t capacity = 0, depth = 0;
	bool folder;
	int r = remove_entry(dirfd, name, &folder);

	if (r == 0 && folder)
		r = remove_below(dirfd, name, &levels, &capacity, &depth);
	while (depth)
		closedir(levels[--depth].dir);
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
	static const char *const places[] = { ".", "../libexec/bulkhead", "../../bin" };
	bh_auto_free char *folder = bh_program_dir();
	char *path = NULL;

	for (size_t i = 0; i < BH_ARRAY_SIZE(places); i++) {
		free(path);
		path = bh_printf("%s/%s/%s", folder, places[i], name);
		if (access(path, X_OK) == 0)
			break;
	}
	return path;
}
