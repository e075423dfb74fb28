#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# The twenty-five properties of SECURITY.md, attacked one after the other through bulkhead-oci, by hostile images and
# configurations. Numbers are those of the table there. What 85-oci-bad-config.t (links, JSON, hooks without end) and
# inject/oci-fail.t (kernels without the newer calls) attack isn't repeated.
. "$(dirname "$0")/../lib.sh"
. "$TESTS/oci.sh"

outside=$WORK/outside
mkdir "$outside"
echo secret >"$outside/secret"
program=$BUILD/bulkhead-oci
before=$(sha256sum <"$program")
all_caps='[ "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_MKNOD", "CAP_SETUID", "CAP_SETGID", "CAP_KILL" ]'
with_caps=".process.capabilities = { bounding: $all_caps, effective: $all_caps, permitted: $all_caps } | .process.noNewPrivileges = false"

# shell NAME SCRIPT: the bundle's process runs this script.
shell() {
	jq --arg script "$2" '.process.args = ["sh", "-c", $script]' "$WORK/$1/config.json" >"$WORK/.config" && mv "$WORK/.config" "$WORK/$1/config.json"
}

# go NAME: runs the bundle once.
go() {
	run timeout -k 1 20 "$program" --root "$OCI_ROOT" run -b "$WORK/$1" "h-$1"
}

# begin NAME: leaves it running; its streams are not ours.
begin() {
	timeout -k 1 20 "$program" --root "$OCI_ROOT" run -d -b "$WORK/$1" "$1" </dev/null >/dev/null 2>&1
}

oci_bundle plain
oci_config plain '.root.readonly = false'
fresh() {
	mkdir "$WORK/$1"
	cp -a "$WORK/plain/." "$WORK/$1"
	oci_config "$1" ".linux.cgroupsPath = \"/bulkhead-oci-$$-$1\""
}

# --- 1, 3: the program, and the memory of what enters a container ---------------------------------------------------------------

fresh self
oci_config self '.process.args = ["/proc/self/exe", "--version"]'
go self
unlike "$out$err" "bulkhead-oci version" "1: /proc/self/exe as the entry isn't the runtime"
printf '#!/proc/self/exe --version\n' >"$WORK/self/rootfs/bin/evil"
chmod 755 "$WORK/self/rootfs/bin/evil"
oci_config self '.process.args = ["/bin/evil"]'
go self
unlike "$out$err" "bulkhead-oci version" "1: nor as an interpreter"

# A container that may trace watches all processes it sees, tries to write to each one's program, and looks for our environment.
fresh spy
oci_config spy "$with_caps"
shell spy 'i=0; echo on >/ready; while [ ! -e /stop ]; do for p in /proc/[0-9]*; do
	readlink $p/exe; tr "\0" "\n" <$p/environ; (: >>$p/exe) && echo "WRITTEN $(readlink $p/exe)"; done >>/seen 2>/dev/null; done'
ok "a spy" begin spy
within 5 test -e "$WORK/spy/rootfs/ready"
ln -s /proc/self/exe "$WORK/spy/rootfs/bin/itself"
for _ in {1..15}; do
	HOST_SECRET=of-the-host oci exec spy true
	HOST_SECRET=of-the-host oci exec spy /bin/itself --version
done >"$WORK/said" 2>&1 </dev/null
touch "$WORK/spy/rootfs/stop"
unlike "$(cat "$WORK/said")" "bulkhead-oci version" "1: exec of a link to /proc/self/exe isn't the runtime"
within 5 eval '[ "$(oci state spy | jq -r .status)" = stopped ]'
seen=$(sort -u "$WORK/spy/rootfs/seen")
like "$seen" "busybox|/bin/" "the spy has seen processes"
unlike "$seen" "bulkhead" "1: never the runtime's program"
unlike "$seen" "of-the-host" "3: nor the environment of a process that joins"
oci delete -f spy
is "$(sha256sum <"$program")" "$before" "1: the program is as it was"

