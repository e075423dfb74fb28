#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
# buildah with `--runtime bulkhead-oci`: run in a working container, and a build with RUN.
. "$(dirname "$0")/../lib.sh"

has buildah || skip_all "buildah is not installed"
folder=$(mktemp -d /var/tmp/bulkhead-buildah.XXXXXX)
trap 'b rm -a >/dev/null 2>&1; umount "$folder/root/overlay" 2>/dev/null; rm -rf --one-file-system "$folder"; test_cleanup' EXIT
b() {
	timeout -k 5 60 buildah --root "$folder/root" --runroot "$folder/run" --storage-driver overlay "$@"
}
export BUILDAH_RUNTIME=$BUILD/bulkhead-oci BUILDAH_ISOLATION=oci
b images >/dev/null 2>&1 || skip_all "buildah doesn't run here"

container=$(b from scratch)
b add -q "$container" "$(busybox_tar)" / >/dev/null
b config --env SHIP=ark --workingdir /home "$container"
run b run --network none "$container" -- sh -c 'echo $SHIP:$PWD; exit 4'
is "$status:$out" "4:ark:/home" "run, with its exit code"
run b run --network none "$container" -- no-such-program
isnt "$status" 0 "a missing command"
is "$(b run --network none --user 1000 "$container" -- id -u)" 1000 "a user"
mkdir "$WORK/shared"
b run --network none -v "$WORK/shared:/shared" "$container" -- sh -c 'echo inside >/shared/file'
is "$(cat "$WORK/shared/file")" inside "a volume"
is "$(b run --network none --cap-add CAP_SYS_ADMIN "$container" -- sh -c 'mount -t tmpfs none /tmp && echo mounted')" mounted "a capability"
b commit -q --rm "$container" base >/dev/null

mkdir "$WORK/context"
cat >"$WORK/context/Containerfile" <<'EOF'
FROM localhost/base
RUN echo built by $(id -u) >/built && test -e /proc/self/status
USER 1000
RUN id -u >/tmp/user
CMD ["cat", "/built"]
EOF
run b bud -q --network none -t localhost/built "$WORK/context"
is "$status" 0 "a build with RUN" "$err"
container=$(b from localhost/built)
is "$(b run --network none "$container" -- cat /built /tmp/user | tr '\n' ' ')" "built by 0 1000 " "what it built"
b rm -a >/dev/null
done_testing
