#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# timeout: 250
# Disks and network cards that come and go while a machine runs: vm attach, vm detach.
. "$(dirname "$0")/../lib.sh"

has mke2fs || skip_all "lab: no mke2fs"
need_busybox
vm() { timeout --kill-after=5 150 "$BULKHEAD" vm "$@"; }
truncate -s 8m "$WORK/extra" "$WORK/second"
printf 'from outside' | dd of="$WORK/extra" conv=notrunc 2>/dev/null

# --- machines whose devices stay as they are -------------------------------------------------------------------------------------
if [ -c /dev/kvm ]; then
	vm create fixed --multiboot --kernel "$BUILD/tests/guests/serial" --memory 32m >/dev/null
	vm start --paused fixed >/dev/null
	run_is 1 "vm attach to a test guest's machine" vm attach fixed "$WORK/extra"
	like "$err" "runs with a test guest, so its devices can only change at its next start: --config" "... is refused, with a way"
	is "$(vm info fixed | jq '.disks | length')" 0 "... and changes nothing"
	run_is 0 "--config" vm attach --config fixed "$WORK/extra"
	is "$err:$(vm info fixed | jq '.disks | length')" "bulkhead: fixed runs: it has the device at its next start:1" "... is for the next start"
	run_is 0 "vm detach --config" vm detach --config fixed "$WORK/extra"
	run_is 1 "vm attach size=" vm attach fixed size=1m
	is "$(ls "$BULKHEAD_ROOT/vms/fixed/disks")" "" "... that fails leaves no disk"
	run_is 1 "the control socket: plug" vm control "$BULKHEAD_STATE/vms/fixed/control.sock" plug device=block at=0 --file "$WORK/extra"
	like "$err" "devices stay as they are while it runs" "... is refused too"
	vm rm -f fixed >/dev/null
else
	skip "lab: no KVM" 11
fi
kvm_boots_linux || { skip "lab: no KVM that boots Linux: a guest that knows hot plug" 1; done_testing; exit; }

# --- disks ---------------------------------------------------------------------------------------------------------------------------
# inside COMMAND: in the guest, where $1 becomes a node of that disk
inside() { vm exec box sh -c 'node() { mknod /tmp/$1 b $(tr : " " </sys/block/$1/dev) 2>/dev/null; }; '"$1"; }
disks() { vm exec box sh -c 'cd /sys/block && echo vd*'; }
appears() { within 20 vm exec box test -e "/sys/$1"; }
vm create box --image busybox --memory 256m --cpus 2 --disk-size 1g --disk "$WORK/second,serial=second" >/dev/null
run_is 0 "a machine" vm start box
is "$(disks)" "vda vdb vdc" "its disks"
monitor=$(vm info -f '{{.pid}}' box)
threads=$(ls "/proc/$monitor/task" | wc -l)
run_is 0 "vm attach" vm attach box "$WORK/extra,serial=plugged"
ok "... the guest has it" appears block/vdd
is "$(inside 'cat /sys/block/vdd/serial; node vdd; head -c 12 /tmp/vdd')" 'pluggedfrom outside' "... with its serial number and content"
inside 'printf "from inside!" | dd of=/tmp/vdd bs=1M seek=1 conv=fsync 2>/dev/null'
is "$(dd if="$WORK/extra" bs=1M skip=1 2>/dev/null | head -c 12)" "from inside!" "... what it writes is in the file"
is "$(vm info box | jq -r '.disks[].serial' | tr '\n' ' ')" "second image writable plugged " "... and the definition has it"
vm create other --memory 128m --kernel "$(ls /boot/vmlinuz-*-cloud-amd64 | tail -n 1)" --disk "$WORK/extra" >/dev/null
run_is 1 "another machine with it" vm start other
like "$err" "in use by another machine" "... can't start"
run_is 1 "its own again" vm attach box "$WORK/extra"
like "$err" "in use by another machine" "... neither"
run_is 1 "vm detach of what the machine needs" vm detach box writable
like "$err" "needs its disk 'writable'" "... is refused"
run_is 0 "vm detach of a disk that it was started with" vm detach box second
ok "... the guest has it no more" within 20 vm exec box test ! -e /sys/block/vda
run_is 0 "vm detach" vm detach box "$WORK/extra"
is "$(disks)" "vdb vdc" "... takes it away"
is "$(vm info box | jq -r '.disks[].serial' | tr '\n' ' ')" "image writable " "... also from the definition"
is "$(ls -l "/proc/$monitor/fd" | grep -c "$WORK"):$(ls "/proc/$monitor/task" | wc -l)" "0:$((threads - 1))" "the monitor has their files no more, nor the thread of one"
run_is 0 "others can have it" vm start other
vm destroy other >/dev/null
vm rm other >/dev/null
run_is 1 "vm detach of what isn't there" vm detach box plugged
is "$err" "bulkhead: box has no disk or network card plugged" "... says so"

