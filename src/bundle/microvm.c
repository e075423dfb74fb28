/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bundle as a microVM: whether its configuration asks for one, and what of it is for the machine.
 *
 * Asked for by the `vm` object (runtime-spec, config-vm.md) or by an annotation; `io.bulkhead.isolation` has the last word. The root file
 * system stays a folder of the host, which the machine shares, so that whoever has made it sees what is written. Memory and processors
 * are those of linux.resources (or vm.hwConfig), so that callers size a machine as they size a container.
 *
 * What can't be had is refused by its field's name. Three things leave the configuration without a word, since they speak about the host's
 * kernel alone: labels of AppArmor and SELinux, and a /dev/shm of the host's, in whose place the guest has one of its own.
 */
#include "bundle/criu-internal.h"

#include "base/file.h"
#include "linux/namespace.h"
#include "linux/path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#define ISOLATION "io.bulkhead.isolation"
#define KERNEL "io.bulkhead.kernel"
#define ACCELERATOR "io.bulkhead.accel"
#define KERNELS_ROOT "/var/lib/bulkhead" /* where `bulkhead vm kernel install` puts them; or $BULKHEAD_ROOT */
#define CPU_PERIOD_DEFAULT_US 100000

int bh_bundle_find_driver(const struct bh_spec *spec, const char *other, const struct bh_isolation_driver **ret_driver, struct bh_error *err)
{
	const char *isolation = bh_map_get(&spec->annotations, ISOLATION);

	if (isolation && bh_isolation_driver_find(isolation, ret_driver, NULL) < 0)
		return bh_error_text(err, EINVAL, "annotations: " ISOLATION "=%s: there are container and vm", isolation);
	if (isolation && *isolation)
		return 0;
	return bh_isolation_driver_find(spec->vm.set ? bh_isolation_vm.name : other, ret_driver, err);
}

/* --- what can't be had -------------------------------------------------------------------------------------------------- */

static int check_vm_object(const struct bh_spec *spec, struct bh_error *err)
{
	const struct bh_spec_vm *vm = &spec->vm;

	if (vm->hypervisor.path || vm->hypervisor.parameters.count)
		return bh_error_text(err, ENOTSUP, "vm.hypervisor: a microVM is run by Bulkhead's own monitor");
	if (vm->image.path)
		return bh_error_text(err, ENOTSUP, "vm.image: a microVM's root file system is the bundle's");
	if (vm->kernel.initrd)
		return bh_error_text(err, ENOTSUP, "vm.kernel.initrd: a microVM begins with an initramfs of Bulkhead's own");
	if (bh_strv_contains(&vm->kernel.parameters, "--"))
		return bh_error_text(err, EINVAL, "vm.kernel.parameters: \"--\" ends the kernel's parameters");
	if (vm->hw_config.device_tree || vm->hw_config.dtdevs.count || vm->hw_config.io_memory_count || vm->hw_config.irq_count)
		return bh_error_text(err, ENOTSUP, "vm.hwConfig: of the hardware only vcpus and memory can be chosen");
	return 0;
}

static int check_namespaces(const struct bh_spec *spec, struct bh_error *err)
{
	for (size_t i = 0; i < BH_NS_COUNT; i++)
		if (spec->namespaces[i].path)
			return bh_error_text(err, ENOTSUP, "linux.namespaces: %s: a microVM has a kernel of its own and can't join %s",
					     bh_namespaces[i].name, spec->namespaces[i].path);
	if (!spec->namespaces[BH_NS_NETWORK].present)
		return bh_error_text(err, ENOTSUP, "linux.namespaces: a microVM has a network of its own and can't have the host's");
	if (!spec->namespaces[BH_NS_MOUNT].present)
		return bh_error_text(err, ENOTSUP, "linux.namespaces: a microVM has mounts of its own and can't have the host's");
	if (spec->namespaces[BH_NS_USER].present)
		return bh_error_text(err, ENOTSUP, "linux.namespaces: user: a microVM's users are its own already");
	return 0;
}

