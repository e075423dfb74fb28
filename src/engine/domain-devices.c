/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks and network cards of a domain: as its monitor gets them, at a start or while it runs.
 *
 * What a machine that runs has is in STATE/vms/<name>/running.json: its definition as it was started, and what has been attached and detached since.
 * The definition itself may have been changed for the next start.
 */
#include "engine/domain-internal.h"

#include "base/log.h"
#include "base/memory.h"
#include "linux/tap.h"
#include "vmm/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define RUNNING "running.json"
#define DEFINITION_MAX (1u << 20)
#define UNDO_MS 10000

/* --- for the monitor -------------------------------------------------------------------------------------------------- */

/* Two machines that write one disk destroy it. The lock is an open file's that the monitor does nothing with: it goes with the monitor, while one that its
 * io_uring has goes when the kernel has taken that to pieces, a while later. */
static int lock_disk(const struct bh_domain_disk *disk, int disk_fd, int flags, int *ret_fd, struct bh_error *err)
{
	bh_auto_free char *path = bh_printf("/proc/self/fd/%d", disk_fd);
	bh_auto_close int fd = open(path, flags);
	int r;

	if (fd < 0)
		return bh_error_set(err, errno, "open the disk %s again", disk->path);
	r = bh_lock_fd(fd, !disk->readonly, true);
	if (r == -EAGAIN)
		return bh_error_text(err, EBUSY, "the disk %s is in use by another machine", disk->path);
	if (r < 0 && r != -EBADF && r != -EINVAL)
		return bh_error_set(err, -r, "lock the disk %s", disk->path);
	*ret_fd = BH_TAKE_FD(fd);
	return 0;
}

