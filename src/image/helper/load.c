/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load: images from an archive (docker save, podman save, skopeo, any OCI layout in a tar), or from a layout's folder.
 * The request: {"source": 1 if a folder}.
 *
 * An archive is read once, in the order it comes, since it may be a pipe: what begins like a layer (gzip, zstd, tar) is
 * hashed, stored and unpacked at once; everything else that is small is kept in memory. When the archive has ended, the
 * images are put together from these parts (images.c). A layer that nobody names is left in staging and goes with it.
 * Entries whose name says that their content is in the store already are not read.
 */
#include "image/helper/helper-internal.h"

#include "base/file.h"
#include "image/helper/parts.h"
#include "oci/image-json.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>

#define ENTRIES_MAX 20000u
#define DOCUMENTS_MAX (64u << 20) /* bytes of all documents together */
#define READ_SIZE (256u << 10)

struct loader {
	struct helper *h;
	struct parts *parts;
	struct archive *archive;
	struct bh_stream *stream;
	struct bh_error *err, stream_error;
	size_t documents;
	char buffer[READ_SIZE]; /* the outer archive, decompressed */
	/* The entry that is being read: its bytes as libarchive gives them. */
	const char *block;
	size_t block_left;
	char head[BH_MAGIC_SIZE]; /* its first bytes, looked at before it is known what it is */
	size_t head_length, head_used;
};

static la_ssize_t read_outer(struct archive *archive, void *context, const void **ret_bytes)
{
	struct loader *l = context;
	ssize_t n = bh_stream_read(l->stream, l->buffer, sizeof l->buffer, &l->stream_error);

	*ret_bytes = l->buffer;
	if (n >= 0)
		return n;
	archive_set_error(archive, (int)-n, "%s", l->stream_error.message);
	return ARCHIVE_FATAL;
}

static int archive_failure(struct loader *l)
{
	const char *words = archive_error_string(l->archive);

	if (l->stream_error.message[0])
		return bh_error_text(l->err, l->stream_error.errnum, "%s", l->stream_error.message);
	return bh_error_text(l->err, EBADMSG, "not an image archive: %s", words ? words : "damaged");
}

/* The bytes of the current entry. */
static ssize_t read_entry(void *context, void *buffer, size_t size, struct bh_error *err)
{
	struct loader *l = context;
	size_t part;

	if (l->head_used < l->head_length) {
		part = BH_MIN(size, l->head_length - l->head_used);
		memcpy(buffer, l->head + l->head_used, part);
		l->head_used += part;
		return (ssize_t)part;
	}
	while (!l->block_left) {
		const void *block;
		la_int64_t offset;
		int r = archive_read_data_block(l->archive, &block, &l->block_left, &offset);

		if (r == ARCHIVE_EOF)
			return 0;
		if (r != ARCHIVE_OK)
			return l->stream_error.message[0] ? bh_error_text(err, l->stream_error.errnum, "%s", l->stream_error.message) :
							    bh_error_text(err, EBADMSG, "image archive: %s", archive_error_string(l->archive));
		l->block = block;
	}
	part = BH_MIN(size, l->block_left);
	memcpy(buffer, l->block, part);
	l->block += part;
	l->block_left -= part;
	return (ssize_t)part;
}

static int read_head(struct loader *l)
{
	l->head_length = l->head_used = l->block_left = 0;
	while (l->head_length < sizeof l->head) {
		ssize_t n;

		l->head_used = l->head_length; /* what is in the head is not read again */
		n = read_entry(l, l->head + l->head_length, sizeof l->head - l->head_length, l->err);
		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		l->head_length += (size_t)n;
	}
	l->head_used = 0;
	return 0;
}

static int take_document(struct loader *l, struct part *part, int64_t size)
{
	bh_auto_buf struct bh_buf content = { 0 };
	ssize_t n;

	if (size > (int64_t)BH_IMAGE_JSON_MAX) {
		snprintf(part->why, sizeof part->why, "larger than %u bytes and not a layer", BH_IMAGE_JSON_MAX);
		return 0;
	}
	do {
		bh_buf_reserve(&content, 65536);
		n = read_entry(l, content.data + content.length, 65536, l->err);
		if (n < 0)
			return (int)n;
		content.length += (size_t)n;
		if (content.length > BH_IMAGE_JSON_MAX || l->documents + content.length > DOCUMENTS_MAX)
			return bh_error_text(l->err, EFBIG, "image archive: its documents are larger than %u bytes", DOCUMENTS_MAX);
	} while (n > 0);
	l->documents += content.length;
	content.data[content.length] = '\0';
	bh_digest_of(content.data, content.length, part->intake.digest);
	part->intake.size = (int64_t)content.length;
	part->kind = PART_DOCUMENT;
	part->content = content;
	content = (struct bh_buf){ 0 };
	return 0;
}

/* "blobs/sha256/HEX" and podman's "HEX.tar" say what they hold. *ret_digest is "" for other names. */
static void digest_of_name(const char *path, char ret_digest[BH_DIGEST_MAX])
{
	const char *name = bh_has_prefix(path, "blobs/sha256/") ? path + strlen("blobs/sha256/") : path;
	char hex[BH_DIGEST_HEX_LENGTH + 1];

	ret_digest[0] = '\0';
	if (name == path && !bh_has_suffix(path, ".tar"))
		return;
	snprintf(hex, sizeof hex, "%s", name);
	if (bh_digest_is_hex(hex) && (name != path || strlen(name) == BH_DIGEST_HEX_LENGTH + 4))
		snprintf(ret_digest, BH_DIGEST_MAX, "sha256:%s", hex);
}