static int check_spec(const struct bh_spec *spec, struct bh_error *err)
{
	if (!spec->process.args.count)
		return bh_error_text(err, EINVAL, "process.args: a microVM needs a process");
	if (spec->device_count)
		return bh_error_text(err, ENOTSUP, "linux.devices: %s: a microVM has devices of its own", spec->devices[0].path);
	if (spec->net_device_count)
		return bh_error_text(err, ENOTSUP, "linux.netDevices: a microVM can't have devices of the host");
	if (spec->intel_rdt.set)
		return bh_error_text(err, ENOTSUP, "linux.intelRdt: not for a microVM");
	if (spec->seccomp.listener_path)
		return bh_error_text(err, ENOTSUP, "linux.seccomp.listenerPath: an agent of the host can't be asked by a microVM's kernel");
	if (spec->hooks.create_container.count)
		return bh_error_text(err, ENOTSUP, "hooks.createContainer: a program of the host can't run inside a microVM");
	return 0;
}

static int check(const struct bh_bundle_create *q, const struct bh_bundle *b, struct bh_error *err)
{
	int r;

	if (q->rootless || b->owner != 0)
		return bh_error_text(err, EPERM, "a microVM needs root: an ordinary user can't have one");
	if (q->preserve_fds)
		return bh_error_text(err, ENOTSUP, "--preserve-fds: a microVM's process gets its standard streams only");
	r = check_vm_object(&b->spec, err);
	if (r == 0)
		r = check_namespaces(&b->spec, err);
	return r < 0 ? r : check_spec(&b->spec, err);
}

/* --- the machine ---------------------------------------------------------------------------------------------------------- */

static int choose_size(const struct bh_spec *spec, struct bh_microvm *vm, struct bh_error *err)
{
	const struct bh_spec_resources *r = &spec->resources;
	uint64_t memory = spec->vm.hw_config.memory_bytes;

	if (memory > INT64_MAX)
		return bh_error_text(err, EINVAL, "vm.hwConfig.memory: too much");
	vm->memory = (int64_t)memory;
	if (!memory && r->memory.limit.set && r->memory.limit.value > 0)
		vm->memory = r->memory.limit.value;
	if (memory && vm->memory < BH_MICROVM_MEMORY_MIN)
		return bh_error_text(err, EINVAL, "vm.hwConfig.memory: a microVM needs at least %lld bytes", (long long)BH_MICROVM_MEMORY_MIN);
	if (spec->vm.hw_config.vcpus > BH_MICROVM_CPUS_MAX)
		return bh_error_text(err, EINVAL, "vm.hwConfig.vcpus: a microVM has at most %d", BH_MICROVM_CPUS_MAX);
	vm->cpus_nano = (int64_t)spec->vm.hw_config.vcpus * 1000000000;
	if (!vm->cpus_nano && r->cpu.quota.set && r->cpu.quota.value > 0) {
		int64_t period = r->cpu.period.set && r->cpu.period.value > 0 ? (int64_t)r->cpu.period.value : CPU_PERIOD_DEFAULT_US;

		vm->cpus_nano = BH_MIN(r->cpu.quota.value / period, (int64_t)BH_MICROVM_CPUS_MAX) * 1000000000 + (r->cpu.quota.value % period != 0);
	}
	return 0;
}

static int choose_kernel(const struct bh_spec *spec, struct bh_microvm *vm, struct bh_error *err)
{
	const char *root = getenv("BULKHEAD_ROOT");

	vm->kernel = bh_map_get(&spec->annotations, KERNEL);
	if (!vm->kernel)
		vm->kernel = spec->vm.kernel.path;
	if (vm->kernel && *vm->kernel != '/')
		return bh_error_text(err, EINVAL, "the path of a microVM's kernel isn't absolute: %s", vm->kernel);
	vm->kernel_parameters = &spec->vm.kernel.parameters;
	vm->accelerator = bh_map_get(&spec->annotations, ACCELERATOR);
	vm->root = root && *root ? root : KERNELS_ROOT;
	return 0;
}

