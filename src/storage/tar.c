/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An entry is a block of 512 bytes in fixed fields, its content, and zeros up to the next block; two blocks of zeros end the archive.
 * What the fields can't hold is said in an entry before it, whose content are lines "LENGTH KEY=VALUE" (pax, type x) or one long name
 * (GNU, types L and K). Such extensions are collected until the entry they are about.
 *
 * Written is pax, always with the time's nanoseconds.
 */
#include "storage/tar.h"

#include "base/file.h"
#include "base/string.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>

#define BUFFER_SIZE (256u << 10)
#define XATTR_PREFIX "SCHILY.xattr."
#define SIZE_MAX_USTAR 077777777777ull
#define ID_MAX_USTAR 07777777u

struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, target[100], magic[6], version[2], user[32], group[32],
		major[8], minor[8], prefix[155], unused[12];
};
_Static_assert(sizeof(struct header) == BH_TAR_BLOCK, "a header is a block");

void bh_tar_entry_clear(struct bh_tar_entry *e)
{
	free(e->path);
	free(e->target);
	for (size_t i = 0; i < e->xattr_count; i++) {
		free(e->xattrs[i].name);
		free(e->xattrs[i].value);
	}
	free(e->xattrs);
	*e = (struct bh_tar_entry){ 0 };
}

void bh_tar_entry_add_xattr(struct bh_tar_entry *e, const char *name, const void *value, size_t size)
{
	e->xattrs = bh_realloc(e->xattrs, (e->xattr_count + 1) * sizeof *e->xattrs);
	e->xattrs[e->xattr_count++] = (struct bh_tar_xattr){ bh_strdup(name), bh_memdup(value, size), size };
}

/* --- reading bytes ---------------------------------------------------------------------------------------------------- */

const char *bh_tar_clean_path(const char *raw, unsigned depth_max, char **ret_path)
{
	bh_auto_buf struct bh_buf clean = { 0 };
	unsigned depth = 0;

	for (const char *p = raw; *p;) {
		size_t length = strcspn(p, "/");

		if (length == 2 && p[0] == '.' && p[1] == '.')
			return "'..' would lead out of the destination";
		if (length > NAME_MAX)
			return "a name in the path is too long";
		if (length && !(length == 1 && p[0] == '.')) {
			if (++depth > depth_max)
				return "too many folders in each other";
			bh_buf_adds(&clean, clean.length ? "/" : "");
			bh_buf_add(&clean, p, length);
		}
		p += length + (p[length] == '/');
	}
	*ret_path = bh_buf_take(&clean);
	return NULL;
}

void bh_tar_reader_init(struct bh_tar_reader *r, int fd)
{
	*r = (struct bh_tar_reader){ .fd = fd, .buffer = bh_malloc(BUFFER_SIZE) };
}

void bh_tar_reader_clear(struct bh_tar_reader *r)
{
	bh_free_ptr(&r->buffer);
}

static int damaged(struct bh_error *err, const char *what)
{
	return bh_error_text(err, EBADMSG, "tar archive: %s", what);
}

/* More bytes behind those that wait. 0 at the stream's end. */
static ssize_t fill(struct bh_tar_reader *r, struct bh_error *err)
{
	ssize_t n;

	if (r->begin == r->end)
		r->begin = r->end = 0;
	do
		n = read(r->fd, r->buffer + r->end, BUFFER_SIZE - r->end);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return bh_error_set(err, errno, "read the tar archive");
	r->end += (size_t)n;
	r->bytes += (uint64_t)n;
	return n;
}

/* The next whole block; NULL with 0 at the stream's end. */
static int next_block(struct bh_tar_reader *r, const char **ret_block, struct bh_error *err)
{
	while (r->end - r->begin < BH_TAR_BLOCK) {
		size_t waiting = r->end - r->begin;
		ssize_t n;

		if (r->begin) {
			memmove(r->buffer, r->buffer + r->begin, waiting);
			r->begin = 0;
			r->end = waiting;
		}
		n = fill(r, err);
		if (n < 0)
			return (int)n;
		if (n == 0 && waiting)
			return damaged(err, "it ends in the middle of a block");
		if (n == 0) {
			*ret_block = NULL;
			return 0;
		}
	}
	*ret_block = r->buffer + r->begin;
	r->begin += BH_TAR_BLOCK;
	return 0;
}

