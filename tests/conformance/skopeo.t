#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The store is an OCI image layout: skopeo reads and writes it as it stands, and our archives.
. "$(dirname "$0")/../lib.sh"

has skopeo || skip_all "skopeo is not installed"
need_busybox
content=oci:$BULKHEAD_ROOT/content

run_is 0 "skopeo inspects the store" skopeo inspect "$content:busybox:latest"
like "$out" "sha256:$(basename "$(ls -d "$BULKHEAD_ROOT"/layers/*)")" "and sees the layer"
is "$(skopeo inspect --config "$content:busybox:latest" | sha256sum | cut -c1-12)" \
	"$(skopeo inspect --config "$content:busybox:latest" | sha256sum | cut -c1-12)" "reading doesn't change it"

for format in docker-archive oci-archive; do
	ok "save as $format" "$BULKHEAD" save --format $format -o "$WORK/$format.tar" busybox
	ok "skopeo reads $format" skopeo inspect "$format:$WORK/$format.tar"
	is "$(skopeo inspect --config --raw "$format:$WORK/$format.tar" | sha256sum | cut -d' ' -f1)" \
		"$("$BULKHEAD" image inspect -f '{{slice .Id 7}}' busybox)" "$format: the configuration is the same bytes"
done
ok "the docker-archive is an OCI layout too" skopeo inspect "oci-archive:$WORK/docker-archive.tar:latest"

# Every form that skopeo writes, with every compression of layers.
number=0
for form in "oci-archive:$WORK/a%s.tar:there/theirs:%s" "docker-archive:$WORK/d%s.tar:there/theirs:%s" "oci:$WORK/o%s:there/theirs:%s"; do
	for compression in none gzip zstd; do
		number=$((number + 1))
		target=${form//%s/$number}
		path=${target#*:} path=${path%%:*}
		case $compression in
		none) options=(--dest-decompress) ;;
		*) options=(--dest-compress --dest-compress-format "$compression") ;;
		esac
		[[ $target == docker-archive* ]] && options=()
		if ! skopeo copy -q "${options[@]}" "$content:busybox:latest" "$target" >/dev/null 2>&1; then
			skip "this skopeo can't write ${target%%:*} with $compression" 3
			continue
		fi
		run "$BULKHEAD" --root "$WORK/root$number" load -i "$path"
		is "$status:$out" "0:Loaded image: there/theirs:$number" "load ${target%%:*}, layers $compression"
		is "$("$BULKHEAD" --root "$WORK/root$number" image inspect -f '{{json .RootFS}}' there/theirs:$number)" \
			"$("$BULKHEAD" image inspect -f '{{json .RootFS}}' busybox)" "the same layers"
		run "$BULKHEAD" --root "$WORK/root$number" --state "$BULKHEAD_STATE" run --rm there/theirs:$number /bin/echo it runs
		is "$status:$out" "0:it runs" "it runs"
		rm -rf "${WORK:?}/root$number" "$path"
	done
done
for pipe in cat gzip zstd; do
	skopeo copy -q "$content:busybox:latest" "oci-archive:$WORK/pipe.tar:piped:$pipe"
	out=$(case $pipe in cat) cat ;; *) $pipe -c ;; esac <"$WORK/pipe.tar" | "$BULKHEAD" load 2>&1)
	is "$out" "Loaded image: piped:$pipe" "load from a pipe, the archive through $pipe"
	rm "$WORK/pipe.tar"
done

# Into the store.
ok "skopeo writes into the store" skopeo copy -q "docker-archive:$WORK/docker-archive.tar" "$content:by-skopeo"
run "$BULKHEAD" run --rm by-skopeo /bin/echo it runs
is "$status:$out" "0:it runs" "an image with a bare tag for a name runs"
like "$("$BULKHEAD" images by-skopeo)" "by-skopeo +latest" "and is listed"
ok "one with a blob in zstd" skopeo copy -q --dest-compress --dest-compress-format zstd "docker-archive:$WORK/docker-archive.tar" "$content:new/zstd:2"
run "$BULKHEAD" run --rm new/zstd:2 /bin/echo it runs
is "$status:$out" "0:it runs" "runs too"
ok "our name survives" skopeo inspect "$content:busybox:latest"
ok "skopeo deletes nothing that we need" "$BULKHEAD" rmi by-skopeo
run "$BULKHEAD" run --rm busybox /bin/echo still
is "$status:$out" "0:still" "the first image still runs"

# A damaged blob is noticed at the next use.
blob=$BULKHEAD_ROOT/content/blobs/sha256/$("$BULKHEAD" image inspect -f '{{slice .Id 7}}' busybox)
cp "$blob" "$WORK/blob"
printf x >>"$blob"
run "$BULKHEAD" image inspect busybox
like "$err" "damaged in the store" "a blob that was changed is noticed"
cp "$WORK/blob" "$blob"

# And an archive whose blob isn't what its name says.
mkdir "$WORK/layout"
tar -xf "$WORK/oci-archive.tar" -C "$WORK/layout"
layer=$(find "$WORK/layout/blobs" -type f -size +100k)
printf '\0' | dd of="$layer" bs=1 seek=5000 conv=notrunc 2>/dev/null
printf 'changed' | dd of="$layer" bs=1 seek=6000 conv=notrunc 2>/dev/null
tar -C "$WORK/layout" -cf "$WORK/changed.tar" .
for input in "$WORK/changed.tar" "$WORK/layout"; do
	run "$BULKHEAD" --root "$WORK/other" load -i "$input"
	is "$status" 1 "a layer with other content is refused ($(basename "$input"))"
	like "$err" "damaged: its content has the digest" "and the reason is named"
	is "$(ls -A "$WORK/other/layers" "$WORK/other/staging" "$WORK/other/content/blobs/sha256" | grep -c '^[0-9a-f]')" 0 "nothing of it is left"
done
rm -rf "$WORK/other" "$WORK/layout"
done_testing
