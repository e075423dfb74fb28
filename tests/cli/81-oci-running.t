#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# bulkhead-oci: what is done to containers that run: exec, pause, ps, list, update, events, signals.
. "$(dirname "$0")/../lib.sh"
. "$TESTS/oci.sh"

oci_bundle a
oci_config a '.process.args = ["sleep", "1000"] | .annotations = {"org.example.a": "1", "b=c": "d"}'
run_is 0 "run -d" oci run -d --bundle "$WORK/a" --pid-file "$WORK/pid" one
pid=$(cat "$WORK/pid")

# folder CONTROLLER: where the container's cgroup of that controller is.
folder() {
	local line
	line=$(awk -F: -v c="$1" '$2 == c { print $3 }' "/proc/$pid/cgroup")
	if [ -n "$line" ]; then echo "/sys/fs/cgroup/$1$line"; else echo "/sys/fs/cgroup$(awk -F: '$1 == 0 { print $3 }' "/proc/$pid/cgroup")"; fi
}
# value V1-FILE V2-FILE
value() {
	if [ "$(cgroup_version)" = 2 ]; then cat "$(folder '')/$2"; else cat "$(folder "${1%%.*}")/$1"; fi
}

# --- exec -------------------------------------------------------------------------------------------------------------------

run oci exec one sh -c 'echo out; echo err >&2; exit 7'
is "$status:$out:$err" "7:out:err" "exec: streams and exit status"
run oci exec one no-such-program
like "$status:$err" '^255:.*exec failed: unable to start container process: exec: .*no-such-program.*: executable file not found in \$PATH' "exec of what isn't there"
printf '#!/no/such/interpreter\n' >"$WORK/a/rootfs/bin/script"
chmod 755 "$WORK/a/rootfs/bin/script"
run oci exec one /bin/script
like "$status:$err" '^255:.*exec /bin/script: no such file or directory' "exec of a script without its interpreter"
run oci exec one sh -c 'kill -9 $$'
is "$status" 137 "exec: killed by a signal"
# A command in the foreground passes signals on and has them blocked for that; the workload must not.
is "$(oci exec one grep SigBlk /proc/self/status | tr -d '\t')" "SigBlk:0000000000000000" "exec: no signal is blocked"
run oci exec --pid-file "$WORK/missing/pid" one sleep 987
isnt "$status" 0 "exec with a pid file that can't be written"
ok "leaves no process behind" within 5 eval '! oci exec one ps -o args | grep -q "sleep 987$"'
oci_bundle signalled
oci_config signalled '.process.args = ["sh", "-c", "grep SigBlk /proc/self/status; trap \"echo got it; exit 9\" TERM; echo ready; while :; do sleep 0.1; done"]'
"$BUILD/bulkhead-oci" --root "$OCI_ROOT" run --bundle "$WORK/signalled" signalled >"$WORK/seen" 2>&1 </dev/null &
runner=$!
within 10 grep -q ready "$WORK/seen"
kill -TERM $runner
wait $runner
is "$?:$(tr -d '\t' <"$WORK/seen" | tr '\n' ' ')" "9:SigBlk:0000000000000000 ready got it " "run passes a signal on, and the workload gets it"
is "$(oci exec --user 1000:100 one id)" "uid=1000(user) gid=100(users)" "exec --user"
is "$(oci exec --user 1000 --additional-gids 29 --additional-gids 100 one id -G)" "0 29 100" "exec --additional-gids"
oci_bundle frozen
oci_config frozen '.process.args = ["sleep", "1000"]'
oci run -d --bundle "$WORK/frozen" frozen
if [ -d /sys/fs/cgroup/freezer ]; then
	elsewhere=/sys/fs/cgroup/freezer/bulkhead-oci-$$-elsewhere
	mkdir "$elsewhere"
	oci state frozen | jq .pid >"$elsewhere/cgroup.procs"
	echo FROZEN >"$elsewhere/freezer.state"
	run_is 0 "delete --force of a process that was frozen in another's cgroup" timeout 9 "$BUILD/bulkhead-oci" --root "$OCI_ROOT" delete --force frozen
	is "$(cat "$elsewhere/cgroup.procs" "$elsewhere/freezer.state")" FROZEN "which stays as it is"
	echo THAWED >"$elsewhere/freezer.state"
	rmdir "$elsewhere"
