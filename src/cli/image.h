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
