#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# timeout: 250
# `--isolation vm`: an image in a machine with its own kernel. On a machine with KVM by our own monitor, else on QEMU's software CPU.
. "$(dirname "$0")/../lib.sh"

has mke2fs || skip_all "lab: no mke2fs"
need_microvms
need_busybox
vm=(timeout --kill-after=5 150 "$BULKHEAD" run --rm --isolation vm --accel "$accelerator")

# --- without a kernel, with wrong options: one sentence ---------------------------------------------------------------------
run_is 125 "a kernel that isn't one is refused" "${vm[@]}" --kernel /bin/busybox busybox true
like "$err" "no Linux kernel" "... in words"
run_is 125 "the host's network is refused" "${vm[@]}" --network host busybox true
like "$err" "network of its own" "... with the reason"
run_is 125 "an unknown accelerator is refused" "${vm[@]}" --accel magic busybox true

# --- one run -----------------------------------------------------------------------------------------------------------------
run "${vm[@]}" --explain --cpus 2 --memory 256m --user user -e COLOUR=blue -w /made/here --hostname ship --read-only --tmpfs /scratch busybox sh -c '
	uname -r; nproc; id -u; echo $COLOUR; pwd; hostname; echo x >/scratch/x && cat /scratch/x; touch /no 2>&1
	awk "/MemTotal/ { print (\$2 < 262144) }" /proc/meminfo; cat /proc/self/status | grep -E "Seccomp:|CapBnd:"; exit 7'
is "$status" 7 "the exit code comes out"
kernel=${out%%$'\n'*}
like "$kernel" "cloud-amd64$" "the kernel is the guest's"
is "$(sed -n 2,7p <<<"$out" | tr '\n' ' ')" "2 1000 blue /made/here ship x " "processors, user, environment, working directory, host name and a tmpfs"
like "$out" "touch: /no: Read-only file system" "the root is read-only"
like "$out" $'\n1\nCapBnd:\t00000000a80425fb\nSeccomp:\t2' "memory is the guest's, and the process has Docker's capabilities and a seccomp filter"
like "$err" "accelerator=$accelerator" "--explain tells the accelerator"
like "$err" "workload +ms=" "... and when the workload had begun"

# --- what can't run ------------------------------------------------------------------------------------------------------------
run_is 127 "a command that isn't there: 127" "${vm[@]}" busybox nowhere
is "$err" 'bulkhead: exec: "nowhere": executable file not found in $PATH' "... in the same words as for a container"

# --- a long one --------------------------------------------------------------------------------------------------------------------
bh() {
	timeout --kill-after=5 150 "$BULKHEAD" "$@"
}
mkdir -p "$WORK/shared/below" "$WORK/constant"
echo outside >"$WORK/shared/file"
echo constant >"$WORK/constant/file"
echo secret >"$WORK/secret"
ln -s ../secret "$WORK/shared/way-out"
run_is 0 "run -d" bh run -d --name ship -i --isolation vm --accel "$accelerator" -v "$WORK/shared:/shared" -v "$WORK/constant:/constant:ro" -v "$WORK/secret:/etc/a/secret" -v "$WORK/constant/file:/constant-file:ro" -v hold:/home busybox sh -c \
	'trap "echo ending; exit 3" TERM; trap "echo usr1" USR1; echo beginning; echo to-stderr >&2; while :; do sleep 0.1; done'
