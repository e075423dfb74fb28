#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# bulkhead-oci: what callers of an OCI runtime rely on about mounts and hooks beyond the specification's words.
. "$(dirname "$0")/../lib.sh"
. "$TESTS/oci.sh"

oci_bundle a
mkdir -p "$WORK/source/sub" "$WORK/covered"
echo one >"$WORK/source/file"
echo two >"$WORK/covered/file"

# mounts JSON COMMAND: runs COMMAND in a container with these mounts besides the usual ones.
cp "$WORK/a/config.json" "$WORK/plain.json"
mounts() {
	jq --argjson mounts "$1" --arg command "$2" '.mounts += $mounts | .process.args = ["sh", "-c", $command] | .linux.rootfsPropagation = "private"' \
		"$WORK/plain.json" >"$WORK/a/config.json"
	run oci run --bundle "$WORK/a" one
}
bind() {
	jq -cn --arg s "$1" --arg d "$2" --arg o "$3" '{source: $s, destination: $d, type: "bind", options: ($o | split(","))}'
}
# options SOURCE-OPTIONS BIND-OPTIONS: the options a bind of a mount with the first has inside.
mkdir "$WORK/mounted"
mount -t tmpfs tmpfs "$WORK/mounted"
trap 'umount "$WORK/mounted"; test_cleanup' EXIT
options() {
	mount -o "remount,bind,$1" "$WORK/mounted"
	mounts "[$(bind "$WORK/mounted" /mnt "$2")]" 'awk "\$2 == \"/mnt\" { print \$4 }" /proc/mounts'
	out=${out%%,inode*}
	out=${out%%,size*}
}

# --- attributes of binds ----------------------------------------------------------------------------------------------------

mkdir -p "$WORK/a/rootfs/mnt"
options ro,noexec bind
like "$out" '^ro,.*noexec' "a bind without attributes keeps those of its source"
options ro,noexec bind,dev
is "$out" rw,relatime "with any attribute it has that alone"
options ro,nosuid bind,nodev
is "$out" rw,nodev,relatime "whichever it is"
options rw,noatime bind,nodev
is "$out" rw,nodev,noatime "access times are kept as they are"
options rw,noatime bind,atime
is "$out" rw,noatime "also if a word only ends a way"
options rw,noatime bind,strictatime
is "$out" rw "until another way is asked for"

# --- order, links, the container's own tree ----------------------------------------------------------------------------------

mounts "[$(bind "$WORK/source" /mnt bind), $(bind "$WORK/covered" /mnt/sub bind)]" 'cat /mnt/file /mnt/sub/file; awk "\$5 ~ /^\/mnt/ { print \$5 }" /proc/self/mountinfo'
is "$status:$out" $'0:one\ntwo\n/mnt\n/mnt/sub' "mounts lie on each other in the order of the configuration"
mounts "[$(bind "$WORK/source" /mnt bind), $(bind "$WORK/covered" /mnt/sub bind), $(bind "$WORK/a/rootfs/mnt" "$WORK/a/rootfs/final" rbind)]" 'cat /final/sub/file'
is "$status:$out" "0:two" "a bind of the container's own tree has what was mounted there before"
cp "$WORK/plain.json" "$WORK/plain.kept"
for userns in '' '.linux.namespaces += [{type: "user"}] | .linux.uidMappings = [{containerID: 0, hostID: 0, size: 65536}] | .linux.gidMappings = .linux.uidMappings'; do
	jq "${userns:-.}" "$WORK/plain.kept" >"$WORK/plain.json"
	mounts "[$(bind "$WORK/covered" /mnt bind), $(bind "$WORK/a/rootfs/mnt" /final bind |
		jq -c '.uidMappings = [{containerID: 0, hostID: 500, size: 100}] | .gidMappings = .uidMappings')]" 'stat -c %u /mnt/file /final/file'
	is "$status:$out" $'0:0\n500' "and may be id-mapped${userns:+, in a user namespace too}"
