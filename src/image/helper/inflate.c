/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead-image inflate`: the kernel that is compressed inside a bzImage (Linux Documentation/arch/x86/boot.rst, payload_offset), from standard input to
 * standard output. It is started without a store, and locks itself in on its own: no capability, and only the system calls that reading,
 * writing and memory need.
 *
 * Ends with 0 when the ELF executable has been written, with UNKNOWN when the input is no bzImage or is compressed in a way that isn't known (the
 * caller starts it as it is), else with 125 and one line.
 */
#include "image/helper/helper-internal.h"

#include "base/file.h"
#include "linux/credentials.h"

#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <lz4.h>
#include <lzma.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define KERNEL_MAX (256u << 20)
#ifndef INFLATED_MAX /* fuzzing wants less */
#define INFLATED_MAX (1u << 30)
#endif
#define UNKNOWN 3
#define FAILED 125
#define SECTOR 512u
#define HEADER_MAGIC 0x53726448u /* "HdrS" */
#define STEP (1u << 20)
#define LZ4_BLOCK_MAX (8u << 20)

#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static int lock_in(struct bh_error *err)
{
	static struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(read),
		ALLOW(write),
		ALLOW(mmap),
		ALLOW(mremap),
		ALLOW(munmap),
		ALLOW(madvise),
		ALLOW(brk),
		ALLOW(close),
		ALLOW(futex),
		ALLOW(exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	static const struct sock_fprog program = { BH_ARRAY_SIZE(filter), filter };
	static const struct bh_capability_sets none = { 0 };
	int r = bh_capabilities_bound(0, err);

	if (r == 0)
		r = bh_capabilities_set(&none, err);
	if (r < 0)
		return r;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		return bh_error_set(err, errno, "lock the inflater in");
	return 0;
}

/* --- formats: all of `in` into `out`; trailing bytes are none of theirs ------------------------------------------------- */

static char *room(struct bh_buf *out, size_t *ret_size)
{
	if (out->length >= INFLATED_MAX)
		return NULL;
	bh_buf_reserve(out, STEP);
	*ret_size = STEP;
	return out->data + out->length;
}

static bool inflate_gzip(const uint8_t *in, size_t size, struct bh_buf *out)
{
	z_stream z = { .next_in = (uint8_t *)(uintptr_t)in, .avail_in = (unsigned)size };
	int r = inflateInit2(&z, 16 + MAX_WBITS);
	size_t space = 0;

	while (r == Z_OK) {
		char *to = room(out, &space);

		if (!to)
			break;
		z.next_out = (uint8_t *)to;
		z.avail_out = (unsigned)space;
		r = inflate(&z, Z_NO_FLUSH);
		out->length += space - z.avail_out;
	}
	inflateEnd(&z);
	return r == Z_STREAM_END;
}

static bool inflate_xz(const uint8_t *in, size_t size, struct bh_buf *out)
{
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_ret r = lzma_stream_decoder(&z, INFLATED_MAX, 0);
	size_t space = 0;

	z.next_in = in;
	z.avail_in = size;
	while (r == LZMA_OK) {
		char *to = room(out, &space);

		if (!to)
			break;
		z.next_out = (uint8_t *)to;
		z.avail_out = space;
		r = lzma_code(&z, LZMA_RUN);
		out->length += space - z.avail_out;
	}
	lzma_end(&z);
	return r == LZMA_STREAM_END;
}

static bool inflate_zstd(const uint8_t *in, size_t size, struct bh_buf *out)
{
	ZSTD_DStream *z = ZSTD_createDStream();
	ZSTD_inBuffer input = { in, size, 0 };
	size_t r = 1, space = 0;

	/* The window that the kernel's own build uses. */
	ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, 27);
	while (r != 0 && !ZSTD_isError(r)) {
		char *to = room(out, &space);
		ZSTD_outBuffer output = { to, space, 0 };
		size_t before = input.pos;

		if (!to)
			break;
		r = ZSTD_decompressStream(z, &output, &input);
		out->length += output.pos;
		if (r != 0 && output.pos == 0 && input.pos == before)
			break; /* it wants more than there is */
	}
	ZSTD_freeDStream(z);
	return r == 0;
}

/* The legacy frame: blocks with their length before them. */
static bool inflate_lz4(const uint8_t *in, size_t size, struct bh_buf *out)
{
	size_t at = 4;

	while (at + 4 <= size && out->length < INFLATED_MAX) {
		uint32_t length;
		int made;

		memcpy(&length, in + at, sizeof length);
		at += 4;
		/* What follows the last block is the inflated size. */
		if (length > size - at || length == 0)
			return out->length != 0;
		bh_buf_reserve(out, LZ4_BLOCK_MAX);
		made = LZ4_decompress_safe((const char *)in + at, out->data + out->length, (int)length, LZ4_BLOCK_MAX);
		if (made < 0)
			return false;
		out->length += (size_t)made;
		at += length;
	}
	return out->length != 0;
}

static const struct {
	const char *magic;
	size_t length;
	bool (*inflate)(const uint8_t *in, size_t size, struct bh_buf *out);
} formats[] = {
	{ "\x1f\x8b", 2, inflate_gzip },
	{ "\xfd"
	  "7zXZ\0",
	  6, inflate_xz },
	{ "\x28\xb5\x2f\xfd", 4, inflate_zstd },
	{ "\x02\x21\x4c\x18", 4, inflate_lz4 },
};

/* --- the kernel ----------------------------------------------------------------------------------------------------------- */

/* Where the compressed kernel lies; false if it's no bzImage. */
static bool find_payload(const struct bh_buf *image, const uint8_t **ret_at, size_t *ret_size)
{
	const size_t offset = offsetof(struct boot_params, hdr);
	struct setup_header header;
	uint64_t start;

	if (image->length < offset + sizeof header)
		return false;
	memcpy(&header, image->data + offset, sizeof header);
	if (header.header != HEADER_MAGIC || header.version < 0x0208)
		return false;
	start = ((header.setup_sects ? header.setup_sects : 4u) + 1) * SECTOR + (uint64_t)header.payload_offset;
	if (start > image->length || header.payload_length > image->length - start || header.payload_length < 16)
		return false;
	*ret_at = (const uint8_t *)image->data + start;
	*ret_size = header.payload_length;
	return true;
}

int helper_inflate_kernel(const struct bh_buf *image, struct bh_buf *ret_kernel, struct bh_error *err)
{
	const uint8_t *at;
	size_t size;

	if (!find_payload(image, &at, &size))
		return -ENOEXEC;
	for (size_t i = 0; i < BH_ARRAY_SIZE(formats); i++) {
		if (memcmp(at, formats[i].magic, formats[i].length) != 0)
			continue;
		if (!formats[i].inflate(at, size, ret_kernel) || ret_kernel->length < SELFMAG || memcmp(ret_kernel->data, ELFMAG, SELFMAG) != 0)
			return bh_error_text(err, EINVAL, "the compressed kernel is damaged");
		return 0;
	}
	return -ENOEXEC;
}

static int fail(const char *words)
{
	bh_auto_free char *line = bh_printf("bulkhead-image: %s\n", words);

	bh_write_all(STDERR_FILENO, line, strlen(line));
	return FAILED;
}

int helper_inflate_main(void)
{
	bh_auto_buf struct bh_buf image = { 0 }, kernel = { 0 };
	struct bh_error err = BH_ERROR_INIT;
	int r = lock_in(&err);

	if (r == 0) {
		r = bh_read_fd(STDIN_FILENO, KERNEL_MAX, &image);
		if (r < 0)
			bh_error_set(&err, -r, "read the kernel");
	}
	if (r == 0)
		r = helper_inflate_kernel(&image, &kernel, &err);
	if (r == -ENOEXEC)
		return UNKNOWN;
	if (r == 0) {
		r = bh_write_all(STDOUT_FILENO, kernel.data, kernel.length);
		if (r < 0)
			bh_error_set(&err, -r, "write the kernel");
	}
	return r < 0 ? fail(err.message) : 0;
}
