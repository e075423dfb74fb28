/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "engine/domain.h"
#include "engine/engine-internal.h"

/* -EINVAL unless it is a name that a file may have. */
int bh_domain_check_name(const char *what, const char *name, struct bh_error *err);
/* Names of the folders below dir_fd/path that hold the file `needed`, sorted; a missing path has none. */
int bh_domain_list_folders(int dir_fd, const char *path, const char *needed, struct bh_strv *ret_names, struct bh_error *err);
char *bh_domain_random_uuid(void);
/* The snapshot's two files, open for reading. */
int bh_domain_snapshot_open(struct bh_domain *domain, const char *snapshot, int *ret_state_fd, int *ret_memory_fd, struct bh_error *err);
/* What the monitor of a machine with an image boots; all the caller's. */
int bh_domain_image_boot(struct bh_domain *domain, int *ret_kernel_fd, int *ret_initrd_fd, char **ret_command_line, struct bh_error *err);
/* Words and files of a device, both the caller's. */
struct bh_vmm_device;
int bh_domain_disk_device(const struct bh_domain_disk *disk, struct bh_vmm_device *ret_device, struct bh_error *err);
int bh_domain_net_device(const struct bh_domain_net *net, struct bh_vmm_device *ret_device, struct bh_error *err);
/* Disks and cards can come and go while it runs. */
bool bh_domain_is_pluggable(const struct bh_domain_definition *definition);
/* What the machine that runs has. */
int bh_domain_save_running(struct bh_domain *domain, const struct bh_domain_definition *definition, struct bh_error *err);
/* The vsock socket's path; the caller's. */
char *bh_domain_vsock_path(const struct bh_domain *domain);
