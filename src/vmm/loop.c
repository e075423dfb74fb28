/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop is an epoll set and a table of handlers by descriptor. A handler may remove any descriptor, also one whose event of the
 * same turn is still to come: each entry has a number of its own, which its events carry, so an old event meets no new handler.
 */
#include "vmm/loop.h"

#include "base/memory.h"
#include "base/time.h"
#include "vmm/jail.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_PER_TURN 64
#define FDS_MAX (1 << 16)

struct entry {
	bh_loop_handler *handler; /* NULL: none */
	void *context;
	uint32_t number;
};

struct timer {
	bh_loop_handler *handler;
	void *context;
	int64_t deadline_ns;
};

struct bh_loop {
	const char *name;
	int epoll_fd, stop_fd;
	struct entry *entries; /* by descriptor */
	size_t capacity;
	uint32_t last_number;
	struct timer *timers;
	size_t timer_count, timer_capacity;
	pthread_t thread;
	bool started, locked;
	enum bh_thread_kind kind;
	pthread_mutex_t turn; /* held while handlers run */
	pthread_cond_t resumed;
	atomic_bool paused, stopping;
};

int bh_loop_make(const char *name, struct bh_loop **ret_loop, struct bh_error *err)
{
	struct bh_loop *loop = bh_calloc(1, sizeof *loop);
	struct epoll_event event = { .events = EPOLLIN };

	loop->name = name;
	pthread_mutex_init(&loop->turn, NULL);
	pthread_cond_init(&loop->resumed, NULL);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	event.data.u64 = (uint32_t)loop->stop_fd;
	if (loop->epoll_fd < 0 || loop->stop_fd < 0 || epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->stop_fd, &event) < 0) {
		int r = bh_error_set(err, errno, "make an epoll set");

		bh_loop_free(loop);
		return r;
	}
	*ret_loop = loop;
	return 0;
}

void bh_loop_free(struct bh_loop *loop)
{
	if (!loop)
		return;
	bh_loop_stop(loop);
	bh_close_fd(&loop->epoll_fd);
	bh_close_fd(&loop->stop_fd);
	free(loop->entries);
	free(loop->timers);
	free(loop);
}

static uint64_t event_data(const struct bh_loop *loop, int fd)
{
	return (uint64_t)loop->entries[fd].number << 32 | (uint32_t)fd;
}

int bh_loop_add(struct bh_loop *loop, int fd, uint32_t events, bh_loop_handler *handler, void *context, struct bh_error *err)
{
	struct epoll_event event = { .events = events };

	if (fd < 0 || fd >= FDS_MAX)
		return bh_error_text(err, EBADF, "descriptor %d can't be waited for", fd);
	if ((size_t)fd >= loop->capacity) {
		size_t before = loop->capacity;

		loop->entries = bh_grow(loop->entries, &loop->capacity, (size_t)fd + 1, sizeof *loop->entries);
		memset(loop->entries + before, 0, (loop->capacity - before) * sizeof *loop->entries);
	}
	loop->entries[fd] = (struct entry){ handler, context, ++loop->last_number };
	event.data.u64 = event_data(loop, fd);
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		loop->entries[fd].handler = NULL;
		return bh_error_set(err, errno, "wait for descriptor %d", fd);
	}
	return 0;
}

static bool has(const struct bh_loop *loop, int fd)
{
	return fd >= 0 && (size_t)fd < loop->capacity && loop->entries[fd].handler;
}

void bh_loop_set_events(struct bh_loop *loop, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events };

	if (!has(loop, fd))
		return;
	event.data.u64 = event_data(loop, fd);
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, fd, &event);
}

void bh_loop_remove(struct bh_loop *loop, int fd)
{
	if (!has(loop, fd))
		return;
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	loop->entries[fd].handler = NULL;
}

void bh_loop_set_timer(struct bh_loop *loop, int64_t deadline_ns, bh_loop_handler *handler, void *context)
{
	size_t i = 0;

	while (i < loop->timer_count && (loop->timers[i].handler != handler || loop->timers[i].context != context))
		i++;
	if (deadline_ns == 0) {
		if (i < loop->timer_count)
			loop->timers[i] = loop->timers[--loop->timer_count];
		return;
	}
	if (i == loop->timer_count)
		loop->timers = bh_grow(loop->timers, &loop->timer_capacity, ++loop->timer_count, sizeof *loop->timers);
	loop->timers[i] = (struct timer){ handler, context, deadline_ns };
}

