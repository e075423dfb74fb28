/* SPDX-License-Identifier: Apache-2.0 */
/*
 * save: images as an archive on fd 1.
 * The request: {"format": "docker-archive"|"oci-archive", "images": [{"manifest": {DESCRIPTOR}, "names": [NAME...]}...]}.
 *
 * Both formats are an OCI layout in a tar. docker-archive has Docker's manifest.json beside it, as Docker writes since
 * version 25; older versions and podman read that file alone. They don't know zstd, so such layers are decompressed for
 * them, which changes the manifest.
 */
#include "image/helper/helper-internal.h"

#include "base/file.h"
#include "image/helper/blobs.h"
#include "oci/image-json.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>

#define COPY_SIZE (1u << 20)

struct saver {
	struct helper *h;
	struct archive *archive;
	bool docker;
	struct bh_strv written;       /* digests of blobs in the archive */
	struct json_object *index;    /* index.json: manifests */
	struct json_object *manifest; /* manifest.json */
	char *buffer;
	struct bh_error *err;
};

static int archive_failure(struct saver *s)
{
	const char *words = archive_error_string(s->archive);
	int errnum = archive_errno(s->archive);

	return bh_error_text(s->err, errnum > 0 ? errnum : EIO, "write the archive: %s", words ? words : "failed");
}

static int add_header(struct saver *s, const char *path, mode_t type, mode_t mode, int64_t size)
{
	struct archive_entry *entry = archive_entry_new();
	int r;

	archive_entry_copy_pathname(entry, path);
	archive_entry_set_mode(entry, type | mode);
	archive_entry_set_size(entry, size);
	archive_entry_set_mtime(entry, 0, 0); /* the same images give the same archive */
	r = archive_write_header(s->archive, entry);
	archive_entry_free(entry);
	return r == ARCHIVE_OK ? 0 : archive_failure(s);
}

static int add_text(struct saver *s, const char *path, const char *text, size_t length)
{
	int r = add_header(s, path, AE_IFREG, 0644, (int64_t)length);

	return r == 0 && archive_write_data(s->archive, text, length) < 0 ? archive_failure(s) : r;
}

static int add_document(struct saver *s, const char *digest, const struct bh_buf *content)
{
	char path[128];

	if (bh_strv_contains(&s->written, digest))
		return 0;
	bh_strv_add(&s->written, digest);
	snprintf(path, sizeof path, "blobs/sha256/%s", bh_digest_hex(digest));
	return add_text(s, path, content->data, content->length);
}

/* Copies an open blob of that digest; what doesn't have the digest doesn't leave the store. */
static int copy_blob(struct saver *s, int fd, const char *digest, int64_t *ret_size)
{
	char path[128], found[BH_DIGEST_MAX];
	struct bh_sha256 hash;
	struct stat st;
	int64_t left;
	int r;

	if (fstat(fd, &st) < 0)
		return bh_error_set(s->err, errno, "blob %s", digest);
	*ret_size = left = st.st_size;
	snprintf(path, sizeof path, "blobs/sha256/%s", bh_digest_hex(digest));
	r = add_header(s, path, AE_IFREG, 0644, left);
	bh_sha256_init(&hash);
	while (r == 0 && left) {
		ssize_t n = read(fd, s->buffer, (size_t)BH_MIN((int64_t)COPY_SIZE, left));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return bh_error_set(s->err, n < 0 ? errno : EIO, "read the blob %s", digest);
		bh_sha256_update(&hash, s->buffer, (size_t)n);
		if (archive_write_data(s->archive, s->buffer, (size_t)n) < 0)
			return archive_failure(s);
		left -= n;
	}
	bh_sha256_digest(&hash, found);
	if (r == 0 && !bh_streq(found, digest))
		return bh_error_text(s->err, EBADMSG, "blob %s is damaged in the store: its content has the digest %s", digest, found);
	return r;
}