done
mv "$WORK/plain.kept" "$WORK/plain.json"
ln -s ../tmp/target "$WORK/a/rootfs/etc/link"
mounts "[$(bind "$WORK/source/file" /etc/link bind)]" 'cat /etc/link /tmp/target'
is "$status:$out" $'0:one\none' "a link is followed inside the root, also to what isn't there yet"
rm "$WORK/a/rootfs/etc/link"
ln -s "$WORK/source" "$WORK/a/rootfs/escape"
mounts "[$(bind "$WORK/covered" /escape/sub bind)]" 'true'
is "$(ls "$WORK/source")" $'file\nsub' "and never out of it"
rm "$WORK/a/rootfs/escape"
mkfifo "$WORK/a/rootfs/proc.real" && mv "$WORK/a/rootfs/proc" "$WORK/proc.old" && ln -s /tmp "$WORK/a/rootfs/proc"
mounts '[]' true
like "$status:$err" '^1:.*must be mounted on ordinary directory' "a /proc that is a link is refused"
rm "$WORK/a/rootfs/proc" "$WORK/a/rootfs/proc.real" && mv "$WORK/proc.old" "$WORK/a/rootfs/proc"
mounts '[{"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}]' 'stat -c %a /mnt'
is "$out" "$(stat -c %a "$WORK/a/rootfs/mnt")" "a tmpfs has the mode of the folder it covers"
cp "$WORK/plain.json" "$WORK/a/config.json"
oci_config a '.process.cwd = "/not/there/yet" | .process.args = ["pwd"]'
run oci run --bundle "$WORK/a" one
is "$status:$out" "0:/not/there/yet" "a working directory is made although the root is read-only"

# --- links ------------------------------------------------------------------------------------------------------------------

cp "$WORK/plain.json" "$WORK/a/config.json"
ln -s no/where "$WORK/link"
oci_config a '.process.args = ["readlink", "/deep/er/link"] | .mounts += [{destination: "/deep/er/link", type: "bind", source: "'"$WORK/link"'", options: ["rbind", "copy-symlink"]}]'
for time in once again; do
	run oci run --bundle "$WORK/a" one
	is "$status:$out" 0:no/where "copy-symlink: a link is made again, $time"
done
ln -sf else/where "$WORK/link"
run oci run --bundle "$WORK/a" one
like "$status:$err" '^1:.*/deep/er/link.*something is there that is not the link' "where something else is it is refused"
rm -r "$WORK/a/rootfs/deep"
echo of a file >"$WORK/file"
oci_config a '.process.args = ["cat", "/deep/er/link"] | .mounts[-1].source = "'"$WORK/file"'"'
run oci run --bundle "$WORK/a" one
is "$status:$out" "0:of a file" "a source that is no link is mounted"
rm -r "$WORK/a/rootfs/deep" "$WORK/link" "$WORK/file"

# --- mappings in options ------------------------------------------------------------------------------------------------------

mkdir "$WORK/owned" "$WORK/a/rootfs/owned"
touch "$WORK/owned/file"
chown 7:8 "$WORK/owned/file"
cp "$WORK/plain.json" "$WORK/a/config.json"
oci_config a '.process.args = ["stat", "-c", "%u:%g", "/owned/file"] | .linux.namespaces += [{type: "user"}] |
	.linux.uidMappings = [{containerID: 0, hostID: 100000, size: 1}, {containerID: 1, hostID: 200000, size: 100}] | .linux.gidMappings = .linux.uidMappings |
	.mounts |= map(select(.type != "cgroup")) | .mounts += [{destination: "/owned", type: "bind", source: "'"$WORK/owned"'", options: ["bind", "X"]}]'
chmod 755 "$WORK" "$WORK/a" "$WORK/a/rootfs"
# option OPTION: what the container sees then.
option() {
	oci_config a '.mounts[-1].options[1] = "'"$1"'"'
	run oci run --bundle "$WORK/a" one
}
option 'idmap=uids=0-200000-5#7-200010-1;gids=8-200020-3'
if [[ $err == *"id-map the mount"* ]]; then
	skip "this file system can't be id-mapped" 2
else
	is "$status:$out" "0:11:21" "idmap=uids=...;gids=...: a mapping of the mount's own"
	option 'ridmap=uids=@7-30-1;gids=@8-40-1'
	is "$status:$out" "0:30:40" "with @ it leads to ids of the container"
