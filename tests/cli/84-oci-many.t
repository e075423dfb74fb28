#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
# Many containers at once: 200 from eight callers, none lost, all of them gone afterwards.
. "$(dirname "$0")/../lib.sh"

oci=$BUILD/bulkhead-oci
each=25
[ -n "${BH_LAB:-}" ] && each=5 # the software CPU
mkdir -p "$WORK/bundle/rootfs"
tar -xf "$(busybox_tar)" -C "$WORK/bundle/rootfs"
"$oci" spec --bundle "$WORK/bundle"
sed -i 's/"terminal": true/"terminal": false/; s/"sh"/"sleep", "1000"/' "$WORK/bundle/config.json"

caller() {
	local i id
	for ((i = 0; i < each; i++)); do
		id=many-$$-$1-$i
		"$oci" --root "$WORK/state" create --bundle "$WORK/bundle" --pid-file "$WORK/pid-$1-$i" "$id" >/dev/null 2>>"$WORK/errors" </dev/null &&
			"$oci" --root "$WORK/state" start "$id" 2>>"$WORK/errors"
	done
}
for name in a b c d e f g h; do caller $name & done
wait
is "$(cat "$WORK/errors")" "" "no caller hears of an error"
is "$("$oci" --root "$WORK/state" list | grep -c running)" $((8 * each)) "all of them run"
is "$(cat "$WORK"/pid-* | tr -c '0-9\n' '\n' | wc -c)" "$(cat "$WORK"/pid-* | wc -c)" "each has a pid file with a number"
is "$(for file in "$WORK"/pid-*; do cat "$file"; echo; done | sort -u | wc -l)" $((8 * each)) "no two have the same process"
is "$("$oci" --root "$WORK/state" exec many-$$-c-1 echo inside)" inside "one among them answers"

# The same id from all sides at once: one wins.
for name in a b c d e f g h; do
	("$oci" --root "$WORK/state" create --bundle "$WORK/bundle" "same-$$" >/dev/null 2>&1 </dev/null && echo won) &
done >"$WORK/winners"
wait
is "$(cat "$WORK/winners")" won "one of eight callers gets an id"

"$oci" --root "$WORK/state" list -q | xargs -P 8 -n 1 "$oci" --root "$WORK/state" delete --force >"$WORK/errors" 2>&1
is "$(cat "$WORK/errors")" "" "all are deleted"
is "$("$oci" --root "$WORK/state" list -q)" "" "none is left"
rm -f "$WORK"/pid-*
done_testing
