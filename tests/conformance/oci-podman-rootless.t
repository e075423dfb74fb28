#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# podman of an ordinary user with `--runtime bulkhead-oci`: the runtime is root in podman's user namespace, not the machine's.
# Without any podman: bulkhead-oci itself as that user.
. "$(dirname "$0")/../lib.sh"

has setpriv || skip_all "setpriv is not installed"
user=12345
folder=$(mktemp -d /var/tmp/bulkhead-rootless.XXXXXX)
chmod 755 "$folder"
mkdir -p "$folder"/{home,run,bundle/rootfs}
trap 'rm -rf --one-file-system "$folder"; test_cleanup' EXIT

as_user() {
	setpriv --reuid $user --regid $user --clear-groups env -i PATH="$PATH" HOME="$folder/home" XDG_RUNTIME_DIR="$folder/run" \
		CONTAINERS_CONF="$folder/containers.conf" "$@"
}

# --- bulkhead-oci alone -------------------------------------------------------------------------------------------------------

tar -C "$folder/bundle/rootfs" -xf "$(busybox_tar)"
chown -R $user:$user "$folder"
cd "$folder/bundle" || exit 1
oci() {
	as_user "$BUILD/bulkhead-oci" "$@"
}
ok "spec --rootless" oci spec --rootless
sed -i -e 's/"terminal": true/"terminal": false/' -e 's/"readonly": true/"readonly": false/' -e 's/^\(\t*\)"sh"$/\1"sh", "-c", "read line; echo $line $(id -u):$(id -g)"/' config.json
is "$(echo hello | oci run a-run 2>&1)" "hello 0:0" "run"
is "$(oci list -q 2>&1)" "" "nothing is left of it"
sed -i 's/read line; echo .*"$/sleep 100"/' config.json
# The container has these streams for its life.
oci create a-box </dev/null >"$folder/streams" 2>&1
is "$?" 0 "create"
like "$(oci state a-box 2>&1)" '"status": "created"' "state"
ok "start" oci start a-box
is "$(oci exec a-box sh -c 'echo $(id -u) $(cat /proc/1/comm)' 2>&1)" "0 sleep" "exec"
pid=$(oci state a-box | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
is "$(awk '/^Uid:/ { print $2 }' "/proc/$pid/status")" $user "outside it is the user's process"
ok "kill" oci kill a-box KILL
ok "delete" within 5 oci delete a-box
is "$(ls -A "$folder/run/bulkhead-oci" 2>/dev/null)" "" "no state is left"
cd / || exit 1

# --- under podman -------------------------------------------------------------------------------------------------------------

if ! has podman || ! has newuidmap; then
	skip "podman or newuidmap is not installed" 9
	done_testing
fi
printf '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]\n[engine]\nevents_logger = "file"\n' >"$folder/containers.conf"
{ grep -v ":$user:" /etc/passwd; echo "bh-tester:x:$user:$user::$folder/home:/bin/sh"; } >"$folder/passwd"
{ grep -v ":$user:" /etc/group; echo "bh-tester:x:$user:"; } >"$folder/group"
echo "bh-tester:300000:65536" >"$folder/subid"
cat >"$folder/script" <<'SCRIPT'
mount --make-rprivate /
mount --bind "$folder/passwd" /etc/passwd
mount --bind "$folder/group" /etc/group
mount --bind "$folder/subid" /etc/subuid
mount --bind "$folder/subid" /etc/subgid
p() {
	as_user podman --cgroup-manager cgroupfs --storage-driver vfs --root "$folder/home/store" --runroot "$folder/run/store" --tmpdir "$folder/run/tmp" \
		--runtime "$BUILD/bulkhead-oci" "$@" 2>>"$folder/errors"
}
cd "$folder/home"
p info -f 'rootless:{{.Host.Security.Rootless}}'
p import "$tar" busybox >/dev/null
echo "run:$(p run --rm --network none busybox sh -c 'echo $(id -u) $(wc -l </proc/self/uid_map)')"
p run -d --name stays --network none busybox sleep 100 >/dev/null
echo "exec:$(p exec stays id -u):$(p exec -u 1000 stays id -G)"
echo "network:$(p run --rm --network host busybox sh -c 'ls -d /sys/class/net/lo')"
echo "keep-id:$(p run --rm --userns keep-id --network none busybox id -u)"
p run --rm --network none -v "$folder/home:/volume" busybox touch /volume/file
echo "volume:$(stat -c %u "$folder/home/file")"
p run --rm --network none busybox sh -c 'exit 7'
echo "code:$?"
p rm -f -t 0 stays
p ps -aq
p unshare rm -rf "$folder/home/store" "$folder/home/file"
echo "end"
SCRIPT
export folder user BUILD PATH
export -f as_user
tar=$(busybox_tar) run unshare -m bash "$folder/script"
like "$out" "rootless:true" "podman runs as a user"
like "$out" "run:0 2" "run"
like "$out" "exec:0:1000 29 100" "exec, also as another user"
like "$out" "network:/sys/class/net/lo" "the host's network: sysfs is the host's"
like "$out" "keep-id:$user" "--userns keep-id"
like "$out" "volume:$user" "a volume"
like "$out" "code:7" "the exit code"
like "$out" "stays"$'\n'"end|[0-9a-f]{64}"$'\n'"end" "rm"
is "$(grep -c bulkhead-oci "$folder/errors")" 0 "no complaint of the runtime" || diag "$(cat "$folder/errors")"
done_testing
