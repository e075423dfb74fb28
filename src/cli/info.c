/* SPDX-License-Identifier: Apache-2.0 */
/*
 * info: what this host can isolate with, and what is missing and why. Every line comes from trying the thing (or asking
 * the kernel for it), not from a version number.
 */
#include "base/time.h"
#include "cgroup/cgroup.h"
#include "cli/cli.h"
#include "cli/containers.h"
#include "cli/template.h"
#include "linux/syscall.h"
#include "microvm/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

struct info_options {
	const char *format;
};

static const struct bh_option options[] = {
	{ 'f', "format", BH_OPTION_STRING, offsetof(struct info_options, format), "FORMAT", "json, or a Go template", NULL, false },
	{ 0 },
};

/* A capability of the host: what it gives, and why it is missing. */
static void add_feature(json_object *features, const char *name, int error, const char *missing_means)
{
	json_object *feature = json_object_new_object();

	json_object_object_add(feature, "Name", json_object_new_string(name));
	json_object_object_add(feature, "Available", json_object_new_boolean(error == 0));
	if (error) {
		bh_auto_free char *why = bh_printf("%s: %s", strerror(error), missing_means);

		json_object_object_add(feature, "Why", json_object_new_string(why));
	}
	json_object_array_add(features, feature);
}

static int try_namespace(uint64_t flag)
{
	struct clone_args args = { .flags = flag, .exit_signal = SIGCHLD };
	pid_t pid = bh_clone3(&args);

	if (pid == 0)
		_exit(0);
	if (pid < 0)
		return (int)-pid;
	waitpid(pid, NULL, 0);
	return 0;
}

static int try_time_namespace(void)
{
	return access("/proc/self/ns/time", F_OK) < 0 ? errno : 0;
}

static int try_file_system(const char *type)
{
	int fd = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

/* A call with impossible arguments tells "known" (EBADF, EINVAL, EFAULT) from "unknown" (ENOSYS). */
static int is_known(long result)
{
	return result < 0 && errno == ENOSYS ? ENOSYS : 0;
}

static void namespace_features(json_object *features)
{
	static const struct {
		const char *name;
		uint64_t flag;
		const char *missing_means;
	} kinds[] = {
		{ "namespace pid", CLONE_NEWPID, "containers would see the host's processes" },
		{ "namespace mount", CLONE_NEWNS, "no root file system of its own" },
		{ "namespace network", CLONE_NEWNET, "only --network host" },
		{ "namespace ipc", CLONE_NEWIPC, "only --ipc host" },
		{ "namespace uts", CLONE_NEWUTS, "only --uts host" },
		{ "namespace user", CLONE_NEWUSER, "no --userns (see user.max_user_namespaces)" },
		{ "namespace cgroup", CLONE_NEWCGROUP, "only --cgroupns host" },
	};

	for (size_t i = 0; i < BH_ARRAY_SIZE(kinds); i++)
		add_feature(features, kinds[i].name, try_namespace(kinds[i].flag), kinds[i].missing_means);
	add_feature(features, "namespace time", try_time_namespace(), "no --time-offset");
}

/* Which kernel that would boot, and who says so. */
static void kernel_info(json_object *info)
{
	bh_auto(bh_guest_kernel_clear) struct bh_guest_kernel kernel = { 0 };
	json_object *object = json_object_new_object();
	struct bh_error err = BH_ERROR_INIT;

	if (bh_guest_kernel_find(bh_cli.root, NULL, &kernel, &err) == 0) {
		json_object_object_add(object, "Path", json_object_new_string(kernel.image));
		json_object_object_add(object, "Version", json_object_new_string(kernel.version));
		json_object_object_add(object, "From", json_object_new_string(kernel.from));
	} else {
		json_object_object_add(object, "Why", json_object_new_string(err.message));
	}
	json_object_object_add(info, "GuestKernel", object);
}

/* How `--isolation vm` can run here, and which of the ways it would take. */
static void microvm_info(json_object *info, json_object *features)
{
	static const char *const accelerators[] = { "kvm", "tcg" };
	struct bh_error none = BH_ERROR_INIT;
	bh_auto_free char *why = NULL;
	const char *name;

	for (size_t i = 0; i < BH_ARRAY_SIZE(accelerators); i++) {
		bh_auto_free char *feature = bh_printf("microVM by %s", accelerators[i]), *better = NULL;
		struct bh_error err = BH_ERROR_INIT;
		int r = bh_microvm_accelerator(accelerators[i], &name, &better, &err);

		add_feature(features, feature, -r, err.message);
	}
	name = NULL;
	if (bh_microvm_accelerator(NULL, &name, &why, &none) < 0)
		json_object_object_add(info, "AcceleratorWhy", json_object_new_string(none.message));
	json_object_object_add(info, "Accelerator", name ? json_object_new_string(name) : NULL);
	kernel_info(info);
}

static void kernel_features(json_object *features)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	add_feature(features, "overlay", try_file_system("overlay"), "layers are copied (snapshot driver vfs)");
	add_feature(features, "mount API (fsopen, move_mount)", is_known(syscall(SYS_move_mount, -1, "", -1, "", 0)), "mounts are made by mount(2)");
	add_feature(features, "mount_setattr (id-mapped mounts)", is_known(syscall(SYS_mount_setattr, -1, "", 0, NULL, 0)),
		    "no --userns for images, read-only binds are not recursive");
	add_feature(features, "openat2", is_known(syscall(SYS_openat2, -1, "", NULL, 0)), "paths are walked step by step");
	add_feature(features, "pidfd", is_known(syscall(SYS_pidfd_send_signal, -1, 0, NULL, 0)), "Bulkhead needs Linux 5.3 or later");
	add_feature(features, "seccomp", prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0 ? errno : 0, "no system call filter");
	add_feature(features, "bpf", is_known(syscall(SYS_bpf, -1, NULL, 0)), "no device rules on cgroup v2");
	add_feature(features, "apparmor", access("/sys/kernel/security/apparmor", F_OK) < 0 ? errno : 0, "no --security-opt apparmor=");
	add_feature(features, "selinux", access("/sys/fs/selinux/enforce", F_OK) < 0 ? errno : 0, "no --security-opt label=");
	add_feature(features, "kvm", kvm < 0 ? errno : 0, "no hardware virtual machines");
	bh_close_fd(&kvm);
}

