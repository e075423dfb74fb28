/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The default profile: which system calls a container may use. The facts are those of Docker's default profile
 * (moby/profiles, seccomp/default.json, 2025), so that what runs there runs here and what is refused there is refused here.
 *
 * Whatever isn't named gives EPERM. The first list is always allowed; others need a capability of the bounding set, or its
 * absence. socket() is allowed for the families that can't reach the host's kernel by a side door: not AF_VSOCK (40), which
 * would talk to the hypervisor, nor AF_ALG (38) and families nobody uses.
 */
#include "linux/seccomp-internal.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/seccomp.h>

#define NO_CAPABILITY (-1)
/* CLONE_NEW* without CLONE_NEWTIME: clone() that makes namespaces needs CAP_SYS_ADMIN. */
#define CLONE_NAMESPACES 0x7e020000

struct group {
	const char *names;    /* separated by spaces */
	int8_t with, without; /* capability that must be there / must not be there */
	bool conditional;
	uint16_t errnum; /* 0: allow */
	struct bh_seccomp_condition condition;
};

#define ALLOW_WITH(capability, list)                                            \
	{                                                                       \
		.names = (list), .with = (capability), .without = NO_CAPABILITY \
	}
#define ALLOW_IF(name, operation, number)                                                                             \
	{                                                                                                             \
		.names = (name), .with = NO_CAPABILITY, .without = NO_CAPABILITY, .conditional = true, .condition = { \
			.op = (operation),                                                                            \
			.value = (number)                                                                             \
		}                                                                                                     \
	}

