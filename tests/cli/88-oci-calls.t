#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# How many system calls a run takes over all its processes, as tests/bench/oci counts them; and that the short ways that
# keep the number low (src/container/own-mounts.c) end where the long ones do.
. "$(dirname "$0")/../lib.sh"
. "$TESTS/oci.sh"

oci_bundle a

# --- how many ---------------------------------------------------------------------------------------------------------------

# What `spec` writes, busybox `true`. Version 1 costs at least five calls more for each of its hierarchies.
limit=$((250 + 5 * $(grep -vc '^0::' /proc/self/cgroup)))
oci_config a '.process.args = ["true"]'
cp "$WORK/a/config.json" "$WORK/plain.json"
if grep -q __asan_init "$BUILD/bulkhead"; then
	skip "a build with sanitizers makes calls of its own"
elif has strace && strace -o /dev/null true 2>/dev/null; then
	oci_config a 'del(.linux.cgroupsPath)'
	oci run --bundle "$WORK/a" "bulkhead-oci-$$-a"
	strace -f -o "$WORK/trace" "$BUILD/bulkhead-oci" --root "$OCI_ROOT" run --bundle "$WORK/a" "bulkhead-oci-$$-a" </dev/null
	calls=$(grep -cE '^[0-9]+ +[a-z_0-9]+\(' "$WORK/trace")
	ok "a run takes $calls system calls: no more than $limit" test "$calls" -gt 100 -a "$calls" -le $limit
else
	skip "no strace"
fi

# --- the same mounts by both ways --------------------------------------------------------------------------------------------

# inside FILTER COMMAND: runs COMMAND in a container with this change of the configuration.
inside() {
	jq --arg command "$2" '.process.args = ["sh", "-c", $command] | '"$1" "$WORK/plain.json" >"$WORK/a/config.json"
	run oci run --bundle "$WORK/a" one
}
# A hook that could do anything before the paths are protected makes us take the long way for them.
hook='.hooks.createContainer = [{path: "/bin/true"}]'
table='awk "{ for (i = 7; \$i != \"-\"; i++); print \$4, \$5, \$6, \$(i + 1), \$(i + 2) }" /proc/self/mountinfo'
inside . "$table"
short=$out
inside "$hook" "$table"
is "$status:$short" "0:$out" "the mount table is that of the long way"
like "$short" $'\n/sys /proc/sys ro,relatime proc proc' "with a part of /proc read-only"
like "$short" $'\n/ /proc rw,relatime proc proc' "the rest writable"
like "$short" $'\n/null /proc/keys rw' "a file masked"
like "$short" $'\n/ /sys/firmware ro,nosuid,nodev,noexec,relatime tmpfs tmpfs' "a folder masked"
for change in . "$hook"; do
	inside "$change" 'echo x >/proc/sys/kernel/domainname; ls -A /sys/firmware; cat /proc/keys; echo 5 >/proc/self/oom_score_adj && cat /proc/self/oom_score_adj'
	like "$out:$err" '^5:.*domainname: Read-only' "what is protected can't be written, what isn't can be$([ "$change" = . ] || echo ", by the long way too")"
done
inside '(.mounts[] | select(.destination == "/proc")).options = ["ro"]' 'awk "\$2 == \"/proc\" { print \$4 }" /proc/mounts'
is "$out" ro,relatime "a /proc that shall be read-only stays so"
inside '.mounts += [{destination: "/proc", options: ["remount", "ro"]}]' 'awk "\$2 == \"/proc\" { print \$4 }" /proc/mounts'
is "$status:$out" 0:ro,relatime "or becomes so by a remount"
mkdir -p "$WORK/a/rootfs/again"
inside '.mounts += [{destination: "/again", type: "bind", source: "'"$WORK/a/rootfs/proc"'", options: ["bind"]}]' 'awk "\$2 == \"/again\" { print \$4 }" /proc/mounts'
is "$status:$out" 0:rw,relatime "a bind of it is writable"
inside 'del(.linux.readonlyPaths)' 'awk "\$2 ~ /^\/proc(\/sys)?\$/ { print \$2, \$4 }" /proc/mounts'
is "$out" "/proc rw,relatime" "and one without such paths is not"

