/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the verbs that work on containers. */
#pragma once

#include "base/option.h"
#include "cli/stream.h"
#include "engine/engine.h"

typedef int (*bh_cli_action)(struct bh_engine *engine, struct bh_container *container, const char *name, void *context, struct bh_error *err);
/* Runs the action on each container named in argv (found under its lock if `locked`); an error is printed and the rest
 * goes on. Returns 1 if any failed. */
int bh_cli_for_each(int argc, char **argv, bool locked, bh_cli_action action, void *context);
/* Copies the streams of a container until it ends. With `shim` > 0 (our child) its clean-up is ours. Returns the exit
 * status for main. */
int bh_cli_watch(struct bh_engine *engine, struct bh_container *container, const struct bh_stream *stream, int fd, pid_t shim);
/* --explain[=json] */
int bh_cli_enable_explain(const char *mode, struct bh_error *err);
/* The processes with these pids as `top` shows them. */
void bh_cli_print_processes(const pid_t *pids, size_t count);

/* The options of an exec (struct bh_exec_options), and its streams until it ends: the exit status. */
extern const struct bh_option bh_cli_exec_options[];
int bh_cli_watch_exec(const struct bh_exec_options *options, struct bh_exec *exec, struct bh_error *err);
