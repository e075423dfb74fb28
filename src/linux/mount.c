/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The new mount API, and its older equivalent.
 *
 * Options come as words. One table tells for each word what it does; words that the table doesn't know are the file
 * system's own and go to it as they are. Attributes are applied while the mount is detached, so there is no moment at
 * which a process could use a mount that isn't yet nosuid or read-only.
 */
#include "linux/mount.h"

#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#ifndef __GLIBC__
#include <sys/syscall.h>
#include <unistd.h>

/* Not every C library has these calls. */
static int fsopen(const char *type, unsigned flags)
{
	return (int)syscall(SYS_fsopen, type, flags);
}

static int fsconfig(int fd, unsigned command, const char *key, const void *value, int number)
{
	return (int)syscall(SYS_fsconfig, fd, command, key, value, number);
}

static int fsmount(int fd, unsigned flags, unsigned attributes)
{
	return (int)syscall(SYS_fsmount, fd, flags, attributes);
}

static int open_tree(int dirfd, const char *path, unsigned flags)
{
	return (int)syscall(SYS_open_tree, dirfd, path, flags);
}

static int move_mount(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	return (int)syscall(SYS_move_mount, from_fd, from, to_fd, to, flags);
}

static int mount_setattr(int dirfd, const char *path, unsigned flags, struct mount_attr *attributes, size_t size)
{
	return (int)syscall(__NR_mount_setattr, dirfd, path, flags, attributes, size);
}
#endif

#define ATIME MOUNT_ATTR__ATIME

enum effect { ATTRIBUTE, FLAG, PROPAGATION, SWITCH, NOTHING };

struct option_word {
	const char *name;
	enum effect effect;
	uint64_t set, clear; /* ATTRIBUTE: MOUNT_ATTR_*; FLAG and PROPAGATION: MS_*; SWITCH: offset of the bool in `set` */
	bool recursive;
};

#define SWITCH_AT(member) offsetof(struct bh_mount_options, member)