# --- 2: nothing of the caller's environment ---------------------------------------------------------------------------------------

unlike "$(readelf -lW "$program")" "INTERP" "2: no interpreter: nothing for LD_PRELOAD to act on"
fresh env
oci_config env '.process.args = ["true"] | .process.env += ["LD_PRELOAD=/evil.so", "GCONV_PATH=/evil"]'
if has strace && strace -o /dev/null true 2>/dev/null; then
	LD_PRELOAD=$WORK/evil.so LD_LIBRARY_PATH=$WORK/evil LD_AUDIT=$WORK/evil.so GCONV_PATH=$WORK/evil LOCPATH=$WORK/evil LC_ALL=de_DE NLSPATH=$WORK/evil/%N \
		OPENSSL_CONF=$WORK/evil/c OPENSSL_MODULES=$WORK/evil TZDIR=$WORK/evil TMPDIR=$WORK/evil \
		strace -f -qq -e trace=file -o "$WORK/trace" -E LD_PRELOAD="$WORK/evil.so" -E LD_AUDIT="$WORK/evil.so" \
		"$program" --root "$OCI_ROOT" run -b "$WORK/env" env >/dev/null 2>&1
	ok "2: a run in a hostile environment" grep -q 'execve(.*true' "$WORK/trace"
	is "$(grep -v 'execve(' "$WORK/trace" | grep -c evil)" 0 "2: no file that a variable names is looked for"
else
	skip "ptrace is not allowed here" 2
fi

# --- 4, 14: descriptors and the working directory --------------------------------------------------------------------------------

fresh fds
shell fds 'ls /proc/self/fd | tr "\n" " "'
out=$(exec 7<"$outside" 33<"$outside" && timeout 20 "$program" --root "$OCI_ROOT" run -b "$WORK/fds" fds)
is "$out" "0 1 2 3 " "4: nothing of the caller's is open inside (3 is the listed folder itself)"
shell fds 'while :; do sleep 1; done'
ok "a container to enter" begin fds
is "$(exec 7<"$outside" && oci exec fds ls /proc/self/fd | tr '\n' ' ')" "0 1 2 3 " "4: nor after exec"
bad=''
for n in {3..40}; do
	oci_config plain ".process.cwd = \"/proc/self/fd/$n\" | .process.args = [\"cat\", \"secret\"]"
	(exec 7<"$outside" && timeout 20 "$program" --root "$OCI_ROOT" run -b "$WORK/plain" cwd) >"$WORK/said" 2>&1 && bad+=" run:$n"
	grep -qx secret "$WORK/said" && bad+=" run:$n:secret"
	(exec 7<"$outside" && oci exec --cwd "/proc/self/fd/$n" fds cat secret) >"$WORK/said" 2>&1 && bad+=" exec:$n"
	grep -qx secret "$WORK/said" && bad+=" exec:$n:secret"
done
is "$bad" "" "4, 14: a working directory through any descriptor is refused"
oci_config plain '.process.cwd = "/"'
oci delete -f fds

# --- 5, 6: what is exchanged while it's looked at -----------------------------------------------------------------------------------

fresh race
mkdir "$WORK/race/rootfs/real"
ln -s "$outside" "$WORK/race/rootfs/link"
oci_config race '.process.args = ["true"] | .mounts += [{destination: "/race/made/deeper", type: "tmpfs", source: "tmpfs"}] |
	.linux.devices = [{path: "/race/null", type: "c", major: 1, minor: 3}] | .linux.maskedPaths = ["/race/secret"]'
(
	cd "$WORK/race/rootfs" || exit
	while [ ! -e ../stop ]; do
		mv -T real race 2>/dev/null && mv -T race real
		mv -T link race 2>/dev/null && mv -T race link
	done
) &
racer=$!
for _ in {1..60}; do
	go race
done
touch "$WORK/race/stop"
wait $racer
is "$(ls "$outside"):$(cat "$outside/secret")" "secret:secret" "5, 6: sixty starts in a root whose folder and link change places: nothing outside"

