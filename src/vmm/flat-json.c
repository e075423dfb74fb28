/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/flat-json.h"

#include "base/string.h"

#include <errno.h>

struct reader {
	const char *begin, *at, *end;
	struct bh_error *err;
};

static int bad(const struct reader *r, const char *what)
{
	return bh_error_text(r->err, EINVAL, "%s at byte %zu", what, (size_t)(r->at - r->begin));
}

static char peek(struct reader *r)
{
	while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\r' || *r->at == '\n'))
		r->at++;
	return r->at < r->end ? *r->at : '\0';
}

static bool accept(struct reader *r, char c)
{
	if (peek(r) != c)
		return false;
	r->at++;
	return true;
}

/* Only escapes of single bytes: no value here has need of another. */
static int read_string(struct reader *r, char ret_text[BH_FLAT_TEXT_MAX])
{
	static const char escaped[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	size_t length = 0;

	if (!accept(r, '"'))
		return bad(r, "a string is expected");
	while (r->at < r->end && *r->at != '"') {
		char c = *r->at++;

		if ((unsigned char)c < 0x20)
			return bad(r, "a control character in a string");
		if (c == '\\') {
			const char *which = r->at < r->end && *r->at ? strchr(escaped, *r->at) : NULL;

			if (!which)
				return bad(r, "an escape that isn't known");
			c = meant[which - escaped];
			r->at++;
		}
		if (length == BH_FLAT_TEXT_MAX - 1)
			return bad(r, "a string that is too long");
		ret_text[length++] = c;
	}
	ret_text[length] = '\0';
	return accept(r, '"') ? 0 : bad(r, "a string without an end");
}

static bool accept_word(struct reader *r, const char *word)
{
	size_t length = strlen(word);

	if ((size_t)(r->end - r->at) < length || memcmp(r->at, word, length) != 0)
		return false;
	r->at += length;
	return true;
}

static int read_number(struct reader *r, int64_t *ret_number)
{
	char digits[24];
	size_t length = 0;

	while (r->at < r->end && length < sizeof digits - 1 && ((*r->at >= '0' && *r->at <= '9') || (*r->at == '-' && length == 0)))
		digits[length++] = *r->at++;
	digits[length] = '\0';
	return bh_parse_int(digits, INT64_MIN, INT64_MAX, ret_number) < 0 ?
		       bad(r, "a value is expected: a string, a whole number, true, false or null") :
		       0;
}

static int read_value(struct reader *r, struct bh_flat_member *member)
{
	if (peek(r) == '"') {
		member->type = BH_FLAT_STRING;
		return read_string(r, member->text);
	}
	member->type = BH_FLAT_BOOL;
	member->number = 1;
	if (accept_word(r, "true"))
		return 0;
	member->number = 0;
	if (accept_word(r, "false"))
		return 0;
	member->type = BH_FLAT_NULL;
	if (accept_word(r, "null"))
		return 0;
	member->type = BH_FLAT_NUMBER;
	return read_number(r, &member->number);
}

static struct bh_flat_member *find(struct bh_flat_object *object, const char *key)
{
	for (size_t i = 0; i < object->count; i++)
		if (bh_streq(object->members[i].key, key))
			return &object->members[i];
	return NULL;
}

int bh_flat_parse(const char *text, size_t length, struct bh_flat_object *ret_object, struct bh_error *err)
{
	struct reader r = { text, text, text + length, err };
	bool first = true;

	ret_object->count = 0;
	if (!accept(&r, '{'))
		return bad(&r, "an object is expected");
	for (; !accept(&r, '}'); first = false) {
		struct bh_flat_member member = { 0 };

		if (!first && !accept(&r, ','))
			return bad(&r, "a comma is expected");
		if (ret_object->count == BH_FLAT_MEMBERS_MAX)
			return bad(&r, "too many members");
		if (read_string(&r, member.key) < 0)
			return -EINVAL;
		if (find(ret_object, member.key))
			return bad(&r, "a member that is there already");
		if (!accept(&r, ':'))
			return bad(&r, "a colon is expected");
		if (read_value(&r, &member) < 0)
			return -EINVAL;
		ret_object->members[ret_object->count++] = member;
	}
	peek(&r);
	return r.at == r.end ? 0 : bad(&r, "something behind the object");
}

static struct bh_flat_member *take(struct bh_flat_object *object, const char *key, int type)
{
	struct bh_flat_member *member = find(object, key);

	if (!member || (int)member->type != type)
		return NULL;
	member->taken = true;
	return member;
}

const char *bh_flat_text(struct bh_flat_object *object, const char *key, const char *missing)
{
	struct bh_flat_member *member = take(object, key, BH_FLAT_STRING);

	return member ? member->text : missing;
}

int64_t bh_flat_number(struct bh_flat_object *object, const char *key, int64_t missing)
{
	struct bh_flat_member *member = take(object, key, BH_FLAT_NUMBER);

	return member ? member->number : missing;
}

bool bh_flat_bool(struct bh_flat_object *object, const char *key)
{
	struct bh_flat_member *member = take(object, key, BH_FLAT_BOOL);

	return member && member->number;
}

const char *bh_flat_unknown(const struct bh_flat_object *object)
{
	for (size_t i = 0; i < object->count; i++)
		if (!object->members[i].taken)
			return object->members[i].key;
	return NULL;
}
