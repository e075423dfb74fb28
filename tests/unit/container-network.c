/* SPDX-License-Identifier: Apache-2.0 */
// timeout: 100
// lab: always
/* linux.netDevices: a device with addresses, in a network namespace of the test's own, goes into a container. Needs root. */
#pragma GCC diagnostic ignored "-Wunused-function" /* of the fixture */
#include "container-test.h"

#include <arpa/inet.h>
#include <linux/if_tun.h>
#include <linux/ipv6.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static int control = -1;

static int enter_network(void **state)
{
	if (setup(state) < 0 || unshare(CLONE_NEWNET) < 0)
		return -1;
	control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return control < 0 ? -1 : 0;
}

static int leave_network(void **state)
{
	close(control);
	return teardown(state);
}

/* A tap device that stays when its maker closes it. False: this kernel has none. */
static bool make_device(const char *name)
{
	struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	bh_auto_close int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
	return fd >= 0 && ioctl(fd, TUNSETIFF, &r) == 0 && ioctl(fd, TUNSETPERSIST, 1) == 0;
}

static void give_addresses(const char *name)
{
	struct ifreq r = { .ifr_flags = 0 };
	struct sockaddr_in *a = (struct sockaddr_in *)&r.ifr_addr;
	struct in6_ifreq six = { .ifr6_prefixlen = 64, .ifr6_ifindex = (int)if_nametoindex(name) };
	bh_auto_close int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
	a->sin_family = AF_INET;
	inet_pton(AF_INET, "192.0.2.7", &a->sin_addr);
	assert_int_equal(ioctl(control, SIOCSIFADDR, &r), 0);
	inet_pton(AF_INET, "255.255.255.128", &a->sin_addr);
	assert_int_equal(ioctl(control, SIOCSIFNETMASK, &r), 0);
	r.ifr_flags = IFF_UP;
	assert_int_equal(ioctl(control, SIOCSIFFLAGS, &r), 0);
	inet_pton(AF_INET6, "2001:db8::7", &six.ifr6_addr);
	assert_int_equal(ioctl(fd, SIOCSIFADDR, &six), 0);
}

static struct bh_spec *with_device(void **state, const char *host_name, const char *name)
{
	struct bh_spec *s = fixture(state);

	s->net_devices = bh_calloc(1, sizeof *s->net_devices);
	s->net_device_count = 1;
	s->net_devices[0].host_name = bh_strdup(host_name);
	s->net_devices[0].name = bh_strdup(name);
	return s;
}

static void test_move(void **state)
{
	for (int users = 0; users < 2; users++) {
		struct bh_spec *s = with_device(state, "hostside", users ? NULL : "inside");

		if (!make_device("hostside"))
			skip();
		give_addresses("hostside");
		if (users)
			map_users(s, 100000);
		assert_int_equal(run(s, "ip addr"), 0);
		expect(users ? ": hostside: <" : ": inside: <");
		expect(",UP");
		expect("inet 192.0.2.7/25 brd");
		expect("inet6 2001:db8::7/64 scope global");
		expect_not("inside: <LOOPBACK");
		assert_int_equal(if_nametoindex("hostside"), 0);
	}
}

static void test_into_a_joined_one(void **state)
{
	struct bh_spec *s = fixture(state);
	struct bh_container_process p;

	if (!make_device("hostside"))
		skip();
	set_command(s, "sleep 67");
	start(s, &p);
	s = with_device(state, "hostside", "eth0");
	join(s, BH_NS_NETWORK, p.pid);
	join(s, BH_NS_PID, p.pid);
	assert_int_equal(run(s, "ip link"), 0);
	expect(": eth0: <");
	kill(p.pid, SIGKILL);
	finish(&p);
}

static void test_refused(void **state)
{
	struct bh_spec *s = with_device(state, "missing", "eth0");
	struct ifreq r = { 0 };

	assert_int_equal(run(s, "true"), 125);
	expect_error("linux.netDevices.missing: network device missing: No such device");
	/* A bridge stays where it was made. */
	snprintf(r.ifr_name, sizeof r.ifr_name, "br0");
	if (ioctl(control, SIOCBRADDBR, r.ifr_name) < 0)
		skip();
	s = with_device(state, "br0", "eth0");
	assert_int_equal(run(s, "true"), 125);
	expect_error("linux.netDevices.br0: move the network device br0");
	assert_true(if_nametoindex("br0") > 0);
	assert_int_equal(ioctl(control, SIOCBRDELBR, r.ifr_name), 0);
	/* The name is taken there. */
	if (!make_device("hostside"))
		skip();
	s = with_device(state, "hostside", "lo");
	assert_int_equal(run(s, "true"), 125);
	expect_error("linux.netDevices.hostside: move the network device hostside: File exists");
	assert_true(if_nametoindex("hostside") > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_move, enter_network, leave_network),
		cmocka_unit_test_setup_teardown(test_into_a_joined_one, enter_network, leave_network),
		cmocka_unit_test_setup_teardown(test_refused, enter_network, leave_network),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