# --- 7, 8, 10, 12: mounts ----------------------------------------------------------------------------------------------------------

fresh mounts
mkdir -p "$WORK/tree/below"
mount -t tmpfs -o size=64k tree "$WORK/tree/below"
oci_config mounts "$with_caps"' | .mounts += [
	{destination: "/ro", type: "bind", source: "'"$WORK/tree"'", options: ["rbind", "rro", "rnosuid", "rnodev", "rnoexec"]},
	{destination: "/tight", type: "tmpfs", source: "tmpfs", options: ["ro", "nosuid", "nodev", "noexec"]}]'
shell mounts 'touch /ro/x /ro/below/x /tight/x 2>/dev/null && echo WRITTEN
	awk "\$5 ~ \"^/(ro|tight)\" { print \$5, \$6 }" /proc/self/mountinfo
	echo "kcore:$(head -c 10 /proc/kcore | wc -c)"; echo 1 2>/dev/null >/proc/sys/kernel/panic || echo sysro
	echo "root:$(awk "\$5 == \"/\"" /proc/self/mountinfo | wc -l)"; ls /..'
go mounts
umount "$WORK/tree/below"
unlike "$out" WRITTEN "8: a recursively read-only bind is, below as well"
like "$out" "/ro ro,nosuid,nodev,noexec" "8: with its attributes"
like "$out" "/ro/below ro,nosuid,nodev,noexec" "8: and so are the mounts below it"
like "$out" "/tight ro,nosuid,nodev,noexec" "7: a new file system has its restrictions"
like "$out" "kcore:0" "10: a masked file is empty"
like "$out" "sysro" "10: a read-only path is"
like "$out" "root:1" "12: one root, the host's is gone"

# --- 9, 10: what /dev/null is --------------------------------------------------------------------------------------------------------

fresh null
rm -rf "$WORK/null/rootfs/dev"
mkdir "$WORK/null/rootfs/dev"
ln -s "$outside/secret" "$WORK/null/rootfs/dev/null"
cp "$outside/secret" "$WORK/null/rootfs/secret"
ln -s /secret "$WORK/null/rootfs/dev/zero"
oci_config null '.mounts |= map(select(.destination | startswith("/dev") | not)) | .process.args = ["sh", "-c", "cat /proc/kcore; ls -l /dev/null"]'
go null
unlike "$out" "secret$" "9: an image's /dev/null that is a link covers nothing"
[ "$status" = 0 ] && like "$out" "1, +3" "9: /dev/null is the device" || like "$err" "dev/(null|zero)" "9: or the start fails by name"
echo "not a device" >"$WORK/null/rootfs/dev/random"
rm "$WORK/null/rootfs/dev/null"
mknod "$WORK/null/rootfs/dev/null" c 1 5
go null
[ "$status" = 0 ] && like "$out" "1, +3" "9: another device in its place is not taken" || like "$err" "dev/" "9: another device in its place is refused"
is "$(cat "$outside/secret")" secret "9: nothing was written through it"

# --- 11: writes to /proc ----------------------------------------------------------------------------------------------------------

fresh proc
mkdir -p "$WORK/fake/net/ipv4" "$WORK/proc/rootfs/proc/sys/net/ipv4" "$WORK/proc/rootfs/proc/self"
echo untouched | tee "$WORK/fake/net/ipv4/ip_forward" "$WORK/proc/rootfs/proc/sys/net/ipv4/ip_forward" >"$WORK/proc/rootfs/proc/self/oom_score_adj"
oci_config proc '.linux.sysctl = {"net.ipv4.ip_forward": "1"} | .process.oomScoreAdj = 321 | .linux.readonlyPaths = [] | .linux.maskedPaths = []'
shell proc 'cat /proc/sys/net/ipv4/ip_forward /proc/self/oom_score_adj'
go proc
is "$out" $'1\n321' "11: sysctl and oom_score_adj reach procfs"
oci_config proc '.mounts += [{destination: "/proc/sys", type: "bind", source: "'"$WORK/fake"'", options: ["bind"]}]'
go proc
[ "$status" = 0 ] && is "$out" $'untouched\n321' "11: a bind over /proc/sys isn't written to" || like "$err" "/proc" "11: a bind over /proc/sys is refused"
oci_config proc '.mounts |= map(select(.destination | startswith("/proc") | not))'
go proc
is "$(cat "$WORK/fake/net/ipv4/ip_forward" "$WORK/proc/rootfs/proc/sys/net/ipv4/ip_forward" "$WORK/proc/rootfs/proc/self/oom_score_adj" | sort -u)" \
	untouched "11: files of an image that call themselves /proc aren't either"

