/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Docker's seccomp profiles from outside: the first eight bytes are the bounding set, the rest is JSON. What parses must
 * compile or be refused with words; a compiled program must be one that the kernel would take: every jump forward and
 * inside, every load aligned and inside the data, an answer at the end.
 */
#include "linux/seccomp.h"

#include <linux/seccomp.h>

static void check(bool condition)
{
	if (!condition)
		__builtin_trap();
}

static void check_program(const struct bh_seccomp_filter *filter)
{
	check(filter->count > 0 && filter->count <= BPF_MAXINSNS);
	for (size_t i = 0; i < filter->count; i++) {
		const struct sock_filter *f = &filter->instructions[i];

		switch (f->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			check(f->k % 4 == 0 && f->k < sizeof(struct seccomp_data));
			break;
		case BPF_JMP | BPF_JA:
			check(i + 1 + f->k < filter->count);
			break;
		case BPF_RET | BPF_K:
		case BPF_ALU | BPF_AND | BPF_K:
			break;
		default:
			check(BPF_CLASS(f->code) == BPF_JMP && i + 1 + f->jt < filter->count && i + 1 + f->jf < filter->count);
		}
	}
	check(filter->instructions[filter->count - 1].code == (BPF_RET | BPF_K));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_seccomp_filter filter;
	struct bh_spec_seccomp spec;
	uint64_t capabilities;

	if (size < sizeof capabilities)
		return 0;
	memcpy(&capabilities, data, sizeof capabilities);
	if (bh_seccomp_profile_parse((const char *)data + sizeof capabilities, size - sizeof capabilities, capabilities, &spec, &err) < 0) {
		check(*err.message != '\0');
		return 0;
	}
	if (bh_seccomp_compile(&spec, capabilities, &filter, &err) == 0) {
		if (spec.source != BH_SECCOMP_NONE)
			check_program(&filter);
		bh_seccomp_filter_clear(&filter);
	} else {
		check(*err.message != '\0');
	}
	bh_seccomp_spec_clear(&spec);
	return 0;
}
