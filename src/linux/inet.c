/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/inet.h"

#include "base/memory.h"
#include "base/string.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static void put_address(struct sockaddr *to, struct in_addr address)
{
	const struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr = address };

	memcpy(to, &in, sizeof in);
}

static int ask(int fd, unsigned long request, struct ifreq *about, const char *what, struct bh_error *err)
{
	return ioctl(fd, request, about) < 0 ? bh_error_set(err, errno, "%s: %s", about->ifr_name, what) : 0;
}

static int set_address(int fd, struct ifreq *about, const char *text, struct bh_error *err)
{
	const char *slash = strchr(text, '/');
	bh_auto_free char *address = bh_strndup(text, slash ? (size_t)(slash - text) : strlen(text));
	struct in_addr parsed, mask;
	int64_t bits = 32;
	int r;

	if (inet_pton(AF_INET, address, &parsed) != 1 || (slash && bh_parse_int(slash + 1, 1, 32, &bits) < 0))
		return bh_error_text(err, EINVAL, "'%s' is no address", text);
	put_address(&about->ifr_addr, parsed);
	r = ask(fd, SIOCSIFADDR, about, "set the address", err);
	mask.s_addr = htonl((uint32_t)(UINT32_MAX << (32 - bits)));
	put_address(&about->ifr_netmask, mask);
	return r < 0 ? r : ask(fd, SIOCSIFNETMASK, about, "set the network's mask", err);
}

static int set_gateway(int fd, const char *device, const char *gateway, struct bh_error *err)
{
	static const struct in_addr any;
	bh_auto_free char *name = bh_strdup(device);
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = name };
	struct in_addr parsed;

	if (inet_pton(AF_INET, gateway, &parsed) != 1)
		return bh_error_text(err, EINVAL, "'%s' is no address", gateway);
	put_address(&route.rt_dst, any);
	put_address(&route.rt_genmask, any);
	put_address(&route.rt_gateway, parsed);
	return ioctl(fd, SIOCADDRT, &route) < 0 ? bh_error_set(err, errno, "%s: route by %s", device, gateway) : 0;
}

int bh_inet_configure(const char *device, const char *address, const char *gateway, struct bh_error *err)
{
	bh_auto_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq about = { 0 };
	int r = fd < 0 ? bh_error_set(err, errno, "make a socket") : 0;

	snprintf(about.ifr_name, sizeof about.ifr_name, "%s", device);
	if (r == 0 && address)
		r = set_address(fd, &about, address, err);
	about.ifr_flags = IFF_UP;
	if (r == 0)
		r = ask(fd, SIOCSIFFLAGS, &about, "bring it up", err);
	return r < 0 || !gateway ? r : set_gateway(fd, device, gateway, err);
}