# --- 13: propagation ---------------------------------------------------------------------------------------------------------------

fresh propagation
mkdir "$WORK/shared"
mount -t tmpfs -o size=64k shared "$WORK/shared"
mount --make-shared "$WORK/shared"
for mode in private rslave rprivate slave; do
	oci_config propagation "$with_caps | .linux.rootfsPropagation = \"$mode\""' | del(.linux.seccomp) | .mounts |= map(select(.destination != "/in")) + [
		{destination: "/in", type: "bind", source: "'"$WORK/shared"'", options: ["rbind", "rw"]}]'
	shell propagation 'mkdir -p /in/leak /leak; mount -t tmpfs leak /in/leak; mount -t tmpfs leak /leak; grep -c leak /proc/self/mountinfo'
	go propagation
	is "$out" 2 "13: rootfsPropagation $mode: mounts can be made inside"
	is "$(grep -c "$WORK/.*leak" /proc/self/mountinfo)" 0 "13: and none comes out"
done
umount "$WORK/shared"

# --- 15: user namespaces -----------------------------------------------------------------------------------------------------------

fresh userns
mkdir "$WORK/owned"
chmod 777 "$WORK/owned" "$WORK/userns/rootfs"
oci_config userns '.linux.namespaces += [{type: "user"}] | .linux.uidMappings = [{containerID: 0, hostID: 100000, size: 65536}] |
	.linux.gidMappings = .linux.uidMappings | .mounts |= map(select(.type != "cgroup")) |
	.mounts += [{destination: "/owned", type: "bind", source: "'"$WORK/owned"'", options: ["bind"]}]'
shell userns 'touch /owned/file; id -u; cat /proc/1/root/etc/passwd >/dev/null && echo own; echo 1 >/proc/sys/kernel/panic'
go userns
like "$out" "^0" "15: root inside"
is "$(stat -c %u "$WORK/owned/file" 2>/dev/null)" 100000 "15: is somebody else outside"
fresh joined
chmod 777 "$WORK/joined/rootfs"
unshare -n sleep 1000 &
holder=$!
ok "15: a network namespace of the host's" within 5 eval '! [ "/proc/$holder/ns/net" -ef /proc/self/ns/net ]'
oci_config joined '.linux.namespaces |= map(if .type == "network" then .path = "/proc/'"$holder"'/ns/net" else . end) + [{type: "user"}] |
	.linux.uidMappings = [{containerID: 0, hostID: 100000, size: 65536}] | .linux.gidMappings = .linux.uidMappings |
	.mounts |= map(select(.type != "cgroup" and .type != "sysfs"))'
shell joined 'readlink /proc/self/ns/net; ip link set lo up 2>&1'
go joined
is "${out%%$'\n'*}" "$(readlink "/proc/$holder/ns/net")" "15: it is joined"
like "$out" "Operation not permitted" "15: and root of the user namespace has no right to it"
kill "$holder"

# --- 16, 21: state and pids ---------------------------------------------------------------------------------------------------------

