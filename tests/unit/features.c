/* SPDX-License-Identifier: Apache-2.0 */
/* The features document: valid JSON, complete, and each word of it is really understood. */
#include "container/container.h"

#include "linux/mount.h"
#include "linux/seccomp.h"

#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static json_object *at(json_object *object, const char *first, ...)
{
	va_list names;

	va_start(names, first);
	for (const char *name = first; name; name = va_arg(names, const char *))
		if (!json_object_object_get_ex(object, name, &object))
			fail_msg("%s is missing", name);
	va_end(names);
	return object;
}

static bool has_word(json_object *array, const char *word)
{
	for (size_t i = 0; i < json_object_array_length(array); i++)
		if (bh_streq(json_object_get_string(json_object_array_get_idx(array, i)), word))
			return true;
	return false;
}

static json_object *features(void)
{
	bh_auto_buf struct bh_buf text = { 0 };
	json_object *object;

	bh_spec_features_write(&text);
	object = json_tokener_parse(text.data);
	assert_non_null(object);
	return object;
}

static void test_document(void **state)
{
	json_object *f = features();

	(void)state;
	assert_string_equal(json_object_get_string(at(f, "ociVersionMin", NULL)), "1.0.0");
	assert_string_equal(json_object_get_string(at(f, "ociVersionMax", NULL)), BH_SPEC_VERSION_MAX);
	assert_int_equal(json_object_array_length(at(f, "hooks", NULL)), 6);
	assert_int_equal(json_object_array_length(at(f, "linux", "namespaces", NULL)), BH_NS_COUNT);
	assert_true(has_word(at(f, "linux", "capabilities", NULL), "CAP_CHECKPOINT_RESTORE"));
	assert_true(json_object_get_boolean(at(f, "linux", "mountExtensions", "idmap", "enabled", NULL)));
	assert_true(json_object_get_boolean(at(f, "linux", "netDevices", "enabled", NULL)));
	assert_true(json_object_get_boolean(at(f, "linux", "intelRdt", "monitoring", NULL)));
	assert_true(has_word(at(f, "linux", "memoryPolicy", "modes", NULL), "MPOL_INTERLEAVE"));
	assert_true(has_word(at(f, "linux", "seccomp", "archs", NULL), "SCMP_ARCH_AARCH64"));
	assert_true(has_word(at(f, "linux", "seccomp", "supportedFlags", NULL), "SECCOMP_FILTER_FLAG_LOG"));
	assert_true(json_object_array_length(at(f, "potentiallyUnsafeConfigAnnotations", NULL)) > 0);
	json_object_put(f);
}

/* The options that runc's document lists (runtime-spec features.md has them as its example). */
static const char *const known_options[] = {
	"async",          "atime",        "bind",          "defaults",   "dev",         "diratime",   "dirsync",     "exec",       "iversion",
	"lazytime",       "loud",         "mand",          "noatime",    "nodev",       "nodiratime", "noexec",      "noiversion", "nolazytime",
	"nomand",         "norelatime",   "nostrictatime", "nosuid",     "nosymfollow", "private",    "ratime",      "rbind",      "rdev",
	"rdiratime",      "relatime",     "remount",       "rexec",      "rnoatime",    "rnodev",     "rnodiratime", "rnoexec",    "rnorelatime",
	"rnostrictatime", "rnosuid",      "rnosymfollow",  "ro",         "rprivate",    "rrelatime",  "rro",         "rrw",        "rshared",
	"rslave",         "rstrictatime", "rsuid",         "rsymfollow", "runbindable", "rw",         "shared",      "silent",     "slave",
	"strictatime",    "suid",         "symfollow",     "sync",       "tmpcopyup",   "unbindable", "idmap",       "ridmap",
};

static void test_mount_options(void **state)
{
	json_object *f = features(), *options = at(f, "mountOptions", NULL);

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(known_options); i++)
		if (!has_word(options, known_options[i]))
			fail_msg("%s is missing", known_options[i]);
	for (size_t i = 0; i < json_object_array_length(options); i++) {
		bh_auto_strv struct bh_strv words = { 0 };
		struct bh_mount_options parsed;

		bh_strv_add(&words, json_object_get_string(json_object_array_get_idx(options, i)));
		bh_mount_options_parse(&words, &parsed);
		assert_int_equal(parsed.data.count, 0);
		bh_mount_options_clear(&parsed);
	}
	json_object_put(f);
}

static void test_seccomp_words(void **state)
{
	json_object *f = features(), *actions = at(f, "linux", "seccomp", "actions", NULL), *archs = at(f, "linux", "seccomp", "archs", NULL);
	struct bh_spec_seccomp spec = { .source = BH_SECCOMP_RULES };

	(void)state;
	for (size_t i = 0; i < json_object_array_length(archs); i++)
		bh_strv_add(&spec.architectures, json_object_get_string(json_object_array_get_idx(archs, i)));
	for (size_t i = 0; i < json_object_array_length(actions); i++) {
		struct bh_seccomp_filter filter = { 0 };

		spec.default_action = (char *)(uintptr_t)json_object_get_string(json_object_array_get_idx(actions, i));
		if (!bh_streq(spec.default_action, "SCMP_ACT_NOTIFY"))
			assert_int_equal(bh_seccomp_compile(&spec, 0, &filter, NULL), 0);
		bh_seccomp_filter_clear(&filter);
	}
	bh_strv_clear(&spec.architectures);
	json_object_put(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_document),
		cmocka_unit_test(test_mount_options),
		cmocka_unit_test(test_seccomp_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
