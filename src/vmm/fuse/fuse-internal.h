/* SPDX-License-Identifier: Apache-2.0 */
/* Between the parts of the FUSE server. The head of fuse.c tells how they work together. */
#pragma once

#include "linux/syscall.h"
#include "vmm/fuse/fuse.h"

#include <linux/fuse.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

/* --- tables (inodes.c) ---------------------------------------------------------------------------------------------- */

/* A file that the other side knows, or that a request uses. Constant but for the counts. */
struct bh_fuse_inode {
	uint64_t id;
	int fd; /* O_PATH: of the file itself, also if that is a link */
	uint64_t device, number, mount;
	mode_t type;
	uint64_t lookups; /* how often the other side has been told of it */
	unsigned users;
	struct bh_fuse_inode *next; /* with the same hash */
};

/* An open file or folder. */
struct bh_fuse_handle {
	uint64_t id, inode_id;
	int fd;
	bool is_directory, closed;
	unsigned users;
	pthread_mutex_t lock; /* of the descriptor's position */
};

struct bh_fuse_slots {
	void **items;
	size_t count, capacity;
	uint32_t *unused; /* a stack of free indexes */
	size_t unused_count, unused_capacity;
	uint32_t sequence;
};

struct bh_fuse {
	struct bh_fuse_options options;
	uint64_t capabilities; /* of a thread that handles requests; without CAP_FSETID */
	bool can_set_group_bit; /* CAP_FSETID can be had */
	bool switches_users;
	bool has_long_setxattr; /* FUSE_SETXATTR_EXT was agreed on */
	bool is_initialized;
	pthread_mutex_t lock; /* of the tables, of all counts, and of the two flags above */
	struct bh_fuse_inode *root;
	struct bh_fuse_slots inodes, handles;
	struct bh_fuse_inode **buckets;
	size_t bucket_count, inode_count, handle_count;
};

int bh_fuse_tables_init(struct bh_fuse *fuse, struct bh_error *err);
/* Forgets all that the other side knows; what requests use goes when they end. */
void bh_fuse_tables_reset(struct bh_fuse *fuse);
void bh_fuse_tables_clear(struct bh_fuse *fuse);

/* The inode with this number, to be released; NULL if the other side can't know it. */
struct bh_fuse_inode *bh_fuse_inode_get(struct bh_fuse *fuse, uint64_t id);
void bh_fuse_inode_release(struct bh_fuse *fuse, struct bh_fuse_inode *inode);
void bh_fuse_inode_forget(struct bh_fuse *fuse, uint64_t id, uint64_t lookups);
/* Takes an O_PATH descriptor, and counts one lookup of its inode, which may be known already. -errno. */
int bh_fuse_inode_enter(struct bh_fuse *fuse, int fd, struct fuse_entry_out *ret_entry);

/* Takes the descriptor. -errno. */
int bh_fuse_handle_add(struct bh_fuse *fuse, const struct bh_fuse_inode *inode, int fd, bool is_directory, uint64_t *ret_id);
/* An open file of this inode, to be released; NULL if there is none of the kind. */
struct bh_fuse_handle *bh_fuse_handle_get(struct bh_fuse *fuse, uint64_t id, uint64_t inode_id, bool is_directory);
void bh_fuse_handle_release(struct bh_fuse *fuse, struct bh_fuse_handle *handle);
/* Closes it once nobody uses it. */
int bh_fuse_handle_close(struct bh_fuse *fuse, uint64_t id, uint64_t inode_id, bool is_directory);

/* --- requests (fuse.c) ---------------------------------------------------------------------------------------------- */

struct bh_fuse_request {
	struct bh_fuse *fuse;
	struct fuse_in_header header;
	struct bh_fuse_inode *inode; /* header.nodeid */
	char *arguments;             /* a copy, with a NUL behind it; of the data of a write only what describes it */
	size_t size;
	const struct iovec *in, *out;
	size_t in_count, out_count;
	size_t room;    /* for the reply, behind its header */
	size_t replied; /* of that, how much is used */
};

/* Adds to the reply. -ERANGE if there is no room. */
int bh_fuse_reply(struct bh_fuse_request *request, const void *bytes, size_t size);
/* The arguments from `offset` on as one name of a folder's entry (ret_end: what is behind its NUL), or NULL. */
const char *bh_fuse_name(const struct bh_fuse_request *request, size_t offset, size_t *ret_end);
/* Acts as the user who asks, or as ourselves again. */
int bh_fuse_become_user(const struct bh_fuse_request *request);
void bh_fuse_become_self(const struct bh_fuse_request *request);
int bh_fuse_set_capabilities(const struct bh_fuse *fuse, bool with_group_bit);

/* Opens the file that an inode is; only files and folders, nothing that would do something when it is opened. */
int bh_fuse_reopen(const struct bh_fuse *fuse, const struct bh_fuse_inode *inode, int flags);
void bh_fuse_fill_attributes(const struct statx *stx, struct fuse_attr *ret_attributes);
void bh_fuse_fill_valid(const struct bh_fuse *fuse, struct fuse_entry_out *entry);

/* --- operations (names.c, files.c, folders.c, attributes.c): 0 or -errno ----------------------------------------------- */

int bh_fuse_lookup(struct bh_fuse_request *request);
int bh_fuse_symlink(struct bh_fuse_request *request);
int bh_fuse_mknod(struct bh_fuse_request *request);
int bh_fuse_mkdir(struct bh_fuse_request *request);
int bh_fuse_unlink(struct bh_fuse_request *request);
int bh_fuse_rmdir(struct bh_fuse_request *request);
int bh_fuse_rename(struct bh_fuse_request *request);
int bh_fuse_rename2(struct bh_fuse_request *request);
int bh_fuse_link(struct bh_fuse_request *request);
int bh_fuse_create(struct bh_fuse_request *request);
int bh_fuse_readlink(struct bh_fuse_request *request);
/* A name below a folder's inode, entered into the table. */
int bh_fuse_enter_name(struct bh_fuse *fuse, const struct bh_fuse_inode *parent, const char *name, struct fuse_entry_out *ret_entry);

int bh_fuse_open(struct bh_fuse_request *request);
int bh_fuse_read(struct bh_fuse_request *request);
int bh_fuse_write(struct bh_fuse_request *request);
int bh_fuse_release(struct bh_fuse_request *request);
int bh_fuse_flush(struct bh_fuse_request *request);
int bh_fuse_fsync(struct bh_fuse_request *request);
int bh_fuse_fallocate(struct bh_fuse_request *request);
int bh_fuse_lseek(struct bh_fuse_request *request);
int bh_fuse_copy_file_range(struct bh_fuse_request *request);
int bh_fuse_syncfs(struct bh_fuse_request *request);

int bh_fuse_opendir(struct bh_fuse_request *request);
int bh_fuse_readdir(struct bh_fuse_request *request);
int bh_fuse_readdirplus(struct bh_fuse_request *request);
int bh_fuse_releasedir(struct bh_fuse_request *request);
int bh_fuse_fsyncdir(struct bh_fuse_request *request);

int bh_fuse_getattr(struct bh_fuse_request *request);
int bh_fuse_setattr(struct bh_fuse_request *request);
int bh_fuse_statfs(struct bh_fuse_request *request);
int bh_fuse_setxattr(struct bh_fuse_request *request);
int bh_fuse_getxattr(struct bh_fuse_request *request);
int bh_fuse_listxattr(struct bh_fuse_request *request);
int bh_fuse_removexattr(struct bh_fuse_request *request);
