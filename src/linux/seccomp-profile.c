/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Docker's seccomp profiles (--security-opt seccomp=FILE).
 *
 * The format is that of linux.seccomp with three additions: `archMap` instead of `architectures`, the old `name` beside
 * `names`, and `includes`/`excludes` on each rule. The file comes from outside: its size, its depth and the number of rules
 * and names are bounded, and every value is checked for its type. An error names the place in the file.
 */
#include "linux/seccomp-internal.h"

#include <errno.h>
#include <json-c/json.h>
#include <sys/utsname.h>

#define PROFILE_DEPTH 16
#define RULES_MAX 4096
#define NAMES_MAX 16384 /* over all rules */
#define ARGS_MAX 64     /* of one rule */

#define OWN_ARCHITECTURE "SCMP_ARCH_X86_64"
#define OWN_GO_ARCHITECTURE "amd64"

struct parser {
	uint64_t capabilities;
	unsigned long kernel_version, kernel_patch_level; /* "6.1" */
	size_t names;
	struct bh_error *err;
};

__attribute__((format(printf, 2, 3))) static int bad(struct parser *p, const char *format, ...)
{
	va_list args;
	bh_auto_free char *text = NULL;

	va_start(args, format);
	text = bh_vprintf(format, args);
	va_end(args);
	return bh_error_text(p->err, EINVAL, "seccomp profile: %s", text);
}

/* A member of the wanted type; NULL if it's missing or null. -EINVAL if it has another type. */
static int get(struct parser *p, json_object *object, const char *key, json_type type, json_object **ret_value)
{
	json_object *value = NULL;

	*ret_value = NULL;
	if (!json_object_object_get_ex(object, key, &value) || !value)
		return 0;
	if (!json_object_is_type(value, type))
		return bad(p, "'%s' must be %s", key, json_type_to_name(type));
	*ret_value = value;
	return 0;
}

static int get_string(struct parser *p, json_object *object, const char *key, const char **ret_text)
{
	json_object *value;
	int r = get(p, object, key, json_type_string, &value);

	if (r < 0)
		return r;
	*ret_text = value ? json_object_get_string(value) : NULL;
	/* A NUL inside would make two readers see two names. */
	if (value && strlen(*ret_text) != (size_t)json_object_get_string_len(value))
		return bad(p, "'%s' has a NUL character", key);
	return 0;
}

static int get_number(struct parser *p, json_object *object, const char *key, uint64_t max, bool *ret_set, uint64_t *ret_value)
{
	json_object *value;
	uint64_t number;
	int r = get(p, object, key, json_type_int, &value);

	*ret_set = false;
	if (r < 0 || !value)
		return r;
	number = json_object_get_uint64(value);
	if (json_object_get_int64(value) < 0 || number > max)
		return bad(p, "'%s' is out of range", key);
	*ret_set = true;
	*ret_value = number;
	return 0;
}

static int get_strings(struct parser *p, json_object *object, const char *key, struct bh_strv *out)
{
	json_object *list;
	int r = get(p, object, key, json_type_array, &list);

	for (size_t i = 0; r == 0 && list && i < json_object_array_length(list); i++) {
		json_object *item = json_object_array_get_idx(list, i);

		if (!json_object_is_type(item, json_type_string) || strlen(json_object_get_string(item)) != (size_t)json_object_get_string_len(item))
			return bad(p, "'%s' must be a list of strings", key);
		if (++p->names > NAMES_MAX)
			return bad(p, "more than %d names", NAMES_MAX);
		bh_strv_add(out, json_object_get_string(item));
	}
	return r;
}

/* "4.8": is this kernel at least that? */
static int kernel_is_at_least(struct parser *p, const char *text, bool *ret_holds)
{
	const char *dot = strchr(text, '.');
	bh_auto_free char *first = dot ? bh_strndup(text, (size_t)(dot - text)) : NULL;
	uint64_t version, patch_level;

	if (!dot || bh_parse_uint(first, 255, &version) < 0 || bh_parse_uint(dot + 1, 255, &patch_level) < 0)
		return bad(p, "minKernel '%s' must be VERSION.MAJOR", text);
	*ret_holds = p->kernel_version > version || (p->kernel_version == version && p->kernel_patch_level >= patch_level);
	return 0;
}

static bool has_capability(const struct parser *p, const char *name)
{
	int number = bh_capability_number(name);

	return number >= 0 && (p->capabilities >> number & 1);
}

