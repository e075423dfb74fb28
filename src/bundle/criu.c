/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A conversation with CRIU.
 *
 * `criu swrk 3` is CRIU as a worker of one caller: it reads one request from fd 3, a SOCK_SEQPACKET socket with a message in
 * each packet, tells its steps there and waits for a word at each, and answers in the end (CRIU, "RPC"). Its command line
 * can't do what a runtime needs: it runs scripts at its steps, and it never gives a terminal's master away. The messages are
 * protocol buffers; the few kinds of fields that occur are written and read here, so that no library is loaded by those who
 * never make a checkpoint.
 *
 * CRIU opens folders by /proc/<our pid>/fd, so we stay until it has ended. What went wrong is in its log: it calls much an
 * error that it can live without, so the last two are told: what failed, and the step that could not be done therefore.
 */
#include "bundle/criu-internal.h"

#include "base/file.h"
#include "linux/path.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define ANSWER_MAX 40960
#define LOG_MAX (64u << 20)
#define WORDS_MAX 300
#define LINE_MAX_LENGTH 4096

enum wire_type { WIRE_NUMBER = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

/* --- messages (protocol buffers, "Encoding") ---------------------------------------------------------------------- */

static void add_varint(struct bh_buf *m, uint64_t value)
{
	for (; value > 0x7f; value >>= 7)
		bh_buf_addc(m, (char)(value | 0x80));
	bh_buf_addc(m, (char)value);
}

void bh_criu_number(struct bh_buf *m, unsigned field, int64_t value)
{
	add_varint(m, field << 3 | WIRE_NUMBER);
	add_varint(m, (uint64_t)value);
}

static void add_bytes(struct bh_buf *m, unsigned field, const char *bytes, size_t length)
{
	add_varint(m, field << 3 | WIRE_BYTES);
	add_varint(m, length);
	bh_buf_add(m, bytes, length);
}

void bh_criu_text(struct bh_buf *m, unsigned field, const char *value)
{
	add_bytes(m, field, value, strlen(value));
}

void bh_criu_pair(struct bh_buf *m, unsigned field, const char *first, const char *second)
{
	bh_auto_buf struct bh_buf pair = { 0 };

	bh_criu_text(&pair, 1, first);
	bh_criu_text(&pair, 2, second);
	add_bytes(m, field, pair.data, pair.length);
}

void bh_criu_inherit(struct bh_buf *m, const char *key, int fd)
{
	bh_auto_buf struct bh_buf inherit = { 0 };

	bh_criu_text(&inherit, 1, key);
	bh_criu_number(&inherit, 2, fd);
	add_bytes(m, BH_CRIU_INHERIT_FD, inherit.data, inherit.length);
}

struct reader {
	const unsigned char *at, *end;
};

struct field {
	unsigned number;
	uint64_t value;      /* of a number */
	struct reader bytes; /* of a text or message */
};

static bool read_varint(struct reader *r, uint64_t *ret)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 64 && r->at < r->end; shift += 7) {
		unsigned char c = *r->at++;

		value |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80)) {
			*ret = value;
			return true;
		}
	}
	return false;
}

static bool skip_bytes(struct reader *r, uint64_t length, struct reader *ret)
{
	if (length > (uint64_t)(r->end - r->at))
		return false;
	*ret = (struct reader){ r->at, r->at + length };
	r->at += length;
	return true;
}

/* False at the end, and at what is no field. */
static bool read_field(struct reader *r, struct field *ret)
{
	uint64_t key = 0;

	*ret = (struct field){ 0 };
	if (!read_varint(r, &key))
		return false;
	ret->number = (unsigned)(key >> 3);
	switch (key & 7) {
	case WIRE_NUMBER:
		return read_varint(r, &ret->value);
	case WIRE_FIXED64:
		return skip_bytes(r, 8, &ret->bytes);
	case WIRE_BYTES:
		return read_varint(r, &key) && skip_bytes(r, key, &ret->bytes);
	case WIRE_FIXED32:
		return skip_bytes(r, 4, &ret->bytes);
	default:
		return false;
	}
}

