#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a file system has survives: folder -> import -> save -> load -> run, and the same from GNU tar in its formats.
. "$(dirname "$0")/../lib.sh"

has python3 && has setfattr && has setcap || skip_all "python3, attr or libcap2-bin is not installed"

tree=$WORK/tree
mkdir -p "$tree"/{dir,sticky,empty,setgid,acl,bin}
cp /bin/busybox "$tree/bin/busybox"
echo text >"$tree/file"
ln "$tree/file" "$tree/dir/hardlink"
ln -s file "$tree/symlink"
ln -s /absolute/../nowhere "$tree/dangling"
ln "$tree/symlink" "$tree/symlink-hardlink" 2>/dev/null || cp -P "$tree/symlink" "$tree/symlink-hardlink"
: >"$tree/nothing"
echo setuid >"$tree/setuid" && chown 1000:1001 "$tree/setuid" && chmod 6755 "$tree/setuid"
echo none >"$tree/none" && chmod 000 "$tree/none"
chmod 1777 "$tree/sticky" && chmod 2775 "$tree/setgid" && chown 12:34 "$tree/setgid" && echo in >"$tree/setgid/in"
chmod 000 "$tree/empty"
echo big >"$tree/big-owner" && chown 3000000000:4000000000 "$tree/big-owner"
mknod -m 666 "$tree/null" c 1 3 && mknod -m 600 "$tree/block" b 8 1 && mkfifo -m 640 "$tree/fifo"
setfattr -n user.text -v "a value" "$tree/file"
setfattr -n user.binary -v 0x00ff0a0d00 "$tree/dir"
setfattr -n trusted.mark -v yes "$tree/file"
setfattr -h -n trusted.link -v yes "$tree/dangling"
cp /bin/true "$tree/capable" && setcap cap_net_raw,cap_chown+ep "$tree/capable"
setfattr -n system.posix_acl_default -v 0x0200000001000700ffffffff02000500e803000004000500ffffffff10000500ffffffff20000500ffffffff "$tree/acl" 2>/dev/null
echo inside >"$tree/acl/inside" && setfattr -x system.posix_acl_access "$tree/acl/inside" 2>/dev/null
long=$(printf 'n%.0s' $(seq 255))
mkdir -p "$tree/long/$long/$long/$long" && echo deep >"$tree/long/$long/$long/$long/$long"
ln -s "$long/$long/$long" "$tree/long/link"
python3 - "$tree" <<'EOF'
import os, sys
tree = sys.argv[1].encode()
for name in [b"utf8-\xc3\xbc", b"decomposed-u\xcc\x88", b"latin1-\xff\xfe", b"new\nline", b" space ", b"-dash", b"back\\slash", b".hidden", b"*"]:
    with open(tree + b"/" + name, "wb") as f:
        f.write(name)
os.symlink(b"target-u\xcc\x88-\xff", tree + b"/link-\xff")
with open(tree + b"/sparse", "wb") as f:  # data, 8 MiB hole, data, hole at the end
    f.write(b"begin"); f.seek(8 << 20); f.write(b"middle"); f.truncate(16 << 20)
with open(tree + b"/hole", "wb") as f:
    f.truncate(4 << 20)
with open(tree + b"/zeros", "wb") as f:
    f.write(bytes(1 << 20))
EOF
find "$tree" -mindepth 1 -exec touch -h -d '2001-02-03 04:05:06.123456789 UTC' {} +
touch -h -d '1969-12-31 23:59:58 UTC' "$tree/nothing"
touch -h -d '2099-01-01 00:00:00.999999999 UTC' "$tree/dangling"
touch -d '2001-02-03 04:05:06.987654321 UTC' "$tree"