/* Decompresses a blob into a file of the staging folder, whose digest must be the diff-id. */
static int inflate_blob(struct saver *s, int fd, const char *diff_id)
{
	const struct bh_source source = { helper_read_fd, &fd };
	bh_auto_stream struct bh_stream *stream = NULL;
	bh_auto_close int out = openat(s->h->root_fd, "inflated", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int r = out < 0 ? bh_error_set(s->err, errno, "create a temporary file") : bh_stream_open(&source, &stream, s->err);

	while (r == 0) {
		ssize_t n = bh_stream_read(stream, s->buffer, COPY_SIZE, s->err);

		if (n == 0)
			break;
		r = n < 0 ? (int)n : bh_write_all(out, s->buffer, (size_t)n);
		if (n > 0 && r < 0)
			bh_error_set(s->err, -r, "decompress layer %s", diff_id);
	}
	if (r < 0)
		return r;
	lseek(out, 0, SEEK_SET);
	return BH_TAKE_FD(out);
}

static int add_layer(struct saver *s, struct bh_descriptor *layer, const char *diff_id)
{
	char path[160], head[4];
	bh_auto_close int fd = -1, inflated = -1;
	int r;

	snprintf(path, sizeof path, SANDBOX_CONTENT "/blobs/sha256/%s", bh_digest_hex(layer->digest));
	fd = openat(s->h->root_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return bh_error_set(s->err, errno, "blob %s", layer->digest);
	if (s->docker && pread(fd, head, sizeof head, 0) == sizeof head && bh_compression_detect(head, sizeof head) == BH_COMPRESSION_ZSTD) {
		memcpy(layer->digest, diff_id, strlen(diff_id) + 1);
		snprintf(layer->media_type, sizeof layer->media_type, "%s", BH_MEDIA_LAYER);
		inflated = inflate_blob(s, fd, diff_id);
		if (inflated < 0)
			return inflated;
		layer->size = lseek(inflated, 0, SEEK_END);
		lseek(inflated, 0, SEEK_SET);
	}
	if (bh_strv_contains(&s->written, layer->digest))
		return 0;
	bh_strv_add(&s->written, layer->digest);
	r = copy_blob(s, inflated >= 0 ? inflated : fd, layer->digest, &layer->size);
	return r;
}

static void add_to_index(struct saver *s, const struct bh_descriptor *descriptor, const struct bh_strv *names)
{
	size_t i = 0;

	do { /* one entry per name, or one without */
		struct json_object *entry = bh_descriptor_new(descriptor->media_type, descriptor->digest, descriptor->size);

		if (i < names->count) {
			struct json_object *annotations = json_object_new_object();
			bh_auto_reference struct bh_reference reference = { 0 };

			if (bh_reference_parse(names->items[i], &reference, NULL) == 0) {
				bh_auto_free char *full = bh_reference_full(&reference);

				bh_image_json_add(annotations, BH_ANNOTATION_FULL_NAME, full);
				bh_image_json_add(annotations, BH_ANNOTATION_REF_NAME, s->docker ? reference.tag : full);
			}
			json_object_object_add(entry, "annotations", annotations);
		}
		json_object_array_add(s->index, entry);
	} while (++i < names->count);
}

static void add_to_manifest(struct saver *s, const struct bh_manifest *manifest, const struct bh_strv *names)
{
	struct json_object *image = json_object_new_object(), *layers = json_object_new_array(), *tags = json_object_new_array();
	char path[128];

	snprintf(path, sizeof path, "blobs/sha256/%s", bh_digest_hex(manifest->config.digest));
	bh_image_json_add(image, "Config", path);
	/* Full names: podman would take a short one for an image of its own ("localhost/busybox"). */
	for (size_t i = 0; i < names->count; i++) {
		bh_auto_reference struct bh_reference reference = { 0 };
		bh_auto_free char *full = bh_reference_parse(names->items[i], &reference, NULL) == 0 ? bh_reference_full(&reference) :
												       bh_strdup(names->items[i]);

		json_object_array_add(tags, json_object_new_string(full));
	}
	for (size_t i = 0; i < manifest->layer_count; i++) {
		snprintf(path, sizeof path, "blobs/sha256/%s", bh_digest_hex(manifest->layers[i].digest));
		json_object_array_add(layers, json_object_new_string(path));
	}
	json_object_object_add(image, "RepoTags", tags);
	json_object_object_add(image, "Layers", layers);
	json_object_array_add(s->manifest, image);
}

static int save_image(struct saver *s, struct json_object *request)
{
	struct json_object *entry = bh_image_json_object(request, "manifest");
	bh_auto_buf struct bh_buf text = { 0 }, config = { 0 };
	bh_auto(bh_image_clear) struct bh_image image = { 0 };
	bh_auto_strv struct bh_strv names = { 0 };
	struct bh_descriptor descriptor;
	struct bh_manifest manifest;
	bool changed = false;
	int r = bh_descriptor_parse(entry, "request: manifest", &descriptor, s->err);

	bh_image_json_strings(bh_image_json_array(request, "names"), &names);
	if (r == 0)
		r = helper_read_blob(s->h, SANDBOX_CONTENT, descriptor.digest, &text, s->err);
	if (r == 0)
		r = bh_manifest_parse(text.data, text.length, &manifest, s->err);
	if (r == 0)
		r = helper_read_blob(s->h, SANDBOX_CONTENT, manifest.config.digest, &config, s->err);
	if (r == 0)
		r = bh_image_config_parse(config.data, config.length, &image, s->err);
	if (r == 0 && image.diff_ids.count != manifest.layer_count)
		r = bh_error_text(s->err, EINVAL, "image %s: its manifest and configuration disagree", manifest.config.digest);
	for (size_t i = 0; r == 0 && i < manifest.layer_count; i++) {
		char before[BH_DIGEST_MAX];

		memcpy(before, manifest.layers[i].digest, sizeof before);
		r = add_layer(s, &manifest.layers[i], image.diff_ids.items[i]);
		changed = changed || !bh_streq(before, manifest.layers[i].digest);
	}
	if (r == 0)
		r = add_document(s, manifest.config.digest, &config);
	if (r < 0)
		return r;
	if (changed) {
		bh_buf_reset(&text);
		snprintf(manifest.config.media_type, sizeof manifest.config.media_type, "%s", BH_MEDIA_CONFIG);
		bh_manifest_write(&manifest, &text);
		bh_digest_of(text.data, text.length, descriptor.digest);
		snprintf(descriptor.media_type, sizeof descriptor.media_type, "%s", BH_MEDIA_MANIFEST);
	}
	descriptor.size = (int64_t)text.length;
	add_to_index(s, &descriptor, &names);
	add_to_manifest(s, &manifest, &names);
	return add_document(s, descriptor.digest, &text);
}

static int write_lists(struct saver *s)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	bh_auto_json struct json_object *index = json_object_new_object();
	const char *text;
	int r;

	json_object_object_add(index, "schemaVersion", json_object_new_int(2));
	bh_image_json_add(index, "mediaType", BH_MEDIA_INDEX);
	json_object_object_add(index, "manifests", json_object_get(s->index));
	text = bh_image_json_text(index);
	r = add_text(s, "index.json", text, strlen(text));
	if (r == 0 && s->docker) {
		text = bh_image_json_text(s->manifest);
		r = add_text(s, "manifest.json", text, strlen(text));
	}
	return r < 0 ? r : add_text(s, "oci-layout", layout, sizeof layout - 1);
}

static int write_archive(struct saver *s)
{
	struct json_object *images = bh_image_json_array(s->h->request, "images");
	int r = 0;

	archive_write_set_format_pax_restricted(s->archive);
	archive_write_set_bytes_per_block(s->archive, (int)COPY_SIZE);
	archive_write_set_bytes_in_last_block(s->archive, 1);
	if (archive_write_open_fd(s->archive, STDOUT_FILENO) != ARCHIVE_OK)
		return archive_failure(s);
	r = add_header(s, "blobs/", AE_IFDIR, 0755, 0);
	if (r == 0)
		r = add_header(s, "blobs/sha256/", AE_IFDIR, 0755, 0);
	for (size_t i = 0; r == 0 && images && i < json_object_array_length(images); i++)
		r = save_image(s, json_object_array_get_idx(images, i));
	if (r == 0)
		r = write_lists(s);
	if (r == 0 && archive_write_close(s->archive) != ARCHIVE_OK)
		r = archive_failure(s);
	return r;
}

int helper_save(struct helper *h, struct bh_error *err)
{
	struct saver s = {
		.h = h,
		.err = err,
		.docker = !bh_streq(bh_image_json_string(h->request, "format"), "oci-archive"),
		.index = json_object_new_array(),
		.manifest = json_object_new_array(),
		.archive = archive_write_new(),
	};
	int r;

	s.buffer = bh_malloc(COPY_SIZE);
	r = s.archive ? write_archive(&s) : bh_error_set(err, ENOMEM, "tar writer");
	if (s.archive)
		archive_write_free(s.archive);
	free(s.buffer);
	bh_strv_clear(&s.written);
	json_object_put(s.index);
	json_object_put(s.manifest);
	return r;
}