else
	skip "no freezer of cgroup v1" 2
fi
oci delete --force frozen
oci_bundle groups
oci_config groups '.process.args = ["sleep", "1000"] | .annotations = {"run.oci.keep_original_groups": "1"} | .process.user.additionalGids = [7]'
run setpriv --groups 41,42 "$BUILD/bulkhead-oci" --root "$OCI_ROOT" run -d --bundle "$WORK/groups" groups
is "$status:$(grep Groups "/proc/$(oci state groups | jq .pid)/status" | tr -s '\t ' ' ')" "0:Groups: 41 42 " "the annotation run.oci.keep_original_groups keeps the caller's groups"
oci delete --force groups
is "$(oci exec --env A=1 --env B=2 --env A=3 one sh -c 'echo $A$B')" 32 "exec --env"
is "$(oci exec --cwd /tmp one pwd)" /tmp "exec --cwd"
like "$(oci exec --cap CAP_SYS_CHROOT one grep CapEff /proc/self/status)" '0000000020040420$' "exec --cap"
like "$(oci exec --no-new-privs=false one grep NoNewPrivs /proc/self/status)" '0$' "exec --no-new-privs=false"
like "$(oci exec one grep NoNewPrivs /proc/self/status)" '1$' "else as in the configuration"
run oci exec --cap CAP_NONSENSE one true
like "$status:$err" '^0:.*level=warning.*CAP_NONSENSE' "an unknown capability is ignored, with a warning"
run oci exec --user nobody one true
like "$status" '^(1|255)$' "a user by name"
run oci exec one
like "$status:$err" '^255:.*process args cannot be empty' "exec of nothing"
echo '{"args": ["sh", "-c", "echo $X; pwd"], "cwd": "/tmp", "env": ["X=5", "PATH=/bin"], "user": {"uid": 0, "gid": 0}}' >"$WORK/process.json"
is "$(oci exec --process "$WORK/process.json" one)" $'5\n/tmp' "exec --process"
echo '{"args": ["true"], "cwd": "tmp"}' >"$WORK/process.json"
run oci exec --process "$WORK/process.json" one
like "$status:$err" '^255:.*cwd' "a process file that is wrong"
run_is 0 "exec --detach" oci exec --detach --pid-file "$WORK/pid2" one sleep 1001
is "$(tr '\0' ' ' <"/proc/$(cat "$WORK/pid2")/cmdline")" "sleep 1001 " "its pid file"
is "$(readlink "/proc/$(cat "$WORK/pid2")/ns/pid")" "$(readlink "/proc/$pid/ns/pid")" "it is inside"
is "$(oci exec --tty one sh -c 'tty; echo x')" $'/dev/pts/0\nx' "exec --tty"
printf 'abc' >"$WORK/in"
is "$(oci exec one cat <"$WORK/in")" abc "exec: stdin"
mkdir "$(folder pids)/below" 2>/dev/null
if [ "$(cgroup_version)" = 1 ]; then
	is "$(oci exec --cgroup pids:below one sh -c "grep :pids: /proc/self/cgroup")" "$(grep :pids: "/proc/$pid/cgroup")/below" "exec --cgroup CONTROLLER:PATH"
else
	like "$(oci exec --cgroup below one cat /proc/self/cgroup)" '/below$' "exec --cgroup PATH"
fi
run oci exec --cgroup .. one true
like "$status:$err" '^255:.*is not a sub cgroup path' "exec --cgroup never leads above"
run oci exec --cgroup nowhere one true
like "$status:$err" '^255:.*o such file or directory' "exec --cgroup of what isn't there"
rmdir "$(folder pids)/below"

# --- ps, list ---------------------------------------------------------------------------------------------------------------