static void begin_content(struct bh_tar_reader *r, uint64_t size)
{
	r->left = size;
	r->padding = (unsigned)(-size % BH_TAR_BLOCK);
}

ssize_t bh_tar_content(struct bh_tar_reader *r, const void **ret_bytes, struct bh_error *err)
{
	size_t size;
	ssize_t n;

	if (!r->left)
		return 0;
	if (r->begin == r->end) {
		n = fill(r, err);
		if (n <= 0)
			return n < 0 ? n : damaged(err, "it ends in the middle of a file");
	}
	size = (size_t)BH_MIN((uint64_t)(r->end - r->begin), r->left);
	*ret_bytes = r->buffer + r->begin;
	r->begin += size;
	r->left -= size;
	return (ssize_t)size;
}

static int skip_content(struct bh_tar_reader *r, struct bh_error *err)
{
	const void *bytes;
	ssize_t n;

	while ((n = bh_tar_content(r, &bytes, err)) > 0)
		;
	if (n < 0)
		return (int)n;
	r->left = r->padding;
	r->padding = 0;
	while ((n = bh_tar_content(r, &bytes, err)) > 0)
		;
	return (int)n;
}

int bh_tar_drain(struct bh_tar_reader *r, struct bh_error *err)
{
	ssize_t n;

	do {
		r->begin = r->end;
		n = fill(r, err);
	} while (n > 0);
	return (int)n;
}

/* --- numbers ---------------------------------------------------------------------------------------------------------- */

/* Octal digits between spaces, or, with the first bit set, a number in base 256. */
static int parse_number(const char *field, size_t size, uint64_t *ret_value)
{
	const unsigned char *bytes = (const unsigned char *)field;
	uint64_t value = 0;
	size_t i = 0;

	if (bytes[0] & 0x80) {
		value = bytes[0] & 0x7f;
		if (value & 0x40) /* negative */
			return -ERANGE;
		for (i = 1; i < size; i++) {
			if (value >> 55)
				return -ERANGE;
			value = value << 8 | bytes[i];
		}
		*ret_value = value;
		return 0;
	}
	while (i < size && field[i] == ' ')
		i++;
	for (; i < size && field[i] >= '0' && field[i] <= '7'; i++)
		value = value << 3 | (unsigned)(field[i] - '0'); /* 12 digits have 36 bits */
	if (i < size && field[i] != ' ' && field[i] != '\0')
		return -EINVAL;
	*ret_value = value;
	return 0;
}

static int parse_id(const char *field, uint32_t *ret_id)
{
	uint64_t value;
	int r = parse_number(field, 8, &value);

	if (r == 0 && value >= UINT32_MAX) /* -1 means "leave it" to chown(2) */
		r = -ERANGE;
	if (r == 0)
		*ret_id = (uint32_t)value;
	return r;
}

static bool checksum_is_right(const struct header *h)
{
	const unsigned char *bytes = (const unsigned char *)h;
	uint64_t said, sum = 0;
	int64_t signed_sum = 0; /* of old programs */

	for (size_t i = 0; i < BH_TAR_BLOCK; i++) {
		bool own = i >= offsetof(struct header, checksum) && i < offsetof(struct header, type);

		sum += own ? ' ' : bytes[i];
		signed_sum += own ? ' ' : (signed char)bytes[i];
	}
	return parse_number(h->checksum, sizeof h->checksum, &said) == 0 && (said == sum || (int64_t)said == signed_sum);
}

