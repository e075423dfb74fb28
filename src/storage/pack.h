/* SPDX-License-Identifier: Apache-2.0 */
/* A folder as a tar archive (pax), with all metadata. Only the helper program links this. */
#pragma once

#include "base/error.h"

#include <stddef.h>

/* Takes the archive's bytes in order. 0 or -errno. */
typedef int bh_pack_write(void *context, const void *bytes, size_t size);

/*
 * Packs what is below folder_fd (its own file system only), sorted by name: owners, modes, times with nanoseconds,
 * extended attributes, hard links, holes, devices. Sockets are left out: no archive format has them.
 */
int bh_pack_folder(int folder_fd, bh_pack_write *write, void *context, struct bh_error *err);
