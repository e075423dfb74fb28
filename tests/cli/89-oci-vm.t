#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# timeout: 250
# bulkhead-oci: a bundle that asks for it is a microVM. On a machine with KVM by our own monitor, else on QEMU's software CPU.
. "$(dirname "$0")/../lib.sh"
. "$TESTS/oci.sh"

need_microvms
kernel=${BULKHEAD_KERNEL:-$(ls -d /boot/vmlinuz-*-cloud-amd64 | tail -n 1)}
oci() {
	timeout --kill-after=5 150 "$BUILD/bulkhead-oci" --root "$OCI_ROOT" "$@"
}
# vm_bundle NAME FILTER: a bundle that asks by annotation, on the right accelerator.
vm_bundle() {
	oci_bundle "$1"
	oci_config "$1" '.annotations = {"io.bulkhead.isolation": "vm", "io.bulkhead.accel": "'$accelerator'"} | '"$2"
}
# refused WORDS DESCRIPTION FILTER: what is said in one line before anything is made.
vm_bundle refused .
cp "$WORK/refused/config.json" "$WORK/whole.json"
refused() {
	cp "$WORK/whole.json" "$WORK/refused/config.json"
	oci_config refused "$3"
	run oci create --bundle "$WORK/refused" refused
	like "$status:$(wc -l <<<"$err"):$err" "^1:1:.*$1" "$2"
}

# --- what can't be had ------------------------------------------------------------------------------------------------------
refused 'there are container and vm' "an unknown isolation" '.annotations["io.bulkhead.isolation"] = "magic"'
refused 'accel magic: there are kvm, tcg and auto' "an unknown accelerator" '.annotations["io.bulkhead.accel"] = "magic"'
refused 'kernel.*/nowhere' "a kernel that isn't there" '.annotations["io.bulkhead.kernel"] = "/nowhere"'
refused 'no Linux kernel' "a file that is no kernel" '.annotations["io.bulkhead.kernel"] = "/bin/busybox"'
refused 'vm.hypervisor' "another hypervisor" '.vm = {"hypervisor": {"path": "/usr/bin/qemu"}, "kernel": {"path": "/k"}}'
refused 'vm.image' "an image of a machine" '.vm = {"kernel": {"path": "/k"}, "image": {"path": "/i", "format": "raw"}}'
refused 'vm.kernel.initrd' "another initramfs" '.vm = {"kernel": {"path": "/k", "initrd": "/i"}}'
refused 'hwConfig.memory: a microVM needs at least' "too little memory" '.vm = {"hwConfig": {"memory": 1000000}}'
refused 'linux.namespaces.*network' "the host's network" '.linux.namespaces |= map(select(.type != "network"))'
refused "network: .*can't join" "another's network" '(.linux.namespaces[] | select(.type == "network")).path = "/proc/self/ns/net"'
refused 'linux.devices: /dev/x' "a device" '.linux.devices = [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}]'
refused 'createContainer' "a hook for inside" '.hooks.createContainer = [{"path": "/bin/true"}]'
refused 'neither' "a mount that is neither folder nor file" '.mounts += [{"destination": "/n", "type": "bind", "source": "/dev/null", "options": ["bind"]}]'
run env -i PATH="$PATH" setpriv --reuid 65534 --regid 65534 --clear-groups "$BUILD/bulkhead-oci" --root "$WORK/none" create --bundle "$WORK/refused" refused
like "$status:$err" "^1:" "an ordinary user"
is "$(oci list -q)" "" "nothing is left of them"

# --- run: the vm object, a read-only root, all in one -------------------------------------------------------------------------
oci_bundle whole
mkdir -p "$WORK/data"
echo data >"$WORK/data/file"
echo hosts >"$WORK/hosts"
oci_config whole '.vm = {"kernel": {"path": "'"$kernel"'", "parameters": ["bulkhead.test=1"]}} | .annotations["io.bulkhead.accel"] = "'$accelerator'" |
	.linux.resources.memory.limit = 268435456 | .linux.resources.cpu = {"quota": 150000, "period": 100000} | .root.readonly = true |
	.process.user = {"uid": 1000, "gid": 100} | .process.cwd = "/made/here" | .process.env += ["COLOUR=blue"] | .hostname = "ship" | .process.apparmorProfile = "of-the-host" |
	.mounts += [{"destination": "/data", "type": "bind", "source": "'"$WORK/data"'", "options": ["rbind", "ro"]},
		{"destination": "/etc/hosts", "type": "bind", "source": "'"$WORK/hosts"'", "options": ["bind", "ro"]}] |
	.process.args = ["sh", "-c", "uname -r; nproc; id -u; pwd; echo $COLOUR; hostname; cat /data/file /etc/hosts; grep -c bulkhead.test=1 /proc/cmdline; awk \"/MemTotal/ { print (\\$2 < 262144) }\" /proc/meminfo; touch /x /data/x; echo x >/etc/hosts; exit 7"]'