/* "1700000000.25", also before 1970. */
static int parse_time(const char *text, struct timespec *ret_time)
{
	size_t length = strcspn(text, ".");
	bh_auto_free char *whole = bh_strndup(text, length);
	bool is_negative = *text == '-';
	long fraction = 0, unit = 100000000;
	int64_t seconds;

	if (bh_parse_int(whole, INT64_MIN / 2, INT64_MAX / 2, &seconds) < 0)
		return -EINVAL;
	for (text += length + (text[length] == '.'); *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		fraction += (*text - '0') * unit;
		unit /= 10;
	}
	if (is_negative && fraction) {
		seconds--;
		fraction = 1000000000 - fraction;
	}
	*ret_time = (struct timespec){ (time_t)seconds, fraction };
	return 0;
}

/* --- reading entries ---------------------------------------------------------------------------------------------------- */

/* What extensions have said about the entry to come. */
struct said {
	struct bh_tar_entry entry; /* path, target, xattrs and the values below */
	bool has_size, has_uid, has_gid, has_mtime;
};

static int take_extension(struct bh_tar_reader *r, struct bh_buf *ret_text, struct bh_error *err)
{
	const void *bytes;
	ssize_t n;

	if (r->left > BH_TAR_EXTENSION_MAX)
		return bh_error_text(err, E2BIG, "tar archive: a header of more than %u bytes", BH_TAR_EXTENSION_MAX);
	while ((n = bh_tar_content(r, &bytes, err)) > 0)
		bh_buf_add(ret_text, bytes, (size_t)n);
	return n < 0 ? (int)n : skip_content(r, err);
}

static int take_name(char **name, const char *text, size_t length, struct bh_error *err)
{
	if (length > BH_TAR_NAME_MAX)
		return bh_error_text(err, E2BIG, "tar archive: a name of more than %u bytes", BH_TAR_NAME_MAX);
	if (!length || memchr(text, '\0', length))
		return damaged(err, "a name that no file can have");
	free(*name);
	*name = bh_strndup(text, length);
	return 0;
}

static int take_pax_id(const char *value, uint32_t *ret_id, bool *ret_has)
{
	uint64_t number;
	int r = bh_parse_uint(value, UINT32_MAX - 1, &number);

	if (r == 0) {
		*ret_id = (uint32_t)number;
		*ret_has = true;
	}
	return r;
}

static int take_xattr(struct said *s, const char *name, const char *value, size_t length, struct bh_error *err)
{
	if (!*name || strlen(name) > 255)
		return damaged(err, "an attribute without a right name");
	if (s->entry.xattr_count == BH_TAR_XATTRS_MAX)
		return bh_error_text(err, E2BIG, "tar archive: more than %u attributes of a file", BH_TAR_XATTRS_MAX);
	bh_tar_entry_add_xattr(&s->entry, name, value, length);
	return 0;
}

/* One line of a pax header: `value` ends with a zero. */
static int take_record(struct said *s, const char *key, const char *value, size_t length, struct bh_error *err)
{
	int r = 0;

	if (bh_streq(key, "path"))
		return take_name(&s->entry.path, value, length, err);
	if (bh_streq(key, "linkpath"))
		return take_name(&s->entry.target, value, length, err);
	if (bh_has_prefix(key, XATTR_PREFIX))
		return take_xattr(s, key + strlen(XATTR_PREFIX), value, length, err);
	if (bh_has_prefix(key, "GNU.sparse."))
		return bh_error_text(err, ENOTSUP, "tar archive: a sparse file of GNU tar, which isn't supported: make the archive without -S");
	if (bh_streq(key, "size")) {
		r = bh_parse_uint(value, INT64_MAX, &s->entry.size);
		s->has_size = r == 0;
	} else if (bh_streq(key, "uid")) {
		r = take_pax_id(value, &s->entry.uid, &s->has_uid);
	} else if (bh_streq(key, "gid")) {
		r = take_pax_id(value, &s->entry.gid, &s->has_gid);
	} else if (bh_streq(key, "mtime")) {
		r = parse_time(value, &s->entry.mtime);
		s->has_mtime = r == 0;
	}
	return r < 0 ? bh_error_text(err, EBADMSG, "tar archive: '%.40s' is no right value of '%.40s'", value, key) : 0;
}

