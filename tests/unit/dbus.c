/* SPDX-License-Identifier: Apache-2.0 */
/* D-Bus messages written and read by hand, GVariant's text format, names and properties of units: no bus needed. */
#include "cgroup/systemd-internal.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct bh_error err;

static char *hex(const struct bh_buf *bytes)
{
	char *text = bh_malloc(2 * bytes->length + 1);

	bh_format_hex(bytes->data, bytes->length, text);
	return text;
}

/* The specification's layout, byte by byte (little endian). */
static void test_call(void **state)
{
	bh_auto_buf struct bh_buf out = { 0 }, body = { 0 };
	struct bh_dbus_call call = { .destination = "a.b", .path = "/p", .interface = "c.d", .member = "M", .signature = "s", .body = &body };
	struct bh_dbus_message message;
	struct bh_dbus_cursor cursor;
	bh_auto_free char *text = NULL;

	(void)state;
	bh_dbus_put_string(&body, "hi");
	bh_dbus_put_call(&out, 7, &call);
	text = hex(&out);
	assert_string_equal(text, "6c010001070000000700000047000000"
				  "01016f00020000002f70000000000000"
				  "0201730003000000632e640000000000"
				  "03017300010000004d00000000000000"
				  "0601730003000000612e620000000000"
				  "08016700017300000"
				  "2000000686900");
	assert_int_equal(bh_dbus_message_length((const uint8_t *)out.data), out.length);
	assert_int_equal(bh_dbus_parse((const uint8_t *)out.data, out.length, &message), 0);
	assert_string_equal(message.path, "/p");
	assert_string_equal(message.interface, "c.d");
	assert_string_equal(message.member, "M");
	assert_string_equal(message.signature, "s");
	assert_int_equal(message.serial, 7);
	cursor = (struct bh_dbus_cursor){ .bytes = message.body, .length = message.body_length };
	assert_string_equal(bh_dbus_get_string(&cursor), "hi");
	assert_false(cursor.failed);
	bh_dbus_get_u32(&cursor);
	assert_true(cursor.failed);
}

/* Every message that is cut short or has one byte changed is read without harm, and most are refused. */
static void test_broken_messages(void **state)
{
	bh_auto_buf struct bh_buf out = { 0 }, body = { 0 };
	struct bh_dbus_call call = { .path = "/p", .interface = "c.d", .member = "M", .signature = "so", .body = &body };
	struct bh_dbus_message message;

	(void)state;
	bh_dbus_put_string(&body, "hello");
	bh_dbus_put_string(&body, "/x");
	bh_dbus_put_call(&out, 1, &call);
	for (size_t length = 0; length < out.length; length++) {
		bh_auto_free uint8_t *copy = bh_memdup(out.data, length ? length : 1);

		assert_int_equal(bh_dbus_parse(copy, length, &message), -EBADMSG);
	}
	for (size_t at = 0; at < out.length; at++)
		for (int value = 0; value < 256; value += 5) {
			bh_auto_free uint8_t *copy = bh_memdup(out.data, out.length);

			copy[at] = (uint8_t)value;
			if (bh_dbus_parse(copy, out.length, &message) == 0) {
				struct bh_dbus_cursor cursor = { .bytes = message.body, .length = message.body_length };

				assert_true(strlen(bh_dbus_get_string(&cursor)) + strlen(bh_dbus_get_string(&cursor)) <= out.length);
			}
		}
}

