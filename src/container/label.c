/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Labels of security modules.
 *
 * An AppArmor profile takes force with the next execution, which is the stub's; the workload inherits it from there. It
 * is asked for through the private procfs (a /proc prepared by somebody else could swallow the write: CVE-2019-16884,
 * CVE-2025-52881) and read back. SELinux labels are refused.
 */
#include "container/container-internal.h"

#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>

static bool wants_apparmor(const struct bh_spec_process *process)
{
	return process->apparmor_profile && *process->apparmor_profile;
}

bool bh_job_has_apparmor(const struct bh_job *job)
{
	return wants_apparmor(job->process);
}

int bh_check_labels(const struct bh_spec *spec, const struct bh_spec_process *process, struct bh_error *err)
{
	bh_auto_buf struct bh_buf enabled = { 0 };

	if (process->selinux_label && *process->selinux_label)
		return bh_error_text(err, EINVAL, "process.selinuxLabel: this setting is not supported");
	if (spec->mount_label && *spec->mount_label)
		return bh_error_text(err, EINVAL, "linux.mountLabel: this setting is not supported");
	if (!wants_apparmor(process))
		return 0;
	if (bh_read_file_at(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", 16, &enabled, NULL) < 0 || enabled.data[0] != 'Y')
		return bh_error_text(err, ENOTSUP, "process.apparmorProfile: AppArmor is not enabled on this machine");
	return 0;
}

int bh_child_apparmor(struct bh_job *job, struct bh_error *err)
{
	static const char *const files[] = { "self/attr/apparmor/exec", "self/attr/exec" };
	bh_auto_free char *value = NULL;
	int r = -ENOENT;

	if (!wants_apparmor(job->process))
		return 0;
	value = bh_printf("exec %s", job->process->apparmor_profile);
	for (size_t i = 0; r == -ENOENT && i < BH_ARRAY_SIZE(files); i++) {
		bh_auto_buf struct bh_buf now = { 0 };

		r = bh_write_value_at(job->proc_fd, files[i], value, err);
		if (r < 0)
			continue;
		r = bh_read_file_at(job->proc_fd, files[i], 4096, &now, err);
		if (r == 0 && !bh_has_prefix(now.data, job->process->apparmor_profile))
			r = bh_error_text(err, EINVAL, "the AppArmor profile %s did not take effect", job->process->apparmor_profile);
	}
	if (r == 0)
		bh_explain("apparmor", "profile", job->process->apparmor_profile);
	return r;
}
