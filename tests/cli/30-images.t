#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The image verbs: import, images, tag, save, load, history, image inspect, rmi.
. "$(dirname "$0")/../lib.sh"

tar=$(busybox_tar)
b() {
	"$BULKHEAD" "$@"
}
objects() {
	find "$BULKHEAD_ROOT/content/blobs" "$BULKHEAD_ROOT/layers" -mindepth 1 -maxdepth 2 | wc -l
}

# An empty store.
run b images
is "$status:$out" "0:REPOSITORY   TAG   IMAGE ID   CREATED   SIZE" "an empty list has its heading"
run b images -q
is "$status:$out" "0:" "and no ids"
run b images --format json
is "$status:$out" "0:" "and no JSON"
empty=$(objects)

# import
run b import -m "a message" -c 'CMD ["/bin/sh"]' -c 'ENV A=b C="d e"' -c 'ENV OLD form of it' -c 'LABEL com.example.x=1 "two words"="3 4"' \
	-c 'WORKDIR /home' -c 'USER 1000:1000' -c 'EXPOSE 80 53/udp' -c 'VOLUME /data "/more data"' -c 'STOPSIGNAL SIGINT' \
	-c 'ENTRYPOINT ["/bin/busybox","env"]' -c 'cmd echo hello' "$tar" there.example:5000/team/box:v1
is "$status" 0 "import"
like "$out" '^sha256:[0-9a-f]{64}$' "prints the id"
id=$out
inspect() {
	b image inspect -f "$1" there.example:5000/team/box:v1
}
is "$(inspect '{{.Id}}')" "$id" "the id is the image's"
is "$(inspect '{{json .RepoTags}}')" '["there.example:5000/team/box:v1"]' "RepoTags"
is "$(inspect '{{.Config.Env}}')" "[A=b C=d e OLD=form of it]" "--change ENV"
is "$(inspect '{{index .Config.Labels "com.example.x"}}{{index .Config.Labels "two words"}}')" "13 4" "--change LABEL"
is "$(inspect '{{.Config.WorkingDir}} {{.Config.User}} {{.Config.StopSignal}}')" "/home 1000:1000 SIGINT" "--change WORKDIR, USER, STOPSIGNAL"
is "$(inspect '{{json .Config.ExposedPorts}}')" '{"80/tcp":{},"53/udp":{}}' "--change EXPOSE"
is "$(inspect '{{json .Config.Volumes}}')" '{"/data":{},"/more data":{}}' "--change VOLUME"
is "$(inspect '{{json .Config.Entrypoint}}{{json .Config.Cmd}}')" '["/bin/busybox","env"]["/bin/sh","-c","echo hello"]' "--change ENTRYPOINT, CMD"
is "$(inspect '{{.Os}}/{{.Architecture}} {{.Comment}}')" "linux/$(case $(uname -m) in x86_64) echo amd64 ;; aarch64) echo arm64 ;; *) uname -m ;; esac) a message" "platform and message"
is "$(inspect '{{len .RootFS.Layers}} {{.GraphDriver.Name}}')" "1 overlay" "one layer"
for bad in 'RUN true' 'ENV' 'EXPOSE 99999' 'LABEL novalue' 'CMD' ''; do
	run b import -c "$bad" "$tar" bad
	is "$status" 1 "--change '$bad' is refused"
	like "$err" "^bulkhead: .*--change" "in words"
done
for bad in UPPER 'a:b:c' 'a/' '/a' 'a..b/c' 'a@sha256:12' '-x' 'a:' 'a b'; do
	run b import "$tar" "$bad"
	isnt "$status" 0 "the name '$bad' is refused"
done
run b import /nonexistent x
is "$status:$err" "1:bulkhead: open /nonexistent: No such file or directory" "a missing file"
run b import
is "$status" 125 "wrong usage"

# The same root file system in every form.
for form in plain gzip zstd pipe folder; do
	case $form in
	plain) run b import "$tar" "form:$form" ;;
	gzip) gzip -c "$tar" >"$WORK/packed" && run b import "$WORK/packed" "form:$form" ;;
	zstd) zstd -qc "$tar" >"$WORK/packed" && run b import "$WORK/packed" "form:$form" ;;
	pipe) out=$(gzip -c "$tar" | b import - "form:$form") status=$? ;;
	folder) mkdir "$WORK/folder" && tar -xf "$tar" -C "$WORK/folder" && run b import "$WORK/folder" "form:$form" ;;
	esac
	is "$status" 0 "import $form"
	run b run --rm "form:$form" /bin/echo it runs
	is "$status:$out" "0:it runs" "and it runs"
