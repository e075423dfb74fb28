# SPDX-License-Identifier: Apache-2.0
# Bulkhead: plain GNU make. `make help` lists the targets.

.DEFAULT_GOAL := all
SHELL := /bin/bash
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
PREFIX ?= /usr/local
DESTDIR ?=
VERSION := 0.1.0
CC := gcc
FUZZ_CC := clang
SANITIZE ?= 0
BUILD := $(if $(filter 1,$(SANITIZE)),build/sanitize,build)

WARNINGS := -Wall -Wextra -Werror -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wvla
CPPFLAGS := -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DBH_VERSION='"$(VERSION)"' -iquote src -iquote $(BUILD)/generated -include src/base/banned.h
CFLAGS := -std=gnu17 -O2 -g -fno-strict-aliasing -fno-plt -ffunction-sections -fdata-sections -fstack-protector-strong $(WARNINGS)
LDFLAGS := -Wl,--gc-sections -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack
STATIC_PIE := -static-pie
STATIC := -static -no-pie
PIC := -fPIE
ifeq ($(SANITIZE),1)
CFLAGS := $(filter-out -O2,$(CFLAGS)) -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
# The sanitizer runtimes have no static form: these programs are dynamic and for tests only.
STATIC_PIE :=
STATIC :=
endif

