/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Domains with an image: their root file system is an OCI image's, read-only, with a disk of their own over it, and an agent inside makes
 * their processes (microvm/microvm.h).
 *
 * All that such a machine needs is made when it is made: the image's disk (a hard link to what all machines of the image share), the
 * writable disk, and config.json. So it outlives its image in the store.
 *
 * The machine is the boundary, not the container in it: its processes have all capabilities, no seccomp filter, and the machine's network and
 * devices. The container driver gives them namespaces for their mounts, pids and host name.
 */
#include "engine/domain-internal.h"

#include "base/log.h"
#include "base/time.h"
#include "image/store.h"
#include "linux/process.h"
#include "engine/names.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define BOOT_TIMEOUT_MS 120000
#define ASK_AGAIN_MS 50
#define ANSWER_TIMEOUT_MS 30000
#define CONFIG "config.json"
#define EXIT_NOT_EXECUTABLE 126

/* --- making one ------------------------------------------------------------------------------------------------------------- */

struct making {
	const struct bh_domain_image_options *options;
	struct bh_image_store store; /* open, so that the layers stay */
	struct bh_image image;
};

static void making_clear(struct making *m)
{
	bh_image_store_close(&m->store);
	bh_image_clear(&m->image);
}

static int mount_image(void *context, struct bh_error *err)
{
	const struct making *m = context;
	struct bh_snapshot snapshot = { .driver = &bh_snapshot_overlay, .readonly = true, .path = bh_strdup(m->options->root) };
	struct bh_error why = BH_ERROR_INIT;
	int r;

	if (bh_snapshot_overlay.check(m->options->root, &why) < 0)
		snapshot.driver = &bh_snapshot_vfs;
	bh_strv_extend(&snapshot.layers, m->image.layer_paths.items);
	r = snapshot.driver->mount(&snapshot, -1, err);
	bh_snapshot_clear(&snapshot);
	return r;
}

static int make_disks(struct making *m, int dir_fd, struct bh_error *err)
{
	char key[BH_DIGEST_HEX_LENGTH + 1];
	const struct bh_microvm vm = { .root = m->options->root, .image_key = key, .mount_image = mount_image, .mount_context = m };
	bh_auto_close int disks = bh_make_dir(dir_fd, "disks", 0700, err);

	bh_image_disk_key(&m->image.layer_paths, key);
	return disks < 0 ? disks : bh_microvm_domain_disks(&vm, disks, m->options->disk_bytes ? m->options->disk_bytes : BH_DOMAIN_DISK_DEFAULT, err);
}

static int add_disk(const struct making *m, const char *file, const char *serial, bool readonly, struct bh_domain_definition *d, struct bh_error *err)
{
	if (d->disk_count == BH_DOMAIN_DISKS_MAX)
		return bh_error_text(err, ENOSPC, "more than %d disks", BH_DOMAIN_DISKS_MAX);
	d->disks[d->disk_count++] = (struct bh_domain_disk){
		.path = bh_printf("%s/vms/%s/disks/%s", m->options->root, m->options->name, file),
		.format = bh_strdup("raw"),
		.serial = bh_strdup(serial),
		.readonly = readonly,
		.ours = true,
	};
	return 0;
}

static int build_spec(const struct making *m, struct bh_spec *spec, struct bh_error *err)
{
	struct bh_spec_process *process = &spec->process;
	const char *cwd = m->image.working_dir;

	bh_spec_default(spec);
	bh_spec_privileged(spec);
	spec->namespaces[BH_NS_NETWORK].present = false;
	bh_strv_extend(&process->args, m->image.entrypoint.items);
	bh_strv_extend(&process->args, m->options->command && *m->options->command ? m->options->command : m->image.cmd.items);
	if (process->args.count == 0) /* as of a root file system that was imported */
		bh_strv_add(&process->args, "/bin/sh");
	if (cwd && *cwd && *cwd != '/')
		return bh_error_text(err, EINVAL, "the working directory '%s' is invalid, it needs to be an absolute path", cwd);
	bh_strv_add(&process->env, DEFAULT_PATH);
	bh_strv_add(&process->env, "TERM=linux");
	for (size_t i = 0; i < m->image.env.count; i++)
		bh_env_set(&process->env, m->image.env.items[i]);
	free(process->cwd);
	process->cwd = bh_path_clean(cwd && *cwd ? cwd : "/");
	process->terminal = true;
	free(spec->root.path);
	spec->root.path = bh_strdup("rootfs");
	return 0;
}

