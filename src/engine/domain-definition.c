/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of a domain as a readable file. */
#include "engine/domain.h"

#include "base/memory.h"
#include "runtime/runtime.h"
#include "vmm/cpu-model.h"

#include <errno.h>
#include <signal.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

#define MEMORY_MIN (16LL << 20)
#define MEMORY_MAX (1LL << 40)
#define CPUS_MAX 64
#define QUEUES_MAX 8
#define CID_MIN 3 /* 0 to 2 have meanings of their own */

static void disk_clear(struct bh_domain_disk *disk)
{
	free(disk->path);
	free(disk->format);
	free(disk->serial);
}

static void net_clear(struct bh_domain_net *net)
{
	free(net->tap);
	free(net->bridge);
	free(net->mac);
	free(net->address);
	free(net->gateway);
}

void bh_domain_disk_copy(const struct bh_domain_disk *disk, struct bh_domain_disk *ret_copy)
{
	*ret_copy = *disk;
	ret_copy->path = bh_strdup(disk->path);
	ret_copy->format = bh_strdup(disk->format);
	ret_copy->serial = bh_strdup(disk->serial);
}

void bh_domain_net_copy(const struct bh_domain_net *net, struct bh_domain_net *ret_copy)
{
	*ret_copy = *net;
	ret_copy->tap = bh_strdup(net->tap);
	ret_copy->bridge = bh_strdup(net->bridge);
	ret_copy->mac = bh_strdup(net->mac);
	ret_copy->address = bh_strdup(net->address);
	ret_copy->gateway = bh_strdup(net->gateway);
}

size_t bh_domain_find_disk(const struct bh_domain_definition *d, const char *name)
{
	size_t i = 0;

	while (i < d->disk_count && !bh_streq(d->disks[i].path, name) && !bh_streq(d->disks[i].serial, name))
		i++;
	return i;
}

size_t bh_domain_find_net(const struct bh_domain_definition *d, const char *mac)
{
	size_t i = 0;

	while (i < d->net_count && (!d->nets[i].mac || strcasecmp(d->nets[i].mac, mac) != 0))
		i++;
	return i;
}

void bh_domain_remove_disk(struct bh_domain_definition *d, size_t number)
{
	disk_clear(&d->disks[number]);
	d->disk_count--;
	memmove(&d->disks[number], &d->disks[number + 1], (d->disk_count - number) * sizeof d->disks[0]);
}

void bh_domain_remove_net(struct bh_domain_definition *d, size_t number)
{
	net_clear(&d->nets[number]);
	d->net_count--;
	memmove(&d->nets[number], &d->nets[number + 1], (d->net_count - number) * sizeof d->nets[0]);
}

void bh_domain_definition_clear(struct bh_domain_definition *d)
{
	free(d->uuid);
	free(d->kernel);
	free(d->initrd);
	free(d->append);
	free(d->image.reference);
	free(d->image.id);
	free(d->image.user);
	free(d->boot);
	free(d->cpu);
	free(d->transport);
	for (size_t i = 0; i < d->disk_count; i++)
		disk_clear(&d->disks[i]);
	for (size_t i = 0; i < d->net_count; i++)
		net_clear(&d->nets[i]);
	*d = (struct bh_domain_definition){ 0 };
}

static char *text_of(json_object *object, const char *key)
{
	return bh_strdup(bh_json_text(object, key, NULL));
}

static void parse_disks(json_object *list, struct bh_domain_definition *d)
{
	size_t count = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < count && i < BH_DOMAIN_DISKS_MAX; i++) {
		json_object *disk = json_object_array_get_idx(list, i);

		d->disks[d->disk_count++] = (struct bh_domain_disk){
			.path = text_of(disk, "path"),
			.format = bh_strdup(bh_json_text(disk, "format", "raw")),
			.serial = text_of(disk, "serial"),
			.queues = bh_json_int(disk, "queues", 0),
			.readonly = bh_json_bool(disk, "readonly", false),
			.ours = bh_json_bool(disk, "own", false),
		};
	}
}

static void parse_nets(json_object *list, struct bh_domain_definition *d)
{
	size_t count = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < count && i < BH_DOMAIN_NETS_MAX; i++) {
		json_object *net = json_object_array_get_idx(list, i);

		d->nets[d->net_count++] = (struct bh_domain_net){
			.tap = text_of(net, "tap"),
			.bridge = text_of(net, "bridge"),
			.mac = text_of(net, "mac"),
			.vhost = bh_json_bool(net, "vhost", false),
			.address = text_of(net, "address"),
			.gateway = text_of(net, "gateway"),
		};
	}
}

