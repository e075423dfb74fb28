#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# bulkhead-oci: its commands, their flags, and the words that callers of an OCI runtime read.
. "$(dirname "$0")/../lib.sh"
. "$TESTS/oci.sh"

oci_bundle a
oci_config a '.process.args = ["sleep", "1000"]'

# --- the life of a container ------------------------------------------------------------------------------------------------

run_is 0 "create" oci create --bundle "$WORK/a" --pid-file "$WORK/pid" one
pid=$(cat "$WORK/pid")
run oci state one
is "$(jq -r '[.id, .status, .pid, .bundle] | join(" ")' <<<"$out")" "one created $pid $WORK/a" "state: id, status, pid, bundle"
is "$(jq -r 'keys | join(" ")' <<<"$out")" "bundle created id ociVersion owner pid rootfs status" "state: all members of runc's"
like "$(jq -r .created <<<"$out")" '^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z$' "state: when it was created"
is "$(stat -c %a "$OCI_ROOT/one")" 711 "the state folder can't be listed by others"
run oci create --bundle "$WORK/a" one
is "$status" 1 "an id can't be used twice"
like "$err" 'container with given ID already exists' "in runc's words"
run oci exec one true
is "$status:$out" "0:" "exec in a created container"
run_is 0 "start" oci start one
is "$(oci state one | jq -r .status)" running "it runs"
is "$(tr '\0' ' ' <"/proc/$pid/cmdline")" "sleep 1000 " "the process of the pid file is the workload"
run oci start one
is "$status" 1 "it can't be started twice"
like "$err" 'cannot start an already running container' "in runc's words"
run oci delete one
is "$status" 1 "a running one isn't deleted"
like "$err" 'cannot delete container one that is not stopped: running' "in runc's words"
run_is 0 "kill" oci kill one KILL
ok "it ends" within 5 eval '[ "$(oci state one | jq -r .status)" = stopped ]'
is "$(oci state one | jq .pid)" 0 "a stopped one has no pid"
run oci kill one 15
is "$status" 1 "a stopped one can't be killed"
like "$err" 'container not running' "in runc's words"
run oci start one
like "$status:$err" '^1:.*cannot start a container that has stopped' "nor started"
run oci exec one true
like "$status:$err" '^255:.*cannot exec in a stopped container' "nor entered"
run_is 0 "delete" oci delete one
nok "its state is gone" test -e "$OCI_ROOT/one"
for command in state start kill delete pause resume ps events update; do
	run oci $command one
	like "$status:$err" '^1:.*container does not exist' "$command: no such container"
done
run_is 0 "delete --force of none" oci delete --force one
for id in match-1 match-2 other-1; do
	oci_config a ".linux.cgroupsPath = \"/bulkhead-oci-$$-$id\""
	oci create --bundle "$WORK/a" $id
done
oci start match-2
run oci delete --regex '^match-[0-9]$'
like "$status:$err" '^1:.*container match-2 that is not stopped: running.*it failed for 1 of the containers that match' "delete --regex: one that can't be removed is named"
is "$(oci list -q | tr '\n' ' ')" "match-2 other-1 " "and keeps no other"
run_is 0 "delete --regex --force" oci delete --force --regex 'ch-[12]|^nothing$'
is "$(oci list -q)" other-1 "the expression may match anywhere, and others stay"
run_is 0 "kill --regex" oci kill --regex '^other-[0-9]$' KILL
ok "ends those that match" within 5 eval '[ "$(oci state other-1 | jq -r .status)" = stopped ]'
run oci kill --regex '^other-[0-9]$' KILL
like "$status:$err" '^1:.*container not running.*it failed for 1 of' "kill --regex of one that has stopped"
run oci delete --force --regex 'a['
like "$status:$err" '^1:.*--regex .*a\[' "what is no expression"
run_is 0 "delete --regex of none" oci delete --regex '^match'
oci delete other-1
oci_config a '.linux.cgroupsPath = "/bulkhead-oci-'"$$"'-a"'
run_is 0 "create again" oci create --bundle "$WORK/a" one
run_is 0 "one that was never started is deleted" oci delete one

