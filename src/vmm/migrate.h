/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Live migration: a machine moves to another monitor, over a stream socket, while it runs (pre-copy).
 *
 *	sender                                            receiver (made with the same devices, memory and processors)
 *	hello: version, memory size, processors      -->  refuses what it can't be
 *	pages: a number, how many, their bytes       -->  all of memory; then again what was written meanwhile, until little enough is left
 *	(the machine stands) the last pages, state   -->  loads the state
 *	                                             <--  ready, or why not
 *	go                                           -->  runs
 *	(ends)
 *
 * Until "go" the machine is the sender's: whatever fails before, or is cancelled, leaves it running where it was. It never runs twice.
 */
#pragma once

#include "base/string.h"

struct bh_machine;

#define BH_MIGRATION_DOWNTIME_MS 300

struct bh_migration_config {
	int fd;              /* connected; stays the caller's */
	int64_t downtime_ms; /* how long the machine may stand */
	int64_t timeout_ms;  /* give up if it isn't done by then; 0: never */
	int64_t bandwidth;   /* bytes a second at most; 0: no limit */
};

/* Returns when the machine has moved (then it ends here with BH_VM_MOVED), or why it hasn't. *ret_result: members for the answer. On the jobs' thread. */
int bh_migration_send(struct bh_machine *machine, const struct bh_migration_config *config, struct bh_buf *ret_result, struct bh_error *err);
/* From any thread. */
void bh_migration_cancel(struct bh_machine *machine);
/* Members for an answer: state, rounds, bytes sent, bytes left. */
void bh_migration_describe(struct bh_machine *machine, struct bh_buf *out);
/* Fills a machine that hasn't started from config->incoming_fd; returns after "go". */
int bh_migration_receive(struct bh_machine *machine, struct bh_error *err);
