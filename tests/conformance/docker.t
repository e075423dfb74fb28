#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# Docker reads what `save` writes, and `load` reads what Docker saves. The daemon gets folders, a socket and a network
# namespace of its own.
. "$(dirname "$0")/../lib.sh"

has dockerd && has docker || skip_all "Docker is not installed"

docker_root=$(mktemp -d /var/tmp/bulkhead-docker.XXXXXX)
socket=$docker_root/docker.sock
daemon=

stop_daemon() {
	[ -n "$daemon" ] && kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null
	daemon=
	grep -F "$docker_root" /proc/self/mountinfo | awk '{ print $5 }' | sort -r | while read -r mount; do umount -l "$mount"; done
	rm -rf --one-file-system "$docker_root"
}
trap 'stop_daemon; test_cleanup' EXIT

# A mount and a network namespace: no rules, bridges and mounts on the host.
unshare --net --mount --propagation private \
	dockerd --data-root "$docker_root/data" --exec-root "$docker_root/exec" --pidfile "$docker_root/pid" -H "unix://$socket" \
	--iptables=false --bridge=none --storage-driver overlay2 >"$docker_root/log" 2>&1 &
daemon=$!
d() {
	docker -H "unix://$socket" "$@"
}
if ! within 40 d version; then
	stop_daemon
	skip_all "dockerd doesn't run here"
fi

need_busybox
ok "save as docker-archive" "$BULKHEAD" save -o "$WORK/ours.tar" busybox
run d load -i "$WORK/ours.tar"
is "$status:$out" "0:Loaded image: busybox:latest" "docker loads it"
is "$(d image inspect -f '{{.Id}}' busybox)" "$("$BULKHEAD" image inspect -f '{{.Id}}' busybox)" "under the same id"

# Docker makes an image with several layers, whiteouts, and an opaque folder.
container=$(d create busybox /bin/true)
mkdir "$WORK/context"
cat >"$WORK/context/Dockerfile" <<'EOF'
FROM busybox
COPY one two /data/
COPY three /data/
ENV SHIP=ark
LABEL deck=3
CMD ["/bin/cat", "/data/three"]
EOF
for name in one two three; do echo "$name" >"$WORK/context/$name"; done
d rm "$container" >/dev/null
ok "docker builds an image" d build --network none -q -t built:1 "$WORK/context"
container=$(d create built:1 /bin/true)
d cp "$WORK/context/one" "$container:/data/four" && d commit "$container" built:2 >/dev/null
d rm "$container" >/dev/null
ok "docker saves two images" d save -o "$WORK/theirs.tar" built:1 built:2
run "$BULKHEAD" load -i "$WORK/theirs.tar"
is "$status:$(sort <<<"$out")" "0:Loaded image: built:1"$'\n'"Loaded image: built:2" "we load them"
for name in built:1 built:2; do
	is "$("$BULKHEAD" image inspect -f '{{.Id}}' "$name")" "$(d image inspect -f '{{.Id}}' "$name")" "$name: the same id"
	is "$("$BULKHEAD" image inspect -f '{{json .RootFS.Layers}}' "$name")" "$(d image inspect -f '{{json .RootFS.Layers}}' "$name")" "$name: the same layers"
	is "$("$BULKHEAD" image inspect -f '{{.Config.Env}} {{.Config.Labels}}' "$name")" "$(d image inspect -f '{{.Config.Env}} {{.Config.Labels}}' "$name")" "$name: the same configuration"
done
is "$("$BULKHEAD" history -q built:1 | wc -l)" "$(d history -q built:1 | wc -l)" "as many steps of history"
run "$BULKHEAD" run --rm built:1
is "$status:$out" "0:three" "it runs its command"
run "$BULKHEAD" run --rm built:2 /bin/sh -c 'echo $SHIP; ls /data'
is "$status:$out" "0:ark"$'\n'"four"$'\n'"one"$'\n'"three"$'\n'"two" "its layers lie on each other"
run "$BULKHEAD" load -i "$WORK/theirs.tar"
is "$status" 0 "loading it again changes nothing"
ok "both at once go back" "$BULKHEAD" save -o "$WORK/both.tar" built:1 built:2
d rmi -f built:1 built:2 >/dev/null
run d load -q -i "$WORK/both.tar"
is "$status" 0 "docker takes both back"

# zstd layers are decompressed for Docker.
if has skopeo; then
	ok "a zstd layer comes into the store" skopeo copy -q --dest-compress --dest-compress-format zstd \
		"oci:$BULKHEAD_ROOT/content:busybox:latest" "oci:$BULKHEAD_ROOT/content:packed:1"
	ok "and is saved" "$BULKHEAD" save -o "$WORK/packed.tar" packed:1
	run d load -i "$WORK/packed.tar"
	is "$status:$out" "0:Loaded image: packed:1" "docker loads what was zstd"
fi
stop_daemon
done_testing
