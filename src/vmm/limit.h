/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rate limits of devices: token buckets.
 *
 * A bucket fills with `rate` a second up to `burst`. Who takes may take more than there is, and then waits until the debt is paid: so a
 * request larger than the bucket goes through, and the rate holds in the end.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct bh_limit {
	uint64_t rate, burst; /* rate 0: no limit; burst 0: a second's worth */
	int64_t level, at_ns;
};

/* Of a queue: both must have something left. */
struct bh_limits {
	struct bh_limit bytes, operations;
};

static inline bool bh_limits_are_set(const struct bh_limits *limits)
{
	return limits->bytes.rate || limits->operations.rate;
}
/* From a full bucket on. */
void bh_limits_init(struct bh_limits *limits, int64_t now_ns);
/* 0: go on. Else nothing until that monotonic time. */
int64_t bh_limits_wait(struct bh_limits *limits, int64_t now_ns);
/* One operation with this many bytes has been done. */
void bh_limits_take(struct bh_limits *limits, uint64_t bytes);
