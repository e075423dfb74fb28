#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""oci.py fail|kill|without WORK RUNTIME: injects faults into bulkhead-oci; oci-fail.t and oci-kill.t read what it prints.

The way of all three: trace a command once without faults, which tells every system call that it, its first process, its hooks
and the exec stub make, and how often; then run it again for each of them with strace's injection. What has to hold is in
`settle`: the container is right, or one line says what is wrong; and nothing is left.

Each line of output is "ok TEXT", "not ok TEXT" with details after tabs, or "# TEXT".
"""

import collections
import glob
import json
import os
import re
import signal
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from oci_place import RAN, begin, one_line, plain, rich, runtime, work  # pylint: disable=wrong-import-position

ERRORS = ("ENOSYS", "ENOMEM", "EPERM", "EIO")

# exit, exit_group: don't return. execve: the first one is strace's own, of the program; see `fail_faults`.
# close: a kernel's close(2) always closes; a fault that leaves the descriptor open is none that can happen. munmap: the same.
# restart_syscall, rt_sigreturn: made by the kernel, not by the program.
NEVER = {"exit", "exit_group", "close", "munmap", "restart_syscall", "rt_sigreturn", "creat", "pause"}

# Made by libc before main: it ends the process itself then, by a signal or with 127, and nothing has begun.
LIBC = {"arch_prctl", "brk", "mprotect", "mmap", "set_tid_address"}


def mapped(config):
    config = json.loads(json.dumps(config))
    ids = [{"containerID": 0, "hostID": 0, "size": 65536}]
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = ids
    return config


def unshared(config):
    config = json.loads(json.dumps(config))
    config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "mount"]
    # Not the folder with all bundles: another one's mounts would be taken along.
    config["mounts"] = [m for m in config["mounts"] if m.get("source") != work]
    return config


class Case:
    """One command in one situation. `begin` prepares it without a fault; `check` says what is wrong with a success."""

    def __init__(self, name, config, command, arguments=(), begin=(), right=0, workload=(), needs="-"):
        self.name, self.config, self.line, self.right, self.needs = name, config, (command, *arguments), right, needs
        self.begin, self.workload = begin, list(workload)

    def prepare(self, seat):
        seat.configure(self.config, self.workload)
        for step in self.begin:
            status, err = seat.call(seat.command(step))
            if status:
                raise RuntimeError("%s: preparing by %s failed: %s" % (self.name, step, err))

    def check_success(self, seat):
        if self.line[0] == "create":
            status, err = seat.call(seat.command("start"))
            # A start that fails because of a fault in the created process says so.
            if status:
                return one_line(err, "start: ")
        if self.line[0] in ("create", "start"):
            seat.detach()
            deadline = time.monotonic() + 5
            while not os.path.exists(seat.ran) and time.monotonic() < deadline:
                time.sleep(0.002)
        if self.line[0] in ("create", "start", "run", "exec") and not os.path.exists(seat.ran):
            return ["success, but the workload didn't run"]
        return []


def cases():
    base = plain()
    everything = rich(base)
    return [
        Case("run", base, "run", workload=["37"], right=RAN),
        Case("run with much", everything, "run", workload=["37"], right=RAN),
        Case("create", base, "create"),
        Case("create with much", everything, "create"),
        Case("create with a user namespace", mapped(base), "create"),
        Case("run without a mount namespace", unshared(base), "run", workload=["37"], right=RAN),
        Case("create without a mount namespace", unshared(everything), "create", needs="mount_setattr"),
        Case("delete --force without a mount namespace", unshared(base), "delete", begin=["create", "start"]),
        Case("start", everything, "start", begin=["create"]),
        Case("exec", everything, "exec", ["/work", "37"], begin=["create", "start"], right=RAN),
        Case("delete --force", everything, "delete", begin=["create", "start"]),
        Case("delete of a created one", base, "delete", begin=["create"]),
    ]


# --- tracing and injecting -----------------------------------------------------------------------------------------------------


def traced(seat, case):
    """{name of a system call: how often the busiest process makes it}"""
    case.prepare(seat)
    prefix = seat.bundle + "/trace"
    status, err = seat.call(["strace", "-D", "-qq", "-ff", "-o", prefix, *seat.command(*case.line)])
    wrong = case.check_success(seat) if status == case.right else ["exit %d: %s" % (status, err)]
    seat.call(seat.command("delete"))
    wrong += seat.left()
    if wrong:
        raise RuntimeError("%s without any fault: %s" % (case.name, "; ".join(wrong)))
    counts = {}
    for path in glob.glob(prefix + ".*"):
        with open(path, errors="replace") as f:
            names = collections.Counter(m.group(1) for m in (re.match(r"(\w+)\(", line) for line in f) if m)
        for name, count in names.items():
            counts[name] = max(counts.get(name, 0), count)
        os.unlink(path)
    return counts


def settle(seat, case, status, err, name, killed):
    """What is wrong after a command with a fault."""
    wrong = []
    ran = os.path.exists(seat.ran)
    if status == -1 and not killed:
        wrong.append("hangs")
    elif status == case.right and not killed:
        wrong += case.check_success(seat)
        seat.detach()
        if case.line[0] in ("run", "delete"):
            wrong += seat.left()
    elif not killed:
        seat.detach()
        libc = name in LIBC and status in (127, -signal.SIGSEGV, -signal.SIGABRT)
        if status not in (1, 255) and not libc:
            wrong.append("exit %d" % status)
        # The write that fails may be the one of the message.
        if err or (name not in ("write", "writev") and not libc):
            wrong += one_line(err)
        # Once the workload has run, what `run` fails at is the deletion.
        if case.line[0] == "create" or (case.line[0] == "run" and not ran):
            wrong += seat.left()
    else:
        seat.detach()
    status, err = seat.call(seat.command("delete"))
    if status:
        wrong.append("delete --force afterwards: %s" % err.strip())
    wrong += ["after delete --force: " + text for text in seat.left()]
    if killed and not wrong and case.line[0] in ("create", "run"):
        case.prepare(seat)
        status, err = seat.call(seat.command("create"))
        if status:
            wrong.append("a second create: %s" % err.strip())
        seat.call(seat.command("delete"))
        wrong += ["after the second one: " + text for text in seat.left()]
    return wrong


def inject(seat, case, name, flags, what, killed=False):
    case.prepare(seat)
    fault = "inject=%s:%s" % (name, what)
    status, err = seat.call(["strace", "-D", "-qq", *flags, "-o", "/dev/null", "-e", "trace=" + name, "-e", fault, *seat.command(*case.line)])
    wrong = settle(seat, case, status, err, name, killed)
    if wrong:
        seat.clean()
    seat.remove_cgroups()
    return ["%s: %s" % (fault, "; ".join(wrong).replace("\n", " | "))] if wrong else []


def fail_occurrences(count):
    """(when, error): the first ones with every error, then one error each, ever more sparsely."""
    picked = []
    n = 1
    while n <= count:
        picked += [(n, e) for e in (ERRORS if n <= 2 else (ERRORS[n % len(ERRORS)],))]
        n += 1 if n < 4 else n // 2
    return picked


def kill_occurrences(count):
    return sorted({1, (count + 1) // 2, count})


def report(name, count, wrong):
    print("not ok %s\t%s" % (name, "\t".join(wrong[:40])) if wrong else "ok %s: %d faults" % (name, count), flush=True)


def walk(pool, chosen, faults_of):
    for case in chosen:
        seat = pool.free[0]
        try:
            counts = traced(seat, case)
        except RuntimeError as e:
            seat.clean()
            print("not ok %s" % str(e).replace("\n", "\t"), flush=True)
            continue
        faults = [f for name, count in sorted(counts.items()) if name not in NEVER for f in faults_of(case, name, count)]
        results = [pool.submit(inject, case, *f) for f in faults]
        report("%s, %d system calls" % (case.name, len(counts)), len(faults), [w for r in results for w in r.result()])


def fail_faults(_case, name, count):
    for n, error in fail_occurrences(count):
        if name != "execve" or n > 1:
            yield name, ["-f"], "error=%s:when=%d" % (error, n)


def kill_faults(_case, name, count):
    for n in kill_occurrences(count):
        if name != "execve" or n > 1:
            yield name, [], "signal=KILL:when=%d" % n, True
            yield name, ["-f"], "signal=KILL:when=%d" % n, True


# --- kernels without a call ----------------------------------------------------------------------------------------------------

LACKING = {
    "openat2": "openat2",
    "clone3": "clone3",
    "mount_setattr": "mount_setattr",
    "the mount API": "fsopen,fsconfig,fsmount,open_tree,move_mount,mount_setattr",
    "pidfd_open": "pidfd_open",
    "close_range": "close_range",
    "faccessat2": "faccessat2",
    "all that came after Linux 5.1": "openat2,clone3,fsopen,fsconfig,fsmount,open_tree,move_mount,mount_setattr,pidfd_open,close_range,faccessat2",
}


def without(seat, case, calls):
    """The whole life of a container, each command on a kernel without these calls."""
    seat.configure(case.config, case.workload)
    wrong = []
    for line, right in ((("create",), 0), (("state",), 0), (("start",), 0), (("exec", "/work", "37"), RAN), (("ps",), 0), (("pause",), 0),
                        (("resume",), 0), (("kill", "KILL"), 0), (("delete",), 0)):
        status, err = seat.call(["strace", "-D", "-qq", "-f", "-o", "/dev/null", "-e", "trace=" + calls, "-e", "inject=%s:error=ENOSYS" % calls,
                                 *seat.command(*line)])
        if line[0] in ("start", "exec"):
            wrong += case.check_success(seat)
            if os.path.exists(seat.ran):
                os.unlink(seat.ran)
        if status != right:
            wrong.append("%s: exit %d: %s" % (line[0], status, err.strip()))
        seat.detach()
    wrong += seat.left()
    if wrong:
        seat.clean()
    return wrong


def main():
    pool = begin()
    only = sys.argv[4:]
    chosen = [c for c in cases() if not only or c.name in only]
    if sys.argv[1] == "without":
        for name, calls in LACKING.items():
            results = [(c.name, pool.submit(without, c, calls)) for c in chosen if c.line[0] == "create" and c.needs not in calls]
            report("a kernel without %s" % name, len(results), ["%s: %s" % (n, w) for n, r in results for w in r.result()])
    else:
        walk(pool, chosen, {"fail": fail_faults, "kill": kill_faults}[sys.argv[1]])
    pool.executor.shutdown()


main()
