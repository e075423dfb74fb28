/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tar archive's bytes, unpacked as `cp` does it, on a tmpfs in a mount namespace of its own. First byte: which of its three ways.
 * Whatever the bytes are: nothing outside of the root changes, and a failure has words.
 */
#include "base/file.h"
#include "storage/transfer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int ground = -1; /* the tmpfs: box/in/ and canary */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static char folder[] = "/tmp/bh-fuzz-transfer-XXXXXX";

	(void)argc, (void)argv;
	if (!mkdtemp(folder) || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", folder, "tmpfs", 0, "size=64m,nr_inodes=20000") < 0)
		__builtin_trap();
	ground = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (umount2(folder, MNT_DETACH) < 0 || rmdir(folder) < 0)
		__builtin_trap();
	if (ground < 0 || bh_write_file_at(ground, "canary", "alive", 5, 0600, 0, NULL) < 0)
		__builtin_trap();
	return 0;
}

static void check_ground(void)
{
	bh_auto_buf struct bh_buf content = { 0 };
	bh_auto_close int fd = openat(ground, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bh_auto_closedir DIR *dir = fdopendir(fd);
	struct dirent *entry;

	fd = -1;
	if (bh_read_file_at(ground, "canary", 64, &content, NULL) < 0 || !bh_streq(content.data, "alive"))
		__builtin_trap();
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.' && !bh_streq(entry->d_name, "canary") && !bh_streq(entry->d_name, "box"))
			__builtin_trap();
}

/* A root with a folder, a file, and links in and out of it. */
static int make_box(void)
{
	bh_auto_close int in = -1;
	int box = bh_make_dir(ground, "box", 0755, NULL);

	if (box < 0 || mkdirat(box, "in", 0755) < 0)
		__builtin_trap();
	in = openat(box, "in", O_PATH | O_CLOEXEC);
	if (bh_write_file_at(box, "in/f", "old", 3, 0644, 0, NULL) < 0 || symlinkat("/", in, "l") < 0 || symlinkat("../../..", in, "up") < 0)
		__builtin_trap();
	return box;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const destinations[] = { "/in", "/in/new", "/in" };
	unsigned way = size ? data[0] % 3 : 0;
	struct bh_error err = BH_ERROR_INIT;
	bh_auto_close int box = make_box(), stream = memfd_create("stream", MFD_CLOEXEC);
	const struct bh_transfer_unpack request = {
		.destination = { box, destinations[way] }, .is_foreign = way == 0, .keep_owners = size && (data[0] & 64), .drop_set_id = true
	};

	if (stream < 0 || bh_write_all(stream, data + (size > 0), size - (size > 0)) < 0 || lseek(stream, 0, SEEK_SET) < 0)
		__builtin_trap();
	if (bh_transfer_unpack(&request, stream, NULL, &err) < 0 && !err.message[0])
		__builtin_trap();
	check_ground();
	if (bh_remove_tree_at(ground, "box", &err) < 0)
		__builtin_trap();
	return 0;
}