run oci run --bundle "$WORK/whole" whole
is "$status" 7 "run: the exit code comes out"
is "$(sed 1d <<<"$out" | tr '\n' ' ')" "2 1000 /made/here blue ship data hosts 1 1 " "processors, user, folder, environment, name, a folder and a file of the host, kernel parameters, memory"
like "$out" "^[^ ]*-cloud-amd64" "by the guest's kernel"
is "$(grep -c 'Read-only file system' <<<"$err")" 3 "the root, a read-only folder and a read-only file stay as they are"
is "$(oci list -q)" "" "it is deleted at its end"
oci_config whole '.process.args = ["nowhere"] | del(.vm) | .annotations["io.bulkhead.kernel"] = "'"$kernel"'"'
run oci --isolation vm run --bundle "$WORK/whole" whole
like "$status:$err" '^1:.*nowhere.*not found' "--isolation vm: a command that isn't there"
oci_config whole '.process.args = ["uname", "-r"] | .annotations["io.bulkhead.isolation"] = "container" | del(.process.apparmorProfile)'
is "$(oci --isolation vm run --bundle "$WORK/whole" whole)" "$(uname -r)" "... doesn't count where the bundle says it"

# --- create, start ... -------------------------------------------------------------------------------------------------------
printf '#!/bin/sh\ncat >>%s/hooks\necho " $1" >>%s/hooks\nreadlink /proc/$(jq .pid <%s/hooks 2>/dev/null | head -n 1)/ns/net >%s/net 2>/dev/null\n:\n' "$WORK" "$WORK" "$WORK" "$WORK" >"$WORK/hook"
chmod 755 "$WORK/hook"
echo written >"$WORK/hosts"
hook() {
	echo '[{"path": "'"$WORK"'/hook", "args": ["hook", "'"$1"'"]}]'
}
vm_bundle ship '.root.readonly = false | .hooks = {"createRuntime": '"$(hook createRuntime)"', "poststart": '"$(hook poststart)"', "poststop": '"$(hook poststop)"'} |
	.mounts += [{"destination": "/etc/hosts", "type": "bind", "source": "'"$WORK/hosts"'", "options": ["bind"]}] |
	.process.args = ["sh", "-c", "echo inside >/written; echo beginning; echo to-stderr >&2; trap \"echo ending; exit 9\" TERM; while :; do sleep 0.1; done"]'
