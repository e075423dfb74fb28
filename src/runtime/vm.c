/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The isolation driver `vm`: a cgroup with a microVM (src/microvm) in it. Its first process is the microVM's session, which passes
 * on signals and ends as the workload does; so of what a container's driver does, most is the same.
 */
#include "runtime/runtime-internal.h"

#include "base/memory.h"

#include <errno.h>

static int run(const struct bh_compartment_place *place, struct bh_container_create *request, struct bh_compartment *ret_compartment,
	       struct bh_error *err)
{
	struct bh_compartment compartment = BH_COMPARTMENT_INIT;
	struct bh_container_stdio *stdio = request->stdio;
	struct bh_microvm_start start = {
		.vm = place->microvm,
		.spec = request->spec,
		.id = request->id,
		.state = place->state,
		.stdin_fd = stdio->stdin_fd,
		.stdout_fd = stdio->stdout_fd,
		.stderr_fd = stdio->stderr_fd,
		.dies_with_caller = request->keep_in_parent_fate,
		.cloned = request->cloned,
		.cloned_context = request->cloned_context,
	};
	struct bh_spec_resources resources;
	int r = bh_microvm_check(request->spec, err);

	stdio->ret_terminal_fd = -1;
	if (r == 0)
		r = bh_microvm_resources(place->microvm, request->spec, &resources, err);
	if (r == 0)
		r = bh_compartment_make_cgroup(place, &resources, &compartment.cgroup, err);
	if (r < 0)
		return r;
	start.cgroup = compartment.cgroup;
	r = bh_microvm_start(&start, &compartment.process.pid, &compartment.process.pidfd, &stdio->ret_terminal_fd, err);
	if (r < 0) {
		if (compartment.cgroup)
			bh_compartment_end_cgroup(compartment.cgroup);
		return r;
	}
	compartment.oom_fd = compartment.cgroup && !place->request ? bh_cgroup_oom_fd(compartment.cgroup) : -1;
	*ret_compartment = compartment;
	return 0;
}

/* There is nothing in a machine between its making and its start that could wait for the start. */
static int create(const struct bh_compartment_place *place, struct bh_container_create *request, struct bh_compartment *ret_compartment,
		  struct bh_error *err)
{
	(void)place, (void)request, (void)ret_compartment;
	return bh_error_text(err, ENOTSUP, "a microVM is created and started in one");
}

static int start(struct bh_compartment *compartment, struct bh_error *err)
{
	(void)compartment;
	return bh_error_text(err, ENOTSUP, "a microVM is created and started in one");
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

const struct bh_isolation_driver bh_isolation_vm = {
	.name = "vm",
	.has_own_kernel = true,
	.create = create,
	.run = run,
	.start = start,
	.abandon = bh_compartment_abandon,
	.exec = exec,
	.pause = pause_or_resume,
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