static void copy_text(const struct reader *from, char *to, size_t size)
{
	size_t length = BH_MIN((size_t)(from->end - from->at), size - 1);

	if (length)
		memcpy(to, from->at, length);
	to[length] = '\0';
}

/* criu_resp */
struct answer {
	unsigned type;
	bool success;
	char step[64], words[WORDS_MAX];
	pid_t pid;
	int errnum;
	int version[3];
};

static void read_notify(struct reader r, struct answer *a)
{
	struct field f;

	while (read_field(&r, &f)) {
		if (f.number == 1)
			copy_text(&f.bytes, a->step, sizeof a->step);
		else if (f.number == 2)
			a->pid = (pid_t)f.value;
	}
}

static void read_version(struct reader r, struct answer *a)
{
	struct field f;

	while (read_field(&r, &f)) {
		if (f.number == 1 || f.number == 2)
			a->version[f.number - 1] = (int)BH_MIN(f.value, 99u);
		else if (f.number == 4)
			a->version[2] = (int)BH_MIN(f.value, 99u);
	}
}

static void read_restored(struct reader r, struct answer *a)
{
	struct field f;

	while (read_field(&r, &f))
		if (f.number == 1)
			a->pid = (pid_t)f.value;
}

static struct answer read_answer(const char *bytes, size_t length)
{
	struct reader r = { (const unsigned char *)bytes, (const unsigned char *)bytes + length };
	struct answer a = { 0 };
	struct field f;

	while (read_field(&r, &f)) {
		switch (f.number) {
		case 1:
			a.type = (unsigned)f.value;
			break;
		case 2:
			a.success = f.value;
			break;
		case 4:
			read_restored(f.bytes, &a);
			break;
		case 5:
			read_notify(f.bytes, &a);
			break;
		case 7:
			a.errnum = (int)(f.value & 0xfff);
			break;
		case 9:
			copy_text(&f.bytes, a.words, sizeof a.words);
			break;
		case 10:
			read_version(f.bytes, &a);
			break;
		default:
			break;
		}
	}
	return a;
}

/* --- words for a failure ------------------------------------------------------------------------------------------- */

/* "(00.012345) Error (criu/mount.c:1234): mnt: words" -> "mnt: words"; NULL: the line tells no error. */
static const char *error_of(const char *line)
{
	const char *error = strstr(line, "Error (");
	const char *words = error ? strstr(error, "): ") : NULL;

	if (!words || strstr(line, "FAILED."))
		return NULL;
	words += 3;
	return words + strspn(words, " \t");
}

struct causes {
	char before[WORDS_MAX], last[WORDS_MAX];
	bool kernel; /* it gave up before it looked at the container */
};

static void read_log(const char *path, struct causes *causes)
{
	FILE *file = fopen(path, "re");
	char line[LINE_MAX_LENGTH];
	size_t bytes = 0;

	while (file && bytes < LOG_MAX && fgets(line, sizeof line, file)) {
		const char *words;

		bytes += strlen(line);
		line[strcspn(line, "\n")] = '\0';
		words = error_of(line);
		if (!words || !*words)
			continue;
		causes->kernel = causes->kernel || strstr(words, "when initializing kerndat");
		memcpy(causes->before, causes->last, WORDS_MAX);
		snprintf(causes->last, WORDS_MAX, "%.*s", WORDS_MAX - 1, words);
	}
	if (file)
		fclose(file);
}

static int failure(const struct bh_criu_call *call, const struct answer *answer, struct bh_error *err)
{
	bh_auto_free char *log = call->log ? bh_path_join(call->folder, call->log) : NULL;
	struct causes causes = { .before = "" };
	int errnum = answer->errnum ? answer->errnum : EIO;

	if (log)
		read_log(log, &causes);
	if (!causes.last[0])
		snprintf(causes.last, sizeof causes.last, "%s", *answer->words ? answer->words : "it ended without a reason");
	if (causes.kernel)
		errnum = EOPNOTSUPP;
	return bh_error_text(err, errnum, "%s: %s%s%s (log: %s)", causes.kernel ? "criu can't work on this kernel" : "criu failed", causes.before,
			     causes.before[0] ? "; then: " : "", causes.last, log ? log : "none");
}

/* --- the process ---------------------------------------------------------------------------------------------------- */

