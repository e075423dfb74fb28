/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control.h"

#include "base/file.h"
#include "base/memory.h"
#include "vmm/flat-json.h"
#include "vmm/machine-internal.h"
#include "vmm/migrate.h"
#include "vmm/plug.h"
#include "vmm/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_MAX 8
#define LINE_MAX_BYTES 4096
#define FILES_MAX 4
#define ANY_FILES SIZE_MAX
#define UNPLUG_MAX_MS 600000

struct client {
	int fd;     /* -1: a free place */
	bool waits; /* for the job */
	char line[LINE_MAX_BYTES];
	size_t length;
	int files[FILES_MAX]; /* that came with the line that is being read */
	size_t file_count;
};

struct command;

struct job {
	const struct command *command; /* NULL: none */
	struct client *client;         /* NULL: it has gone */
	struct bh_flat_object request;
	int files[FILES_MAX];
	size_t file_count;
	struct bh_error err;
	struct bh_buf result; /* more members of the answer */
	int status;
};

struct bh_control {
	struct bh_machine *machine;
	int epoll_fd, listen_fd;
	int start_fd, done_fd; /* eventfds: from the owner to the jobs' thread, and back */
	struct client clients[CLIENTS_MAX];
	struct job job;
};

struct command {
	const char *name;
	bool is_job;
	size_t files; /* that have to come with it */
	int (*run)(struct bh_machine *machine, struct job *job);
};

/* --- commands --------------------------------------------------------------------------------------------------------- */

static int run_status(struct bh_machine *m, struct job *job)
{
	const char *state = atomic_load(&m->stands) ? "paused" : "running";

	pthread_mutex_lock(&m->list_lock);
	bh_buf_addf(&job->result, ",\"state\":\"%s\",\"memory\":%llu,\"vcpus\":%u,\"devices\":%zu", state, (unsigned long long)m->vm.memory.size,
		    m->vm.vcpu_count, m->device_count);
	pthread_mutex_unlock(&m->list_lock);
	return 0;
}

static int run_pause(struct bh_machine *m, struct job *job)
{
	(void)job;
	if (!atomic_exchange(&m->stands, true))
		bh_machine_pause(m);
	return 0;
}

static int run_resume(struct bh_machine *m, struct job *job)
{
	(void)job;
	if (atomic_exchange(&m->stands, false))
		bh_machine_resume(m);
	return 0;
}

static int run_snapshot(struct bh_machine *m, struct job *job)
{
	bool incremental = bh_flat_bool(&job->request, "incremental"), track = bh_flat_bool(&job->request, "track");
	bool stood = atomic_load(&m->stands);
	int r;

	if (!stood)
		bh_machine_pause(m);
	r = bh_snapshot_write(m, job->files[0], job->files[1], incremental, track, &job->err);
	if (!stood)
		bh_machine_resume(m);
	return r;
}

static int run_migrate(struct bh_machine *m, struct job *job)
{
	const struct bh_migration_config config = {
		.fd = job->files[0],
		.downtime_ms = bh_flat_number(&job->request, "downtime_ms", BH_MIGRATION_DOWNTIME_MS),
		.timeout_ms = bh_flat_number(&job->request, "timeout_ms", 0),
		.bandwidth = bh_flat_number(&job->request, "bandwidth", 0),
	};

	return bh_migration_send(m, &config, &job->result, &job->err);
}

/* The files that came are the values of the keys, in their order. */
static int run_plug(struct bh_machine *m, struct job *job)
{
	bh_auto_strv struct bh_strv keys = bh_strv_split(bh_flat_text(&job->request, "keys", "fd"), ',');
	const char *device = bh_flat_text(&job->request, "device", "");
	size_t at = (size_t)bh_flat_number(&job->request, "at", 0);
	bh_auto_buf struct bh_buf words = { 0 };
	int r = bh_machine_may_plug(m, device, at, &job->err);

	if (r == 0 && keys.count != job->file_count)
		r = bh_error_text(&job->err, EINVAL, "plug: %zu keys for %zu files", keys.count, job->file_count);
	if (r < 0)
		return r;
	bh_buf_adds(&words, device);
	for (size_t i = 0; i < keys.count; i++)
		bh_buf_addf(&words, ",%s=%d", keys.items[i], job->files[i]);
	job->file_count = 0; /* they are the device's */
	return bh_machine_plug(m, words.data, at, &job->err);
}

