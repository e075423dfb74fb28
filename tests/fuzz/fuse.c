/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages to the FUSE server. An input is a sequence of them: two bytes that say how long the message is, one that says which
 * numbers in it are replaced by ones that the server has given out (no mutation would find those), then the message.
 * Afterwards the folder beside the shared one must be as it was.
 */
#include "base/file.h"
#include "vmm/fuse/fuse.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define KNOWN 16
#define REPLY_SIZE 8192

static int root_fd = -1, proc_fds = -1;
static uint64_t nodes[KNOWN], handles[KNOWN];
static size_t node_count, handle_count;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void remove_root(void)
{
	struct stat st;

	if (fstatat(root_fd, "witness", &st, 0) < 0 || st.st_size != 7 || st.st_mode != (S_IFREG | 0600))
		abort();
	(void)bh_remove_tree_at(root_fd, "shared", NULL);
}

static void remove_all(void)
{
	bh_auto_free char *path = bh_printf("/tmp/bh-fuzz-fuse.%d", (int)getpid());

	(void)bh_remove_tree_at(AT_FDCWD, path, NULL);
}

static void prepare(void)
{
	bh_auto_free char *path = bh_printf("/tmp/bh-fuzz-fuse.%d", (int)getpid());
	/* What a message can make grow is the length of a file. */
	const struct rlimit limit = { 1 << 20, 1 << 20 };

	root_fd = bh_make_dir(AT_FDCWD, path, 0700, NULL);
	proc_fds = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0 || bh_create_file_at(root_fd, "witness", "secret\n", 7, 0600, NULL) < 0)
		abort();
	(void)signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit);
	(void)atexit(remove_all);
}

static void remember(uint32_t opcode, const char *reply, size_t length)
{
	const struct fuse_open_out *opened = (const struct fuse_open_out *)(reply + sizeof(struct fuse_out_header));
	struct fuse_entry_out entry;

	if (length == sizeof(struct fuse_out_header) + sizeof *opened && (opcode == FUSE_OPEN || opcode == FUSE_OPENDIR))
		handles[handle_count++ % KNOWN] = opened->fh;
	if (length < sizeof(struct fuse_out_header) + sizeof entry || opcode == FUSE_READ)
		return;
	memcpy(&entry, opened, sizeof entry);
	nodes[node_count++ % KNOWN] = entry.nodeid;
	if (opcode == FUSE_CREATE) {
		memcpy(&entry, reply + sizeof(struct fuse_out_header) + sizeof entry, sizeof(uint64_t));
		handles[handle_count++ % KNOWN] = entry.nodeid;
	}
}

static void handle(struct bh_fuse *server, char *message, size_t size, uint8_t choice)
{
	static char reply[REPLY_SIZE];
	struct fuse_in_header header = { 0 };
	struct iovec in[2] = { { message, size / 2 }, { message + size / 2, size - size / 2 } };
	struct iovec out[2] = { { reply, 100 }, { reply + 100, sizeof reply - 100 } };
	size_t length = 0;

	if (size >= sizeof header) {
		memcpy(&header, message, sizeof header);
		header.len = choice & 0x80 ? header.len : (uint32_t)size;
		if (choice & 0x40)
			header.nodeid = nodes[choice % KNOWN];
		header.uid = choice & 0x10 ? header.uid : 0;
		memcpy(message, &header, sizeof header);
		if (choice & 0x20 && size >= sizeof header + sizeof(uint64_t))
			memcpy(message + sizeof header,
			       header.opcode == FUSE_LINK || header.opcode == FUSE_RENAME || header.opcode == FUSE_RENAME2 ? nodes : handles,
			       sizeof(uint64_t));
	}
	if (header.opcode == FUSE_SYNCFS || header.opcode == FUSE_FSYNC || header.opcode == FUSE_FSYNCDIR)
		return; /* slow, and nothing to find */
	if (bh_fuse_handle(server, in, 2, out, choice & 8 ? 1 : 2, &length) < 0)
		return;
	if (length > sizeof reply || (length && length < sizeof(struct fuse_out_header)))
		abort();
	remember(header.opcode, reply, length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct fuse_init_in init = { .major = 7, .minor = 38, .flags = UINT32_MAX };
	bh_auto_fuse struct bh_fuse *server = NULL;
	bh_auto_close int shared = -1;
	char message[4096] = { 0 };
	struct fuse_in_header header = { .len = sizeof header + sizeof init, .opcode = FUSE_INIT };

	if (root_fd < 0)
		prepare();
	shared = bh_make_dir(root_fd, "shared", 0755, NULL);
	if (shared < 0 || bh_fuse_make(&(struct bh_fuse_options){ .root_fd = shared, .proc_fds_fd = proc_fds, .inodes_max = 100 }, &server, NULL) < 0)
		abort();
	nodes[0] = 1;
	node_count = handle_count = 1;
	memcpy(message, &header, sizeof header);
	memcpy(message + sizeof header, &init, sizeof init);
	handle(server, message, header.len, 0);
	while (size > 3) {
		size_t length = BH_MIN((size_t)(data[0] | data[1] << 8) % sizeof message, size - 3);
		uint8_t choice = data[2];

		memcpy(message, data + 3, length);
		handle(server, message, length, choice);
		data += 3 + length;
		size -= 3 + length;
	}
	remove_root();
	return 0;
}
