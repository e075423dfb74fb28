/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The old devices of a PC, as far as kernels expect them. Each is made for a machine, takes its ports, and is freed by its own
 * function after the machine's threads have ended.
 */
#pragma once

#include "vmm/vm.h"

/* --- 16550 UART (National Semiconductor PC16550D) at 0x3f8, interrupt 4 --- */

struct bh_serial;

/* by_interrupt: no input comes before the guest asks for its interrupt, so that nothing is lost while a driver sets the port up. */
int bh_serial_make(struct bh_vm *vm, bool by_interrupt, struct bh_serial **ret_serial, struct bh_error *err);
void bh_serial_free(struct bh_serial *serial);
/* Readable when there is output, and when input is taken again that was not. */
int bh_serial_event_fd(const struct bh_serial *serial);
/* Moves what the guest has sent to fd. -errno if that can't take it: it stays. */
int bh_serial_flush(struct bh_serial *serial, int fd);
/* Gives the guest input; returns how many bytes fitted. */
size_t bh_serial_input(struct bh_serial *serial, const void *bytes, size_t length);

void bh_serial_save(struct bh_serial *serial, struct bh_buf *out);
void bh_serial_load(struct bh_serial *serial, struct bh_state_reader *in);

/* --- for test guests alone: --multiboot --- */

/* A byte written to port 0xf4 ends the machine with it as the exit code. */
int bh_debug_exit_make(struct bh_vm *vm, struct bh_error *err);
/* Ports 0x510 and 0x511: how much memory and how many processors the machine has. */
int bh_firmware_config_make(struct bh_vm *vm, struct bh_error *err);
void bh_firmware_config_save(struct bh_buf *out);
void bh_firmware_config_load(struct bh_state_reader *in);
/* ACPI's timer and its fixed registers, at the ports that boot/boot.h names. */
int bh_pm_timer_make(struct bh_vm *vm, struct bh_error *err);

/* Bytes, interrupt lines and memory to try a machine with (test-device.c). *ret_device is the caller's also after a failure. */
struct bh_test_device;
int bh_test_device_make(struct bh_vm *vm, struct bh_test_device **ret_device, struct bh_error *err);
void bh_test_device_free(struct bh_test_device *device);
void bh_test_device_save(const struct bh_test_device *device, struct bh_buf *out);
void bh_test_device_load(struct bh_test_device *device, struct bh_state_reader *in);

/* --- with little or no state --- */

/* The keyboard controller, as far as its reset line: 0xfe to port 0x64. Port 0x92 does the same. */
int bh_reset_ports_make(struct bh_vm *vm, struct bh_error *err);
/* ACPI's power-off, at the ports that boot/acpi.c names. */
int bh_power_make(struct bh_vm *vm, struct bh_error *err);
/* Where the guest's kernel says that it has panicked, which ends the machine. */
int bh_panic_port_make(struct bh_vm *vm, struct bh_error *err);
/* The real-time clock (MC146818) at 0x70: the time of day, and the memory sizes that firmware left there. */
int bh_rtc_make(struct bh_vm *vm, struct bh_error *err);
/* The number of the byte that the guest reads next. */
uint8_t bh_rtc_selected(void);
void bh_rtc_select(uint8_t number);

/* Events that the guest's ACPI hears of. Raising: any thread. */
#define BH_EVENT_POWER_BUTTON 1u
#define BH_EVENT_GENERATION 2u /* the generation id has changed */
#define BH_EVENT_PLUG 4u       /* slots get or lose devices: */
int bh_events_make(struct bh_vm *vm, struct bh_error *err);
void bh_events_raise(struct bh_vm *vm, unsigned events);
/* Raised, and not yet taken by the guest. */
uint8_t bh_events_waiting(void);
void bh_events_set_waiting(uint8_t events);

/* Which slots of PCI have got a new device, or are to lose theirs: for the guest's ACPI. */
int bh_plug_make(struct bh_vm *vm, struct bh_error *err);
void bh_plug_clear(void);
/* Any thread. */
void bh_plug_tell(struct bh_vm *vm, unsigned slot, bool comes);
/* True, once: the guest has let go of it. One thread; bh_plug_gone_fd is readable when there may be one. */
bool bh_plug_take_gone(unsigned slot);
int bh_plug_gone_fd(void);
void bh_plug_save(struct bh_buf *out);
void bh_plug_load(struct bh_state_reader *in);