static int run_unplug(struct bh_machine *m, struct job *job)
{
	int64_t timeout_ms = bh_flat_number(&job->request, "timeout_ms", BH_UNPLUG_MS);

	return bh_machine_unplug(m, (size_t)bh_flat_number(&job->request, "at", 0),
				 (int)BH_MIN(BH_MAX(timeout_ms, (int64_t)0), (int64_t)UNPLUG_MAX_MS), &job->err);
}

static int run_migrate_status(struct bh_machine *m, struct job *job)
{
	bh_migration_describe(m, &job->result);
	return 0;
}

static int run_migrate_cancel(struct bh_machine *m, struct job *job)
{
	(void)job;
	bh_migration_cancel(m);
	return 0;
}

static void describe_devices(struct bh_machine *m, struct bh_buf *out)
{
	bh_buf_adds(out, ",\"devices\":[");
	pthread_mutex_lock(&m->list_lock);
	for (size_t i = 0; i < m->device_count; i++)
		bh_buf_addf(out, "%s{\"type\":\"%s\",\"%s\":%u,\"notifications\":%lu,\"interrupts\":%lu}", i ? "," : "", m->devices[i]->driver->name,
			    m->devices[i]->transport->name, m->devices[i]->place, atomic_load(&m->devices[i]->notifications),
			    atomic_load(&m->devices[i]->interrupts));
	pthread_mutex_unlock(&m->list_lock);
	bh_buf_adds(out, "]");
}

static int run_stats(struct bh_machine *m, struct job *job)
{
	bh_buf_adds(&job->result, ",\"vcpus\":[");
	for (unsigned i = 0; i < m->vm.vcpu_count; i++) {
		bh_buf_adds(&job->result, i ? ",{" : "{");
		for (int kind = 0; kind < BH_EXIT_KINDS; kind++)
			bh_buf_addf(&job->result, "%s\"%s\":%lu", kind ? "," : "", bh_exit_kind_name((enum bh_exit_kind)kind),
				    atomic_load(&m->vm.vcpus[i].exits[kind]));
		bh_buf_adds(&job->result, "}");
	}
	bh_buf_adds(&job->result, "]");
	describe_devices(m, &job->result);
	return 0;
}

/* VIRTIO_BALLOON_S_...: names as virsh dommemstat has them, in the values' order. */
static void describe_balloon(struct bh_virtio_device *device, struct bh_buf *out)
{
	static const char *const names[BH_BALLOON_STATISTICS] = { "swap_in",   "swap_out", "major_fault", "minor_fault",     "unused",
								  "available", "usable",   "disk_caches", "hugetlb_pgalloc", "hugetlb_pgfail" };
	struct bh_balloon_statistics statistics;

	bh_balloon_statistics(device, &statistics);
	bh_buf_addf(out, ",\"given\":%llu", (unsigned long long)statistics.pages * BH_GUEST_PAGE);
	for (size_t i = 0; statistics.updates && i < BH_ARRAY_SIZE(names); i++)
		bh_buf_addf(out, ",\"%s\":%llu", names[i], (unsigned long long)statistics.values[i]);
}

/* It stays where it is in memory, whatever comes and goes. */
static struct bh_virtio_device *find_balloon(struct bh_machine *m)
{
	struct bh_virtio_device *found = NULL;

	pthread_mutex_lock(&m->list_lock);
	for (size_t i = 0; i < m->device_count && !found; i++)
		if (bh_streq(m->devices[i]->driver->name, "balloon"))
			found = m->devices[i];
	pthread_mutex_unlock(&m->list_lock);
	return found;
}

static int run_balloon(struct bh_machine *m, struct job *job)
{
	int64_t bytes = bh_flat_number(&job->request, "bytes", -1);
	struct bh_virtio_device *balloon = find_balloon(m);

	if (!balloon)
		return bh_error_text(&job->err, ENODEV, "the machine has no balloon");
	if (bytes > (int64_t)m->vm.memory.size)
		return bh_error_text(&job->err, ERANGE, "the machine has no more than %llu bytes of memory", (unsigned long long)m->vm.memory.size);
	if (bytes >= 0)
		bh_balloon_set_target(balloon, (uint32_t)(bytes / BH_GUEST_PAGE));
	describe_balloon(balloon, &job->result);
	return 0;
}

static int run_stop(struct bh_machine *m, struct job *job)
{
	(void)job;
	bh_vm_end(&m->vm, BH_VM_STOPPED, 0, "stopped");
	return 0;
}

