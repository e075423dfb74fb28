/* SPDX-License-Identifier: Apache-2.0 */
/* The client of the control protocol (vmm/control.h). */
#include "engine/domain.h"

#include "base/memory.h"
#include "linux/socket.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MAX (256u << 10)

static int read_line(int fd, struct bh_buf *line, struct bh_error *err)
{
	for (;;) {
		char bytes[4096];
		ssize_t n = recv(fd, bytes, sizeof bytes, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return bh_error_set(err, errno, "read the monitor's answer");
		if (n == 0)
			return bh_error_text(err, EPIPE, "the machine has ended");
		bh_buf_add(line, bytes, (size_t)n);
		if (line->data[line->length - 1] == '\n')
			return 0;
		if (line->length > ANSWER_MAX)
			return bh_error_text(err, EFBIG, "the monitor's answer has no end");
	}
}

static void add_members(struct bh_buf *line, json_object *members)
{
	if (!members)
		return;
	json_object_object_foreach(members, key, value)
	{
		bh_buf_addc(line, ',');
		bh_buf_add_json(line, key);
		bh_buf_addc(line, ':');
		bh_buf_adds(line, json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	}
}

int bh_vm_request(const char *socket, const char *command, json_object *members, const int *files, size_t file_count, json_object **ret_answer,
		  struct bh_error *err)
{
	bh_auto_close int fd = bh_unix_connect(socket, err);
	bh_auto_buf struct bh_buf line = { 0 };
	json_object *answer;
	int r = fd;

	if (r < 0)
		return r;
	bh_buf_adds(&line, "{\"command\":");
	bh_buf_add_json(&line, command);
	add_members(&line, members);
	bh_buf_adds(&line, "}\n");
	r = bh_unix_send(fd, line.data, line.length, files, file_count);
	if (r < 0)
		return bh_error_set(err, -r, "send %s to the monitor", command);
	bh_buf_reset(&line);
	r = read_line(fd, &line, err);
	if (r < 0)
		return r;
	answer = json_tokener_parse(line.data);
	if (!bh_json_bool(answer, "ok", false))
		r = bh_error_text(err, EINVAL, "%s: %s", command, bh_json_text(answer, "error", "no answer that can be read"));
	if (r == 0 && ret_answer)
		*ret_answer = json_object_get(answer);
	json_object_put(answer);
	return r;
}
