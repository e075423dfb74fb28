/* SPDX-License-Identifier: Apache-2.0 */
#include "image/helper/blobs.h"

#include "base/file.h"
#include "oci/image-json.h"

#include <errno.h>
#include <fcntl.h>

static int open_blob(struct helper *h, const char *folder, const char *digest, struct bh_error *err)
{
	char path[160];
	struct stat st;
	int fd;

	snprintf(path, sizeof path, "%s/blobs/sha256/%s", folder, bh_digest_hex(digest));
	fd = openat(h->root_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return bh_error_text(err, ENOENT, "blob %s is missing", digest);
	if (fd < 0)
		return bh_error_set(err, errno, "open the blob %s", digest);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return bh_error_text(err, EINVAL, "blob %s is not a file", digest);
	}
	return fd;
}

int helper_read_blob(struct helper *h, const char *folder, const char *digest, struct bh_buf *ret_content, struct bh_error *err)
{
	bh_auto_close int fd = open_blob(h, folder, digest, err);
	bh_auto_buf struct bh_buf content = { 0 };
	char found[BH_DIGEST_MAX];
	int r;

	if (fd < 0)
		return fd;
	r = bh_read_fd(fd, BH_IMAGE_JSON_MAX, &content);
	if (r < 0)
		return bh_error_set(err, -r, "read the blob %s", digest);
	bh_digest_of(content.data, content.length, found);
	if (!bh_streq(found, digest))
		return bh_error_text(err, EBADMSG, "blob %s is damaged: its content has the digest %s", digest, found);
	bh_buf_clear(ret_content);
	*ret_content = content;
	content = (struct bh_buf){ 0 };
	return 0;
}

int helper_check_intake(const struct intake *intake, const char *digest, const char *diff_id, struct bh_error *err)
{
	if (!bh_streq(intake->digest, digest))
		return bh_error_text(err, EBADMSG, "layer %s is damaged: its content has the digest %s", digest, intake->digest);
	if (*intake->diff_id && !bh_streq(intake->diff_id, diff_id))
		return bh_error_text(err, EBADMSG, "layer %s: its archive has the digest %s, the image's configuration promises %s", digest,
				     intake->diff_id, diff_id);
	return 0;
}

int helper_unpack_blob(struct helper *h, const char *folder, unsigned flags, const char *digest, const char *diff_id, struct bh_error *err)
{
	bool have_blob = !(flags & INTAKE_STORE) || helper_has_blob(h, digest), have_layer = helper_has_layer(h, diff_id);
	struct intake intake;
	bh_auto_close int fd = -1;
	const struct bh_source source = { helper_read_fd, &fd };
	int r = 0;

	if (!have_blob || !have_layer) {
		fd = open_blob(h, folder, digest, err);
		if (fd < 0)
			return fd;
		r = helper_take_layer(h, &source, (have_blob ? 0 : INTAKE_STORE) | (have_layer ? 0 : INTAKE_UNPACK), digest, &intake, err);
		if (r < 0)
			return bh_error_prefix(err, "layer %s", digest);
		r = helper_check_intake(&intake, digest, diff_id, err);
	}
	if (r < 0)
		return r;
	helper_report(h, "blobs", digest);
	helper_report(h, "layers", diff_id);
	return 0;
}