static int take_pax(struct said *s, struct bh_buf *text, struct bh_error *err)
{
	size_t at = 0;

	while (at < text->length) {
		char *line = text->data + at, *key, *equals;
		size_t length = 0, digits = 0;
		int r;

		for (; at + digits < text->length && line[digits] >= '0' && line[digits] <= '9' && digits < 8; digits++)
			length = length * 10 + (size_t)(line[digits] - '0');
		if (!digits || length > text->length - at || length < digits + 4 || line[digits] != ' ' || line[length - 1] != '\n')
			return damaged(err, "a pax header that is none");
		line[length - 1] = '\0';
		key = line + digits + 1;
		equals = memchr(key, '=', (size_t)(line + length - 1 - key));
		if (!equals || memchr(key, '\0', (size_t)(equals - key)))
			return damaged(err, "a pax header without a value");
		*equals = '\0';
		r = take_record(s, key, equals + 1, (size_t)(line + length - 2 - equals), err);
		if (r < 0)
			return r;
		at += length;
	}
	return 0;
}

static int take_gnu_name(char **name, struct bh_buf *text, struct bh_error *err)
{
	return take_name(name, text->data ? text->data : "", text->data ? strnlen(text->data, text->length) : 0, err);
}

/* 1: the header was an extension, which is in `s` now. */
static int read_extension(struct bh_tar_reader *r, char type, struct said *s, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	int result;

	if (!strchr("xgLKV", type) || !type)
		return 0;
	if (type == 'g' || type == 'V') /* of the whole archive: nothing that matters here */
		result = skip_content(r, err);
	else
		result = take_extension(r, &text, err);
	if (result == 0 && type == 'x')
		result = take_pax(s, &text, err);
	else if (result == 0 && type == 'L')
		result = take_gnu_name(&s->entry.path, &text, err);
	else if (result == 0 && type == 'K')
		result = take_gnu_name(&s->entry.target, &text, err);
	return result < 0 ? result : 1;
}

static char *field_text(const char *field, size_t size)
{
	return bh_strndup(field, strnlen(field, size));
}

static char *header_path(const struct header *h)
{
	bh_auto_free char *name = field_text(h->name, sizeof h->name), *prefix = NULL;

	/* GNU's own form has other things where POSIX has the prefix. */
	if (memcmp(h->magic, "ustar", 6) != 0 || !*h->prefix)
		return BH_TAKE_PTR(name);
	prefix = field_text(h->prefix, sizeof h->prefix);
	return bh_printf("%s/%s", prefix, name);
}

static int take_type(const struct header *h, struct bh_tar_entry *e, struct bh_error *err)
{
	size_t length = strlen(e->path);

	switch (h->type) {
	case '\0':
	case '7':
	case BH_TAR_FILE:
		/* Before POSIX a folder was a file whose name ends in a slash. */
		e->type = length && e->path[length - 1] == '/' ? BH_TAR_DIRECTORY : BH_TAR_FILE;
		return 0;
	case BH_TAR_HARD_LINK:
	case BH_TAR_SYMLINK:
		e->type = (enum bh_tar_type)h->type;
		if (!e->target)
			e->target = field_text(h->target, sizeof h->target);
		return *e->target ? 0 : damaged(err, "a link that leads nowhere");
	case BH_TAR_CHARACTER_DEVICE:
	case BH_TAR_BLOCK_DEVICE:
	case BH_TAR_DIRECTORY:
	case BH_TAR_FIFO:
		e->type = (enum bh_tar_type)h->type;
		return 0;
	case 'S':
		return bh_error_text(err, ENOTSUP,
				     "tar archive: '%.200s' is a sparse file of GNU tar, which isn't supported: make the archive without -S", e->path);
	default:
		return bh_error_text(err, ENOTSUP, "tar archive: '%.200s' is of the unknown type %d", e->path, h->type);
	}
}

