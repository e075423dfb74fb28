/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mount options with values of crun(1) that podman gives: "idmap=uids=0-1-10#10-11-10;gids=@0-100-10". They become the
 * specification's own uidMappings and gidMappings of that mount with the plain option. The numbers of a range are its first id
 * on the file system, the first id that is shown for it, and its length; with '@' the second is one of the container's user
 * namespace.
 */
#include "bundle/bundle-internal.h"

#include "linux/namespace.h"

#include <errno.h>
#include <stdlib.h>

#define RANGES_MAX 340 /* user_namespaces(7) */

static int parse_range(const char *text, const struct bh_id_map *container, size_t container_count, struct bh_id_map *ret)
{
	bool relative = *text == '@';
	bh_auto_strv struct bh_strv numbers = bh_strv_split(text + relative, '-');
	uint64_t n[3];

	if (numbers.count != 3)
		return -EINVAL;
	for (size_t i = 0; i < 3; i++)
		if (bh_parse_uint(numbers.items[i], UINT32_MAX - 1, &n[i]) < 0)
			return -EINVAL;
	*ret = (struct bh_id_map){ (uint32_t)n[0], (uint32_t)n[1], (uint32_t)n[2] };
	if (!ret->size)
		return -EINVAL;
	return relative && !bh_id_to_host(container, container_count, (uint32_t)n[1], &ret->host_id) ? -EINVAL : 0;
}

static int parse_ranges(const char *text, const struct bh_id_map *container, size_t container_count, struct bh_id_map **ret_maps, size_t *ret_count)
{
	bh_auto_strv struct bh_strv ranges = bh_strv_split(text, '#');
	bh_auto_free struct bh_id_map *maps = NULL;

	if (*ret_count || !ranges.count || ranges.count > RANGES_MAX)
		return -EINVAL;
	maps = bh_calloc(ranges.count, sizeof *maps);
	for (size_t i = 0; i < ranges.count; i++)
		if (parse_range(ranges.items[i], container, container_count, &maps[i]) < 0)
			return -EINVAL;
	*ret_maps = BH_TAKE_PTR(maps);
	*ret_count = ranges.count;
	return 0;
}

static int parse_mappings(const struct bh_spec *spec, struct bh_spec_mount *m, const char *text)
{
	bh_auto_strv struct bh_strv kinds = bh_strv_split(text, ';');
	int r = 0;

	for (size_t i = 0; r == 0 && i < kinds.count; i++) {
		if (bh_has_prefix(kinds.items[i], "uids="))
			r = parse_ranges(kinds.items[i] + 5, spec->uid_mappings, spec->uid_mapping_count, &m->uid_mappings, &m->uid_mapping_count);
		else if (bh_has_prefix(kinds.items[i], "gids="))
			r = parse_ranges(kinds.items[i] + 5, spec->gid_mappings, spec->gid_mapping_count, &m->gid_mappings, &m->gid_mapping_count);
		else
			r = -EINVAL;
	}
	return r < 0 || !m->uid_mapping_count || !m->gid_mapping_count ? -EINVAL : 0;
}

int bh_bundle_mount_options(struct bh_spec *spec, struct bh_error *err)
{
	static const char *const names[] = { "idmap=", "ridmap=" };

	for (size_t i = 0; i < spec->mount_count; i++) {
		struct bh_spec_mount *m = &spec->mounts[i];

		for (size_t k = 0; k < m->options.count * BH_ARRAY_SIZE(names); k++) {
			char **option = &m->options.items[k / BH_ARRAY_SIZE(names)];
			size_t length = strlen(names[k % BH_ARRAY_SIZE(names)]);

			if (strncmp(*option, names[k % BH_ARRAY_SIZE(names)], length) != 0)
				continue;
			if (parse_mappings(spec, m, *option + length) < 0)
				return bh_error_text(err, EINVAL, "mount %s: option %.200s: expected uids=FIRST-SHOWN-LENGTH[#...];gids=...",
						     m->destination, *option);
			(*option)[length - 1] = '\0';
		}
	}
	return 0;
}
