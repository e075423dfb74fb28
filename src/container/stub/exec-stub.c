/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last program before the workload: a few hundred bytes without libc, executed from a sealed memfd.
 *
 * Why it exists: the process that calls execve(2) for the workload is what `/proc/self/exe` means in the workload's path
 * or in its first line (`#!/proc/self/exe`). Were that process still the runtime, a container could execute the host's
 * own binary and write to it afterwards (CVE-2019-5736). Here it finds only this sealed copy of nothing.
 *
 * argv[0] is the number of the sync socket, argv[1] the file to execute, argv[2...] the workload's arguments. The socket
 * closes when the workload is executed; if that fails, the errno goes through it (struct bh_exec_failure).
 */
#include "container/stub/exec-stub.h"

#include <asm/unistd.h>

#ifndef __x86_64__
#error "the exec stub is written for x86-64"
#endif

#define FD_CLOEXEC 1
#define F_SETFD 2

static inline long call3(long number, long a, long b, long c)
{
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return result;
}

__attribute__((noreturn, used)) static void stub_main(long *stack)
{
	long argc = stack[0];
	char **argv = (char **)(stack + 1);
	char **environment = argv + argc + 1;
	struct bh_exec_failure failure = { .kind = BH_EXEC_FAILURE };
	long sync = 0;

	for (const char *p = argv[0]; *p; p++)
		sync = sync * 10 + (*p - '0');
	call3(__NR_fcntl, sync, F_SETFD, FD_CLOEXEC);
	failure.errnum = (int)-call3(__NR_execve, (long)argv[1], (long)(argv + 2), (long)environment);
	call3(__NR_write, sync, (long)&failure, sizeof failure);
	for (;;)
		call3(__NR_exit_group, 126, 0, 0);
}

__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall stub_main\n");
