/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/tap.h"

#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int bring_up(int fd, const char *name, struct bh_error *err)
{
	struct ifreq request = { 0 };

	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
	if (ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		return bh_error_set(err, errno, "look at the device %s", name);
	request.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? bh_error_set(err, errno, "bring up the device %s", name) : 0;
}

static int put_on_bridge(int fd, const char *name, const char *bridge, struct bh_error *err)
{
	struct ifreq request = { .ifr_ifindex = (int)if_nametoindex(name) };

	if (strlen(bridge) >= IFNAMSIZ || !if_nametoindex(bridge))
		return bh_error_text(err, ENODEV, "there is no bridge %s", bridge);
	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", bridge);
	/* It may be there already: then it's busy. */
	if (ioctl(fd, SIOCBRADDIF, &request) < 0 && errno != EBUSY)
		return bh_error_set(err, errno, "put %s on the bridge %s", name, bridge);
	return 0;
}

int bh_tap_open(const char *name, const char *bridge, char ret_name[IFNAMSIZ], struct bh_error *err)
{
	bh_auto_close int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int size = sizeof(struct virtio_net_hdr_v1), r;

	if (fd < 0 || control < 0)
		return bh_error_set(err, errno, "open /dev/net/tun");
	if (name && strlen(name) >= IFNAMSIZ)
		return bh_error_text(err, EINVAL, "the name of a device has at most %d letters: %s", IFNAMSIZ - 1, name);
	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name ? name : "bh%d");
	if (ioctl(fd, TUNSETIFF, &request) < 0)
		return bh_error_set(err, errno, "open the tap device %s", name ? name : "(a new one)");
	if (ioctl(fd, TUNSETVNETHDRSZ, &size) < 0)
		return bh_error_set(err, errno, "set up the tap device %s", request.ifr_name);
	r = bridge ? put_on_bridge(control, request.ifr_name, bridge, err) : 0;
	if (r == 0)
		r = bring_up(control, request.ifr_name, err);
	if (r < 0)
		return r;
	if (ret_name)
		memcpy(ret_name, request.ifr_name, IFNAMSIZ);
	return BH_TAKE_FD(fd);
}
