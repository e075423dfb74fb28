/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a microVM gets of the host's files: which mounts are shared, and what they are called inside.
 *
 *	first     the root file system, where it is a folder of the host (struct bh_microvm.rootfs)
 *	then      each folder that is mounted, in the order of the mounts
 *	last      all single files, as "0", "1" ... in one folder, since only folders can be served
 *
 * That last folder is a tmpfs with the files mounted in it, made by the session in a mount namespace that ends with it (bh_microvm_shares_gather), and
 * read-only itself: a file can be written if its mount can, but not replaced.
 */
#include "microvm/microvm-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "linux/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define GATHER_AT "/tmp" /* a folder that every host has; nobody else sees what is mounted there */

bool bh_microvm_is_share(const struct bh_spec_mount *m)
{
	return bh_streq(m->type, "bind") || bh_strv_contains(&m->options, "bind") || bh_strv_contains(&m->options, "rbind");
}

void bh_microvm_shares_clear(struct bh_microvm_shares *s)
{
	for (size_t i = 0; i < s->count; i++)
		bh_close_fd(&s->folders[i].fd);
	for (size_t i = 0; i < s->file_count; i++)
		bh_close_fd(&s->files[i].fd);
	for (size_t i = 0; i < s->source_count; i++)
		free(s->sources[i]);
	bh_free_ptr(&s->files);
	bh_free_ptr(&s->sources);
	*s = (struct bh_microvm_shares){ 0 };
}

/* Takes the fd over. */
static int add_folder(struct bh_microvm_shares *s, int fd, bool readonly, struct bh_error *err)
{
	if (s->count == BH_AGENT_SHARES_MAX) {
		bh_close_fd(&fd);
		return bh_error_text(err, E2BIG, "a microVM can share %u folders at most", BH_AGENT_SHARES_MAX);
	}
	s->folders[s->count++] = (struct bh_microvm_share){ .fd = fd, .readonly = readonly };
	return 0;
}