static int write_config(const struct making *m, int dir_fd, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	struct bh_spec spec = { 0 };
	int r = build_spec(m, &spec, err);

	if (r == 0) {
		bh_spec_write(&spec, &text);
		r = bh_write_file_at(dir_fd, CONFIG, text.data, text.length, 0600, BH_WRITE_SYNC, err);
	}
	bh_spec_clear(&spec);
	return r;
}

static void describe(const struct making *m, struct bh_domain_image *image)
{
	int signal;

	image->reference = bh_strdup(m->image.name ? m->image.name : m->options->reference);
	image->id = bh_strdup(m->image.id);
	image->user = bh_strdup(m->image.user ? m->image.user : "");
	image->stop_signal = m->image.stop_signal && bh_parse_signal(m->image.stop_signal, &signal) == 0 ? signal : SIGTERM;
}

int bh_domain_image_fill(void *options, int dir_fd, struct bh_domain_definition *d, struct bh_error *err)
{
	bh_auto(making_clear) struct making m = { .options = options, .store = BH_IMAGE_STORE_INIT };
	int r = bh_image_store_open(m.options->root, &m.store, err);

	if (r == 0)
		r = bh_image_resolve(&m.store, m.options->reference, &m.image, err);
	if (r == 0)
		r = add_disk(&m, "image.erofs", BH_MICROVM_DISK_IMAGE, true, d, err);
	if (r == 0)
		r = add_disk(&m, "writable.img", BH_MICROVM_DISK_WRITABLE, false, d, err);
	if (r < 0)
		return r;
	describe(&m, &d->image);
	r = bh_domain_definition_check(d, err);
	if (r == 0)
		r = write_config(&m, dir_fd, err);
	return r < 0 ? r : make_disks(&m, dir_fd, err);
}

/* --- its configuration ------------------------------------------------------------------------------------------------------ */

static int read_config(const struct bh_domain *d, struct bh_spec *ret_spec, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	int r = bh_read_file_at(d->dir_fd, CONFIG, BH_SPEC_JSON_MAX, &text, err);

	if (r == 0)
		r = bh_spec_parse(text.data, text.length, ret_spec, err);
	if (r < 0)
		return r;
	/* A clone has a name of its own. */
	free(ret_spec->hostname);
	ret_spec->hostname = bh_strdup(d->name);
	return 0;
}

int bh_domain_image_boot(struct bh_domain *d, int *ret_kernel_fd, int *ret_initrd_fd, char **ret_command_line, struct bh_error *err)
{
	const struct bh_microvm vm = { .root = d->root, .kernel = d->definition.kernel, .user = d->definition.image.user };
	const struct bh_domain_net *net = d->definition.net_count ? &d->definition.nets[0] : NULL;
	const struct bh_microvm_network network = { .is_set = net && net->address,
						    .address = net ? net->address : NULL,
						    .gateway = net ? net->gateway : NULL };
	struct bh_spec spec = { 0 };
	const struct bh_microvm_domain boot = {
		.vm = &vm,
		.spec = &spec,
		.id = d->name,
		.append = d->definition.append,
		.network = &network,
		.stop_signal = (int)d->definition.image.stop_signal,
	};
	int r = read_config(d, &spec, err);

	if (r == 0)
		r = bh_microvm_domain_boot(&boot, ret_kernel_fd, ret_initrd_fd, ret_command_line, err);
	bh_spec_clear(&spec);
	return r;
}

/* --- its agent ---------------------------------------------------------------------------------------------------------------- */

char *bh_domain_vsock_path(const struct bh_domain *d)
{
	return bh_printf("%s/vms/%s/vsock.sock", d->state, d->name);
}

