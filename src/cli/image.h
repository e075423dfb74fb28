/* SPDX-License-Identifier: Apache-2.0 */
/* What the image verbs share. */
#pragma once

#include "cli/cli.h"
#include "image/helper.h"

/*
 * Opens the store and runs the helper, then adds its images to the store. `names` as in bh_image_commit. The staging
 * folder is gone afterwards in any case.
 */
int bh_cli_image_run(struct bh_image_store *store, const struct bh_image_job *job, struct bh_staging *staging, const struct bh_strv *names,
		     struct json_object **ret_result, struct bh_error *err);
/* Applies one instruction of --change to an image's "config" object. */
int bh_cli_image_change(struct json_object *config, const char *text, struct bh_error *err);

/* Unpacked size of an image; what is not unpacked yet counts with its blobs' sizes. */
int64_t bh_cli_image_size(struct bh_image_store *store, const struct bh_image *image, const struct bh_manifest *manifest);
/* "2 minutes ago", and Docker's "2026-01-02 15:04:05 +0000 UTC"; "N/A" for no time. */
char *bh_cli_since(int64_t created_ns);
char *bh_cli_created_at(int64_t created_ns);
/* Docker's JSON of an image, as `image inspect` prints it in an array. -ENOENT "No such image: X". */
int bh_cli_image_inspect(struct bh_image_store *store, const char *reference, struct json_object **ret_object, struct bh_error *err);
