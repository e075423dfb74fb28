/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels for guests, as users see them: `vm kernel`. */
#pragma once

#include "base/error.h"
#include "base/string.h"

#include <stdbool.h>

/* A kernel for guests. */
struct bh_guest_kernel {
	char *version; /* "6.12.117+deb12-cloud-amd64" */
	char *image;   /* bzImage */
	char *modules; /* its folder with modules.dep, or NULL: all is built in */
	const char *from; /* "BULKHEAD_KERNEL", the configuration file, "vm kernel install", "/boot"; NULL: the caller has named it */
};
/*
 * `path`, or BULKHEAD_KERNEL, or what /etc/bulkhead/config says, or the newest of ROOT/kernels, or the newest Debian one of /boot (cloud
 * kernels first). -ENOENT with the command that gets one.
 */
int bh_guest_kernel_find(const char *root, const char *path, struct bh_guest_kernel *ret_kernel, struct bh_error *err);
void bh_guest_kernel_clear(struct bh_guest_kernel *kernel);

/* Could ROOT/kernels/<name> be one? Other things lie there too. */
bool bh_guest_kernel_is_version(const char *name);

/* Debian's newest cloud kernel of this version ("6.12", "6.12.117+deb12"; NULL: the version that suits microVMs best). */
int bh_guest_kernel_install(const char *root, const char *version, char **ret_version, struct bh_error *err);
int bh_guest_kernel_list(const char *root, struct bh_strv *ret_versions, struct bh_error *err);
int bh_guest_kernel_remove(const char *root, const char *version, struct bh_error *err);
