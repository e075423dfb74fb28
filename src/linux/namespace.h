/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces by type: their names, clone flags and files (namespaces(7)), and user-namespace maps (user_namespaces(7)). */
#pragma once

#include "base/error.h"
#include "oci/spec.h"

struct bh_namespace {
	const char *name;  /* as in config.json: "network" */
	const char *file;  /* in /proc/PID/ns: "net" */
	int flag;          /* CLONE_NEWNET */
};
extern const struct bh_namespace bh_namespaces[BH_NS_COUNT];

/* Opens a namespace file and checks with the kernel that it is one of this type. Returns the fd or -errno. */
int bh_namespace_open(int dirfd, const char *path, enum bh_namespace_type type, struct bh_error *err);

/*
 * Writes the maps of the new user namespace of a child. `proc_fd` is its /proc/PID folder. An ordinary user may write a map
 * of the own id alone (then setgroups(2) is denied in the namespace); for anything else newuidmap(1) and newgidmap(1) do it.
 */
int bh_id_maps_write(pid_t pid, int proc_fd, const struct bh_id_map *uid_maps, size_t uid_count, const struct bh_id_map *gid_maps, size_t gid_count,
		     struct bh_error *err);
/* Makes a user namespace that only its fd keeps alive, for id-mapped mounts. Returns the fd or -errno. */
int bh_user_namespace_new(const struct bh_id_map *uid_maps, size_t uid_count, const struct bh_id_map *gid_maps, size_t gid_count,
			  struct bh_error *err);
/* Is this process in a user namespace other than the first one, so that its root is not the machine's? */
bool bh_in_user_namespace(void);
/* Has this process's user namespace given up setgroups(2)? */
bool bh_setgroups_is_denied(void);
/* Is this container id mapped? */
bool bh_id_is_mapped(const struct bh_id_map *maps, size_t count, uint32_t container_id);
/* The host's number for a container's id; false if it is not mapped. */
bool bh_id_to_host(const struct bh_id_map *maps, size_t count, uint32_t container_id, uint32_t *ret_host_id);

/* Brings the loopback interface of the current network namespace up. */
int bh_loopback_up(struct bh_error *err);
/* Opens a private instance of procfs for the current pid namespace, seen by nobody else: what is read and written
 * through it can't be redirected by mounts that others made. Returns a detached mount. */
int bh_private_proc(struct bh_error *err);
