/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/limit.h"

#include "base/memory.h"

#define SECOND 1000000000LL
/* Of a bucket: what a day brings at a terabyte a second still fits into the level. */
#define BURST_MAX (1ULL << 60)

static void init(struct bh_limit *l, int64_t now_ns)
{
	if (l->burst == 0)
		l->burst = l->rate;
	l->burst = BH_MIN(l->burst, BURST_MAX);
	l->level = (int64_t)l->burst;
	l->at_ns = now_ns;
}

void bh_limits_init(struct bh_limits *limits, int64_t now_ns)
{
	init(&limits->bytes, now_ns);
	init(&limits->operations, now_ns);
}

static int64_t wait_of(struct bh_limit *l, int64_t now_ns)
{
	__int128 gained, missing;

	if (l->rate == 0)
		return 0;
	gained = (__int128)l->rate * (now_ns - l->at_ns) / SECOND;
	/* Time that has not yet brought one token stays in the bucket. */
	if (gained > 0) {
		l->level = (int64_t)BH_MIN(l->level + gained, (__int128)l->burst);
		l->at_ns = now_ns;
	}
	if (l->level > 0)
		return 0;
	missing = 1 - (__int128)l->level;
	return l->at_ns + (int64_t)BH_MIN((missing * SECOND + l->rate - 1) / l->rate, (__int128)INT32_MAX * SECOND);
}

int64_t bh_limits_wait(struct bh_limits *limits, int64_t now_ns)
{
	int64_t bytes = wait_of(&limits->bytes, now_ns), operations = wait_of(&limits->operations, now_ns);

	return BH_MAX(bytes, operations);
}

void bh_limits_take(struct bh_limits *limits, uint64_t bytes)
{
	if (limits->bytes.rate)
		limits->bytes.level -= (int64_t)BH_MIN(bytes, BURST_MAX);
	if (limits->operations.rate)
		limits->operations.level--;
}
