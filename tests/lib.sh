# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What every test script (*.t) shares. A script begins with
#
#	#!/bin/bash
#	. "$(dirname "$0")/../lib.sh"
#
# and ends with done_testing. It gets
#
#	$BULKHEAD         the program under test            $BUILD   the folder with all programs
#	$BULKHEAD_ROOT    a --root of its own (exported)    $WORK    an empty folder of its own
#	$BULKHEAD_STATE   a --state of its own (exported)
#
# Checks: ok, is, isnt, like, unlike, run_is; `run` keeps what a command did in $status, $out and $err.
# done_testing is itself a check: nothing of the script may be left (containers, processes, mounts, cgroups, files).
# Scripts run on the host and inside the lab (tests/lab), where only bash, busybox and the programs exist.

set -u
LC_ALL=C
TZ=UTC
export LC_ALL TZ
umask 022

TESTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOP=$(dirname "$TESTS")
BUILD=${BH_BUILD:-$TOP/build}
BULKHEAD=$BUILD/bulkhead
# Slow machines (the lab's software CPU) multiply every time limit of a test by this.
SCALE=${BH_TEST_TIMEOUT_SCALE:-1}

test_number=0
test_failures=0
test_finished=0
status=0 out='' err='' last_run=''

diag() {
	local line
	while IFS= read -r line; do
		printf '#   %s\n' "$line"
	done <<<"$*"
}

# pass DESCRIPTION / fail DESCRIPTION [DIAGNOSTIC...]; the first failure behind a `run` tells what that command said.
pass() {
	test_number=$((test_number + 1))
	printf 'ok %d - %s\n' "$test_number" "${1//#/}"
}

fail() {
	test_number=$((test_number + 1))
	test_failures=$((test_failures + 1))
	printf 'not ok %d - %s\n' "$test_number" "${1//#/}"
	shift
	local text
	for text; do
		diag "$text"
	done
	if [ -n "$last_run" ]; then
		diag "the last command that was run: $last_run" "status $status, standard error: $(head -c 2000 "$WORK/.err" 2>/dev/null)"
		last_run=
	fi
	return 1
}

# ok DESCRIPTION COMMAND...: the command must succeed.
ok() {
	local name=$1 output
	shift
	if output=$("$@" 2>&1); then pass "$name"; else fail "$name" "failed ($?): $*" "$output"; fi
}

# nok DESCRIPTION COMMAND...: the command must fail.
nok() {
	local name=$1 output
	shift
	if output=$("$@" 2>&1); then fail "$name" "unexpected success: $*" "$output"; else pass "$name"; fi
}

# is GOT EXPECTED DESCRIPTION
is() {
	if [ "$1" = "$2" ]; then pass "$3"; else fail "$3" "     got: $1" "expected: $2"; fi
}

isnt() {
	if [ "$1" != "$2" ]; then pass "$3"; else fail "$3" "got what it must not be: $1"; fi
}

# like TEXT EXTENDED-REGEX DESCRIPTION; in the regex, . does not stop at newlines
like() {
	if [[ $1 =~ $2 ]]; then pass "$3"; else fail "$3" "         got: $1" "doesn't match: $2"; fi
}

unlike() {
	if [[ $1 =~ $2 ]]; then fail "$3" "    got: $1" "matches: $2"; else pass "$3"; fi
}

# skip REASON [COUNT]: these checks can't run here.
# A reason that begins with "lab:" makes tests/run run the whole script in the lab too.
skip() {
	local count=${2:-1}
	while [ "$count" -gt 0 ]; do
		test_number=$((test_number + 1))
		printf 'ok %d # SKIP %s\n' "$test_number" "$1"
		count=$((count - 1))
	done
}

skip_all() {
	printf '1..0 # SKIP %s\n' "$1"
	test_finished=1
	exit 0
}

# run COMMAND...: sets $status, $out (stdout) and $err (stderr); never stops the script.
run() {
	last_run=$*
	"$@" >"$WORK/.out" 2>"$WORK/.err" </dev/null
	status=$?
	out=$(tr -d '\000' <"$WORK/.out")
	err=$(tr -d '\000' <"$WORK/.err")
	return 0
}

# run_is STATUS DESCRIPTION COMMAND...: as run, and checks the exit status.
run_is() {
	local expected=$1 name=$2
	shift 2
	run "$@"
	if [ "$status" = "$expected" ]; then
		pass "$name"
	else
		fail "$name" "command: $*" "exit status $status, expected $expected" "stdout: $out" "stderr: $err"
	fi
}

# take_results COMMAND...: a test in another language that prints "ok TEXT" or "not ok TEXT" with details behind tabs. It must
# print at least one, and its exit status is a check as well.
take_results() {
	local line text before=$test_number
	while IFS= read -r line; do
		IFS=$'\t' read -ra text <<<"$line"
		case $line in
		'ok '*) pass "${line#ok }" ;;
		'not ok '*) fail "${text[0]#not ok }" "${text[@]:1}" ;;
		'# '*) diag "${line#\# }" ;;
		*) fail "$(basename "$2") speaks TAP" "$line" ;;
		esac
	done < <("$@" 2>&1 || echo "not ok $* ended with $?")
	[ "$test_number" -gt "$before" ] || fail "$* has results"
}

