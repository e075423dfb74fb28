#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# umoci works on the store and on layouts that we load.
. "$(dirname "$0")/../lib.sh"

has umoci || skip_all "umoci is not installed"
need_busybox
content=$BULKHEAD_ROOT/content

is "$(umoci ls --layout "$content")" busybox:latest "umoci lists our names"
ok "umoci reads the image" umoci stat --image "$content:busybox:latest"
ok "umoci unpacks it" umoci unpack --image "$content:busybox:latest" "$WORK/bundle"
is "$(ls "$WORK/bundle/rootfs")" "$(ls "$("$BULKHEAD" image inspect -f '{{.GraphDriver.Data.UpperDir}}' busybox)")" "to what we unpacked"

# umoci makes a second layer: a new file, a changed one, one that is gone, an opaque folder.
echo new >"$WORK/bundle/rootfs/etc/new"
echo changed >"$WORK/bundle/rootfs/etc/group"
rm "$WORK/bundle/rootfs/etc/passwd"
rm -r "$WORK/bundle/rootfs/var/www" && mkdir "$WORK/bundle/rootfs/var/www"
setfattr -n user.mark -v 1 "$WORK/bundle/rootfs/etc/new" 2>/dev/null
ok "umoci packs a layer into the store" umoci repack --image "$content:second" "$WORK/bundle"
ok "and changes the configuration" umoci config --image "$content:second" --config.cmd /bin/cat --config.cmd /etc/new --config.env SHIP=ark
run "$BULKHEAD" run --rm second
is "$status:$out" "0:new" "the image that umoci made runs its command"
run "$BULKHEAD" run --rm second /bin/sh -c 'echo $SHIP; cat /etc/group; test -e /etc/passwd || echo gone'
is "$status:$out" "0:ark"$'\n'"changed"$'\n'"gone" "with the whiteouts as they were meant"
is "$("$BULKHEAD" image inspect -f '{{len .RootFS.Layers}}' second)" 2 "it has two layers"
like "$("$BULKHEAD" images)" "second +latest" "it is listed"

ok "umoci gives a further name" umoci tag --image "$content:second" third
run "$BULKHEAD" run --rm third /bin/true
is "$status" 0 "which is known"
ok "rmi of one name" "$BULKHEAD" rmi second
is "$(umoci ls --layout "$content" | sort | tr '\n' ' ')" "busybox:latest third " "umoci sees that"
ok "umoci's garbage collection finds a sound store" umoci gc --layout "$content"
run "$BULKHEAD" run --rm third /bin/true
is "$status" 0 "and takes nothing that is needed"

# A layout of its own, as folder and as archive.
ok "a new layout" umoci init --layout "$WORK/layout"
ok "with an image" umoci new --image "$WORK/layout:fresh"
rm -rf "$WORK/bundle"
ok "unpacked" umoci unpack --image "$WORK/layout:fresh" "$WORK/bundle"
mkdir "$WORK/bundle/rootfs/bin" && cp /bin/busybox "$WORK/bundle/rootfs/bin/"
ok "filled" umoci repack --image "$WORK/layout:fresh" "$WORK/bundle"
tar -C "$WORK/layout" -cf "$WORK/layout.tar" .
for input in "$WORK/layout" "$WORK/layout.tar"; do
	run "$BULKHEAD" load -i "$input"
	is "$status:$out" "0:Loaded image: fresh:latest" "load it ($(basename "$input"))"
	run "$BULKHEAD" run --rm fresh /bin/busybox echo it runs
	is "$status:$out" "0:it runs" "and run it"
	ok "and remove it" "$BULKHEAD" rmi fresh
done
done_testing
