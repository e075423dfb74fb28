#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
# Failing system calls of bulkhead-oci: every one that create, start, exec, run and delete make fails once, each of its first
# occurrences with ENOSYS, ENOMEM, EPERM and EIO. The command succeeds all the same and the container is right, or it ends with
# one line of error; nothing is left, after a failed create or run even without `delete`. Then whole lives of a container on
# kernels that lack the newer calls. oci.py does the work.
. "$(dirname "$0")/../lib.sh"

has strace || skip_all "strace is not installed"
has python3 || skip_all "python3 is not installed"
strace -o /dev/null true 2>/dev/null || skip_all "ptrace is not allowed here"
for mode in fail without; do
	mkdir "$WORK/$mode"
	take_results python3 "$TESTS/inject/oci.py" "$mode" "$WORK/$mode" "$BUILD/bulkhead-oci"
done
done_testing
