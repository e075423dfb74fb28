/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cp: files between a container and here, or a tar stream. One side is this process, with the user's own rights; the other one
 * is in the container's compartment (engine/copy.c). Between them is a pipe.
 */
#include "cli/cli.h"
#include "cli/containers.h"
#include "linux/credentials.h"
#include "storage/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#define PIPE_SIZE (1 << 20)
#define WORDS_MAX 1000 /* of the other side's error */

struct cp_options {
	bool archive, follow_link, quiet;
	const char *explain;
};

static const struct bh_option cp_table[] = {
	{ 'a', "archive", BH_OPTION_BOOL, offsetof(struct cp_options, archive), NULL, "Keep user and group ids", NULL, false },
	{ 'L', "follow-link", BH_OPTION_BOOL, offsetof(struct cp_options, follow_link), NULL, "Follow a symbolic link in SRC_PATH", NULL, false },
	{ 'q', "quiet", BH_OPTION_BOOL, offsetof(struct cp_options, quiet), NULL, "Don't tell what was copied", NULL, false },
	{ 0, "explain", BH_OPTION_OPTIONAL, offsetof(struct cp_options, explain), "[=json]", "Tell each real step on stderr", NULL, false },
	{ 0 },
};

/* One of the two arguments, taken apart. */
struct side {
	char *container; /* NULL: it is here */
	char *path;
	bool is_stream; /* "-" */
};

static void side_clear(struct side *s)
{
	bh_free_ptr(&s->container);
	bh_free_ptr(&s->path);
}

/* "NAME:PATH", unless it is a path of here that begins with / or a dot (as Docker's). */
static void parse_side(const char *text, struct side *ret_side)
{
	const char *colon = strchr(text, ':');

	*ret_side = (struct side){ .is_stream = bh_streq(text, "-") };
	if (!colon || colon == text || *text == '/' || *text == '.') {
		ret_side->path = bh_strdup(text);
		return;
	}
	ret_side->container = bh_strndup(text, (size_t)(colon - text));
	ret_side->path = colon[1] == '/' ? bh_strdup(colon + 1) : bh_printf("/%s", colon + 1);
}

static int check_sides(const struct side *source, const struct side *destination, struct bh_error *err)
{
	if (source->container && destination->container)
		return bh_error_text(err, EINVAL,
				     "copying between containers is not supported: copy to a folder of this machine, or through a pipe, first");
	if (!source->container && !destination->container)
		return bh_error_text(err, EINVAL, "one of source and destination must be a container: CONTAINER:PATH");
	if (!*source->path || !*destination->path)
		return bh_error_text(err, EINVAL, "an empty path can't be copied");
	return 0;
}

/* --- a stream as it is -------------------------------------------------------------------------------------------------- */

static int pump(int from, int to, const char *what, struct bh_error *err)
{
	static char bytes[1 << 18];

	for (;;) {
		ssize_t n = read(from, bytes, sizeof bytes);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? bh_error_set(err, errno, "read %s", what) : 0;
		r = bh_write_all(to, bytes, (size_t)n);
		if (r < 0)
			return bh_error_set(err, -r, "write %s", what);
	}
}

/* --- the two directions ------------------------------------------------------------------------------------------------- */

/* Ends the other side and takes its word. 0, or its failure; `own`: what this side has failed with, or 0. */
static int finish(const struct bh_container *c, struct bh_exec *exec, int own, struct bh_error *err)
{
	bh_auto_buf struct bh_buf words = { 0 };
	int status = 0;

	bh_close_fd(&exec->stdin_fd);
	bh_close_fd(&exec->stdout_fd);
	bh_read_fd(exec->stderr_fd, 1u << 16, &words);
	while (waitpid(exec->pid, &status, 0) < 0 && errno == EINTR)
		;
	bh_exec_close(exec);
	/* A pipe that broke, and an archive that ended, are what the other side's failure looks like from here. */
	if (own < 0 && own != -EPIPE && own != -EBADMSG)
		return own;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return own;
	if (words.length > WORDS_MAX)
		words.data[WORDS_MAX] = '\0';
	if (!words.length || (own < 0 && strstr(words.data, strerror(EPIPE))))
		return own < 0 ? own : bh_error_text(err, EIO, "container %s: the copy's other side was killed", c->name);
	return bh_error_text(err, EIO, "container %s: %s", c->name, words.data);
}

