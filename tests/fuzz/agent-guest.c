/* SPDX-License-Identifier: Apache-2.0 */
/* What a host could send to the agent in its guest: whole frames and halves, in pieces. Nothing is executed. */
#include "guest/guest-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
pid_t fuzz_fork(void);
int fuzz_mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
int fuzz_mkdir(const char *path, mode_t mode);

/* The machine around it. */
pid_t fuzz_fork(void)
{
	errno = EAGAIN;
	return -1;
}

int fuzz_mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)
{
	(void)source, (void)target, (void)type, (void)flags, (void)data;
	return 0;
}

int fuzz_mkdir(const char *path, mode_t mode)
{
	(void)path, (void)mode;
	return 0;
}

void guest_machine_prepare(void)
{
}

int guest_machine_connect(const char *transport)
{
	(void)transport;
	return -1;
}

void guest_machine_greet(const struct bh_agent_hello *hello)
{
	(void)hello;
}

void guest_machine_set_clock(int64_t now_ns)
{
	(void)now_ns;
}

void guest_machine_sync(void)
{
}

void guest_machine_power_off(void)
{
	abort(); /* only the loop does it */
}

void guest_say(const char *format, ...)
{
	(void)format;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t piece = size ? 1 + data[0] : 1;

	for (size_t at = 1; at < size; at += piece)
		if (guest_agent_take(data + at, BH_MIN(piece, size - at), NULL) < 0)
			break;
	guest_agent_clear();
	return 0;
}