/* Moves all above the numbers they get, and then there. */
static int place_fds(const struct bh_criu_call *call, int socket_fd, struct bh_error *err)
{
	size_t count = BH_CRIU_FIRST_FD + call->fd_count;
	bh_auto_free int *fds = bh_calloc(count, sizeof *fds);
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	fds[0] = call->stdio && call->stdio->stdin_fd >= 0 ? call->stdio->stdin_fd : null_fd;
	fds[1] = call->stdio && call->stdio->stdout_fd >= 0 ? call->stdio->stdout_fd : null_fd;
	fds[2] = call->stdio && call->stdio->stderr_fd >= 0 ? call->stdio->stderr_fd : null_fd;
	fds[3] = socket_fd;
	for (size_t i = 0; i < call->fd_count; i++)
		fds[BH_CRIU_FIRST_FD + i] = call->fds[i];
	for (size_t i = 0; i < count; i++)
		fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, (int)count);
	for (size_t i = 0; i < count; i++)
		if (fds[i] < 0 || dup2(fds[i], (int)i) < 0)
			return bh_error_set(err, errno, "give criu its files");
	return 0;
}

/* 0 bytes: criu is gone. */
static ssize_t receive(int socket_fd, char *bytes, size_t size, int *ret_fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec part = { bytes, size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space };
	struct cmsghdr *header;
	ssize_t n;

	do
		n = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(header), sizeof *ret_fd);
	return message.msg_flags & MSG_TRUNC ? 0 : n;
}

static int send_fd(int socket_fd, int fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .header = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) } };
	struct iovec part = { &(char){ 0 }, 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space };

	memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
	return sendmsg(socket_fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int send_folders(const struct bh_criu_call *call, int socket_fd, struct bh_error *err)
{
	for (size_t i = 0; call->prepare && i < BH_ARRAY_SIZE(call->folder_fds); i++) {
		bh_auto_free char *link = bh_printf("/proc/self/fd/%d", call->folder_fds[i]);
		char path[PATH_MAX] = "";
		bh_auto_close int fd = -1;
		int r;

		if (call->folder_fds[i] < 0)
			continue;
		if (readlink(link, path, sizeof path - 1) < 0)
			return bh_error_set(err, errno, "find a folder again");
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return bh_error_set(err, errno, "open %s", path);
		r = send_fd(socket_fd, fd);
		if (r < 0)
			return bh_error_set(err, -r, "pass %s on", path);
	}
	return 0;
}

static int take_folders(const struct bh_criu_call *call, int socket_fd, struct bh_error *err)
{
	for (size_t i = 0; call->prepare && i < BH_ARRAY_SIZE(call->folder_fds); i++) {
		bh_auto_close int fd = -1;
		char byte;

		if (call->folder_fds[i] >= 0 && (receive(socket_fd, &byte, 1, &fd) != 1 || fd < 0 || dup3(fd, call->folder_fds[i], O_CLOEXEC) < 0))
			return bh_error_text(err, EIO, "criu's folders can't be passed on");
	}
	return 0;
}

/* All that fails before criu is told through `failed_fd`, whose end is the execution. */
static _Noreturn void become_criu(const struct bh_criu_call *call, int socket_fd, int failed_fd)
{
	static const char *const arguments[] = { "criu", "swrk", "3", NULL };
	struct bh_error err = BH_ERROR_INIT;
	sigset_t none;
	int r = call->cgroup ? bh_cgroup_enter_self(call->cgroup, &err) : 0;

	if (r == 0 && call->prepare)
		r = call->prepare(call->context, &err);
	if (r == 0)
		r = send_folders(call, socket_fd, &err);
	failed_fd = fcntl(failed_fd, F_DUPFD_CLOEXEC, BH_CRIU_FIRST_FD + (int)call->fd_count);
	if (r == 0)
		r = place_fds(call, socket_fd, &err);
	if (r == 0) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		bh_close_range(BH_CRIU_FIRST_FD + (unsigned)call->fd_count, ~0U, CLOSE_RANGE_CLOEXEC);
		execvp(call->program, (char *const *)arguments);
		if (errno == ENOENT)
			bh_error_text(&err, ENOENT, "%s: executable file not found in $PATH: checkpoint and restore need CRIU (--criu)", call->program);
		else
			bh_error_set(&err, errno, "execute %s", call->program);
	}
	_exit(bh_write_all(failed_fd, &err, sizeof err) == 0 ? 127 : 126);
}

