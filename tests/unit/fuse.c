/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The FUSE server, driven in two ways: by messages that no kernel would send, and by this machine's kernel, which mounts it
 * (/dev/fuse) for real programs to work in. Needs root.
 */
// timeout: 240
#include "base/file.h"
#include "vmm/fuse/fuse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
/* cmocka comes after the headers it needs */
#include <cmocka.h>

static char *root, *shared;
static char top[PATH_MAX];
static struct bh_fuse *server;
static int proc_fds = -1;

/* --- by messages ---------------------------------------------------------------------------------------------------- */

struct reply {
	struct fuse_out_header header;
	union {
		char bytes[BH_FUSE_MESSAGE_MAX];
		struct fuse_entry_out entry;
		struct fuse_attr_out attr;
		struct fuse_open_out open;
		struct fuse_write_out write;
		struct fuse_init_out init;
		struct {
			struct fuse_entry_out entry;
			struct fuse_open_out open;
		} create;
	};
};
static struct reply reply;
static uint32_t as_user;

/* Sends a request in pieces of odd sizes. Returns the reply's error; what belongs to it is in `reply`. */
static int send_raw(const void *message, size_t size, size_t room)
{
	struct iovec in[3], out[3];
	size_t length = 12345, first = size / 3, second = size / 2 - size / 3;

	in[0] = (struct iovec){ (void *)message, first };
	in[1] = (struct iovec){ (char *)message + first, second };
	in[2] = (struct iovec){ (char *)message + first + second, size - first - second };
	out[0] = (struct iovec){ &reply, BH_MIN(room, 7u) };
	out[1] = (struct iovec){ (char *)&reply + out[0].iov_len, BH_MIN(room - out[0].iov_len, 50u) };
	out[2] = (struct iovec){ (char *)&reply + out[0].iov_len + out[1].iov_len, room - out[0].iov_len - out[1].iov_len };
	memset(&reply, 0x5a, sizeof reply.header);
	if (bh_fuse_handle(server, in, 3, out, 3, &length) < 0)
		return -ENOMSG;
	assert_true(length <= room);
	assert_true(length == 0 || reply.header.len == length);
	return length ? reply.header.error : 1;
}

static int send_with(uint32_t opcode, uint64_t node, const void *arguments, size_t size, const void *more, size_t more_size)
{
	struct fuse_in_header header = { .len = (uint32_t)(sizeof header + size + more_size), .opcode = opcode, .unique = 77, .nodeid = node };
	bh_auto_free char *message = bh_malloc(header.len);
	int r;

	header.uid = header.gid = as_user;
	memcpy(message, &header, sizeof header);
	if (size)
		memcpy(message + sizeof header, arguments, size);
	if (more_size)
		memcpy(message + sizeof header + size, more, more_size);
	r = send_raw(message, header.len, sizeof reply);
	assert_true(r == 1 || r == -ENOMSG || reply.header.unique == 77);
	return r;
}

static int ask(uint32_t opcode, uint64_t node, const void *arguments, size_t size)
{
	return send_with(opcode, node, arguments, size, NULL, 0);
}

static int ask_name(uint32_t opcode, uint64_t node, const char *name)
{
	return ask(opcode, node, name, strlen(name) + 1);
}

static void start(bool readonly)
{
	struct fuse_init_in in = { .major = 7, .minor = 38, .flags = UINT32_MAX };
	bh_auto_close int fd = open(shared, O_PATH | O_CLOEXEC);
	const struct bh_fuse_options options = { .root_fd = fd, .proc_fds_fd = proc_fds, .readonly = readonly };

	bh_fuse_free(server);
	assert_int_equal(bh_fuse_make(&options, &server, NULL), 0);
	assert_int_equal(bh_fuse_enter_thread(server, NULL), 0);
	assert_int_equal(ask(FUSE_GETATTR, 1, (char[16]){ 0 }, 16), -EIO);
	assert_int_equal(ask(FUSE_INIT, 0, &in, sizeof in), 0);
	assert_int_equal(reply.init.major, 7);
	assert_int_equal(reply.init.max_write, BH_FUSE_WRITE_MAX);
}

static char *below(const char *name)
{
	return bh_printf("%s/%s", root, name);
}

