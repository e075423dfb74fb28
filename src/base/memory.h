/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory and ownership.
 *
 * The allocators here never return NULL: when memory runs out the process says so and ends with 125. That is the same
 * as a SIGKILL at that point, and every state a SIGKILL can leave is recognised and cleaned by the next command.
 * Sizes that come from outside are compared with a named limit before anything is allocated.
 *
 * Ownership is bound to scope: `bh_auto_free char *p`, `bh_auto_close int fd = -1`. To hand ownership out, return or
 * store BH_TAKE_PTR(p) or BH_TAKE_FD(fd), which leave NULL or -1 behind. Cleaners accept what is already clean.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>

void *bh_malloc(size_t size);
void *bh_calloc(size_t count, size_t size);
/* Zeroed; `alignment`: a power of two that divides `size`. */
void *bh_aligned_alloc(size_t alignment, size_t size);
void *bh_realloc(void *old, size_t size);
/* Grows an array to hold at least `count` elements; doubles its capacity. */
void *bh_grow(void *array, size_t *capacity, size_t count, size_t element_size);
char *bh_strdup(const char *text); /* NULL gives NULL */
char *bh_strndup(const char *text, size_t length);
void *bh_memdup(const void *bytes, size_t size);
char *bh_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *bh_vprintf(const char *format, va_list args);

void bh_free_ptr(void *pointer_to_pointer);
void bh_close_fd(int *fd);
void bh_closedir_ptr(void *pointer_to_dir);

#define bh_auto_free __attribute__((cleanup(bh_free_ptr)))
#define bh_auto_close __attribute__((cleanup(bh_close_fd)))
#define bh_auto_closedir __attribute__((cleanup(bh_closedir_ptr)))
#define bh_auto(cleaner) __attribute__((cleanup(cleaner)))

#define BH_TAKE_PTR(pointer) \
	({ __typeof__(pointer) taken_ = (pointer); (pointer) = NULL; taken_; })
#define BH_TAKE_FD(fd) \
	({ int taken_ = (fd); (fd) = -1; taken_; })

#define BH_ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define BH_STRINGIFY_(word) #word
#define BH_STRINGIFY(macro) BH_STRINGIFY_(macro) /* what it stands for, as text */
#define BH_MIN(a, b) ((a) < (b) ? (a) : (b))
#define BH_MAX(a, b) ((a) > (b) ? (a) : (b))
