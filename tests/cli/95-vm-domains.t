#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: always
# timeout: 200
# Virtual machines with a name: the `vm` verbs.
. "$(dirname "$0")/../lib.sh"

GUESTS=$BUILD/tests/guests
vm() { "$BULKHEAD" vm "$@"; }

# --- definitions: without a machine -----------------------------------------------------------------------------------------

mkdir -p "$BULKHEAD_ROOT/vms/web/disks"
touch "$BULKHEAD_ROOT/vms/web/disks/disk-0.img" # as a create that was killed leaves it
run vm create web --memory 64m --cpus 2 --kernel "$GUESTS/memory" --multiboot --disk size=10m,serial=root,queues=2
is "$status:$out" "0:web" "vm create"
run vm create web --kernel "$GUESTS/memory"
is "$status:$err" "1:bulkhead: the virtual machine web exists already" "a name is unique"
run vm create bad/name --kernel "$GUESTS/memory"
like "$status:$err" "^1:bulkhead: the name 'bad/name': letters" "and a name"
run vm create small --memory 1m
like "$status:$err" "^1:bulkhead: memory of 1048576 bytes: from 16 MiB" "with enough memory"
run vm create big --memory 900g --cpus 60 --kernel "$GUESTS/memory"
like "$err" 'warning: 60 processors are more than' "more processors than there are: a warning"
like "$err" 'warning: .* MiB of memory are more than' "more memory: a warning"
run vm list -a --format '{{.Name}} {{.State}} {{.CPUs}} {{.Memory}}'
is "$out" "big shut off 60 900GiB
web shut off 2 64MiB" "vm list -a"
is "$(vm list)" "NAME   STATE   PID   CPUS   MEMORY   IMAGE" "vm list shows those that run"
is "$(vm info web | jq -r '.memory, .cpus, .disks[0].serial, .disks[0].queues, .state, .accelerator')" "67108864
2
root
2
shut off
kvm" "vm info"
is "$(vm info -f '{{.cpus}}' web)" 2 "vm info --format"
ok "the definition is a readable file" grep -q '"memory":67108864' "$BULKHEAD_ROOT/vms/web/domain.json"
is "$(stat -c %s "$BULKHEAD_ROOT/vms/web/disks/disk-1.img")" 10485760 "its disk was made"
run vm set web --cpus 1 --append 'some words'
is "$status:$(vm info -f '{{.cpus}} {{.append}}' web)" "0:1 some words" "vm set"
run vm set web --boot xen
like "$status:$err" '^125:bulkhead: invalid argument "xen" for "--boot"' "vm set --boot: a protocol that isn't known"
cp "$BULKHEAD_ROOT/vms/web/domain.json" "$WORK/domain.json"
run vm set web --cpu v9
like "$status:$err" '^1:bulkhead: processor model v9: host, x86-64-v1' "vm set --cpu: a model that isn't known"
vm set web --cpu x86-64-v2,+aes >/dev/null
is "$(vm info web | jq -r .cpu)" x86-64-v2,+aes "vm set --cpu"
vm set web --boot pvh >/dev/null
is "$(vm info web | jq -r '.boot, .multiboot')" "pvh
false" "vm set --boot pvh"
vm set web --boot auto >/dev/null
is "$(vm info web | jq -r .boot)" null "vm set --boot auto"
vm set web --transport mmio >/dev/null
is "$(vm info web | jq -r .transport)" mmio "vm set --transport mmio"
vm set web --transport pci >/dev/null
is "$(vm info web | jq -r .transport)" null "vm set --transport pci"
cp "$WORK/domain.json" "$BULKHEAD_ROOT/vms/web/domain.json"
truncate -s 1m "$WORK/extra.img"
run vm attach web "$WORK/extra.img,readonly"
is "$status:$(vm info web | jq -r '.disks[1].path, .disks[1].readonly')" "0:$WORK/extra.img
true" "vm attach"
run vm attach web "$WORK/extra.img,queues=9"
like "$status:$err" "^1:.*9 queues: from 1 to 8" "vm attach: more queues than a disk can have"
run vm detach web "$WORK/extra.img"
is "$status:$(vm info web | jq '.disks | length')" "0:1" "vm detach"
run vm clone web copy
is "$status:$(vm info web copy | jq -r .uuid | sort -u | wc -l)" "0:2" "vm clone: another identity"
isnt "$(vm info -f '{{index .disks 0 "path"}}' copy)" "$(vm info -f '{{index .disks 0 "path"}}' web)" "and another disk"
run vm rm copy big
is "$status:$(vm list -aq)" "0:web" "vm rm"
ok "takes the disks" [ ! -e "$BULKHEAD_ROOT/vms/copy" ]
run vm rm nosuch
is "$status:$err" "1:bulkhead: no such virtual machine: nosuch" "one that isn't there"