static int add_root(struct bh_microvm_shares *s, const struct bh_microvm *vm, const struct bh_spec *spec, struct bh_error *err)
{
	int fd;

	if (!vm->rootfs)
		return 0;
	fd = open(vm->rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	bh_explain("share", "source", vm->rootfs, "target", "/", "mode", spec->root.readonly ? "ro" : "rw");
	return fd < 0 ? bh_error_set(err, errno, "root file system: open %s", vm->rootfs) : add_folder(s, fd, spec->root.readonly, err);
}

static void add_file(struct bh_microvm_shares *s, int fd, bool readonly)
{
	s->files = bh_realloc(s->files, (s->file_count + 1) * sizeof *s->files);
	s->files[s->file_count++] = (struct bh_microvm_share){ .fd = fd, .readonly = readonly };
}

static int add_mount(struct bh_microvm_shares *s, const struct bh_spec_mount *m, char **ret_source, struct bh_error *err)
{
	bool readonly = bh_strv_contains(&m->options, "ro");
	bh_auto_close int fd = open(m->source, O_PATH | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return bh_error_set(err, errno, "mount %s: open %s", m->destination, m->source);
	bh_explain("share", "source", m->source, "target", m->destination, "mode", readonly ? "ro" : "rw");
	if (S_ISREG(st.st_mode)) { /* its folder's number is known when all others are */
		*ret_source = bh_printf("/%zu", s->file_count);
		add_file(s, BH_TAKE_FD(fd), readonly);
		return 0;
	}
	if (!S_ISDIR(st.st_mode))
		return bh_error_text(err, ENOTSUP, "mount %s: only folders and files can be shared with a microVM, and %s is neither", m->destination,
				     m->source);
	*ret_source = bh_printf(BH_AGENT_SHARES "/%zu", s->count);
	return add_folder(s, BH_TAKE_FD(fd), readonly, err);
}

/* The folder of files is the last one. */
static int add_folder_of_files(struct bh_microvm_shares *s, struct bh_error *err)
{
	if (!s->file_count)
		return 0;
	for (size_t i = 0; i < s->source_count; i++)
		if (s->sources[i] && !bh_has_prefix(s->sources[i], BH_AGENT_SHARES)) {
			char *full = bh_printf(BH_AGENT_SHARES "/%zu%s", s->count, s->sources[i]);

			free(s->sources[i]);
			s->sources[i] = full;
		}
	return add_folder(s, -1, false, err);
}

int bh_microvm_shares_open(const struct bh_microvm *vm, const struct bh_spec *spec, struct bh_microvm_shares *s, struct bh_error *err)
{
	int r = add_root(s, vm, spec, err);

	s->sources = bh_calloc(spec->mount_count + 1, sizeof *s->sources);
	s->source_count = spec->mount_count;
	for (size_t i = 0; r == 0 && i < spec->mount_count; i++)
		if (bh_microvm_is_share(&spec->mounts[i]))
			r = add_mount(s, &spec->mounts[i], &s->sources[i], err);
	return r < 0 ? r : add_folder_of_files(s, err);
}

/* --- the folder of files -------------------------------------------------------------------------------------------------- */

/* The file becomes a mount of its own, while we are where its file system is mounted. */
static int detach_file(struct bh_microvm_share *file, struct bh_error *err)
{
	bh_auto_close int copy = bh_mount_copy(file->fd, "", false, err);
	int r = copy < 0 ? copy : file->readonly ? bh_mount_set_readonly(copy, false, err) : 0;

	if (r < 0)
		return r;
	bh_close_fd(&file->fd);
	file->fd = BH_TAKE_FD(copy);
	return 0;
}

static int place_file(const struct bh_microvm_share *file, size_t number, struct bh_error *err)
{
	bh_auto_free char *path = bh_printf(GATHER_AT "/%zu", number);
	bh_auto_close int made = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), target = open(path, O_PATH | O_CLOEXEC);
	int r = made < 0 || target < 0 ? -errno : bh_mount_attach(file->fd, target, "");

	return r < 0 ? bh_error_set(err, -r, "gather the shared files") : 0;
}

/* In a mount namespace that nobody else has. Returns the folder's fd, a detached mount with all that is mounted in it. */
static int gather(struct bh_microvm_shares *s, struct bh_error *err)
{
	bh_auto_close int fd = -1;
	int r = 0;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("tmpfs", GATHER_AT, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") < 0)
		return bh_error_set(err, errno, "make a folder for the shared files");
	for (size_t i = 0; r == 0 && i < s->file_count; i++)
		r = place_file(&s->files[i], i, err);
	if (r == 0)
		fd = r = bh_mount_copy(AT_FDCWD, GATHER_AT, true, err);
	if (r >= 0)
		r = bh_mount_set_readonly(fd, false, err);
	return r < 0 ? r : BH_TAKE_FD(fd);
}

int bh_microvm_shares_gather(struct bh_microvm_shares *s, struct bh_error *err)
{
	bh_auto_close int outside = -1, root = -1;
	int r = 0;

	if (!s->file_count)
		return 0;
	for (size_t i = 0; r == 0 && i < s->file_count; i++)
		r = detach_file(&s->files[i], err);
	if (r < 0)
		return r;
	outside = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (outside < 0 || root < 0 || unshare(CLONE_NEWNS) < 0)
		return bh_error_set(err, errno, "make a mount namespace for the shared files");
	r = gather(s, err);
	/* What the monitor is given is mounted in the old one. */
	if (setns(outside, CLONE_NEWNS) < 0 || fchdir(root) < 0 || chroot(".") < 0)
		r = bh_error_set(err, errno, "return to the host's mount namespace");
	if (r < 0)
		return r;
	s->folders[s->count - 1].fd = r;
	for (size_t i = 0; i < s->file_count; i++)
		bh_close_fd(&s->files[i].fd);
	return 0;
}
