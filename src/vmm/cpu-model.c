/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cpu-model.h"

#include "base/memory.h"
#include "base/string.h"

#include <errno.h>
#include <string.h>

enum cpu_register { EAX, EBX, ECX, EDX };
enum { OTHER = 0, SYSTEM = 5 }; /* beside the levels 1 to 4 */

struct feature {
	const char *name;
	uint32_t leaf, subleaf;
	enum cpu_register place;
	unsigned bit;
	int level;
	const char *needs;
};

#define FEATURE(...) { __VA_ARGS__ },
static const struct feature features[] = {
#include "vmm/cpu-features.def"
};

/* Registers of features. `always`: bits that any level may have without a name here: AMD's copies of leaf 1, KVM's own features up to those of
 * Linux 5.10. `ours`: bits that say how the machine is now, not what it can: they don't count when hosts are compared. */
static const struct {
	uint32_t leaf, subleaf;
	enum cpu_register place;
	uint32_t always, ours;
} feature_registers[] = {
	{ 1, 0, ECX, 0, 1u << 27 | 1u << 3 }, /* OSXSAVE, MONITOR */
	{ 1, 0, EDX, 0, 1u << 28 },           /* HTT: more than one processor */
	{ 6, 0, EAX, 0, 0 },
	{ 6, 0, ECX, 0, 0 },
	{ 7, 0, EBX, 0, 0 },
	{ 7, 0, ECX, 0, 1u << 4 }, /* OSPKE */
	{ 7, 0, EDX, 0, 0 },
	{ 7, 1, EAX, 0, 0 },
	{ 7, 1, EBX, 0, 0 },
	{ 7, 1, ECX, 0, 0 },
	{ 7, 1, EDX, 0, 0 },
	{ 7, 2, EDX, 0, 0 },
	{ 0xd, 1, EAX, 0, 0 },
	{ 0x40000001, 0, EAX, 0x01007efb, 0 },
	{ 0x80000001, 0, ECX, 0, 0 },
	{ 0x80000001, 0, EDX, 0x0183f3ff, 0 },
	{ 0x80000007, 0, EDX, 0, 0 },
	{ 0x80000008, 0, EBX, 0, 0 },
	{ 0x80000021, 0, EAX, 0, 0 },
};

/* Leaves that describe what no level has: counters, monitoring, enclaves, traces, tiles, virtualization, encryption. */
static const uint32_t other_leaves[] = {
	0x5,  0xa,  0xf,  0x10, 0x12, 0x14,       0x17,       0x19,       0x1b,       0x1c,       0x1d,
	0x1e, 0x20, 0x21, 0x23, 0x24, 0x8000000a, 0x8000001b, 0x8000001c, 0x8000001f, 0x80000020, 0x80000022,
};

/* Parts of the extended state (XCR0's bits) and the feature that they belong to. x87 and SSE are always there. */
static const struct {
	unsigned first, last;
	const char *feature;
} state_parts[] = { { 2, 2, "avx" }, { 3, 4, "mpx" }, { 5, 7, "avx512f" }, { 9, 9, "pku" }, { 17, 18, "amx_tile" } };

#define LEGACY_STATE 576u /* bytes of x87, SSE and the header, which are always there */

static struct kvm_cpuid_entry2 *find_entry(const struct kvm_cpuid2 *table, uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < table->nent; i++)
		if (table->entries[i].function == leaf && table->entries[i].index == subleaf)
			return (struct kvm_cpuid_entry2 *)&table->entries[i];
	return NULL;
}

static uint32_t *register_of(const struct kvm_cpuid2 *table, uint32_t leaf, uint32_t subleaf, enum cpu_register place)
{
	struct kvm_cpuid_entry2 *entry = find_entry(table, leaf, subleaf);

	if (!entry)
		return NULL;
	return place == EAX ? &entry->eax : place == EBX ? &entry->ebx : place == ECX ? &entry->ecx : &entry->edx;
}

static bool has(const struct kvm_cpuid2 *table, const struct feature *feature)
{
	const uint32_t *value = register_of(table, feature->leaf, feature->subleaf, feature->place);

	return value && *value >> feature->bit & 1;
}

/* One that the table has a place for. */
static void set(struct kvm_cpuid2 *table, const struct feature *feature, bool on)
{
	uint32_t *value = register_of(table, feature->leaf, feature->subleaf, feature->place);

	if (value)
		*value = (*value & ~(1u << feature->bit)) | (uint32_t)on << feature->bit;
}

static const struct feature *find_feature(const char *name)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(features); i++)
		if (bh_streq(features[i].name, name))
			return &features[i];
	return NULL;
}

static bool has_name(const struct kvm_cpuid2 *table, const char *name)
{
	return has(table, find_feature(name));
}