cat >"$WORK/domain.xml" <<'XML'
<domain type='kvm'>
  <name>imported</name>
  <uuid>c7a5fdbd-cdaf-9455-926a-d65c16db1809</uuid>
  <memory unit='MiB'>96</memory>
  <vcpu placement='static'>2</vcpu>
  <os><type arch='x86_64'>hvm</type><kernel>/boot/vmlinuz</kernel><cmdline>console=ttyS0 a &amp; b</cmdline></os>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/images/a.qcow2'/><target dev='vda'/><serial>one</serial></disk>
    <disk type='file' device='cdrom'><source file='/images/b.iso'/><target dev='sda'/></disk>
    <interface type='bridge'><source bridge='br0'/><mac address='52:54:00:aa:bb:cc'/></interface>
    <interface type='network'><source network='default'/></interface>
    <graphics type='vnc'/>
  </devices>
</domain>
XML
run vm import "$WORK/domain.xml"
is "$status:$out" "0:imported" "vm import of a libvirt domain"
is "$(vm info imported | jq -c '[.memory, .cpus, .kernel, .append, .disks[0].format, .disks[0].serial, .disks[1].readonly, .networks[0].bridge, .networks[0].mac]')" \
	'[100663296,2,"/boot/vmlinuz","console=ttyS0 a & b","qcow2","one",true,"br0","52:54:00:aa:bb:cc"]' "what it had"
like "$err" 'graphics is left out' "and what is left out"
printf '<!DOCTYPE d [<!ENTITY a "b">]><domain><name>&a;</name></domain>' >"$WORK/entity.xml"
run vm import "$WORK/entity.xml"
like "$status:$err" '^1:bulkhead: line 1: a document type' "no entities"
vm rm imported >/dev/null
vm autostart web
is "$(vm info -f '{{.autostart}}' web)" true "vm autostart"
vm set web --append ''

if [ ! -c /dev/kvm ]; then
	run vm start web
	like "$status:$err" '^1:bulkhead: this machine has no /dev/kvm' "a machine without KVM says so"
	ok "and nothing is left" [ ! -e "$BULKHEAD_STATE/vms/web" ]
	vm rm web >/dev/null
	skip "lab: there is no /dev/kvm: the running machine" 1
	done_testing
	exit
fi

# --- a machine's life --------------------------------------------------------------------------------------------------------

