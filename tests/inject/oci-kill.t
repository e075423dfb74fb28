#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
# kill -9 of bulkhead-oci at its first, middle and last call of each system call that create, start, exec, run and delete make,
# alone and together with its first process. Then `delete --force`: no state, cgroup, process or mount is left, and the id can be
# used again. oci.py does the work.
. "$(dirname "$0")/../lib.sh"

has strace || skip_all "strace is not installed"
has python3 || skip_all "python3 is not installed"
strace -o /dev/null true 2>/dev/null || skip_all "ptrace is not allowed here"
mkdir "$WORK/kill"
take_results python3 "$TESTS/inject/oci.py" kill "$WORK/kill" "$BUILD/bulkhead-oci"
done_testing
