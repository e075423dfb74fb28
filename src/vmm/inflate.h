/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels without their wrapping: a bzImage inflates itself in the guest, which costs a guest second where exits are dear. So the starter has the
 * helper program do it once (bulkhead-image, locked in), and keeps the result. What is started then has no randomised base address.
 */
#pragma once

#include "base/error.h"

/* Returns an open file with the kernel as it is to be loaded: the executable inside the bzImage, or the same file again if it is none, or is
 * compressed in a way that isn't known. `folder` (NULL: nothing is kept) is made if need be; a kept file is known by the kernel's own device, inode,
 * size and time. */
int bh_vmm_inflate(int kernel_fd, const char *folder, struct bh_error *err);
