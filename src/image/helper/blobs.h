/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs that lie in an OCI layout's folder (the store's, or one given by the user). */
#pragma once

#include "image/helper/helper-internal.h"

/* Reads a small blob (a JSON document) and verifies it. `folder` is SANDBOX_CONTENT or SANDBOX_SOURCE. */
int helper_read_blob(struct helper *h, const char *folder, const char *digest, struct bh_buf *ret_content, struct bh_error *err);
/* Unpacks a layer's blob if its diff-id isn't unpacked yet, and reports it. `flags`: INTAKE_STORE to keep it too. */
int helper_unpack_blob(struct helper *h, const char *folder, unsigned flags, const char *digest, const char *diff_id, struct bh_error *err);
/* Compares what came with what was promised. */
int helper_check_intake(const struct intake *intake, const char *digest, const char *diff_id, struct bh_error *err);
