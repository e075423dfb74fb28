/* SPDX-License-Identifier: Apache-2.0 */
/* Unix sockets by path, also by one that is longer than a socket address, files that travel over them, and TCP for a machine that moves. */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <sys/types.h>

/* A listening stream socket at a path that must not exist, mode 0600. */
int bh_unix_listen(const char *path, struct bh_error *err);
int bh_unix_connect(const char *path, struct bh_error *err);
/*
 * A place is a path, or tcp://ADDRESS:PORT: an IPv4 address, or an IPv6 one in brackets. No names: nothing waits for a resolver.
 * By TCP a connection is made within BH_TCP_CONNECT_MS, and a peer that is silent or takes nothing for BH_TCP_SILENCE_MS is given up: reads fail with
 * EAGAIN, what was sent with ETIMEDOUT.
 */
#define BH_TCP_CONNECT_MS 10000
#define BH_TCP_SILENCE_MS 30000
int bh_socket_connect(const char *place, struct bh_error *err);
/* Listens at the place until one has come, whom it returns; nobody listens there any more, and of a path nothing is left. */
int bh_socket_accept_one(const char *place, struct bh_error *err);
/* One message with files in it. -errno. */
int bh_unix_send(int fd, const void *bytes, size_t length, const int *files, size_t file_count);
