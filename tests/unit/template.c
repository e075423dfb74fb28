/* SPDX-License-Identifier: Apache-2.0 */
#include "../../src/cli/template-functions.c"
#include "../../src/cli/template.c"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka comes after the headers it needs */
#include <cmocka.h>

static const char document[] =
	"{\"A\":{\"B\":\"x\"},\"L\":[\"a\",\"b\",\"c\"],\"E\":[],\"N\":7,\"F\":1.5,\"T\":true,\"U\":false,\"Z\":null,"
	"\"M\":{\"k2\":\"v2\",\"k1\":\"v1\",\"a.b\":\"dot\"},\"S\":\"Hello World\",\"O\":[{\"N\":\"one\"},{\"N\":\"two\"}],\"H\":\"sha256:0123456789abcdef\"}";

static const char *const good[][2] = {
	{ "plain", "plain" },
	{ "{{.A.B}}", "x" },
	{ "{{ .A.B }}-{{.N}}", "x-7" },
	{ "{{.L}} {{.M}} {{.Z}} {{.None}} {{.T}} {{.F}}", "[a b c] map[a.b:dot k1:v1 k2:v2] <no value> <no value> true 1.5" },
	{ "{{json .L}}{{json .A}}", "[\"a\",\"b\",\"c\"]{\"B\":\"x\"}" },
	{ "{{index .M \"a.b\"}}{{index .L 1}}{{(index .O 1).N}}", "dotbtwo" },
	{ "{{range .L}}<{{.}}>{{end}}", "<a><b><c>" },
	{ "{{range $i, $v := .L}}{{$i}}{{$v}}{{end}}", "0a1b2c" },
	{ "{{range $k, $v := .M}}{{$k}}={{$v}};{{end}}", "a.b=dot;k1=v1;k2=v2;" },
	{ "{{range .E}}x{{else}}none{{end}}", "none" },
	{ "{{range .Z}}x{{else}}none{{end}}", "none" },
	{ "{{range .O}}{{.N}}{{$.N}}{{end}}", "one7two7" },
	{ "{{range .O}}{{range $.L}}{{.}}{{end}},{{end}}", "abc,abc," },
	{ "{{if .T}}yes{{else}}no{{end}}{{if .U}}yes{{else}}no{{end}}", "yesno" },
	{ "{{if .U}}1{{else if .T}}2{{else}}3{{end}}", "2" },
	{ "{{if .U}}1{{else if .Z}}2{{else}}3{{end}}", "3" },
	{ "{{if .T}}1{{else if .T}}2{{else}}3{{end}}!", "1!" },
	{ "{{if .U}}{{.S.No}}{{end}}ok", "ok" },
	{ "{{if .U}}{{range .L}}{{if .}}x{{end}}{{end}}{{end}}ok", "ok" },
	{ "{{with .A}}{{.B}}{{end}}{{with .E}}x{{else}}empty{{end}}", "xempty" },
	{ "{{with $x := .N}}{{$x}}{{.}}{{end}}", "77" },
	{ "{{$x := .N}}{{$x}}{{$x = 9}}{{$x}}", "79" },
	{ "{{len .L}}{{len .S}}{{len .M}}", "3113" },
	{ "{{join .L \",\"}} {{join .E \",\"}}", "a,b,c " },
	{ "{{upper .S}}{{lower .S}}{{title \"two words\"}}", "HELLO WORLDhello worldTwo Words" },
	{ "{{split .S \" \"}} {{index (split .S \" \") 1}}", "[Hello World] World" },
	{ "{{println .N .S}}", "7 Hello World\n" },
	{ "{{printf \"%s-%d|%5s|%-5s|%q|%%\" .S .N .A.B .A.B .S}}", "Hello World-7|    x|x    |\"Hello World\"|%" },
	{ "{{printf \"%05d %x %.1f\" .N 255 .F}}", "00007 ff 1.5" },
	{ "{{eq .N 7}}{{ne .N 7}}{{lt .N 8}}{{gt .N 8}}{{le .N 7}}{{ge .N 8}}{{eq .S \"no\" \"Hello World\"}}", "truefalsetruefalsetruefalsetrue" },
	{ "{{and .T .U}}{{and .T .N}}{{or .U .N}}{{or .U .Z}}{{not .T}}", "false77<no value>false" },
	{ "{{.S | lower | printf \"<%s>\"}}", "<hello world>" },
	{ "{{if and .T (eq .N 7)}}both{{end}}", "both" },
	{ "a  {{- .N -}}  b", "a7b" },
	{ "{{range .L -}} {{.}} {{- end}}", "abc" },
	{ "{{/* nothing */}}x{{- /* trim */ -}} y", "xy" },
	{ "{{slice .H 7 19}} {{truncate .S 3}} {{slice .L 1}}", "0123456789ab Hel [b c]" },
	{ "{{.M \"k1\"}}{{.M \"none\"}}", "v1<no value>" },
	{ "{{`raw\\n`}}{{\"a\\tb\"}}", "raw\\na\tb" },
	{ "{{true}}{{if nil}}x{{end}}{{-3}}", "true-3" },
	{ "{{print 1 2 \"a\" 3}}", "1 2a3" },
};

