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
