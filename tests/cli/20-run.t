#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# run, create: exit codes, streams, the options of the process.
. "$(dirname "$0")/../lib.sh"
need_busybox
b=$BULKHEAD

run_is 7 "the exit code of the command is ours" "$b" run --rm busybox sh -c 'exit 7'
run_is 127 "an unknown command gives 127" "$b" run --rm busybox no-such-command
is "$err" 'bulkhead: exec: "no-such-command": executable file not found in $PATH' "in one line that says what"
run_is 126 "a file that can't be executed gives 126" "$b" run --rm busybox /etc/passwd
like "$err" '^bulkhead: exec: "/etc/passwd": permission denied$' "in one line that says why"
run_is 126 "a folder gives 126" "$b" run --rm busybox /etc
run_is 125 "an unknown image gives 125" "$b" run --rm no-such-image true
like "$err" '^bulkhead: .*no-such-image' "and names it"
run_is 125 "an unknown flag gives 125" "$b" run --no-such-flag busybox true
is "$err" "bulkhead: unknown flag: --no-such-flag" "in Docker's words"
run_is 125 "a run without an image gives 125" "$b" run
run_is 143 "killed by SIGTERM gives 128+15" "$b" run --rm busybox sh -c 'sh -c "kill -TERM \$\$"; exit $?'
"$b" run -d --name long busybox sleep 1000 >/dev/null
"$b" kill long >/dev/null
is "$("$b" wait long)" 137 "kill -9 gives 137"
"$b" rm long >/dev/null

run "$b" run --rm busybox sh -c 'echo out; echo err >&2'
is "$out/$err" "out/err" "stdout and stderr stay apart"
is "$(echo input | "$b" run -i --rm busybox cat)" input "-i passes stdin, and its end"
is "$(seq 1 200000 | "$b" run -i --rm busybox sha256sum)" "$(seq 1 200000 | sha256sum)" "a stream of 1.3 MB passes unharmed"
is "$(echo input | "$b" run --rm busybox cat)" "" "without -i stdin is empty"
is "$("$b" run --rm busybox sh -c 'head -c 3000000 /dev/zero | tr "\0" x' | wc -c)" 3000000 "3 MB of output arrive"

is "$("$b" run --rm -e A=1 -e B busybox sh -c 'echo $A.$B')" "1." "-e sets, and takes nothing that isn't there"
is "$(B=2 "$b" run --rm -e B busybox sh -c 'echo $B')" 2 "-e NAME takes our own value"
printf 'X=from file\n# comment\n\nY=2\n' >"$WORK/env"
is "$("$b" run --rm --env-file "$WORK/env" busybox sh -c 'echo $X,$Y')" "from file,2" "--env-file"
is "$("$b" run --rm -w /tmp/new/deep busybox pwd)" /tmp/new/deep "-w makes a missing folder"
run_is 125 "-w wants an absolute path" "$b" run --rm -w relative busybox pwd
is "$("$b" run --rm -u user busybox id -u)" 1000 "-u NAME"
is "$("$b" run --rm -u 1234:4321 busybox sh -c 'id -u; id -g' | tr '\n' ' ')" "1234 4321 " "-u UID:GID"
is "$("$b" run --rm -u user busybox sh -c 'id -G; echo $HOME' | tr '\n' ' ')" "1000 29 100 /home " "-u takes groups and HOME from the image"
run_is 125 "an unknown user is an error" "$b" run --rm -u nobody-knows busybox id
run_is 125 "an id out of range is an error, not wrapped" "$b" run --rm -u 4294967296 busybox id
is "$("$b" run --rm --group-add 77 --group-add audio busybox id -G)" "0 29 77" "--group-add"
is "$("$b" run --rm --entrypoint echo busybox a b)" "a b" "--entrypoint"
is "$("$b" run --rm -h myhost busybox sh -c 'hostname; cat /etc/hostname; echo $HOSTNAME' | tr '\n' ' ')" "myhost myhost myhost " "-h"
is "$("$b" run --rm --add-host db:10.1.2.3 busybox grep db /etc/hosts)" "10.1.2.3	db" "--add-host"
is "$("$b" run --rm --dns 10.9.9.9 --dns-search example busybox cat /etc/resolv.conf | tr '\n' ' ')" "nameserver 10.9.9.9 search example " "--dns"
is "$("$b" run --rm --ulimit nofile=100:200 busybox sh -c 'ulimit -n; ulimit -Hn' | tr '\n' ' ')" "100 200 " "--ulimit"
run_is 125 "an unknown ulimit is an error" "$b" run --rm --ulimit nosuch=1 busybox true
is "$("$b" run --rm --init busybox sh -c 'cat /proc/1/comm' | grep -c sh)" 0 "--init: the command is not pid 1"
run_is 9 "--init passes the exit code" "$b" run --rm --init busybox sh -c 'exit 9'

