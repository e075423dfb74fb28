/* SPDX-License-Identifier: Apache-2.0 */
/* Containers whose compartment is a microVM: what of the record and the image the driver is told. */
#include "engine/engine-internal.h"

#include "image/store.h"

_Static_assert(BH_ETC_FILES_MAX == BH_ARRAY_SIZE(((struct bh_engine_microvm *)NULL)->etc), "all files of /etc have a place");

void bh_engine_place(const struct bh_container *c, struct bh_engine_place *ret_place)
{
	char *path = bh_container_compartment_path(c), *state = c->state_fd < 0 ? NULL : bh_printf("/proc/self/fd/%d", c->state_fd);

	*ret_place = (struct bh_engine_place){ .place = { .path = path, .state = state }, .path = path, .state = state };
}

void bh_engine_place_clear(struct bh_engine_place *place)
{
	bh_free_ptr(&place->path);
	bh_free_ptr(&place->state);
}

/* The layers are named by their content, so their list names the image's. */
static void image_key(struct bh_container *c, char ret_key[BH_DIGEST_HEX_LENGTH + 1])
{
	bh_auto_strv struct bh_strv layers = { 0 };

	bh_json_strv(c->record, "snapshot.layers", &layers);
	bh_image_disk_key(&layers, ret_key);
}

static int mount_image(void *context, struct bh_error *err)
{
	struct bh_engine_microvm *m = context;
	struct bh_snapshot snapshot = { 0 };
	int r = bh_container_snapshot(m->engine, m->container, &snapshot, err);

	if (r < 0)
		return r;
	snapshot.readonly = true;
	r = snapshot.driver->mount(&snapshot, -1, err);
	bh_snapshot_clear(&snapshot);
	return r;
}

void bh_engine_microvm_init(struct bh_engine *engine, struct bh_container *c, struct bh_engine_microvm *m)
{
	json_object *host = bh_json_at(c->record, "host_config");

	*m = (struct bh_engine_microvm){ .engine = engine, .container = c };
	m->folder = bh_printf("%s/containers/%s", engine->root, c->id);
	image_key(c, m->key);
	bh_json_strv(host, "GroupAdd", &m->groups);
	m->vm = (struct bh_microvm){
		.root = engine->root,
		.folder = m->folder,
		.image_key = m->key,
		.mount_image = mount_image,
		.mount_context = m,
		.user = bh_json_text(c->record, "config.User", ""),
		.groups = &m->groups,
		.init = bh_json_bool(host, "Init", false),
		.kernel = bh_json_text(host, "Kernel", NULL),
		.accelerator = bh_json_text(host, "Accelerator", NULL),
		.memory = bh_json_int(host, "Memory", 0),
		.network = bh_json_text(host, "NetworkMode", NULL),
		.cpus_nano = bh_json_int(host, "NanoCpus", 0),
	};
}

void bh_engine_microvm_add_files(struct bh_engine_microvm *m, struct bh_spec *spec)
{
	m->vm.file_count = bh_engine_etc_files(m->container, spec, m->etc);
	for (size_t i = 0; i < m->vm.file_count; i++)
		m->files[i] = (struct bh_microvm_file){ m->etc[i].target, m->etc[i].content };
	m->vm.files = m->files;
}

void bh_engine_microvm_clear(struct bh_engine_microvm *m)
{
	for (size_t i = 0; i < m->vm.file_count; i++)
		free((char *)m->etc[i].content);
	bh_free_ptr(&m->folder);
	bh_strv_clear(&m->groups);
}