/* includes: all must hold. excludes: any is enough. */
static int filter_holds(struct parser *p, json_object *rule, bool include, bool *ret_keep)
{
	bh_auto_strv struct bh_strv arches = { 0 }, caps = { 0 };
	json_object *filter;
	const char *kernel = NULL;
	bool any = false, all = true, holds = false;
	int r = get(p, rule, include ? "includes" : "excludes", json_type_object, &filter);

	*ret_keep = true;
	if (r < 0 || !filter)
		return r;
	r = get_strings(p, filter, "arches", &arches);
	if (r == 0)
		r = get_strings(p, filter, "caps", &caps);
	if (r == 0)
		r = get_string(p, filter, "minKernel", &kernel);
	if (r == 0 && kernel && *kernel)
		r = kernel_is_at_least(p, kernel, &holds);
	if (r < 0)
		return r;
	if (kernel && *kernel) {
		any |= holds;
		all &= holds;
	}
	if (arches.count) {
		any |= bh_strv_contains(&arches, OWN_GO_ARCHITECTURE);
		all &= bh_strv_contains(&arches, OWN_GO_ARCHITECTURE);
	}
	for (size_t i = 0; i < caps.count; i++) {
		any |= has_capability(p, caps.items[i]);
		all &= has_capability(p, caps.items[i]);
	}
	*ret_keep = include ? all : !any;
	return 0;
}

static int parse_argument(struct parser *p, json_object *object, struct bh_spec_seccomp_arg *ret)
{
	struct bh_spec_seccomp_arg arg = { 0 };
	const char *op = NULL;
	uint64_t index = 0;
	bool set;
	int r;

	if (!json_object_is_type(object, json_type_object))
		return bad(p, "'args' must be a list of objects");
	r = get_number(p, object, "index", BH_SECCOMP_ARGS - 1, &set, &index);
	if (r == 0)
		r = get_number(p, object, "value", UINT64_MAX, &set, &arg.value);
	if (r == 0)
		r = get_number(p, object, "valueTwo", UINT64_MAX, &set, &arg.value_two);
	if (r == 0)
		r = get_string(p, object, "op", &op);
	if (r < 0)
		return r;
	arg.index = (uint32_t)index;
	arg.op = bh_strdup(op ? op : "");
	*ret = arg;
	return 0;
}

static int parse_arguments(struct parser *p, json_object *object, struct bh_spec_seccomp_rule *rule)
{
	json_object *list;
	size_t count;
	int r = get(p, object, "args", json_type_array, &list);

	if (r < 0 || !list)
		return r;
	count = json_object_array_length(list);
	if (count > ARGS_MAX)
		return bad(p, "a rule with more than %d conditions", ARGS_MAX);
	rule->args = bh_calloc(count, sizeof *rule->args);
	for (; r == 0 && rule->arg_count < count; rule->arg_count += r == 0)
		r = parse_argument(p, json_object_array_get_idx(list, rule->arg_count), &rule->args[rule->arg_count]);
	return r;
}

/* Fills the next rule; *ret_keep says whether it holds here. What it filled is the caller's to clear in any case. */
static int parse_rule(struct parser *p, json_object *object, struct bh_spec_seccomp_rule *rule, bool *ret_keep)
{
	const char *name = NULL, *action = NULL;
	uint64_t errnum = 0;
	bool keep = true;
	int r;

	*ret_keep = false;
	if (!json_object_is_type(object, json_type_object))
		return bad(p, "'syscalls' must be a list of objects");
	r = get_strings(p, object, "names", &rule->names);
	if (r == 0)
		r = get_string(p, object, "name", &name);
	if (r == 0 && name && *name && rule->names.count)
		r = bad(p, "a rule has both 'name' and 'names'");
	if (r == 0 && name && *name)
		bh_strv_add(&rule->names, name);
	if (r == 0)
		r = get_string(p, object, "action", &action);
	if (r == 0)
		r = get_number(p, object, "errnoRet", UINT32_MAX, &rule->errno_set, &errnum);
	if (r == 0)
		r = parse_arguments(p, object, rule);
	if (r < 0)
		return r;
	rule->action = bh_strdup(action ? action : "");
	rule->errno_ret = (uint32_t)errnum;
	r = filter_holds(p, object, false, &keep);
	if (r == 0 && keep)
		r = filter_holds(p, object, true, &keep);
	*ret_keep = r == 0 && keep;
	return r;
}

static void clear_rule(struct bh_spec_seccomp_rule *rule)
{
	bh_strv_clear(&rule->names);
	free(rule->action);
	for (size_t i = 0; i < rule->arg_count; i++)
		free(rule->args[i].op);
	free(rule->args);
	*rule = (struct bh_spec_seccomp_rule){ 0 };
}

void bh_seccomp_spec_clear(struct bh_spec_seccomp *seccomp)
{
	for (size_t i = 0; i < seccomp->rule_count; i++)
		clear_rule(&seccomp->rules[i]);
	free(seccomp->rules);
	free(seccomp->default_action);
	free(seccomp->listener_path);
	free(seccomp->listener_metadata);
	bh_strv_clear(&seccomp->architectures);
	bh_strv_clear(&seccomp->flags);
	*seccomp = (struct bh_spec_seccomp){ 0 };
}