fresh state
shell state 'while :; do sleep 1; done'
begin state
is "$(stat -c %a "$OCI_ROOT")" 700 "21: only its owner enters the state root"
is "$(find "$OCI_ROOT/state" -type f -perm /077)" "" "21: and its files are the owner's"
oci kill state KILL
within 5 eval '[ "$(oci state state | jq -r .status)" = stopped ]'
sleep 1000 &
innocent=$!
ln -sfn "$innocent:1234" "$OCI_ROOT/state/init"
is "$(oci state state | jq -r .status,.pid | tr '\n' ' ')" "stopped 0 " "16: a pid that came to another process is nobody"
run oci kill state KILL
is "$status" 1 "16: it isn't killed"
ok "16: delete --force" oci delete -f state
ok "16: neither by that" kill -0 "$innocent"
kill "$innocent"
for id in ../x . .. 'a b' a/b "$(printf 'i%.0s' {1..256})"; do
	run oci state "$id"
	isnt "$status" 0 "21: no id: $(printf %.20q "$id")"
done

# --- 17: cgroups and devices --------------------------------------------------------------------------------------------------------

fresh cgroup
oci_config cgroup '.linux.cgroupsPath = "/../../bulkhead-oci-'$$'-up/../bulkhead-oci-'$$'-cgroup" | .process.args = ["true"]'
go cgroup
is "$status" 0 "17: a cgroupsPath with .. stays below the root"
oci_config cgroup "$with_caps"' | .linux.cgroupsPath = "/bulkhead-oci-'$$'-cgroup"'
shell cgroup 'mknod /disk b 7 0 && head -c 1 /disk; mknod /mem c 1 1 && head -c 1 /mem; mknod /kmsg c 1 11 && head -c 1 /kmsg; sleep 100'
ok "a container with device nodes of its own" begin cgroup
run oci exec cgroup sh -c 'for d in /disk /mem /kmsg; do [ -e $d ] || mknod $d c 1 11; head -c 1 $d; done'
is "$out" "" "17: and they open nothing"
like "$err" "Operation not permitted|Permission denied" "17: for the device rules"
for where in .. ../.. /../../x; do
	run oci exec --cgroup "$where" cgroup true
	isnt "$status" 0 "17: exec --cgroup $where is refused"
done
oci delete -f cgroup

# --- 18, 19: seccomp and capabilities, for exec too -----------------------------------------------------------------------------------

fresh caps
oci_config caps '.linux.seccomp = {defaultAction: "SCMP_ACT_ALLOW", syscalls: [{names: ["sync"], action: "SCMP_ACT_KILL_PROCESS"}]}'
shell caps 'while :; do sleep 1; done'
begin caps
fields='s/^(CapInh|CapAmb|NoNewPrivs|Seccomp):\s*//p'
for extra in "" "--cap CAP_SYS_ADMIN" "--cap CAP_NET_RAW --user 1000"; do
	# shellcheck disable=SC2086
	is "$(oci exec $extra caps cat /proc/self/status | sed -nE "$fields" | tr '\n' ' ')" "0000000000000000 0000000000000000 1 2 " \
		"18, 19: exec $extra: no inheritable or ambient capability, no new privileges, a filter"
done
is "$(sed -nE "$fields" "/proc/$(oci state caps | jq .pid)/status" | tr '\n' ' ')" "0000000000000000 0000000000000000 1 2 " "18, 19: and so the first process"
run oci exec caps sync
isnt "$status" 0 "18: what the filter forbids is forbidden to exec"
# --- -u: nothing wraps (CVE-2026-30892)
for user in -1 4294967295 4294967296 99999999999999999999 0x0 "1 " " 1" 1:2:3 : 1: :1 root; do
	run oci exec --user "$user" caps id -u
	isnt "$status" 0 "exec --user '$user' is refused"
done
jq -n '{user: {uid: 4294967295}, args: ["id", "-u"], cwd: "/"}' >"$WORK/process.json"
run oci exec --process "$WORK/process.json" caps
isnt "$status" 0 "exec --process with the user -1 is refused"
oci delete -f caps

# --- 20: labels --------------------------------------------------------------------------------------------------------------------

fresh label
# In force, or, on a kernel without the module, told to be not; where it is on, a label that can't be had is an error.
oci_config label '.process.args = ["true"] | .process.apparmorProfile = "bulkhead-no-such-profile"'
go label
if [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ]; then
	isnt "$status" 0 "20: an AppArmor profile that can't be in force is refused"
