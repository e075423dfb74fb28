/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tar format, as far as files that are copied need it: POSIX ustar and pax (pax(1), "ustar Interchange Format" and "pax
 * Extended Header"), and what GNU tar writes by default (long names, numbers in base 256). For `cp`, where the other side may be
 * inside a microVM with nothing but this program; whole images are taken apart by libarchive in a helper (layer.h).
 *
 * The bytes that are read are hostile: every number is checked before anything is allocated, and nothing here touches a file system.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define BH_TAR_BLOCK 512u
#define BH_TAR_NAME_MAX 8191u             /* bytes of a path or a link's target */
#define BH_TAR_EXTENSION_MAX (1u << 20)   /* bytes of a pax header: long names and attributes */
#define BH_TAR_XATTRS_MAX 64u

/* POSIX's type flags. */
enum bh_tar_type {
	BH_TAR_FILE = '0',
	BH_TAR_HARD_LINK = '1',
	BH_TAR_SYMLINK = '2',
	BH_TAR_CHARACTER_DEVICE = '3',
	BH_TAR_BLOCK_DEVICE = '4',
	BH_TAR_DIRECTORY = '5',
	BH_TAR_FIFO = '6',
};

struct bh_tar_xattr {
	char *name;
	void *value;
	size_t size;
};

struct bh_tar_entry {
	enum bh_tar_type type;
	char *path;    /* as the archive says it */
	char *target;  /* of a link, or NULL */
	uint64_t size; /* of the content behind the header */
	unsigned mode; /* permissions: 07777 */
	uint32_t uid, gid;
	uint32_t major, minor;
	struct timespec mtime;
	struct bh_tar_xattr *xattrs;
	size_t xattr_count;
};
void bh_tar_entry_clear(struct bh_tar_entry *entry);
void bh_tar_entry_add_xattr(struct bh_tar_entry *entry, const char *name, const void *value, size_t size);

/* A path of an archive as a clean relative one ("." of its top is ""), the caller's: NULL then, or else the words for why it can't be one. */
const char *bh_tar_clean_path(const char *raw, unsigned depth_max, char **ret_path);

struct bh_tar_reader {
	int fd;               /* borrowed */
	uint64_t left;        /* content of this entry that wasn't read */
	unsigned padding;     /* behind it */
	char *buffer;
	size_t begin, end;    /* bytes in there */
	uint64_t bytes;       /* of the whole stream until now */
};
void bh_tar_reader_init(struct bh_tar_reader *reader, int fd);
void bh_tar_reader_clear(struct bh_tar_reader *reader);
/* The next entry; what is left of the last one's content is skipped. 1, or 0 at the end of the archive. -EBADMSG with words: it isn't
 * a tar archive, is damaged, or ends early; -E2BIG: a limit of above; -ENOTSUP: a kind of entry that isn't known. */
int bh_tar_next(struct bh_tar_reader *reader, struct bh_tar_entry *ret_entry, struct bh_error *err);
/* Some of the entry's content without a copy: valid until the next call. 0 at its end, or as above. */
ssize_t bh_tar_content(struct bh_tar_reader *reader, const void **ret_bytes, struct bh_error *err);
/* Reads on until the stream ends, so that its writer can end well. */
int bh_tar_drain(struct bh_tar_reader *reader, struct bh_error *err);

struct bh_tar_writer {
	int fd; /* borrowed */
	char *buffer;
	size_t length;
	uint64_t left;    /* content that this entry still has to get */
	unsigned padding; /* behind it */
	uint64_t bytes;   /* written until now */
};
void bh_tar_writer_init(struct bh_tar_writer *writer, int fd);
void bh_tar_writer_clear(struct bh_tar_writer *writer);
/* An entry; `size` bytes of content have to follow. -errno with words. */
int bh_tar_put(struct bh_tar_writer *writer, const struct bh_tar_entry *entry, struct bh_error *err);
/* Room for content: fill up to *ret_size bytes there, and say how many by bh_tar_filled. */
int bh_tar_room(struct bh_tar_writer *writer, void **ret_bytes, size_t *ret_size, struct bh_error *err);
int bh_tar_filled(struct bh_tar_writer *writer, size_t size, struct bh_error *err);
/* The archive's end. */
int bh_tar_finish(struct bh_tar_writer *writer, struct bh_error *err);
