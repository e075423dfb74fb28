#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# dockerd with `--add-runtime bulkhead=bulkhead-oci`: folders, a socket and a network namespace of its own.
. "$(dirname "$0")/../lib.sh"

has dockerd && has docker || skip_all "Docker is not installed"

docker_root=$(mktemp -d /var/tmp/bulkhead-docker.XXXXXX)
socket=$docker_root/docker.sock
parent=/bulkhead-docker-$$
daemon=

remove_cgroups() {
	local dir
	for dir in /sys/fs/cgroup$parent /sys/fs/cgroup/*$parent; do
		[ -d "$dir" ] && find "$dir" -depth -type d -exec rmdir {} \; 2>/dev/null
	done
}
stop_daemon() {
	[ -n "$daemon" ] && kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null
	daemon=
	grep -F "$docker_root" /proc/self/mountinfo | awk '{ print $5 }' | sort -r | while read -r mount; do umount -l "$mount"; done
	remove_cgroups
	rm -rf --one-file-system "$docker_root"
}
trap 'stop_daemon; test_cleanup' EXIT

# A mount and a network namespace: no rules, bridges and mounts on the host.
unshare --net --mount --propagation private \
	dockerd --data-root "$docker_root/data" --exec-root "$docker_root/exec" --pidfile "$docker_root/pid" -H "unix://$socket" \
	--iptables=false --bridge=none --storage-driver overlay2 --cgroup-parent "$parent" \
	--add-runtime "bulkhead=$BUILD/bulkhead-oci" --default-runtime bulkhead >"$docker_root/log" 2>&1 &
daemon=$!
d() {
	timeout -k 5 60 docker -H "unix://$socket" "$@"
}
if ! within 40 d version; then
	stop_daemon
	skip_all "dockerd doesn't run here"
fi
is "$(d info -f '{{.DefaultRuntime}}')" bulkhead "dockerd's default runtime is ours"
ok "dockerd imports the image" d import "$(busybox_tar)" busybox

run d run --rm busybox echo hello
is "$status:$out" "0:hello" "run" "$err"
run d run --rm busybox sh -c 'echo out; echo err >&2; exit 42'
is "$status:$out:$err" "42:out:err" "both streams and the exit code"
run d run --rm busybox no-such-program
is "$status" 127 "a missing command gives 127"
like "$err" "executable file not found in .PATH" "in runc's words"
run d run --rm busybox /etc/passwd
is "$status" 126 "a file that isn't executable gives 126"
like "$err" "permission denied" "in runc's words"
is "$(echo typed | d run --rm -i busybox cat)" typed "stdin"
is "$(d run --rm -u user -w /tmp -e SHIP=ark busybox sh -c 'echo $(id -u):$(id -G):$PWD:$SHIP')" "1000:1000 29 100:/tmp:ark" "user, folder, environment"
is "$(d run --rm busybox grep -E 'Seccomp:|NoNewPrivs' /proc/self/status | tr -d '\t' | tr '\n' ' ')" "NoNewPrivs:0 Seccomp:2 " "Docker's seccomp profile"
is "$(d run --rm --security-opt no-new-privileges --cap-drop ALL --cap-add CHOWN busybox grep -E 'CapEff|NoNewPrivs' /proc/self/status | tr -d '\t' | tr '\n' ' ')" \
	"CapEff:0000000000000001 NoNewPrivs:1 " "capabilities"
is "$(d run --rm --read-only --tmpfs /scratch busybox sh -c 'touch /x 2>/dev/null; echo $?; touch /scratch/y && echo made')" $'1\nmade' "read-only with a tmpfs"
is "$(d run --rm --privileged busybox sh -c 'test -c /dev/kmsg && echo kmsg; grep Seccomp: /proc/self/status | tr -d "\t"')" $'kmsg\nSeccomp:0' "privileged"
is "$(d run --rm --device /dev/fuse busybox sh -c 'test -c /dev/fuse && echo there')" there "a device"
is "$(d run --rm --hostname ark --add-host one:10.0.0.1 --network none busybox sh -c 'hostname; grep -c one /etc/hosts')" $'ark\n1' "host name and hosts"
mkdir "$WORK/shared"
d run --rm -v "$WORK/shared:/shared" busybox sh -c 'echo inside >/shared/file'
is "$(cat "$WORK/shared/file")" inside "a volume"
is "$(d run --rm --init busybox ps -o args | sed -n 2p | cut -d' ' -f1)" "/sbin/docker-init" "--init"
is "$(d run --rm --ulimit nofile=77:88 busybox sh -c 'ulimit -n')" 77 "a limit"
is "$(d run --rm --sysctl kernel.shmmax=65536 busybox cat /proc/sys/kernel/shmmax)" 65536 "a sysctl"
if has python3; then
	is "$(python3 -c 'import pty,sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)' docker -H "unix://$socket" run --rm -it busybox tty </dev/null | tr -d '\r')" \
		/dev/pts/0 "-it gives a terminal"
else
	skip "no python3 to make a terminal" 1
fi

# --- a container that stays ---------------------------------------------------------------------------------------------------

ok "run -d" d run -d --name stays --memory 64m --pids-limit 50 --cpus 0.5 --restart on-failure:3 busybox \
	sh -c 'echo started; trap "exit 5" TERM; while :; do sleep 0.1; done'
pid=$(d inspect -f '{{.State.Pid}}' stays)
is "$(d inspect -f '{{.State.Status}}:{{.HostConfig.Runtime}}' stays)" "running:bulkhead" "inspect"
if [ "$(cgroup_version)" = 1 ]; then
	memory=/sys/fs/cgroup/memory$(sed -n 's/^[0-9]*:memory://p' "/proc/$pid/cgroup")/memory.limit_in_bytes
	pids=/sys/fs/cgroup/pids$(sed -n 's/^[0-9]*:pids://p' "/proc/$pid/cgroup")/pids.max
else
	memory=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")/memory.max
	pids=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")/pids.max
fi
is "$(cat "$memory"):$(cat "$pids")" "$((64 << 20)):50" "the limits are the kernel's"
is "$(d exec stays sh -c 'echo $((1 + 1))')" 2 "exec"
run d exec stays sh -c 'exit 9'
is "$status" 9 "exec's exit code"
run d exec stays no-such-program
like "$status:$out$err" "^12[67]:.*executable file not found" "exec of a missing command"
is "$(d exec -u 1000 -w /home -e A=b stays sh -c 'echo $(id -u):$PWD:$A')" "1000:/home:b" "exec with a user, a folder, and a variable"
ok "update" d update --memory 96m --memory-swap 96m stays
is "$(cat "$memory")" $((96 << 20)) "the kernel has the new limit"
ok "pause" d pause stays
is "$(d inspect -f '{{.State.Status}}' stays)" paused "it is paused"
run d exec stays true
isnt "$status" 0 "no exec in a paused container"
ok "unpause" d unpause stays
like "$(d top stays)" "sleep|trap" "top"
like "$(d stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' stays)" "[KM]iB / 96MiB [1-9]" "stats"
is "$(d logs stays)" started "logs"
ok "stop" d stop -t 5 stays
is "$(d inspect -f '{{.State.ExitCode}}' stays)" 5 "its own exit code"
ok "start again" d start stays
ok "restart" d restart -t 1 stays
ok "kill" d kill stays
is "$(d inspect -f '{{.State.ExitCode}}' stays)" 137 "killed"
ok "rm" d rm stays

# --- restart policy and memory ------------------------------------------------------------------------------------------------

d run -d --name again --restart on-failure:2 busybox sh -c 'exit 3' >/dev/null
ok "a restart policy restarts" within 20 eval '[ "$(d inspect -f "{{.RestartCount}}:{{.State.Status}}" again)" = 2:exited ]'
d rm -f again >/dev/null
d run --name hog --memory 32m --memory-swap 32m busybox sh -c 'head -c 200m /dev/zero | tail >/dev/null' >/dev/null 2>&1
like "$(d inspect -f '{{.State.OOMKilled}}:{{.State.ExitCode}}' hog)" "true:|:137" "a hog dies of its limit"
d rm -f hog >/dev/null

stop_daemon
done_testing