static int next_timeout_ms(const struct bh_loop *loop)
{
	int64_t first = INT64_MAX, left;

	for (size_t i = 0; i < loop->timer_count; i++)
		first = BH_MIN(first, loop->timers[i].deadline_ns);
	if (first == INT64_MAX)
		return -1;
	left = first - bh_monotonic_ns();
	return left <= 0 ? 0 : (int)BH_MIN(left / 1000000 + 1, (int64_t)INT32_MAX);
}

static void run_timers(struct bh_loop *loop)
{
	int64_t now = loop->timer_count ? bh_monotonic_ns() : 0;

	for (size_t i = 0; i < loop->timer_count;) {
		struct timer timer = loop->timers[i];

		if (timer.deadline_ns > now) {
			i++;
			continue;
		}
		loop->timers[i] = loop->timers[--loop->timer_count];
		timer.handler(timer.context, 0);
		/* It may have changed the list: what is due later than now doesn't run twice. */
		i = 0;
	}
}

static void handle(struct bh_loop *loop, const struct epoll_event *events, int count)
{
	for (int i = 0; i < count; i++) {
		int fd = (int)(uint32_t)events[i].data.u64;
		struct entry *entry = has(loop, fd) ? &loop->entries[fd] : NULL;

		if (entry && entry->number == events[i].data.u64 >> 32)
			entry->handler(entry->context, events[i].events);
	}
	run_timers(loop);
}

void bh_loop_turn(struct bh_loop *loop)
{
	struct epoll_event events[EVENTS_PER_TURN];
	int count = epoll_wait(loop->epoll_fd, events, EVENTS_PER_TURN, 0);

	handle(loop, events, count);
}

static void *run(void *arg)
{
	struct bh_loop *loop = arg;
	struct bh_error err = BH_ERROR_INIT;
	int timeout_ms = next_timeout_ms(loop);

	pthread_setname_np(pthread_self(), loop->name);
	/* It has worked for the owner of the process, or will in a moment: a thread that stays unlocked must not serve. */
	if (loop->locked && bh_jail_lock(loop->kind, &err) < 0)
		abort();
	while (!atomic_load(&loop->stopping)) {
		struct epoll_event events[EVENTS_PER_TURN];
		int count = epoll_wait(loop->epoll_fd, events, EVENTS_PER_TURN, timeout_ms);

		pthread_mutex_lock(&loop->turn);
		while (atomic_load(&loop->paused) && !atomic_load(&loop->stopping))
			pthread_cond_wait(&loop->resumed, &loop->turn);
		if (!atomic_load(&loop->stopping))
			handle(loop, events, count);
		timeout_ms = next_timeout_ms(loop);
		pthread_mutex_unlock(&loop->turn);
	}
	return NULL;
}

int bh_loop_start(struct bh_loop *loop, enum bh_thread_kind kind, bool locked, struct bh_error *err)
{
	sigset_t all, before;
	int r;

	loop->kind = kind;
	loop->locked = locked;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	r = pthread_create(&loop->thread, NULL, run, loop);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r != 0)
		return bh_error_set(err, r, "start the thread %s", loop->name);
	loop->started = true;
	return 0;
}

void bh_loop_pause(struct bh_loop *loop)
{
	/* The flag first: a busy loop sees it at its next turn and lets us have the lock. */
	atomic_store(&loop->paused, true);
	pthread_mutex_lock(&loop->turn);
	pthread_mutex_unlock(&loop->turn);
}

void bh_loop_resume(struct bh_loop *loop)
{
	pthread_mutex_lock(&loop->turn);
	atomic_store(&loop->paused, false);
	pthread_cond_broadcast(&loop->resumed);
	pthread_mutex_unlock(&loop->turn);
}

void bh_loop_stop(struct bh_loop *loop)
{
	uint64_t one = 1;

	if (!loop->started)
		return;
	pthread_mutex_lock(&loop->turn);
	atomic_store(&loop->stopping, true);
	pthread_cond_broadcast(&loop->resumed);
	pthread_mutex_unlock(&loop->turn);
	(void)!write(loop->stop_fd, &one, sizeof one);
	pthread_join(loop->thread, NULL);
	loop->started = false;
}
