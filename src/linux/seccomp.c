/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.seccomp of the runtime configuration: its words to rules (tables below), and a filter into force.
 *
 * How runc reads the specification is followed where that is silent: unknown system calls are left out; a rule whose action
 * is the default one is left out; errnoRet stands for EPERM if it's missing, for ERRNO and TRACE; a rule with two
 * conditions on one argument is one rule per condition; the machine's own architecture is always covered.
 */
#include "linux/seccomp-internal.h"

#include "base/log.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

struct word {
	const char *name;
	uint32_t value;
};

static const struct word actions[] = {
	{ "SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD },
	{ "SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD },
	{ "SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS },
	{ "SCMP_ACT_TRAP", SECCOMP_RET_TRAP },
	{ "SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO },
	{ "SCMP_ACT_TRACE", SECCOMP_RET_TRACE },
	{ "SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW },
	{ "SCMP_ACT_LOG", SECCOMP_RET_LOG },
	{ "SCMP_ACT_NOTIFY", SECCOMP_RET_USER_NOTIF },
	{ 0 },
};

static const struct word operators[] = {
	{ "SCMP_CMP_NE", BH_OP_NE },
	{ "SCMP_CMP_LT", BH_OP_LT },
	{ "SCMP_CMP_LE", BH_OP_LE },
	{ "SCMP_CMP_EQ", BH_OP_EQ },
	{ "SCMP_CMP_GE", BH_OP_GE },
	{ "SCMP_CMP_GT", BH_OP_GT },
	{ "SCMP_CMP_MASKED_EQ", BH_OP_MASKED_EQ },
	{ 0 },
};

static const struct word flags[] = {
	{ "SECCOMP_FILTER_FLAG_TSYNC", 0 }, /* the process that installs it has one thread */
	{ "SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG },
	{ "SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW },
	{ "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV },
	{ 0 },
};

/* Calls of the other architectures can't reach this machine. */
static const struct word architectures[] = {
	{ "SCMP_ARCH_X86_64", 1u << BH_ARCH_X86_64 },
	{ "SCMP_ARCH_X86", 1u << BH_ARCH_I386 },
	{ "SCMP_ARCH_X32", 1u << BH_ARCH_X32 },
	{ "SCMP_ARCH_AARCH64", 0 },
	{ "SCMP_ARCH_ARM", 0 },
	{ "SCMP_ARCH_LOONGARCH64", 0 },
	{ "SCMP_ARCH_M68K", 0 },
	{ "SCMP_ARCH_MIPS", 0 },
	{ "SCMP_ARCH_MIPS64", 0 },
	{ "SCMP_ARCH_MIPS64N32", 0 },
	{ "SCMP_ARCH_MIPSEL", 0 },
	{ "SCMP_ARCH_MIPSEL64", 0 },
	{ "SCMP_ARCH_MIPSEL64N32", 0 },
	{ "SCMP_ARCH_PARISC", 0 },
	{ "SCMP_ARCH_PARISC64", 0 },
	{ "SCMP_ARCH_PPC", 0 },
	{ "SCMP_ARCH_PPC64", 0 },
	{ "SCMP_ARCH_PPC64LE", 0 },
	{ "SCMP_ARCH_RISCV64", 0 },
	{ "SCMP_ARCH_S390", 0 },
	{ "SCMP_ARCH_S390X", 0 },
	{ "SCMP_ARCH_SH", 0 },
	{ "SCMP_ARCH_SHEB", 0 },
	{ 0 },
};

const char *bh_seccomp_word(enum bh_seccomp_words kind, size_t index)
{
	static const struct {
		const struct word *words;
		size_t count;
	} tables[] = {
		[BH_SECCOMP_ACTIONS] = { actions, BH_ARRAY_SIZE(actions) },
		[BH_SECCOMP_OPERATORS] = { operators, BH_ARRAY_SIZE(operators) },
		[BH_SECCOMP_ARCHITECTURES] = { architectures, BH_ARRAY_SIZE(architectures) },
		[BH_SECCOMP_FLAGS] = { flags, BH_ARRAY_SIZE(flags) },
	};

	return index < tables[kind].count ? tables[kind].words[index].name : NULL;
}

static const struct word *find_word(const struct word *words, const char *name)
{
	for (; words->name; words++)
		if (bh_streq(words->name, name))
			return words;
	return NULL;
}

static int parse_action(const char *name, bool errno_set, uint32_t errno_ret, uint32_t *ret_action, struct bh_error *err)
{
	const struct word *word = find_word(actions, name);
	uint32_t data = errno_set ? errno_ret : EPERM;

	if (!word)
		return bh_error_text(err, EINVAL, "linux.seccomp: string %.40s is not a valid action for seccomp", name ? name : "");
	if (word->value != SECCOMP_RET_ERRNO && word->value != SECCOMP_RET_TRACE)
		data = 0;
	if (data > SECCOMP_RET_DATA)
		return bh_error_text(err, EINVAL, "linux.seccomp: errnoRet %u is too big", data);
	*ret_action = word->value | data;
	return 0;
}

static int parse_condition(const struct bh_spec_seccomp_arg *arg, struct bh_seccomp_condition *ret_condition, struct bh_error *err)
{
	const struct word *op = find_word(operators, arg->op);

	if (!op)
		return bh_error_text(err, EINVAL, "linux.seccomp: string %.40s is not a valid operator for seccomp", arg->op ? arg->op : "");
	if (arg->index >= BH_SECCOMP_ARGS)
		return bh_error_text(err, EINVAL, "linux.seccomp: argument index %u, a system call has six arguments", arg->index);
	*ret_condition = (struct bh_seccomp_condition){
		.index = (uint8_t)arg->index, .op = (uint8_t)op->value, .value = arg->value, .wanted = arg->value_two
	};
	return 0;
}

static bool has_double_index(const struct bh_seccomp_condition *conditions, size_t count)
{
	unsigned seen = 0;

	for (size_t i = 0; i < count; i++) {
		if (seen & 1u << conditions[i].index)
			return true;
		seen |= 1u << conditions[i].index;
	}
	return false;
}

/* Conditions of one rule that are never more than this, since two on one argument are alternatives. */
#define CONDITIONS_MAX 64

static int add_rule(struct bh_seccomp_rules *rules, const struct bh_spec_seccomp_rule *rule, struct bh_error *err)
{
	struct bh_seccomp_condition conditions[CONDITIONS_MAX];
	bool alternatives;
	uint32_t action;
	int r = parse_action(rule->action, rule->errno_set, rule->errno_ret, &action, err);

	if (r == 0 && rule->arg_count > CONDITIONS_MAX)
		return bh_error_text(err, E2BIG, "linux.seccomp: a rule with %zu conditions", rule->arg_count);
	for (size_t i = 0; r == 0 && i < rule->arg_count; i++)
		r = parse_condition(&rule->args[i], &conditions[i], err);
	if (r < 0)
		return r;
	if (action == SECCOMP_RET_USER_NOTIF && bh_strv_contains(&rule->names, "write"))
		return bh_error_text(err, EINVAL, "linux.seccomp: SCMP_ACT_NOTIFY cannot be used for the write syscall");
	if (action == rules->default_action) {
		for (size_t i = 0; i < rule->names.count; i++)
			bh_seccomp_rules_mention(rules, rule->names.items[i], strlen(rule->names.items[i]));
		return 0;
	}
	alternatives = has_double_index(conditions, rule->arg_count);
	for (size_t i = 0; i < rule->names.count; i++) {
		const char *name = rule->names.items[i];

		for (size_t n = 0; alternatives && n < rule->arg_count; n++)
			bh_seccomp_rules_add(rules, name, strlen(name), action, &conditions[n], 1);
		if (!alternatives)
			bh_seccomp_rules_add(rules, name, strlen(name), action, conditions, rule->arg_count);
	}
	return 0;
}

static int compile_rules(const struct bh_spec_seccomp *spec, struct bh_seccomp_filter *filter, struct bh_error *err)
{
	unsigned arch_mask = 1u << BH_ARCH_X86_64;
	struct bh_seccomp_rules rules;
	uint32_t default_action;
	int r = parse_action(spec->default_action, spec->default_errno_set, spec->default_errno_ret, &default_action, err);

	if (r < 0)
		return r;
	/* Our own last steps would wait for an answer of somebody who has not got the listener yet. */
	if (default_action == SECCOMP_RET_USER_NOTIF)
		return bh_error_text(err, EINVAL, "linux.seccomp: SCMP_ACT_NOTIFY cannot be used as default action");
	for (size_t i = 0; i < spec->architectures.count; i++) {
		const struct word *word = find_word(architectures, spec->architectures.items[i]);

		if (word)
			arch_mask |= word->value;
		else
			return bh_error_text(err, EINVAL, "linux.seccomp: string %.40s is not a valid arch for seccomp", spec->architectures.items[i]);
	}
	bh_seccomp_rules_init(&rules, arch_mask, default_action);
	for (size_t i = 0; r == 0 && i < spec->rule_count; i++)
		r = add_rule(&rules, &spec->rules[i], err);
	if (r == 0) {
		r = bh_seccomp_generate(&rules, &filter->instructions, &filter->count);
		if (r < 0)
			bh_error_text(err, -r, "linux.seccomp: the rules need more than %d instructions", BPF_MAXINSNS);
	}
	bh_seccomp_rules_clear(&rules);
	return r;
}

static int compile_default(uint64_t capabilities, struct bh_seccomp_filter *filter, struct bh_error *err)
{
	uint64_t relevant = capabilities & bh_seccomp_default_capabilities();
	int r;

	for (size_t i = 0; i < bh_seccomp_builtin_count; i++) {
		if (bh_seccomp_builtins[i].capabilities != relevant)
			continue;
		/* Never written: the kernel copies it, and `builtin` keeps clear() from freeing it. */
		filter->instructions = (struct sock_filter *)(uintptr_t)bh_seccomp_builtins[i].instructions;
		filter->count = bh_seccomp_builtins[i].count;
		filter->builtin = true;
		return 0;
	}
	r = bh_seccomp_compile_default(capabilities, &filter->instructions, &filter->count);
	return r < 0 ? bh_error_set(err, -r, "compile the default seccomp profile") : 0;
}

int bh_seccomp_compile(const struct bh_spec_seccomp *spec, uint64_t capabilities, struct bh_seccomp_filter *ret_filter, struct bh_error *err)
{
	struct bh_seccomp_filter filter = { 0 };
	int r = 0;

	for (size_t i = 0; spec->source != BH_SECCOMP_NONE && i < spec->flags.count; i++) {
		const struct word *word = find_word(flags, spec->flags.items[i]);

		if (!word)
			return bh_error_text(err, EINVAL, "linux.seccomp: seccomp flag \"%.60s\" is not known", spec->flags.items[i]);
		filter.flags |= word->value;
	}
	if (spec->source != BH_SECCOMP_NONE && !spec->flags_set && !spec->flags.count)
		filter.flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW;
	if (spec->source == BH_SECCOMP_DEFAULT)
		r = compile_default(capabilities, &filter, err);
	else if (spec->source == BH_SECCOMP_RULES)
		r = compile_rules(spec, &filter, err);
	if (r < 0)
		return r;
	*ret_filter = filter;
	return 0;
}

void bh_seccomp_filter_clear(struct bh_seccomp_filter *filter)
{
	if (!filter->builtin)
		free(filter->instructions);
	*filter = (struct bh_seccomp_filter){ 0 };
}

bool bh_seccomp_notifies(const struct bh_seccomp_filter *filter)
{
	for (size_t i = 0; !filter->builtin && i < filter->count; i++)
		if (filter->instructions[i].code == (BPF_RET | BPF_K) && (filter->instructions[i].k & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_USER_NOTIF)
			return true;
	return false;
}

int bh_seccomp_install(const struct bh_seccomp_filter *filter, struct bh_error *err)
{
	struct sock_fprog program = { .len = (unsigned short)filter->count, .filter = filter->instructions };
	unsigned set = filter->flags;
	int r;

	if (filter->count == 0)
		return 0;
	/* The kernel refuses the second without the first. */
	if (bh_seccomp_notifies(filter))
		set |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
	else
		set &= ~(unsigned)SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
	r = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, set, &program);
	if (r < 0 && errno == ENOSYS && (set & ~(unsigned)SECCOMP_FILTER_FLAG_SPEC_ALLOW) == 0)
		r = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
	if (r < 0)
		return bh_error_set(err, errno, "seccomp filter of %zu instructions", filter->count);
	return r;
}
