#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# timeout: 400
# What a Linux guest sees of its machine's states: processors, snapshots, clones, migration, the power button; a panic and a hang seen from outside.
. "$(dirname "$0")/../lib.sh"

kvm_boots_linux || skip_all "lab: no KVM that boots Linux"
# Of the kernels the newer one: it knows the generation id.
KERNEL=$(ls /boot/vmlinuz-6.1[2-9]*-cloud-amd64 2>/dev/null | tail -n 1)
[ -n "$KERNEL" ] || skip_all "lab: no kernel for a guest is here"
MODULES=/lib/modules/${KERNEL#*vmlinuz-}

# --- a guest that does what its console is told -----------------------------------------------------------------------------
mkdir -p "$WORK"/root/{bin,modules,proc,sys,dev}
cp "$(command -v busybox)" "$WORK/root/bin/busybox"
for applet in $(busybox --list); do ln -s busybox "$WORK/root/bin/$applet" 2>/dev/null; done
number=10
for module in virtio_mmio virtio_blk failover net_failover virtio_net button evdev pvpanic pvpanic-mmio; do
	file=$(find "$MODULES" -name "$module.ko*")
	case $file in
	*.xz) xz -dc "$file" ;;
	*) cat "$file" ;;
	esac >"$WORK/root/modules/$((number++))-$module.ko"
