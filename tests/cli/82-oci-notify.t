#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# bulkhead-oci: containers that tell a service manager when they are ready (sd_notify), and sockets it hands to them.
. "$(dirname "$0")/../lib.sh"
. "$TESTS/oci.sh"

has python3 || skip_all "python3 is not installed"

# manager: the service manager's side: writes the first two messages it gets to $WORK/said, a line each.
manager() {
	rm -f "$WORK/manager" "$WORK/said"
	timeout $((20 * SCALE)) python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
open(sys.argv[2], "w").write(s.recv(4096).decode() + "\n" + s.recv(4096).decode())' "$WORK/manager" "$WORK/said" &
	manager_pid=$!
	within 5 test -S "$WORK/manager"
}
# say CONTAINER TEXT: as a process of the container would.
say() {
	within 5 test -S "$OCI_ROOT/$1/notify/notify.sock"
	python3 -c '
import os, socket, sys
os.chdir(sys.argv[1])
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(sys.argv[2].encode(), "notify.sock")' "$OCI_ROOT/$1/notify" "$2"
}

oci_bundle a
oci_config a '.process.args = ["sleep", "1000"]'

# --- run --------------------------------------------------------------------------------------------------------------------

manager
NOTIFY_SOCKET=$WORK/manager oci run --bundle "$WORK/a" --pid-file "$WORK/pid" one &
run_pid=$!
ok "run" within 5 eval '[ "$(oci state one | jq -r .status)" = running ]'
is "$(tr '\0' '\n' <"/proc/$(cat "$WORK/pid")/environ" | grep NOTIFY)" "NOTIFY_SOCKET=$WORK/manager/notify" "the process has a socket of its own, below the manager's path"
is "$(oci exec one ls -l "$WORK/manager/notify" | cut -c1-10)" srwxrwxrwx "that anybody inside may write to"
nok "its folder can't be written to" oci exec one touch "$WORK/manager/x"
say one "STATUS=not yet"
say one $'STATUS=now\nREADY=1'
wait "$manager_pid"
is "$(cat "$WORK/said")" "READY=1"$'\n'"MAINPID=$(cat "$WORK/pid")" "the manager hears that it is ready, and the pid on the host"
oci kill one KILL
wait "$run_pid"
is $? 137 "and run goes on as ever"

# --- run --detach and start wait for it -------------------------------------------------------------------------------------

manager
NOTIFY_SOCKET=$WORK/manager oci run --detach --bundle "$WORK/a" one &
run_pid=$!
ok "run --detach" within 5 eval '[ "$(oci state one | jq -r .status)" = running ]'
ok "waits" kill -0 "$run_pid"
say one READY=1
wait "$run_pid"
is $? 0 "until the process is ready"
wait "$manager_pid"
like "$(cat "$WORK/said")" '^READY=1' "which the manager hears"
oci delete --force one

manager
NOTIFY_SOCKET=$WORK/manager oci create --bundle "$WORK/a" one
NOTIFY_SOCKET=$WORK/manager oci start one &
run_pid=$!
ok "start" within 5 eval '[ "$(oci state one | jq -r .status)" = running ]'
say one READY=1
wait "$run_pid"
is $? 0 "waits as well"
wait "$manager_pid"
like "$(cat "$WORK/said")" '^READY=1' "and the manager hears it"
oci delete --force one

NOTIFY_SOCKET=$WORK/manager oci run --detach --bundle "$WORK/a" one &
run_pid=$!
within 5 eval '[ "$(oci state one | jq -r .status)" = running ]'
oci kill one KILL
ok "a process that ends is waited for no longer" timeout 10 tail --pid="$run_pid" -f /dev/null
oci delete --force one

manager
NOTIFY_SOCKET=$WORK/manager "$BUILD/bulkhead-oci" --root "$OCI_ROOT" run --bundle "$WORK/a" one &
run_pid=$!
within 5 eval '[ "$(oci state one | jq -r .status)" = running ]'
kill -STOP "$run_pid"
say one READY=1
oci kill one KILL
within 5 eval '[ "$(oci state one | jq -r .status)" = stopped ]'
kill -CONT "$run_pid"
wait "$run_pid"
is $? 137 "a process that ends"
wait "$manager_pid"
like "$(cat "$WORK/said")" '^READY=1' "is heard with what it said just before"

# --- where the socket is inside ---------------------------------------------------------------------------------------------

oci_config a '.process.args = ["sh", "-c", "echo $NOTIFY_SOCKET; test -S $NOTIFY_SOCKET && test -S ${NOTIFY_SOCKET%/*}/notify.sock"]'
for path in @abstract /proc/notify /sys/x/notify /dev/notify /run/systemd/notify /tmp/../etc/notify /tmp//notify; do
	run env NOTIFY_SOCKET="$path" "$BUILD/bulkhead-oci" --root "$OCI_ROOT" run --bundle "$WORK/a" two
	is "$status:$out" 0:/run/notify/notify.sock "$path is no place for it: /run/notify"
done
run env NOTIFY_SOCKET=/opt/of/the/manager "$BUILD/bulkhead-oci" --root "$OCI_ROOT" run --bundle "$WORK/a" two
is "$status:$out" 0:/opt/of/the/manager/notify "/opt/of/the/manager is one"
echo of the image >"$WORK/a/rootfs/etc/managed"
oci_config a '.mounts += [{destination: "/etc/managed", type: "bind", source: "/dev/null", options: ["bind"]}]'
run env NOTIFY_SOCKET=/etc/managed "$BUILD/bulkhead-oci" --root "$OCI_ROOT" run --bundle "$WORK/a" two
is "$status:$out" 0:/run/notify/notify.sock "not on top of what the configuration mounts"

# --- sockets ----------------------------------------------------------------------------------------------------------------

oci_config a '.process.args = ["sh", "-c", "echo $LISTEN_FDS $LISTEN_PID; cat <&3"]'
printf 'passed' >"$WORK/in"
run bash -c "exec 3<'$WORK/in'; LISTEN_FDS=1 LISTEN_PID=\$\$ exec '$BUILD/bulkhead-oci' --root '$OCI_ROOT' run --bundle '$WORK/a' two"
is "$status:$out" $'0:1 1\npassed' "LISTEN_FDS are handed on"
run env LISTEN_FDS=1 LISTEN_PID=1 "$BUILD/bulkhead-oci" --root "$OCI_ROOT" run --bundle "$WORK/a" two
unlike "$out" '1' "those of another process are not"

ok "no state is left" rmdir "$OCI_ROOT"
done_testing