fi
for wrong in idmap= idmap=uids=0-0-1 'idmap=uids=0-0;gids=0-0-1' 'idmap=uids=0-0-0;gids=0-0-1' 'idmap=uids=@0-5000-1;gids=0-0-1' 'idmap=uids=0-0-x;gids=0-0-1' \
	'idmap=uids=0-0-1;gids=0-0-1;pids=1-1-1' 'idmap=uids=0-0-99999999999;gids=0-0-1'; do
	option "$wrong"
	like "$status:$err" '^1:.*mount /owned: option ' "$wrong"
done

# --- a user namespace without mappings --------------------------------------------------------------------------------------

cp "$WORK/plain.json" "$WORK/a/config.json"
oci_config a '.process.args = ["sleep", "1000"] | .linux.namespaces += [{type: "user"}] | .mounts |= map(select(.type != "cgroup"))'
run_is 0 "a user namespace without mappings" oci run -d --bundle "$WORK/a" one
is "$(oci exec one sh -c 'xargs </proc/self/uid_map; xargs </proc/self/gid_map')" $'0 0 1\n0 0 1' "has root's own ids"
oci delete --force one

# --- order ------------------------------------------------------------------------------------------------------------------

# Shared and slave binds keep their peers outside, which only the caller can see to; the table has them in their turn all the same.
cp "$WORK/plain.json" "$WORK/a/config.json"
mkdir -p "$WORK/peers"
mount --bind "$WORK/peers" "$WORK/peers"
mount --make-private "$WORK/peers"
mount --make-shared "$WORK/peers"
peers=$(awk -v p="$WORK/peers" '$5 == p { sub("shared:", "master:", $7); print $7 }' /proc/self/mountinfo)
oci_config a '.mounts += [{destination: "/mnt/1", type: "tmpfs"}, {destination: "/mnt/2", type: "bind", source: "'"$WORK/peers"'", options: ["bind", "slave"]},
	{destination: "/mnt/3", type: "bind", source: "/etc", options: ["bind"]},
	{destination: "/mnt/4", type: "bind", source: "'"$WORK/peers"'", options: ["rbind", "rshared"]}, {destination: "/mnt/5", type: "tmpfs"}] |
	.process.args = ["awk", "$5 ~ \"^/mnt/\" { sub(\" - .*\", \"\"); sub(\"shared:[0-9]+\", \"shared\"); $1 = $2 = $3 = $4 = $6 = \"\"; print }", "/proc/self/mountinfo"]'
run oci run --bundle "$WORK/a" one
is "$status:$(xargs <<<"$out")" "0:/mnt/1 /mnt/2 $peers /mnt/3 /mnt/4 shared $peers /mnt/5" "shared and slave binds are mounted in their turn"
oci_config a '.mounts += [{destination: "/mnt/6", type: "bind", source: "/no/such/source", options: ["bind", "slave"]}]'
run oci run --bundle "$WORK/a" one
like "$status:$err" '^1:.*mount /mnt/6: .*/no/such/source: No such file' "a slave bind without its source"
umount "$WORK/peers"

# --- without a mount namespace ----------------------------------------------------------------------------------------------

# All that the container mounts is the host's then. It lies below one private mount, and goes with the container.
cp "$WORK/plain.json" "$WORK/a/config.json"
mkdir "$WORK/host"
mount --bind "$WORK/host" "$WORK/host"
mount --make-private "$WORK/host"
mount --make-shared "$WORK/host"
mv "$WORK/a" "$WORK/host/a"
unshare -m --propagation unchanged sleep 1000 &
peer=$!
within 5 eval '[ "$(readlink /proc/$peer/ns/mnt)" != "$(readlink /proc/self/ns/mnt)" ]'
table() {
	sed 's/^[0-9]* //' "/proc/$1/mountinfo"
}
before=$(table self) peers=$(table "$peer")
root=$WORK/host/a/rootfs
ln -s host/a "$WORK/a"
oci_config a '.linux.namespaces |= map(select(.type != "mount")) | .process.args = ["sleep", "1000"] |
	.mounts += [{destination: "/mnt", type: "bind", source: "'"$WORK/host"'", options: ["rbind"]}] |
	.hooks = {createRuntime: [{path: "/bin/sh", args: ["sh", "-c", "test -e '"$root"'/proc/version && echo >>'"$WORK/hooked"'"]}]}'