done
is "$(ls "$BULKHEAD_ROOT/layers" | wc -l)" 2 "equal layers are unpacked once"

# images
b tag form:plain busybox
run b images
like "$out" "^REPOSITORY +TAG +IMAGE ID +CREATED +SIZE" "heading"
like "$out" "there.example:5000/team/box +v1 +${id:7:12} +(Less than a second|[0-9]+ seconds?) ago +[0-9.]+[kM]B" "a row"
is "$(b images -q --no-trunc there.example:5000/team/box)" "$id" "by repository"
is "$(b images --format '{{.Tag}}' form | sort | tr '\n' ' ')" "folder gzip pipe plain zstd " "by repository, as a template"
is "$(b images --format '{{.Tag}}' form:gzip)" gzip "by repository and tag"
is "$(b images --format '{{.Tag}}' --filter 'reference=form:*z*' | sort | tr '\n' ' ')" "gzip zstd " "--filter reference"
is "$(b images -q --filter label=com.example.x=1 --no-trunc)" "$id" "--filter label"
is "$(b images -q --filter label=com.example.x=2)" "" "--filter label, other value"
is "$(b images -q -f dangling=true)" "" "--filter dangling"
run b images -f nonsense=1
is "$status:$err" "1:bulkhead: invalid filter 'nonsense'" "an unknown filter"
like "$(b images --digests busybox)" "busybox +latest +sha256:[0-9a-f]{64} " "--digests"
like "$(b images --format json busybox)" '^\{.*"ID":"[0-9a-f]{12}".*"Repository":"busybox".*\}$' "--format json"
like "$(b images --format 'table {{.Tag}}\t{{.Repository}}' busybox)" "^TAG +REPOSITORY"$'\n'"latest +busybox" "--format table"
run b images --format '{{.Tag'
like "$status:$err" "^1:bulkhead: template parsing error: " "a bad template"
is "$(b image ls -q busybox)" "$(b images -q busybox)" "image ls"

# Ids and digests as names.
is "$(b image inspect -f '{{.Id}}' "${id:7:6}")" "$id" "by a prefix of the id"
is "$(b image inspect -f '{{.Id}}' "$id")" "$id" "by the whole id"
digest=$(b image inspect -f '{{.ManifestDigest}}' busybox)
like "$(b image inspect -f '{{.RepoDigests}}' "busybox@$digest")" "busybox@$digest" "by digest"
is "$(b image inspect -f '{{.Id}}' docker.io/library/busybox:latest)" "$(b image inspect -f '{{.Id}}' busybox)" "by the full name"
run b image inspect nothing
is "$status:$out:$err" "1:[
]:bulkhead: No such image: nothing" "inspect of nothing"

# history
run b history "$id"
like "$out" "^IMAGE +CREATED +CREATED BY +SIZE +COMMENT"$'\n'"${id:7:12} +.* ago +[0-9.]+[kM]B +a message" "history"
is "$(b history -q --no-trunc "$id")" "$id" "history -q"
like "$(b history --format json "$id")" '"Comment":"a message"' "history --format json"

# save and load
run b save -o "$WORK/saved.tar" busybox there.example:5000/team/box:v1
is "$status:$out" "0:" "save"
is "$(tar -xOf "$WORK/saved.tar" manifest.json | jq -r '.[].RepoTags[]' | tr '\n' ' ')" "docker.io/library/busybox:latest there.example:5000/team/box:v1 " "with both names"
is "$(stat -c %a "$WORK/saved.tar")" 600 "for its owner"
run b save -o "$WORK/none.tar" busybox nothing
is "$status:$err" "1:bulkhead: No such image: nothing" "save of nothing"
nok "and no file is left" test -e "$WORK/none.tar"
run b save -o "$WORK/no/folder" busybox
is "$status" 1 "save into a missing folder"
is "$(script -qec "'$BULKHEAD' save busybox; echo \$?" /dev/null | tr -d '\r' | tail -n 1)" 1 "save refuses a terminal"
like "$(script -qec "'$BULKHEAD' load; echo \$?" /dev/null </dev/null | tr -d '\r')" "terminal" "and so does load"
run b --root "$WORK/other" load -q -i "$WORK/saved.tar"
is "$status:$out" "0:" "load -q"
is "$(b --root "$WORK/other" image inspect -f '{{.Id}} {{.ManifestDigest}}' busybox)" "$(b image inspect -f '{{.Id}} {{.ManifestDigest}}' busybox)" "same id and manifest"
run b --root "$WORK/other" load -i "$WORK/saved.tar"
is "$status:$out" "0:Loaded image: busybox:latest"$'\n'"Loaded image: there.example:5000/team/box:v1" "load again"
is "$(ls "$WORK/other/staging")" "" "nothing is left in staging"
b save "${id:7:12}" | b --root "$WORK/third" load >"$WORK/loaded"
is "$(cat "$WORK/loaded")" "Loaded image ID: $id" "an image saved by its id has no name"
like "$(b --root "$WORK/third" images)" "<none> +<none> +${id:7:12}" "and is listed so"
for length in 100 1000 100000 1000000; do
	run bash -c 'head -c '$length' "$1" | "$2" --root "$3" load' - "$WORK/saved.tar" "$BULKHEAD" "$WORK/cut"
	is "$status:$(printf '%s\n' "$err" | wc -l)" "1:1" "an archive cut at $length bytes is refused in one line"
	is "$(find "$WORK/cut" -mindepth 2 -type f ! -path '*/content/*.json' ! -name oci-layout | wc -l)" 0 "and leaves nothing"
