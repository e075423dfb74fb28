/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/table.h"

#include "base/memory.h"

#include <errno.h>
#include <string.h>

#define MAC_SIZE 6
#define LIMIT_MAX (1LL << 50)

/* Words of one device; each key is asked for once, and what is left over nobody knows. */
struct words {
	const char *type;
	struct bh_strv list;
	struct bh_error *err;
	int failed;
	bool late; /* the machine runs, and its threads are locked in */
};

/* The value of a key ("" without one), or NULL; the caller's. */
static char *take(struct words *w, const char *key)
{
	size_t length = strlen(key);

	for (size_t i = 0; i < w->list.count; i++) {
		const char *item = w->list.items[i];
		char *value;

		if (strncmp(item, key, length) != 0 || (item[length] && item[length] != '='))
			continue;
		value = bh_strdup(item[length] ? item + length + 1 : "");
		bh_strv_remove(&w->list, i);
		return value;
	}
	return NULL;
}

static int64_t take_number(struct words *w, const char *key, int64_t missing, int64_t max)
{
	bh_auto_free char *text = take(w, key);
	int64_t value = missing;

	if (text && bh_parse_int(text, 0, max, &value) < 0)
		w->failed = bh_error_text(w->err, EINVAL, "%s: %s=%s is no number up to %lld", w->type, key, text, (long long)max);
	return value;
}

static bool take_flag(struct words *w, const char *key)
{
	bh_auto_free char *text = take(w, key);

	return text != NULL;
}

static struct bh_limits take_limits(struct words *w)
{
	struct bh_limits limits = { 0 };

	limits.bytes.rate = (uint64_t)take_number(w, "bytes-per-second", 0, LIMIT_MAX);
	limits.bytes.burst = (uint64_t)take_number(w, "bytes-burst", 0, LIMIT_MAX);
	limits.operations.rate = (uint64_t)take_number(w, "operations-per-second", 0, LIMIT_MAX);
	limits.operations.burst = (uint64_t)take_number(w, "operations-burst", 0, LIMIT_MAX);
	return limits;
}

/* What was not asked for is a mistake. */
static int finish(struct words *w)
{
	if (w->failed == 0 && w->list.count)
		w->failed = bh_error_text(w->err, EINVAL, "%s: %s is not known", w->type, w->list.items[0]);
	return w->failed;
}

static enum bh_disk_format take_format(struct words *w, const char *key)
{
	bh_auto_free char *text = take(w, key);
	enum bh_disk_format format = BH_DISK_RAW;

	if (text && !bh_disk_format_by_name(text, &format))
		w->failed = bh_error_text(w->err, EINVAL, "%s: %s=%s is neither raw nor qcow2", w->type, key, text);
	return format;
}

static int make_block(struct bh_vm *vm, struct bh_loop *loop, struct words *w, struct bh_virtio_device **ret_device)
{
	struct bh_block_config config = {
		.fd = (int)take_number(w, "fd", -1, INT32_MAX),
		.format = take_format(w, "format"),
		.backing_fd = (int)take_number(w, "backing", -1, INT32_MAX),
		.backing_format = take_format(w, "backing-format"),
		.lock_fd = (int)take_number(w, "lock", -1, INT32_MAX),
		.no_rings = w->late,
		.readonly = take_flag(w, "readonly"),
		.queues = (unsigned)take_number(w, "queues", 1, BH_BLOCK_QUEUES_MAX),
	};
	bh_auto_free char *serial = take(w, "serial");

	if (config.queues == 0)
		w->failed = bh_error_text(w->err, EINVAL, "block: queues=0: a disk has at least one");
	config.serial = serial;
	config.limits = take_limits(w);
	if (finish(w) < 0) {
		bh_close_fd(&config.fd);
		bh_close_fd(&config.backing_fd);
		bh_close_fd(&config.lock_fd);
		return w->failed;
	}
	return bh_block_make(vm, loop, &config, ret_device, w->err);
}

static bool parse_mac(const char *text, uint8_t ret_mac[MAC_SIZE])
{
	bh_auto_strv struct bh_strv parts = bh_strv_split(text, ':');

	for (size_t i = 0; parts.count == MAC_SIZE && i < MAC_SIZE; i++)
		if (bh_parse_hex(parts.items[i], &ret_mac[i], 1) < 0)
			return false;
	return parts.count == MAC_SIZE;
}

static int make_net(struct bh_vm *vm, struct bh_loop *loop, struct words *w, struct bh_virtio_device **ret_device)
{
	struct bh_net_config config = {
		.fd = (int)take_number(w, "fd", -1, INT32_MAX),
		.mtu = (unsigned)take_number(w, "mtu", 0, UINT16_MAX),
		.receive = take_limits(w),
		.vhost_fd = (int)take_number(w, "vhost", -1, INT32_MAX),
	};
	bh_auto_free char *mac = take(w, "mac");
	uint8_t bytes[MAC_SIZE];

	/* The same for both directions, each of its own. */
	config.transmit = config.receive;
	if (config.vhost_fd >= 0 && bh_limits_are_set(&config.receive))
		w->failed = bh_error_text(w->err, EINVAL, "net: the kernel's vhost device knows no limits");
	if (mac && !parse_mac(mac, bytes))
		w->failed = bh_error_text(w->err, EINVAL, "net: mac=%s is no address", mac);
	config.mac = mac ? bytes : NULL;
	if (finish(w) < 0) {
		bh_close_fd(&config.fd);
		bh_close_fd(&config.vhost_fd);
		return w->failed;
	}
	return bh_net_make(vm, loop, &config, ret_device, w->err);
}

