#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# timeout: 300
# An unmodified Debian kernel in a virtual machine: `vm run`.
. "$(dirname "$0")/../lib.sh"

KERNEL=$BUILD/lab-vmlinuz
[ -e "$KERNEL" ] || skip_all "lab: no kernel for a guest is here"

# --- an initial RAM disk of busybox -----------------------------------------------------------------------------------------
mkdir -p "$WORK/root/bin" "$WORK/root/proc" "$WORK/root/sys" "$WORK/root/dev"
cp "$(command -v busybox)" "$WORK/root/bin/busybox"
cat >"$WORK/root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
echo "kernel $(/bin/busybox uname -r)"
echo "processors $(/bin/busybox grep -c ^processor /proc/cpuinfo)"
echo "clock $(/bin/busybox cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
echo "words $(/bin/busybox cat /proc/cmdline)"
case $(/bin/busybox cat /proc/cmdline) in
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
like "$err" 'entry +kernel=kernel address=0x[0-9a-f]+200 mode=long' "--explain: entered in 64-bit mode"
like "$err" 'exits +vcpu=1 reason="io out" count=' "--explain: exits of the second processor"
run eval 'linux --append "console=ttyS0 quiet echo" <<<"a line for the guest"'
like "$status:$out" '^0:.*heard a line for the guest' "the console takes input"
run linux --append "console=ttyS0 quiet panic=-1 rdinit=/no/such/init" </dev/null
like "$status:$out" '^0:.*Kernel panic' "a panic ends in a reset, and so in the end"
done_testing
