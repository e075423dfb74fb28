/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks and the time formats that Docker's users read. */
#pragma once

#include <stdint.h>
#include <time.h>

int64_t bh_now_ns(void);           /* CLOCK_REALTIME */
int64_t bh_monotonic_ns(void);
/* The date in UTC of a number of seconds since 1970: all fields but tm_yday. */
void bh_utc_date(int64_t seconds, struct tm *ret_date);
#define BH_TIME_TEXT_MAX 96
/* RFC 3339 with nanoseconds in UTC: "2026-01-02T03:04:05.123456789Z"; 0 gives Docker's "0001-01-01T00:00:00Z". */
const char *bh_format_time(int64_t ns, char ret_text[BH_TIME_TEXT_MAX]);
/* RFC 3339 with any offset and 0-9 decimals. -EINVAL. */
int bh_parse_time(const char *text, int64_t *ret_ns);
/* "5 seconds", "About a minute", "3 weeks": Docker's words for a length of time. */
const char *bh_format_age(int64_t ns, char ret_text[BH_TIME_TEXT_MAX]);
