/* SPDX-License-Identifier: Apache-2.0 */
/* GDB's protocol with a machine that is none. */
#include "vmm/gdb-session.h"

#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cmocka wants these first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct bh_gdb_session session;
static struct bh_gdb_registers registers[2];
static uint8_t memory[256]; /* from address 0x1000 */
static char calls[256];     /* what the machine was asked for */

static unsigned threads(void *context)
{
	(void)context;
	return 2;
}

static bool read_registers(void *context, unsigned thread, struct bh_gdb_registers *out)
{
	(void)context;
	*out = registers[thread];
	return true;
}

static bool write_registers(void *context, unsigned thread, const struct bh_gdb_registers *in)
{
	(void)context;
	registers[thread] = *in;
	return true;
}

static size_t read_memory(void *context, unsigned thread, uint64_t address, void *bytes, size_t length)
{
	(void)context, (void)thread;
	if (address < 0x1000 || address >= 0x1100)
		return 0;
	length = BH_MIN(length, (size_t)(0x1100 - address));
	memcpy(bytes, memory + address - 0x1000, length);
	return length;
}

static bool write_memory(void *context, unsigned thread, uint64_t address, const void *bytes, size_t length)
{
	(void)context, (void)thread;
	if (address < 0x1000 || address > 0x1100 || length > 0x1100 - address)
		return false;
	memcpy(memory + address - 0x1000, bytes, length);
	return true;
}

static bool set_breakpoint(void *context, unsigned thread, enum bh_gdb_breakpoint kind, uint64_t address, uint64_t length, bool on)
{
	(void)context;
	snprintf(calls, sizeof calls, "%s %u %d %llx+%llx", on ? "set" : "unset", thread, kind, (unsigned long long)address,
		 (unsigned long long)length);
	return address != 0xbad;
}

static void resume(void *context, const enum bh_gdb_action *actions)
{
	(void)context;
	snprintf(calls, sizeof calls, "resume %d %d", actions[0], actions[1]);
}

static void interrupt(void *context)
{
	const struct bh_gdb_stop stop = { .thread = 1, .reason = BH_GDB_BY_INTERRUPT };

	(void)context;
	bh_gdb_stopped(&session, &stop);
}

static void detach(void *context)
{
	(void)context;
	snprintf(calls, sizeof calls, "detach");
}

static void end(void *context)
{
	(void)context;
	snprintf(calls, sizeof calls, "kill");
}

static const struct bh_gdb_target target = { threads,        read_registers, write_registers, read_memory, write_memory,
					     set_breakpoint, resume,         interrupt,       detach,      end };

static int set_up(void **state)
{
	(void)state;
	memset(registers, 0, sizeof registers);
	memset(memory, 0, sizeof memory);
	*calls = '\0';
	bh_gdb_begin(&session, &target, NULL);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	bh_gdb_end(&session);
	return 0;
}

/* The answer to a packet, out of its frame, whose checksum is looked at. */
static const char *unframe(const char *bytes)
{
	static char content[2 * BH_GDB_PACKET_MAX];
	const char *end_mark = strchr(bytes, '#');
	unsigned sum = 0, told = 0;

	if (!end_mark || *bytes != '$')
		fail_msg("no frame: %s", bytes);
	for (const char *at = bytes + 1; at < end_mark; at++)
		sum += (unsigned char)*at;
	assert_int_equal(sscanf(end_mark + 1, "%2x", &told), 1);
	assert_int_equal(told, sum & 0xff);
	assert_int_equal(strlen(end_mark), 3);
	memcpy(content, bytes + 1, (size_t)(end_mark - bytes) - 1);
	content[end_mark - bytes - 1] = '\0';
	return content;
}

static void feed(const char *content)
{
	bh_auto_buf struct bh_buf frame = { 0 };

	bh_gdb_frame(&frame, content);
	bh_buf_reset(&session.out);
	bh_gdb_feed(&session, frame.data, frame.length);
}

static const char *ask(const char *content)
{
	feed(content);
	if (!session.no_acknowledgements)
		assert_int_equal(session.out.data[0], '+');
	return unframe(session.out.data + (session.out.data[0] == '+'));
}

