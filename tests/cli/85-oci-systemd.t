#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: systemd
# timeout: 120
# bulkhead-oci --systemd-cgroup: a container's whole life in a scope of systemd's.
. "$(dirname "$0")/../lib.sh"
[ -d /run/systemd/system ] || skip_all "lab: the first process isn't systemd"
id=t$$
unit=bh-oci-$id.scope
version=$(cgroup_version)
oci() { "$BUILD/bulkhead-oci" --root "$WORK/oci" --systemd-cgroup "$@"; }
of_unit() { systemctl show --value -p "$1" "$unit"; }
gone() { [ "$(of_unit LoadState)" = not-found ]; }

mkdir -p "$WORK/b/rootfs"
tar -xf "$(busybox_tar)" -C "$WORK/b/rootfs"
cd "$WORK/b" || exit
oci spec
configure() { jq "$@" config.json >config.new && mv config.new config.json; }
configure ".process.terminal = false | .process.args = [\"sleep\", \"1000\"] | .linux.cgroupsPath = \"machine.slice:bh-oci:$id\"
	| .linux.resources.memory = {limit: 33554432, swap: 33554432} | .linux.resources.pids = {limit: 20}
	| .linux.resources.cpu = {quota: 500000, period: 1000000}
	| .annotations[\"org.systemd.property.TimeoutStopSec\"] = \"uint64 77\""

run oci create "$id"
is "$status" 0 "create"
pid=$(oci state "$id" | jq .pid)
like "$(cat "/proc/$pid/cgroup")" "/machine.slice/$unit" "the container's process is in the scope"
is "$(of_unit ActiveState)" active "the scope is active"
is "$(of_unit Slice)" machine.slice "in its slice"
is "$(of_unit TasksMax)" 20 "with its limits: TasksMax"
is "$(of_unit "$([ "$version" = 2 ] && echo MemoryMax || echo MemoryLimit)")" 33554432 "and memory"
is "$(of_unit CPUQuotaPerSecUSec)" 500ms "and cpu"
is "$(of_unit TimeoutStopUSec)" "1min 17s" "and what an annotation sets"
run_is 0 "start" oci start "$id"
run_is 0 "exec" oci exec "$id" sh -c 'echo $$ >/dev/null; cat /proc/self/cgroup'
run_is 1 "a second container in the same scope is refused" oci create "$id-2"
is "$(of_unit ActiveState)" active "which leaves the first one alone"
run_is 0 "update" oci update --memory 67108864 --memory-swap 67108864 --pids-limit 10 "$id"
is "$(of_unit TasksMax)" 10 "systemd knows the new limit"
is "$(oci events --stats "$id" | jq .data.pids.limit)" 10 "and the kernel"
run_is 0 "pause" oci pause "$id"
is "$(oci state "$id" | jq -r .status)" paused "it is paused"
run_is 0 "resume" oci resume "$id"
run_is 0 "kill" oci kill "$id" KILL
within 10 eval '[ "$(oci state '"$id"' | jq -r .status)" = stopped ]'
run_is 0 "delete" oci delete "$id"
ok "the scope is gone" gone
is "$(find /sys/fs/cgroup -name "$unit" -type d)" "" "and its folders"

configure ".process.args = [\"sh\", \"-c\", \"exit 7\"]"
run_is 7 "run gives the container's status" oci run "$id"
ok "and leaves no scope" gone
configure ".linux.cgroupsPath = \"/a/b\""
run_is 1 "a path instead of slice:prefix:name is refused" oci run "$id"
like "$err" 'expected cgroupsPath to be of format' "with the words of runc"
done_testing