run vm start web
is "$status:$out" "0:web" "vm start"
is "$(vm list -q)" web "it is in vm list"
run vm start web
like "$status:$err" '^1:bulkhead: the virtual machine web runs already' "once"
run vm rm web
like "$status:$err" '^1:bulkhead: the virtual machine web runs' "it isn't removed while it runs"
ok "its console is logged" within 20 grep -q ready "$BULKHEAD_ROOT/vms/web/log"
mkfifo "$WORK/in"
vm console web <>"$WORK/in" >"$WORK/console" &
console=$!
printf '+' >"$WORK/in"
ok "vm console" within 20 grep -q 'counter 1' "$WORK/console"
is "$(vm suspend web; vm info -f '{{.state}}' web)" "web
paused" "vm suspend"
is "$(vm resume web; vm info -f '{{.state}}' web)" "web
running" "vm resume"
like "$(vm stats web)" '"vcpus":\[\{"io in":[0-9]+.*"devices":\[\{"type":"block","pci":1,"notifications":[0-9]+' "vm stats"
run vm snapshot web first
is "$status:$out:$(vm snapshot --list web)" "0:first:first" "vm snapshot"
run vm snapshot web first
like "$status:$err" '^1:bulkhead: web has a snapshot first already' "one name once"
printf '+' >"$WORK/in"
ok "the machine goes on" within 20 grep -q 'counter 2' "$WORK/console"
run vm restore web nosuch --force
like "$status:$err" '^1:bulkhead: web has no snapshot nosuch' "a snapshot that isn't there costs nothing"
run vm restore web first
like "$status:$err" '^1:bulkhead: the virtual machine web runs: with --force' "nor does one without --force"
run vm restore --force web first
is "$status:$out" "0:web" "vm restore"
wait $console
is $? 137 "the console heard of the end"
vm console web <>"$WORK/in" >"$WORK/console" &
console=$!
printf '+' >"$WORK/in"
ok "and it is where it was" within 20 grep -q 'counter 2' "$WORK/console"
run vm clone web twin --snapshot first
is "$status:$out" "0:twin" "vm clone --snapshot"
run vm restore twin first
is "$status:$out" "0:twin" "and both run from one snapshot"
is "$(vm list -q)" "twin
web" "vm list"
run vm destroy twin
is "$status:$(vm list -q)" "0:web" "vm destroy"
run vm reboot --force web
is "$status" 0 "vm reboot --force"
ok "it starts again, and the console stays" within 20 eval 'printf + >"$WORK/in"; grep -q "counter 1" "$WORK/console"'
vm create other --memory 64m --kernel "$GUESTS/memory" --multiboot --disk size=10m,serial=root,queues=2 >/dev/null
vm start other --incoming "$WORK/moving" >/dev/null 2>"$WORK/err" &
other=$!
within 20 [ -S "$WORK/moving" ]
run vm migrate web "$WORK/moving" --downtime 2s
like "$status:$out" '^0:\{ *"ok": *true' "vm migrate"
wait $other
is "$?:$(vm list -q)" "0:other" "the machine is the other's"
wait $console
is $? 0 "its console ended"
vm create third --memory 64m --kernel "$GUESTS/memory" --multiboot --disk size=10m,serial=root,queues=2 >/dev/null
run vm start third --incoming "tcp://localhost:47113"
like "$status:$err" '^1:bulkhead: tcp://localhost:47113: tcp://ADDRESS:PORT is expected' "a name is no address"
run vm migrate other tcp://127.0.0.1:47113
like "$status:$err" '^1:bulkhead: connect to tcp://127.0.0.1:47113: Connection refused' "nobody waits there"
vm start third --incoming tcp://127.0.0.1:47113 >/dev/null 2>"$WORK/err" &
third=$!
ok "vm migrate by TCP" within 20 eval 'vm migrate other tcp://127.0.0.1:47113 --downtime 2s >"$WORK/out" 2>&1'
like "$(cat "$WORK/out")" '^\{ *"ok": *true' "... says so"
wait $third
is "$?:$(vm list -q)" "0:third" "... and the machine is the third's"
run vm migrate third tcp://127.0.0.1:47113
is "$status:$(vm list -q)" "1:third" "... where it stays if there is nobody for it"
run vm migrate third tcp://127.0.0.1:0
like "$err" 'tcp://ADDRESS:PORT is expected' "a port that is none"
run vm destroy third
is "$status" 0 "and can be ended there"
like "$(vm start nosuch 2>&1)" 'no such virtual machine: nosuch' "one that isn't there doesn't start"
truncate -s 1m "$WORK/one.img"
for name in one two; do vm create $name --memory 64m --kernel "$GUESTS/ends" --append spin --multiboot --disk "$WORK/one.img" >/dev/null; done
vm start one >/dev/null
run vm start two
is "$status:$err" "1:bulkhead: the disk $WORK/one.img is in use by another machine" "a disk that another machine writes"
bad=''
for name in two one two one; do
	vm destroy one >/dev/null 2>&1 || vm destroy two >/dev/null 2>&1
	run vm start $name
	[ $status = 0 ] || bad+="$name: $err"$'\n'
done
is "$bad" "" "... is free as soon as that one has ended"
vm rm --force one two >/dev/null
vm set web --kernel "$TESTS/lib.sh" >/dev/null
run vm start web
like "$status:$err" '^1:bulkhead: kernel: no multiboot header' "what the monitor says of a kernel that is none"
ok "and nothing of it is left" [ ! -e "$BULKHEAD_STATE/vms/web" ]
vm set web --kernel "$GUESTS/ends" --append spin
run vm start --autostart
is "$status:$(vm list -q)" "0:web" "vm start --autostart"
run vm rm --force web twin other third
is "$status:$(vm list -aq)" "0:" "vm rm --force"
done_testing
