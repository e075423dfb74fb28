#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
# kill -9 at every step: strace kills the command at its Nth system call, for N walking through the whole command; with
# "all" the start stage, the shim and the container's first process die at their Nth call too. Afterwards one `ps -a` must
# tell the truth and clean: no process, cgroup, state, or half-made container may be left.
. "$(dirname "$0")/../lib.sh"

has strace || skip_all "strace is not installed"
strace -o /dev/null true 2>/dev/null || skip_all "ptrace is not allowed here"
need_busybox
STEP=${BH_KILL_STEP:-7}

# calls COMMAND...: how many system calls the command makes, or with -f the busiest of its processes
calls() {
	local flags=-qq
	[ "$1" = -f ] && flags=-qqff && shift
	rm -f "$WORK"/trace*
	strace $flags -o "$WORK/trace" "$@" >/dev/null 2>&1 </dev/null
	wc -l "$WORK"/trace* | grep -v total | awk '$1 > max { max = $1 } END { print max }'
}

# leftovers: what a killed command left, after the next command has run
leftovers() {
	local id
	"$BULKHEAD" ps -a >/dev/null 2>"$WORK/ps.err" || echo "ps failed: $(cat "$WORK/ps.err")"
	for id in $("$BULKHEAD" ps -aq); do
		"$BULKHEAD" rm -f "$id" >/dev/null 2>"$WORK/rm.err" || echo "rm failed: $(cat "$WORK/rm.err")"
	done
	within 5 eval '[ -z "$(our_processes)" ]' || echo "processes: $(our_processes)"
	find "$BULKHEAD_STATE/containers" "$BULKHEAD_ROOT/containers" "$BULKHEAD_ROOT/names" -mindepth 1 -maxdepth 1 2>/dev/null
	our_cgroups
	our_mounts
}

# walk NAME MODE COMMAND...: MODE is "one" (the command alone) or "all" (its children too). $BEFORE runs before each.
walk() {
	local name=$1 mode=$2 n total bad='' left flags=()
	shift 2
	[ "$mode" = all ] && flags=(-f)
	eval "$BEFORE"
	total=$(calls "${flags[@]}" "$@")
	leftovers >/dev/null
	for ((n = 1; n <= total; n += STEP)); do
		eval "$BEFORE"
		{ timeout -k 1 20 strace -qq "${flags[@]}" -o /dev/null -e "inject=all:signal=KILL:when=$n" "$@" >/dev/null 2>&1 </dev/null; } 2>/dev/null
		left=$(leftovers)
		[ -n "$left" ] && bad+="killed at call $n of $total: $left"$'\n'
	done
	if [ -z "$bad" ]; then pass "$name: $((total / STEP + 1)) kills, nothing left"; else fail "$name" "$bad"; fi
}

BEFORE=''
walk "run --rm, the command killed" one "$BULKHEAD" run --rm busybox true
walk "run --rm, all killed" all "$BULKHEAD" run --rm busybox true
walk "run -d, all killed" all "$BULKHEAD" run -d --name victim busybox true
walk "create, killed" one "$BULKHEAD" create --name victim busybox true
# It ends by itself: strace -f waits for all that it follows.
BEFORE='"$BULKHEAD" create --name victim busybox sleep 1 >/dev/null 2>&1'
walk "start, the command killed" one "$BULKHEAD" start victim
walk "start, all killed" all "$BULKHEAD" start victim
BEFORE='"$BULKHEAD" run -d --name victim busybox sleep 1000 >/dev/null 2>&1'
walk "stop, killed" one "$BULKHEAD" stop -t 0 victim
walk "rm -f, killed" one "$BULKHEAD" rm -f victim
walk "pause, killed" one "$BULKHEAD" pause victim

# The truth after a kill of the shim or of the container.
"$BULKHEAD" run -d --name shimless busybox sleep 1000 >/dev/null
kill -9 "$("$BULKHEAD" inspect -f '{{.State.ShimPid}}' shimless)"
# The signal has been sent; that both have ended is seen a moment later.
within 5 eval '[ "$("$BULKHEAD" inspect -f "{{.State.Status}}" shimless)" = exited ]'
is "$("$BULKHEAD" inspect -f '{{.State.Status}} {{.State.ExitCode}}' shimless)" "exited 137" "a container whose shim was killed has exited with 137"
ok "it can be started again" "$BULKHEAD" start shimless
is "$("$BULKHEAD" inspect -f '{{.State.Status}}' shimless)" running "and runs"
kill -9 "$("$BULKHEAD" inspect -f '{{.State.Pid}}' shimless)"
within 5 eval '[ "$("$BULKHEAD" inspect -f "{{.State.Status}}" shimless)" = exited ]'
is "$("$BULKHEAD" inspect -f '{{.State.Status}} {{.State.ExitCode}}' shimless)" "exited 137" "a killed container has exited with 137"
"$BULKHEAD" rm -f shimless >/dev/null

# Many cycles leave the machine as it was.
# Only what could be ours: other programs of the machine may mount meanwhile.
mount_table() { grep -E "$TEST_MARK| - (overlay|mqueue|devpts) " /proc/self/mountinfo | sort; }
mounts=$(mount_table)
for ((i = 0; i < 200; i++)); do
	"$BULKHEAD" run --rm busybox true || break
done
is "$i" 200 "200 cycles run"
is "$(mount_table)" "$mounts" "the mount table has not changed"
is "$(leftovers)" "" "nothing is left of 200 cycles"
done_testing
