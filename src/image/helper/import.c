/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import: a root file system (tar, compressed or not, or a folder) becomes an image of one layer.
 * The request: {"config": {image configuration without rootfs}, "source": 1 if a folder}.
 *
 * The archive is kept as it came, as the layer's blob. A folder's layer isn't compressed: writing 600 MB costs less time
 * than compressing them, and save can still do that.
 */
#include "image/helper/helper-internal.h"

#include "base/file.h"
#include "image/helper/ring.h"
#include "oci/image-json.h"
#include "storage/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <pthread.h>

/* A folder is packed by a thread of its own; the intake reads its end of the ring like any archive. */
struct packer {
	struct ring *ring;
	int folder_fd;
	struct bh_error err;
	int result;
	const char *bytes; /* the chunk that the intake is reading */
	size_t left;
};

static int packer_write(void *context, const void *bytes, size_t size)
{
	struct packer *p = context;
	const char *from = bytes;

	while (size) {
		size_t part = BH_MIN(size, RING_SLOT_SIZE);

		memcpy(ring_reserve(p->ring), from, part);
		ring_commit(p->ring, part);
		from += part;
		size -= part;
	}
	return 0;
}

static void *packer_run(void *argument)
{
	struct packer *p = argument;

	p->result = bh_pack_folder(p->folder_fd, packer_write, p, &p->err);
	ring_finish(p->ring, p->result < 0);
	return NULL;
}

static ssize_t packer_read(void *context, void *buffer, size_t size, struct bh_error *err)
{
	struct packer *p = context;

	if (!p->left) {
		const void *bytes;
		ssize_t n = ring_next(p->ring, &bytes);

		if (n < 0)
			return bh_error_text(err, EPIPE, "pack the folder");
		p->bytes = bytes;
		p->left = (size_t)n;
	}
	size = BH_MIN(size, p->left);
	memcpy(buffer, p->bytes, size);
	p->bytes += size;
	p->left -= size;
	return (ssize_t)size;
}

static int take_folder(struct helper *h, struct intake *intake, struct bh_error *err)
{
	bh_auto_close int folder_fd = bh_open_dir(h->root_fd, SANDBOX_SOURCE, 0, err);
	struct packer packer = { .folder_fd = folder_fd };
	const struct bh_source source = { packer_read, &packer };
	pthread_t thread;
	int r;

	if (folder_fd < 0)
		return folder_fd;
	packer.ring = ring_new();
	r = pthread_create(&thread, NULL, packer_run, &packer);
	if (r != 0) {
		ring_free(packer.ring);
		return bh_error_set(err, r, "start a thread");
	}
	r = helper_take_layer(h, &source, INTAKE_STORE | INTAKE_UNPACK, NULL, intake, err);
	ring_leave(packer.ring);
	pthread_join(thread, NULL);
	ring_free(packer.ring);
	if (packer.result < 0) { /* the intake only saw that the bytes ended */
		if (err)
			*err = packer.err;
		return packer.result;
	}
	return r;
}

static int take_archive(struct helper *h, struct intake *intake, struct bh_error *err)
{
	int input = STDIN_FILENO;
	const struct bh_source source = { helper_read_fd, &input };

	return helper_take_layer(h, &source, INTAKE_STORE | INTAKE_UNPACK, NULL, intake, err);
}

static int write_config(struct helper *h, const struct intake *layer, struct bh_descriptor *config, struct bh_error *err)
{
	struct json_object *document = bh_image_json_object(h->request, "config"), *rootfs = json_object_new_object();
	struct json_object *diff_ids = json_object_new_array();
	const char *text;

	json_object_array_add(diff_ids, json_object_new_string(layer->diff_id));
	bh_image_json_add(rootfs, "type", "layers");
	json_object_object_add(rootfs, "diff_ids", diff_ids);
	json_object_object_add(document, "rootfs", rootfs);
	text = bh_image_json_text(document);
	config->size = (int64_t)strlen(text);
	snprintf(config->media_type, sizeof config->media_type, "%s", BH_MEDIA_CONFIG);
	return helper_take_bytes(h, text, strlen(text), config->digest, err);
}

int helper_import(struct helper *h, struct bh_error *err)
{
	static const struct bh_strv no_names;
	struct bh_descriptor descriptor = { .media_type = BH_MEDIA_MANIFEST };
	struct bh_manifest manifest = { .layer_count = 1 };
	bh_auto_buf struct bh_buf text = { 0 };
	struct intake layer;
	int r;

	if (!bh_image_json_object(h->request, "config"))
		return bh_error_text(err, EINVAL, "request: config: expected an object");
	r = bh_image_json_int(h->request, "source", 0) ? take_folder(h, &layer, err) : take_archive(h, &layer, err);
	if (r == 0)
		r = write_config(h, &layer, &manifest.config, err);
	if (r < 0)
		return r;
	memcpy(manifest.layers[0].digest, layer.digest, sizeof layer.digest);
	manifest.layers[0].size = layer.size;
	snprintf(manifest.layers[0].media_type, sizeof manifest.layers[0].media_type, "%s", helper_layer_media_type(layer.compression));
	bh_manifest_write(&manifest, &text);
	descriptor.size = (int64_t)text.length;
	r = helper_take_bytes(h, text.data, text.length, descriptor.digest, err);
	if (r < 0)
		return r;
	helper_report(h, "layers", layer.diff_id);
	helper_report(h, "blobs", layer.digest);
	helper_report(h, "blobs", manifest.config.digest);
	helper_report(h, "blobs", descriptor.digest);
	helper_report_image(h, &descriptor, manifest.config.digest, &no_names);
	return 0;
}
