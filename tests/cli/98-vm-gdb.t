#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# timeout: 150
# A debugger's way into a virtual machine: `vm run --gdb`, spoken to in raw packets.
. "$(dirname "$0")/../lib.sh"

GUESTS=$BUILD/tests/guests
run "$BULKHEAD" vm run --multiboot --kernel "$GUESTS/debug" --gdb 10.0.0.1:1234
like "$status:$err" '^125:bulkhead: --gdb 10.0.0.1:1234: the path of a socket, or 127.0.0.1:PORT' "no other address than this machine's own"
[ -c /dev/kvm ] || {
	skip "lab: there is no /dev/kvm" 1
	done_testing
	exit
}

[ ! -d /sys/module/kvm_pvm ] || {
	skip "lab: this KVM emulates the guest's kernel, without breakpoints" 1
	done_testing
	exit
}

# send CONTENT: as a packet. receive: the content of the next one. ask CONTENT: both.
send() {
	local sum=0 i
	for ((i = 0; i < ${#1}; i++)); do sum=$((sum + $(printf '%d' "'${1:i:1}"))); done
	printf '$%s#%02x' "$1" $((sum & 255)) >&"${gdb[1]}"
}
receive() {
	local bytes sum
	IFS= read -r -t 60 -d '#' bytes <&"${gdb[0]}" || { echo "nothing came"; return; }
	IFS= read -r -t 60 -N 2 sum <&"${gdb[0]}"
	echo "${bytes#*$}"
}
ask() {
	send "$1"
	receive
}
# little HEX: a number of 32 bits as memory has it
little() { printf '%08x' "0x$1" | sed 's/\(..\)\(..\)\(..\)\(..\)/\4\3\2\1/'; }

# start ARGUMENT...: the machine, and a debugger that has said hello
start() {
	rm -f "$WORK/out"
	"$BULKHEAD" vm run --multiboot --kernel "$GUESTS/debug" --gdb "$@" </dev/null >"$WORK/out" 2>"$WORK/err" &
	vm=$!
}
connect() {
	coproc gdb { socat - "$1" 2>/dev/null; }
	peer=$gdb_PID
}

start "$WORK/gdb" --cpus 2
ok "the socket is there" within 20 [ -S "$WORK/gdb" ]
is "$(stat -c %a "$WORK/gdb")" 600 "for its owner alone"
connect "UNIX-CONNECT:$WORK/gdb"
like "$(ask 'qSupported:swbreak+;hwbreak+;vContSupported+')" 'PacketSize=1000;.*qXfer:features:read\+' "the greeting"
is "$(ask QStartNoAckMode)" OK "no acknowledgements"
is "$(ask vMustReplyEmpty)" "" "what isn't known"
is "$(ask '?')" "T05thread:1;" "the machine stands"
is "$(cat "$WORK/out")" "" "and has done nothing yet"
is "$(ask qfThreadInfo)" m1,2 "two processors"
like "$(ask qXfer:features:read:target.xml:0,fff)" '^m<\?xml .*i386:x86-64.*org.gnu.gdb.i386.core' "the description"
entry=$(od -An -tx4 -j 24 -N 4 "$GUESTS/debug" | tr -d ' ')
is "$(ask p10)" "$(little "$entry")00000000" "the first instruction is the kernel's entry"
is "$(ask "m$entry,4")" "$(od -An -tx1 -j $((0x1000 + 0x$entry - 0x100000)) -N 4 "$GUESTS/debug" | tr -d ' ')" "memory"

send 'vCont;c'
ok "it goes on" within 20 grep -q variable "$WORK/out"
read -r _ first _ second _ variable <"$WORK/out"
printf '\3' >&"${gdb[1]}"
is "$(receive)" "T02thread:1;" "an interrupt"
# It runs around a loop of three instructions.
begin=$(ask p10)
is "$(ask 'vCont;s:1')" "T05thread:1;" "a step"
isnt "$(ask p10)" "$begin" "goes on"
is "$(ask 'vCont;s:1')$(ask 'vCont;s:1;c')" "T05thread:1;T05thread:1;" "two more, the other processor running once"
is "$(ask p10)" "$begin" "of one instruction each"
is "$(ask P2=efbeadde00000000)" OK "a register is written"
is "$(ask p2)" efbeadde00000000 "and read"
is "$(ask p3b)" 1100000000000000 "CR0: protected mode"
code=$(ask "m$first,4")
is "$(ask "Z0,$first,1")" OK "a software breakpoint"
is "$(ask "m$first,4")" "$code" "is not seen in memory"
is "$(ask M200000,5:0100000007)" OK "memory is written"
is "$(ask m200000,5)" 0100000007 "and read"
# QEMU's software processor takes an int3 for an interrupt, which no intercept of exceptions sees.
if grep -q 'QEMU TCG' /proc/cpuinfo; then
	skip "software breakpoints under QEMU's software processor" 2
	software=
else
	is "$(ask 'vCont;c')" "T05thread:1;swbreak:;" "the breakpoint is met"
	is "$(ask p10)" "$(little "$first")00000000" "at its instruction"
	software=yes
fi
is "$(ask "z0,$first,1")" OK "it is taken away"
is "$(ask "Z2,$variable,4")" OK "a watchpoint"
is "$(ask "Z1,$second,1")" OK "a hardware breakpoint"
end=$(ask 'vCont;c')
if [ "$end:$software" = W07: ]; then
	skip "nor has it debug registers for a guest of a guest" 5
else
	is "$end" "T05thread:1;watch:$variable;" "the watchpoint is met"
	is "$(ask "m$variable,4")" 34120000 "and has seen the value"
	is "$(ask "z2,$variable,4")$(ask 'vCont;c')" "OKT05thread:1;hwbreak:;" "the breakpoint is met"
	is "$(ask p10)" "$(little "$second")00000000" "at its instruction"
	is "$(ask "z1,$second,1")" OK "it is taken away"
	end=$(ask 'vCont;c')
fi
is "$end" W07 "the guest's end, with its exit code"
wait "$vm"
is "$?:$(cat "$WORK/err")" "7:" "which the command has too"
ok "the socket has gone" [ ! -e "$WORK/gdb" ]

# --- leaving, and coming back ------------------------------------------------------------------------------------------------

start 127.0.0.1:7123
ok "by TCP" within 20 eval 'socat -u /dev/null TCP:127.0.0.1:7123 2>/dev/null'
# That one came and went: the machine runs.
ok "a debugger that goes lets the machine go on" within 20 grep -q variable "$WORK/out"
connect TCP:127.0.0.1:7123
ask QStartNoAckMode >/dev/null
is "$(ask "Z0,$first,1")" OK "one that comes later has it stand"
is "$(ask D)" OK "detached: its breakpoints go, and the machine goes on"
within 20 eval '! kill -0 "$peer" 2>/dev/null'
connect TCP:127.0.0.1:7123
ask QStartNoAckMode >/dev/null
is "$(ask "m$first,4")" "$code" "nothing is left of them"
is "$(ask M200000,5:0100000009)" OK "a word for the guest"
send k
wait "$vm"
is "$?" 0 "killed"

start "$WORK/gdb"
within 20 [ -S "$WORK/gdb" ]
kill -TERM "$vm"
wait "$vm"
is "$?" 143 "a machine that waits for a debugger can be ended"
printf '$m0,%s#zz$$$$#-\3\3%s' "$(head -c 9000 /dev/zero | tr '\0' f)" >"$WORK/noise"
start "$WORK/gdb"
within 20 [ -S "$WORK/gdb" ]
socat -u "FILE:$WORK/noise" "UNIX-CONNECT:$WORK/gdb"
ok "noise does nothing but let it go" within 20 grep -q variable "$WORK/out"
kill "$vm"
wait "$vm" 2>/dev/null
done_testing
