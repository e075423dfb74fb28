/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a configuration means beyond its words: rules that runc adds to every container, and which the callers' own
 * configurations count on.
 *
 * Devices (runtime-spec config-linux.md "Default Devices"): everything is denied before the first rule of the
 * configuration, and the default devices, pseudo terminals and the making of nodes are allowed after its last one. Without
 * that a configuration that says only "deny all" would have no terminal.
 */
#include "bundle/bundle-internal.h"

static const struct bh_spec_device_rule nothing = { false, 'a', -1, -1, "rwm" };

static const struct bh_spec_device_rule always[] = {
	{ true, 'c', -1, -1, "m" },    { true, 'b', -1, -1, "m" }, { true, 'c', 1, 3, "rwm" }, /* null */
	{ true, 'c', 1, 8, "rwm" },                                                            /* random */
	{ true, 'c', 1, 7, "rwm" },                                                            /* full */
	{ true, 'c', 5, 0, "rwm" },                                                            /* tty */
	{ true, 'c', 1, 5, "rwm" },                                                            /* zero */
	{ true, 'c', 1, 9, "rwm" },                                                            /* urandom */
	{ true, 'c', 136, -1, "rwm" },                                                         /* pts */
	{ true, 'c', 5, 2, "rwm" },                                                            /* ptmx */
};

static bool allows_all(const struct bh_spec_device_rule *rule)
{
	return rule->allow && rule->type == 'a' && rule->major < 0 && rule->minor < 0 && strlen(rule->access) == 3;
}

static void complete_devices(struct bh_spec_resources *resources)
{
	size_t count = resources->device_count, more = BH_ARRAY_SIZE(always);
	struct bh_spec_device_rule *rules;

	/* A container that may use all devices needs no list, and no filter. */
	if (count && allows_all(&resources->devices[count - 1]))
		return;
	rules = bh_calloc(count + more + 1, sizeof *rules);
	rules[0] = nothing;
	if (count)
		memcpy(rules + 1, resources->devices, count * sizeof *rules);
	memcpy(rules + 1 + count, always, sizeof always);
	free(resources->devices);
	resources->devices = rules;
	resources->device_count = count + more + 1;
}

void bh_bundle_complete_spec(struct bh_spec *spec)
{
	complete_devices(&spec->resources);
}
