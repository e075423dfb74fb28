/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/process.h"

#include "base/memory.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int bh_process_start_time(pid_t pid, uint64_t *ret_start)
{
	char path[32], text[512];
	bh_auto_close int fd = -1;
	const char *p;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof text - 1);
	if (n <= 0)
		return -ESRCH;
	text[n] = '\0';
	p = strrchr(text, ')'); /* the name before may hold anything */
	if (!p || !p[1] || p[2] == 'Z')
		return -ESRCH;
	/* behind ")": state is field 3, starttime is field 22 */
	for (int field = 2; field < 22 && p; field++)
		p = strchr(p + 1, ' ');
	return p && sscanf(p, "%" SCNu64, ret_start) == 1 ? 0 : -EINVAL;
}

int bh_process_open(pid_t pid, uint64_t start)
{
	bh_auto_close int fd = bh_pidfd_or_folder(pid);
	uint64_t now = 0;
	int r;

	if (fd < 0)
		return fd;
	/* Read after the pidfd was opened: it is this process's, or that process is gone and the signal below says so. */
	r = bh_process_start_time(pid, &now);
	if (r < 0)
		return r;
	if (now != start || bh_pidfd_send_signal(fd, 0) == -ESRCH)
		return -ESRCH;
	return BH_TAKE_FD(fd);
}