static int setup(void **state)
{
	char template[] = "/var/tmp/bh-fuse-XXXXXX";

	(void)state;
	root = bh_strdup(mkdtemp(template));
	shared = below("shared");
	assert_non_null(getcwd(top, sizeof top));
	proc_fds = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return mkdir(shared, 0755);
}

static int teardown(void **state)
{
	(void)state;
	bh_fuse_free(server);
	close(proc_fds);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(bh_remove_tree_at(AT_FDCWD, root, NULL), 0);
	free(root);
	free(shared);
	return 0;
}

static uint64_t lookup(uint64_t node, const char *name)
{
	assert_int_equal(ask_name(FUSE_LOOKUP, node, name), 0);
	return reply.entry.nodeid;
}

static uint64_t make_file(uint64_t node, const char *name, uint64_t *ret_handle)
{
	const struct fuse_create_in in = { .flags = O_RDWR | O_CREAT, .mode = S_IFREG | 0640 };

	assert_int_equal(send_with(FUSE_CREATE, node, &in, sizeof in, name, strlen(name) + 1), 0);
	*ret_handle = reply.create.open.fh;
	return reply.create.entry.nodeid;
}

static void forget(uint64_t node, uint64_t count)
{
	assert_int_equal(ask(FUSE_FORGET, node, &(struct fuse_forget_in){ count }, sizeof(struct fuse_forget_in)), 1);
}

static int get_attributes(uint64_t node)
{
	return ask(FUSE_GETATTR, node, &(struct fuse_getattr_in){ 0 }, sizeof(struct fuse_getattr_in));
}

static void test_files(void **state)
{
	struct fuse_write_in write_in = { .size = 5 };
	struct fuse_read_in read_in = { .size = 4096 };
	struct fuse_link_in link_in;
	uint64_t file, folder, again;

	(void)state;
	start(false);
	as_user = 4711;
	file = make_file(1, "file", &write_in.fh);
	assert_int_equal(reply.create.entry.attr.uid, 4711);
	assert_int_equal(reply.create.entry.attr.gid, 4711);
	assert_int_equal(reply.create.entry.attr.mode, S_IFREG | 0640);
	assert_int_equal(geteuid(), 0);
	assert_int_equal(send_with(FUSE_WRITE, file, &write_in, sizeof write_in, "hello", 5), 0);
	assert_int_equal(reply.write.size, 5);
	read_in.fh = write_in.fh;
	read_in.offset = 1;
	assert_int_equal(ask(FUSE_READ, file, &read_in, sizeof read_in), 0);
	assert_int_equal(reply.header.len, sizeof reply.header + 4);
	assert_memory_equal(reply.bytes, "ello", 4);
	assert_int_equal(lookup(1, "file"), file);
	assert_int_equal(send_with(FUSE_MKDIR, 1, &(struct fuse_mkdir_in){ .mode = 02755 }, sizeof(struct fuse_mkdir_in), "dir", 4), 0);
	folder = reply.entry.nodeid;
	assert_true(folder != file);
	link_in.oldnodeid = file;
	assert_int_equal(send_with(FUSE_LINK, folder, &link_in, sizeof link_in, "two", 4), 0);
	assert_int_equal(reply.entry.nodeid, file);
	assert_int_equal(reply.entry.attr.nlink, 2);
	assert_int_equal(ask_name(FUSE_UNLINK, 1, "file"), 0);
	assert_int_equal(ask_name(FUSE_UNLINK, 1, "file"), -ENOENT);
	assert_int_equal(ask_name(FUSE_RMDIR, 1, "dir"), -ENOTEMPTY);
	/* Three lookups: made, found, linked. */
	forget(file, 2);
	assert_int_equal(get_attributes(file), 0);
	forget(file, 100);
	assert_int_equal(get_attributes(file), -ESTALE);
	again = lookup(folder, "two");
	assert_true(again != file);
	forget(1, 1000);
	assert_int_equal(get_attributes(1), 0);
	as_user = 0;
}

