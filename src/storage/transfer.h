/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files between a compartment and its outside, as `cp` means it: one side packs what its source names into a tar stream, the other
 * side unpacks that where its destination says. Each side knows its own file system only, and decides there, with descriptors in its
 * hands; what it has to know of the other one is in the stream's first entry. So the same two functions work on the host, beside
 * a container, and inside a microVM.
 *
 *	source      first entry          destination          becomes
 *	FILE        NAME                 a folder             DEST/NAME
 *	FOLDER      NAME/                a folder             DEST/NAME/
 *	FOLDER/.    ./                   a folder             what is in it, below DEST/
 *	any         any                  isn't there          DEST, which gets another name thereby; its parent must be there
 *	FILE        NAME                 a file               DEST, replaced
 *	FOLDER      NAME/ or ./          a file               an error
 *
 * (docs.docker.com, "docker container cp".) Links that a source or destination names: `follow_link`, and a slash behind them, for
 * the source; for the destination they are followed.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A path as a process sees it whose root is `root_fd` (linux/path.h); or, with -1, as this process does. */
struct bh_transfer_place {
	int root_fd;
	const char *path;
};

#define BH_TRANSFER_DEPTH_MAX 400 /* folders in each other: each is held open */

/*
 * Packs the source: owners, permissions, times, symbolic and hard links, devices, and of the extended attributes "user.*" and file
 * capabilities. Sockets are left out, as are what is mounted of kernel file systems (proc, sysfs ...) below it. Whoever changes the tree
 * meanwhile gets no file packed that lies outside of the root.
 * -errno with words; the stream is incomplete then, and the other side can tell. *ret_bytes (may be NULL): the archive's size.
 */
int bh_transfer_pack(const struct bh_transfer_place *source, bool follow_link, int fd, uint64_t *ret_bytes, struct bh_error *err);

struct bh_transfer_unpack {
	struct bh_transfer_place destination;
	/* The archive isn't from bh_transfer_pack: it may have more than one tree, the destination must be a folder, and folders in it that
	 * are reached by links (inside the root) are meant. Needs a root_fd. */
	bool is_foreign;
	bool keep_owners;        /* else: these, and the bits that give a file's rights are dropped with its owner */
	uint32_t uid, gid;
	bool drop_set_id;        /* set-user-ID and set-group-ID bits and file capabilities, unless owners are kept */
	bool skip_devices;       /* they can't be made here */
};

/*
 * Unpacks. Whatever the archive says, nothing outside the destination is touched: no link is followed, `..` is refused. (Of a foreign
 * archive: nothing outside the root; links are followed inside it.) A file appears under its name when it is complete, wherever the file system can do that;
 * what is there is replaced then, except that a folder never replaces another kind of file nor is replaced. -errno with words.
 */
int bh_transfer_unpack(const struct bh_transfer_unpack *request, int fd, uint64_t *ret_bytes, struct bh_error *err);

/* What is asked of the side in the compartment. */
struct bh_transfer_request {
	const char *path; /* inside */
	bool is_unpack;   /* else it packs */
	bool follow_link; /* of pack */
	bool is_foreign, keep_owners; /* of unpack: else all is root's */
};
/* Does it, from in_fd or to out_fd. -errno with words. */
int bh_transfer_serve(const struct bh_transfer_request *request, int root_fd, bool skip_devices, int in_fd, int out_fd, struct bh_error *err);
