/* SPDX-License-Identifier: Apache-2.0 */
/* Domains on disk: made, found, listed, removed; and ended. */
#include "engine/domain-internal.h"

#include "base/log.h"
#include "base/memory.h"
#include "base/time.h"
#include "linux/process.h"
#include "linux/syscall.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFINITION_MAX (64u << 10)

const char *bh_domain_status_name(enum bh_domain_status status)
{
	static const char *const names[] = { "shut off", "running", "paused" };

	return names[status];
}

int bh_domain_check_name(const char *what, const char *name, struct bh_error *err)
{
	size_t length = strlen(name);

	if (length == 0 || length > BH_DOMAIN_NAME_MAX || !isalnum((unsigned char)*name))
		goto bad;
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)name[i]) && !strchr("_.-", name[i]))
			goto bad;
	return 0;
bad:
	return bh_error_text(err, EINVAL, "%s '%s': letters, digits, '_', '.' and '-', at most %d, beginning with a letter or digit", what, name,
			     BH_DOMAIN_NAME_MAX);
}

static char *path_of(const char *folder, const char *name)
{
	return bh_printf("%s/vms/%s", folder, name);
}

/* --- state ------------------------------------------------------------------------------------------------------------ */

static bool is_ours_alive(pid_t pid, uint64_t start)
{
	uint64_t now = 0;

	return pid > 0 && bh_process_start_time(pid, &now) == 0 && now == start;
}

void bh_domain_refresh(struct bh_domain *d)
{
	bh_auto_free char *path = path_of(d->state, d->name);
	uint64_t started = 0, restarts = 0;
	char text[128];
	ssize_t length;

	bh_close_fd(&d->state_fd);
	d->status = BH_DOMAIN_SHUT_OFF;
	d->state_fd = bh_open_dir(AT_FDCWD, path, O_NOFOLLOW, NULL);
	if (d->state_fd < 0) {
		d->state_fd = -1;
		return;
	}
	length = readlinkat(d->state_fd, "run", text, sizeof text - 1);
	if (length < 0)
		return;
	text[length] = '\0';
	if (sscanf(text, BH_RUN_FORMAT, &d->pid, &d->pid_start, &d->shim_pid, &d->shim_start, &started, &restarts) != 6)
		return;
	d->started_ns = (int64_t)started;
	if (is_ours_alive(d->shim_pid, d->shim_start))
		d->status = faccessat(d->state_fd, "paused", F_OK, 0) == 0 ? BH_DOMAIN_PAUSED : BH_DOMAIN_RUNNING;
}

int bh_domain_open(const char *root, const char *state, const char *name, bool lock, struct bh_domain *ret_domain, struct bh_error *err)
{
	bh_auto_free char *path = path_of(root, name);
	bh_auto_buf struct bh_buf text = { 0 };
	struct bh_domain d = { .dir_fd = -1, .state_fd = -1 };
	int r = bh_domain_check_name("the name", name, err);

	if (r < 0)
		return r;
	d.dir_fd = bh_open_dir(AT_FDCWD, path, O_NOFOLLOW, NULL);
	if (d.dir_fd < 0)
		return bh_error_text(err, ENOENT, "no such virtual machine: %s", name);
	if (lock && bh_lock_fd(d.dir_fd, true, false) < 0)
		r = bh_error_set(err, errno, "lock the virtual machine %s", name);
	d.locked = lock && r == 0;
	if (r == 0 && bh_read_file_at(d.dir_fd, "domain.json", DEFINITION_MAX, &text, NULL) < 0)
		r = bh_error_text(err, ENOENT, "no such virtual machine: %s", name);
	if (r == 0)
		r = bh_domain_definition_parse(text.data, text.length, &d.definition, err);
	if (r < 0) {
		close(d.dir_fd);
		return r;
	}
	snprintf(d.name, sizeof d.name, "%s", name);
	d.root = bh_strdup(root);
	d.state = bh_strdup(state);
	bh_domain_refresh(&d);
	*ret_domain = d;
	return 0;
}

