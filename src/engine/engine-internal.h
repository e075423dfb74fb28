/* SPDX-License-Identifier: Apache-2.0 */
/* Shared between the engine's files only. */
#pragma once

#include "engine/engine.h"

#include "linux/process.h"

#include <inttypes.h>
#include <sys/file.h>

/*
 * STATE/containers/<id>/run is a symbolic link that leads nowhere; its text is the state of a run: pid, its start time,
 * the shim's pid and start time, when it was started, how often restarted. Made, replaced and read by one system call
 * each, always whole, and short enough to need no disk block.
 */
#define BH_RUN_FORMAT "%d:%" SCNx64 ":%d:%" SCNx64 ":%" SCNx64 ":%" SCNx64

/* NULL if the file is missing or no JSON. */
json_object *bh_engine_read_json(int dirfd, const char *path);
/* What the link of a name holds (see record.c). */
#define BH_NAME_TEXT_LENGTH 43
void bh_engine_name_text(const char *id, char ret_text[BH_NAME_TEXT_LENGTH + 1]);
int bh_engine_read_name(struct bh_engine *engine, const char *name, char ret_id[BH_ID_LENGTH + 1]);
void bh_engine_sweep_half_made(struct bh_engine *engine, const char *id);
/* The files part of a removal: cgroup, state, record, rest, name, folder. The container is locked and not running. */
int bh_engine_remove_files(struct bh_engine *engine, struct bh_container *container, struct bh_error *err);

/* Where a container's compartment is, with the strings that the place borrows. */
struct bh_engine_place {
	struct bh_compartment_place place;
	char *path, *state;
};
void bh_engine_place(const struct bh_container *container, struct bh_engine_place *ret_place);
void bh_engine_place_clear(struct bh_engine_place *place);
#define bh_auto_place __attribute__((cleanup(bh_engine_place_clear)))

/* What a microVM needs to know of a container. It borrows from the container; clear frees the rest. */
struct bh_engine_microvm {
	struct bh_microvm vm;
	struct bh_engine *engine;
	struct bh_container *container;
	char *folder;
	char key[BH_DIGEST_HEX_LENGTH + 1];
	struct bh_strv groups;
	struct bh_container_file etc[3];
	struct bh_microvm_file files[3];
};
void bh_engine_microvm_init(struct bh_engine *engine, struct bh_container *container, struct bh_engine_microvm *ret_microvm);
/* The files of /etc, for a start. */
void bh_engine_microvm_add_files(struct bh_engine_microvm *microvm, struct bh_spec *spec);
void bh_engine_microvm_clear(struct bh_engine_microvm *microvm);

/* The process of an exec: the configuration's own environment, limits and capabilities with the request's changes. */
int bh_engine_exec_process(const struct bh_exec_options *options, char *const *command, struct bh_spec_process *process, struct bh_error *err);
/* The pipes that it needs; what was made before a failure is in the two structures. */
int bh_engine_exec_pipes(const struct bh_exec_options *options, struct bh_exec *exec, struct bh_container_stdio *stdio, struct bh_error *err);

/* The run-time folder of a locked container: opens it as its state_fd, new or as it is. */
int bh_engine_make_state_folder(struct bh_engine *engine, struct bh_container *container, struct bh_error *err);
/* Kills what is left in the compartment and removes it. */
int bh_engine_destroy_compartment(struct bh_container *container, struct bh_error *err);
/* Unlinks every name that holds this id (a half-made container does not know its own). */
void bh_engine_drop_names_of(struct bh_engine *engine, const char *id);
/* For a locked container whose shim still lives although the container has ended: waits for it, under no lock, and
 * locks and reads again. The record may be gone afterwards (NULL). */
int bh_engine_settle(struct bh_engine *engine, struct bh_container *container, struct bh_error *err);
/* Claims a name for an id. -EEXIST with Docker's words. */
int bh_engine_claim_name(struct bh_engine *engine, const char *name, const char *id, struct bh_error *err);

/* One mount of a container, as `-v` and `--mount` describe it; becomes a spec mount and an entry of inspect's Mounts. */
struct bh_mount_request {
	char *type;        /* "bind", "volume", "tmpfs" */
	char *source;      /* host path, or volume name (NULL: anonymous) */
	char *target;
	bool readonly, nocopy, create_source;
	char *propagation; /* "rprivate" ... or NULL */
	struct bh_strv options;
};
struct bh_mount_list {
	struct bh_mount_request *items;
	size_t count, capacity;
};
void bh_mount_list_clear(struct bh_mount_list *list);
/* -v, --mount, --tmpfs and the image's volumes, later ones replacing earlier ones with the same target. */
int bh_engine_parse_mounts(const struct bh_create_options *options, const struct bh_image *image, struct bh_mount_list *ret_list, struct bh_error *err);
/* Makes volumes and missing host folders, adds the spec mounts, and describes them for inspect ("mounts" array). */
int bh_engine_apply_mounts(struct bh_engine *engine, const struct bh_mount_list *list, struct bh_spec *spec, json_object *ret_mounts, struct bh_error *err);
/* First use of a volume: the image's content at that place is copied into it. `root_fd` is the container's root. */
int bh_engine_fill_volumes(struct bh_engine *engine, struct bh_container *container, int root_fd, struct bh_error *err);
bool bh_engine_has_volumes_to_fill(struct bh_container *container);
int bh_engine_remove_volumes(struct bh_engine *engine, struct bh_container *container, struct bh_error *err);

/* Options that only touch the spec: resources, capabilities, security, namespaces, devices, ulimits, sysctls. */
int bh_engine_apply_options(struct bh_engine *engine, const struct bh_create_options *options, struct bh_spec *spec, struct bh_error *err);
/* --userns, --uidmap, --gidmap: sets the spec's maps. */
int bh_engine_apply_userns(struct bh_engine *engine, const struct bh_create_options *options, const char *id, struct bh_spec *spec, struct bh_error *err);
/* A user namespace with these maps, held by an fd (for id-mapped mounts). */
int bh_engine_userns_fd(const struct bh_spec *spec, struct bh_error *err);
/* Env files and lists: "KEY=value", or "KEY" taken from our own environment. */
int bh_engine_add_env(struct bh_strv *env, const struct bh_strv *files, const struct bh_strv *values, struct bh_error *err);

/* The files of /etc that belong to the container and not to its image. Returns how many; each content is to be freed. */
#define BH_ETC_FILES_MAX 3
size_t bh_engine_etc_files(struct bh_container *container, struct bh_spec *spec, struct bh_container_file ret_files[BH_ETC_FILES_MAX]);

/* Fills the fields that mirror `record`. */
void bh_container_set_record(struct bh_container *container);
