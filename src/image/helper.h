/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The helper program bulkhead-image, as its callers see it.
 *
 * Whatever reads or writes archives, or decompresses, runs in that program: the command line stays small, and hostile
 * bytes are parsed by a process that sees nothing but its own staging folder (helper/sandbox.c).
 *
 * Protocol. The helper is started as `bulkhead-image VERB REQUEST`, REQUEST a JSON object, with
 *	fd 0  the archive to read            fd 1  the archive to write
 *	fd 3  result pipe                    fd 4  staging folder
 *	fd 5  the store's root               fd 6  a source folder
 * (those a verb doesn't use are /dev/null). It writes one JSON object into the result pipe and ends:
 *	{"error": "words", "errno": 22}   or the verb's result:
 *	{"images": [{"manifest": {DESCRIPTOR}, "id": DIGEST, "names": [NAME...]}...],
 *	 "blobs": [DIGEST...], "layers": [DIFF-ID...]}
 * Blobs lie in staging/blobs/<hex>, layers in staging/layers/<hex>/{diff,meta.json}; all is verified and synced. The
 * caller moves them into the store (bh_image_commit).
 */
#pragma once

#include "image/store.h"

#define BH_HELPER_RESULT_FD 3
#define BH_HELPER_STAGING_FD 4
#define BH_HELPER_ROOT_FD 5
#define BH_HELPER_SOURCE_FD 6
#define BH_HELPER_RESULT_MAX (16u << 20)

struct bh_image_job {
	const char *verb;              /* "load", "import", "unpack", "save" */
	struct json_object *request;
	int input_fd, output_fd;       /* -1: /dev/null */
	int source_fd;                 /* a folder, or -1 */
};
/* Runs the helper to its end. Objects are left in `staging` for bh_image_commit. */
int bh_image_helper_run(struct bh_image_store *store, const struct bh_image_job *job, struct bh_staging *staging,
			struct json_object **ret_result, struct bh_error *err);
/*
 * Moves what the result names into the store and adds its images to index.json, in the order that a crash can't hurt.
 * `names`: given to the first image instead of its own if not empty.
 */
int bh_image_commit(struct bh_image_store *store, struct bh_staging *staging, struct json_object *result, const struct bh_strv *names,
		    struct bh_error *err);
/* Unpacks the layers of an image that are missing. */
int bh_image_helper_unpack(struct bh_image_store *store, const struct bh_manifest *manifest, const struct bh_strv *diff_ids, struct bh_error *err);
