#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# containerd with its own shim and `ctr run --runc-binary bulkhead-oci`.
. "$(dirname "$0")/../lib.sh"

has containerd && has ctr && has containerd-shim-runc-v2 || skip_all "containerd is not installed"
folder=$(mktemp -d /var/tmp/bulkhead-containerd.XXXXXX)
daemon=
stop_daemon() {
	local pid
	# The shims survive their daemon; each has our folder among its arguments.
	for pid in $(pgrep -f "containerd-shim-runc-v2.*$folder"); do kill "$pid"; done
	[ -n "$daemon" ] && kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null
	daemon=
	grep -F "$folder" /proc/self/mountinfo | awk '{ print $5 }' | sort -r | while read -r mount; do umount -l "$mount"; done
	rm -rf --one-file-system "$folder"
}
trap 'stop_daemon; test_cleanup' EXIT
cat >"$folder/config.toml" <<EOF
version = 2
root = "$folder/root"
state = "$folder/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "$folder/containerd.sock"
[ttrpc]
  address = "$folder/ttrpc.sock"
EOF
unshare --mount --propagation private containerd -c "$folder/config.toml" >"$folder/log" 2>&1 &
daemon=$!
c() {
	timeout -k 5 30 ctr -a "$folder/containerd.sock" -n "bulkhead-$$" "$@"
}
c_run() {
	c run --runc-binary "$BUILD/bulkhead-oci" --runc-root "$folder/oci" "$@"
}
if ! within 40 c version; then
	stop_daemon
	skip_all "containerd doesn't run here"
fi
need_busybox
"$BULKHEAD" save --format oci-archive -o "$WORK/busybox.tar" busybox
ok "containerd imports the image" c images import "$WORK/busybox.tar"
image=$(c images ls -q | head -n 1)

run c_run --rm "$image" one echo hello
is "$status:$out" "0:hello" "run" "$err"
run c_run --rm "$image" two sh -c 'echo out; echo err >&2; exit 3'
is "$status:$out" "3:out" "the exit code and stdout"
like "$err" "err" "and stderr"
run c_run --rm "$image" four no-such-program
isnt "$status" 0 "a missing program"
like "$err" "executable file not found" "in the words that callers look for"
is "$(c_run --rm --env A=b --cwd /tmp "$image" five sh -c 'echo $A $PWD')" "b /tmp" "environment and folder"
is "$(c_run --rm --read-only "$image" six sh -c 'touch /x 2>/dev/null; echo $?')" 1 "a read-only root"
is "$(c_run --rm --seccomp "$image" seven grep Seccomp: /proc/self/status | tr -d '\t')" "Seccomp:2" "containerd's own seccomp profile"
if has python3; then
	is "$(python3 -c 'import pty,sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)' ctr -a "$folder/containerd.sock" -n "bulkhead-$$" run --rm -t \
		--runc-binary "$BUILD/bulkhead-oci" --runc-root "$folder/oci" "$image" eight tty </dev/null | tr -d '\r')" /dev/pts/0 "a terminal"
else
	skip "no python3 to make a terminal" 1
fi

ok "run -d" c_run -d --memory-limit 33554432 --cpu-quota 50000 --cpu-period 100000 "$image" stays sh -c 'trap "exit 6" TERM; while :; do sleep 0.1; done'
pid=$(c task ls | awk '$1 == "stays" { print $2 }')
like "$(c task ls)" "stays +$pid +RUNNING" "it runs"
ok "the state is under the root that containerd gives" test -d "$folder/oci/bulkhead-$$/stays"
run c task exec --exec-id e1 stays echo inside
is "$status:$out" "0:inside" "exec"
run c task exec --exec-id e2 stays sh -c 'exit 4'
is "$status" 4 "exec's exit code"
run c task exec --exec-id e3 stays no-such-program
like "$err" "executable file not found" "exec of a missing program"
like "$(c task ps stays)" "$pid" "ps"
like "$(c task metrics stays)" "memory.*33554432|33554432" "metrics are the container's own"
ok "pause" c task pause stays
like "$(c task ls)" "stays.*PAUSED" "it is paused"
ok "resume" c task resume stays
like "$(c task ls)" "stays.*RUNNING" "it goes on"
ok "kill" c task kill -s TERM stays
within 10 eval 'c task ls | grep -q STOPPED'
run c task rm stays
like "$err" "exit code 6|non-zero exit code 6" "its own exit code"
c container rm stays

ok "run -d once more" c_run -d "$image" killed sleep 1000
ok "delete by force" c task rm -f killed
c container rm killed
is "$(c task ls -q)" "" "no task is left"
is "$(ls "$folder/oci/bulkhead-$$" 2>/dev/null)" "" "no state is left"
c images rm "$image" >/dev/null
stop_daemon
for dir in /sys/fs/cgroup/*/bulkhead-$$ /sys/fs/cgroup/bulkhead-$$; do [ -d "$dir" ] && rmdir "$dir" 2>/dev/null; done
done_testing
