/* SPDX-License-Identifier: Apache-2.0 */
/* Unix sockets by path, also by one that is longer than a socket address, and files that travel over them. */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <sys/types.h>

/* A listening stream socket at a path that must not exist, mode 0600. */
int bh_unix_listen(const char *path, struct bh_error *err);
int bh_unix_connect(const char *path, struct bh_error *err);
/* One message with files in it. -errno. */
int bh_unix_send(int fd, const void *bytes, size_t length, const int *files, size_t file_count);
