/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots by overlayfs: the layers' folders below, upper/ above them, work/ beside it.
 *
 * The mount is made detached. There are three ways to tell the kernel the lower folders; the first that works is taken:
 *	"lowerdir+"   one string per layer (Linux 6.5; strings of fsconfig end at 255 bytes, so a longer path is given as
 *	              /proc/self/fd/N)
 *	"lowerdir"    one string with all layers as /proc/self/fd/N (Linux 5.2; about 15 layers fit)
 *	"mount(2)"    one page of options, in a mount namespace of its own from which the mount is cloned (any number)
 *
 * User namespaces. The lower layers are id-mapped clones of their mounts, so that a file of the image's root belongs to
 * the container's root. The upper folder is not id-mapped: overlayfs writes there with the container's real ids, and the
 * mounter's own id 0, which has no place in the map, must be able to create work/. It only gets the owner that the
 * mapped top layer shows. Before Linux 6.15 overlayfs takes layers only from mounts of the caller's namespace, so there
 * the clones are first attached in a short-lived mount namespace, all on one spot, since they are reached by their fds.
 *
 * That namespace belongs to a child that shares memory and fds with us and ends before we go on. Folders must be opened
 * in the namespace that mounts them, so the child does the whole attempt.
 */
#include "base/file.h"
#include "base/log.h"
#include "storage/overlay.h"
#include "storage/storage-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

#define FSCONFIG_VALUE_MAX 255 /* a longer string is refused by fsconfig(2) */
#define MOUNT_OPTIONS_MAX 4095 /* mount(2) copies one page */
#define CHILD_STACK_SIZE (64u << 10)

enum bh_overlay_way bh_overlay_first_way = BH_OVERLAY_LOWERDIR_PLUS;
static const char *const way_names[] = { "lowerdir+", "lowerdir", "mount(2)" };

/* One attempt: everything the child needs, and its answer. */
struct attempt {
	struct bh_snapshot *snapshot;
	int lower_fds[BH_SNAPSHOT_LAYERS_MAX]; /* highest first; -1 where the path itself is used */
	char *lowers[BH_SNAPSHOT_LAYERS_MAX];  /* highest first: what the kernel is told */
	size_t count;
	char *upper, *work; /* NULL: read-only */
	int upper_fd;       /* the container's folder, or -1 */
	int userns_fd;
	enum bh_overlay_way way;
	bool attach;  /* id-mapped clones must be attached before use */
	int mount_fd; /* the answer */
	struct bh_error err;
};

int bh_storage_clone(const char *path, int userns_fd, struct bh_error *err)
{
	bh_auto_close int fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (fd < 0)
		return bh_error_set(err, errno, "clone the mount at %s", path);
	if (userns_fd >= 0) {
		struct mount_attr map = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns_fd };

		if (mount_setattr(fd, "", AT_EMPTY_PATH, &map, sizeof map) < 0)
			return bh_error_set(err, errno, "id-map the mount at %s", path);
		bh_explain("id-map", "layer", path);
	}
	return BH_TAKE_FD(fd);
}

/* Turns the failure of a file system context into words; the kernel may have left its own in the context. */
static int context_error(int context, const char *what, struct bh_error *err)
{
	int errnum = errno;
	char text[256];
	ssize_t n = read(context, text, sizeof text - 1);

	if (n <= 2)
		return bh_error_set(err, errnum, "overlay: %s", what);
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return bh_error_set(err, errnum, "overlay: %s: %s", what, text + 2);
}

static int set_string(int context, const char *key, const char *value, struct bh_error *err)
{
	if (strlen(value) > FSCONFIG_VALUE_MAX)
		return bh_error_set(err, E2BIG, "overlay: %s", key);
	if (fsconfig(context, FSCONFIG_SET_STRING, key, value, 0) < 0)
		return context_error(context, key, err);
	return 0;
}

static char *join_lowers(const struct attempt *a)
{
	struct bh_buf b = { 0 };

	for (size_t i = 0; i < a->count; i++)
		bh_buf_addf(&b, "%s%s", i ? ":" : "", a->lowers[i]);
	return bh_buf_take(&b);
}

