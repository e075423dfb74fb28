/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file server: a process that shares one folder, for guests whose monitor has no right to files.
 *
 *	guest ── virtio-fs ── monitor (no rights) ── socket ── bulkhead-vmm --files (the folder, and nothing else) ── fuse/ ── files
 *
 * It has the capabilities that handling other users' files takes, and its folder; its own file system is empty, its network and processes are namespaces
 * of its own, and it locks itself into the system calls of file work. A request on the socket is { u32 length, u32 room } and the
 * FUSE request; the answer { u32 length, u32 0 } and the reply, whose length may be 0. One at a time.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Starts a server for the folder; it dies with the caller. The socket is for bh_files_ask, or for the monitor. Needs root. */
int bh_files_spawn(int folder_fd, bool readonly, int *ret_socket_fd, pid_t *ret_pid, struct bh_error *err);
/* One request and its reply. -errno: the server is gone, or what came isn't a reply; the socket is of no use then. */
int bh_files_ask(int socket_fd, const struct iovec *in, size_t in_count, const struct iovec *out, size_t out_count, size_t *ret_length);
/* The server itself: serves until the other end is closed. In namespaces that bh_files_spawn made. Returns the exit status. */
int bh_files_serve(int folder_fd, int socket_fd, bool readonly);