static void test_frames(void **state)
{
	static const char damaged[] = "$g#00", good[] = "noise+$qC#b4", wrong_digits[] = "$qC#zz", again[] = "$gg$qC#b4";
	bh_auto_buf struct bh_buf long_one = { 0 };

	(void)state;
	bh_gdb_feed(&session, damaged, strlen(damaged));
	assert_string_equal(session.out.data, "-");
	bh_buf_reset(&session.out);
	bh_gdb_feed(&session, wrong_digits, strlen(wrong_digits));
	assert_string_equal(session.out.data, "-");
	bh_buf_reset(&session.out);
	for (size_t i = 0; i < strlen(good); i++) /* byte by byte */
		bh_gdb_feed(&session, good + i, 1);
	assert_string_equal(session.out.data, "+$QC1#c5");
	bh_buf_reset(&session.out);
	bh_gdb_feed(&session, "-", 1);
	assert_string_equal(session.out.data, "$QC1#c5");
	bh_buf_reset(&session.out);
	bh_gdb_feed(&session, again, strlen(again)); /* a packet that begins anew */
	assert_string_equal(session.out.data, "+$QC1#c5");
	bh_buf_reset(&session.out);
	/* As long as one may be, and a byte longer. */
	for (size_t extra = 0; extra < 2; extra++) {
		bh_buf_reset(&long_one);
		bh_buf_addc(&long_one, '$');
		for (size_t i = 0; i < BH_GDB_PACKET_MAX + extra; i++)
			bh_buf_addc(&long_one, 'x');
		bh_buf_addf(&long_one, "#%02x", (unsigned)((BH_GDB_PACKET_MAX + extra) * 'x' & 0xff));
		bh_buf_reset(&session.out);
		bh_gdb_feed(&session, long_one.data, long_one.length);
		assert_string_equal(session.out.data, extra ? "-" : "+$#00");
	}
}

static void test_greeting(void **state)
{
	(void)state;
	assert_non_null(strstr(ask("qSupported:multiprocess+;swbreak+;hwbreak+"), "qXfer:features:read+"));
	assert_string_equal(ask("vMustReplyEmpty"), "");
	assert_string_equal(ask("QStartNoAckMode"), "OK");
	assert_string_equal(ask("?"), "T05thread:1;");
	assert_string_equal(ask("qfThreadInfo"), "m1,2");
	assert_string_equal(ask("qsThreadInfo"), "l");
	assert_string_equal(ask("qThreadExtraInfo,2"), "70726f636573736f722031"); /* processor 1 */
	assert_string_equal(ask("qThreadExtraInfo,3"), "E01");
	assert_string_equal(ask("Hg2"), "OK");
	assert_string_equal(ask("qC"), "QC2");
	assert_string_equal(ask("Hg3"), "E01");
	assert_string_equal(ask("Hx1"), "E01");
	assert_string_equal(ask("T2"), "OK");
	assert_string_equal(ask("T3"), "E01");
	assert_string_equal(ask("vCont?"), "vCont;c;C;s;S");
	assert_string_equal(ask("qAttached"), "1");
}

static void test_description(void **state)
{
	bh_auto_buf struct bh_buf whole = { 0 };
	size_t bits = 0;
	const char *part;
	char request[64];

	(void)state;
	do {
		snprintf(request, sizeof request, "qXfer:features:read:target.xml:%zx,100", whole.length);
		part = ask(request);
		assert_true((*part == 'm' && strlen(part) == 257) || *part == 'l');
		bh_buf_adds(&whole, part + 1);
	} while (*part == 'm');
	assert_string_equal(whole.data, bh_gdb_description());
	assert_non_null(strstr(whole.data, "<reg name=\"rip\" bitsize=\"64\" type=\"code_ptr\"/>"));
	/* What it describes is what `g` sends. */
	for (const char *at = whole.data; (at = strstr(at, "bitsize=\"")); at++)
		bits += strtoul(at + strlen("bitsize=\""), NULL, 10);
	assert_int_equal(bits, sizeof(struct bh_gdb_registers) * 8);
	assert_string_equal(ask("qXfer:features:read:target.xml:fffff,10"), "E01");
	assert_string_equal(ask("qXfer:features:read:other.xml:0,10"), "");
}

static void test_registers(void **state)
{
	char request[64];
	const char *text;

	(void)state;
	registers[1].general[0] = 0x1122334455667788;
	registers[1].rip = 0xffffffff81000000;
	registers[1].efer = 0xd01;
	registers[1].xmm[15][15] = 0x77;
	ask("Hg2");
	text = ask("g");
	assert_int_equal(strlen(text), 2 * sizeof(struct bh_gdb_registers));
	assert_memory_equal(text, "8877665544332211", 16);
	assert_string_equal(ask("p10"), "00000081ffffffff");
	assert_string_equal(ask("p0"), "8877665544332211");
	/* 17, eflags, 6 segments, 8 + 8 of the x87, 16 and mxcsr, two bases: efer is the sixth behind these. */
	snprintf(request, sizeof request, "p%x", 17 + 1 + 6 + 16 + 17 + 2 + 5);
	assert_string_equal(ask(request), "010d000000000000");
	snprintf(request, sizeof request, "p%x", 17 + 1 + 6 + 16 + 15);
	assert_string_equal(ask(request), "00000000000000000000000000000077");
	snprintf(request, sizeof request, "p%x", 17 + 1 + 6 + 16 + 17 + 2 + 6);
	assert_string_equal(ask(request), "E01");
	assert_string_equal(ask("P1=0100000000000000"), "OK");
	assert_int_equal(registers[1].general[1], 1);
	assert_string_equal(ask("P1=01"), "E01");
	assert_string_equal(ask("P1=010000000000000000"), "E01");
	assert_string_equal(ask("G00"), "E01");
	assert_int_equal(registers[1].general[1], 1);
	assert_int_equal(registers[0].general[1], 0);
}

