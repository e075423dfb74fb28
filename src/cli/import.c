/* SPDX-License-Identifier: Apache-2.0 */
/* import: a root file system becomes an image of one layer. */
#include "cli/image.h"

#include "base/time.h"
#include "image/helper.h"
#include "oci/image-json.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>

struct import_options {
	struct bh_strv changes;
	const char *message, *platform;
};

static const struct bh_option options[] = {
	{ 'c', "change", BH_OPTION_LIST, offsetof(struct import_options, changes), "INSTRUCTION",
	  "Set part of the configuration: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR", NULL, false },
	{ 'm', "message", BH_OPTION_STRING, offsetof(struct import_options, message), "TEXT", "Comment of the image's history", NULL, false },
	{ 0 },
};

/* The next word of an instruction, with quotes and backslashes taken away; NULL at the end. *text moves on. */
static char *next_word(const char **text)
{
	struct bh_buf word = { 0 };
	const char *p = *text;
	char quote = 0;

	while (isspace((unsigned char)*p))
		p++;
	if (!*p)
		return NULL;
	for (; *p && (quote || !isspace((unsigned char)*p)); p++) {
		if (quote && *p == quote)
			quote = 0;
		else if (!quote && (*p == '"' || *p == '\''))
			quote = *p;
		else if (*p == '\\' && p[1] && quote != '\'')
			bh_buf_addc(&word, *++p);
		else
			bh_buf_addc(&word, *p);
	}
	*text = p;
	return bh_buf_take(&word);
}

static struct json_object *get_or_add(struct json_object *config, const char *name, struct json_object *(*make)(void))
{
	struct json_object *value = NULL;

	if (!json_object_object_get_ex(config, name, &value)) {
		value = make();
		json_object_object_add(config, name, value);
	}
	return value;
}

/* ["a", "b"] as it stands, anything else through the shell. */
static int change_command(struct json_object *config, const char *key, const char *text)
{
	struct json_object *list = NULL;

	if (*text == '[' && bh_image_json_parse(text, strlen(text), key, &list, NULL) == 0) {
		struct bh_strv words = { 0 };
		int r = bh_image_json_strings(list, &words);

		bh_strv_clear(&words);
		if (r < 0) {
			json_object_put(list);
			return r;
		}
	} else {
		list = json_object_new_array();
		json_object_array_add(list, json_object_new_string("/bin/sh"));
		json_object_array_add(list, json_object_new_string("-c"));
		json_object_array_add(list, json_object_new_string(text));
	}
	json_object_object_add(config, key, list);
	return 0;
}

static int change_text(struct json_object *config, const char *key, const char *text)
{
	bh_image_json_add(config, key, text);
	return 0;
}

/* "K=v K2=v2", or the old form "K value". */
static int each_pair(const char *text, void (*add)(struct json_object *target, const char *pair), struct json_object *target)
{
	const char *rest = text;
	bh_auto_free char *first = next_word(&rest);

	if (!first)
		return -EINVAL;
	if (!strchr(first, '=')) {
		bh_auto_free char *pair = NULL;

		while (isspace((unsigned char)*rest))
			rest++;
		if (!*rest)
			return -EINVAL;
		pair = bh_printf("%s=%s", first, rest);
		add(target, pair);
		return 0;
	}
	while (first) {
		if (!strchr(first, '=') || *first == '=')
			return -EINVAL;
		add(target, first);
		free(first);
		first = next_word(&rest);
	}
	return 0;
}

static void add_env(struct json_object *env, const char *pair)
{
	size_t length = strcspn(pair, "=") + 1;

	for (size_t i = 0; i < json_object_array_length(env); i++)
		if (strncmp(json_object_get_string(json_object_array_get_idx(env, i)), pair, length) == 0) {
			json_object_array_put_idx(env, i, json_object_new_string(pair));
			return;
		}
	json_object_array_add(env, json_object_new_string(pair));
}

static void add_label(struct json_object *labels, const char *pair)
{
	bh_auto_free char *key = bh_strndup(pair, strcspn(pair, "="));

	bh_image_json_add(labels, key, pair + strlen(key) + 1);
}

static int change_env(struct json_object *config, const char *key, const char *text)
{
	return each_pair(text, add_env, get_or_add(config, key, json_object_new_array));
}

static int change_labels(struct json_object *config, const char *key, const char *text)
{
	return each_pair(text, add_label, get_or_add(config, key, json_object_new_object));
}

static int change_volumes(struct json_object *config, const char *key, const char *text)
{
	struct json_object *set = get_or_add(config, key, json_object_new_object);
	struct json_object *list = NULL;
	bh_auto_free char *word = NULL;

	if (*text == '[' && bh_image_json_parse(text, strlen(text), key, &list, NULL) == 0) {
		struct bh_strv words = { 0 };
		int r = bh_image_json_strings(list, &words);

		for (size_t i = 0; i < words.count; i++)
			json_object_object_add(set, words.items[i], json_object_new_object());
		bh_strv_clear(&words);
		json_object_put(list);
		return r;
	}
	while ((word = next_word(&text))) {
		json_object_object_add(set, word, json_object_new_object());
		free(BH_TAKE_PTR(word));
	}
	return 0;
}

static int change_ports(struct json_object *config, const char *key, const char *text)
{
	struct json_object *set = get_or_add(config, key, json_object_new_object);
	bh_auto_free char *word = NULL;

	for (; (word = next_word(&text)); free(BH_TAKE_PTR(word))) {
		bh_auto_free char *port = bh_strndup(word, strcspn(word, "/"));
		bh_auto_free char *full = strchr(word, '/') ? bh_strdup(word) : bh_printf("%s/tcp", word);
		int64_t number;

		if (bh_parse_int(port, 1, 65535, &number) < 0)
			return -EINVAL;
		json_object_object_add(set, full, json_object_new_object());
	}
	return 0;
}

