/* SPDX-License-Identifier: Apache-2.0 */
/* What virtual machines there are, and what they are: vm list, info, stats. */
#include "base/file.h"
#include "base/table.h"
#include "base/time.h"
#include "cli/template.h"
#include "cli/vm-domain.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define EXIT_RECORD_MAX 4096

/* --- list -------------------------------------------------------------------------------------------------------------- */

struct list_options {
	bool all, quiet;
	const char *format;
};

static json_object *row_of(const struct bh_domain *d)
{
	json_object *row = json_object_new_object();
	char memory[32];

	json_object_object_add(row, "Name", json_object_new_string(d->name));
	json_object_object_add(row, "State", json_object_new_string(bh_domain_status_name(d->status)));
	json_object_object_add(row, "Pid", json_object_new_int(d->status == BH_DOMAIN_SHUT_OFF ? 0 : d->pid));
	json_object_object_add(row, "CPUs", json_object_new_int64(d->definition.cpus));
	json_object_object_add(row, "Memory", json_object_new_string(bh_format_bytes_binary((uint64_t)d->definition.memory_bytes, memory)));
	json_object_object_add(row, "Image", json_object_new_string(d->definition.image.reference ? d->definition.image.reference : ""));
	json_object_object_add(row, "Autostart", json_object_new_boolean(d->definition.autostart));
	return row;
}

static int list_main(void *arg, int argc, char **argv)
{
	static const char *const headings[][2] = { { "Name", "NAME" },     { "State", "STATE" }, { "Pid", "PID" }, { "CPUs", "CPUS" },
						   { "Memory", "MEMORY" }, { "Image", "IMAGE" }, { NULL, NULL } };
	const struct list_options *o = arg;
	const struct bh_template_list format = {
		.format = o->quiet ? "{{.Name}}" : o->format,
		.table = "{{.Name}}\t{{.State}}\t{{.Pid}}\t{{.CPUs}}\t{{.Memory}}\t{{.Image}}",
		.headings = headings,
	};
	json_object *rows = json_object_new_array();
	bh_auto_strv struct bh_strv names = { 0 };
	bh_auto_buf struct bh_buf out = { 0 };
	struct bh_error err = BH_ERROR_INIT;
	int r = bh_domain_list(bh_cli.root, &names, &err);

	(void)argc, (void)argv;
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		struct bh_domain domain;

		if (bh_domain_open(bh_cli.root, bh_cli.state, names.items[i], false, &domain, NULL) < 0)
			continue;
		if (o->all || domain.status != BH_DOMAIN_SHUT_OFF)
			json_object_array_add(rows, row_of(&domain));
		bh_domain_clear(&domain);
	}
	if (r == 0)
		r = bh_template_render_list(&format, rows, &out, &err);
	json_object_put(rows);
	fputs(out.data ? out.data : "", stdout);
	return r < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
}

static const struct bh_option list_table[] = {
	{ 'a', "all", BH_OPTION_BOOL, offsetof(struct list_options, all), NULL, "Those that are shut off too", NULL, false },
	{ 'q', "quiet", BH_OPTION_BOOL, offsetof(struct list_options, quiet), NULL, "Names only", NULL, false },
	{ 0, "format", BH_OPTION_STRING, offsetof(struct list_options, format), "FORMAT", "json, table or a Go template", NULL, false },
	{ 0 },
};

const struct bh_command bh_command_vm_list = {
	.name = "vm list",
	.alias = "vm.ls vm.ps",
	.group = "Machines",
	.synopsis = "[OPTIONS]",
	.summary = "List virtual machines",
	.sets = { list_table },
	.options_size = sizeof(struct list_options),
	.max_arguments = 0,
	.run = list_main,
};

/* --- info -------------------------------------------------------------------------------------------------------------- */

struct info_options {
	const char *format;
};

/* How the last run ended: what its monitor's exit status was, and when. */
static void add_last_exit(const struct bh_domain *d, json_object *object)
{
	bh_auto_buf struct bh_buf text = { 0 };
	json_object *record = bh_read_stored_file_at(d->dir_fd, "exit.json", EXIT_RECORD_MAX, &text, NULL) < 0 ? NULL : json_tokener_parse(text.data);
	char finished[BH_TIME_TEXT_MAX];

	if (record) {
		json_object_object_add(object, "exit_code", json_object_new_int((int)bh_json_int(record, "exit_code", 255)));
		json_object_object_add(object, "finished", json_object_new_string(bh_format_time(bh_json_int(record, "finished_ns", 0), finished)));
	}
	json_object_put(record);
}

