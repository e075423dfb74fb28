#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
# bulkhead-oci checkpoint and restore, with Debian's criu. What needs a criu that works on this kernel is for the lab.
. "$(dirname "$0")/../lib.sh"
. "$TESTS/oci.sh"

cd "$WORK" || exit
oci_bundle a

# counting FOLDER: the bundle's process counts into a file; only its memory knows where it is.
oci_config a '.process.args = ["sh", "-c", "i=0; while true; do i=$((i + 1)); echo $i >/count/now; sleep 0.1; done"]
	| .mounts += [{destination: "/count", type: "bind", source: "'"$WORK"'/count", options: ["bind", "rw"]}]'
mkdir count
count() {
	local value
	value=$(cat "$WORK/count/now")
	echo "${value:-0}"
}
beyond() { [ "$(count)" -gt "$1" ]; }
# Standard streams that lead out must be pipes: then criu knows what to do with them.
begin() {
	local id=$1
	shift
	: | oci run -d --bundle "$WORK/a" "$@" "$id" > >(cat >"$WORK/.begin" 2>&1) 2>&1
}
restore() {
	local id=$1
	shift
	: | oci --log "$WORK/.restore" restore -d --bundle "$WORK/a" "$@" "$id" > >(cat >/dev/null 2>&1) 2>&1 || { cat "$WORK/.restore"; return 1; }
}
status_of() { oci state "$1" 2>&1 | sed -n 's/.*"status": "\(.*\)".*/\1/p'; }
# Nothing of a container that could not be made.
nothing_of() {
	[ ! -e "$OCI_ROOT/$1" ] && [ -z "$(find /sys/fs/cgroup -name "bulkhead-oci-$$-a" 2>/dev/null)" ] && ! grep -q "$OCI_ROOT" /proc/self/mountinfo
}

# --- what needs no criu -----------------------------------------------------------------------------------------------------

run oci checkpoint
like "$status:$err" '^1:.*"checkpoint\\?" requires exactly 1 argument' "checkpoint of nothing"
run oci restore
like "$status:$err" '^1:.*"restore\\?" requires exactly 1 argument' "restore of nothing"
run oci checkpoint none
like "$status:$err" '^1:.*container does not exist' "checkpoint of what isn't there"
like "$(oci checkpoint --help)" '--auto-dedup.*--empty-ns.*--ext-unix-sk.*--file-locks.*--image-path.*--lazy-pages.*--leave-running.*--link-remap.*--manage-cgroups-mode.*--page-server.*--parent-path.*--pre-dump.*--shell-job.*--status-fd.*--tcp-established.*--tcp-skip-in-flight.*--work-path' "checkpoint --help lists its flags"
like "$(oci restore --help)" '--auto-dedup.*--bundle.*--console-socket.*--detach.*--empty-ns.*--ext-unix-sk.*--file-locks.*--image-path.*--lazy-pages.*--lsm-mount-context.*--lsm-profile.*--manage-cgroups-mode.*--no-pivot.*--no-subreaper.*--pid-file.*--shell-job.*--tcp-established.*--work-path' "restore --help lists its flags"

run oci restore --image-path "$WORK/none" --bundle a one
like "$status:$err" "^1:.*$WORK/none: No such file" "restore from a folder that isn't there"
ok "leaves nothing" nothing_of one
mkdir empty
run oci restore --image-path empty --bundle a one
like "$status:$err" '^1:.*empty holds no checkpoint: there is no descriptors.json' "restore from a folder that holds no checkpoint"
echo '{"a": 1}' >empty/descriptors.json
run oci restore --image-path empty --bundle a one
like "$status:$err" '^1:.*empty holds no checkpoint: its descriptors.json is damaged' "a file of the right name isn't enough"
echo '["pipe:[1]", "/dev/null", "/dev/null"]' >empty/descriptors.json
run oci --criu "$WORK/no-criu" restore --image-path empty --bundle a one
like "$status:$err" "^1:.*$WORK/no-criu: executable file not found in .PATH: checkpoint and restore need CRIU" "restore without criu"
ok "leaves nothing" nothing_of one
run oci restore --manage-cgroups-mode often --image-path empty --bundle a one
like "$status:$err" '^1:.*invalid manage-cgroups-mode value: often' "an unknown mode"
run oci restore --empty-ns pid --image-path empty --bundle a one
like "$status:$err" '^1:.*namespace .*pid.* is not supported' "an unknown empty namespace"

oci create --bundle a one </dev/null >/dev/null 2>&1
run oci checkpoint one
like "$status:$err" '^1:.*Container cannot be checkpointed in created state' "checkpoint of one that isn't started"
oci delete --force one

