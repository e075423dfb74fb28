#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# Seccomp from outside: the default profile, a profile of one's own in Docker's format, and profiles that are wrong.
. "$(dirname "$0")/../lib.sh"
need_busybox

in_box() {
	run "$BULKHEAD" run --rm --network none "$@"
}

# The default profile: one filter is in force, and what it forbids gives EPERM even to root with the capability's file bits.
in_box busybox grep -E '^(Seccomp|Seccomp_filters|NoNewPrivs)' /proc/self/status
like "$out" 'Seccomp:[[:space:]]+2' "a filter is in force"
in_box busybox sh -c 'unshare -U true; echo $?'
isnt "$out" 0 "a new user namespace is refused"
like "$err" 'not permitted' "with EPERM"
in_box --cap-add SYS_ADMIN busybox unshare -m true
is "$status" 0 "with CAP_SYS_ADMIN the profile allows unshare"
in_box busybox chroot / true
is "$status" 0 "chroot goes with its capability"
in_box --cap-drop ALL busybox chroot / true
isnt "$status" 0 "and without it, it doesn't"

cat >"$WORK/nomkdir.json" <<'PROFILE'
{
	"defaultAction": "SCMP_ACT_ALLOW",
	"archMap": [ { "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] } ],
	"syscalls": [
		{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "comment": "as if the disk were full" },
		{ "name": "sethostname", "action": "SCMP_ACT_KILL_PROCESS", "excludes": { "caps": ["CAP_SYS_ADMIN"] } },
		{ "names": ["chroot"], "action": "SCMP_ACT_ERRNO", "includes": { "caps": ["CAP_SYS_ADMIN"] } },
		{ "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [ { "index": 1, "value": 10, "op": "SCMP_CMP_EQ" } ] }
	]
}
PROFILE
profile=seccomp=$WORK/nomkdir.json
in_box --security-opt "$profile" busybox mkdir /x
like "$err" 'No space left on device' "a rule's errno is what the program sees"
isnt "$status" 0 "and mkdir fails"
in_box --security-opt "$profile" busybox sh -c 'sleep 5 & kill -USR1 $!; echo usr1 $?; kill -TERM $!; echo term $?'
like "$out" 'usr1 1' "a condition on an argument holds"
like "$out" 'term 0' "and lets other values through"
in_box --security-opt "$profile" busybox hostname other
is "$status" 159 "a killing rule ends the program by SIGSYS"
in_box --security-opt "$profile" --cap-add SYS_ADMIN busybox hostname other
is "$status" 0 "excludes: not with the capability"
in_box --security-opt "$profile" busybox chroot / true
is "$status" 0 "includes: not without the capability"
in_box --security-opt "$profile" --cap-add SYS_ADMIN busybox chroot / true
isnt "$status" 0 "includes: with it"

"$BULKHEAD" run -d --name keeper --network none --security-opt "$profile" busybox sleep 1000 >/dev/null
run "$BULKHEAD" exec keeper mkdir /x
like "$err" 'No space left on device' "exec gets the container's filter"
rm "$WORK/nomkdir.json.moved" 2>/dev/null
mv "$WORK/nomkdir.json" "$WORK/nomkdir.json.moved"
ok "restart doesn't need the file" "$BULKHEAD" restart -t 0 keeper
run "$BULKHEAD" exec keeper mkdir /x
like "$err" 'No space left on device' "and keeps the filter"
"$BULKHEAD" rm -f keeper >/dev/null

in_box --security-opt seccomp=unconfined busybox grep '^Seccomp:' /proc/self/status
like "$out" 'Seccomp:[[:space:]]+0' "seccomp=unconfined"
in_box --privileged busybox grep '^Seccomp:' /proc/self/status
like "$out" 'Seccomp:[[:space:]]+0' "--privileged"

# Wrong profiles: one line, exit status 125, nothing made.
bad() {
	local name=$1 text=$2 expected=$3
	printf '%s' "$text" >"$WORK/bad.json"
	in_box --security-opt "seccomp=$WORK/bad.json" busybox true
	is "$status" 125 "$name ends with 125"
	like "$err" "$expected" "$name is told"
	is "$(wc -l <<<"$err")" 1 "$name is told in one line"
}
bad "no JSON" 'hello' 'seccomp profile'
bad "an unknown action" '{"defaultAction": "SCMP_ACT_PERHAPS"}' 'SCMP_ACT_PERHAPS'
bad "an unknown operator" '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "op": "ABOUT"}]}]}' 'ABOUT'
bad "a wrong type" '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 7}' "'syscalls' must be"
in_box --security-opt "seccomp=$WORK/missing.json" busybox true
is "$status" 125 "a missing file ends with 125"
like "$err" 'missing.json.*No such file' "and is named"
is "$("$BULKHEAD" ps -aq)" "" "no container is left"
done_testing
