#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hostile_config.py all WORK RUNTIME: malformed and hostile bundles for `bulkhead-oci run`.

From one good configuration that uses most of the specification come, always the same ones:

 - each value replaced by others of a wrong type, and each number by ones that no field can hold: always an error;
 - the text cut, and bytes of it changed: an error, or a configuration that still means something;
 - a table of hostile configurations and root file systems by hand.

An error is one line and exit status 1. Without an error the workload ran. In no case does anything of the container stay, nor does
the folder beside the bundle change, to which the links of hostile images lead.
"""

import json
import os
import random
import shutil
import socket
import stat
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from oci_place import RAN, begin, one_line, plain, rich, runtime, work  # pylint: disable=wrong-import-position

ERROR, EITHER, FINE = "error", "either", "fine"
SEED = 20260101
OUTSIDE = work + "/outside"


# --- wrong types and numbers ---------------------------------------------------------------------------------------------------

WRONG = {
    str: (0, [], {}, True, ["x"]),
    int: ("7", [], {}, True, 1.5, 1 << 64, -(1 << 63) - 1),
    bool: ("true", 1, [], {}),
    list: ({}, "x", 1, True),
    dict: ([], "x", 1, True),
}


def paths_of(value, path=()):
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_of(inner, path + (key,))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths_of(inner, path + (index,))


def replaced(config, path, value):
    config = json.loads(json.dumps(config))
    target = config
    for step in path[:-1]:
        target = target[step]
    if path:
        target[path[-1]] = value
        return config
    return value


def type_cases(config, pick):
    seen = set()
    for path, value in paths_of(config):
        shape = tuple("*" if isinstance(s, int) else s for s in path)
        # One of each kind is enough of what is a list.
        if shape in seen or shape[:1] == ("annotations",):
            continue
        seen.add(shape)
        name = ".".join(str(s) for s in path) or "the whole"
        for wrong in pick.sample(WRONG[type(value)], 2):
            # Where 64 bits without a sign are wanted, json-c takes a number beyond them for the largest, which is "no limit" there.
            expected = EITHER if wrong == 1 << 64 else ERROR
            yield "%s = %s" % (name, json.dumps(wrong)), expected, replaced(config, path, wrong)


def text_cases(config, pick):
    text = json.dumps(config).encode()
    for _ in range(25):
        at = pick.randrange(1, len(text) - 1)
        yield "cut at %d" % at, ERROR, text[:at]
    for _ in range(80):
        changed = bytearray(text)
        for _ in range(pick.randrange(1, 4)):
            changed[pick.randrange(len(changed))] = pick.randrange(256)
        yield "changed bytes", EITHER, bytes(changed)


# --- by hand -------------------------------------------------------------------------------------------------------------------


def document_cases(config):
    text = json.dumps(config).encode()
    yield "an empty file", ERROR, b""
    yield "only blanks", ERROR, b" \n\t"
    yield "only NULs", ERROR, b"\0" * 4096
    yield "something behind the end", ERROR, text + b"{}"
    yield "a comma too much", ERROR, text[:-1] + b",}"
    yield "a comment", EITHER, b"/* x */" + text
    yield "invalid UTF-8 in a string", ERROR, text.replace(b'"hostname": "bulkhead"', b'"hostname": "\xff\xfe\xc0\xaf"')
    yield "a NUL in a string", ERROR, text.replace(b'"hostname": "bulkhead"', b'"hostname": "a\\u0000b"')
    yield "a NUL in an argument", ERROR, text.replace(b'"args": ["/work"', b'"args": ["/wo\\u0000rk"')
    yield "half a surrogate pair", EITHER, text.replace(b'"hostname": "bulkhead"', b'"hostname": "\\ud800"')
    yield "a key twice", EITHER, text.replace(b'"hostname": "bulkhead"', b'"hostname": "first", "hostname": "second"')
    yield "100,000 open brackets", ERROR, b"[" * 100000
    yield "100,000 open braces", ERROR, b'{"a":' * 100000
    yield "deep annotations", ERROR, text[:-1] + b', "annotations": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}"
    yield "a million arguments", ERROR, json.dumps(replaced(config, ("process", "args"), ["x"] * 1000000)).encode()
    yield "5 MB of blanks", ERROR, text + b" " * (5 << 20)
    yield "a number of 10,000 digits", ERROR, text.replace(b'"oomScoreAdj": 500', b'"oomScoreAdj": ' + b"9" * 10000)
    yield "1e999", ERROR, text.replace(b'"oomScoreAdj": 500', b'"oomScoreAdj": 1e999')
    yield "NaN", ERROR, text.replace(b'"oomScoreAdj": 500', b'"oomScoreAdj": NaN')
    yield "hex", ERROR, text.replace(b'"oomScoreAdj": 500', b'"oomScoreAdj": 0x1f4')
    yield "UTF-16", ERROR, json.dumps(config).encode("utf-16")


def with_mounts(config, *mounts):
    return replaced(config, ("mounts",), config["mounts"] + [dict(m) for m in mounts])


def bind(source, destination, *options):
    return {"destination": destination, "type": "bind", "source": source, "options": ["bind", *options]}


def tmpfs(destination, *options):
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": list(options)}


def value_cases(c):
    def v(*path_and_value):
        return replaced(c, path_and_value[:-1], path_and_value[-1])

    yield "no ociVersion", ERROR, {k: x for k, x in c.items() if k != "ociVersion"}
    yield "ociVersion of the future", ERROR, v("ociVersion", "7.0.0")
    yield "ociVersion that is none", ERROR, v("ociVersion", "one")
    yield "no root", ERROR, {k: x for k, x in c.items() if k != "root"}
    yield "no process", ERROR, {k: x for k, x in c.items() if k != "process"}
    yield "an empty root path", ERROR, v("root", "path", "")
    yield "no arguments", ERROR, v("process", "args", [])
    yield "an empty argument 0", ERROR, v("process", "args", [""])
    yield "no cwd", ERROR, v("process", "cwd", "")
    yield "a relative cwd", ERROR, v("process", "cwd", "tmp")
    yield "a cwd that leaves the root", EITHER, v("process", "cwd", "/../../../../..")
    yield "a cwd through a descriptor", ERROR, v("process", "cwd", "/proc/self/fd/7")
    yield "an id that is too large", ERROR, v("process", "user", "uid", 1 << 32)
    yield "the id -1", ERROR, v("process", "user", "uid", (1 << 32) - 1)
    yield "a negative id", ERROR, v("process", "user", "uid", -1)
    yield "a negative group", ERROR, v("process", "user", "additionalGids", [-5])
    yield "70,000 groups", ERROR, v("process", "user", "additionalGids", list(range(70000)))
    yield "a umask that is none", ERROR, v("process", "user", "umask", 1 << 40)
    yield "an unknown capability", EITHER, v("process", "capabilities", "bounding", ["CAP_WORLD"])
    yield "an unknown limit", ERROR, v("process", "rlimits", [{"type": "RLIMIT_WORLD", "soft": 1, "hard": 1}])
    yield "a limit twice", ERROR, v("process", "rlimits", [{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}] * 2)
    yield "a soft limit above the hard one", ERROR, v("process", "rlimits", [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}])
    yield "no descriptors at all", EITHER, v("process", "rlimits", [{"type": "RLIMIT_NOFILE", "soft": 0, "hard": 0}])
    yield "oomScoreAdj out of range", ERROR, v("process", "oomScoreAdj", 5000)
    yield "a variable without a name", EITHER, v("process", "env", ["=x", "novalue", ""])
    yield "a host name of 65 letters", ERROR, v("hostname", "x" * 65)
    yield "a path of 5000 letters", ERROR, v("root", "path", "x" * 5000)
    yield "a namespace of no kind", ERROR, v("linux", "namespaces", c["linux"]["namespaces"] + [{"type": "world"}])
    yield "a namespace without a kind", ERROR, v("linux", "namespaces", c["linux"]["namespaces"] + [{}])
    yield "a namespace twice", ERROR, v("linux", "namespaces", c["linux"]["namespaces"] + [{"type": "mount"}])
    yield "no namespaces", ERROR, v("linux", "namespaces", [])
    for kind, path in (("network", "/proc/1/ns/mnt"), ("network", "/etc/passwd"), ("pid", "/nowhere"), ("network", "/dev/zero"),
                       ("ipc", "/proc/self/fd/0"), ("uts", "/"), ("network", "relative")):
        namespaces = [n for n in c["linux"]["namespaces"] if n["type"] != kind] + [{"type": kind, "path": path}]
        yield "a %s namespace of %s" % (kind, path), ERROR, v("linux", "namespaces", namespaces)
    user = c["linux"]["namespaces"] + [{"type": "user"}]
    for name, expected, maps in (
            ("no maps", ERROR, []), ("an empty map", ERROR, [{"containerID": 0, "hostID": 0, "size": 0}]),
            ("overlapping maps", ERROR, [{"containerID": 0, "hostID": 0, "size": 10}, {"containerID": 5, "hostID": 50, "size": 10}]),
            ("a map that wraps", ERROR, [{"containerID": 0, "hostID": 4294967290, "size": 100}]),
            ("a map beyond 32 bits", ERROR, [{"containerID": 0, "hostID": 0, "size": 1 << 33}]),
            ("400 maps", ERROR, [{"containerID": i * 2, "hostID": i * 2, "size": 1} for i in range(400)]),
            ("no root in the map", ERROR, [{"containerID": 1000, "hostID": 0, "size": 10}])):
        linux = dict(c["linux"], namespaces=user, uidMappings=maps, gidMappings=maps)
        yield "a user namespace with %s" % name, expected, replaced(c, ("linux",), linux)
    yield "maps without a user namespace", EITHER, v("linux", "uidMappings", [{"containerID": 0, "hostID": 0, "size": 1}])
    for name, expected, sysctl in (
            ("of the host", ERROR, {"kernel.panic": "1"}), ("with ..", ERROR, {"net/../kernel/panic": "1"}),
            ("with dots for slashes", ERROR, {"net....kernel.panic": "1"}), ("that is absolute", ERROR, {"/proc/sys/net/ipv4/ip_forward": "1"}),
            ("that is empty", ERROR, {"": "1"}), ("of a host setting by slash", ERROR, {"kernel/core_pattern": "|/x"}),
            ("that does not exist", ERROR, {"net.world": "1"}), ("with a wrong value", ERROR, {"net.ipv4.ip_forward": "x" * 100}),
            ("with a line break", ERROR, {"net.ipv4.ip_forward\nkernel.panic": "1"}), ("vm.overcommit_memory", ERROR, {"vm.overcommit_memory": "1"})):
        yield "a sysctl " + name, expected, v("linux", "sysctl", sysctl)
    for path in ("..", "/..", "/../../..", "/" + "x" * 300, "/" + "/".join(["x" * 200] * 30), "/a\nb", "/.", "////"):
        yield "cgroupsPath " + path[:20].replace("\n", " "), ERROR if len(path) > 20 or "\n" in path else EITHER, v("linux", "cgroupsPath", path)
    resources = c["linux"]["resources"]
    for name, expected, add in (
            ("a negative pids limit", EITHER, {"pids": {"limit": -7}}), ("a memory limit of one byte", EITHER, {"memory": {"limit": 1}}),
            ("swap below memory", ERROR, {"memory": {"limit": 64 << 20, "swap": 1 << 20}}), ("shares of 1", ERROR, {"cpu": {"shares": 1}}),
            ("shares too large", ERROR, {"cpu": {"shares": 1 << 30}}), ("processors that are none", ERROR, {"cpu": {"cpus": "0-x"}}),
            ("processors that are missing", ERROR, {"cpu": {"cpus": "5000"}}), ("nodes with a path", ERROR, {"cpu": {"mems": "../0"}}),
            ("a quota below the least", ERROR, {"cpu": {"quota": 1, "period": 100000}}), ("swappiness 200", ERROR, {"memory": {"swappiness": 200}}),
            ("a device rule of no kind", ERROR, {"devices": [{"allow": True, "type": "z", "access": "r"}]}),
            ("a device rule with odd access", ERROR, {"devices": [{"allow": True, "type": "c", "access": "rwx"}]}),
            ("a device rule with numbers out of range", ERROR, {"devices": [{"allow": True, "type": "c", "major": 1 << 40, "minor": 1, "access": "r"}]}),
            ("huge pages of no size", ERROR, {"hugepageLimits": [{"pageSize": "../../x", "limit": 1}]}),
            ("a unified file with a path", ERROR, {"unified": {"../cgroup.procs": "1"}}),
            ("an unknown unified file", ERROR, {"unified": {"world.max": "1"}})):
        yield name, expected, v("linux", "resources", dict(resources, **add))
    for name, device in (("with ..", {"path": "/dev/../../x", "type": "c", "major": 1, "minor": 3}), ("of no kind", {"path": "/dev/x", "type": "q"}),
                         ("relative", {"path": "dev/x", "type": "c", "major": 1, "minor": 3}), ("on the root", {"path": "/", "type": "c", "major": 1, "minor": 3}),
                         ("with a negative number", {"path": "/dev/x", "type": "c", "major": -5, "minor": 3})):
        yield "a device " + name, EITHER if name == "with .." else ERROR, v("linux", "devices", [device])
    for name, seccomp in (("of no action", {"defaultAction": "SCMP_ACT_WORLD"}), ("without an action", {"syscalls": []}),
                          ("of an unknown machine", {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_WORLD"]}),
                          ("with argument 9", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                              {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 9, "value": 1, "op": "SCMP_CMP_EQ"}]}]}),
                          ("with no operator", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                              {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_WORLD"}]}]}),
                          ("with an unknown flag", {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WORLD"]}),
                          ("with a listener that isn't there", {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/nowhere/s", "syscalls": [
                              {"names": ["swapon"], "action": "SCMP_ACT_NOTIFY"}]})):
        yield "a filter " + name, ERROR, v("linux", "seccomp", seccomp)
    yield "a filter that forbids everything", EITHER, v("linux", "seccomp", {"defaultAction": "SCMP_ACT_ERRNO"})
    yield "a filter that kills everything", EITHER, v("linux", "seccomp", {"defaultAction": "SCMP_ACT_KILL_PROCESS"})
    for kind in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart"):
        yield "a %s hook that does not exist" % kind, ERROR, v("hooks", {kind: [{"path": "/nowhere/hook"}]})
    yield "a hook with a relative path", ERROR, v("hooks", {"prestart": [{"path": "work"}]})
    yield "a hook with time -1", ERROR, v("hooks", {"prestart": [{"path": work + "/work", "timeout": -1}]})
    yield "a hook that never ends", ERROR, v("hooks", {"prestart": [{"path": work + "/work", "args": ["work"], "timeout": 1}]})
    yield "a hook that fails", ERROR, v("hooks", {"createRuntime": [{"path": work + "/work", "args": ["work", "3"]}]})
    yield "a hook that is a folder", ERROR, v("hooks", {"createRuntime": [{"path": work}]})
    yield "propagation of no kind", ERROR, v("linux", "rootfsPropagation", "sideways")
    yield "an AppArmor profile with a line break", EITHER, v("process", "apparmorProfile", "a\nb")
    yield "a SELinux label", EITHER, v("process", "selinuxLabel", "system_u:system_r:container_t:s0")
    yield "a scheduler of no kind", ERROR, v("process", "scheduler", {"policy": "SCHED_WORLD"})
    yield "an unknown personality", ERROR, v("linux", "personality", {"domain": "WORLD"})
    yield "time offsets without the namespace", ERROR, v("linux", "timeOffsets", {"monotonic": {"secs": 1}})
    yield "10,000 masked paths", EITHER, v("linux", "maskedPaths", ["/nowhere/%d" % i for i in range(10000)])
    yield "a relative masked path", EITHER, v("linux", "maskedPaths", ["../../etc"])
    yield "a masked path of the root", EITHER, v("linux", "maskedPaths", ["/"])
    for name, expected, mount in (
            ("without a destination", ERROR, {"type": "tmpfs"}), ("on /proc/self", EITHER, tmpfs("/proc/self")), ("on /proc/1/attr", EITHER, tmpfs("/proc/1/attr")),
            ("of no file system", ERROR, {"destination": "/x", "type": "worldfs", "source": "x"}), ("with an unknown option", ERROR, tmpfs("/x", "world=1")),
            ("with .. in it", EITHER, tmpfs("/../../../x")), ("of a source that isn't there", ERROR, bind("/nowhere", "/x")),
            ("of a relative source that isn't there", ERROR, bind("nowhere", "/x")), ("on the root", EITHER, tmpfs("/")),
            ("of 5000 letters", ERROR, tmpfs("/" + "x" * 5000)), ("with a size that is none", ERROR, tmpfs("/x", "size=world")),
            ("of a folder on a file", ERROR, bind(work, "/work")), ("of a device that isn't there", ERROR, {"destination": "/x", "type": "ext4", "source": "/nowhere"}),
            ("with a line break", EITHER, tmpfs("/a\nb")), ("below a file", ERROR, tmpfs("/work/below"))):
        yield "a mount " + name, expected, with_mounts(c, mount)
    yield "300 mounts", EITHER, with_mounts(c, *[tmpfs("/m/%d" % i) for i in range(300)])


# --- hostile root file systems: the link leads to OUTSIDE, where nothing may appear -----------------------------------------------


def link(target, *names):
    def make(root):
        for name in names:
            path = root + name
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.symlink(target, path)
    return make


def special(kind, name):
    def make(root):
        if os.path.isdir(root + name):
            shutil.rmtree(root + name)
        if kind == "fifo":
            os.mkfifo(root + name)
        elif kind == "socket":
            s = socket.socket(socket.AF_UNIX)
            here = os.getcwd()
            os.symlink(root, work + "/s-%s" % os.path.basename(os.path.dirname(root)))
            s.bind(work + "/s-%s%s" % (os.path.basename(os.path.dirname(root)), name))
            os.unlink(work + "/s-%s" % os.path.basename(os.path.dirname(root)))
            os.chdir(here)
            s.close()
        elif kind == "device":
            os.mknod(root + name, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        else:
            with open(root + name, "w") as f:
                f.write("x")
    return make


def no_root(root):
    shutil.rmtree(root)


def file_root(root):
    shutil.rmtree(root)
    with open(root, "w") as f:
        f.write("x")


def looping_root(root):
    shutil.rmtree(root)
    os.symlink("rootfs", root)


def no_workload(root):
    os.unlink(root + "/work")


def script(text):
    def make(root):
        with open(root + "/work", "w") as f:
            f.write(text)
    return make


def image_cases(c):
    up = "../" * 20
    yield "no root file system", ERROR, c, no_root
    yield "a root that is a file", ERROR, c, file_root
    yield "a root that is a link to itself", ERROR, c, looping_root
    yield "no workload", ERROR, c, no_workload
    yield "a workload that can't be executed", ERROR, c, lambda root: os.chmod(root + "/work", 0o644)
    yield "a workload of nothing", ERROR, c, script("")
    yield "a workload without its interpreter", ERROR, c, script("#!/nowhere\n")
    yield "a workload that is a folder", ERROR, c, lambda root: (os.unlink(root + "/work"), os.mkdir(root + "/work"))
    for name in ("/proc", "/dev", "/sys", "/bound", "/scratch", "/dev/pts", "/dev/shm"):
        for what, target in (("an absolute link", OUTSIDE), ("a link with ..", up + OUTSIDE[1:]), ("a link to /proc/self/root", "/proc/self/root" + OUTSIDE),
                             ("a link to itself", os.path.basename(name)), ("a link to nowhere", "/nowhere/at/all")):
            yield "%s is %s" % (name, what), EITHER, c, link(target, name)
        for kind in ("fifo", "socket", "device", "file"):
            if name.count("/") == 1:
                yield "%s is a %s" % (name, kind), ERROR, c, special(kind, name)
    yield "links in a circle", ERROR, with_mounts(c, tmpfs("/a/x")), lambda root: (os.symlink("b", root + "/a"), os.symlink("a", root + "/b"))
    deep = with_mounts(c, tmpfs("/l0/x"))
    yield "a chain of 60 links", EITHER, deep, lambda root: [os.symlink("l%d" % (i + 1), root + "/l%d" % i) for i in range(60)]
    yield "a bound file over a link", EITHER, with_mounts(c, bind(work + "/work", "/etc/secret")), link(OUTSIDE + "/secret", "/etc/secret")
    yield "a bound file over a hanging link", EITHER, with_mounts(c, bind(work + "/work", "/etc/new")), link(OUTSIDE + "/new", "/etc/new")
    yield "a device over a link", EITHER, replaced(c, ("linux", "devices"), [{"path": "/etc/dev", "type": "c", "major": 1, "minor": 3}]), \
        link(OUTSIDE + "/dev", "/etc/dev")
    yield "a device below a link", EITHER, replaced(c, ("linux", "devices"), [{"path": "/etc/d/null", "type": "c", "major": 1, "minor": 3}]), \
        link(OUTSIDE, "/etc/d")
    yield "a cwd that is a link outside", EITHER, replaced(c, ("process", "cwd"), "/home"), link(OUTSIDE, "/home")
    yield "a cwd that has to be made below a link", EITHER, replaced(c, ("process", "cwd"), "/home/made"), link(OUTSIDE, "/home")
    yield "a masked path that is a link", EITHER, replaced(c, ("linux", "maskedPaths"), ["/etc/mask"]), link(OUTSIDE + "/secret", "/etc/mask")
    yield "a read-only path that is a link", EITHER, replaced(c, ("linux", "readonlyPaths"), ["/etc/ro"]), link(OUTSIDE, "/etc/ro")
    yield "/work is a link to the runtime", EITHER, c, lambda root: (os.unlink(root + "/work"), os.symlink("/proc/self/exe", root + "/work"))
    yield "tmpcopyup of a link", EITHER, with_mounts(c, tmpfs("/copy", "tmpcopyup")), link(OUTSIDE, "/copy")


# --- running --------------------------------------------------------------------------------------------------------------------


def outside_state():
    found = []
    for folder, folders, files in os.walk(OUTSIDE):
        for name in folders + files:
            st = os.lstat(os.path.join(folder, name))
            found.append((os.path.join(folder, name), st.st_mode, st.st_size, st.st_ino))
    return sorted(found)


def try_one(seat, name, expected, config, change):
    root = seat.bundle + "/rootfs"
    if os.path.islink(root) or os.path.isfile(root):
        os.unlink(root)
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("/proc", "/dev/pts", "/dev/shm", "/sys", "/etc"):
        os.makedirs(root + folder)
    os.chmod(root, 0o777)
    shutil.copy(work + "/work", root + "/work")
    if isinstance(config, bytes):
        text = config.replace(b"@SEAT@", seat.name.encode())
    else:
        text = json.dumps(config).replace("@SEAT@", seat.name).encode()
    with open(seat.bundle + "/config.json", "wb") as out:
        out.write(text)
    if change:
        change(root)
    status, err = seat.call(seat.command("run"))
    wrong = []
    if status == -1:
        wrong.append("hangs")
    elif status == 1 or (status == 255 and err.startswith("exec /")):  # the second: the workload's file can't be executed
        wrong += one_line(err)
        if expected == FINE:
            wrong.append("an error: " + err[:300])
    elif expected == ERROR:
        wrong.append("no error, exit %d: %s" % (status, err[:2000]))
    # What ran may have been something else, or was killed by its limits (137) or its filter (159).
    elif status != RAN and (expected == FINE or not (0 < status < 128 or status in (137, 159))):
        wrong.append("exit %d: %s" % (status, err[:2000]))
    wrong += seat.left()
    if wrong:
        seat.clean()
    return ["%s: %s" % (name, "; ".join(wrong).replace("\n", " | "))] if wrong else []


def main():
    pool = begin()
    os.makedirs(OUTSIDE)
    with open(OUTSIDE + "/secret", "w") as f:
        f.write("secret")
    base = rich(plain())
    base["process"]["args"] = ["/work", str(RAN)]
    base["process"]["env"] = ["PATH=/", "BH_INJECT_MARK=@SEAT@"]
    base["linux"]["cgroupsPath"] = "/@SEAT@"
    base["annotations"] = {"org.example.key": "value"}
    simple = dict(base, hooks={})
    pick = random.Random(SEED)
    groups = (
        ("as it is", [("as it is", FINE, base)]),
        ("wrong types and numbers", type_cases(base, pick)),
        ("text that is cut or changed", text_cases(base, pick)),
        ("documents", document_cases(base)),
        ("values", value_cases(simple)),
        ("images", image_cases(simple)),
    )
    before, total = outside_state(), 0
    for title, group in groups:
        cases = [(*case, None)[:4] for case in group]
        results = [pool.submit(try_one, *case) for case in cases]
        wrong = [w for r in results for w in r.result()]
        total += len(cases)
        print("not ok %s: %d\t%s" % (title, len(cases), "\t".join(wrong[:60])) if wrong else "ok %s: %d" % (title, len(cases)), flush=True)
    print("ok nothing appeared outside" if outside_state() == before else "not ok nothing appears outside\t%s" % outside_state(), flush=True)
    print("%s more than 200 of them" % ("ok" if total > 200 else "not ok"), flush=True)
    pool.executor.shutdown()


main()