static const struct option_word option_words[] = {
	{ "defaults", NOTHING, 0, 0, false },
	{ "ro", ATTRIBUTE, MOUNT_ATTR_RDONLY, 0, false },
	{ "rw", ATTRIBUTE, 0, MOUNT_ATTR_RDONLY, false },
	{ "nosuid", ATTRIBUTE, MOUNT_ATTR_NOSUID, 0, false },
	{ "suid", ATTRIBUTE, 0, MOUNT_ATTR_NOSUID, false },
	{ "nodev", ATTRIBUTE, MOUNT_ATTR_NODEV, 0, false },
	{ "dev", ATTRIBUTE, 0, MOUNT_ATTR_NODEV, false },
	{ "noexec", ATTRIBUTE, MOUNT_ATTR_NOEXEC, 0, false },
	{ "exec", ATTRIBUTE, 0, MOUNT_ATTR_NOEXEC, false },
	{ "nodiratime", ATTRIBUTE, MOUNT_ATTR_NODIRATIME, 0, false },
	{ "diratime", ATTRIBUTE, 0, MOUNT_ATTR_NODIRATIME, false },
	{ "nosymfollow", ATTRIBUTE, MOUNT_ATTR_NOSYMFOLLOW, 0, false },
	{ "symfollow", ATTRIBUTE, 0, MOUNT_ATTR_NOSYMFOLLOW, false },
	{ "noatime", ATTRIBUTE, MOUNT_ATTR_NOATIME, ATIME, false },
	{ "strictatime", ATTRIBUTE, MOUNT_ATTR_STRICTATIME, ATIME, false },
	{ "relatime", ATTRIBUTE, MOUNT_ATTR_RELATIME, ATIME, false },
	{ "atime", ATTRIBUTE, MOUNT_ATTR_RELATIME, ATIME, false },
	{ "norelatime", ATTRIBUTE, MOUNT_ATTR_STRICTATIME, ATIME, false },
	{ "nostrictatime", ATTRIBUTE, MOUNT_ATTR_RELATIME, ATIME, false },
	{ "rro", ATTRIBUTE, MOUNT_ATTR_RDONLY, 0, true },
	{ "rrw", ATTRIBUTE, 0, MOUNT_ATTR_RDONLY, true },
	{ "rnosuid", ATTRIBUTE, MOUNT_ATTR_NOSUID, 0, true },
	{ "rsuid", ATTRIBUTE, 0, MOUNT_ATTR_NOSUID, true },
	{ "rnodev", ATTRIBUTE, MOUNT_ATTR_NODEV, 0, true },
	{ "rdev", ATTRIBUTE, 0, MOUNT_ATTR_NODEV, true },
	{ "rnoexec", ATTRIBUTE, MOUNT_ATTR_NOEXEC, 0, true },
	{ "rexec", ATTRIBUTE, 0, MOUNT_ATTR_NOEXEC, true },
	{ "rnodiratime", ATTRIBUTE, MOUNT_ATTR_NODIRATIME, 0, true },
	{ "rdiratime", ATTRIBUTE, 0, MOUNT_ATTR_NODIRATIME, true },
	{ "rnosymfollow", ATTRIBUTE, MOUNT_ATTR_NOSYMFOLLOW, 0, true },
	{ "rsymfollow", ATTRIBUTE, 0, MOUNT_ATTR_NOSYMFOLLOW, true },
	{ "rnoatime", ATTRIBUTE, MOUNT_ATTR_NOATIME, ATIME, true },
	{ "rstrictatime", ATTRIBUTE, MOUNT_ATTR_STRICTATIME, ATIME, true },
	{ "rrelatime", ATTRIBUTE, MOUNT_ATTR_RELATIME, ATIME, true },
	{ "ratime", ATTRIBUTE, MOUNT_ATTR_RELATIME, ATIME, true },
	{ "rnorelatime", ATTRIBUTE, MOUNT_ATTR_STRICTATIME, ATIME, true },
	{ "rnostrictatime", ATTRIBUTE, MOUNT_ATTR_RELATIME, ATIME, true },
	{ "sync", FLAG, MS_SYNCHRONOUS, 0, false },
	{ "async", FLAG, 0, MS_SYNCHRONOUS, false },
	{ "dirsync", FLAG, MS_DIRSYNC, 0, false },
	{ "lazytime", FLAG, MS_LAZYTIME, 0, false },
	{ "nolazytime", FLAG, 0, MS_LAZYTIME, false },
	{ "mand", FLAG, MS_MANDLOCK, 0, false },
	{ "nomand", FLAG, 0, MS_MANDLOCK, false },
	{ "iversion", NOTHING, 0, 0, false }, /* kept by the kernel itself since 4.16 */
	{ "noiversion", NOTHING, 0, 0, false },
	{ "silent", NOTHING, 0, 0, false },
	{ "loud", NOTHING, 0, 0, false },
	{ "newinstance", NOTHING, 0, 0, false }, /* devpts: every mount is one since 4.7 */
	{ "private", PROPAGATION, MS_PRIVATE, 0, false },
	{ "shared", PROPAGATION, MS_SHARED, 0, false },
	{ "slave", PROPAGATION, MS_SLAVE, 0, false },
	{ "unbindable", PROPAGATION, MS_UNBINDABLE, 0, false },
	{ "rprivate", PROPAGATION, MS_PRIVATE, 0, true },
	{ "rshared", PROPAGATION, MS_SHARED, 0, true },
	{ "rslave", PROPAGATION, MS_SLAVE, 0, true },
	{ "runbindable", PROPAGATION, MS_UNBINDABLE, 0, true },
	{ "bind", SWITCH, SWITCH_AT(bind), 0, false },
	{ "rbind", SWITCH, SWITCH_AT(recursive_bind), 0, false },
	{ "remount", SWITCH, SWITCH_AT(remount), 0, false },
	{ "tmpcopyup", SWITCH, SWITCH_AT(copy_up), 0, false },
	{ "idmap", SWITCH, SWITCH_AT(idmap), 0, false },
	{ "ridmap", SWITCH, SWITCH_AT(recursive_idmap), 0, false },
	{ "copy-symlink", SWITCH, SWITCH_AT(copy_symlink), 0, false },
};

const char *bh_mount_option_name(size_t index)
{
	return index < BH_ARRAY_SIZE(option_words) ? option_words[index].name : NULL;
}

