/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that take a container and little else: start, state, pause, resume, kill, delete. */
#include "cli/oci/oci.h"

#include <errno.h>
#include <regex.h>
#include <signal.h>
#include <stdio.h>

/* --- start, pause, resume --------------------------------------------------------------------------------------------- */

static int with_container(char **argv, int (*act)(struct bh_bundle *, struct bh_error *))
{
	struct bh_bundle bundle = BH_BUNDLE_INIT_VALUE;
	struct bh_error err = BH_ERROR_INIT;
	int r = bh_oci_open(argv, false, &bundle, &err);

	if (r == 0) {
		r = act(&bundle, &err);
		bh_bundle_close(&bundle);
	}
	return r < 0 ? bh_oci_fail(&err, 1) : 0;
}

static int start_it(struct bh_bundle *bundle, struct bh_error *err)
{
	const char *manager = getenv("NOTIFY_SOCKET");
	int r = manager && *manager ? bh_bundle_listen_notify(bundle, err) : 0;

	if (r == 0)
		r = bh_bundle_start(bundle, err);
	if (r == 0)
		bh_bundle_wait_notify(bundle, manager);
	return r;
}

static int start_run(void *options, int argc, char **argv)
{
	(void)options, (void)argc;
	return with_container(argv, start_it);
}

static int pause_it(struct bh_bundle *bundle, struct bh_error *err)
{
	return bh_bundle_pause(bundle, true, err);
}

static int pause_run(void *options, int argc, char **argv)
{
	(void)options, (void)argc;
	return with_container(argv, pause_it);
}

static int resume_it(struct bh_bundle *bundle, struct bh_error *err)
{
	return bh_bundle_pause(bundle, false, err);
}

static int resume_run(void *options, int argc, char **argv)
{
	(void)options, (void)argc;
	return with_container(argv, resume_it);
}

static int print_state(struct bh_bundle *bundle, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };

	(void)err;
	bh_bundle_state(bundle, "", true, &text);
	printf("%s\n", text.data);
	return 0;
}

static int state_run(void *options, int argc, char **argv)
{
	(void)options, (void)argc;
	return with_container(argv, print_state);
}

#define SIMPLE(command, text)                                \
	const struct bh_command bh_oci_command_##command = { \
		.name = #command,                            \
		.synopsis = "CONTAINER",                     \
		.summary = text,                             \
		.min_arguments = 1,                          \
		.max_arguments = 1,                          \
		.run = command##_run,                        \
	}
SIMPLE(start, "Let the process of a created container run");
SIMPLE(state, "Tell a container's state as JSON");
SIMPLE(pause, "Suspend all processes of a container");
SIMPLE(resume, "Let the processes of a paused container go on");

/* --- all whose ids match ------------------------------------------------------------------------------------------------ */

/* One with which it fails doesn't keep the others; each has its own words. */
static int with_matching(const char *expression, int (*act)(char *id, void *context, struct bh_error *err), void *context, struct bh_error *err)
{
	bh_auto_strv struct bh_strv ids = { 0 };
	regex_t regex;
	char words[200];
	int r, failed = 0;

	r = regcomp(&regex, expression, REG_EXTENDED | REG_NOSUB);
	if (r != 0) {
		regerror(r, &regex, words, sizeof words);
		return bh_error_text(err, EINVAL, "--regex \"%.200s\": %s", expression, words);
	}
	r = bh_bundle_list(bh_oci.root, &ids, err);
	for (size_t i = 0; r == 0 && i < ids.count; i++) {
		struct bh_error why = BH_ERROR_INIT;

		if (regexec(&regex, ids.items[i], 0, NULL, 0) != 0 || act(ids.items[i], context, &why) == 0)
			continue;
		bh_oci_fail(&why, 1);
		failed++;
	}
	regfree(&regex);
	return failed ? bh_error_text(err, EBUSY, "it failed for %d of the containers that match \"%.200s\"", failed, expression) : r;
}

/* --- kill ------------------------------------------------------------------------------------------------------------- */

struct kill_options {
	bool all, regex;
	int signal; /* not an option */
};

static const struct bh_option kill_options[] = {
	{ 'a', "all", BH_OPTION_BOOL, offsetof(struct kill_options, all), NULL, "Send it to every process of the container", NULL, false },
	{ 'r', "regex", BH_OPTION_BOOL, offsetof(struct kill_options, regex), NULL,
	  "CONTAINER is an extended regular expression: every container whose id has a match", NULL, false },
	{ 0 },
};

