/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From rules to BPF.
 *
 * The numbers of each architecture are cut into ranges with one answer, and a balanced binary search over the ranges finds
 * it: seven compares instead of hundreds. Conditions on arguments hang below the search as chains of compares. If all ways
 * of a call look at one argument and only compare it, they are ranges too, and the same search serves.
 *
 * BPF only jumps forward, and a conditional jump at most 255 instructions far. So the program is generated from its end
 * to its start: whatever an instruction jumps to exists already. Positions are counted from the end ("place"); answers are
 * shared as long as they are near enough, else emitted again; for far code a plain jump is put between.
 *
 * Arguments are 64 bits wide, BPF's words 32: low half at 16 + 8 * n, high half behind it. Calls of i386 and x32 have
 * 32-bit arguments, of which only the low half is compared.
 *
 * Answers where no rule speaks: the default action; but if that denies, a number above the highest that the rules name
 * gives ENOSYS, so that a C library that probes for a call younger than the profile falls back instead of failing. (runc
 * does the same since 1.0.0-rc93.) An architecture that isn't covered kills, as with libseccomp.
 */
#include "linux/seccomp-internal.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>

#define X32_BIT 0x40000000u
#define JUMP_MAX 255
#define OFFSET_NUMBER 0
#define OFFSET_ARCH 4
#define OFFSET_ARGUMENT(n) (16u + 8u * (n))

/* What a jump leads to: an answer, or code that has been emitted. */
struct target {
	bool is_answer;
	uint32_t answer;
	size_t place;
};

struct range {
	uint32_t first; /* up to the next range's first */
	struct target target;
};

struct generator {
	struct sock_filter *reversed; /* [0] is the program's last instruction */
	size_t count, capacity;
	struct {
		uint32_t answer;
		size_t place;
	} answers[32]; /* where the latest copy of each answer is */
	size_t answer_count;
	uint32_t default_action;
};

static struct target answer(uint32_t action)
{
	return (struct target){ .is_answer = true, .answer = action };
}

static struct target code(size_t place)
{
	return (struct target){ .place = place };
}

static bool same_target(const struct target *a, const struct target *b)
{
	return a->is_answer == b->is_answer && (a->is_answer ? a->answer == b->answer : a->place == b->place);
}

static size_t emit(struct generator *g, unsigned code, uint32_t k, unsigned jt, unsigned jf)
{
	g->reversed = bh_grow(g->reversed, &g->capacity, g->count + 1, sizeof *g->reversed);
	g->reversed[g->count] = (struct sock_filter){ .code = (__u16)code, .k = k, .jt = (__u8)jt, .jf = (__u8)jf };
	return g->count++;
}

/* Makes the target reachable for an instruction that comes at most two instructions before what is emitted now. */
static size_t reach(struct generator *g, const struct target *target)
{
	size_t slot = 0, place;

	if (!target->is_answer) {
		place = target->place;
		if (g->count + 2 - place - 1 <= JUMP_MAX)
			return place;
		return emit(g, BPF_JMP | BPF_JA, (uint32_t)(g->count - place - 1), 0, 0);
	}
	while (slot < g->answer_count && g->answers[slot].answer != target->answer)
		slot++;
	if (slot < g->answer_count && g->count + 2 - g->answers[slot].place - 1 <= JUMP_MAX)
		return g->answers[slot].place;
	place = emit(g, BPF_RET | BPF_K, target->answer, 0, 0);
	if (slot == sizeof g->answers / sizeof g->answers[0])
		slot--;
	else if (slot == g->answer_count)
		g->answer_count++;
	g->answers[slot].answer = target->answer;
	g->answers[slot].place = place;
	return place;
}

static struct target compare(struct generator *g, unsigned operation, uint32_t k, const struct target *if_true, const struct target *if_false)
{
	size_t yes, no;

