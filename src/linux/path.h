/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths below a root that an attacker may have prepared: whatever links and `..` the tree holds, the result lies inside
 * (openat2(2) RESOLVE_IN_ROOT; on kernels without it a walk over held folder fds with the same meaning).
 */
#pragma once

#include "base/error.h"

#include <sys/types.h>

/* Opens `path` as seen by a process whose root is `root_fd`. O_CLOEXEC is added. Returns the fd or -errno (no words). */
int bh_open_in_root(int root_fd, const char *path, int flags);

enum bh_node_kind { BH_NODE_DIRECTORY, BH_NODE_FILE };
/* Like bh_open_in_root with O_PATH, but makes what is missing: folders (0755) and, last, a folder or an empty file. A
 * link that points to nothing is followed, and its target made. */
int bh_make_in_root(int root_fd, const char *path, enum bh_node_kind kind, struct bh_error *err);