# --- a guest that doesn't answer, and a machine that stands ---------------------------------------------------------------------------
run_is 0 "vm attach" vm attach box "$WORK/extra,serial=plugged,queues=2"
ok "... with two queues" appears block/vda/mq/1
run_is 1 "a guest that has no time" vm detach --timeout 0s box plugged
like "$err" "hasn't let go of the device within 0 ms" "... keeps it"
is "$(vm info box | jq -r '.disks[].serial' | tr '\n' ' ')" "image writable plugged " "... as does the definition"
run_is 0 "asked again" vm detach box plugged
is "$(disks)" "vdb vdc" "... it is gone"
# Nothing can be written, also no words.
run_is 1 "one that can't be put on record" sh -c 'trap "" XFSZ; ulimit -f 0; exec timeout 100 "$0" vm attach box "$1"' "$BULKHEAD" "$WORK/extra"
is "$(disks):$(ls -l "/proc/$monitor/fd" | grep -c "$WORK"):$(vm info box | jq '.disks | length')" "vdb vdc:0:2" "... is taken out again"
vm suspend box >/dev/null
run_is 1 "a suspended machine's guest" vm detach box writable
run_is 0 "... can be given something" vm attach box "$WORK/extra,serial=plugged"
run_is 1 "... but can't let go of it" vm detach box plugged
like "$err" "the machine is paused" "... and that is said"
vm resume box >/dev/null
ok "... and has it when it goes on" appears block/vda

# --- what only the control socket could ask -----------------------------------------------------------------------------------------------
control=$BULKHEAD_STATE/vms/box/control.sock
files=$(ls "/proc/$monitor/fd" | wc -l)
run_is 1 "another kind of device" vm control "$control" plug device=fs,tag=x keys=server at=0 --file "$WORK/second"
like "$err" "only disks and network cards" "... is refused"
run_is 1 "unknown words" vm control "$control" plug device=block,colour=red at=0 --file "$WORK/second"
like "$err" "colour=red is not known" "... too"
run_is 1 "files without keys" vm control "$control" plug device=block keys=fd,lock at=0 --file "$WORK/second"
like "$err" "2 keys for 1 files" "... too"
run_is 1 "a place that isn't there" vm control "$control" plug device=block,readonly at=99 --file "$WORK/second"
run_is 1 "a card without a tap device" vm control "$control" plug device=net,mac=52:54:00:00:00:01 at=0 --file "$WORK/second"
run_is 1 "unplug of nothing" vm control "$control" unplug at=99
run_is 1 "unplug of the randomness device" vm control "$control" unplug at=3
like "$err" "rng: only disks and network cards" "... is refused"
is "$(ls "/proc/$monitor/fd" | wc -l)" "$files" "none of them leaves a file open"

# --- cards, and the state of a machine whose slots have holes ----------------------------------------------------------------------------
ip link add bhplug0 address 52:54:00:98:00:01 type bridge
ip addr add 10.98.0.1/24 dev bhplug0
ip link set bhplug0 up
card=52:54:00:98:00:02
run_is 0 "vm attach of a card" vm attach box "tap,bridge=bhplug0,mac=$card"
ok "... the guest has it" appears class/net/eth0
is "$(vm exec box cat /sys/class/net/eth0/address)" "$card" "... with its address"
vm exec box sh -c 'ip addr add 10.98.0.2/24 dev eth0; ip link set eth0 up'
like "$(vm exec box ping -c 3 -W 10 10.98.0.1)" "[123] packets received" "... and it works"
run_is 0 "a further disk, that is made for it" vm attach box size=1m
ok "... is there" appears block/vdd
run_is 0 "the one before it goes" vm detach box plugged
run_is 0 "vm snapshot" vm snapshot box holes
run_is 0 "vm restore" vm restore -f box holes
is "$(vm exec box sh -c 'cd /sys/block; echo vd*; cat vdd/size')" $'vdb vdc vdd\n2048' "... its disks are where they were"
like "$(vm exec box ping -c 3 -W 10 10.98.0.1)" "[123] packets received" "... and so is its card"
run_is 0 "it still takes devices" vm attach box "$WORK/extra,serial=plugged"
ok "... as before" appears block/vda
run_is 0 "vm detach of the card" vm detach box "${card^^}"
is "$(vm exec box ls /sys/class/net)" lo "... takes it away"
vm shutdown --wait 60s box >/dev/null
run_is 0 "the next start" vm start box
is "$(disks)" "vda vdb vdc vdd" "... has what was attached"
vm rm -f box >/dev/null
ip link del bhplug0
done_testing