# within SECONDS COMMAND...: tries until the command succeeds or the time is over.
within() {
	local deadline=$((SECONDS + $1 * SCALE))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -ge $deadline ] && return 1
		sleep 0.05
	done
}

has() {
	command -v "$1" >/dev/null
}

# What the machine can do: tests ask here, so that a skip has one wording.
cgroup_version() {
	if [ "$(stat -f -c %T /sys/fs/cgroup 2>/dev/null)" = cgroup2fs ] || [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo 2; else echo 1; fi
}

# cgroup_folders: every cgroup of ours, one path per line.
cgroup_folders() {
	find /sys/fs/cgroup -maxdepth 4 -type d \( -path '*/bulkhead/*' -o -name 'bulkhead-*' ! -name 'bulkhead-unit-*' \) 2>/dev/null | sort
}

# --- the busybox image --------------------------------------------------------------------------------------------------

# busybox_tar: the path of a root file system tar made of the machine's static busybox; made once, kept in the build folder.
busybox_tar() {
	local tar=$BUILD/tests/busybox.tar root applet
	if [ ! -e "$tar" ]; then
		mkdir -p "$BUILD/tests"
		root=$(mktemp -d "$BUILD/tests/busybox.XXXXXX")
		mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,etc,root,home,var/www,proc,sys,dev}
		mkdir -p -m 1777 "$root/tmp" "$root/var/tmp"
		cp /bin/busybox "$root/bin/busybox"
		for applet in $(/bin/busybox --list); do
			[ "$applet" = busybox ] || ln "$root/bin/busybox" "$root/bin/$applet"
		done
		printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nuser:x:1000:1000:A user:/home:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n' >"$root/etc/passwd"
		printf 'root:x:0:\ndaemon:x:1:\nusers:x:100:user\naudio:x:29:user\nuser:x:1000:\nnogroup:x:65534:\n' >"$root/etc/group"
		chmod 755 "$root"
		tar --numeric-owner --owner=0 --group=0 -C "$root" -cf "$tar.$$" . && mv "$tar.$$" "$tar"
		rm -rf "$root"
	fi
	printf '%s\n' "$tar"
}

# need_busybox: imports that tar as the image `busybox` into this script's root.
need_busybox() {
	local output
	output=$("$BULKHEAD" import "$(busybox_tar)" busybox 2>&1) || {
		fail "import the busybox image" "$output"
		done_testing
	}
}

# Whether KVM is here, and is one that an ordinary Linux boots on: PVM emulates the guest's kernel.
kvm_boots_linux() { [ -c /dev/kvm ] && [ ! -d /sys/module/kvm_pvm ]; }

# A guest kernel and an accelerator for microVMs, $accelerator; or skips the script. Where there is no KVM, QEMU's software CPU.
need_microvms() {
	local kernels=$BUILD/tests/guest-kernels output

	if ! ls /boot/vmlinuz-*-cloud-amd64 >/dev/null 2>&1; then
		if ! ls "$kernels"/kernels/*/vmlinuz >/dev/null 2>&1; then
			output=$("$BULKHEAD" --root "$kernels" vm kernel install 2>&1) || skip_all "lab: no guest kernel: $output"
		fi
		export BULKHEAD_KERNEL
		BULKHEAD_KERNEL=$(ls -d "$kernels"/kernels/*/vmlinuz | tail -n 1)
	fi
	accelerator=$(kvm_boots_linux && echo kvm || echo tcg)
	[ "$accelerator" = kvm ] || has qemu-system-x86_64 || skip_all "lab: neither KVM nor QEMU"
}

# converse NAME COMMAND...: runs it in the background, its pid is $pid: input by `say`, output in $WORK/NAME.out, messages in $WORK/NAME.err.
converse() {
	local name=$1
	shift
	[ -p "$WORK/$name.in" ] || mkfifo "$WORK/$name.in"
	: >"$WORK/$name.out"
	# Opened here: what is said before it has begun waits for it.
	exec 7<>"$WORK/$name.in"
	"$@" <&7 >"$WORK/$name.out" 2>"$WORK/$name.err" 7<&- &
	pid=$!
	exec 7<&-
}
# say NAME TEXT: opened for both, else it would wait for ever for one that has ended.
say() { printf '%s' "$2" 1<>"$WORK/$1.in"; }

# ended PID: waits for a child, but not for ever; returns its exit status.
ended() {
	within 10 eval '! kill -0 '"$1"' 2>/dev/null' || kill -9 "$1"
	wait "$1"
}

# --- set-up and leak check ----------------------------------------------------------------------------------------------

