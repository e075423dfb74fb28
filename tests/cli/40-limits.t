#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# timeout: 180
# Limits are real: memory, cpu, pids; and what stats, pause and inspect say of them. The same on cgroup v1 and v2.
. "$(dirname "$0")/../lib.sh"
need_busybox
b=$BULKHEAD

# Memory: who takes more is killed, the neighbour lives, inspect says so.
"$b" run -d --name neighbour --memory 64m busybox sleep 1000 >/dev/null
run_is 137 "a process that takes more than --memory is killed" "$b" run --name hog --memory 64m busybox tail /dev/zero
is "$("$b" inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' hog)" "true 137" "inspect says OOMKilled: true, exit 137"
is "$("$b" inspect -f '{{.State.Running}}' neighbour)" true "its neighbour lives"
"$b" rm hog >/dev/null
run_is 137 "a child that is killed leaves the shell its status" "$b" run --name hog --memory 64m busybox sh -c 'tail /dev/zero; exit $?'
is "$("$b" inspect -f '{{.State.OOMKilled}}' hog)" true "and the flag is set all the same"
"$b" rm hog >/dev/null
run_is 0 "what fits is not killed" "$b" run --rm --memory 64m busybox sh -c 'head -c 20000000 /dev/zero | tail -c 1 >/dev/null'
run_is 125 "less than 6 MB is refused" "$b" run --rm --memory 1m busybox true
run_is 125 "--memory-swap below --memory is refused" "$b" run --rm --memory 64m --memory-swap 32m busybox true

# CPU: a spinner at half a core. The container's own time counter is the measure, over two seconds.
"$b" run -d --name spin --cpus 0.5 busybox sh -c 'while :; do :; done' >/dev/null
usage() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
pid=$("$b" inspect -f '{{.State.Pid}}' spin)
sleep 0.5
t0=$(awk '{ print $1 }' /proc/uptime) u0=$(usage "$pid")
sleep $((2 * (SCALE > 3 ? 3 : SCALE) + 1))
t1=$(awk '{ print $1 }' /proc/uptime) u1=$(usage "$pid")
share=$(awk "BEGIN { printf \"%.3f\", ($u1 - $u0) / 100 / ($t1 - $t0) }")
ok "--cpus 0.5 holds a spinner at 0.5 +- 0.05 of a core (got $share)" awk "BEGIN { exit !($share > 0.45 && $share < 0.55) }"
"$b" pause spin >/dev/null
u0=$(usage "$pid")
sleep 0.3
is "$(usage "$pid")" "$u0" "pause stops it"
is "$("$b" inspect -f '{{.State.Status}} {{.State.Paused}}' spin)" "paused true" "inspect says paused"
run_is 1 "exec in a paused container is refused" "$b" exec spin true
run_is 1 "a second pause is refused" "$b" pause spin
"$b" unpause spin >/dev/null
sleep 0.5
ok "unpause lets it go on" test "$(usage "$pid")" -gt "$u0"
"$b" pause spin >/dev/null
ok "a paused container can be removed by force" "$b" rm -f spin
run_is 125 "more CPUs than there are is refused" "$b" run --rm --cpus 1000 busybox true

# Pids: a fork bomb stops at the limit.
out=$("$b" run --rm --pids-limit 20 busybox sh -c 'i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i + 1)); done; ls -d /proc/[0-9]* | wc -l' 2>&1)
like "$out" "can't fork" "--pids-limit 20 stops a fork bomb"
out=$("$b" run -d --name bomb --pids-limit 20 busybox sh -c 'while :; do sleep 100 & done' 2>&1)
sleep 0.5
ok "and it never holds more than 20" test "$("$b" top bomb 2>/dev/null | tail -n +2 | wc -l)" -le 20
"$b" rm -f bomb >/dev/null

# Files of the cgroup, as the container sees them
if [ "$(cgroup_version)" = 2 ]; then
	see() { "$b" run --rm "${@:2}" busybox cat "/sys/fs/cgroup/$1" | tr -d '\n'; }
	is "$(see memory.max --memory 64m)" 67108864 "memory.max"
	is "$(see cpu.max --cpus 0.5)" "50000 100000" "cpu.max"
	is "$(see pids.max --pids-limit 20)" 20 "pids.max"
	is "$(see cpuset.cpus --cpuset-cpus 0)" 0 "cpuset.cpus"
	like "$(see cpu.weight --cpu-shares 512)" '^[0-9]+$' "cpu.weight"
	is "$(see memory.low --memory-reservation 32m)" 33554432 "memory.low"
else
	see() { "$b" run --rm "${@:2}" busybox cat "/sys/fs/cgroup/$1" | tr -d '\n'; }
	is "$(see memory/memory.limit_in_bytes --memory 64m)" 67108864 "memory.limit_in_bytes"
	is "$(see cpu/cpu.cfs_quota_us --cpus 0.5)" 50000 "cpu.cfs_quota_us"
	is "$(see pids/pids.max --pids-limit 20)" 20 "pids.max"
	is "$(see cpuset/cpuset.cpus --cpuset-cpus 0)" 0 "cpuset.cpus"
	is "$(see cpu/cpu.shares --cpu-shares 512)" 512 "cpu.shares"
	is "$(see memory/memory.soft_limit_in_bytes --memory-reservation 32m)" 33554432 "memory.soft_limit_in_bytes"
fi
run_is 0 "--blkio-weight" "$b" run --rm --blkio-weight 300 busybox true
disk=$(awk '$2 ~ /^(vda|sda|nvme0n1)$/ || 0 { print }' /proc/partitions; ls /sys/block 2>/dev/null | grep -E '^(vda|sda|nvme0n1)$' | head -n 1)
if [ -n "$disk" ] && [ -b "/dev/$disk" ]; then
	run_is 0 "--device-read-bps on a real disk" "$b" run --rm --device-read-bps "/dev/$disk:1mb" --device-write-iops "/dev/$disk:100" busybox true
fi
run_is 125 "a rate for what is no device is refused" "$b" run --rm --device-read-bps /dev/null:1mb busybox true

# stats and top
like "$("$b" stats --no-stream)" 'NAME +CPU %' "stats has a heading"
row=$("$b" stats --no-stream --format '{{.Name}} {{.MemUsage}} {{.PIDs}}' neighbour)
like "$row" '^neighbour .* / 64MiB 1$' "stats shows the limit and the number of processes"
ok "stats --format json is JSON" bash -c "'$b' stats --no-stream --format json | grep -q '\"Name\":\"neighbour\"'"
like "$("$b" top neighbour)" 'UID +PID +PPID.*sleep 1000' "top"
"$b" rm -f neighbour >/dev/null
done_testing
