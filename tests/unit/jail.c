/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor's jail, looked at from inside: a process in it tries what a guest that has taken over the monitor would. Needs root. */
#include "base/file.h"
#include "base/memory.h"
#include "base/string.h"
#include "linux/namespace.h"
#include "linux/syscall.h"
#include "vmm/jail.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
/* cmocka comes after the headers it needs */
#include <cmocka.h>

#define USER 0x70000001u
#define WORDS 4096

/* What was found, for the process outside: shared. */
static char *found;

static void tell(const char *what)
{
	size_t length = strlen(found);

	snprintf(found + length, WORDS - length, "%s; ", what);
}

static void expect(bool good, const char *what)
{
	if (!good)
		tell(what);
}

/* Runs `body` in the namespaces that the monitor has (spawn.c), in the jail. */
static void in_jail(void (*body)(void))
{
	const struct bh_id_map map = { .container_id = 0, .host_id = USER, .size = 1 };
	struct clone_args clone = {
		.flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS,
		.exit_signal = SIGCHLD,
	};
	bh_auto_free char *path = NULL;
	int gate[2], proc, status;
	char word;
	pid_t pid;

	found[0] = '\0';
	assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
	pid = bh_clone3(&clone);
	assert_true(pid >= 0);
	if (pid == 0) {
		struct bh_error err = BH_ERROR_INIT;

		if (read(gate[0], &word, 1) != 1 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
			_exit(1);
		if (bh_jail_enter(&err) < 0)
			tell(err.message);
		else
			body();
		_exit(0);
	}
	path = bh_printf("/proc/%d", (int)pid);
	proc = bh_open_dir(AT_FDCWD, path, 0, NULL);
	assert_true(proc >= 0);
	assert_int_equal(bh_id_maps_write(pid, proc, &map, 1, &map, 1, NULL), 0);
	assert_int_equal(write(gate[1], "g", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(proc);
	close(gate[0]);
	close(gate[1]);
	assert_int_equal(status, 0);
	assert_string_equal(found, "");
}

/* --- the file system ------------------------------------------------------------------------------------------------ */

static void look_for_files(void)
{
	static const char *const paths[] = { "/etc/passwd",    "/proc/self/root", "/proc/1/fd",   "/dev/kvm", "/sys/kernel",
					     "/../etc/passwd", "../etc/passwd",   "/proc/../etc", "/tmp",     "/run" };
	DIR *folder = opendir("/");
	const struct dirent *entry;

	expect(folder != NULL, "the root can't be read");
	while (folder && (entry = readdir(folder)))
		expect(bh_streq(entry->d_name, ".") || bh_streq(entry->d_name, ".."), entry->d_name);
	for (size_t i = 0; i < BH_ARRAY_SIZE(paths); i++)
		expect(open(paths[i], O_RDONLY) < 0 && errno == ENOENT, paths[i]);
	expect(open("/new", O_CREAT | O_RDWR, 0600) < 0 && errno == EROFS, "a file can be made");
	expect(mkdir("/new", 0700) < 0 && errno == EROFS, "a folder can be made");
	expect(mknod("/new", S_IFCHR | 0600, 0) < 0, "a device can be made");
	expect(chroot("/") < 0 && errno == EPERM, "chroot works");
	expect(mount("proc", "/", "proc", 0, NULL) < 0 && errno == EPERM, "a file system can be mounted");
	expect(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL) < 0 && errno == EPERM, "the root can be made writable");
	expect(umount2("/", MNT_DETACH) < 0 && errno == EPERM, "the root can be unmounted");
}

static void test_no_open_path(void **state)
{
	(void)state;
	in_jail(look_for_files);
}

/* --- rights --------------------------------------------------------------------------------------------------------- */

static void look_for_rights(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct sets[2] = { 0 };
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int s = socket(AF_INET, SOCK_STREAM, 0);

	expect(syscall(SYS_capget, &header, sets) == 0, "capget");
	for (int i = 0; i < 2; i++)
		expect(!sets[i].effective && !sets[i].permitted && !sets[i].inheritable, "it has a capability");
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		expect(prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 0, "it could get a capability");
	sets[0].effective = sets[0].permitted = 1u << CAP_SYS_ADMIN;
	expect(syscall(SYS_capset, &header, sets) < 0 && errno == EPERM, "it takes a capability");
	expect(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, "no_new_privs isn't set");
	expect(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0, "its memory can be dumped");
	expect(setresuid(1, 1, 1) < 0, "another user");
	expect(sethostname("x", 1) < 0 && errno == EPERM, "a host name");
	expect(getpid() == 1 && getppid() == 0, "processes outside can be seen");
	expect(kill(-1, 0) < 0 && errno == ESRCH, "processes outside can be reached");
	expect(connect(s, (struct sockaddr *)&address, sizeof address) < 0 && errno == ENETUNREACH, "there is a network");
}

static void test_no_capability(void **state)
{
	(void)state;
	in_jail(look_for_rights);
}

/* --- system calls --------------------------------------------------------------------------------------------------- */

static const struct {
	long call;
	const char *name;
} refused_calls[] = {
	{ SYS_execve, "execve" },
	{ SYS_execveat, "execveat" },
	{ SYS_fork, "fork" },
	{ SYS_clone, "clone" },
	{ SYS_clone3, "clone3" },
	{ SYS_ptrace, "ptrace" },
	{ SYS_process_vm_writev, "process_vm_writev" },
	{ SYS_pidfd_getfd, "pidfd_getfd" },
	{ SYS_socket, "socket" },
	{ SYS_connect, "connect" },
	{ SYS_bind, "bind" },
	{ SYS_open, "open" },
	{ SYS_open_by_handle_at, "open_by_handle_at" },
	{ SYS_mount, "mount" },
	{ SYS_fsmount, "fsmount" },
	{ SYS_open_tree, "open_tree" },
	{ SYS_pivot_root, "pivot_root" },
	{ SYS_chroot, "chroot" },
	{ SYS_unshare, "unshare" },
	{ SYS_setns, "setns" },
	{ SYS_bpf, "bpf" },
	{ SYS_perf_event_open, "perf_event_open" },
	{ SYS_io_uring_setup, "io_uring_setup" },
	{ SYS_userfaultfd, "userfaultfd" },
	{ SYS_keyctl, "keyctl" },
	{ SYS_init_module, "init_module" },
	{ SYS_kexec_load, "kexec_load" },
	{ SYS_memfd_create, "memfd_create" },
	{ SYS_setuid, "setuid" },
	{ SYS_kill, "kill" },
	{ SYS_iopl, "iopl" },
	{ 0x40000000 | SYS_write, "write of the x32 interface" },
	{ 9999, "a call that there isn't" },
};

/* How a process ends that is locked in and makes this call; -1: of the 32-bit interface. */
static int end_of(enum bh_thread_kind kind, long call)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (bh_jail_lock(kind, NULL) < 0)
			_exit(2);
		if (call < 0) {
			long number = 20; /* getpid there */

			__asm__ volatile("int $0x80" : "+a"(number) : : "memory", "r8", "r9", "r10", "r11");
		} else {
			syscall(call, 0, 0, 0, 0, 0, 0);
		}
		syscall(SYS_exit_group, 3);
	}
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

static void try_calls(void)
{
	static const enum bh_thread_kind kinds[] = { BH_THREAD_OWNER, BH_THREAD_VCPU, BH_THREAD_DEVICE, BH_THREAD_JOBS, BH_THREAD_FILES };
	int status;

	for (size_t k = 0; k < BH_ARRAY_SIZE(kinds); k++) {
		for (size_t i = 0; i < BH_ARRAY_SIZE(refused_calls); i++) {
			status = end_of(kinds[k], refused_calls[i].call);
			expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, refused_calls[i].name);
		}
		status = end_of(kinds[k], -1);
		expect(WIFSIGNALED(status) && (WTERMSIG(status) == SIGSYS || WTERMSIG(status) == SIGSEGV), "the 32-bit interface");
		/* Only the file server opens anything. */
		status = end_of(kinds[k], SYS_openat);
		expect(kinds[k] == BH_THREAD_FILES ? WIFEXITED(status) : WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "openat");
		/* What they need they may. */
		status = end_of(kinds[k], SYS_write);
		expect(kinds[k] == BH_THREAD_VCPU ? WIFSIGNALED(status) : WIFEXITED(status) && WEXITSTATUS(status) == 3, "write");
	}
}

static void test_refused_calls(void **state)
{
	(void)state;
	in_jail(try_calls);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_open_path),
		cmocka_unit_test(test_no_capability),
		cmocka_unit_test(test_refused_calls),
	};

	found = mmap(NULL, WORDS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return found == MAP_FAILED ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
