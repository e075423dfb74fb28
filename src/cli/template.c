/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A template is run while it is read: there is no tree. Control actions work with a flag "quiet": a branch that isn't
 * taken is still read to its {{end}}, without output; {{range}} reads its body again for each element, by setting the
 * cursor back. A body that is read quietly is checked for its words like any other, so errors don't depend on data.
 *
 * Values are json-c objects with a reference each; NULL is JSON's null. Bounds: nesting of actions and parentheses,
 * the number of steps (a range in a range multiplies them), and the size of the output.
 */
#include "cli/template.h"

#include "base/table.h"
#include "cli/template-internal.h"
#include "oci/image-json.h"

#include <ctype.h>
#include <errno.h>
#include <json-c/json.h>

#define DEPTH_MAX 32
#define STEPS_MAX 1000000
#define OUTPUT_MAX (64u << 20)
#define VARIABLES_MAX 64

struct variable {
	char name[64];
	struct json_object *value;
};

struct run {
	const char *p; /* the cursor */
	struct json_object *dot, *root;
	struct variable variables[VARIABLES_MAX];
	size_t variable_count;
	struct bh_buf *out;
	struct bh_error *err;
	bool quiet;
	unsigned depth;
	unsigned long steps;
	char keyword[16]; /* what ended the last body: "end", "else", or "" for the end of the text */
	bool trim_next;   /* the last action ended with -}} */
};

