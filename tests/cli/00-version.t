#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The program starts, and a wrong command line is told in one line with the documented exit code.
. "$(dirname "$0")/../lib.sh"

run_is 0 "version ends with 0" "$BULKHEAD" version
like "$out" '^bulkhead version [0-9]+\.[0-9]+\.[0-9]+' "version names itself"
run_is 0 "version --format json" "$BULKHEAD" version --format json
like "$out" '^\{"Version":"[0-9.]+".*\}$' "version as JSON is one object"
run_is 125 "an unknown verb ends with 125" "$BULKHEAD" no-such-verb
is "$err" "bulkhead: 'no-such-verb' is not a bulkhead command; see 'bulkhead --help'" "an unknown verb is named"
run_is 125 "an unknown flag ends with 125" "$BULKHEAD" version --no-such-flag
is "$(wc -l <"$WORK/.err")" 1 "the error is one line"
is "$(busybox_tar | tail -c 12)" "busybox.tar" "the busybox tar is made"
ok "the busybox tar has a shell" tar -tf "$(busybox_tar)" ./bin/sh
done_testing
