/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A debugger's way into the machine: GDB's remote protocol (gdb-session.h) on KVM.
 *
 * A thread of its own waits for one debugger at a time. The processors stand at their first instruction until it says go on; while it has the machine
 * standing, and from the moment that it connects, they are held (bh_vm_hold), which is independent of pause and resume. A debugger that
 * leaves, in whatever way, takes its breakpoints with it, and the machine runs on.
 *
 * Addresses are virtual, as the chosen processor translates them. Software breakpoints are int3 instructions in the guest's memory (reads don't
 * show them); hardware breakpoints and watchpoints are the four debug registers, which the guest can't use meanwhile. A breakpoint of the
 * guest's own, an int3 that isn't ours, goes to the guest. Of two processors that stop at the same moment the first is told of.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>

struct bh_gdb;
struct bh_vm;

/* `listen_fd` is taken over. Before bh_vm_start; holds the processors. */
int bh_gdb_make(struct bh_vm *vm, int listen_fd, struct bh_gdb **ret_gdb, struct bh_error *err);
int bh_gdb_start(struct bh_gdb *gdb, bool locked, struct bh_error *err);
/* The machine has ended, with this status: the debugger is told. NULL is nothing. */
void bh_gdb_stop(struct bh_gdb *gdb, int status);
void bh_gdb_free(struct bh_gdb *gdb);
