/* SPDX-License-Identifier: Apache-2.0 */
/* What drivers do by a compartment's cgroup alone (container.c). */
#pragma once

#include "runtime/runtime.h"

int bh_compartment_make_cgroup(const struct bh_compartment_place *place, const struct bh_spec_resources *resources, struct bh_cgroup **ret_cgroup,
			       struct bh_error *err);
void bh_compartment_end_cgroup(struct bh_cgroup *cgroup);
void bh_compartment_abandon(struct bh_compartment *compartment);
int bh_compartment_freeze(const struct bh_compartment_place *place, bool frozen, struct bh_error *err);
int bh_compartment_is_frozen(const struct bh_compartment_place *place, bool *ret_paused, struct bh_error *err);
int bh_compartment_take_back(const struct bh_compartment_place *place, pid_t pid, struct bh_error *err);
int bh_compartment_signal(const struct bh_compartment_place *place, int signal, struct bh_error *err);
int bh_compartment_update(const struct bh_compartment_place *place, const struct bh_spec_resources *resources, struct bh_error *err);
int bh_compartment_stats(const struct bh_compartment_place *place, struct bh_cgroup_stats *ret_stats, struct bh_error *err);
int bh_compartment_pids(const struct bh_compartment_place *place, pid_t **ret_pids, size_t *ret_count, struct bh_error *err);
int bh_compartment_destroy(const struct bh_compartment_place *place, struct bh_error *err);
int bh_compartment_write_stats(const struct bh_compartment_place *place, const char *network_interfaces, struct bh_buf *out, struct bh_error *err);
int bh_compartment_watch(const struct bh_compartment_place *place, struct bh_cgroup_watch *ret_watch, struct bh_error *err);