else
	like "$err" "apparmorProfile is not applied" "20: an AppArmor profile that nothing enforces is told"
fi
oci_config label 'del(.process.apparmorProfile) | .process.selinuxLabel = "no such label"'
go label
if [ -e /sys/fs/selinux/enforce ]; then
	isnt "$status" 0 "20: a SELinux label that can't be in force is refused"
else
	like "$err" "selinuxLabel is not applied" "20: a SELinux label that nothing enforces is told"
fi

# --- 23: hooks ------------------------------------------------------------------------------------------------------------------------

fresh hook
printf '#!/bin/sh\nls /proc/self/fd >%s/hook-fds\nenv >%s/hook-env\n' "$WORK" "$WORK" >"$WORK/hook.sh"
chmod 755 "$WORK/hook.sh"
oci_config hook '.process.args = ["true"] | .hooks = {createRuntime: [{path: "'"$WORK/hook.sh"'", env: ["PATH=/usr/bin:/bin"]}]}'
(exec 7<"$outside" 44<"$outside" && HOST_SECRET=1 timeout 20 "$program" --root "$OCI_ROOT" run -b "$WORK/hook" hook)
is "$(tr '\n' ' ' <"$WORK/hook-fds")" "0 1 2 3 " "23: a hook gets no descriptor"
unlike "$(cat "$WORK/hook-env")" HOST_SECRET "23: and of the environment only what its configuration has"

# --- 24: annotations ------------------------------------------------------------------------------------------------------------------

fresh annotations
oci_config annotations '.process.args = ["true"] | .annotations = {"run.oci.hooks.stdout": "'"$WORK/annotated"'", "run.oci.hooks.stderr": "'"$WORK/annotated"'",
	"run.oci.keep_original_groups": "1", "run.oci.handler": "krun", "module.wasm.image/variant": "compat", "io.kubernetes.cri-o.Devices": "/dev/fuse",
	"org.systemd.property.ExecStart": "'"'/bin/touch $WORK/annotated'"'"}'
go annotations
is "$status" 0 "24: annotations that other runtimes act on"
ok "24: change nothing on the host" test ! -e "$WORK/annotated"

# --- /dev/console (CVE-2025-52565) ------------------------------------------------------------------------------------------------------

fresh console
rm -rf "$WORK/console/rootfs/dev"
mkdir "$WORK/console/rootfs/dev"
ln -s "$outside/secret" "$WORK/console/rootfs/dev/console"
ln -s "$outside" "$WORK/console/rootfs/dev/pts"
oci_config console '.process.terminal = true | .mounts |= map(select(.destination == "/proc")) | .process.args = ["sh", "-c", "echo written >/dev/console; tty"]'
if has python3; then
	python3 -c 'import pty,sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)' timeout -k 1 20 "$program" --root "$OCI_ROOT" run -b "$WORK/console" console \
		>/dev/null 2>&1 </dev/null
	is "$(ls "$outside"):$(cat "$outside/secret")" "secret:secret" "/dev/console and /dev/pts that are links lead nowhere"
	oci_config console '.mounts += [{destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["mode=755"]},
		{destination: "/dev/pts", type: "devpts", source: "devpts", options: ["newinstance", "ptmxmode=0666"]}] |
		.process.args = ["sh", "-c", "test -c /dev/console && stat -c %t:%T /dev/console $(tty)"]'
	is "$(python3 -c 'import pty,sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)' timeout -k 1 20 "$program" --root "$OCI_ROOT" run -b "$WORK/console" console \
		2>&1 </dev/null | tr -d '\r' | sort -u | wc -l)" 1 "/dev/console is the terminal itself"
else
	skip "python3 is not installed" 2
fi

is "$(sha256sum <"$program")" "$before" "1: after all of it the program is as it was"
rmdir "$OCI_ROOT" 2>/dev/null
done_testing