static int run_reset(struct bh_machine *m, struct job *job)
{
	(void)job;
	bh_vm_end(&m->vm, BH_VM_RESET, 0, "reset");
	return 0;
}

static int run_power_button(struct bh_machine *m, struct job *job)
{
	atomic_store(&m->reboots, bh_flat_bool(&job->request, "reboot"));
	bh_events_raise(&m->vm, BH_EVENT_POWER_BUTTON);
	return 0;
}

static const struct command commands[] = {
	{ "status", false, 0, run_status },
	{ "stats", false, 0, run_stats },
	{ "balloon", false, 0, run_balloon },
	{ "pause", true, 0, run_pause },
	{ "resume", true, 0, run_resume },
	{ "snapshot", true, 2, run_snapshot },
	{ "migrate", true, 1, run_migrate },
	{ "plug", true, ANY_FILES, run_plug },
	{ "unplug", true, 0, run_unplug },
	{ "migrate-status", false, 0, run_migrate_status },
	{ "migrate-cancel", false, 0, run_migrate_cancel },
	{ "power-button", false, 0, run_power_button },
	{ "reset", false, 0, run_reset },
	{ "stop", false, 0, run_stop },
};

/* --- answers ---------------------------------------------------------------------------------------------------------- */

static void drop(struct bh_control *c, struct client *client)
{
	if (c->job.client == client)
		c->job.client = NULL;
	for (size_t i = 0; i < client->file_count; i++)
		close(client->files[i]);
	client->file_count = client->length = 0;
	client->waits = false;
	bh_close_fd(&client->fd);
}

static void answer(struct bh_control *c, struct client *client, int status, const struct bh_error *err, const struct bh_buf *result)
{
	bh_auto_buf struct bh_buf line = { 0 };

	if (status < 0) {
		bh_buf_adds(&line, "{\"ok\":false,\"error\":");
		bh_buf_add_json(&line, err->message);
	} else {
		bh_buf_adds(&line, "{\"ok\":true");
		bh_buf_add(&line, result->data, result->length);
	}
	bh_buf_adds(&line, "}\n");
	/* A client that doesn't read its answers loses them. */
	if (send(client->fd, line.data, line.length, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)line.length)
		drop(c, client);
}

static void job_clear(struct job *job)
{
	for (size_t i = 0; i < job->file_count; i++)
		close(job->files[i]);
	bh_buf_clear(&job->result);
	*job = (struct job){ 0 };
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; name && i < BH_ARRAY_SIZE(commands); i++)
		if (bh_streq(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static int prepare(struct bh_control *c, struct client *client, size_t length, struct job *job, struct bh_error *err)
{
	int r = bh_flat_parse(client->line, length, &job->request, err);
	const char *name;

	if (r < 0)
		return r;
	name = bh_flat_text(&job->request, "command", NULL);
	job->command = find_command(name);
	if (!job->command)
		return bh_error_text(err, EINVAL, "there is no command %s", name ? name : "in the request");
	if (client->file_count != job->command->files && job->command->files != ANY_FILES)
		return bh_error_text(err, EINVAL, "%s needs %zu files, %zu came", name, job->command->files, client->file_count);
	if (job->command->is_job && c->job.command)
		return bh_error_text(err, EBUSY, "a %s is under way", c->job.command->name);
	memcpy(job->files, client->files, sizeof job->files);
	job->file_count = client->file_count;
	client->file_count = 0;
	return 0;
}

static void take_line(struct bh_control *c, struct client *client, size_t length)
{
	struct bh_error err = BH_ERROR_INIT;
	struct job job = { .err = BH_ERROR_INIT };
	uint64_t one = 1;

	if (prepare(c, client, length, &job, &err) < 0) {
		answer(c, client, -EINVAL, &err, NULL);
	} else if (job.command->is_job) {
		job.client = client;
		c->job = job;
		client->waits = true;
		(void)!write(c->start_fd, &one, sizeof one);
		return;
	} else {
		job.status = job.command->run(c->machine, &job);
		answer(c, client, job.status, &job.err, &job.result);
	}
	job_clear(&job);
}

/* Whole lines, until one makes the client wait. */
static void take_lines(struct bh_control *c, struct client *client)
{
	while (client->fd >= 0 && !client->waits) {
		char *end = memchr(client->line, '\n', client->length);
		size_t used = end ? (size_t)(end - client->line) + 1 : 0;

		if (!end)
			break;
		take_line(c, client, used - 1);
		if (client->fd < 0)
			return;
		memmove(client->line, client->line + used, client->length - used);
		client->length -= used;
	}
	if (client->fd >= 0 && client->length == sizeof client->line && !client->waits)
		drop(c, client);
}

/* --- connections -------------------------------------------------------------------------------------------------------- */

static void keep_files(struct client *client, struct msghdr *message)
{
	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
		size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS && i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
			if (client->file_count < FILES_MAX)
				client->files[client->file_count++] = fd;
			else
				close(fd);
		}
	}
}

