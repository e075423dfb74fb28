#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# The virtual machine monitor with small guests of our own (tests/guests): `vm run`.
. "$(dirname "$0")/../lib.sh"

[ -c /dev/kvm ] || skip_all "lab: there is no /dev/kvm"
GUESTS=$BUILD/tests/guests

# vm GUEST ARGUMENT...: runs it with nothing to read.
vm() {
	local guest=$1
	shift
	timeout --kill-after=5 100 "$BULKHEAD" vm run --multiboot --kernel "$GUESTS/$guest" "$@" </dev/null
}

# --- loading --------------------------------------------------------------------------------------------------------------

echo "what the module holds" >"$WORK/module"
run vm information --append 'some words' --initrd "$WORK/module"
is "$status" 42 "the exit code from port 0xf4"
is "$err" "" "and no words"
like "$out" '^magic 2badb002' "the multiboot magic"
like "$out" 'command line: information some words.map' "the command line: the kernel's name, and ours"
like "$out" 'map 0\+a0000 memory.map a0000\+60000 reserved.map 100000\+7f00000 memory' "the memory map of 128 MiB"
like "$out" "module $WORK/module: what the module holds" "the module, with its name"
run vm information --memory 4g
like "$out" 'map 100000\+bff00000 memory.map 100000000\+40000000 memory' "4 GiB: around the hole for devices"
run vm processors --cpus 4
is "$status:$out" "0:4 processors" "four processors"
run vm processors --cpus 1
is "$status:$out" "0:1 processors" "one"

# --- PVH ------------------------------------------------------------------------------------------------------------------

pvh() { timeout --kill-after=5 100 "$BULKHEAD" vm run "$@" </dev/null; }
run pvh --kernel "$GUESTS/pvh" --append 'some words' --initrd "$WORK/module"
is "$status:$err" "0:" "an executable with an entry for PVH alone is entered by it, and powers the machine off"
like "$out" '^magic 336ec578 version 1' "its start information"
like "$out" 'cr0 1 cr4 0 flags 0' "the processor is in protected mode and nothing else"
like "$out" 'command line: some words' "the command line"
like "$out" 'map 0\+a0000 memory.map a0000\+60000 reserved.map 100000\+7f00000 memory.map e0000000\+100000 reserved' "the memory map"
like "$out" 'root RSD PTR ' "ACPI's root pointer"
like "$out" "module $WORK/module: what the module holds" "the module, with its name"
run vm pvh
like "$out" 'entered by multiboot' "--multiboot enters the same file otherwise"
run pvh --kernel "$GUESTS/ends" --boot pvh
like "$status:$err" '^125:bulkhead-vmm: kernel: no ELF executable with an entry for PVH$' "--boot pvh: a kernel that has no such entry"
run pvh --kernel "$GUESTS/pvh" --boot pvh --multiboot
like "$status:$err" '^125:bulkhead: vm run: --boot pvh and --multiboot exclude each other' "--boot and --multiboot"
run pvh --kernel "$GUESTS/pvh" --boot linux
like "$status:$err" '^125:bulkhead-vmm: kernel: not a 64-bit kernel' "--boot linux: no 64-bit kernel"

# --- processor models -------------------------------------------------------------------------------------------------------

# bits LEAF COLUMN MASK: of a register of the last guest (columns: eax ebx ecx edx)
bits() { printf '%x' $((0x$(awk -v leaf="$1:" -v column="$2" '$1 == leaf { print $(column + 1) }' <<<"$out") & $3)); }
run vm cpuid
is "$status:$(bits 1.0 3 0x94900001)" "0:94900001" "a guest sees what the host has (SSE3, SSE4.2, POPCNT, XSAVE, AVX, a hypervisor)"
run vm cpuid --cpu x86-64-v2
if [[ $err == *"x86-64-v2: this machine's processors lack sse3 "* ]]; then
	skip "lab: this KVM gives not even x86-64-v2" 5
