/* SPDX-License-Identifier: Apache-2.0 */
/* Between the parts of the seccomp compiler; see seccomp-bpf.c for how code is generated. */
#pragma once

#include "linux/seccomp.h"

/* The three system call tables of an x86_64 kernel. x32 shares AUDIT_ARCH_X86_64 and marks its numbers with bit 30. */
enum bh_seccomp_arch { BH_ARCH_X86_64, BH_ARCH_I386, BH_ARCH_X32, BH_ARCH_COUNT };

#define BH_SECCOMP_NUMBERS 1024 /* above all numbers of the three tables, without x32's bit */
#define BH_SECCOMP_ARGS 6

enum bh_seccomp_op { BH_OP_NE, BH_OP_LT, BH_OP_LE, BH_OP_EQ, BH_OP_GE, BH_OP_GT, BH_OP_MASKED_EQ };

struct bh_seccomp_condition {
	uint8_t index;
	uint8_t op;
	uint64_t value;  /* MASKED_EQ: the mask */
	uint64_t wanted; /* MASKED_EQ: what the masked argument must be */
};

/* One way in which a call matches: all conditions hold. The ways of one number are tried in order. */
struct bh_seccomp_chain {
	struct bh_seccomp_condition conditions[BH_SECCOMP_ARGS];
	uint8_t count;
	uint32_t action;
	int next; /* index of the next way, -1 = none */
};

/* The rules for one architecture. */
struct bh_seccomp_table {
	struct {
		bool used, whole; /* whole: the action holds whatever the arguments are */
		uint32_t action;
		int first, last;
	} slots[BH_SECCOMP_NUMBERS];
	struct bh_seccomp_chain *chains;
	size_t chain_count, chain_capacity;
	int highest; /* the highest number that any rule names, or -1 */
};

struct bh_seccomp_rules {
	struct bh_seccomp_table *tables[BH_ARCH_COUNT]; /* NULL: the architecture is not covered */
	uint32_t default_action;
};
void bh_seccomp_rules_init(struct bh_seccomp_rules *rules, unsigned arch_mask, uint32_t default_action);
void bh_seccomp_rules_clear(struct bh_seccomp_rules *rules);
/* Adds a rule for the call of this name in every covered table; an unknown name is no error. */
void bh_seccomp_rules_add(struct bh_seccomp_rules *rules, const char *name, size_t name_length, uint32_t action,
			  const struct bh_seccomp_condition *conditions, size_t count);
/* Only remembers that the call is known to the rules (their action is the default one). */
void bh_seccomp_rules_mention(struct bh_seccomp_rules *rules, const char *name, size_t name_length);

/* seccomp-bpf.c: -E2BIG if there are more than BPF_MAXINSNS. */
int bh_seccomp_generate(const struct bh_seccomp_rules *rules, struct sock_filter **ret_instructions, size_t *ret_count);

/* seccomp-syscalls.c: the numbers of a call in the three tables, -1 where it doesn't exist. False: unknown name. */
bool bh_seccomp_syscall_numbers(const char *name, size_t length, int ret_numbers[BH_ARCH_COUNT]);

/* seccomp-default.c: the default profile for a bounding set. */
int bh_seccomp_compile_default(uint64_t capabilities, struct sock_filter **ret_instructions, size_t *ret_count);
/* The capabilities that make a difference to it. */
uint64_t bh_seccomp_default_capabilities(void);
/* The same rules in the runtime configuration's form. */
void bh_seccomp_default_rules(uint64_t capabilities, struct bh_spec_seccomp *ret_seccomp);

/* seccomp-builtin.c: programs that tools/embed-seccomp compiled at build time. */
struct bh_seccomp_builtin {
	uint64_t capabilities;
	const struct sock_filter *instructions;
	size_t count;
};
extern const struct bh_seccomp_builtin bh_seccomp_builtins[];
extern const size_t bh_seccomp_builtin_count;