static void test_escapes(void **state)
{
	static const char *const bad[] = { "..", ".", "", "/", "a/b", "../outside", "/etc/passwd" };
	bh_auto_free char *outside = below("outside");
	struct fuse_rename2_in rename_in = { .newdir = 1 };
	struct fuse_open_in open_in = { 0 };
	uint64_t link, fifo;

	(void)state;
	start(false);
	assert_int_equal(bh_create_file_at(AT_FDCWD, outside, "secret", 6, 0600, NULL), 0);
	for (size_t i = 0; i < BH_ARRAY_SIZE(bad); i++) {
		assert_int_equal(ask_name(FUSE_LOOKUP, 1, bad[i]), -EINVAL);
		assert_int_equal(ask_name(FUSE_UNLINK, 1, bad[i]), -EINVAL);
		assert_int_equal(ask_name(FUSE_RMDIR, 1, bad[i]), -EINVAL);
		assert_int_equal(send_with(FUSE_MKDIR, 1, (char[8]){ 0 }, 8, bad[i], strlen(bad[i]) + 1), -EINVAL);
		assert_int_equal(send_with(FUSE_CREATE, 1, (char[16]){ 0 }, 16, bad[i], strlen(bad[i]) + 1), -EINVAL);
	}
	assert_int_equal(send_with(FUSE_RENAME2, 1, &rename_in, sizeof rename_in, "x\0../y", 7), -EINVAL);
	assert_int_equal(send_with(FUSE_RENAME2, 1, &rename_in, sizeof rename_in, "x\0", 2), -EINVAL);
	/* A link leads nowhere here, whatever is said of it. */
	assert_int_equal(ask(FUSE_SYMLINK, 1, "out\0..", 7), 0);
	link = reply.entry.nodeid;
	assert_int_equal(reply.entry.attr.mode & S_IFMT, S_IFLNK);
	assert_int_equal(ask(FUSE_READLINK, link, NULL, 0), 0);
	assert_memory_equal(reply.bytes, "..", 2);
	assert_int_equal(ask_name(FUSE_LOOKUP, link, "outside"), -ENOTDIR);
	assert_int_equal(ask(FUSE_OPEN, link, &open_in, sizeof open_in), -ELOOP);
	assert_int_equal(ask(FUSE_OPENDIR, link, &open_in, sizeof open_in), -ENOTDIR);
	assert_int_equal(send_with(FUSE_CREATE, 1, &(struct fuse_create_in){ .flags = O_RDWR }, sizeof(struct fuse_create_in), "out", 4), -ELOOP);
	assert_int_equal(send_with(FUSE_SETATTR, link, &(struct fuse_setattr_in){ .valid = FATTR_MODE, .mode = 0777 }, sizeof(struct fuse_setattr_in),
				   NULL, 0),
			 -EOPNOTSUPP);
	/* Nothing waits for a pipe's other end, and no device can be had. */
	assert_int_equal(send_with(FUSE_MKNOD, 1, &(struct fuse_mknod_in){ .mode = S_IFIFO | 0666 }, sizeof(struct fuse_mknod_in), "pipe", 5), 0);
	fifo = reply.entry.nodeid;
	assert_int_equal(ask(FUSE_OPEN, fifo, &open_in, sizeof open_in), -ENXIO);
	assert_int_equal(send_with(FUSE_CREATE, 1, &(struct fuse_create_in){ .flags = O_RDWR }, sizeof(struct fuse_create_in), "pipe", 5), -ENXIO);
	assert_int_equal(
		send_with(FUSE_MKNOD, 1, &(struct fuse_mknod_in){ .mode = S_IFCHR | 0666, .rdev = 0x103 }, sizeof(struct fuse_mknod_in), "null", 5),
		-EPERM);
	assert_int_equal(send_with(FUSE_SETXATTR, 1, &(struct fuse_setxattr_in){ .size = 1 }, sizeof(struct fuse_setxattr_in), "trusted.x\0y", 11),
			 -EOPNOTSUPP);
}

/* While the folder that a name is looked up in moves about, nothing but what is in it is found. */
static void test_rename_race(void **state)
{
	bh_auto_free char *inner = bh_printf("%s/inner", shared), *a = bh_printf("%s/inner/a", shared), *b = bh_printf("%s/b", root);
	uint64_t folder;
	pid_t child;
	struct stat st;

	(void)state;
	start(false);
	assert_int_equal(mkdir(inner, 0755), 0);
	assert_int_equal(mkdir(a, 0755), 0);
	folder = lookup(lookup(1, "inner"), "a");
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			if (rename(a, b) < 0 || rename(b, a) < 0)
				_exit(1);
	}
	for (unsigned i = 0; i < 20000; i++) {
		assert_int_equal(ask_name(FUSE_LOOKUP, folder, ".."), -EINVAL);
		assert_int_equal(ask_name(FUSE_LOOKUP, folder, "outside"), -ENOENT);
		assert_int_equal(ask_name(FUSE_LOOKUP, folder, "shared"), -ENOENT);
	}
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_true(stat(a, &st) == 0 || stat(b, &st) == 0);
}

