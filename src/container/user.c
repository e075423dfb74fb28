/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who the workload runs as: "user", "uid", "user:group" ... looked up in the container's own passwd(5) and group(5).
 *
 * Both files come from an image. They are opened below the root, must be regular files of bounded size, and a line that
 * can't be parsed is skipped. Numbers are strict: what is not exactly a number up to 2^31-1 is a name (CVE-2026-30892:
 * an overlong number must not wrap to another user).
 */
#include "container/container-internal.h"

#include "base/file.h"
#include "linux/path.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define DATABASE_MAX (4u << 20)
#define ID_MAX INT32_MAX
#define FIELDS_MAX 7
#define GROUPS_MAX 65536 /* NGROUPS_MAX of Linux */

struct line {
	char *fields[FIELDS_MAX];
	size_t count;
};

static bool is_number(const char *text)
{
	return *text && !text[strspn(text, "0123456789")];
}

/* Reads a database below the root; a missing one is empty. */
static int read_database(int root_fd, const char *path, struct bh_buf *ret, struct bh_error *err)
{
	bh_auto(bh_close_helper) int fd = bh_open_in_root(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	int r;

	if (fd == -ENOENT || fd == -ENOTDIR)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return bh_error_set(err, fd < 0 ? -fd : errno, "open %s of the image", path);
	if (!S_ISREG(st.st_mode))
		return bh_error_text(err, EINVAL, "%s of the image is not a file", path);
	r = bh_read_stored_fd(fd, DATABASE_MAX, ret);
	return r < 0 ? bh_error_set(err, -r, "read %s of the image", path) : 0;
}

/* Takes the next line apart at its colons, in place. False at the end. */
static bool next_line(char **text, struct line *ret)
{
	char *line = *text, *end;

	if (!line || !*line)
		return false;
	end = strchrnul(line, '\n');
	*text = *end ? end + 1 : end;
	*end = '\0';
	ret->count = 0;
	while (line && ret->count < FIELDS_MAX) {
		char *colon = ret->count + 1 < FIELDS_MAX ? strchr(line, ':') : NULL;

		ret->fields[ret->count++] = line;
		if (colon)
			*colon++ = '\0';
		line = colon;
	}
	return true;
}

static bool parse_id(const char *text, uint32_t *ret)
{
	int64_t number;

	if (!is_number(text) || bh_parse_int(text, 0, ID_MAX, &number) < 0)
		return false;
	*ret = (uint32_t)number;
	return true;
}

struct account {
	char *name, *home;
	uint32_t uid, gid;
	bool found;
};

static void account_clear(struct account *a)
{
	free(a->name);
	free(a->home);
}

/* By name first, then by number: a user may be called "1000". */
static int find_account(int root_fd, const char *wanted, struct account *ret, struct bh_error *err)
{
	bh_auto_buf struct bh_buf passwd = { 0 };
	uint32_t number = 0;
	bool numeric = parse_id(wanted, &number);
	int r = read_database(root_fd, "/etc/passwd", &passwd, err);
	char *text = passwd.data;
	struct line line;

	if (r < 0)
		return r;
	while (next_line(&text, &line)) {
		uint32_t uid, gid;
		bool by_name;

		if (line.count < 6 || !parse_id(line.fields[2], &uid) || !parse_id(line.fields[3], &gid))
			continue;
		by_name = bh_streq(line.fields[0], wanted);
		if (!by_name && !(numeric && uid == number && !ret->found))
			continue;
		account_clear(ret);
		*ret = (struct account){ bh_strdup(line.fields[0]), bh_strdup(line.fields[5]), uid, gid, true };
		if (by_name)
			break;
	}
	if (ret->found)
		return 0;
	if (!numeric)
		return bh_error_text(err, EINVAL,
				     is_number(wanted) ? "user %.64s: the number is out of range" :
							 "unable to find user %.64s: no matching entry in /etc/passwd",
				     wanted);
	ret->uid = number;
	return 0;
}

char *bh_home_of_user(int root_fd, uint32_t uid)
{
	bh_auto_buf struct bh_buf passwd = { 0 };
	char *text;
	struct line line;

	/* What can't be read is no reason to fail. */
	if (read_database(root_fd, "/etc/passwd", &passwd, NULL) < 0)
		return bh_strdup("/");
	text = passwd.data;
	while (next_line(&text, &line)) {
		uint32_t number;

		if (line.count >= 6 && parse_id(line.fields[2], &number) && number == uid && *line.fields[5])
			return bh_strdup(line.fields[5]);
	}
	return bh_strdup("/");
}

static int find_group(char *database, const char *wanted, uint32_t *ret_gid, struct bh_error *err)
{
	uint32_t number = 0;
	bool numeric = parse_id(wanted, &number);
	bh_auto_free char *copy = bh_strdup(database ? database : "");
	char *text = copy;
	struct line line;

	while (next_line(&text, &line)) {
		uint32_t gid;

		if (line.count >= 3 && bh_streq(line.fields[0], wanted) && parse_id(line.fields[2], &gid)) {
			*ret_gid = gid;
			return 0;
		}
	}
	if (!numeric)
		return bh_error_text(err, EINVAL,
				     is_number(wanted) ? "group %.64s: the number is out of range" :
							 "unable to find group %.64s: no matching entry in /etc/group",
				     wanted);
	*ret_gid = number;
	return 0;
}

struct gids {
	uint32_t *items;
	size_t count, capacity;
};

static void add_gid(struct gids *gids, uint32_t gid)
{
	for (size_t i = 0; i < gids->count; i++)
		if (gids->items[i] == gid)
			return;
	if (gids->count == GROUPS_MAX)
		return;
	gids->items = bh_grow(gids->items, &gids->capacity, gids->count + 1, sizeof *gids->items);
	gids->items[gids->count++] = gid;
}

static bool is_member(const char *members, const char *name)
{
	size_t length = strlen(name);

	while (*members) {
		size_t n = strcspn(members, ",");

		if (n == length && strncmp(members, name, n) == 0)
			return true;
		members += n + (members[n] == ',');
	}
	return false;
}

static void add_memberships(char *database, const char *user, struct gids *gids)
{
	bh_auto_free char *copy = bh_strdup(database ? database : "");
	char *text = copy;
	struct line line;

	while (next_line(&text, &line)) {
		uint32_t gid;

		if (line.count >= 4 && parse_id(line.fields[2], &gid) && is_member(line.fields[3], user))
			add_gid(gids, gid);
	}
}

static int add_extra(char *database, const struct bh_strv *group_add, struct gids *gids, struct bh_error *err)
{
	for (size_t i = 0; group_add && i < group_add->count; i++) {
		uint32_t gid = 0;
		int r = find_group(database, group_add->items[i], &gid, err);

		if (r < 0)
			return r;
		add_gid(gids, gid);
	}
	return 0;
}

int bh_container_resolve_user(int root_fd, const char *user, const struct bh_strv *group_add, struct bh_spec_process *process, char **ret_home,
			      struct bh_error *err)
{
	const char *colon = user ? strchr(user, ':') : NULL;
	bh_auto_free char *name = !user ? bh_strdup("0") : colon ? bh_strndup(user, (size_t)(colon - user)) : bh_strdup(user);
	bh_auto(account_clear) struct account account = { 0 };
	bh_auto_buf struct bh_buf groups = { 0 };
	struct gids gids = { 0 };
	int r;

	if (colon && (!colon[1] || strchr(colon + 1, ':')))
		return bh_error_text(err, EINVAL, "user '%.64s': expected USER or USER:GROUP", user);
	r = find_account(root_fd, *name ? name : "0", &account, err);
	if (r == 0)
		r = read_database(root_fd, "/etc/group", &groups, err);
	if (r == 0 && colon)
		r = find_group(groups.data, colon + 1, &account.gid, err);
	if (r < 0)
		return r;
	/* The primary group is in the list too: else a file that denies its group would grant to "others" (CVE-2022-36109). */
	add_gid(&gids, account.gid);
	if (!colon && account.name)
		add_memberships(groups.data, account.name, &gids);
	r = add_extra(groups.data, group_add, &gids, err);
	if (r < 0) {
		free(gids.items);
		return r;
	}
	free(process->user.additional_gids);
	process->user.uid = account.uid;
	process->user.gid = account.gid;
	process->user.additional_gids = gids.items;
	process->user.additional_gid_count = gids.count;
	if (ret_home)
		*ret_home = account.home && *account.home ? BH_TAKE_PTR(account.home) : bh_strdup("/");
	return 0;
}
