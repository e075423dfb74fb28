/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI: one bus behind a host bridge (PCI Local Bus Specification 3.0, PCI Express Base Specification chapter 7).
 *
 * A guest reaches configuration space by ports 0xcf8/0xcfc (method 1) and by memory (ECAM), where it reads a function's page without an
 * exit: the page is guest memory that only we can write. A function for which reading does something is withdrawn from that
 * (bh_pci_trap_reads) before the first such read. Each function has at most one base
 * address register, a 32-bit memory one, and MSI-X; there are no interrupt lines. Addresses are given out here, as firmware does;
 * a guest may move them.
 *
 * Locks: `moves` is held for reading while a function's registers are accessed, for writing while a base address changes. A
 * function's MSI-X state has a lock of its own, since interrupts come from any thread.
 */
#pragma once

#include "vmm/state.h"
#include "vmm/vm.h"

#define BH_PCI_WINDOW_START 0xc0000000ULL /* where base addresses may lie */
#define BH_PCI_WINDOW_END 0xe0000000ULL
#define BH_PCI_ECAM_START 0xe0000000ULL
#define BH_PCI_ECAM_SIZE (1ULL << 20) /* one bus */
#define BH_PCI_ECAM_STRIDE (1ULL << 15) /* from a slot's first function to the next slot's */
#define BH_PCI_SLOTS 32
#define BH_PCI_VECTORS_MAX 64
#define BH_PCI_CONFIG_SIZE 256
#define BH_PCI_PAGE_SIZE 4096 /* of a function in ECAM */

struct bh_pci;

struct bh_msix_entry {
	uint64_t address;
	uint32_t data, control; /* control: bit 0 masks it */
};

struct bh_pci_function {
	const char *name;
	struct bh_pci *bus;
	unsigned slot;
	uint8_t *config;                      /* BH_PCI_PAGE_SIZE bytes; behind BH_PCI_CONFIG_SIZE all bits are one */
	bool shown;                           /* the guest reads that page itself */
	bool traps;                           /* ... and must not any more */
	uint8_t writable[BH_PCI_CONFIG_SIZE]; /* bits that the guest may change */
	uint8_t next_capability;              /* where the next one goes */
	uint32_t bar_size;                    /* bytes, a power of two; 0: no base address */
	uint32_t bar;                         /* where it is now; 0: memory accesses are off */
	/* MSI-X */
	unsigned vectors;                     /* 0: none */
	uint8_t msix_capability;
	uint32_t msix_table, msix_pending;    /* offsets in the BAR */
	pthread_mutex_t msix_lock;
	struct bh_msix_entry entries[BH_PCI_VECTORS_MAX];
	uint64_t pending;
	/* registers behind the base address, but for the MSI-X ones */
	void *device;
	uint64_t (*read)(void *device, uint64_t offset, unsigned size);
	void (*write)(void *device, uint64_t offset, unsigned size, uint64_t value);
	void (*moved)(void *device); /* `bar` has changed; may be NULL */
	/* Configuration registers that do something when they are accessed; may be NULL. The first is only called if `traps`, or for the ports. */
	void (*before_config_read)(void *device, unsigned offset, unsigned size);
	void (*after_config_write)(void *device, unsigned offset, unsigned size);
};

/* Takes the ports (which answer only if `has_ports`: then there is method 1), ECAM and the window; the bridge itself is in slot 0. */
int bh_pci_make(struct bh_vm *vm, bool has_ports, struct bh_pci **ret_pci, struct bh_error *err);
/* What the ports remember. */
void bh_pci_save_ports(const struct bh_pci *pci, struct bh_buf *out);
void bh_pci_load_ports(struct bh_pci *pci, struct bh_state_reader *in);
/* The functions stay their makers'. NULL is nothing. */
void bh_pci_free(struct bh_pci *pci);

/* A function's identity: class as 0xccssii. All zero before; bh_pci_function_clear frees it. */
void bh_pci_function_init(struct bh_pci_function *function, const char *name, uint16_t vendor, uint16_t device, uint16_t subsystem, uint32_t class,
			  uint8_t revision);
/* Takes it from the guest, whose processors don't run any more. */
void bh_pci_function_clear(struct bh_pci_function *function);
/* Adds a capability of `length` bytes (its id and next pointer included); returns its offset, its body zero. */
uint8_t bh_pci_add_capability(struct bh_pci_function *function, uint8_t id, uint8_t length);
/* MSI-X with its table and pending bits at these offsets of the BAR. */
void bh_pci_add_msix(struct bh_pci_function *function, unsigned vectors, uint32_t table, uint32_t pending);
/* Gives it a slot and an address, and shows it to the guest. */
int bh_pci_add(struct bh_pci *pci, struct bh_pci_function *function, struct bh_error *err);
/* The same in a slot that is free. */
void bh_pci_place(struct bh_pci *pci, struct bh_pci_function *function, unsigned slot);
/* Takes it out of its slot; the function stays its maker's, to be placed again or cleared. The processors are outside of the guest. */
void bh_pci_remove(struct bh_pci_function *function);
/* Sends the message of a vector, or remembers it while it is masked. One that doesn't exist is nothing. Any thread. */
void bh_pci_signal(struct bh_pci_function *function, unsigned vector);

/* From now on every read of the function's configuration space is an exit. Any thread. */
void bh_pci_trap_reads(struct bh_pci_function *function);

/* For a function's registers: little-endian values in its configuration space. */
void bh_pci_put(struct bh_pci_function *function, unsigned offset, unsigned size, uint32_t value);
uint32_t bh_pci_get(const struct bh_pci_function *function, unsigned offset, unsigned size);

/* What the guest has set: configuration space, base address, MSI-X. A saved function must be the same kind of device. */
void bh_pci_save(const struct bh_pci_function *function, struct bh_buf *out);
int bh_pci_load(struct bh_pci_function *function, struct bh_state_reader *in, struct bh_error *err);
