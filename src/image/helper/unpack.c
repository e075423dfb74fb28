/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpack: layers whose blobs are in the store already (another tool wrote them).
 * The request: {"layers": [{"digest": DIGEST, "diff_id": DIGEST}...]}.
 */
#include "image/helper/helper-internal.h"

#include "image/helper/blobs.h"
#include "oci/image-json.h"

#include <errno.h>
#include <json-c/json.h>

int helper_unpack(struct helper *h, struct bh_error *err)
{
	struct json_object *layers = bh_image_json_array(h->request, "layers");

	for (size_t i = 0; layers && i < json_object_array_length(layers); i++) {
		struct json_object *layer = json_object_array_get_idx(layers, i);
		const char *digest = bh_image_json_string(layer, "digest"), *diff_id = bh_image_json_string(layer, "diff_id");
		int r;

		if (!digest || !diff_id || !bh_digest_is_valid(digest) || !bh_digest_is_valid(diff_id))
			return bh_error_text(err, EINVAL, "request: layers[%zu]: expected digests", i);
		r = helper_unpack_blob(h, SANDBOX_CONTENT, 0, digest, diff_id, err);
		if (r < 0)
			return r;
	}
	return 0;
}
