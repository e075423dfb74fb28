/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages for the person at the terminal, and --explain.
 *
 * Log lines go to stderr as "bulkhead: LEVEL: text"; the level is a global option. Errors are values (error.h) and are
 * printed once, by main.
 *
 * Explain lines tell each real step of isolating a workload, in order, with its true values. The function that does the
 * step calls bh_explain right after the step, so a line can't speak of what did not happen. When nobody asked, a call
 * costs one load and one branch. The sequence number is shared by all processes of one start (a shared page), so the
 * lines of the host side and of the container's first process have one order.
 */
#pragma once

#include <stdbool.h>

enum bh_log_level { BH_LOG_ERROR, BH_LOG_WARNING, BH_LOG_INFO, BH_LOG_DEBUG };

void bh_log_set_level(enum bh_log_level level);
bool bh_log_parse_level(const char *name, enum bh_log_level *ret_level);
void bh_log(enum bh_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define bh_warn(...) bh_log(BH_LOG_WARNING, __VA_ARGS__)
#define bh_info(...) bh_log(BH_LOG_INFO, __VA_ARGS__)
#define bh_debug(...) bh_log(BH_LOG_DEBUG, __VA_ARGS__)
/* A warning that is given once per process, however often the place is passed (for limits that are clamped). */
#define bh_warn_once(...)                   \
	do {                                \
		static bool said_;          \
		if (!said_)                 \
			bh_warn(__VA_ARGS__); \
		said_ = true;               \
	} while (0)

/* Somebody else writes the lines (bulkhead-oci: in the form and to the place of --log); NULL: stderr, as above. Called in every
 * process of a start, also in those that share nothing but the fds. */
void bh_log_set_sink(void (*sink)(enum bh_log_level level, const char *text));

/* BH_EXPLAIN_LOG: each step is a line of the log, of level debug. */
enum bh_explain_mode { BH_EXPLAIN_OFF, BH_EXPLAIN_TEXT, BH_EXPLAIN_JSON, BH_EXPLAIN_LOG };

extern enum bh_explain_mode bh_explain_mode;

/* Turns it on. `fd` is duplicated (O_CLOEXEC), so it survives changes to stderr. */
void bh_explain_enable(enum bh_explain_mode mode, int fd);
/* For a process that lives on: all is told, and whoever reads it need not wait for this process. */
void bh_explain_disable(void);
/* The fd that explain writes to, or -1: code that closes fds must keep it until exec. */
int bh_explain_fd(void);
void bh_explain_step(const char *step, ...) __attribute__((sentinel));
/*
 * One step: its kind ("namespace", "cgroup", "mount", "device", "capability", "seccomp", "pivot_root", "id-map",
 * "sysctl", "rlimit", "hostname", "network", "exec" ...), then pairs of key and value, both strings:
 *	bh_explain("mount", "type", "proc", "target", "/proc", "options", "nosuid,nodev,noexec");
 * prints   12 mount       type=proc target=/proc options=nosuid,nodev,noexec
 * or       {"seq":12,"time_us":812,"pid":4711,"step":"mount","type":"proc",...}
 * A NULL value leaves its pair out.
 */
#define bh_explain(step, ...)                                          \
	do {                                                           \
		if (__builtin_expect(bh_explain_mode != BH_EXPLAIN_OFF, 0)) \
			bh_explain_step(step, __VA_ARGS__, (char *)0); \
	} while (0)