static int parse_rules(struct parser *p, json_object *root, struct bh_spec_seccomp *seccomp)
{
	json_object *list;
	size_t count;
	int r = get(p, root, "syscalls", json_type_array, &list);

	if (r < 0 || !list)
		return r;
	count = json_object_array_length(list);
	if (count > RULES_MAX)
		return bad(p, "more than %d rules", RULES_MAX);
	seccomp->rules = bh_calloc(count, sizeof *seccomp->rules);
	for (size_t i = 0; r == 0 && i < count; i++) {
		struct bh_spec_seccomp_rule *rule = &seccomp->rules[seccomp->rule_count];
		bool keep = false;

		r = parse_rule(p, json_object_array_get_idx(list, i), rule, &keep);
		if (r == 0 && keep)
			seccomp->rule_count++;
		else
			clear_rule(rule);
	}
	return r;
}

static int parse_architectures(struct parser *p, json_object *root, struct bh_spec_seccomp *seccomp)
{
	json_object *map = NULL;
	int r = get_strings(p, root, "architectures", &seccomp->architectures);

	if (r == 0)
		r = get(p, root, "archMap", json_type_array, &map);
	if (r < 0 || !map || json_object_array_length(map) == 0)
		return r;
	if (seccomp->architectures.count)
		return bad(p, "both 'architectures' and 'archMap' are given");
	for (size_t i = 0; i < json_object_array_length(map); i++) {
		json_object *entry = json_object_array_get_idx(map, i);
		const char *name = NULL;

		if (!json_object_is_type(entry, json_type_object))
			return bad(p, "'archMap' must be a list of objects");
		r = get_string(p, entry, "architecture", &name);
		if (r < 0)
			return r;
		if (!bh_streq(name, OWN_ARCHITECTURE))
			continue;
		bh_strv_add(&seccomp->architectures, name);
		return get_strings(p, entry, "subArchitectures", &seccomp->architectures);
	}
	return 0;
}

static int parse_profile(struct parser *p, json_object *root, struct bh_spec_seccomp *seccomp)
{
	const char *action = NULL, *listener = NULL, *metadata = NULL;
	uint64_t errnum = 0;
	int r;

	if (!json_object_is_type(root, json_type_object))
		return bad(p, "not an object");
	r = get_string(p, root, "defaultAction", &action);
	if (r == 0)
		r = get_number(p, root, "defaultErrnoRet", UINT32_MAX, &seccomp->default_errno_set, &errnum);
	if (r == 0)
		r = get_strings(p, root, "flags", &seccomp->flags);
	if (r == 0)
		r = get_string(p, root, "listenerPath", &listener);
	if (r == 0)
		r = get_string(p, root, "listenerMetadata", &metadata);
	if (r == 0)
		r = parse_architectures(p, root, seccomp);
	if (r == 0)
		r = parse_rules(p, root, seccomp);
	if (r < 0)
		return r;
	/* Nothing at all means no filter, as Docker reads it. */
	if (!action && seccomp->rule_count == 0)
		return 0;
	if (!action)
		return bad(p, "'defaultAction' is missing");
	seccomp->source = BH_SECCOMP_RULES;
	seccomp->default_action = bh_strdup(action);
	seccomp->default_errno_ret = (uint32_t)errnum;
	seccomp->listener_path = bh_strdup(listener);
	seccomp->listener_metadata = bh_strdup(metadata);
	return 0;
}

static json_object *read_json(struct parser *p, const char *json, size_t length)
{
	json_tokener *tokener = json_tokener_new_ex(PROFILE_DEPTH);
	json_object *root = NULL;

	if (tokener) {
		json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
		root = json_tokener_parse_ex(tokener, json, (int)length);
		if (json_tokener_get_error(tokener) == json_tokener_continue)
			root = json_tokener_parse_ex(tokener, "", 1);
	}
	if (!root)
		bad(p, "%s at byte %zu", tokener ? json_tokener_error_desc(json_tokener_get_error(tokener)) : "out of memory",
		    tokener ? json_tokener_get_parse_end(tokener) : 0);
	json_tokener_free(tokener);
	return root;
}

int bh_seccomp_profile_parse(const char *json, size_t length, uint64_t capabilities, struct bh_spec_seccomp *ret_seccomp, struct bh_error *err)
{
	struct parser p = { .capabilities = capabilities, .err = err };
	struct bh_spec_seccomp seccomp = { 0 };
	struct utsname uts;
	json_object *root;
	int r;

	if (length > BH_SECCOMP_PROFILE_MAX)
		return bad(&p, "more than %u bytes", BH_SECCOMP_PROFILE_MAX);
	if (uname(&uts) == 0)
		(void)sscanf(uts.release, "%lu.%lu", &p.kernel_version, &p.kernel_patch_level);
	root = read_json(&p, json, length);
	if (!root)
		return -EINVAL;
	r = parse_profile(&p, root, &seccomp);
	json_object_put(root);
	if (r < 0) {
		bh_seccomp_spec_clear(&seccomp);
		return r;
	}
	*ret_seccomp = seccomp;
	return 0;
}
