/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The initramfs: the agent, this program and the kernel's modules, in a cpio archive that the kernel unpacks.
 *
 *	ROOT/initramfs/<kernel version>-<key>
 *
 * The key is a digest of what goes in (name, size, time of each file), so a new build or kernel gives a new archive, and the others of
 * that kernel are removed: machines that run have theirs open.
 */
#include "microvm/microvm-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "oci/digest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/sendfile.h>
#include <sys/sysmacros.h>

#define KEY_LENGTH 16
#define HEADER_LENGTH 110 /* "070701" and 13 numbers of eight hex digits */

/* --- cpio ------------------------------------------------------------------------------------------------------------- */

static int pad(struct bh_cpio *cpio)
{
	static const char zeros[4];
	size_t length = -cpio->offset & 3;

	cpio->offset += length;
	return length ? bh_write_all(cpio->fd, zeros, length) : 0;
}

static int put_header(struct bh_cpio *cpio, const char *name, mode_t mode, dev_t device, uint64_t size)
{
	char header[2 * HEADER_LENGTH];
	size_t name_size = strlen(name) + 1;
	int r;

	if (size > UINT32_MAX)
		return -EFBIG;
	snprintf(header, sizeof header, "070701%08x%08x%08x%08x%08x%08x%08" PRIx64 "%08x%08x%08x%08x%08zx%08x", cpio->next_inode++, mode, 0, 0, 1, 0,
		 size, 0, 0, major(device), minor(device), name_size, 0);
	r = bh_write_all(cpio->fd, header, HEADER_LENGTH);
	if (r == 0)
		r = bh_write_all(cpio->fd, name, name_size);
	cpio->offset += HEADER_LENGTH + name_size;
	return r < 0 ? r : pad(cpio);
}

int bh_cpio_add(struct bh_cpio *cpio, const char *name, mode_t mode, dev_t device, const void *bytes, size_t length)
{
	int r = put_header(cpio, name, mode, device, length);

	if (r == 0 && length)
		r = bh_write_all(cpio->fd, bytes, length);
	cpio->offset += length;
	return r < 0 ? r : pad(cpio);
}

int bh_cpio_add_file(struct bh_cpio *cpio, const char *name, mode_t mode, const char *path, struct bh_error *err)
{
	bh_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return bh_error_set(err, errno, "open %s", path);
	r = put_header(cpio, name, mode, 0, (uint64_t)st.st_size);
	for (off_t left = st.st_size; r == 0 && left > 0;) {
		ssize_t n = sendfile(cpio->fd, fd, NULL, (size_t)left);

		r = n < 0 ? -errno : n == 0 ? -EIO : 0;
		left -= BH_MAX(n, (ssize_t)0);
	}
	cpio->offset += (uint64_t)st.st_size;
	if (r == 0)
		r = pad(cpio);
	return r < 0 ? bh_error_set(err, -r, "copy %s", path) : 0;
}

int bh_cpio_end(struct bh_cpio *cpio)
{
	return bh_cpio_add(cpio, "TRAILER!!!", 0, 0, NULL, 0);
}

/* --- the archive ------------------------------------------------------------------------------------------------------ */

struct content {
	char *agent, *program;
	struct bh_strv modules; /* absolute paths, in the order of loading */
};

static void content_clear(struct content *c)
{
	free(c->agent);
	free(c->program);
	bh_strv_clear(&c->modules);
}

static int content_find(const struct bh_guest_kernel *k, struct content *ret_content, struct bh_error *err)
{
	bh_auto_strv struct bh_strv files = { 0 };
	int r = bh_guest_kernel_modules(k, &files, err);

	if (r < 0)
		return r;
	ret_content->agent = bh_find_program("bulkhead-guest");
	ret_content->program = bh_find_program("bulkhead");
	for (size_t i = 0; i < files.count; i++)
		bh_strv_take(&ret_content->modules, bh_path_join(k->modules, files.items[i]));
	return 0;
}