like "$(bh ps --format '{{.Names}} {{.Status}}')" "ship Up" "ps has it"
is "$(bh inspect --format '{{.HostConfig.Isolation}}' ship)" vm "inspect tells the isolation"
is "$(bh inspect --format '{{.MicroVM.Accelerator}} {{.MicroVM.Kernel}}' ship)" "$accelerator $kernel" "... and what the machine runs on"
like "$(bh info)" "MicroVM Accelerator: $accelerator" "so does info, for machines to come"
like "$(bh top ship)" 'root +[0-9]+ .* sh -c trap' "top lists the guest's processes"
run_is 0 "exec" bh exec ship uname -r
is "$out" "$kernel" "... in the same machine"
run_is 9 "exec's exit code" bh exec ship sh -c 'exit 9'
run_is 127 "exec of what isn't there" bh exec ship nowhere
run_is 0 "exec as a user" bh exec -u user -w /tmp -e A=b ship sh -c 'id -un; pwd; echo $A'
is "${out//$'\n'/ }" "user /tmp b" "... with folder and environment"
dd if=/dev/urandom of="$WORK/big" bs=1M count=3 2>/dev/null
is "$(bh exec -i ship sha256sum <"$WORK/big")" "$(sha256sum <"$WORK/big")" "exec -i takes standard input whole"
is "$(bh exec -i ship cat <"$WORK/big" | sha256sum)" "$(sha256sum <"$WORK/big")" "... and gives it back whole, in both directions at once"
bh exec ship sleep 1 &
is "$(bh exec ship echo quick)" quick "two at once"
wait
is "$(script -qec "$BULKHEAD exec -it ship sh -c 'stty rows 30 cols 90; stty size; tty; exit 5'" /dev/null </dev/null | tr -d '\r' | head -n 1 | sed 's,^\^@,,')" "30 90" "exec -it has a terminal"
is "$(bh exec ship ps | grep -c bulkhead)" 0 "nothing of ours is in the container's list of processes"
run_is 0 "a signal" bh kill -s USR1 ship
within 10 eval '"$BULKHEAD" logs ship | grep -q usr1'
is "$(bh logs ship 2>/dev/null | head -n 2 | tr '\n' ' ')" "beginning usr1 " "... reaches the workload; logs have its output"
is "$(bh logs ship 2>&1 >/dev/null)" to-stderr "... and its errors"
like "$(bh stats --no-stream --format '{{.MemUsage}}' ship)" "704MiB" "stats: its limit is the guest's memory and the monitor's"
run_is 0 "pause" bh pause ship
like "$(bh ps --format '{{.Status}}')" Paused "... is shown"
run_is 0 "unpause" bh unpause ship
is "$(bh exec ship echo alive)" alive "... and it goes on"

# --- folders of the host ----------------------------------------------------------------------------------------------------------
is "$(bh exec ship cat /shared/file)" outside "-v: a file of the host"
bh exec ship sh -c 'mkdir /shared/inside && echo inside >/shared/inside/file && mv /shared/file /shared/below/ && chown 1000:100 /shared/inside/file && chmod 640 /shared/inside/file'
is "$(cat "$WORK/shared/inside/file" "$WORK/shared/below/file" | tr '\n' ' ')" "inside outside " "... what is made and moved inside is outside"
is "$(stat -c '%u:%g %a' "$WORK/shared/inside/file")" "1000:100 640" "... with owner and mode"
echo changed >"$WORK/shared/inside/file"
within 10 eval '[ "$(bh exec ship cat /shared/inside/file)" = changed ]'
is "$(bh exec ship cat /shared/inside/file)" changed "... and what is changed outside is seen inside"
run_is 1 "a link that leads out of the folder leads nowhere" bh exec ship cat /shared/way-out
run_is 1 "a read-only folder stays as it is" bh exec ship sh -c 'echo x >/constant/file'
is "$(bh exec ship cat /constant/file)" constant "... and can be read"
run_is 0 "a big file goes out" bh exec ship sh -c 'dd if=/dev/urandom of=/shared/big bs=1M count=12 2>/dev/null; cat /shared/big | sha256sum'
is "$out" "$(sha256sum <"$WORK/shared/big")" "... whole"
run_is 0 "a named volume" bh exec ship sh -c 'echo kept >/home/file'
is "$(cat "$BULKHEAD_ROOT/volumes/hold/_data/file")" kept "... is the host's"
is "$(bh exec ship cat /etc/a/secret /constant-file | tr '\n' ' ')" "secret constant " "-v: single files of the host"
bh exec ship sh -c 'echo told >/etc/a/secret'
is "$(cat "$WORK/secret")" told "... can be written"
run_is 1 "... unless they are read-only" bh exec ship sh -c 'echo x >/constant-file'
is "$(cat "$WORK/constant/file")" constant "... and stay as they are then"
run_is 125 "a device can't be shared" "${vm[@]}" -v /dev/null:/x busybox true
like "$err" "only folders and files" "... and that is said"

