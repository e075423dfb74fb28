/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The low-level SHA256_* functions are used on purpose: through EVP the static program would carry OpenSSL's provider
 * machinery (2 MB) and its start-up cost. They pick the CPU's SHA extension by themselves.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "oci/digest.h"

#include "base/string.h"

#include <errno.h>
#include <openssl/sha.h>

_Static_assert(sizeof(SHA256_CTX) <= sizeof(struct bh_sha256), "the opaque state must hold the library's");

static SHA256_CTX *context(struct bh_sha256 *hash)
{
	return (SHA256_CTX *)(void *)hash->state;
}

void bh_sha256_init(struct bh_sha256 *hash)
{
	SHA256_Init(context(hash));
}

void bh_sha256_update(struct bh_sha256 *hash, const void *bytes, size_t length)
{
	SHA256_Update(context(hash), bytes, length);
}

void bh_sha256_digest(struct bh_sha256 *hash, char ret_digest[BH_DIGEST_MAX])
{
	unsigned char bytes[BH_SHA256_SIZE];

	SHA256_Final(bytes, context(hash));
	memcpy(ret_digest, "sha256:", 7);
	bh_format_hex(bytes, sizeof bytes, ret_digest + 7);
}

void bh_digest_of(const void *bytes, size_t length, char ret_digest[BH_DIGEST_MAX])
{
	struct bh_sha256 hash;

	bh_sha256_init(&hash);
	bh_sha256_update(&hash, bytes, length);
	bh_sha256_digest(&hash, ret_digest);
}

bool bh_digest_is_hex(const char *text)
{
	return strspn(text, "0123456789abcdef") == BH_DIGEST_HEX_LENGTH && !text[BH_DIGEST_HEX_LENGTH];
}

bool bh_digest_is_valid(const char *text)
{
	return bh_has_prefix(text, "sha256:") && bh_digest_is_hex(bh_digest_hex(text));
}

int bh_digest_copy(const char *text, const char *what, char ret_digest[BH_DIGEST_MAX], struct bh_error *err)
{
	if (!text || !bh_digest_is_valid(text))
		return bh_error_text(err, EINVAL, "%s: '%.100s' is not a sha256 digest", what, text ? text : "");
	memcpy(ret_digest, text, strlen(text) + 1);
	return 0;
}
