#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# --explain tells the real steps with their true values: each is compared with what the container itself shows.
. "$(dirname "$0")/../lib.sh"
need_busybox
b=$BULKHEAD

run "$b" run --rm --explain --memory 64m --pids-limit 33 -h told busybox sh -c 'cat /proc/self/mountinfo'
is "$status" 0 "run --explain"
for ns in pid network mount ipc uts cgroup; do
	like "$err" "namespace +type=$ns new=yes" "tells the $ns namespace"
done
like "$err" 'hostname +name=told' "tells the host name"
like "$err" 'value=67108864' "tells the memory limit that was written"
like "$err" 'value=33' "tells the pids limit that was written"
like "$err" 'pivot_root' "tells pivot_root"
like "$err" 'capability +.*CHOWN' "tells the capabilities"
like "$err" 'seccomp +.*instructions=[0-9]+' "tells the size of the filter"
# Every mount that the container has was told, and none that it hasn't.
told=$(grep -oE 'mount +type=[a-z0-9]+ .*target=[^ ]+' <<<"$err" | sed -E 's/.*target=//' | grep -E '^/(proc|dev|sys)$|^/dev/' | sort -u)
real=$(awk '{ print $5 }' <<<"$out" | grep -E '^/(proc|dev|sys)$|^/dev/' | sort -u)
is "$told" "$real" "the mounts told are the mounts there are"
is "$(awk '{ print $1 }' <<<"$err" | tr '\n' ' ')" "$(seq 1 "$(wc -l <<<"$err")" | tr '\n' ' ')" "the lines are numbered in one order over all processes"
run "$b" run --rm busybox true
is "$err" "" "without --explain nothing is told"
run "$b" run --rm --explain=json busybox true
is "$(sed -E 's/^\{"seq":[0-9]+,"time_us":[0-9]+,"pid":[0-9]+,"step":"[a-z_-]+".*\}$/ok/' <<<"$err" | sort -u)" ok "--explain=json: one object per line"
if has jq; then ok "which is JSON" jq -es . <<<"$err"; fi
run_is 125 "an unknown mode is refused" "$b" run --rm --explain=xml busybox true
"$b" run -d --name target busybox sleep 1000 >/dev/null
run "$b" exec --explain target true
like "$err" 'namespace' "exec --explain tells what it joins"
"$b" rm -f target >/dev/null
"$b" create --explain --name target busybox true >/dev/null 2>"$WORK/create"
ok "create --explain" grep -q snapshot "$WORK/create"
run "$b" start -a --explain target
like "$err" 'pivot_root' "start --explain"
"$b" rm target >/dev/null
done_testing
