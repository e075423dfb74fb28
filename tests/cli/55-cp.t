#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# cp: files between containers and the host, or tar streams.
. "$(dirname "$0")/../lib.sh"
need_busybox
b=$BULKHEAD
cp_() { "$b" cp "$@"; }
inside() { "$b" exec web "$@"; }
# about FILE...: kind, permissions, owner, time and target of each.
about() { stat -c '%n %F %a %u:%g %Y' "$@"; }
cd "$WORK" || exit

mkdir -p s/dir/sub s/empty
echo file >s/file
echo inner >s/dir/sub/inner
ln -s file s/link
ln -s dir s/link-dir
ln -s nowhere s/link-bad
ln s/dir/sub/inner s/dir/hard
chown -R 1234:1235 s/dir
chmod 750 s/dir
chmod 4711 s/dir/hard
mkfifo s/dir/fifo
touch -d '2001-02-03 04:05:06' s/file s/dir/sub/inner
touch -h -d '2001-02-03 04:05:06' s/link
touch -d '2002-02-03 04:05:06' s/dir/sub

ok "a container runs" "$b" run -d --name web -v "$WORK/volume:/volume" -v constant:/constant:ro busybox sleep 1000

# --- into it: what becomes of SRC and DEST ------------------------------------------------------------------------------------
# into SRC DEST RESULT: copies into a fresh /t, and lists what is new there.
into() {
	local expected=$3
	inside sh -c 'rm -rf /t; mkdir -p /t/folder /t/clash/file /t/clash2; echo old >/t/old; echo old >/t/clash2/dir; ln -s folder /t/link-folder; ln -s old /t/link-old; ln -s gone /t/link-gone
		cd /t; find . | sort >/tmp/before'
	run cp_ $1 "web:/t/$2"
	result=$([ "$status" = 0 ] || printf '!'
		inside sh -c 'cd /t; [ "$(cat old)" = old ] || echo =old; find . | sort | grep -vxFf /tmp/before' | sed 's,^\./,,' | tr '\n' ' ')
	is "$result" "$expected" "cp $1 web:/t/$2${expected:+ gives }$expected"
}
into s/file new "new "
into s/file new/ "!"
like "$err" "^bulkhead: container web: copy to '/t/new/': no such directory$" "... with the reason in one line"
into s/file folder "folder/file "
into s/file folder/. "folder/file "
into s/file old "=old "
into s/file old/ "!"
into s/file link-folder "folder/file "
into s/file link-old "=old "
into s/file link-gone "gone "
into s/file no/such "!"
into s/file clash "!"
like "$err" "cannot overwrite directory 'file' with non-directory" "... a file never replaces a folder"
into s/dir new "new new/fifo new/hard new/sub new/sub/inner "
into s/dir new/ "new new/fifo new/hard new/sub new/sub/inner "
into s/dir/ new "new new/fifo new/hard new/sub new/sub/inner "
into s/dir/. new "new new/fifo new/hard new/sub new/sub/inner "
into s/dir folder "folder/dir folder/dir/fifo folder/dir/hard folder/dir/sub folder/dir/sub/inner "
into s/dir/. folder "folder/fifo folder/hard folder/sub folder/sub/inner "
into s/dir old "!"
like "$err" "cannot copy a directory onto a file" "... a folder never replaces a file"
into s/dir/. old "!"
into s/dir clash2 "!"
like "$err" "cannot overwrite non-directory 'dir' with directory" "... nor below the destination"
into s/empty folder "folder/empty "
into s/link new "new "
is "$(inside readlink /t/new)" file "a link is copied as one"
into "-L s/link" new "new "
is "$(inside cat /t/new)" file "... with -L what it leads to"
into "-L s/link" folder "folder/link "
into s/link-dir new "new "
into s/link-dir/ new "new new/fifo new/hard new/sub new/sub/inner "
into "-L s/link-bad" new "!"
into s/nope new "!"
is "$err" "bulkhead: copy from 's/nope': No such file or directory" "what isn't there is said in one line"
into s/file/ new "!"

