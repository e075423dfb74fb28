/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.netDevices: devices of the host become the container's.
 *
 * Only the caller is in both worlds: the devices are in its network namespace, and it can open the container's. The
 * process asks for them once it is in that namespace, before hooks and mounts, and waits.
 */
#include "container/container-internal.h"

#include "base/log.h"
#include "linux/rtnetlink.h"

#include <fcntl.h>

int bh_child_network(struct bh_job *job, struct bh_error *err)
{
	return job->spec->net_device_count ? bh_child_ask(job, BH_MESSAGE_NETWORK, err) : 0;
}

int bh_caller_network(struct bh_job *job, pid_t pid, struct bh_error *err)
{
	bh_auto_free char *path = bh_printf("/proc/%d/ns/net", (int)pid);
	bh_auto_close int netns = bh_namespace_open(AT_FDCWD, path, BH_NS_NETWORK, err);
	int r = netns < 0 ? netns : 0;

	for (size_t i = 0; r == 0 && i < job->spec->net_device_count; i++) {
		const struct bh_spec_net_device *d = &job->spec->net_devices[i];

		r = bh_net_device_move(d->host_name, netns, d->name, err);
		if (r < 0)
			return bh_error_prefix(err, "linux.netDevices.%s", d->host_name);
		bh_explain("network", "interface", d->host_name, "moved", d->name && *d->name ? d->name : d->host_name);
	}
	return r;
}
