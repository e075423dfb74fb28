/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The helper locks itself in before it reads the first byte from outside, in this order:
 *
 *  1. Detached clones of the mounts that stay: the staging folder (nosuid, nodev, noexec), and read-only the store's
 *     content and layers, and a source folder.
 *  2. New mount, network and IPC namespaces. The staging folder becomes the root, the others are attached below it, and
 *     the old root is detached.
 *  3. All fds that could lead elsewhere are closed: what stays is input, output, the result pipe, and messages.
 *  4. Capabilities shrink to those that files with foreign owners, device nodes and file capabilities need; no_new_privs.
 *
 * A process that was taken over here could fill the staging folder and lie about its result (the caller verifies the
 * manifest and the configuration again), and no more.
 */
#include "image/helper/helper-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static const int kept_capabilities[] = {
	CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP, CAP_SYS_ADMIN, /* attributes trusted.* */
};

static int clone_folder(int fd, const char *path, uint64_t attributes, struct bh_error *err)
{
	struct mount_attr set = { .attr_set = attributes | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC };
	int tree = open_tree(fd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

	if (tree < 0)
		return bh_error_set(err, errno, "sandbox: clone %s", *path ? path : "a folder");
	if (mount_setattr(tree, "", AT_EMPTY_PATH, &set, sizeof set) < 0) {
		int errnum = errno;

		close(tree);
		return bh_error_set(err, errnum, "sandbox: restrict %s", *path ? path : "a folder");
	}
	return tree;
}

static int attach(int tree, int root, const char *name, struct bh_error *err)
{
	if (mkdirat(root, name, 0700) < 0 && errno != EEXIST)
		return bh_error_set(err, errno, "sandbox: mkdir %s", name);
	if (move_mount(tree, "", root, name, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return bh_error_set(err, errno, "sandbox: attach %s", name);
	return 0;
}

struct trees {
	int root, content, layers, source;
};

static void close_trees(struct trees *t)
{
	bh_close_fd(&t->root);
	bh_close_fd(&t->content);
	bh_close_fd(&t->layers);
	bh_close_fd(&t->source);
}

/* Mounts can only be cloned in the namespace they belong to, and attached in another one. */
static int clone_trees(struct trees *t, bool has_source, struct bh_error *err)
{
	int r = t->root = clone_folder(BH_HELPER_STAGING_FD, "", 0, err);

	if (r >= 0)
		r = t->content = clone_folder(BH_HELPER_ROOT_FD, "content", MOUNT_ATTR_RDONLY, err);
	if (r >= 0)
		r = t->layers = clone_folder(BH_HELPER_ROOT_FD, "layers", MOUNT_ATTR_RDONLY, err);
	if (r >= 0 && has_source)
		r = t->source = clone_folder(BH_HELPER_SOURCE_FD, "", MOUNT_ATTR_RDONLY, err);
	/* The working directory follows into the new namespace, the fd would not. */
	if (r >= 0 && fchdir(BH_HELPER_STAGING_FD) < 0)
		r = bh_error_set(err, errno, "sandbox: enter the staging folder");
	return r < 0 ? r : 0;
}

static int attach_trees(const struct trees *t, struct bh_error *err)
{
	int r;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return bh_error_set(err, errno, "sandbox: make the mounts private");
	if (move_mount(t->root, "", AT_FDCWD, ".", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return bh_error_set(err, errno, "sandbox: attach the root");
	r = attach(t->content, t->root, SANDBOX_CONTENT, err);
	if (r == 0)
		r = attach(t->layers, t->root, SANDBOX_LAYERS, err);
	if (r == 0 && t->source >= 0)
		r = attach(t->source, t->root, SANDBOX_SOURCE, err);
	if (r < 0)
		return r;
	if (fchdir(t->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return bh_error_set(err, errno, "sandbox: change the root");
	return 0;
}

static int drop_capabilities(struct bh_error *err)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { 0 };
	uint32_t kept[2] = { 0 };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_capget, &header, data) < 0)
		return bh_error_set(err, errno, "sandbox: no_new_privs");
	for (size_t i = 0; i < BH_ARRAY_SIZE(kept_capabilities); i++)
		kept[kept_capabilities[i] / 32] |= 1u << (kept_capabilities[i] % 32);
	for (int i = 0; i < 2; i++) {
		data[i].effective = data[i].permitted &= kept[i];
		data[i].inheritable = 0;
	}
	if (syscall(SYS_capset, &header, data) < 0)
		return bh_error_set(err, errno, "sandbox: drop capabilities");
	return 0;
}

int helper_enter_sandbox(bool has_source, struct bh_error *err)
{
	struct trees trees = { -1, -1, -1, -1 };
	int r = clone_trees(&trees, has_source, err);

	if (r == 0 && unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC) < 0)
		r = bh_error_set(err, errno, "sandbox: new namespaces");
	if (r == 0)
		r = attach_trees(&trees, err);
	if (r == 0)
		r = drop_capabilities(err);
	close_trees(&trees);
	if (r == 0 && close_range(BH_HELPER_STAGING_FD, ~0U, 0) < 0)
		r = bh_error_set(err, errno, "sandbox: close what isn't needed");
	return r;
}
