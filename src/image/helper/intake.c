/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking in a layer, in one pass over its bytes:
 *
 *	source -> SHA-256 (digest) -> staging/blobs/... -> decompress -> ring =thread=> SHA-256 (diff-id) -> unpack
 *
 * The calling thread does what lies left of the ring, a second one what lies right: decompressing and creating files
 * cost about the same. The folder gets its name, the diff-id, when the last byte has been hashed. A failure of
 * either side ends in one error and nothing that looks like a layer.
 */
#include "image/helper/helper-internal.h"

#include "base/file.h"
#include "image/helper/ring.h"
#include "oci/image-json.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <pthread.h>

/* The bytes on their way in. */
struct tap {
	const struct bh_source *source;
	struct bh_sha256 hash;
	int blob_fd; /* -1: not kept */
	int64_t size;
	bool failed; /* reading or writing did, not what was read */
};

struct unpacker {
	struct ring *ring;
	int folder_fd;
	bool hashing; /* false: the tar archive is the blob itself */
	struct bh_sha256 hash;
	char diff_id[BH_DIGEST_MAX];
	struct bh_layer_stats stats;
	struct bh_error err;
	int result;
	pthread_t thread;
};

ssize_t helper_read_fd(void *context, void *buffer, size_t size, struct bh_error *err)
{
	for (;;) {
		ssize_t n = read(*(int *)context, buffer, size);

		if (n >= 0)
			return n;
		if (errno != EINTR)
			return bh_error_set(err, errno, "read the input");
	}
}

const char *helper_layer_media_type(enum bh_compression compression)
{
	static const char *const types[] = { BH_MEDIA_LAYER, BH_MEDIA_LAYER_GZIP, BH_MEDIA_LAYER_ZSTD };

	return types[compression];
}

static ssize_t tap_read(void *context, void *buffer, size_t size, struct bh_error *err)
{
	struct tap *tap = context;
	ssize_t n = tap->source->read(tap->source->context, buffer, size, err);
	int r;

	tap->failed = n < 0;
	if (n <= 0)
		return n;
	bh_sha256_update(&tap->hash, buffer, (size_t)n);
	tap->size += n;
	r = tap->blob_fd < 0 ? 0 : bh_write_all(tap->blob_fd, buffer, (size_t)n);
	tap->failed = r < 0;
	return r < 0 ? bh_error_set(err, -r, "write a blob") : n;
}

static ssize_t unpacker_next(void *context, const void **ret_bytes, struct bh_error *err)
{
	struct unpacker *u = context;
	ssize_t n = ring_next(u->ring, ret_bytes);

	if (n < 0)
		return bh_error_set(err, EPIPE, "read the layer");
	if (u->hashing)
		bh_sha256_update(&u->hash, *ret_bytes, (size_t)n);
	return n;
}

static void *unpacker_run(void *argument)
{
	struct unpacker *u = argument;
	const struct bh_chunks chunks = { unpacker_next, u };

	u->result = bh_layer_apply(&chunks, u->folder_fd, &u->stats, &u->err);
	ring_leave(u->ring);
	return NULL;
}

static int unpacker_start(struct unpacker *u, bool hashing, struct bh_error *err)
{
	int r;

	u->hashing = hashing;
	bh_sha256_init(&u->hash);
	u->ring = ring_new();
	r = pthread_create(&u->thread, NULL, unpacker_run, u);
	if (r == 0)
		return 0;
	ring_free(BH_TAKE_PTR(u->ring));
	return bh_error_set(err, r, "start a thread");
}

/* A bomb is seen before it fills the disk. */
static int check_ratio(const struct bh_stream *stream, struct bh_error *err)
{
	uint64_t in = bh_stream_bytes_in(stream), out = bh_stream_bytes_out(stream);

	if (out <= BH_LAYER_RATIO_FREE_BYTES || out / BH_LAYER_RATIO_MAX <= in)
		return 0;
	return bh_error_text(err, EFBIG, "the layer grows more than %u times when it is decompressed", BH_LAYER_RATIO_MAX);
}

/* Decompresses to the end of the source. Goes on when the unpacker has given up: the blob's digest is still wanted. */
static int pump(struct bh_stream *stream, struct ring *ring, struct bh_error *err)
{
	static char scratch[RING_SLOT_SIZE];
	ssize_t n;
	int r;

	do {
		n = bh_stream_read(stream, ring ? ring_reserve(ring) : scratch, RING_SLOT_SIZE, err);
		if (n > 0 && ring)
			ring_commit(ring, (size_t)n);
		r = n < 0 ? (int)n : check_ratio(stream, err);
	} while (n > 0 && r == 0);
	if (ring)
		ring_finish(ring, r < 0);
	return r;
}