int bh_domain_definition_parse(const char *text, size_t length, struct bh_domain_definition *ret_definition, struct bh_error *err)
{
	struct json_tokener *tokener = json_tokener_new_ex(8);
	json_object *object = json_tokener_parse_ex(tokener, text, (int)BH_MIN(length, (size_t)INT32_MAX));
	struct bh_domain_definition d = { 0 };
	int r = 0;

	json_tokener_free(tokener);
	if (!json_object_is_type(object, json_type_object)) {
		json_object_put(object);
		return bh_error_text(err, EINVAL, "domain.json is no JSON object");
	}
	d = (struct bh_domain_definition){
		.uuid = text_of(object, "uuid"),
		.kernel = text_of(object, "kernel"),
		.initrd = text_of(object, "initrd"),
		.append = text_of(object, "append"),
		.image = { .reference = text_of(object, "image.reference"),
			   .id = text_of(object, "image.id"),
			   .user = text_of(object, "image.user"),
			   .stop_signal = bh_json_int(object, "image.stop_signal", SIGTERM) },
		.boot = text_of(object, "boot"),
		.cpu = text_of(object, "cpu"),
		.transport = text_of(object, "transport"),
		.memory_bytes = bh_json_int(object, "memory", 0),
		.cpus = bh_json_int(object, "cpus", 1),
		.cid = bh_json_int(object, "cid", 0),
		.hugepages = bh_json_bool(object, "hugepages", false),
		.autostart = bh_json_bool(object, "autostart", false),
		.multiboot = bh_json_bool(object, "multiboot", false),
	};
	parse_disks(bh_json_at(object, "disks"), &d);
	parse_nets(bh_json_at(object, "networks"), &d);
	json_object_put(object);
	r = bh_domain_definition_check(&d, err);
	if (r < 0)
		bh_domain_definition_clear(&d);
	else
		*ret_definition = d;
	return r;
}

static void put_text(json_object *object, const char *key, const char *text)
{
	if (text)
		json_object_object_add(object, key, json_object_new_string(text));
}

static json_object *disks_to_json(const struct bh_domain_definition *d)
{
	json_object *list = json_object_new_array();

	for (size_t i = 0; i < d->disk_count; i++) {
		json_object *disk = json_object_new_object();

		put_text(disk, "path", d->disks[i].path);
		put_text(disk, "format", d->disks[i].format);
		put_text(disk, "serial", d->disks[i].serial);
		if (d->disks[i].queues)
			json_object_object_add(disk, "queues", json_object_new_int64(d->disks[i].queues));
		json_object_object_add(disk, "readonly", json_object_new_boolean(d->disks[i].readonly));
		json_object_object_add(disk, "own", json_object_new_boolean(d->disks[i].ours));
		json_object_array_add(list, disk);
	}
	return list;
}

static json_object *nets_to_json(const struct bh_domain_definition *d)
{
	json_object *list = json_object_new_array();

	for (size_t i = 0; i < d->net_count; i++) {
		json_object *net = json_object_new_object();

		put_text(net, "tap", d->nets[i].tap);
		put_text(net, "bridge", d->nets[i].bridge);
		put_text(net, "mac", d->nets[i].mac);
		if (d->nets[i].vhost)
			json_object_object_add(net, "vhost", json_object_new_boolean(true));
		put_text(net, "address", d->nets[i].address);
		put_text(net, "gateway", d->nets[i].gateway);
		json_object_array_add(list, net);
	}
	return list;
}

static json_object *image_to_json(const struct bh_domain_image *image)
{
	json_object *object = json_object_new_object();

	put_text(object, "reference", image->reference);
	put_text(object, "id", image->id);
	put_text(object, "user", image->user);
	json_object_object_add(object, "stop_signal", json_object_new_int64(image->stop_signal));
	return object;
}

