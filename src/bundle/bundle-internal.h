/* SPDX-License-Identifier: Apache-2.0 */
/* Shared between this folder's files. */
#pragma once

#include "bundle/bundle.h"

#define BH_BUNDLE_RECORD "record"
#define BH_BUNDLE_INIT "init"
#define BH_BUNDLE_CGROUPS "cgroups"
#define BH_BUNDLE_SOCKET "start.sock"
#define BH_BUNDLE_MOUNT "mount"

/* The folder of the notify socket, its mount and its variable; notify.c. */
int bh_bundle_prepare_notify(struct bh_bundle *bundle, const char *manager, struct bh_error *err);
/* A new user namespace without any mappings has the caller's own ids, as root's (crun). After each parsing. */
void bh_bundle_default_maps(struct bh_spec *spec);
/* mount-options.c: what crun's mount options with values ask for, in the specification's own terms. */
int bh_bundle_mount_options(struct bh_spec *spec, struct bh_error *err);
/* host-root.c: a container without a mount namespace; its root as a detached mount, on record; and that mount's end. */
bool bh_bundle_shares_mounts(const struct bh_bundle *bundle);
int bh_bundle_make_root(struct bh_bundle *bundle, int *ret_mount_fd, struct bh_error *err);
int bh_bundle_detach_root(struct bh_bundle *bundle, struct bh_error *err);
/* microvm.c: a bundle as a microVM. The driver that the configuration asks for, else the one named `other`. */
int bh_bundle_find_driver(const struct bh_spec *spec, const char *other, const struct bh_isolation_driver **ret_driver, struct bh_error *err);
/* Can it be one, and how big is it? What a container has of the host's kernel leaves the configuration. `ret_vm` borrows from both. */
int bh_bundle_prepare_microvm(const struct bh_bundle_create *request, struct bh_bundle *bundle, struct bh_microvm *ret_vm, struct bh_error *err);
/* Where its cgroup is. Borrows from the bundle. */
struct bh_compartment_place bh_bundle_place(const struct bh_bundle *bundle);
/* Where its cgroup is, or will be; takes the paths over. */
void bh_bundle_take_cgroup(struct bh_bundle *bundle, struct bh_strv *paths, const char *unit);
/* Takes down where the cgroup is, in memory and, unless the record has told it, in the state folder. `cgroup` may be NULL. */
int bh_bundle_record_cgroup(struct bh_bundle *bundle, const struct bh_cgroup *cgroup, struct bh_error *err);
/* Hooks of one kind, told the bundle's status and pid. */
int bh_bundle_run_hooks(struct bh_bundle *bundle, const struct bh_spec_hooks *hooks, const char *kind, struct bh_error *err);
/* prestart and createRuntime, of a first process that isn't the container driver's. */
int bh_bundle_run_creation_hooks(const struct bh_bundle *bundle, pid_t pid, struct bh_error *err);
/* Kills what is left in the cgroup, removes it and the state folder. */
int bh_bundle_remove(struct bh_bundle *bundle, struct bh_error *err);

struct bh_bundle_restore {
	const struct bh_bundle_criu *criu;
	const struct bh_cgroup *cgroup;   /* made, and empty; or NULL */
	struct bh_container_stdio *stdio; /* gets the terminal's master */
	/* Called with the first process, a child of ours, while it is still stopped. */
	int (*restored)(void *context, pid_t pid, struct bh_error *err);
	void *context;
};
/* The processes of a checkpoint, in a container whose state folder and configuration are there. */
int bh_bundle_restore(const struct bh_bundle *bundle, const struct bh_bundle_restore *request, struct bh_error *err);
