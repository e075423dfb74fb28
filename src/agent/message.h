/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What host and guest of a microVM say to each other: frames on one byte stream (a virtio-serial port, or a vsock connection).
 *
 *	host                                guest (bulkhead-guest, the first process)
 *	                          <- HELLO  version: the guest is up
 *	HELLO  version, clock, entropy ->
 *	REQUEST  JSON, in pieces ->         channel 1: the workload (bytes that the agent hands on without reading them)
 *	RUN      kind, streams   ->
 *	                          <- STARTED, or FAILED with the words and the exit code that the user will see
 *	DATA END CREDIT         <->         of the three streams of each channel
 *	RESIZE SIGNAL            ->
 *	                          <- EXITED  exit code. Of channel 1: all output is sent and the disks are synced; then it powers off
 *
 * Each further process (exec) is a channel of its own. A stream's sender has a window of BH_AGENT_WINDOW bytes; the receiver gives
 * credit for what it has passed on, so one reader that stands still holds up its own stream and no other, and nobody buffers more
 * than windows.
 *
 * Invariants: a frame's header and payload are checked against the table in message.c before anybody sees them; the host takes the
 * guest for an enemy, so what the table, a window or the order of frames forbids ends the session. Both ends are of one build
 * and one machine (the host hands the guest its program), so the structures below are laid out as they are in memory. Only a domain that
 * has run since before an upgrade has an older one: BH_AGENT_VERSION grows with every change here.
 *
 * A domain's agent listens at BH_AGENT_VSOCK_PORT, and each connection to it is such a stream of its own (guest/domain.c): channel 1 is then
 * an exec like any other, and the end of the stream ends its processes.
 */
#pragma once

#include "base/error.h"
#include "base/string.h"

#include <stdint.h>

#define BH_AGENT_VERSION 2u
#define BH_AGENT_PORT_NAME "io.bulkhead.agent"
#define BH_AGENT_VSOCK_PORT 1024
#define BH_AGENT_PAYLOAD_MAX 16384u
#define BH_AGENT_REQUEST_MAX (8u << 20) /* bytes of a channel's JSON */
#define BH_AGENT_WINDOW 65536u
#define BH_AGENT_CHANNELS_MAX 64u       /* at once */
#define BH_AGENT_WORKLOAD 1u            /* the channel of the first process */

enum bh_agent_type {
	BH_AGENT_HELLO = 1, /* struct bh_agent_hello */
	BH_AGENT_REQUEST,   /* the next bytes of the channel's JSON */
	BH_AGENT_RUN,       /* struct bh_agent_run */
	BH_AGENT_STARTED,
	BH_AGENT_FAILED,    /* struct bh_agent_failure, as much of it as its text needs */
	BH_AGENT_EXITED,    /* uint32_t: 0-255, 128+N after signal N */
	BH_AGENT_DATA,
	BH_AGENT_END,       /* of a stream */
	BH_AGENT_CREDIT,    /* uint32_t: bytes that were passed on */
	BH_AGENT_RESIZE,    /* struct bh_agent_size */
	BH_AGENT_SIGNAL,    /* uint32_t */
	BH_AGENT_CLOCK,     /* int64_t: nanoseconds since 1970 */
	BH_AGENT_POWER,     /* uint32_t, enum bh_agent_power: to a domain, whose first process is asked to end before */
	BH_AGENT_TYPES,
};

enum bh_agent_power { BH_AGENT_POWER_OFF, BH_AGENT_REBOOT };

enum bh_agent_side { BH_AGENT_HOST = 1, BH_AGENT_GUEST = 2 };
enum bh_agent_stream { BH_AGENT_STDIN, BH_AGENT_STDOUT, BH_AGENT_STDERR, BH_AGENT_STREAMS };

struct bh_agent_header {
	uint32_t length; /* of the payload */
	uint8_t type, stream;
	uint16_t reserved; /* 0 */
	uint32_t channel;  /* 0: the machine itself */
};

struct bh_agent_hello {
	uint32_t version, reserved;
	int64_t now_ns;            /* the host's clock */
	unsigned char entropy[32]; /* the host's */
};

enum bh_agent_kind {
	BH_AGENT_START,
	BH_AGENT_EXEC,
	BH_AGENT_LIST,  /* of processes, on its standard output */
	BH_AGENT_SHARE, /* no process: a folder of the host, whose requests are its output, and the answers its input (guest/share.c) */
	BH_AGENT_TRANSFER, /* of files: its standard input is what comes in, its standard output what goes out */
};

struct bh_agent_size {
	uint16_t rows, columns;
};

struct bh_agent_run {
	uint8_t kind;
	uint8_t terminal;
	uint8_t has_stdin; /* else it reads nothing */
	uint8_t share;     /* which one: it is mounted on BH_AGENT_SHARES "/<share>" */
	struct bh_agent_size size;
};

#define BH_AGENT_TEXT_MAX 1023
struct bh_agent_failure {
	int32_t errnum, exit_code;
	uint32_t of_workload;
	char text[BH_AGENT_TEXT_MAX + 1]; /* on the stream without the zero behind it */
};
#define BH_AGENT_FAILURE_MIN offsetof(struct bh_agent_failure, text)

/* What the program that makes a process in the guest tells the agent, on a SOCK_SEQPACKET; the terminal comes with it. */
struct bh_agent_result {
	int32_t pid; /* 0: `failure` says why not */
	struct bh_agent_failure failure;
};
#define BH_AGENT_RESULT_FD 3
#define BH_AGENT_REQUEST_FD 4
#define BH_AGENT_STDIN_FD 5 /* and stdout, stderr behind it; closed where there is none */

/* In the guest: where the image's and the writable disk are mounted, and the first process's pid on record. */
#define BH_AGENT_IMAGE "/run/image"
#define BH_AGENT_WRITABLE "/run/writable"
#define BH_AGENT_SHARES "/run/shares"
#define BH_AGENT_SHARES_MAX 16u
#define BH_AGENT_PID_FILE "/run/pid"

struct bh_agent_frame {
	enum bh_agent_type type;
	enum bh_agent_stream stream;
	uint32_t channel;
	const void *payload; /* in the bytes that were given */
	uint32_t length;
};

void bh_agent_put(struct bh_buf *out, enum bh_agent_type type, uint32_t channel, enum bh_agent_stream stream, const void *payload, size_t length);

/*
 * Takes the first frame of these bytes, which `from` has sent. 1 and its size in *ret_used; 0: it isn't whole yet; -EPROTO with
 * words: not a frame, or none that this side may send.
 */
int bh_agent_take(enum bh_agent_side from, const void *bytes, size_t length, struct bh_agent_frame *ret_frame, size_t *ret_used,
		  struct bh_error *err);