# --- ids and arguments ------------------------------------------------------------------------------------------------------

for id in '' . .. a/b 'a b' $'a\nb' '$x' "$(printf '%0300d' 0)"; do
	run oci create --bundle "$WORK/a" "$id"
	like "$status:$err" '^1:.*(invalid container ID format|container id cannot be empty)' "bad id $(printf %q "${id:0:20}")"
done
run_is 0 "all letters that are allowed" oci create --bundle "$WORK/a" 'aZ09_+-.'
run_is 0 "its end" oci delete --force 'aZ09_+-.'
run oci start
like "$status:$err" '^1:.*start.* requires exactly 1 argument' "a missing argument"
run oci state a b
like "$status:$err" '^1:.*state.* requires exactly 1 argument' "an argument too many"
run oci start --no-such-flag a
like "$status:$err" '^1:.*no-such-flag' "an unknown flag is named"
run oci no-such-command
like "$status:$err" "^1:.*No help topic for 'no-such-command'" "an unknown command"
run oci kill a NOSUCH
isnt "$status" 0 "an unknown signal"
for command in create start state kill delete run exec ps list pause resume update events spec features; do
	run oci $command --help
	like "$status:$out" "^0:.*bulkhead-oci $command" "$command --help"
done
like "$(oci create --help)" '--bundle.*--console-socket.*--no-new-keyring.*--no-pivot.*--pid-file.*--pidfd-socket.*--preserve-fds' "create --help lists its flags"
like "$(oci --help)" 'bulkhead-oci - Open Container Initiative runtime' "the name, as runc says its own"
for signal in HUP INT QUIT TERM; do
	oci create --bundle "$WORK/a" ended
	run oci kill ended "$signal"
	ok "SIG$signal ends a created container" within 5 eval '[ "$(oci state ended | jq -r .status)" = stopped ]'
	oci delete ended
done
run oci --version
like "$out" '^bulkhead-oci version [0-9.]+.*spec: 1\..*\+SYSTEMD .*\+SECCOMP' "--version"
ln -s "$BUILD/bulkhead" "$WORK/runc"
like "$("$WORK/runc" --version)" '^runc version' "called runc it is an OCI runtime"

run oci create --bundle "$WORK/a" 'a/b'
like "$err" 'invalid container ID format: a/b: invalid character `/` in the ID' "the character of a bad id is named"

# --- run: streams, exit status, flags ---------------------------------------------------------------------------------------

