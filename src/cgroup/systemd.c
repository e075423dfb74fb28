/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The systemd driver: the cgroup is that of a transient scope unit, which systemd makes on request over D-Bus
 * (org.freedesktop.systemd1(5), StartTransientUnit; systemd's docs/CONTROL_GROUP_INTERFACE.md). The scope is delegated, so the
 * folders below systemd's are handled like those of the other drivers: their fds, limits, freezing, killing.
 *
 * systemd makes no scope without a process, and a container's first process must be born inside. So a placeholder (a child that
 * does nothing, holds no fd and dies with us) is the scope's first process; it ends when the handle is freed, when the
 * container is inside. Where the scope lies is read from the placeholder's /proc/PID/cgroup, which is right for every slice,
 * manager and version of cgroups.
 *
 * The bus: the system's for root (systemd's own socket if there is no bus), the user's otherwise. After the authentication Hello,
 * the match for JobRemoved and the call go out in one write; then replies and signals are read until the job's end is told. There
 * is a time limit on all of it. Only sockets that root or the user themselves could have made are used: for root their paths
 * are fixed, and no variable of the environment changes them.
 *
 * Removing: processes are killed and the folders removed by us; systemd drops a scope that has become empty by itself, and
 * StopUnit is for the case that it has not yet. A failed unit is reset, so that its name is free again.
 */
#include "cgroup/systemd-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define MANAGER_NAME "org.freedesktop.systemd1"
#define MANAGER_PATH "/org/freedesktop/systemd1"
#define MANAGER_INTERFACE "org.freedesktop.systemd1.Manager"
#define SYSTEM_BUS "/run/dbus/system_bus_socket"
#define SYSTEM_PRIVATE "/run/systemd/private"
#define USER_PREFIX "user:"
#define TIMEOUT_NS (30ll * 1000000000)
#define AUTH_LINE_MAX 512
#define UNIT_NAME_MAX 255

struct bus {
	int fd;
	bool direct; /* systemd's own socket: no bus, no names */
	uint32_t serial;
	struct bh_buf out; /* to be sent */
	struct bh_buf in;  /* one message, read whole */
	int64_t deadline_ns;
	char job[256], result[64]; /* of the last JobRemoved for the unit at hand */
	bool failed_to_exist;      /* UnitExists */
	bool no_such_unit;
};

static void bus_close(struct bus *bus)
{
	bh_close_fd(&bus->fd);
	bh_buf_clear(&bus->out);
	bh_buf_clear(&bus->in);
}
#define auto_bus __attribute__((cleanup(bus_close)))

/* --- names ----------------------------------------------------------------------------------------------------------------- */

int bh_unit_name_parse(const char *cgroups_path, const char *id, bool user, struct bh_unit_name *ret_name, struct bh_error *err)
{
	bh_auto_strv struct bh_strv parts = { 0 };
	const char *slice = "", *prefix = "runc", *name = id;
	bool is_slice;

	if (cgroups_path && *cgroups_path) {
		parts = bh_strv_split(cgroups_path, ':');
		if (parts.count != 3)
			return bh_error_text(err, EINVAL,
					     "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"%.256s\" instead",
					     cgroups_path);
		slice = parts.items[0];
		prefix = parts.items[1];
		name = parts.items[2];
	}
	if (!*slice)
		slice = user ? "user.slice" : "system.slice";
	if (strlen(slice) <= 6 || !bh_streq(slice + strlen(slice) - 6, ".slice") || strchr(slice, '/'))
		return bh_error_text(err, EINVAL, "invalid slice name: %.256s", slice);
	is_slice = strlen(name) > 6 && bh_streq(name + strlen(name) - 6, ".slice");
	if (!*name || strchr(name, '/') || strchr(prefix, '/') || strlen(prefix) + strlen(name) + 8 > UNIT_NAME_MAX)
		return bh_error_text(err, EINVAL, "invalid unit name: %.128s-%.128s", prefix, name);
	ret_name->slice = bh_strdup(slice);
	ret_name->unit = is_slice ? bh_strdup(name) : bh_printf("%s-%s.scope", prefix, name);
	return 0;
}

