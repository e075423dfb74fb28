/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of a configuration goes into the guest, and what is for the machine.
 *
 * Memory and processors are the machine's: the guest has no more of them than it is given. Where a machine can't be as small as the limit, the
 * container in it has the limit. All else is for that container.
 */
#include "microvm/microvm-internal.h"

#include <errno.h>

#define OVERHEAD ((int64_t)192 << 20) /* a monitor with its code and its page tables, and the session */

struct bh_spec_resources bh_microvm_resources(const struct bh_microvm *vm, const struct bh_spec *spec)
{
	struct bh_spec_resources r = spec->resources;

	/* Devices and processes are the guest's own. */
	r.devices = NULL;
	r.device_count = 0;
	r.pids_limit.set = false;
	r.memory.limit = (struct bh_opt_i64)BH_SOME(bh_microvm_size(vm) + OVERHEAD);
	r.memory.swap.set = r.memory.reservation.set = false;
	return r;
}

/* The mounts with folders and files of the host where the guest has them. The array is the caller's. */
static struct bh_spec_mount *mounts_of_guest(const struct bh_spec *spec, const struct bh_microvm_shares *shares)
{
	static char elsewhere[] = BH_AGENT_SHARES;
	struct bh_spec_mount *mounts = bh_calloc(spec->mount_count + 1, sizeof *mounts);

	for (size_t i = 0; i < spec->mount_count; i++) {
		mounts[i] = spec->mounts[i];
		if (bh_microvm_is_share(&mounts[i]))
			mounts[i].source = shares && i < shares->source_count && shares->sources[i] ? shares->sources[i] : elsewhere;
	}
	return mounts;
}

/* The container's part of the configuration; borrows all but the mounts. */
static struct bh_spec of_guest(const struct bh_microvm_request *q)
{
	const struct bh_spec *spec = q->spec;
	static const struct bh_spec_resources none;
	struct bh_spec_resources resources = none;
	struct bh_spec guest = *spec;

	resources.devices = spec->resources.devices;
	resources.device_count = spec->resources.device_count;
	resources.pids_limit = spec->resources.pids_limit;
	if (q->vm && bh_microvm_limit(q->vm) < bh_microvm_size(q->vm))
		resources.memory.limit = (struct bh_opt_i64)BH_SOME(bh_microvm_limit(q->vm));
	guest.resources = resources;
	guest.mounts = mounts_of_guest(spec, q->shares);
	if (q->process)
		guest.process = *q->process;
	/* All others are the host's. */
	memset(&guest.hooks, 0, sizeof guest.hooks);
	guest.hooks.start_container = spec->hooks.start_container;
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

static void add_transfer(struct bh_buf *out, const struct bh_transfer_request *t)
{
	bh_buf_adds(out, ",\"transfer\":{\"path\":");
	bh_buf_add_json(out, t->path);
	bh_buf_addf(out, ",\"unpack\":%s,\"follow_link\":%s,\"foreign\":%s,\"keep_owners\":%s}", t->is_unpack ? "true" : "false",
		    t->follow_link ? "true" : "false", t->is_foreign ? "true" : "false", t->keep_owners ? "true" : "false");
}

static void add_files(struct bh_buf *out, const struct bh_microvm *vm)
{
	bh_buf_adds(out, ",\"files\":[");
	for (size_t i = 0; vm && i < vm->file_count; i++) {
		bh_buf_addf(out, "%s{\"target\":", i ? "," : "");
		bh_buf_add_json(out, vm->files[i].target);
		bh_buf_adds(out, ",\"content\":");
		bh_buf_add_json(out, vm->files[i].content);
		bh_buf_adds(out, "}");
	}
	bh_buf_adds(out, "]");
}

int bh_microvm_request_write(const struct bh_microvm_request *q, struct bh_buf *out, struct bh_error *err)
{
	struct bh_spec guest = of_guest(q);
	const char *root = q->vm && q->vm->rootfs ? BH_MICROVM_SHARED_ROOT : BH_MICROVM_IMAGE_TYPE;

	bh_buf_adds(out, "{\"id\":");
	bh_buf_add_json(out, q->id);
	if (q->user) {
		bh_buf_adds(out, ",\"user\":");
		bh_buf_add_json(out, q->user);
	}
	add_list(out, "groups", q->groups);
	bh_buf_addf(out, ",\"privileged\":%s,\"init\":%s,\"image\":\"%s\"", q->privileged ? "true" : "false", q->vm && q->vm->init ? "true" : "false",
		    root);
	add_files(out, q->vm);
	if (q->transfer)
		add_transfer(out, q->transfer);
	if (q->network && q->network->is_set) {
		/* The container's network is the machine's. */
		guest.namespaces[BH_NS_NETWORK].present = false;
		bh_buf_adds(out, ",\"network\":{\"address\":");
		bh_buf_add_json(out, q->network->address);
		bh_buf_adds(out, ",\"gateway\":");
		bh_buf_add_json(out, q->network->gateway);
		bh_buf_adds(out, "}");
	}
	bh_buf_addf(out, ",\"virtio_shares\":%zu,\"config\":", q->virtio_shares && q->shares ? q->shares->count : 0);
	bh_spec_write(&guest, out);
	bh_buf_adds(out, "}");
	free(guest.mounts);
	if (out->length > BH_AGENT_REQUEST_MAX)
		return bh_error_text(err, E2BIG, "the configuration is too long for a microVM");
	return 0;
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
	for (size_t i = 0; i < spec->device_count; i++)
		return bh_error_text(err, EINVAL, "--device %s: a microVM has devices of its own", spec->devices[i].path);
	return 0;
}