static void test_memory(void **state)
{
	(void)state;
	assert_string_equal(ask("M1010,3:a1b2c3"), "OK");
	assert_string_equal(ask("m100f,5"), "00a1b2c300");
	assert_string_equal(ask("m10fe,10"), "0000"); /* what is there */
	assert_string_equal(ask("m2000,1"), "E0e");
	assert_string_equal(ask("m1000,0"), "");
	assert_string_equal(ask("M10ff,2:0102"), "E0e");
	assert_int_equal(memory[255], 0);
	assert_string_equal(ask("M1000,2:01"), "E01");
	assert_string_equal(ask("M1000,1:0102"), "E01");
	assert_string_equal(ask("Mffffffffffffffff,ffffffff:01"), "E01");
	assert_string_equal(ask("m1000"), "E01");
	assert_string_equal(ask("m11112222333344445,1"), "E01");
	assert_int_equal(strlen(ask("m1000,ffffffffffffffff")), 512);
}

static void test_running(void **state)
{
	struct bh_gdb_stop stop = { .thread = 1, .reason = BH_GDB_BY_BREAKPOINT, .breakpoint = BH_GDB_SOFTWARE };

	(void)state;
	ask("qSupported:swbreak+");
	ask("QStartNoAckMode");
	assert_string_equal(ask("Z0,1000,1"), "OK");
	assert_string_equal(calls, "set 0 0 1000+1");
	assert_string_equal(ask("z3,1008,8"), "OK");
	assert_string_equal(calls, "unset 0 3 1008+8");
	assert_string_equal(ask("Z1,bad,1"), "E0e");
	assert_string_equal(ask("Z5,1000,1"), "E01");
	feed("vCont;s:2;c");
	assert_string_equal(calls, "resume 1 2");
	assert_int_equal(session.out.length, 0); /* nothing, until it stands */
	assert_string_equal(ask("g"), "E10");
	bh_buf_reset(&session.out);
	bh_gdb_stopped(&session, &stop);
	assert_string_equal(unframe(session.out.data), "T05thread:2;swbreak:;");
	assert_string_equal(ask("qC"), "QC2");
	feed("vCont;c:1");
	assert_string_equal(calls, "resume 1 0");
	stop = (struct bh_gdb_stop){ .thread = 0, .reason = BH_GDB_BY_BREAKPOINT, .breakpoint = BH_GDB_WATCH_WRITE, .address = 0x1234 };
	bh_gdb_stopped(&session, &stop);
	assert_string_equal(unframe(session.out.data), "T05thread:1;watch:1234;");
	bh_buf_reset(&session.out);
	bh_gdb_stopped(&session, &stop); /* it stands already */
	assert_int_equal(session.out.length, 0);
	feed("s");
	assert_string_equal(calls, "resume 2 0");
	bh_gdb_feed(&session, "\3", 1);
	assert_string_equal(unframe(session.out.data), "T02thread:2;");
	feed("c1010");
	assert_string_equal(calls, "resume 1 1");
	assert_int_equal(registers[1].rip, 0x1010);
	bh_buf_reset(&session.out);
	bh_gdb_exited(&session, 42);
	assert_string_equal(unframe(session.out.data), "W2a");
	assert_true(session.ended);
}

static void test_refused_actions(void **state)
{
	static const char *const wrong[] = { "vCont", "vCont;", "vCont;x", "vCont;c:3", "vCont;C5", "vCont;c:1;x", "vConts", "cx" };

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(wrong); i++)
		assert_string_equal(ask(wrong[i]), "E01");
	assert_string_equal(calls, "");
	assert_false(session.running);
}

static void test_ends(void **state)
{
	(void)state;
	assert_string_equal(ask("D"), "OK");
	assert_string_equal(calls, "detach");
	assert_true(session.ended);
	bh_gdb_end(&session);
	bh_gdb_begin(&session, &target, NULL);
	feed("vCont;c");
	feed("k");
	assert_string_equal(calls, "kill");
	assert_true(session.ended);
	bh_gdb_end(&session);
	bh_gdb_begin(&session, &target, NULL);
	assert_string_equal(ask("vKill;1"), "OK");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_frames), TEST(test_greeting), TEST(test_description),     TEST(test_registers),
		TEST(test_memory), TEST(test_running),  TEST(test_refused_actions), TEST(test_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