is "$(oci ps --format json one | jq -c sort)" "[$(printf '%s\n' "$pid" "$(cat "$WORK/pid2")" | sort -n | paste -sd,)]" "ps --format json: all pids on the host"
if ps -ef >/dev/null 2>&1 && [ "$(readlink -f "$(command -v ps)")" != "$(readlink -f "$(command -v busybox)")" ]; then
	run oci ps one
	is "$(wc -l <<<"$out")" 3 "ps: a heading and a line for each"
	like "$out" 'PID.*sleep 1000.*sleep 1001' "of ps(1)"
	is "$(oci ps one -o pid,comm | tail -n +2 | awk '{ print $2 }' | sort -u)" sleep "ps passes options on"
	run oci ps one -o comm
	like "$status:$err" "^1:.*couldn't find PID field in ps output" "ps without the column PID"
else
	skip "procps is not installed" 4
fi
run oci ps --format xml one
like "$status:$err" '^1:.*invalid format option' "ps: a format that is none"
run oci list
like "$out" "^ID +PID +STATUS +BUNDLE +CREATED +OWNER"$'\n'"one +$pid +running +$WORK/a +20[^ ]+Z +root$" "list"
is "$(oci list --quiet)" one "list --quiet"
is "$(oci list --format json | jq -c '.[] | [.id, .pid, .status, .owner, .annotations["org.example.a"], .annotations["b=c"]]')" "[\"one\",$pid,\"running\",\"root\",\"1\",\"d\"]" "list --format json"
is "$(oci list --format json | wc -l)" 1 "on one line"
is "$("$BUILD/bulkhead-oci" --root "$WORK/nowhere" list --format json)" null "list of nothing"

# --- pause, resume, signals -------------------------------------------------------------------------------------------------

run_is 0 "pause" oci pause one
is "$(oci state one | jq -r .status)" paused "it is paused"
run oci exec one true
like "$status:$err" '^255:.*cannot exec in a paused container \(use --ignore-paused to override\)' "exec in a paused one"
(sleep 0.3 && oci resume one) &
is "$(oci exec --ignore-paused one echo hello)" hello "exec --ignore-paused goes on when it is resumed"
wait $!
is "$(oci state one | jq -r .status)" running "it runs again"
run oci resume one
like "$status:$err" '^1:.*container not paused' "resume of a running one"
run_is 0 "kill with a name" oci kill one SIGWINCH
run_is 0 "kill with a number" oci kill one 28
run_is 0 "kill --all" oci kill --all one WINCH
is "$(oci state one | jq -r .status)" running "these end nothing"

# --- update -----------------------------------------------------------------------------------------------------------------

run_is 0 "update: flags" oci update --pids-limit 123 --memory 64m --memory-swap 64m one
is "$(value pids.max pids.max):$(value memory.limit_in_bytes memory.max)" "123:67108864" "are applied"
echo '{"pids": {"limit": 99}, "cpu": {"quota": 20000, "period": 100000}}' >"$WORK/resources.json"
run_is 0 "update --resources" oci update --resources "$WORK/resources.json" one
is "$(value pids.max pids.max):$(value memory.limit_in_bytes memory.max)" "99:67108864" "what isn't given stays"
is "$(if [ "$(cgroup_version)" = 2 ]; then value '' cpu.max; else echo "$(value cpu.cfs_quota_us '') $(value cpu.cfs_period_us '')"; fi)" "20000 100000" "a quota"
oci update --resources - one <<<'{"pids": {"limit": 98}}'
is "$(value pids.max pids.max)" 98 "update --resources from stdin"
oci update --pids-limit -1 one
is "$(value pids.max pids.max)" max "no limit"
for bad in '--memory lots' '--cpu-quota x' '--cpu-period -5' '--pids-limit many' '--cpu-share 99999999999999999999' '--blkio-weight 70000'; do
	# shellcheck disable=SC2086
	run oci update $bad one
	like "$status:$err" '^1:.*inval' "update $bad"
done
run oci update --resources /dev/null one
is "$status" 1 "update with an empty file"

# --- events -----------------------------------------------------------------------------------------------------------------

run oci events --stats one
is "$(jq -c '[.type, .id, .data.pids.current > 1, .data.memory.usage.limit]' <<<"$out")" '["stats","one",true,67108864]' "events --stats"
oci events --interval 100ms one >"$WORK/events" &
ok "events --interval: one after the other" within 5 eval '[ "$(grep -c stats "$WORK/events")" -ge 3 ]'
run oci events --interval 0 one
like "$status:$err" '^1:.*must be greater than 0' "an interval of nothing"

