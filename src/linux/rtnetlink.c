/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rtnetlink messages: a request, attributes behind it, and an acknowledgement (or, for a dump, many answers and an end).
 *
 * A move takes the device's addresses from it, so those that a person has given it are read before and added again after.
 * The others (link-local, from a router's advertisement) belong to the network it is in, and come by themselves.
 */
#include "linux/rtnetlink.h"

#include "base/memory.h"
#include "base/string.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>

#define REQUEST_MAX 1024
#define ANSWER_MAX 32768
#define ADDRESSES_MAX 1024
#define ADDRESS_ATTRIBUTES_MAX 256

struct request {
	struct nlmsghdr header;
	char body[REQUEST_MAX];
};

struct address {
	struct ifaddrmsg about;
	char attributes[ADDRESS_ATTRIBUTES_MAX];
	size_t length;
};

struct addresses {
	struct address *items;
	size_t count, capacity;
};

static void addresses_clear(struct addresses *a)
{
	free(a->items);
}

static int open_socket(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	return fd < 0 ? -errno : fd;
}

static void *begin(struct request *r, unsigned short type, unsigned short flags, size_t size)
{
	*r = (struct request){ .header = { .nlmsg_len = NLMSG_LENGTH(size), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags } };
	return NLMSG_DATA(&r->header);
}

static void add_attribute(struct request *r, unsigned short type, const void *bytes, size_t length)
{
	struct rtattr *a = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->header.nlmsg_len));

	if (NLMSG_ALIGN(r->header.nlmsg_len) + RTA_SPACE(length) > sizeof *r)
		return;
	*a = (struct rtattr){ .rta_len = (unsigned short)RTA_LENGTH(length), .rta_type = type };
	memcpy(RTA_DATA(a), bytes, length);
	r->header.nlmsg_len = NLMSG_ALIGN(r->header.nlmsg_len) + (unsigned)RTA_SPACE(length);
}

/* Sends, and gives each answer to `take` until the acknowledgement or the end. */
static int converse(int fd, const struct request *r, void (*take)(const struct nlmsghdr *, void *), void *context)
{
	bh_auto_free char *answer = bh_malloc(ANSWER_MAX);

	if (send(fd, r, r->header.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		ssize_t n = recv(fd, answer, ANSWER_MAX, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		for (struct nlmsghdr *h = (struct nlmsghdr *)answer; NLMSG_OK(h, (size_t)n); h = NLMSG_NEXT(h, n)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR)
				return ((struct nlmsgerr *)NLMSG_DATA(h))->error;
			if (take)
				take(h, context);
		}
	}
}

struct wanted_addresses {
	unsigned index;
	struct addresses *found;
};

static void take_address(const struct nlmsghdr *h, void *context)
{
	const struct wanted_addresses *wanted = context;
	const struct ifaddrmsg *about = NLMSG_DATA(h);
	size_t length = h->nlmsg_len >= NLMSG_LENGTH(sizeof *about) ? IFA_PAYLOAD(h) : 0;
	struct addresses *a = wanted->found;

	if (h->nlmsg_type != RTM_NEWADDR || !length || about->ifa_index != wanted->index || length > ADDRESS_ATTRIBUTES_MAX)
		return;
	if (about->ifa_scope != RT_SCOPE_UNIVERSE || !(about->ifa_flags & IFA_F_PERMANENT) || a->count == ADDRESSES_MAX)
		return;
	a->items = bh_grow(a->items, &a->capacity, a->count + 1, sizeof *a->items);
	a->items[a->count] = (struct address){ .about = *about, .length = length };
	memcpy(a->items[a->count++].attributes, IFA_RTA(about), length);
}

static int read_addresses(int fd, unsigned index, struct addresses *ret)
{
	struct wanted_addresses wanted = { index, ret };
	struct request r;
	struct ifaddrmsg *about = begin(&r, RTM_GETADDR, NLM_F_DUMP, sizeof *about);

	about->ifa_family = AF_UNSPEC;
	return converse(fd, &r, take_address, &wanted);
}

static int move_link(int fd, unsigned index, int netns_fd, const char *new_name)
{
	uint32_t target = (uint32_t)netns_fd;
	struct request r;
	struct ifinfomsg *link = begin(&r, RTM_NEWLINK, NLM_F_ACK, sizeof *link);

	link->ifi_index = (int)index;
	link->ifi_change = IFF_UP;
	add_attribute(&r, IFLA_NET_NS_FD, &target, sizeof target);
	add_attribute(&r, IFLA_IFNAME, new_name, strlen(new_name) + 1);
	return converse(fd, &r, NULL, NULL);
}

/* `master`: the bridge it is put on, 0: none. */
static int set_up(int fd, unsigned index, uint32_t master)
{
	struct request r;
	struct ifinfomsg *link = begin(&r, RTM_NEWLINK, NLM_F_ACK, sizeof *link);

	link->ifi_index = (int)index;
	link->ifi_flags = link->ifi_change = IFF_UP;
	if (master)
		add_attribute(&r, IFLA_MASTER, &master, sizeof master);
	return converse(fd, &r, NULL, NULL);
}

/* All but what the kernel derives: the label (which names the device) and the times. */
static int add_address(int fd, unsigned index, const struct address *a)
{
	struct request r;
	struct ifaddrmsg *about = begin(&r, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, sizeof *about);
	size_t left = a->length;

	*about = a->about;
	about->ifa_index = index;
	for (const struct rtattr *t = (const struct rtattr *)a->attributes; RTA_OK(t, left); t = RTA_NEXT(t, left))
		if (t->rta_type == IFA_LOCAL || t->rta_type == IFA_ADDRESS || t->rta_type == IFA_BROADCAST || t->rta_type == IFA_FLAGS)
			add_attribute(&r, t->rta_type, RTA_DATA(t), RTA_PAYLOAD(t));
	return converse(fd, &r, NULL, NULL);
}

struct link_index {
	unsigned index;
};

static void take_index(const struct nlmsghdr *h, void *context)
{
	const struct ifinfomsg *link = NLMSG_DATA(h);

	if (h->nlmsg_type == RTM_NEWLINK && h->nlmsg_len >= NLMSG_LENGTH(sizeof *link))
		((struct link_index *)context)->index = (unsigned)link->ifi_index;
}

static int find_link(int fd, const char *name, unsigned *ret_index)
{
	struct link_index found = { 0 };
	struct request r;
	int error;

	begin(&r, RTM_GETLINK, NLM_F_ACK, sizeof(struct ifinfomsg));
	add_attribute(&r, IFLA_IFNAME, name, strlen(name) + 1);
	error = converse(fd, &r, take_index, &found);
	if (error < 0)
		return error;
	*ret_index = found.index;
	return found.index ? 0 : -ENODEV;
}

/* A netlink socket belongs to the namespace it was made in. */
static int open_socket_in(int netns_fd)
{
	bh_auto_close int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), fd = -1;

	if (own < 0 || setns(netns_fd, CLONE_NEWNET) < 0)
		return -errno;
	fd = open_socket();
	if (setns(own, CLONE_NEWNET) < 0)
		return -errno;
	return fd < 0 ? fd : BH_TAKE_FD(fd);
}

