#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# timeout: 250
# cp into and out of a microVM: the same as a container's (55-cp), through the guest's agent.
. "$(dirname "$0")/../lib.sh"

has mke2fs || skip_all "lab: no mke2fs"
need_microvms
need_busybox
bh() {
	timeout --kill-after=5 150 "$BULKHEAD" "$@"
}
cd "$WORK" || exit
mkdir -p s/dir/sub shared
echo file >s/file
echo inner >s/dir/sub/inner
ln -s sub/inner s/dir/link
ln s/dir/sub/inner s/dir/hard
chown -R 1234:1235 s/dir
chmod 750 s/dir
touch -d '2001-02-03 04:05:06' s/dir/sub/inner s/dir/sub

run_is 0 "a microVM" bh run -d --name ship --isolation vm --accel "$accelerator" -v "$WORK/shared:/shared" --tmpfs /scratch busybox sleep 1000
run_is 0 "a folder goes in" bh cp s/dir ship:/root/
is "$(bh exec ship sh -c 'cd /root/dir; stat -c "%n %a %u:%g %Y %h" . sub sub/inner; readlink link')" ". 750 0:0 $(stat -c '%Y' s/dir) 3
sub 755 0:0 981173106 2
sub/inner 644 0:0 981173106 2
sub/inner" "... as root's, with its permissions, times, links"
run_is 0 "-a" bh cp -a s/dir/. ship:/kept
is "$(bh exec ship stat -c %u:%g /kept/hard)" 1234:1235 "... keeps owners"
run_is 0 "a folder comes out" bh cp -a ship:/kept out
is "$(cd out && stat -c '%n %a %u:%g %Y %h' . hard sub && readlink link)" "$(cd s/dir && stat -c '%n %a %u:%g %Y %h' . hard sub && readlink link)" "... as it was"
is "$(tar cf - -C s file | bh cp - ship:/scratch && bh cp ship:/scratch/file - | tar xOf -)" file "tar streams, and a tmpfs inside"
run_is 0 "a file to a folder of the host" bh cp s/file ship:/shared/
is "$(cat shared/file)" file "... is there"
dd if=/dev/urandom of=large bs=1M count=10 2>/dev/null
run_is 0 "10 MB in" bh cp large ship:/large
run_is 0 "... and out" bh cp ship:/large large-out
ok "... are the same" cmp large large-out

run_is 1 "what isn't there" bh cp ship:/nope .
is "$err" "bulkhead: container ship: copy from '/nope': No such file or directory" "... is said in one line, and the words of a container"
run_is 1 "a folder that isn't there" bh cp s/file ship:/nope/x
is "$err" "bulkhead: container ship: copy to '/nope/x': No such file or directory" "... too"
run_is 1 "a folder onto a file" bh cp s/dir ship:/etc/passwd
like "$err" "cannot copy a directory onto a file$" "... too"
run bash -c 'set -o pipefail; timeout 100 "$BULKHEAD" cp ship:/large - | head -c 1000 | wc -c'
is "$status $out $err" "1 1000 bulkhead: write standard output: Broken pipe" "a reader that goes away ends it"
run sh -c 'tar cf - -C s dir | head -c 3000 | timeout 100 "$BULKHEAD" cp - ship:/root'
like "$status $err" "^1 bulkhead: container ship: tar archive: it ends" "an archive that ends early is a failure"
bh exec ship sh -c 'ln -s /shared/../../../../../etc/passwd /root/way; ln -s / /root/root'
is "$(bh cp -L ship:/root/way way && cat way)" "$(bh exec ship cat /etc/passwd)" "links are followed inside"
ok "nothing goes on in the guest" within 20 sh -c '! "$BULKHEAD" top ship | grep -q guest-process'

bh pause ship >/dev/null
run_is 1 "a paused one" bh cp s/file ship:/
is "$err" "bulkhead: container ship: its microVM is paused and can't answer: unpause it first" "... says so"
bh unpause ship >/dev/null
run_is 0 "... and can be copied to again" bh cp s/file ship:/
run_is 0 "killed" bh kill ship
bh wait ship >/dev/null

# --- stopped: a guest of its own does it --------------------------------------------------------------------------------------------
mkdir -p ro
echo given >ro/given
status_of() { bh inspect --format '{{.State.Status}} {{.State.ExitCode}}' "$1"; }
was=$(status_of ship)
is "$was" "exited 137" "it has ended like a killed process"
run_is 0 "out of a stopped one" bh cp ship:/file stopped-out
is "$(cat stopped-out)" file "... comes what was written before it was killed"
run_is 0 "a folder into it" bh cp -a s/dir ship:/later
run_is 0 "... and out again" bh cp -a ship:/later later
is "$(cd later && stat -c '%n %a %u:%g %Y %h' . hard sub && readlink link)" "$(cd s/dir && stat -c '%n %a %u:%g %Y %h' . hard sub && readlink link)" "... is as it was"
run_is 0 "a file to a folder of the host" bh cp s/dir/sub/inner ship:/shared/
is "$(cat shared/inner)" inner "... is there"
is "$(bh cp ship:/large - | tar xOf - | cmp - large && echo same)" same "10 MB as a stream"
run_is 1 "what isn't there" bh cp ship:/nope .
is "$err" "bulkhead: container ship: copy from '/nope': No such file or directory" "... is said in one line, and the words of a container"
run sh -c 'tar cf - -C s dir | head -c 3000 | timeout 100 "$BULKHEAD" cp - ship:/root'
like "$status $err" "^1 bulkhead: container ship: tar archive: it ends" "an archive that ends early is a failure"
is "$(status_of ship)" "$was" "its state is what it was"
mkfifo slow
(exec timeout 150 "$BULKHEAD" cp - ship:/root <slow >/dev/null 2>killed.err) &
copier=$!
exec 8>slow
ok "while it goes on there is a machine" within 60 sh -c 'ls "$BULKHEAD_STATE"/containers/*/microvm.json'
pkill -KILL -P $copier bulkhead
exec 8>&-
wait $copier
ok "the command killed: the machine ends by itself" within 60 sh -c '! ls "$BULKHEAD_STATE"/containers/* 2>/dev/null'
run_is 0 "... and the next one has it all" bh cp ship:/later/sub/inner -
run_is 0 "it starts" bh start ship
is "$(bh exec ship cat /later/sub/inner)" inner "... with what came in"
bh rm -f ship >/dev/null
run_is 0 "one that was never started, with its root read-only for the workload" bh create --name fresh --isolation vm --accel "$accelerator" --read-only -v "$WORK/ro:/ro:ro" busybox cat /made
run_is 0 "out of it" bh cp fresh:/etc/passwd passwd
like "$(cat passwd)" "^root:" "... come the image's files"
run_is 0 "... and those of a folder of the host" bh cp fresh:/ro/given given
run_is 1 "into it" bh cp s/file fresh:/made
like "$err" "Read-only file system$" "... nothing goes"
bh rm fresh >/dev/null
run_is 0 "one that was never started" bh create --name fresh --isolation vm --accel "$accelerator" --kernel /nowhere busybox true
run_is 1 "... nor can be" bh cp fresh:/etc/passwd passwd
like "$err" "^bulkhead: container fresh: .*kernel.*/nowhere" "... says why"
bh rm fresh >/dev/null
done_testing