static int make_staging_folder(struct helper *h, const char *name, struct bh_error *err)
{
	int r = bh_mkdir_all(h->root_fd, name, 0700, err);

	return r < 0 ? r : bh_open_dir(h->root_fd, name, 0, err);
}

static int write_meta(int folder_fd, const struct unpacker *u, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };

	bh_buf_addf(&text, "{\"diff_id\":\"%s\",\"size\":%llu,\"inodes\":%llu}\n", u->diff_id, (unsigned long long)u->stats.bytes,
		    (unsigned long long)u->stats.inodes);
	return bh_write_file_at(folder_fd, "meta.json", text.data, text.length, 0644, 0, err);
}

/* Gives the unpacked folder its name. If there is one of that name already, this one is superfluous. */
static int name_layer(struct helper *h, int layers_fd, const char *temporary, const struct unpacker *u, struct bh_error *err)
{
	bh_auto_close int folder = bh_open_dir(layers_fd, temporary, 0, err);
	int r = folder < 0 ? folder : write_meta(folder, u, err);

	if (r < 0)
		return r;
	if (helper_has_layer(h, u->diff_id))
		return bh_remove_tree_at(layers_fd, temporary, err);
	if (renameat2(layers_fd, temporary, layers_fd, bh_digest_hex(u->diff_id), RENAME_NOREPLACE) < 0)
		return bh_error_set(err, errno, "name the layer %s", u->diff_id);
	return 0;
}

static int name_blob(int blobs_fd, const char *temporary, const char *digest, struct bh_error *err)
{
	if (renameat2(blobs_fd, temporary, blobs_fd, bh_digest_hex(digest), 0) < 0)
		return bh_error_set(err, errno, "name the blob %s", digest);
	return 0;
}

/* Runs the pass. `u` NULL: without unpacking. */
static int run(struct tap *tap, struct unpacker *u, struct intake *intake, struct bh_error *err)
{
	const struct bh_source tapped = { tap_read, tap };
	bh_auto_stream struct bh_stream *stream = NULL;
	int r = bh_stream_open(&tapped, &stream, err);

	if (r < 0)
		return r;
	intake->compression = bh_stream_compression(stream);
	if (u) {
		r = unpacker_start(u, intake->compression != BH_COMPRESSION_NONE, err);
		if (r < 0)
			return r;
	}
	r = pump(stream, u ? u->ring : NULL, err);
	if (r == 0) {
		struct bh_sha256 copy = tap->hash;

		bh_sha256_digest(&copy, intake->digest);
		intake->size = tap->size;
	}
	if (!u)
		return r;
	pthread_join(u->thread, NULL);
	ring_free(BH_TAKE_PTR(u->ring));
	if (r == 0 && u->result < 0) {
		if (err)
			*err = u->err;
		r = u->result;
	}
	if (r < 0)
		return r;
	if (u->hashing)
		bh_sha256_digest(&u->hash, u->diff_id);
	else
		memcpy(u->diff_id, intake->digest, sizeof u->diff_id);
	return r;
}

/* After a failure: if the bytes aren't those that were promised, that is what to say. */
static int blame_content(struct tap *tap, const char *expected, int failure, struct bh_error *err)
{
	char buffer[16384], digest[BH_DIGEST_MAX];
	ssize_t n;

	if (!expected || failure == -ENOSPC || tap->failed)
		return failure;
	while ((n = tap_read(tap, buffer, sizeof buffer, NULL)) > 0)
		;
	if (n < 0)
		return failure;
	bh_sha256_digest(&tap->hash, digest);
	if (bh_streq(digest, expected))
		return failure;
	return bh_error_text(err, EBADMSG, "damaged: its content has the digest %s", digest);
}

int helper_take_layer(struct helper *h, const struct bh_source *source, unsigned flags, const char *expected, struct intake *ret_intake,
		      struct bh_error *err)
{
	static unsigned counter;
	bh_auto_close int blobs_fd = make_staging_folder(h, "blobs", err);
	bh_auto_close int layers_fd = blobs_fd < 0 ? -1 : make_staging_folder(h, "layers", err);
	bh_auto_close int diff_fd = -1, blob_fd = -1;
	struct tap tap = { .source = source, .blob_fd = -1 };
	struct unpacker u = { .folder_fd = -1 };
	struct intake intake = { 0 };
	char name[32];
	int r;

