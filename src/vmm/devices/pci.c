/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/pci.h"

#include "base/memory.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#define ADDRESS_PORT 0xcf8
#define DATA_PORT 0xcfc
#define RESET_PORT 0xcf9 /* a register of its own in the middle of the address's, for accesses of one byte */
#define RESET_PORT_RESET 4
#define ADDRESS_ENABLE (1u << 31)
#define FIRST_CAPABILITY 0x40
#define MSIX_ENTRY_SIZE 16
#define BAR_SPACING 0x8000u /* between the base addresses that are given out, from slot 1 on: the largest size there is */

struct bh_pci {
	struct bh_vm *vm;
	pthread_rwlock_t moves;
	pthread_mutex_t access; /* of configuration space */
	struct bh_pci_function *functions[BH_PCI_SLOTS];
	struct bh_pci_function bridge;
	bool has_ports;   /* method 1 is offered */
	uint32_t address; /* of method 1 */
};

void bh_pci_put(struct bh_pci_function *f, unsigned offset, unsigned size, uint32_t value)
{
	memcpy(f->config + offset, &value, size);
}

uint32_t bh_pci_get(const struct bh_pci_function *f, unsigned offset, unsigned size)
{
	uint32_t value = 0;

	memcpy(&value, f->config + offset, size);
	return value;
}

static uint64_t ecam_of(const struct bh_pci_function *f)
{
	return BH_PCI_ECAM_START + f->slot * BH_PCI_ECAM_STRIDE;
}

/* --- what a function is --------------------------------------------------------------------------------------------- */

void bh_pci_function_init(struct bh_pci_function *f, const char *name, uint16_t vendor, uint16_t device, uint16_t subsystem, uint32_t class,
			  uint8_t revision)
{
	f->name = name;
	f->config = bh_aligned_alloc(BH_PCI_PAGE_SIZE, BH_PCI_PAGE_SIZE);
	memset(f->config + BH_PCI_CONFIG_SIZE, 0xff, BH_PCI_PAGE_SIZE - BH_PCI_CONFIG_SIZE);
	f->next_capability = FIRST_CAPABILITY;
	pthread_mutex_init(&f->msix_lock, NULL);
	bh_pci_put(f, PCI_VENDOR_ID, 2, vendor);
	bh_pci_put(f, PCI_DEVICE_ID, 2, device);
	bh_pci_put(f, PCI_CLASS_REVISION, 4, class << 8 | revision);
	bh_pci_put(f, PCI_SUBSYSTEM_VENDOR_ID, 2, vendor);
	bh_pci_put(f, PCI_SUBSYSTEM_ID, 2, subsystem);
	f->writable[PCI_COMMAND] = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	f->writable[PCI_COMMAND + 1] = PCI_COMMAND_INTX_DISABLE >> 8;
	f->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	f->writable[PCI_INTERRUPT_LINE] = 0xff;
}

void bh_pci_function_clear(struct bh_pci_function *f)
{
	/* The machine's own page stays until it goes with the machine. */
	if (f->bus && f->config == bh_vm_page(f->bus->vm, f->slot)) {
		memset(f->config, 0xff, BH_PCI_PAGE_SIZE);
	} else {
		if (f->bus && f->shown)
			bh_vm_show_page(f->bus->vm, f->slot, ecam_of(f), NULL);
		free(f->config);
	}
	f->shown = false;
	f->config = NULL;
}

/* Called with the lock of configuration space held, or before the guest runs. */
static void show_or_hide(struct bh_pci_function *f)
{
	bool want = !f->traps;

	if (want == f->shown)
		return;
	/* A KVM that can't hands each read to us: slower, and the same. */
	if (bh_vm_show_page(f->bus->vm, f->slot, ecam_of(f), want ? f->config : NULL) == 0)
		f->shown = want;
}

void bh_pci_trap_reads(struct bh_pci_function *f)
{
	f->traps = true;
	show_or_hide(f);
}