static int configure(int context, struct attempt *a, struct bh_error *err)
{
	int r = set_string(context, "source", "overlay", err);

	if (a->way == BH_OVERLAY_LOWERDIR) {
		bh_auto_free char *joined = join_lowers(a);

		r = r < 0 ? r : set_string(context, "lowerdir", joined, err);
	} else {
		for (size_t i = 0; r == 0 && i < a->count; i++)
			r = set_string(context, "lowerdir+", a->lowers[i], err);
	}
	if (r == 0 && a->upper)
		r = set_string(context, "upperdir", a->upper, err);
	if (r == 0 && a->upper)
		r = set_string(context, "workdir", a->work, err);
	if (r == 0 && a->upper && a->snapshot->is_volatile && fsconfig(context, FSCONFIG_SET_FLAG, "volatile", NULL, 0) < 0)
		r = context_error(context, "volatile", err);
	if (r == 0 && fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		r = context_error(context, "create", err);
	return r;
}

static int mount_by_context(struct attempt *a, struct bh_error *err)
{
	bh_auto_close int context = fsopen("overlay", FSOPEN_CLOEXEC);
	int r, fd;

	if (context < 0)
		return bh_error_set(err, errno, "overlay: fsopen");
	r = configure(context, a, err);
	if (r < 0)
		return r;
	fd = fsmount(context, FSMOUNT_CLOEXEC, a->upper ? 0 : MOUNT_ATTR_RDONLY);
	return fd < 0 ? context_error(context, "fsmount", err) : fd;
}

/* Runs in a mount namespace of its own. */
static int mount_by_options(struct attempt *a, struct bh_error *err)
{
	bh_auto_free char *lowers = join_lowers(a);
	bh_auto_free char *options = NULL;
	int fd;

	options = a->upper ? bh_printf("lowerdir=%s,upperdir=%s,workdir=%s%s", lowers, a->upper, a->work, a->snapshot->is_volatile ? ",volatile" : "") :
			     bh_printf("lowerdir=%s", lowers);
	if (strlen(options) > MOUNT_OPTIONS_MAX)
		return bh_error_set(err, E2BIG, "overlay: options");
	if (mount("overlay", a->snapshot->path, "overlay", a->upper ? 0 : MS_RDONLY, options) < 0)
		return bh_error_set(err, errno, "overlay: mount");
	fd = open_tree(AT_FDCWD, a->snapshot->path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	return fd < 0 ? bh_error_set(err, errno, "overlay: open_tree") : fd;
}

/* Opens what is given by fd, and decides under which words the kernel sees it. */
static int open_folders(struct attempt *a, struct bh_error *err)
{
	const struct bh_strv *layers = &a->snapshot->layers;

	for (size_t i = 0; i < a->count; i++) {
		const char *path = layers->items[layers->count - 1 - i];
		int fd = -1;

		if (a->userns_fd >= 0)
			fd = bh_storage_clone(path, a->userns_fd, err);
		else if (a->way != BH_OVERLAY_LOWERDIR_PLUS || strlen(path) > FSCONFIG_VALUE_MAX)
			fd = bh_open_dir(AT_FDCWD, path, O_PATH, err);
		else {
			a->lowers[i] = bh_strdup(path);
			continue;
		}
		if (fd < 0)
			return fd;
		a->lower_fds[i] = fd;
		a->lowers[i] = bh_printf("/proc/self/fd/%d", fd);
	}
	if (a->snapshot->readonly)
		return 0;
	a->upper_fd = bh_open_dir(AT_FDCWD, a->snapshot->path, O_PATH, err);
	if (a->upper_fd < 0)
		return a->upper_fd;
	a->upper = bh_printf("/proc/self/fd/%d/upper", a->upper_fd);
	a->work = bh_printf("/proc/self/fd/%d/work", a->upper_fd);
	return 0;
}

/* The upper folder hides the root of the layers: it takes the owner that the mapped top layer shows. */
static int own_upper(const struct attempt *a, struct bh_error *err)
{
	struct stat st;

	if (!a->upper || a->userns_fd < 0)
		return 0;
	if (fstat(a->lower_fds[0], &st) < 0 || fchownat(a->upper_fd, "upper", st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fchmodat(a->upper_fd, "upper", st.st_mode & 07777, 0) < 0)
		return bh_error_set(err, errno, "own %s/upper", a->snapshot->path);
	return 0;
}

static int run_attempt(struct attempt *a, struct bh_error *err)
{
	int r = open_folders(a, err);

	if (r == 0)
		r = own_upper(a, err);
	for (size_t i = 0; r == 0 && a->attach && i < a->count; i++)
		if (move_mount(a->lower_fds[i], "", AT_FDCWD, a->snapshot->path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
			r = bh_error_set(err, errno, "overlay: attach an id-mapped layer");
	if (r < 0)
		return r;
	return a->way == BH_OVERLAY_MOUNT ? mount_by_options(a, err) : mount_by_context(a, err);
}

static int child(void *argument)
{
	struct attempt *a = argument;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		a->mount_fd = bh_error_set(&a->err, errno, "overlay: make the helper's mounts private");
	else
		a->mount_fd = run_attempt(a, &a->err);
	_exit(0);
}

static int run_child(struct attempt *a)
{
	bh_auto_free char *stack = bh_malloc(CHILD_STACK_SIZE);
	pid_t pid;

	a->attach = a->userns_fd >= 0;
	a->mount_fd = -EIO;
	pid = clone(child, stack + CHILD_STACK_SIZE, CLONE_FILES | CLONE_NEWNS | CLONE_VM | CLONE_VFORK | SIGCHLD, a);
	if (pid < 0)
		return bh_error_set(&a->err, errno, "overlay: make a mount namespace");
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return a->mount_fd;
}

static void clear_attempt(struct attempt *a)
{
	for (size_t i = 0; i < a->count; i++) {
		bh_close_fd(&a->lower_fds[i]);
		free(BH_TAKE_PTR(a->lowers[i]));
	}
	bh_close_fd(&a->upper_fd);
	free(BH_TAKE_PTR(a->upper));
	free(BH_TAKE_PTR(a->work));
}

static int try_way(struct bh_snapshot *snapshot, int userns_fd, enum bh_overlay_way way, struct bh_error *err)
{
	struct attempt a = { .snapshot = snapshot, .count = snapshot->layers.count, .upper_fd = -1, .userns_fd = userns_fd, .way = way };
	int r = -EINVAL;

	for (size_t i = 0; i < a.count; i++)
		a.lower_fds[i] = -1;
	if (way != BH_OVERLAY_MOUNT)
		r = run_attempt(&a, &a.err);
	if (r == -EINVAL && (way == BH_OVERLAY_MOUNT || userns_fd >= 0)) {
		clear_attempt(&a);
		r = run_child(&a);
	}
	if (r < 0 && err)
		*err = a.err;
	clear_attempt(&a);
	return r;
}

static void explain(const struct bh_snapshot *snapshot, int userns_fd, enum bh_overlay_way way)
{
	char count[16];

	if (bh_explain_mode == BH_EXPLAIN_OFF)
		return;
	snprintf(count, sizeof count, "%zu", snapshot->layers.count);
	bh_explain("mount", "type", "overlay", "layers", count, "top", snapshot->layers.items[snapshot->layers.count - 1], "upper",
		   snapshot->readonly ? NULL : snapshot->path, "id-mapped", userns_fd >= 0 ? "yes" : NULL, "volatile",
		   snapshot->is_volatile && !snapshot->readonly ? "yes" : NULL, "by", way_names[way]);
}

/* One layer and nothing to write: overlayfs would refuse, and a read-only clone is the same. */
static int mount_single(struct bh_snapshot *snapshot, int userns_fd, struct bh_error *err)
{
	struct mount_attr readonly = { .attr_set = MOUNT_ATTR_RDONLY };
	bh_auto_close int fd = bh_storage_clone(snapshot->layers.items[0], userns_fd, err);

	if (fd < 0)
		return fd;
	if (mount_setattr(fd, "", AT_EMPTY_PATH, &readonly, sizeof readonly) < 0)
		return bh_error_set(err, errno, "make the clone of %s read-only", snapshot->layers.items[0]);
	bh_explain("mount", "type", "bind", "source", snapshot->layers.items[0], "options", "ro", "id-mapped", userns_fd >= 0 ? "yes" : NULL);
	return BH_TAKE_FD(fd);
}

/* No layers at all: what the container writes is all there is. */
static int mount_bare(struct bh_snapshot *snapshot, int userns_fd, struct bh_error *err)
{
	bh_auto_free char *upper = bh_path_join(snapshot->path, "upper");
	int fd;

	if (snapshot->readonly)
		return bh_error_text(err, EINVAL, "overlay: an image without layers and nothing to write to");
	fd = bh_storage_clone(upper, userns_fd, err);
	if (fd >= 0)
		bh_explain("mount", "type", "bind", "source", upper, "options", "rw", "id-mapped", userns_fd >= 0 ? "yes" : NULL);
	return fd;
}

static int overlay_mount(struct bh_snapshot *snapshot, int userns_fd, struct bh_error *err)
{
	int r = -EINVAL;

	if (!snapshot->layers.count)
		return mount_bare(snapshot, userns_fd, err);
	if (snapshot->layers.count > BH_SNAPSHOT_LAYERS_MAX)
		return bh_error_text(err, E2BIG, "overlay: %zu layers, more than %d", snapshot->layers.count, BH_SNAPSHOT_LAYERS_MAX);
	if (snapshot->readonly && snapshot->layers.count == 1)
		return mount_single(snapshot, userns_fd, err);
	for (int way = (int)bh_overlay_first_way; way <= BH_OVERLAY_MOUNT; way++) {
		r = try_way(snapshot, userns_fd, (enum bh_overlay_way)way, err);
		if (r >= 0)
			explain(snapshot, userns_fd, (enum bh_overlay_way)way);
		/* Only an old kernel's refusal of the words is a reason to say it otherwise. */
		if (r >= 0 || (r != -EINVAL && r != -ENOSYS && r != -E2BIG && r != -EOPNOTSUPP))
			break;
	}
	return r < 0 ? bh_error_prefix(err, "mount the snapshot %s", snapshot->path) : r;
}

static int overlay_remove(struct bh_snapshot *snapshot, struct bh_error *err)
{
	static const char *const folders[] = { "work", "upper" };
	bh_auto_close int fd = open(snapshot->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 0 : bh_error_set(err, errno, "open %s", snapshot->path);
	for (size_t i = 0; i < BH_ARRAY_SIZE(folders); i++) {
		int r = bh_remove_tree_at(fd, folders[i], err);

		if (r < 0)
			return bh_error_prefix(err, "snapshot %s", snapshot->path);
	}
	return 0;
}

static int make_folders(struct bh_snapshot *snapshot, struct bh_error *err)
{
	bh_auto_close int fd = bh_make_dir(AT_FDCWD, snapshot->path, 0700, err);
	bh_auto_free char *upper = bh_path_join(snapshot->path, "upper");

	if (fd < 0)
		return fd;
	if (mkdirat(fd, "upper", 0755) < 0 || mkdirat(fd, "work", 0700) < 0)
		return bh_error_set(err, errno, "make upper and work below %s", snapshot->path);
	return bh_storage_copy_root_attributes(snapshot, upper, err);
}

static int overlay_prepare(struct bh_snapshot *snapshot, struct bh_error *err)
{
	int r = snapshot->readonly ? 0 : make_folders(snapshot, err);

	if (r < 0)
		overlay_remove(snapshot, NULL);
	else if (!snapshot->readonly)
		bh_explain("snapshot", "driver", "overlay", "path", snapshot->path);
	return r;
}

static int overlay_reset(struct bh_snapshot *snapshot, struct bh_error *err)
{
	int r = overlay_remove(snapshot, err);

	return r < 0 ? r : overlay_prepare(snapshot, err);
}

static int overlay_usage(struct bh_snapshot *snapshot, struct bh_snapshot_usage *ret_usage, struct bh_error *err)
{
	bh_auto_free char *upper = bh_path_join(snapshot->path, "upper");

	if (snapshot->readonly) {
		*ret_usage = (struct bh_snapshot_usage){ 0 };
		return 0;
	}
	return bh_storage_usage(upper, ret_usage, err);
}

/* The only sure answer is a mount: the file system below may not be fit for an upper folder. */
static int overlay_check(const char *path, struct bh_error *err)
{
	bh_auto_free char *folder = bh_printf("%s/overlay-check-XXXXXX", path);
	struct bh_snapshot snapshot = { .driver = &bh_snapshot_overlay };
	bh_auto_close int mount_fd = -1;
	int r;

	if (!mkdtemp(folder))
		return bh_error_set(err, errno, "make a folder in %s", path);
	snapshot.path = bh_strdup(folder);
	bh_strv_addf(&snapshot.layers, "%s/lower", folder);
	r = bh_mkdir_all(AT_FDCWD, snapshot.layers.items[0], 0755, err);
	if (r == 0)
		r = overlay_prepare(&snapshot, err);
	if (r == 0)
		r = mount_fd = overlay_mount(&snapshot, -1, err);
	bh_close_fd(&mount_fd);
	bh_remove_tree_at(AT_FDCWD, folder, NULL);
	bh_snapshot_clear(&snapshot);
	return r < 0 ? r : 0;
}

const struct bh_snapshot_driver bh_snapshot_overlay = {
	.name = "overlay",
	.check = overlay_check,
	.prepare = overlay_prepare,
	.mount = overlay_mount,
	.usage = overlay_usage,
	.reset = overlay_reset,
	.remove = overlay_remove,
};
