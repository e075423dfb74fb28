/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Labels of security modules.
 *
 * An AppArmor profile or an SELinux label takes force with the next execution, which is the stub's; the workload inherits
 * it from there. It is asked for through the private procfs (a /proc prepared by somebody else could swallow the write:
 * CVE-2019-16884, CVE-2025-52881) and read back. File systems that are made for the container get linux.mountLabel as
 * their context. A kernel without the module has nothing that a label could mean: that is told, and the label left out, as crun
 * does (the validation programs of the runtime specification expect it). Where the module is on, a label that can't be had is
 * an error.
 */
#include "container/container-internal.h"

#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#define LABEL_MAX 4096

static bool is_set(const char *label)
{
	return label && *label;
}

bool bh_job_has_labels(const struct bh_job *job)
{
	return is_set(job->labels.apparmor) || is_set(job->labels.selinux);
}

static bool selinux_is_on(void)
{
	struct statfs fs;

	return statfs("/sys/fs/selinux", &fs) == 0 && fs.f_type == SELINUX_MAGIC;
}

static bool apparmor_is_on(void)
{
	bh_auto_buf struct bh_buf enabled = { 0 };

	return bh_read_file_at(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", 16, &enabled, NULL) == 0 && enabled.data[0] == 'Y';
}

/* What is left of the labels on this machine. */
void bh_job_take_labels(struct bh_job *job)
{
	const char *selinux = job->process->selinux_label, *apparmor = job->process->apparmor_profile, *mount = job->spec->mount_label;

	if ((is_set(selinux) || is_set(mount)) && !selinux_is_on()) {
		bh_warn("%s is not applied: selinux is disabled or not supported", is_set(selinux) ? "process.selinuxLabel" : "linux.mountLabel");
		selinux = mount = NULL;
	}
	if (is_set(apparmor) && !apparmor_is_on()) {
		bh_warn("process.apparmorProfile is not applied: apparmor is not supported");
		apparmor = NULL;
	}
	job->labels.selinux = selinux;
	job->labels.apparmor = apparmor;
	job->labels.mount = mount;
}

/* `expected` is what the file then begins with. */
static int write_label(const struct bh_job *job, const char *file, const char *value, const char *expected, struct bh_error *err)
{
	bh_auto_buf struct bh_buf now = { 0 };
	int r = bh_write_value_at(job->proc_fd, file, value, err);

	if (r == 0)
		r = bh_read_file_at(job->proc_fd, file, LABEL_MAX, &now, err);
	if (r == 0 && !bh_has_prefix(now.data ? now.data : "", expected))
		r = bh_error_text(err, EINVAL, "the label %s did not take effect", expected);
	return r;
}

static int apply_apparmor(const struct bh_job *job, struct bh_error *err)
{
	static const char *const files[] = { "self/attr/apparmor/exec", "self/attr/exec" };
	const char *profile = job->labels.apparmor;
	bh_auto_free char *value = bh_printf("exec %s", profile);
	int r = -ENOENT;

	for (size_t i = 0; r == -ENOENT && i < BH_ARRAY_SIZE(files); i++)
		r = write_label(job, files[i], value, profile, err);
	if (r < 0)
		return bh_error_prefix(err, "unable to apply apparmor profile");
	bh_explain("apparmor", "profile", profile);
	return 0;
}

int bh_child_labels(struct bh_job *job, struct bh_error *err)
{
	const char *label = job->labels.selinux;
	int r = is_set(job->labels.apparmor) ? apply_apparmor(job, err) : 0;

	if (r < 0 || !is_set(label))
		return r;
	r = write_label(job, "self/attr/exec", label, label, err);
	if (r < 0)
		return bh_error_prefix(err, "can't set process label");
	bh_explain("selinux", "label", label);
	return 0;
}

/* The session keyring would have the label of this program, and the workload could not use it. */
int bh_child_key_label(struct bh_job *job, struct bh_error *err)
{
	const char *label = job->labels.selinux;

	if (!is_set(label) || job->no_new_keyring)
		return 0;
	return bh_write_value_at(job->proc_fd, "self/attr/keycreate", label, err);
}

void bh_label_mount(const struct bh_job *job, const char *type, struct bh_mount_options *o)
{
	/* These label their files themselves. */
	static const char *const without[] = { "proc", "sysfs", "mqueue", "cgroup", "cgroup2" };

	for (size_t i = 0; i < BH_ARRAY_SIZE(without); i++)
		if (bh_streq(type, without[i]))
			return;
	if (is_set(job->labels.mount))
		bh_strv_addf(&o->data, "context=%s", job->labels.mount);
}
