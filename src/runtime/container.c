/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The isolation driver `container`: a cgroup (src/cgroup) with a process in namespaces (src/container) in it. What is done by the
 * cgroup alone serves the other driver too.
 */
#include "runtime/runtime-internal.h"

#include "base/memory.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

void bh_compartment_end_cgroup(struct bh_cgroup *cgroup)
{
	bh_cgroup_kill(cgroup, NULL);
	bh_cgroup_destroy(cgroup, NULL);
	bh_cgroup_free(cgroup);
}

/* 0 and NULL: there is none. */
static int open_cgroup(const struct bh_compartment_place *place, struct bh_cgroup **ret_cgroup, struct bh_error *err)
{
	if (!place->folders)
		return bh_cgroup_open(place->path, ret_cgroup, err);
	if (!place->folders->count) {
		*ret_cgroup = NULL;
		return 0;
	}
	return bh_cgroup_open_paths(place->folders, place->unit, ret_cgroup, err);
}

static int need_cgroup(const struct bh_compartment_place *place, struct bh_cgroup **ret_cgroup, struct bh_error *err)
{
	int r = open_cgroup(place, ret_cgroup, err);

	return r == 0 && !*ret_cgroup ? bh_error_text(err, ENOENT, "the container has no cgroup") : r;
}

int bh_compartment_make_cgroup(const struct bh_compartment_place *place, const struct bh_spec_resources *resources, struct bh_cgroup **ret_cgroup,
			       struct bh_error *err)
{
	return place->request ? bh_cgroup_make(place->request, ret_cgroup, err) : bh_cgroup_create(place->path, resources, ret_cgroup, err);
}

static int make(const struct bh_compartment_place *place, struct bh_container_create *request, bool run, struct bh_compartment *ret_compartment,
		struct bh_error *err)
{
	struct bh_compartment compartment = BH_COMPARTMENT_INIT;
	int r = bh_compartment_make_cgroup(place, &request->spec->resources, &compartment.cgroup, err);

	if (r < 0)
		return r;
	request->cgroup = compartment.cgroup;
	r = run ? bh_container_run(request, &compartment.process, err) : bh_container_create(request, &compartment.process, err);
	if (r < 0) {
		if (compartment.cgroup)
			bh_compartment_end_cgroup(compartment.cgroup);
		return r;
	}
	compartment.oom_fd = compartment.cgroup && !place->request ? bh_cgroup_oom_fd(compartment.cgroup) : -1;
	*ret_compartment = compartment;
	return 0;
}

static int create(const struct bh_compartment_place *place, struct bh_container_create *request, struct bh_compartment *ret_compartment,
		  struct bh_error *err)
{
	return make(place, request, false, ret_compartment, err);
}

static int run(const struct bh_compartment_place *place, struct bh_container_create *request, struct bh_compartment *ret_compartment,
	       struct bh_error *err)
{
	return make(place, request, true, ret_compartment, err);
}

static int release(struct bh_compartment *compartment, struct bh_error *err)
{
	return bh_container_release(&compartment->process, err);
}

void bh_compartment_abandon(struct bh_compartment *compartment)
{
	/* A start that failed has reaped its process and closed the pidfd. */
	if (compartment->process.pidfd >= 0 && kill(compartment->process.pid, SIGKILL) == 0)
		waitpid(compartment->process.pid, NULL, 0);
	bh_close_fd(&compartment->process.pidfd);
	bh_close_fd(&compartment->process.sync_fd);
	bh_close_fd(&compartment->oom_fd);
	if (compartment->cgroup)
		bh_compartment_end_cgroup(compartment->cgroup);
	*compartment = (struct bh_compartment)BH_COMPARTMENT_INIT;
}

static int exec(const struct bh_compartment_place *place, struct bh_container_exec *request, struct bh_container_process *ret_process,
		struct bh_error *err)
{
	bool below = place->below && place->below->count;
	struct bh_error first = BH_ERROR_INIT;
	int r = below || !place->folders || !place->folders->count ? open_cgroup(place, &request->cgroup, err) :
								     bh_cgroup_open_paths_to_enter(place->folders, place->unit, &request->cgroup, err);

	if (r == 0 && below && request->cgroup)
		r = bh_cgroup_descend(request->cgroup, place->below, err);
	if (r < 0) {
		bh_cgroup_free(request->cgroup);
		request->cgroup = NULL;
		return r;
	}
	r = bh_container_exec(request, ret_process, &first);
	/* v2: nobody can enter a folder that hands controllers down. Its first process has gone below, so that is the place. */
	if (r == -EBUSY && request->cgroup && place->folders && !below) {
		bh_cgroup_free(request->cgroup);
		request->cgroup = NULL;
		r = bh_cgroup_open_of_process(request->init_pid, &request->cgroup, err);
		if (r == 0)
			r = bh_container_exec(request, ret_process, &first);
	}
	if (r < 0 && err)
		*err = first;
	bh_cgroup_free(request->cgroup);
	request->cgroup = NULL;
	return r;
}