static const struct option_word *find_word(const char *name)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(option_words); i++)
		if (strcmp(option_words[i].name, name) == 0)
			return &option_words[i];
	return NULL;
}

/* The last word about a bit counts, as in mount(8). */
static void merge(uint64_t *set, uint64_t *clear, const struct option_word *word)
{
	*set = (*set & ~word->clear) | word->set;
	*clear = (*clear & ~word->set) | word->clear;
}

/* As the MS_* flags of mount(2) have it: nodiratime besides one of the three others. */
static void note_atime(const struct option_word *word, struct bh_mount_options *o)
{
	static const char *const ways[] = { "noatime", "strictatime", "relatime", "nodiratime" };

	for (size_t i = 0; i < BH_ARRAY_SIZE(ways); i++) {
		if (!bh_streq(word->name, ways[i]))
			continue;
		o->atime_given = true;
		o->atime = (o->atime & ~word->clear) | word->set;
	}
}

static void apply_word(const struct option_word *word, struct bh_mount_options *o)
{
	switch (word->effect) {
	case ATTRIBUTE:
		if (word->recursive)
			merge(&o->recursive_set, &o->recursive_clear, word);
		else
			merge(&o->set, &o->clear, word);
		note_atime(word, o);
		break;
	case FLAG:
		o->flags = (o->flags & ~word->clear) | word->set;
		break;
	case PROPAGATION:
		o->propagation = word->set;
		o->propagation_recursive = word->recursive;
		break;
	case SWITCH:
		*(bool *)((char *)o + word->set) = true;
		break;
	case NOTHING:
		break;
	}
}

void bh_mount_options_parse(const struct bh_strv *words, struct bh_mount_options *ret_options)
{
	struct bh_mount_options o = { 0 };

	for (size_t i = 0; i < words->count; i++) {
		const struct option_word *word = find_word(words->items[i]);

		if (word)
			apply_word(word, &o);
		else if (*words->items[i])
			bh_strv_add(&o.data, words->items[i]);
	}
	if (o.recursive_bind)
		o.bind = true;
	/* mount(2) ignores the data of a bind, and configurations count on that ("bind" with "mode=755"). */
	if (o.bind)
		bh_strv_clear(&o.data);
	*ret_options = o;
}

void bh_mount_options_exact(struct bh_mount_options *o)
{
	const uint64_t times = ATIME | MOUNT_ATTR_NODIRATIME;
	uint64_t all = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW;

	if (!o->set && !o->clear)
		return;
	/* Access times are kept as they are unless a word asks for another way. */
	o->set = (o->set & ~times) | o->atime;
	o->clear = (o->clear & ~times) | (all & ~o->set) | (o->atime_given ? times & ~o->set : 0);
}

bool bh_mount_options_keep_locked(struct bh_mount_options *exact, const struct bh_mount_options *asked, int mount_fd)
{
	static const struct {
		unsigned long flag;
		uint64_t attribute;
	} lockable[] = {
		{ ST_RDONLY, MOUNT_ATTR_RDONLY }, { ST_NOSUID, MOUNT_ATTR_NOSUID }, { ST_NODEV, MOUNT_ATTR_NODEV }, { ST_NOEXEC, MOUNT_ATTR_NOEXEC }
	};
	struct statvfs fs;
	uint64_t times;

	if ((!asked->set && !asked->clear) || fstatvfs(mount_fd, &fs) < 0)
		return true;
	for (size_t i = 0; i < BH_ARRAY_SIZE(lockable); i++) {
		if (!(fs.f_flag & lockable[i].flag))
			continue;
		if (asked->clear & lockable[i].attribute)
			return false;
		exact->clear &= ~lockable[i].attribute;
	}
	times = fs.f_flag & ST_NOATIME ? MOUNT_ATTR_NOATIME : fs.f_flag & ST_RELATIME ? MOUNT_ATTR_RELATIME : MOUNT_ATTR_STRICTATIME;
	times |= fs.f_flag & ST_NODIRATIME ? MOUNT_ATTR_NODIRATIME : 0;
	return !asked->atime_given || (exact->set & (ATIME | MOUNT_ATTR_NODIRATIME)) == times;
}

void bh_mount_options_clear(struct bh_mount_options *options)
{
	bh_strv_clear(&options->data);
}