begin one
is "$(status_of one)" running "a container counts"
ok "and is heard of" within 5 beyond 2
run oci --criu "$WORK/no-criu" checkpoint one
like "$status:$err" "^1:.*$WORK/no-criu: executable file not found" "checkpoint without criu"
printf '#!/bin/sh\nexit 3\n' >bad-criu
chmod 755 bad-criu
run oci --criu "$WORK/bad-criu" checkpoint one
like "$status:$err" '^1:.*criu failed: it ended without a reason' "a criu that ends at once"
for address in 10.0.0.1 :80 '10.0.0.1:' '::1:80'; do
	run oci checkpoint --page-server "$address" one
	like "$status:$err" '^1:.*Use --page-server ADDRESS:PORT' "--page-server $address"
done
run oci checkpoint --page-server 10.0.0.1:99999 one
like "$status:$err" '^1:.*Invalid port number' "--page-server with a port that can't be"
run oci checkpoint --parent-path "$WORK" one
like "$status:$err" '^1:.*--parent-path must be relative' "--parent-path must be relative"
run oci checkpoint --parent-path ../nowhere one
like "$status:$err" '^1:.*invalid --parent-path: .*nowhere' "--parent-path must be there"
run oci checkpoint --lazy-pages --status-fd 77 one
like "$status:$err" '^1:.*invalid --status-fd argument 77' "--status-fd must be open"
is "$(status_of one)" running "none of that does anything to the container"

# --- what criu must be able to do on this kernel --------------------------------------------------------------------------

has criu || skip_rest="criu is not installed"
if has criu && ! criu check >/dev/null 2>&1; then
	# On a kernel that it doesn't know it has to be said in one sentence.
	run oci checkpoint --image-path "$WORK/image" one
	like "$status:$err" "^1:.*criu can't work on this kernel: [^ ]+.*\(log: $WORK/image/dump.log\)" "the reason why criu can't work here"
	is "$(status_of one)" running "the container goes on"
	skip_rest="lab: criu can't work on this kernel"
fi
if [ -n "${skip_rest:-}" ]; then
	oci delete --force one
	skip "$skip_rest" 30
	ok "no state is left" rmdir "$OCI_ROOT"
	done_testing
fi

echo "# $(uname -r), $(criu --version | head -n 1)"
run_is 0 "checkpoint --leave-running" oci checkpoint --leave-running --image-path "$WORK/image" --work-path "$WORK/work" one
if [ "$status" != 0 ]; then
	diag "$(tail -n 20 "$WORK/work/dump.log" 2>&1)"
	oci delete --force one
	done_testing
fi
is "$(status_of one)" running "the container goes on"
ok "and counts" within 5 beyond "$(count)"
ok "images and log are where they were asked for" test -e image/core-1.img -a -e image/descriptors.json -a -e work/dump.log

run_is 0 "checkpoint" oci checkpoint --image-path "$WORK/image" --work-path "$WORK/work" one
stopped=$(count)
run oci state one
like "$status:$err" '^1:.*container does not exist' "then it is gone"
ok "with all it had" nothing_of one

if ! ok "restore" restore one --image-path "$WORK/image" --work-path "$WORK/work" --pid-file "$WORK/pid"; then
	diag "$(grep -E 'Error|Warn' "$WORK/work/restore.log" 2>&1 | tail -n 20)"
	done_testing
fi
is "$(status_of one)" running "state: it runs"
ok "it goes on counting" within 5 beyond "$stopped"
after=$(count)
ok "where it was ($stopped, then $after)" test "$after" -lt $((stopped + 200))
is "$(oci state one | jq .pid)" "$(cat pid)" "the pid file has its pid"
pid=$(cat pid)
is "$(oci exec one sh -c 'echo inside; readlink /proc/self/ns/pid')" "inside"$'\n'"$(readlink "/proc/$pid/ns/pid")" "exec: inside"
is "$(oci exec one cat /proc/1/comm)" sh "its process is the first one"
is "$(oci exec one sh -c 'wc -c </proc/kcore; ls /proc/acpi 2>/dev/null; ls -A /sys/firmware')" 0 "masked paths are masked"
nok "read-only paths are read-only" oci exec one sh -c 'echo 1 >/proc/sys/kernel/panic'
isnt "$(readlink "/proc/$pid/ns/cgroup")" "$(readlink /proc/self/ns/cgroup)" "it has a cgroup namespace"
like "$(cat "/proc/$pid/cgroup")" "/bulkhead-oci-$$-a" "and is in its cgroup"
like "$(oci ps one)" 'sleep 0.1|sh -c' "ps finds it there"
like "$(awk '/Seccomp:|CapBnd:/ { print $2 }' "/proc/$pid/status" | tr '\n' ' ')" '^0000000020000420' "it has no more capabilities than before"
run_is 0 "pause" oci pause one
is "$(status_of one)" paused "it is paused"
run_is 0 "checkpoint of a paused one" oci checkpoint --image-path "$WORK/image2" one
ok "restore of that" restore two --image-path "$WORK/image2"
is "$(status_of two)" running "it runs under another name"
ok "and counts on" within 5 beyond "$(count)"
run_is 0 "kill" oci kill two KILL
ok "ends it" within 5 eval '[ "$(status_of two)" = stopped ]'
run_is 0 "delete" oci delete two
ok "with all it had" nothing_of two