done
run b load -i "$tar"
like "$status:$err" "^1:bulkhead: load .*not an image archive.*bulkhead import" "a root file system is no image archive"
rm -rf "$WORK/other" "$WORK/third" "$WORK/cut"

# tag and rmi
run b tag busybox again:1
is "$status" 0 "tag"
run b tag nothing x
is "$status:$err" "1:bulkhead: No such image: nothing" "tag of nothing"
run b tag busybox Upper
is "$status" 1 "tag to a bad name"
run b rmi again:1
is "$status:$out" "0:Untagged: again:1" "rmi of one of several names"
run b rmi nothing
is "$status:$err" "1:bulkhead: No such image: nothing" "rmi of nothing"
run b rmi -f nothing
is "$status" 0 "rmi -f of nothing"
box=$(b image inspect -f '{{slice .Id 7 19}}' busybox)
run b rmi "$box"
like "$status:$err" "^1:bulkhead: conflict: .*must be forced.*multiple repositories" "rmi by id of an image with two names"
container=$(b create busybox /bin/true)
run b rmi busybox form:plain
like "$status:$err" "1:bulkhead: conflict: unable to remove .*container .* is using" "rmi of an image that a container uses"
run b rmi -f busybox form:plain
is "$status" 0 "rmi -f"
run b start -a "$container"
is "$status" 0 "the container still runs"
b rm "$container" >/dev/null
run b rmi "$id"
is "$status:$out" "0:Untagged: there.example:5000/team/box:v1"$'\n'"Deleted: $id" "rmi by id"
b tag form:gzip moved
isnt "$(b image inspect -f '{{.Id}}' moved)" "$(b image inspect -f '{{.Id}}' form:folder)" "two images"
is "$(b import "$tar" moved)" "$(b image inspect -f '{{.Id}}' moved)" "import takes over a name"
run b rmi $(b images -q | sort -u) -f
is "$status" 0 "all at once"
is "$(objects)" "$empty" "nothing is left of blobs and layers"
is "$(b images -q)" "" "nor of names"

# A process that dies in the middle leaves nothing that counts, and the next one cleans up.
mkdir "$BULKHEAD_ROOT/staging/image-1-1" && touch "$BULKHEAD_ROOT/staging/image-1-1/x"
mkdir -p "$BULKHEAD_ROOT/layers/$(printf '%064d' 0)/diff"
b import "$tar" busybox >/dev/null
is "$(ls "$BULKHEAD_ROOT/staging")" "" "what a dead process staged is swept"
mkfifo "$WORK/fifo"
exec 9<>"$WORK/fifo"
"$BULKHEAD" import - half <"$WORK/fifo" 9<&- &
pid=$!
cat "$tar" >&9
within 5 eval 'ls "$BULKHEAD_ROOT"/staging/image-*/layers/*/diff/bin >/dev/null 2>&1'
kill -9 $pid
wait $pid 2>/dev/null
exec 9<&-
run b rmi half
is "$status:$err" "1:bulkhead: No such image: half" "an import that was killed made no image"
ok "its helper has ended with it" within 5 eval '! pgrep -P 1,$$ -x bulkhead-image >/dev/null'
b import "$tar" busybox >/dev/null
is "$(ls "$BULKHEAD_ROOT/staging")" "" "and is swept"
is "$(b images --format '{{.Repository}}:{{.Tag}}' | sort | tr '\n' ' ')" "<none>:<none> busybox:latest " "an image whose name was taken stays without one"
b rmi -f $(b images -q | sort -u) >/dev/null
is "$(objects)" "$empty" "and left nothing"

done_testing
