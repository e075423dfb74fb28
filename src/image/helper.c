/* SPDX-License-Identifier: Apache-2.0 */
#include "image/helper.h"

#include "base/file.h"
#include "oci/image-json.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* Beside the running program (build tree), or in libexec (installed). */
static char *helper_path(void)
{
	bh_auto_free char *folder = bh_program_dir();
	bh_auto_free char *beside = bh_printf("%s/bulkhead-image", folder);

	if (access(beside, X_OK) == 0)
		return BH_TAKE_PTR(beside);
	return bh_printf("%s/../libexec/bulkhead/bulkhead-image", folder);
}

/* In the child: puts the fds in their places and executes. All of them are first lifted above the target range. */
static _Noreturn void execute(const char *path, char *const argv[], const int (*places)[2], size_t count, pid_t parent)
{
	static char *const environment[] = { NULL };
	int lifted[8];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(125);
	for (size_t i = 0; i < count; i++) {
		lifted[i] = fcntl(places[i][0], F_DUPFD_CLOEXEC, 16);
		if (lifted[i] < 0)
			_exit(125);
	}
	for (size_t i = 0; i < count; i++)
		if (dup2(lifted[i], places[i][1]) < 0)
			_exit(125);
	close_range(BH_HELPER_SOURCE_FD + 1, ~0U, CLOSE_RANGE_CLOEXEC);
	execve(path, argv, environment);
	dprintf(BH_HELPER_RESULT_FD, "{\"error\":\"execute %s: %s\",\"errno\":%d}", path, strerror(errno), errno);
	_exit(125);
}

static int start(struct bh_image_store *store, const struct bh_image_job *job, const struct bh_staging *staging, int result_fd, pid_t *ret_pid,
		 struct bh_error *err)
{
	bh_auto_free char *path = helper_path();
	bh_auto_close int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
	char *argv[] = { path, (char *)job->verb, (char *)bh_image_json_text(job->request), NULL };
	const int places[][2] = {
		{ job->input_fd >= 0 ? job->input_fd : nothing, 0 },
		{ job->output_fd >= 0 ? job->output_fd : nothing, 1 },
		{ result_fd, BH_HELPER_RESULT_FD },
		{ staging->fd, BH_HELPER_STAGING_FD },
		{ store->root_fd, BH_HELPER_ROOT_FD },
		{ job->source_fd >= 0 ? job->source_fd : nothing, BH_HELPER_SOURCE_FD },
	};
	pid_t self = getpid(), pid;

	if (nothing < 0)
		return bh_error_set(err, errno, "open /dev/null");
	pid = fork();
	if (pid < 0)
		return bh_error_set(err, errno, "start %s", path);
	if (pid == 0)
		execute(path, argv, places, BH_ARRAY_SIZE(places), self);
	*ret_pid = pid;
	return 0;
}

static int read_result(const struct bh_buf *text, int status, struct json_object **ret_result, struct bh_error *err)
{
	bh_auto_json struct json_object *result = NULL;
	const char *error;
	int r;

	if (WIFSIGNALED(status))
		return bh_error_text(err, EIO, "bulkhead-image was ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	if (!text->length)
		return bh_error_text(err, EIO, "bulkhead-image ended with status %d and no result", WEXITSTATUS(status));
	r = bh_image_json_parse(text->data, text->length, "result of bulkhead-image", &result, err);
	if (r < 0)
		return r;
	error = bh_image_json_string(result, "error");
	if (error)
		return bh_error_text(err, (int)bh_image_json_int(result, "errno", EINVAL), "%s", error);
	*ret_result = BH_TAKE_PTR(result);
	return 0;
}

int bh_image_helper_run(struct bh_image_store *store, const struct bh_image_job *job, struct bh_staging *staging, struct json_object **ret_result,
			struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	bh_auto_close int read_end = -1;
	int ends[2], status = 0, r, waited;
	pid_t pid = -1;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return bh_error_set(err, errno, "pipe for bulkhead-image");
	read_end = ends[0];
	r = start(store, job, staging, ends[1], &pid, err);
	close(ends[1]);
	if (r < 0)
		return r;
	r = bh_read_fd(read_end, BH_HELPER_RESULT_MAX, &text);
	bh_close_fd(&read_end);
	do
		waited = waitpid(pid, &status, 0);
	while (waited < 0 && errno == EINTR);
	if (waited < 0)
		return bh_error_set(err, errno, "wait for bulkhead-image");
	if (r < 0)
		return bh_error_set(err, -r, "read the result of bulkhead-image");
	return read_result(&text, status, ret_result, err);
}

int bh_image_helper_unpack(struct bh_image_store *store, const struct bh_manifest *manifest, const struct bh_strv *diff_ids, struct bh_error *err)
{
	bh_auto_json struct json_object *request = json_object_new_object(), *result = NULL;
	struct json_object *layers = json_object_new_array();
	struct bh_image_job job = { "unpack", request, -1, -1, -1 };
	struct bh_staging staging = BH_STAGING_INIT;
	struct bh_strv no_names = { 0 };
	int r;

	json_object_object_add(request, "layers", layers);
	for (size_t i = 0; i < manifest->layer_count; i++) {
		struct json_object *layer;

		if (bh_image_layer_exists(store, diff_ids->items[i]))
			continue;
		layer = json_object_new_object();
		bh_image_json_add(layer, "digest", manifest->layers[i].digest);
		bh_image_json_add(layer, "diff_id", diff_ids->items[i]);
		json_object_array_add(layers, layer);
	}
	r = bh_staging_create(store, &staging, err);
	if (r == 0)
		r = bh_image_helper_run(store, &job, &staging, &result, err);
	if (r == 0)
		r = bh_image_commit(store, &staging, result, &no_names, err);
	bh_staging_remove(store, &staging);
	return r;
}