run_is 0 "create without a mount namespace" oci create --bundle "$WORK/a" --pid-file "$WORK/pid" bare
is "$(wc -l <"$WORK/hooked")" 1 "a hook finds the root where it is on the host"
is "$(readlink "/proc/$(cat "$WORK/pid")/ns/mnt")" "$(readlink /proc/self/ns/mnt)" "it has the mount namespace of its caller"
is "$(awk -v r="$root" 'index($5, r) == 1 && $7 != "-"' /proc/self/mountinfo)" "" "none of its mounts has peers"
is "$(awk -v r="$root" '$5 == r { n++ } END { print n }' /proc/self/mountinfo)" 1 "one mount is its root"
is "$(awk -v r="$root/" 'index($5, r) == 1' "/proc/$peer/mountinfo")" "" "and no other gets to the peers of the host's tree"
run_is 0 "start" oci start bare
run oci exec --cwd /etc bare sh -c 'pwd; cd /..; test -e proc/self && test ! -e boot && test ! -e opt/../../boot; echo $?; wc -c </proc/timer_list; echo 1 >/proc/sys/kernel/panic'
is "$out" $'/etc\n0\n0' "exec is inside of its root, which is masked"
like "$err" '[Rr]ead-only file system' "and read-only where it should be"
is "$(oci exec bare sh -c 'test -t 0; readlink /proc/1/exe')" /bin/sleep "and sees the container's processes"
oci kill bare KILL
within 5 eval '[ "$(oci state bare | jq -r .status)" = stopped ]'
run_is 0 "delete" oci delete bare
is "$(table self)" "$before" "delete leaves no mount, and the propagation of none is changed"
is "$(table "$peer")" "$peers" "nor with the peers"
oci_config a '.process.args = ["sh", "-c", "ls -d /bin"]'
run oci run --bundle "$WORK/a" bare
is "$status:$out:$(table self)" "0:/bin:$before" "nor does run"
oci_config a '.process.args = ["no-such-program"]'
run oci run --bundle "$WORK/a" bare
is "$status:$(table self)" "1:$before" "nor a failure"
oci_config a '.process.args = ["sleep", "1000"]'
oci run -d --bundle "$WORK/a" bare
umount -l "$root"
mount -t tmpfs another "$root"
run_is 0 "delete of a container whose root was taken away" oci delete --force bare
is "$(stat -f -c %T "$root")" tmpfs "another's mount at its place stays"
umount "$root"
is "$(table self)" "$before" "and is the only one"
oci_config a '.root.path = "/"'
run oci run --bundle "$WORK/a" bare
like "$status:$err" "^1:.*root.path: the host's own root needs a mount namespace" "the host's root is refused"
oci_config a '.root.path = "rootfs" | .linux.namespaces += [{type: "user"}]'
run oci run --bundle "$WORK/a" bare
like "$status:$err" '^1:.*beside a user namespace a container needs a mount namespace' "and so is a user namespace"
kill "$peer"
wait "$peer" 2>/dev/null
rm "$WORK/a"
mv "$WORK/host/a" "$WORK/a"
umount "$WORK/host"

# --- devices ----------------------------------------------------------------------------------------------------------------

cp "$WORK/plain.json" "$WORK/a/config.json"
oci_config a '.linux.resources.devices = [{"allow": false, "access": "rwm"}] | .process.args = ["sh", "-c", "echo x >/dev/null && head -c 1 /dev/zero | wc -c"]'
run oci run --bundle "$WORK/a" one
is "$status:$out" "0:1" "the default devices can be used whatever the rules say"
oci_config a '.linux.devices = [{path: "/made/", type: "c", major: 1, minor: 5, fileMode: 384, uid: 3, gid: 4}] |
	.process.args = ["stat", "-c", "%F %t:%T %a %u:%g", "/made"]'