static int start_criu(const struct bh_criu_call *call, pid_t *ret_pid, int *ret_socket, struct bh_error *err)
{
	bh_auto_close int ours = -1, theirs = -1, failed_read = -1, failed_write = -1;
	int clone_fd = call->cgroup ? bh_cgroup_clone_fd(call->cgroup) : -1, pair[2], status;
	struct clone_args args = { .exit_signal = SIGCHLD };
	struct bh_error failed;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return bh_error_set(err, errno, "make a socket for criu");
	ours = pair[0];
	theirs = pair[1];
	if (pipe2(pair, O_CLOEXEC) < 0)
		return bh_error_set(err, errno, "make a pipe for criu");
	failed_read = pair[0];
	failed_write = pair[1];
	if (clone_fd >= 0) {
		args.flags = CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)clone_fd;
	}
	pid = bh_clone3(&args);
	if (pid == 0)
		become_criu(call, theirs, failed_write);
	if (pid < 0)
		return bh_error_set(err, -pid, "start criu");
	bh_close_fd(&failed_write);
	if (bh_read_all(failed_read, &failed, sizeof failed) == 0) {
		waitpid(pid, &status, 0);
		if (err)
			*err = failed;
		return failed.errnum ? -failed.errnum : -EINVAL;
	}
	*ret_pid = pid;
	*ret_socket = BH_TAKE_FD(ours);
	return 0;
}

/* --- the conversation ------------------------------------------------------------------------------------------------ */

/* Where criu itself is, is where it has to put what it restores. */
static int add_cgroup_roots(pid_t pid, struct bh_buf *options, struct bh_error *err)
{
	bh_auto_free char *path = bh_printf("/proc/%d/cgroup", (int)pid);
	bh_auto_buf struct bh_buf text = { 0 };
	int r = bh_read_file_at(AT_FDCWD, path, 65536, &text, err);

	if (r < 0)
		return r;
	for (char *line = text.data, *next; line && *line; line = next) {
		char *controllers = strchr(line, ':'), *folder = controllers ? strchr(controllers + 1, ':') : NULL;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (!folder)
			continue;
		*folder++ = '\0';
		bh_auto_strv struct bh_strv names = bh_strv_split(controllers + 1, ',');

		for (size_t i = 0; i < names.count; i++)
			bh_criu_pair(options, BH_CRIU_CG_ROOT, names.items[i], folder);
	}
	return 0;
}

static int send_message(int socket_fd, const struct bh_buf *message, struct bh_error *err)
{
	while (send(socket_fd, message->data, message->length, MSG_NOSIGNAL) < 0)
		/* It has ended: what it answered before, or that it didn't, is for the reader to tell. */
		if (errno == EPIPE)
			return 0;
		else if (errno != EINTR)
			return bh_error_set(err, errno, "talk to criu");
	return 0;
}

static int send_request(int socket_fd, enum bh_criu_request type, const struct bh_buf *options, struct bh_error *err)
{
	bh_auto_buf struct bh_buf message = { 0 };

	bh_criu_number(&message, 1, type);
	if (options)
		add_bytes(&message, 2, options->data, options->length);
	return send_message(socket_fd, &message, err);
}

static int follow(const struct bh_criu_call *call, int socket_fd, struct answer *ret_answer, struct bh_error *err)
{
	bh_auto_free char *bytes = bh_malloc(ANSWER_MAX);
	int refused = 0; /* by us, which is why criu then fails */

	for (;;) {
		bh_auto_buf struct bh_buf reply = { 0 };
		int fd = -1;
		ssize_t n = receive(socket_fd, bytes, ANSWER_MAX, &fd);
		struct answer answer = n > 0 ? read_answer(bytes, (size_t)n) : (struct answer){ 0 };

		if (n <= 0 || answer.type != BH_CRIU_NOTIFY || !answer.success) {
			bh_close_fd(&fd);
			if (refused < 0)
				return refused;
			*ret_answer = answer;
			return answer.success ? 0 : failure(call, &answer, err);
		}
		if (refused == 0 && call->notify)
			refused = call->notify(call->context, answer.step, answer.pid, BH_TAKE_FD(fd), err);
		bh_close_fd(&fd);
		bh_criu_number(&reply, 1, BH_CRIU_NOTIFY);
		bh_criu_number(&reply, 3, refused == 0);
		if (send_message(socket_fd, &reply, refused ? NULL : err) < 0)
			return refused ? refused : -EPIPE;
	}
}

