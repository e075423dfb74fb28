/* SPDX-License-Identifier: Apache-2.0 */
/* Processor models on a table as a server of 2023 has it. */
#include "vmm/cpu-model.h"

#include "base/memory.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

/* cmocka wants these first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct kvm_cpuid_entry2 server[] = {
	{ .function = 0, .eax = 0x1f, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69 },
	{ .function = 1, .eax = 0x806f8, .ecx = 0xf7fa3223, .edx = 0x0f8bfbff },
	{ .function = 6, .eax = 4 },
	{ .function = 7, .index = 0, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 2, .ebx = 0xf1bf2ffb, .ecx = 0x1b415f6e, .edx = 0xffd14410 },
	{ .function = 7, .index = 1, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 0x1c30 },
	{ .function = 0xa, .eax = 0x08300802 },
	{ .function = 0xd, .index = 0, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 0x602e7, .ebx = 11008, .ecx = 11008 },
	{ .function = 0xd, .index = 1, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 0x1f, .ebx = 2440, .ecx = 0x1800 },
	{ .function = 0xd, .index = 2, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 256, .ebx = 576 },
	{ .function = 0xd, .index = 5, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 64, .ebx = 1088 },
	{ .function = 0xd, .index = 6, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 512, .ebx = 1152 },
	{ .function = 0xd, .index = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 1024, .ebx = 1664 },
	{ .function = 0xd, .index = 9, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 8, .ebx = 2688 },
	{ .function = 0xd, .index = 11, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 16, .ecx = 1 },
	{ .function = 0xd, .index = 17, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 64, .ebx = 2752 },
	{ .function = 0xd, .index = 18, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 8192, .ebx = 2816 },
	{ .function = 0x1d, .index = 1, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 0x04002000 },
	{ .function = 0x40000000, .eax = 0x40000001, .ebx = 0x4b4d564b },
	{ .function = 0x40000001, .eax = 0x01007efb },
	{ .function = 0x80000001, .ecx = 0x121, .edx = 0x2c100800 },
	{ .function = 0x80000007, .edx = 0x100 },
	{ .function = 0x80000008, .eax = 0x3934, .ebx = 0x200 },
};

static struct kvm_cpuid2 *make(void)
{
	struct kvm_cpuid2 *table = bh_calloc(1, sizeof *table + sizeof server);

	table->nent = BH_ARRAY_SIZE(server);
	memcpy(table->entries, server, sizeof server);
	return table;
}

static const struct kvm_cpuid_entry2 *at(const struct kvm_cpuid2 *table, uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < table->nent; i++)
		if (table->entries[i].function == leaf && table->entries[i].index == subleaf)
			return &table->entries[i];
	fail_msg("no leaf %x.%x", leaf, subleaf);
	return NULL;
}

static void test_levels(void **state)
{
	/* Linux's own check of the levels asks for these bits. */
	static const struct {
		const char *name, *other;
		uint32_t one_ecx, seven_ebx, extended_ecx, xcr0, size;
	} levels[] = {
		{ "x86-64-v1", "baseline", 0x81200000, 0, 0, 0, 0 },
		{ "x86-64-v2", "v2", 0x81b82201, 0, 1, 0, 0 },
		{ "x86-64-v3", "v3", 0xb5f83201, 0x128, 0x21, 7, 832 },
		{ "x86-64-v4", "v4", 0xb5f83201, 0xd0030128, 0x21, 0xe7, 2688 },
	};

	(void)state;
	for (size_t i = 0; i < 2 * BH_ARRAY_SIZE(levels); i++) {
		bh_auto_free struct kvm_cpuid2 *table = make();
		struct bh_error err = BH_ERROR_INIT;

		assert_int_equal(bh_cpu_model_apply(i % 2 ? levels[i / 2].other : levels[i / 2].name, table, &err), 0);
		assert_int_equal(at(table, 0, 0)->ebx, 0x756e6547);
		assert_int_equal(at(table, 1, 0)->eax, 0x806f8);
		assert_int_equal(at(table, 1, 0)->ecx, levels[i / 2].one_ecx);
		assert_int_equal(at(table, 1, 0)->edx, 0x078bfbff);
		assert_int_equal(at(table, 7, 0)->eax, 0);
		assert_int_equal(at(table, 7, 0)->ebx, levels[i / 2].seven_ebx);
		assert_int_equal(at(table, 7, 0)->ecx, 0);
		assert_int_equal(at(table, 7, 0)->edx, 0);
		assert_int_equal(at(table, 0xa, 0)->eax, 0);
		assert_int_equal(at(table, 0xd, 0)->eax, levels[i / 2].xcr0);
		assert_int_equal(at(table, 0xd, 0)->ecx, levels[i / 2].size);
		assert_int_equal(at(table, 0xd, 1)->eax, 0);
		assert_int_equal(at(table, 0xd, 1)->ecx, 0);
		assert_int_equal(at(table, 0xd, 18)->eax, 0);
		assert_int_equal(at(table, 0xd, 11)->eax, 0);
		assert_int_equal(at(table, 0x1d, 1)->eax, 0);
		assert_int_equal(at(table, 0x40000001, 0)->eax, 0x01007efb);
		assert_int_equal(at(table, 0x80000001, 0)->ecx, levels[i / 2].extended_ecx);
		assert_int_equal(at(table, 0x80000001, 0)->edx, 0x20100800);
		assert_int_equal(at(table, 0x80000007, 0)->edx, 0);
		assert_int_equal(at(table, 0x80000008, 0)->eax, 0x3934);
		assert_int_equal(at(table, 0x80000008, 0)->ebx, 0);
	}
}

