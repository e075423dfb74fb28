/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors, manifests and indexes (image-spec descriptor.md, manifest.md, image-index.md), and their Docker
 * schema 2 twins, which differ in media types only.
 */
#pragma once

#include "base/error.h"
#include "base/string.h"
#include "oci/digest.h"

#include <json-c/json_types.h>
#include <stdint.h>

#define BH_MEDIA_INDEX "application/vnd.oci.image.index.v1+json"
#define BH_MEDIA_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define BH_MEDIA_CONFIG "application/vnd.oci.image.config.v1+json"
#define BH_MEDIA_LAYER "application/vnd.oci.image.layer.v1.tar"
#define BH_MEDIA_LAYER_GZIP BH_MEDIA_LAYER "+gzip"
#define BH_MEDIA_LAYER_ZSTD BH_MEDIA_LAYER "+zstd"

#define BH_ANNOTATION_REF_NAME "org.opencontainers.image.ref.name"
#define BH_ANNOTATION_FULL_NAME "io.containerd.image.name"

#define BH_IMAGE_LAYERS_MAX 127 /* what Docker allows; overlayfs takes 500 */

enum bh_media_kind { BH_MEDIA_KIND_OTHER, BH_MEDIA_KIND_MANIFEST, BH_MEDIA_KIND_INDEX };
enum bh_media_kind bh_media_kind(const char *media_type);

struct bh_descriptor {
	char digest[BH_DIGEST_MAX];
	char media_type[128]; /* "" if it has none */
	int64_t size;         /* -1 if it has none */
};
/* `what` names the place for errors ("layers[2]"). */
int bh_descriptor_parse(struct json_object *object, const char *what, struct bh_descriptor *ret_descriptor, struct bh_error *err);
struct json_object *bh_descriptor_new(const char *media_type, const char *digest, int64_t size);
/* The annotation's value, or NULL. */
const char *bh_descriptor_annotation(struct json_object *descriptor, const char *name);

struct bh_manifest {
	struct bh_descriptor config;
	struct bh_descriptor layers[BH_IMAGE_LAYERS_MAX];
	size_t layer_count;
};
int bh_manifest_parse(const char *json, size_t length, struct bh_manifest *ret_manifest, struct bh_error *err);
/* Writes an OCI manifest. */
void bh_manifest_write(const struct bh_manifest *manifest, struct bh_buf *out);

/* The entry of a parsed index for this machine's platform (linux, its architecture): its place, or -ENOENT. Entries
 * without a platform match last; attestations ("unknown") never. */
int bh_index_pick(struct json_object *index, const char *what, size_t *ret_place, struct bh_error *err);
/* "amd64", "arm64" ... of the machine the program was built for, in Go's spelling. */
const char *bh_machine_architecture(void);
