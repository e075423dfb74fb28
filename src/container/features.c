/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The features document: the words come from the tables that understand them, so it can't promise what isn't there. It
 * says what this program knows, not what the machine has.
 */
#include "container/container-internal.h"

#define INDENT "    "

static const char *namespace_name(size_t index)
{
	return index < BH_NS_COUNT ? bh_namespaces[index].name : NULL;
}

static const char *capability_name(size_t index)
{
	return bh_capability_name((int)index);
}

static const char *action(size_t index)
{
	return bh_seccomp_word(BH_SECCOMP_ACTIONS, index);
}

static const char *operation(size_t index)
{
	return bh_seccomp_word(BH_SECCOMP_OPERATORS, index);
}

static const char *architecture(size_t index)
{
	return bh_seccomp_word(BH_SECCOMP_ARCHITECTURES, index);
}

static const char *flag(size_t index)
{
	return bh_seccomp_word(BH_SECCOMP_FLAGS, index);
}

static const char *hook(size_t index)
{
	/* In the order in which they are called. */
	static const char *const names[] = { "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop" };

	return index < BH_ARRAY_SIZE(names) ? names[index] : NULL;
}

/* Annotations of a configuration that change what happens outside of the container. */
static const char *unsafe_annotation(size_t index)
{
	static const char *const names[] = { "io.bulkhead.", "org.systemd.property.", BH_KEEP_GROUPS };

	return index < BH_ARRAY_SIZE(names) ? names[index] : NULL;
}

static void begin_line(struct bh_buf *out, int depth)
{
	if (out->length && out->data[out->length - 1] != '{' && out->data[out->length - 1] != '[')
		bh_buf_addc(out, ',');
	bh_buf_addc(out, '\n');
	for (int i = 0; i < depth; i++)
		bh_buf_adds(out, INDENT);
}

static void add_key(struct bh_buf *out, int depth, const char *key)
{
	begin_line(out, depth);
	bh_buf_add_json(out, key);
	bh_buf_adds(out, ": ");
}

static void add_text(struct bh_buf *out, int depth, const char *key, const char *value)
{
	add_key(out, depth, key);
	bh_buf_add_json(out, value);
}

static void add_true(struct bh_buf *out, int depth, const char *key)
{
	add_key(out, depth, key);
	bh_buf_adds(out, "true");
}

static void begin(struct bh_buf *out, int depth, const char *key)
{
	add_key(out, depth, key);
	bh_buf_addc(out, '{');
}

static void end(struct bh_buf *out, int depth, char bracket)
{
	bh_buf_addc(out, '\n');
	for (int i = 0; i < depth; i++)
		bh_buf_adds(out, INDENT);
	bh_buf_addc(out, bracket);
}

static void add_words(struct bh_buf *out, int depth, const char *key, const char *(*word)(size_t index))
{
	add_key(out, depth, key);
	bh_buf_addc(out, '[');
	for (size_t i = 0; word(i); i++) {
		begin_line(out, depth + 1);
		bh_buf_add_json(out, word(i));
	}
	end(out, depth, ']');
}

static void add_enabled(struct bh_buf *out, int depth, const char *key)
{
	begin(out, depth, key);
	add_true(out, depth + 1, "enabled");
	end(out, depth, '}');
}

static void add_cgroup(struct bh_buf *out, int depth)
{
	static const char *const kinds[] = { "v1", "v2", "systemd", "systemdUser", "rdma" };

	begin(out, depth, "cgroup");
	for (size_t i = 0; i < BH_ARRAY_SIZE(kinds); i++)
		add_true(out, depth + 1, kinds[i]);
	end(out, depth, '}');
}

static void add_seccomp(struct bh_buf *out, int depth)
{
	begin(out, depth, "seccomp");
	add_true(out, depth + 1, "enabled");
	add_words(out, depth + 1, "actions", action);
	add_words(out, depth + 1, "operators", operation);
	add_words(out, depth + 1, "archs", architecture);
	add_words(out, depth + 1, "knownFlags", flag);
	add_words(out, depth + 1, "supportedFlags", flag);
	end(out, depth, '}');
}

static void add_linux(struct bh_buf *out)
{
	begin(out, 1, "linux");
	add_words(out, 2, "namespaces", namespace_name);
	add_words(out, 2, "capabilities", capability_name);
	add_cgroup(out, 2);
	add_seccomp(out, 2);
	add_enabled(out, 2, "apparmor");
	add_enabled(out, 2, "selinux");
	begin(out, 2, "intelRdt");
	add_true(out, 3, "enabled");
	add_true(out, 3, "schemata");
	add_true(out, 3, "monitoring");
	end(out, 2, '}');
	begin(out, 2, "memoryPolicy");
	add_words(out, 3, "modes", bh_memory_policy_mode);
	add_words(out, 3, "flags", bh_memory_policy_flag);
	end(out, 2, '}');
	begin(out, 2, "mountExtensions");
	add_enabled(out, 3, "idmap");
	end(out, 2, '}');
	add_enabled(out, 2, "netDevices");
	end(out, 1, '}');
}

void bh_spec_features_write(struct bh_buf *out)
{
	bh_buf_addc(out, '{');
	add_text(out, 1, "ociVersionMin", "1.0.0");
	add_text(out, 1, "ociVersionMax", BH_SPEC_VERSION_MAX);
	add_words(out, 1, "hooks", hook);
	add_words(out, 1, "mountOptions", bh_mount_option_name);
	add_linux(out);
	begin(out, 1, "annotations");
	add_text(out, 2, "io.bulkhead.isolation", "container,vm"); /* values of this annotation of a configuration (src/bundle/microvm.c) */
	add_text(out, 2, "io.bulkhead.version", BH_VERSION);
	end(out, 1, '}');
	add_words(out, 1, "potentiallyUnsafeConfigAnnotations", unsafe_annotation);
	end(out, 0, '}');
	bh_buf_addc(out, '\n');
}
