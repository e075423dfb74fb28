#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# timeout: 150
# A machine's state: pause, snapshots (full, incremental, loaded at once and by need), files that were tampered with, migration and its cancel.
. "$(dirname "$0")/../lib.sh"

[ -c /dev/kvm ] || skip_all "lab: there is no /dev/kvm"
GUEST=$BUILD/tests/guests/memory
start_machine() { # NAME ARGUMENT...: requests at $WORK/NAME.sock
	local name=$1
	shift
	converse "$name" "$BULKHEAD" vm run --multiboot --control "$WORK/$name.sock" "$@"
}
# The N-th sum that the guest has told, once its line is whole.
sum_of() {
	within 20 eval "[ \"\$(grep -c '^sum' '$WORK/$1.out')\" -ge $2 ] && [ \"\$(tail -c 1 '$WORK/$1.out' | wc -l)\" = 1 ]"
	awk -v n="$2" '/^sum/ && ++i == n { print $2 }' "$WORK/$1.out"
}
heard() { within 20 grep -q "$2" "$WORK/$1.out"; }
ask() { # NAME COMMAND...
	local name=$1
	shift
	"$BULKHEAD" vm control "$WORK/$name.sock" "$@" 2>&1
}
# The text or number of a member of an answer.
member() { sed -n "s/.*\"$1\":\"\\{0,1\\}\\([^,\"}]*\\).*/\\1/p"; }

# --- pause and resume -------------------------------------------------------------------------------------------------------

start_machine a --kernel "$GUEST" --memory 64m
a=$pid
ok "the guest runs" heard a ready
say a c
sum=$(sum_of a 1)
like "$sum" '^[0-9a-f]{8,}$' "and sums its memory up"
is "$(ask a status | member state)" running "status: running"
is "$(ask a pause)" '{"ok":true}' "pause"
is "$(ask a status | member state)" paused "status: paused"
say a +
sleep 0.3
unlike "$(cat "$WORK/a.out")" counter "a machine that stands does nothing"
is "$(ask a resume)" '{"ok":true}' "resume"
ok "and goes on" heard a 'counter 1'
like "$(ask a nonsense)" 'there is no command nonsense' "a command that isn't known"
like "$(ask a snapshot)" 'snapshot needs 2 files, 0 came' "a snapshot without files"

# --- snapshots ----------------------------------------------------------------------------------------------------------------

like "$(ask a snapshot incremental=true --write "$WORK/no1" --write "$WORK/no2")" 'no snapshot that an incremental one could build on' "an incremental one before a full one"
is "$(ask a snapshot track=true --write "$WORK/full.state" --write "$WORK/full.memory")" '{"ok":true}' "a full snapshot"
say a w
ok "the guest writes a part of its memory" heard a written
say a c
changed=$(sum_of a 2)
isnt "$changed" "$sum" "so that the sum is another"
say a +
heard a 'counter 2'
is "$(ask a snapshot incremental=true track=true --write "$WORK/more.state" --write "$WORK/more.memory")" '{"ok":true}' "an incremental one"
ok "which holds less" [ "$(stat -c %b "$WORK/more.memory")" -lt "$(($(stat -c %b "$WORK/full.memory") / 2 + 2048))" ]
say a .
ended "$a"
is $? 2 "the machine ends as it would have"

for how in '' --lazy; do
	start_machine b --restore "$WORK/full.state,$WORK/full.memory" --memory 64m $how
	b=$pid
	say b c
	ok "restored ${how:---at once}" heard b sum
	is "$(sum_of b 1)" "$sum" "its memory is what it was"
	say b +
	ok "and so are its variables" heard b 'counter 2'
	say b .
	ended "$b"
	is $? 2 "it ends by itself"
done
for how in '' --lazy; do
	start_machine b --restore "$WORK/full.state,$WORK/full.memory" --restore "$WORK/more.state,$WORK/more.memory" --memory 64m $how
	b=$pid
	say b c
	ok "the incremental one on top of the full one ${how:---at once}" heard b sum
	is "$(sum_of b 1)" "$changed" "its memory is what it was then"
	say b .
	ended "$b"
	is $? 2 "and its counter"
done
start_machine b --restore "$WORK/full.state,$WORK/full.memory" --memory 64m --paused
b=$pid
ok "restored, it may stand first" within 10 eval 'ask b status | grep -q paused'
ask b resume >/dev/null
say b .
ended "$b"
is $? 1 "until it is let go"

# --- files that aren't what they were -------------------------------------------------------------------------------------------

