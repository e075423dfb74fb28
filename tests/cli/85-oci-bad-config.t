#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# More than 500 malformed and hostile bundles (hostile_config.py), each of which `bulkhead-oci run` has to refuse in one line, or to
# run rightly; nothing is left. `tools/check sanitize` does the same with the sanitizers.
. "$(dirname "$0")/../lib.sh"

has python3 || skip_all "python3 is not installed"
has gcc || skip_all "gcc is not installed"
mkdir "$WORK/hostile"
take_results python3 "$TESTS/hostile_config.py" all "$WORK/hostile" "$BUILD/bulkhead-oci"

# Deeper and larger than a test should write: what the reader refuses before it looks.
mkdir "$WORK/large"
truncate -s 1T "$WORK/large/config.json"
run_is 1 "a config.json of a terabyte" timeout -k 1 10 "$BUILD/bulkhead-oci" --root "$TEST_STATE/oci" run -b "$WORK/large" bulkhead-large
is "$(wc -l <<<"$err")" 1 "is refused in one line"
rm "$WORK/large/config.json"
for kind in "mkfifo config.json" "mkdir config.json" "ln -s config.json config.json" "ln -s /dev/zero config.json" "ln -s /proc/self/mem config.json"; do
	(cd "$WORK/large" && $kind)
	run_is 1 "config.json by '$kind'" timeout -k 1 10 "$BUILD/bulkhead-oci" --root "$TEST_STATE/oci" run -b "$WORK/large" bulkhead-large
	is "$(wc -l <<<"$err")" 1 "is refused in one line"
	rm -rf "$WORK/large/config.json"
done
for id in "" . .. a/b ../x "a b" "$(printf 'x%.0s' {1..300})" $'a\nb' '*'; do
	run_is 1 "the id $(printf %.20q "$id")" timeout -k 1 10 "$BUILD/bulkhead-oci" --root "$TEST_STATE/oci" run -b "$WORK/large" "$id"
done
rmdir "$TEST_STATE/oci" 2>/dev/null
done_testing
