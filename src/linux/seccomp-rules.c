/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules by name become rules by number, for each architecture.
 *
 * How rules of one call combine is libseccomp's way, which runc and crun have made everybody's: a rule without conditions
 * wins over those with conditions, whichever comes first; of two without conditions the first one stays; ways with
 * conditions are alternatives, and the first that matches answers.
 *
 * i386 reaches sockets and System V IPC through two multiplexers as well (socketcall, ipc), so a rule for connect is also
 * one for socketcall with first argument 3. There the call's own first argument can't be seen any more: a condition on it
 * is replaced, as libseccomp does.
 */
#include "linux/seccomp-internal.h"

#include <linux/seccomp.h>

struct multiplexed {
	const char *name;
	uint8_t call;
	bool ipc;
};

/* Calls by their first argument: include/uapi/linux/net.h, include/uapi/linux/ipc.h. Sorted by nothing: 32 compares. */
static const struct multiplexed multiplexed[] = {
	{ "socket", 1, false },    { "bind", 2, false },        { "connect", 3, false },     { "listen", 4, false },
	{ "accept", 5, false },    { "getsockname", 6, false }, { "getpeername", 7, false }, { "socketpair", 8, false },
	{ "send", 9, false },      { "recv", 10, false },       { "sendto", 11, false },     { "recvfrom", 12, false },
	{ "shutdown", 13, false }, { "setsockopt", 14, false }, { "getsockopt", 15, false }, { "sendmsg", 16, false },
	{ "recvmsg", 17, false },  { "accept4", 18, false },    { "semop", 1, true },        { "semget", 2, true },
	{ "semctl", 3, true },     { "semtimedop", 4, true },   { "msgsnd", 11, true },      { "msgrcv", 12, true },
	{ "msgget", 13, true },    { "msgctl", 14, true },      { "shmat", 21, true },       { "shmdt", 22, true },
	{ "shmget", 23, true },    { "shmctl", 24, true },
};
#define I386_SOCKETCALL 102
#define I386_IPC 117

void bh_seccomp_rules_init(struct bh_seccomp_rules *rules, unsigned arch_mask, uint32_t default_action)
{
	*rules = (struct bh_seccomp_rules){ .default_action = default_action };
	for (int i = 0; i < BH_ARCH_COUNT; i++) {
		if (!(arch_mask & 1u << i))
			continue;
		rules->tables[i] = bh_calloc(1, sizeof *rules->tables[i]);
		rules->tables[i]->highest = -1;
	}
}

void bh_seccomp_rules_clear(struct bh_seccomp_rules *rules)
{
	for (int i = 0; i < BH_ARCH_COUNT; i++) {
		if (rules->tables[i])
			free(rules->tables[i]->chains);
		free(rules->tables[i]);
		rules->tables[i] = NULL;
	}
}

static void add_chain(struct bh_seccomp_table *table, int number, uint32_t action, const struct bh_seccomp_condition *conditions, size_t count)
{
	struct bh_seccomp_chain *chain;
	int index = (int)table->chain_count;

	table->chains = bh_grow(table->chains, &table->chain_capacity, table->chain_count + 1, sizeof *table->chains);
	chain = &table->chains[table->chain_count++];
	*chain = (struct bh_seccomp_chain){ .action = action, .count = (uint8_t)count, .next = -1 };
	memcpy(chain->conditions, conditions, count * sizeof *conditions);
	if (!table->slots[number].used)
		table->slots[number].first = index;
	else
		table->chains[table->slots[number].last].next = index;
	table->slots[number].last = index;
}

static void add_number(struct bh_seccomp_table *table, int number, uint32_t action, const struct bh_seccomp_condition *conditions, size_t count)
{
	if (number < 0 || number >= BH_SECCOMP_NUMBERS)
		return;
	table->highest = BH_MAX(table->highest, number);
	if (table->slots[number].used && table->slots[number].whole)
		return;
	if (count == 0) {
		table->slots[number].whole = true;
		table->slots[number].action = action;
	} else {
		add_chain(table, number, action, conditions, count);
	}
	table->slots[number].used = true;
}

static void add_multiplexed(struct bh_seccomp_table *table, const char *name, size_t length, uint32_t action,
			    const struct bh_seccomp_condition *conditions, size_t count)
{
	struct bh_seccomp_condition changed[BH_SECCOMP_ARGS];
	size_t kept = 1;

	for (size_t i = 0; i < BH_ARRAY_SIZE(multiplexed); i++) {
		if (strncmp(multiplexed[i].name, name, length) != 0 || multiplexed[i].name[length])
			continue;
		changed[0] = (struct bh_seccomp_condition){ .op = BH_OP_EQ, .value = multiplexed[i].call };
		for (size_t n = 0; n < count && kept < BH_SECCOMP_ARGS; n++)
			if (conditions[n].index != 0)
				changed[kept++] = conditions[n];
		add_number(table, multiplexed[i].ipc ? I386_IPC : I386_SOCKETCALL, action, changed, kept);
		return;
	}
}

void bh_seccomp_rules_add(struct bh_seccomp_rules *rules, const char *name, size_t name_length, uint32_t action,
			  const struct bh_seccomp_condition *conditions, size_t count)
{
	int numbers[BH_ARCH_COUNT];
	bool known = bh_seccomp_syscall_numbers(name, name_length, numbers);

	if (rules->tables[BH_ARCH_I386])
		add_multiplexed(rules->tables[BH_ARCH_I386], name, name_length, action, conditions, count);
	for (int i = 0; known && i < BH_ARCH_COUNT; i++)
		if (rules->tables[i])
			add_number(rules->tables[i], numbers[i], action, conditions, count);
}

void bh_seccomp_rules_mention(struct bh_seccomp_rules *rules, const char *name, size_t name_length)
{
	int numbers[BH_ARCH_COUNT];

	if (!bh_seccomp_syscall_numbers(name, name_length, numbers))
		return;
	for (int i = 0; i < BH_ARCH_COUNT; i++)
		if (rules->tables[i])
			rules->tables[i]->highest = BH_MAX(rules->tables[i]->highest, numbers[i]);
}