static int make_rng(struct bh_vm *vm, struct bh_loop *loop, struct words *w, struct bh_virtio_device **ret_device)
{
	return finish(w) < 0 ? w->failed : bh_rng_make(vm, loop, ret_device, w->err);
}

static int make_console(struct bh_vm *vm, struct bh_loop *loop, struct words *w, struct bh_virtio_device **ret_device)
{
	const struct bh_console_config config = {
		.input_fd = (int)take_number(w, "in", -1, INT32_MAX),
		.output_fd = (int)take_number(w, "out", -1, INT32_MAX),
	};

	return finish(w) < 0 ? w->failed : bh_console_make(vm, loop, &config, ret_device, w->err);
}

static int make_balloon(struct bh_vm *vm, struct bh_loop *loop, struct words *w, struct bh_virtio_device **ret_device)
{
	uint32_t pages = (uint32_t)take_number(w, "pages", 0, UINT32_MAX);

	return finish(w) < 0 ? w->failed : bh_balloon_make(vm, loop, pages, ret_device, w->err);
}

static int make_vsock(struct bh_vm *vm, struct bh_loop *loop, struct words *w, struct bh_virtio_device **ret_device)
{
	const struct bh_vsock_config config = {
		.cid = (uint64_t)take_number(w, "cid", 0, UINT32_MAX),
		.listen_fd = (int)take_number(w, "listen", -1, INT32_MAX),
		.broker_fd = (int)take_number(w, "broker", -1, INT32_MAX),
		.stream_fd = (int)take_number(w, "stream", -1, INT32_MAX),
		.stream_port = (uint32_t)take_number(w, "port", 0, UINT32_MAX),
	};

	return finish(w) < 0 ? w->failed : bh_vsock_make(vm, loop, &config, ret_device, w->err);
}

static int make_fs(struct bh_vm *vm, struct bh_loop *loop, struct words *w, struct bh_virtio_device **ret_device)
{
	bh_auto_free char *tag = take(w, "tag");
	const struct bh_fs_config config = { .server_fd = (int)take_number(w, "server", -1, INT32_MAX), .tag = tag };

	return finish(w) < 0 ? w->failed : bh_fs_make(vm, loop, &config, ret_device, w->err);
}

static const struct {
	const char *type;
	const char *thread; /* its loop's name; NULL: the shared one */
	int (*make)(struct bh_vm *vm, struct bh_loop *loop, struct words *words, struct bh_virtio_device **ret_device);
} types[] = {
	{ "block", "block", make_block },  { "net", "net", make_net },        { "fs", "fs", make_fs },       { "rng", NULL, make_rng },
	{ "balloon", NULL, make_balloon }, { "console", NULL, make_console }, { "vsock", NULL, make_vsock },
};

static int add_loop(struct bh_virtio_loops *loops, const char *name, struct bh_error *err)
{
	int r = bh_loop_make(name, &loops->items[loops->count], err);

	if (r == 0)
		loops->count++;
	return r;
}

/* Each queue behind the first one gets a loop too. */
static int spread(struct bh_virtio_device *device, const char *name, struct bh_virtio_loops *loops, struct bh_error *err)
{
	int r = 0;

	for (unsigned i = 1; r == 0 && device->driver->parallel && i < device->queue_count; i++) {
		r = add_loop(loops, name, err);
		if (r == 0)
			r = bh_virtio_move_queue(device, i, loops->items[i], err);
	}
	if (r < 0)
		bh_virtio_free(device);
	return r;
}

int bh_virtio_make(struct bh_vm *vm, struct bh_loop *shared, const char *text, struct bh_virtio_device **ret_device,
		   struct bh_virtio_loops *ret_loops, struct bh_error *err)
{
	struct words w = { .list = bh_strv_split(text, ','), .err = err, .late = !ret_loops };
	bh_auto_free char *type = bh_strdup(w.list.items[0]);
	struct bh_virtio_loops own = { 0 };
	struct bh_virtio_device *device = NULL;
	int r = -ENODEV;
	size_t i = 0;

	while (i < BH_ARRAY_SIZE(types) && !bh_streq(types[i].type, type))
		i++;
	w.type = type;
	bh_strv_remove(&w.list, 0);
	if (i == BH_ARRAY_SIZE(types))
		r = bh_error_text(err, ENODEV, "there is no device of type %s", type);
	else
		r = types[i].thread && ret_loops ? add_loop(&own, types[i].thread, err) : 0;
	if (r == 0)
		r = types[i].make(vm, own.count ? own.items[0] : shared, &w, &device);
	if (r == 0 && ret_loops)
		r = spread(device, types[i].thread, &own, err);
	bh_strv_clear(&w.list);
	if (r < 0) {
		for (size_t k = 0; k < own.count; k++)
			bh_loop_free(own.items[k]);
		return r;
	}
	*ret_device = device;
	if (ret_loops)
		*ret_loops = own;
	return 0;
}
