/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor ROOTFS FOLDER CGROUPS COMMAND: what the kernel itself needs for a container, with nothing else done: clone into six
 * new namespaces, enter CGROUPS ("memory,devices,unified": v1 hierarchies; "v2"; "none"), an overlay of ROOTFS, the usual
 * mounts, pivot_root, execve, wait, remove. No configuration, no image store, no state, no seccomp, no device nodes, no
 * checks: not a runtime, but a lower bound for one.
 */
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRY(call) ((call) < 0 ? (perror(#call), _exit(1)) : (void)0)

static char groups[16][128];
static int group_count;

static int contain(char **argv)
{
	char options[1024];

	for (int i = 0; i < group_count; i++) {
		char file[sizeof groups + 16];

		snprintf(file, sizeof file, "%s/tasks", groups[i]);
		if (access(file, F_OK) == 0) /* v1; a v2 folder is entered by the clone */
			TRY(write(open(file, O_WRONLY | O_CLOEXEC), "0", 1));
	}
	TRY(unshare(CLONE_NEWCGROUP));
	TRY(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work", argv[1], argv[2], argv[2]);
	TRY(chdir(argv[2]));
	TRY(mount("overlay", "root", "overlay", 0, options));
	TRY(chdir("root"));
	TRY(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	TRY(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
	TRY(mkdir("dev/pts", 0755) + mkdir("dev/shm", 0755) + mkdir("dev/mqueue", 0755));
	TRY(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"));
	TRY(mount("sysfs", "sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	TRY(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	TRY(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k"));
	TRY(syscall(SYS_pivot_root, ".", "."));
	TRY(umount2(".", MNT_DETACH));
	TRY(chdir("/"));
	TRY(sethostname("floor", 5));
	execve(argv[4], argv + 4, (char *[]){ NULL });
	_exit(127);
}

int main(int argc, char **argv)
{
	char *list = argc > 4 ? argv[3] : NULL, *name;
	struct clone_args args = { .exit_signal = SIGCHLD, .flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC };
	int status = 1;
	pid_t pid;

	if (argc < 5 || chdir(argv[2]) < 0)
		return 2;
	while ((name = strsep(&list, ",")) && strcmp(name, "none") != 0 && group_count < 16)
		snprintf(groups[group_count++], sizeof groups[0], "/sys/fs/cgroup/%s/floor-%d", strcmp(name, "v2") ? name : ".", (int)getpid());
	for (int i = 0; i < group_count; i++)
		TRY(mkdir(groups[i], 0755));
	TRY(mkdir("upper", 0755) + mkdir("work", 0755) + mkdir("root", 0755));
	for (int i = 0; i < group_count; i++) {
		if (strstr(groups[i], "/unified/") || strstr(groups[i], "/./")) {
			args.flags |= CLONE_INTO_CGROUP;
			args.cgroup = (unsigned long long)open(groups[i], O_PATH | O_CLOEXEC);
		}
	}
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
	if (pid == 0)
		contain(argv);
	waitpid(pid, &status, 0);
	TRY(rmdir("work/work") + rmdir("work") + rmdir("upper") + rmdir("root"));
	for (int i = 0; i < group_count; i++)
		TRY(rmdir(groups[i]));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
