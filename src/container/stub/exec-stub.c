/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last program before the workload: less than a page, without libc, executed from a sealed memfd.
 *
 * Why it exists: the process that calls execve(2) for the workload is what `/proc/self/exe` means in the workload's path
 * or in its first line (`#!/proc/self/exe`). Were that process still the runtime, a container could execute the host's
 * own binary and write to it afterwards (CVE-2019-5736). Here it finds only this sealed program.
 *
 * For the same reason the stub, not the runtime, clones the process that enters the pid namespace of a running container
 * (letter f): processes there that may trace it find the stub in its /proc/PID/exe, at every moment.
 *
 * The sync socket is closed by the execution of the workload; if that fails, the errno goes through it.
 */
#include "container/stub/exec-stub.h"

#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/sched.h>
#include <asm/ioctls.h>
#include <signal.h>

#define SOCK_CLOEXEC 02000000 /* <linux/net.h> leaves it to libc */
#define KERNEL_SA_RESTORER 0x04000000UL

/* As rt_sigaction(2) has it; libc's is another, and <asm/signal.h> can't be had beside libc's headers. */
struct kernel_sigaction {
	void (*handler)(int);
	unsigned long flags;
	void (*restorer)(void);
	unsigned long mask;
};

#ifndef __x86_64__
#error "the exec stub is written for x86-64"
#endif

static inline long call5(long number, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
	return result;
}
#define call(number, a, b, c) call5(number, (long)(a), (long)(b), (long)(c), 0, 0)

static void say(long sync, unsigned kind, long value)
{
	struct bh_stub_message message = { kind, (int)value };

	call(__NR_write, sync, &message, sizeof message);
}

__attribute__((noreturn)) static void end(long status)
{
	/* A filter may forbid these as well. */
	call(__NR_exit_group, status, 0, 0);
	call(__NR_exit, status, 0, 0);
	__builtin_trap();
}

static long number(const char **text)
{
	long value = 0;

	for (; **text >= '0' && **text <= '9'; (*text)++)
		value = value * 10 + (**text - '0');
	return value;
}

static void end_by_signal(int number)
{
	end(128 + number);
}

static void restore(void)
{
}

/* The first process of a pid namespace gets only signals that it handles. One that is ignored stays so. */
static void handle_signals(void)
{
	static const char numbers[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };
	/* It never comes to the restorer, but there has to be one. */
	const struct kernel_sigaction handled = { end_by_signal, KERNEL_SA_RESTORER, restore, 0 };
	struct kernel_sigaction before = { 0 };

	for (unsigned i = 0; i < sizeof numbers; i++)
		if (call5(__NR_rt_sigaction, numbers[i], (long)&handled, (long)&before, sizeof before.mask, 0) == 0 && before.handler == SIG_IGN)
			call5(__NR_rt_sigaction, numbers[i], (long)&before, 0, sizeof before.mask, 0);
}

/* Whoever connects says "start", and hears by the same connection how it went. */
static long wait_for_connection(long *sync, const char **letters)
{
	long listener = number(letters), connection = call5(__NR_accept4, listener, 0, 0, SOCK_CLOEXEC, 0);

	if (connection < 0)
		return connection;
	call(__NR_close, *sync, 0, 0);
	*sync = connection;
	return call(__NR_close, listener, 0, 0);
}

/* One preparing step; a negative result is an error. */
static long step(const char **letters, long *sync_fd, char ***args)
{
	long r, sync = *sync_fd;
	char word[4];

	switch (*(*letters)++) {
	case 'f':
		r = call5(__NR_clone, CLONE_PARENT, 0, 0, 0, 0);
		if (r > 0) {
			say(sync, BH_STUB_PID, r);
			end(0);
		}
		return r;
	case 's':
		return call(__NR_setsid, 0, 0, 0);
	case 't':
		return call(__NR_ioctl, 0, TIOCSCTTY, 0);
	case 'w':
		/* Before anybody can know that it is created. */
		if (**letters == 'a')
			handle_signals();
		say(sync, BH_STUB_READY, 0);
		/* End of stream: the container is deleted before it was started. */
		if (call(__NR_read, sync, word, sizeof word) <= 0)
			end(1);
		return 0;
	case 'a':
		return wait_for_connection(sync_fd, letters);
	case 'c':
		return call(__NR_chdir, *(*args)++, 0, 0);
	default:
		return -1;
	}
}

__attribute__((noreturn, used)) static void stub_main(long *stack)
{
	char **argv = (char **)(stack + 1), **environment = argv + stack[0] + 1, **args = argv + 1;
	const char *letters = argv[0];
	long sync = number(&letters), init = -1;
	long r = call(__NR_fcntl, sync, F_SETFD, FD_CLOEXEC);

	while (r >= 0 && *letters && *letters != 'i')
		r = step(&letters, &sync, &args);
	if (r >= 0 && *letters == 'i') {
		letters++;
		init = number(&letters);
		r = call(__NR_fcntl, init, F_SETFD, FD_CLOEXEC);
	}
	if (r >= 0 && init >= 0)
		r = call5(__NR_execveat, init, (long)"", (long)args, (long)environment, AT_EMPTY_PATH);
	else if (r >= 0)
		r = call(__NR_execve, args[0], args + 1, environment);
	say(sync, BH_STUB_FAILED, -r);
	end(126);
}

__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall stub_main\n");
