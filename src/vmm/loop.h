/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that waits for file descriptors and serves them: how devices work beside the vcpus.
 *
 * Handlers of one loop never run at the same time. Descriptors are added before the loop is started, or by its own handlers; only
 * bh_loop_pause, bh_loop_resume and bh_loop_stop are for other threads. While a loop is paused no handler runs: the state of its
 * devices stands still and can be saved, and whoever has paused it may add and remove descriptors (but no timer).
 */
#pragma once

#include "base/error.h"
#include "vmm/jail.h"

#include <stdbool.h>
#include <stdint.h>

struct bh_loop;

/* `events` as epoll_wait tells them. */
typedef void bh_loop_handler(void *context, uint32_t events);

/* `name`: the thread's, at most 15 bytes; static. */
int bh_loop_make(const char *name, struct bh_loop **ret_loop, struct bh_error *err);
/* Ends the thread first. NULL is nothing. The descriptors stay open. */
void bh_loop_free(struct bh_loop *loop);

/* One handler per descriptor. `events` 0: only errors and hang-ups. */
int bh_loop_add(struct bh_loop *loop, int fd, uint32_t events, bh_loop_handler *handler, void *context, struct bh_error *err);
void bh_loop_set_events(struct bh_loop *loop, int fd, uint32_t events);
/* Before the descriptor is closed. One that was not added is nothing. */
void bh_loop_remove(struct bh_loop *loop, int fd);
/* At a monotonic time (bh_monotonic_ns) `handler` runs once, with 0 events. The same handler and context again: a new time for it; 0: never. */
void bh_loop_set_timer(struct bh_loop *loop, int64_t deadline_ns, bh_loop_handler *handler, void *context);

/* `locked`: the thread locks itself into the system calls of its kind (jail.h). */
int bh_loop_start(struct bh_loop *loop, enum bh_thread_kind kind, bool locked, struct bh_error *err);
/* Returns when no handler runs. Not from a handler. */
void bh_loop_pause(struct bh_loop *loop);
void bh_loop_resume(struct bh_loop *loop);
/* Ends the thread and waits for it. */
void bh_loop_stop(struct bh_loop *loop);
/* For tests: handles what is ready now, on the calling thread; the loop isn't started. */
void bh_loop_turn(struct bh_loop *loop);
