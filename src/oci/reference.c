/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reference is [domain "/"] path [":" tag] ["@" digest]. What looks like a domain is decided by words alone: the part
 * before the first slash is one if it holds a dot, a colon or an upper-case letter, or is "localhost". A path on the
 * default registry without a slash belongs to "library/".
 */
#include "oci/reference.h"

#include "base/string.h"
#include "oci/digest.h"

#include <ctype.h>
#include <errno.h>

#define DEFAULT_REGISTRY "docker.io"
#define OFFICIAL "library/"
#define NAME_LENGTH_MAX 255 /* registry and repository together */
#define TAG_LENGTH_MAX 128
#define TEXT_LENGTH_MAX 1024

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* path-component := alpha-numeric (separator alpha-numeric)*; separator := "." | "_" | "__" | "-"+ */
static bool is_path_component(const char *s, size_t length)
{
	size_t i = 0;

	while (i < length) {
		size_t start = i;

		while (i < length && is_lower_alnum(s[i]))
			i++;
		if (i == start)
			return false;
		if (i == length)
			return true;
		start = i;
		while (i < length && s[i] == s[start] && strchr("._-", s[i]))
			i++;
		if (i == start || (s[start] == '.' && i - start > 1) || (s[start] == '_' && i - start > 2))
			return false;
	}
	return false;
}

static bool is_path(const char *path)
{
	for (;;) {
		size_t length = strcspn(path, "/");

		if (!is_path_component(path, length))
			return false;
		if (!path[length])
			return true;
		path += length + 1;
	}
}

static bool is_domain_label(const char *s, size_t length)
{
	if (!length || !isalnum((unsigned char)s[0]) || !isalnum((unsigned char)s[length - 1]))
		return false;
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)s[i]) && s[i] != '-')
			return false;
	return true;
}

/* domain := (label ("." label)* | "[" IPv6 "]") [":" port] */
static bool is_domain(const char *domain)
{
	const char *p = domain;

	if (*p == '[') {
		size_t length = strspn(++p, "0123456789abcdefABCDEF:");

		if (!length || p[length] != ']')
			return false;
		p += length + 1;
	} else {
		for (;;) {
			size_t length = strcspn(p, ".:");

			if (!is_domain_label(p, length))
				return false;
			p += length;
			if (*p != '.')
				break;
			p++;
		}
	}
	if (!*p)
		return true;
	return *p == ':' && p[1] && strspn(p + 1, "0123456789") == strlen(p + 1);
}

bool bh_reference_is_tag(const char *text)
{
	size_t length = strlen(text);

	if (!length || length > TAG_LENGTH_MAX || (!isalnum((unsigned char)text[0]) && text[0] != '_'))
		return false;
	for (const char *p = text; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("_.-", *p))
			return false;
	return true;
}

static bool has_upper(const char *text)
{
	for (; *text; text++)
		if (isupper((unsigned char)*text))
			return true;
	return false;
}

static bool looks_like_domain(const char *part)
{
	return strpbrk(part, ".:") || bh_streq(part, "localhost") || has_upper(part);
}

/* Takes registry and repository out of `name` (no tag, no digest). */
static int split_name(const char *name, struct bh_reference *ref, struct bh_error *err)
{
	const char *slash = strchr(name, '/');
	bh_auto_free char *first = slash ? bh_strndup(name, (size_t)(slash - name)) : NULL;

	if (first && looks_like_domain(first)) {
		ref->registry = bh_strdup(bh_streq(first, "index.docker.io") ? DEFAULT_REGISTRY : first);
		name = slash + 1;
	} else {
		ref->registry = bh_strdup(DEFAULT_REGISTRY);
	}
	if (!is_domain(ref->registry))
		return bh_error_text(err, EINVAL, "invalid reference format: registry '%s'", ref->registry);
	if (has_upper(name))
		return bh_error_text(err, EINVAL, "invalid reference format: repository name (%s) must be lowercase", name);
	if (!is_path(name))
		return bh_error_text(err, EINVAL, "invalid reference format: '%s'", name);
	if (bh_streq(ref->registry, DEFAULT_REGISTRY) && !strchr(name, '/'))
		ref->repository = bh_printf("%s%s", OFFICIAL, name);
	else
		ref->repository = bh_strdup(name);
	if (strlen(ref->registry) + 1 + strlen(ref->repository) > NAME_LENGTH_MAX)
		return bh_error_text(err, EINVAL, "invalid reference format: repository name must not be more than %d characters", NAME_LENGTH_MAX);
	return 0;
}

int bh_reference_parse(const char *text, struct bh_reference *ret_reference, struct bh_error *err)
{
	bh_auto_reference struct bh_reference ref = { 0 };
	bh_auto_free char *name = NULL;
	char *at, *colon;
	int r;

	if (!*text || strlen(text) > TEXT_LENGTH_MAX)
		return bh_error_text(err, EINVAL, "invalid reference format: '%.100s'", text);
	if (bh_digest_is_hex(text))
		return bh_error_text(err, EINVAL, "invalid repository name (%s), cannot specify 64-byte hexadecimal strings", text);
	name = bh_strdup(text);
	at = strchr(name, '@');
	if (at) {
		*at = '\0';
		if (!bh_digest_is_valid(at + 1))
			return bh_error_text(err, EINVAL, "invalid reference format: '%.100s' is not a sha256 digest", at + 1);
		ref.digest = bh_strdup(at + 1);
	}
	colon = strrchr(name, ':');
	if (colon && !strchr(colon, '/')) {
		*colon = '\0';
		if (!bh_reference_is_tag(colon + 1))
			return bh_error_text(err, EINVAL, "invalid reference format: tag '%.130s'", colon + 1);
		ref.tag = bh_strdup(colon + 1);
	}
	r = split_name(name, &ref, err);
	if (r < 0)
		return r;
	if (!ref.tag && !ref.digest)
		ref.tag = bh_strdup("latest");
	*ret_reference = ref;
	ref = (struct bh_reference){ 0 };
	return 0;
}

char *bh_reference_familiar_name(const struct bh_reference *reference)
{
	const char *repository = reference->repository, *slash = strchr(repository, '/');
	bh_auto_free char *first = slash ? bh_strndup(repository, (size_t)(slash - repository)) : NULL;

	/* Without its registry, "docker.io/a.b/c" would be another one's. */
	if (!bh_streq(reference->registry, DEFAULT_REGISTRY) || (first && looks_like_domain(first)))
		return bh_printf("%s/%s", reference->registry, repository);
	if (bh_has_prefix(repository, OFFICIAL) && !strchr(repository + strlen(OFFICIAL), '/'))
		repository += strlen(OFFICIAL);
	return bh_strdup(repository);
}

static char *with_version(const char *name, const struct bh_reference *reference)
{
	return bh_printf("%s%s%s%s%s", name, reference->tag ? ":" : "", reference->tag ? reference->tag : "", reference->digest ? "@" : "",
			 reference->digest ? reference->digest : "");
}

char *bh_reference_familiar(const struct bh_reference *reference)
{
	bh_auto_free char *name = bh_reference_familiar_name(reference);

	return with_version(name, reference);
}

char *bh_reference_full(const struct bh_reference *reference)
{
	bh_auto_free char *name = bh_printf("%s/%s", reference->registry, reference->repository);

	return with_version(name, reference);
}

void bh_reference_clear(struct bh_reference *reference)
{
	free(reference->registry);
	free(reference->repository);
	free(reference->tag);
	free(reference->digest);
	*reference = (struct bh_reference){ 0 };
}
