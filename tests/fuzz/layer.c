/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer's bytes, compressed or not, unpacked on a tmpfs in a mount namespace of its own. Whatever they are: nothing
 * but the layer's folder changes, and a failure has words.
 */
#include "base/file.h"
#include "storage/layer.h"
#include "storage/stream.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int ground = -1; /* the tmpfs: layer/ and canary */

struct input {
	const uint8_t *data;
	size_t left;
	struct bh_stream *stream;
	char buffer[4096];
};

static ssize_t read_input(void *context, void *buffer, size_t size, struct bh_error *err)
{
	struct input *in = context;
	size_t part = BH_MIN(size, in->left);

	(void)err;
	memcpy(buffer, in->data, part);
	in->data += part;
	in->left -= part;
	return (ssize_t)part;
}

static ssize_t next_chunk(void *context, const void **ret_bytes, struct bh_error *err)
{
	struct input *in = context;

	*ret_bytes = in->buffer;
	return bh_stream_read(in->stream, in->buffer, sizeof in->buffer, err);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static char folder[] = "/tmp/bh-fuzz-layer-XXXXXX";

	(void)argc, (void)argv;
	/* The folder is removed by name once the tmpfs hides it no longer matters: it is empty on the host. */
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
		if (entry->d_name[0] != '.' && !bh_streq(entry->d_name, "canary") && !bh_streq(entry->d_name, "layer"))
			__builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct input in;
	const struct bh_source source = { read_input, &in };
	const struct bh_chunks chunks = { next_chunk, &in };
	struct bh_layer_stats stats = { 0 };
	struct bh_error err = BH_ERROR_INIT;
	bh_auto_close int folder = -1;
	int r;

	in = (struct input){ .data = data + (size > 0), .left = size - (size > 0) };
	bh_stream_use_zlib = size && (data[0] & 1);
	if (bh_stream_open(&source, &in.stream, &err) < 0)
		__builtin_trap();
	folder = bh_make_dir(ground, "layer", 0755, NULL);
	r = bh_layer_apply(&chunks, folder, &stats, &err);
	if (r < 0 && !err.message[0])
		__builtin_trap();
	bh_stream_close(&in.stream);
	check_ground();
	if (bh_remove_tree_at(ground, "layer", &err) < 0)
		__builtin_trap();
	return 0;
}