else
	is "$status:$(bits 1.0 3 0x94900001) $(bits 1.0 3 0x02000000)" "0:80900001 0" "--cpu x86-64-v2: no AVX, no XSAVE, no AES"
	is "$(bits 7.0 2 0xffffffff) $(bits d.0 1 0xffffffff) $(bits 80000001.0 3 0xffffffff)" "0 0 1" "nor anything newer, nor its state"
	like "$out" '40000000.0: [0-9a-f]+ 4b4d564b 564b4d56 4d' "KVM's own leaves stay"
	run vm cpuid --cpu v3,-bmi2 --cpus 2
	is "$status:$(bits 1.0 3 0x94900001) $(bits 7.0 2 0xffffffff) $(bits d.0 1 0xffffffff)" "0:94900001 28 7" "--cpu v3,-bmi2"
	run vm cpuid --cpu x86-64-v4
	is "$status:$err" "125:bulkhead-vmm: x86-64-v4: this machine's processors lack avx512f avx512dq avx512cd avx512bw avx512vl" "what the host lacks is named"
fi
run vm cpuid --cpu v2,+nosuch
like "$status:$err" "^125:bulkhead: processor feature \+nosuch: " "a feature that isn't known"

# --- devices --------------------------------------------------------------------------------------------------------------

mkfifo "$WORK/in"
"$BULKHEAD" vm run --multiboot --kernel "$GUESTS/serial" <"$WORK/in" >"$WORK/out" &
exec 5<>"$WORK/in"
ok "the serial port's registers and loopback" within 10 grep -q ready "$WORK/out"
printf 'a line of more than sixteen bytes.' >&5
wait $!
is "$?:$(tail -n +2 "$WORK/out")" "0:A LINE OF MORE THAN SIXTEEN BYTES." "input by interrupts, in order and whole"
exec 5>&-
run vm ends --append clock
is "$status" 32 "the clock: this century"
run vm ends --append nobody
is "$status" 0 "where no device is all bits read as one"

# --- test guests: what they ask their machine, and try it with ---------------------------------------------------------------

run vm machine --append firmware --cpus 3 --memory 96m
is "$status:$out" "0:554d4551 memory 6000000 processors 3" "the firmware's configuration: signature, memory, processors"
run vm machine --append lines
is "$status" 0 "every line of the I/O APIC by its port"
run vm machine --append bytes
is "$status" 0 "the latch and the device memory"
run vm machine --append timer
is "$status" 3 "ACPI's timer, found by a reader of ACPI 1.0"
run vm machine --append off
is "$status" 0 "power-off by the control register"
run vm long-mode --cpus 3
is "$status:$out" "3:going" "three processors in 64-bit mode, as many as the firmware says"
echo 'NR_CPUS=2' >"$WORK/environment"
run vm long-mode --cpus 2 --initrd "$WORK/environment"
is "$status:$out" "2:going" "as many as the environment says, which is a module"
cp "$GUESTS/information" "$WORK/with an end.flat"
run "$BULKHEAD" vm run --multiboot --kernel "$WORK/with an end.flat" </dev/null
like "$out" 'command line: with_an_end.flat.map' "no word of ours: the name alone, as one word"
for line in 'with_an_end.flat one' 'with_an_end two'; do
	run "$BULKHEAD" vm run --multiboot --kernel "$WORK/with an end.flat" --append "$line" </dev/null
	like "$out" "command line: $line.map" "a line that begins with the name stays as it is: $line"
done

# --- ends -------------------------------------------------------------------------------------------------------------------

for how in keyboard 'port 92' 'port cf9'; do
	run vm ends --append "$how"
	is "$status:$out" "0:here" "a reset: $how"
	like "$err" '^bulkhead-vmm: the guest was reset \(' "which is told"
done
run vm ends --append triple
is "$status:$out" "125:here" "a triple fault is a failure"
is "$err" "bulkhead-vmm: the guest was reset (processor 0: triple fault)" "what became of a test guest is told"
for how in spin halt; do
	rm -f "$WORK/out" # a word of the last one must not be taken for this one's
	"$BULKHEAD" vm run --multiboot --kernel "$GUESTS/ends" --append "$how" </dev/null >"$WORK/out" &
	pid=$!
	within 10 grep -qs here "$WORK/out"
	kill -TERM "$pid"
	wait "$pid"
	is "$?" 143 "SIGTERM ends a guest that can't: $how"
done
rm -f "$WORK/out"
"$BULKHEAD" vm run --multiboot --kernel "$GUESTS/ends" --append spin </dev/null >"$WORK/out" 2>/dev/null &
pid=$!
within 10 grep -qs here "$WORK/out"
monitor=$(pgrep -P "$pid")

