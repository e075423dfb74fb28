#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# podman with `--runtime bulkhead-oci`: its own recipe, its own stores in a folder of ours.
. "$(dirname "$0")/../lib.sh"

has podman || skip_all "podman is not installed"
folder=$(mktemp -d /var/tmp/bulkhead-podman.XXXXXX)
# Without CAP_SYS_RESOURCE podman can't raise limits.
printf '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]\n[engine]\nevents_logger = "file"\n' >"$folder/containers.conf"
trap 'p rm -fa -t 0 >/dev/null 2>&1; remove_cgroups; umount "$folder/root/overlay" 2>/dev/null; rm -rf --one-file-system "$folder"; test_cleanup' EXIT
parent=/bulkhead-podman-$$
remove_cgroups() {
	local dir
	for dir in /sys/fs/cgroup$parent /sys/fs/cgroup/*$parent; do
		[ -d "$dir" ] || continue
		# conmon makes ordinary folders where a hierarchy isn't mounted.
		if [ "$(stat -f -c %T "$dir")" = tmpfs ]; then rm -rf "$dir"; else find "$dir" -depth -type d -exec rmdir {} \; 2>/dev/null; fi
	done
}
p() {
	CONTAINERS_CONF=$folder/containers.conf podman --root "$folder/root" --runroot "$folder/run" --tmpdir "$folder/tmp" --storage-driver overlay \
		--cgroup-manager cgroupfs --runtime "$BUILD/bulkhead-oci" "$@"
}
p info >/dev/null 2>&1 || skip_all "podman doesn't run here"
is "$(p info -f '{{.Host.OCIRuntime.Path}}')" "$BUILD/bulkhead-oci" "podman's runtime is ours"
p import "$(busybox_tar)" busybox >/dev/null 2>&1

# --- run --------------------------------------------------------------------------------------------------------------------

run p run --cgroup-parent "$parent" --rm --network none busybox echo hello
is "$status:$out" "0:hello" "run"
run p run --cgroup-parent "$parent" --rm --network none busybox sh -c 'echo out; echo err >&2; exit 42'
is "$status:$out:$err" "42:out:err" "both streams and the exit code"
run p run --cgroup-parent "$parent" --rm --network none busybox no-such-program
is "$status" 127 "a missing command gives 127"
like "$err" "executable file.*not found|No such file" "in words podman knows"
run p run --cgroup-parent "$parent" --rm --network none busybox /etc/passwd
is "$status" 126 "a file that isn't executable gives 126"
is "$(echo typed | p run --cgroup-parent "$parent" --rm -i --network none busybox cat)" typed "stdin"
is "$(p run --cgroup-parent "$parent" --rm --network none -u 1000:1000 -w /tmp -e SHIP=ark busybox sh -c 'echo $(id -u):$(id -g):$PWD:$SHIP')" "1000:1000:/tmp:ark" "user, folder, environment"
is "$(p run --cgroup-parent "$parent" --rm --network none -u user busybox id -G)" "1000 29 100" "supplementary groups"
is "$(p run --cgroup-parent "$parent" --rm --network none --read-only busybox sh -c 'touch /x 2>/dev/null; echo $?')" 1 "a read-only root"
is "$(p run --cgroup-parent "$parent" --rm --network none --cap-drop all busybox grep CapEff /proc/self/status | cut -f2)" 0000000000000000 "no capabilities"
is "$(p run --cgroup-parent "$parent" --rm --network none --tmpfs /scratch:size=1m busybox df -k /scratch | awk 'END { print $2 }')" 1024 "a tmpfs"
mkdir "$WORK/shared"
p run --cgroup-parent "$parent" --rm --network none -v "$WORK/shared:/shared" busybox sh -c 'echo from inside >/shared/file'
is "$(cat "$WORK/shared/file")" "from inside" "a volume"
is "$(p run --cgroup-parent "$parent" --rm --network none --hostname ark busybox hostname)" ark "a host name"
is "$(p run --cgroup-parent "$parent" --rm --network none --sysctl net.ipv4.ip_forward=1 busybox cat /proc/sys/net/ipv4/ip_forward)" 1 "a sysctl"
is "$(p run --cgroup-parent "$parent" --rm --network none --ulimit nofile=77:88 busybox sh -c 'ulimit -n')" 77 "a limit"
like "$(p run --cgroup-parent "$parent" --rm --network none --init busybox ps -o args)" "init|catatonit" "--init"
run p run --cgroup-parent "$parent" --rm --network none --uidmap 0:100000:65536 --gidmap 0:100000:65536 busybox sh -c 'id -u; cat /proc/self/uid_map'
like "$status:$out" "^0:0.*100000 +65536" "a user namespace"

# A terminal: python makes one for podman.
if has python3; then
	is "$(python3 -c 'import pty,sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)' env CONTAINERS_CONF="$folder/containers.conf" podman --root "$folder/root" \
		--runroot "$folder/run" --tmpdir "$folder/tmp" --storage-driver overlay --cgroup-manager cgroupfs --runtime "$BUILD/bulkhead-oci" \
		run --cgroup-parent "$parent" --rm -it --network none busybox sh -c 'test -t 0 && tty' </dev/null | tr -d '\r')" \
		/dev/pts/0 "-it gives a terminal"
else
	skip "no python3 to make a terminal" 1
fi

# --- a microVM: one run, since without KVM it takes a while -------------------------------------------------------------------

kernel=$(ls -d /boot/vmlinuz-*-cloud-amd64 "$BUILD"/tests/guest-kernels/kernels/*/vmlinuz 2>/dev/null | tail -n 1)
if [ -n "$kernel" ] && { [ -e /dev/kvm ] || has qemu-system-x86_64; }; then
	# podman hands no environment on.
	printf '#!/bin/sh\nBULKHEAD_ROOT=%s BULKHEAD_KERNEL=%s exec %s "$@"\n' "$BULKHEAD_ROOT" "$kernel" "$BUILD/bulkhead-oci" >"$WORK/bulkhead-oci"
	chmod 755 "$WORK/bulkhead-oci"
	run p --runtime "$WORK/bulkhead-oci" run --cgroup-parent "$parent" --rm --annotation io.bulkhead.isolation=vm --network none --hostname ark -v "$WORK/shared:/shared" \
		busybox sh -c 'uname -r; hostname; cat /shared/file; echo err >&2; exit 42'
	like "$status:$out" "^42:[^ ]*-cloud-amd64.ark.from inside$" "a microVM by annotation: its kernel, its files, its exit code" "$err"
	like "$err" "err$" "... and its errors"