out=$WORK/out err=$WORK/err
oci create --bundle "$WORK/ship" --pid-file "$WORK/pid" ship >"$out" 2>"$err" </dev/null
is "$?:$(cat "$err")" "0:" "create"
is "$(oci state ship | jq -r '.status, .pid' | tr '\n' ' ')" "created $(cat "$WORK/pid") " "state: created, with the session's pid, which is in the pid file"
is "$(jq -r .Accelerator "$OCI_ROOT/ship/microvm.json")" "$accelerator" "the state folder tells the machine's accelerator"
is "$(stat -c %a "$OCI_ROOT/ship/agent.sock")" 600 "its socket is its owner's"
session=$(cat "$WORK/pid")
like "$(cat "$WORK/hooks")" '"status":"creating".* createRuntime$' "createRuntime hooks have been run"
is "$(cat "$WORK/net")" "$(readlink "/proc/$session/ns/net")" "... and find a network namespace"
isnt "$(cat "$WORK/net")" "$(readlink /proc/self/ns/net)" "... that isn't the host's"
nok "nothing was started yet" test -e "$WORK/ship/rootfs/written"
run oci exec ship true
like "$status:$err" "^255:.*has not been started" "exec: not yet"
out=$WORK/out
run_is 0 "start" oci start ship
within 20 grep -q beginning "$WORK/out"
is "$(cat "$WORK/out"):$(cat "$WORK/err")" "beginning:to-stderr" "its streams are those of create"
is "$(cat "$WORK/ship/rootfs/written")" inside "what it writes is in the bundle's root file system"
is "$(oci state ship | jq -r .status)" running "state: running"
like "$(cat "$WORK/hooks")" " poststart$" "poststart hooks have been run"
run oci start ship
like "$status:$err" "^1:.*already running" "it can be started once"
is "$(echo typed | oci exec ship sh -c 'cat; echo err >&2; exit 4' 2>&1; echo $?)" $'typed\nerr\n4' "exec: streams and exit code"
run oci exec ship nowhere
like "$status:$err" '^255:.*nowhere.*not found' "exec of what isn't there"
is "$(oci exec --user 1000:100 --cwd /tmp -e A=b ship sh -c 'id -u; pwd; echo $A' | tr '\n' ' ')" "1000 /tmp b " "exec: user, folder, environment"
oci exec ship sh -c 'echo from inside >/etc/hosts'
is "$(cat "$WORK/hosts")" "from inside" "a file of the host can be written"
echo "from outside" >"$WORK/hosts"
within 10 eval '[ "$(oci exec ship cat /etc/hosts)" = "from outside" ]'
is "$(oci exec ship cat /etc/hosts)" "from outside" "... on both sides"
like "$(oci ps ship)" 'sh -c echo inside' "ps lists the guest's processes"
like "$(oci ps --format json ship)" "^\[.*\b$session\b" "... as JSON those of the host"
is "$(oci events --stats ship | jq .data.memory.usage.limit)" $(((512 + 192) << 20)) "events --stats: its limit is the guest's memory and the monitor's"
run oci update --memory 1000000000 ship
like "$status:$err" "^1:.*microVM has what it was made with" "its memory stays as it is"
run_is 0 "update: what engines say again with what they change" oci update --memory $((512 << 20)) --cpu-quota 150000 ship
is "$(oci events --stats ship | jq .data.memory.usage.limit)" $(((512 + 192) << 20)) "... leaves the machine's limit"
run_is 0 "pause" oci pause ship
is "$(oci state ship | jq -r .status)" paused "state: paused"
run_is 0 "resume" oci resume ship
is "$(oci state ship | jq -r .status):$(oci exec ship echo alive)" "running:alive" "... and it goes on"
run oci checkpoint --image-path "$WORK/image" ship
like "$status:$err" "^1:.*microVM" "checkpoint: not of a microVM"
run oci delete ship
like "$status:$err" "^1:.*not stopped" "delete: not while it runs"
run_is 0 "kill TERM" oci kill ship TERM
within 20 eval '[ "$(oci state ship | jq -r .status)" = stopped ]'
is "$(tail -n 1 "$WORK/out")" ending "... reaches the workload"
is "$(oci state ship | jq -r '.status, .pid' | tr '\n' ' ')" "stopped 0 " "state: stopped"
run_is 0 "delete" oci delete ship
like "$(cat "$WORK/hooks")" " poststop$" "poststop hooks have been run"
nok "its folder is gone" test -e "$OCI_ROOT/ship"

# --- a created one that is never started; its maker's end --------------------------------------------------------------------------
vm_bundle never '.process.terminal = true | .process.args = ["sh", "-c", "tty; stty size; read x; echo got $x"]'
if has python3; then
	cat >"$WORK/console.py" <<-'END'
		import os, socket, sys, array, time
		s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(1)
		c, _ = s.accept()
		data, anc, _, _ = c.recvmsg(64, 64)
		fd = array.array('i', anc[0][2])[0]
		os.write(fd, b'typed\n')
		said = b''
		try:
		    while True:
		        more = os.read(fd, 4096)
		        if not more: break
		        said += more
		except OSError: pass
		open(sys.argv[2], 'wb').write(said)
	END
	python3 "$WORK/console.py" "$WORK/console" "$WORK/said" &
	within 10 test -S "$WORK/console"
	run_is 0 "create with a terminal" oci create --console-socket "$WORK/console" --bundle "$WORK/never" terminal
	run_is 0 "start" oci start terminal
	wait
	like "$(tr -d '\r' <"$WORK/said")" "/dev/pts/0.*got typed" "the terminal's master goes to the console socket, and works"
	run_is 0 "delete --force" oci delete --force terminal
else
	skip "no python3 to be a terminal" 4
fi
oci_config never '.process.terminal = false'
oci create --bundle "$WORK/never" never >/dev/null 2>&1 </dev/null
run_is 0 "delete of a created one" oci delete never
is "$(oci list -q)" "" "... leaves nothing"
"$BUILD/bulkhead-oci" --root "$OCI_ROOT" create --bundle "$WORK/never" killed >/dev/null 2>&1 </dev/null &
maker=$!
within 20 test -L "$OCI_ROOT/killed/init"
session=$(readlink "$OCI_ROOT/killed/init")
kill -KILL $maker
wait $maker 2>/dev/null
ok "a session whose maker was killed ends" within 20 eval '[ ! -e "/proc/${session%%:*}" ]'
run_is 0 "... and what is on record can be deleted" oci delete --force killed
rmdir "$OCI_ROOT"

done_testing
