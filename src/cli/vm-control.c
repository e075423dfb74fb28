/* SPDX-License-Identifier: Apache-2.0 */
/* `vm control`: one request to a running monitor, for scripts and for machines that have no name. */
#include "cli/cli.h"
#include "engine/domain.h"
#include "linux/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define FILES_MAX 4

struct vm_control_options {
	struct bh_strv file, write;
	const char *connect;
};

static const struct bh_option options[] = {
	{ 0, "file", BH_OPTION_LIST, offsetof(struct vm_control_options, file), "FILE", "Hand over this file as it is, for reading and writing", NULL,
	  false },
	{ 0, "write", BH_OPTION_LIST, offsetof(struct vm_control_options, write), "FILE",
	  "Hand over this file, made or emptied: a snapshot's state, then its memory", NULL, false },
	{ 0, "connect", BH_OPTION_STRING, offsetof(struct vm_control_options, connect), "SOCKET|tcp://ADDRESS:PORT",
	  "Hand over a connection to this place: where a machine moves to", NULL, false },
	{ 0 },
};

static json_object *value_of(const char *text)
{
	int64_t number;
	bool flag;

	if (bh_parse_int(text, INT64_MIN, INT64_MAX, &number) == 0)
		return json_object_new_int64(number);
	if (bh_parse_bool(text, &flag) == 0)
		return json_object_new_boolean(flag);
	return json_object_new_string(text);
}

static int open_list(const struct bh_strv *paths, int flags, int files[FILES_MAX], size_t *count, struct bh_error *err)
{
	for (size_t i = 0; i < paths->count; i++) {
		if (*count == FILES_MAX - 1)
			return bh_error_text(err, E2BIG, "more than %d files", FILES_MAX - 1);
		files[*count] = open(paths->items[i], O_RDWR | O_CLOEXEC | flags, 0600);
		if (files[*count] < 0)
			return bh_error_set(err, errno, "open %s", paths->items[i]);
		++*count;
	}
	return 0;
}

static int open_files(const struct vm_control_options *o, int files[FILES_MAX], size_t *count, struct bh_error *err)
{
	int r = open_list(&o->file, 0, files, count, err);

	if (r == 0)
		r = open_list(&o->write, O_CREAT | O_TRUNC, files, count, err);
	if (r == 0 && o->connect) {
		files[*count] = bh_socket_connect(o->connect, err);
		if (files[*count] < 0)
			return files[*count];
		++*count;
	}
	return r;
}

static int run(void *arg, int argc, char **argv)
{
	const struct vm_control_options *o = arg;
	json_object *members = json_object_new_object(), *answer = NULL;
	int files[FILES_MAX];
	size_t count = 0;
	struct bh_error err = BH_ERROR_INIT;
	int r = open_files(o, files, &count, &err);

	for (int i = 2; r == 0 && i < argc; i++) {
		char *equals = strchr(argv[i], '=');
		bh_auto_free char *key = equals ? bh_strndup(argv[i], (size_t)(equals - argv[i])) : NULL;

		if (equals)
			json_object_object_add(members, key, value_of(equals + 1));
		else
			r = bh_error_text(&err, EINVAL, "vm control: %s: KEY=VALUE is expected", argv[i]);
	}
	if (r == 0)
		r = bh_vm_request(argv[0], argv[1], members, files, count, &answer, &err);
	while (count)
		close(files[--count]);
	if (r == 0)
		printf("%s\n", json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PLAIN));
	json_object_put(answer);
	json_object_put(members);
	return r < 0 ? bh_cli_fail(&err, 1) : 0;
}

const struct bh_command bh_command_vm_control = {
	.name = "vm control",
	.group = "Machines",
	.synopsis = "[OPTIONS] SOCKET COMMAND [KEY=VALUE...]",
	.summary = "Send one request to a running monitor and print its answer",
	.description =
		"The commands are those of the control protocol: status, stats, pause, resume, snapshot (incremental=true, track=true; two --write), migrate "
		"(downtime_ms=, timeout_ms=, bandwidth=; --connect), migrate-status, migrate-cancel, plug (device=, at=; --file), unplug (at=, timeout_ms=), stop.",
	.sets = { options },
	.options_size = sizeof(struct vm_control_options),
	.min_arguments = 2,
	.max_arguments = -1,
	.run = run,
};