static void test_lies(void **state)
{
	struct fuse_write_in write_in = { .size = UINT32_MAX };
	struct fuse_read_in read_in = { .size = UINT32_MAX, .offset = 0 };
	struct fuse_in_header header = { .len = 8, .opcode = FUSE_LOOKUP, .nodeid = 1 };
	struct fuse_batch_forget_in batch = { .count = UINT32_MAX };
	bh_auto_free char *long_name = bh_malloc(5000);
	uint64_t file;

	(void)state;
	start(false);
	file = make_file(1, "liar", &write_in.fh);
	read_in.fh = write_in.fh;
	assert_int_equal(send_with(FUSE_WRITE, file, &write_in, sizeof write_in, "x", 1), -EINVAL);
	assert_int_equal(ask(FUSE_READ, file, &read_in, sizeof read_in), 0);
	read_in.offset = UINT64_MAX;
	assert_int_equal(ask(FUSE_READ, file, &read_in, sizeof read_in), -EINVAL);
	assert_int_equal(ask(FUSE_READ, 1, &read_in, sizeof read_in), -EBADF);
	assert_int_equal(ask(FUSE_READDIR, file, &read_in, sizeof read_in), -EBADF);
	assert_int_equal(ask(FUSE_READ, file, &read_in, sizeof read_in - 1), -EINVAL);
	read_in.fh += 1;
	assert_int_equal(ask(FUSE_READ, file, &read_in, sizeof read_in), -EBADF);
	for (uint64_t node = 0; node < 5000; node++)
		assert_int_equal(get_attributes(node), node == 1 ? 0 : -ESTALE);
	assert_int_equal(get_attributes(file ^ 1ull << 40), -ESTALE);
	assert_int_equal(send_raw(&header, sizeof header, sizeof reply), -ENOMSG);
	assert_int_equal(send_raw(&header, 10, sizeof reply), -ENOMSG);
	header.len = sizeof header + 1;
	assert_int_equal(send_raw(&header, sizeof header, sizeof reply), -ENOMSG);
	header.len = sizeof header;
	assert_int_equal(send_raw(&header, sizeof header, 15), -ENOMSG);
	assert_int_equal(send_raw(&header, sizeof header, 16), -EINVAL);
	header.opcode = 4096;
	assert_int_equal(send_raw(&header, sizeof header, 16), -ENOSYS);
	memset(long_name, 'x', 5000);
	assert_int_equal(ask(FUSE_LOOKUP, 1, long_name, 300), -EINVAL);
	long_name[299] = '\0';
	assert_int_equal(ask(FUSE_LOOKUP, 1, long_name, 300), -EINVAL);
	long_name[255] = '\0';
	assert_int_equal(ask(FUSE_LOOKUP, 1, long_name, 256), -ENOENT);
	assert_int_equal(send_with(FUSE_BATCH_FORGET, 0, &batch, sizeof batch, long_name, 4000), 1);
	batch.count = 1;
	assert_int_equal(send_with(FUSE_BATCH_FORGET, 0, &batch, sizeof batch, &(struct fuse_forget_one){ file, 1 }, 16), 1);
	assert_int_equal(get_attributes(file), -ESTALE);
	assert_int_equal(ask(FUSE_RELEASE, file, &(struct fuse_release_in){ .fh = write_in.fh }, sizeof(struct fuse_release_in)), 0);
	assert_int_equal(ask(FUSE_RELEASE, file, &(struct fuse_release_in){ .fh = write_in.fh }, sizeof(struct fuse_release_in)), -EBADF);
}