static int copy_out(const struct cp_options *o, const struct bh_exec *exec, const struct side *to, uint64_t *ret_bytes, struct bh_error *err)
{
	const struct bh_transfer_unpack unpack = {
		.destination = { -1, to->path },
		.keep_owners = o->archive,
		.uid = geteuid(),
		.gid = getegid(),
		.drop_set_id = true,
	};
	int r;

	if (!to->is_stream)
		return bh_transfer_unpack(&unpack, exec->stdout_fd, ret_bytes, err);
	r = pump(exec->stdout_fd, STDOUT_FILENO, "standard output", err);
	return r == -EPIPE ? -EIO : r; /* it isn't the container's side that has gone */
}

static int copy_in(const struct cp_options *o, const struct bh_exec *exec, const struct side *from, uint64_t *ret_bytes, struct bh_error *err)
{
	const struct bh_transfer_place place = { -1, from->path };

	if (!from->is_stream)
		return bh_transfer_pack(&place, o->follow_link, exec->stdin_fd, ret_bytes, err);
	return pump(STDIN_FILENO, exec->stdin_fd, "standard input", err);
}

static int copy(const struct cp_options *o, struct bh_engine *engine, const struct side *from, const struct side *to, struct bh_error *err)
{
	bool into = to->container;
	const struct bh_transfer_request request = {
		.path = into ? to->path : from->path,
		.is_unpack = into,
		.follow_link = o->follow_link,
		.is_foreign = into && from->is_stream,
		.keep_owners = o->archive,
	};
	struct bh_container container;
	struct bh_exec exec;
	char size[32];
	uint64_t bytes = 0;
	int r = bh_engine_copy(engine, into ? to->container : from->container, &request, &container, &exec, err);

	if (r < 0)
		return r;
	fcntl(into ? exec.stdin_fd : exec.stdout_fd, F_SETPIPE_SZ, PIPE_SIZE); /* fewer turns, if it may be */
	/* What comes out may be written by whoever has taken over a guest. */
	r = bh_capabilities_keep_for_files(err);
	if (r == 0)
		r = into ? copy_in(o, &exec, from, &bytes, err) : copy_out(o, &exec, to, &bytes, err);
	r = finish(&container, &exec, r, err);
	bh_container_clear(&container);
	if (r == 0 && !o->quiet && !from->is_stream && !to->is_stream && isatty(STDOUT_FILENO))
		dprintf(STDERR_FILENO, "Successfully copied %s to %s%s%s\n", bh_format_bytes_decimal(bytes, size), into ? to->container : "",
			into ? ":" : "", to->path);
	return r;
}

static int cp_main(void *options, int argc, char **argv)
{
	const struct cp_options *o = options;
	bh_auto(side_clear) struct side from, to;
	struct bh_error err = BH_ERROR_INIT;
	struct bh_engine engine;
	int r;

	(void)argc;
	parse_side(argv[0], &from);
	parse_side(argv[1], &to);
	signal(SIGPIPE, SIG_IGN); /* a broken pipe has a reason, which is told */
	r = check_sides(&from, &to, &err);
	if (r == 0)
		r = bh_cli_enable_explain(o->explain, &err);
	if (r == 0)
		r = bh_engine_open(bh_cli.root, bh_cli.state, &engine, &err);
	if (r < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	r = copy(o, &engine, &from, &to, &err);
	bh_engine_close(&engine);
	return r < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
}

const struct bh_command bh_command_cp = {
	.name = "cp",
	.group = "Containers",
	.synopsis = "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- | [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
	.summary = "Copy files between a container and this machine",
	.description = "The container may run, be paused or stopped. A paused microVM can't answer; for a stopped one a machine is started that does only this.\n\n"
		       "A file or folder is copied into DEST_PATH if that is a folder, else under that name, whose folder must be there; "
		       "SRC_PATH/. means what is in the folder, without it. With a slash behind it DEST_PATH has to be a folder, if a file is "
		       "copied. Symbolic links are kept; one that SRC_PATH itself names is followed with -L, one that DEST_PATH names always. "
		       "Permissions and times are kept. Owners are root in the container, and who runs the command outside; with -a they "
		       "keep their numbers, those that the container sees. Without -a a file whose owner changes, and any that comes out, "
		       "loses its set-user-ID and set-group-ID bits.\n\n"
		       "- is a tar archive on standard output or standard input; the latter is unpacked in DEST_PATH, which must be a folder. "
		       "Paths in the container are those below its root, wherever links there lead.",
	.sets = { cp_table },
	.options_size = sizeof(struct cp_options),
	.min_arguments = 2,
	.max_arguments = 2,
	.run = cp_main,
};