/* "KILL", "sigkill", "SIGRTMIN+3", "9". */
static int parse_signal(const char *text, int *ret_signal, struct bh_error *err)
{
	const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;
	int64_t number;

	if (bh_parse_int(text, 0, SIGRTMAX, &number) == 0) {
		*ret_signal = (int)number;
		return 0;
	}
	for (int i = 1; i < SIGRTMIN; i++) {
		const char *known = sigabbrev_np(i);

		if (known && strcasecmp(known, name) == 0) {
			*ret_signal = i;
			return 0;
		}
	}
	if (strncasecmp(name, "RTMIN", 5) == 0 && (!name[5] || (name[5] == '+' && bh_parse_int(name + 6, 0, SIGRTMAX - SIGRTMIN, &number) == 0))) {
		*ret_signal = SIGRTMIN + (name[5] ? (int)number : 0);
		return 0;
	}
	return bh_error_text(err, EINVAL, "unknown signal \"%.40s\"", text);
}

static int kill_it(char *id, void *context, struct bh_error *err)
{
	const struct kill_options *o = context;
	struct bh_bundle bundle = BH_BUNDLE_INIT_VALUE;
	int r = bh_oci_open(&id, false, &bundle, err);

	if (r < 0)
		return r;
	r = bh_bundle_kill(&bundle, o->signal, o->all, err);
	bh_bundle_close(&bundle);
	return r;
}

static int kill_command(void *arg, int argc, char **argv)
{
	struct kill_options *o = arg;
	struct bh_error err = BH_ERROR_INIT;
	int r = 0;

	o->signal = SIGTERM;
	if (argc > 1)
		r = parse_signal(argv[1], &o->signal, &err);
	if (r == 0)
		r = o->regex ? with_matching(argv[0], kill_it, o, &err) : kill_it(argv[0], o, &err);
	return r < 0 ? bh_oci_fail(&err, 1) : 0;
}

const struct bh_command bh_oci_command_kill = {
	.name = "kill",
	.synopsis = "[OPTIONS] CONTAINER [SIGNAL]",
	.summary = "Send a signal (default TERM) to a container's first process",
	.description = "The signal is a name, with or without SIG, or a number. KILL for a container that shares the host's process ids "
		       "goes to all its processes.",
	.sets = { kill_options },
	.options_size = sizeof(struct kill_options),
	.min_arguments = 1,
	.max_arguments = 2,
	.run = kill_command,
};

/* --- delete ----------------------------------------------------------------------------------------------------------- */

struct delete_options {
	bool force, regex;
};

static const struct bh_option delete_options[] = {
	{ 'f', "force", BH_OPTION_BOOL, offsetof(struct delete_options, force), NULL, "Kill it first; success if there is none", NULL, false },
	{ 'r', "regex", BH_OPTION_BOOL, offsetof(struct delete_options, regex), NULL,
	  "CONTAINER is an extended regular expression: remove every container whose id has a match", NULL, false },
	{ 0 },
};

static int delete_one(char *id, bool force, struct bh_error *err)
{
	struct bh_bundle bundle = BH_BUNDLE_INIT_VALUE;
	int r = bh_oci_open(&id, true, &bundle, err);

	if (r == -ENOENT && force)
		return 0;
	if (r < 0)
		return r;
	r = bh_bundle_delete(&bundle, force, err);
	bh_bundle_close(&bundle);
	return r;
}

static int delete_it(char *id, void *context, struct bh_error *err)
{
	const struct delete_options *o = context;

	return delete_one(id, o->force, err);
}

static int delete_command(void *arg, int argc, char **argv)
{
	const struct delete_options *o = arg;
	struct bh_error err = BH_ERROR_INIT;
	int r = o->regex ? with_matching(argv[0], delete_it, arg, &err) : delete_one(argv[0], o->force, &err);

	(void)argc;
	return r < 0 ? bh_oci_fail(&err, 1) : 0;
}

const struct bh_command bh_oci_command_delete = {
	.name = "delete",
	.synopsis = "[OPTIONS] CONTAINER",
	.summary = "Remove a stopped container",
	.description = "Removes the cgroup with what is left in it and the state, and calls the poststop hooks. One that is created but was"
		       " never started is killed first; a running one only with --force. With --regex these are all containers of the state"
		       " folder whose ids have a match of the POSIX extended regular expression (regex(7)), anywhere unless it is anchored.",
	.sets = { delete_options },
	.options_size = sizeof(struct delete_options),
	.min_arguments = 1,
	.max_arguments = 1,
	.run = delete_command,
};
