/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions of virtual machines: create, set, attach, detach, import, clone, rm, autostart. */
#include "cli/vm-domain.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DEFAULT_MEMORY (512LL << 20)
#define XML_MAX (1u << 20)
#define DETACH_TIMEOUT_NS 10000000000

int bh_cli_for_each_domain(int argc, char **argv, bool locked, int (*action)(struct bh_domain *domain, void *context, struct bh_error *err),
			   void *context)
{
	int status = 0;

	for (int i = 0; i < argc; i++) {
		struct bh_error err = BH_ERROR_INIT;
		struct bh_domain domain;
		int r = bh_domain_open(bh_cli.root, bh_cli.state, argv[i], locked, &domain, &err);

		if (r == 0) {
			r = action(&domain, context, &err);
			bh_domain_unlock(&domain);
			bh_domain_clear(&domain);
		}
		if (r < 0)
			status = bh_cli_fail(&err, BH_EXIT_FAILURE);
	}
	return status;
}

bool bh_cli_open_domain(const char *name, bool lock, struct bh_domain *ret_domain)
{
	struct bh_error err = BH_ERROR_INIT;

	if (bh_domain_open(bh_cli.root, bh_cli.state, name, lock, ret_domain, &err) == 0)
		return true;
	bh_cli_fail(&err, BH_EXIT_FAILURE);
	return false;
}

/* --- options that describe a machine ------------------------------------------------------------------------------------ */

struct define_options {
	int64_t memory, cpus, cid;
	const char *kernel, *initrd, *append, *boot, *cpu, *transport;
	struct bh_strv disk, cdrom, net;
	bool multiboot;
	int hugepages, autostart; /* -1: not given */
	const char *image;        /* of create: these two */
	int64_t disk_size;
};

static const struct bh_option image_table[] = {
	{ 0, "image", BH_OPTION_STRING, offsetof(struct define_options, image), "IMAGE",
	  "The root file system is this image's, with a disk of its own over it and an agent inside: see vm exec", NULL, false },
	{ 0, "disk-size", BH_OPTION_BYTES, offsetof(struct define_options, disk_size), "BYTES", "Of that disk (default 8g; it takes what is written)",
	  NULL, false },
	{ 0 },
};

static const struct bh_option define_table[] = {
	{ 'm', "memory", BH_OPTION_BYTES, offsetof(struct define_options, memory), "BYTES", "The guest's memory (default 512m)", NULL, false },
	{ 'c', "cpus", BH_OPTION_INT, offsetof(struct define_options, cpus), "N", "Processors, 1 to 64 (default 1)", NULL, false },
	{ 0, "cpu", BH_OPTION_STRING, offsetof(struct define_options, cpu), "host|LEVEL[,+FEATURE][,-FEATURE]",
	  "Which of the host's processor features the guest sees: all (host), or those of a level that many machines have (x86-64-v1 or baseline, "
	  "x86-64-v2, -v3, -v4), so that it can move between them",
	  NULL, false },
	{ 'k', "kernel", BH_OPTION_STRING, offsetof(struct define_options, kernel), "FILE", "The kernel to start", NULL, false },
	{ 0, "initrd", BH_OPTION_STRING, offsetof(struct define_options, initrd), "FILE", "Initial RAM disk, or multiboot module", NULL, false },
	{ 0, "append", BH_OPTION_STRING, offsetof(struct define_options, append), "TEXT", "The kernel's command line", NULL, false },
	{ 0, "disk", BH_OPTION_LIST, offsetof(struct define_options, disk), "FILE|size=BYTES[,readonly][,format=qcow2][,queues=N][,serial=TEXT]",
	  "A disk: an image or a device, or a new empty one of this size", NULL, false },
	{ 0, "cdrom", BH_OPTION_LIST, offsetof(struct define_options, cdrom), "FILE", "A read-only disk", NULL, false },
	{ 0, "net", BH_OPTION_LIST, offsetof(struct define_options, net),
	  "none|tap[=NAME][,bridge=NAME][,mac=ADDRESS][,vhost][,ip=ADDRESS/BITS][,gateway=ADDRESS]",
	  "A network card on a tap device; vhost: the kernel moves the packets, if it can; "
	  "ip, gateway: what the agent gives the first card of a machine with an --image",
	  NULL, false },
	{ 0, "cid", BH_OPTION_INT, offsetof(struct define_options, cid), "N", "A vsock device with this address", NULL, false },
	{ 0, "hugepages", BH_OPTION_TRISTATE, offsetof(struct define_options, hugepages), NULL, "Memory from the host's reserved huge pages", NULL,
	  false },
	{ 0, "multiboot", BH_OPTION_BOOL, offsetof(struct define_options, multiboot), NULL, "It is a multiboot kernel", NULL, false },
	{ 0, "boot", BH_OPTION_STRING, offsetof(struct define_options, boot), "auto|linux|pvh",
	  "How the kernel is entered: by Linux's 64-bit protocol, or by PVH; auto: by PVH if it can't be otherwise", "auto|linux|pvh", false },
	{ 0, "transport", BH_OPTION_STRING, offsetof(struct define_options, transport), "pci|mmio",
	  "How the guest reaches its virtio devices (mmio: for kernels without PCI; Linux finds them by ACPI)", "pci|mmio", false },
	{ 0, "autostart", BH_OPTION_TRISTATE, offsetof(struct define_options, autostart), NULL, "Started by vm start --autostart", NULL, false },
	{ 0 },
};

