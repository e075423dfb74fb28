/* SPDX-License-Identifier: Apache-2.0 */
/* Which registers there are (GDB manual, G.5.13: what features of these names must have). */
#include "vmm/gdb-session.h"

#include "base/memory.h"

#include <pthread.h>
#include <stddef.h>

/* So that a debugger shows flags by name, and vectors by their parts. */
#define FLAG(name, bit) "<field name=\"" name "\" start=\"" bit "\" end=\"" bit "\"/>"
#define VECTOR(id, type, count) "<vector id=\"" id "\" type=\"" type "\" count=\"" count "\"/>"
#define PART(name, type) "<field name=\"" name "\" type=\"" type "\"/>"
static const char flags_type[] = "<flags id=\"i386_eflags\" size=\"4\">" FLAG("CF", "0") FLAG("", "1") FLAG("PF", "2") FLAG("AF", "4") FLAG("ZF", "6")
	FLAG("SF", "7") FLAG("TF", "8") FLAG("IF", "9") FLAG("DF", "10") FLAG("OF", "11") FLAG("NT", "14") FLAG("RF", "16") FLAG("VM", "17")
		FLAG("AC", "18") FLAG("VIF", "19") FLAG("VIP", "20") FLAG("ID", "21") "</flags>";
static const char vector_type[] = VECTOR("v4f", "ieee_single", "4") VECTOR("v2d", "ieee_double", "2") VECTOR("v16i8", "int8", "16")
	VECTOR("v8i16", "int16", "8") VECTOR("v4i32", "int32", "4") VECTOR("v2i64", "int64", "2") "<union id=\"vec128\">" PART("v4_float", "v4f")
		PART("v2_double", "v2d") PART("v16_int8", "v16i8") PART("v8_int16", "v8i16") PART("v4_int32", "v4i32") PART("v2_int64", "v2i64")
			PART("uint128", "uint128") "</union>";

struct group {
	const char *feature; /* where a new one begins, or NULL */
	const char *types;   /* that it defines, or NULL */
	const char *names;   /* separated by spaces */
	const char *type;
	size_t offset, size; /* of the first; of each */
};

#define PLACE(member) offsetof(struct bh_gdb_registers, member)

static const struct group groups[] = {
	{ "org.gnu.gdb.i386.core", flags_type, "rax rbx rcx rdx rsi rdi", "int64", PLACE(general), 8 },
	{ NULL, NULL, "rbp rsp", "data_ptr", PLACE(general) + 48, 8 },
	{ NULL, NULL, "r8 r9 r10 r11 r12 r13 r14 r15", "int64", PLACE(general) + 64, 8 },
	{ NULL, NULL, "rip", "code_ptr", PLACE(rip), 8 },
	{ NULL, NULL, "eflags", "i386_eflags", PLACE(eflags), 4 },
	{ NULL, NULL, "cs ss ds es fs gs", "int32", PLACE(segments), 4 },
	{ NULL, NULL, "st0 st1 st2 st3 st4 st5 st6 st7", "i387_ext", PLACE(st), 10 },
	{ NULL, NULL, "fctrl fstat ftag fiseg fioff foseg fooff fop", "int", PLACE(x87), 4 },
	{ "org.gnu.gdb.i386.sse", vector_type, "xmm0 xmm1 xmm2 xmm3 xmm4 xmm5 xmm6 xmm7 xmm8 xmm9 xmm10 xmm11 xmm12 xmm13 xmm14 xmm15", "vec128",
	  PLACE(xmm), 16 },
	{ NULL, NULL, "mxcsr", "int", PLACE(mxcsr), 4 },
	{ "org.gnu.gdb.i386.segments", NULL, "fs_base gs_base", "int64", PLACE(fs_base), 8 },
	{ "io.bulkhead.x86.control", NULL, "cr0 cr2 cr3 cr4 cr8 efer", "int64", PLACE(cr0), 8 },
};

static struct bh_buf description;

static void describe_group(const struct group *group)
{
	bh_auto_strv struct bh_strv names = bh_strv_split(group->names, ' ');

	if (group->feature)
		bh_buf_addf(&description, "%s<feature name=\"%s\">", group == groups ? "" : "</feature>", group->feature);
	if (group->types)
		bh_buf_adds(&description, group->types);
	for (size_t i = 0; i < names.count; i++)
		bh_buf_addf(&description, "<reg name=\"%s\" bitsize=\"%zu\" type=\"%s\"/>", names.items[i], group->size * 8, group->type);
}

static void describe(void)
{
	bh_buf_adds(&description, "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target><architecture>i386:x86-64</architecture>");
	for (size_t i = 0; i < BH_ARRAY_SIZE(groups); i++)
		describe_group(&groups[i]);
	bh_buf_adds(&description, "</feature></target>");
}

const char *bh_gdb_description(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, describe);
	return description.data;
}

bool bh_gdb_register_place(uint64_t number, size_t *ret_offset, size_t *ret_size)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(groups); i++) {
		size_t count = (i + 1 < BH_ARRAY_SIZE(groups) ? groups[i + 1].offset : sizeof(struct bh_gdb_registers)) - groups[i].offset;

		count /= groups[i].size;
		if (number < count) {
			*ret_offset = groups[i].offset + (size_t)number * groups[i].size;
			*ret_size = groups[i].size;
			return true;
		}
		number -= count;
	}
	return false;
}