static json_object *describe(struct bh_domain *d)
{
	bh_auto_free char *text = bh_domain_definition_text(&d->definition);
	json_object *object = json_tokener_parse(text), *snapshots = json_object_new_array();
	bh_auto_strv struct bh_strv names = { 0 };

	bh_domain_snapshots(d, &names, NULL);
	for (size_t i = 0; i < names.count; i++)
		json_object_array_add(snapshots, json_object_new_string(names.items[i]));
	json_object_object_add(object, "name", json_object_new_string(d->name));
	json_object_object_add(object, "state", json_object_new_string(bh_domain_status_name(d->status)));
	json_object_object_add(object, "accelerator", json_object_new_string("kvm"));
	json_object_object_add(object, "snapshots", snapshots);
	if (d->status != BH_DOMAIN_SHUT_OFF) {
		char started[BH_TIME_TEXT_MAX];

		json_object_object_add(object, "pid", json_object_new_int(d->pid));
		json_object_object_add(object, "started", json_object_new_string(bh_format_time(d->started_ns, started)));
	} else {
		add_last_exit(d, object);
	}
	return object;
}

static int info_action(struct bh_domain *domain, void *context, struct bh_error *err)
{
	const struct info_options *o = context;
	json_object *object = describe(domain);
	bh_auto_buf struct bh_buf out = { 0 };
	int r = 0;

	if (!o->format || bh_streq(o->format, "json"))
		bh_buf_addf(&out, "%s\n",
			    json_object_to_json_string_ext(object, o->format ? JSON_C_TO_STRING_PLAIN :
									       JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	else
		r = bh_template_render(o->format, object, &out, err);
	json_object_put(object);
	fputs(out.data ? out.data : "", stdout);
	if (r == 0 && o->format && !bh_streq(o->format, "json"))
		putchar('\n');
	return r;
}

static int info_main(void *arg, int argc, char **argv)
{
	return bh_cli_for_each_domain(argc, argv, false, info_action, arg);
}

static const struct bh_option info_table[] = {
	{ 'f', "format", BH_OPTION_STRING, offsetof(struct info_options, format), "FORMAT", "json or a Go template", NULL, false },
	{ 0 },
};

const struct bh_command bh_command_vm_info = {
	.name = "vm info",
	.alias = "vm.inspect vm.dominfo",
	.group = "Machines",
	.synopsis = "[OPTIONS] NAME [NAME...]",
	.summary = "Show a virtual machine's definition and state",
	.sets = { info_table },
	.options_size = sizeof(struct info_options),
	.min_arguments = 1,
	.max_arguments = -1,
	.run = info_main,
};

/* --- stats ------------------------------------------------------------------------------------------------------------- */

static int stats_action(struct bh_domain *domain, void *context, struct bh_error *err)
{
	json_object *answer = NULL, *balloon = NULL;
	int r = bh_domain_request(domain, "stats", NULL, NULL, 0, &answer, err);

	(void)context;
	if (r < 0)
		return r;
	if (bh_domain_request(domain, "balloon", NULL, NULL, 0, &balloon, NULL) == 0) {
		json_object_object_del(balloon, "ok");
		json_object_object_add(answer, "memory", balloon);
	}
	json_object_object_del(answer, "ok");
	json_object_object_add(answer, "name", json_object_new_string(domain->name));
	printf("%s\n", json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PLAIN));
	json_object_put(answer);
	return 0;
}

static int stats_main(void *arg, int argc, char **argv)
{
	(void)arg;
	return bh_cli_for_each_domain(argc, argv, false, stats_action, NULL);
}

const struct bh_command bh_command_vm_stats = {
	.name = "vm stats",
	.group = "Machines",
	.synopsis = "NAME [NAME...]",
	.summary = "Count the VM exits of running machines by reason and processor, the work of their devices, and their memory (JSON)",
	.min_arguments = 1,
	.max_arguments = -1,
	.run = stats_main,
};