uint8_t bh_pci_add_capability(struct bh_pci_function *f, uint8_t id, uint8_t length)
{
	uint8_t at = f->next_capability, *link = &f->config[PCI_CAPABILITY_LIST];

	while (*link)
		link = &f->config[*link + PCI_CAP_LIST_NEXT];
	*link = at;
	f->config[at + PCI_CAP_LIST_ID] = id;
	f->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	f->next_capability = (uint8_t)((at + length + 3) & ~3);
	return at;
}

void bh_pci_add_msix(struct bh_pci_function *f, unsigned vectors, uint32_t table, uint32_t pending)
{
	uint8_t at = bh_pci_add_capability(f, PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);

	f->vectors = BH_MIN(vectors, (unsigned)BH_PCI_VECTORS_MAX);
	f->msix_capability = at;
	f->msix_table = table;
	f->msix_pending = pending;
	bh_pci_put(f, at + PCI_MSIX_FLAGS, 2, f->vectors - 1);
	bh_pci_put(f, at + PCI_MSIX_TABLE, 4, table);
	bh_pci_put(f, at + PCI_MSIX_PBA, 4, pending);
	f->writable[at + PCI_MSIX_FLAGS + 1] = (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
	for (unsigned i = 0; i < f->vectors; i++)
		f->entries[i].control = PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

void bh_pci_place(struct bh_pci *pci, struct bh_pci_function *f, unsigned slot)
{
	uint8_t *page = bh_vm_page(pci->vm, slot);

	f->bus = pci;
	f->slot = slot;
	if (f->bar_size) {
		uint32_t mask = ~(f->bar_size - 1);

		memcpy(f->writable + PCI_BASE_ADDRESS_0, &mask, sizeof mask);
		bh_pci_put(f, PCI_BASE_ADDRESS_0, 4, BH_PCI_WINDOW_START + (slot - 1) * BAR_SPACING);
	}
	if (page) {
		memcpy(page, f->config, BH_PCI_PAGE_SIZE);
		free(f->config);
		f->config = page;
		f->shown = true;
	}
	pci->functions[slot] = f;
	show_or_hide(f);
}

int bh_pci_add(struct bh_pci *pci, struct bh_pci_function *f, struct bh_error *err)
{
	unsigned slot = 0;

	while (slot < BH_PCI_SLOTS && pci->functions[slot])
		slot++;
	if (slot == BH_PCI_SLOTS)
		return bh_error_text(err, ENOSPC, "%s: the machine has no slot left: at most %d devices", f->name, BH_PCI_SLOTS - 1);
	bh_pci_place(pci, f, slot);
	return 0;
}

void bh_pci_remove(struct bh_pci_function *f)
{
	struct bh_pci *pci = f->bus;
	uint8_t *own = bh_aligned_alloc(BH_PCI_PAGE_SIZE, BH_PCI_PAGE_SIZE), *page = f->config;

	memcpy(own, page, BH_PCI_PAGE_SIZE);
	f->config = own;
	if (page == bh_vm_page(pci->vm, f->slot)) {
		memset(page, 0xff, BH_PCI_PAGE_SIZE);
	} else {
		if (f->shown)
			bh_vm_show_page(pci->vm, f->slot, ecam_of(f), NULL);
		free(page);
	}
	f->shown = false;
	f->bar = 0;
	if (f->moved)
		f->moved(f->device);
	pci->functions[f->slot] = NULL;
	f->bus = NULL;
}

/* --- MSI-X (PCI 3.0, 6.8.2) ----------------------------------------------------------------------------------------- */

/* Called with the lock held. */
static void deliver_pending(struct bh_pci_function *f)
{
	uint16_t flags = (uint16_t)bh_pci_get(f, f->msix_capability + PCI_MSIX_FLAGS, 2);

	if (!(flags & PCI_MSIX_FLAGS_ENABLE) || flags & PCI_MSIX_FLAGS_MASKALL)
		return;
	for (unsigned i = 0; f->pending && i < f->vectors; i++) {
		if (!(f->pending & 1ULL << i) || f->entries[i].control & PCI_MSIX_ENTRY_CTRL_MASKBIT)
			continue;
		f->pending &= ~(1ULL << i);
		bh_vm_signal_msi(f->bus->vm, f->entries[i].address, f->entries[i].data);
	}
}

void bh_pci_signal(struct bh_pci_function *f, unsigned vector)
{
	if (vector >= f->vectors)
		return;
	pthread_mutex_lock(&f->msix_lock);
	if (bh_pci_get(f, f->msix_capability + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_ENABLE) {
		f->pending |= 1ULL << vector;
		deliver_pending(f);
	}
	pthread_mutex_unlock(&f->msix_lock);
}

static bool in_table(const struct bh_pci_function *f, uint64_t offset, unsigned size)
{
	return f->vectors && offset >= f->msix_table && offset + size <= f->msix_table + (uint64_t)f->vectors * MSIX_ENTRY_SIZE;
}

static bool in_pending(const struct bh_pci_function *f, uint64_t offset, unsigned size)
{
	return f->vectors && offset >= f->msix_pending && offset + size <= f->msix_pending + 8;
}

_Static_assert(sizeof(struct bh_msix_entry) == MSIX_ENTRY_SIZE, "as the table has it");

static uint64_t read_msix(struct bh_pci_function *f, uint64_t offset, unsigned size)
{
	uint64_t value = 0;

	pthread_mutex_lock(&f->msix_lock);
	if (in_pending(f, offset, size))
		memcpy(&value, (uint8_t *)&f->pending + (offset - f->msix_pending), size);
	else
		memcpy(&value, (uint8_t *)f->entries + (offset - f->msix_table), size);
	pthread_mutex_unlock(&f->msix_lock);
	return value;
}

static void write_msix(struct bh_pci_function *f, uint64_t offset, unsigned size, uint64_t value)
{
	if (!in_table(f, offset, size))
		return;
	pthread_mutex_lock(&f->msix_lock);
	memcpy((uint8_t *)f->entries + (offset - f->msix_table), &value, size);
	deliver_pending(f);
	pthread_mutex_unlock(&f->msix_lock);
}

/* --- registers behind base addresses -------------------------------------------------------------------------------- */

static struct bh_pci_function *find(struct bh_pci *pci, uint64_t address, unsigned size, uint64_t *ret_offset)
{
	for (unsigned i = 0; i < BH_PCI_SLOTS; i++) {
		struct bh_pci_function *f = pci->functions[i];

		if (f && f->bar && address >= f->bar && address - f->bar + size <= f->bar_size) {
			*ret_offset = address - f->bar;
			return f;
		}
	}
	return NULL;
}

static uint64_t read_window(void *device, uint64_t offset, unsigned size)
{
	struct bh_pci *pci = device;
	struct bh_pci_function *f;
	uint64_t value = UINT64_MAX, at;

	pthread_rwlock_rdlock(&pci->moves);
	f = find(pci, BH_PCI_WINDOW_START + offset, size, &at);
	if (f)
		value = in_table(f, at, size) || in_pending(f, at, size) ? read_msix(f, at, size) : f->read(f->device, at, size);
	pthread_rwlock_unlock(&pci->moves);
	return value;
}

static void write_window(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct bh_pci *pci = device;
	struct bh_pci_function *f;
	uint64_t at;

	pthread_rwlock_rdlock(&pci->moves);
	f = find(pci, BH_PCI_WINDOW_START + offset, size, &at);
	if (f && (in_table(f, at, size) || in_pending(f, at, size)))
		write_msix(f, at, size, value);
	else if (f)
		f->write(f->device, at, size, value);
	pthread_rwlock_unlock(&pci->moves);
}

/* After a write to the command register or the base address. A place outside of the window is none. */
static void update_bar(struct bh_pci *pci, struct bh_pci_function *f)
{
	uint32_t bar = bh_pci_get(f, PCI_BASE_ADDRESS_0, 4);
	bool on = f->bar_size && bh_pci_get(f, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY;

	if (!on || bar < BH_PCI_WINDOW_START || (uint64_t)bar + f->bar_size > BH_PCI_WINDOW_END)
		bar = 0;
	if (bar == f->bar)
		return;
	pthread_rwlock_wrlock(&pci->moves);
	f->bar = bar;
	if (f->moved)
		f->moved(f->device);
	pthread_rwlock_unlock(&pci->moves);
}

/* --- configuration space -------------------------------------------------------------------------------------------- */

static uint64_t read_config(struct bh_pci *pci, unsigned slot, unsigned offset, unsigned size)
{
	struct bh_pci_function *f = slot < BH_PCI_SLOTS ? pci->functions[slot] : NULL;
	uint64_t value = 0;

	if (!f)
		return UINT64_MAX;
	/* Beyond there is nothing, as a conventional device answers, so that nobody walks a list of extended capabilities. */
	if (offset + size > BH_PCI_CONFIG_SIZE)
		return UINT64_MAX;
	pthread_mutex_lock(&pci->access);
	if (f->before_config_read)
		f->before_config_read(f->device, offset, size);
	memcpy(&value, f->config + offset, size);
	pthread_mutex_unlock(&pci->access);
	return value;
}

static void write_config(struct bh_pci *pci, unsigned slot, unsigned offset, unsigned size, uint64_t value)
{
	struct bh_pci_function *f = slot < BH_PCI_SLOTS ? pci->functions[slot] : NULL;

	if (!f || offset + size > BH_PCI_CONFIG_SIZE)
		return;
	pthread_mutex_lock(&pci->access);
	/* The MSI-X flags are read by whoever sends interrupts. */
	pthread_mutex_lock(&f->msix_lock);
	for (unsigned i = 0; i < size; i++) {
		uint8_t mask = f->writable[offset + i], byte = (uint8_t)(value >> (8 * i));

		f->config[offset + i] = (uint8_t)((f->config[offset + i] & ~mask) | (byte & mask));
	}
	if (f->vectors)
		deliver_pending(f);
	pthread_mutex_unlock(&f->msix_lock);
	update_bar(pci, f);
	if (f->after_config_write)
		f->after_config_write(f->device, offset, size);
	pthread_mutex_unlock(&pci->access);
}

/* ECAM: bus 0, then 5 bits of device, 3 of function, 12 of register. */
static uint64_t read_ecam(void *device, uint64_t offset, unsigned size)
{
	return (offset >> 12 & 7) ? UINT64_MAX : read_config(device, (unsigned)(offset >> 15), offset & 0xfff, size);
}

static void write_ecam(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	if (!(offset >> 12 & 7))
		write_config(device, (unsigned)(offset >> 15), offset & 0xfff, size, value);
}

static uint64_t read_ports(void *device, uint64_t offset, unsigned size)
{
	struct bh_pci *pci = device;
	uint32_t address = __atomic_load_n(&pci->address, __ATOMIC_RELAXED);

	if (!pci->has_ports)
		return UINT64_MAX;
	if (offset + ADDRESS_PORT < DATA_PORT)
		return offset == 0 && size == 4 ? address : UINT64_MAX;
	/* Bus 0 and function 0 are all there are. */
	if (!(address & ADDRESS_ENABLE) || address & 0xff0700)
		return UINT64_MAX;
	return read_config(pci, address >> 11 & 31, (address & 0xfc) + (unsigned)(offset + ADDRESS_PORT - DATA_PORT), size);
}

static void write_ports(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct bh_pci *pci = device;
	uint32_t address = __atomic_load_n(&pci->address, __ATOMIC_RELAXED);

	if (offset + ADDRESS_PORT < DATA_PORT) {
		if (offset == 0 && size == 4)
			__atomic_store_n(&pci->address, (uint32_t)value, __ATOMIC_RELAXED);
		else if (offset + ADDRESS_PORT == RESET_PORT && size == 1 && value & RESET_PORT_RESET)
			bh_vm_end(pci->vm, BH_VM_RESET, 0, "by the reset control register");
	} else if (address & ADDRESS_ENABLE && !(address & 0xff0700)) {
		write_config(pci, address >> 11 & 31, (address & 0xfc) + (unsigned)(offset + ADDRESS_PORT - DATA_PORT), size, value);
	}
}

int bh_pci_make(struct bh_vm *vm, bool has_ports, struct bh_pci **ret_pci, struct bh_error *err)
{
	struct bh_pci *pci = bh_calloc(1, sizeof *pci);
	const struct bh_bus_range ports = { ADDRESS_PORT, 8, "pci", pci, read_ports, write_ports };
	const struct bh_bus_range memory[] = {
		{ BH_PCI_ECAM_START, BH_PCI_ECAM_SIZE, "pci", pci, read_ecam, write_ecam },
		{ BH_PCI_WINDOW_START, BH_PCI_WINDOW_END - BH_PCI_WINDOW_START, "virtio", pci, read_window, write_window },
	};
	int r;

	pci->vm = vm;
	pci->has_ports = has_ports;
	pthread_rwlock_init(&pci->moves, NULL);
	pthread_mutex_init(&pci->access, NULL);
	bh_pci_function_init(&pci->bridge, "host bridge", 0x1b36, 0x0008, 0x1100, 0x060000, 0);
	r = bh_pci_add(pci, &pci->bridge, err);
	if (r == 0)
		r = bh_bus_add(&vm->ports, &ports, err);
	for (size_t i = 0; r == 0 && i < BH_ARRAY_SIZE(memory); i++)
		r = bh_bus_add(&vm->mmio, &memory[i], err);
	if (r < 0)
		bh_pci_free(pci);
	else
		*ret_pci = pci;
	return r;
}

void bh_pci_free(struct bh_pci *pci)
{
	if (pci)
		bh_pci_function_clear(&pci->bridge);
	free(pci);
}

/* --- state ---------------------------------------------------------------------------------------------------------- */

void bh_pci_save_ports(const struct bh_pci *pci, struct bh_buf *out)
{
	bh_state_put(out, pci->has_ports, 1);
	bh_state_put(out, pci->address, 4);
}

void bh_pci_load_ports(struct bh_pci *pci, struct bh_state_reader *in)
{
	pci->has_ports = bh_state_get(in, 1) != 0;
	pci->address = (uint32_t)bh_state_get(in, 4);
}

void bh_pci_save(const struct bh_pci_function *f, struct bh_buf *out)
{
	bh_state_put_bytes(out, f->config, BH_PCI_CONFIG_SIZE);
	bh_state_put(out, f->traps, 1);
	for (unsigned i = 0; i < f->vectors; i++) {
		bh_state_put(out, f->entries[i].address, 8);
		bh_state_put(out, f->entries[i].data, 4);
		bh_state_put(out, f->entries[i].control, 4);
	}
	bh_state_put(out, f->pending, 8);
}

int bh_pci_load(struct bh_pci_function *f, struct bh_state_reader *in, struct bh_error *err)
{
	uint8_t config[BH_PCI_CONFIG_SIZE] = { 0 };
	bool traps;

	bh_state_get_exactly(in, config, sizeof config);
	traps = bh_state_get(in, 1) != 0;
	for (unsigned i = 0; i < f->vectors; i++) {
		f->entries[i].address = bh_state_get(in, 8);
		f->entries[i].data = (uint32_t)bh_state_get(in, 4);
		f->entries[i].control = (uint32_t)bh_state_get(in, 4);
	}
	f->pending = bh_state_get(in, 8);
	if (in->failed)
		return bh_error_text(err, EINVAL, "%s: its saved state is damaged", f->name);
	for (unsigned i = 0; i < sizeof config; i++)
		if ((config[i] ^ f->config[i]) & ~f->writable[i] && i != PCI_STATUS)
			return bh_error_text(err, EINVAL, "the saved machine has another device in slot %u, where this one has a %s", f->slot, f->name);
	memcpy(f->config, config, sizeof config);
	f->traps = traps;
	show_or_hide(f);
	update_bar(f->bus, f);
	return 0;
}
