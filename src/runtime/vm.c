/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The isolation driver `vm`: a cgroup with a microVM (src/microvm) in it. Its first process is the microVM's session, which passes
 * on signals and ends as the workload does; so of what a container's driver does, most is the same.
 */
#include "runtime/runtime-internal.h"

#include "base/memory.h"

#include <errno.h>

/* An OCI runtime's request has its configuration's resources, which are the machine's and not those of what runs in it. */
static int make_cgroup(const struct bh_compartment_place *place, const struct bh_spec *spec, struct bh_cgroup **ret_cgroup, struct bh_error *err)
{
	struct bh_compartment_place own = *place;
	struct bh_cgroup_request request;
	struct bh_spec_resources resources = bh_microvm_resources(place->microvm, spec);

	if (place->request) {
		request = *place->request;
		request.resources = &resources;
		own.request = &request;
	}
	return bh_compartment_make_cgroup(&own, &resources, ret_cgroup, err);
}

static int make(const struct bh_compartment_place *place, struct bh_container_create *request, bool waits, struct bh_compartment *ret_compartment,
		struct bh_error *err)
{
	struct bh_compartment compartment = BH_COMPARTMENT_INIT;
	struct bh_container_stdio *stdio = request->stdio;
	struct bh_microvm_process process;
	struct bh_microvm_start start = {
		.vm = place->microvm,
		.spec = request->spec,
		.id = request->id,
		.state = place->state,
		.stdin_fd = stdio->stdin_fd,
		.stdout_fd = stdio->stdout_fd,
		.stderr_fd = stdio->stderr_fd,
		.dies_with_caller = request->keep_in_parent_fate,
		.waits = waits,
		.cloned = request->cloned,
		.cloned_context = request->cloned_context,
	};
	int r = bh_microvm_check(request->spec, err);

	stdio->ret_terminal_fd = -1;
	if (r == 0)
		r = make_cgroup(place, request->spec, &compartment.cgroup, err);
	if (r < 0)
		return r;
	request->cgroup = start.cgroup = compartment.cgroup;
	r = bh_microvm_start(&start, &process, err);
	if (r < 0) {
		if (compartment.cgroup)
			bh_compartment_end_cgroup(compartment.cgroup);
		return r;
	}
	stdio->ret_terminal_fd = process.terminal_fd;
	compartment.process = (struct bh_container_process){ .pid = process.pid, .pidfd = process.pidfd, .sync_fd = process.sync_fd };
	compartment.oom_fd = compartment.cgroup && !place->request ? bh_cgroup_oom_fd(compartment.cgroup) : -1;
	*ret_compartment = compartment;
	return 0;
}

/* What waits is a machine whose guest is up. */
static int create(const struct bh_compartment_place *place, struct bh_container_create *request, struct bh_compartment *ret_compartment,
		  struct bh_error *err)
{
	return make(place, request, true, ret_compartment, err);
}

static int run(const struct bh_compartment_place *place, struct bh_container_create *request, struct bh_compartment *ret_compartment,
	       struct bh_error *err)
{
	return make(place, request, false, ret_compartment, err);
}

static int release(struct bh_compartment *compartment, struct bh_error *err)
{
	return bh_microvm_release(&compartment->process.sync_fd, err);
}

static int exec(const struct bh_compartment_place *place, struct bh_container_exec *request, struct bh_container_process *ret_process,
		struct bh_error *err)
{
	const struct bh_microvm_exec exec = {
		.state = place->state,
		.id = request->id,
		.spec = request->spec,
		.process = request->process,
		.user = place->microvm ? place->microvm->user : NULL,
		.groups = place->microvm ? place->microvm->groups : NULL,
		.privileged = request->privileged,
		.list = place->microvm && place->microvm->list,
		.transfer = place->microvm ? place->microvm->transfer : NULL,
		.stdin_fd = request->stdio->stdin_fd,
		.stdout_fd = request->stdio->stdout_fd,
		.stderr_fd = request->stdio->stderr_fd,
	};
	struct bh_container_process process = { .pid = -1, .pidfd = -1, .sync_fd = -1 };
	int r;

	request->stdio->ret_terminal_fd = -1;
	r = bh_microvm_exec(&exec, &process.pid, &process.pidfd, &request->stdio->ret_terminal_fd, err);
	if (r == 0)
		*ret_process = process;
	return r;
}

static int pause_or_resume(const struct bh_compartment_place *place, bool pause, struct bh_error *err)
{
	return bh_microvm_pause(place->state, pause, err);
}

static int is_paused(const struct bh_compartment_place *place, bool *ret_paused, struct bh_error *err)
{
	(void)err;
	*ret_paused = bh_microvm_is_paused(place->state);
	return 0;
}

static int end(const struct bh_compartment_place *place, struct bh_error *err)
{
	return bh_microvm_is_paused(place->state) ? bh_error_text(err, EBUSY, "the microVM is paused") : bh_microvm_end(place->state, err);
}

/* Limits of processors and devices of the host. The machine's size is what it was made with; engines say it again with what they change. */
static int update(const struct bh_compartment_place *place, const struct bh_spec_resources *resources, struct bh_error *err)
{
	struct bh_spec_resources own = *resources;

	if (own.memory.limit.set && own.memory.limit.value != bh_microvm_memory_limit(place->state))
		return bh_error_text(err, ENOTSUP, "memory: a microVM has what it was made with");
	if (own.pids_limit.set)
		return bh_error_text(err, ENOTSUP, "pids: the limit is inside the microVM, as it was made");
	own.memory.limit.set = own.memory.swap.set = own.memory.reservation.set = false;
	own.devices = NULL;
	own.device_count = 0;
	return bh_compartment_update(place, &own, err);
}

const struct bh_isolation_driver bh_isolation_vm = {
	.name = "vm",
	.has_own_kernel = true,
	.create = create,
	.run = run,
	.release = release,
	.start = bh_microvm_start_waiting,
	.abandon = bh_compartment_abandon,
	.exec = exec,
	.pause = pause_or_resume,
	.is_paused = is_paused,
	.signal = bh_compartment_signal,
	.end = end,
	.take_back = bh_compartment_take_back,
	.update = update,
	.stats = bh_compartment_stats,
	.pids = bh_compartment_pids,
	.write_stats = bh_compartment_write_stats,
	.watch = bh_compartment_watch,
	.destroy = bh_compartment_destroy,
};
