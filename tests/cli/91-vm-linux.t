#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# timeout: 300
# An unmodified Debian kernel in a virtual machine: `vm run`.
. "$(dirname "$0")/../lib.sh"

KERNEL=$BUILD/lab-vmlinuz
[ -e "$KERNEL" ] || skip_all "lab: no kernel for a guest is here"

# --- an initial RAM disk of busybox -----------------------------------------------------------------------------------------
mkdir -p "$WORK/root/bin" "$WORK/root/modules" "$WORK/root/proc" "$WORK/root/sys" "$WORK/root/dev"
cp "$(command -v busybox)" "$WORK/root/bin/busybox"
cp "$BUILD/tests/vsock-peer" "$WORK/root/bin/"
for applet in sh head sha256sum wait; do ln -s busybox "$WORK/root/bin/$applet"; done
cp "$BUILD"/lab-modules/*.ko "$WORK/root/modules/"
cat >"$WORK/root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
echo "kernel $(/bin/busybox uname -r)"
echo "processors $(/bin/busybox grep -c ^processor /proc/cpuinfo)"
echo "clock $(/bin/busybox cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
echo "words $(/bin/busybox cat /proc/cmdline)"
for module in /modules/*.ko; do /bin/busybox insmod "$module" || echo "insmod $module failed"; done
case $(/bin/busybox cat /proc/cmdline) in
*net*)
	/bin/busybox ip addr add 10.99.0.2/24 dev eth0
	/bin/busybox ip link set eth0 up
	echo "mac $(/bin/busybox cat /sys/class/net/eth0/address)"
	/bin/busybox ping -c 3 -W 5 10.99.0.1 | /bin/busybox grep received
	/bin/busybox head -c 8m /dev/urandom >/big
	/bin/busybox sha256sum </big
	/bin/busybox nc 10.99.0.1 7000 </big
	/bin/busybox nc -l -p 7001 </dev/null | /bin/busybox sha256sum
	;;
*share*)
	/bin/busybox mkdir /share /only
	/bin/busybox mount -t virtiofs data /share || echo "mount failed"
	/bin/busybox mount -t virtiofs only /only
	/bin/busybox cat /share/hello
	/bin/busybox dd if=/dev/urandom of=/share/big bs=1M count=20 2>/dev/null
	/bin/busybox sha256sum </share/big
	/bin/busybox mkdir -p /share/a/b && echo inside >/share/a/b/file && /bin/busybox ln -s /etc/passwd /share/link && /bin/busybox mv /share/a /share/c
	/bin/busybox chown 1234:5678 /share/c/b/file && /bin/busybox chmod 4711 /share/c/b/file
	/bin/busybox cat /share/escape 2>/dev/null || echo "no way out"
	echo no >/only/new || echo "read-only"
	/bin/busybox cat /only/hello
	/bin/busybox head -c 16 /dev/hwrng | /bin/busybox wc -c
	/bin/busybox umount /share
	;;
*vsock*)
	echo "hello from the guest" | vsock-peer connect 1234
	vsock-peer connect 999 </dev/null || echo "refused"
	head -c 5m /dev/urandom >/big
	sha256sum </big
	vsock-peer connect 1235 </big
	vsock-peer echo 5000 &
	vsock-peer connect 1236 </dev/null
	wait
	;;
*disk*)
	echo "queues $(/bin/busybox ls /sys/block/vda/mq | /bin/busybox wc -l) $(/bin/busybox ls /sys/block/vdb/mq | /bin/busybox wc -l)"
	echo "serial $(/bin/busybox cat /sys/block/vda/serial), sectors $(/bin/busybox cat /sys/block/vda/size), read-only $(/bin/busybox cat /sys/block/vdb/ro)"
	/bin/busybox sha256sum /dev/vdb
	/bin/busybox mkdir /disk
	/bin/busybox mount -t ext4 /dev/vda /disk
	/bin/busybox dd if=/dev/vdb of=/disk/copy bs=64k 2>/dev/null
	/bin/busybox sync
	/bin/busybox echo 3 >/proc/sys/vm/drop_caches
	/bin/busybox sha256sum /disk/copy
	/bin/busybox dd if=/dev/zero of=/dev/vdb count=1 2>/dev/null || echo "no write"
	/bin/busybox grep -c virtio /proc/interrupts
	/bin/busybox umount /disk
	;;
*virtio*)
	exec 3<>/dev/hvc0
	echo "random by $(/bin/busybox cat /sys/class/misc/hw_random/rng_current), $(/bin/busybox head -c 4096 /dev/hwrng | /bin/busybox wc -c) bytes" >&3
	/bin/busybox seq 5000 >&3
	/bin/busybox sleep 1
	;;
*qcow2*)
	/bin/busybox dd if=/dev/vdb of=/dev/vda bs=64k count=40 conv=fsync 2>/dev/null
	/bin/busybox sha256sum /dev/vda
	;;
*behind*) /bin/busybox sha256sum /dev/vda ;;
*flags*) /bin/busybox grep -m 1 ^flags /proc/cpuinfo ;;
*echo*) read -r line </dev/ttyS0; echo "heard $line" ;;
esac
/bin/busybox poweroff -f
INIT
chmod +x "$WORK/root/init"
(cd "$WORK/root" && find . | cpio -o -H newc 2>/dev/null || busybox find . | busybox cpio -o -H newc) >"$WORK/initrd"
linux() {
	timeout --kill-after=5 150 "$BULKHEAD" vm run --kernel "$KERNEL" --initrd "$WORK/initrd" --memory 256m "$@"
}

# Ends what still waits for a guest that never came.
wait_all() {
	within 5 eval '[ -z "$(jobs -rp)" ]'
	kill $(jobs -rp) 2>/dev/null
	wait 2>/dev/null
}

run linux --cpus 2 --append "console=ttyS0 quiet" --explain </dev/null
is "$status" 0 "an unmodified kernel boots, and powers off by ACPI"
like "$out" "kernel [0-9.]+-[0-9]+-cloud-amd64" "it is Debian's"
like "$out" 'processors 2' "with both processors"
like "$out" 'clock kvm-clock' "and KVM's clock"
like "$out" 'words console=ttyS0 quiet' "the command line is the one that was given"
unlike "$out" 'ACPI.*(Error|Warning)|BUG|WARNING' "it finds nothing wrong with the machine"
like "$err" 'entry +kernel=kernel address=0x[0-9a-f]+ mode=long' "--explain: entered in 64-bit mode"
like "$err" 'exits +vcpu=1 reason="io out" count=' "--explain: exits of the second processor"
run linux --boot pvh --append "console=ttyS0 quiet" --explain </dev/null
is "$status" 0 "the same kernel entered by PVH"
like "$out" 'words console=ttyS0 quiet' "its command line"
like "$err" 'entry +kernel=kernel address=0x[0-9a-f]+ mode=protected' "--explain: entered in 32-bit mode"
run linux --boot pvh --no-inflate --append "console=ttyS0 quiet" </dev/null
like "$status:$err" '^125:bulkhead-vmm: kernel: no ELF executable with an entry for PVH' "a bzImage has no such entry"
run linux --cpu x86-64-v2 --append "console=ttyS0 quiet flags" </dev/null
like "$status:$out" '^0:.*flags.* sse4_2 ' "the same kernel on processors of another level"
unlike "$out" 'flags.* (avx|xsave|aes|smep)' "which have nothing newer"
run eval 'linux --append "console=ttyS0 quiet echo" <<<"a line for the guest"'
like "$status:$out" '^0:.*heard a line for the guest' "the console takes input"
run linux --append "console=ttyS0 quiet panic=-1 rdinit=/no/such/init" </dev/null
like "$status:$out" '^0:.*Kernel panic' "a panic ends in a reset, and so in the end"
like "$err" 'bulkhead-vmm: the guest was reset \(' "which is told"

# --- disks --------------------------------------------------------------------------------------------------------------------
mke2fs -q -t ext4 "$WORK/disk" 64m 2>/dev/null
head -c 8m /dev/urandom >"$WORK/data"
run linux --cpus 2 --disk "$WORK/disk,queues=2,serial=first" --disk "$WORK/data,readonly" --append "console=ttyS0 quiet disk" --explain </dev/null
sum=$(sha256sum <"$WORK/data" | cut -d ' ' -f 1)
is "$status" 0 "a guest with disks"
like "$out" 'queues 2 1' "as many queues as they were given"
like "$out" 'serial first, sectors 131072, read-only 1' "their serial number, size, and that one is read-only"
is "$(grep -c "$sum" <<<"$out")" 2 "what is read is what is there, and what was written is read again"
like "$out" 'no write' "a read-only disk takes no write"
is "$(sha256sum <"$WORK/data" | cut -d ' ' -f 1)" "$sum" "and is as it was"
is "$(debugfs -R 'cat /copy' "$WORK/disk" 2>/dev/null | sha256sum | cut -d ' ' -f 1)" "$sum" "the file that the guest wrote is in the image"
like "$err" 'disk +reads=together' "--explain: how disks are read"
like "$err" 'device +type=block pci=1 thread=2.*device +type=block pci=2 thread=own' "--explain: devices, a thread for each queue"

run linux --cpus 2 --transport mmio --disk "$WORK/disk,queues=2,serial=first" --disk "$WORK/data,readonly" --append "console=ttyS0 quiet disk" --explain </dev/null
is "$status" 0 "a guest with disks on the MMIO bus"
like "$out" 'queues 2 1.*serial first, sectors 131072, read-only 1' "which it finds by ACPI"
is "$(grep -c "$sum" <<<"$out")" 2 "what is read is what is there, and what was written is read again"
unlike "$out" 'ACPI.*(Error|Warning)|BUG|WARNING|nobody cared' "it finds nothing wrong with the bus"
like "$err" 'device +type=block mmio=1 thread=2.*device +type=rng mmio=3 ' "--explain: on it"

# --- network ------------------------------------------------------------------------------------------------------------------
ip link add bhtest0 type bridge
ip addr add 10.99.0.1/24 dev bhtest0
ip link set bhtest0 up
network() { # DESCRIPTION ARGUMENT...
	local sender sum description=$1
	shift
	socat -u TCP-LISTEN:7000,bind=10.99.0.1,reuseaddr - >"$WORK/net" &
	{ sleep 2; within 60 eval 'socat -u FILE:/bin/sh TCP:10.99.0.2:7001,connect-timeout=2 2>/dev/null'; } &
	sender=$!
	run linux --append "console=ttyS0 quiet net" "$@" </dev/null
	kill $sender 2>/dev/null
	wait_all
	is "$status" 0 "$description"
	like "$out" 'mac 52:54:00:12:34:56' "its address"
	like "$out" '[1-3] packets received' "ping crosses the tap device"
	sum=$(sha256sum <"$WORK/net")
	ok "a TCP stream of 8 MB from the guest arrives whole" grep -q "${sum%% *}" <<<"$out"
	sum=$(sha256sum </bin/sh)
	ok "and one to the guest" grep -q "${sum%% *}" <<<"$out"
	is "$(ip -o link show type tun 2>/dev/null | wc -l)" 0 "the tap device went with the machine"
}
network "a guest with a network card" --net tap,bridge=bhtest0,mac=52:54:00:12:34:56
network "one on the MMIO bus" --transport mmio --net tap,bridge=bhtest0,mac=52:54:00:12:34:56
network "one there whose packets the kernel moves" --transport mmio --net tap,bridge=bhtest0,mac=52:54:00:12:34:56,vhost
network "one whose packets the kernel moves" --explain --net tap,bridge=bhtest0,mac=52:54:00:12:34:56,vhost
like "$err" 'vhost +device=net queues="by the kernel"' "--explain: who moves them"
run linux --net tap,vhost,operations-per-second=1000 --append "console=ttyS0 quiet" </dev/null
like "$status:$err" "^125:.*net: the kernel's vhost device knows no limits" "not with limits"
mv /dev/vhost-net /dev/vhost-away
run linux --net tap,vhost --append "console=ttyS0 quiet" </dev/null
mv /dev/vhost-away /dev/vhost-net
like "$status:$err" "^0:.*no vhost_net .*; the monitor moves the packets" "where the kernel can't it is told, and goes without"
ip link del bhtest0

# --- shared folders -----------------------------------------------------------------------------------------------------------
before=$(sha256sum <"$WORK/data" | cut -d ' ' -f 1)
mkdir "$WORK/shared" "$WORK/only"
echo "hello from outside" >"$WORK/shared/hello"
echo "look, don't touch" >"$WORK/only/hello"
echo secret >"$WORK/secret"
ln -s ../secret "$WORK/shared/escape"
run linux --share "data=$WORK/shared" --share "only=$WORK/only,readonly" --append "console=ttyS0 quiet share" </dev/null
is "$status" 0 "a guest with shared folders"
like "$out" 'hello from outside' "it reads a file"
sum=$(sha256sum <"$WORK/shared/big")
ok "what it writes is the same outside" grep -q "${sum%% *}" <<<"$out"
is "$(cat "$WORK/shared/c/b/file"; stat -c '%u:%g %a' "$WORK/shared/c/b/file"; readlink "$WORK/shared/link")" "inside
1234:5678 4711
/etc/passwd" "folders, renames, owners, modes and links too"
like "$out" 'no way out' "a link that leads out is followed in the guest, where there is nothing"
like "$out" "read-only.*look, don't touch" "a folder that is shared read-only"
is "$(ls "$WORK/only")" hello "in which nothing has changed"
like "$out" '
16' "the entropy device gives bytes"

# --- qcow2 ---------------------------------------------------------------------------------------------------------------------
# An image of 8 MiB with nothing in it but its tables; behind it "data", whose name is nowhere in it.
u32() { printf '%b' "$(printf '\\x%02x' $(($1 >> 24 & 255)) $(($1 >> 16 & 255)) $(($1 >> 8 & 255)) $(($1 & 255)))"; }
{
	printf 'QFI\xfb'
	for word in 2 0 72 1 16 0 8388608 0 1 0 196608 0 65536 1 0 0 0; do u32 "$word"; done
	printf x
} >"$WORK/qcow2"
truncate -s 256k "$WORK/qcow2"
{ u32 0; u32 131072; } | dd of="$WORK/qcow2" bs=65536 seek=1 conv=notrunc 2>/dev/null
printf '\0\1\0\1\0\1\0\1' | dd of="$WORK/qcow2" bs=65536 seek=2 conv=notrunc 2>/dev/null
head -c 8m /dev/urandom >"$WORK/front"
expected=$({ head -c 2560k "$WORK/front"; tail -c +2621441 "$WORK/data"; } | sha256sum | cut -d ' ' -f 1)
run linux --disk "$WORK/qcow2,format=qcow2,backing=$WORK/data" --disk "$WORK/front,readonly" --append "console=ttyS0 quiet qcow2" </dev/null
like "$status:$out" "^0:.*$expected" "a qcow2 disk is written and read; what it doesn't have is in the image behind it"
run linux --disk "$WORK/qcow2,readonly,format=qcow2,backing=$WORK/data" --append "console=ttyS0 quiet behind" </dev/null
like "$status:$out" "^0:.*$expected" "and has it when it is opened again"
is "$(sha256sum <"$WORK/data" | cut -d ' ' -f 1)" "$before" "the image behind is as it was"
run linux --disk "$WORK/qcow2,format=qcow2" --append "console=ttyS0 quiet behind" </dev/null
like "$status:$err" 'behind this qcow2 image is not given' "without that one it isn't used"

# --- vsock --------------------------------------------------------------------------------------------------------------------
socat -u "UNIX-LISTEN:$WORK/v_1234" - >"$WORK/heard" &
socat -u "UNIX-LISTEN:$WORK/v_1235" - >"$WORK/big" &
socat "UNIX-LISTEN:$WORK/v_1236" EXEC:"$TESTS/vsock-echo $WORK" &
run linux --vsock "7,listen=$WORK/v,connect=$WORK/v" --append "console=ttyS0 quiet vsock" </dev/null
wait_all
is "$status" 0 "a guest with a vsock device"
is "$(cat "$WORK/heard")" "hello from the guest" "it connects to a port of the host"
like "$out" 'refused' "a port where nobody listens refuses"
sum=$(sha256sum <"$WORK/big")
ok "5 MB arrive whole" grep -q "${sum%% *}" <<<"$out"
is "$(cat "$WORK/echoed")" "$(head -c 300000 /bin/sh | sha256sum)" "the host connects to a port of the guest, and 300 kB come back"

# --- what can't be ----------------------------------------------------------------------------------------------------------
run linux --net tap,bridge=nosuch --append "console=ttyS0 quiet" </dev/null
like "$status:$err" '^125:bulkhead: bridge nosuch: No such device' "a bridge that isn't there"
run linux --net tap,speed=7 --append "console=ttyS0 quiet" </dev/null
like "$status:$err" '^125:bulkhead-vmm: net: speed=7 is not known' "a word that isn't known"

# --- console and entropy --------------------------------------------------------------------------------------------------------
run eval 'linux --console virtio --append "console=ttyS0 quiet virtio" </dev/null'
is "$status" 0 "a guest with a virtio console"
like "$out" 'random by virtio_rng.0, 4096 bytes' "and the host's randomness"
is "$(tr -d '\r' <<<"$out" | grep -c '^[0-9]*$')" 5000 "and all that is written"
like "$err" 'kernel [0-9.]+' "the serial port goes to standard error"
done_testing
