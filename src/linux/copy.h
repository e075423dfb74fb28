/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

/* Copies what lies in the folder from_fd into the folder to_fd: contents, owners, modes, times, extended attributes,
 * links and special files. Follows no links and enters no other file system. The folder's own mode and owner too. */
int bh_copy_tree(int from_fd, int to_fd, struct bh_error *err);