static const char *const bad[][2] = {
	{ "{{", "unexpected" },
	{ "{{.A", "unexpected" },
	{ "{{.A}", "unexpected" },
	{ "{{end}}", "unexpected {{end}}" },
	{ "{{else}}", "unexpected {{else" },
	{ "{{if .A}}", "{{end}} is missing" },
	{ "{{range .L}}x", "{{end}} is missing" },
	{ "{{if}}x{{end}}", "unexpected" },
	{ "{{nope .A}}", "function \"nope\" not defined" },
	{ "{{if .U}}{{nope}}{{end}}", "function \"nope\" not defined" },
	{ "{{.S.X}}", "can't evaluate field X" },
	{ "{{range .N}}{{end}}", "can't iterate" },
	{ "{{\"abc}}", "unterminated" },
	{ "{{$x}}", "undefined variable" },
	{ "{{index .L 9}}", "out of range" },
	{ "{{index .L -1}}", "out of range" },
	{ "{{slice .S 5 2}}", "out of range" },
	{ "{{slice .S 0 99999999}}", "out of range" },
	{ "{{len .N}}", "len of" },
	{ "{{join .N \",\"}}", "expected a list" },
	{ "{{split .S \"\"}}", "separator" },
	{ "{{printf \"%99999d\" 1}}", "bad format" },
	{ "{{printf \"%n\" 1}}", "unknown verb" },
	{ "{{printf \"%s\"}}", "missing argument" },
	{ "{{printf \"%*d\" 1 2}}", "bad format" },
	{ "{{(.A}}", "unclosed" },
	{ "{{.N 3}}", "non-function" },
	{ "{{lt .S .N}}", "incompatible" },
	{ "{{/* x", "unclosed comment" },
	{ "{{1e}}", "bad number" },
	{ "{{.A.}}", "<.>" },
	{ "{{json}}", "wrong number of arguments" },
};

static struct json_object *parsed(void)
{
	struct json_object *value = NULL;

	assert_int_equal(bh_image_json_parse(document, strlen(document), "document", &value, NULL), 0);
	return value;
}

static void test_good(void **state)
{
	struct json_object *value = parsed();

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(good); i++) {
		bh_auto_buf struct bh_buf out = { 0 };
		struct bh_error err = BH_ERROR_INIT;

		if (bh_template_render(good[i][0], value, &out, &err) < 0)
			fail_msg("%s: %s", good[i][0], err.message);
		bh_buf_reserve(&out, 0);
		if (!bh_streq(out.length ? out.data : "", good[i][1]))
			fail_msg("%s: '%s' instead of '%s'", good[i][0], out.data, good[i][1]);
	}
	json_object_put(value);
}

static void test_bad(void **state)
{
	struct json_object *value = parsed();

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(bad); i++) {
		bh_auto_buf struct bh_buf out = { 0 };
		struct bh_error err = BH_ERROR_INIT;

		if (bh_template_render(bad[i][0], value, &out, &err) == 0)
			fail_msg("%s: was taken", bad[i][0]);
		if (!bh_has_prefix(err.message, "template parsing error: ") || !strstr(err.message, bad[i][1]))
			fail_msg("%s: '%s' without '%s'", bad[i][0], err.message, bad[i][1]);
	}
	json_object_put(value);
}

static void test_bounds(void **state)
{
	struct json_object *value = parsed();
	bh_auto_buf struct bh_buf deep = { 0 }, out = { 0 };
	struct bh_error err = BH_ERROR_INIT;

	(void)state;
	for (int i = 0; i < 100000; i++)
		bh_buf_adds(&deep, "{{if .T}}");
	assert_int_equal(bh_template_render(deep.data, value, &out, &err), -EINVAL);
	bh_buf_reset(&deep);
	bh_buf_adds(&deep, "{{");
	for (int i = 0; i < 100000; i++)
		bh_buf_addc(&deep, '(');
	assert_int_equal(bh_template_render(deep.data, value, &out, &err), -EINVAL);
	bh_buf_reset(&deep);
	for (int i = 0; i < 30; i++)
		bh_buf_adds(&deep, "{{range $.L}}");
	for (int i = 0; i < 30; i++)
		bh_buf_adds(&deep, "{{end}}");
	assert_int_equal(bh_template_render(deep.data, value, &out, &err), -EINVAL);
	json_object_put(value);
}

static void expect_list(const char *format, const char *text)
{
	static const char *const headings[][2] = { { "ID", "IMAGE ID" }, { "Name", "NAMES" }, { NULL, NULL } };
	struct bh_template_list list = { .format = format, .table = "{{.ID}}\\t{{.Name}}", .headings = headings };
	bh_auto_json struct json_object *rows = NULL;
	bh_auto_buf struct bh_buf out = { 0 };
	struct bh_error err = BH_ERROR_INIT;
	static const char json[] = "[{\"ID\":\"1\",\"Name\":\"first\"},{\"ID\":\"22\",\"Name\":\"second\"}]";

	assert_int_equal(bh_image_json_parse(json, strlen(json), "rows", &rows, NULL), 0);
	if (bh_template_render_list(&list, rows, &out, &err) < 0)
		fail_msg("%s", err.message);
	assert_string_equal(out.data, text);
}

static void test_list(void **state)
{
	(void)state;
	expect_list(NULL, "IMAGE ID   NAMES\n1          first\n22         second\n");
	expect_list("table", "IMAGE ID   NAMES\n1          first\n22         second\n");
	expect_list("table {{.Name}}\\t{{.ID}}", "NAMES    IMAGE ID\nfirst    1\nsecond   22\n");
	expect_list("json", "{\"ID\":\"1\",\"Name\":\"first\"}\n{\"ID\":\"22\",\"Name\":\"second\"}\n");
	expect_list("{{.ID}}:{{.Name}}", "1:first\n22:second\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
