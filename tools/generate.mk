# SPDX-License-Identifier: Apache-2.0
# Sources that are made at build time. Included by the Makefile before the rules that depend on GENERATED.

GENERATED := $(BUILD)/generated/seccomp-syscalls.h $(BUILD)/generated/seccomp-builtin.h

$(BUILD)/generated/seccomp-syscalls.h: tools/generate-syscalls tools/newer-syscalls
	@mkdir -p $(@D)
	tools/generate-syscalls $(CC) >$@.tmp
	mv $@.tmp $@

# The filter compiler, run at build time on the default profile.
EMBED_SECCOMP_SRC := tools/embed-seccomp.c src/linux/seccomp-default.c src/linux/seccomp-rules.c src/linux/seccomp-bpf.c \
	src/linux/seccomp-syscalls.c src/base/memory.c src/base/string.c src/base/error.c
$(BUILD)/generated/seccomp-builtin.h: $(EMBED_SECCOMP_SRC) src/linux/seccomp-internal.h $(BUILD)/generated/seccomp-syscalls.h
	$(CC) $(CPPFLAGS) -std=gnu17 -O1 -o $(BUILD)/generated/embed-seccomp $(EMBED_SECCOMP_SRC)
	$(BUILD)/generated/embed-seccomp >$@.tmp
	mv $@.tmp $@

# The exec stub (src/container/stub) as bytes.
GENERATED += $(BUILD)/generated/exec-stub.inc

# No libc, no start files, no sanitizer, whatever the rest is built with: it must stay below a page.
$(BUILD)/generated/exec-stub: src/container/stub/exec-stub.c src/container/stub/exec-stub.h Makefile
	@mkdir -p $(@D)
	$(CC) -Isrc -std=gnu17 -Os $(WARNINGS) -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none \
		-fno-pic -nostdlib -static -no-pie -s -Wl,--build-id=none -Wl,-z,noseparate-code -Wl,-z,norelro -Wl,-z,noexecstack -o $@ $<

$(BUILD)/generated/exec-stub.inc: $(BUILD)/generated/exec-stub
	od -An -v -tx1 $< | sed 's/ \(..\)/0x\1,/g' > $@
