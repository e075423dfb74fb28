/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/tap.h"

#include "base/memory.h"
#include "base/string.h"
#include "linux/rtnetlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>

int bh_tap_open(const char *name, const char *bridge, char ret_name[BH_TAP_NAME_SIZE], struct bh_error *err)
{
	bh_auto_close int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int r;

	if (fd < 0)
		return bh_error_set(err, errno, "open /dev/net/tun");
	/* The kernel would take a % as a pattern. */
	if (name && (!*name || strlen(name) >= sizeof request.ifr_name || strchr(name, '%')))
		return bh_error_text(err, EINVAL, "%s: no name of a network device", name);
	if (name)
		memcpy(request.ifr_name, name, strlen(name) + 1);
	if (ioctl(fd, TUNSETIFF, &request) < 0)
		return errno == EBUSY ? bh_error_text(err, EBUSY, "the tap device %s is in use", name) :
					bh_error_set(err, errno, "make the tap device %s", name ? name : "");
	r = bh_net_device_set_up(request.ifr_name, bridge, err);
	if (r < 0)
		return r;
	memcpy(ret_name, request.ifr_name, BH_TAP_NAME_SIZE);
	return BH_TAKE_FD(fd);
}

int bh_vhost_net_open(struct bh_error *err)
{
	int fd = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);

	if (fd < 0 && (errno == ENOENT || errno == ENODEV || errno == ENXIO))
		return bh_error_text(err, ENOENT, "open /dev/vhost-net: this kernel has no vhost_net (modprobe vhost_net)");
	return fd < 0 ? bh_error_set(err, errno, "open /dev/vhost-net") : fd;
}
