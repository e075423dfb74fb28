/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of bulkhead-image: see image/helper.h for what it is and how it is called. */
#pragma once

#include "image/helper.h"
#include "storage/layer.h"
#include "storage/stream.h"

#include <json-c/json_types.h>

/* Folders inside the sandbox. */
#define SANDBOX_CONTENT "content" /* the store's content/, read-only */
#define SANDBOX_LAYERS "unpacked" /* the store's layers/, read-only */
#define SANDBOX_SOURCE "source"   /* a source folder, read-only */

struct helper {
	int root_fd;                  /* "/" of the sandbox: the staging folder */
	struct json_object *request;
	struct json_object *result;   /* images, blobs, layers are added to it */
};

/* Locks the process into the staging folder and gives up every power that unpacking doesn't need. */
int helper_enter_sandbox(bool has_source, struct bh_error *err);

/* What became of the bytes of one blob. */
struct intake {
	char digest[BH_DIGEST_MAX];   /* of the bytes as they came */
	char diff_id[BH_DIGEST_MAX];  /* of the tar archive in them; "" if they weren't unpacked */
	int64_t size;
	enum bh_compression compression;
};
enum intake_flags {
	INTAKE_STORE = 1,  /* write the bytes to staging/blobs/<hex> */
	INTAKE_UNPACK = 2, /* unpack into staging/layers/<diff-id hex> unless the store or staging has it */
};
/* Reads a layer to its end: hashes, keeps and unpacks it in one pass, on two threads. `expected`: the digest that it
 * should have, if known, for the words of a failure only. */
int helper_take_layer(struct helper *h, const struct bh_source *source, unsigned flags, const char *expected, struct intake *ret_intake,
		      struct bh_error *err);
/* Writes a small blob to staging. */
int helper_take_bytes(struct helper *h, const void *bytes, size_t length, char ret_digest[BH_DIGEST_MAX], struct bh_error *err);
/* A bh_source that reads an fd (the context points to the int). */
ssize_t helper_read_fd(void *context, void *buffer, size_t size, struct bh_error *err);

const char *helper_layer_media_type(enum bh_compression compression);
/* Is there a blob (a layer) of that digest in the store, or already staged? */
bool helper_has_blob(const struct helper *h, const char *digest);
/* Size of the store's blob, or -errno. */
int64_t helper_store_blob_size(const struct helper *h, const char *digest);
bool helper_has_layer(const struct helper *h, const char *diff_id);

/* Adds a digest to the result's list once ("blobs", "layers"), if it lies in staging. */
void helper_report(struct helper *h, const char *list, const char *digest);
void helper_report_image(struct helper *h, const struct bh_descriptor *manifest, const char *id, const struct bh_strv *names);

int helper_load(struct helper *h, struct bh_error *err);
int helper_import(struct helper *h, struct bh_error *err);
int helper_save(struct helper *h, struct bh_error *err);
int helper_unpack(struct helper *h, struct bh_error *err);

/* inflate.c: a program of its own within this one, before any request is read. Returns the exit status. */
int helper_inflate_main(void);
/* The executable inside a bzImage. -ENOEXEC without words: it is none, or compressed in an unknown way. */
int helper_inflate_kernel(const struct bh_buf *image, struct bh_buf *ret_kernel, struct bh_error *err);