	if (layers_fd < 0)
		return blobs_fd < 0 ? blobs_fd : layers_fd;
	snprintf(name, sizeof name, "new-%u", counter++);
	if (flags & INTAKE_STORE) {
		tap.blob_fd = blob_fd = openat(blobs_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (blob_fd < 0)
			return bh_error_set(err, errno, "create a blob");
	}
	if (flags & INTAKE_UNPACK) {
		bh_auto_free char *diff = bh_printf("%s/diff", name);

		u.folder_fd = diff_fd = bh_make_dir(layers_fd, diff, 0755, err);
		if (diff_fd < 0)
			return diff_fd;
	}
	bh_sha256_init(&tap.hash);
	r = run(&tap, flags & INTAKE_UNPACK ? &u : NULL, &intake, err);
	if (r < 0)
		r = blame_content(&tap, expected, r, err);
	if (r == 0 && (flags & INTAKE_STORE))
		r = name_blob(blobs_fd, name, intake.digest, err);
	if (r == 0 && (flags & INTAKE_UNPACK))
		r = name_layer(h, layers_fd, name, &u, err);
	if (r < 0) {
		unlinkat(blobs_fd, name, 0);
		bh_remove_tree_at(layers_fd, name, NULL);
		return r;
	}
	memcpy(intake.diff_id, u.diff_id, sizeof intake.diff_id);
	*ret_intake = intake;
	return 0;
}

int helper_take_bytes(struct helper *h, const void *bytes, size_t length, char ret_digest[BH_DIGEST_MAX], struct bh_error *err)
{
	bh_auto_close int blobs_fd = make_staging_folder(h, "blobs", err);
	char digest[BH_DIGEST_MAX];
	int r;

	if (blobs_fd < 0)
		return blobs_fd;
	bh_digest_of(bytes, length, digest);
	r = bh_write_file_at(blobs_fd, bh_digest_hex(digest), bytes, length, 0644, 0, err);
	if (r == 0)
		memcpy(ret_digest, digest, sizeof digest);
	return r;
}

static bool exists(const struct helper *h, const char *format, const char *digest)
{
	char path[128];

	snprintf(path, sizeof path, format, bh_digest_hex(digest));
	return faccessat(h->root_fd, path, F_OK, 0) == 0;
}

int64_t helper_store_blob_size(const struct helper *h, const char *digest)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof path, SANDBOX_CONTENT "/blobs/sha256/%s", bh_digest_hex(digest));
	return fstatat(h->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : (int64_t)st.st_size;
}

bool helper_has_blob(const struct helper *h, const char *digest)
{
	return exists(h, SANDBOX_CONTENT "/blobs/sha256/%s", digest) || exists(h, "blobs/%s", digest);
}

bool helper_has_layer(const struct helper *h, const char *diff_id)
{
	return exists(h, SANDBOX_LAYERS "/%s/meta.json", diff_id) || exists(h, "layers/%s/meta.json", diff_id);
}

void helper_report(struct helper *h, const char *list, const char *digest)
{
	bool blobs = bh_streq(list, "blobs");
	struct json_object *array = bh_image_json_array(h->result, list);

	if (!exists(h, blobs ? "blobs/%s" : "layers/%s", digest))
		return;
	if (!array) {
		array = json_object_new_array();
		json_object_object_add(h->result, list, array);
	}
	for (size_t i = 0; i < json_object_array_length(array); i++)
		if (bh_streq(json_object_get_string(json_object_array_get_idx(array, i)), digest))
			return;
	json_object_array_add(array, json_object_new_string(digest));
}

void helper_report_image(struct helper *h, const struct bh_descriptor *manifest, const char *id, const struct bh_strv *names)
{
	struct json_object *image = json_object_new_object(), *list = json_object_new_array();
	struct json_object *images = bh_image_json_array(h->result, "images");

	if (!images) {
		images = json_object_new_array();
		json_object_object_add(h->result, "images", images);
	}
	json_object_object_add(image, "manifest", bh_descriptor_new(manifest->media_type, manifest->digest, manifest->size));
	bh_image_json_add(image, "id", id);
	for (size_t i = 0; i < names->count; i++)
		json_object_array_add(list, json_object_new_string(names->items[i]));
	json_object_object_add(image, "names", list);
	json_object_array_add(images, image);
}