void bh_unit_name_clear(struct bh_unit_name *name)
{
	free(name->slice);
	free(name->unit);
	*name = (struct bh_unit_name){ 0 };
}

/* --- the connection ----------------------------------------------------------------------------------------------------------- */

static int connect_to(const char *path, bool abstract)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	bh_auto_close int fd = -1;
	size_t length = strlen(path);

	if (length + abstract >= sizeof address.sun_path)
		return -ENAMETOOLONG;
	memcpy(address.sun_path + abstract, path, length);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + abstract + !abstract)) < 0)
		return -errno;
	return BH_TAKE_FD(fd);
}

/* "unix:path=/run/user/1000/bus,guid=...;..." : the first part that is a UNIX socket. Values with %xx are not followed. */
static int connect_to_address(const char *address)
{
	bh_auto_strv struct bh_strv parts = bh_strv_split(address, ';');

	for (size_t i = 0; i < parts.count; i++) {
		bool abstract = bh_has_prefix(parts.items[i], "unix:abstract=");
		const char *path = strchr(parts.items[i], '=');
		bh_auto_free char *name = NULL;
		int fd;

		if (!path || (!abstract && !bh_has_prefix(parts.items[i], "unix:path=")))
			continue;
		name = bh_strndup(path + 1, strcspn(path + 1, ","));
		fd = strchr(name, '%') ? -EINVAL : connect_to(name, abstract);
		if (fd >= 0)
			return fd;
	}
	return -ENOENT;
}

static int connect_user(bool *ret_direct)
{
	const char *address = secure_getenv("DBUS_SESSION_BUS_ADDRESS"), *runtime = secure_getenv("XDG_RUNTIME_DIR");
	bh_auto_free char *bus = NULL, *direct = NULL;
	int fd = address ? connect_to_address(address) : -ENOENT;

	if (fd >= 0)
		return fd;
	bus = runtime ? bh_printf("%s/bus", runtime) : bh_printf("/run/user/%u/bus", (unsigned)geteuid());
	direct = runtime ? bh_printf("%s/systemd/private", runtime) : bh_printf("/run/user/%u/systemd/private", (unsigned)geteuid());
	fd = connect_to(bus, false);
	if (fd < 0) {
		fd = connect_to(direct, false);
		*ret_direct = fd >= 0;
	}
	return fd;
}