/* The kernel explains a refused option in the file system context's message queue. */
static int context_error(int context, int errnum, const char *type, const char *what, struct bh_error *err)
{
	char text[256];
	ssize_t n = read(context, text, sizeof text - 1);

	if (n > 2) {
		text[n] = '\0';
		return bh_error_set(err, errnum, "mount %s: %s (%s)", type, what, text + 2);
	}
	return bh_error_set(err, errnum, "mount %s: %s", type, what);
}

static int configure(int context, const char *type, const char *option, struct bh_error *err)
{
	const char *equals = strchr(option, '=');
	bh_auto_free char *key = NULL;
	int r;

	if (!equals) {
		r = fsconfig(context, FSCONFIG_SET_FLAG, option, NULL, 0);
	} else {
		key = bh_strndup(option, (size_t)(equals - option));
		r = fsconfig(context, FSCONFIG_SET_STRING, key, equals + 1, 0);
	}
	return r < 0 ? context_error(context, errno, type, option, err) : 0;
}

static int configure_all(int context, const char *type, const char *source, const struct bh_mount_options *o, struct bh_error *err)
{
	static const struct {
		unsigned long flag;
		const char *name;
	} flags[] = { { MS_SYNCHRONOUS, "sync" }, { MS_DIRSYNC, "dirsync" }, { MS_LAZYTIME, "lazytime" }, { MS_MANDLOCK, "mand" } };

	if (source && fsconfig(context, FSCONFIG_SET_STRING, "source", source, 0) < 0)
		return context_error(context, errno, type, source, err);
	for (size_t i = 0; i < BH_ARRAY_SIZE(flags); i++) {
		int r = o->flags & flags[i].flag ? configure(context, type, flags[i].name, err) : 0;

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < o->data.count; i++) {
		int r = configure(context, type, o->data.items[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

/* fsmount(2) takes no NOSYMFOLLOW before 5.14, so that one is set afterwards when asked for. */
#define FSMOUNT_ATTRIBUTES (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME)

int bh_mount_new(const char *type, const char *source, const struct bh_mount_options *options, struct bh_error *err)
{
	bh_auto(bh_close_helper) int context = -1;
	bh_auto_close int mount_fd = -1;
	uint64_t attributes = options->set | options->recursive_set;
	int r;

	if (!bh_linux_has(BH_CALL_MOUNT_API))
		return bh_error_set(err, ENOSYS, "mount %s", type);
	context = fsopen(type, FSOPEN_CLOEXEC);
	if (context < 0) {
		if (errno == ENOSYS)
			bh_linux_lacks(BH_CALL_MOUNT_API);
		return bh_error_set(err, errno, "mount %s", type);
	}
	r = configure_all(context, type, source, options, err);
	if (r < 0)
		return r;
	if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return context_error(context, errno, type, "create", err);
	mount_fd = fsmount(context, FSMOUNT_CLOEXEC, (unsigned)(attributes & FSMOUNT_ATTRIBUTES));
	if (mount_fd < 0)
		return context_error(context, errno, type, "fsmount", err);
	if (attributes & ~(uint64_t)FSMOUNT_ATTRIBUTES) {
		struct mount_attr attr = { .attr_set = attributes & ~(uint64_t)FSMOUNT_ATTRIBUTES };

		if (mount_setattr(mount_fd, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0)
			return bh_error_set(err, errno, "set the attributes of a %s mount", type);
	}
	return BH_TAKE_FD(mount_fd);
}

int bh_mount_copy(int dirfd, const char *path, bool recursive, struct bh_error *err)
{
	int fd;

	if (!bh_linux_has(BH_CALL_MOUNT_API))
		return bh_error_set(err, ENOSYS, "copy the mount %s", path);
	fd = open_tree(dirfd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (*path ? 0 : AT_EMPTY_PATH) | (recursive ? AT_RECURSIVE : 0));
	if (fd < 0) {
		if (errno == ENOSYS)
			bh_linux_lacks(BH_CALL_MOUNT_API);
		return bh_error_set(err, errno, "open_tree %s", path);
	}
	return fd;
}

static int set_attributes(int mount_fd, struct mount_attr *attr, bool recursive, struct bh_error *err)
{
	if (attr->attr_set & ATIME || attr->attr_clr & ATIME)
		attr->attr_clr |= ATIME;
	if (!attr->attr_set && !attr->attr_clr && !attr->propagation)
		return 0;
	if (!bh_linux_has(BH_CALL_MOUNT_API))
		return bh_error_set(err, ENOSYS, "mount_setattr");
	if (mount_setattr(mount_fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), attr, sizeof *attr) == 0)
		return 0;
	if (errno == ENOSYS)
		bh_linux_lacks(BH_CALL_MOUNT_API);
	return bh_error_set(err, errno, "mount_setattr");
}

int bh_mount_set(int mount_fd, const struct bh_mount_options *o, struct bh_error *err)
{
	struct mount_attr all = { .attr_set = o->recursive_set, .attr_clr = o->recursive_clear };
	struct mount_attr own = { .attr_set = o->set, .attr_clr = o->clear };
	int r;

	/* A copy of one mount has nothing below it: one call does. */
	if (o->bind && !o->recursive_bind) {
		own.attr_set |= o->recursive_set;
		own.attr_clr |= o->recursive_clear;
		own.propagation = o->propagation;
		return set_attributes(mount_fd, &own, false, err);
	}
	if (o->propagation_recursive)
		all.propagation = o->propagation;
	else
		own.propagation = o->propagation;
	r = set_attributes(mount_fd, &all, true, err);
	return r < 0 ? r : set_attributes(mount_fd, &own, false, err);
}

int bh_mount_set_propagation(int mount_fd, unsigned long propagation, bool recursive, struct bh_error *err)
{
	struct mount_attr attr = { .propagation = propagation };

	return set_attributes(mount_fd, &attr, recursive, err);
}

int bh_mount_set_readonly(int mount_fd, bool recursive, struct bh_error *err)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };

	return set_attributes(mount_fd, &attr, recursive, err);
}

int bh_mount_set_idmap(int mount_fd, int userns_fd, bool recursive, struct bh_error *err)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns_fd };

	return set_attributes(mount_fd, &attr, recursive, err);
}

