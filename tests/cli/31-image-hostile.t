#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# Layers that want out: each archive of tests/hostile-tar.py either is taken, or ends with one clear line; in no case
# anything outside the layer's own folder is touched, and nothing half-made stays.
. "$(dirname "$0")/../lib.sh"

has python3 || skip_all "python3 is not installed"

tars=$WORK/tars
mkdir -p "$tars/outside"
python3 "$TESTS/hostile-tar.py" "$tars" --bomb >"$WORK/cases" || exit 1

fresh_outside() {
	rm -rf "$tars/outside"
	mkdir -p "$tars/outside"
	echo canary >"$tars/outside/victim"
}

outside_is_untouched() {
	[ "$(ls -A "$tars/outside")" = victim ] && [ "$(cat "$tars/outside/victim")" = canary ]
}

store_is_clean() {
	[ -z "$(ls -A "$BULKHEAD_ROOT/staging")" ] && [ -z "$(ls -A "$BULKHEAD_ROOT/layers")" ] &&
		[ -z "$(ls -A "$BULKHEAD_ROOT/content/blobs/sha256")" ]
}

fresh_outside
while IFS=$'\t' read -r name expect; do
	run timeout 100 "$BULKHEAD" import "$tars/$name" "hostile:latest"
	if [ "$expect" = ok ]; then
		is "$status:$err" "0:" "$name is taken"
		ok "$name: its image is removed" "$BULKHEAD" rmi hostile:latest
	elif [ "$status" = 0 ] && [[ ok =~ ^($expect)$ ]]; then
		pass "$name is taken"
		ok "$name: its image is removed" "$BULKHEAD" rmi hostile:latest
	else
		is "$status" 1 "$name is refused"
		like "$err" "$expect" "$name: the reason is named"
		is "$(printf '%s\n' "$err" | wc -l)" 1 "$name: in one line"
		like "$err" "^bulkhead: import $tars/$name: " "$name: and on which object"
	fi
	ok "$name: nothing outside was touched" outside_is_untouched || fresh_outside
	ok "$name: nothing is left in the store" store_is_clean
done <"$WORK/cases"

# What is taken must also look right.
look() {
	local name=$1
	"$BULKHEAD" import "$tars/$name" look:latest >/dev/null || return
	diff=$("$BULKHEAD" image inspect -f '{{.GraphDriver.Data.UpperDir}}' look:latest)
}
look absolute
ok "an absolute path counts from the root" test -f "$diff$tars/outside/absolute"
look symlink-then-file
is "$(cat "$diff/x")" written "a file replaces a link"
nok "and is not written through it" test -L "$diff/x"
look symlink-then-folder
ok "a folder replaces a link" test -f "$diff/x/inside"
look hardlink-to-symlink-write
is "$(cat "$diff/h"; readlink "$diff/l")" "written$tars/outside/victim" "a file replaces a hard link to a link"
look duplicate-file
is "$(cat "$diff/x")" second "the later file counts"
look duplicate-folder-file
ok "a file replaces a folder" test -f "$diff/x"
look duplicate-parent-replaced
is "$(ls "$diff/d")" b "a folder that was replaced twice has only what came last"
look whiteout-slash
is "$(stat -c %F:%t:%T "$diff/etc/passwd")" "regular file:0:0" "a file of the same layer beats its whiteout"
look devices
is "$(stat -c %F:%t:%T:%a "$diff/null" "$diff/sda" "$diff/fifo" | tr '\n' ' ')" \
	"character special file:1:3:666 block special file:8:0:644 fifo:0:0:644 " "devices and pipes"
look setuid
is "$(stat -c %a "$diff/su")" 6755 "setuid and setgid"

done_testing
