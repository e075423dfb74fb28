#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# timeout: 200
. "$(dirname "$0")/../lib.sh"
ls /boot /dev/kvm
need_busybox
vm() { timeout 100 "$BULKHEAD" vm "$@"; }
run vm create box --image busybox --memory 256m
echo "# create $status $out $err"
vm info box
ls -la $BULKHEAD_ROOT/vms/box $BULKHEAD_ROOT/vms/box/disks
S=$SECONDS
run vm start box
echo "# start $status $out $err"
run vm exec box echo hello
echo "# exec $status $out $err after $((SECONDS-S))"
run vm exec box sh -c 'echo kept >/kept; id; hostname; exit 7'
echo "# exec $status $out $err"
run vm exec box nowhere
echo "# exec $status $out $err"
cat $BULKHEAD_ROOT/vms/box/log
run vm shutdown --wait 30s box
echo "# shutdown $status $out $err after $((SECONDS-S))"
cat $BULKHEAD_ROOT/vms/box/log
vm list -a
run vm exec box true
echo "# exec $status $out $err after $((SECONDS-S))"
run vm start box
echo "# start $status $out $err"
run vm exec box cat /kept
echo "# exec $status $out $err after $((SECONDS-S))"
run vm rm -f box
echo "# rm $status $out $err after $((SECONDS-S))"
ok "yes" true
done_testing
