/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors are values.
 *
 * A function that can fail returns 0 or a negative errno and takes `struct bh_error *err` as its last parameter.
 * The value lives on some caller's stack. The function that sees the failure sets it (what was tried, on what, why);
 * the ones above may put their own context in front while they return. Nothing below `src/cli` and the `main`
 * functions prints an error. Output parameters are named `ret_...` and are untouched on failure.
 *
 * `err` may be NULL where a caller does not want the words.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct bh_error {
	int errnum;        /* positive errno, 0 when none applies */
	int exit_code;     /* the exit status a user should see; 0 = the caller's default */
	bool of_workload;  /* the workload's last step failed, its execution: everything before has happened */
	char message[1024]; /* one line, no newline */
};

#define BH_ERROR_INIT { 0, 0, false, "" }

/* Sets the message to "FORMAT: strerror(errnum)" (no suffix if errnum is 0). Returns -errnum, or -EINVAL if errnum is 0. */
int bh_error_set(struct bh_error *err, int errnum, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Sets the message to FORMAT alone and remembers errnum. Returns -errnum (-EINVAL if 0). */
int bh_error_text(struct bh_error *err, int errnum, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "FORMAT: " in front of the message. Returns -err->errnum (-EINVAL if 0 or err is NULL). */
int bh_error_prefix(struct bh_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Empties it, so that the value can be used again. */
void bh_error_clear(struct bh_error *err);

#ifdef BH_STATIC_ANALYSIS
/* What no analyser sees through varargs: these never return zero or more, so a caller that passes the result on has failed. */
static inline int bh_error_is_negative(int r)
{
	if (r >= 0)
		__builtin_unreachable();
	return r;
}
#define bh_error_set(...) bh_error_is_negative((bh_error_set)(__VA_ARGS__))
#define bh_error_text(...) bh_error_is_negative((bh_error_text)(__VA_ARGS__))
#define bh_error_prefix(...) bh_error_is_negative((bh_error_prefix)(__VA_ARGS__))
#endif
