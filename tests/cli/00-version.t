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
run_is 0 "a family's first word lists it" "$BULKHEAD" vm
like "$out" $'\n  create .*\n  start ' "... each verb"
run_is 0 "... also by alias, with --help" "$BULKHEAD" image --help
like "$out" $'\n  ls +List images\n' "... each alias"
run_is 125 "an unknown verb of a family" "$BULKHEAD" vm no-such-verb
is "$err" "bulkhead: 'vm no-such-verb' is not a bulkhead command; see 'bulkhead vm --help'" "... is named, with where to look"
run_is 0 "a command's help" "$BULKHEAD" vm create --help
like "$out" $'--disk-size BYTES +Of that' "... a line for an option"
like "$out" $'--net none[^\n]*\n {30,}A network' "... two for a long one"
run_is 125 "an unknown flag ends with 125" "$BULKHEAD" version --no-such-flag
is "$(wc -l <"$WORK/.err")" 1 "the error is one line"
"$BULKHEAD" completion bash >"$WORK/completion"
completes() {
	bash -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _bulkhead; echo "${COMPREPLY[*]}"' completes "$WORK/completion" "$@" 2>/dev/null
}
is "$(completes bulkhead v)" "vm version" "completion of a verb"
is "$(completes bulkhead vm st)" "start stats" "... of a family's"
is "$(completes bulkhead vm create --disk-)" "--disk-size" "... of an option"
is "$(busybox_tar | tail -c 12)" "busybox.tar" "the busybox tar is made"
ok "the busybox tar has a shell" tar -tf "$(busybox_tar)" ./bin/sh
done_testing
