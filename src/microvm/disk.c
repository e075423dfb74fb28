/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks of a microVM.
 *
 *	ROOT/disks/<image key>           the image's files as EROFS, one for all microVMs of it; there, whole, by a rename
 *	ROOT/disks/writable              an empty ext4 file system, sparse: the template
 *	ROOT/containers/<id>/disk        the container's copy of it: made by its first start, kept over stops, removed with the container
 */
#include "microvm/microvm-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "storage/erofs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>

#define WRITABLE_SIZE (16LL << 30) /* what it may grow to; the file is sparse */
#define MAKE_EXT4 "/sbin/mke2fs"

static int open_disks(const char *root, struct bh_error *err)
{
	bh_auto_free char *folder = bh_path_join(root, "disks");

	return bh_make_dir(AT_FDCWD, folder, 0711, err);
}

/* An empty file that gets its name by publish(). */
static int create_temporary(int dir_fd, const char *name, char **ret_temporary, struct bh_error *err)
{
	bh_auto_free char *temporary = bh_printf(".%s.%d", name, (int)getpid());
	int fd = openat(dir_fd, temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		return bh_error_set(err, errno, "create the disk %s", name);
	*ret_temporary = BH_TAKE_PTR(temporary);
	return fd;
}

static int publish(int dir_fd, const char *temporary, const char *name, int r, struct bh_error *err)
{
	if (r == 0 && renameat(dir_fd, temporary, dir_fd, name) < 0)
		r = bh_error_set(err, errno, "name the disk %s", name);
	if (r < 0)
		unlinkat(dir_fd, temporary, 0);
	return r;
}

static int make_image(const struct bh_microvm *vm, int dir_fd, struct bh_error *err)
{
	bh_auto_close int tree = vm->mount_image(vm->mount_context, err), fd = -1, folder = -1;
	bh_auto_free char *temporary = NULL;
	int64_t begin = bh_monotonic_ns();
	struct bh_erofs_stats stats;
	char size[32], time[32];
	int r;

	if (tree < 0)
		return tree;
	fd = r = create_temporary(dir_fd, vm->image_key, &temporary, err);
	if (r < 0)
		return r;
	folder = r = bh_open_dir(tree, ".", 0, err);
	if (r >= 0)
		r = bh_erofs_write(folder, fd, &stats, err);
	r = publish(dir_fd, temporary, vm->image_key, BH_MIN(r, 0), err);
	if (r < 0)
		return bh_error_prefix(err, "write the image as a disk");
	snprintf(time, sizeof time, "%lld", (long long)((bh_monotonic_ns() - begin) / 1000000));
	bh_explain("image-disk", "key", vm->image_key, "bytes", bh_format_bytes_binary(stats.bytes, size), "ms", time);
	return 0;
}

int bh_microvm_image_disk(const struct bh_microvm *vm, struct bh_error *err)
{
	bh_auto_close int dir_fd = open_disks(vm->root, err);
	int fd, r;

	if (dir_fd < 0)
		return dir_fd;
	fd = openat(dir_fd, vm->image_key, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 || errno != ENOENT)
		return fd < 0 ? bh_error_set(err, errno, "open the image's disk") : fd;
	r = make_image(vm, dir_fd, err);
	if (r < 0)
		return r;
	fd = openat(dir_fd, vm->image_key, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? bh_error_set(err, errno, "open the image's disk") : fd;
}

/* --- the writable one --------------------------------------------------------------------------------------------------- */

int bh_microvm_make_ext4(int fd, int64_t size, struct bh_error *err)
{
	bh_auto_free char *target = bh_printf("/proc/self/fd/%d", fd), *blocks = bh_printf("%lldk", (long long)(size / 1024));
	char *const argv[] = { (char[]){ "mke2fs" },
			       (char[]){ "-q" },
			       (char[]){ "-F" },
			       (char[]){ "-t" },
			       (char[]){ "ext4" },
			       (char[]){ "-m" },
			       (char[]){ "0" },
			       (char[]){ "-J" },
			       (char[]){ "size=16" },
			       (char[]){ "-E" },
			       (char[]){ "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0" },
			       target,
			       blocks,
			       NULL };
	char *const environment[] = { NULL };
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return bh_error_set(err, errno, "fork");
	if (pid == 0) {
		bh_set_cloexec(fd, false);
		execve(MAKE_EXT4, argv, environment);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return bh_error_set(err, errno, "wait for mke2fs");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return bh_error_text(err, ENOENT, MAKE_EXT4 " is missing: install the package e2fsprogs");
	return status ? bh_error_text(err, EIO, "mke2fs could not make the writable disk") : 0;
}

static int open_template(const char *root, struct bh_error *err)
{
	bh_auto_close int dir_fd = open_disks(root, err), fd = -1;
	bh_auto_free char *temporary = NULL;
	int r;

	if (dir_fd < 0)
		return dir_fd;
	r = openat(dir_fd, "writable", O_RDONLY | O_CLOEXEC);
	if (r >= 0 || errno != ENOENT)
		return r < 0 ? bh_error_set(err, errno, "open the template of writable disks") : r;
	fd = r = create_temporary(dir_fd, "writable", &temporary, err);
	if (r < 0)
		return r;
	r = publish(dir_fd, temporary, "writable", bh_microvm_make_ext4(fd, WRITABLE_SIZE, err), err);
	return r < 0 ? r : BH_TAKE_FD(fd);
}

/* Only where there is data: a disk of 16 GiB has a few megabytes of it. */
static int copy_sparse(int from, int to, struct bh_error *err)
{
	struct stat st;
	off_t data = 0, hole;

	if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
		return bh_error_set(err, errno, "size the writable disk");
	while ((data = lseek(from, data, SEEK_DATA)) >= 0 && (hole = lseek(from, data, SEEK_HOLE)) > data) {
		off_t at = data;

		while (data < hole) {
			ssize_t n = copy_file_range(from, &data, to, &at, (size_t)(hole - data), 0);

			if (n <= 0)
				return bh_error_set(err, n < 0 ? errno : EIO, "copy the writable disk");
		}
	}
	return 0;
}

int bh_microvm_writable_disk(const struct bh_microvm *vm, struct bh_error *err)
{
	bh_auto_close int dir_fd = bh_open_dir(AT_FDCWD, vm->folder, 0, err), template = -1, fd = -1;
	bh_auto_free char *temporary = NULL;
	int r;

	if (dir_fd < 0)
		return dir_fd;
	fd = openat(dir_fd, "disk", O_RDWR | O_CLOEXEC);
	if (fd >= 0 || errno != ENOENT)
		return fd < 0 ? bh_error_set(err, errno, "open the writable disk") : BH_TAKE_FD(fd);
	template = open_template(vm->root, err);
	if (template <0)
		return template;
	fd = r = create_temporary(dir_fd, "disk", &temporary, err);
	if (r < 0)
		return r;
	r = publish(dir_fd, temporary, "disk", copy_sparse(template, fd, err), err);
	return r < 0 ? r : BH_TAKE_FD(fd);
}
