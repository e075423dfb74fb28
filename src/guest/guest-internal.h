/* SPDX-License-Identifier: Apache-2.0 */
/* bulkhead-guest's lives: the init of a container (main.c), and the first process of a microVM (agent.c, machine.c) or a domain (domain.c). */
#pragma once

#include "agent/flow.h"

#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

/* Where the initramfs has what the agent needs (src/microvm/initramfs.c). */
#define GUEST_AGENT "/bulkhead-guest" /* the kernel's rdinit= */
#define GUEST_PROGRAM "/bulkhead"
#define GUEST_REQUEST "/request" /* a domain's: the JSON of its first process */
#define GUEST_MODULES "/modules"
#define GUEST_MODULE_ORDER GUEST_MODULES "/order"

/* The agent. `transport` is "vport" or "vsock". Does not return: it powers the machine off. */
_Noreturn void guest_agent_main(const char *transport);
/* Serves one connection to a domain: does not return; ends with the connection, and then its processes do. All signals are blocked. */
_Noreturn void guest_agent_serve(int connection_fd);

/* The first process of a domain. `mode`: "domain:N", with N the signal that asks the image's first process to end. Does not return. */
#define GUEST_DOMAIN "domain:"
_Noreturn void guest_domain_main(const char *mode);
/* What it is told by those that serve connections. */
#define GUEST_SIGNAL_POWER_OFF (SIGRTMIN + 4)
#define GUEST_SIGNAL_REBOOT (SIGRTMIN + 5)

/* Starts the program that makes the process which request_fd describes (agent/message.h has the numbers of its files; -1: none). Returns
 * its pid and the socket for its word, or -errno. All files stay the caller's. */
pid_t guest_runner_start(int request_fd, const int streams[BH_AGENT_STREAMS], unsigned kind, int *ret_result_fd);
/* Its word: 0 and the process's terminal (the caller's; -1: none). -EAGAIN: not yet; -ECHILD: it ended without one. */
int guest_runner_result(int result_fd, struct bh_agent_result *ret_result, int *ret_terminal_fd);

/* Takes bytes that the host has sent. Negative with words: they are no frames. */
int guest_agent_take(const void *bytes, size_t length, struct bh_error *err);
/* Forgets all processes, and what waits (for tests/fuzz/agent-guest.c). */
void guest_agent_clear(void);

/* A folder of the host (share.c). All zero: none. */
struct guest_share {
	int fd;                        /* /dev/fuse */
	bool is_busy;                  /* a request waits for its answer */
	struct bh_buf request, reply;
	size_t sent;
};
int guest_share_mount(struct guest_share *share, unsigned index);
void guest_share_clear(struct guest_share *share);
/* Takes a request of the kernel's if none is under way. */
void guest_share_read(struct guest_share *share);
/* Sends of it what the credit allows. */
void guest_share_send(struct guest_share *share, struct bh_agent_source *source, uint32_t channel, struct bh_buf *out);
/* Takes the next bytes of the answer. -EPROTO: nobody asked. */
int guest_share_take(struct guest_share *share, const void *bytes, size_t length);

/* File systems, kernel modules, loopback. Each failure is told on the console; what really is missing shows soon enough. */
void guest_machine_prepare(void);
/* The stream to the host: waits for the device. -1 after words on the console. */
int guest_machine_connect(const char *transport);
/* A listening vsock for the host, BH_AGENT_VSOCK_PORT. -1 after words on the console. */
int guest_machine_listen(void);
/* The next connection from the host; -1: none. */
int guest_machine_accept(int listen_fd);
/* The host's clock and some of its entropy. */
void guest_machine_greet(const struct bh_agent_hello *hello);
void guest_machine_set_clock(int64_t now_ns);
/* Writes all to the disks and leaves them. */
void guest_machine_sync(void);
_Noreturn void guest_machine_power_off(void);
_Noreturn void guest_machine_reboot(void);

/* A line on the console. */
void guest_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
