/* SPDX-License-Identifier: Apache-2.0 */
/* The default profile for the usual bounding sets, compiled at build time by tools/embed-seccomp.c: read-only data that
 * costs nothing at start. */
#include "linux/seccomp-internal.h"

#include "seccomp-builtin.h"