# describe FOLDER [TIME]: everything of every file in one text. Times by find's %T@ (nanoseconds), unless told otherwise.
describe() {
	python3 - "$1" "${2:-ns}" <<'EOF'
import hashlib, os, stat, sys
root, times = sys.argv[1].encode(), sys.argv[2]
inodes = {}
def one(path):
    st = os.lstat(path)
    rel = os.path.relpath(path, root)
    out = [repr(rel), "%o" % st.st_mode, "%d:%d" % (st.st_uid, st.st_gid), str(st.st_mtime_ns if times == "ns" else st.st_mtime_ns // 10**9)]
    if stat.S_ISLNK(st.st_mode):
        out.append(repr(os.readlink(path)))
    if stat.S_ISREG(st.st_mode):
        out += [str(st.st_size), hashlib.sha256(open(path, "rb").read()).hexdigest()[:12]]
    if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        out.append("%d,%d" % (os.major(st.st_rdev), os.minor(st.st_rdev)))
    if not stat.S_ISDIR(st.st_mode) and st.st_nlink > 1:
        out.append("same as " + repr(inodes.setdefault(st.st_ino, rel)))
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        out.append(name + "=" + os.getxattr(path, name, follow_symlinks=False).hex())
    print(*out)
one(root)
for folder, folders, files in os.walk(root):
    folders.sort()
    for name in sorted(folders + files):
        one(os.path.join(folder, name))
EOF
}
layer() {
	"$BULKHEAD" "${@:2}" image inspect -f '{{.GraphDriver.Data.UpperDir}}' "$1"
}
compare() {
	local name=$1 difference
	if difference=$(diff "$2" "$3"); then pass "$name"; else fail "$name" "$difference"; fi
}

describe "$tree" >"$WORK/before"
run_is 0 "import the folder" "$BULKHEAD" import "$tree" meta:1
describe "$(layer meta:1)" >"$WORK/after"
compare "everything survives the import of a folder" "$WORK/before" "$WORK/after"
for file in sparse hole; do
	ok "$file keeps its holes" test "$(stat -c %b "$(layer meta:1)/$file")" -lt 64
done

ok "save" "$BULKHEAD" save -o "$WORK/meta.tar" meta:1
ok "load elsewhere" "$BULKHEAD" --root "$WORK/other" load -i "$WORK/meta.tar"
describe "$(layer meta:1 --root "$WORK/other")" >"$WORK/after"
compare "and save and load" "$WORK/before" "$WORK/after"
rm -rf "$WORK/other"

# Other programs' archives. GNU's own format has seconds and no attributes.
for format in posix gnu; do
	options=(--format=$format --sparse)
	[ $format = posix ] && options+=(--xattrs --xattrs-include='*')
	tar -C "$tree" "${options[@]}" --numeric-owner -cf "$WORK/$format.tar" . 2>/dev/null
	run_is 0 "import GNU tar's $format format" "$BULKHEAD" import "$WORK/$format.tar" meta:$format
	if [ $format = posix ]; then
		describe "$(layer meta:$format)" >"$WORK/after"
		compare "everything survives from $format" "$WORK/before" "$WORK/after"
	else
		describe "$tree" s | sed -E 's/ (user|trusted|security|system)\.[a-z_.]+=[0-9a-f]+//g' >"$WORK/before.$format"
		describe "$(layer meta:$format)" s >"$WORK/after"
		compare "what it can hold survives from $format" "$WORK/before.$format" "$WORK/after"
	fi
	ok "sparse keeps its holes from $format" test "$(stat -c %b "$(layer meta:$format)/sparse")" -lt 64
done
gzip -c "$WORK/posix.tar" | "$BULKHEAD" import - meta:gz >/dev/null
is "$(layer meta:gz)" "$(layer meta:posix)" "the same archive in gzip is the same layer"

# Inside a container: file capabilities count, setuid is seen, and the copy-up keeps attributes.
run "$BULKHEAD" run --rm meta:1 /bin/busybox stat -c '%a %u:%g' /setuid /big-owner
is "$status:$out" "0:6755 1000:1001"$'\n'"644 3000000000:4000000000" "seen from inside"

# Our archives are good for others.
digest=$(tar -xOf "$WORK/meta.tar" manifest.json | jq -r '.[0].Layers[0]')
tar -xOf "$WORK/meta.tar" "$digest" >"$WORK/layer.tar"
mkdir "$WORK/gnu"
tar -C "$WORK/gnu" --xattrs --xattrs-include='*' --numeric-owner -xpf "$WORK/layer.tar" 2>/dev/null
describe "$WORK/gnu" >"$WORK/after"
compare "GNU tar reads our layer in full" "$WORK/before" "$WORK/after"
ok "Python reads it" python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).getmembers()' "$WORK/layer.tar"

done_testing
