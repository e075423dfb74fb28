# SPDX-License-Identifier: Apache-2.0
# Tests, checks and benchmarks; included by the Makefile.

UNIT_SRC := $(wildcard tests/unit/*.c)
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(UNIT_SRC))
UNIT_LIBS := -lcmocka -ljson-c -lexpat -larchive -lcrypto -lzstd -lisal -lz -lseccomp -lm

# A unit test links the archive dynamically against Debian's libraries; name = module under test.
$(BUILD)/tests/unit/%: tests/unit/%.c $(LIB)
	@mkdir -p $(@D)
	@echo "  TEST  $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -iquote tests -MMD -MP -o $@ $< $(LIB) $(UNIT_LIBS)

FUZZ_SRC := $(wildcard tests/fuzz/*.c)
FUZZ := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(FUZZ_SRC))
FUZZ_FLAGS := -std=gnu17 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined
# The library once, instrumented; each target links what it uses.
FUZZ_LIB := $(BUILD)/fuzz/libbulkhead.a
fuzz_obj = $(patsubst %.c,$(BUILD)/fuzz/obj/%.o,$(1))
$(BUILD)/fuzz/obj/%.o: %.c | $(GENERATED)
	@mkdir -p $(@D)
	@echo "  CC    $< (fuzz)"
	$(Q)$(FUZZ_CC) $(CPPFLAGS) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c $< -o $@
$(FUZZ_LIB): $(call fuzz_obj,$(LIB_SRC))
	@rm -f $@
	$(Q)ar rcs $@ $^
# The command line is the program itself, without its main.
$(BUILD)/fuzz/command-line: FUZZ_EXTRA := -Dmain=bh_cli_main $(CLI_SRC)
$(BUILD)/fuzz/command-line: $(CLI_SRC)
# The guest's agent: its program's file, without the machine around it, and without processes.
$(BUILD)/fuzz/agent-guest: FUZZ_EXTRA := -Dfork=fuzz_fork -Dmount=fuzz_mount -Dmkdir=fuzz_mkdir src/guest/agent.c src/guest/share.c src/guest/runner.c
$(BUILD)/fuzz/agent-guest: src/guest/agent.c src/guest/share.c src/guest/runner.c
$(BUILD)/fuzz/inflate: FUZZ_EXTRA := -DINFLATED_MAX=33554432u src/image/helper/inflate.c
$(BUILD)/fuzz/inflate: src/image/helper/inflate.c
# A machine's state from outside, without KVM, and with checksums that are always right.
$(BUILD)/fuzz/state: FUZZ_EXTRA := -Dbh_machine_load=fuzz_machine_load -Dbh_crc32c=fuzz_crc32c src/vmm/snapshot.c src/vmm/migrate.c
$(BUILD)/fuzz/state: src/vmm/snapshot.c src/vmm/migrate.c
$(BUILD)/fuzz/%: tests/fuzz/%.c $(FUZZ_LIB)
	@mkdir -p $(@D)
	@echo "  FUZZ  $@"
	$(Q)$(FUZZ_CC) $(CPPFLAGS) $(FUZZ_FLAGS) -fsanitize=fuzzer -o $@ $(FUZZ_EXTRA) $< $(FUZZ_LIB) -ljson-c -lexpat -larchive -lcrypto -lzstd -lisal -lz -llzma -llz4 -lm
-include $(patsubst %.o,%.d,$(call fuzz_obj,$(LIB_SRC)))

unit: $(UNIT)
test: all $(UNIT) guests
	tests/run
check:
	tools/check
bench: all guests
	tests/bench/run
	tests/bench/oci
	tests/bench/vm
quickstart:
	tools/quickstart
.PHONY: unit
-include $(wildcard $(BUILD)/tests/unit/*.d)

# Guests for the virtual machine monitor: 32-bit multiboot kernels without anything that an emulated ring 0 may lack.
GUESTS := $(patsubst tests/guests/%.c,$(BUILD)/tests/guests/%,$(wildcard tests/guests/*.c))
GUEST_CFLAGS := -m32 -O1 -std=gnu17 -Wall -Wextra -Werror -ffreestanding -fno-pic -fno-stack-protector -fno-asynchronous-unwind-tables \
	-fcf-protection=none -mgeneral-regs-only -fno-tree-loop-distribute-patterns
$(BUILD)/tests/guests/%: tests/guests/%.c tests/guests/start.S tests/guests/guest.h tests/guests/virtio.h
	@mkdir -p $(@D)
	@echo "  GUEST $@"
	$(Q)$(CC) $(GUEST_CFLAGS) -nostdlib -static -no-pie -Wl,-m,elf_i386,-Ttext=0x100000,-z,noexecstack,--build-id=none $(GUEST_LINK) \
		-o $@ tests/guests/start.S $<
# The linker would put it far away.
$(BUILD)/tests/guests/pvh: GUEST_LINK := -Wl,--section-start=.note.pvh=0x110000
guests: $(GUESTS)
.PHONY: guests

# Programs that tests put into a Linux guest.
$(BUILD)/tests/vsock-peer: tests/guests/linux/vsock-peer.c
	@mkdir -p $(@D)
	$(Q)$(SMALL_CC) -std=gnu17 -D_GNU_SOURCE -Os -Wall -Wextra -Werror -static -o $@ $<
$(BUILD)/tests/io: tests/bench/io.c
	@mkdir -p $(@D)
	$(Q)$(SMALL_CC) -std=gnu17 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -static -o $@ $<
$(BUILD)/tests/first-byte: tests/bench/first-byte.c
	@mkdir -p $(@D)
	$(Q)$(SMALL_CC) -std=gnu17 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -static -o $@ $<
guests: $(BUILD)/tests/vsock-peer $(BUILD)/tests/io $(BUILD)/tests/first-byte