# --- paths that are not what they seem ---------------------------------------------------------------------------------------

inside '.linux.maskedPaths = ["/proc/./keys", "//proc/timer_list", "/proc/mounts", "/proc/sys/kernel/../kernel/hostname"] | .linux.readonlyPaths += ["/proc/net", "/proc/./fs"]' \
	'wc -c </proc/keys; wc -c </proc/timer_list; wc -c </proc/sys/kernel/hostname; wc -l </proc/mounts; awk "\$2 == \"/proc/fs\" { print \$4 }" /proc/self/mountinfo >/dev/null; : >/proc/fs/x'
like "$status:$out:$err" $'^[12]:0\n0\n0\n' "other spellings of a name mask the same file"
echo "model name : none" >"$WORK/cpuinfo"
inside '.mounts += [{destination: "/proc/cpuinfo", type: "bind", source: "'"$WORK/cpuinfo"'", options: ["bind", "ro"]}]' \
	'cat /proc/cpuinfo; echo x >/proc/sys/kernel/domainname; ls -A /proc/acpi /proc/scsi 2>/dev/null'
like "$out:$err" '^model name : none.*Read-only' "a file mounted in /proc stays, and so does what is protected there"
rm -rf "$WORK/a/rootfs/firm" && ln -s /sys "$WORK/a/rootfs/firm"
inside '.mounts += [{destination: "/firm/fs/bpf", type: "tmpfs", source: "tmpfs"}]' 'ls -A /sys/firmware; grep -c " /sys/firmware " /proc/mounts'
is "$out" 1 "a mount that a link leads below /sys changes nothing about it"
rm "$WORK/a/rootfs/firm"

# --- file systems of their own -----------------------------------------------------------------------------------------------

inside '.mounts += [{destination: "/mnt", type: "tmpfs", source: "mine", options: ["nosuid", "nodev", "size=1m", "mode=700"]},
	{destination: "/dev/more", type: "tmpfs", source: "more", options: ["noexec", "size=1m"]}]' \
	'stat -c %a /mnt; grep -E " (/mnt|/dev/more) " /proc/mounts; grep -c " /proc/fs " /proc/mounts; ls -d /proc/fs/nfsd 2>/dev/null; true'
like "$out" $'^700\nmine /mnt tmpfs rw,nosuid,nodev,relatime,size=1024k,mode=700.*\nmore /dev/more tmpfs rw,noexec,relatime,size=1024k[^\n]*\n1' \
	"a tmpfs has its options wherever it lies, and leaves nothing where it was made"
for destination in /mnt /dev/more; do
	inside '.mounts += [{destination: "'$destination'", type: "tmpfs", source: "tmpfs", options: ["nonsense=1"]}]' true
	like "$status:$err" "^1:.*rootfs at .*$destination.*: mount tmpfs: nonsense=1 " "a wrong option is named: $destination"
	inside '.mounts += [{destination: "'$destination'", type: "tmpfs", source: "tmpfs", options: ["size=1m,mode=700"]}]' true
	like "$status:$err" "^1:.*rootfs at .*$destination.*: mount tmpfs: size=1m,mode=700 " "two in one word are not taken: $destination"
done
rm -rf "$WORK/a/rootfs/mnt" && ln -s /etc "$WORK/a/rootfs/mnt"
inside '.root.readonly = false | .mounts += [{destination: "/mnt", type: "tmpfs", source: "tmpfs"}]' 'ls -A /etc; readlink /mnt'
is "$status:$out" "0:/etc" "a link of the image is followed inside it"
is "$(grep -c " /etc " /proc/mounts)" 0 "and nowhere else"
rm "$WORK/a/rootfs/mnt"

ok "no state is left" rmdir "$OCI_ROOT"
done_testing