/* --- what is the host kernel's -------------------------------------------------------------------------------------------- */

/* Memory can't be shared between kernels. */
static void replace_shm(struct bh_spec *spec)
{
	static const char *const options[] = { "nosuid", "noexec", "nodev", "mode=1777" };

	for (size_t i = 0; i < spec->mount_count; i++) {
		struct bh_spec_mount *m = &spec->mounts[i];

		if (!bh_streq(m->destination, "/dev/shm") || bh_streq(m->type, "tmpfs"))
			continue;
		free(m->type);
		free(m->source);
		m->type = bh_strdup("tmpfs");
		m->source = bh_strdup("shm");
		bh_strv_clear(&m->options);
		for (size_t k = 0; k < BH_ARRAY_SIZE(options); k++)
			bh_strv_add(&m->options, options[k]);
	}
}

static bool is_below_other(const struct bh_spec *spec, size_t index)
{
	const char *at = spec->mounts[index].destination;

	for (size_t i = 0; i < spec->mount_count; i++) {
		const char *above = spec->mounts[i].destination;

		if (i != index && bh_has_prefix(at, above) && at[strlen(above)] == '/')
			return true;
	}
	return false;
}

static int make_place(int root_fd, const char *path, enum bh_node_kind kind, struct bh_error *err)
{
	int fd = bh_make_in_root(root_fd, path, kind, err);

	if (fd >= 0)
		close(fd);
	return BH_MIN(fd, 0);
}

/* A read-only root is read-only for the whole machine: what it needs to mount on is made out here. */
static int make_mount_points(const struct bh_bundle *b, struct bh_error *err)
{
	bh_auto_close int root_fd = bh_open_dir(AT_FDCWD, b->rootfs, O_PATH, err);
	int r = root_fd < 0 ? root_fd : 0;

	for (size_t i = 0; r == 0 && i < b->spec.mount_count; i++) {
		const struct bh_spec_mount *m = &b->spec.mounts[i];
		struct stat st;
		bool file = bh_criu_is_bind(m) && stat(m->source, &st) == 0 && !S_ISDIR(st.st_mode);

		if (!is_below_other(&b->spec, i))
			r = make_place(root_fd, m->destination, file ? BH_NODE_FILE : BH_NODE_DIRECTORY, err);
	}
	return r < 0 ? r : make_place(root_fd, b->spec.process.cwd, BH_NODE_DIRECTORY, err);
}

/* Relative sources are the bundle's. */
static void complete_sources(struct bh_bundle *b)
{
	for (size_t i = 0; i < b->spec.mount_count; i++) {
		struct bh_spec_mount *m = &b->spec.mounts[i];

		if (!bh_criu_is_bind(m) || !m->source || *m->source == '/')
			continue;
		char *full = bh_path_join(b->bundle, m->source);

		free(m->source);
		m->source = full;
	}
}

int bh_bundle_prepare_microvm(const struct bh_bundle_create *q, struct bh_bundle *b, struct bh_microvm *ret_vm, struct bh_error *err)
{
	struct bh_microvm vm = { .rootfs = b->rootfs };
	struct bh_spec *spec = &b->spec;
	int r = check(q, b, err);

	if (r == 0)
		r = choose_size(spec, &vm, err);
	if (r == 0)
		r = choose_kernel(spec, &vm, err);
	if (r < 0)
		return r;
	bh_free_ptr(&spec->process.selinux_label);
	bh_free_ptr(&spec->process.apparmor_profile);
	bh_free_ptr(&spec->mount_label);
	replace_shm(spec);
	complete_sources(b);
	if (spec->root.readonly)
		r = make_mount_points(b, err);
	if (r == 0)
		*ret_vm = vm;
	return r;
}