int bh_mount_attach(int mount_fd, int target_fd, const char *name)
{
	if (move_mount(mount_fd, "", target_fd, name, MOVE_MOUNT_F_EMPTY_PATH | (*name ? 0 : MOVE_MOUNT_T_EMPTY_PATH)) < 0)
		return -errno;
	return 0;
}

struct fd_path {
	char text[32];
};

static struct fd_path fd_path(int fd)
{
	struct fd_path path;

	snprintf(path.text, sizeof path.text, "/proc/self/fd/%d", fd);
	return path;
}

/* Linux 5.8: numbers of /proc/PID/mountinfo, which are given again; 6.8: numbers that never are. */
#define MASK_MNT_ID 0x1000U
#define MASK_MNT_ID_UNIQUE 0x4000U

int bh_mount_id(int mount_fd, char ret_id[BH_MOUNT_ID_MAX], struct bh_error *err)
{
	struct statx st = { 0 };

	if (bh_statx(mount_fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, MASK_MNT_ID | MASK_MNT_ID_UNIQUE, &st) < 0)
		return bh_error_set(err, errno, "statx");
	if (!(st.stx_mask & (MASK_MNT_ID | MASK_MNT_ID_UNIQUE)))
		return bh_error_text(err, ENOTSUP, "this kernel does not tell mounts apart (Linux 5.8)");
	snprintf(ret_id, BH_MOUNT_ID_MAX, "%s:%llu", st.stx_mask & MASK_MNT_ID_UNIQUE ? "unique" : "id", (unsigned long long)st.stx_mnt_id);
	return 0;
}

int bh_mount_detach(const char *path, const char *id, struct bh_error *err)
{
	bh_auto_close int fd = open(path, O_PATH | O_CLOEXEC);
	char found[BH_MOUNT_ID_MAX];
	int r;

	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? -ENOENT : bh_error_set(err, errno, "open %s", path);
	r = bh_mount_id(fd, found, err);
	if (r < 0)
		return r;
	if (!bh_streq(found, id))
		return -ENOENT;
	/* By the fd: nothing else can have come to lie at the path meanwhile. */
	if (umount2(fd_path(fd).text, MNT_DETACH) < 0)
		return bh_error_set(err, errno, "detach the mount %s", path);
	return 0;
}