static void test_values(void **state)
{
	static const struct {
		const char *text, *signature, *bytes;
	} cases[] = {
		{ "true", "b", "01000000" },
		{ " false ", "b", "00000000" },
		{ "5", "i", "05000000" },
		{ "-1", "i", "ffffffff" },
		{ "0x10", "i", "10000000" },
		{ "1.5", "d", "000000000000f83f" },
		{ "uint64 123456789", "t", "15cd5b0700000000" },
		{ "uint64 18446744073709551615", "t", "ffffffffffffffff" },
		{ "int64 -9223372036854775808", "x", "0000000000000080" },
		{ "byte 255", "y", "ff" },
		{ "int16 -2", "n", "feff" },
		{ "@u 7", "u", "07000000" },
		{ "'a\\'b'", "s", "0300000061276200" },
		{ "\"x\"", "s", "010000007800" },
		{ "''", "s", "0000000000" },
		{ "objectpath '/a'", "o", "020000002f6100" },
		{ "@as []", "as", "00000000" },
		{ "['a', 'bc']", "as", "0f000000010000006100000002000000626300" },
		{ "[uint64 1,2]", "at", "100000000000000001000000000000000200000000000000" },
		{ "@ay [1, 2]", "ay", "020000000102" },
		{ "[true]", "ab", "0400000001000000" },
	};
	static const char *const bad[] = { "",
					   "tru",
					   "trueish",
					   "'a",
					   "\"a'",
					   "5x",
					   "--5",
					   "byte 256",
					   "uint32 -1",
					   "int16 40000",
					   "[1, 'a']",
					   "['a'",
					   "[]",
					   "[,]",
					   "{'a': 1}",
					   "<1>",
					   "(1, 2)",
					   "@a 1",
					   "@as 1",
					   "@s []",
					   "@q",
					   "1 2",
					   "uint64",
					   "uint64 'a'",
					   "boolean 1",
					   "99999999999",
					   "1e999",
					   "'\\u0041'",
					   "uint64 18446744073709551616" };

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		struct bh_dbus_value value;
		bh_auto_free char *text = NULL;

		if (bh_dbus_value_parse(cases[i].text, &value, &err) < 0)
			fail_msg("%s: %s", cases[i].text, err.message);
		assert_string_equal(value.signature, cases[i].signature);
		text = hex(&value.bytes);
		assert_string_equal(text, cases[i].bytes);
		bh_dbus_value_clear(&value);
	}
	for (size_t i = 0; i < BH_ARRAY_SIZE(bad); i++) {
		struct bh_dbus_value value = { 0 };

		if (bh_dbus_value_parse(bad[i], &value, &err) == 0)
			fail_msg("'%s' was taken as %s", bad[i], value.signature);
	}
}

static void test_seconds(void **state)
{
	static const struct {
		const char *text;
		uint64_t usec;
	} cases[] = { { "5", 5000000 }, { "uint64 7", 7000000 }, { "1.5", 1500000 }, { "byte 2", 2000000 }, { "int16 3", 3000000 } };
	static const char *const bad[] = { "'5'", "true", "-1", "@ai [1]", "uint64 18446744073709551615", "-0.5" };

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		struct bh_dbus_value value;
		uint64_t usec;

		assert_int_equal(bh_dbus_value_parse(cases[i].text, &value, &err), 0);
		assert_int_equal(bh_dbus_value_to_usec(&value), 0);
		assert_string_equal(value.signature, "t");
		memcpy(&usec, value.bytes.data, sizeof usec);
		assert_int_equal(usec, cases[i].usec);
		bh_dbus_value_clear(&value);
	}
	for (size_t i = 0; i < BH_ARRAY_SIZE(bad); i++) {
		struct bh_dbus_value value;

		assert_int_equal(bh_dbus_value_parse(bad[i], &value, &err), 0);
		assert_int_equal(bh_dbus_value_to_usec(&value), -EINVAL);
		bh_dbus_value_clear(&value);
	}
}

static void test_unit_names(void **state)
{
	static const struct {
		const char *path;
		bool user;
		const char *slice, *unit;
	} cases[] = {
		{ "system.slice:docker:1234", false, "system.slice", "docker-1234.scope" },
		{ "", false, "system.slice", "runc-id.scope" },
		{ NULL, true, "user.slice", "runc-id.scope" },
		{ ":libpod:x", true, "user.slice", "libpod-x.scope" },
		{ "kubepods-besteffort.slice:crio:ab", false, "kubepods-besteffort.slice", "crio-ab.scope" },
		{ "a.slice::b.slice", false, "a.slice", "b.slice" },
	};
	static const char *const bad[] = { "/a/b",           "a:b",           "a:b:c:d",   "x:y:z", "/a.slice:b:c", ".slice:b:c",
					   "a.slice:b/..:c", "a.slice:b:c/d", "a.slice:b:" };

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		struct bh_unit_name name;

		assert_int_equal(bh_unit_name_parse(cases[i].path, "id", cases[i].user, &name, &err), 0);
		assert_string_equal(name.slice, cases[i].slice);
		assert_string_equal(name.unit, cases[i].unit);
		bh_unit_name_clear(&name);
	}
	for (size_t i = 0; i < BH_ARRAY_SIZE(bad); i++) {
		struct bh_unit_name name;

		if (bh_unit_name_parse(bad[i], "id", false, &name, &err) == 0)
			fail_msg("'%s' was taken as %s in %s", bad[i], name.unit, name.slice);
	}
}

