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
*qcow2*)
	/bin/busybox dd if=/dev/vdb of=/dev/vda bs=64k count=40 conv=fsync 2>/dev/null
	/bin/busybox sha256sum /dev/vda
	;;
*behind*) /bin/busybox sha256sum /dev/vda ;;
*echo*) read -r line </dev/ttyS0; echo "heard $line" ;;
esac
/bin/busybox poweroff -f
INIT
chmod +x "$WORK/root/init"
(cd "$WORK/root" && find . | cpio -o -H newc 2>/dev/null || busybox find . | busybox cpio -o -H newc) >"$WORK/initrd"
linux() {
	timeout 60 "$BULKHEAD" vm run --kernel "$KERNEL" --initrd "$WORK/initrd" --memory 256m "$@"
}

run linux --cpus 2 --append "console=ttyS0 quiet" --explain </dev/null
is "$status" 0 "an unmodified kernel boots, and powers off by ACPI"
like "$out" "kernel [0-9.]+-[0-9]+-cloud-amd64" "it is Debian's"
like "$out" 'processors 2' "with both processors"
like "$out" 'clock kvm-clock' "and KVM's clock"
like "$out" 'words console=ttyS0 quiet' "the command line is the one that was given"
unlike "$out" 'ACPI.*(Error|Warning)|BUG|WARNING' "it finds nothing wrong with the machine"
like "$err" 'kernel-inflated +compression=(xz|zstd|gzip|lz4)' "--explain: what the bzImage carries was inflated here"
like "$err" 'entry +kernel=kernel address=0x[0-9a-f]+ mode=long' "--explain: entered in 64-bit mode"
like "$err" 'exits +vcpu=1 reason="io out" count=' "--explain: exits of the second processor"
run eval 'linux --append "console=ttyS0 quiet echo" <<<"a line for the guest"'
like "$status:$out" '^0:.*heard a line for the guest' "the console takes input"
run linux --append "console=ttyS0 quiet panic=-1 rdinit=/no/such/init" </dev/null
like "$status:$out" '^0:.*Kernel panic' "a panic ends in a reset, and so in the end"

# --- disks --------------------------------------------------------------------------------------------------------------------
mke2fs -q -t ext4 "$WORK/disk" 64m 2>/dev/null
head -c 8m /dev/urandom >"$WORK/data"
run linux --disk "$WORK/disk,serial=first" --disk "$WORK/data,readonly" --append "console=ttyS0 quiet disk" --explain </dev/null
sum=$(sha256sum <"$WORK/data" | cut -d ' ' -f 1)
is "$status" 0 "a guest with disks"
like "$out" 'serial first, sectors 131072, read-only 1' "their serial number, size, and that one is read-only"
is "$(grep -c "$sum" <<<"$out")" 2 "what is read is what is there, and what was written is read again"
like "$out" 'no write' "a read-only disk takes no write"
is "$(sha256sum <"$WORK/data" | cut -d ' ' -f 1)" "$sum" "and is as it was"
is "$(debugfs -R 'cat /copy' "$WORK/disk" 2>/dev/null | sha256sum | cut -d ' ' -f 1)" "$sum" "the file that the guest wrote is in the image"
like "$err" 'device +type=block pci=1 thread=own' "--explain: devices"

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
is "$(sha256sum <"$WORK/data" | cut -d ' ' -f 1)" "$sum" "the image behind is as it was"
run linux --disk "$WORK/qcow2,format=qcow2" --append "console=ttyS0 quiet behind" </dev/null
like "$status:$err" 'behind this qcow2 image is not given' "without that one it isn't used"

# --- vsock --------------------------------------------------------------------------------------------------------------------
socat -u "UNIX-LISTEN:$WORK/v_1234" - >"$WORK/heard" &
socat -u "UNIX-LISTEN:$WORK/v_1235" - >"$WORK/big" &
socat "UNIX-LISTEN:$WORK/v_1236" EXEC:"$TESTS/vsock-echo $WORK" &
run linux --vsock "7,listen=$WORK/v,connect=$WORK/v" --append "console=ttyS0 quiet vsock" </dev/null
wait
is "$status" 0 "a guest with a vsock device"
is "$(cat "$WORK/heard")" "hello from the guest" "it connects to a port of the host"
like "$out" 'refused' "a port where nobody listens refuses"
sum=$(sha256sum <"$WORK/big")
ok "5 MB arrive whole" grep -q "${sum%% *}" <<<"$out"
is "$(cat "$WORK/echoed")" "$(head -c 300000 /bin/sh | sha256sum)" "the host connects to a port of the guest, and 300 kB come back"
done_testing