# --- the end ----------------------------------------------------------------------------------------------------------------

kill -9 "$pid"
wait $!
is $? 0 "events ends with the container"
ok "kill -9 of the first process: stopped" within 5 eval '[ "$(oci state one | jq -r .status)" = stopped ]'
run_is 0 "delete" oci delete one
is "$(oci list -q)" "" "nothing is listed"

# A container that shares the host's pids: the end of its first process is not the end of the others.
oci_config a '.linux.namespaces |= map(select(.type != "pid")) | .process.args = ["sh", "-c", "sleep 1002 & sleep 1003 & wait"]'
oci run -d --bundle "$WORK/a" --pid-file "$WORK/pid" two
within 5 eval '[ "$(oci ps --format json two | jq length)" = 3 ]'
pids=$(oci ps --format json two | jq -r '.[]')
is "$(wc -l <<<"$pids")" 3 "three processes in the host's pid namespace"
oci kill two KILL
ok "KILL ends them all" within 5 eval '[ -z "$(for p in '"$(tr '\n' ' ' <<<"$pids")"'; do [ -e /proc/$p ] && ! grep -q "State:.Z" /proc/$p/status && echo $p; done)" ]'
oci delete --force two

# --- words of others --------------------------------------------------------------------------------------------------------

# Scripts and drivers look for these in runc's debug log.
oci_config a '.process.args = ["sleep", "1000"]'
run oci --debug run -d --bundle "$WORK/a" three
for words in "nsexec container setup" "child process in init()" "init: closing the pipe to signal completion"; do
	like "$err" "level=debug msg=\"$words" "--debug run tells of: $words"
done
run oci --debug exec three true
for words in "nsexec container setup" "child process in init()" "setns_init: about to exec"; do
	like "$err" "level=debug msg=\"$words" "--debug exec tells of: $words"
done
oci_process='{"terminal": false, "cwd": "/", "args": ["true"], "env": ["PATH=/bin"], "execCPUAffinity": {"initial": "0"}}'
echo "$oci_process" >"$WORK/process.json"
run oci --debug exec --process "$WORK/process.json" three
like "$status:$err" '^0:.*nsexec: affinity: 0x1"' "and of the CPUs it begins on"
oci delete --force three

# Go's readers take a key in any case, the exact one first.
oci_config a '.process.args = ["sh", "-c", "hostname"] | .HostName = "other" | .hostname = "exact"'
run oci run --bundle "$WORK/a" three
is "$status:$out" "0:exact" "two keys that differ in case: the exact one"
oci_config a 'del(.hostname)'
run oci run --bundle "$WORK/a" three
is "$status:$out" "0:other" "a key in another case"

# What can't be executed says so on its own, and is no failure of the runtime.
printf '#!/no/such/interpreter\n' >"$WORK/a/rootfs/script"
chmod +x "$WORK/a/rootfs/script"
oci_config a '.process.args = ["/script"]'
run oci --log "$WORK/run.log" run --bundle "$WORK/a" three
is "$status:$err:$(cat "$WORK/run.log")" "255:exec /script: no such file or directory:" "a script without its interpreter"

# --- many -------------------------------------------------------------------------------------------------------------------

oci_bundle b
oci_config b '.process.args = ["sleep", "1000"]'
for i in {1..100}; do
	jq '.linux.cgroupsPath += "-'"$i"'"' "$WORK/b/config.json" >"$WORK/b/config-$i.json"
	oci run -d --config "config-$i.json" --bundle "$WORK/b" "many-$i" || break
done
is "$(oci list -q | wc -l)" 100 "a hundred containers"
is "$(oci list --format json | jq -r '.[].status' | sort | uniq -c | tr -s ' ')" " 100 running" "all of them run"
for i in {1..100}; do
	oci delete --force "many-$i" || break
done
is "$(oci list -q)" "" "and are gone"

ok "no state is left" rmdir "$OCI_ROOT"
done_testing
