/* SPDX-License-Identifier: Apache-2.0 */
/* Processes of others: a pid alone may have been given to another one since; together with its start time it can't. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* Field 22 of /proc/<pid>/stat (proc(5)), in clock ticks since boot; -ESRCH if there is no such process or it is a zombie. */
int bh_process_start_time(pid_t pid, uint64_t *ret_start);
/* A pidfd of the process with this pid and start time; -ESRCH if that one is gone. */
int bh_process_open(pid_t pid, uint64_t start);
