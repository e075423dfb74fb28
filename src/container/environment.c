/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The environment of the workload: the configuration's, with each name once (the last one counts) and a HOME.
 *
 * Callers of runc rely on both (shells and ssh-like tools need HOME). HOME comes from the container's own /etc/passwd by the
 * user's number, "/" if it isn't there. All of it costs nothing when the configuration has HOME and no name twice.
 */
#include "container/container-internal.h"

static size_t name_length(const char *item)
{
	return strcspn(item, "=");
}

static bool same_name(const char *a, const char *b)
{
	size_t length = name_length(a);

	return length == name_length(b) && memcmp(a, b, length) == 0;
}

static bool is_overridden(const struct bh_strv *env, size_t index)
{
	for (size_t i = index + 1; i < env->count; i++)
		if (same_name(env->items[i], env->items[index]))
			return true;
	return false;
}

static bool has_duplicates(const struct bh_strv *env)
{
	for (size_t i = 0; i < env->count; i++)
		if (is_overridden(env, i))
			return true;
	return false;
}

int bh_child_environment(struct bh_job *job, struct bh_error *err)
{
	const struct bh_strv *env = &job->process->env;
	const char *home = bh_env_get(env, "HOME");
	bool needs_home = !home || !*home;

	(void)err;
	if (!needs_home && !has_duplicates(env))
		return 0;
	for (size_t i = 0; i < env->count; i++)
		if (!is_overridden(env, i) && !(needs_home && same_name(env->items[i], "HOME")))
			bh_strv_add(&job->environment, env->items[i]);
	if (needs_home) {
		bh_auto_free char *found = bh_home_of_user(job->root_fd, job->process->user.uid);

		bh_strv_addf(&job->environment, "HOME=%s", found);
	}
	return 0;
}

char *const *bh_child_environment_items(const struct bh_job *job)
{
	static char *const none[] = { NULL };
	const struct bh_strv *wanted = job->environment.count ? &job->environment : &job->process->env;

	return wanted->items ? wanted->items : none;
}