static void test_readonly(void **state)
{
	struct fuse_open_in open_in = { .flags = O_RDWR };
	uint64_t file, handle;

	(void)state;
	start(false);
	make_file(1, "fixed", &handle);
	start(true);
	file = lookup(1, "fixed");
	assert_int_equal(ask(FUSE_OPEN, file, &open_in, sizeof open_in), -EROFS);
	open_in.flags = O_TRUNC;
	assert_int_equal(ask(FUSE_OPEN, file, &open_in, sizeof open_in), -EROFS);
	open_in.flags = O_RDONLY;
	assert_int_equal(ask(FUSE_OPEN, file, &open_in, sizeof open_in), 0);
	assert_int_equal(ask(FUSE_SETATTR, file, &(struct fuse_setattr_in){ 0 }, sizeof(struct fuse_setattr_in)), -EROFS);
	assert_int_equal(ask_name(FUSE_UNLINK, 1, "fixed"), -EROFS);
	assert_int_equal(send_with(FUSE_MKDIR, 1, (char[8]){ 0 }, 8, "new", 4), -EROFS);
	assert_int_equal(send_with(FUSE_CREATE, 1, (char[16]){ 0 }, 16, "fixed", 6), -EROFS);
	assert_int_equal(send_with(FUSE_WRITE, file, &(struct fuse_write_in){ .fh = reply.open.fh, .size = 1 }, sizeof(struct fuse_write_in), "x", 1),
			 -EROFS);
	assert_int_equal(send_with(FUSE_RENAME, 1, &(struct fuse_rename_in){ 1 }, 8, "fixed\0other", 12), -EROFS);
	assert_int_equal(send_with(FUSE_FALLOCATE, file, (char[32]){ 0 }, 32, NULL, 0), -EROFS);
}

static void test_attributes(void **state)
{
	struct fuse_setattr_in in = { .valid = FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_SIZE | FATTR_MTIME };
	struct fuse_write_in write_in = { .size = 1 };
	struct fuse_getxattr_in get = { .size = 100 };
	uint64_t file;

	(void)state;
	start(false);
	file = make_file(1, "attributes", &write_in.fh);
	in.mode = 06755;
	in.uid = 1000;
	in.gid = 2000;
	in.size = 10000;
	in.mtime = 1234567890;
	in.mtimensec = 5;
	assert_int_equal(ask(FUSE_SETATTR, file, &in, sizeof in), 0);
	assert_int_equal(reply.attr.attr.mode, S_IFREG | 06755);
	assert_int_equal(reply.attr.attr.uid, 1000);
	assert_int_equal(reply.attr.attr.gid, 2000);
	assert_int_equal(reply.attr.attr.size, 10000);
	assert_int_equal(reply.attr.attr.mtime, 1234567890);
	assert_int_equal(reply.attr.attr.mtimensec, 5);
	/* Writing takes the bits away. */
	assert_int_equal(send_with(FUSE_WRITE, file, &write_in, sizeof write_in, "x", 1), 0);
	assert_int_equal(get_attributes(file), 0);
	assert_int_equal(reply.attr.attr.mode, S_IFREG | 0755);
	in.valid = FATTR_MTIME;
	in.mtimensec = UTIME_OMIT;
	assert_int_equal(ask(FUSE_SETATTR, file, &in, sizeof in), 0);
	assert_int_equal(reply.attr.attr.mtimensec, 999999999);
	assert_int_equal(send_with(FUSE_SETXATTR, file, &(struct fuse_setxattr_in){ .size = 3 }, sizeof(struct fuse_setxattr_in), "user.x\0abc", 10),
			 0);
	assert_int_equal(send_with(FUSE_SETXATTR, file, &(struct fuse_setxattr_in){ .size = 4 }, sizeof(struct fuse_setxattr_in), "user.x\0abc", 10),
			 -EINVAL);
	assert_int_equal(send_with(FUSE_GETXATTR, file, &get, sizeof get, "user.x", 7), 0);
	assert_memory_equal(reply.bytes, "abc", 3);
	get.size = 2;
	assert_int_equal(send_with(FUSE_GETXATTR, file, &get, sizeof get, "user.x", 7), -ERANGE);
	get.size = 100;
	assert_int_equal(ask(FUSE_LISTXATTR, file, &get, sizeof get), 0);
	assert_memory_equal(reply.bytes, "user.x", 7);
	assert_int_equal(ask_name(FUSE_REMOVEXATTR, file, "user.x"), 0);
	assert_int_equal(ask_name(FUSE_REMOVEXATTR, file, "user.x"), -ENODATA);
}

