#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# -v, --mount, --tmpfs, volumes.
. "$(dirname "$0")/../lib.sh"
need_busybox
b=$BULKHEAD
inside() { "$b" run --rm "$@"; }
mkdir "$WORK/host"
echo content >"$WORK/host/file"

is "$(inside -v "$WORK/host:/mnt" busybox cat /mnt/file)" content "-v binds a folder"
inside -v "$WORK/host:/mnt" busybox sh -c 'echo written >/mnt/new'
is "$(cat "$WORK/host/new")" written "and what is written arrives"
nok ":ro can't be written" inside -v "$WORK/host:/mnt:ro" busybox touch /mnt/x
is "$(inside -v "$WORK/host/file:/etc/deep/er/file" busybox cat /etc/deep/er/file)" content "-v binds a file, on a path that is made"
inside -v "$WORK/made/by/us:/mnt" busybox true
ok "-v makes a missing host folder" test -d "$WORK/made/by/us"
run_is 125 "--mount does not" "$b" run --rm --mount "type=bind,src=$WORK/nothing,dst=/mnt" busybox true
like "$err" 'bind source path does not exist' "and says so"
is "$(inside --mount "type=bind,src=$WORK/host,dst=/mnt,readonly" busybox sh -c 'cat /mnt/file; touch /mnt/x 2>/dev/null || echo ro' | tr '\n' ' ')" "content ro " "--mount readonly"
is "$(inside --tmpfs /t:size=1m busybox df -k /t | awk 'NR > 1 { print $2 }')" 1024 "--tmpfs with a size"
is "$(inside --mount type=tmpfs,dst=/t,tmpfs-size=2m busybox df -k /t | awk 'NR > 1 { print $2 }')" 2048 "--mount type=tmpfs"
nok "a tmpfs is noexec by default" inside --tmpfs /t busybox sh -c 'cp /bin/busybox /t/busybox && /t/busybox true'
for bad in ':/x' 'relative' '/a:/b:/c:/d' '/a:b' '/a:/' '/a:/b:nosuchmode' 'bad*name:/x'; do
	run_is 125 "-v $bad is refused" "$b" run --rm -v "$bad" busybox true
done
run_is 125 "--mount with an unknown key is refused" "$b" run --rm --mount type=bind,src=/tmp,dst=/x,nosuch=1 busybox true

# Volumes
inside -v data:/data busybox sh -c 'echo kept >/data/file'
is "$(inside -v data:/data busybox cat /data/file)" kept "a named volume keeps its content"
is "$(inside -v home:/root busybox ls -A /root | wc -l)" 0 "a new volume takes what the image has there"
is "$(inside -v etc:/etc busybox head -c 5 /etc/passwd)" root: "with its files"
is "$(inside -v etc2:/etc:nocopy busybox ls /etc | grep -c passwd)" 0 "nocopy"
"$b" run --name anon -v /anon busybox sh -c 'echo x >/anon/file'
source=$("$b" inspect -f '{{range .Mounts}}{{.Source}}{{end}}' anon)
ok "an anonymous volume is there" test -e "$source/file"
"$b" rm -v anon >/dev/null
nok "rm -v removes it" test -e "$source"
inside -v /anon busybox true
is "$(ls "$BULKHEAD_ROOT/volumes" | grep -cE '^[0-9a-f]{64}$')" 0 "--rm leaves no anonymous volume"
run_is 125 "a failing create leaves no anonymous volume" "$b" run --rm -v /anon --cidfile /nosuchfolder/x busybox true
is "$(ls "$BULKHEAD_ROOT/volumes" | grep -cE '^[0-9a-f]{64}$')" 0 "really none"
"$b" run --name insp -v "$WORK/host:/mnt:ro" busybox true
is "$("$b" inspect -f '{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}}{{end}}' insp)" "bind /mnt false" "inspect shows Mounts"
"$b" rm insp >/dev/null

# A hostile image: links where mounts go must not lead out of the root.
mkdir -p "$WORK/evil"
(cd "$WORK/evil" && mkdir bin && cp /bin/busybox bin/sh && ln -s "$WORK/host" mnt && ln -s / dev && ln -s /etc proc)
"$b" import "$WORK/evil" evil >/dev/null
before=$(ls -A "$WORK/host")
run "$b" run --rm -v "$WORK/made:/mnt/sub" evil sh -c 'true'
isnt "$status" 0 "an image whose /dev or /proc is a link does not start"
is "$(grep -c . <<<"$err")" 1 "with one line of reason"
is "$(ls -A "$WORK/host")" "$before" "and nothing outside was touched"
done_testing
