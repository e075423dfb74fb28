#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# timeout: 180
# The life of containers: ps and its filters, logs, wait, rename, restart policies, health checks, --rm.
. "$(dirname "$0")/../lib.sh"
need_busybox
b=$BULKHEAD
state() { "$b" inspect -f "{{.State.$1}}" "$2"; }

"$b" run -d --name one -l tier=front busybox sleep 1000 >/dev/null
"$b" run --name two -l tier=back busybox sh -c 'exit 3'
"$b" create --name three busybox true >/dev/null
is "$("$b" ps --format '{{.Names}}')" one "ps shows what runs"
is "$("$b" ps -a --format '{{.Names}}' | tr '\n' ' ')" "three two one " "ps -a shows all, the newest first"
is "$("$b" ps -aq --no-trunc | head -n 1)" "$("$b" inspect -f '{{.Id}}' three)" "ps -q"
is "$("$b" ps -a -f status=exited --format '{{.Names}}')" two "filter status"
is "$("$b" ps -a -f label=tier=front --format '{{.Names}}')" one "filter label"
is "$("$b" ps -a -f exited=3 -f exited=4 --format '{{.Names}}')" two "filters of one key are alternatives"
is "$("$b" ps -a -f name=t --format '{{.Names}}' | sort | tr '\n' ' ')" "three two " "filter name"
is "$("$b" ps -a -f ancestor=busybox -n 1 --format '{{.Names}}')" three "filter ancestor, -n"
run_is 1 "an unknown filter is an error" "$b" ps -f nosuch=1
like "$("$b" ps -a)" 'CONTAINER ID +IMAGE +COMMAND +CREATED +STATUS +PORTS +NAMES' "Docker's columns"
like "$("$b" ps -a)" 'Exited \(3\) .* ago' "Docker's status words"
ok "ps --format json" bash -c "'$b' ps -a --format json | grep -q '\"Names\":\"two\"'"
run_is 1 "rm of a running container is refused" "$b" rm one
like "$err" 'cannot remove container "/one": container is running' "in Docker's words"
"$b" rename one uno
is "$("$b" ps --format '{{.Names}}')" uno "rename"
run_is 1 "rename to a name in use is refused" "$b" rename uno two
run_is 1 "an unknown container is an error" "$b" stop nobody
is "$err" "bulkhead: No such container: nobody" "in Docker's words"
short=$("$b" ps -q)
is "$("$b" inspect -f '{{.Name}}' "${short:0:6}")" /uno "an id may be shortened"
"$b" stop -t 0 uno >/dev/null
is "$(state ExitCode uno)" 137 "stop -t 0 kills"
is "$("$b" start uno)" uno "start"
is "$(state Status uno)" running "runs again"
"$b" restart -t 0 uno >/dev/null
is "$(state Status uno)" running "restart"
"$b" rm -f uno two three >/dev/null
is "$("$b" ps -aq)" "" "rm -f of several"

# A pid on disk is only believed together with its start time: another process that has it now is left alone.
"$b" run -d --name pidtest busybox sleep 1000 >/dev/null
pid=$(state Pid pidtest) shim=$(state ShimPid pidtest)
file=$BULKHEAD_STATE/containers/$("$b" inspect -f '{{.Id}}' pidtest)/run
run=$(readlink "$file")
ln -sfn "$(sed -E 's/^([^:]*):[^:]*/\1:1/' <<<"$run")" "$file"
run_is 1 "a process with another start time gets no signal" "$b" kill pidtest
ok "and lives" kill -0 "$pid"
ln -sfn "$run" "$file"
rm -f "$(dirname "$file")/stopping"
is "$(wc -c <"/proc/$shim/environ")" 0 "the shim has no environment"
"$b" rm -f pidtest >/dev/null

# What a container writes
"$b" run -d --name log busybox sh -c 'echo first; echo second >&2; printf unfinished; sleep 1000' >/dev/null
within 5 eval '"$b" logs log 2>/dev/null | grep -q first'
run "$b" logs log
is "$out/$err" "first/second" "logs keeps the streams apart (an unfinished line waits)"
like "$("$b" logs -t log 2>/dev/null)" '^20[0-9-]+T[0-9:.]+Z first$' "logs -t"
timeout 20 "$b" logs -f log >"$WORK/follow" 2>/dev/null &
follower=$!
sleep 0.3
"$b" kill log >/dev/null
wait $follower
is "$(tr '\n' ' ' <"$WORK/follow")" "first unfinished" "logs -f ends with the container, with the last line"
like "$(head -n 1 "$BULKHEAD_ROOT/containers/$("$b" inspect -f '{{.Id}}' log)/log")" '^\{"log":"first\\n","stream":"stdout","time":"20[^"]*Z"\}$' "Docker's json-file format"
"$b" rm log >/dev/null
"$b" run --name tail busybox seq 1 100 >/dev/null
is "$("$b" logs --tail 2 tail | tr '\n' ' ')" "99 100 " "logs --tail"
is "$("$b" logs --since 1h tail | wc -l)$("$b" logs --until 1h tail | wc -l)" 1000 "logs --since, --until"
"$b" rm tail >/dev/null
"$b" run --name rot --log-opt max-size=10k --log-opt max-file=3 busybox seq 1 5000 >/dev/null
dir=$BULKHEAD_ROOT/containers/$("$b" inspect -f '{{.Id}}' rot)
is "$(ls "$dir" | grep -c '^log')" 3 "the log is rotated, with three files kept"
ok "each about as large as asked for" test "$(stat -c %s "$dir/log.1")" -lt 1100000
is "$("$b" logs rot | tail -n 1)" 5000 "logs reads across them"
"$b" rm rot >/dev/null
"$b" run --name quiet --log-driver none busybox echo x >/dev/null
run_is 1 "without a log driver there are no logs" "$b" logs quiet
"$b" rm quiet >/dev/null

