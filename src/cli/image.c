/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/image.h"

#include "base/time.h"

#include <errno.h>

int bh_cli_image_run(struct bh_image_store *store, const struct bh_image_job *job, struct bh_staging *staging, const struct bh_strv *names,
		     struct json_object **ret_result, struct bh_error *err)
{
	int r = bh_image_store_open(bh_cli.root, store, err);

	if (r < 0)
		return r;
	bh_staging_sweep(store);
	/* Objects that the helper finds in the store must still be there when the index names them. */
	r = bh_lock_fd(store->content_fd, false, false);
	if (r < 0)
		return bh_error_set(err, -r, "lock %s/content", store->root);
	r = bh_staging_create(store, staging, err);
	if (r == 0)
		r = bh_image_helper_run(store, job, staging, ret_result, err);
	if (r == 0)
		r = bh_image_commit(store, staging, *ret_result, names, err);
	bh_staging_remove(store, staging);
	return r;
}

int64_t bh_cli_image_size(struct bh_image_store *store, const struct bh_image *image, const struct bh_manifest *manifest)
{
	int64_t size = 0;

	for (size_t i = 0; i < manifest->layer_count; i++) {
		struct bh_layer_meta meta;

		if (bh_image_layer_meta(store, image->diff_ids.items[i], &meta, NULL) == 0)
			size += meta.bytes;
		else
			size += BH_MAX(bh_image_blob_size(store, manifest->layers[i].digest), 0);
	}
	return size;
}

char *bh_cli_since(int64_t created_ns)
{
	char age[BH_TIME_TEXT_MAX];

	if (!created_ns)
		return bh_strdup("N/A");
	return bh_printf("%s ago", bh_format_age(BH_MAX(bh_now_ns() - created_ns, 0), age));
}

char *bh_cli_created_at(int64_t created_ns)
{
	time_t seconds = (time_t)(created_ns / 1000000000);
	char text[64];
	struct tm tm;

	if (!created_ns || !localtime_r(&seconds, &tm) || !strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %z %Z", &tm))
		return bh_strdup("N/A");
	return bh_strdup(text);
}