static int cgroup_info(json_object *info, struct bh_error *err)
{
	struct bh_cgroup_host host = { 0 };
	int r = bh_cgroup_host(&host, err);

	if (r < 0)
		return r;
	json_object_object_add(info, "CgroupVersion", json_object_new_string(host.version == 2 ? "2" : host.hybrid ? "1 (hybrid)" : "1"));
	json_object_object_add(info, "CgroupDriver", json_object_new_string("cgroupfs"));
	json_object_object_add(info, "CgroupControllers", bh_json_from_strv(&host.controllers));
	json_object_object_add(info, "CgroupMissing", bh_json_from_strv(&host.missing));
	bh_cgroup_host_clear(&host);
	return 0;
}

static int container_info(json_object *info, struct bh_engine *engine, struct bh_error *err)
{
	struct bh_container *list = NULL;
	int64_t running = 0, paused = 0;
	size_t count = 0;
	int r = bh_engine_list(engine, &list, &count, err);

	for (size_t i = 0; i < count; i++) {
		running += list[i].status == BH_STATUS_RUNNING || list[i].status == BH_STATUS_RESTARTING;
		paused += list[i].status == BH_STATUS_PAUSED;
		bh_container_clear(&list[i]);
	}
	free(list);
	json_object_object_add(info, "Containers", json_object_new_int64((int64_t)count));
	json_object_object_add(info, "ContainersRunning", json_object_new_int64(running));
	json_object_object_add(info, "ContainersPaused", json_object_new_int64(paused));
	json_object_object_add(info, "ContainersStopped", json_object_new_int64((int64_t)count - running - paused));
	return r;
}

static void host_info(json_object *info)
{
	struct utsname name = { 0 };
	char text[BH_TIME_TEXT_MAX];

	uname(&name);
	json_object_object_add(info, "Name", json_object_new_string(name.nodename));
	json_object_object_add(info, "KernelVersion", json_object_new_string(name.release));
	json_object_object_add(info, "OSType", json_object_new_string("linux"));
	json_object_object_add(info, "Architecture", json_object_new_string(name.machine));
	json_object_object_add(info, "NCPU", json_object_new_int64(sysconf(_SC_NPROCESSORS_ONLN)));
	json_object_object_add(info, "MemTotal", json_object_new_int64(sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE)));
	json_object_object_add(info, "SystemTime", json_object_new_string(bh_format_time(bh_now_ns(), text)));
}

static void print_list(const char *title, json_object *list, const char *none)
{
	printf("%s:", title);
	for (size_t i = 0; i < json_object_array_length(list); i++)
		printf("%s%s", i ? ", " : " ", json_object_get_string(json_object_array_get_idx(list, i)));
	printf("%s\n", json_object_array_length(list) ? "" : none);
}