# --- nobody but its own can get at the machine -----------------------------------------------------------------------------------
session=$(bh inspect --format '{{.State.Pid}}' ship)
monitor=$(pgrep -P "$session" -f -- ' -machine | --jail ')
for pid in $session $monitor; do
	name=$(tr -d '\0' <"/proc/$pid/comm")
	is "$(sed -n 's/^CapEff:\t//p; s/^CapBnd:\t//p; s/^CapPrm:\t//p' "/proc/$pid/status" | sort -u)" 0000000000000000 "$name ($pid) has no capability"
	isnt "$(awk '/^Uid:/ { print $2 }' "/proc/$pid/status")" 0 "... and isn't root"
	is "$(awk '/^NoNewPrivs:/ { print $2 }' "/proc/$pid/status")" 1 "... and gets no new rights"
	is "$(awk '/^Seccomp:/ { print $2 }' "/proc/$pid/status")" 2 "... and has a list of system calls"
	isnt "$(readlink "/proc/$pid/ns/mnt")" "$(readlink /proc/self/ns/mnt)" "... in a mount namespace of its own"
	isnt "$(readlink "/proc/$pid/ns/net")" "$(readlink /proc/self/ns/net)" "... and a network namespace of its own"
done
is "$(ls "/proc/$session/root/")" "" "the session's file system is empty"

# --- the disk stays over a stop ------------------------------------------------------------------------------------------------------
bh exec ship sh -c 'echo kept >/kept; dd if=/dev/zero of=/zeros bs=1M count=20 2>/dev/null'
run_is 0 "stop" bh stop ship
is "$(bh inspect --format '{{.State.ExitCode}}' ship)" 3 "... lets the workload end in its own way"
is "$(bh logs ship 2>/dev/null | tail -n 1)" ending "... and its last words are in the log"
run_is 0 "start again" bh start ship
is "$(bh exec ship cat /kept)" kept "... with its files"
run_is 0 "kill" bh kill ship
within 10 eval '! pgrep -P "$session" >/dev/null && [ "$(bh inspect --format "{{.State.ExitCode}}" ship)" = 137 ]'
is "$(bh inspect --format '{{.State.ExitCode}}' ship)" 137 "... ends it with 137"
run_is 0 "rm" bh rm ship

# --- a guest that panics ---------------------------------------------------------------------------------------------------------------
run_is 255 "a panic" "${vm[@]}" --privileged busybox sh -c 'echo c >/proc/sysrq-trigger; sleep 100'
like "$err" "^bulkhead: the virtual machine ended \\(Kernel panic - not syncing: sysrq triggered crash" "... is told in one line"
run_is 0 "one that panics when nobody hears it" bh run -d --name lost --privileged --isolation vm --accel "$accelerator" busybox sh -c 'exec 2>&-; echo c >/proc/sysrq-trigger; sleep 100'
is "$(bh wait lost)" 255 "... has its exit code"
like "$(bh inspect --format '{{.State.Status}} {{.State.Error}}' lost)" "^exited the virtual machine ended \\(Kernel panic" "... and inspect the reason"
run_is 0 "out of it" bh cp lost:/etc/passwd "$WORK/passwd"
like "$(bh inspect --format '{{.State.Error}}' lost)" "Kernel panic" "... comes what is there, and the reason stays"
bh rm lost >/dev/null

# --- memory runs out inside ----------------------------------------------------------------------------------------------------------
# The reader of what is explained isn't kept until the machine ends.
run_is 0 "a neighbour that lives on" timeout 100 bash -c '"$@" 2>&1 | tail -n 2' explained "$BULKHEAD" run -d --explain --name neighbour --isolation vm \
	--accel "$accelerator" busybox sleep 600
like "$out" "workload +ms=" "--explain of run -d"
run timeout --kill-after=5 150 sh -c '"$0" run --rm --isolation vm --accel '$accelerator' --memory 64m busybox sh -c "x=aaaaaaaaaaaaaaaa; while :; do x=\$x\$x; done"; echo "ended with $?"' "$BULKHEAD"
is "$out" "ended with 137" "a memory hog dies, in its own machine"
run_is 0 "a limit that is less than a machine can have is the workload's" "${vm[@]}" --memory 64m busybox sh -c 'cat /sys/fs/cgroup/memory.max; free -k | awk "/Mem/ { print (\$2 > 65536) }"'
is "$out" $'67108864\n1' "... in a machine that is large enough for its kernel"
is "$(bh exec neighbour echo well)" well "the neighbour is well"
run_is 0 "rm -f" bh rm -f neighbour

done_testing