refused() { # WORDS NAME ARGUMENT...
	local words=$1 name=$2
	shift 2
	run timeout --kill-after=5 20 "$BULKHEAD" vm run --multiboot --memory 64m "$@" </dev/null
	like "$status:$err" "^125:bulkhead-vmm: $words" "$name"
}
head -c 1000 "$WORK/full.state" >"$WORK/torn.state"
refused 'snapshot 1: its state file is torn or was altered' "a torn state file" --restore "$WORK/torn.state,$WORK/full.memory"
cp "$WORK/full.state" "$WORK/altered.state"
printf 'x' | dd of="$WORK/altered.state" bs=1 seek=2000 conv=notrunc 2>/dev/null
refused 'snapshot 1: its state file is torn or was altered' "an altered one" --restore "$WORK/altered.state,$WORK/full.memory"
head -c 30m "$WORK/full.memory" >"$WORK/torn.memory"
refused 'snapshot 1: its memory file is torn' "a torn memory file" --restore "$WORK/full.state,$WORK/torn.memory"
cp --sparse=always "$WORK/full.memory" "$WORK/altered.memory"
printf 'x' | dd of="$WORK/altered.memory" bs=1 seek=40000000 conv=notrunc 2>/dev/null
refused 'the snapshot.s memory was altered' "an altered one" --restore "$WORK/full.state,$WORK/altered.memory"
refused 'the snapshot.s memory was altered' "an altered one, found when it is needed" --lazy --restore "$WORK/full.state,$WORK/altered.memory"
refused 'snapshot 1: it is incremental' "an incremental one without its full one" --restore "$WORK/more.state,$WORK/more.memory"
refused 'snapshot 2: only the first one is full' "two full ones" --restore "$WORK/full.state,$WORK/full.memory" --restore "$WORK/full.state,$WORK/full.memory"
refused 'snapshot 1: the saved machine has 64 MiB of memory, this one 32' "a machine of another size" --restore "$WORK/full.state,$WORK/full.memory" --memory 32m
refused 'the saved machine has 1 processors, this one 2' "with more processors" --restore "$WORK/full.state,$WORK/full.memory" --cpus 2
refused 'snapshot 1: its state file is none of a machine' "a file that is no snapshot" --restore "$GUEST,$WORK/full.memory"

# --- migration ------------------------------------------------------------------------------------------------------------------

# goes_on: machine a is b now, with the memory whose sum is $sum.
goes_on() {
	ended "$a"
	is $? 0 "it ends here"
	say b c
	ok "and runs there" heard b sum
	is "$(sum_of b 1)" "$sum" "with its memory"
	say b .
	ended "$b"
	is $? 0 "to its end"
}

start_machine a --kernel "$GUEST" --memory 64m
a=$pid
heard a ready
start_machine b --incoming "$WORK/moving" --memory 64m
b=$pid
within 10 [ -S "$WORK/moving" ]
moved=$(ask a migrate downtime_ms=2000 --connect "$WORK/moving")
like "$moved" '"ok":true,"downtime_us":[0-9]+' "a machine moves"
goes_on

PLACE=tcp://127.0.0.1:7125
start_machine a --kernel "$GUEST" --memory 64m
a=$pid
heard a ready
say a c
sum=$(sum_of a 1)
like "$(ask a migrate --connect "$PLACE")" "connect to $PLACE: Connection refused" "by TCP to where nobody waits"
like "$(ask a migrate --connect tcp://127.0.0.1)" 'tcp://ADDRESS:PORT is expected' "or to half a place"
start_machine b --incoming "$PLACE" --memory 64m
b=$pid
within 10 grep -q '0100007F:1BD5 00000000:0000 0A' /proc/net/tcp
like "$(ask a migrate downtime_ms=2000 --connect "$PLACE")" '"ok":true,"downtime_us":[0-9]+' "a machine moves by TCP"
goes_on

start_machine a --kernel "$GUEST" --memory 64m
a=$pid
heard a ready
say a s
heard a '\.'
start_machine b --incoming "$WORK/moving" --memory 64m
b=$pid
within 10 [ -S "$WORK/moving" ]
like "$(ask a migrate downtime_ms=1 timeout_ms=1500 bandwidth=8000000 --connect "$WORK/moving")" 'migrate: the migration took longer than 1500 ms' "a guest that writes faster than it can be sent stays"
ended "$b"
is $? 125 "the other side gives up"
like "$(cat "$WORK/b.err")" 'receive the machine' "and says so"
start_machine b --incoming "$WORK/moving" --memory 64m
b=$pid
within 10 [ -S "$WORK/moving" ]
ask a migrate downtime_ms=1 bandwidth=4000000 --connect "$WORK/moving" >"$WORK/migrate.log" &
migrate=$!
ok "it can be looked at" within 10 eval 'ask a migrate-status | grep -q "\"active\":true"'
like "$(ask a pause)" 'a migrate is under way' "one job at a time"
is "$(ask a migrate-cancel)" '{"ok":true}' "and cancelled"
wait "$migrate"
like "$(cat "$WORK/migrate.log")" 'the migration was cancelled' "which its caller hears"
ended "$b"
before=$(wc -c <"$WORK/a.out")
ok "the guest never noticed" within 10 eval '[ "$(wc -c <"$WORK/a.out")" -gt "$before" ]'
start_machine b --incoming "$WORK/moving" --memory 32m
b=$pid
within 10 [ -S "$WORK/moving" ]
like "$(ask a migrate --connect "$WORK/moving")" 'migrate: ' "a machine of another size takes nothing"
ended "$b"
like "$(cat "$WORK/b.err")" 'the machine has 64 MiB of memory and 1 processors, this one 32' "and says why"
say a .
ended "$a"
is $? 0 "it ends here after all"
done_testing