	if (same_target(if_true, if_false))
		return *if_true;
	yes = reach(g, if_true);
	no = reach(g, if_false);
	return code(emit(g, BPF_JMP | operation | BPF_K, k, (unsigned)(g->count - yes - 1), (unsigned)(g->count - no - 1)));
}

/* A load in front of `then`, which is answered by code that uses the accumulator. */
static struct target load(struct generator *g, uint32_t offset, const struct target *then)
{
	if (then->is_answer)
		return *then;
	if (then->place != g->count - 1)
		emit(g, BPF_JMP | BPF_JA, (uint32_t)(g->count - then->place - 1), 0, 0);
	return code(emit(g, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0));
}

/* --- search ----------------------------------------------------------------------------------------------------------- */

static struct target search(struct generator *g, const struct range *ranges, size_t count)
{
	struct target low, high;
	size_t middle = count / 2;

	if (count == 1)
		return ranges[0].target;
	high = search(g, ranges + middle, count - middle);
	low = search(g, ranges, middle);
	return compare(g, BPF_JGE, ranges[middle].first, &high, &low);
}

static size_t merge_ranges(struct range *ranges, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++)
		if (kept == 0 || !same_target(&ranges[kept - 1].target, &ranges[i].target))
			ranges[kept++] = ranges[i];
	return kept;
}

/* --- conditions on arguments ------------------------------------------------------------------------------------------- */

/* One half of an argument in the accumulator. */
static struct target masked(struct generator *g, uint32_t mask, uint32_t wanted, const struct target *yes, const struct target *no)
{
	struct target then = compare(g, BPF_JEQ, wanted, yes, no);

	if (then.is_answer || mask == UINT32_MAX)
		return then;
	if (then.place != g->count - 1)
		emit(g, BPF_JMP | BPF_JA, (uint32_t)(g->count - then.place - 1), 0, 0);
	return code(emit(g, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0));
}

/* high:low > (or >=) value */
static struct target ordered(struct generator *g, const struct bh_seccomp_condition *c, bool or_equal, bool wide, const struct target *yes,
			     const struct target *no)
{
	uint32_t high = (uint32_t)(c->value >> 32), low = (uint32_t)c->value;
	struct target then = compare(g, or_equal ? BPF_JGE : BPF_JGT, low, yes, no);

	then = load(g, OFFSET_ARGUMENT(c->index), &then);
	if (!wide)
		return then;
	then = compare(g, BPF_JEQ, high, &then, no);
	then = compare(g, BPF_JGT, high, yes, &then);
	return load(g, OFFSET_ARGUMENT(c->index) + 4, &then);
}

static struct target equal(struct generator *g, const struct bh_seccomp_condition *c, uint64_t mask, uint64_t wanted, bool wide,
			   const struct target *yes, const struct target *no)
{
	struct target then = masked(g, (uint32_t)mask, (uint32_t)wanted, yes, no);

	then = load(g, OFFSET_ARGUMENT(c->index), &then);
	if (!wide)
		return then;
	/* A mask without high bits leaves nothing to ask of the high half but that nothing is wanted of it. */
	if (mask >> 32 == 0)
		return wanted >> 32 == 0 ? then : *no;
	then = masked(g, (uint32_t)(mask >> 32), (uint32_t)(wanted >> 32), &then, no);
	return load(g, OFFSET_ARGUMENT(c->index) + 4, &then);
}

static struct target condition(struct generator *g, const struct bh_seccomp_condition *c, bool wide, const struct target *yes, const struct target *no)
{
	switch (c->op) {
	case BH_OP_NE:
		return equal(g, c, UINT64_MAX, c->value, wide, no, yes);
	case BH_OP_LT:
		return ordered(g, c, true, wide, no, yes);
	case BH_OP_LE:
		return ordered(g, c, false, wide, no, yes);
	case BH_OP_GE:
		return ordered(g, c, true, wide, yes, no);
	case BH_OP_GT:
		return ordered(g, c, false, wide, yes, no);
	case BH_OP_MASKED_EQ:
		return equal(g, c, c->value, c->wanted & c->value, wide, yes, no);
	default:
		return equal(g, c, UINT64_MAX, c->value, wide, yes, no);
	}
}

