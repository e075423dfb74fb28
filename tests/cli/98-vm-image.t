#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# timeout: 250
# Machines that are made from an image: vm create --image, vm exec.
. "$(dirname "$0")/../lib.sh"

need_busybox
has mke2fs || skip_all "lab: no mke2fs"
vm() { timeout --kill-after=5 150 "$BULKHEAD" vm "$@"; }
disks=$BULKHEAD_ROOT/vms/box/disks

# --- definitions: without a machine -----------------------------------------------------------------------------------------

run_is 0 "vm create --image" vm create box --image busybox --memory 256m --disk-size 1g --net tap,ip=10.9.0.2/24,gateway=10.9.0.1
is "$out" box "... says its name"
is "$(stat -c %s "$disks/writable.img"):$(($(stat -c %b "$disks/writable.img") * 512 < 32 << 20))" "$((1 << 30)):1" "its disk has the size, and takes what is in it"
is "$(stat -c %i "$disks/image.erofs")" "$(stat -c %i "$BULKHEAD_ROOT"/disks/????????????????????????????????????????????????????????????????)" "the image's disk is the one of all its machines"
is "$(vm info box | jq -r '.image.reference, (.disks | map(.serial) | join(" "))')" "busybox:latest
image writable" "vm info shows the image"
is "$(vm list -a --format '{{.Name}} {{.Image}}')" "box busybox:latest" "so does vm list"
run_is 1 "no such image" vm create other --image nosuch
is "$err" "bulkhead: No such image: nosuch" "... in the words of run"
run_is 1 "too little memory" vm create other --image busybox --memory 64m
like "$err" "at least 128m" "... with what is needed"
run_is 1 "a disk that is too small" vm create other --image busybox --disk-size 1m
run_is 1 "an initial RAM disk beside the image's" vm create other --image busybox --initrd /etc/passwd
run_is 1 "--disk-size without an image" vm create other --disk-size 1g
run_is 1 "a command without an image" vm create other true
is "$(ls "$BULKHEAD_ROOT/vms")" box "what failed leaves nothing"
run_is 1 "an address that is none" vm create other --image busybox --net tap,ip=10.0.0.300/24
run_is 1 "a gateway alone" vm create other --image busybox --net tap,gateway=10.0.0.1
run_is 1 "an address for a machine without an agent" vm create other --net tap,ip=10.0.0.2/24
run_is 1 "its disks can't be taken away" vm detach box image
run_is 1 "nor doubled" vm attach box "$disks/image.erofs,readonly,serial=image"
run_is 1 "vm exec in a machine that is shut off" vm exec box true
is "$err" "bulkhead: the virtual machine box doesn't run" "... is refused"
vm create plain >/dev/null
run_is 0 "vm clone" vm clone box copy
is "$(stat -c %h "$disks/image.erofs"):$(($(stat -c %i "$disks/writable.img") == $(stat -c %i "$BULKHEAD_ROOT/vms/copy/disks/writable.img")))" "3:0" "... shares the image's disk, and has a writable one of its own"
is "$(vm info copy | jq -c '.networks[0] | has("address")')" false "... and no address"
run_is 0 "the image goes" "$BULKHEAD" rmi busybox
is "$(stat -c %h "$disks/image.erofs")" 2 "... its machines keep its disk"

if ! kvm_boots_linux; then
	run_is 0 "vm rm" vm rm box copy plain
	is "$(ls "$BULKHEAD_ROOT/vms")" "" "... leaves nothing"
	skip "lab: no KVM that boots Linux: the running machine" 1
	done_testing
	exit
fi

# --- commands in it -----------------------------------------------------------------------------------------------------------