# --- the jail, from outside ---------------------------------------------------------------------------------------------------

like "$(awk '/^Uid/ { print $2, $3, $4, $5 }' "/proc/$monitor/status")" '^187[0-9]+ ' "a user of its own"
is "$(awk '/^Cap(Inh|Prm|Eff|Bnd|Amb)/ { print $2 }' "/proc/$monitor/status" | sort -u)" 0000000000000000 "no capability, and none to get"
is "$(awk '/^NoNewPrivs/ { print $2 }' "/proc/$monitor/status")" 1 "no_new_privs"
is "$(for t in /proc/"$monitor"/task/*/status; do awk '/^Seccomp:/ { print $2 }' "$t"; done | sort -u)" 2 "each thread has a filter"
for ns in user mnt pid net ipc uts; do
	isnt "$(readlink "/proc/$monitor/ns/$ns")" "$(readlink /proc/self/ns/$ns)" "a $ns namespace of its own"
done
is "$(wc -l <"/proc/$monitor/mountinfo")" 1 "one mount"
like "$(cat "/proc/$monitor/mountinfo")" '/ / ro,nosuid,nodev,noexec.* - tmpfs' "an empty read-only one"
is "$(ls -A "/proc/$monitor/root/")" "" "with nothing in it"
is "$(find "/proc/$monitor/fd" -type l -printf '%l\n' | grep '^/' | sort | tr '\n' ' ')" "/dev/kvm /dev/null /dev/null $WORK/out " "no file but those it was given"
kill -9 "$pid"
wait "$pid" 2>/dev/null
ok "its starter's death is its own" within 5 eval '! [ -d "/proc/$monitor" ] || grep -q "State:.Z" "/proc/$monitor/status"'

# --- what can't be --------------------------------------------------------------------------------------------------------

run vm no-such-guest
like "$status:$err" "^125:bulkhead: open .*no-such-guest: No such file" "a kernel that isn't there"
run "$BULKHEAD" vm run --multiboot --kernel "$TESTS/lib.sh"
like "$status:$err" "^125:bulkhead-vmm: kernel: no multiboot header$" "a kernel that is none"
head -c 200 "$GUESTS/ends" >"$WORK/torn"
run "$BULKHEAD" vm run --multiboot --kernel "$WORK/torn"
like "$status:$err" "^125:bulkhead-vmm: kernel: " "a torn one"
run vm ends --memory 512k
like "$status:$err" "^125:bulkhead-vmm: guest memory of 524288 bytes: from 1 MiB" "too little memory"
run vm ends --cpus 65
like "$status:$err" "^125:bulkhead-vmm: 65 processors: from 1 to " "too many processors"
truncate -s 200m "$WORK/large"
run vm ends --initrd "$WORK/large"
like "$status:$err" "^125:bulkhead-vmm: .*large: 209715200 bytes don't fit into the guest's memory" "a module larger than memory"
run "$BULKHEAD" vm run
like "$status:$err" "^125:bulkhead: vm run: which kernel" "no kernel"

"$BULKHEAD" vm run --multiboot --kernel "$GUESTS/information" </dev/null >/dev/full 2>"$WORK/err"
is "$?:$(cat "$WORK/err")" "42:bulkhead-vmm: write what the guest's console said: No space left on device" "output that can't be written is told of"
"$BULKHEAD" vm run --multiboot --kernel "$GUESTS/information" <&- >"$WORK/out"
is "$?:$(grep -c ^map "$WORK/out")" "42:3" "without a standard input"

# --- --explain ----------------------------------------------------------------------------------------------------------------

run vm ends --append nobody --explain
like "$err" 'memslot +address=0x0 bytes=134217728' "--explain: memory"
like "$err" 'entry +kernel=kernel address=0x10[0-9a-f]+ mode=protected' "--explain: the first instruction"
like "$err" 'exits +vcpu=0 reason="mmio read" count=1 ' "--explain: exits with their count"
run vm ends --append nobody --explain=json
is "$(grep -c '^{"seq":[0-9]*,.*}$' <<<"$err")" "$(wc -l <<<"$err")" "--explain=json"
done_testing
