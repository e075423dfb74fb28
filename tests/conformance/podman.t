#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# podman loads what `save` writes, and `load` reads what podman saves, in all its formats.
. "$(dirname "$0")/../lib.sh"

has podman || skip_all "podman is not installed"
folder=$(mktemp -d /var/tmp/bulkhead-podman.XXXXXX)
printf '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]\n' >"$folder/containers.conf"
trap 'p unmount -a >/dev/null 2>&1; umount "$folder/root/overlay" 2>/dev/null; rm -rf --one-file-system "$folder"; test_cleanup' EXIT
p() {
	CONTAINERS_CONF=$folder/containers.conf podman --root "$folder/root" --runroot "$folder/run" --storage-driver overlay \
		--cgroup-manager cgroupfs "$@"
}
p info >/dev/null 2>&1 || skip_all "podman doesn't run here"

need_busybox
for format in docker-archive oci-archive; do
	ok "save as $format" "$BULKHEAD" save --format $format -o "$WORK/ours.tar" busybox
	run p load -q -i "$WORK/ours.tar"
	is "$status:$out" "0:Loaded image: docker.io/library/busybox:latest" "podman loads $format"
	is "sha256:$(p image inspect -f '{{.Id}}' busybox)" "$("$BULKHEAD" image inspect -f '{{.Id}}' busybox)" "under the same id"
	[ $format = docker-archive ] && p rmi -f busybox >/dev/null
done
ok "two images in one archive" eval '"$BULKHEAD" tag busybox other:2 && "$BULKHEAD" save -o "$WORK/two.tar" busybox other:2'
run p load -q -i "$WORK/two.tar"
like "$status:$out" "0:.*docker.io/library/other:2" "podman loads both names"

# podman builds: three layers, one of them removes what another brought.
mkdir "$WORK/context"
echo one >"$WORK/context/one"
cat >"$WORK/context/Containerfile" <<'EOF'
FROM docker.io/library/busybox
COPY one /data/one
COPY one /data/two
LABEL deck=3
CMD ["/bin/ls", "/data"]
EOF
if p build -q --isolation chroot -t there/built:1 "$WORK/context" >/dev/null 2>"$WORK/build.err"; then
	for format in docker-archive oci-archive oci-dir; do
		rm -rf "$WORK/theirs"
		ok "podman saves as $format" p save -q --format $format -o "$WORK/theirs" localhost/there/built:1
		run "$BULKHEAD" load -i "$WORK/theirs"
		is "$status:$out" "0:Loaded image: localhost/there/built:1" "we load $format"
		is "$("$BULKHEAD" image inspect -f '{{.Id}}' localhost/there/built:1)" "sha256:$(p image inspect -f '{{.Id}}' there/built:1)" "under the same id"
		run "$BULKHEAD" run --rm localhost/there/built:1
		is "$status:$out" "0:one"$'\n'"two" "it runs"
		ok "rmi" "$BULKHEAD" rmi localhost/there/built:1
	done
	ok "podman saves two images in one archive" p save -q -m -o "$WORK/multi.tar" localhost/there/built:1 docker.io/library/busybox:latest
	run "$BULKHEAD" load -i "$WORK/multi.tar"
	is "$(printf '%s\n' "$out" | sort)" "Loaded image: busybox:latest"$'\n'"Loaded image: localhost/there/built:1" "we load both"
else
	diag "$(cat "$WORK/build.err")"
	skip "podman can't build here" 17
fi
done_testing