# Everything of a script lies below one folder with a name that no other has, so whatever names it is the script's.
# State belongs on tmpfs, and the root on a file system that overlay accepts as an upper layer.
TEST_DIR=$(mktemp -d "${BH_TEST_TMP:-/var/tmp}/bulkhead-test.XXXXXXXX")
TEST_STATE=$(mktemp -d "${BH_TEST_STATE_TMP:-/run}/bulkhead-test.XXXXXXXX" 2>/dev/null || mktemp -d)
TEST_MARK="$TEST_DIR|$TEST_STATE"
WORK=$TEST_DIR/work
mkdir -p "$WORK" "$TEST_DIR/root"
BULKHEAD_ROOT=$TEST_DIR/root
BULKHEAD_STATE=$TEST_STATE
export BULKHEAD BULKHEAD_ROOT BULKHEAD_STATE BUILD WORK TESTS TOP
cgroups_before=$(cgroup_folders)

# Processes that were started by the script (its folders are in their environment) or whose root file system lies in one of
# its containers, except the script itself and what it runs right now ("all": these too, but never the script).
# The mount at / decides, not any line of the mount table: a mount of the script's is seen by every process of the machine.
our_processes() {
	local entry pid parent
	for entry in $(
		{
			grep -lsaE "(^|=)($TEST_MARK)" /proc/[0-9]*/environ
			grep -lsaE "=($TEST_MARK)" /proc/[0-9]*/cmdline # a shim has no environment
			grep -lsE "^[0-9]+ [0-9]+ [0-9]+:[0-9]+ [^ ]+ / .*($TEST_MARK)/" /proc/[0-9]*/mountinfo
		} | cut -d/ -f3 | sort -un
	); do
		pid=$entry
		while [ "$pid" -gt 1 ] && [ "$pid" != $$ ]; do
			parent=$(awk '/^PPid:/ { print $2 }' "/proc/$pid/status" 2>/dev/null)
			pid=${parent:-$$}
		done
		[ "$pid" = $$ ] && [ "${1:-}" != all ] && continue
		[ "$entry" != $$ ] && printf '%s\n' "$entry"
	done
}

our_mounts() {
	grep -E "$TEST_MARK" /proc/self/mountinfo
}

# Folders of ours that were not there before and have no task. A script that runs beside this one may be just making or
# removing one, so only what is still empty after a while counts.
our_cgroups() {
	local folder left=()
	while read -r folder; do
		[ -n "$folder" ] && [ -z "$(find "$folder" -name cgroup.procs -exec cat {} + 2>/dev/null)" ] && [ -d "$folder" ] && left+=("$folder")
	done < <(comm -13 <(printf '%s\n' "$cgroups_before") <(cgroup_folders))
	[ ${#left[@]} -eq 0 ] && return
	sleep 1
	for folder in "${left[@]}"; do
		[ -d "$folder" ] && [ -z "$(find "$folder" -name cgroup.procs -exec cat {} + 2>/dev/null)" ] && printf '%s\n' "$folder"
	done
}

our_files() {
	find "$TEST_STATE" "$TEST_DIR"/root/{containers,names,staging,vms} -mindepth 1 2>/dev/null |
		grep -vxE "$TEST_STATE/(containers|net|vms)(/(leases|ports|lock))?|.*/lock|$TEST_DIR/root/.*/\.lock" | head -n 20
}

check_leaks() {
	local left='' found pid
	# A shim that has been told to end may need a moment.
	within 2 eval '[ -z "$(our_processes)" ]'
	found=$(for pid in $(our_processes); do tr '\0' ' ' <"/proc/$pid/cmdline" | sed "s/^/$pid /"; done)
	[ -n "$found" ] && left+="processes:"$'\n'"$found"$'\n'
	found=$(our_mounts)
	[ -n "$found" ] && left+="mounts:"$'\n'"$found"$'\n'
	found=$(our_cgroups)
	[ -n "$found" ] && left+="cgroups:"$'\n'"$found"$'\n'
	found=$(our_files)
	[ -n "$found" ] && left+="files:"$'\n'"$found"$'\n'
	if [ -z "$left" ]; then pass "nothing is left"; else fail "nothing is left" "$left"; fi
}

# What monitors said at last: often the reason of a failure that was seen later.
tell_monitors() {
	grep -rhsIE --exclude-dir=layers --exclude-dir=snapshots '^bulkhead-vmm: ' "$WORK" "$BULKHEAD_ROOT/vms" 2>/dev/null | sort | uniq -c | head -n 20 |
		sed 's/^ */# said: /'
}

# Runs at every exit, also after a failure in the middle: ends what the script started and removes its folders.
test_cleanup() {
	local pid
	[ "$test_finished" = 1 ] && [ "$test_failures" -eq 0 ] || tell_monitors
	if [ "$test_finished" = 0 ]; then
		printf 'Bail out! the script ended before done_testing\n'
	fi
	for pid in $(our_processes all); do
		kill -9 "$pid" 2>/dev/null
	done
	our_mounts | awk '{ print $5 }' | sort -r | while read -r pid; do umount -l "$pid"; done
	rm -rf --one-file-system "$TEST_DIR" "$TEST_STATE"
}
trap test_cleanup EXIT
trap 'exit 143' TERM INT HUP

done_testing() {
	rm -f "$WORK/.out" "$WORK/.err"
	check_leaks
	printf '1..%d\n' "$test_number"
	test_finished=1
	[ "$test_failures" -eq 0 ]
	exit
}
