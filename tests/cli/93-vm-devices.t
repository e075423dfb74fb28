#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# Virtio devices with a small guest of our own that drives them over PCI (tests/guests/devices.c).
. "$(dirname "$0")/../lib.sh"

[ -c /dev/kvm ] || skip_all "lab: there is no /dev/kvm"
devices() { # DEVICE ARGUMENT...
	local name=$1
	shift
	timeout --kill-after=5 100 "$BULKHEAD" vm run --multiboot --kernel "$BUILD/tests/guests/devices" --append "$name" "$@" </dev/null
}

# --- block ------------------------------------------------------------------------------------------------------------------

run devices block
is "$status" 1 "without a disk the guest finds none"
printf 'first bytes' >"$WORK/disk"
truncate -s 64k "$WORK/disk"
run devices block --disk "$WORK/disk,serial=number-7"
is "$status:$err" "0:" "a disk, driven from ring 0"
like "$out" 'sectors 80.*serial number-7.*reads first' "its size, its name, its first sector"
like "$out" 'pending 2' "an interrupt for the queue's vector"
like "$out" 'beyond its end 1.*half a sector 1.*no request 2' "what can't be done is answered with an error"
like "$out" 'status 4f.*works again' "a buffer outside of memory breaks the device, a reset repairs it"
is "$(tail -c 512 "$WORK/disk" | tr -d w | wc -c)" 0 "what it wrote is in the file"
run devices block --disk "$WORK/disk,readonly"
is "$status" 4 "a disk that is read-only takes no write"

# --- vsock ------------------------------------------------------------------------------------------------------------------

timeout $((30 * SCALE)) socat "UNIX-LISTEN:$WORK/v_1234" SYSTEM:'read -r line; echo "the host heard $line"' &
# Before it listens the guest would be refused, and nobody would ever connect to it.
within 10 [ -S "$WORK/v_1234" ]
run devices vsock --vsock "9,connect=$WORK/v"
wait
is "$status:$err" "0:" "a vsock device, driven from ring 0"
like "$out" 'address 9' "its address"
like "$out" 'the host heard from ring 0' "bytes there and back"
like "$out" 'last 3.then 3' "its end, and a refusal of what comes behind it"
run devices vsock --vsock "9,connect=$WORK/v"
is "$status" 2 "where nobody listens it is refused"
done_testing