done
cat >"$WORK/root/init" <<'INIT'
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
mount -t tmpfs -o size=80% shm /dev/shm
for module in /modules/*.ko; do insmod "$module"; done
stty -F /dev/ttyS0 raw -echo
exec </dev/ttyS0 >/dev/ttyS0 2>&1
echo ready
while read -r line; do
	eval "$line"
	echo '[end]'
done
INIT
chmod +x "$WORK/root/init"
(cd "$WORK/root" && find . | busybox cpio -o -H newc 2>/dev/null) >"$WORK/initrd"

# With an address of its own: else it would be that of a port, and another one after each restore.
ip link add bhtest2 address 52:54:00:97:00:01 type bridge
ip addr add 10.97.0.1/24 dev bhtest2
ip link set bhtest2 up
truncate -s 4m "$WORK/disk"

# start_machine NAME ARGUMENT...: with a card of the kind $card; requests at $WORK/NAME.sock
start_machine() {
	local name=$1
	shift
	converse "$name" "$BULKHEAD" vm run --control "$WORK/$name.sock" --cpus 2 --memory 320m --disk "$WORK/disk" \
		--net "tap,bridge=bhtest2,mac=52:54:00:97:00:02$card" "$@"
}
heard() { within "${3:-12}" grep -q "$2" "$WORK/$1.out"; }
# tell NAME COMMAND: what the guest says to it.
tell() {
	local from output=$WORK/$1.out
	from=$(wc -c <"$output")
	say "$1" "$2"$'\n'
	within 12 eval 'tail -c +$((from + 1)) "$output" | grep -q "^\[end\]"' || diag "$1: no answer; $(cat "$WORK/$1.err")" >&2
	tail -c +$((from + 1)) "$output" | sed '/^\[end\]/,$d' | tr -d '\r\0'
}
ask() { # NAME COMMAND...
	local name=$1
	shift
	"$BULKHEAD" vm control "$WORK/$name.sock" "$@" 2>&1
}
pull_plug() { # NAME PID: as if the power had failed
	kill -KILL "$(pgrep -P "$2" -f -- --jail)" && wait "$2"
}
# The guest's clock is the host's. (A slow boot loses ticks until Linux knows a better clock than those: some seconds, for good.)
is_now() { # NAME DESCRIPTION
	local before guest after
	before=$(date +%s)
	guest=$(tell "$1" 'date +%s')
	after=$(date +%s)
	ok "$2 ($((guest - before)) s)" [ "$((guest))" -ge "$((before - 12))" -a "$((guest))" -le "$((after + 3))" ]
}
processors() { # NAME COUNT
	is "$(tell "$1" 'nproc; cat /sys/devices/system/cpu/online')" "$2
0-$(($2 - 1))" "$2 processors, all online"
	is "$(tell "$1" "for i in \$(seq 0 $(($2 - 1))); do taskset -c \$i sh -c 'cut -d \" \" -f 39 /proc/self/stat'; done")" "$(seq 0 $(($2 - 1)))" "and work can be put on each"
}
network() { # NAME
	local sum listener
	timeout 60 socat -u TCP-LISTEN:7002,bind=10.97.0.1,reuseaddr - >"$WORK/net" &
	listener=$!
	sum=$(tell "$1" 'ping -c 2 -W 5 10.97.0.1 | grep received; head -c 1000000 /dev/urandom >/sent; sha256sum </sent; nc 10.97.0.1 7002 </sent')
	wait $listener
	like "$sum" '[12] packets received' "$1: ping"
	like "$sum" "$(sha256sum <"$WORK/net" | cut -d ' ' -f 1)" "$1: a TCP stream arrives whole"
}
disk() { # NAME OFFSET-IN-64K
	local sum
	sum=$(tell "$1" "dd if=/dev/urandom of=/dev/vda bs=64k count=4 seek=$2 conv=fsync 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda bs=64k count=4 skip=$2 2>/dev/null | sha256sum")
	is "$sum" "$(dd if="$WORK/disk" bs=64k count=4 skip="$2" 2>/dev/null | sha256sum)" "$1: what is written to the disk is read again, and is outside"
}

# --- snapshots --------------------------------------------------------------------------------------------------------------

card=
start_machine a --kernel "$KERNEL" --initrd "$WORK/initrd" --append 'console=ttyS0 quiet'
a=$pid
ok "a guest" heard a ready
processors a 2
tell a 'ip addr add 10.97.0.2/24 dev eth0; ip link set eth0 up' >/dev/null
network a
disk a 0
sum=$(tell a 'head -c 24m /dev/urandom >/dev/shm/file; sha256sum </dev/shm/file')
like "$sum" '^[0-9a-f]{64}' "a file in memory"
is "$(ask a snapshot track=true --write "$WORK/full.state" --write "$WORK/full.memory")" '{"ok":true}' "a full snapshot"
more=$(tell a 'head -c 4m /dev/urandom >/dev/shm/more; sha256sum </dev/shm/more')
is "$(ask a snapshot incremental=true --write "$WORK/more.state" --write "$WORK/more.memory")" '{"ok":true}' "an incremental one"
ok "which is smaller" [ "$(stat -c %b "$WORK/more.memory")" -lt "$(($(stat -c %b "$WORK/full.memory") / 2))" ]
is_now a "the guest's clock is right"
complaints='dmesg | grep -cE "BUG:|WARNING:|stall|lockup|hung"'
before=$(tell a "$complaints")
pull_plug a "$a"
full=(--restore "$WORK/full.state,$WORK/full.memory")
at=4
for how in '' --lazy; do
	for files in full more; do
		name=$files$how
		[ $files = full ] || set -- --restore "$WORK/more.state,$WORK/more.memory"
		[ $files = more ] || set --
		# The kernel serves the queues of some, where the monitor left them.
		[ -z "$how" ] || card=,vhost
		start_machine "$name" "${full[@]}" "$@" $how
		b=$pid
		is "$(tell "$name" 'sha256sum </dev/shm/file')" "$sum" "$name: memory is what it was"
		[ $files = full ] || is "$(tell "$name" 'sha256sum </dev/shm/more')" "$more" "$name: and what came later"
		is_now "$name" "$name: the guest's clock is right"
		disk "$name" $((at += 4))
		network "$name"
		is "$(tell "$name" 'dmesg | grep -c "virtual machine fork"')" 1 "$name: new randomness"
		is "$(tell "$name" "$complaints")" "$before" "$name: the kernel has nothing to complain about"
		[ $name = more--lazy ] || pull_plug "$name" "$b"
	done
done

# --- migration --------------------------------------------------------------------------------------------------------------

# 100 MiB that are written all the time, and somebody who counts.
tell "$name" 'yes "0123456789abcdef$(date)" | head -c 50m >/dev/shm/x; cp /dev/shm/x /dev/shm/y' >/dev/null
tell "$name" 'copy() { dd if=/dev/shm/$1 of=/dev/shm/$2 bs=1M conv=notrunc 2>/dev/null; }; (while :; do copy x y; copy y x; done) &' >/dev/null
tell "$name" '(i=0; while :; do echo $((i += 1)) >>/dev/shm/count; usleep 20000; done) &' >/dev/null
counted() { tell "$1" 'cp /dev/shm/count /counted; seq 1 $(wc -l </counted) | cmp - /counted && wc -l </counted'; }
incoming() { # ARGUMENT...
	rm -f "$WORK/moving"
	start_machine there --incoming "$WORK/moving" "$@"
	there=$pid
	within 2 [ -S "$WORK/moving" ]
}
incoming
like "$(ask "$name" migrate downtime_ms=20 timeout_ms=20000 bandwidth=20000000 --connect "$WORK/moving")" 'faster than it can be sent|longer than' \
	"a guest that writes 100 MiB all the time doesn't move in 20 ms"
diag "$(cat "$WORK/$name.err")"
ended "$there"
is $? 125 "the other side gives up"
is "$(cat "$WORK/$name.err")" "" "the machine hasn't ended"
before=$(counted "$name")
sleep 0.5
like "$before" '^[0-9]+$' "the guest has counted without a gap"
ok "and goes on" [ "$(counted "$name")" -gt "${before:-0}" ]
incoming
moved=$(ask "$name" migrate downtime_ms=5000 --connect "$WORK/moving")
like "$moved" '"ok":true,"downtime_us":[0-9]+' "with more time it moves"
diag "$moved" "$(cat "$WORK/$name.err")" "$(tail -c 800 "$WORK/$name.out")"
ok "and stood no longer than it might" [ "$(sed 's/.*"downtime_us":\([0-9]*\).*/\1/' <<<"$moved")" -le 5000000 ]
ended "$b"
is $? 0 "here it has ended"
before=$(counted there)
sleep 0.5
like "$before" '^[0-9]+$' "there the guest has counted without a gap"
ok "and goes on" [ "$(counted there)" -gt "${before:-0}" ]
is "$(tell there 'sha256sum </dev/shm/file')" "$sum" "its memory is what it was"
is_now there "its clock is right"
disk there 40
network there
tell there 'poweroff -f' >/dev/null &
ended "$there"
is $? 0 "and it powers off"
kill %% 2>/dev/null