/* One that boots has no agent yet: it is asked again until it has, or the machine has ended. */
static int connect_to_agent(struct bh_domain *d, struct bh_error *err)
{
	bh_auto_free char *path = bh_domain_vsock_path(d);
	bh_auto_close int shim = -1;
	int64_t until = bh_monotonic_ns() / 1000000 + BOOT_TIMEOUT_MS;

	if (!d->definition.image.reference)
		return bh_error_text(err, ENOTSUP, "the virtual machine %s was not made from an image: there is no agent in it", d->name);
	if (d->status == BH_DOMAIN_SHUT_OFF)
		return bh_error_text(err, ESRCH, "the virtual machine %s doesn't run", d->name);
	if (d->status == BH_DOMAIN_PAUSED)
		return bh_error_text(err, EBUSY, "the virtual machine %s is suspended: vm resume lets it go on", d->name);
	shim = bh_process_open(d->shim_pid, d->shim_start);
	for (;;) {
		struct pollfd ended = { .fd = shim, .events = POLLIN };
		int r = bh_microvm_domain_connect(path, ANSWER_TIMEOUT_MS, err);

		if (r != -EAGAIN)
			return r;
		if (shim < 0 || poll(&ended, 1, ASK_AGAIN_MS) == 1)
			return bh_error_text(err, ESRCH, "the virtual machine %s has ended", d->name);
		if (bh_monotonic_ns() / 1000000 > until)
			return bh_error_text(err, ETIMEDOUT, "the agent in %s doesn't answer: vm console shows what the machine says", d->name);
	}
}

int bh_domain_power_button(struct bh_domain *d, bool reboot, struct bh_error *err)
{
	json_object *members;
	int r;

	if (d->definition.image.reference && d->status == BH_DOMAIN_RUNNING) {
		bh_auto_close int stream = connect_to_agent(d, err);

		return stream < 0 ? stream : bh_microvm_domain_power(stream, reboot, err);
	}
	members = json_object_new_object();
	if (reboot)
		json_object_object_add(members, "reboot", json_object_new_boolean(true));
	r = bh_domain_request(d, "power-button", members, NULL, 0, NULL, err);
	json_object_put(members);
	return r;
}

/* --- exec ----------------------------------------------------------------------------------------------------------------------- */

static int exec_over(int stream, const struct bh_domain *d, const struct bh_exec_options *o, const struct bh_spec *spec, struct bh_exec *exec,
		     struct bh_error *err)
{
	struct bh_container_stdio stdio = { .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1 };
	struct bh_microvm_exec request = {
		.id = d->name, .spec = spec, .process = &spec->process, .user = o->user ? o->user : d->definition.image.user, .privileged = o->privileged
	};
	int r = bh_engine_exec_pipes(o, exec, &stdio, err);

	request.stdin_fd = stdio.stdin_fd;
	request.stdout_fd = stdio.stdout_fd;
	request.stderr_fd = stdio.stderr_fd;
	if (r == 0)
		r = bh_microvm_domain_exec(stream, &request, !o->detach, &exec->pid, &exec->pidfd, &exec->tty_fd, err);
	bh_close_fd(&stdio.stdin_fd);
	bh_close_fd(&stdio.stdout_fd);
	bh_close_fd(&stdio.stderr_fd);
	return r;
}

int bh_domain_exec(struct bh_domain *d, const struct bh_exec_options *o, char *const *command, struct bh_exec *ret_exec, struct bh_error *err)
{
	bh_auto_close int stream = connect_to_agent(d, err);
	struct bh_exec exec = BH_EXEC_INIT;
	struct bh_spec spec = { 0 };
	int r = stream < 0 ? stream : read_config(d, &spec, err);

	if (r == 0)
		r = bh_engine_exec_process(o, command, &spec.process, err);
	if (r == 0)
		r = exec_over(stream, d, o, &spec, &exec, err);
	if (r < 0 && stream >= 0 && err && !err->exit_code)
		err->exit_code = EXIT_NOT_EXECUTABLE; /* as of a container that runs */
	bh_spec_clear(&spec);
	if (r < 0)
		bh_exec_close(&exec);
	else
		*ret_exec = exec;
	return r;
}
