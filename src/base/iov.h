/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that lie in pieces: what readv(2) and its like take. */
#pragma once

#include <stddef.h>
#include <sys/uio.h>

/* The part from `offset` on, at most `length` bytes, as pieces of its own: no more than there were. Returns their number. */
unsigned bh_iov_slice(const struct iovec *iov, unsigned count, size_t offset, size_t length, struct iovec *ret_iov);
/* Between the pieces, from `offset` on, and memory. Returns how many bytes there were, at most `length`. */
size_t bh_iov_copy_to(const struct iovec *iov, unsigned count, size_t offset, const void *bytes, size_t length);
size_t bh_iov_copy_from(const struct iovec *iov, unsigned count, size_t offset, void *bytes, size_t length);
void bh_iov_zero(const struct iovec *iov, unsigned count, size_t offset, size_t length);