static void define_preset(void *options)
{
	struct define_options *o = options;

	o->hugepages = o->autostart = -1;
}

static char *absolute(const char *path, struct bh_error *err)
{
	char *found = realpath(path, NULL);

	if (!found)
		bh_error_set(err, errno, "%s", path);
	return found;
}

static void replace(char **place, char *text)
{
	free(*place);
	*place = text;
}

/* In the folder of what is the machine's own, which is made when it's needed, under the first free number from this one on: a create that was killed
 * has left its file, vm detach leaves one too. */
static int make_disk(const char *name, size_t number, const char *size, struct bh_domain_disk *disk, struct bh_error *err)
{
	bh_auto_free char *folder = bh_printf("%s/vms/%s/disks", bh_cli.root, name), *parent = bh_printf("%s/vms", bh_cli.root);
	bh_auto_close int fd = -1;
	uint64_t bytes;
	int r;

	if (bh_parse_bytes(size, &bytes) < 0 || bytes == 0)
		return bh_error_text(err, EINVAL, "--disk size=%s: a size is expected, as 10g", size);
	r = bh_mkdir_all(AT_FDCWD, parent, 0700, err);
	if (r == 0)
		r = bh_mkdir_all(AT_FDCWD, folder, 0700, err);
	if (r < 0)
		return r;
	do {
		replace(&disk->path, bh_printf("%s/disk-%zu.img", folder, number++));
		fd = open(disk->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	} while (fd < 0 && errno == EEXIST);
	if (fd < 0 || ftruncate(fd, (off_t)(bytes + 511) / 512 * 512) < 0)
		return bh_error_set(err, errno, "make the disk %s", disk->path);
	disk->ours = true;
	return 0;
}

static int parse_disk_word(const char *word, struct bh_domain_disk *disk, struct bh_error *err)
{
	if (bh_streq(word, "readonly") || bh_streq(word, "ro")) {
		disk->readonly = true;
	} else if (bh_has_prefix(word, "format=")) {
		free(disk->format);
		disk->format = bh_strdup(word + strlen("format="));
	} else if (bh_has_prefix(word, "queues=")) {
		if (bh_parse_int(word + strlen("queues="), 1, INT32_MAX, &disk->queues) < 0)
			return bh_error_text(err, EINVAL, "--disk: %s: a number from 1 on is expected", word);
	} else if (bh_has_prefix(word, "serial=")) {
		free(disk->serial);
		disk->serial = bh_strdup(word + strlen("serial="));
	} else {
		return bh_error_text(err, EINVAL, "--disk: %s is not known", word);
	}
	return 0;
}

static int add_disk(const char *name, const char *option, bool readonly, struct bh_domain_definition *d, struct bh_error *err)
{
	bh_auto_strv struct bh_strv words = bh_strv_split(option, ',');
	struct bh_domain_disk *disk = &d->disks[d->disk_count];
	int r = 0;

	if (d->disk_count == BH_DOMAIN_DISKS_MAX)
		return bh_error_text(err, ENOSPC, "more than %d disks", BH_DOMAIN_DISKS_MAX);
	*disk = (struct bh_domain_disk){ .format = bh_strdup("raw"), .readonly = readonly };
	d->disk_count++;
	for (size_t i = 1; r == 0 && i < words.count; i++)
		r = parse_disk_word(words.items[i], disk, err);
	if (r < 0)
		return r;
	if (bh_has_prefix(words.items[0], "size="))
		return make_disk(name, d->disk_count - 1, words.items[0] + strlen("size="), disk, err);
	disk->path = absolute(words.items[0], err);
	return disk->path ? 0 : -err->errnum;
}

static int add_net(const char *option, struct bh_domain_definition *d, struct bh_error *err)
{
	bh_auto_strv struct bh_strv words = bh_strv_split(option, ',');
	struct bh_domain_net *net = &d->nets[d->net_count];

	if (bh_streq(option, "none"))
		return 0;
	if (d->net_count == BH_DOMAIN_NETS_MAX)
		return bh_error_text(err, ENOSPC, "more than %d network cards", BH_DOMAIN_NETS_MAX);
	*net = (struct bh_domain_net){ 0 };
	d->net_count++;
	for (size_t i = 0; i < words.count; i++) {
		const char *word = words.items[i];

		if (i == 0 && bh_has_prefix(word, "tap="))
			net->tap = bh_strdup(word + strlen("tap="));
		else if (i > 0 && bh_has_prefix(word, "bridge="))
			replace(&net->bridge, bh_strdup(word + strlen("bridge=")));
		else if (i > 0 && bh_has_prefix(word, "mac="))
			replace(&net->mac, bh_strdup(word + strlen("mac=")));
		else if (i > 0 && bh_has_prefix(word, "ip="))
			replace(&net->address, bh_strdup(word + strlen("ip=")));
		else if (i > 0 && bh_has_prefix(word, "gateway="))
			replace(&net->gateway, bh_strdup(word + strlen("gateway=")));
		else if (i > 0 && bh_streq(word, "vhost"))
			net->vhost = true;
		else if (i > 0 || !bh_streq(word, "tap"))
			return bh_error_text(
				err, EINVAL,
				"--net %s: none or tap[=NAME][,bridge=NAME][,mac=ADDRESS][,vhost][,ip=ADDRESS/BITS][,gateway=ADDRESS] is expected",
				option);
	}
	if (!net->mac)
		net->mac = bh_domain_random_mac();
	return 0;
}

static int set_path(const char *option, char **place, struct bh_error *err)
{
	char *path;

	if (!option)
		return 0;
	path = absolute(option, err);
	if (!path)
		return -err->errnum;
	replace(place, path);
	return 0;
}

/* What was given; the rest stays. */
static int apply(const char *name, const struct define_options *o, struct bh_domain_definition *d, struct bh_error *err)
{
	int r = set_path(o->kernel, &d->kernel, err);

	if (r == 0)
		r = set_path(o->initrd, &d->initrd, err);
	if (o->append)
		replace(&d->append, bh_strdup(o->append));
	if (o->cpu)
		replace(&d->cpu, bh_streq(o->cpu, "host") ? NULL : bh_strdup(o->cpu));
	if (o->transport)
		replace(&d->transport, bh_streq(o->transport, "pci") ? NULL : bh_strdup(o->transport));
	if (o->boot && o->multiboot)
		return bh_error_text(err, EINVAL, "--boot %s and --multiboot exclude each other", o->boot);
	if (o->boot)
		d->multiboot = false;
	if (o->boot)
		replace(&d->boot, bh_streq(o->boot, "auto") ? NULL : bh_strdup(o->boot));
	if (o->memory)
		d->memory_bytes = o->memory;
	if (o->cpus)
		d->cpus = o->cpus;
	if (o->cid)
		d->cid = o->cid;
	if (o->hugepages >= 0)
		d->hugepages = o->hugepages;
	if (o->autostart >= 0)
		d->autostart = o->autostart;
	if (o->multiboot)
		d->multiboot = true;
	for (size_t i = 0; r == 0 && i < o->disk.count; i++)
		r = add_disk(name, o->disk.items[i], false, d, err);
	for (size_t i = 0; r == 0 && i < o->cdrom.count; i++)
		r = add_disk(name, o->cdrom.items[i], true, d, err);
	for (size_t i = 0; r == 0 && i < o->net.count; i++)
		r = add_net(o->net.items[i], d, err);
	return r;
}

static void warn(const struct bh_domain_definition *d)
{
	bh_auto_strv struct bh_strv warnings = { 0 };

	bh_domain_definition_warn(d, &warnings);
	for (size_t i = 0; i < warnings.count; i++)
		fprintf(stderr, "bulkhead: warning: %s\n", warnings.items[i]);
}

/* --- create ------------------------------------------------------------------------------------------------------------ */

/* Such a machine boots what microVMs boot; whoever has named a kernel for them means it for this one too, also when a shim starts it. */
static int create_with_image(char **argv, const struct define_options *o, struct bh_domain_definition *d, struct bh_error *err)
{
	struct bh_domain_image_options image = {
		.root = bh_cli.root, .state = bh_cli.state, .name = argv[0], .reference = o->image, .disk_bytes = o->disk_size, .command = argv + 1
	};
	int r = d->kernel ? 0 : set_path(getenv("BULKHEAD_KERNEL"), &d->kernel, err);

	return r < 0 ? r : bh_domain_create(bh_cli.root, bh_cli.state, argv[0], d, bh_domain_image_fill, &image, err);
}

static int create_main(void *arg, int argc, char **argv)
{
	__attribute__((cleanup(bh_domain_definition_clear))) struct bh_domain_definition d = { .memory_bytes = DEFAULT_MEMORY, .cpus = 1 };
	const struct define_options *o = arg;
	struct bh_error err = BH_ERROR_INIT;
	struct bh_domain old;
	int r;

	if (bh_domain_open(bh_cli.root, bh_cli.state, argv[0], false, &old, NULL) == 0) {
		bh_domain_clear(&old);
		bh_error_text(&err, EEXIST, "the virtual machine %s exists already", argv[0]);
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	}
	r = !o->image && o->disk_size ? bh_error_text(&err, EINVAL, "--disk-size is for machines with an --image: --disk size=BYTES makes a disk") :
	    !o->image && argc > 1     ? bh_error_text(&err, EINVAL, "vm create: a command is for machines with an --image") :
					0;
	if (r == 0)
		r = apply(argv[0], o, &d, &err);
	if (r == 0 && o->image)
		r = create_with_image(argv, o, &d, &err);
	else if (r == 0)
		r = bh_domain_create(bh_cli.root, bh_cli.state, argv[0], &d, NULL, NULL, &err);
	if (r < 0) {
		/* Disks that were made for it go again. */
		for (size_t i = 0; i < d.disk_count; i++)
			if (d.disks[i].ours)
				unlink(d.disks[i].path);
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	}
	warn(&d);
	printf("%s\n", argv[0]);
	return 0;
}

const struct bh_command bh_command_vm_create = {
	.name = "vm create",
	.group = "Machines",
	.synopsis = "[OPTIONS] NAME [COMMAND [ARG...]]",
	.summary = "Define a virtual machine with disks of its own",
	.description = "The definition is a readable file, domain.json in the machine's folder; vm set changes it.\n"
		       "With --image the machine needs no kernel of its own (see vm kernel). The image's entry point and command, or COMMAND, run in it on the "
		       "console (a shell, if there is neither), and when they end it powers off.",
	.sets = { define_table, image_table },
	.options_size = sizeof(struct define_options),
	.preset = define_preset,
	.min_arguments = 1,
	.max_arguments = -1,
	.run = create_main,
};

/* --- set, attach, detach ----------------------------------------------------------------------------------------------- */

/* Less memory at once, by the balloon; false: that can't be. */
static bool set_memory_now(struct bh_domain *domain, int64_t bytes)
{
	json_object *answer = NULL, *members = NULL, *size;
	bool done = false;

	if (bh_domain_request(domain, "status", NULL, NULL, 0, &answer, NULL) == 0 && json_object_object_get_ex(answer, "memory", &size) &&
	    bytes <= json_object_get_int64(size)) {
		members = json_object_new_object();
		json_object_object_add(members, "bytes", json_object_new_int64(json_object_get_int64(size) - bytes));
		done = bh_domain_request(domain, "balloon", members, NULL, 0, NULL, NULL) == 0;
	}
	json_object_put(members);
	json_object_put(answer);
	return done;
}

static int set_action(struct bh_domain *domain, void *context, struct bh_error *err)
{
	const struct define_options *o = context;
	int r = apply(domain->name, context, &domain->definition, err);

	if (r == 0)
		r = bh_domain_save(domain, err);
	if (r == 0)
		warn(&domain->definition);
	if (r < 0 || domain->status == BH_DOMAIN_SHUT_OFF)
		return r;
	if (o->memory && set_memory_now(domain, o->memory))
		fprintf(stderr, "bulkhead: %s is asked to give memory back now, and has that much at its next start\n", domain->name);
	else
		fprintf(stderr, "bulkhead: %s runs: the change takes effect at its next start\n", domain->name);
	return r;
}

static int set_main(void *arg, int argc, char **argv)
{
	return bh_cli_for_each_domain(argc, argv, true, set_action, arg);
}

const struct bh_command bh_command_vm_set = {
	.name = "vm set",
	.group = "Machines",
	.synopsis = "[OPTIONS] NAME",
	.summary = "Change a virtual machine's definition",
	.description = "Disks and network cards that are named are added; vm detach takes them away. A machine that runs changes at its next start, but for "
		       "less memory, which it is asked for at once (balloon). vm attach adds a device at once.",
	.sets = { define_table },
	.options_size = sizeof(struct define_options),
	.preset = define_preset,
	.min_arguments = 1,
	.max_arguments = 1,
	.run = set_main,
};

/* A disk or a card; both are the last of the definition's then. */
static int add_named(const char *name, const char *device, struct bh_domain_definition *d, struct bh_error *err)
{
	bool is_net = bh_streq(device, "tap") || bh_has_prefix(device, "tap=") || bh_has_prefix(device, "tap,");

	return is_net ? add_net(device, d, err) : add_disk(name, device, false, d, err);
}

struct attach_options {
	bool config;
	int64_t timeout_ns;
	const char *device;
};

static int attach_action(struct bh_domain *domain, void *context, struct bh_error *err)
{
	const struct attach_options *o = context;
	struct bh_domain_definition *d = &domain->definition;
	size_t disks = d->disk_count, nets = d->net_count;
	bool now = domain->status != BH_DOMAIN_SHUT_OFF && !o->config, has_it;
	int r = add_named(domain->name, o->device, d, err);

	if (r == 0)
		r = bh_domain_definition_check(d, err);
	if (r == 0 && now && d->disk_count > disks)
		r = bh_domain_plug_disk(domain, &d->disks[disks], err);
	if (r == 0 && now && d->net_count > nets)
		r = bh_domain_plug_net(domain, &d->nets[nets], err);
	has_it = r == 0 && now;
	if (r == 0)
		r = bh_domain_save(domain, err);
	/* A disk that was made for this, and that no machine has. */
	if (r < 0 && !has_it && d->disk_count > disks && d->disks[disks].ours)
		unlink(d->disks[disks].path);
	if (r == 0 && domain->status != BH_DOMAIN_SHUT_OFF && o->config)
		fprintf(stderr, "bulkhead: %s runs: it has the device at its next start\n", domain->name);
	return r;
}

static int attach_main(void *arg, int argc, char **argv)
{
	struct attach_options *o = arg;

	(void)argc;
	o->device = argv[1];
	return bh_cli_for_each_domain(1, argv, true, attach_action, o);
}

static const struct bh_option attach_table[] = {
	{ 0, "config", BH_OPTION_BOOL, offsetof(struct attach_options, config), NULL, "At its next start, not now", NULL, false },
	{ 0 },
};

const struct bh_command bh_command_vm_attach = {
	.name = "vm attach",
	.group = "Machines",
	.synopsis = "[--config] NAME FILE|size=BYTES[,readonly][,format=qcow2][,queues=N][,serial=TEXT] | tap[=NAME][,bridge=NAME][,mac=ADDRESS][,vhost]",
	.summary = "Give a virtual machine a further disk or network card",
	.description = "A machine that runs has it at once, if its kernel knows hot plug by ACPI (Linux does), and at every start from then on.",
	.sets = { attach_table },
	.options_size = sizeof(struct attach_options),
	.min_arguments = 2,
	.max_arguments = 2,
	.run = attach_main,
};

static int detach_action(struct bh_domain *domain, void *context, struct bh_error *err)
{
	const struct attach_options *o = context;
	struct bh_domain_definition *d = &domain->definition;
	bh_auto_free char *path = realpath(o->device, NULL), *name = NULL;
	size_t disk = path ? bh_domain_find_disk(d, path) : d->disk_count, net = bh_domain_find_net(d, o->device);
	bool now = domain->status != BH_DOMAIN_SHUT_OFF && !o->config;
	int r;

	if (disk == d->disk_count)
		disk = bh_domain_find_disk(d, o->device);
	if (disk == d->disk_count && net == d->net_count)
		return bh_error_text(err, ENOENT, "%s has no disk or network card %s", domain->name, o->device);
	name = bh_strdup(disk < d->disk_count ? d->disks[disk].path : o->device);
	if (disk < d->disk_count)
		bh_domain_remove_disk(d, disk);
	else
		bh_domain_remove_net(d, net);
	r = bh_domain_definition_check(d, err);
	if (r == 0 && now)
		r = bh_domain_unplug(domain, name, o->timeout_ns / 1000000, err);
	/* It may be one of the next start only. */
	return r < 0 && r != -ENOENT ? r : bh_domain_save(domain, err);
}

static int detach_main(void *arg, int argc, char **argv)
{
	struct attach_options *o = arg;

	(void)argc;
	o->device = argv[1];
	return bh_cli_for_each_domain(1, argv, true, detach_action, o);
}

static void detach_preset(void *options)
{
	((struct attach_options *)options)->timeout_ns = DETACH_TIMEOUT_NS;
}

static const struct bh_option detach_table[] = {
	{ 0, "config", BH_OPTION_BOOL, offsetof(struct attach_options, config), NULL, "From its next start on, not now", NULL, false },
	{ 0, "timeout", BH_OPTION_DURATION, offsetof(struct attach_options, timeout_ns), "TIME", "What the guest has to let go of it (default 10s)",
	  NULL, false },
	{ 0 },
};

const struct bh_command bh_command_vm_detach = {
	.name = "vm detach",
	.group = "Machines",
	.synopsis = "[--config] [--timeout TIME] NAME FILE|SERIAL|ADDRESS",
	.summary = "Take a disk or a network card away from a virtual machine; a disk's image stays",
	.description = "The kernel of a machine that runs is asked to let go of it first; a guest that doesn't keeps it.",
	.sets = { detach_table },
	.options_size = sizeof(struct attach_options),
	.preset = detach_preset,
	.min_arguments = 2,
	.max_arguments = 2,
	.run = detach_main,
};

/* --- autostart --------------------------------------------------------------------------------------------------------- */

struct autostart_options {
	bool disable;
};

static int autostart_action(struct bh_domain *domain, void *context, struct bh_error *err)
{
	const struct autostart_options *o = context;

	domain->definition.autostart = !o->disable;
	return bh_domain_save(domain, err);
}

static int autostart_main(void *arg, int argc, char **argv)
{
	return bh_cli_for_each_domain(argc, argv, true, autostart_action, arg);
}

static const struct bh_option autostart_table[] = {
	{ 0, "disable", BH_OPTION_BOOL, offsetof(struct autostart_options, disable), NULL, "No longer", NULL, false },
	{ 0 },
};

const struct bh_command bh_command_vm_autostart = {
	.name = "vm autostart",
	.group = "Machines",
	.synopsis = "[--disable] NAME [NAME...]",
	.summary = "Have virtual machines started by vm start --autostart, as at boot",
	.sets = { autostart_table },
	.options_size = sizeof(struct autostart_options),
	.min_arguments = 1,
	.max_arguments = -1,
	.run = autostart_main,
};

/* --- clone, import, rm ------------------------------------------------------------------------------------------------- */

struct clone_options {
	const char *snapshot;
};

static int clone_main(void *arg, int argc, char **argv)
{
	const struct clone_options *o = arg;
	struct bh_error err = BH_ERROR_INIT;
	struct bh_domain domain;
	int r;

	(void)argc;
	if (!bh_cli_open_domain(argv[0], true, &domain))
		return BH_EXIT_FAILURE;
	r = bh_domain_clone(&domain, argv[1], o->snapshot, &err);
	bh_domain_clear(&domain);
	if (r < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	printf("%s\n", argv[1]);
	return 0;
}

static const struct bh_option clone_table[] = {
	{ 0, "snapshot", BH_OPTION_STRING, offsetof(struct clone_options, snapshot), "NAME",
	  "Of this snapshot, from which the new one can be started", NULL, false },
	{ 0 },
};

const struct bh_command bh_command_vm_clone = {
	.name = "vm clone",
	.group = "Machines",
	.synopsis = "[OPTIONS] NAME NEW",
	.summary = "Make another virtual machine with copies of the disks, new addresses and a new identity",
	.sets = { clone_table },
	.options_size = sizeof(struct clone_options),
	.min_arguments = 2,
	.max_arguments = 2,
	.run = clone_main,
};

static int import_main(void *arg, int argc, char **argv)
{
	__attribute__((cleanup(bh_domain_definition_clear))) struct bh_domain_definition d = { 0 };
	bh_auto_strv struct bh_strv warnings = { 0 };
	bh_auto_buf struct bh_buf text = { 0 };
	bh_auto_free char *name = NULL;
	const char *called = "";
	struct bh_error err = BH_ERROR_INIT;
	int r = bh_streq(argv[0], "-") ? bh_read_fd(STDIN_FILENO, XML_MAX, &text) : bh_read_file_at(AT_FDCWD, argv[0], XML_MAX, &text, &err);

	(void)arg;
	if (r == 0)
		r = bh_domain_import_xml(text.data, text.length, &name, &d, &warnings, &err);
	if (r == 0)
		r = bh_domain_create(bh_cli.root, bh_cli.state, called = argc > 1 ? argv[1] : name, &d, NULL, NULL, &err);
	for (size_t i = 0; i < warnings.count; i++)
		fprintf(stderr, "bulkhead: warning: %s\n", warnings.items[i]);
	if (r < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	warn(&d);
	printf("%s\n", called);
	return 0;
}

const struct bh_command bh_command_vm_import = {
	.name = "vm import",
	.group = "Machines",
	.synopsis = "FILE|- [NAME]",
	.summary = "Define a virtual machine as a libvirt domain's XML has it",
	.description = "Takes memory, processors, a kernel that is started directly, disks and bridged network cards; what else is there is named and left out.",
	.min_arguments = 1,
	.max_arguments = 2,
	.run = import_main,
};

struct rm_options {
	bool force;
};

static int rm_action(struct bh_domain *domain, void *context, struct bh_error *err)
{
	const struct rm_options *o = context;
	int r = 0;

	if (o->force && domain->status != BH_DOMAIN_SHUT_OFF) {
		r = bh_domain_destroy(domain, err);
		if (r == 0 && bh_lock_fd(domain->dir_fd, true, false) == 0)
			domain->locked = true;
	}
	if (r == 0)
		r = bh_domain_remove(domain, err);
	if (r == 0)
		printf("%s\n", domain->name);
	return r;
}

static int rm_main(void *arg, int argc, char **argv)
{
	return bh_cli_for_each_domain(argc, argv, true, rm_action, arg);
}

static const struct bh_option rm_table[] = {
	{ 'f', "force", BH_OPTION_BOOL, offsetof(struct rm_options, force), NULL, "Also one that runs", NULL, false },
	{ 0 },
};

const struct bh_command bh_command_vm_rm = {
	.name = "vm rm",
	.alias = "vm.undefine",
	.group = "Machines",
	.synopsis = "[OPTIONS] NAME [NAME...]",
	.summary = "Remove virtual machines with the disks that were made for them",
	.sets = { rm_table },
	.options_size = sizeof(struct rm_options),
	.min_arguments = 1,
	.max_arguments = -1,
	.run = rm_main,
};
