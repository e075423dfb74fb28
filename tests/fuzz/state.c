/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine that comes from outside: as a snapshot's state file beside a memory file (first byte even), or as a migration's stream. Of a machine's state
 * that of one device is loaded, the first byte says which, and the device then works. Checksums are taken as right (tests.mk: they are zero here).
 */
#include "../unit/virtio-test.h"

#include "base/file.h"
#include "base/memory.h"
#include "vmm/machine-internal.h"
#include "vmm/migrate.h"
#include "vmm/snapshot.h"
#include "vmm/virtio/pci.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct driver driver;

/* bh_crc32c() and bh_machine_load() of the two files under test. */
uint32_t bh_crc32c(uint32_t crc, const void *bytes, size_t length)
{
	(void)crc, (void)bytes, (void)length;
	return 0;
}

int bh_machine_load(struct bh_machine *machine, struct bh_state_reader *in, struct bh_error *err)
{
	int r;

	bh_pci_load_ports(machine->pci, in);
	r = driver.device->transport->load(driver.device, in, err);
	turn(&driver);
	return r;
}

static int make_device(uint8_t kind)
{
	const struct bh_console_config console = { .input_fd = -1, .output_fd = -1 };

	switch (kind % 3) {
	case 0:
		return bh_rng_make(&driver.vm, driver.loop, &driver.device, NULL);
	case 1:
		return bh_balloon_make(&driver.vm, driver.loop, 0, &driver.device, NULL);
	default:
		return bh_console_make(&driver.vm, driver.loop, &console, &driver.device, NULL);
	}
}

static void restore(struct bh_machine *m, const uint8_t *data, size_t size)
{
	struct bh_machine_config config = { .restore_count = 1, .userfault_fd = -1, .incoming_fd = -1 };
	int memory_fd = memfd_create("memory", MFD_CLOEXEC), state_fd = memfd_create("state", MFD_CLOEXEC);

	if (memory_fd < 0 || state_fd < 0 || ftruncate(memory_fd, MEMORY) < 0 || bh_write_all(state_fd, data, size) < 0 ||
	    lseek(state_fd, 0, SEEK_SET) < 0)
		abort();
	config.restore[0] = (struct bh_snapshot_files){ .state_fd = state_fd, .memory_fd = memory_fd };
	m->config = &config;
	bh_snapshot_restore(m, NULL);
	close(memory_fd);
	close(state_fd);
}

static void receive(struct bh_machine *m, const uint8_t *data, size_t size)
{
	struct bh_machine_config config = { .userfault_fd = -1 };
	int ends[2], large = 8 << 20;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		abort();
	setsockopt(ends[0], SOL_SOCKET, SO_SNDBUFFORCE, &large, sizeof large);
	/* What doesn't fit is not sent: nobody reads yet. */
	(void)!send(ends[0], data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	shutdown(ends[0], SHUT_WR);
	config.incoming_fd = ends[1];
	m->config = &config;
	bh_migration_receive(m, NULL);
	close(ends[0]);
	close(ends[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bh_machine m = { .signal_fd = -1 };
	struct bh_pci *pci = NULL;

	if (size < 1)
		return 0;
	if (driver_make(&driver) < 0 || make_device(data[0] >> 1) < 0 || bh_pci_make(&driver.vm, true, &pci, NULL) < 0 ||
	    bh_virtio_pci_add(pci, driver.device, NULL) < 0)
		abort();
	m.vm = driver.vm;
	m.vm.vcpu_count = 1;
	m.pci = pci;
	(data[0] & 1 ? receive : restore)(&m, data + 1, size - 1);
	bh_virtio_detach(driver.device);
	driver_clear(&driver);
	bh_pci_free(pci);
	bh_bus_clear(&driver.vm.mmio);
	bh_bus_clear(&driver.vm.ports);
	return 0;
}
