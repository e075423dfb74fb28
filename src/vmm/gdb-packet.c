/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gdb-packet.h"

#define INTERRUPT 0x03

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void begin(struct bh_gdb_parser *p)
{
	p->state = BH_GDB_INSIDE;
	p->length = 0;
	p->damaged = false;
	p->sum = 0;
}

static enum bh_gdb_event take_sum(struct bh_gdb_parser *p, uint8_t byte)
{
	int value = digit((char)byte);

	p->damaged = p->damaged || value < 0;
	if (p->state == BH_GDB_SUM_FIRST) {
		p->told = (uint8_t)(value < 0 ? 0 : value << 4);
		p->state = BH_GDB_SUM_SECOND;
		return BH_GDB_NOTHING;
	}
	p->state = BH_GDB_BETWEEN;
	p->content[p->length] = '\0';
	return p->damaged || (p->told | value) != p->sum ? BH_GDB_DAMAGED : BH_GDB_PACKET;
}

enum bh_gdb_event bh_gdb_parse(struct bh_gdb_parser *p, uint8_t byte)
{
	if (p->state == BH_GDB_BETWEEN) {
		if (byte == '$')
			begin(p);
		return byte == INTERRUPT ? BH_GDB_INTERRUPT : byte == '-' ? BH_GDB_REPEAT : BH_GDB_NOTHING;
	}
	if (p->state != BH_GDB_INSIDE)
		return take_sum(p, byte);
	if (byte == '$') {
		begin(p);
	} else if (byte == '#') {
		p->state = BH_GDB_SUM_FIRST;
	} else {
		p->sum = (uint8_t)(p->sum + byte);
		if (p->length < BH_GDB_PACKET_MAX)
			p->content[p->length++] = (char)byte;
		else
			p->damaged = true;
	}
	return BH_GDB_NOTHING;
}

void bh_gdb_frame(struct bh_buf *out, const char *content)
{
	uint8_t sum = 0;

	for (const char *at = content; *at; at++)
		sum = (uint8_t)(sum + (uint8_t)*at);
	bh_buf_addf(out, "$%s#%02x", content, sum);
}

void bh_gdb_put_bytes(struct bh_buf *out, const void *bytes, size_t length)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *at = bytes;

	for (size_t i = 0; i < length; i++) {
		bh_buf_addc(out, digits[at[i] >> 4]);
		bh_buf_addc(out, digits[at[i] & 15]);
	}
}

bool bh_gdb_get_bytes(const char **at, void *bytes, size_t length)
{
	uint8_t *to = bytes;

	for (size_t i = 0; i < length; i++, *at += 2) {
		int high = digit((*at)[0]), low = high < 0 ? -1 : digit((*at)[1]);

		if (low < 0)
			return false;
		to[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

bool bh_gdb_get_number(const char **at, uint64_t *ret_value)
{
	uint64_t value = 0;
	int count = 0;

	for (; digit(**at) >= 0; ++*at, count++)
		value = value << 4 | (uint64_t)digit(**at);
	*ret_value = value;
	return count > 0 && count <= 16;
}

bool bh_gdb_get_char(const char **at, char wanted)
{
	if (**at != wanted)
		return false;
	++*at;
	return true;
}