else
	skip "no guest kernel, or neither KVM nor QEMU" 2
fi

# --- a container that stays ---------------------------------------------------------------------------------------------------

ok "run -d" p run --cgroup-parent "$parent" -d --name stays --network none --memory 64m --pids-limit 50 --cpus 0.5 --health-cmd 'test -e /healthy' --health-interval 1h busybox \
	sh -c 'trap "exit 5" TERM; while :; do sleep 0.1; done'
is "$(p inspect -f '{{.State.Status}}:{{.OCIRuntime}}' stays)" "running:$BUILD/bulkhead-oci" "inspect"
pid=$(p inspect -f '{{.State.Pid}}' stays)
is "$(p exec stays sh -c 'echo $((1 + 1))')" 2 "exec"
run p exec stays sh -c 'exit 9'
is "$status" 9 "exec's exit code"
run p exec stays no-such-program
is "$status" 127 "exec of a missing command"
is "$(p exec -u 1000 -w /home -e A=b stays sh -c 'echo $(id -u):$PWD:$A')" "1000:/home:b" "exec with a user, a folder, and a variable"
ok "exec -d" p exec -d stays sh -c 'echo detached >/tmp/detached'
ok "exec -d has run" within 5 p exec stays test -e /tmp/detached
run p healthcheck run stays
is "$status" 1 "a health check that fails"
p exec stays touch /healthy
ok "a health check that succeeds" p healthcheck run stays
if [ "$(cgroup_version)" = 1 ]; then
	memory=/sys/fs/cgroup/memory$(sed -n 's/^[0-9]*:memory://p' "/proc/$pid/cgroup")/memory.limit_in_bytes
	quota=/sys/fs/cgroup/cpu$(sed -nE 's/^[0-9]*:cpu(,cpuacct)?://p' "/proc/$pid/cgroup")/cpu.cfs_quota_us
else
	memory=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")/memory.max
	quota=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")/cpu.max
fi
is "$(cat "$memory")" $((64 << 20)) "the memory limit is the kernel's"
like "$(cat "$quota")" "^50000" "and the cpu limit"
ok "update" p update --memory 96m stays
is "$(cat "$memory")" $((96 << 20)) "the kernel has the new limit"
ok "pause" p pause stays
is "$(p inspect -f '{{.State.Status}}' stays)" paused "it is paused"
run p exec stays true
isnt "$status" 0 "no exec in a paused container"
ok "unpause" p unpause stays
like "$(p top stays args)" "sleep|trap" "top"
like "$(p stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' stays)" "[0-9.]+[kM]B / [0-9.]+MB [1-9]" "stats"
like "$(p logs stays; p ps --format '{{.Names}} {{.Status}}')" "stays Up" "ps"
ok "stop" p stop -t 5 stays
is "$(p inspect -f '{{.State.ExitCode}}' stays)" 5 "its own exit code"
ok "start again" p start stays
ok "restart" p restart -t 1 stays
ok "kill" p kill stays
is "$(p wait stays)" 137 "wait"
ok "rm" p rm stays

# --- a pod of two -------------------------------------------------------------------------------------------------------------

# The pause program of Debian's podman is catatonit, in an image that podman builds by itself.
if p pod create --cgroup-parent "$parent" --name pair --network none >/dev/null 2>"$WORK/pod.err"; then
	ok "first of a pod" p run --cgroup-parent "$parent" -d --pod pair --name one busybox sleep 1000
	ok "second of a pod" p run --cgroup-parent "$parent" -d --pod pair --name two busybox sleep 1000
	is "$(p exec one readlink /proc/self/ns/net)" "$(p exec two readlink /proc/self/ns/net)" "they share the network namespace"
	isnt "$(p exec one readlink /proc/self/ns/mnt)" "$(p exec two readlink /proc/self/ns/mnt)" "but not the mounts"
	# Where a dead conmon is reaped late, podman says that it can't remove that one's cgroup, with any runtime.
	p pod rm -f -t 0 pair >/dev/null 2>&1
	is "$(p ps -a -q --filter name=one --filter name=two)" "" "the pod's end"
else
	diag "$(cat "$WORK/pod.err")"
	skip "podman can't make a pod here" 5
fi

# --- build --------------------------------------------------------------------------------------------------------------------

mkdir "$WORK/context"
cat >"$WORK/context/Containerfile" <<'EOF'
FROM localhost/busybox
RUN echo built by $(id -u) >/built && test -e /proc/self/status
RUN cat /built
CMD ["cat", "/built"]
EOF
run p build -q --network none --isolation oci -t localhost/built "$WORK/context"
is "$status" 0 "build with RUN" "$err"
is "$(p run --cgroup-parent "$parent" --rm --network none localhost/built)" "built by 0" "what it built runs"
p rm -fa -t 0 >/dev/null 2>&1
remove_cgroups
done_testing