static const struct group groups[] = {
	{ .names = "accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime "
		   "clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep "
		   "clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 "
		   "epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit "
		   "exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 "
		   "fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat "
		   "fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait "
		   "futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid "
		   "getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom "
		   "getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt "
		   "get_thread_area gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init "
		   "inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64 "
		   "ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset "
		   "landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr "
		   "_llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret "
		   "mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open "
		   "mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget "
		   "msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat "
		   "openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 "
		   "prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read "
		   "readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr "
		   "removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending "
		   "rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 "
		   "rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min "
		   "sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr "
		   "sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 "
		   "send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 "
		   "setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid "
		   "setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address "
		   "setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 "
		   "sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat "
		   "sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime "
		   "timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime "
		   "timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime "
		   "utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev "
		   /* Kernels before 4.8 let ptrace get around seccomp; nothing that old is supported. */
		   "process_vm_readv process_vm_writev ptrace "
		   "arch_prctl modify_ldt",
	  .with = NO_CAPABILITY,
	  .without = NO_CAPABILITY },
	ALLOW_IF("socket", BH_OP_LT, 12),
	ALLOW_IF("socket", BH_OP_EQ, 13),
	ALLOW_IF("socket", BH_OP_EQ, 14),
	ALLOW_IF("socket", BH_OP_EQ, 15),
	ALLOW_IF("socket", BH_OP_EQ, 16),
	ALLOW_IF("socket", BH_OP_EQ, 17),
	ALLOW_IF("socket", BH_OP_EQ, 18),
	ALLOW_IF("socket", BH_OP_EQ, 21),
	ALLOW_IF("socket", BH_OP_EQ, 22),
	ALLOW_IF("socket", BH_OP_EQ, 24),
	ALLOW_IF("socket", BH_OP_EQ, 26),
	ALLOW_IF("socket", BH_OP_EQ, 27),
	ALLOW_IF("socket", BH_OP_EQ, 28),
	ALLOW_IF("socket", BH_OP_EQ, 29),
	ALLOW_IF("socket", BH_OP_EQ, 30),
	ALLOW_IF("socket", BH_OP_EQ, 31),
	ALLOW_IF("socket", BH_OP_EQ, 32),
	ALLOW_IF("socket", BH_OP_EQ, 33),
	ALLOW_IF("socket", BH_OP_EQ, 35),
	ALLOW_IF("socket", BH_OP_EQ, 36),
	ALLOW_IF("socket", BH_OP_EQ, 39),
	ALLOW_IF("socket", BH_OP_EQ, 41),
	ALLOW_IF("socket", BH_OP_EQ, 42),
	ALLOW_IF("socket", BH_OP_EQ, 43),
	ALLOW_IF("socket", BH_OP_EQ, 44),
	ALLOW_IF("socket", BH_OP_EQ, 45),
	ALLOW_IF("personality", BH_OP_EQ, 0x0),
	ALLOW_IF("personality", BH_OP_EQ, 0x8),
	ALLOW_IF("personality", BH_OP_EQ, 0x20000),
	ALLOW_IF("personality", BH_OP_EQ, 0x20008),
	ALLOW_IF("personality", BH_OP_EQ, 0xffffffff),
	ALLOW_WITH(CAP_DAC_READ_SEARCH, "open_by_handle_at"),
	ALLOW_WITH(CAP_SYS_ADMIN, "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules "
				  "lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname "
				  "sethostname setns syslog umount umount2 unshare"),
	{ .names = "clone",
	  .with = NO_CAPABILITY,
	  .without = CAP_SYS_ADMIN,
	  .conditional = true,
	  .condition = { .op = BH_OP_MASKED_EQ, .value = CLONE_NAMESPACES, .wanted = 0 } },
	/* Its flags lie in memory, where no filter sees them: C libraries fall back to clone. */
	{ .names = "clone3", .with = NO_CAPABILITY, .without = CAP_SYS_ADMIN, .errnum = ENOSYS },
	ALLOW_WITH(CAP_SYS_BOOT, "reboot"),
	ALLOW_WITH(CAP_SYS_CHROOT, "chroot"),
	ALLOW_WITH(CAP_SYS_MODULE, "delete_module init_module finit_module"),
	ALLOW_WITH(CAP_SYS_PACCT, "acct"),
	ALLOW_WITH(CAP_SYS_PTRACE, "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
	ALLOW_WITH(CAP_SYS_RAWIO, "iopl ioperm"),
	ALLOW_WITH(CAP_SYS_TIME, "settimeofday stime clock_settime clock_settime64"),
	ALLOW_WITH(CAP_SYS_TTY_CONFIG, "vhangup"),
	ALLOW_WITH(CAP_SYS_NICE, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
	ALLOW_WITH(CAP_SYSLOG, "syslog"),
	ALLOW_WITH(CAP_BPF, "bpf"),
	ALLOW_WITH(CAP_PERFMON, "perf_event_open"),
};

static bool group_holds(const struct group *group, uint64_t capabilities)
{
	if (group->with != NO_CAPABILITY && !(capabilities >> group->with & 1))
		return false;
	return group->without == NO_CAPABILITY || !(capabilities >> group->without & 1);
}

uint64_t bh_seccomp_default_capabilities(void)
{
	uint64_t set = 0;

	for (size_t i = 0; i < BH_ARRAY_SIZE(groups); i++) {
		if (groups[i].with != NO_CAPABILITY)
			set |= UINT64_C(1) << groups[i].with;
		if (groups[i].without != NO_CAPABILITY)
			set |= UINT64_C(1) << groups[i].without;
	}
	return set;
}

int bh_seccomp_compile_default(uint64_t capabilities, struct sock_filter **ret_instructions, size_t *ret_count)
{
	struct bh_seccomp_rules rules;
	int r;

	bh_seccomp_rules_init(&rules, (1u << BH_ARCH_COUNT) - 1, SECCOMP_RET_ERRNO | EPERM);
	for (size_t i = 0; i < BH_ARRAY_SIZE(groups); i++) {
		const struct group *group = &groups[i];
		uint32_t action = group->errnum ? SECCOMP_RET_ERRNO | group->errnum : SECCOMP_RET_ALLOW;

		if (!group_holds(group, capabilities))
			continue;
		for (const char *name = group->names; *name;) {
			size_t length = strcspn(name, " ");

			bh_seccomp_rules_add(&rules, name, length, action, &group->condition, group->conditional);
			name += length + strspn(name + length, " ");
		}
	}
	r = bh_seccomp_generate(&rules, ret_instructions, ret_count);
	bh_seccomp_rules_clear(&rules);
	return r;
}

static const char *const op_names[] = {
	[BH_OP_NE] = "SCMP_CMP_NE",
	[BH_OP_LT] = "SCMP_CMP_LT",
	[BH_OP_LE] = "SCMP_CMP_LE",
	[BH_OP_EQ] = "SCMP_CMP_EQ",
	[BH_OP_GE] = "SCMP_CMP_GE",
	[BH_OP_GT] = "SCMP_CMP_GT",
	[BH_OP_MASKED_EQ] = "SCMP_CMP_MASKED_EQ",
};

void bh_seccomp_default_rules(uint64_t capabilities, struct bh_spec_seccomp *ret_seccomp)
{
	struct bh_spec_seccomp seccomp = { .source = BH_SECCOMP_RULES, .default_errno_set = true, .default_errno_ret = EPERM };

	seccomp.default_action = bh_strdup("SCMP_ACT_ERRNO");
	bh_strv_add(&seccomp.architectures, "SCMP_ARCH_X86_64");
	bh_strv_add(&seccomp.architectures, "SCMP_ARCH_X86");
	bh_strv_add(&seccomp.architectures, "SCMP_ARCH_X32");
	seccomp.rules = bh_calloc(BH_ARRAY_SIZE(groups), sizeof *seccomp.rules);
	for (size_t i = 0; i < BH_ARRAY_SIZE(groups); i++) {
		struct bh_spec_seccomp_rule *rule = &seccomp.rules[seccomp.rule_count];
		const struct group *group = &groups[i];

		if (!group_holds(group, capabilities))
			continue;
		seccomp.rule_count++;
		rule->names = bh_strv_split(group->names, ' ');
		rule->action = bh_strdup(group->errnum ? "SCMP_ACT_ERRNO" : "SCMP_ACT_ALLOW");
		rule->errno_set = group->errnum != 0;
		rule->errno_ret = group->errnum;
		if (!group->conditional)
			continue;
		rule->args = bh_calloc(1, sizeof *rule->args);
		rule->arg_count = 1;
		rule->args[0] = (struct bh_spec_seccomp_arg){ .index = group->condition.index,
							      .value = group->condition.value,
							      .value_two = group->condition.wanted,
							      .op = bh_strdup(op_names[group->condition.op]) };
	}
	*ret_seccomp = seccomp;
}