"$b" run --name named --cidfile "$WORK/cid" -l a=b -l c busybox true
is "$(cat "$WORK/cid")" "$("$b" inspect -f '{{.Id}}' named)" "--cidfile"
is "$("$b" inspect -f '{{index .Config.Labels "a"}}' named)" b "-l"
run_is 125 "a name is unique" "$b" run --name named busybox true
like "$err" 'The container name "/named" is already in use by container' "in Docker's words"
run_is 125 "a bad name is refused" "$b" run --name 'bad/name' busybox true
run_is 125 "a cidfile that is there is refused" "$b" run --cidfile "$WORK/cid" busybox true
"$b" rm named >/dev/null

# A terminal
tty_run() { timeout 20 script -qec "$*" /dev/null; }
if has script && has python3; then
	like "$(tty_run "$b run --rm -t busybox tty" </dev/null)" '/dev/pts/0' "-t gives a terminal"
	is "$(python3 - "$b" <<'PYTHON'
import os, pty, sys, fcntl, termios, struct, time, signal, re
pid, fd = pty.fork()
if pid == 0:
	os.execv(sys.argv[1], [sys.argv[1], "run", "--rm", "-it", "busybox", "sh"])
def size(rows, columns): fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0)); os.kill(pid, signal.SIGWINCH)
def until(pattern, limit=20):
	text, end = b"", time.time() + limit
	while time.time() < end and not re.search(pattern, text):
		text += os.read(fd, 4096)
	return text
until(rb"# ")
size(33, 77)
time.sleep(0.3)
os.write(fd, b"stty size\n"); got = b"33 77" in until(rb"\d+ \d+\r")
os.write(fd, b"sleep 100\n"); time.sleep(0.3); os.write(fd, b"\x03")
until(rb"# ")
os.write(fd, b"sleep 100 &\nkill %1; echo job-$?\n"); job = b"job-0" in until(rb"job-\d")
os.write(fd, b"exit 5\n")
_, status = os.waitpid(pid, 0)
print(got, job, os.WEXITSTATUS(status))
PYTHON
)" "True True 5" "-it: window size, Ctrl-C, job control and the exit code"
else
	skip "no script(1) or python3 here" 2
fi
run_is 1 "-it without a terminal is refused" bash -c "$b run --rm -it busybox true </dev/null; [ \$? = 125 ] && exit 1"
like "$err" 'the input device is not a TTY' "in Docker's words"

# Detach keys, attach
"$b" run -d -i --name att busybox sh -c 'while read -r line; do echo "got $line"; done' >/dev/null
is "$({ echo one; sleep 0.5; } | timeout 5 "$b" attach att | head -n 1)" "got one" "attach carries both directions"
"$b" rm -f att >/dev/null

# create + start -a
"$b" create --name later busybox sh -c 'echo late; exit 3' >/dev/null
is "$("$b" inspect -f '{{.State.Status}}' later)" created "create makes, but doesn't start"
run_is 3 "start -a gives the exit code" "$b" start -a later
is "$out" late "and the output"
run_is 3 "a second start -a runs it again" "$b" start -a later
"$b" rm later >/dev/null

# Signals
"$b" run -d --name sig busybox sh -c 'trap "echo got usr1" USR1; trap "exit 4" TERM; while :; do sleep 0.1; done' >/dev/null
within 5 eval '"$b" kill -s USR1 sig; sleep 0.3; "$b" logs sig | grep -q "got usr1"'
like "$("$b" logs sig)" 'got usr1' "kill -s reaches the process"
"$b" stop sig >/dev/null
is "$("$b" inspect -f '{{.State.ExitCode}}' sig)" 4 "stop sends SIGTERM"
"$b" rm sig >/dev/null
done_testing