static void read_client(struct bh_control *c, struct client *client)
{
	union {
		char bytes[CMSG_SPACE(FILES_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part = { client->line + client->length, sizeof client->line - client->length };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	ssize_t n = part.iov_len ? recvmsg(client->fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) : 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop(c, client);
		return;
	}
	keep_files(client, &message);
	client->length += (size_t)n;
	take_lines(c, client);
}

static void add_client(struct bh_control *c, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };
	size_t i = 0;

	while (i < CLIENTS_MAX && c->clients[i].fd >= 0)
		i++;
	event.data.u64 = i;
	if (i == CLIENTS_MAX || epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		close(fd);
	else
		c->clients[i].fd = fd;
}

static void accept_client(struct bh_control *c)
{
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0)
		add_client(c, fd);
}

static void finish_job(struct bh_control *c)
{
	struct client *client = c->job.client;
	uint64_t count;

	(void)!read(c->done_fd, &count, sizeof count);
	if (client) {
		client->waits = false;
		answer(c, client, c->job.status, &c->job.err, &c->job.result);
	}
	job_clear(&c->job);
	if (client && client->fd >= 0)
		take_lines(c, client);
}

#define EVENT_LISTEN 100
#define EVENT_DONE 101

void bh_control_serve(struct bh_control *c)
{
	struct epoll_event events[CLIENTS_MAX + 2];
	int count = epoll_wait(c->epoll_fd, events, BH_ARRAY_SIZE(events), 0);

	for (int i = 0; i < count; i++) {
		if (events[i].data.u64 == EVENT_LISTEN)
			accept_client(c);
		else if (events[i].data.u64 == EVENT_DONE)
			finish_job(c);
		else if (c->clients[events[i].data.u64].fd >= 0)
			read_client(c, &c->clients[events[i].data.u64]);
	}
}

/* On the jobs' thread. */
static void run_job(void *context, uint32_t events)
{
	struct bh_control *c = context;
	uint64_t count;

	(void)events;
	(void)!read(c->start_fd, &count, sizeof count);
	c->job.status = c->job.command->run(c->machine, &c->job);
	count = 1;
	(void)!write(c->done_fd, &count, sizeof count);
}

static int add(struct bh_control *c, int fd, uint64_t what, struct bh_error *err)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = what };

	return epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? bh_error_set(err, errno, "wait for the control socket") : 0;
}

static bool listens(int fd)
{
	int value = 0;
	socklen_t size = sizeof value;

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size) == 0 && value;
}

int bh_control_make(struct bh_machine *m, int socket_fd, struct bh_control **ret_control, struct bh_error *err)
{
	struct bh_control *c = bh_calloc(1, sizeof *c);
	int r;

	c->machine = m;
	c->listen_fd = listens(socket_fd) ? socket_fd : -1;
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		c->clients[i].fd = -1;
	c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	c->start_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = c->epoll_fd < 0 || c->start_fd < 0 || c->done_fd < 0 ? bh_error_set(err, errno, "make the control socket's descriptors") : 0;
	if (r == 0 && c->listen_fd >= 0)
		r = add(c, c->listen_fd, EVENT_LISTEN, err);
	else if (r == 0)
		add_client(c, socket_fd);
	if (r == 0)
		r = add(c, c->done_fd, EVENT_DONE, err);
	if (r == 0)
		r = bh_loop_add(m->jobs, c->start_fd, EPOLLIN, run_job, c, err);
	if (r < 0)
		bh_control_free(c);
	else
		*ret_control = c;
	return r;
}

void bh_control_free(struct bh_control *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (c->clients[i].fd >= 0)
			drop(c, &c->clients[i]);
	job_clear(&c->job);
	bh_close_fd(&c->epoll_fd);
	bh_close_fd(&c->listen_fd);
	bh_close_fd(&c->start_fd);
	bh_close_fd(&c->done_fd);
	free(c);
}

int bh_control_event_fd(const struct bh_control *c)
{
	return c ? c->epoll_fd : -1;
}