/* 0: host; 1 to 4; -1: no model. */
static int level_of(const char *model)
{
	static const char *const names[] = { "host", "x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4" };

	if (bh_streq(model, "baseline"))
		return 1;
	for (int i = 0; i < (int)BH_ARRAY_SIZE(names); i++)
		if (bh_streq(model, names[i]) || (i > 0 && bh_streq(model, names[i] + strlen("x86-64-"))))
			return i;
	return -1;
}

/* --- a level ----------------------------------------------------------------------------------------------------------- */

static bool in_level(const struct feature *feature, int level)
{
	return feature->level == SYSTEM || (feature->level != OTHER && feature->level <= level);
}

static void mask_to_level(struct kvm_cpuid2 *table, int level)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(feature_registers); i++) {
		uint32_t *value = register_of(table, feature_registers[i].leaf, feature_registers[i].subleaf, feature_registers[i].place);
		uint32_t allowed = feature_registers[i].always;

		for (size_t j = 0; j < BH_ARRAY_SIZE(features); j++)
			if (features[j].leaf == feature_registers[i].leaf && features[j].subleaf == feature_registers[i].subleaf &&
			    features[j].place == feature_registers[i].place && in_level(&features[j], level))
				allowed |= 1u << features[j].bit;
		if (value)
			*value &= allowed;
	}
	for (uint32_t i = 0; i < table->nent; i++)
		for (size_t j = 0; j < BH_ARRAY_SIZE(other_leaves); j++)
			if (table->entries[i].function == other_leaves[j])
				table->entries[i].eax = table->entries[i].ebx = table->entries[i].ecx = table->entries[i].edx = 0;
}

/* --- what rests on something else ---------------------------------------------------------------------------------------- */

/* A feature goes with the one that it needs; the table is in no order, so until nothing changes. */
static void drop_dependents(struct kvm_cpuid2 *table)
{
	bool changed;

	do {
		changed = false;
		for (size_t i = 0; i < BH_ARRAY_SIZE(features); i++) {
			if (!features[i].needs || !has(table, &features[i]) || has_name(table, features[i].needs))
				continue;
			set(table, &features[i], false);
			changed = true;
		}
	} while (changed);
}

static uint64_t masked_parts(const struct kvm_cpuid2 *table)
{
	uint64_t masked = 0;

	for (size_t i = 0; i < BH_ARRAY_SIZE(state_parts); i++)
		for (unsigned bit = state_parts[i].first; bit <= state_parts[i].last; bit++)
			if (!has_name(table, state_parts[i].feature))
				masked |= 1ULL << bit;
	return masked;
}

/* Leaf 0xd: 0 has the parts and their size in all, 1 the instructions and supervisor parts, N the size and place of part N. */
static void mask_state(struct kvm_cpuid2 *table)
{
	bool any = has_name(table, "xsave"), supervisor = has_name(table, "xsaves");
	uint64_t masked = masked_parts(table);
	struct kvm_cpuid_entry2 *all = find_entry(table, 0xd, 0);
	uint32_t size = LEGACY_STATE;

	for (uint32_t i = 0; i < table->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &table->entries[i];
		bool part = entry->function == 0xd && entry->index >= 2 && entry->index < 64, of_supervisor = entry->ecx & 1;

		if (entry->function == 0xd && entry->index == 1 && !supervisor)
			entry->ebx = entry->ecx = entry->edx = 0;
		if (entry->function == 0xd && (!any || (part && (masked >> entry->index & 1 || (of_supervisor && !supervisor)))))
			entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
		else if (part && !of_supervisor && entry->eax)
			size = BH_MAX(size, entry->ebx + entry->eax);
	}
	if (!all || !any)
		return;
	all->eax &= (uint32_t)~masked;
	all->edx &= (uint32_t)(~masked >> 32);
	all->ebx = all->ecx = size;
}

/* --- all of it --------------------------------------------------------------------------------------------------------------- */

static int tell_missing(const char *model, const struct bh_buf *missing, struct bh_error *err)
{
	return bh_error_text(err, ENOTSUP, "%s: this machine's processors lack%s", model, missing->data);
}

int bh_cpu_model_parse(const char *model, struct bh_error *err)
{
	bh_auto_strv struct bh_strv words = bh_strv_split(model, ',');
	const char *name = words.count ? words.items[0] : "";

	if (level_of(name) < 0)
		return bh_error_text(err, EINVAL, "processor model %s: host, x86-64-v1, x86-64-v2, x86-64-v3 or x86-64-v4 is expected", name);
	for (size_t i = 1; i < words.count; i++) {
		const char *word = words.items[i];

		if ((*word != '+' && *word != '-') || !find_feature(word + 1))
			return bh_error_text(err, EINVAL, "processor feature %s: +NAME or -NAME is expected, with a name as in /proc/cpuinfo", word);
	}
	return 0;
}

