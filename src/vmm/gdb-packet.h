/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frames of GDB's remote serial protocol (GDB manual, appendix E.1): $content#checksum, acknowledgements, and the interrupt byte. Bytes from
 * a socket are hostile: what is longer than a packet may be is counted as damaged, and nothing of it is kept.
 */
#pragma once

#include "base/string.h"

#define BH_GDB_PACKET_MAX 4096

enum bh_gdb_event {
	BH_GDB_NOTHING,
	BH_GDB_PACKET,    /* `content` has it, terminated */
	BH_GDB_DAMAGED,   /* a packet with a wrong checksum, or too long */
	BH_GDB_REPEAT,    /* "-": the last answer didn't arrive whole */
	BH_GDB_INTERRUPT, /* 0x03 */
};

struct bh_gdb_parser {
	char content[BH_GDB_PACKET_MAX + 1];
	size_t length;
	enum { BH_GDB_BETWEEN, BH_GDB_INSIDE, BH_GDB_SUM_FIRST, BH_GDB_SUM_SECOND } state;
	bool damaged;
	uint8_t sum, told;
};

/* Takes one byte. */
enum bh_gdb_event bh_gdb_parse(struct bh_gdb_parser *parser, uint8_t byte);
/* Appends the content as a frame; none of "$#}*" may be in it. */
void bh_gdb_frame(struct bh_buf *out, const char *content);

/* Hexadecimal digits, two a byte, as registers and memory are sent. */
void bh_gdb_put_bytes(struct bh_buf *out, const void *bytes, size_t length);
/* Reads exactly `length` bytes from *at and moves it. False: something else is there. */
bool bh_gdb_get_bytes(const char **at, void *bytes, size_t length);
/* A number of 1 to 16 digits, and moves *at behind it. */
bool bh_gdb_get_number(const char **at, uint64_t *ret_value);
/* The character, which is skipped. */
bool bh_gdb_get_char(const char **at, char wanted);
