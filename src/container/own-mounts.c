/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts inside file systems of our own.
 *
 * A mount made by the mount API takes five system calls and more, since it is an object before it has a place: that is
 * what makes targets safe in an image, where somebody may exchange a name at any moment. A mount(2) takes one, by a path.
 *
 * That is as safe where nobody can exchange a name:
 *  - in the tmpfs that we have just mounted on /dev. It is in our mount namespace only, has what we have put there, and
 *    no process of the container runs yet; nobody may look into us, as we are not dumpable. (The host's mount
 *    namespace, or one that is joined, has others in it: there nothing of this is done.)
 *  - in the procfs and sysfs that we have just mounted. Their names are the kernel's; the few that are links are left out.
 * The file system is reached by the fd of its root, which becomes the current folder: no path leads there, neither through
 * the image nor through anything mounted over it since. And mount(2) attaches a new file system with its attributes: there
 * is no moment without them.
 *
 * A tmpfs for anywhere else is made on a name of our procfs and moved from there: it still comes to its place by move_mount(2), onto a
 * held fd and without following links.
 *
 * What is unusual in any way isn't done here, nor is what fails: then the mount API does it, or finds the words.
 */
#include "container/container-internal.h"

#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

bool bh_has_early_hooks(const struct bh_spec *spec)
{
	return spec->hooks.prestart.count + spec->hooks.create_runtime.count + spec->hooks.create_container.count > 0;
}

/* In a mount namespace of our own making? */
static bool is_alone(const struct bh_job *job)
{
	return !job->host_mounts && job->join_fds[BH_NS_MOUNT] < 0;
}

int bh_enter_own(struct bh_job *job, int folder_fd)
{
	if (folder_fd < 0 || !is_alone(job) || !bh_linux_has(BH_CALL_MOUNT_API))
		return -EINVAL;
	if (job->folder_fd == folder_fd)
		return 0;
	if (fchdir(folder_fd) < 0)
		return -errno;
	job->folder_fd = folder_fd;
	return 0;
}

bool bh_mount_own(struct bh_job *job, const struct bh_spec_mount *m, const struct bh_mount_options *o)
{
	const char *name = job->dev_is_fresh ? bh_single_name_below("/dev", m->destination) : NULL;

	if (!name || o->copy_up || bh_enter_own(job, job->dev_fd) < 0 || mkdirat(job->dev_fd, name, 0755) < 0)
		return false;
	return bh_mount_at_once(m->type, m->source ? m->source : m->type, o, name) == 0;
}

/* procfs has this folder on every kernel. */
#define STAGE "fs"

int bh_mount_staged(struct bh_job *job, const struct bh_spec_mount *m, const struct bh_mount_options *o)
{
	int fd, r;

	if (!bh_streq(m->type, "tmpfs") || !job->proc_is_plain)
		return -EINVAL;
	r = bh_enter_own(job, job->proc_mount_fd);
	if (r == 0)
		r = bh_mount_at_once(m->type, m->source ? m->source : m->type, o, STAGE);
	if (r < 0)
		return r;
	fd = open(STAGE, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	r = -errno;
	return umount2(STAGE, MNT_DETACH) < 0 ? -errno : r;
}

/* Hooks that run before the paths are protected may want to write there; and in a user namespace the host's copy may be all
 * there is, whose own attributes are locked. */
bool bh_proc_can_be_sealed(const struct bh_job *job)
{
	return job->spec->readonly_paths.count && !job->user_namespace && is_alone(job) && !bh_has_early_hooks(job->spec) &&
	       bh_linux_has(BH_CALL_MOUNT_API);
}

int bh_unseal_proc(struct bh_job *job, struct bh_error *err)
{
	static const struct bh_mount_options writable = { .clear = MOUNT_ATTR_RDONLY };

	if (!job->proc_is_sealed)
		return 0;
	job->proc_is_sealed = false;
	return bh_mount_set(job->proc_mount_fd, &writable, err);
}

/* Names of procfs that are no links (proc(5)). */
static const struct {
	const char *name;
	bool directory;
} proc_names[] = {
	{ "acpi", true },           { "asound", true },       { "bus", true },          { "fs", true },
	{ "interrupts", false },    { "irq", true },          { "kcore", false },       { "keys", false },
	{ "latency_stats", false }, { "sched_debug", false }, { "scsi", true },         { "sys", true },
	{ "sysrq-trigger", false }, { "timer_list", false },  { "timer_stats", false },
};

/* The name below /proc, if it is one of those and our procfs is what is seen there. */
static const char *own_proc_name(struct bh_job *job, const char *path, bool *ret_directory)
{
	const char *name = job->proc_is_plain ? bh_single_name_below("/proc", path) : NULL;

	for (size_t i = 0; name && i < BH_ARRAY_SIZE(proc_names); i++) {
		if (!bh_streq(name, proc_names[i].name))
			continue;
		*ret_directory = proc_names[i].directory;
		return bh_enter_own(job, job->proc_mount_fd) == 0 ? name : NULL;
	}
	return NULL;
}

static int mount_result(int r)
{
	return r == 0 ? 1 : errno == ENOENT ? 0 : -errno;
}

int bh_seal_own(struct bh_job *job, const char *path)
{
	bool directory;
	const char *name = job->proc_is_sealed ? own_proc_name(job, path, &directory) : NULL;

	/* The copy has the attributes of what it is a copy of. */
	return name ? mount_result(mount(name, name, NULL, MS_BIND | MS_REC, NULL)) : -EINVAL;
}

static int cover_directory(struct bh_own_covers *covers, const char *target)
{
	int r;

	if (*covers->tmpfs)
		return mount_result(mount(covers->tmpfs, target, NULL, MS_BIND, NULL));
	r = mount_result(mount("tmpfs", target, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	if (r == 1)
		snprintf(covers->tmpfs, sizeof covers->tmpfs, "%s", target);
	return r;
}

/* Our own fds have a path in our own procfs. The node is what we have made it (CVE-2025-31133): nobody else had the new /dev. */
static int cover_file(const struct bh_job *job, struct bh_own_covers *covers, const char *name)
{
	if (!job->null_is_made)
		return -EINVAL;
	if (!*covers->null)
		snprintf(covers->null, sizeof covers->null, "self/fd/%d/null", job->dev_fd);
	return mount_result(mount(covers->null, name, NULL, MS_BIND, NULL));
}

int bh_mask_own(struct bh_job *job, struct bh_own_covers *covers, const char *path, bool *ret_directory)
{
	const char *name = own_proc_name(job, path, ret_directory);
	char target[64];

	if (name)
		return *ret_directory ? cover_directory(covers, name) : cover_file(job, covers, name);
	if (job->sys_mount_fd < 0 || !job->proc_is_plain || !bh_streq(path, "/sys/firmware") || bh_enter_own(job, job->proc_mount_fd) < 0)
		return -EINVAL;
	*ret_directory = true;
	snprintf(target, sizeof target, "self/fd/%d/firmware", job->sys_mount_fd);
	return cover_directory(covers, target);
}

void bh_note_mount(struct bh_job *job, const char *destination, bool by_words)
{
	/* Words that aren't in their shortest form could mean anything. */
	if (!by_words || strstr(destination, "//") || strstr(destination, "/.")) {
		job->proc_is_plain = false;
		job->sys_mount_fd = -1;
	} else if (bh_streq(destination, "/proc") || bh_has_prefix(destination, "/proc/")) {
		job->proc_is_plain = false;
	} else if (bh_streq(destination, "/sys")) {
		job->sys_mount_fd = -1;
	}
}
