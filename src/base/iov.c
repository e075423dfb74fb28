/* SPDX-License-Identifier: Apache-2.0 */
#include "base/iov.h"

#include "base/memory.h"

unsigned bh_iov_slice(const struct iovec *iov, unsigned count, size_t offset, size_t length, struct iovec *ret_iov)
{
	unsigned made = 0;

	for (unsigned i = 0; i < count && length; i++) {
		size_t part;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		part = BH_MIN(iov[i].iov_len - offset, length);
		ret_iov[made++] = (struct iovec){ (char *)iov[i].iov_base + offset, part };
		length -= part;
		offset = 0;
	}
	return made;
}

/* The next part of the pieces: how many bytes of it are in one of them, and where. */
static size_t next_part(const struct iovec *iov, size_t *offset, size_t length, char **ret_part)
{
	size_t skip = BH_MIN(*offset, iov->iov_len);

	*offset -= skip;
	*ret_part = (char *)iov->iov_base + skip;
	return BH_MIN(iov->iov_len - skip, length);
}

size_t bh_iov_copy_to(const struct iovec *iov, unsigned count, size_t offset, const void *bytes, size_t length)
{
	size_t done = 0;
	char *part;

	for (unsigned i = 0; i < count && done < length; i++) {
		size_t n = next_part(&iov[i], &offset, length - done, &part);

		if (n)
			memcpy(part, (const char *)bytes + done, n);
		done += n;
	}
	return done;
}

size_t bh_iov_copy_from(const struct iovec *iov, unsigned count, size_t offset, void *bytes, size_t length)
{
	size_t done = 0;
	char *part;

	for (unsigned i = 0; i < count && done < length; i++) {
		size_t n = next_part(&iov[i], &offset, length - done, &part);

		if (n)
			memcpy((char *)bytes + done, part, n);
		done += n;
	}
	return done;
}

void bh_iov_zero(const struct iovec *iov, unsigned count, size_t offset, size_t length)
{
	char *part;

	for (unsigned i = 0; i < count && length; i++) {
		size_t n = next_part(&iov[i], &offset, length, &part);

		if (n)
			memset(part, 0, n);
		length -= n;
	}
}