int bh_criu_call(const struct bh_criu_call *call, enum bh_criu_request request, struct bh_buf *options, struct bh_criu_answer *ret_answer,
		 struct bh_error *err)
{
	bh_auto_close int socket_fd = -1;
	struct answer answer = { 0 };
	int status = 0;
	pid_t pid = 0;
	int r = start_criu(call, &pid, &socket_fd, err);

	if (r < 0)
		return r;
	r = take_folders(call, socket_fd, err);
	if (r == 0 && request == BH_CRIU_RESTORE)
		r = add_cgroup_roots(pid, options, err);
	if (r == 0)
		r = send_request(socket_fd, request, options, err);
	if (r == 0)
		r = follow(call, socket_fd, &answer, err);
	/* After a pre-dump criu would wait for the next request. */
	bh_close_fd(&socket_fd);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (r == 0 && status && request != BH_CRIU_PRE_DUMP && request != BH_CRIU_VERSION)
		r = failure(call, &answer, err);
	if (r == 0)
		*ret_answer = (struct bh_criu_answer){ answer.version[0] * 10000 + answer.version[1] * 100 + answer.version[2], answer.pid };
	return r;
}

/* --- what dump and restore have in common ----------------------------------------------------------------------------- */

void bh_criu_close_folders(struct bh_criu_folders *f)
{
	bh_close_fd(&f->images_fd);
	bh_close_fd(&f->work_fd);
}

int bh_criu_open_folders(const struct bh_bundle_criu *criu, bool make, struct bh_criu_folders *ret, struct bh_error *err)
{
	struct bh_criu_folders f = BH_CRIU_FOLDERS_INIT;
	int r;

	f.images_fd = make ? bh_make_dir(AT_FDCWD, criu->image_path, 0700, err) : bh_open_dir(AT_FDCWD, criu->image_path, 0, err);
	f.log_folder = criu->image_path;
	r = f.images_fd;
	if (r >= 0 && criu->work_path) {
		r = f.work_fd = bh_make_dir(AT_FDCWD, criu->work_path, 0700, err);
		f.log_folder = criu->work_path;
	}
	if (r < 0) {
		bh_criu_close_folders(&f);
		return r;
	}
	*ret = f;
	return 0;
}

/* Returns criu_cg_mode. */
static int cgroups_mode(const char *name, struct bh_error *err)
{
	static const struct {
		const char *name;
		int mode;
	} modes[] = { { "ignore", 0 }, { "soft", 3 }, { "full", 4 }, { "strict", 5 } };

	if (!name || !*name)
		return 6;
	for (size_t i = 0; i < BH_ARRAY_SIZE(modes); i++)
		if (bh_streq(modes[i].name, name))
			return modes[i].mode;
	return bh_error_text(err, EINVAL, "invalid manage-cgroups-mode value: %.100s", name);
}

static void add_page_server(const struct bh_bundle_criu *criu, struct bh_buf *options)
{
	bh_auto_buf struct bh_buf server = { 0 };

	if (!criu->page_server)
		return;
	bh_criu_text(&server, 1, criu->page_server);
	bh_criu_number(&server, 2, criu->page_server_port);
	add_bytes(options, BH_CRIU_PAGE_SERVER, server.data, server.length);
}

