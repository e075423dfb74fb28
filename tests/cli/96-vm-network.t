#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# timeout: 150
# The tap device of a microVM, on a bridge of a network namespace that is this script's own.
. "$(dirname "$0")/../lib.sh"

has ip || skip_all "lab: no ip command"
need_microvms
need_busybox

run_is 125 "a container has no tap device" "$BULKHEAD" run --rm --network tap busybox true
like "$err" "only a microVM" "... and that is said"
run_is 125 "a bad address is refused" "$BULKHEAD" run --rm --isolation vm --network tap,ip=10.9.0.300/24 busybox true
run_is 125 "a word that isn't known is refused" "$BULKHEAD" run --rm --isolation vm --network tap,speed=9 busybox true
run_is 125 "a bridge that isn't there" unshare -n "$BULKHEAD" run --rm --isolation vm --accel "$accelerator" --network tap,bridge=nowhere busybox true
like "$err" "bridge nowhere: No such device" "... is named"

mkdir "$WORK/served"
head -c 2m /dev/urandom >"$WORK/served/file"
cat >"$WORK/inside.sh" <<'SCRIPT'
ip link set lo up
ip link add bridge0 type bridge
ip addr add 10.9.0.1/24 dev bridge0
ip link set bridge0 up
busybox httpd -f -p 10.9.0.1:80 -h "$WORK/served" &
"$BULKHEAD" run -d --name net --isolation vm --accel "$accelerator" --network tap,bridge=bridge0,ip=10.9.0.2/24,gateway=10.9.0.1,mac=02:11:22:33:44:55 \
	busybox httpd -f -p 80 -h /bin >/dev/null
"$BULKHEAD" exec net sh -c 'cat /sys/class/net/eth0/address; ping -c 1 10.9.0.1 >/dev/null && echo pinged; ip route | grep -c "default via 10.9.0.1"
	wget -q -O - http://10.9.0.1/file | sha256sum'
busybox wget -q -O - http://10.9.0.2/busybox | sha256sum
"$BULKHEAD" rm -f net >/dev/null
kill %1
ip -o link | grep -c tap
SCRIPT
export accelerator
mapfile -t out < <(timeout --kill-after=5 300 unshare -n bash "$WORK/inside.sh" 2>"$WORK/errors")
is "${out[*]:0:3}" "02:11:22:33:44:55 pinged 1" "the device has its address, the host answers, and it is the way out"
is "${out[3]:-}" "$(sha256sum <"$WORK/served/file")" "a file comes from the host, whole"
is "${out[4]:-}" "$(sha256sum </bin/busybox)" "... and one goes to it"
is "${out[5]:-}" 0 "the tap device is gone with the machine"
is "$(grep -v 'software CPU' "$WORK/errors")" "" "and nobody complains"

done_testing
