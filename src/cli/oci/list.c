/* SPDX-License-Identifier: Apache-2.0 */
/* list: the containers of a state root. */
#include "cli/oci/oci.h"

#include "base/file.h"
#include "base/table.h"
#include "base/time.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define PASSWD_MAX (4u << 20)

struct list_options {
	const char *format;
	bool quiet;
};

static const struct bh_option options[] = {
	{ 'f', "format", BH_OPTION_STRING, offsetof(struct list_options, format), "FORMAT", "table or json (default table)", NULL, false },
	{ 'q', "quiet", BH_OPTION_BOOL, offsetof(struct list_options, quiet), NULL, "Only the ids", NULL, false },
	{ 0 },
};

/* The name in the host's passwd(5), or "#UID". Read by hand: getpwuid would load shared objects. */
static char *owner_name(uid_t uid)
{
	bh_auto_buf struct bh_buf passwd = { 0 };
	bh_auto_strv struct bh_strv lines = { 0 };

	if (bh_read_stored_file_at(AT_FDCWD, "/etc/passwd", PASSWD_MAX, &passwd, NULL) == 0 && passwd.length)
		lines = bh_strv_split(passwd.data, '\n');
	for (size_t i = 0; i < lines.count; i++) {
		bh_auto_strv struct bh_strv fields = bh_strv_split(lines.items[i], ':');
		uint64_t number;

		if (fields.count > 2 && bh_parse_uint(fields.items[2], UINT32_MAX, &number) == 0 && number == uid)
			return bh_strdup(fields.items[0]);
	}
	return bh_printf("#%u", (unsigned)uid);
}

static void add_row(struct bh_table *table, const struct bh_bundle *b, const char *owner)
{
	char created[BH_TIME_TEXT_MAX];

	bh_table_add(table, b->id);
	bh_table_addf(table, "%d", (int)b->pid);
	bh_table_add(table, bh_bundle_status_name(b->status));
	bh_table_add(table, b->bundle ? b->bundle : "");
	bh_table_add(table, bh_format_time(b->created_ns, created));
	bh_table_add(table, owner);
}

static int run(void *arg, int argc, char **argv)
{
	static const char *const headings[] = { "ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER", NULL };
	const struct list_options *o = arg;
	bh_auto_strv struct bh_strv ids = { 0 };
	bh_auto_free char *owner = NULL;
	uid_t uid = 0;
	bh_auto_buf struct bh_buf out = { 0 };
	struct bh_error err = BH_ERROR_INIT;
	struct bh_table table;
	bool json = bh_streq(o->format, "json");
	int r = bh_bundle_list(bh_oci.root, &ids, &err);

	(void)argc, (void)argv;
	if (r == 0 && o->format && !json && !bh_streq(o->format, "table"))
		r = bh_error_text(&err, EINVAL, "invalid format option");
	if (r < 0)
		return bh_oci_fail(&err, 1);
	bh_table_init(&table, headings);
	for (size_t i = 0; i < ids.count; i++) {
		struct bh_bundle b = BH_BUNDLE_INIT_VALUE;

		/* One that is deleted meanwhile is not listed. */
		if (bh_bundle_open(bh_oci.root, ids.items[i], &b, NULL) < 0)
			continue;
		if (!o->quiet && (!owner || uid != b.owner)) {
			bh_free_ptr(&owner);
			uid = b.owner;
			owner = owner_name(uid);
		}
		if (o->quiet) {
			bh_buf_addf(&out, "%s\n", b.id);
		} else if (json) {
			bh_buf_adds(&out, out.length ? "," : "");
			bh_bundle_state(&b, owner, false, &out);
		} else {
			add_row(&table, &b, owner);
		}
		bh_bundle_close(&b);
	}
	if (json && !o->quiet)
		printf(out.length ? "[%s]\n" : "null\n", out.length ? out.data : "");
	else if (!o->quiet)
		bh_table_render(&table, true, &out);
	bh_table_clear(&table);
	return (!json || o->quiet) && bh_write_all(1, out.data, out.length) < 0 ? 1 : 0;
}

const struct bh_command bh_oci_command_list = {
	.name = "list",
	.synopsis = "[OPTIONS]",
	.summary = "List the containers of the state folder",
	.description = "One line per container: its id, the pid of its first process on the host, its status (creating, created, running, "
		       "paused or stopped), its bundle, when it was created, and who made it.",
	.sets = { options },
	.options_size = sizeof(struct list_options),
	.run = run,
};
