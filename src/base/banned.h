/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions that must not be called, each with the reason. The Makefile includes this file before every
 * translation unit, so a call is a compile error that names the replacement.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BH_BANNED(name, instead) name##_is_banned__use_##instead

#undef strcpy /* no bound on the destination */
#define strcpy(d, s) BH_BANNED(strcpy, bh_buf_or_snprintf)
#undef strcat
#define strcat(d, s) BH_BANNED(strcat, bh_buf_or_snprintf)
#undef strncpy /* may leave the destination unterminated */
#define strncpy(d, s, n) BH_BANNED(strncpy, snprintf)
#undef strncat
#define strncat(d, s, n) BH_BANNED(strncat, snprintf)
#undef sprintf
#define sprintf(...) BH_BANNED(sprintf, snprintf)
#undef vsprintf
#define vsprintf(...) BH_BANNED(vsprintf, vsnprintf)
#undef strtok /* hidden global state */
#define strtok(s, d) BH_BANNED(strtok, strchr_or_bh_strv_split)
#undef atoi /* cannot report an error */
#define atoi(s) BH_BANNED(atoi, bh_parse_int)
#undef atol
#define atol(s) BH_BANNED(atol, bh_parse_int)
#undef gmtime /* static buffer */
#define gmtime(t) BH_BANNED(gmtime, gmtime_r)
#undef localtime
#define localtime(t) BH_BANNED(localtime, localtime_r)
#undef ctime
#define ctime(t) BH_BANNED(ctime, bh_format_time)
#undef system /* a shell sees bytes from outside */
#define system(s) BH_BANNED(system, bh_spawn)
#undef popen
#define popen(c, m) BH_BANNED(popen, bh_spawn)
#undef mktemp /* races */
#define mktemp(t) BH_BANNED(mktemp, mkdtemp)
#undef tmpnam
#define tmpnam(t) BH_BANNED(tmpnam, mkdtemp)
#undef usleep /* no sleep-and-poll: wait for an event */
#define usleep(u) BH_BANNED(usleep, poll_on_an_event)
