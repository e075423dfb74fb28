/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A FUSE server (the protocol of <linux/fuse.h>, 7.31 and later) that shares a folder: a function from a request to a reply, for
 * whatever carries them: a virtio-fs queue, a stream, /dev/fuse.
 */
#pragma once

#include "base/error.h"

#include <stdint.h>
#include <sys/uio.h>

/* What a request or a reply can need at most, headers and all, and in how many pieces it may come. */
#define BH_FUSE_WRITE_MAX (1u << 20)
#define BH_FUSE_MESSAGE_MAX (BH_FUSE_WRITE_MAX + 4096)
#define BH_FUSE_PIECES_MAX 1024

struct bh_fuse_options {
	int root_fd;            /* the shared folder; O_PATH is enough. Not taken. */
	int proc_fds_fd;        /* /proc/self/fd of the process that will handle requests. Not taken. */
	bool readonly;          /* refuse with EROFS whatever would change something */
	bool devices;           /* device nodes may be made */
	uint32_t inodes_max;    /* files the other side may know at once, each holds a descriptor; 0: a million */
	uint32_t cache_seconds; /* for so long the other side may believe what it has been told; 0: one second */
};

struct bh_fuse;

int bh_fuse_make(const struct bh_fuse_options *options, struct bh_fuse **ret_fuse, struct bh_error *err);
void bh_fuse_free(struct bh_fuse *fuse);
#define bh_auto_fuse __attribute__((cleanup(bh_fuse_free_ptr)))
void bh_fuse_free_ptr(struct bh_fuse **fuse);

/*
 * Prepares the calling thread for handling requests: its effective capabilities become the ones that are needed (of those it has),
 * its umask (the whole process's) becomes zero. Files are made in the name of the user who asks if the thread has CAP_SETUID and
 * CAP_SETGID, otherwise all belong to the thread's own user.
 */
int bh_fuse_enter_thread(struct bh_fuse *fuse, struct bh_error *err);

/*
 * Handles one request and writes its reply, of *ret_length bytes; 0 for requests that have none. Any number of threads may do so at
 * once. -errno if there is no reply because what came isn't a request (-EBADMSG) or the reply's header doesn't fit (-ENOSPC).
 * The pieces may be memory of the other side: every byte is read once.
 */
int bh_fuse_handle(struct bh_fuse *fuse, const struct iovec *in, size_t in_count, const struct iovec *out, size_t out_count,
		   size_t *ret_length);