# wait, --rm
"$b" run -d --name waiter busybox sh -c 'sleep 0.5; exit 6' >/dev/null
is "$("$b" wait waiter)" 6 "wait gives the exit code"
is "$("$b" wait waiter)" 6 "also afterwards"
"$b" rm waiter >/dev/null
"$b" run -d --rm --name gone busybox sh -c 'sleep 0.3' >/dev/null
"$b" wait gone >/dev/null
ok "--rm with -d removes it" within 5 eval '[ -z "$("$b" ps -aq)" ]'

# Restart policies
"$b" run -d --name again --restart on-failure:3 busybox sh -c 'date +%s%N; exit 5' >/dev/null
ok "on-failure:3 gives up" within 20 eval '[ "$(state Status again)" = exited ]'
is "$("$b" inspect -f '{{.RestartCount}} {{.State.ExitCode}}' again)" "3 5" "after three restarts, with the last exit code"
is "$("$b" logs again | wc -l)" 4 "all runs are in one log"
"$b" rm again >/dev/null
"$b" run -d --name again --restart always busybox sh -c 'echo up; [ -e /mark ] && echo again; touch /mark; sleep 0.2' >/dev/null
ok "always restarts" within 20 eval '"$b" logs again | grep -q again'
"$b" stop -t 1 again >/dev/null
sleep 0.5
is "$(state Status again)" exited "until it is stopped by hand"
"$b" rm again >/dev/null
"$b" run -d --name again --restart always --restart-fresh busybox sh -c 'echo up; [ -e /mark ] && echo again; touch /mark; sleep 0.1' >/dev/null
ok "--restart-fresh restarts" within 20 eval '[ "$("$b" logs again | grep -c up)" -ge 3 ]'
is "$("$b" logs again | grep -c again)" 0 "with the image's file system"
"$b" rm -f again >/dev/null
"$b" run -d --name again --restart on-failure busybox true >/dev/null
ok "success is no failure" within 5 eval '[ "$(state Status again)" = exited ]'
is "$("$b" inspect -f '{{.RestartCount}}' again)" 0 "and not restarted"
"$b" rm again >/dev/null
run_is 125 "--rm and --restart conflict" "$b" run --rm --restart always busybox true
run_is 125 "an unknown policy is refused" "$b" run --restart sometimes busybox true

# Health checks
"$b" run -d --name ill --health-cmd 'test -e /ok' --health-interval 200ms --health-retries 2 busybox sleep 1000 >/dev/null
is "$("$b" inspect -f '{{.State.Health.Status}}' ill)" starting "health begins with starting"
ok "and becomes unhealthy after two failures" within 10 eval '[ "$("$b" inspect -f "{{.State.Health.Status}}" ill)" = unhealthy ]'
like "$("$b" ps)" '\(unhealthy\)' "ps shows it"
"$b" exec ill touch /ok
ok "and healthy after a success" within 10 eval '[ "$("$b" inspect -f "{{.State.Health.Status}}" ill)" = healthy ]'
is "$("$b" ps -f health=healthy --format '{{.Names}}')" ill "filter health"
"$b" rm -f ill >/dev/null
"$b" run -d --name ill --health-cmd 'sleep 100' --health-interval 100ms --health-timeout 200ms --health-retries 1 busybox sleep 1000 >/dev/null
ok "a check that takes too long has failed" within 10 eval '[ "$("$b" inspect -f "{{.State.Health.Status}}" ill)" = unhealthy ]'
"$b" rm -f ill >/dev/null

# A start that fails leaves a container that says why
run_is 127 "run of an unknown command" "$b" run --name failed busybox nosuch
is "$(state Status failed) $(state ExitCode failed)" "created 127" "leaves it created, with the code"
like "$(state Error failed)" 'executable file not found' "and the reason"
"$b" rm failed >/dev/null
done_testing