static int fail(struct run *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int fail(struct run *t, const char *format, ...)
{
	bh_auto_free char *words = NULL;
	va_list args;

	va_start(args, format);
	words = bh_vprintf(format, args);
	va_end(args);
	return bh_error_text(t->err, EINVAL, "template parsing error: %s", words);
}

static void skip_space(struct run *t)
{
	while (isspace((unsigned char)*t->p))
		t->p++;
}

static bool at_end_of_action(const struct run *t)
{
	return (t->p[0] == '}' && t->p[1] == '}') || (t->p[0] == '-' && t->p[1] == '}' && t->p[2] == '}');
}

static int expect_end(struct run *t)
{
	skip_space(t);
	if (!at_end_of_action(t))
		return fail(t, "unexpected %.20s in action", *t->p ? t->p : "end of template");
	t->trim_next = *t->p == '-';
	t->p += *t->p == '-' ? 3 : 2;
	return 0;
}

static size_t word_length(const char *p)
{
	size_t length = 0;

	while (isalnum((unsigned char)p[length]) || p[length] == '_')
		length++;
	return length;
}

/* One level of a field chain. A missing field is null: Go says "<no value>". */
static struct json_object *get_field(struct json_object *value, const char *name, size_t length)
{
	bh_auto_free char *key = bh_strndup(name, length);
	struct json_object *found = NULL;

	if (json_object_is_type(value, json_type_object))
		json_object_object_get_ex(value, key, &found);
	return found;
}

/* Reads ".a.b" behind a value that is owned; returns the field, owned. */
static int read_chain(struct run *t, struct json_object *value, struct json_object **ret_value)
{
	while (*t->p == '.') {
		size_t length = word_length(t->p + 1);
		struct json_object *next;

		if (!length) {
			json_object_put(value);
			return fail(t, "unexpected <.> in operand");
		}
		if (value && !t->quiet && !json_object_is_type(value, json_type_object)) {
			int r = fail(t, "can't evaluate field %.*s in a %s", (int)length, t->p + 1, json_type_to_name(json_object_get_type(value)));

			json_object_put(value);
			return r;
		}
		next = json_object_get(get_field(value, t->p + 1, length));
		json_object_put(value);
		value = next;
		t->p += 1 + length;
	}
	*ret_value = value;
	return 0;
}

static int read_escape(struct run *t, struct bh_buf *text)
{
	static const char from[] = "abfnrtv\\\"'", to[] = "\a\b\f\n\r\t\v\\\"'";
	const char *found = *t->p ? strchr(from, *t->p) : NULL;

	if (!found)
		return fail(t, "unknown escape sequence in a string");
	bh_buf_addc(text, to[found - from]);
	t->p++;
	return 0;
}

static int read_string(struct run *t, struct json_object **ret_value)
{
	bh_auto_buf struct bh_buf text = { 0 };
	char quote = *t->p++;

	bh_buf_reserve(&text, 0);
	while (*t->p && *t->p != quote) {
		int r = 0;

		if (*t->p == '\\' && quote == '"') {
			t->p++;
			r = read_escape(t, &text);
		} else {
			bh_buf_addc(&text, *t->p++);
		}
		if (r < 0)
			return r;
	}
	if (!*t->p)
		return fail(t, "unterminated quoted string");
	t->p++;
	*ret_value = json_object_new_string_len(text.data ? text.data : "", (int)text.length);
	return 0;
}

static int read_number(struct run *t, struct json_object **ret_value)
{
	char text[64], *end;
	size_t length = strspn(t->p, "+-0123456789.eExXabcdefABCDEF_");

	if (length >= sizeof text)
		return fail(t, "bad number syntax: %.20s", t->p);
	memcpy(text, t->p, length);
	text[length] = '\0';
	errno = 0;
	if (strpbrk(text, ".eE") && !strpbrk(text, "xX"))
		*ret_value = json_object_new_double(strtod(text, &end));
	else
		*ret_value = json_object_new_int64(strtoll(text, &end, 0));
	if (*end || errno) {
		json_object_put(*ret_value);
		*ret_value = NULL;
		return fail(t, "bad number syntax: \"%s\"", text);
	}
	t->p += length;
	return 0;
}

static struct variable *find_variable(struct run *t, const char *name, size_t length)
{
	for (size_t i = t->variable_count; i-- > 0;)
		if (strlen(t->variables[i].name) == length && memcmp(t->variables[i].name, name, length) == 0)
			return &t->variables[i];
	return NULL;
}

static int set_variable(struct run *t, const char *name, size_t length, struct json_object *value)
{
	struct variable *v;

	if (length >= sizeof t->variables[0].name || t->variable_count == VARIABLES_MAX)
		return fail(t, "too many variables, or too long a name");
	v = &t->variables[t->variable_count++];
	memcpy(v->name, name, length);
	v->name[length] = '\0';
	v->value = json_object_get(value);
	return 0;
}

static void drop_variables(struct run *t, size_t count)
{
	while (t->variable_count > count)
		json_object_put(t->variables[--t->variable_count].value);
}

static int read_variable(struct run *t, struct json_object **ret_value)
{
	size_t length = word_length(++t->p);
	struct variable *v = find_variable(t, t->p, length);

	if (!v && length)
		return fail(t, "undefined variable \"$%.*s\"", (int)length, t->p);
	t->p += length;
	return read_chain(t, json_object_get(v ? v->value : t->root), ret_value);
}

static int read_pipeline(struct run *t, struct json_object **ret_value);

/* true, false, nil */
static bool read_constant(struct run *t, struct json_object **ret_value)
{
	size_t length = word_length(t->p);
	bool is_true = length == 4 && memcmp(t->p, "true", 4) == 0, is_false = length == 5 && memcmp(t->p, "false", 5) == 0;

	if (!is_true && !is_false && !(length == 3 && memcmp(t->p, "nil", 3) == 0))
		return false;
	*ret_value = is_true || is_false ? json_object_new_boolean(is_true) : NULL;
	t->p += length;
	return true;
}

static bool starts_operand(const struct run *t)
{
	return *t->p && !at_end_of_action(t) && *t->p != '|' && *t->p != ')' && *t->p != ',' && *t->p != '=' && *t->p != ':';
}

static int read_function_call(struct run *t, bool with_arguments, struct json_object *piped, bool has_piped, struct json_object **ret_value);

/* A value that is owned by the caller. */
static int read_operand(struct run *t, struct json_object **ret_value)
{
	int r;

	if (++t->steps > STEPS_MAX)
		return fail(t, "the template needs too many steps");
	if (*t->p == '.') {
		if (!word_length(t->p + 1)) {
			t->p++;
			*ret_value = json_object_get(t->dot);
			return 0;
		}
		return read_chain(t, json_object_get(t->dot), ret_value);
	}
	if (*t->p == '$')
		return read_variable(t, ret_value);
	if (*t->p == '"' || *t->p == '`')
		return read_string(t, ret_value);
	if (isdigit((unsigned char)*t->p) || ((*t->p == '-' || *t->p == '+') && isdigit((unsigned char)t->p[1])))
		return read_number(t, ret_value);
	if (*t->p == '(') {
		struct json_object *value = NULL;

		if (t->depth >= DEPTH_MAX)
			return fail(t, "nested too deep");
		t->depth++;
		t->p++;
		r = read_pipeline(t, &value);
		t->depth--;
		skip_space(t);
		if (r == 0 && *t->p != ')') {
			json_object_put(value);
			r = fail(t, "unclosed left paren");
		}
		if (r < 0)
			return r;
		t->p++;
		return read_chain(t, value, ret_value);
	}
	if (read_constant(t, ret_value))
		return 0;
	if (word_length(t->p))
		return read_function_call(t, false, NULL, false, ret_value);
	return fail(t, "unexpected \"%.1s\" in operand", t->p);
}

/* A function's name, with its arguments if it stands first in a command; a piped value is the last argument. */
static int read_function_call(struct run *t, bool with_arguments, struct json_object *piped, bool has_piped, struct json_object **ret_value)
{
	struct json_object *arguments[BH_TEMPLATE_ARGUMENTS_MAX] = { 0 };
	size_t length = word_length(t->p), count = 0;
	bh_auto_free char *name = bh_strndup(t->p, length);
	const char *why = NULL;
	int r = 0;

	if (!bh_template_has_function(name))
		return fail(t, "function \"%s\" not defined", name);
	t->p += length;
	skip_space(t);
	while (r == 0 && with_arguments && starts_operand(t)) {
		if (count + 1 >= BH_TEMPLATE_ARGUMENTS_MAX)
			r = fail(t, "too many arguments for %s", name);
		else
			r = read_operand(t, &arguments[count]);
		if (r == 0)
			count++;
		skip_space(t);
	}
	if (r == 0 && has_piped)
		arguments[count++] = json_object_get(piped);
	if (r == 0 && t->quiet)
		*ret_value = NULL;
	else if (r == 0 && bh_template_call(name, arguments, count, ret_value, &why) < 0)
		r = fail(t, "error calling %s: %s", name, why);
	while (count)
		json_object_put(arguments[--count]);
	return r;
}

/* `.Label "key"`: a field that Docker's users call like a method is an object here, and its argument the key. */
static int read_key(struct run *t, struct json_object **value)
{
	struct json_object *key = NULL, *found = NULL;
	int r = read_operand(t, &key);

	if (r == 0 && json_object_is_type(*value, json_type_object) && json_object_is_type(key, json_type_string))
		json_object_object_get_ex(*value, json_object_get_string(key), &found);
	else if (r == 0 && !t->quiet)
		r = fail(t, "can't give argument to non-function");
	json_object_put(key);
	json_object_get(found);
	json_object_put(*value);
	*value = found;
	return r;
}

/* A command: an operand, or a function with arguments. */
static int read_command(struct run *t, struct json_object *piped, bool has_piped, struct json_object **ret_value)
{
	struct json_object *value = NULL;
	bool field;
	int r = 0;

	skip_space(t);
	field = *t->p == '.' || *t->p == '$';
	if (!isalpha((unsigned char)*t->p))
		r = read_operand(t, &value);
	else if (!read_constant(t, &value))
		return read_function_call(t, true, piped, has_piped, ret_value);
	skip_space(t);
	if (r == 0 && field && starts_operand(t))
		r = read_key(t, &value);
	skip_space(t);
	if (r == 0 && (has_piped || starts_operand(t)))
		r = fail(t, "can't give argument to non-function");
	if (r < 0) {
		json_object_put(value);
		return r;
	}
	*ret_value = value;
	return 0;
}

static int read_pipeline(struct run *t, struct json_object **ret_value)
{
	struct json_object *value = NULL, *next = NULL;
	int r = read_command(t, NULL, false, &value);

	for (skip_space(t); r == 0 && *t->p == '|'; skip_space(t)) {
		t->p++;
		next = NULL;
		r = read_command(t, value, true, &next);
		json_object_put(value);
		value = r == 0 ? next : NULL;
	}
	if (r == 0)
		*ret_value = value;
	return r;
}

/* "$x := " or "$x = " or "$k, $v := " in front of a pipeline. */
struct declaration {
	const char *names[2];
	size_t lengths[2], count;
	bool assign; /* "=": to a variable that is there */
};

static void read_declaration(struct run *t, struct declaration *d)
{
	const char *start = t->p;

	*d = (struct declaration){ 0 };
	for (skip_space(t); *t->p == '$' && d->count < 2; skip_space(t)) {
		d->names[d->count] = t->p + 1;
		d->lengths[d->count] = word_length(t->p + 1);
		t->p += 1 + d->lengths[d->count++];
		skip_space(t);
		if (*t->p == ':' && t->p[1] == '=') {
			t->p += 2;
			return;
		}
		if (*t->p == '=') {
			t->p++;
			d->assign = true;
			return;
		}
		if (*t->p != ',')
			break;
		t->p++;
	}
	d->count = 0; /* no declaration: a pipeline that begins with a variable */
	t->p = start;
}

static int declare(struct run *t, const struct declaration *d, struct json_object *value)
{
	struct variable *v;

	if (d->count != 1)
		return d->count ? fail(t, "too many declarations") : 0;
	if (!d->assign)
		return set_variable(t, d->names[0], d->lengths[0], value);
	v = find_variable(t, d->names[0], d->lengths[0]);
	if (!v)
		return fail(t, "undefined variable \"$%.*s\"", (int)d->lengths[0], d->names[0]);
	json_object_put(v->value);
	v->value = json_object_get(value);
	return 0;
}

static int read_body(struct run *t);

/* A body with its own dot and variables; quiet if it isn't wanted. */
static int run_body(struct run *t, struct json_object *dot, bool wanted)
{
	struct json_object *outer = t->dot;
	bool was_quiet = t->quiet;
	size_t count = t->variable_count;
	int r;

	t->dot = dot;
	t->quiet = was_quiet || !wanted;
	r = read_body(t);
	t->dot = outer;
	t->quiet = was_quiet;
	drop_variables(t, count);
	return r;
}

static bool keyword_is(const struct run *t, const char *word)
{
	return bh_streq(t->keyword, word);
}

static int check_closed(struct run *t)
{
	return keyword_is(t, "end") ? 0 : fail(t, *t->keyword ? "unexpected {{%s}}" : "unexpected EOF: {{end}} is missing%s", t->keyword);
}

static int run_if(struct run *t, bool with, bool wanted);

/* Behind {{else}}: the other branch, or another {{if}}. The cursor stands behind "else". */
static int run_else(struct run *t, struct json_object *dot, bool wanted)
{
	int r;

	skip_space(t);
	if (word_length(t->p) == 2 && memcmp(t->p, "if", 2) == 0) {
		t->p += 2;
		return run_if(t, false, wanted);
	}
	r = expect_end(t);
	if (r == 0)
		r = run_body(t, dot, wanted);
	return r < 0 ? r : check_closed(t);
}

static int run_if(struct run *t, bool with, bool wanted)
{
	struct json_object *value = NULL;
	size_t variables = t->variable_count;
	struct declaration d;
	bool was_quiet = t->quiet, is_true;
	int r;

	t->quiet = was_quiet || !wanted;
	read_declaration(t, &d);
	r = read_pipeline(t, &value);
	if (r == 0)
		r = declare(t, &d, value);
	if (r == 0)
		r = expect_end(t);
	t->quiet = was_quiet;
	is_true = bh_template_is_true(value);
	if (r == 0)
		r = run_body(t, with ? value : t->dot, wanted && is_true);
	if (r == 0)
		r = keyword_is(t, "else") ? run_else(t, t->dot, wanted && !is_true) : check_closed(t);
	drop_variables(t, variables);
	json_object_put(value);
	return r;
}

/* One turn of a range; the cursor is set to the body's start by the caller. */
static int run_turn(struct run *t, const struct declaration *d, struct json_object *key, struct json_object *value, bool wanted)
{
	size_t variables = t->variable_count;
	int r = 0;

	if (d->count == 2)
		r = set_variable(t, d->names[0], d->lengths[0], key);
	if (r == 0 && d->count)
		r = set_variable(t, d->names[d->count - 1], d->lengths[d->count - 1], value);
	if (r == 0)
		r = run_body(t, value, wanted);
	drop_variables(t, variables);
	return r;
}

static int compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Go visits the keys of a map in order. */
static int run_object(struct run *t, const struct declaration *d, struct json_object *object, const char *body, size_t *turns)
{
	bh_auto_strv struct bh_strv keys = { 0 };
	int r = 0;

	json_object_object_foreach(object, name, unused)
	{
		(void)unused;
		bh_strv_add(&keys, name);
	}
	if (keys.count)
		qsort(keys.items, keys.count, sizeof *keys.items, compare_keys);
	for (size_t i = 0; r == 0 && i < keys.count; i++, (*turns)++) {
		struct json_object *key = json_object_new_string(keys.items[i]), *value = NULL;

		json_object_object_get_ex(object, keys.items[i], &value);
		t->p = body;
		t->trim_next = body[-3] == '-';
		r = run_turn(t, d, key, value, true);
		json_object_put(key);
	}
	return r;
}

static int run_array(struct run *t, const struct declaration *d, struct json_object *array, const char *body, size_t *turns)
{
	size_t count = json_object_array_length(array);
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++, (*turns)++) {
		struct json_object *key = json_object_new_int64((int64_t)i);

		t->p = body;
		t->trim_next = body[-3] == '-';
		r = run_turn(t, d, key, json_object_array_get_idx(array, i), true);
		json_object_put(key);
	}
	return r;
}