void bh_domain_unlock(struct bh_domain *d)
{
	if (d->locked)
		bh_unlock_fd(d->dir_fd);
	d->locked = false;
}

void bh_domain_clear(struct bh_domain *d)
{
	bh_close_fd(&d->dir_fd);
	bh_close_fd(&d->state_fd);
	bh_domain_definition_clear(&d->definition);
	free(d->root);
	free(d->state);
	*d = (struct bh_domain){ .dir_fd = -1, .state_fd = -1 };
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int bh_domain_list_folders(int dir_fd, const char *path, const char *needed, struct bh_strv *ret_names, struct bh_error *err)
{
	int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bh_auto_closedir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!dir)
		return errno == ENOENT ? 0 : bh_error_set(err, errno, "list %s", path);
	while ((entry = readdir(dir))) {
		bh_auto_free char *file = bh_printf("%s/%s", entry->d_name, needed);

		if (entry->d_name[0] != '.' && faccessat(dirfd(dir), file, F_OK, 0) == 0)
			bh_strv_add(ret_names, entry->d_name);
	}
	if (ret_names->count)
		qsort(ret_names->items, ret_names->count, sizeof *ret_names->items, compare);
	return 0;
}

int bh_domain_list(const char *root, struct bh_strv *ret_names, struct bh_error *err)
{
	bh_auto_free char *path = bh_printf("%s/vms", root);

	return bh_domain_list_folders(AT_FDCWD, path, "domain.json", ret_names, err);
}

/* --- making and removing ------------------------------------------------------------------------------------------------ */

int bh_domain_save(struct bh_domain *d, struct bh_error *err)
{
	bh_auto_free char *text = bh_domain_definition_text(&d->definition);
	int r = bh_domain_definition_check(&d->definition, err);

	return r < 0 ? r : bh_write_file_at(d->dir_fd, "domain.json", text, strlen(text), 0600, BH_WRITE_SYNC, err);
}

char *bh_domain_random_uuid(void)
{
	uint8_t b[16] = { 0 };

	(void)!getrandom(b, sizeof b, 0);
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* RFC 4122: random */
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	return bh_printf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8],
			 b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

/* A second one that makes the same machine waits for the first, and finds it. What a killed one left without a definition is taken over. */
static int make_under_lock(int dir_fd, const char *name, struct bh_domain_definition *definition, bh_domain_fill fill, void *context,
			   struct bh_error *err)
{
	struct bh_domain d = { .dir_fd = dir_fd };
	int r = bh_lock_fd(dir_fd, true, false);

	if (r < 0)
		return bh_error_set(err, -r, "lock the virtual machine %s", name);
	if (faccessat(dir_fd, "domain.json", F_OK, 0) == 0)
		return bh_error_text(err, EEXIST, "the virtual machine %s exists already", name);
	if (!definition->uuid)
		definition->uuid = bh_domain_random_uuid();
	r = fill ? fill(context, dir_fd, definition, err) : 0;
	d.definition = *definition;
	return r < 0 ? r : bh_domain_save(&d, err);
}

int bh_domain_create(const char *root, const char *state, const char *name, struct bh_domain_definition *definition, bh_domain_fill fill,
		     void *context, struct bh_error *err)
{
	bh_auto_free char *folder = bh_printf("%s/vms", root), *path = path_of(root, name);
	bh_auto_close int dir_fd = -1, folder_fd = -1;
	int r = bh_domain_check_name("the name", name, err);

	(void)state;
	if (r == 0 && !fill)
		r = bh_domain_definition_check(definition, err);
	if (r == 0)
		r = bh_mkdir_all(AT_FDCWD, folder, 0700, err);
	if (r < 0)
		return r;
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return bh_error_set(err, errno, "mkdir %s", path);
	dir_fd = bh_open_dir(AT_FDCWD, path, O_NOFOLLOW, err);
	if (dir_fd < 0)
		return dir_fd;
	r = make_under_lock(dir_fd, name, definition, fill, context, err);
	if (r < 0 && fill && faccessat(dir_fd, "domain.json", F_OK, 0) < 0) {
		folder_fd = bh_open_dir(AT_FDCWD, folder, 0, NULL);
		bh_remove_tree_at(folder_fd, name, NULL);
	}
	return r;
}

