/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/image.h"

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