# --- owners, permissions, times ---------------------------------------------------------------------------------------------------
into s/dir folder "folder/dir folder/dir/fifo folder/dir/hard folder/dir/sub folder/dir/sub/inner "
is "$(inside sh -c 'cd /t/folder; stat -c "%n %a %u:%g" dir dir/hard')" "dir 750 0:0"$'\n'"dir/hard 711 0:0" "what is copied in is root's; rights that go with another owner are dropped"
is "$(inside stat -c '%Y %h' /t/folder/dir/sub/inner)" "$(stat -c '%Y %h' s/dir/sub/inner)" "times and hard links are kept"
is "$(inside stat -c %Y /t/folder/dir/sub)" "$(stat -c %Y s/dir/sub)" "... of folders too"
into "-a s/dir" folder "folder/dir folder/dir/fifo folder/dir/hard folder/dir/sub folder/dir/sub/inner "
is "$(inside sh -c 'cd /t/folder; stat -c "%n %a %u:%g" dir dir/hard')" "dir 750 1234:1235"$'\n'"dir/hard 4711 1234:1235" "-a keeps owners, and such rights"
cp_ web:/t/folder/dir out && is "$(stat -c '%a %u:%g' out out/hard | tr '\n' ' ')" "750 0:0 711 0:0 " "what is copied out is the caller's"
cp_ -a web:/t/folder/dir out2 && is "$(stat -c '%a %u:%g' out2 out2/hard | tr '\n' ' ')" "750 1234:1235 4711 1234:1235 " "... with -a whose it was"
is "$(stat -c '%F %Y' out/sub/inner out/fifo out/sub)" "$(stat -c '%F %Y' s/dir/sub/inner s/dir/fifo s/dir/sub)" "kinds and times are kept"
is "$(stat -c %i out/hard)" "$(stat -c %i out/sub/inner)" "... and hard links"
ok "a device" cp_ web:/dev/null null
is "$(stat -c '%F %t:%T' null)" "character special file 1:3" "... is one here too"
is "$(umask 077 && cp_ s/file web:/t/mask && inside stat -c %a /t/mask)" 644 "the caller's umask doesn't matter"

# --- out of it ---------------------------------------------------------------------------------------------------------------------
inside sh -c 'rm -rf /t; mkdir -p /t/folder; echo in >/t/folder/in; ln -s folder /t/link; ln -s /etc/passwd /t/absolute; ln -s ../../../../../../etc /t/up'
mkdir have && echo old >have-file && ln -s have link-have
out_of() {
	run cp_ $1 "$2"
	is "$status$(cd . && ls -d $3 2>/dev/null | sed 's/^/ /' | tr -d '\n')" "$4" "cp $1 $2${4#?}"
}
out_of web:/t/folder new 'new/*' "0 new/in"
out_of web:/t/folder have 'have/*' "0 have/folder"
out_of web:/t/folder/. have 'have/in' "0 have/in"
out_of web:t/folder/in link-have/ 'have/*' "0 have/folder have/in"
out_of web:/t/folder have-file 'have-file' "1 have-file"
out_of web:/t/folder/in new-file/ 'new-file' "1"
out_of web:/t/folder/in new-file 'new-file' "0 new-file"
out_of web:/t/nope nope nope 1
is "$err" "bulkhead: container web: copy from '/t/nope': No such file or directory" "what isn't there is said in one line"
is "$(cp_ web:/t/link got && readlink got)" folder "a link comes out as one"
is "$(cp_ -L web:/t/absolute passwd && cat passwd)" "$(inside cat /etc/passwd)" "an absolute link is followed inside the container"
is "$(cp_ web:/t/up/passwd up && cat up)" "$(inside cat /etc/passwd)" "... and one that climbs"
is "$(cp_ web:/../../etc/passwd dots && cat dots)" "$(inside cat /etc/passwd)" "... and a path that does"

# --- streams --------------------------------------------------------------------------------------------------------------------------
is "$(cp_ web:/t/folder - | tar tf - | tr '\n' ' ')" "folder/ folder/in " "- gives a tar archive"
is "$(cp_ web:/t/folder/. - | tar tf - | tr '\n' ' ')" "./ ./in " "... of a folder's content"
tar cf - -C s dir file | cp_ - web:/volume
is "$(inside cat /volume/dir/sub/inner /volume/file)" $'inner\nfile' "a tar archive from standard input"
is "$(cat volume/dir/sub/inner)" inner "... on a volume"
run cp_ - web:/volume/file <s/file
is "$status" 1 "- needs a folder"
like "$err" "^bulkhead: container web: copy to '/volume/file': Not a directory$" "... and says so"
tar cf - -C s dir | head -c 3000 >cut.tar
run sh -c '"$BULKHEAD" cp - web:/t/folder <cut.tar'
is "$status" 1 "a tar archive that ends early is a failure"
like "$err" "^bulkhead: container web: tar archive: it ends " "... in one line"
run sh -c '"$BULKHEAD" cp - web:/t/folder <s/file'
like "$status $err" "^1 bulkhead: container web: tar archive: it ends" "what is no archive is a failure"
run sh -c 'head -c 100000 "$BULKHEAD" | "$BULKHEAD" cp - web:/t/folder'
like "$status $err" "^1 bulkhead: container web: tar archive: this isn't one" "... in one line"
inside dd if=/dev/zero of=/t/zeros bs=1048576 count=20 2>/dev/null
run bash -c 'set -o pipefail; "$BULKHEAD" cp web:/t/zeros - | head -c 1000 | wc -c'
is "$status $out" "1 1000" "a reader that goes away ends it"
like "$err" "^bulkhead: write standard output: Broken pipe$" "... with one line"

