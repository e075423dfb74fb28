/* SPDX-License-Identifier: Apache-2.0 */
/* Which monitor runs a microVM: the best that works here, or the one that was asked for. */
#include "microvm/microvm-internal.h"

#include <errno.h>
#include <stdlib.h>

/* The best first. */
static const struct bh_monitor *const monitors[] = { &bh_monitor_kvm, &bh_monitor_tcg };

static int find_by_name(const char *from, const char *name, const struct bh_monitor **ret_monitor, struct bh_error *err)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(monitors); i++)
		if (bh_streq(name, monitors[i]->name)) {
			int r = monitors[i]->check(err);

			if (r == 0)
				*ret_monitor = monitors[i];
			return r < 0 ? bh_error_prefix(err, "%s %s", from, name) : 0;
		}
	return bh_error_text(err, EINVAL, "%s %s: there are kvm, tcg and auto", from, name);
}

int bh_monitor_find(const char *wanted, const struct bh_monitor **ret_monitor, char **ret_why, struct bh_error *err)
{
	bh_auto(bh_microvm_defaults_clear) struct bh_microvm_defaults defaults = { 0 };
	struct bh_error why[BH_ARRAY_SIZE(monitors)];
	const char *from = "--accel";

	*ret_why = NULL;
	if (!wanted || !*wanted) {
		from = "BULKHEAD_ACCEL";
		wanted = getenv("BULKHEAD_ACCEL");
	}
	if (!wanted || !*wanted) {
		int r = bh_microvm_defaults_read(BH_MICROVM_CONFIG, &defaults, err);

		if (r < 0)
			return r;
		from = BH_MICROVM_CONFIG ": accel";
		wanted = defaults.accelerator;
	}
	if (wanted && !bh_streq(wanted, "auto"))
		return find_by_name(from, wanted, ret_monitor, err);
	for (size_t i = 0; i < BH_ARRAY_SIZE(monitors); i++) {
		why[i] = (struct bh_error)BH_ERROR_INIT;
		if (monitors[i]->check(&why[i]) < 0)
			continue;
		*ret_monitor = monitors[i];
		*ret_why = i ? bh_strdup(why[0].message) : NULL;
		return 0;
	}
	return bh_error_text(err, ENODEV, "no microVM can run here: %s", why[0].message);
}

int bh_microvm_accelerator(const char *wanted, const char **ret_name, char **ret_why, struct bh_error *err)
{
	const struct bh_monitor *monitor = NULL;
	int r = bh_monitor_find(wanted, &monitor, ret_why, err);

	if (monitor)
		*ret_name = monitor->name;
	return r;
}