run oci run --bundle "$WORK/a" c
is "$status:$out" "0:character special file 1:5 600 3:4" "a device with a slash behind its name"
rm "$WORK/a/rootfs/made"
oci_config a '.linux.namespaces += [{type: "user"}] | .linux.uidMappings = [{containerID: 0, hostID: 100000, size: 100}] |
	.linux.gidMappings = .linux.uidMappings | .mounts |= map(select(.type != "cgroup")) |
	.linux.devices = [{path: "/dev/made", type: "b", major: 1, minor: 15, fileMode: 384, uid: 3, gid: 4},
		{path: "/dev/null", type: "c", major: 1, minor: 3}, {path: "/dev/pipe", type: "p"}, {path: "/dev/far", type: "c", major: 1, minor: 5, uid: 5000}] |
	.linux.resources.devices += [{allow: true, type: "c", major: 1, access: "rw"}] |
	.process.args = ["sh", "-c", "cd /dev; stat -c \"%F %t:%T %a %u:%g\" made null far; test -p pipe && echo x >null && head -c 1 far | wc -c; ls -d 0 pts"]'
chmod 755 "$WORK" "$WORK/a" "$WORK/a/rootfs"
run oci run --bundle "$WORK/a" c
is "$out" "block special file 1:f 600 3:4"$'\n'"character special file 1:3 666 0:0"$'\n'"character special file 1:5 666 65534:0"$'\n1\npts' \
	"in a user namespace devices that the host doesn't have, with their modes and owners"
oci_config a '.linux.namespaces |= map(select(.type != "user")) | del(.linux.uidMappings, .linux.gidMappings, .linux.devices)'

# --- hooks ------------------------------------------------------------------------------------------------------------------

hook() {
	jq --arg kind "$1" --arg script "$2" --argjson env "${3:-null}" '.process.args = ["true"] | .process.env += ["OWN=workload"]
		| .hooks[$kind] = [{path: "/bin/sh", args: ["sh", "-c", $script]} + (if $env then {env: $env} else {} end)]' "$WORK/plain.json" >"$WORK/a/config.json"
	run env OWN=caller "$BUILD/bulkhead-oci" --root "$OCI_ROOT" run --bundle "$WORK/a" one
}
hook createRuntime "echo \$OWN >$WORK/said"
is "$status:$(cat "$WORK/said")" "0:caller" "a hook has its caller's environment"
hook createRuntime "echo \${OWN-none} >$WORK/said" '[]'
is "$status:$(cat "$WORK/said")" "0:none" "unless it is given one, be it empty"
chmod 1777 "$WORK/a/rootfs/tmp"
hook startContainer '[ "$OWN" = workload ]'
is "$status" 0 "startContainer's is the workload's"
jq '.linux.seccomp = {defaultAction: "SCMP_ACT_ALLOW", syscalls: [{names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO"}]}' "$WORK/plain.json" >"$WORK/.plain"
cp "$WORK/plain.json" "$WORK/plain.kept" && mv "$WORK/.plain" "$WORK/plain.json"
hook startContainer 'mkdir /tmp/x'
like "$status:$err" '^1:.*error running startContainer hook #0: exit status 1, .*Operation not permitted' "and so is the filter it runs under"
mv "$WORK/plain.kept" "$WORK/plain.json"
hook createContainer "pwd >$WORK/said"
is "$status:$(cat "$WORK/said")" "0:$WORK/a/rootfs" "createContainer begins in the root that will be"
hook createRuntime 'read state; pid=${state#*\"pid\":}; nsenter -t "${pid%%,*}" -m test -e '"$WORK/a/config.json"
is "$status" 0 "a hook that enters the mount namespace finds the host's files there"
hook createRuntime 'echo words; echo others >&2; exit 3'
like "$status:$err" '^1:.*error running createRuntime hook #0: exit status 3, stdout: words, stderr: others' "a failure is told with the hook's words"

ok "no state is left" rmdir "$OCI_ROOT"
umount "$WORK/mounted"
trap test_cleanup EXIT
done_testing