# killed in the middle of a file
mkfifo slow
"$b" cp - web:/t/folder <slow &
exec 9>slow
tar cf - -C "$BUILD" bulkhead | head -c 100000 >&9 2>/dev/null
kill -KILL $! && wait $! 2>/dev/null
exec 9>&-
is "$(inside sh -c 'ls -a /t/folder | grep bulkhead')" "" "killed, it leaves no half of a file"
rm slow
mkfifo slow
"$b" cp web:/t/zeros - >slow 2>/dev/null &
exec 9<slow
head -c 1000 <&9 >/dev/null
kill -KILL $! && wait $! 2>/dev/null
ok "... and nobody who holds its output" timeout 5 sh -c "cat >/dev/null" <&9
exec 9<&-

# --- what is mounted ------------------------------------------------------------------------------------------------------------------
echo 10.0.0.1 name >hosts
ok "a file that is a mount point" cp_ hosts web:/etc/hosts
is "$(inside cat /etc/hosts)" "10.0.0.1 name" "... is written into"
run cp_ s/file web:/constant/
is "$status" 1 "a read-only volume"
like "$err" "^bulkhead: container web: copy to '/constant/': file: create: Read-only file system$" "... says so"
is "$(cp_ web:/ - | tar tf - 2>/dev/null | grep -cE '^\./(proc|sys)/.')" 0 "kernel file systems below the source are left out"

# --- large ------------------------------------------------------------------------------------------------------------------------------
dd if=/dev/urandom of=large bs=1M count=100 2>/dev/null
ok "100 MB in" cp_ large web:/volume/large-in
ok "... and out" cp_ web:/volume/large-in large-out
ok "... are the same" cmp large large-out
rm -f large large-out volume/large-in

# --- a hostile container ------------------------------------------------------------------------------------------------------------
mkdir outside && echo canary >outside/file
inside sh -c "mkdir /w; ln -s $WORK/outside /w/exit"
run cp_ s/file web:/w/exit/
isnt "$status" 0 "a link to a folder of the host leads to what is there inside: nothing"
tar cf - -C s file --transform 's,^,exit/,' 2>/dev/null | cp_ - web:/w 2>/dev/null
is "$(ls outside) $(cat outside/file)" "file canary" "... also for an archive"
"$b" exec -d web sh -c "mkdir /w/a; while :; do mv /w/a /w/b; ln -s $WORK/outside /w/a; rm /w/a; mv /w/b /w/a; done"
for _ in $(seq 40); do
	cp_ s/dir/. web:/w/a 2>/dev/null
	cp_ s/file web:/w/a/file 2>/dev/null
	rm -rf raced
	cp_ web:/w/a raced 2>/dev/null
	[ ! -L raced ] && [ -e raced/file ] && grep -q canary raced/file && fail "a container's link was followed outside"
done
is "$(ls outside) $(cat outside/file)" "file canary" "renames during the copy lead nowhere"

inside sh -c 'mkdir -p "/names/d/$(printf "a\\nb\\033[31m")"'
mkdir -p named && (cd named && touch "$(printf 'a\nb\033[31m')")
run cp_ web:/names/d/. named
is "$status $err" "1 bulkhead: copy to 'named': cannot overwrite non-directory 'a b [31m' with directory" "a name can't steer the terminal that an error is written to"

# archives that want out: taken or refused with one line, and nothing outside of the root changes
if has python3; then
	mkdir -p tars/outside
	echo canary >tars/outside/victim
	python3 "$TESTS/hostile-tar.py" "$WORK/tars" >cases || fail "hostile-tar.py"
	inside mkdir /hostile
	lines=0 wrong=''
	while IFS=$'\t' read -r name expect; do
		run timeout 60 sh -c '"$BULKHEAD" cp -a - web:/hostile <"$1"' sh "tars/$name"
		lines=$((lines + 1))
		[ "$status:$err" = 0: ] || { [ "$status" = 1 ] && [[ $err =~ ^"bulkhead: container web: " ]] && [ "$(grep -c . <<<"$err")" = 1 ]; } || wrong+=" $name"
		[ "$(ls -A tars/outside)$(cat tars/outside/victim)" = victimcanary ] || wrong+=" $name(outside)"
	done <cases
	is "$wrong" "" "each of $lines hostile archives is taken inside, or refused with one line"
	isnt "$lines" 0 "... and there are some"