/* In a child that is nobody in particular: returns which step went wrong, or 0. */
static int act_unprivileged(void)
{
	const struct fuse_init_in init = { .major = 7, .minor = 38 };
	const struct fuse_create_in create = { .flags = O_RDWR | O_CREAT, .mode = 0644 };
	const struct fuse_setattr_in set = { .valid = FATTR_UID, .uid = 1 };
	struct bh_fuse_options options = { .root_fd = open(shared, O_PATH | O_CLOEXEC) };

	if (chmod(shared, 0777) < 0 || setgid(65534) < 0 || setuid(65534) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0)
		return 1;
	options.proc_fds_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (bh_fuse_make(&options, &server, NULL) < 0 || bh_fuse_enter_thread(server, NULL) < 0 || ask(FUSE_INIT, 0, &init, sizeof init) != 0)
		return 2;
	as_user = 1000;
	if (send_with(FUSE_CREATE, 1, &create, sizeof create, "mine", 5) != 0 || reply.create.entry.attr.uid != 65534)
		return 3;
	return ask(FUSE_SETATTR, reply.create.entry.nodeid, &set, sizeof set) == -EPERM ? 0 : 4;
}

/* Where nothing can be given to other users all else works. */
static void test_unprivileged(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	if (child == 0)
		_exit(act_unprivileged());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* --- by the kernel -------------------------------------------------------------------------------------------------- */

static void serve(int fd)
{
	bh_auto_free char *in = bh_malloc(BH_FUSE_MESSAGE_MAX), *out = bh_malloc(BH_FUSE_MESSAGE_MAX);

	for (;;) {
		ssize_t n = read(fd, in, BH_FUSE_MESSAGE_MAX);
		struct iovec request = { in, (size_t)BH_MAX(n, 0) }, answer = { out, BH_FUSE_MESSAGE_MAX };
		size_t length;

		if (n < 0 && (errno == EINTR || errno == ENOENT))
			continue;
		if (n < 0)
			return;
		if (bh_fuse_handle(server, &request, 1, &answer, 1, &length) == 0 && length)
			(void)!write(fd, out, length);
	}
}

static int run_shell(const char *folder, const char *script)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		if (chdir(folder) < 0)
			_exit(126);
		execl("/bin/bash", "bash", "-euc", script, "bash", root, top, NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return status;
}

static const char *const jobs[] = {
	"cp -a /usr/include/linux /usr/share/bash-completion /etc/alternatives . && diff -r /usr/include/linux linux && "
	"diff -r --no-dereference /etc/alternatives alternatives",
	"mkdir many && for i in {1..1000}; do echo $i >many/$i; done && [ $(ls many | wc -l) = 1000 ] && rm many/*5 && "
	"[ $(ls many | wc -l) = 900 ] && mv many more && [ $(cat more/* | wc -l) = 900 ] && rm -r more",
	"head -c 5000000 /dev/urandom >$1/random && dd if=$1/random of=copy bs=1234567 status=none && cmp $1/random copy && "
	"cp copy again && cmp copy again && dd if=/dev/zero of=copy bs=1 count=10 seek=1000 conv=notrunc status=none && ! cmp -s copy again && "
	"truncate -s 1000 copy && cmp -n 1000 copy again && [ $(stat -c %s copy) = 1000 ]",
	"ln -s target link && [ $(readlink link) = target ] && ln again hard && [ $(stat -c %h again) = 2 ] && rm again hard && mkfifo pipe && "
	"(echo through >pipe & [ $(cat pipe) = through ])",
	"echo x >mode && chown 1000:1001 mode && chmod 6755 mode && [ $(stat -c %a:%u:%g mode) = 6755:1000:1001 ] && "
	"touch -d @1000000000.5 mode && [ $(stat -c %.2Y mode) = 1000000000.50 ] && touch -d @0 link -h && [ $(stat -c %Y link) = 0 ]",
	"mkdir sticky && chgrp 1001 sticky && chmod 2777 sticky && setpriv --reuid 1000 --regid 1000 --clear-groups touch sticky/mine && "
	"[ $(stat -c %u:%g sticky/mine) = 1000:1001 ] && mkdir -m 700 closed && ! setpriv --reuid 1000 --regid 1000 --clear-groups ls closed 2>/dev/null",
	"truncate -s 10M holes && fallocate -p -o 4096 -l 8192 holes && echo end >>holes && [ $(du -k holes | cut -f1) -lt 100 ] && tail -n 1 holes | grep -q end",
	"tar cf $1/t.tar linux && mkdir u && tar xf $1/t.tar -C u && diff -r linux u/linux && rm -r u",
	"[ $(find . | wc -l) -gt 1000 ] && df . >/dev/null && sync -f .",
	"[ ! -e $2/.git ] || ! type git >/dev/null || { git clone -q --no-hardlinks --depth 1 file://$2 clone && git -C clone fsck --no-progress 2>/dev/null && "
	"[ -z \"$(git -C clone status --porcelain)\" ]; }",
	"for i in {1..60}; do echo $i >a; mv a b; ln b c; rm b; [ $(cat c) = $i ]; rm c; done",
};

#define EXERCISE_SIZE (300u << 10)

/* One file, written, cut, punched and read at random, must always be what memory says. Returns the step that went wrong, or 0. */
static unsigned exercise_file(const char *folder)
{
	static unsigned char wanted[EXERCISE_SIZE], found[EXERCISE_SIZE + 1], fresh[20000];
	bh_auto_free char *path = bh_path_join(folder, "exercise");
	bh_auto_close int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t size = 0;

	srandom(4711);
	for (unsigned step = 1; step <= 500; step++) {
		size_t at = (size_t)random() % (EXERCISE_SIZE - sizeof fresh), n = (size_t)random() % sizeof fresh + 1;
		bool good = true;

		switch (random() % 6) {
		case 0:
			good = ftruncate(fd, (off_t)at) == 0;
			if (at < size)
				memset(wanted + at, 0, EXERCISE_SIZE - at);
			size = at;
			break;
		case 1:
			good = fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, (off_t)at, (off_t)n) == 0;
			memset(wanted + at, 0, n);
			break;
		case 2:
			close(fd);
			fd = open(path, O_RDWR | O_CLOEXEC);
			break;
		default:
			memset(fresh, (int)step, n);
			good = pwrite(fd, fresh, n, (off_t)at) == (ssize_t)n;
			memcpy(wanted + at, fresh, n);
			size = BH_MAX(size, at + n);
		}
		if (!good || pread(fd, found, sizeof found, 0) != (ssize_t)size || memcmp(found, wanted, size) != 0)
			return step;
	}
	return 0;
}

