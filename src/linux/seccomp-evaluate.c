/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What would a filter say? A small interpreter of the classic BPF that seccomp programs may consist of: loads of the
 * call's data, comparisons, jumps, AND, return. Used to find out whether the last steps before a workload's execution
 * are still allowed once its filter is in force.
 */
#include "linux/seccomp.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <string.h>

static bool compare(unsigned code, uint32_t accumulator, uint32_t value)
{
	switch (BPF_OP(code)) {
	case BPF_JEQ:
		return accumulator == value;
	case BPF_JGT:
		return accumulator > value;
	case BPF_JGE:
		return accumulator >= value;
	default:
		return accumulator & value;
	}
}

/* The kernel has checked such programs already or will do it: anything unexpected counts as a kill. */
static uint32_t evaluate(const struct bh_seccomp_filter *filter, const struct seccomp_data *data)
{
	uint32_t accumulator = 0;

	for (size_t pc = 0; pc < filter->count; pc++) {
		const struct sock_filter *i = &filter->instructions[pc];

		switch (BPF_CLASS(i->code)) {
		case BPF_LD:
			if (i->k > sizeof *data - sizeof accumulator)
				return SECCOMP_RET_KILL_PROCESS;
			memcpy(&accumulator, (const char *)data + i->k, sizeof accumulator);
			break;
		case BPF_ALU:
			if (BPF_OP(i->code) != BPF_AND)
				return SECCOMP_RET_KILL_PROCESS;
			accumulator &= i->k;
			break;
		case BPF_JMP:
			if (BPF_OP(i->code) == BPF_JA)
				pc += i->k;
			else
				pc += compare(i->code, accumulator, i->k) ? i->jt : i->jf;
			break;
		case BPF_RET:
			return i->k;
		default:
			return SECCOMP_RET_KILL_PROCESS;
		}
	}
	return SECCOMP_RET_KILL_PROCESS;
}

uint32_t bh_seccomp_action(const struct bh_seccomp_filter *filter, int number, uint64_t first_argument)
{
	struct seccomp_data data = { .nr = number, .arch = AUDIT_ARCH_X86_64, .args = { first_argument } };

	return filter->count ? evaluate(filter, &data) & SECCOMP_RET_ACTION_FULL : SECCOMP_RET_ALLOW;
}

bool bh_seccomp_allows(const struct bh_seccomp_filter *filter, int number, uint64_t first_argument)
{
	uint32_t action = bh_seccomp_action(filter, number, first_argument);

	return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG;
}