static void test_host(void **state)
{
	bh_auto_free struct kvm_cpuid2 *table = make(), *whole = make();
	struct bh_error err = BH_ERROR_INIT;

	(void)state;
	assert_int_equal(bh_cpu_model_apply("host", table, &err), 0);
	assert_memory_equal(table->entries, server, sizeof server);
	/* AVX takes with it all that rests on it, and the parts of the state. */
	assert_int_equal(bh_cpu_model_apply("host,-avx", table, &err), 0);
	assert_int_equal(at(table, 1, 0)->ecx, 0xf7fa3223 & ~(1u << 28 | 1u << 29 | 1u << 12));
	assert_int_equal(at(table, 7, 0)->ebx, 0xf1bf2ffb & ~(1u << 5 | 1u << 16 | 1u << 17 | 1u << 21 | 1u << 28 | 1u << 30 | 1u << 31));
	assert_int_equal(at(table, 7, 0)->ecx & 0x5e42, 0);
	assert_int_equal(at(table, 7, 0)->edx, 0xffd14410 & ~(1u << 23));
	assert_int_equal(at(table, 7, 1)->eax, 0x1c00);
	assert_int_equal(at(table, 0xd, 0)->eax, 0x60203);
	assert_int_equal(at(table, 0xd, 0)->ecx, 11008);
	assert_int_equal(at(table, 0xd, 2)->eax, 0);
	assert_int_equal(at(table, 0xd, 7)->eax, 0);
	assert_int_equal(at(table, 0xd, 11)->eax, 16);
	assert_int_equal(at(table, 0xd, 18)->eax, 8192);
	assert_int_equal(bh_cpu_model_apply("host,-xsave", whole, &err), 0);
	for (uint32_t i = 0; i < whole->nent; i++)
		if (whole->entries[i].function == 0xd)
			assert_int_equal(whole->entries[i].eax | whole->entries[i].ebx | whole->entries[i].ecx, 0);
}

