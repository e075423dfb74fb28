/* SPDX-License-Identifier: Apache-2.0 */
/* Copying file trees with everything that a tree has. */
#pragma once

#include "base/error.h"

/* Applies a layer's folder (whiteouts as overlayfs keeps them) to the tree at root_fd. */
int bh_copy_layer(const char *layer, int root_fd, struct bh_error *err);
