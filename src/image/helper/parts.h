/* SPDX-License-Identifier: Apache-2.0 */
/* What an archive of images brought, by the names it had there; and the images made of it (parts.c). */
#pragma once

#include "image/helper/helper-internal.h"

enum part_kind {
	PART_BROKEN,   /* `why` says what is wrong with it */
	PART_DOCUMENT, /* small: `content` */
	PART_LAYER,    /* stored and unpacked in staging: `intake` */
	PART_KNOWN,    /* the store has a blob of the digest that its name says */
	PART_LINK,     /* another name of `target` */
};

struct part {
	char *path; /* clean: no leading "./" */
	enum part_kind kind;
	char *target;
	struct bh_buf content;
	struct intake intake;
	char why[1024]; /* not empty: don't use it */
};

struct parts {
	struct helper *h;
	struct part *items;
	size_t count, capacity;
	const char *folder; /* blobs that are no part are looked up in this layout's folder; NULL: nowhere */
};

/* Adds a part; an earlier one of the same path is superseded. The pointer is valid until the next call. */
struct part *parts_add(struct parts *parts, const char *path);
/* Resolves `target` against the folder of `path` by words; ".." never leads above the root. */
char *parts_clean_path(const char *path, const char *target);
void parts_clear(struct parts *parts);

/* Finds the images, checks that they are complete, and reports them. */
int parts_make_images(struct parts *parts, struct bh_error *err);
