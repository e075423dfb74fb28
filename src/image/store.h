/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store below image.h's questions: blobs, the index, staging, and what the verbs that change images need.
 */
#pragma once

#include "image/image.h"
#include "oci/manifest.h"

#include <json-c/json_types.h>

/* Waits for the store's writer lock. Returns an fd that holds it, or -errno. */
int bh_image_store_lock(struct bh_image_store *store, struct bh_error *err);

/* The whole blob, verified against its digest. -ENOENT "DIGEST: not in the store". */
int bh_image_blob_read(struct bh_image_store *store, const char *digest, struct bh_buf *ret_content, struct bh_error *err);
/* Size of the blob's file, or -errno. Not verified. */
int64_t bh_image_blob_size(struct bh_image_store *store, const char *digest);
/* Writes a small blob (manifest) durably. */
int bh_image_blob_write(struct bh_image_store *store, const void *bytes, size_t length, char ret_digest[BH_DIGEST_MAX], struct bh_error *err);

/* The parsed index.json; an empty one if the store has none yet. */
int bh_image_index_load(struct bh_image_store *store, struct json_object **ret_index, struct bh_error *err);
/* Replaces index.json durably. The caller holds the lock. */
int bh_image_index_save(struct bh_image_store *store, struct json_object *index, struct bh_error *err);
size_t bh_image_index_count(struct json_object *index);
struct json_object *bh_image_index_entry(struct json_object *index, size_t place);
/* The familiar name ("busybox:latest") of an entry as any tool wrote it, or NULL for an image without a name. */
char *bh_image_entry_name(struct json_object *entry);
/* Gives the name to the manifest, taking it from the image that had it (which stays, nameless, if it has no other
 * entry). `name` NULL: a nameless entry unless the manifest has one already. */
void bh_image_index_set(struct json_object *index, const char *name, const struct bh_descriptor *manifest);
/* Finds the entry that a user's word means. Returns its place, or -ENOENT, or -EINVAL (ambiguous). */
int bh_image_index_find(struct bh_image_store *store, struct json_object *index, const char *reference, size_t *ret_place, struct bh_error *err);

/* Reads the manifest an entry leads to, through an index of platforms if there is one. */
int bh_image_manifest_read(struct bh_image_store *store, struct json_object *entry, struct bh_descriptor *ret_descriptor,
			   struct bh_manifest *ret_manifest, struct bh_error *err);
/* Reads the image an entry leads to; layers are not looked at (layer_paths stays empty). */
int bh_image_entry_read(struct bh_image_store *store, struct json_object *entry, struct bh_image *ret_image,
			struct bh_manifest *ret_manifest, struct bh_error *err);
/* Fills an image from its configuration (image-spec config.md); what is not needed for running is skipped. */
int bh_image_config_parse(const char *json, size_t length, struct bh_image *ret_image, struct bh_error *err);

bool bh_image_layer_exists(struct bh_image_store *store, const char *diff_id);
struct bh_layer_meta {
	int64_t bytes, inodes;
};
int bh_image_layer_meta(struct bh_image_store *store, const char *diff_id, struct bh_layer_meta *ret_meta, struct bh_error *err);
/* Fills layer_paths from diff_ids: a layer that occurs twice counts where it is highest, since it hides the lower one. */
void bh_image_layer_paths(struct bh_image_store *store, struct bh_image *image);

/* A folder below ROOT/staging. Whoever holds its lock uses it; without one it is a dead process's and is swept. */
struct bh_staging {
	int fd; /* holds the lock */
	char name[48];
};
#define BH_STAGING_INIT { -1, "" }
int bh_staging_create(struct bh_image_store *store, struct bh_staging *ret_staging, struct bh_error *err);
void bh_staging_remove(struct bh_image_store *store, struct bh_staging *staging);
/* Removes what dead processes left. */
void bh_staging_sweep(struct bh_image_store *store);

/* The name of the disk that microVMs have of the image with these layers (folders ".../<diff-id>/diff"): ROOT/disks/<key>. */
void bh_image_disk_key(const struct bh_strv *layer_paths, char ret_key[BH_DIGEST_HEX_LENGTH + 1]);

/*
 * Removes every blob, layer and disk that no image and no container refers to. Skipped (0) while somebody is loading or
 * starting from an image; the next call does it. Digests of deleted blobs and layers are added to `deleted` (may be
 * NULL). The caller holds the writer lock.
 */
int bh_image_collect(struct bh_image_store *store, struct json_object *index, struct bh_strv *deleted, struct bh_error *err);
/* Names (or short ids) of the containers made from the image. Reads ROOT/containers/<id>/container.json. */
int bh_image_users(struct bh_image_store *store, const char *image_id, struct bh_strv *ret_containers, struct bh_error *err);
