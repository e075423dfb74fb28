#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# What a container sees of itself and can't see of the host; all numbers come from its own /proc.
. "$(dirname "$0")/../lib.sh"
need_busybox
b=$BULKHEAD
inside() { "$b" run --rm "$@"; }

is "$(inside busybox sh -c 'echo $$')" 1 "the command is pid 1"
is "$(inside busybox sh -c 'cd /proc; echo [0-9]*')" 1 "no process of the host is seen"
id=$("$b" create busybox hostname)
is "$("$b" start -a "$id")" "${id:0:12}" "its host name is its short id"
"$b" rm "$id" >/dev/null
is "$(inside busybox sh -c 'ls /sys/class/net; cat /sys/class/net/lo/flags' | tr '\n' ' ')" "lo 0x9 " "the network is lo alone, and up"
is "$(inside busybox sh -c 'ping -c 1 127.0.0.1 >/dev/null && echo yes')" yes "lo works"

status=$(inside busybox cat /proc/self/status)
caps=00000000a80425fb # CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE
for set in CapPrm CapEff CapBnd; do
	is "$(awk "/^$set:/ { print \$2 }" <<<"$status")" $caps "$set holds the 14 default capabilities"
done
for set in CapInh CapAmb; do
	is "$(awk "/^$set:/ { print \$2 }" <<<"$status")" 0000000000000000 "$set is empty"
done
is "$(awk '/^Seccomp:/ { print $2 }' <<<"$status")" 2 "Seccomp: 2"
is "$(inside --security-opt seccomp=unconfined busybox awk '/^Seccomp:/ { print $2 }' /proc/self/status)" 0 "seccomp=unconfined"
is "$(inside --security-opt no-new-privileges busybox awk '/^NoNewPrivs:/ { print $2 }' /proc/self/status)" 1 "no-new-privileges"
is "$(inside --cap-drop ALL --cap-add chown busybox awk '/^CapEff:/ { print $2 }' /proc/self/status)" 0000000000000001 "--cap-drop ALL --cap-add"
run_is 125 "an unknown capability is an error" "$b" run --rm --cap-add nosuch busybox true
is "$(inside -u 1000 busybox awk '/^CapEff:|^CapPrm:/ { print $2 }' /proc/self/status | sort -u)" 0000000000000000 "another user has no capability"

mounts=$(inside busybox cat /proc/self/mountinfo)
unlike "$mounts" "$TEST_DIR/root/containers/[0-9a-f]*/upper" "no path of the host's upper layer is told"
is "$(awk '$5 == "/" && / - overlay / { print "overlay" }' <<<"$mounts")" overlay "the root is the image's overlay"
is "$(awk '{ print $5 }' <<<"$mounts" | grep -vcE '^/($|proc|dev|sys|etc/(hosts|hostname|resolv.conf)$)')" 0 "no other mount is seen"
# A masked file is /dev/null, a masked folder empty; what this kernel lacks can't be tested on it.
for path in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts /proc/sched_debug; do
	if [ -e $path ]; then is "$(inside busybox sh -c "wc -c <$path")" 0 "$path is masked"; fi
done
for path in /proc/acpi /proc/scsi /sys/firmware; do
	if [ -d $path ]; then is "$(inside busybox sh -c "ls $path | wc -l")" 0 "$path is masked"; fi
done
for path in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/uevent_seqnum; do
	if [ -e $path ]; then nok "$path can't be written" inside busybox sh -c "echo 1 >$path"; fi
done
nok "no mount can be made" inside busybox mount -t tmpfs none /tmp
like "$(inside busybox date -s 2001-01-01 2>&1)" "Operation not permitted" "the clock can't be set"
nok "no device of the host is reached by mknod" inside busybox sh -c 'mknod /tmp/vda b 254 0 && head -c 1 /tmp/vda'
is "$(inside busybox sh -c 'ls /dev | tr "\n" " "')" "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero " "/dev holds the default nodes"
is "$(inside busybox sh -c 'for n in null zero full random urandom tty; do stat -c "%n %t:%T %a" /dev/$n; done' | tr '\n' ' ')" \
	"/dev/null 1:3 666 /dev/zero 1:5 666 /dev/full 1:7 666 /dev/random 1:8 666 /dev/urandom 1:9 666 /dev/tty 5:0 666 " "with their numbers"
is "$(inside busybox df -k /dev/shm | awk 'NR > 1 { print $2 }')" 65536 "/dev/shm has 64 MB"
is "$(inside --shm-size 8m busybox df -k /dev/shm | awk 'NR > 1 { print $2 }')" 8192 "--shm-size"
for ns in pid net mnt ipc uts cgroup; do
	isnt "$(inside busybox readlink /proc/self/ns/$ns)" "$(readlink /proc/self/ns/$ns)" "its own $ns namespace"