# Every folder of src but those that hold a program's own `main` goes into one archive; the linker takes what is used.
LIB_DIRS := base linux oci agent cgroup storage net image container microvm runtime bundle engine vmm vmm/boot vmm/devices vmm/virtio vmm/fuse vmm/disk
LIB_SRC := $(foreach d,$(LIB_DIRS),$(wildcard src/$(d)/*.c))
CLI_SRC := $(wildcard src/cli/*.c src/cli/oci/*.c)
SHIM_SRC := $(wildcard src/shim/*.c)
GUEST_SRC := $(wildcard src/guest/*.c)
AGENT_SRC := $(wildcard src/agent/*.c)
HELPER_SRC := $(wildcard src/image/helper/*.c)
VMM_SRC := $(wildcard src/vmm/program/*.c)
ALL_SRC := $(LIB_SRC) $(CLI_SRC) $(SHIM_SRC) $(GUEST_SRC) $(HELPER_SRC) $(VMM_SRC)
obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

LIB := $(BUILD)/libbulkhead.a
PROGRAMS := $(BUILD)/bulkhead $(BUILD)/bulkhead-shim $(BUILD)/bulkhead-guest $(BUILD)/bulkhead-image $(BUILD)/bulkhead-vmm
LINKS := $(BUILD)/bh $(BUILD)/bulkhead-oci

include tools/generate.mk

all: $(PROGRAMS) $(LINKS)

$(BUILD)/obj/%.o: %.c Makefile | $(GENERATED)
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(PIC) -MMD -MP -c $< -o $@

$(LIB): $(call obj,$(LIB_SRC))
	@rm -f $@
	$(Q)ar rcs $@ $^

# The two programs that stay, or come in numbers, are built against musl: a start costs 0.1 ms instead of 0.4, and a
# shim's whole image is smaller than the private memory it may have. Not position independent, which would dirty pages.
# (The sanitizers need glibc.)
SMALL_CC := $(if $(filter 1,$(SANITIZE)),$(CC),musl-gcc -idirafter /usr/include -idirafter /usr/include/$(shell gcc -print-multiarch))
SMALL_CFLAGS := $(filter-out -O2 -fno-plt,$(CFLAGS)) $(if $(filter 1,$(SANITIZE)),,-Os -fno-pie)
SMALL_BASE := $(patsubst %,src/base/%.c,error memory string file time)
small = $(patsubst %.c,$(BUILD)/small/%.o,$(1))

$(BUILD)/small/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  CC    $< (small)"
	$(Q)$(SMALL_CC) $(CPPFLAGS) $(SMALL_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/bulkhead-shim: $(call small,$(SHIM_SRC) $(SMALL_BASE))
	@echo "  LINK  $@"
	$(Q)$(SMALL_CC) $(SMALL_CFLAGS) $(LDFLAGS) $(STATIC) -o $@ $^

$(BUILD)/bulkhead-guest: $(call small,$(GUEST_SRC) $(AGENT_SRC) $(SMALL_BASE))
	@echo "  LINK  $@"
	$(Q)$(SMALL_CC) $(SMALL_CFLAGS) $(LDFLAGS) $(STATIC) -o $@ $^

$(BUILD)/bulkhead: $(call obj,$(CLI_SRC)) $(LIB)
	@echo "  LINK  $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(STATIC_PIE) -o $@ $^ -ljson-c -lcrypto -lexpat -lm

# The monitor too is built against musl, position independent: there may be many, and less of it is in front of the guest. What it
# unpacks with are static libraries of the system. (Threads have stacks of the size that the linker is told.)
VMM_CFLAGS := $(filter-out -fno-plt,$(CFLAGS)) -fPIE
VMM_LIB_SRC := $(foreach d,base linux vmm vmm/boot vmm/devices vmm/virtio vmm/fuse vmm/disk,$(wildcard src/$(d)/*.c)) src/oci/capability.c
VMM_LIBRARIES := zstd z
# musl-gcc doesn't know -static-pie: the start code that relocates itself, and no interpreter.
VMM_LDFLAGS := $(if $(filter 1,$(SANITIZE)),,-static -nostartfiles -Wl,-pie,--no-dynamic-linker,-z,text \
	$(foreach o,rcrt1.o crti.o,/usr/lib/$(shell uname -m)-linux-musl/$(o)) $(shell $(CC) -print-file-name=crtbeginS.o))
VMM_LDFLAGS_END := $(if $(filter 1,$(SANITIZE)),,$(shell $(CC) -print-file-name=crtendS.o) /usr/lib/$(shell uname -m)-linux-musl/crtn.o)
vmm = $(patsubst %.c,$(BUILD)/vmm/%.o,$(1))

$(BUILD)/vmm/%.o: %.c Makefile | $(GENERATED)
	@mkdir -p $(@D)
	@echo "  CC    $< (monitor)"
	$(Q)$(SMALL_CC) $(CPPFLAGS) $(VMM_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/libvmm.a: $(call vmm,$(VMM_LIB_SRC))
	@rm -f $@
	$(Q)ar rcs $@ $^

$(BUILD)/bulkhead-vmm: $(call vmm,$(VMM_SRC)) $(BUILD)/libvmm.a
	@echo "  LINK  $@"
	$(Q)$(SMALL_CC) $(VMM_CFLAGS) $(LDFLAGS) -Wl,-z,stack-size=1048576 $(VMM_LDFLAGS) -o $@ $^ \
		$(foreach l,$(VMM_LIBRARIES),$(shell $(CC) -print-file-name=lib$(l).a)) $(VMM_LDFLAGS_END)

# The one program with heavy libraries: reads and writes archives, verifies and unpacks layers.
$(BUILD)/bulkhead-image: $(call obj,$(HELPER_SRC)) $(LIB)
	@echo "  LINK  $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $^ -ljson-c -larchive -lcrypto -lzstd -lisal -lz -llzma -llz4 -lm

$(BUILD)/bh $(BUILD)/bulkhead-oci: $(BUILD)/bulkhead
	@ln -sf bulkhead $@

include tests/tests.mk

OCI_COMMANDS = $(filter-out man completion,$(shell sed -n 's/COMMAND(\(.*\))/\1/p' src/cli/oci/commands.def))

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/bulkhead
	install -s -m 755 $(BUILD)/bulkhead $(DESTDIR)$(PREFIX)/bin/bulkhead
	ln -sf bulkhead $(DESTDIR)$(PREFIX)/bin/bh
	ln -sf bulkhead $(DESTDIR)$(PREFIX)/bin/bulkhead-oci
	install -s -m 755 $(BUILD)/bulkhead-shim $(BUILD)/bulkhead-guest $(BUILD)/bulkhead-image $(BUILD)/bulkhead-vmm $(DESTDIR)$(PREFIX)/libexec/bulkhead/
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	$(BUILD)/bulkhead man >$(DESTDIR)$(PREFIX)/share/man/man1/bulkhead.1
	ln -sf bulkhead.1 $(DESTDIR)$(PREFIX)/share/man/man1/bh.1
	$(BUILD)/bulkhead completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/bulkhead
	ln -sf bulkhead $(DESTDIR)$(PREFIX)/share/bash-completion/completions/bh
	install -d $(DESTDIR)$(PREFIX)/share/man/man8
	$(BUILD)/bulkhead-oci man >$(DESTDIR)$(PREFIX)/share/man/man8/bulkhead-oci.8
	set -e; for command in $(OCI_COMMANDS); do \
		$(BUILD)/bulkhead-oci man $$command >$(DESTDIR)$(PREFIX)/share/man/man8/bulkhead-oci-$$command.8; done
	$(BUILD)/bulkhead-oci completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/bulkhead-oci

clean:
	rm -rf build

help:
	@echo "make            build the programs into build/"
	@echo "make quickstart install what is missing, build, run the main job on real images"
	@echo "make test       install what the tests need, run them all (host, then lab)"
	@echo "make check      layers, function length, format, static analysis, sanitizers, fuzzers"
	@echo "make bench      interleaved benchmark against a physical floor, runc and podman"
	@echo "make install    DESTDIR= PREFIX=/usr/local"
	@echo "make SANITIZE=1 build with ASan and UBSan into build/sanitize/"

.PHONY: all install clean help quickstart test check bench

-include $(patsubst %.o,%.d,$(call obj,$(ALL_SRC)) $(call small,$(SHIM_SRC) $(GUEST_SRC) $(AGENT_SRC) $(SMALL_BASE)) \
	$(call vmm,$(VMM_SRC) $(VMM_LIB_SRC)))