char *bh_domain_definition_text(const struct bh_domain_definition *d)
{
	json_object *object = json_object_new_object();
	char *text;

	put_text(object, "uuid", d->uuid);
	json_object_object_add(object, "memory", json_object_new_int64(d->memory_bytes));
	json_object_object_add(object, "cpus", json_object_new_int64(d->cpus));
	put_text(object, "kernel", d->kernel);
	put_text(object, "initrd", d->initrd);
	put_text(object, "append", d->append);
	if (d->image.reference)
		json_object_object_add(object, "image", image_to_json(&d->image));
	put_text(object, "boot", d->boot);
	put_text(object, "cpu", d->cpu);
	put_text(object, "transport", d->transport);
	json_object_object_add(object, "disks", disks_to_json(d));
	json_object_object_add(object, "networks", nets_to_json(d));
	if (d->cid)
		json_object_object_add(object, "cid", json_object_new_int64(d->cid));
	json_object_object_add(object, "hugepages", json_object_new_boolean(d->hugepages));
	json_object_object_add(object, "multiboot", json_object_new_boolean(d->multiboot));
	json_object_object_add(object, "autostart", json_object_new_boolean(d->autostart));
	text = bh_printf("%s\n", json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
	return text;
}

/* Words of the monitor's command line are separated by commas. */
static bool is_word(const char *text)
{
	return !text || !strpbrk(text, ",\n");
}

static int check_address(const struct bh_domain_definition *d, size_t i, struct bh_error *err)
{
	const struct bh_domain_net *net = &d->nets[i];
	bh_auto_free char *mode = bh_printf("tap,ip=%s%s%s", net->address ? net->address : "", net->gateway ? ",gateway=" : "",
					    net->gateway ? net->gateway : "");
	struct bh_microvm_network parsed = { 0 };
	int r;

	if (!net->address && !net->gateway)
		return 0;
	if (!d->image.reference || i > 0)
		return bh_error_text(err, EINVAL, "network %zu: only the first card of a machine with an image can be given an address", i);
	r = bh_microvm_network_parse(mode, &parsed, err);
	bh_microvm_network_clear(&parsed);
	return r;
}

/* Its agent finds the disks by their serial numbers. */
static int check_image(const struct bh_domain_definition *d, struct bh_error *err)
{
	static const char *const serials[] = { BH_MICROVM_DISK_IMAGE, BH_MICROVM_DISK_WRITABLE };

	if (!d->image.reference)
		return 0;
	if (d->initrd || d->multiboot)
		return bh_error_text(err, EINVAL, "a machine with an image has an initial RAM disk of its own, and is started as Linux");
	if (d->memory_bytes < BH_MICROVM_MEMORY_MIN)
		return bh_error_text(err, EINVAL, "memory of %lld bytes: a machine with an image needs at least %lldm", (long long)d->memory_bytes,
				     (long long)(BH_MICROVM_MEMORY_MIN >> 20));
	for (size_t i = 0; i < BH_ARRAY_SIZE(serials); i++) {
		size_t count = 0;

		for (size_t k = 0; k < d->disk_count; k++)
			count += bh_streq(d->disks[k].serial, serials[i]) && d->disks[k].readonly == (i == 0);
		if (count != 1)
			return bh_error_text(err, EINVAL, "a machine with an image needs its disk '%s', and only one of that name", serials[i]);
	}
	return 0;
}

int bh_domain_definition_check(const struct bh_domain_definition *d, struct bh_error *err)
{
	if (d->memory_bytes < MEMORY_MIN || d->memory_bytes > MEMORY_MAX || d->memory_bytes % 4096)
		return bh_error_text(err, EINVAL, "memory of %lld bytes: from 16 MiB to 1 TiB, in whole pages", (long long)d->memory_bytes);
	if (d->cpus < 1 || d->cpus > CPUS_MAX)
		return bh_error_text(err, EINVAL, "%lld processors: from 1 to %d", (long long)d->cpus, CPUS_MAX);
	if (d->cid && (d->cid < CID_MIN || d->cid >= UINT32_MAX))
		return bh_error_text(err, EINVAL, "the vsock address %lld: from %d on", (long long)d->cid, CID_MIN);
	if (d->cpu && bh_cpu_model_parse(d->cpu, err) < 0)
		return -EINVAL;
	if (d->boot && !bh_streq(d->boot, "linux") && !bh_streq(d->boot, "pvh"))
		return bh_error_text(err, EINVAL, "boot: %s isn't known (linux, pvh)", d->boot);
	if (d->transport && !bh_streq(d->transport, "mmio"))
		return bh_error_text(err, EINVAL, "transport: %s isn't known (mmio, or none for PCI)", d->transport);
	for (size_t i = 0; i < d->disk_count; i++) {
		const struct bh_domain_disk *disk = &d->disks[i];

		if (!disk->path || *disk->path != '/')
			return bh_error_text(err, EINVAL, "disk %zu has no absolute path", i);
		if (!bh_streq(disk->format, "raw") && !bh_streq(disk->format, "qcow2"))
			return bh_error_text(err, EINVAL, "disk %s: the format %s isn't known (raw, qcow2)", disk->path, disk->format);
		if (disk->queues < 0 || disk->queues > QUEUES_MAX || (disk->queues > 1 && !bh_streq(disk->format, "raw")))
			return bh_error_text(err, EINVAL, "disk %s: %lld queues: from 1 to %d, and more than one only of a raw disk", disk->path,
					     (long long)disk->queues, QUEUES_MAX);
		if (!is_word(disk->serial))
			return bh_error_text(err, EINVAL, "disk %s: a serial number without commas", disk->path);
	}
	for (size_t i = 0; i < d->net_count; i++) {
		int r = check_address(d, i, err);

		if (r < 0)
			return r;
		if (!is_word(d->nets[i].tap) || !is_word(d->nets[i].bridge) || !is_word(d->nets[i].mac))
			return bh_error_text(err, EINVAL, "network %zu: names without commas", i);
	}
	return check_image(d, err);
}

void bh_domain_definition_warn(const struct bh_domain_definition *d, struct bh_strv *ret_warnings)
{
	long host_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int64_t host_memory = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);

	if (d->cpus > host_cpus)
		bh_strv_addf(ret_warnings, "%lld processors are more than the %ld of this machine: they will wait for each other", (long long)d->cpus,
			     host_cpus);
	if (d->memory_bytes > host_memory)
		bh_strv_addf(ret_warnings, "%lld MiB of memory are more than the %lld MiB of this machine: it may be killed when it uses them",
			     (long long)(d->memory_bytes >> 20), (long long)(host_memory >> 20));
}

char *bh_domain_random_mac(void)
{
	uint8_t bytes[3] = { 0 };

	(void)!getrandom(bytes, sizeof bytes, 0);
	return bh_printf("52:54:00:%02x:%02x:%02x", bytes[0], bytes[1], bytes[2]);
}