static void print_text(json_object *info)
{
	json_object *features = bh_json_at(info, "Isolation"), *kernel = bh_json_at(info, "GuestKernel");
	char bytes[32];

	printf("Containers: %s\n Running: %s\n Paused: %s\n Stopped: %s\n", json_object_get_string(bh_json_at(info, "Containers")),
	       json_object_get_string(bh_json_at(info, "ContainersRunning")), json_object_get_string(bh_json_at(info, "ContainersPaused")),
	       json_object_get_string(bh_json_at(info, "ContainersStopped")));
	printf("Server Version: %s\nStorage Driver: %s\nRoot Dir: %s\nState Dir: %s\n", bh_json_text(info, "ServerVersion", ""),
	       bh_json_text(info, "Driver", ""), bh_json_text(info, "RootDir", ""), bh_json_text(info, "StateDir", ""));
	printf("Cgroup Version: %s\n", bh_json_text(info, "CgroupVersion", "none"));
	print_list("Cgroup Controllers", bh_json_at(info, "CgroupControllers"), " none");
	print_list("Cgroup Missing", bh_json_at(info, "CgroupMissing"), " nothing");
	printf("Kernel Version: %s\nArchitecture: %s\nCPUs: %lld\nTotal Memory: %s\n", bh_json_text(info, "KernelVersion", ""),
	       bh_json_text(info, "Architecture", ""), (long long)bh_json_int(info, "NCPU", 0),
	       bh_format_bytes_binary((uint64_t)bh_json_int(info, "MemTotal", 0), bytes));
	printf("MicroVM Accelerator: %s%s%s\n", bh_json_text(info, "Accelerator", "none"), bh_json_text(info, "AcceleratorWhy", NULL) ? " - " : "",
	       bh_json_text(info, "AcceleratorWhy", ""));
	if (bh_json_text(kernel, "Path", NULL))
		printf("MicroVM Kernel: %s (%s)\n", bh_json_text(kernel, "Path", ""), bh_json_text(kernel, "From", ""));
	else
		printf("MicroVM Kernel: none - %s\n", bh_json_text(kernel, "Why", ""));
	printf("Isolation:\n");
	for (size_t i = 0; i < json_object_array_length(features); i++) {
		json_object *feature = json_object_array_get_idx(features, i);

		printf(" %-34s %s%s%s\n", bh_json_text(feature, "Name", ""), bh_json_bool(feature, "Available", false) ? "yes" : "no",
		       bh_json_text(feature, "Why", NULL) ? " - " : "", bh_json_text(feature, "Why", ""));
	}
}

static json_object *collect(struct bh_engine *engine, struct bh_error *err)
{
	json_object *info = json_object_new_object(), *features = json_object_new_array();

	if (container_info(info, engine, err) < 0 || cgroup_info(info, err) < 0) {
		json_object_put(features);
		json_object_put(info);
		return NULL;
	}
	json_object_object_add(info, "ServerVersion", json_object_new_string(BH_VERSION));
	json_object_object_add(info, "Driver", json_object_new_string(bh_snapshot_overlay.check(engine->root, NULL) == 0 ? "overlay" : "vfs"));
	json_object_object_add(info, "RootDir", json_object_new_string(engine->root));
	json_object_object_add(info, "StateDir", json_object_new_string(engine->state));
	host_info(info);
	namespace_features(features);
	kernel_features(features);
	microvm_info(info, features);
	json_object_object_add(info, "Isolation", features);
	return info;
}

static int print_info(const struct info_options *o, json_object *info, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	int r;

	if (!o->format) {
		print_text(info);
		return 0;
	}
	r = bh_template_render(o->format, info, &text, err);
	if (r == 0)
		printf("%s\n", text.data ? text.data : "");
	return r;
}

static int run(void *arg, int argc, char **argv)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_engine engine;
	json_object *info;
	int r = bh_engine_open(bh_cli.root, bh_cli.state, &engine, &err);

	(void)argc, (void)argv;
	if (r < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	info = collect(&engine, &err);
	r = info ? print_info(arg, info, &err) : -1;
	json_object_put(info);
	bh_engine_close(&engine);
	return r < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
}

const struct bh_command bh_command_info = {
	.name = "info",
	.group = "Looking inside",
	.synopsis = "[OPTIONS]",
	.summary = "Show what this host can isolate with, and what is missing",
	.sets = { options },
	.options_size = sizeof(struct info_options),
	.max_arguments = 0,
	.run = run,
};