static int wait_readable(struct bus *bus)
{
	struct pollfd p = { .fd = bus->fd, .events = POLLIN };

	for (;;) {
		int64_t left_ns = bus->deadline_ns - bh_monotonic_ns();
		int r = left_ns <= 0 ? 0 : poll(&p, 1, (int)(left_ns / 1000000) + 1);

		if (r > 0)
			return 0;
		if (r == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

static int read_exactly(struct bus *bus, void *bytes, size_t length)
{
	for (size_t done = 0; done < length;) {
		int r = wait_readable(bus);
		ssize_t n = r < 0 ? r : read(bus->fd, (char *)bytes + done, length - done);

		if (r < 0)
			return r;
		if (n == 0)
			return -ECONNRESET;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* One line of the authentication, without "\r\n"; read byte by byte, since what follows belongs to messages. */
static int read_auth_line(struct bus *bus, char line[AUTH_LINE_MAX])
{
	for (size_t length = 0; length + 1 < AUTH_LINE_MAX; length++) {
		int r = read_exactly(bus, line + length, 1);

		if (r < 0)
			return r;
		if (line[length] != '\n')
			continue;
		line[length - (length > 0 && line[length - 1] == '\r')] = '\0';
		return 0;
	}
	return -EPROTO;
}

/* The credentials are the socket's own (SCM), so no user id is sent: in a user namespace it would be another one. */
static int read_auth(struct bus *bus)
{
	char line[AUTH_LINE_MAX];
	int r = read_auth_line(bus, line);

	if (r == 0 && bh_has_prefix(line, "DATA"))
		r = read_auth_line(bus, line);
	return r < 0 ? r : bh_has_prefix(line, "OK") ? 0 : -EACCES;
}

static uint32_t queue_call(struct bus *bus, const struct bh_dbus_call *call)
{
	bh_dbus_put_call(&bus->out, ++bus->serial, call);
	return bus->serial;
}

static int flush_out(struct bus *bus)
{
	size_t done = 0;

	while (done < bus->out.length) {
		ssize_t n = send(bus->fd, bus->out.data + done, bus->out.length - done, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	bh_buf_reset(&bus->out);
	return 0;
}

static void queue_hello(struct bus *bus)
{
	static const char match[] = "type='signal',sender='" MANAGER_NAME "',interface='" MANAGER_INTERFACE
				    "',member='JobRemoved',path='" MANAGER_PATH "'";
	bh_auto_buf struct bh_buf body = { 0 };
	struct bh_dbus_call hello = {
		.destination = "org.freedesktop.DBus", .path = "/org/freedesktop/DBus", .interface = "org.freedesktop.DBus", .member = "Hello"
	};
	struct bh_dbus_call add_match = hello;

	queue_call(bus, &hello);
	bh_dbus_put_string(&body, match);
	add_match.member = "AddMatch";
	add_match.signature = "s";
	add_match.body = &body;
	add_match.no_reply = true;
	queue_call(bus, &add_match);
}

/* Connects, authenticates, and queues what comes before the first call. systemd's own socket never looks at a message that
 * comes in the same packet as the authentication: so none is sent before that is answered. */
static int bus_open(bool user, struct bus *ret_bus, struct bh_error *err)
{
	static const char auth[] = "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
	struct bus bus = { .fd = -1, .deadline_ns = bh_monotonic_ns() + TIMEOUT_NS };
	const char *kind = user ? "user's" : "system";
	int r;

	bus.fd = user ? connect_user(&bus.direct) : connect_to(SYSTEM_BUS, false);
	if (bus.fd < 0 && !user) {
		bus.fd = connect_to(SYSTEM_PRIVATE, false);
		bus.direct = bus.fd >= 0;
	}
	if (bus.fd < 0)
		return bh_error_set(err, -bus.fd, "connect to systemd over the %s bus", kind);
	bh_buf_add(&bus.out, auth, sizeof auth - 1);
	r = flush_out(&bus);
	if (r == 0)
		r = read_auth(&bus);
	if (r < 0) {
		bus_close(&bus);
		return bh_error_set(err, -r, "authenticate on the %s bus", kind);
	}
	if (!bus.direct)
		queue_hello(&bus);
	*ret_bus = bus;
	return 0;
}

static int read_message(struct bus *bus, struct bh_dbus_message *ret_message)
{
	uint8_t header[DBUS_FIXED_HEADER];
	ssize_t length;
	int r = read_exactly(bus, header, sizeof header);

	if (r < 0)
		return r;
	length = bh_dbus_message_length(header);
	if (length < 0)
		return (int)length;
	bh_buf_reset(&bus->in);
	bh_buf_add(&bus->in, header, sizeof header);
	bh_buf_reserve(&bus->in, (size_t)length);
	r = read_exactly(bus, bus->in.data + sizeof header, (size_t)length - sizeof header);
	bus->in.length = (size_t)length;
	return r < 0 ? r : bh_dbus_parse((const uint8_t *)bus->in.data, (size_t)length, ret_message);
}

/* JobRemoved(u id, o job, s unit, s result) */
static void take_signal(struct bus *bus, const struct bh_dbus_message *message, const char *unit)
{
	struct bh_dbus_cursor cursor = { .bytes = message->body, .length = message->body_length };
	const char *job, *name, *result;

	if (!message->member || !bh_streq(message->member, "JobRemoved") || !bh_streq(message->signature, "uoss"))
		return;
	bh_dbus_get_u32(&cursor);
	job = bh_dbus_get_string(&cursor);
	name = bh_dbus_get_string(&cursor);
	result = bh_dbus_get_string(&cursor);
	if (cursor.failed || !bh_streq(name, unit))
		return;
	snprintf(bus->job, sizeof bus->job, "%s", job);
	snprintf(bus->result, sizeof bus->result, "%s", result);
}

static int take_error(struct bus *bus, const struct bh_dbus_message *message, const char *what, const char *unit, struct bh_error *err)
{
	struct bh_dbus_cursor cursor = { .bytes = message->body, .length = message->body_length };
	const char *words = message->signature[0] == 's' ? bh_dbus_get_string(&cursor) : "";
	const char *name = message->error_name ? message->error_name : "";

	bus->failed_to_exist = bh_streq(name, MANAGER_NAME ".UnitExists");
	bus->no_such_unit = bh_streq(name, MANAGER_NAME ".NoSuchUnit");
	return bh_error_text(err, EREMOTEIO, "%s \"%s\": %.256s (%.128s)", what, unit, words, name);
}

/* Sends what is queued and reads until the call's reply is there, and with `with_job` until the job that it names has ended. */
static int transact(struct bus *bus, uint32_t serial, bool with_job, const char *what, const char *unit, struct bh_error *err)
{
	char job[256] = "";
	bool replied = false;
	int r = flush_out(bus);

	while (r == 0 && !(replied && (!with_job || (*job && bh_streq(bus->job, job))))) {
		struct bh_dbus_message message;

		r = read_message(bus, &message);
		if (r < 0)
			break;
		if (message.type == BH_DBUS_SIGNAL) {
			take_signal(bus, &message, unit);
		} else if (message.reply_serial == serial && message.type == BH_DBUS_ERROR) {
			return take_error(bus, &message, what, unit, err);
		} else if (message.reply_serial == serial && message.type == BH_DBUS_RETURN) {
			struct bh_dbus_cursor cursor = { .bytes = message.body, .length = message.body_length };

			replied = true;
			if (with_job)
				snprintf(job, sizeof job, "%s", bh_streq(message.signature, "o") ? bh_dbus_get_string(&cursor) : "");
			if (with_job && !*job)
				r = -EBADMSG;
		}
	}
	return r < 0 ? bh_error_set(err, -r, "%s \"%s\"", what, unit) : 0;
}

static int manager_call(struct bus *bus, const char *member, const char *signature, const struct bh_buf *body, bool with_job, const char *unit,
			struct bh_error *err)
{
	struct bh_dbus_call call = { .destination = bus->direct ? "" : MANAGER_NAME,
				     .path = MANAGER_PATH,
				     .interface = MANAGER_INTERFACE,
				     .member = member,
				     .signature = signature,
				     .body = body };
	uint32_t serial = queue_call(bus, &call);

	return transact(bus, serial, with_job, member, unit, err);
}

static void reset_failed(struct bus *bus, const char *unit)
{
	bh_auto_buf struct bh_buf body = { 0 };

	bh_dbus_put_string(&body, unit);
	(void)manager_call(bus, "ResetFailedUnit", "s", &body, false, unit, NULL);
}

/* --- the placeholder ------------------------------------------------------------------------------------------------------------ */

__attribute__((noreturn)) static void be_placeholder(pid_t parent)
{
	bh_close_range(0, ~0u, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	while (getppid() == parent)
		pause();
	_exit(0);
}

/* No exit signal: the caller's own waits for any child don't see it. */
static int start_placeholder(struct bh_cgroup *cgroup, pid_t *ret_pid, struct bh_error *err)
{
	int pidfd = -1;
	struct clone_args args = { .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd };
	pid_t parent = getpid(), pid = bh_clone3(&args);

	if (pid < 0)
		return bh_error_set(err, (int)-pid, "start the scope's first process");
	if (pid == 0)
		be_placeholder(parent);
	cgroup->placeholder_pidfd = pidfd;
	*ret_pid = pid;
	return 0;
}

void bh_cgroup_end_placeholder(struct bh_cgroup *cgroup)
{
	siginfo_t info;

	if (cgroup->placeholder_pidfd < 0)
		return;
	bh_pidfd_send_signal(cgroup->placeholder_pidfd, SIGKILL);
	while (waitid(P_PIDFD, (id_t)cgroup->placeholder_pidfd, &info, WEXITED | __WALL) < 0 && errno == EINTR)
		;
	bh_close_fd(&cgroup->placeholder_pidfd);
}

/* --- the unit ------------------------------------------------------------------------------------------------------------------- */

static int fill_properties(struct bh_buf *body, const struct bh_cgroup *cgroup, const struct bh_cgroup_request *request, const char *slice, pid_t pid,
			   struct bh_error *err)
{
	bool v2 = cgroup->driver->version == 2;
	bh_auto_free char *description = bh_printf("libcontainer container %s", request->name ? request->name : "");
	struct bh_unit_properties p;
	int r;

	bh_unit_properties_open(&p, body);
	bh_unit_property_string(&p, "Description", description);
	bh_unit_property_string(&p, "Slice", slice);
	bh_unit_property_pid(&p, "PIDs", pid);
	bh_unit_property_bool(&p, "Delegate", true);
	bh_unit_property_bool(&p, "MemoryAccounting", true);
	bh_unit_property_bool(&p, "CPUAccounting", true);
	bh_unit_property_bool(&p, v2 ? "IOAccounting" : "BlockIOAccounting", true);
	bh_unit_property_bool(&p, "TasksAccounting", true);
	bh_unit_property_bool(&p, "DefaultDependencies", false);
	r = bh_unit_properties_from_resources(&p, cgroup->driver->version, request->resources, err);
	if (r == 0)
		r = bh_unit_properties_from_annotations(&p, request->annotations, err);
	bh_unit_properties_close(&p);
	return r;
}

/* StartTransientUnit(s name, s mode, a(sv) properties, a(sa(sv)) aux) -> o job */
static int start_unit(struct bus *bus, const char *unit, const struct bh_buf *body, struct bh_error *err)
{
	int r = manager_call(bus, "StartTransientUnit", "ssa(sv)a(sa(sv))", body, true, unit, err);

	if (r < 0 && bus->failed_to_exist) {
		/* It may be the failed rest of an earlier one: then the name is free after a reset. */
		reset_failed(bus, unit);
		r = manager_call(bus, "StartTransientUnit", "ssa(sv)a(sa(sv))", body, true, unit, err);
	}
	if (r == 0 && !bh_streq(bus->result, "done")) {
		reset_failed(bus, unit);
		return bh_error_text(err, EREMOTEIO, "error creating systemd unit `%s`: got `%s`", unit, bus->result);
	}
	return r < 0 ? bh_error_prefix(err, "unable to start unit \"%s\"", unit) : 0;
}

static int request_scope(struct bh_cgroup *cgroup, const struct bh_cgroup_request *request, const struct bh_unit_name *name, pid_t pid,
			 struct bh_error *err)
{
	bh_auto_free char *unit = NULL;
	bh_auto_buf struct bh_buf body = { 0 };
	auto_bus struct bus bus = { .fd = -1 };
	size_t mark;
	int r;

	bh_dbus_put_string(&body, name->unit);
	bh_dbus_put_string(&body, "replace");
	r = fill_properties(&body, cgroup, request, name->slice, pid, err);
	mark = bh_dbus_open_array(&body, 8);
	bh_dbus_close_array(&body, mark, 8);
	if (r == 0)
		r = bus_open(request->rootless, &bus, err);
	unit = bh_printf("%s%s", request->rootless ? USER_PREFIX : "", name->unit);
	if (r == 0)
		r = bh_cgroup_tell_plan(cgroup, request, unit, err);
	if (r == 0)
		r = start_unit(&bus, name->unit, &body, err);
	if (r < 0)
		return r;
	cgroup->unit = BH_TAKE_PTR(unit);
	bh_explain("cgroup", "unit", name->unit, "slice", name->slice);
	return 0;
}

int bh_cgroup_start_unit(struct bh_cgroup *cgroup, const struct bh_cgroup_request *request, struct bh_error *err)
{
	struct bh_unit_name name = { 0 };
	pid_t pid = -1;
	int r;

	if (access("/run/systemd/system", F_OK) < 0)
		return bh_error_text(err, ENOTSUP, "systemd not running on this host, cannot use systemd cgroups manager");
	if (cgroup->driver->version == 1 && request->rootless)
		return bh_error_text(err, ENOTSUP, "a user's own systemd needs cgroup v2 for its containers: v1 gives users no cgroups");
	if (cgroup->driver->version == 1 && request->resources->unified.count)
		return bh_error_text(err, EINVAL, "invalid configuration: cannot use unified on cgroup v1");
	r = bh_unit_name_parse(request->path, request->name ? request->name : "", request->rootless, &name, err);
	if (r == 0)
		r = start_placeholder(cgroup, &pid, err);
	if (r == 0)
		r = request_scope(cgroup, request, &name, pid, err);
	if (r == 0)
		r = bh_cgroup_locate_process(cgroup, pid, err);
	bh_unit_name_clear(&name);
	return r;
}

static const char *unit_of(const struct bh_cgroup *cgroup, bool *ret_user)
{
	*ret_user = bh_has_prefix(cgroup->unit, USER_PREFIX);
	return cgroup->unit + (*ret_user ? strlen(USER_PREFIX) : 0);
}

/* SetUnitProperties(s name, b runtime, a(sv) properties) */
int bh_cgroup_update_unit(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, struct bh_error *err)
{
	bh_auto_buf struct bh_buf body = { 0 };
	auto_bus struct bus bus = { .fd = -1 };
	struct bh_unit_properties p;
	bool user;
	const char *unit = unit_of(cgroup, &user);
	int r;

	bh_dbus_put_string(&body, unit);
	bh_dbus_put_u32(&body, true);
	bh_unit_properties_open(&p, &body);
	r = bh_unit_properties_from_resources(&p, cgroup->driver->version, resources, err);
	bh_unit_properties_close(&p);
	if (r == 0)
		r = bus_open(user, &bus, err);
	if (r == 0)
		r = manager_call(&bus, "SetUnitProperties", "sba(sv)", &body, false, unit, err);
	return r < 0 ? bh_error_prefix(err, "unable to set unit properties") : 0;
}

/* StopUnit(s name, s mode) -> o job */
int bh_cgroup_stop_unit(struct bh_cgroup *cgroup, struct bh_error *err)
{
	bh_auto_buf struct bh_buf body = { 0 };
	auto_bus struct bus bus = { .fd = -1 };
	bool user;
	const char *unit = unit_of(cgroup, &user);
	int r = bus_open(user, &bus, err);

	if (r < 0)
		return r;
	bh_dbus_put_string(&body, unit);
	bh_dbus_put_string(&body, "replace");
	r = manager_call(&bus, "StopUnit", "ss", &body, true, unit, err);
	if (r < 0 && bus.no_such_unit) {
		bh_error_clear(err);
		return 0;
	}
	reset_failed(&bus, unit);
	if (r == 0)
		bh_explain("cgroup", "stop unit", unit);
	return r;
}