int bh_compartment_freeze(const struct bh_compartment_place *place, bool frozen, struct bh_error *err)
{
	struct bh_cgroup *cgroup;
	int r = need_cgroup(place, &cgroup, err);

	if (r < 0)
		return r;
	r = bh_cgroup_freeze(cgroup, frozen, err);
	if (r < 0 && frozen)
		bh_cgroup_freeze(cgroup, false, NULL);
	bh_cgroup_free(cgroup);
	return r;
}

int bh_compartment_is_frozen(const struct bh_compartment_place *place, bool *ret_paused, struct bh_error *err)
{
	struct bh_cgroup *cgroup;
	int r;

	if (place->folders && bh_cgroup_paths_are_frozen(place->folders, ret_paused) == 0)
		return 0;
	r = need_cgroup(place, &cgroup, err);
	if (r < 0)
		return r;
	r = bh_cgroup_is_frozen(cgroup, ret_paused, err);
	bh_cgroup_free(cgroup);
	return r;
}

int bh_compartment_take_back(const struct bh_compartment_place *place, pid_t pid, struct bh_error *err)
{
	struct bh_cgroup *cgroup;
	int r = need_cgroup(place, &cgroup, err);

	if (r < 0)
		return r;
	r = bh_cgroup_take_back(cgroup, pid, err);
	bh_cgroup_free(cgroup);
	return r;
}

int bh_compartment_signal(const struct bh_compartment_place *place, int signal, struct bh_error *err)
{
	struct bh_cgroup *cgroup;
	int r = need_cgroup(place, &cgroup, err);

	if (r < 0)
		return r;
	r = bh_cgroup_signal(cgroup, signal, err);
	bh_cgroup_free(cgroup);
	return r;
}

int bh_compartment_update(const struct bh_compartment_place *place, const struct bh_spec_resources *resources, struct bh_error *err)
{
	struct bh_cgroup *cgroup;
	int r = need_cgroup(place, &cgroup, err);

	if (r < 0)
		return r;
	r = bh_cgroup_update(cgroup, resources, err);
	bh_cgroup_free(cgroup);
	return r;
}

int bh_compartment_stats(const struct bh_compartment_place *place, struct bh_cgroup_stats *ret_stats, struct bh_error *err)
{
	struct bh_cgroup *cgroup;
	int r = need_cgroup(place, &cgroup, err);

	if (r < 0)
		return r;
	r = bh_cgroup_stats(cgroup, ret_stats, err);
	bh_cgroup_free(cgroup);
	return r;
}

int bh_compartment_pids(const struct bh_compartment_place *place, pid_t **ret_pids, size_t *ret_count, struct bh_error *err)
{
	struct bh_cgroup *cgroup;
	int r = need_cgroup(place, &cgroup, err);

	if (r < 0)
		return r;
	r = bh_cgroup_pids(cgroup, ret_pids, ret_count, err);
	bh_cgroup_free(cgroup);
	return r;
}

int bh_compartment_destroy(const struct bh_compartment_place *place, struct bh_error *err)
{
	if (!place->folders)
		return bh_cgroup_remove(place->path, err);
	return place->folders->count ? bh_cgroup_remove_paths(place->folders, place->unit, err) : 0;
}

/* What `events --stats` has in "data". */
int bh_compartment_write_stats(const struct bh_compartment_place *place, const char *network_interfaces, struct bh_buf *out, struct bh_error *err)
{
	struct bh_cgroup *cgroup;
	int r = need_cgroup(place, &cgroup, err);

	if (r < 0)
		return r;
	r = bh_cgroup_write_stats(cgroup, NULL, network_interfaces, out, err);
	bh_cgroup_free(cgroup);
	return r;
}

int bh_compartment_watch(const struct bh_compartment_place *place, struct bh_cgroup_watch *ret_watch, struct bh_error *err)
{
	struct bh_cgroup *cgroup;
	int r = need_cgroup(place, &cgroup, err);

	if (r < 0)
		return r;
	r = bh_cgroup_watch_open(cgroup, ret_watch, err);
	bh_cgroup_free(cgroup);
	return r;
}

const struct bh_isolation_driver bh_isolation_container = {
	.name = "container",
	.create = create,
	.run = run,
	.release = release,
	.start = bh_container_start_remote,
	.abandon = bh_compartment_abandon,
	.exec = exec,
	.pause = bh_compartment_freeze,
	.is_paused = bh_compartment_is_frozen,
	.signal = bh_compartment_signal,
	.take_back = bh_compartment_take_back,
	.update = bh_compartment_update,
	.stats = bh_compartment_stats,
	.pids = bh_compartment_pids,
	.write_stats = bh_compartment_write_stats,
	.watch = bh_compartment_watch,
	.destroy = bh_compartment_destroy,
};
