/* SPDX-License-Identifier: Apache-2.0 */
/* Image references, in the rules of distribution/reference (the grammar Docker's command line uses). */
#pragma once

#include "base/error.h"

#include <stdbool.h>

struct bh_reference {
	char *registry, *repository, *tag, *digest; /* tag NULL if a digest is given without one; "latest" by default */
};
/* "busybox" -> docker.io, library/busybox, latest. -EINVAL with Docker's words. */
int bh_reference_parse(const char *text, struct bh_reference *ret_reference, struct bh_error *err);
/* "docker.io/library/busybox:latest" -> "busybox:latest" */
char *bh_reference_familiar(const struct bh_reference *reference);
/* The familiar form without tag and digest: "busybox". */
char *bh_reference_familiar_name(const struct bh_reference *reference);
/* "docker.io/library/busybox:latest" (with "@sha256:..." if there is a digest). */
char *bh_reference_full(const struct bh_reference *reference);
bool bh_reference_is_tag(const char *text);
void bh_reference_clear(struct bh_reference *reference);
#define bh_auto_reference __attribute__((cleanup(bh_reference_clear)))