static int add_to_key(struct bh_sha256 *hash, const char *path, struct bh_error *err)
{
	bh_auto_free char *line = NULL;
	struct stat st;

	if (stat(path, &st) < 0)
		return bh_error_set(err, errno, "%s", path);
	line = bh_printf("%s %lld %lld.%09ld %llu\n", path, (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
			 (unsigned long long)st.st_ino);
	bh_sha256_update(hash, line, strlen(line));
	return 0;
}

static int content_key(const struct content *c, char ret_key[KEY_LENGTH + 1], struct bh_error *err)
{
	char digest[BH_DIGEST_MAX];
	struct bh_sha256 hash;
	int r;

	bh_sha256_init(&hash);
	r = add_to_key(&hash, c->agent, err);
	if (r == 0)
		r = add_to_key(&hash, c->program, err);
	for (size_t i = 0; r == 0 && i < c->modules.count; i++)
		r = add_to_key(&hash, c->modules.items[i], err);
	bh_sha256_digest(&hash, digest);
	snprintf(ret_key, KEY_LENGTH + 1, "%.*s", KEY_LENGTH, bh_digest_hex(digest));
	return r;
}

static int add_folders(struct bh_cpio *cpio)
{
	static const char *const folders[] = { "dev", "etc", "proc", "sys", "run", "tmp", "mnt", "modules" };
	int r = 0;

	for (size_t i = 0; r == 0 && i < BH_ARRAY_SIZE(folders); i++)
		r = bh_cpio_add(cpio, folders[i], S_IFDIR | 0755, 0, NULL, 0);
	/* The agent's standard streams, before it has mounted a /dev. */
	return r < 0 ? r : bh_cpio_add(cpio, "dev/console", S_IFCHR | 0600, makedev(5, 1), NULL, 0);
}

static int add_modules(struct bh_cpio *cpio, const struct content *c, struct bh_error *err)
{
	bh_auto_buf struct bh_buf order = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->modules.count; i++) {
		const char *base = strrchr(c->modules.items[i], '/') + 1;
		bh_auto_free char *name = bh_printf("modules/%s", base);

		r = bh_cpio_add_file(cpio, name, S_IFREG | 0444, c->modules.items[i], err);
		bh_buf_addf(&order, "%s\n", base);
	}
	if (r == 0 && order.length)
		r = bh_cpio_add(cpio, "modules/order", S_IFREG | 0444, 0, order.data, order.length);
	return r;
}

static int write_archive(int fd, const struct content *c, struct bh_error *err)
{
	struct bh_cpio cpio = { .fd = fd, .next_inode = 1 };
	static const char users[] = "root:x:0:0:root:/:/bin/false\n"; /* for lists of processes */
	int r = add_folders(&cpio);

	if (r == 0)
		r = bh_cpio_add(&cpio, "etc/passwd", S_IFREG | 0444, 0, users, strlen(users));
	if (r == 0)
		r = bh_cpio_add_file(&cpio, "bulkhead-guest", S_IFREG | 0555, c->agent, err);
	if (r == 0)
		r = bh_cpio_add_file(&cpio, "bulkhead", S_IFREG | 0555, c->program, err);
	if (r == 0)
		r = add_modules(&cpio, c, err);
	if (r == 0)
		r = bh_cpio_end(&cpio);
	return r < 0 && !err->message[0] ? bh_error_set(err, -r, "write the initramfs") : r;
}

static void remove_others(int dir_fd, const char *version, const char *name)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bh_auto_closedir DIR *dir = fdopendir(fd);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (bh_has_prefix(entry->d_name, version) && strlen(entry->d_name) == strlen(name) && !bh_streq(entry->d_name, name))
			unlinkat(dir_fd, entry->d_name, 0);
}

static int make(int dir_fd, const char *name, const struct content *c, struct bh_error *err)
{
	bh_auto_free char *temporary = bh_printf(".%s.%d", name, (int)getpid());
	bh_auto_close int fd = openat(dir_fd, temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int r;

	if (fd < 0)
		return bh_error_set(err, errno, "create an initramfs");
	r = write_archive(fd, c, err);
	if (r == 0 && renameat(dir_fd, temporary, dir_fd, name) < 0)
		r = bh_error_set(err, errno, "create an initramfs");
	if (r < 0)
		unlinkat(dir_fd, temporary, 0);
	return r;
}

int bh_initramfs_open(const char *root, const struct bh_guest_kernel *kernel, struct bh_error *err)
{
	bh_auto_free char *folder = bh_path_join(root, "initramfs"), *name = NULL;
	bh_auto_close int dir_fd = bh_make_dir(AT_FDCWD, folder, 0711, err);
	bh_auto(content_clear) struct content content = { 0 };
	char key[KEY_LENGTH + 1];
	int fd, r = dir_fd < 0 ? dir_fd : content_find(kernel, &content, err);

	if (r == 0)
		r = content_key(&content, key, err);
	if (r < 0)
		return r;
	name = bh_printf("%s-%s", kernel->version, key);
	fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		r = make(dir_fd, name, &content, err);
		if (r < 0)
			return r;
		remove_others(dir_fd, kernel->version, name);
		fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	}
	if (fd < 0)
		return bh_error_set(err, errno, "open the initramfs");
	bh_explain("initramfs", "path", name);
	return fd;
}
