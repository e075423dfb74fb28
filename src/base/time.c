/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"

#include "base/string.h"

#include <ctype.h>
#include <errno.h>

static int64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t bh_now_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

int64_t bh_monotonic_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static int64_t floor_divide(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* gmtime_r(3) would read /etc/localtime first. */
void bh_utc_date(int64_t seconds, struct tm *ret_date)
{
	int64_t days = floor_divide(seconds, 86400), second = seconds - days * 86400;
	int64_t shifted = days + 719468, era = floor_divide(shifted, 146097), day = shifted - era * 146097; /* since a 1 March, of 400 years */
	int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365, rest = day - (365 * year + year / 4 - year / 100);
	int month = (int)((5 * rest + 2) / 153); /* 0 is March */

	*ret_date = (struct tm){
		.tm_year = (int)(era * 400 + year + (month >= 10) - 1900),
		.tm_mon = month < 10 ? month + 2 : month - 10,
		.tm_mday = (int)rest - (153 * month + 2) / 5 + 1,
		.tm_hour = (int)(second / 3600),
		.tm_min = (int)(second / 60 % 60),
		.tm_sec = (int)(second % 60),
		.tm_wday = (int)((days % 7 + 11) % 7),
	};
}

const char *bh_format_time(int64_t ns, char ret_text[BH_TIME_TEXT_MAX])
{
	int64_t seconds = floor_divide(ns, 1000000000), rest = ns - seconds * 1000000000;
	struct tm tm;

	if (ns == 0) {
		snprintf(ret_text, BH_TIME_TEXT_MAX, "0001-01-01T00:00:00Z");
		return ret_text;
	}
	bh_utc_date(seconds, &tm);
	snprintf(ret_text, BH_TIME_TEXT_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%09dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
		 tm.tm_min, tm.tm_sec, (int)rest);
	return ret_text;
}

/* Seconds since 1970 of a UTC date (proleptic Gregorian calendar). timegm(3) would read /etc/localtime first. */
static int64_t utc_seconds(const struct tm *tm)
{
	int64_t year = tm->tm_year + 1900 - (tm->tm_mon < 2); /* years begin in March, so that the leap day is the last */
	int64_t era = (year >= 0 ? year : year - 399) / 400, year_of_era = year - era * 400;
	int64_t day_of_year = (153 * ((tm->tm_mon + 10) % 12) + 2) / 5 + tm->tm_mday - 1;
	int64_t days = era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;

	return days * 86400 + tm->tm_hour * 3600 + tm->tm_min * 60 + tm->tm_sec;
}

static int zone_offset(const char *text, int64_t *ret_seconds)
{
	int sign = *text == '-' ? -1 : 1, hours, minutes, length = 0;

	if (bh_streq(text, "Z") || bh_streq(text, "z")) {
		*ret_seconds = 0;
		return 0;
	}
	if ((*text != '+' && *text != '-') || !isdigit((unsigned char)text[1]) || sscanf(text + 1, "%2d:%2d%n", &hours, &minutes, &length) != 2 ||
	    text[1 + length] || hours > 23 || minutes > 59 || minutes < 0)
		return -EINVAL;
	*ret_seconds = sign * (hours * 3600 + minutes * 60);
	return 0;
}

int bh_parse_time(const char *text, int64_t *ret_ns)
{
	struct tm tm = { 0 };
	int64_t fraction = 0, unit = 100000000, offset = 0, seconds;
	int length = 0;

	if (sscanf(text, "%4d-%2d-%2d%*1[Tt ]%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &length) != 6 ||
	    !length)
		return -EINVAL;
	if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_year < 0 || tm.tm_hour < 0 || tm.tm_hour > 23 ||
	    tm.tm_min < 0 || tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 60)
		return -EINVAL;
	text += length;
	if (*text == '.') {
		for (text++; isdigit((unsigned char)*text); text++, unit /= 10)
			fraction += unit * (*text - '0');
	}
	if (zone_offset(text, &offset) < 0)
		return -EINVAL;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	seconds = utc_seconds(&tm) - offset;
	if (seconds > INT64_MAX / 1000000000 - 1 || seconds < INT64_MIN / 1000000000 + 1) {
		*ret_ns = 0; /* Docker's zero time, year 1 */
		return 0;
	}
	*ret_ns = seconds * 1000000000 + fraction;
	return 0;
}

const char *bh_format_age(int64_t ns, char ret_text[BH_TIME_TEXT_MAX])
{
	int64_t seconds = ns / 1000000000;
	int64_t minutes = seconds / 60, hours = (seconds + 1800) / 3600;

	if (seconds < 1)
		snprintf(ret_text, BH_TIME_TEXT_MAX, "Less than a second");
	else if (seconds == 1)
		snprintf(ret_text, BH_TIME_TEXT_MAX, "1 second");
	else if (seconds < 60)
		snprintf(ret_text, BH_TIME_TEXT_MAX, "%lld seconds", (long long)seconds);
	else if (minutes == 1)
		snprintf(ret_text, BH_TIME_TEXT_MAX, "About a minute");
	else if (minutes < 60)
		snprintf(ret_text, BH_TIME_TEXT_MAX, "%lld minutes", (long long)minutes);
	else if (hours == 1)
		snprintf(ret_text, BH_TIME_TEXT_MAX, "About an hour");
	else if (hours < 48)
		snprintf(ret_text, BH_TIME_TEXT_MAX, "%lld hours", (long long)hours);
	else if (hours < 24 * 14)
		snprintf(ret_text, BH_TIME_TEXT_MAX, "%lld days", (long long)(hours / 24));
	else if (hours < 24 * 60)
		snprintf(ret_text, BH_TIME_TEXT_MAX, "%lld weeks", (long long)(hours / 24 / 7));
	else if (hours < 24 * 365 * 2)
		snprintf(ret_text, BH_TIME_TEXT_MAX, "%lld months", (long long)(hours / 24 / 30));
	else
		snprintf(ret_text, BH_TIME_TEXT_MAX, "%lld years", (long long)(hours / 24 / 365));
	return ret_text;
}