static struct target chains(struct generator *g, const struct bh_seccomp_table *table, int first, bool wide)
{
	const struct bh_seccomp_chain *chain = &table->chains[first];
	struct target otherwise = answer(g->default_action), then = answer(chain->action);

	if (chain->next >= 0)
		otherwise = chains(g, table, chain->next, wide);
	for (size_t i = chain->count; i-- > 0;)
		then = condition(g, &chain->conditions[i], wide, &then, &otherwise);
	return then;
}

/* A comparison with the 32-bit value that this architecture sees. */
static bool holds(const struct bh_seccomp_condition *c, uint64_t argument)
{
	const uint64_t value = (uint32_t)c->value;

	switch (c->op) {
	case BH_OP_NE:
		return argument != value;
	case BH_OP_LT:
		return argument < value;
	case BH_OP_LE:
		return argument <= value;
	case BH_OP_GE:
		return argument >= value;
	case BH_OP_GT:
		return argument > value;
	default:
		return argument == value;
	}
}

static struct target answer_for(const struct generator *g, const struct bh_seccomp_table *table, int first, uint64_t argument)
{
	for (int i = first; i >= 0; i = table->chains[i].next)
		if (holds(&table->chains[i].conditions[0], argument))
			return answer(table->chains[i].action);
	return answer(g->default_action);
}

