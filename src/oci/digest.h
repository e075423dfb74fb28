/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Digests (image-spec descriptor.md): "sha256:" and 64 lower-case hex digits. SHA-256 is the only algorithm taken: it is
 * the one every registry and tool writes, and the name of a blob in the store is its hex part.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

#define BH_DIGEST_MAX 80       /* "sha256:" + 64 hex digits + NUL, rounded up */
#define BH_DIGEST_HEX_LENGTH 64
#define BH_SHA256_SIZE 32

/* Running hash; opaque, so that no user of this header needs the crypto library's headers. */
struct bh_sha256 {
	unsigned long long state[16];
};
void bh_sha256_init(struct bh_sha256 *hash);
void bh_sha256_update(struct bh_sha256 *hash, const void *bytes, size_t length);
/* Ends the hash and writes it as a digest. */
void bh_sha256_digest(struct bh_sha256 *hash, char ret_digest[BH_DIGEST_MAX]);
/* Digest of a whole buffer. */
void bh_digest_of(const void *bytes, size_t length, char ret_digest[BH_DIGEST_MAX]);

/* Is it exactly "sha256:" and 64 lower-case hex digits? */
bool bh_digest_is_valid(const char *text);
/* Exactly 64 lower-case hex digits? */
bool bh_digest_is_hex(const char *text);
/* Copies a digest that came from outside; -EINVAL with words if it isn't valid. `what` names the field. */
int bh_digest_copy(const char *text, const char *what, char ret_digest[BH_DIGEST_MAX], struct bh_error *err);
/* The hex part of a valid digest. */
static inline const char *bh_digest_hex(const char *digest)
{
	return digest + sizeof "sha256:" - 1;
}
