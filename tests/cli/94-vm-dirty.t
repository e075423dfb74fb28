#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# timeout: 200
# Which memory a guest has written, by KVM's bitmaps and by rings: an incremental snapshot and a migration under load miss nothing.
. "$(dirname "$0")/../lib.sh"

[ -c /dev/kvm ] || skip_all "lab: there is no /dev/kvm"
GUEST=$BUILD/tests/guests/memory
start_machine() { # NAME ARGUMENT...: requests at $WORK/NAME.sock
	local name=$1
	shift
	converse "$name" "$BULKHEAD" vm run --multiboot --memory "$memory" --dirty "$form" --explain --control "$WORK/$name.sock" "$@"
}
# The N-th sum that the guest has told, once its line is whole; dots may stand before it.
sum_of() {
	within 30 eval "[ \"\$(grep -ac 'sum [0-9a-f]' '$WORK/$1.out')\" -ge $2 ] && [ \"\$(tail -c 1 '$WORK/$1.out' | wc -l)\" = 1 ]"
	grep -ao 'sum [0-9a-f]*' "$WORK/$1.out" | sed -n "$2s/sum //p"
}
beats() { tr -dc . <"$WORK/$1.out" | wc -c; }
heard() { within 30 grep -q "$2" "$WORK/$1.out"; }
ask() { # NAME COMMAND...
	local name=$1
	shift
	"$BULKHEAD" vm control "$WORK/$name.sock" "$@" 2>&1
}

for form in bitmap ring; do
	# More pages than a ring has entries; and few, for a KVM that emulates the guest.
	[ $form = ring ] && memory=64m bandwidth=4000000 || memory=32m bandwidth=2000000
	start_machine a --kernel "$GUEST"
	a=$pid
	heard a ready
	if [ $form = ring ] && [ -d /sys/module/kvm_pvm ]; then
		# It runs the guest's kernel by emulation, and each write comes into the ring. A machine that can't know what was written ends.
		ask a snapshot track=true --write "$WORK/full.state" --write "$WORK/full.memory" >/dev/null
		say a s
		ended "$a"
		like "$?:$(cat "$WORK/a.err")" '^125:.*bulkhead-vmm: processor 0: this KVM has run over the end of its ring' "a KVM that loses what was written is found out"
		skip "lab: this KVM runs over the end of its rings" 12
		break
	fi
	if [ $form = ring ]; then
		like "$(cat "$WORK/a.err")" 'dirty-log +by=rings' "this KVM has rings"
	else
		unlike "$(cat "$WORK/a.err")" 'dirty-log' "by bitmaps"
	fi
	say a c
	sum=$(sum_of a 1)
	is "$(ask a snapshot track=true --write "$WORK/full.state" --write "$WORK/full.memory")" '{"ok":true}' "$form: a full snapshot"
	say a w
	ok "the guest writes one page in 64" heard a written
	say a c
	changed=$(sum_of a 2)
	isnt "$changed" "$sum" "so that the sum is another"
	is "$(ask a snapshot incremental=true track=true --write "$WORK/more.state" --write "$WORK/more.memory")" '{"ok":true}' "an incremental one"
	start_machine b --restore "$WORK/full.state,$WORK/full.memory" --restore "$WORK/more.state,$WORK/more.memory"
	b=$pid
	say b c
	is "$(sum_of b 1)" "$changed" "which has all that was written"
	say b .
	ended "$b"

	# A migration that is slow, while the guest writes all of its memory, and then stops.
	start_machine b --incoming "$WORK/moving"
	b=$pid
	within 10 [ -S "$WORK/moving" ]
	say a s
	within 60 grep -q '\.' "$WORK/a.out"
	ask a migrate downtime_ms=1500 bandwidth=$bandwidth --connect "$WORK/moving" >"$WORK/migrate.log" &
	migrate=$!
	within 10 eval 'ask a migrate-status | grep -q "\"active\":true"'
	before=$(beats a)
	ok "the guest writes on while it moves" within 60 eval '[ "$(beats a)" -ge $((before + 2)) ]'
	say a ' '
	say a c
	sum=$(sum_of a 3)
	isnt "$sum" "$changed" "and has another sum"
	stats=$(ask a stats)
	if [ $form = ring ]; then
		like "$stats" '"dirty ring":[1-9]' "its ring was full more than once"
	else
		unlike "$stats" '"dirty ring":[1-9]' "without a ring"
	fi
	wait "$migrate"
	like "$(cat "$WORK/migrate.log")" '"ok":true,"downtime_us":[0-9]+' "it has moved"
	diag "$form: $(cat "$WORK/migrate.log")"
	ended "$a"
	say b c
	is "$(sum_of b 1)" "$sum" "with all that it has written"
	say b .
	ended "$b"
	is $? 0 "and goes on to its end"
done
done_testing