/* Numbers, from the fields unless an extension has said them. */
static int take_numbers(const struct header *h, const struct said *s, struct bh_tar_entry *e)
{
	uint64_t mode = 0, mtime = 0, major = 0, minor = 0;
	bool is_device = h->type == BH_TAR_CHARACTER_DEVICE || h->type == BH_TAR_BLOCK_DEVICE;
	int r = parse_number(h->mode, sizeof h->mode, &mode);

	if (r == 0 && !s->has_size)
		r = parse_number(h->size, sizeof h->size, &e->size);
	if (r == 0 && !s->has_uid)
		r = parse_id(h->uid, &e->uid);
	if (r == 0 && !s->has_gid)
		r = parse_id(h->gid, &e->gid);
	if (r == 0 && !s->has_mtime) {
		r = parse_number(h->mtime, sizeof h->mtime, &mtime);
		e->mtime = (struct timespec){ .tv_sec = (time_t)BH_MIN(mtime, (uint64_t)INT64_MAX) };
	}
	if (r == 0 && is_device)
		r = parse_number(h->major, sizeof h->major, &major);
	if (r == 0 && is_device)
		r = parse_number(h->minor, sizeof h->minor, &minor);
	e->mode = (unsigned)mode & 07777;
	e->major = (uint32_t)major;
	e->minor = (uint32_t)minor;
	return r == 0 && (e->size > INT64_MAX || major > UINT32_MAX || minor > UINT32_MAX) ? -ERANGE : r;
}

static int take_entry(struct bh_tar_reader *r, const struct header *h, struct said *s, struct bh_tar_entry *ret_entry, struct bh_error *err)
{
	struct bh_tar_entry *e = &s->entry;
	int result;

	if (!e->path)
		e->path = header_path(h);
	if (!*e->path)
		return damaged(err, "an entry without a name");
	result = take_type(h, e, err);
	if (result < 0)
		return result;
	if (take_numbers(h, s, e) < 0)
		return bh_error_text(err, EBADMSG, "tar archive: '%.200s': a number that is none, or too large", e->path);
	if (e->type != BH_TAR_FILE && e->type != BH_TAR_HARD_LINK && e->type != BH_TAR_DIRECTORY)
		e->size = 0;
	begin_content(r, e->size);
	if (e->type != BH_TAR_FILE) /* some programs say the size of the file that a link is to, without content */
		begin_content(r, e->type == BH_TAR_DIRECTORY ? e->size : 0);
	*ret_entry = s->entry;
	s->entry = (struct bh_tar_entry){ 0 };
	return 1;
}

static bool is_zero(const char *block)
{
	return block[0] == 0 && memcmp(block, block + 1, BH_TAR_BLOCK - 1) == 0;
}

static int read_header(struct bh_tar_reader *r, struct header *ret_header, struct bh_error *err)
{
	const char *block;
	int result = next_block(r, &block, err);

	if (result < 0)
		return result;
	if (!block)
		return damaged(err, "it ends early");
	if (is_zero(block))
		return 0;
	memcpy(ret_header, block, sizeof *ret_header);
	return checksum_is_right(ret_header) ? 1 : damaged(err, "this isn't one (compressed ones aren't read), or it is damaged");
}

int bh_tar_next(struct bh_tar_reader *r, struct bh_tar_entry *ret_entry, struct bh_error *err)
{
	struct said s = { 0 };
	struct header h = { 0 };
	int result;

	for (;;) {
		result = skip_content(r, err);
		if (result == 0)
			result = read_header(r, &h, err);
		if (result <= 0)
			break;
		/* An extension has a size of its own. */
		if (h.type && strchr("xgLKV", h.type)) {
			uint64_t size;

			if (parse_number(h.size, sizeof h.size, &size) < 0) {
				result = damaged(err, "a header's size that is none");
				break;
			}
			begin_content(r, size);
		}
		result = read_extension(r, h.type, &s, err);
		if (result == 0)
			result = take_entry(r, &h, &s, ret_entry, err);
		else if (result > 0)
			continue;
		break;
	}
	bh_tar_entry_clear(&s.entry);
	return result;
}

/* --- writing -------------------------------------------------------------------------------------------------------------- */