static int run_range(struct run *t)
{
	struct json_object *value = NULL;
	struct declaration d;
	const char *body;
	size_t turns = 0;
	int r;

	read_declaration(t, &d);
	r = read_pipeline(t, &value);
	if (r == 0)
		r = expect_end(t);
	body = t->p;
	if (r == 0 && !t->quiet && json_object_is_type(value, json_type_array))
		r = run_array(t, &d, value, body, &turns);
	else if (r == 0 && !t->quiet && json_object_is_type(value, json_type_object))
		r = run_object(t, &d, value, body, &turns);
	else if (r == 0 && !t->quiet && value)
		r = fail(t, "range can't iterate over a %s", json_type_to_name(json_object_get_type(value)));
	if (r == 0 && !turns) /* nothing to visit: the body is only read past */
		r = run_turn(t, &d, NULL, NULL, false);
	if (r == 0)
		r = keyword_is(t, "else") ? run_else(t, t->dot, turns == 0) : check_closed(t);
	json_object_put(value);
	return r;
}

static int run_output(struct run *t)
{
	struct json_object *value = NULL;
	struct declaration d;
	int r;

	read_declaration(t, &d);
	r = read_pipeline(t, &value);
	if (r == 0)
		r = expect_end(t);
	if (r == 0)
		r = declare(t, &d, value);
	if (r == 0 && !t->quiet && !d.count)
		bh_template_print(value, t->out);
	if (r == 0 && t->out->length > OUTPUT_MAX)
		r = fail(t, "the output is too large");
	json_object_put(value);
	return r;
}