fi

# --- paused, stopped, never started ---------------------------------------------------------------------------------------------
"$b" pause web >/dev/null
is "$(cp_ s/file web:/volume/paused && cp_ web:/volume/paused paused && cat paused)" file "a paused container, both ways"
"$b" unpause web >/dev/null
"$b" stop -t 0 web >/dev/null
is "$(cp_ web:/etc/passwd - | tar xOf - | head -c 5)" root: "a stopped container, out"
ok "... in" cp_ s/dir web:/root/
is "$(cp_ web:/volume/dir/sub/inner inner && cat inner)" inner "... its volumes are there"
ok "... and can be written" cp_ s/file web:/volume/stopped
is "$(cat volume/stopped)" file "... where they are"
run cp_ s/file web:/constant/
is "$status" 1 "... but not the read-only one"
"$b" start web >/dev/null
is "$(inside cat /root/dir/sub/inner)" inner "after a start it is there"
"$b" create --name fresh --read-only -v filled:/etc busybox cat /etc/passwd >/dev/null
is "$(cp_ fresh:/bin/busybox bb && cmp bb /bin/busybox && echo same)" same "one that was never started"
is "$(cp_ fresh:/etc/passwd - | tar xOf - | head -c 5)" root: "... its volumes have what the image has there"
run cp_ s/file fresh:/root/
like "$status $err" "^1 bulkhead: container fresh: .*Read-only file system$" "... its root is read-only, if it is so when it runs"

# --- user namespaces --------------------------------------------------------------------------------------------------------------
"$b" run -d --name mapped --userns auto busybox sleep 1000 >/dev/null
cp_ s/dir mapped:/root && cp_ -a s/dir mapped:/tmp/
is "$("$b" exec mapped stat -c '%n %u:%g %a' /root/dir /root/dir/hard /tmp/dir/hard | tr '\n' ' ')" "/root/dir 0:0 750 /root/dir/hard 0:0 711 /tmp/dir/hard 1234:1235 4711 " "owners are the container's numbers"
cp_ -a mapped:/tmp/dir mapped-out
is "$(stat -c '%u:%g %a' mapped-out/hard)" "1234:1235 4711" "... also out"
"$b" stop -t 0 mapped >/dev/null
cp_ -a s/dir mapped:/var/
cp_ s/file mapped:/var/
"$b" start mapped >/dev/null
is "$("$b" exec mapped stat -c '%u:%g %a' /var/dir/hard /var/file | tr '\n' ' ')" "1234:1235 4711 0:0 644 " "the same while it is stopped"
touch s/stranger && chown 70000:0 s/stranger
run cp_ -a s/stranger mapped:/tmp/
is "$status" 1 "-a with an owner that isn't mapped"
like "$err" "^bulkhead: container mapped: copy to '/tmp/': stranger: its owner 70000:0 isn't mapped" "... says so"
is "$("$b" exec mapped ls -A /tmp)" dir "... and leaves nothing"

# --- the command line ------------------------------------------------------------------------------------------------------------------
for wrong in "a b" "web:/a mapped:/b" "- -"; do
	run cp_ $wrong
	is "$status $(grep -c . <<<"$err")" "1 1" "cp $wrong is refused in one line"
done
run cp_ nosuch:/a b
like "$status $err" "^1 bulkhead: No such container: nosuch$" "an unknown container"
touch "$WORK/web:x"
is "$(cp_ "./web:x" web:/tmp/ && inside ls /tmp/web:x)" /tmp/web:x "a path with a colon begins with ./"
is "$(script -qec "$b cp s/file web:/tmp/" /dev/null </dev/null | tr -d '\r')" "Successfully copied 2.05kB to web:/tmp/" "on a terminal it tells what was copied"
is "$(script -qec "$b cp -q s/file web:/tmp/" /dev/null </dev/null)" "" "... unless -q"
like "$(cp_ --explain s/file web:/tmp/ 2>&1)" "copy .*path=/tmp/ direction=in" "--explain"

"$b" rm -f web fresh mapped >/dev/null
done_testing
