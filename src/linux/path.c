/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resolution below a root.
 *
 * The walk holds an O_PATH fd for every folder from the root down to where it is. A name is opened with O_NOFOLLOW from
 * the last of them; a link's text is put in front of what is left to walk (from the root if it is absolute); `..` drops
 * the last fd and never the root's. No step uses a path of more than one name, so a folder that is renamed meanwhile
 * can't lead out: each fd was reached by going down from the root.
 */
#include "linux/path.h"

#include "base/memory.h"
#include "base/string.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#define LINKS_MAX 40  /* as the kernel's own limit (path_resolution(7)) */
#define DEPTH_MAX 256 /* folders below the root */
#define RACES_MAX 64  /* EAGAIN: a rename or mount happened during the lookup of a ".." */

struct walk {
	int root_fd;
	int fds[DEPTH_MAX]; /* fds[0..depth): the folders below the root we went through */
	size_t depth;
	unsigned links;
	char *rest; /* what is still to walk */
	bool make;
	enum bh_node_kind kind;
};

static int here(const struct walk *w)
{
	return w->depth ? w->fds[w->depth - 1] : w->root_fd;
}

static void go_to_root(struct walk *w)
{
	while (w->depth)
		close(w->fds[--w->depth]);
}

static void walk_clear(struct walk *w)
{
	go_to_root(w);
	free(w->rest);
}

static int push(struct walk *w, int fd)
{
	if (w->depth == DEPTH_MAX) {
		close(fd);
		return -ENAMETOOLONG;
	}
	w->fds[w->depth++] = fd;
	return 0;
}

static int follow(struct walk *w, int link_fd)
{
	char text[PATH_MAX];
	ssize_t n = readlinkat(link_fd, "", text, sizeof text - 1);
	char *rest;

	if (n < 0)
		return -errno;
	if (++w->links > LINKS_MAX)
		return -ELOOP;
	text[n] = '\0';
	if (*text == '/')
		go_to_root(w);
	rest = bh_printf("%s/%s", text, w->rest);
	free(w->rest);
	w->rest = rest;
	return strlen(rest) > (size_t)16 * PATH_MAX ? -ENAMETOOLONG : 0;
}

static int make_missing(struct walk *w, const char *name, bool last)
{
	int fd;

	if (!last || w->kind == BH_NODE_DIRECTORY)
		return mkdirat(here(w), name, 0755) < 0 && errno != EEXIST ? -errno : 0;
	fd = openat(here(w), name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return errno == EEXIST ? 0 : -errno;
	close(fd);
	return 0;
}

/* Walks one name. The fd of a last name that is no link is kept by push as well. */
static int step(struct walk *w, const char *name, bool last, bool follow_last)
{
	struct stat st;
	int fd, r;

	if (!*name || bh_streq(name, "."))
		return 0;
	if (bh_streq(name, "..")) {
		if (w->depth)
			close(w->fds[--w->depth]);
		return 0;
	}
	fd = openat(here(w), name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && w->make) {
		r = make_missing(w, name, last);
		if (r < 0)
			return r;
		fd = openat(here(w), name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	}
	if (fd < 0)
		return -errno;
	r = fstat(fd, &st) < 0 ? -errno : 0;
	if (r == 0 && S_ISLNK(st.st_mode) && (!last || follow_last)) {
		r = follow(w, fd);
		close(fd);
		return r;
	}
	if (r == 0 && !last && !S_ISDIR(st.st_mode))
		r = -ENOTDIR;
	if (r < 0) {
		close(fd);
		return r;
	}
	return push(w, fd);
}

static bool nothing_left(const char *rest)
{
	return !rest[strspn(rest, "/")];
}

static int walk(struct walk *w, bool follow_last)
{
	while (!nothing_left(w->rest)) {
		char *name = w->rest + strspn(w->rest, "/");
		size_t length = strcspn(name, "/");
		bh_auto_free char *copy = bh_strndup(name, length);
		bool last = nothing_left(name + length);
		char *rest = bh_strdup(name + length);
		int r;

		free(w->rest);
		w->rest = rest;
		r = step(w, copy, last, follow_last);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Turns the O_PATH fd that the walk ended at into one with the flags asked for. */
static int reopen(struct walk *w, int flags)
{
	char name[32];
	int fd;

	if (flags & O_PATH)
		fd = w->depth ? w->fds[--w->depth] : openat(w->root_fd, ".", O_PATH | O_CLOEXEC);
	else if (!w->depth)
		fd = openat(w->root_fd, ".", flags | O_CLOEXEC);
	else {
		/* The magic link of our own fd: it can't lead anywhere else. */
		snprintf(name, sizeof name, "/proc/self/fd/%d", here(w));
		fd = open(name, (flags & ~O_NOFOLLOW) | O_CLOEXEC);
	}
	return fd < 0 ? -errno : fd;
}

static int check_kind(int fd, int flags)
{
	struct stat st;

	if (!(flags & O_DIRECTORY))
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

static int open_by_walk(struct walk *w, const char *path, int flags)
{
	int r, fd = -1;

	w->rest = bh_strdup(path);
	r = walk(w, !(flags & O_NOFOLLOW));
	if (r == 0)
		fd = r = reopen(w, flags);
	if (fd >= 0)
		r = check_kind(fd, flags);
	walk_clear(w);
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

int bh_open_in_root(int root_fd, const char *path, int flags)
{
	struct walk w = { .root_fd = root_fd };
	int r = -EAGAIN;

	for (int i = 0; r == -EAGAIN && i < RACES_MAX; i++)
		r = bh_openat2(root_fd, path, (uint64_t)(unsigned)flags | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
	if (r != -ENOSYS)
		return r;
	return open_by_walk(&w, path, flags);
}

int bh_make_in_root(int root_fd, const char *path, enum bh_node_kind kind, struct bh_error *err)
{
	struct walk w = { .root_fd = root_fd, .make = true, .kind = kind };
	int r = -ENOSYS;

	/* Mostly only the file itself is missing. */
	if (kind == BH_NODE_FILE)
		r = bh_openat2(root_fd, path, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
	if (r < 0)
		r = bh_open_in_root(root_fd, path, O_PATH);
	if (r == -ENOENT)
		r = open_by_walk(&w, path, O_PATH);
	if (r < 0)
		return bh_error_set(err, -r, "make %s inside the root file system", path);
	return r;
}