/* A layer that fails isn't the end: it may belong to nobody, and the rest of the archive must be read anyway. */
static int take_layer(struct loader *l, struct part *part, const char *named)
{
	const struct bh_source source = { read_entry, l };
	struct bh_error why = BH_ERROR_INIT;
	int r = helper_take_layer(l->h, &source, INTAKE_STORE | INTAKE_UNPACK, named, &part->intake, &why);

	part->kind = PART_LAYER;
	if (r == 0)
		return 0;
	if (why.errnum == ENOSPC || l->stream_error.message[0]) /* nothing further can succeed */
		return bh_error_text(l->err, why.errnum, "%s", why.message);
	part->intake.digest[0] = '\0';
	snprintf(part->why, sizeof part->why, "%s", why.message);
	return 0;
}

static int take_file(struct loader *l, struct part *part, int64_t size)
{
	char named[BH_DIGEST_MAX];
	int r;

	digest_of_name(part->path, named);
	if (*named && size > 0 && helper_store_blob_size(l->h, named) == size) {
		part->kind = PART_KNOWN;
		memcpy(part->intake.digest, named, sizeof named);
		part->intake.size = size;
		return 0;
	}
	r = read_head(l);
	if (r < 0)
		return r;
	if (bh_compression_detect(l->head, l->head_length) != BH_COMPRESSION_NONE || bh_tar_detect(l->head, l->head_length))
		r = take_layer(l, part, *named && bh_has_prefix(part->path, "blobs/") ? named : NULL);
	else
		r = take_document(l, part, size);
	if (r == 0 && *named && *part->intake.digest && bh_has_prefix(part->path, "blobs/") && !bh_streq(named, part->intake.digest))
		snprintf(part->why, sizeof part->why, "damaged: its content has the digest %s", part->intake.digest);
	return r;
}

static int take_entry(struct loader *l, struct archive_entry *entry)
{
	const char *target = archive_entry_hardlink(entry) ? archive_entry_hardlink(entry) : archive_entry_symlink(entry);
	const char *path = archive_entry_pathname(entry);
	struct part *part;

	if (!path || (archive_entry_filetype(entry) != AE_IFREG && !target))
		return 0;
	if (l->parts->count >= ENTRIES_MAX)
		return bh_error_text(l->err, E2BIG, "image archive: more than %u entries", ENTRIES_MAX);
	part = parts_add(l->parts, path);
	if (!target)
		return take_file(l, part, archive_entry_size_is_set(entry) ? archive_entry_size(entry) : 0);
	part->kind = PART_LINK;
	/* Symbolic links count from their own folder, hard links from the root of the archive. */
	part->target = parts_clean_path(archive_entry_hardlink(entry) ? "" : part->path, target);
	return 0;
}

static bool is_harmless(struct archive *archive)
{
	const char *words = archive_error_string(archive);

	return words && strstr(words, "can't be converted");
}

static int read_archive(struct loader *l)
{
	archive_read_support_format_tar(l->archive);
	if (archive_read_open(l->archive, l, NULL, read_outer, NULL) != ARCHIVE_OK)
		return archive_failure(l);
	for (;;) {
		struct archive_entry *entry;
		int r = archive_read_next_header(l->archive, &entry);

		if (r == ARCHIVE_EOF)
			return 0;
		if (r != ARCHIVE_OK && !(r == ARCHIVE_WARN && is_harmless(l->archive)))
			return archive_failure(l);
		r = take_entry(l, entry);
		if (r < 0)
			return r;
	}
}

static int load_archive(struct helper *h, struct parts *parts, struct bh_error *err)
{
	bh_auto_free struct loader *l = bh_calloc(1, sizeof *l);
	bh_auto_stream struct bh_stream *stream = NULL;
	int input = STDIN_FILENO, r;
	const struct bh_source source = { helper_read_fd, &input };

	r = bh_stream_open(&source, &stream, err);
	if (r < 0)
		return r;
	*l = (struct loader){ .h = h, .parts = parts, .stream = stream, .err = err, .archive = archive_read_new() };
	if (!l->archive)
		return bh_error_set(err, ENOMEM, "tar reader");
	r = read_archive(l);
	archive_read_free(l->archive);
	return r;
}

/* A layout's folder: only its list is read here, blobs when an image needs them. */
static int load_folder(struct helper *h, struct parts *parts, struct bh_error *err)
{
	static const char *const documents[] = { "oci-layout", "index.json" };

	parts->folder = SANDBOX_SOURCE;
	for (size_t i = 0; i < BH_ARRAY_SIZE(documents); i++) {
		bh_auto_free char *path = bh_path_join(SANDBOX_SOURCE, documents[i]);
		struct part *part;
		int r;

		part = parts_add(parts, documents[i]);
		part->kind = PART_DOCUMENT;
		r = bh_read_file_at(h->root_fd, path, BH_IMAGE_JSON_MAX, &part->content, NULL);
		if (r < 0)
			return bh_error_set(err, -r, "not an OCI image layout: read %s", documents[i]);
	}
	return 0;
}

int helper_load(struct helper *h, struct bh_error *err)
{
	struct parts parts = { .h = h };
	int r = bh_image_json_int(h->request, "source", 0) ? load_folder(h, &parts, err) : load_archive(h, &parts, err);

	if (r == 0)
		r = parts_make_images(&parts, err);
	parts_clear(&parts);
	return r;
}
