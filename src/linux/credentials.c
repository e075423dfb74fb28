/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/credentials.h"

#include "base/memory.h"
#include "base/string.h"
#include "oci/spec.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

int bh_capabilities_set(const struct bh_capability_sets *sets, struct bh_error *err)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	for (int i = 0; i < 2; i++) {
		data[i].effective = (uint32_t)(sets->effective >> (32 * i));
		data[i].permitted = (uint32_t)(sets->permitted >> (32 * i));
		data[i].inheritable = (uint32_t)(sets->inheritable >> (32 * i));
	}
	if (syscall(SYS_capset, &header, data) < 0)
		return bh_error_set(err, errno, "set the capabilities");
	return 0;
}

uint64_t bh_capabilities_permitted(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	if (syscall(SYS_capget, &header, data) < 0)
		return 0;
	return (uint64_t)data[1].permitted << 32 | data[0].permitted;
}

#define CAPABILITY(name) ((uint64_t)1 << CAP_##name)

int bh_capabilities_keep_for_files(struct bh_error *err)
{
	static const uint64_t files = CAPABILITY(CHOWN) | CAPABILITY(DAC_OVERRIDE) | CAPABILITY(DAC_READ_SEARCH) | CAPABILITY(FOWNER) |
				      CAPABILITY(FSETID) | CAPABILITY(MKNOD) | CAPABILITY(SETFCAP);
	uint64_t kept = bh_capabilities_permitted() & files;
	const struct bh_capability_sets sets = { .effective = kept, .permitted = kept };

	return bh_capabilities_set(&sets, err);
}

int bh_capabilities_bound(uint64_t keep, struct bh_error *err)
{
	/* One call for each: the kernel has no other way. EINVAL ends the list of those it knows. */
	for (int i = 0; i < 64; i++) {
		if (keep >> i & 1)
			continue;
		if (prctl(PR_CAPBSET_DROP, i, 0, 0, 0) == 0)
			continue;
		if (errno == EINVAL)
			break;
		return bh_error_set(err, errno, "drop %s from the bounding set", bh_capability_name(i) ? bh_capability_name(i) : "a capability");
	}
	return 0;
}

int bh_capabilities_ambient(uint64_t ambient, struct bh_error *err)
{
	for (int i = 0; i < 64; i++)
		if (ambient >> i & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) < 0)
			return bh_error_set(err, errno, "raise the ambient capability %s", bh_capability_name(i));
	return 0;
}

static const struct {
	const char *name;
	int number;
} limits[] = {
	{ "RLIMIT_AS", RLIMIT_AS },           { "RLIMIT_CORE", RLIMIT_CORE },         { "RLIMIT_CPU", RLIMIT_CPU },
	{ "RLIMIT_DATA", RLIMIT_DATA },       { "RLIMIT_FSIZE", RLIMIT_FSIZE },       { "RLIMIT_LOCKS", RLIMIT_LOCKS },
	{ "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK }, { "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE }, { "RLIMIT_NICE", RLIMIT_NICE },
	{ "RLIMIT_NOFILE", RLIMIT_NOFILE },   { "RLIMIT_NPROC", RLIMIT_NPROC },       { "RLIMIT_RSS", RLIMIT_RSS },
	{ "RLIMIT_RTPRIO", RLIMIT_RTPRIO },   { "RLIMIT_RTTIME", RLIMIT_RTTIME },     { "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
	{ "RLIMIT_STACK", RLIMIT_STACK },
};

int bh_rlimit_number(const char *name)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(limits); i++)
		if (bh_streq(limits[i].name, name))
			return limits[i].number;
	return -1;
}
