#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
# Failing system calls: strace lets the Nth call of each kind fail, in the command, the start stage and the container's
# first process. Whatever fails: the run succeeds all the same (the call had another way, or did not matter), or it ends
# with 125-127 and one line that says what was tried and why; nothing is left in either case.
. "$(dirname "$0")/../lib.sh"

has strace || skip_all "strace is not installed"
strace -o /dev/null true 2>/dev/null || skip_all "ptrace is not allowed here"
need_busybox
b=$BULKHEAD
calls="openat:ENOMEM openat2:ENOSYS openat2:EACCES mkdirat:ENOSPC symlinkat:ENOSPC renameat:EIO fsopen:ENOSYS fsopen:ENOMEM fsconfig:EINVAL
fsmount:ENOMEM move_mount:ENOSYS move_mount:EPERM mount_setattr:ENOSYS mount_setattr:EPERM open_tree:ENOSYS mount:EPERM clone3:ENOSYS clone3:EAGAIN
clone:EAGAIN socketpair:EMFILE pipe2:EMFILE socket:EMFILE bind:EADDRINUSE write:EIO write:ENOSPC read:EIO flock:ENOLCK bpf:EPERM unshare:EPERM
pivot_root:EINVAL sethostname:EPERM capset:EPERM prctl:EPERM seccomp:EINVAL setgroups:EPERM setresuid:EAGAIN setresgid:EAGAIN execve:ENOMEM
execveat:ENOMEM memfd_create:ENOMEM close_range:ENOSYS mknodat:EPERM umount2:EBUSY chdir:EACCES pidfd_open:ENOSYS sendmsg:ENOBUFS recvmsg:EIO
signalfd4:EMFILE getrandom:EIO unlinkat:EBUSY keyctl:ENOSYS setsid:EPERM"

leftovers() {
	local id
	"$b" ps -a >/dev/null 2>&1
	for id in $("$b" ps -aq); do
		"$b" rm -f "$id" >/dev/null 2>&1
	done
	within 5 eval '[ -z "$(our_processes)" ]' || echo "processes: $(our_processes)"
	find "$BULKHEAD_STATE/containers" "$BULKHEAD_ROOT/containers" "$BULKHEAD_ROOT/names" -mindepth 1 -maxdepth 1 2>/dev/null
	our_cgroups
	our_mounts
}

# Only what strace let fail can be wrong: what the calls say of exit status, words and traces.
for call in $calls; do
	bad='' tried=0
	for n in 1 2 3 5 8 13; do
		{ timeout -k 1 20 strace -qq -f -o "$WORK/trace" -e "inject=${call%:*}:error=${call#*:}:when=$n" \
			"$b" run --rm busybox true >"$WORK/out" 2>"$WORK/err" </dev/null; } 2>/dev/null
		status=$?
		grep -q INJECTED "$WORK/trace" || break
		tried=$((tried + 1))
		lines=$(grep -vcE 'bulkhead: warning: |^error from getrandom' "$WORK/err") # the latter are json-c's own words
		[ "${call%:*}" = write ] && [ $status -ne 0 ] && lines=1 # the write that failed may be the one of the message
		# A process that can't even start (libc's own calls) dies by a signal or with 127 before our code runs.
		if [ $status -eq 0 ]; then
			[ "$lines" -eq 0 ] || bad+="call $n: success, but it says: $(cat "$WORK/err")"$'\n'
		elif [ $status -lt 125 ] || [ "$lines" -ne 1 ]; then
			bad+="call $n: exit $status: $(head -c 400 "$WORK/err")"$'\n'
		fi
		left=$(leftovers)
		[ -n "$left" ] && bad+="call $n: left: $left"$'\n'
	done
	if [ -z "$bad" ]; then pass "$call fails ($tried times)"; else fail "$call fails" "$bad"; fi
done
done_testing