static const struct {
	const char *instruction, *key;
	int (*apply)(struct json_object *config, const char *key, const char *text);
} instructions[] = {
	{ "CMD", "Cmd", change_command },
	{ "ENTRYPOINT", "Entrypoint", change_command },
	{ "ENV", "Env", change_env },
	{ "EXPOSE", "ExposedPorts", change_ports },
	{ "LABEL", "Labels", change_labels },
	{ "STOPSIGNAL", "StopSignal", change_text },
	{ "USER", "User", change_text },
	{ "VOLUME", "Volumes", change_volumes },
	{ "WORKDIR", "WorkingDir", change_text },
};

int bh_cli_image_change(struct json_object *config, const char *text, struct bh_error *err)
{
	const char *rest = text + strcspn(text, " \t=");
	bh_auto_free char *name = bh_strndup(text, (size_t)(rest - text));

	rest += strspn(rest, " \t") ? strspn(rest, " \t") : *rest == '=';
	for (size_t i = 0; i < BH_ARRAY_SIZE(instructions); i++) {
		if (strcasecmp(instructions[i].instruction, name) != 0)
			continue;
		if (!*rest || instructions[i].apply(config, instructions[i].key, rest) < 0)
			return bh_error_text(err, EINVAL, "--change: '%s': wrong arguments for %s", text, instructions[i].instruction);
		return 0;
	}
	return bh_error_text(err, EINVAL, "--change: '%s' is not an instruction that import knows", name);
}

/* The configuration without its layers, which the helper adds. */
static int make_config(const struct import_options *o, const char *from, struct json_object **ret_config, struct bh_error *err)
{
	bh_auto_json struct json_object *document = json_object_new_object();
	struct json_object *config = json_object_new_object(), *history = json_object_new_array(), *step = json_object_new_object();
	bh_auto_free char *comment = o->message ? bh_strdup(o->message) : bh_printf("Imported from %s", from);
	char now[BH_TIME_TEXT_MAX];

	bh_format_time(bh_now_ns(), now);
	bh_image_json_add(document, "created", now);
	bh_image_json_add(document, "architecture", bh_machine_architecture());
	bh_image_json_add(document, "os", "linux");
	json_object_object_add(document, "config", config);
	bh_image_json_add(step, "created", now);
	bh_image_json_add(step, "comment", comment);
	json_object_array_add(history, step);
	json_object_object_add(document, "history", history);
	for (size_t i = 0; i < o->changes.count; i++) {
		int r = bh_cli_image_change(config, o->changes.items[i], err);

		if (r < 0)
			return r;
	}
	*ret_config = BH_TAKE_PTR(document);
	return 0;
}

/* Opens FILE, DIR or "-" as the job's input. */
static int open_input(const char *from, struct bh_image_job *job, int *fd, struct bh_error *err)
{
	struct stat st;

	*fd = bh_streq(from, "-") ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(from, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (*fd < 0 || fstat(*fd, &st) < 0)
		return bh_error_set(err, errno, "open %s", from);
	if (isatty(*fd))
		return bh_error_text(err, EINVAL, "the archive comes from a terminal; give a file, a folder, or a pipe");
	if (S_ISDIR(st.st_mode))
		job->source_fd = *fd;
	else
		job->input_fd = *fd;
	return 0;
}

static int import(const struct import_options *o, const char *from, const char *name, char ret_id[BH_DIGEST_MAX], struct bh_error *err)
{
	bh_auto_json struct json_object *request = json_object_new_object(), *result = NULL;
	bh_auto_reference struct bh_reference reference = { 0 };
	bh_auto(bh_image_store_close) struct bh_image_store store = BH_IMAGE_STORE_INIT;
	bh_auto_strv struct bh_strv names = { 0 };
	struct bh_image_job job = { "import", request, -1, -1, -1 };
	struct bh_staging staging = BH_STAGING_INIT;
	struct json_object *config = NULL;
	bh_auto_close int input = -1;
	int r = name ? bh_reference_parse(name, &reference, err) : 0;

	if (r == 0 && reference.digest)
		r = bh_error_text(err, EINVAL, "refusing to create a tag with a digest reference");
	if (r == 0)
		r = make_config(o, from, &config, err);
	if (r == 0)
		json_object_object_add(request, "config", config);
	if (r == 0)
		r = open_input(from, &job, &input, err);
	if (r < 0)
		return r;
	if (name)
		bh_strv_take(&names, bh_reference_familiar(&reference));
	json_object_object_add(request, "source", json_object_new_int(job.source_fd >= 0));
	r = bh_cli_image_run(&store, &job, &staging, &names, &result, err);
	if (r == 0)
		snprintf(ret_id, BH_DIGEST_MAX, "%s", bh_image_json_string(json_object_array_get_idx(bh_image_json_array(result, "images"), 0), "id"));
	return r < 0 ? bh_error_prefix(err, "import %s", from) : 0;
}

static int run(void *arg, int argc, char **argv)
{
	struct bh_error err = BH_ERROR_INIT;
	char id[BH_DIGEST_MAX] = "";

	if (import(arg, argv[0], argc > 1 ? argv[1] : NULL, id, &err) < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	printf("%s\n", id);
	return 0;
}

const struct bh_command bh_command_import = {
	.name = "import",
	.alias = "image.import",
	.group = "Images",
	.synopsis = "[OPTIONS] FILE|DIR|- [NAME[:TAG]]",
	.summary = "Make an image of a root file system (tar archive or folder)",
	.sets = { options },
	.options_size = sizeof(struct import_options),
	.min_arguments = 1,
	.max_arguments = 2,
	.run = run,
};