void bh_tar_writer_init(struct bh_tar_writer *w, int fd)
{
	*w = (struct bh_tar_writer){ .fd = fd, .buffer = bh_malloc(BUFFER_SIZE) };
}

void bh_tar_writer_clear(struct bh_tar_writer *w)
{
	bh_free_ptr(&w->buffer);
}

static int flush(struct bh_tar_writer *w, struct bh_error *err)
{
	int r = bh_write_all(w->fd, w->buffer, w->length);

	w->bytes += w->length;
	w->length = 0;
	return r < 0 ? bh_error_set(err, -r, "write the tar archive") : 0;
}

static int add(struct bh_tar_writer *w, const void *bytes, size_t size, struct bh_error *err)
{
	const char *from = bytes;

	while (size) {
		size_t part = BH_MIN(size, BUFFER_SIZE - w->length);
		int r;

		if (from) {
			memcpy(w->buffer + w->length, from, part);
			from += part;
		} else {
			memset(w->buffer + w->length, 0, part);
		}
		w->length += part;
		size -= part;
		r = w->length == BUFFER_SIZE ? flush(w, err) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static void put_number(char *field, size_t size, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof text, "%0*llo", (int)size - 1, (unsigned long long)value);
	memcpy(field, text, size - 1); /* no longer: the caller has checked */
}

static void seal(struct header *h)
{
	const unsigned char *bytes = (const unsigned char *)h;
	unsigned sum = 0;

	memcpy(h->magic, "ustar", 6);
	memcpy(h->version, "00", 2);
	memset(h->checksum, ' ', sizeof h->checksum);
	for (size_t i = 0; i < BH_TAR_BLOCK; i++)
		sum += bytes[i];
	put_number(h->checksum, 7, sum);
	h->checksum[6] = '\0';
}

/* "LENGTH KEY=VALUE\n", where the length counts its own digits. */
static void add_record(struct bh_buf *out, const char *key, const void *value, size_t size)
{
	size_t rest = strlen(key) + size + 3, length = rest + 1; /* a space, '=' and the newline */
	char digits[24];

	while ((size_t)snprintf(digits, sizeof digits, "%zu", length) + rest != length)
		length = (size_t)snprintf(digits, sizeof digits, "%zu", length) + rest;
	bh_buf_addf(out, "%s %s=", digits, key);
	bh_buf_add(out, value, size);
	bh_buf_addc(out, '\n');
}

static void add_text_record(struct bh_buf *out, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void add_text_record(struct bh_buf *out, const char *key, const char *format, ...)
{
	bh_auto_free char *text = NULL;
	va_list args;

	va_start(args, format);
	text = bh_vprintf(format, args);
	va_end(args);
	add_record(out, key, text, strlen(text));
}

static void add_time_record(struct bh_buf *out, const struct timespec *time)
{
	long long seconds = time->tv_sec;
	long fraction = time->tv_nsec;

	if (seconds < 0 && fraction) { /* counted from the other side */
		seconds++;
		fraction = 1000000000 - fraction;
	}
	if (fraction)
		add_text_record(out, "mtime", "%s%lld.%09ld", time->tv_sec < 0 && !seconds ? "-" : "", seconds, fraction);
	else
		add_text_record(out, "mtime", "%lld", seconds);
}

static void describe(const struct bh_tar_entry *e, struct bh_buf *out)
{
	if (strlen(e->path) > sizeof((struct header *)NULL)->name)
		add_text_record(out, "path", "%s", e->path);
	if (e->target && strlen(e->target) > sizeof((struct header *)NULL)->target)
		add_text_record(out, "linkpath", "%s", e->target);
	if (e->size > SIZE_MAX_USTAR)
		add_text_record(out, "size", "%llu", (unsigned long long)e->size);
	if (e->uid > ID_MAX_USTAR)
		add_text_record(out, "uid", "%u", e->uid);
	if (e->gid > ID_MAX_USTAR)
		add_text_record(out, "gid", "%u", e->gid);
	if (e->mtime.tv_nsec || e->mtime.tv_sec < 0 || (uint64_t)e->mtime.tv_sec > SIZE_MAX_USTAR)
		add_time_record(out, &e->mtime);
	for (size_t i = 0; i < e->xattr_count; i++) {
		bh_auto_free char *key = bh_printf(XATTR_PREFIX "%s", e->xattrs[i].name);

		add_record(out, key, e->xattrs[i].value, e->xattrs[i].size);
	}
}

static int put_block(struct bh_tar_writer *w, const struct bh_tar_entry *e, char type, uint64_t size, struct bh_error *err)
{
	bool in_range = e->mtime.tv_sec >= 0 && (uint64_t)e->mtime.tv_sec <= SIZE_MAX_USTAR;
	struct header h = { .type = type };

	memcpy(h.name, e->path, BH_MIN(strlen(e->path), sizeof h.name));
	if (e->target)
		memcpy(h.target, e->target, BH_MIN(strlen(e->target), sizeof h.target));
	put_number(h.mode, sizeof h.mode, e->mode & 07777);
	put_number(h.uid, sizeof h.uid, e->uid > ID_MAX_USTAR ? 0 : e->uid);
	put_number(h.gid, sizeof h.gid, e->gid > ID_MAX_USTAR ? 0 : e->gid);
	put_number(h.size, sizeof h.size, size > SIZE_MAX_USTAR ? 0 : size);
	put_number(h.mtime, sizeof h.mtime, in_range ? (uint64_t)e->mtime.tv_sec : 0);
	put_number(h.major, sizeof h.major, e->major & ID_MAX_USTAR);
	put_number(h.minor, sizeof h.minor, e->minor & ID_MAX_USTAR);
	seal(&h);
	return add(w, &h, sizeof h, err);
}

int bh_tar_put(struct bh_tar_writer *w, const struct bh_tar_entry *e, struct bh_error *err)
{
	static char name[] = "PaxHeader";
	const struct bh_tar_entry header = { .path = name, .mode = 0644 };
	bh_auto_buf struct bh_buf records = { 0 };
	int r = 0;

	if (strlen(e->path) > BH_TAR_NAME_MAX || (e->target && strlen(e->target) > BH_TAR_NAME_MAX))
		return bh_error_text(err, ENAMETOOLONG, "'%.200s': the name is too long for an archive", e->path);
	describe(e, &records);
	if (records.length > BH_TAR_EXTENSION_MAX)
		return bh_error_text(err, E2BIG, "'%.200s': too many attributes for an archive", e->path);
	if (records.length) {
		r = put_block(w, &header, 'x', records.length, err);
		if (r == 0)
			r = add(w, records.data, records.length, err);
		if (r == 0)
			r = add(w, NULL, -records.length % BH_TAR_BLOCK, err);
	}
	if (r == 0)
		r = put_block(w, e, (char)e->type, e->size, err);
	w->left = e->size;
	w->padding = (unsigned)(-e->size % BH_TAR_BLOCK);
	return r;
}

int bh_tar_room(struct bh_tar_writer *w, void **ret_bytes, size_t *ret_size, struct bh_error *err)
{
	/* Whole reads: what is left of a buffer that is nearly full isn't worth one. */
	int r = w->length > BUFFER_SIZE / 2 ? flush(w, err) : 0;

	if (r < 0)
		return r;
	*ret_bytes = w->buffer + w->length;
	*ret_size = (size_t)BH_MIN((uint64_t)(BUFFER_SIZE - w->length), w->left);
	return 0;
}

int bh_tar_filled(struct bh_tar_writer *w, size_t size, struct bh_error *err)
{
	int r;

	w->length += size;
	w->left -= size;
	r = w->length == BUFFER_SIZE ? flush(w, err) : 0;
	if (r < 0 || w->left)
		return r;
	r = add(w, NULL, w->padding, err);
	w->padding = 0;
	return r;
}

int bh_tar_finish(struct bh_tar_writer *w, struct bh_error *err)
{
	int r = add(w, NULL, (size_t)2 * BH_TAR_BLOCK, err);

	return r < 0 ? r : flush(w, err);
}