static int skip_comment(struct run *t)
{
	const char *end = strstr(t->p + 2, "*/");

	if (!end)
		return fail(t, "unclosed comment");
	t->p = end + 2;
	return expect_end(t);
}

/* One action; the cursor stands behind "{{". Returns 1 if it ends the body ({{end}}, {{else}}). */
static int run_action(struct run *t)
{
	size_t length;
	int r;

	if (t->p[0] == '-' && isspace((unsigned char)t->p[1]))
		t->p++;
	skip_space(t);
	if (t->p[0] == '/' && t->p[1] == '*')
		return skip_comment(t);
	length = word_length(t->p);
	snprintf(t->keyword, sizeof t->keyword, "%.*s", (int)BH_MIN(length, sizeof t->keyword - 1), t->p);
	if (keyword_is(t, "end") || keyword_is(t, "else")) {
		t->p += length;
		r = keyword_is(t, "end") ? expect_end(t) : 0;
		return r < 0 ? r : 1;
	}
	if (keyword_is(t, "if") || keyword_is(t, "with")) {
		t->p += length;
		return run_if(t, length == 4, true);
	}
	if (keyword_is(t, "range")) {
		t->p += length;
		return run_range(t);
	}
	return run_output(t);
}

/* Plain text up to the next action, with the spaces that trim markers take. */
static void copy_text(struct run *t)
{
	const char *end = strstr(t->p, "{{");
	const char *from = t->p, *to = end ? end : t->p + strlen(t->p);

	t->p = to;
	if (t->trim_next)
		while (from < to && isspace((unsigned char)*from))
			from++;
	t->trim_next = false;
	if (end && end[2] == '-' && isspace((unsigned char)end[3]))
		while (to > from && isspace((unsigned char)to[-1]))
			to--;
	if (!t->quiet)
		bh_buf_add(t->out, from, (size_t)(to - from));
}