static void change_one(const char *word, struct kvm_cpuid2 *table, const struct kvm_cpuid2 *host, struct bh_buf *missing)
{
	const struct feature *feature = find_feature(word + 1);

	if (*word == '+' && !has(host, feature))
		bh_buf_addf(missing, " %s", feature->name);
	set(table, feature, *word == '+');
}

/* What was asked for is there: it didn't rest on something that isn't. The last word about a feature counts. */
static int check_added(const struct bh_strv *words, const struct kvm_cpuid2 *table, struct bh_error *err)
{
	for (size_t i = 1; i < words->count; i++) {
		const struct feature *feature = find_feature(words->items[i] + 1);
		bh_auto_free char *taken = bh_printf("-%s", words->items[i] + 1);

		if (words->items[i][0] == '+' && feature->needs && !has(table, feature) && !bh_strv_contains(words, taken))
			return bh_error_text(err, EINVAL, "processor feature %s needs %s", feature->name, feature->needs);
	}
	return 0;
}

int bh_cpu_model_apply(const char *model, struct kvm_cpuid2 *table, struct bh_error *err)
{
	size_t size = sizeof *table + table->nent * sizeof table->entries[0];
	bh_auto_free struct kvm_cpuid2 *host = bh_malloc(size);
	bh_auto_strv struct bh_strv words = bh_strv_split(model, ',');
	bh_auto_buf struct bh_buf missing = { 0 };
	struct kvm_cpuid_entry2 *first, *second;
	int level, r = bh_cpu_model_parse(model, err);

	if (r < 0)
		return r;
	level = level_of(words.items[0]);
	memcpy(host, table, size);
	for (size_t i = 0; level > 0 && i < BH_ARRAY_SIZE(features); i++)
		if (features[i].level != SYSTEM && in_level(&features[i], level) && !has(host, &features[i]))
			bh_buf_addf(&missing, " %s", features[i].name);
	if (level > 0)
		mask_to_level(table, level);
	for (size_t i = 1; i < words.count; i++)
		change_one(words.items[i], table, host, &missing);
	if (missing.length)
		return tell_missing(model, &missing, err);
	drop_dependents(table);
	r = check_added(&words, table, err);
	if (level > 0 || words.count > 1)
		mask_state(table);
	/* Leaf 7 says itself how many subleaves it has. */
	first = find_entry(table, 7, 0);
	second = find_entry(table, 7, 1);
	if (level > 0 && first && !(second && (second->eax | second->ebx | second->ecx | second->edx)))
		first->eax = 0;
	return r;
}

/* --- between hosts ----------------------------------------------------------------------------------------------------------- */

static void name_missing(uint32_t leaf, uint32_t subleaf, enum cpu_register place, uint32_t bits, struct bh_buf *missing)
{
	static const char *const places[] = { "eax", "ebx", "ecx", "edx" };

	for (unsigned bit = 0; bit < 32; bit++) {
		const struct feature *feature = NULL;

		for (size_t i = 0; i < BH_ARRAY_SIZE(features); i++)
			if (features[i].leaf == leaf && features[i].subleaf == subleaf && features[i].place == place && features[i].bit == bit)
				feature = &features[i];
		if (bits >> bit & 1 && feature)
			bh_buf_addf(missing, " %s", feature->name);
		else if (bits >> bit & 1)
			bh_buf_addf(missing, " cpuid-%x-%x-%s-%u", leaf, subleaf, places[place], bit);
	}
}

int bh_cpu_model_check(const struct kvm_cpuid2 *table, const struct kvm_cpuid2 *host, const struct kvm_cpuid2 *shown, struct bh_error *err)
{
	bh_auto_buf struct bh_buf missing = { 0 };

	for (size_t i = 0; i < BH_ARRAY_SIZE(feature_registers); i++) {
		uint32_t leaf = feature_registers[i].leaf, subleaf = feature_registers[i].subleaf;
		const uint32_t *wanted = register_of(table, leaf, subleaf, feature_registers[i].place);
		const uint32_t *given = register_of(host, leaf, subleaf, feature_registers[i].place);
		const uint32_t *anyway = shown ? register_of(shown, leaf, subleaf, feature_registers[i].place) : NULL;
		uint32_t there = (given ? *given : 0) | (anyway ? *anyway : 0) | feature_registers[i].ours;

		if (wanted)
			name_missing(leaf, subleaf, feature_registers[i].place, *wanted & ~there, &missing);
	}
	return missing.length ? tell_missing("the saved machine", &missing, err) : 0;
}
