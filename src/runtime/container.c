/* SPDX-License-Identifier: Apache-2.0 */
/* The isolation driver `container`: a cgroup (src/cgroup) with a process in namespaces (src/container) in it. */
#include "runtime/runtime.h"

#include "base/memory.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

static void end_cgroup(struct bh_cgroup *cgroup)
{
	bh_cgroup_kill(cgroup, NULL);
	bh_cgroup_destroy(cgroup, NULL);
	bh_cgroup_free(cgroup);
}

static int make(const char *path, struct bh_container_create *request, bool run, struct bh_compartment *ret_compartment, struct bh_error *err)
{
	struct bh_compartment compartment = BH_COMPARTMENT_INIT;
	int r = bh_cgroup_create(path, &request->spec->resources, &compartment.cgroup, err);

	if (r < 0)
		return r;
	request->cgroup = compartment.cgroup;
	r = run ? bh_container_run(request, &compartment.process, err) : bh_container_create(request, &compartment.process, err);
	if (r < 0) {
		end_cgroup(compartment.cgroup);
		return r;
	}
	compartment.oom_fd = bh_cgroup_oom_fd(compartment.cgroup);
	*ret_compartment = compartment;
	return 0;
}

static int create(const char *path, struct bh_container_create *request, struct bh_compartment *ret_compartment, struct bh_error *err)
{
	return make(path, request, false, ret_compartment, err);
}

static int run(const char *path, struct bh_container_create *request, struct bh_compartment *ret_compartment, struct bh_error *err)
{
	return make(path, request, true, ret_compartment, err);
}

static int start(struct bh_compartment *compartment, struct bh_error *err)
{
	return bh_container_start(&compartment->process, err);
}

static void abandon(struct bh_compartment *compartment)
{
	/* A start that failed has reaped its process and closed the pidfd. */
	if (compartment->process.pidfd >= 0 && kill(compartment->process.pid, SIGKILL) == 0)
		waitpid(compartment->process.pid, NULL, 0);
	bh_close_fd(&compartment->process.pidfd);
	bh_close_fd(&compartment->process.sync_fd);
	bh_close_fd(&compartment->oom_fd);
	if (compartment->cgroup)
		end_cgroup(compartment->cgroup);
	*compartment = (struct bh_compartment)BH_COMPARTMENT_INIT;
}

static int exec(const char *path, struct bh_container_exec *request, struct bh_container_process *ret_process, struct bh_error *err)
{
	int r = bh_cgroup_open(path, &request->cgroup, err);

	if (r < 0)
		return r;
	r = bh_container_exec(request, ret_process, err);
	bh_cgroup_free(request->cgroup);
	request->cgroup = NULL;
	return r;
}

static int pause_or_resume(const char *path, bool frozen, struct bh_error *err)
{
	struct bh_cgroup *cgroup;
	int r = bh_cgroup_open(path, &cgroup, err);

	if (r < 0)
		return r;
	r = bh_cgroup_freeze(cgroup, frozen, err);
	if (r < 0 && frozen)
		bh_cgroup_freeze(cgroup, false, NULL);
	bh_cgroup_free(cgroup);
	return r;
}

static int is_paused(const char *path, bool *ret_paused, struct bh_error *err)
{
	struct bh_cgroup *cgroup;
	int r = bh_cgroup_open(path, &cgroup, err);

	if (r < 0)
		return r;
	r = bh_cgroup_is_frozen(cgroup, ret_paused, err);
	bh_cgroup_free(cgroup);
	return r;
}

static int send_signal(const char *path, int signal, struct bh_error *err)
{
	struct bh_cgroup *cgroup;
	int r = bh_cgroup_open(path, &cgroup, err);

	if (r < 0)
		return r;
	r = bh_cgroup_signal(cgroup, signal, err);
	bh_cgroup_free(cgroup);
	return r;
}

static int update(const char *path, const struct bh_spec_resources *resources, struct bh_error *err)
{
	struct bh_cgroup *cgroup;
	int r = bh_cgroup_open(path, &cgroup, err);

	if (r < 0)
		return r;
	r = bh_cgroup_update(cgroup, resources, err);
	bh_cgroup_free(cgroup);
	return r;
}

static int stats(const char *path, struct bh_cgroup_stats *ret_stats, struct bh_error *err)
{
	struct bh_cgroup *cgroup;
	int r = bh_cgroup_open(path, &cgroup, err);

	if (r < 0)
		return r;
	r = bh_cgroup_stats(cgroup, ret_stats, err);
	bh_cgroup_free(cgroup);
	return r;
}

static int pids(const char *path, pid_t **ret_pids, size_t *ret_count, struct bh_error *err)
{
	struct bh_cgroup *cgroup;
	int r = bh_cgroup_open(path, &cgroup, err);

	if (r < 0)
		return r;
	r = bh_cgroup_pids(cgroup, ret_pids, ret_count, err);
	bh_cgroup_free(cgroup);
	return r;
}

const struct bh_isolation_driver bh_isolation_container = {
	.name = "container",
	.create = create,
	.run = run,
	.start = start,
	.abandon = abandon,
	.exec = exec,
	.pause = pause_or_resume,
	.is_paused = is_paused,
	.signal = send_signal,
	.update = update,
	.stats = stats,
	.pids = pids,
	.destroy = bh_cgroup_remove,
};