static void test_mounted(void **state)
{
	bh_auto_free char *mounted = below("mounted"), *source = below("source"), *data = NULL;
	bh_auto_close int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC), source_fd = -1;
	struct bh_fuse_options options = { 0 };
	const char *failed = NULL;
	unsigned step;
	pid_t child;

	(void)state;
	assert_int_equal(mkdir(mounted, 0755), 0);
	assert_int_equal(mkdir(source, 0755), 0);
	data = bh_printf("fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", fd);
	if (fd < 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("shared", mounted, "fuse", 0, data) < 0) {
		print_message("# lab: this machine mounts no FUSE file system\n");
		skip();
	}
	source_fd = open(source, O_PATH | O_CLOEXEC);
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		options.root_fd = source_fd;
		options.proc_fds_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (bh_fuse_make(&options, &server, NULL) == 0 && bh_fuse_enter_thread(server, NULL) == 0)
			serve(fd);
		_exit(0);
	}
	for (size_t i = 0; i < BH_ARRAY_SIZE(jobs) && !failed; i++)
		failed = run_shell(mounted, jobs[i]) == 0 ? NULL : jobs[i];
	step = exercise_file(mounted);
	assert_int_equal(umount2(mounted, 0), 0);
	bh_close_fd(&fd);
	assert_int_equal(waitpid(child, NULL, 0), child);
	if (failed)
		fail_msg("in a mounted folder failed: %s", failed);
	assert_int_equal(step, 0);
	assert_int_equal(run_shell(source, "diff -r /usr/include/linux linux"), 0);
}

int main(void)
{
	/* The kernel's comes first: the others give up the rights that mounting needs. */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mounted),     cmocka_unit_test(test_files),        cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_rename_race), cmocka_unit_test(test_lies),         cmocka_unit_test(test_readonly),
		cmocka_unit_test(test_attributes),  cmocka_unit_test(test_unprivileged),
	};

	if (geteuid() != 0) {
		printf("1..0 # SKIP needs root\n");
		return 0;
	}
	return cmocka_run_group_tests_name("fuse", tests, setup, teardown);
}