done
is "$(inside busybox readlink /proc/self/ns/user)" "$(readlink /proc/self/ns/user)" "the user namespace is the host's by default"
is "$(inside --pid host --ipc host --uts host --network host --cgroupns host busybox sh -c 'for n in pid ipc uts net cgroup; do readlink /proc/self/ns/$n; done')" \
	"$(for n in pid ipc uts net cgroup; do readlink /proc/self/ns/$n; done)" "host namespaces on request"
if [ -e /proc/self/ns/time ]; then
	up=$(inside --time-offset boottime=1000000 busybox sh -c 'cut -d. -f1 /proc/uptime')
	ok "a time namespace with an offset" test "$up" -ge 1000000
fi
"$b" run -d --name peer busybox sleep 1000 >/dev/null
pid=$("$b" inspect -f '{{.State.Pid}}' peer)
for kind in network:net ipc:ipc pid:pid; do
	is "$(inside "--${kind%:*}" container:peer busybox readlink "/proc/self/ns/${kind#*:}")" "$(readlink "/proc/$pid/ns/${kind#*:}")" "--${kind%:*} container:NAME joins"
done
is "$("$b" nsenter peer sh -c 'echo $(hostname) $(readlink /proc/self/ns/net)')" "$("$b" inspect -f '{{.Config.Hostname}}' peer) $(readlink "/proc/$pid/ns/net")" "nsenter enters its namespaces"
is "$("$b" exec peer sh -c 'readlink /proc/self/ns/pid; cat /proc/self/cgroup | head -n 1 | cut -d: -f3')" "$(readlink "/proc/$pid/ns/pid")"$'\n/' "exec enters namespaces and cgroup"
is "$("$b" exec peer awk '/^(CapEff|Seccomp):/ { print $2 }' /proc/self/status | tr '\n' ' ')" "$caps 2 " "exec has the same capabilities and filter"
is "$("$b" exec --privileged peer awk '/^Seccomp:/ { print $2 }' /proc/self/status)" 0 "exec --privileged has no filter"
run_is 7 "exec gives the exit code" "$b" exec peer sh -c 'exit 7'
run_is 127 "exec of an unknown command gives 127" "$b" exec peer no-such
is "$(echo in | "$b" exec -i peer cat)" in "exec -i"
is "$("$b" exec -u user -e A=b -w /tmp peer sh -c 'id -un; echo $A; pwd' | tr '\n' ' ')" "user b /tmp " "exec -u -e -w"
"$b" rm -f peer >/dev/null
run_is 125 "a peer that does not run can't be joined" "$b" run --rm --network container:peer busybox true

# User namespace
out=$(inside --userns auto busybox sh -c 'cat /proc/self/uid_map; id -u; stat -c %u /bin/sh; touch /made; stat -c %u /made')
like "$out" '^ +0 +[0-9]+ +65536' "--userns maps a range of its own"
is "$(tail -n 3 <<<"$out" | tr '\n' ' ')" "0 0 0 " "inside, root is root and owns the image's files"
"$b" run -d --name mapped --userns auto busybox sleep 1000 >/dev/null
pid=$("$b" inspect -f '{{.State.Pid}}' mapped)
ok "outside it is an unprivileged user" test "$(awk '/^Uid:/ { print $2 }' "/proc/$pid/status")" -ge 100000
"$b" rm -f mapped >/dev/null
is "$(inside --uidmap 0:200000:1000 busybox cat /proc/self/uid_map | tr -s ' ')" " 0 200000 1000" "--uidmap"
is "$(inside --userns auto busybox sh -c 'cat /proc/1/status | grep -c Seccomp')" 2 "and /proc works"

# sysctl, devices, privileged
is "$(inside --sysctl net.ipv4.ip_forward=1 busybox cat /proc/sys/net/ipv4/ip_forward)" 1 "--sysctl"
run_is 125 "a sysctl that is not namespaced is refused" "$b" run --rm --sysctl vm.swappiness=1 busybox true
is "$(inside --device /dev/null:/dev/mynull busybox stat -c %t:%T /dev/mynull)" 1:3 "--device"
ok "--privileged may mount" inside --privileged busybox mount -t tmpfs none /tmp
is "$(inside --privileged busybox awk '/^Seccomp:/ { print $2 }' /proc/self/status)" 0 "--privileged has no filter"
nok "--read-only: the root can't be written" inside --read-only busybox touch /x
ok "--read-only with a tmpfs" inside --read-only --tmpfs /tmp busybox touch /tmp/x
is "$(inside --security-opt systempaths=unconfined busybox sh -c 'grep -c " /proc/" /proc/self/mountinfo')" 0 "systempaths=unconfined masks nothing"

# A limit that the machine forbids is clamped and told once, not fatal.
run "$b" run --rm --oom-score-adj -900 busybox cat /proc/self/oom_score_adj
is "$status" 0 "a negative oom_score_adj is no reason to fail"
if [ "$out" != -900 ]; then is "$(grep -c oom_score_adj <<<"$err")" 1 "and is told once where it can't be had"; fi
done_testing
