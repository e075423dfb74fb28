/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folders of the host where there is no virtio-fs: the kernel's FUSE requests go to the host's file server (vmm/files.h) over a channel
 * of the agent's stream, one at a time.
 *
 * A request on the channel is { u32 length, u32 room } and what the kernel said; the answer { u32 length, u32 0 } and the reply, which
 * /dev/fuse takes in one piece. A request that gets no reply has an answer of length 0.
 */
#include "guest/guest-internal.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define MESSAGE_MAX ((1u << 20) + 4096u) /* the file server's: a write of a megabyte and its header */

struct head {
	uint32_t length, room;
};

int guest_share_mount(struct guest_share *share, unsigned index)
{
	bh_auto_free char *path = bh_printf(BH_AGENT_SHARES "/%u", index), *options = NULL;
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	*share = (struct guest_share){ .fd = fd };
	options = bh_printf("fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", fd);
	mkdir(BH_AGENT_SHARES, 0700);
	mkdir(path, 0700);
	if (mount("host", path, "fuse", MS_NODEV, options) < 0) {
		int r = -errno;

		guest_share_clear(share);
		return r;
	}
	return 0;
}

void guest_share_clear(struct guest_share *share)
{
	if (share->fd > 0)
		close(share->fd);
	bh_buf_clear(&share->request);
	bh_buf_clear(&share->reply);
	*share = (struct guest_share){ 0 };
}

void guest_share_read(struct guest_share *share)
{
	struct head head = { .room = MESSAGE_MAX };
	ssize_t n;

	if (share->is_busy)
		return;
	bh_buf_reset(&share->request);
	bh_buf_reserve(&share->request, sizeof head + MESSAGE_MAX);
	n = read(share->fd, share->request.data + sizeof head, MESSAGE_MAX);
	if (n <= 0)
		return;
	head.length = (uint32_t)n;
	memcpy(share->request.data, &head, sizeof head);
	share->request.length = sizeof head + (size_t)n;
	share->sent = 0;
	share->is_busy = true;
}

void guest_share_send(struct guest_share *share, struct bh_agent_source *source, uint32_t channel, struct bh_buf *out)
{
	while (share->sent < share->request.length && source->credit) {
		size_t size = BH_MIN(BH_MIN(share->request.length - share->sent, (size_t)source->credit), (size_t)BH_AGENT_PAYLOAD_MAX);

		bh_agent_put(out, BH_AGENT_DATA, channel, BH_AGENT_STDOUT, share->request.data + share->sent, size);
		share->sent += size;
		source->credit -= (uint32_t)size;
	}
}

int guest_share_take(struct guest_share *share, const void *bytes, size_t length)
{
	struct head head;

	if (!share->is_busy || share->reply.length + length > sizeof head + MESSAGE_MAX)
		return -EPROTO;
	bh_buf_add(&share->reply, bytes, length);
	if (share->reply.length < sizeof head)
		return 0;
	memcpy(&head, share->reply.data, sizeof head);
	if (share->reply.length < sizeof head + head.length)
		return 0;
	/* What the kernel doesn't take (the caller was interrupted) nobody waits for. */
	if (head.length && write(share->fd, share->reply.data + sizeof head, head.length) < 0 && errno != ENOENT)
		guest_say("answer a request for a shared folder: %s", strerror(errno));
	bh_buf_reset(&share->reply);
	share->is_busy = false;
	return 0;
}
