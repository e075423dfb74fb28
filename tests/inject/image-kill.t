#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# kill -9 at any moment of load and rmi, and many of them at once: the store never shows half an image, and the next
# command cleans up.
. "$(dirname "$0")/../lib.sh"

need_busybox
mkdir "$WORK/more"
for part in 1 2 3; do
	mkdir -p "$WORK/more/data$part"
	for file in $(seq 60); do echo "$part $file" >"$WORK/more/data$part/$file"; done
done
"$BULKHEAD" import "$WORK/more" more:1 >/dev/null
"$BULKHEAD" save -o "$WORK/both.tar" busybox more:1
"$BULKHEAD" rmi busybox more:1 >/dev/null

# Every image that is listed is whole: all its blobs have their digests, all its layers are unpacked.
store_is_sound() {
	local name blob layer
	"$BULKHEAD" images >/dev/null || return 1
	for blob in "$BULKHEAD_ROOT"/content/blobs/sha256/*; do
		[ -e "$blob" ] || continue
		[ "$(sha256sum <"$blob" | cut -d' ' -f1)" = "${blob##*/}" ] || { echo "damaged: $blob" && return 1; }
	done
	for name in $("$BULKHEAD" images --format '{{.Repository}}:{{.Tag}}'); do
		[ "$name" = "<none>:<none>" ] && continue
		for layer in $("$BULKHEAD" image inspect -f '{{join .RootFS.Layers " "}}' "$name"); do
			[ -e "$BULKHEAD_ROOT/layers/${layer#sha256:}/meta.json" ] || { echo "$name without $layer" && return 1; }
		done
		case $name in
		busybox*) [ -x "$BULKHEAD_ROOT/layers/${layer#sha256:}/diff/bin/busybox" ] || return 1 ;;
		more*) [ "$(find "$BULKHEAD_ROOT/layers/${layer#sha256:}/diff" -type f | wc -l)" = 180 ] || { echo "$name is not whole" && return 1; } ;;
		esac
	done
}

killed=0 unsound=0
exec 3>&2 2>/dev/null # bash tells of every kill
for step in $(seq 1 40); do
	timeout -s KILL "$(printf '0.%03d' $((step * 3)))" "$BULKHEAD" load -q -i "$WORK/both.tar" 2>/dev/null
	[ $? -eq 137 ] && killed=$((killed + 1))
	store_is_sound || unsound=$((unsound + 1))
	# Half the time what was loaded goes again, also under fire.
	[ $((step % 2)) -eq 0 ] && timeout -s KILL "$(printf '0.%03d' $((step % 8 + 1)))" "$BULKHEAD" rmi -f busybox more:1 >/dev/null 2>&1
	store_is_sound || unsound=$((unsound + 1))
done
exec 2>&3 3>&-
isnt "$killed" 0 "some loads were killed ($killed of 40)"
is "$unsound" 0 "the store was sound after each kill"
ok "a load that isn't killed works" "$BULKHEAD" load -q -i "$WORK/both.tar"
is "$(ls "$BULKHEAD_ROOT/staging")" "" "and sweeps what the others left"
run "$BULKHEAD" run --rm busybox /bin/echo it runs
is "$status:$out" "0:it runs" "its image runs"

# A removal that is killed must not leave a layer that only looks whole.
mkdir "$WORK/wide"
for folder in $(seq 40); do
	mkdir "$WORK/wide/$folder"
	for file in $(seq 100); do : >"$WORK/wide/$folder/$file"; done
done
"$BULKHEAD" import "$WORK/wide" wide >/dev/null
"$BULKHEAD" save -o "$WORK/wide.tar" wide
unsound=0 killed=0
exec 3>&2 2>/dev/null
for step in $(seq 1 12); do
	timeout -s KILL "$(printf '0.%03d' $((step * 2)))" "$BULKHEAD" rmi -f wide >/dev/null 2>&1
	[ $? -eq 137 ] && killed=$((killed + 1))
	"$BULKHEAD" load -q -i "$WORK/wide.tar"
	layer=$("$BULKHEAD" image inspect -f '{{.GraphDriver.Data.UpperDir}}' wide)
	[ "$(find "$layer" -type f | wc -l)" = 4000 ] || unsound=$((unsound + 1))
done
exec 2>&3 3>&-
isnt "$killed" 0 "some removals were killed ($killed of 12)"
is "$unsound" 0 "what is loaded afterwards is whole"
"$BULKHEAD" rmi -f wide >/dev/null

# Many at once: loads of the same, tags, removals.
for worker in 1 2 3 4; do
	(
		for round in $(seq 8); do
			"$BULKHEAD" load -q -i "$WORK/both.tar" || echo "load failed" >>"$WORK/failures"
			"$BULKHEAD" tag busybox "mine:$worker-$round" 2>/dev/null
			"$BULKHEAD" rmi -f more:1 >/dev/null 2>&1
		done
	) 2>>"$WORK/failures" &
done
wait $(jobs -p)
is "$(cat "$WORK/failures" 2>/dev/null)" "" "loads, tags and removals at once don't hurt each other"
ok "and leave a sound store" store_is_sound
"$BULKHEAD" rmi -f $("$BULKHEAD" images -q | sort -u) >/dev/null
is "$(find "$BULKHEAD_ROOT"/{layers,staging,content/blobs/sha256} -mindepth 1 | wc -l)" 0 "the last rmi leaves nothing"
done_testing