static int compare_numbers(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

#define BOUNDS_MAX 512

/* All ways compare the same argument with 32-bit values: the answers are ranges of it. */
static bool is_one_argument(const struct bh_seccomp_table *table, int first, bool wide)
{
	size_t ways = 0;

	for (int i = first; i >= 0; i = table->chains[i].next) {
		const struct bh_seccomp_chain *chain = &table->chains[i];

		if (chain->count != 1 || chain->conditions[0].op == BH_OP_MASKED_EQ || (wide && chain->conditions[0].value > UINT32_MAX) ||
		    chain->conditions[0].index != table->chains[first].conditions[0].index || ++ways > BOUNDS_MAX / 2 - 1)
			return false;
	}
	return ways > 1;
}

static struct target one_argument(struct generator *g, const struct bh_seccomp_table *table, int first, bool wide)
{
	uint32_t bounds[BOUNDS_MAX], offset = OFFSET_ARGUMENT(table->chains[first].conditions[0].index);
	struct range ranges[BOUNDS_MAX];
	struct target then, beyond = answer_for(g, table, first, (uint64_t)UINT32_MAX + 1);
	size_t count = 0, unique = 0;

	bounds[count++] = 0;
	for (int i = first; i >= 0; i = table->chains[i].next) {
		uint32_t value = (uint32_t)table->chains[i].conditions[0].value;

		bounds[count++] = value;
		if (value < UINT32_MAX)
			bounds[count++] = value + 1;
	}
	qsort(bounds, count, sizeof *bounds, compare_numbers);
	for (size_t i = 0; i < count; i++)
		if (i == 0 || bounds[i] != bounds[i - 1])
			ranges[unique++] = (struct range){ bounds[i], answer_for(g, table, first, bounds[i]) };
	then = search(g, ranges, merge_ranges(ranges, unique));
	then = load(g, offset, &then);
	if (!wide)
		return then;
	then = compare(g, BPF_JEQ, 0, &then, &beyond);
	return load(g, offset + 4, &then);
}

/* --- architectures ------------------------------------------------------------------------------------------------------- */

/* Denying defaults only: an allowing one must not turn into ENOSYS. A tracer is expected to know younger calls itself. */
static uint32_t unknown_action(uint32_t default_action)
{
	switch (default_action & SECCOMP_RET_ACTION_FULL) {
	case SECCOMP_RET_ALLOW:
	case SECCOMP_RET_LOG:
	case SECCOMP_RET_TRACE:
		return default_action;
	default:
		return SECCOMP_RET_ERRNO | ENOSYS;
	}
}

/* The search over one table's numbers; the number is in the accumulator. */
static struct target table_search(struct generator *g, const struct bh_seccomp_table *table, enum bh_seccomp_arch arch)
{
	bh_auto_free struct range *ranges = bh_calloc(BH_SECCOMP_NUMBERS + 2, sizeof *ranges);
	const uint32_t bit = arch == BH_ARCH_X32 ? X32_BIT : 0;
	const bool wide = arch == BH_ARCH_X86_64;
	size_t count = 0;

	for (int i = 0; i <= table->highest; i++) {
		struct target target = answer(g->default_action);

		if (table->slots[i].used && table->slots[i].whole)
			target = answer(table->slots[i].action);
		else if (table->slots[i].used && is_one_argument(table, table->slots[i].first, wide))
			target = one_argument(g, table, table->slots[i].first, wide);
		else if (table->slots[i].used)
			target = chains(g, table, table->slots[i].first, wide);
		ranges[count++] = (struct range){ (uint32_t)i + bit, target };
	}
	/* Nothing of this architecture is named: its calls get the default action. */
	ranges[count++] = (struct range){ (uint32_t)(table->highest + 1) + bit,
					  answer(table->highest < 0 ? g->default_action : unknown_action(g->default_action)) };
	ranges[0].first = bit;
	return search(g, ranges, merge_ranges(ranges, count));
}

/* x86_64 and x32 come with the same architecture value; a tracer's "no call" (-1) is nobody's x32 call. */
static struct target native_section(struct generator *g, const struct bh_seccomp_rules *rules)
{
	const struct target kill = answer(SECCOMP_RET_KILL_THREAD);
	struct target x32 = kill, native = kill, then;

	if (rules->tables[BH_ARCH_X32])
		x32 = table_search(g, rules->tables[BH_ARCH_X32], BH_ARCH_X32);
	if (rules->tables[BH_ARCH_X86_64])
		native = table_search(g, rules->tables[BH_ARCH_X86_64], BH_ARCH_X86_64);
	then = rules->tables[BH_ARCH_X86_64] ?
		       answer(rules->tables[BH_ARCH_X86_64]->highest < 0 ? g->default_action : unknown_action(g->default_action)) :
		       kill;
	then = compare(g, BPF_JEQ, UINT32_MAX, &then, &x32);
	then = compare(g, BPF_JGE, X32_BIT, &then, &native);
	return load(g, OFFSET_NUMBER, &then);
}

int bh_seccomp_generate(const struct bh_seccomp_rules *rules, struct sock_filter **ret_instructions, size_t *ret_count)
{
	struct generator g = { .default_action = rules->default_action };
	struct target i386 = answer(SECCOMP_RET_KILL_THREAD), native, top;
	const struct target kill = answer(SECCOMP_RET_KILL_THREAD);
	struct sock_filter *instructions;

	if (rules->tables[BH_ARCH_I386]) {
		i386 = table_search(&g, rules->tables[BH_ARCH_I386], BH_ARCH_I386);
		i386 = load(&g, OFFSET_NUMBER, &i386);
	}
	native = native_section(&g, rules);
	top = compare(&g, BPF_JEQ, AUDIT_ARCH_I386, &i386, &kill);
	top = compare(&g, BPF_JEQ, AUDIT_ARCH_X86_64, &native, &top);
	top = load(&g, OFFSET_ARCH, &top);
	if (top.is_answer)
		emit(&g, BPF_RET | BPF_K, top.answer, 0, 0);
	if (g.count > BPF_MAXINSNS) {
		free(g.reversed);
		return -E2BIG;
	}
	instructions = bh_malloc(g.count * sizeof *instructions);
	for (size_t i = 0; i < g.count; i++)
		instructions[i] = g.reversed[g.count - 1 - i];
	free(g.reversed);
	*ret_instructions = instructions;
	*ret_count = g.count;
	return 0;
}
