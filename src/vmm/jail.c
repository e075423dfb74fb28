/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/jail.h"

#include "base/memory.h"
#include "linux/credentials.h"
#include "linux/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- the file system and the rights --------------------------------------------------------------------------------- */

int bh_jail_leave_file_system(struct bh_error *err)
{
	static const struct bh_mount_options options = {
		.set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
	};
	bh_auto_close int root = -1;
	int r;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return bh_error_set(err, errno, "make the mount namespace private");
	root = bh_mount_new("tmpfs", "tmpfs", &options, err);
	if (root < 0)
		return root;
	r = bh_mount_attach(root, AT_FDCWD, "/");
	if (r < 0)
		return bh_error_set(err, -r, "attach an empty root");
	/* The old root comes to lie on the new one, and goes as a whole. */
	if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return bh_error_set(err, errno, "leave the file system");
	return 0;
}

int bh_jail_enter(struct bh_error *err)
{
	static const struct bh_capability_sets none = { 0 };
	static const struct rlimit no_core = { 0 };
	int r;

	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &no_core) < 0)
		return bh_error_set(err, errno, "forbid memory dumps");
	r = bh_jail_leave_file_system(err);
	if (r == 0)
		r = bh_capabilities_bound(0, err);
	if (r == 0)
		r = bh_capabilities_set(&none, err);
	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return bh_error_set(err, errno, "set no_new_privs");
	return r;
}

/* --- system calls --------------------------------------------------------------------------------------------------- */

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, action)
#define BEGIN LOAD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0), RETURN(SECCOMP_RET_KILL_PROCESS), LOAD(nr)
/* Some C libraries have macros of these names. */
#undef pread64
#undef pwrite64
#define ALLOW_CALL(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), RETURN(SECCOMP_RET_ALLOW)

/* One filter per kind of thread: the calls that the list names for it, the others fall out. Whoever does jobs may do what devices do. */
#define ALLOW_IF_VCPU_VCPU(call) ALLOW_CALL(call),
#define ALLOW_IF_VCPU_OWNER(call)
#define ALLOW_IF_VCPU_DEVICE(call)
#define ALLOW_IF_VCPU_JOBS(call)
#define ALLOW_IF_VCPU_FILES(call)
#define ALLOW_IF_OWNER_VCPU(call)
#define ALLOW_IF_OWNER_OWNER(call) ALLOW_CALL(call),
#define ALLOW_IF_OWNER_DEVICE(call)
#define ALLOW_IF_OWNER_JOBS(call)
#define ALLOW_IF_OWNER_FILES(call)
#define ALLOW_IF_DEVICE_VCPU(call)
#define ALLOW_IF_DEVICE_OWNER(call)
#define ALLOW_IF_DEVICE_DEVICE(call) ALLOW_CALL(call),
#define ALLOW_IF_DEVICE_JOBS(call) ALLOW_CALL(call),
#define ALLOW_IF_DEVICE_FILES(call)
#define ALLOW_IF_JOBS_VCPU(call)
#define ALLOW_IF_JOBS_OWNER(call)
#define ALLOW_IF_JOBS_DEVICE(call)
#define ALLOW_IF_JOBS_JOBS(call) ALLOW_CALL(call),
#define ALLOW_IF_JOBS_FILES(call)
#define ALLOW_IF_FILES_VCPU(call)
#define ALLOW_IF_FILES_OWNER(call)
#define ALLOW_IF_FILES_DEVICE(call)
#define ALLOW_IF_FILES_JOBS(call)
#define ALLOW_IF_FILES_FILES(call) ALLOW_CALL(call),

#undef ALLOW
#define ALLOW(kind, call) ALLOW_IF_##kind##_VCPU(call)
static struct sock_filter vcpu_filter[] = {
	BEGIN,
#include "vmm/seccomp.def"
	RETURN(SECCOMP_RET_KILL_PROCESS),
};

#undef ALLOW
#define ALLOW(kind, call) ALLOW_IF_##kind##_OWNER(call)
static struct sock_filter owner_filter[] = {
	BEGIN,
#include "vmm/seccomp.def"
	RETURN(SECCOMP_RET_KILL_PROCESS),
};

#undef ALLOW
#define ALLOW(kind, call) ALLOW_IF_##kind##_DEVICE(call)
static struct sock_filter device_filter[] = {
	BEGIN,
#include "vmm/seccomp.def"
	RETURN(SECCOMP_RET_KILL_PROCESS),
};

#undef ALLOW
#define ALLOW(kind, call) ALLOW_IF_##kind##_JOBS(call)
static struct sock_filter jobs_filter[] = {
	BEGIN,
#include "vmm/seccomp.def"
	RETURN(SECCOMP_RET_KILL_PROCESS),
};

#undef ALLOW
#define ALLOW(kind, call) ALLOW_IF_##kind##_FILES(call)
static struct sock_filter files_filter[] = {
	BEGIN,
#include "vmm/seccomp.def"
	RETURN(SECCOMP_RET_KILL_PROCESS),
};

int bh_jail_lock(enum bh_thread_kind kind, struct bh_error *err)
{
	static const struct {
		struct sock_filter *filter;
		size_t count;
		const char *name;
	} kinds[] = {
		[BH_THREAD_OWNER] = { owner_filter, BH_ARRAY_SIZE(owner_filter), "owner" },
		[BH_THREAD_VCPU] = { vcpu_filter, BH_ARRAY_SIZE(vcpu_filter), "vcpu" },
		[BH_THREAD_DEVICE] = { device_filter, BH_ARRAY_SIZE(device_filter), "device" },
		[BH_THREAD_JOBS] = { jobs_filter, BH_ARRAY_SIZE(jobs_filter), "jobs" },
		[BH_THREAD_FILES] = { files_filter, BH_ARRAY_SIZE(files_filter), "file server" },
	};
	const struct sock_fprog program = { (unsigned short)kinds[kind].count, kinds[kind].filter };

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		return bh_error_set(err, errno, "lock the %s thread into its system calls", kinds[kind].name);
	return 0;
}