static void test_changes(void **state)
{
	bh_auto_free struct kvm_cpuid2 *table = make();
	struct bh_error err = BH_ERROR_INIT;

	(void)state;
	assert_int_equal(bh_cpu_model_apply("v3,+aes,+smep,-bmi2,+invtsc,+avx_vnni,+pku,-pku", table, &err), 0);
	assert_int_equal(at(table, 1, 0)->ecx, 0xb7f83201);
	assert_int_equal(at(table, 7, 0)->eax, 2);
	assert_int_equal(at(table, 7, 0)->ebx, 0xa8);
	assert_int_equal(at(table, 7, 1)->eax, 0x10);
	assert_int_equal(at(table, 0x80000007, 0)->edx, 0x100);
	assert_int_equal(at(table, 0xd, 0)->eax, 7);
}

static void test_refused(void **state)
{
	static const struct {
		const char *model;
		int result;
		const char *words;
	} cases[] = {
		{ "", -EINVAL, "processor model : host" },
		{ "v5", -EINVAL, "processor model v5: host, x86-64-v1" },
		{ "host,avx", -EINVAL, "processor feature avx: +NAME or -NAME" },
		{ "host,+warp", -EINVAL, "processor feature +warp: " },
		{ "host,", -EINVAL, "processor feature : " },
		{ "v2,+avx", -EINVAL, "processor feature avx needs xsave" },
		{ "v2,+sse4a,+svm", -ENOTSUP, "v2,+sse4a,+svm: this machine's processors lack sse4a svm" },
	};

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		bh_auto_free struct kvm_cpuid2 *table = make();
		struct bh_error err = BH_ERROR_INIT;

		assert_int_equal(bh_cpu_model_apply(cases[i].model, table, &err), cases[i].result);
		if (strncmp(err.message, cases[i].words, strlen(cases[i].words)) != 0)
			fail_msg("%s: %s", cases[i].model, err.message);
	}

	bh_auto_free struct kvm_cpuid2 *old = make();
	struct bh_error err = BH_ERROR_INIT;

	((struct kvm_cpuid_entry2 *)at(old, 7, 0))->ebx = 0x28; /* no BMI2 */
	assert_int_equal(bh_cpu_model_apply("v3", old, &err), -ENOTSUP);
	assert_string_equal(err.message, "v3: this machine's processors lack bmi2");
	assert_int_equal(bh_cpu_model_apply("v2", old, &err), 0);
}

static void test_between_hosts(void **state)
{
	bh_auto_free struct kvm_cpuid2 *host = make(), *guest = make();
	struct bh_error err = BH_ERROR_INIT;

	(void)state;
	/* OSXSAVE and HTT are the guest's own. */
	((struct kvm_cpuid_entry2 *)at(guest, 1, 0))->ecx |= 1u << 27;
	((struct kvm_cpuid_entry2 *)at(guest, 1, 0))->edx |= 1u << 28;
	assert_int_equal(bh_cpu_model_check(guest, host, NULL, &err), 0);
	((struct kvm_cpuid_entry2 *)at(host, 7, 0))->ebx &= ~(1u << 16 | 1u << 31);
	((struct kvm_cpuid_entry2 *)at(host, 0x80000001, 0))->edx &= ~1u;
	((struct kvm_cpuid_entry2 *)at(guest, 7, 0))->ebx |= 1u << 2;
	assert_int_equal(bh_cpu_model_check(guest, host, NULL, &err), -ENOTSUP);
	assert_string_equal(err.message, "the saved machine: this machine's processors lack cpuid-7-0-ebx-2 avx512f avx512vl");
	/* What its processors show to any guest is there too. */
	assert_int_equal(bh_cpu_model_check(guest, host, guest, &err), 0);
	assert_int_equal(bh_cpu_model_apply("v3", guest, &err), 0);
	assert_int_equal(bh_cpu_model_check(guest, host, NULL, &err), 0);
	/* A leaf that the host doesn't have. */
	((struct kvm_cpuid_entry2 *)at(host, 7, 0))->function = 0x77;
	assert_int_equal(bh_cpu_model_check(guest, host, NULL, &err), -ENOTSUP);
	assert_string_equal(err.message, "the saved machine: this machine's processors lack bmi1 avx2 bmi2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),  cmocka_unit_test(test_host),          cmocka_unit_test(test_changes),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_between_hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
