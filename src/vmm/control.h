/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket: how a running machine is asked and told things (docs/vmm.md has the commands).
 *
 * A stream socket; a request is one line with a flat JSON object, its answer one line too, in order. Files come with the request's bytes
 * (SCM_RIGHTS), since the monitor can open none. What takes long (snapshots, migration) runs on a thread of its own, one at a time, and
 * is answered when it has ended; meanwhile other connections are served.
 *
 * Whoever can connect owns the machine; all the same what they send is checked like any bytes from outside.
 */
#pragma once

#include "base/error.h"

struct bh_machine;
struct bh_control;

/* `socket_fd` is taken over: a listening socket, or a connection that is the only one. */
int bh_control_make(struct bh_machine *machine, int socket_fd, struct bh_control **ret_control, struct bh_error *err);
/* The jobs' thread has ended. NULL is nothing. */
void bh_control_free(struct bh_control *control);
/* Readable when there is something to do: then bh_control_serve. -1 for NULL. */
int bh_control_event_fd(const struct bh_control *control);
void bh_control_serve(struct bh_control *control);
