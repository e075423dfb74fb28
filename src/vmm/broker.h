/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The starter's side of a vsock device's broker socket (virtio/virtio.h): answers the monitor, which can open no path itself.
 */
#pragma once

#include "base/error.h"

#include <stdint.h>

/* Makes the two ends. */
int bh_broker_pair(int *ret_ours, int *ret_monitors, struct bh_error *err);
/* Reads one question: the port the guest wants, and the number the answer must bear. -EAGAIN, -EPIPE: the monitor is gone. Doesn't wait. */
int bh_broker_read(int fd, uint32_t *ret_port, uint32_t *ret_id);
/* Answers with a connected socket, which stays the caller's, or with a positive errno and -1. */
int bh_broker_answer(int fd, uint32_t id, int errnum, int socket_fd);