oci_config a '.process.args = ["sh", "-c", "echo out; echo err >&2; exit 42"]'
run oci run --bundle "$WORK/a" two
is "$status:$out:$err" "42:out:err" "run: both streams and the exit status"
nok "it is deleted then" oci state two
run oci run --keep --bundle "$WORK/a" two
is "$status:$(oci state two | jq -r .status)" "42:stopped" "--keep"
oci delete two
oci_config a '.process.args = ["sleep", "1000"]'
oci run --bundle "$WORK/a" two &
ok "run in the background" within 5 eval '[ "$(oci state two | jq -r .status)" = running ]'
oci kill two KILL
wait $!
is $? 137 "killed by a signal: 128+n"
oci_config a '.process.args = ["no-such-program"]'
run oci run --bundle "$WORK/a" two
is "$status" 1 "a missing command"
like "$err" 'exec: .*no-such-program.*: executable file not found in \$PATH' "in runc's words"
nok "nothing of it is left" test -e "$OCI_ROOT/two"
oci_config a '.process.args = ["sh", "-c", "exec sh -c \"read x <&4; echo \\$x\""]'
printf 'hello\n' >"$WORK/in"
run bash -c "exec 3</dev/null 4<'$WORK/in'; exec '$BUILD/bulkhead-oci' --root '$OCI_ROOT' run --preserve-fds 2 --bundle '$WORK/a' two"
is "$status:$out" "0:hello" "--preserve-fds"
oci_config a '.process.args = ["ls", "/proc/self/fd"]'
run bash -c "for n in {3..99}; do eval \"exec \$n>&-\"; done; exec 5<'$WORK/in'; exec '$BUILD/bulkhead-oci' --log '$WORK/log' --debug --root '$OCI_ROOT' run --preserve-fds 90 --bundle '$WORK/a' two"
is "$status:$out" $'0:0\n1\n2\n3\n5' "--preserve-fds: what is open passes, and nothing of ours (3 is the folder that ls lists)"
like "$(cat "$WORK/log")" 'level=warning msg="unable to stat preserved-fd 0 \(of 90\)' "with a warning"
rm "$WORK/log"
run oci run --preserve-fds 99999 --bundle "$WORK/a" two
like "$status:$err" '^1:.*out of range' "--preserve-fds of more than there can be"
run oci run --bundle "$WORK/nowhere" two
like "$status:$err" '^1:' "no such bundle"
mkdir "$WORK/empty"
run oci run --bundle "$WORK/empty" two
like "$status:$err" '^1:.*JSON specification file config.json not found' "a bundle without config.json"
oci_config a '.process.args = ["env"] | .process.env = ["ONE=1", "PATH=/bin", "ONE=2"]'
run oci run --bundle "$WORK/a" two
is "$(sort <<<"$out" | tr '\n' ' ')" "HOME=/root ONE=2 PATH=/bin " "the last of two variables counts, and HOME comes from passwd"
oci_config a '.process.terminal = true | .process.args = ["sh", "-c", "tty; stty size; echo end"] | .process.consoleSize = {height: 12, width: 34}'
run oci run --bundle "$WORK/a" two
is "$out" $'/dev/pts/0\n12 34\nend' "a terminal, of the size that was asked for, without carriage returns"
run oci create --bundle "$WORK/a" two
like "$status:$err" '^1:.*cannot allocate tty if runc will detach without setting console socket' "a terminal needs a console socket to detach from"
run oci run --detach=false --console-socket "$WORK/x" --bundle "$WORK/a" two
like "$status:$err" '^1:.*cannot use console socket if runc will not detach or allocate tty' "and the socket is of no use in the foreground"
oci_config a '.process.terminal = false'

# --- without a cgroup ------------------------------------------------------------------------------------------------------

cp "$WORK/a/config.json" "$WORK/with-cgroup.json"
oci_config a '.process.args = ["sleep", "1000"] | .linux.namespaces |= map(select(.type != "cgroup"))'
run_is 0 "--cgroup-manager disabled" oci --cgroup-manager disabled run -d --bundle "$WORK/a" --pid-file "$WORK/pid" two
is "$(cat "/proc/$(cat "$WORK/pid")/cgroup")" "$(cat /proc/self/cgroup)" "the container is where its caller is"
is "$(oci exec two cat /proc/self/cgroup)" "$(cat /proc/self/cgroup)" "and so is exec"
run oci pause two
like "$status:$err" '^1:.*the container has no cgroup' "there is nothing to pause it by"
run_is 0 "delete --force" oci delete --force two
oci_config a '.linux.resources.memory = {limit: 100000000}'
run oci --cgroup-manager disabled run --bundle "$WORK/a" two
like "$status:$err" '^1:.*limits need a cgroup' "a limit is refused"
cp "$WORK/with-cgroup.json" "$WORK/a/config.json"

# --- without a process -------------------------------------------------------------------------------------------------------