# --- the same with the devices on the MMIO bus ----------------------------------------------------------------------------------

card=
start_machine bus --transport mmio --kernel "$KERNEL" --initrd "$WORK/initrd" --append 'console=ttyS0 quiet'
bus=$pid
ok "a guest with its devices on the MMIO bus" heard bus ready
is "$(tell bus 'cd /sys/bus/virtio/devices; for d in *; do readlink -f $d; done | grep -c LNRO0005')" "$(tell bus 'ls /sys/bus/virtio/devices | wc -l')" "which are all there"
tell bus 'ip addr add 10.97.0.2/24 dev eth0; ip link set eth0 up' >/dev/null
disk bus 48
network bus
sum=$(tell bus 'head -c 8m /dev/urandom >/dev/shm/file; sha256sum </dev/shm/file')
is "$(ask bus snapshot --write "$WORK/bus.state" --write "$WORK/bus.memory")" '{"ok":true}' "a snapshot"
pull_plug bus "$bus"
card=,vhost
start_machine again --transport mmio --restore "$WORK/bus.state,$WORK/bus.memory" --lazy
again=$pid
is "$(tell again 'sha256sum </dev/shm/file')" "$sum" "restored: memory is what it was"
disk again 52
network again
tell again '(i=0; while :; do echo $((i += 1)) >>/dev/shm/count; usleep 20000; done) &' >/dev/null
incoming --transport mmio
like "$(ask again migrate downtime_ms=5000 --connect "$WORK/moving")" '"ok":true,"downtime_us":[0-9]+' "it moves"
ended "$again"
is $? 0 "here it has ended"
like "$(counted there)" '^[0-9]+$' "there the guest has counted without a gap"
disk there 56
network there
pull_plug there "$there"

# --- a machine with a name: its clone, the power button, a panic --------------------------------------------------------------

