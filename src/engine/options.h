/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a user may ask of a new container: the options of `run` and `create`, in Docker's terms. The CLI's option tables
 * fill it; create.c turns it into an OCI spec and a record. Strings belong to the command line.
 */
#pragma once

#include "base/string.h"

struct bh_create_options {
	/* process */
	bool interactive, tty, init;
	struct bh_strv attach, env, env_file;
	const char *workdir, *user, *entrypoint, *stop_signal;
	int64_t stop_timeout; /* seconds; BH_STOP_TIMEOUT_DEFAULT when not given */
	struct bh_strv group_add, ulimit;
	int64_t oom_score_adj;
	/* identity */
	const char *name, *hostname, *domainname, *cidfile;
	struct bh_strv label, label_file, annotation, add_host, dns, dns_search, dns_option;
	const char *pull, *platform, *isolation;
	const char *kernel, *accelerator; /* of a microVM */
	/* files */
	struct bh_strv volume, mount, tmpfs, device;
	bool read_only;
	int64_t shm_size;
	/* security */
	struct bh_strv cap_add, cap_drop, security_opt, sysctl, device_cgroup_rule;
	bool privileged;
	/* namespaces */
	const char *network, *pid, *ipc, *uts, *userns, *cgroupns;
	const char *time_offset; /* "monotonic=SECS,boottime=SECS": a new time namespace */
	struct bh_strv uidmap, gidmap;
	/* resources */
	int64_t memory, memory_swap, memory_reservation, memory_swappiness, cpus_nano, cpu_shares, cpu_period, cpu_quota, pids_limit, blkio_weight;
	const char *cpuset_cpus, *cpuset_mems;
	struct bh_strv device_read_bps, device_write_bps, device_read_iops, device_write_iops, blkio_weight_device, hugetlb_limit;
	bool oom_kill_disable;
	/* life */
	bool detach, remove, restart_fresh;
	bool one_shot; /* `run`: create and start are one operation */
	const char *restart, *detach_keys, *log_driver;
	struct bh_strv log_opt;
	bool no_healthcheck, sig_proxy;
	const char *health_cmd;
	int64_t health_interval_ns, health_timeout_ns, health_start_period_ns, health_retries;
	const char *explain;

	/* arguments */
	const char *image;
	char *const *command; /* NULL-terminated, may be empty */
};

#define BH_STOP_TIMEOUT_DEFAULT 10
/* Values that mean "not given" where 0 or -1 is a legal value. */
#define BH_UNSET (-9999)

/* Fills in every default that is not zero. */
void bh_create_options_preset(struct bh_create_options *options);
