/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2 images. An input is a byte of choices, a number of steps (8 bytes each: what, how much, where), then the image. The image
 * behind never changes.
 */
#include "base/file.h"
#include "vmm/disk/disk.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define STEPS_MAX 16
#define PART_MAX (64u << 10)
#define BACKING_SIZE (32u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int make_file(const void *bytes, size_t size)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	if (fd < 0 || (size && bh_write_all(fd, bytes, size) < 0))
		abort();
	return fd;
}

static void step(struct bh_disk *disk, const uint8_t *choice)
{
	static uint8_t bytes[PART_MAX], found[PART_MAX];
	struct iovec out[2] = { { bytes, 512 }, { bytes + 512, PART_MAX - 512 } }, in = { found, PART_MAX };
	uint64_t at, length = (choice[1] % 128 + 1) * 512u;

	memcpy(&at, choice, sizeof at);
	at = (at >> 16) * 512;
	if (disk->size == 0)
		return;
	at = choice[0] & 0x80 ? at % disk->size / 512 * 512 : disk->size - BH_MIN(disk->size, (at % 4096 + 1) * 512);
	length = BH_MIN(length, disk->size - at);
	switch (choice[0] % 5) {
	case 0:
		(void)bh_disk_readv(disk, out, 2, at, length);
		break;
	case 1:
		memset(bytes, choice[1], sizeof bytes);
		if (bh_disk_writev(disk, out, 2, at, length) < 0)
			break;
		(void)bh_disk_readv(disk, &in, 1, at, length);
		break;
	case 2:
		(void)bh_disk_discard(disk, at, length);
		break;
	case 3:
		(void)bh_disk_write_zeroes(disk, at, length, true);
		break;
	default:
		(void)bh_disk_flush(disk);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool limited;
	const struct rlimit limit = { 8 << 20, 8 << 20 };
	static uint8_t behind[BACKING_SIZE];
	struct bh_error err = BH_ERROR_INIT;
	struct bh_disk *disk = NULL, *backing = NULL;
	bh_auto_close int backing_fd = -1;
	size_t steps;

	if (!limited) {
		(void)signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &limit);
		memset(behind, 'b', sizeof behind);
		limited = true;
	}
	if (size < 2)
		return 0;
	steps = data[1] % (STEPS_MAX + 1);
	if (size < 2 + steps * 8)
		return 0;
	if (data[0] & 1) {
		backing_fd = make_file(behind, sizeof behind);
		(void)bh_disk_open_raw(fcntl(backing_fd, F_DUPFD_CLOEXEC, 0), true, &backing, &err);
	}
	if (bh_disk_open_qcow2(make_file(data + 2 + steps * 8, size - 2 - steps * 8), data[0] & 2, backing, &disk, &err) < 0)
		return 0;
	for (size_t i = 0; i < steps; i++)
		step(disk, data + 2 + i * 8);
	bh_disk_free(disk);
	if (backing_fd >= 0) {
		char c = 0;

		if (pread(backing_fd, &c, 1, 100) != 1 || c != 'b')
			abort();
	}
	return 0;
}
