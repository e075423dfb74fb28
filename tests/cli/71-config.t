#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The configuration file: its place in the order, and what is said of a broken one. It is laid over /etc in a mount namespace.
. "$(dirname "$0")/../lib.sh"

has unshare && has python3 || skip_all "no unshare or no python3"
mkdir -p "$WORK/etc/bulkhead"
unshare -m mount -t overlay -o "lowerdir=$WORK/etc:/etc" overlay /etc 2>/dev/null || skip_all "no overlay over /etc"
unset BULKHEAD_KERNEL

# kernel NAME: what a kernel shows of itself, its version.
kernel() {
	python3 -c 'import sys
b = bytearray(0x400); b[0x202:0x206] = b"HdrS"; b[0x20e:0x210] = (0x100).to_bytes(2, "little"); v = sys.argv[2].encode(); b[0x300:0x300 + len(v)] = v
open(sys.argv[1], "wb").write(b)' "$WORK/$1" "$2"
}
# with TEXT COMMAND...: with this text as the configuration file
with() {
	printf '%s' "$1" >"$WORK/etc/bulkhead/config"
	shift
	unshare -m sh -c 'mount -t overlay -o "lowerdir=$0:/etc" overlay /etc && exec "$@"' "$WORK/etc" "$@"
}
from() {
	with "$1" "$BULKHEAD" info --format '{{.GuestKernel.Path}} {{.GuestKernel.Version}} {{.GuestKernel.From}}'
}
kernel configured 6.1-configured
kernel chosen 6.2-chosen

# --- the order ------------------------------------------------------------------------------------------------------------
text="# defaults
  kernel=	$WORK/configured

accel = tcg"
is "$(from "$text")" "$WORK/configured 6.1-configured /etc/bulkhead/config" "the configured kernel, and info says whose word it is"
is "$(BULKHEAD_KERNEL=$WORK/chosen from "$text")" "$WORK/chosen 6.2-chosen BULKHEAD_KERNEL" "a variable goes before it"
like "$(with "$text" "$BULKHEAD" info)" "MicroVM Kernel: $WORK/configured \(/etc/bulkhead/config\)" "... also for people"
like "$(with "$text" "$BULKHEAD" vm kernel list)" "6.1-configured +$WORK/configured" "vm kernel list has it as the default"
mkdir -p "$BULKHEAD_ROOT/kernels/6.3-fetched"
kernel fetched 6.3-fetched
mv "$WORK/fetched" "$BULKHEAD_ROOT/kernels/6.3-fetched/vmlinuz"
is "$(from "$text")" "$WORK/configured 6.1-configured /etc/bulkhead/config" "it goes before one that was fetched"
is "$(from '')" "$BULKHEAD_ROOT/kernels/6.3-fetched/vmlinuz 6.3-fetched vm kernel install" "an empty file says nothing"
rm "$WORK/etc/bulkhead/config"
is "$(unshare -m sh -c 'mount -t overlay -o "lowerdir=$0:/etc" overlay /etc && exec "$@"' "$WORK/etc" "$BULKHEAD" info --format '{{.GuestKernel.From}}')" "vm kernel install" \
	"nor does one that isn't there"

# --- what a start does with it ---------------------------------------------------------------------------------------------
need_busybox
run_is 125 "the accelerator of a variable" env BULKHEAD_ACCEL=magic "$BULKHEAD" run --rm --isolation vm busybox true
like "$err" 'accel magic: there are kvm, tcg and auto' "... is tried"
# The kernels here are none: how far a start gets tells which one it has opened.
if has qemu-system-x86_64; then
	run_is 125 "a start" with "kernel = $WORK/missing
accel = tcg" "$BULKHEAD" run --rm --isolation vm busybox true
	is "$err" "bulkhead: /etc/bulkhead/config: read the kernel $WORK/missing: No such file or directory" "... takes the configured kernel"
	run_is 125 "--kernel" with "kernel = $WORK/missing
accel = tcg" "$BULKHEAD" run --rm --isolation vm --kernel "$WORK/other" busybox true
	is "$err" "bulkhead: read the kernel $WORK/other: No such file or directory" "... goes before all"
else
	skip "no qemu-system-x86" 4
fi
if ! kvm_boots_linux; then
	run_is 125 "the configured accelerator" with "accel = kvm" "$BULKHEAD" run --rm --isolation vm busybox true
	like "$err" '^bulkhead: /etc/bulkhead/config: accel kvm: ' "... is the one that is tried"
fi
run_is 0 "a container needs no such file" with "nonsense" "$BULKHEAD" run --rm busybox true

# --- broken files ----------------------------------------------------------------------------------------------------------
broken() {
	run_is 125 "refused: $3" with "$1" "$BULKHEAD" run --rm --isolation vm busybox true
	is "$err" "bulkhead: /etc/bulkhead/config:$2" "... in one line"
}
broken $'\n\nkernle = /x' "3: the key 'kernle' is unknown" "an unknown key"
broken $'accel = tcg\nkernel' "2: KEY = VALUE is expected, not 'kernel'" "a line without a value"
broken 'kernel = relative' "1: kernel = relative: the absolute path of a file is expected" "a relative path"
broken 'accel = magic' "1: accel = magic: kvm, tcg or auto is expected" "an unknown accelerator"
broken $'accel = tcg\naccel = kvm' "2: accel is set for the second time" "a key that comes twice"
run_is 0 "info goes on" with nonsense "$BULKHEAD" info
like "$out" "MicroVM Accelerator: none - /etc/bulkhead/config:1: KEY = VALUE" "... and tells it"
like "$out" "MicroVM Kernel: none - /etc/bulkhead/config:1: KEY = VALUE" "... of both"
done_testing