/* Names of all properties that these resources give, in order. */
static char *property_names(const char *json, int version)
{
	bh_auto_buf struct bh_buf out = { 0 };
	struct bh_buf names = { 0 };
	struct bh_unit_properties p;
	struct bh_spec spec = { 0 };

	assert_int_equal(bh_spec_parse_resources(json, strlen(json), &spec, &err), 0);
	bh_unit_properties_open(&p, &out);
	if (bh_unit_properties_from_resources(&p, version, &spec.resources, &err) < 0)
		bh_buf_adds(&names, "error");
	bh_unit_properties_close(&p);
	bh_spec_clear(&spec);
	/* The names are the strings of capital letter and letters that no other value here has. */
	for (size_t i = 8; i + 4 < out.length; i += 8) {
		uint32_t length;

		memcpy(&length, out.data + i, sizeof length);
		if (length > 4 && length < 32 && i + 4 + length < out.length && strlen(out.data + i + 4) == length && out.data[i + 4] >= 'A' &&
		    out.data[i + 4] <= 'Z')
			bh_buf_addf(&names, "%s%s", names.length ? " " : "", out.data + i + 4);
	}
	return bh_buf_take(&names);
}

static void test_properties(void **state)
{
	static const struct {
		const char *json;
		int version;
		const char *names;
	} cases[] = {
		{ "{}", 2, "" },
		{ "{\"memory\":{\"limit\":100,\"swap\":200,\"reservation\":50}}", 2, "MemoryMax MemoryLow MemorySwapMax" },
		{ "{\"memory\":{\"limit\":100,\"swap\":200,\"reservation\":50}}", 1, "MemoryLimit" },
		{ "{\"cpu\":{\"shares\":100,\"quota\":1000,\"period\":5000}}", 2, "CPUWeight CPUQuotaPeriodUSec CPUQuotaPerSecUSec" },
		{ "{\"cpu\":{\"shares\":100,\"quota\":1000}}", 1, "CPUShares CPUQuotaPerSecUSec" },
		{ "{\"cpu\":{\"cpus\":\"0-3,8\",\"mems\":\"0\"},\"pids\":{\"limit\":-1}}", 2, "TasksMax AllowedCPUs AllowedMemoryNodes" },
		{ "{\"pids\":{\"limit\":0}}", 2, "" },
		{ "{\"blockIO\":{\"weight\":100}}", 2, "IOWeight" },
		{ "{\"blockIO\":{\"weight\":100}}", 1, "BlockIOWeight" },
		{ "{\"unified\":{\"memory.high\":\"max\",\"cpu.max\":\"10000 50000\",\"io.max\":\"8:0 rbps=1\"}}", 2,
		  "MemoryHigh CPUQuotaPeriodUSec CPUQuotaPerSecUSec" },
		{ "{\"unified\":{\"memory.high\":\"lots\"}}", 2, "error" },
		{ "{\"unified\":{\"cpu.max\":\"1 2 3\"}}", 2, "error" },
		{ "{\"cpu\":{\"cpus\":\"3-1\"}}", 2, "error" },
		{ "{\"cpu\":{\"cpus\":\"0,\"}}", 2, "error" },
		{ "{\"cpu\":{\"cpus\":\"99999999\"}}", 2, "error" },
		{ "{\"memory\":{\"swap\":200}}", 2, "error" },
	};

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		bh_auto_free char *names = property_names(cases[i].json, cases[i].version);

		if (!bh_streq(names, cases[i].names))
			fail_msg("%s: '%s', not '%s'", cases[i].json, names, cases[i].names);
	}
}

static void test_annotations(void **state)
{
	static const char *const bad[] = { "org.systemd.property.ab=true",        "org.systemd.property.A1b=true", "org.systemd.property.Abc=",
					   "org.systemd.property.TimeoutSec='x'", "org.systemd.property.A_b=1",    "org.systemd.property.=1" };
	bh_auto_buf struct bh_buf out = { 0 };
	struct bh_strv annotations = { 0 };
	struct bh_unit_properties p;

	(void)state;
	bh_strv_add(&annotations, "org.other=['");
	bh_strv_add(&annotations, "org.systemd.property.TimeoutStopSec=5");
	bh_unit_properties_open(&p, &out);
	assert_int_equal(bh_unit_properties_from_annotations(&p, &annotations, &err), 0);
	bh_unit_properties_close(&p);
	assert_non_null(memmem(out.data, out.length, "TimeoutStopUSec\0\1t\0", 19));
	bh_strv_clear(&annotations);
	for (size_t i = 0; i < BH_ARRAY_SIZE(bad); i++) {
		bh_strv_add(&annotations, bad[i]);
		assert_int_equal(bh_unit_properties_from_annotations(&p, &annotations, &err), -EINVAL);
		bh_strv_clear(&annotations);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_call),        cmocka_unit_test(test_broken_messages), cmocka_unit_test(test_values),
		cmocka_unit_test(test_seconds),     cmocka_unit_test(test_unit_names),      cmocka_unit_test(test_properties),
		cmocka_unit_test(test_annotations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
