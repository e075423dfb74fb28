/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events: statistics and out-of-memory events of a container, one JSON object per line, until it ends; or statistics once.
 *
 * Waits on three descriptors: a timer for the interval, the cgroup's own event file, and the first process. Nothing is polled.
 */
#include "cli/oci/oci.h"

#include "base/file.h"

#include <errno.h>
#include <poll.h>
#include <sys/timerfd.h>

struct events_options {
	bool stats;
	int64_t interval_ns;
};

static const struct bh_option options[] = {
	{ 0, "stats", BH_OPTION_BOOL, offsetof(struct events_options, stats), NULL, "Show the statistics once, then end", NULL, false },
	{ 0, "interval", BH_OPTION_DURATION, offsetof(struct events_options, interval_ns), "TIME", "Between two statistics (default 5s)", NULL, false },
	{ 0 },
};

static void begin_event(struct bh_buf *line, const char *type, const char *id)
{
	bh_buf_addf(line, "{\"type\":\"%s\",\"id\":", type);
	bh_buf_add_json(line, id);
}

static int print(struct bh_buf *line, struct bh_error *err)
{
	int r;

	bh_buf_adds(line, "}\n");
	r = bh_write_all(STDOUT_FILENO, line->data, line->length);
	return r < 0 ? bh_error_set(err, -r, "write to stdout") : 0;
}

static int print_stats(struct bh_bundle *bundle, struct bh_error *err)
{
	bh_auto_buf struct bh_buf line = { 0 };
	int r;

	begin_event(&line, "stats", bundle->id);
	bh_buf_adds(&line, ",\"data\":");
	r = bh_bundle_write_stats(bundle, &line, err);
	return r < 0 ? r : print(&line, err);
}

static int print_oom(struct bh_bundle *bundle, struct bh_error *err)
{
	bh_auto_buf struct bh_buf line = { 0 };

	begin_event(&line, "oom", bundle->id);
	return print(&line, err);
}

static int start_timer(int64_t interval_ns, struct bh_error *err)
{
	const struct timespec interval = { interval_ns / 1000000000, interval_ns % 1000000000 };
	const struct itimerspec times = { interval, interval };
	bh_auto_close int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	if (fd < 0 || timerfd_settime(fd, 0, &times, NULL) < 0)
		return bh_error_set(err, errno, "make a timer");
	return BH_TAKE_FD(fd);
}

/* Whether the container has ended. */
static int take_events(struct bh_bundle *bundle, struct bh_cgroup_watch *watch, const struct pollfd *fds, bool *ret_ended, struct bh_error *err)
{
	bool oom = false, ended = false;
	uint64_t ticks;
	int r = 0;

	if (fds[1].revents)
		bh_cgroup_watch_read(watch, &oom, &ended);
	if (oom)
		r = print_oom(bundle, err);
	*ret_ended = ended || fds[2].revents;
	if (r == 0 && fds[0].revents && read(fds[0].fd, &ticks, sizeof ticks) == (ssize_t)sizeof ticks && !*ret_ended)
		r = print_stats(bundle, err);
	return r;
}

static int follow(struct bh_bundle *bundle, int64_t interval_ns, struct bh_error *err)
{
	struct bh_cgroup_watch watch = { .fd = -1, .folder_fd = -1, .control_fd = -1 };
	bh_auto_close int timer = start_timer(interval_ns, err);
	bool ended = false;
	int r = timer;

	/* Without the memory controller there are statistics only. */
	if (r >= 0) {
		r = bh_bundle_watch(bundle, &watch, err);
		r = r == -ENOENT ? 0 : r;
	}
	while (r >= 0 && !ended) {
		struct pollfd fds[] = { { timer, POLLIN, 0 }, { watch.fd, POLLIN, 0 }, { bundle->pidfd, POLLIN, 0 } };

		if (poll(fds, BH_ARRAY_SIZE(fds), -1) < 0)
			r = errno == EINTR ? 0 : bh_error_set(err, errno, "wait for events");
		else
			r = take_events(bundle, &watch, fds, &ended, err);
	}
	bh_cgroup_watch_close(&watch);
	return r;
}

static int run(void *arg, int argc, char **argv)
{
	const struct events_options *o = arg;
	struct bh_bundle bundle = BH_BUNDLE_INIT_VALUE;
	struct bh_error err = BH_ERROR_INIT;
	int r = bh_oci_open(argv, false, &bundle, &err);

	(void)argc;
	if (r == 0 && o->interval_ns <= 0)
		r = bh_error_text(&err, EINVAL, "duration interval must be greater than 0");
	if (r == 0 && bundle.pidfd < 0)
		r = bh_error_text(&err, EINVAL, "container with id %s is not running", bundle.id);
	if (r == 0)
		r = o->stats ? print_stats(&bundle, &err) : follow(&bundle, o->interval_ns, &err);
	bh_bundle_close(&bundle);
	return r < 0 ? bh_oci_fail(&err, 1) : 0;
}

static void preset(void *arg)
{
	struct events_options *o = arg;

	o->interval_ns = INT64_C(5000000000);
}

const struct bh_command bh_oci_command_events = {
	.name = "events",
	.synopsis = "[OPTIONS] CONTAINER",
	.summary = "Show statistics and out-of-memory events of a container",
	.description = "Writes one JSON object per line: {\"type\":\"stats\"} with the counters of the container's cgroup at each interval,"
		       " and {\"type\":\"oom\"} when the kernel has killed a process for lack of memory. Ends when the container ends.",
	.sets = { options },
	.options_size = sizeof(struct events_options),
	.min_arguments = 1,
	.max_arguments = 1,
	.preset = preset,
	.run = run,
};
