/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image store: an OCI image layout (content/) that other tools read as it stands, and the unpacked layers.
 *
 *	content/oci-layout  content/index.json  content/blobs/sha256/<hex>
 *	layers/<diff-id>/diff/   layers/<diff-id>/meta.json    (the folder appears, complete, by one rename)
 *
 * index.json is the only list of images and names (no second place to disagree): one descriptor per name, with the name
 * in the annotation org.opencontainers.image.ref.name; an image without a name has a descriptor without it. Changes are
 * made under the store's lock by write + rename; readers take no lock.
 * A blob is verified against its digest on the way in, and manifests and configs again whenever they are read.
 *
 * An unpacked layer is named by its diff-id, not by a chain-id: overlayfs stacks the folders when a container starts, so
 * what lies in one doesn't depend on those below it, and two images share a layer even when the layers below differ.
 *
 * Lifetime: resolving an image takes a shared lock on the store until bh_image_store_close; deleting of unreferenced
 * objects takes it exclusively. So a resolved image's layers stay until the caller has recorded (in
 * containers/<id>/container.json, "image_id") that it uses them, if it keeps the store open until then.
 */
#pragma once

#include "base/error.h"
#include "base/string.h"
#include "oci/digest.h"
#include "oci/reference.h"

struct bh_image_store {
	char *root;        /* --root */
	int root_fd;
	int content_fd;    /* root/content */
	int layers_fd;     /* root/layers */
};
/* Opens the store below `root`, making its folders if they are missing. */
#define BH_IMAGE_STORE_INIT { NULL, -1, -1, -1 }
int bh_image_store_open(const char *root, struct bh_image_store *ret_store, struct bh_error *err);
void bh_image_store_close(struct bh_image_store *store);

/* The image configuration's part that running needs (image-spec config.md). */
struct bh_image {
	char id[BH_DIGEST_MAX];         /* digest of the config blob: what Docker calls the image id */
	char manifest[BH_DIGEST_MAX];   /* digest of the manifest */
	char *name;                     /* the name it was found by, familiar form ("busybox:latest"), or NULL */
	char *architecture, *os, *author;
	int64_t created_ns;
	struct bh_strv entrypoint, cmd, env, volumes, exposed_ports, labels /* "key=value" */;
	bool has_entrypoint, has_cmd;
	char *user, *working_dir, *stop_signal;
	struct {
		bool set;
		struct bh_strv test; /* "CMD", "CMD-SHELL", "NONE" first */
		int64_t interval_ns, timeout_ns, start_period_ns, retries;
	} healthcheck;
	struct bh_strv diff_ids;        /* "sha256:..." lowest first */
	struct bh_strv layer_paths;     /* absolute paths of the unpacked diff folders, lowest first */
	int64_t size_bytes;             /* unpacked size of all layers; -1 until bh_image_measure */
};

/*
 * Finds an image by name ("busybox", "busybox:1.36", "docker.io/library/busybox", "name@sha256:..."), or by id prefix
 * (>= 3 hex digits, unique), and reads it. Layers that are not unpacked yet (another tool wrote to the layout) are
 * unpacked first, by the helper program bulkhead-image. -ENOENT "No such image: X".
 */
int bh_image_resolve(struct bh_image_store *store, const char *reference, struct bh_image *ret_image, struct bh_error *err);
/* Fills size_bytes (reads one small file per layer; not needed for running). */
int bh_image_measure(struct bh_image_store *store, struct bh_image *image, struct bh_error *err);
void bh_image_clear(struct bh_image *image);
