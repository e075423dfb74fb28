#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""oci.py fail|kill|without WORK RUNTIME: injects faults into bulkhead-oci; oci-fail.t and oci-kill.t read what it prints.

The way of all three: trace a command once without faults, which tells every system call that it, its first process, its hooks
and the exec stub make, and how often; then run it again for each of them with strace's injection. What has to hold is in
`settle`: the container is right, or one line says what is wrong; and nothing is left.

The workload is a program without a libc that makes no system call which the runtime makes, so that no fault ever hits it.
Each line of output is "ok TEXT", "not ok TEXT" with details after tabs, or "# TEXT".
"""

import collections
import concurrent.futures
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

WORKLOAD = """
static long call(long n, long a, long b)
{
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b) : "rcx", "r11", "memory");
	return r;
}
/* "/work N": leaves /ran and exits with N; without N it stays. 85 is creat(2), 34 pause(2), 60 exit(2). */
__attribute__((used)) static void run(long *stack)
{
	const char *text = stack[0] > 1 ? (const char *)stack[2] : 0;
	long code = 0;

	call(85, (long)"/ran", 0600);
	if (text)
		for (; *text; text++)
			code = code * 10 + *text - '0';
	else
		for (;;)
			call(34, 0, 0);
	call(60, code, 0);
}
__asm__(".globl _start\\n_start: mov %rsp, %rdi\\n and $-16, %rsp\\n call run\\n");
"""
RAN = 37
ERRORS = ("ENOSYS", "ENOMEM", "EPERM", "EIO")
TIME_LIMIT = 20 * int(os.environ.get("BH_TEST_TIMEOUT_SCALE", "1"))

# exit, exit_group: don't return. execve: the first one is strace's own, of the program; see `fail_faults`.
# close: a kernel's close(2) always closes; a fault that leaves the descriptor open is none that can happen. munmap: the same.
# restart_syscall, rt_sigreturn: made by the kernel, not by the program.
NEVER = {"exit", "exit_group", "close", "munmap", "restart_syscall", "rt_sigreturn", "creat", "pause"}

# Made by libc before main: it ends the process itself then, by a signal or with 127, and nothing has begun.
LIBC = {"arch_prctl", "brk", "mprotect", "mmap", "set_tid_address"}

work, runtime = sys.argv[2], sys.argv[3]
state_root = work + "/state"


class Seat:
    """One place to work at: a bundle, an id, a cgroup and a mark of its own."""

    def __init__(self, number):
        self.name = "bulkhead-inject-%d-%d" % (os.getpid(), number)
        self.bundle = "%s/bundle-%d" % (work, number)
        self.mark = ("BH_INJECT_MARK=" + self.name).encode()
        self.environment = dict(os.environ, BH_INJECT_MARK=self.name)
        os.makedirs(self.bundle + "/rootfs/proc")
        shutil.copy(work + "/work", self.bundle + "/rootfs/work")
        self.ran = self.bundle + "/rootfs/ran"

    def configure(self, config, arguments):
        config = json.loads(json.dumps(config))
        config["process"]["args"] = ["/work"] + arguments
        config["process"]["env"] = ["PATH=/", "BH_INJECT_MARK=" + self.name]
        config["linux"]["cgroupsPath"] = "/" + self.name
        with open(self.bundle + "/config.json", "w") as out:
            json.dump(config, out)
        if os.path.exists(self.ran):
            os.unlink(self.ran)

    def command(self, *arguments):
        extra = {"create": ["--bundle", self.bundle], "run": ["--bundle", self.bundle], "delete": ["--force"]}.get(arguments[0], [])
        return [runtime, "--root", state_root, arguments[0], *extra, self.name, *arguments[1:]]

    def call(self, command):
        """(exit status, stderr); a hang is status -1."""
        with open(self.bundle + "/stderr", "w+b") as err:
            process = subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err,
                                       cwd=self.bundle, start_new_session=True)
            try:
                status = process.wait(TIME_LIMIT)
            except subprocess.TimeoutExpired:
                status = -1
                for pid in self.processes():
                    kill(pid, signal.SIGKILL)
                process.kill()
                process.wait()
            err.seek(0)
            return status, err.read().decode(errors="replace")

    def processes(self):
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open("/proc/%s/environ" % entry, "rb") as f:
                    if self.mark not in f.read().split(b"\0"):
                        continue
                with open("/proc/%s/stat" % entry, "rb") as f:
                    text = f.read().decode(errors="replace")
            except OSError:
                continue
            if text[text.index("(") + 1:text.rindex(")")] != "strace" and text[text.rindex(")") + 2] not in "ZX":
                found.append(int(entry))
        return found

    def detach(self):
        """Takes strace away from what it still follows; what it follows goes on."""
        for pid in self.processes():
            try:
                with open("/proc/%d/status" % pid) as f:
                    tracer = int(re.search(r"TracerPid:\s*(\d+)", f.read()).group(1))
            except (OSError, AttributeError):
                continue
            if tracer:
                kill(tracer, signal.SIGTERM)

    def left(self):
        found = []
        if os.path.lexists(state_root + "/" + self.name):
            found.append("state folder: " + " ".join(sorted(os.listdir(state_root + "/" + self.name))))
        found += ["cgroup " + path for path in self.cgroups() if sys.argv[1] == "kill" or has_procs(path)]
        deadline = time.monotonic() + 2
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.005)
        found += ["process %d (%s)" % (pid, command_line(pid)) for pid in self.processes()]
        with open("/proc/self/mountinfo") as f:
            found += ["mount " + line.split()[4] for line in f if self.bundle in line]
        return found

    def cgroups(self):
        return glob.glob("/sys/fs/cgroup/%s" % self.name) + glob.glob("/sys/fs/cgroup/*/%s" % self.name)

    def remove_cgroups(self):
        for path in self.cgroups():
            try:
                os.rmdir(path)
            except OSError:
                pass

    def clean(self):
        """Between two cases, whatever the last one left: a fault must not be counted twice."""
        if not self.left():
            return
        for pid in self.processes():
            kill(pid, signal.SIGKILL)
        self.call(self.command("delete"))
        shutil.rmtree(state_root + "/" + self.name, ignore_errors=True)
        self.remove_cgroups()


def has_procs(path):
    """Not so for a plain folder, as some program may have left in place of a v1 hierarchy that isn't mounted: the runtime tries it
    and takes its own folder away again, and a fault of that rmdir(2) hits nothing else."""
    return os.path.exists(path + "/cgroup.procs")


def kill(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def command_line(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return f.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "?"


# --- configurations -------------------------------------------------------------------------------------------------------------


def plain():
    folder = work + "/spec"
    os.makedirs(folder)
    subprocess.run([runtime, "spec", "--bundle", folder], check=True)
    with open(folder + "/config.json") as f:
        config = json.load(f)
    config["process"]["terminal"] = False
    config["root"]["readonly"] = False
    return config


def rich(config):
    """As much as one container can have: each adds system calls."""
    config = json.loads(json.dumps(config))
    hook = {"path": work + "/work", "args": ["work", "0"], "timeout": 10}
    config["hooks"] = {k: [hook] for k in ("prestart", "createRuntime", "createContainer", "poststart", "poststop")}
    config["hooks"]["startContainer"] = [{"path": "/work", "args": ["work", "0"]}]
    config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}
    config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 100}, "cpu": {"shares": 512},
                                    "devices": [{"allow": False, "access": "rwm"}]}
    config["linux"]["devices"] = [{"path": "/dev/extra", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666}]
    config["linux"]["rootfsPropagation"] = "rslave"
    config["process"]["oomScoreAdj"] = 500
    config["process"]["user"] = {"uid": 5, "gid": 6, "additionalGids": [7], "umask": 0o22}
    config["mounts"] += [{"destination": "/bound", "type": "bind", "source": work, "options": ["rbind", "ro"]},
                         {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k"]}]
    # Its user has to be able to say that it ran.
    return config


def mapped(config):
    config = json.loads(json.dumps(config))
    ids = [{"containerID": 0, "hostID": 0, "size": 65536}]
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = ids
    return config


class Case:
    """One command in one situation. `begin` prepares it without a fault; `check` says what is wrong with a success."""

    def __init__(self, name, config, command, arguments=(), begin=(), right=0, workload=()):
        self.name, self.config, self.line, self.right = name, config, (command, *arguments), right
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


def one_line(err, prefix=""):
    lines = [l for l in err.splitlines() if not l.startswith("error from getrandom") and "level=warning" not in l]
    return [] if len(lines) == 1 else ["%s%d lines instead of one: %s" % (prefix, len(lines), err[:500])]


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


class Pool:
    def __init__(self, count):
        self.free = [Seat(n) for n in range(count)]
        self.lock = threading.Lock()
        self.executor = concurrent.futures.ThreadPoolExecutor(count)

    def submit(self, function, *arguments):
        return self.executor.submit(self.call, function, arguments)

    def call(self, function, arguments):
        with self.lock:
            seat = self.free.pop()
        try:
            return function(seat, *arguments)
        except Exception as e:  # pylint: disable=broad-except
            seat.clean()
            return ["%s: %r" % (arguments, e)]
        finally:
            with self.lock:
                self.free.append(seat)


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
    with open(work + "/work.c", "w") as f:
        f.write(WORKLOAD)
    subprocess.run(["gcc", "-O1", "-static", "-nostdlib", "-fno-stack-protector", "-o", work + "/work", work + "/work.c"], check=True)
    os.makedirs(state_root)
    pool = Pool(max(2, os.cpu_count() or 1) + 1)
    # All users may leave /ran.
    for seat in pool.free:
        os.chmod(seat.bundle + "/rootfs", 0o777)
    only = sys.argv[4:]
    chosen = [c for c in cases() if not only or c.name in only]
    if sys.argv[1] == "without":
        for name, calls in LACKING.items():
            results = [(c.name, pool.submit(without, c, calls)) for c in chosen if c.line[0] == "create"]
            report("a kernel without %s" % name, len(results), ["%s: %s" % (n, w) for n, r in results for w in r.result()])
    else:
        walk(pool, chosen, {"fail": fail_faults, "kill": kill_faults}[sys.argv[1]])
    pool.executor.shutdown()


main()
