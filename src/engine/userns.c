/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --userns, --uidmap, --gidmap.
 *
 *	host            no user namespace (the default)
 *	auto[:size=N]   a range of its own for each container: root inside is nobody outside, and no two containers share ids
 *	private, remap  the same as auto
 * The range is derived from the container's id inside the space that systemd-nspawn and its kin use for containers
 * (524288 - 1878982656), in units of 65536, so that no file has to be kept; a clash of two ids is possible in theory
 * (1 : 28,000) and costs only that these two containers don't differ in their host ids.
 *
 * Files: image layers stay as they are on disk; the root file system is mounted id-mapped.
 */
#include "engine/engine-internal.h"

#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sched.h>
#include <sys/wait.h>

#define RANGE_FIRST 524288u
#define RANGE_UNIT 65536u
#define RANGE_COUNT 28662u

static struct bh_id_map *one_map(uint32_t host_id, uint32_t size)
{
	struct bh_id_map *map = bh_calloc(1, sizeof *map);

	*map = (struct bh_id_map){ .container_id = 0, .host_id = host_id, .size = size };
	return map;
}

static uint32_t own_range(const char *id)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (; *id; id++)
		hash = (hash ^ (unsigned char)*id) * 16777619u;
	return RANGE_FIRST + hash % RANGE_COUNT * RANGE_UNIT;
}

/* "0:100000:65536" */
static int parse_maps(const struct bh_strv *texts, const char *option, struct bh_id_map **ret_maps, size_t *ret_count, struct bh_error *err)
{
	struct bh_id_map *maps = bh_calloc(texts->count, sizeof *maps);

	*ret_maps = maps;
	for (size_t i = 0; i < texts->count; i++) {
		bh_auto_strv struct bh_strv parts = bh_strv_split(texts->items[i], ':');
		uint64_t values[3];

		for (size_t p = 0; p < 3; p++)
			if (parts.count != 3 || bh_parse_uint(parts.items[p], UINT32_MAX - 1, &values[p]) < 0)
				return bh_error_text(err, EINVAL, "invalid --%s '%s': the format is container:host:size", option, texts->items[i]);
		maps[i] = (struct bh_id_map){ (uint32_t)values[0], (uint32_t)values[1], (uint32_t)values[2] };
		if (!maps[i].size)
			return bh_error_text(err, EINVAL, "invalid --%s '%s': the size is 0", option, texts->items[i]);
		*ret_count = i + 1;
	}
	return 0;
}

static int explicit_maps(const struct bh_create_options *o, struct bh_spec *spec, struct bh_error *err)
{
	const struct bh_strv *uids = o->uidmap.count ? &o->uidmap : &o->gidmap;
	const struct bh_strv *gids = o->gidmap.count ? &o->gidmap : &o->uidmap;
	int r = parse_maps(uids, "uidmap", &spec->uid_mappings, &spec->uid_mapping_count, err);

	if (r == 0)
		r = parse_maps(gids, "gidmap", &spec->gid_mappings, &spec->gid_mapping_count, err);
	spec->namespaces[BH_NS_USER].present = true;
	return r;
}

int bh_engine_apply_userns(struct bh_engine *engine, const struct bh_create_options *o, const char *id, struct bh_spec *spec, struct bh_error *err)
{
	const char *mode = o->userns;
	uint64_t size = RANGE_UNIT;
	uint32_t first;

	(void)engine;
	if (o->uidmap.count || o->gidmap.count)
		return explicit_maps(o, spec, err);
	if (!mode || !*mode || bh_streq(mode, "host"))
		return 0;
	if (bh_has_prefix(mode, "auto:size=") && bh_parse_uint(mode + strlen("auto:size="), RANGE_UNIT, &size) == 0 && size > 0)
		mode = "auto";
	if (!bh_streq(mode, "auto") && !bh_streq(mode, "private") && !bh_streq(mode, "remap"))
		return bh_error_text(err, EINVAL, "invalid --userns mode '%s': host, auto[:size=N] (up to %u), private, remap, or --uidmap/--gidmap",
				     o->userns, RANGE_UNIT);
	first = own_range(id);
	spec->uid_mappings = one_map(first, (uint32_t)size);
	spec->gid_mappings = one_map(first, (uint32_t)size);
	spec->uid_mapping_count = spec->gid_mapping_count = 1;
	spec->namespaces[BH_NS_USER].present = true;
	return 0;
}

static int write_map(pid_t pid, const char *file, const struct bh_id_map *maps, size_t count, struct bh_error *err)
{
	bh_auto_free char *path = bh_printf("/proc/%d/%s", (int)pid, file);
	bh_auto_buf struct bh_buf text = { 0 };

	for (size_t i = 0; i < count; i++)
		bh_buf_addf(&text, "%u %u %u\n", maps[i].container_id, maps[i].host_id, maps[i].size);
	return bh_write_value_at(AT_FDCWD, path, text.data ? text.data : "", err);
}

int bh_engine_userns_fd(const struct bh_spec *spec, struct bh_error *err)
{
	struct clone_args args = { .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };
	bh_auto_free char *path = NULL;
	pid_t pid;
	int r;

	if (spec->namespaces[BH_NS_USER].path) {
		r = open(spec->namespaces[BH_NS_USER].path, O_RDONLY | O_CLOEXEC);
		return r < 0 ? bh_error_set(err, errno, "open %s", spec->namespaces[BH_NS_USER].path) : r;
	}
	pid = bh_clone3(&args);
	if (pid == 0)
		for (;;)
			pause(); /* until we have its namespace's fd and kill it */
	if (pid < 0)
		return bh_error_set(err, (int)-pid, "clone into a new user namespace");
	r = write_map(pid, "uid_map", spec->uid_mappings, spec->uid_mapping_count, err);
	if (r == 0)
		r = write_map(pid, "gid_map", spec->gid_mappings, spec->gid_mapping_count, err);
	if (r == 0) {
		path = bh_printf("/proc/%d/ns/user", (int)pid);
		r = open(path, O_RDONLY | O_CLOEXEC);
		if (r < 0)
			r = bh_error_set(err, errno, "open %s", path);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return r;
}
