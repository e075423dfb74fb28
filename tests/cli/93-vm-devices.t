#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# timeout: 240
# Virtio devices with a small guest of our own that drives them over PCI and MMIO (tests/guests/devices.c).
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

run devices configuration --disk "$WORK/disk" --explain
is "$status" 0 "configuration space by memory"
like "$out" 'by ports 10421af4.by memory 10421af4.behind ffffffff.*size ffff8000' "is as by ports, and can be written where it may be"
like "$out" 'window 1.again 3' "... and reads what a register has become"
like "$err" '"mmio read" count=[0-9]{1,2} ' "a thousand reads of it are no exits"

run devices queues --disk "$WORK/disk,queues=3"
is "$status:$err" "0:" "a disk with several queues"
like "$out" 'queues 3.*pending e' "as many as were asked for, and an interrupt of each"
is "$(head -c 1 "$WORK/disk")$(tail -c +513 "$WORK/disk" | head -c 1)" ab "each has written"
run devices queues --disk "$WORK/disk,queues=9"
is "$status" 125 "more than 8 are refused"
like "$err" 'queues=9 is no number up to 8' "and it is said"
run devices queues --disk "$WORK/disk,queues=2,format=qcow2"
is "$status" 125 "and more than one of a qcow2 image"

# --- the same by MMIO -------------------------------------------------------------------------------------------------------

printf 'first bytes' >"$WORK/mmio"
truncate -s 64k "$WORK/mmio"
run devices block --transport mmio --disk "$WORK/mmio,serial=number-8" --explain
is "$status" 0 "a disk on the MMIO bus"
like "$out" 'sectors 80.*serial number-8.*reads first' "its size, its name, its first sector"
like "$out" 'pending 1' "an interrupt that waits for its acknowledgement"
like "$out" 'beyond its end 1.*half a sector 1.*no request 2' "what can't be done is answered with an error"
like "$out" 'status 4f.*works again' "a buffer outside of memory breaks the device, a reset repairs it"
is "$(tail -c 512 "$WORK/mmio" | tr -d w | wc -c)" 0 "what it wrote is in the file"
like "$err" 'device +type=block mmio=1 ' "--explain names the bus"
like "$err" '"mmio write" count=30 ' "fifteen writes to its registers for each start: no notification is an exit"
run devices line --transport mmio --disk "$WORK/mmio"
is "$status:$err" "0:" "a disk whose interrupts are taken"
# PVM, which emulates the guest's kernel, gives one more each time; why isn't known.
like "$out" "interrupts $([ -d /sys/module/kvm_pvm ] && echo 7 || echo 6)" "the line stays high until the device is told that it was heard, and then no longer"
like "$out" 'a byte 0.beyond 0.status f' "registers are 32 bits wide; a queue that isn't there is nothing"
truncate -s 64k "$WORK/mmio"
run devices queues --transport mmio --disk "$WORK/mmio,queues=3"
is "$status:$err" "0:" "a disk with several queues on the MMIO bus"
like "$out" 'queues 3' "as many as were asked for"
# --- saved and moved --------------------------------------------------------------------------------------------------------

# start_saved NAME ARGUMENT...: requests at $WORK/NAME.sock
start_saved() {
	local name=$1
	shift
	converse "$name" timeout --kill-after=5 60 "$BULKHEAD" vm run --multiboot --control "$WORK/$name.sock" "$@"
}
ask() { # NAME COMMAND...
	local name=$1
	shift
	"$BULKHEAD" vm control "$WORK/$name.sock" "$@" 2>&1
}
ends_well() { # NAME PID WORDS
	say "$1" .
	wait "$2"
	is $? 3 "$3"
}
printf 'first bytes' >"$WORK/saved"
truncate -s 64k "$WORK/saved"
for transport in mmio pci; do
	bits=1
	[ $transport = mmio ] || bits=2
	start_saved a --transport $transport --kernel "$BUILD/tests/guests/devices" --append saved --disk "$WORK/saved"
	a=$pid
	ok "a guest with a disk by $transport" within 20 grep -q ready "$WORK/a.out"
	is "$(ask a snapshot --write "$WORK/$transport.state" --write "$WORK/$transport.memory")" '{"ok":true}' "it is saved"
	start_saved b --transport $transport --restore "$WORK/$transport.state,$WORK/$transport.memory" --disk "$WORK/saved"
	b=$pid
	within 10 eval 'ask b status | grep -q running'
	say b g
	ok "and loaded: it reads its disk" within 20 grep -q 'reads first' "$WORK/b.out"
	like "$(cat "$WORK/b.out")" "pending $bits.status f" "with the interrupt that waited"
	ends_well b "$b" "to its end"
	start_saved b --transport $transport --incoming "$WORK/moving" --disk "$WORK/saved"
	b=$pid
	within 10 [ -S "$WORK/moving" ]
	like "$(ask a migrate downtime_ms=5000 --connect "$WORK/moving")" '"ok":true,"downtime_us":[0-9]+' "it moves"
	wait "$a"
	say b g
	ok "and reads its disk there" within 20 grep -q 'reads first' "$WORK/b.out"
	ends_well b "$b" "to its end there"
done
run timeout --kill-after=5 20 "$BULKHEAD" vm run --multiboot --restore "$WORK/mmio.state,$WORK/mmio.memory" --disk "$WORK/saved" </dev/null
like "$status:$err" '^125:bulkhead-vmm: the saved machine has its devices on another bus' "a machine on the MMIO bus isn't loaded with its disk on PCI"
run timeout --kill-after=5 20 "$BULKHEAD" vm run --multiboot --transport mmio --restore "$WORK/pci.state,$WORK/pci.memory" --disk "$WORK/saved" </dev/null
like "$status:$err" '^125:bulkhead-vmm: the saved machine has its devices on another bus' "nor the other way"
run devices block --transport isa --disk "$WORK/mmio"
is "$status" 125 "a bus that isn't known"

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