int bh_domain_disk_device(const struct bh_domain_disk *disk, struct bh_vmm_device *ret_device, struct bh_error *err)
{
	bh_auto_buf struct bh_buf words = { 0 };
	int flags = (disk->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY;
	bh_auto_close int fd = open(disk->path, flags), lock_fd = -1;
	int r;

	if (fd < 0)
		return bh_error_set(err, errno, "open the disk %s", disk->path);
	r = lock_disk(disk, fd, flags, &lock_fd, err);
	if (r < 0)
		return r;
	bh_buf_adds(&words, "block");
	if (disk->readonly)
		bh_buf_adds(&words, ",readonly");
	if (disk->serial)
		bh_buf_addf(&words, ",serial=%s", disk->serial);
	if (disk->queues > 1)
		bh_buf_addf(&words, ",queues=%lld", (long long)disk->queues);
	if (!bh_streq(disk->format, "raw"))
		bh_buf_addf(&words, ",format=%s", disk->format);
	*ret_device = (struct bh_vmm_device){ .words = bh_buf_take(&words), .files = { { "fd", BH_TAKE_FD(fd) }, { "lock", BH_TAKE_FD(lock_fd) } } };
	return 0;
}

int bh_domain_net_device(const struct bh_domain_net *net, struct bh_vmm_device *ret_device, struct bh_error *err)
{
	char name[BH_TAP_NAME_SIZE];
	bh_auto_close int vhost_fd = net->vhost ? bh_vhost_net_open(err) : -1;
	int fd;

	if (net->vhost && vhost_fd < 0 && vhost_fd != -ENOENT)
		return vhost_fd;
	if (net->vhost && vhost_fd < 0)
		bh_warn("%s; the monitor moves the packets", err->message);
	fd = bh_tap_open(net->tap, net->bridge, name, err);
	if (fd < 0)
		return fd;
	*ret_device = (struct bh_vmm_device){ .words = net->mac ? bh_printf("net,mac=%s", net->mac) : bh_strdup("net"), .files = { { "fd", fd } } };
	if (vhost_fd >= 0) {
		ret_device->files[1].key = "vhost";
		ret_device->files[1].fd = BH_TAKE_FD(vhost_fd);
	}
	return 0;
}

static void device_clear(struct bh_vmm_device *device)
{
	free((char *)device->words);
	for (size_t i = 0; i < BH_ARRAY_SIZE(device->files) && device->files[i].key; i++)
		bh_close_fd(&device->files[i].fd);
}

/* --- of a machine that runs --------------------------------------------------------------------------------------------- */

bool bh_domain_is_pluggable(const struct bh_domain_definition *d)
{
	return !d->multiboot && !d->transport;
}

int bh_domain_save_running(struct bh_domain *d, const struct bh_domain_definition *definition, struct bh_error *err)
{
	bh_auto_free char *text = bh_domain_definition_text(definition);

	return bh_write_file_at(d->state_fd, RUNNING, text, strlen(text), 0600, 0, err);
}

static int read_running(struct bh_domain *d, struct bh_domain_definition *ret_definition, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	int r = bh_read_file_at(d->state_fd, RUNNING, DEFINITION_MAX, &text, err);

	if (r == 0)
		r = bh_domain_definition_parse(text.data, text.length, ret_definition, err);
	if (r == 0 && !bh_domain_is_pluggable(ret_definition))
		r = bh_error_text(err, ENOTSUP, "%s runs with %s, so its devices can only change at its next start: --config", d->name,
				  ret_definition->multiboot ? "a test guest" : "its devices on the MMIO bus");
	return r;
}

static int plug(struct bh_domain *d, const struct bh_vmm_device *device, size_t at, struct bh_error *err)
{
	json_object *members = json_object_new_object();
	bh_auto_buf struct bh_buf keys = { 0 };
	int files[BH_VMM_DEVICE_FILES_MAX], r;
	size_t count = 0;

	while (count < BH_ARRAY_SIZE(files) && device->files[count].key) {
		bh_buf_addf(&keys, "%s%s", count ? "," : "", device->files[count].key);
		files[count] = device->files[count].fd;
		count++;
	}
	json_object_object_add(members, "device", json_object_new_string(device->words));
	json_object_object_add(members, "keys", json_object_new_string(keys.data));
	json_object_object_add(members, "at", json_object_new_int64((int64_t)at));
	r = bh_domain_request(d, "plug", members, files, count, NULL, err);
	json_object_put(members);
	return r;
}

static int unplug(struct bh_domain *d, size_t at, int64_t timeout_ms, struct bh_error *err)
{
	json_object *members = json_object_new_object();
	int r;

	json_object_object_add(members, "at", json_object_new_int64((int64_t)at));
	json_object_object_add(members, "timeout_ms", json_object_new_int64(timeout_ms));
	r = bh_domain_request(d, "unplug", members, NULL, 0, NULL, err);
	json_object_put(members);
	return r;
}

/* What isn't on record goes again: nobody could say which one it is. */
static int record_plugged(struct bh_domain *d, const struct bh_domain_definition *running, size_t at, struct bh_error *err)
{
	int r = bh_domain_save_running(d, running, err);

	if (r < 0)
		unplug(d, at, UNDO_MS, NULL);
	return r;
}

int bh_domain_plug_disk(struct bh_domain *d, const struct bh_domain_disk *disk, struct bh_error *err)
{
	bh_auto(bh_domain_definition_clear) struct bh_domain_definition running = { 0 };
	bh_auto(device_clear) struct bh_vmm_device device = { 0 };
	int r = read_running(d, &running, err);

	if (r == 0 && running.disk_count == BH_DOMAIN_DISKS_MAX)
		r = bh_error_text(err, ENOSPC, "more than %d disks", BH_DOMAIN_DISKS_MAX);
	if (r == 0)
		r = bh_domain_disk_device(disk, &device, err);
	if (r == 0)
		r = plug(d, &device, running.disk_count, err);
	if (r < 0)
		return r;
	bh_domain_disk_copy(disk, &running.disks[running.disk_count++]);
	return record_plugged(d, &running, running.disk_count - 1, err);
}

int bh_domain_plug_net(struct bh_domain *d, const struct bh_domain_net *net, struct bh_error *err)
{
	bh_auto(bh_domain_definition_clear) struct bh_domain_definition running = { 0 };
	bh_auto(device_clear) struct bh_vmm_device device = { 0 };
	int r = read_running(d, &running, err);

	if (r == 0 && running.net_count == BH_DOMAIN_NETS_MAX)
		r = bh_error_text(err, ENOSPC, "more than %d network cards", BH_DOMAIN_NETS_MAX);
	if (r == 0)
		r = bh_domain_net_device(net, &device, err);
	if (r == 0)
		r = plug(d, &device, running.disk_count + running.net_count, err);
	if (r < 0)
		return r;
	bh_domain_net_copy(net, &running.nets[running.net_count++]);
	return record_plugged(d, &running, running.disk_count + running.net_count - 1, err);
}

int bh_domain_unplug(struct bh_domain *d, const char *device, int64_t timeout_ms, struct bh_error *err)
{
	bh_auto(bh_domain_definition_clear) struct bh_domain_definition running = { 0 };
	size_t disk, net, at;
	int r = read_running(d, &running, err);

	if (r < 0)
		return r;
	disk = bh_domain_find_disk(&running, device);
	net = bh_domain_find_net(&running, device);
	at = disk < running.disk_count ? disk : running.disk_count + net;
	if (disk == running.disk_count && net == running.net_count)
		return -ENOENT;
	r = unplug(d, at, timeout_ms, err);
	if (r < 0)
		return r;
	if (disk < running.disk_count)
		bh_domain_remove_disk(&running, disk);
	else
		bh_domain_remove_net(&running, net);
	return bh_domain_save_running(d, &running, err);
}
