/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers of an ordinary user.
 *
 * All that makes a container (copies of mounts, the root, namespaces) needs rights that this user only has in a user
 * namespace of its own. So the caller itself goes into the container's user namespace first, and into a new mount
 * namespace, which that one owns: from there it is root with the container's ids, and everything else goes as it does for
 * root, without CLONE_NEWUSER. A process never leaves a user namespace, so this is for callers that end soon.
 *
 * What differs from then on: devices are bound, not made (job->user_namespace), and what the kernel or the machine denies
 * to such a root is done without where runc does so too (oom_score_adj, supplementary groups).
 */
#include "container/container-internal.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>

static int open_user_namespace(const struct bh_spec *spec, struct bh_error *err)
{
	const struct bh_spec_namespace *n = &spec->namespaces[BH_NS_USER];
	const struct bh_id_map own_uid = { 0, geteuid(), 1 }, own_gid = { 0, getegid(), 1 };
	const struct bh_id_map *uids = spec->uid_mapping_count ? spec->uid_mappings : &own_uid;
	const struct bh_id_map *gids = spec->gid_mapping_count ? spec->gid_mappings : &own_gid;

	if (n->present && n->path)
		return bh_namespace_open(AT_FDCWD, n->path, BH_NS_USER, err);
	return bh_user_namespace_new(uids, BH_MAX(spec->uid_mapping_count, (size_t)1), gids, BH_MAX(spec->gid_mapping_count, (size_t)1), err);
}

int bh_rootless_enter(const struct bh_spec *spec, struct bh_error *err)
{
	bh_auto_close int userns = open_user_namespace(spec, err);

	if (userns < 0)
		return userns;
	if (setns(userns, CLONE_NEWUSER) < 0)
		return bh_error_set(err, errno, "enter the user namespace");
	if (unshare(CLONE_NEWNS) < 0)
		return bh_error_set(err, errno, "make a mount namespace");
	/* Entering makes a process the host root's in /proc; it still is this user's. */
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
		return bh_error_set(err, errno, "PR_SET_DUMPABLE");
	bh_explain("namespace", "type", "user", "entered", "by the runtime");
	return 0;
}
