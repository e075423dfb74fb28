/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A debugger's conversation (GDB manual, appendix E): what its packets ask for, and the answers. It knows nothing of KVM: the machine is a table of
 * functions, so that every packet can be tried without one.
 *
 * Threads are processors, numbered from 1 for the debugger and from 0 here. All-stop: a machine that stands answers everything, one
 * that runs takes an interrupt alone, until bh_gdb_stopped says why it stands again.
 */
#pragma once

#include "vmm/gdb-packet.h"

/* A processor's registers in the order in which they are sent: that of GDB's own description of the architecture, then ours. */
struct bh_gdb_registers {
	uint64_t general[16]; /* rax rbx rcx rdx rsi rdi rbp rsp r8..r15 */
	uint64_t rip;
	uint32_t eflags;
	uint32_t segments[6]; /* cs ss ds es fs gs */
	uint8_t st[8][10];
	uint32_t x87[8]; /* fctrl fstat ftag fiseg fioff foseg fooff fop */
	uint8_t xmm[16][16];
	uint32_t mxcsr;
	uint64_t fs_base, gs_base;
	uint64_t cr0, cr2, cr3, cr4, cr8, efer;
} __attribute__((packed));

enum bh_gdb_action { BH_GDB_STAY, BH_GDB_CONTINUE, BH_GDB_STEP };

/* As in Z packets. */
enum bh_gdb_breakpoint { BH_GDB_SOFTWARE, BH_GDB_HARDWARE, BH_GDB_WATCH_WRITE, BH_GDB_WATCH_READ, BH_GDB_WATCH_ACCESS, BH_GDB_BREAKPOINT_KINDS };

struct bh_gdb_stop {
	unsigned thread;
	enum { BH_GDB_BY_INTERRUPT, BH_GDB_BY_TRAP, BH_GDB_BY_BREAKPOINT } reason;
	enum bh_gdb_breakpoint breakpoint; /* BY_BREAKPOINT: which kind */
	uint64_t address;                  /* that is watched */
};

/* What a session asks of a machine, always one that stands except for `interrupt`, `kill` and `detach`. False: it can't be. */
struct bh_gdb_target {
	unsigned (*threads)(void *context);
	bool (*read_registers)(void *context, unsigned thread, struct bh_gdb_registers *registers);
	bool (*write_registers)(void *context, unsigned thread, const struct bh_gdb_registers *registers);
	/* Virtual addresses as this processor sees them. Returns how many of the bytes are there. */
	size_t (*read_memory)(void *context, unsigned thread, uint64_t address, void *bytes, size_t length);
	bool (*write_memory)(void *context, unsigned thread, uint64_t address, const void *bytes, size_t length);
	bool (*set_breakpoint)(void *context, unsigned thread, enum bh_gdb_breakpoint kind, uint64_t address, uint64_t length, bool on);
	void (*resume)(void *context, const enum bh_gdb_action *actions);
	void (*interrupt)(void *context); /* bh_gdb_stopped follows, at once or later */
	void (*detach)(void *context);    /* no breakpoint stays, and it runs */
	void (*kill)(void *context);
};

#define BH_GDB_THREADS_MAX 64

struct bh_gdb_session {
	const struct bh_gdb_target *target;
	void *context;
	struct bh_buf out; /* to be sent; whoever sends it empties it */
	bool ended;        /* the connection is of no further use, once `out` is sent */

	struct bh_gdb_parser parser;
	struct bh_buf last; /* the last answer, for "-" */
	bool no_acknowledgements, running, knows_swbreak, knows_hwbreak;
	unsigned thread; /* for registers and memory */
	int step_thread; /* for c and s; -1: all */
	struct bh_gdb_stop stop;
};

/* A machine that stands; `thread`: the processor that is shown first. */
void bh_gdb_begin(struct bh_gdb_session *session, const struct bh_gdb_target *target, void *context);
void bh_gdb_end(struct bh_gdb_session *session);
/* Bytes of the debugger. */
void bh_gdb_feed(struct bh_gdb_session *session, const void *bytes, size_t length);
/* The machine stands again. Nothing if it did. */
void bh_gdb_stopped(struct bh_gdb_session *session, const struct bh_gdb_stop *stop);
/* The machine has ended. */
void bh_gdb_exited(struct bh_gdb_session *session, int status);

/* gdb-registers.c: the description that GDB asks for, XML; static. */
const char *bh_gdb_description(void);
/* Where register `number` lies in struct bh_gdb_registers. False: there is none. */
bool bh_gdb_register_place(uint64_t number, size_t *ret_offset, size_t *ret_size);