cp "$WORK/a/config.json" "$WORK/with-process.json"
oci_config a 'del(.process) | .hooks = {poststart: [{path: "/bin/false"}]}'
run oci run --bundle "$WORK/a" two
like "$status:$err" '^1:.*the configuration has no process' "run needs a process"
run_is 0 "create doesn't" oci create --bundle "$WORK/a" two
is "$(oci state two | jq -r .status)" created "it is there"
is "$(oci exec --cwd / two hostname)" "$(jq -r .hostname "$WORK/a/config.json")" "and can be entered"
run oci start two
like "$status:$err" '^0:.*level=error.*container two has no process' "start has nothing to start, and says so"
ok "then it has stopped" within 5 eval '[ "$(oci state two | jq -r .status)" = stopped ]'
run_is 0 "and can be deleted" oci delete two
oci create --bundle "$WORK/a" two
oci kill two
ok "SIGTERM ends it as well" within 5 eval '[ "$(oci state two | jq -r .status)" = stopped ]'
oci delete two
cp "$WORK/with-process.json" "$WORK/a/config.json"

# --- where errors go --------------------------------------------------------------------------------------------------------

run oci --log "$WORK/log" --log-format json state none
is "$(jq -r '[.level, .msg] | join(": ")' <"$WORK/log")" "error: container does not exist" "--log --log-format json: level, msg"
like "$(jq -r .time <"$WORK/log")" '^20[0-9-]+T' "and time"
is "$err" "container does not exist" "stderr has it as well"
rm "$WORK/log"
run oci --log "$WORK/log" state none
like "$(cat "$WORK/log")" '^time="20[^"]*" level=error msg="container does not exist"$' "--log in text"
run oci --log-format json state none
is "$(jq -r .msg <<<"$err")" "container does not exist" "without --log the line goes to stderr"
oci_config a '.process.args = ["true"]'
rm "$WORK/log"
run_is 0 "--debug" oci --debug --log "$WORK/log" --log-format json run --bundle "$WORK/a" two
is "$(jq -r .level <"$WORK/log" | sort -u)" debug "tells steps as lines of the log"
like "$(jq -r .msg <"$WORK/log")" 'mount type=proc.*pivot_root.*exec path=/bin/true' "in order"
is "$err" "" "and nothing on stderr"

# --- spec -------------------------------------------------------------------------------------------------------------------

mkdir "$WORK/spec"
run_is 0 "spec" oci spec --bundle "$WORK/spec"
is "$(jq -c '[.process.args, .root.path, .linux.resources.devices]' "$WORK/spec/config.json")" '[["sh"],"rootfs",[{"allow":false,"access":"rwm"}]]' "its values"
run oci spec --bundle "$WORK/spec"
like "$status:$err" '^1:.*File config.json exists. Remove it first' "never over another"
rm "$WORK/spec/config.json"
run_is 0 "spec --rootless" oci spec --rootless --bundle "$WORK/spec"
is "$(jq -c '[.linux.uidMappings[0].size, (.linux.namespaces | map(.type) | index("network")), (.linux.namespaces | map(.type) | index("user") > 0)]' "$WORK/spec/config.json")" \
	'[1,null,true]' "its values"
cp -r "$WORK/a/rootfs" "$WORK/spec/rootfs"
rm "$WORK/spec/config.json"
oci spec --bundle "$WORK/spec"
jq '.process.args = ["echo", "hello"] | .process.terminal = false' "$WORK/spec/config.json" >"$WORK/new" && mv "$WORK/new" "$WORK/spec/config.json"
run oci run --bundle "$WORK/spec" two
is "$status:$out" "0:hello" "what spec writes runs"
ok "features is JSON" eval 'oci features | jq -e ".hooks | index(\"poststop\")"'

# --- manual pages and completion --------------------------------------------------------------------------------------------

like "$(oci man run)" '^\.TH BULKHEAD-OCI-RUN 8.*\\-\\-detach' "a manual page for each command"
oci completion bash >"$WORK/completion"
ok "the completion is a script" bash -n "$WORK/completion"

ok "no state is left" rmdir "$OCI_ROOT"
done_testing