int bh_criu_common_options(const struct bh_bundle *b, const struct bh_bundle_criu *criu, const struct bh_criu_folders *folders, const char *log,
			   struct bh_buf *options, struct bh_error *err)
{
	const char *config = bh_map_get(&b->spec.annotations, "org.criu.config");
	int mode = cgroups_mode(criu->manage_cgroups_mode, err);
	const struct {
		unsigned field;
		int64_t value;
	} numbers[] = {
		{ BH_CRIU_IMAGES_DIR_FD, folders->images_fd },
		{ BH_CRIU_LOG_LEVEL, 4 },
		{ BH_CRIU_NOTIFY_SCRIPTS, true },
		{ BH_CRIU_MANAGE_CGROUPS, true },
		{ BH_CRIU_MANAGE_CGROUPS_MODE, mode },
		{ BH_CRIU_ORPHAN_PTS_MASTER, true },
		{ BH_CRIU_EMPTY_NS, CLONE_NEWNET }, /* its devices are somebody else's */
		{ BH_CRIU_EXT_UNIX_SK, criu->ext_unix_sk },
		{ BH_CRIU_TCP_ESTABLISHED, criu->tcp_established },
		{ BH_CRIU_SHELL_JOB, criu->shell_job },
		{ BH_CRIU_FILE_LOCKS, criu->file_locks },
		{ BH_CRIU_AUTO_DEDUP, criu->auto_dedup },
		{ BH_CRIU_LAZY_PAGES, criu->lazy_pages },
	};

	if (mode < 0)
		return mode;
	for (size_t i = 0; i < BH_ARRAY_SIZE(numbers); i++)
		bh_criu_number(options, numbers[i].field, numbers[i].value);
	bh_criu_text(options, BH_CRIU_LOG_FILE, log);
	if (folders->work_fd >= 0)
		bh_criu_number(options, BH_CRIU_WORK_DIR_FD, folders->work_fd);
	if (!config)
		config = "/etc/criu/runc.conf"; /* where the machine's administrator has those for runtimes */
	if (*config)
		bh_criu_text(options, BH_CRIU_CONFIG_FILE, config);
	add_page_server(criu, options);
	return 0;
}

const char *bh_criu_namespace_key(enum bh_namespace_type type)
{
	if (type == BH_NS_NETWORK)
		return "extRootNetNS";
	return type == BH_NS_PID ? "extRootPidNS" : NULL;
}

bool bh_criu_is_bind(const struct bh_spec_mount *m)
{
	return bh_streq(m->type, "bind") || bh_strv_contains(&m->options, "bind") || bh_strv_contains(&m->options, "rbind");
}

char *bh_criu_destination(const char *rootfs, const char *destination)
{
	char *words = *destination == '/' ? bh_strdup(destination) : bh_path_join("/", destination);
	bh_auto_free char *clean = bh_path_clean(words), *root = realpath(rootfs, NULL), *link = NULL;
	bh_auto_close int root_fd = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1;
	char path[PATH_MAX];
	ssize_t length;

	bh_free_ptr(&words);
	fd = root && root_fd >= 0 ? bh_open_in_root(root_fd, clean, O_PATH) : -1;
	if (fd < 0)
		return BH_TAKE_PTR(clean);
	link = bh_printf("/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof path - 1);
	if (length <= 0)
		return BH_TAKE_PTR(clean);
	path[length] = '\0';
	if (bh_streq(root, "/"))
		return bh_strdup(path);
	return bh_has_prefix(path, root) && path[strlen(root)] == '/' ? bh_strdup(path + strlen(root)) : BH_TAKE_PTR(clean);
}

bool bh_criu_device_at(const struct bh_spec *spec, size_t index, const char **ret_path)
{
	static const char *const defaults[] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty" };

	if (!spec->namespaces[BH_NS_USER].present || index >= BH_ARRAY_SIZE(defaults) + spec->device_count)
		return false;
	*ret_path = index < BH_ARRAY_SIZE(defaults) ? defaults[index] : spec->devices[index - BH_ARRAY_SIZE(defaults)].path;
	return true;
}

bool bh_criu_masks_with_hosts_null(const struct bh_spec *spec)
{
	if (spec->namespaces[BH_NS_USER].present)
		return true;
	for (size_t i = 0; i < spec->mount_count; i++)
		if (bh_streq(spec->mounts[i].destination, "/dev") && bh_streq(spec->mounts[i].type, "tmpfs"))
			return false;
	return true;
}