/* --- mount(2) ----------------------------------------------------------------------------------------------------- */

static const struct {
	uint64_t attribute;
	unsigned long flag;
} classic_attributes[] = {
	{ MOUNT_ATTR_RDONLY, MS_RDONLY },           { MOUNT_ATTR_NOSUID, MS_NOSUID },         { MOUNT_ATTR_NODEV, MS_NODEV },
	{ MOUNT_ATTR_NOEXEC, MS_NOEXEC },           { MOUNT_ATTR_NODIRATIME, MS_NODIRATIME }, { MOUNT_ATTR_NOATIME, MS_NOATIME },
	{ MOUNT_ATTR_STRICTATIME, MS_STRICTATIME },
};

static unsigned long classic_flags(const struct bh_mount_options *o)
{
	uint64_t attributes = o->set | o->recursive_set;
	unsigned long flags = 0;

	for (size_t i = 0; i < BH_ARRAY_SIZE(classic_attributes); i++)
		if (attributes & classic_attributes[i].attribute)
			flags |= classic_attributes[i].flag;
	return flags;
}

int bh_mount_classic(const char *type, const char *source, int source_fd, const struct bh_mount_options *o, int target_fd, struct bh_error *err)
{
	struct fd_path target = fd_path(target_fd);

	if (source_fd >= 0) {
		struct fd_path from = fd_path(source_fd);

		if (mount(from.text, target.text, NULL, MS_BIND | (o->recursive_bind ? MS_REC : 0), NULL) < 0)
			return bh_error_set(err, errno, "bind mount %s", source);
	} else {
		bh_auto_free char *data = bh_strv_join(&o->data, ",");

		if (mount(source, target.text, type, classic_flags(o) | o->flags, data) < 0)
			return bh_error_set(err, errno, "mount %s (%s)", type, data);
	}
	return 0;
}

/* Those that mean the same here. MS_RDONLY would make a new file system itself read-only, not only this mount of it. */
#define AT_ONCE_ATTRIBUTES \
	(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODIRATIME | MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME)

int bh_mount_at_once(const char *type, const char *source, const struct bh_mount_options *o, const char *path)
{
	uint64_t allowed = AT_ONCE_ATTRIBUTES | (bh_streq(type, "cgroup2") ? MOUNT_ATTR_RDONLY : 0);
	bh_auto_free char *data = NULL;

	if ((o->set | o->recursive_set) & ~allowed || o->propagation)
		return -EINVAL;
	for (size_t i = 0; i < o->data.count; i++)
		if (strchr(o->data.items[i], ','))
			return -EINVAL;
	data = bh_strv_join(&o->data, ",");
	return mount(source, path, type, classic_flags(o) | o->flags, data) < 0 ? -errno : 0;
}

/* A remount replaces all flags, so those that the mount has already are kept unless they are cleared. In a user
 * namespace the kernel refuses to drop them anyway. */
static unsigned long present_flags(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return 0;
	/* statfs(2): the ST_* values of these are those of MS_*. */
	return (unsigned long)fs.f_flags & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NODIRATIME | MS_NOATIME);
}

int bh_mount_classic_set(int mounted_fd, const struct bh_mount_options *o, struct bh_error *err)
{
	struct fd_path path = fd_path(mounted_fd);
	unsigned long flags = present_flags(mounted_fd) | classic_flags(o);

	for (size_t i = 0; i < BH_ARRAY_SIZE(classic_attributes); i++)
		if ((o->clear | o->recursive_clear) & classic_attributes[i].attribute &&
		    !((o->set | o->recursive_set) & classic_attributes[i].attribute))
			flags &= ~classic_attributes[i].flag;
	if ((o->set | o->clear | o->recursive_set | o->recursive_clear) && mount(NULL, path.text, NULL, MS_BIND | MS_REMOUNT | flags, NULL) < 0)
		return bh_error_set(err, errno, "remount with new attributes");
	if (o->propagation && mount(NULL, path.text, NULL, o->propagation | (o->propagation_recursive ? MS_REC : 0), NULL) < 0)
		return bh_error_set(err, errno, "set the propagation of a mount");
	return 0;
}