/* Text and actions up to the {{end}} or {{else}} that closes the body, or the end of the template. */
static int read_body(struct run *t)
{
	int r = 0;

	if (t->depth >= DEPTH_MAX)
		return fail(t, "nested too deep");
	t->depth++;
	while (r == 0) {
		if (++t->steps > STEPS_MAX) {
			r = fail(t, "the template needs too many steps");
			break;
		}
		copy_text(t);
		if (!*t->p) {
			t->keyword[0] = '\0';
			break;
		}
		t->p += 2;
		r = run_action(t);
	}
	t->depth--;
	return r < 0 ? r : 0;
}

static int render(const char *format, struct json_object *value, bool quiet, struct bh_buf *out, struct bh_error *err)
{
	struct run t = { .p = format, .dot = value, .root = value, .out = out, .err = err, .quiet = quiet };
	int r = read_body(&t);

	if (r == 0 && *t.keyword)
		r = fail(&t, "unexpected {{%s}}", t.keyword);
	drop_variables(&t, 0);
	return r;
}

int bh_template_render(const char *format, struct json_object *value, struct bh_buf *out, struct bh_error *err)
{
	return render(format, value, false, out, err);
}

/* Go's template sees \t and \n in a --format of Docker as the characters they name. */
static char *unescape(const char *text)
{
	struct bh_buf b = { 0 };

	for (; *text; text++) {
		if (text[0] == '\\' && (text[1] == 't' || text[1] == 'n'))
			bh_buf_addc(&b, *++text == 't' ? '\t' : '\n');
		else
			bh_buf_addc(&b, *text);
	}
	return bh_buf_take(&b);
}