int bh_net_device_move(const char *name, int netns_fd, const char *new_name, struct bh_error *err)
{
	const char *there = new_name && *new_name ? new_name : name;
	bh_auto(addresses_clear) struct addresses addresses = { 0 };
	bh_auto_close int here_fd = open_socket(), there_fd = -1;
	unsigned index;
	int r = here_fd < 0 ? here_fd : find_link(here_fd, name, &index);

	if (r == 0)
		r = read_addresses(here_fd, index, &addresses);
	if (r == 0)
		r = there_fd = open_socket_in(netns_fd);
	if (r < 0)
		return bh_error_set(err, -r, "network device %s", name);
	/* The kernel would first move it and then fail to name it; with its new namespace it would be gone. */
	r = find_link(there_fd, there, &(unsigned){ 0 }) == 0 ? -EEXIST : 0;
	if (r == 0)
		r = move_link(here_fd, index, netns_fd, there);
	if (r < 0)
		return bh_error_set(err, -r, "move the network device %s", name);
	r = find_link(there_fd, there, &index);
	/* Up first: a device that is down keeps no IPv6 address. */
	if (r == 0)
		r = set_up(there_fd, index, 0);
	for (size_t i = 0; r == 0 && i < addresses.count; i++)
		r = add_address(there_fd, index, &addresses.items[i]);
	return r < 0 ? bh_error_set(err, -r, "set up the network device %s as %s", name, there) : 0;
}

int bh_net_device_set_up(const char *name, const char *bridge, struct bh_error *err)
{
	bh_auto_close int fd = open_socket();
	unsigned index, master = 0;
	int r = fd < 0 ? fd : find_link(fd, name, &index);

	if (r < 0)
		return bh_error_set(err, -r, "network device %s", name);
	r = bridge ? find_link(fd, bridge, &master) : 0;
	if (r < 0)
		return bh_error_set(err, -r, "bridge %s", bridge);
	r = set_up(fd, index, master);
	if (r < 0 && bridge)
		return bh_error_set(err, -r, "put the network device %s on %s", name, bridge);
	return r < 0 ? bh_error_set(err, -r, "set the network device %s up", name) : 0;
}