int bh_domain_remove(struct bh_domain *d, struct bh_error *err)
{
	bh_auto_free char *folder = bh_printf("%s/vms", d->root);
	bh_auto_close int fd = -1;
	int r;

	if (d->status != BH_DOMAIN_SHUT_OFF)
		return bh_error_text(err, EBUSY, "the virtual machine %s runs: shut it down or destroy it first, or force", d->name);
	r = bh_domain_finish(d, err);
	if (r < 0)
		return r;
	if (unlinkat(d->dir_fd, "domain.json", 0) < 0 && errno != ENOENT)
		return bh_error_set(err, errno, "remove the virtual machine %s", d->name);
	fd = bh_open_dir(AT_FDCWD, folder, 0, err);
	return fd < 0 ? fd : bh_remove_tree_at(fd, d->name, err);
}

/* --- the end ------------------------------------------------------------------------------------------------------------ */

int bh_domain_finish(struct bh_domain *d, struct bh_error *err)
{
	bh_auto_free char *folder = bh_printf("%s/vms", d->state);
	bh_auto_close int fd = bh_open_dir(AT_FDCWD, folder, 0, NULL);

	bh_close_fd(&d->state_fd);
	return fd < 0 ? 0 : bh_remove_tree_at(fd, d->name, err);
}

bool bh_domain_wait(struct bh_domain *d, int64_t timeout_ms)
{
	bh_auto_close int shim = d->shim_pid > 0 ? bh_process_open(d->shim_pid, d->shim_start) : -1;
	int64_t deadline = timeout_ms < 0 ? INT64_MAX : bh_monotonic_ns() / 1000000 + timeout_ms;

	while (shim >= 0) {
		struct pollfd p = { .fd = shim, .events = POLLIN };
		int64_t left = timeout_ms < 0 ? -1 : BH_MAX(deadline - bh_monotonic_ns() / 1000000, (int64_t)0);
		int r = poll(&p, 1, (int)BH_MIN(left, (int64_t)INT32_MAX));

		if (r > 0)
			break;
		if (r == 0 || errno != EINTR)
			return false;
	}
	bh_domain_refresh(d);
	return true;
}

int bh_domain_destroy(struct bh_domain *d, struct bh_error *err)
{
	bh_auto_close int monitor = -1;

	if (d->status == BH_DOMAIN_SHUT_OFF)
		return bh_domain_finish(d, err);
	bh_write_file_at(d->state_fd, "stopping", "", 0, 0600, 0, NULL);
	bh_domain_unlock(d);
	monitor = bh_process_open(d->pid, d->pid_start);
	if (monitor >= 0)
		bh_pidfd_send_signal(monitor, SIGKILL);
	bh_domain_wait(d, -1);
	return 0;
}

/* --- talking to it ------------------------------------------------------------------------------------------------------ */

int bh_domain_attach(struct bh_domain *d, struct bh_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	bh_auto_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (d->status == BH_DOMAIN_SHUT_OFF)
		return bh_error_text(err, ESRCH, "the virtual machine %s doesn't run", d->name);
	snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/attach.sock", d->state_fd);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		return bh_error_set(err, errno, "connect to the console of %s", d->name);
	return BH_TAKE_FD(fd);
}

int bh_domain_request(struct bh_domain *d, const char *command, json_object *members, const int *files, size_t file_count, json_object **ret_answer,
		      struct bh_error *err)
{
	bh_auto_free char *socket = bh_printf("%s/vms/%s/control.sock", d->state, d->name);

	if (d->status == BH_DOMAIN_SHUT_OFF)
		return bh_error_text(err, ESRCH, "the virtual machine %s doesn't run", d->name);
	return bh_vm_request(socket, command, members, files, file_count, ret_answer, err);
}
