/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of a configuration goes into the guest, and what is for the machine.
 *
 * Memory and processors are the machine's: the guest has no more of them than it is given. All else is for the container in it.
 */
#include "microvm/microvm-internal.h"

#include <errno.h>

#define OVERHEAD ((int64_t)192 << 20) /* a monitor with its code and its page tables, and the session */

static int64_t memory_of(const struct bh_microvm *vm)
{
	return vm->memory > 0 ? vm->memory : BH_MICROVM_MEMORY_DEFAULT;
}

int bh_microvm_resources(const struct bh_microvm *vm, const struct bh_spec *spec, struct bh_spec_resources *ret_resources, struct bh_error *err)
{
	struct bh_spec_resources r = spec->resources;

	if (memory_of(vm) < BH_MICROVM_MEMORY_MIN)
		return bh_error_text(err, EINVAL, "--memory: a microVM needs at least %lldm", (long long)(BH_MICROVM_MEMORY_MIN >> 20));
	/* Devices and processes are the guest's own. */
	r.devices = NULL;
	r.device_count = 0;
	r.pids_limit.set = false;
	r.memory.limit = (struct bh_opt_i64)BH_SOME(memory_of(vm) + OVERHEAD);
	r.memory.swap.set = r.memory.reservation.set = false;
	*ret_resources = r;
	return 0;
}

/* The container's part of the configuration; borrows all of it. */
static struct bh_spec of_guest(const struct bh_spec *spec, const struct bh_spec_process *process)
{
	static const struct bh_spec_resources none;
	struct bh_spec_resources resources = none;
	struct bh_spec guest = *spec;

	resources.devices = spec->resources.devices;
	resources.device_count = spec->resources.device_count;
	resources.pids_limit = spec->resources.pids_limit;
	guest.resources = resources;
	if (process)
		guest.process = *process;
	return guest;
}

static void add_list(struct bh_buf *out, const char *key, const struct bh_strv *list)
{
	bh_buf_addf(out, ",\"%s\":[", key);
	for (size_t i = 0; list && i < list->count; i++) {
		bh_buf_adds(out, i ? "," : "");
		bh_buf_add_json(out, list->items[i]);
	}
	bh_buf_adds(out, "]");
}

void bh_microvm_request_write(const struct bh_spec *spec, const struct bh_spec_process *process, const char *id, const char *user,
			      const struct bh_strv *groups, const struct bh_microvm *vm, bool privileged, struct bh_buf *out)
{
	const struct bh_spec guest = of_guest(spec, process);

	bh_buf_adds(out, "{\"id\":");
	bh_buf_add_json(out, id);
	if (user) {
		bh_buf_adds(out, ",\"user\":");
		bh_buf_add_json(out, user);
	}
	add_list(out, "groups", groups);
	bh_buf_addf(out, ",\"privileged\":%s,\"init\":%s,\"image\":\"" BH_MICROVM_IMAGE_TYPE "\",\"files\":[", privileged ? "true" : "false",
		    vm && vm->init ? "true" : "false");
	for (size_t i = 0; vm && i < vm->file_count; i++) {
		bh_buf_addf(out, "%s{\"target\":", i ? "," : "");
		bh_buf_add_json(out, vm->files[i].target);
		bh_buf_adds(out, ",\"content\":");
		bh_buf_add_json(out, vm->files[i].content);
		bh_buf_adds(out, "}");
	}
	bh_buf_adds(out, "],\"config\":");
	bh_spec_write(&guest, out);
	bh_buf_adds(out, "}");
}

int bh_microvm_check(const struct bh_spec *spec, struct bh_error *err)
{
	static const struct {
		enum bh_namespace_type type;
		const char *option;
	} joined[] = { { BH_NS_NETWORK, "--network" }, { BH_NS_PID, "--pid" }, { BH_NS_IPC, "--ipc" } };

	for (size_t i = 0; i < BH_ARRAY_SIZE(joined); i++)
		if (spec->namespaces[joined[i].type].path)
			return bh_error_text(err, EINVAL, "%s: a microVM has a kernel of its own and can't join another container", joined[i].option);
	if (!spec->namespaces[BH_NS_NETWORK].present)
		return bh_error_text(err, EINVAL, "--network host: a microVM has a network of its own");
	if (spec->namespaces[BH_NS_USER].present)
		return bh_error_text(err, EINVAL, "--userns: a microVM's users are its own already");
	for (size_t i = 0; i < spec->mount_count; i++)
		if (spec->mounts[i].type && bh_streq(spec->mounts[i].type, "bind"))
			return bh_error_text(err, EINVAL, "mount %s: folders of the host can't be shared with a microVM yet",
					     spec->mounts[i].destination);
	for (size_t i = 0; i < spec->device_count; i++)
		return bh_error_text(err, EINVAL, "--device %s: a microVM has devices of its own", spec->devices[i].path);
	return 0;
}