vm() { "$BULKHEAD" vm "$@"; }
console() { # NAME
	converse "$1" "$BULKHEAD" vm console "$1"
	console=$pid
}
boots() { grep -c ready "$BULKHEAD_ROOT/vms/$1/log"; }
booted() { within 12 eval '[ "$(boots '"$1"')" -gt '"$2"' ]'; } # NAME COUNT: it has booted more often
vm create lin --memory 128m --cpus 4 --kernel "$KERNEL" --initrd "$WORK/initrd" --append 'console=ttyS0 quiet' --net tap,bridge=bhtest2 >/dev/null
vm start lin >/dev/null
ok "a machine with a name" booted lin 0
console lin
processors lin 4
mac=$(tell lin 'cat /sys/class/net/eth0/address')
is "$mac" "$(vm info lin | jq -r '.networks[0].mac')" "its address"
run vm snapshot lin first
is "$status" 0 "vm snapshot"
sleep 6
run vm restore --force lin first
is "$status" 0 "vm restore"
wait $console
console lin
is_now lin "the guest's clock is right"
is "$(tell lin 'dmesg | grep -c "virtual machine fork"')" 1 "it has new randomness"
vm clone lin twin --snapshot first >/dev/null
run vm restore twin first
is "$status" 0 "a clone"
console twin
is_now twin "its clock is right"
is "$(tell twin 'dmesg | grep -c "virtual machine fork"')" 1 "it has new randomness"
isnt "$(tell twin 'cat /proc/sys/kernel/random/uuid')" "$(tell lin 'cat /proc/sys/kernel/random/uuid')" "which isn't the original's"
isnt "$(vm info twin | jq -r '.networks[0].mac')" "$mac" "it has another address"
is "$(tell twin 'device=$(basename "$(readlink -f /sys/class/net/eth0/device)"); cd /sys/bus/virtio/drivers/virtio_net; echo $device >unbind; echo $device >bind; cat /sys/class/net/eth0/address')" \
	"$(vm info twin | jq -r '.networks[0].mac')" "which the guest has when it takes the device anew"

# What acpid does.
on_button='(head -c 24 /dev/input/event* >/dev/null; poweroff -f) &'
tell lin "$on_button" >/dev/null
run vm shutdown --wait 20s lin
is "$status:$(vm list -q)" "0:twin" "the power button: the guest powers off"
is "$(vm info -f '{{.exit_code}}' lin)" 0 "vm info: exit code 0"
tell twin '(while :; do :; done) &' >/dev/null
run vm shutdown --wait 2s twin
like "$status:$err" "^1:bulkhead: the virtual machine twin hasn't shut itself down" "one that doesn't listen"
run vm destroy twin
is "$status:$(vm list -q)" "0:" "has its plug pulled"
is "$(vm info -f '{{.exit_code}}' twin)" 137 "vm info: exit code 137"
before=$(boots lin)
vm start lin >/dev/null
booted lin "$before"
console lin
tell lin "$on_button" >/dev/null
before=$(boots lin)
run vm reboot lin
is "$status" 0 "vm reboot"
ok "it starts again" booted lin "$before"
tell lin 'echo 1 >/proc/sys/kernel/sysrq' >/dev/null
say lin $'echo c >/proc/sysrq-trigger\n'
wait $console
is $? 125 "a panic ends the machine"
ok "which isn't there any more" within 2 eval '[ -z "$(vm list -q)" ]'
like "$(cat "$WORK/lin.out")" "Kernel panic.*bulkhead-vmm: the guest's kernel has panicked" "and is told"
is "$(vm info -f '{{.exit_code}}' lin)" 125 "vm info: exit code 125"
vm rm lin twin >/dev/null

# --- microVMs ---------------------------------------------------------------------------------------------------------------

need_busybox
bh() { timeout --kill-after=5 150 "$BULKHEAD" "$@"; }
mkdir "$WORK/shared"
head -c 1m /dev/urandom >"$WORK/shared/block"
bh run -d --name long --isolation vm --memory 128m --cap-add SYS_TIME -v "$WORK/shared:/shared" busybox sleep 10000 >/dev/null
bh exec long date -s @1000000000 >/dev/null
ok "a guest whose clock is wrong" [ "$(bh exec long date +%s)" -lt 1000001000 ]
bh pause long >/dev/null
bh unpause long >/dev/null
before=$(date +%s)
guest=$(bh exec long date +%s)
ok "has the host's time when it goes on ($((guest - before)) s)" [ "$guest" -ge "$((before - 2))" -a "$guest" -le "$(($(date +%s) + 2))" ]
copies='for i in $(seq 100); do echo $i; cat block; done'
bh exec long sh -c "cd /shared && { $copies; } >big"
ok "a file of 100 MiB that was written in a shared folder is the same outside" eval 'cd "$WORK/shared" && { '"$copies"'; } | cmp - big'
# (A command that is killed for the time it takes tells no status.)
for memory in 64m 128m 300m; do
	run timeout --kill-after=5 150 sh -c '"$0" run --rm --isolation vm --memory '$memory' busybox sh -c "x=aaaaaaaaaaaaaaaa; while :; do x=\$x\$x; done"; echo "ended with $?"' "$BULKHEAD"
	is "$out" "ended with 137" "$memory: a memory hog is killed in its machine"
done
is "$(bh exec long echo alive)" alive "its neighbour lives on"
bh rm -f long >/dev/null

ip link del bhtest2
done_testing