run_is 0 "vm start" vm start box
run_is 0 "vm exec waits until the machine is up" vm exec box uname -r
isnt "$out" "$(uname -r)" "... which has a kernel of its own"
run_is 0 "true" vm exec box true
run_is 1 "false" vm exec box false
run_is 127 "a command that isn't there" vm exec box nowhere
is "$err" 'bulkhead: exec: "nowhere": executable file not found in $PATH' "... in the same words as for a container"
run_is 126 "one that can't be executed" vm exec box /etc/passwd
run_is 143 "one that a signal ends" vm exec box sh -c 'kill $$'
run_is 0 "user, folder and environment" vm exec -u user -w /tmp -e A=b box sh -c 'id -un; pwd; echo $A; echo oops >&2; hostname'
is "${out//$'\n'/ }:$err" "user /tmp b box:oops" "... with streams of their own"
dd if=/dev/urandom of="$WORK/big" bs=1M count=1 2>/dev/null
is "$(vm exec -i box cat <"$WORK/big" | sha256sum)" "$(sha256sum <"$WORK/big")" "standard input goes in and comes back whole"
is "$(script -qec "$BULKHEAD vm exec -it box sh -c 'stty rows 30 cols 90; stty size; tty; exit 5'" /dev/null </dev/null | tr -d '\r' | head -n 1 | sed 's,^\^@,,')" "30 90" "-it has a terminal"
mkfifo "$WORK/keys"
(exec 3<>"$WORK/keys" && script -qec "stty rows 31 cols 91; $BULKHEAD vm exec -it box sh -c 'stty size; trap \"echo caught; exit 7\" INT; echo ready; while :; do sleep 0.2; done'" /dev/null <"$WORK/keys" >"$WORK/terminal") &
script=$!
ok "a command with a terminal" within 20 grep -q ready "$WORK/terminal"
printf '\003' >"$WORK/keys"
ok "Ctrl-C is the machine's terminal's" within 20 grep -q caught "$WORK/terminal"
wait "$script"
like "$(tr -d '\r' <"$WORK/terminal")" "31 91" "... and it has our terminal's size"
"$BULKHEAD" vm exec box sh -c 'trap "exit 9" TERM; echo ready; while :; do sleep 0.1; done' >"$WORK/ready" &
exec=$!
ok "a command that waits" within 20 grep -q ready "$WORK/ready"
kill -TERM "$exec"
wait "$exec"
is "$?" 9 "a signal to vm exec reaches it"
"$BULKHEAD" vm exec box sleep 1000 &
exec=$!
ok "another one" within 20 eval 'vm exec box ps | grep -q "sleep 1000"'
kill -KILL "$exec"
wait "$exec"
ok "is killed with its vm exec" within 20 eval '! vm exec box ps | grep -q "sleep 1000"'
is "$(vm exec box sh -c 'grep -E "CapBnd|Seccomp:" /proc/self/status | tr -d "\t\n"; ip link set lo up && echo net')" "CapBnd:000001ffffffffffSeccomp:0net" "root in it is root of the machine"
run_is 0 "vm exec -d" vm exec -d box sh -c 'sleep 1; echo >/tmp/done'
ok "... goes on when it has ended" within 20 vm exec box test -e /tmp/done
is "$(vm exec box sh -c 'ip -o -4 addr show eth0; ip route' | grep -oE 'inet [0-9./]+|default via [0-9.]+' | tr '\n' ' ')" "inet 10.9.0.2/24 default via 10.9.0.1 " "its first card has its address"
monitor=$(vm info -f '{{.pid}}' box)
"$BULKHEAD" vm exec box sleep 100 &
exec=$!
ok "an exec's stand-in" within 20 eval 'vm exec box ps | grep -q "sleep 100"'
session=$(pgrep -P "$exec")
is "$(awk '/^(CapEff|Seccomp|NoNewPrivs):/ { printf "%s ", $2 }' "/proc/$session/status"):$(awk '/^Uid:/ { print ($2 != 0) }' "/proc/$session/status"):$(ls "/proc/$session/root/")" "0000000000000000 1 2 :1:" "... which hears the guest, has no rights"
kill -KILL "$session"
wait "$exec"
vm suspend box >/dev/null
run_is 1 "vm exec in one that is suspended" vm exec box true
like "$err" "suspended" "... is refused"
vm resume box >/dev/null

# --- its life -----------------------------------------------------------------------------------------------------------------

mkfifo "$WORK/in"
vm console box <>"$WORK/in" >"$WORK/console" &
console=$!
printf 'echo on-con""sole; tty\n' >"$WORK/in"
ok "the image's first process is on the console" within 20 grep -q 'on-console' "$WORK/console"
run_is 0 "a file" vm exec box sh -c 'echo kept >/root/file; sync'
run_is 0 "vm snapshot" vm snapshot box before
run_is 0 "... before a change" vm exec box sh -c 'echo changed >/root/file; sync'
run_is 0 "vm restore" vm restore -f box before
is "$(vm exec box cat /root/file)" kept "... takes the change back, and the agent is there"
run_is 0 "vm reboot" vm reboot box
ok "... starts it again" within 40 eval '[ "$(grep -c "Enter .help" "$BULKHEAD_ROOT/vms/box/log")" = 2 ]'
is "$(vm exec box cat /root/file)" kept "... with its files"
run_is 0 "vm shutdown" vm shutdown --wait 60s box
is "$(vm info -f '{{.state}}' box)" "shut off" "... ends it"
wait "$console"
like "$(tr -d '\r' <"$BULKHEAD_ROOT/vms/box/log")" "the first process " "... after its first process"
[ ! -e "/proc/$monitor" ]
is "$?" 0 "no monitor is left"
run_is 0 "vm start again" vm start box
is "$(vm exec box cat /root/file)" kept "the files are still there"
printf 'exit\n' | vm console box >/dev/null
ok "the end of the first process is the machine's" within 40 eval '[ "$(vm info -f "{{.state}}" box)" = "shut off" ]'
run_is 0 "its devices on the MMIO bus" vm set box --transport mmio
run_is 0 "... and a start" vm start box
is "$(vm exec box sh -c 'cd /sys/bus/virtio/devices; for d in *; do readlink -f $d; done | grep -vc LNRO0005')" 0 "... which has them all there"
is "$(vm exec box sh -c 'cat /root/file; echo bus >/root/bus; sync; ip -o -4 addr show eth0 | grep -o "inet [0-9.]*"')" $'kept\ninet 10.9.0.2' "... its disks and its card work"
run_is 0 "vm snapshot of it" vm snapshot box bus
run_is 0 "vm restore" vm restore -f box bus
is "$(vm exec box cat /root/bus)" bus "... and the agent is there"
vm destroy box >/dev/null
vm start plain 2>/dev/null
run_is 1 "vm exec in a machine without an agent" vm exec plain true
run_is 0 "vm rm" vm rm -f box copy plain
is "$(ls "$BULKHEAD_ROOT/vms")$(ls "$BULKHEAD_STATE/vms")" "" "... leaves nothing"

done_testing
