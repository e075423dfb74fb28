/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead-oci: the command line of runc over src/bundle. One file per command or small group; each exports its
 * `struct bh_command` and is listed in commands.def.
 */
#pragma once

#include "base/error.h"
#include "base/log.h"
#include "base/option.h"
#include "bundle/bundle.h"

struct bh_oci {
	const char *program;   /* argv[0]'s last part */
	const char *root;      /* --root */
	const char *criu;      /* --criu */
	bool systemd_cgroup;
	bool no_cgroup;        /* --cgroup-manager disabled */
	const char *rootless;  /* the option */
	const char *isolation; /* the option */
};
extern struct bh_oci bh_oci;
/* What of cgroups this user may not do is left out. Asks the kernel. */
bool bh_oci_is_rootless(void);

extern const struct bh_option bh_oci_global_options[];
extern const struct bh_command *const bh_oci_commands[];

/* main() of bulkhead-oci. */
int bh_oci_main(int argc, char **argv);

/* Says it on stderr and in the --log file, where the callers look for it; returns the exit status for it. */
int bh_oci_fail(const struct bh_error *err, int status);
/* Opens the container whose id is argv[0]; one that is just being made only if the caller can do with it. */
int bh_oci_open(char **argv, bool half_made, struct bh_bundle *ret_bundle, struct bh_error *err);

/* --- terminal and standard streams of create, run and exec (console.c) ---------------------------------------------- */

struct bh_oci_console {
	const char *socket;              /* --console-socket */
	bool detach;                     /* nobody stays to serve a terminal */
	bool terminal;                   /* process.terminal */
	struct bh_container_stdio stdio; /* filled in by bh_oci_console_check */
};
/* Fills in stdio; refuses what of socket, detach and terminal can't go together, in runc's words. */
int bh_oci_console_check(struct bh_oci_console *console, struct bh_error *err);
/* Sends the master to the console socket, if there is one: the `terminal` callback of a bh_bundle_create. */
int bh_oci_console_send(void *console, int master_fd, struct bh_error *err);
/* Connects to the unix socket and sends one fd, named in the message's bytes. `what` is for error words. */
int bh_oci_send_fd(const char *what, const char *path, const char *name, int fd, struct bh_error *err);
/* How many fds a service manager handed to this very process (sd_listen_fds(3)); they begin at 3. */
int bh_oci_listen_fds(void);
/* --preserve-fds and the former together: how many fds from 3 on the process gets. Those that the caller hasn't opened it doesn't
 * get, with a warning (crun's callers give a number that is large enough). */
#define BH_OCI_PRESERVE_MAX 65536
int bh_oci_check_fds(int64_t preserve, struct bh_error *err);

/* --- staying with a process (foreground.c) --------------------------------------------------------------------------- */

/* Before the process is made: signals are kept until they can be passed on; with `subreaper` its orphans come to us. */
int bh_oci_foreground_begin(bool subreaper, struct bh_error *err);
/* Passes signals, window sizes, the terminal's bytes and what `notifies` (may be NULL) has to say to a service manager on until the
 * process ends; returns its exit status (128+n). */
int bh_oci_foreground(struct bh_bundle *notifies, pid_t pid, int pidfd, int terminal_fd);
