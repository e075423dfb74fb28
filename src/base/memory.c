/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"

#include <dirent.h>
#include <stdint.h>

static void *checked(void *pointer)
{
	static const char text[] = "bulkhead: out of memory\n";

	if (pointer)
		return pointer;
	(void)!write(STDERR_FILENO, text, sizeof text - 1);
	_exit(125);
}

void *bh_malloc(size_t size)
{
	return checked(malloc(size ? size : 1));
}

void *bh_calloc(size_t count, size_t size)
{
	return checked(calloc(count ? count : 1, size ? size : 1));
}

void *bh_aligned_alloc(size_t alignment, size_t size)
{
	return memset(checked(aligned_alloc(alignment, size)), 0, size);
}

void *bh_realloc(void *old, size_t size)
{
	return checked(realloc(old, size ? size : 1));
}

void *bh_grow(void *array, size_t *capacity, size_t count, size_t element_size)
{
	size_t wanted = *capacity ? *capacity : 8;

	if (count <= *capacity)
		return array;
	while (wanted < count)
		wanted *= 2;
	if (wanted > SIZE_MAX / element_size)
		checked(NULL);
	*capacity = wanted;
	return bh_realloc(array, wanted * element_size);
}

char *bh_strdup(const char *text)
{
	return text ? checked(strdup(text)) : NULL;
}

char *bh_strndup(const char *text, size_t length)
{
	return checked(strndup(text, length));
}

void *bh_memdup(const void *bytes, size_t size)
{
	void *copy = bh_malloc(size);

	if (size)
		memcpy(copy, bytes, size);
	return copy;
}

char *bh_vprintf(const char *format, va_list args)
{
	char *text = NULL;

	if (vasprintf(&text, format, args) < 0)
		checked(NULL);
	return text;
}

char *bh_printf(const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	text = bh_vprintf(format, args);
	va_end(args);
	return text;
}

void bh_free_ptr(void *pointer_to_pointer)
{
	void **pointer = pointer_to_pointer;

	free(*pointer);
	*pointer = NULL;
}

void bh_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void bh_closedir_ptr(void *pointer_to_dir)
{
	DIR **dir = pointer_to_dir;

	if (*dir)
		closedir(*dir);
	*dir = NULL;
}