/* The heading of a table: the template itself, over an object that has the headings as values. */
static int render_heading(const struct bh_template_list *list, const char *format, struct bh_buf *line, struct bh_error *err)
{
	bh_auto_json struct json_object *headings = json_object_new_object();

	for (size_t i = 0; list->headings && list->headings[i][0]; i++)
		bh_image_json_add(headings, list->headings[i][0], list->headings[i][1]);
	/* A function may not like a heading where it would like a value: then the columns have no names. */
	if (render(format, headings, false, line, NULL) == 0)
		return 0;
	bh_buf_reset(line);
	for (const char *p = format; *p; p++)
		if (*p == '\t')
			bh_buf_addc(line, '\t');
	return render(format, NULL, true, line, err);
}

static int render_table(const struct bh_template_list *list, const char *format, struct json_object *rows, struct bh_buf *out, struct bh_error *err)
{
	bh_auto_buf struct bh_buf line = { 0 };
	bh_auto(bh_table_clear) struct bh_table table = { 0 };
	static const char *const no_headings[] = { NULL };
	size_t count = json_object_array_length(rows);

	for (size_t i = 0; i <= count; i++) {
		bh_auto_strv struct bh_strv cells = { 0 };
		int r;

		bh_buf_reset(&line);
		r = i == 0 ? render_heading(list, format, &line, err) : render(format, json_object_array_get_idx(rows, i - 1), false, &line, err);
		if (r < 0)
			return r;
		cells = bh_strv_split(line.data ? line.data : "", '\t');
		if (i == 0) {
			bh_table_init(&table, no_headings);
			table.columns = cells.count;
		}
		for (size_t c = 0; c < table.columns; c++)
			bh_table_add(&table, c < cells.count ? cells.items[c] : "");
	}
	bh_table_render(&table, !list->no_heading, out);
	return 0;
}

int bh_template_render_list(const struct bh_template_list *list, struct json_object *rows, struct bh_buf *out, struct bh_error *err)
{
	bool is_table = !list->format || !*list->format || bh_streq(list->format, "table") || bh_has_prefix(list->format, "table ");
	bh_auto_free char *format = NULL;
	size_t count = json_object_array_length(rows);

	if (is_table)
		format = unescape(list->format && list->format[0] && list->format[5] ? list->format + 6 : list->table);
	else
		format = bh_streq(list->format, "json") ? bh_strdup("{{json .}}") : unescape(list->format);
	if (is_table)
		return render_table(list, format, rows, out, err);
	if (!count) { /* errors must not depend on whether there is a row */
		bh_auto_buf struct bh_buf nothing = { 0 };

		return render(format, NULL, true, &nothing, err);
	}
	for (size_t i = 0; i < count; i++) {
		int r = render(format, json_object_array_get_idx(rows, i), false, out, err);

		if (r < 0)
			return r;
		bh_buf_addc(out, '\n');
	}
	return 0;
}
