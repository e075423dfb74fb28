/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock chip (Motorola MC146818A) and its battery-backed bytes: the time of day in UTC, binary-coded, 24 hours; and the memory
 * sizes where PC firmware leaves them. There are no alarms and no interrupts: kernels have better clocks.
 */
#include "vmm/devices/devices.h"

#include "base/memory.h"
#include "base/time.h"

#define PORT 0x70
#define STATUS_A 0x0a
#define STATUS_B 0x0b
#define STATUS_B_24_HOURS 2
#define STATUS_D 0x0d
#define STATUS_D_VALID 0x80
#define MEMORY_16M_LOW 0x34 /* above 16 MiB, in 64 KiB */
#define MEMORY_1M_LOW 0x30  /* above 1 MiB, in KiB */
#define CENTURY 0x32

static atomic_uint selected; /* one chip per process: there is one machine in it */

static uint8_t bcd(int number)
{
	return (uint8_t)(number / 10 % 10 << 4 | number % 10);
}

static uint8_t time_byte(unsigned number)
{
	struct tm utc;

	bh_utc_date(bh_now_ns() / 1000000000, &utc);
	switch (number) {
	case 0:
		return bcd(utc.tm_sec);
	case 2:
		return bcd(utc.tm_min);
	case 4:
		return bcd(utc.tm_hour);
	case 6:
		return bcd(utc.tm_wday + 1);
	case 7:
		return bcd(utc.tm_mday);
	case 8:
		return bcd(utc.tm_mon + 1);
	case 9:
		return bcd(utc.tm_year % 100);
	case CENTURY:
		return bcd((utc.tm_year + 1900) / 100);
	default:
		return 0;
	}
}

static uint8_t byte(const struct bh_vm *vm, unsigned number)
{
	uint64_t low = BH_MIN(vm->memory.size, BH_GUEST_HOLE_START);
	uint64_t above_1m = BH_MIN((low - (1 << 20)) >> 10, 0xffffULL);
	uint64_t above_16m = low > 16 << 20 ? (low - (16 << 20)) >> 16 : 0;

	switch (number) {
	case STATUS_A:
		return 0x26; /* the usual divider and rate; no update under way */
	case STATUS_B:
		return STATUS_B_24_HOURS;
	case STATUS_D:
		return STATUS_D_VALID;
	case MEMORY_1M_LOW:
		return (uint8_t)above_1m;
	case MEMORY_1M_LOW + 1:
		return (uint8_t)(above_1m >> 8);
	case MEMORY_16M_LOW:
		return (uint8_t)above_16m;
	case MEMORY_16M_LOW + 1:
		return (uint8_t)(above_16m >> 8);
	default:
		return time_byte(number);
	}
}

static uint64_t read_port(void *device, uint64_t offset, unsigned size)
{
	(void)size;
	return offset == 1 ? byte(device, atomic_load(&selected)) : 0xff;
}

static void write_port(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	(void)device, (void)size;
	/* Bit 7 masks NMIs, which nobody sends. The bytes themselves can't be changed. */
	if (offset == 0)
		atomic_store(&selected, (unsigned)value & 0x7f);
}

int bh_rtc_make(struct bh_vm *vm, struct bh_error *err)
{
	const struct bh_bus_range range = { PORT, 2, "clock", vm, read_port, write_port };

	return bh_bus_add(&vm->ports, &range, err);
}

uint8_t bh_rtc_selected(void)
{
	return (uint8_t)atomic_load(&selected);
}

void bh_rtc_select(uint8_t number)
{
	atomic_store(&selected, number & 0x7f);
}