# --- in two steps -----------------------------------------------------------------------------------------------------------

begin one
ok "it counts from the beginning" within 5 beyond 2
if criu check --feature mem_dirty_track >/dev/null 2>&1; then
	run_is 0 "checkpoint --pre-dump" oci checkpoint --pre-dump --image-path "$WORK/before" one
	is "$(status_of one)" running "the container goes on"
	run_is 0 "checkpoint --parent-path" oci checkpoint --parent-path ../before --image-path "$WORK/after" one
	ok "points to the first part" test -e after/parent/inventory.img -o -e after/parent/pages-1.img
else
	skip "the kernel doesn't track what is written to memory (soft-dirty)" 4
	oci checkpoint --image-path "$WORK/after" one
fi
stopped=$(count)
ok "restore of both" restore one --image-path "$WORK/after"
ok "it goes on" within 5 beyond "$stopped"
run oci restore --image-path "$WORK/after" --bundle a one
like "$status:$err" '^1:.*container with given ID already exists' "an id is taken once"
oci delete --force one

# --- streams, hooks, terminal -----------------------------------------------------------------------------------------------

oci_bundle b
oci_config b '.process.args = ["sh", "-c", "while read line; do echo got $line; done"]
	| .hooks = {prestart: [{path: "'"$WORK"'/hook", args: ["hook", "prestart"]}],
		createRuntime: [{path: "'"$WORK"'/hook", args: ["hook", "createRuntime"]}],
		poststop: [{path: "'"$WORK"'/hook", args: ["hook", "poststop"]}]}'
printf '#!/bin/sh\necho $1 >>"%s"\n' "$WORK/hooks" >hook
chmod 755 hook
# Anonymous pipes are what callers give.
coproc pipes { oci run --bundle "$WORK/b" three 2>&1; }
within 5 eval '[ "$(status_of three)" = running ]'
echo one >&"${pipes[1]}"
read -r -t $((5 * SCALE)) line <&"${pipes[0]}"
is "$line" "got one" "a container reads and writes pipes"
: >hooks
run_is 0 "checkpoint of it" oci checkpoint --image-path "$WORK/piped" three
[ "$status" = 0 ] || oci delete --force three
wait "${pipes_PID:-}" 2>/dev/null
# The one who ran it in the foreground sees its end and may delete at the same time.
is "$(sort -u hooks)" poststop "checkpoint deletes, so it calls the poststop hooks"
: >hooks
coproc pipes { oci --log "$WORK/restore-error" restore --image-path "$WORK/piped" --bundle "$WORK/b" three 2>&1; }
within 10 eval '[ "$(status_of three)" = running ]'
echo two >&"${pipes[1]}"
read -r -t $((5 * SCALE)) line <&"${pipes[0]}"
is "$line" "got two" "restore in the foreground: the pipes are those of the restorer"
is "$(cat restore-error)" "" "without a word"
is "$(tr '\n' ' ' <hooks)" "prestart createRuntime " "hooks at restore"
oci kill three KILL
wait "${pipes_PID:-}" 2>/dev/null
ok "its end is the container's" within 5 eval '[ ! -e "$OCI_ROOT/three" ]'
printf '#!/bin/sh\nexit 1\n' >hook
run oci restore --image-path "$WORK/piped" --bundle "$WORK/b" three
like "$status:$err" '^1:.*error running prestart hook #0: exit status 1' "a hook that fails"
ok "ends what was restored" test ! -e "$OCI_ROOT/three"

oci_bundle c
oci_config c '.process.terminal = true | .process.args = ["sh", "-c", "i=0; while true; do i=$((i + 1)); echo turn $i; sleep 0.2; done"]'
coproc console { script -qc "$BUILD/bulkhead-oci --root $OCI_ROOT run --bundle $WORK/c four" /dev/null 2>&1; }
ok "a container with a terminal" within 5 eval '[ "$(status_of four)" = running ]'
run_is 0 "checkpoint of it" oci checkpoint --image-path "$WORK/terminal" four
[ "$status" = 0 ] || diag "$(grep -E 'Error|Warn' "$WORK/terminal/dump.log" | tail -n 20)" "$(oci delete -f four)"
wait "${console_PID:-}" 2>/dev/null
script -fqc "$BUILD/bulkhead-oci --root $OCI_ROOT restore --image-path $WORK/terminal --bundle $WORK/c four" "$WORK/typescript" >/dev/null 2>&1 </dev/null &
ok "restore with a terminal" within 10 eval '[ "$(status_of four)" = running ]'
ok "what it writes is seen" within 5 grep -q 'turn [0-9]' "$WORK/typescript"
[ -e "$OCI_ROOT/four" ] || diag "$(cat "$WORK/typescript")" "$(grep -E 'Error|Warn' "$WORK/terminal/restore.log" | tail -n 20)"
is "$(oci exec four sh -c 'readlink /proc/1/fd/1')" /dev/pts/0 "its terminal is its own"
oci delete --force four
wait
ok "no state is left" rmdir "$OCI_ROOT"

done_testing
