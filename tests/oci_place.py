# SPDX-License-Identifier: Apache-2.0
"""What tests of bulkhead-oci that are written in Python share: a workload without a libc, places to run it at, and the proof that
nothing is left of a container.

The workload makes no system call that the runtime makes, so that no injected fault ever hits it.
"""

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
RAN = 37 # what the workload ends with
TIME_LIMIT = 20 * int(os.environ.get("BH_TEST_TIMEOUT_SCALE", "1"))

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
        found += ["cgroup " + path for path in self.cgroups() if sys.argv[1] != "fail" or has_procs(path)]
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


def one_line(err, prefix=""):
    lines = [l for l in err.splitlines() if not l.startswith("error from getrandom") and "level=warning" not in l]
    return [] if len(lines) == 1 else ["%s%d lines instead of one: %s" % (prefix, len(lines), err[:500])]


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


def begin():
    """Makes the workload and the places."""
    with open(work + "/work.c", "w") as f:
        f.write(WORKLOAD)
    subprocess.run(["gcc", "-O1", "-static", "-nostdlib", "-fno-stack-protector", "-o", work + "/work", work + "/work.c"], check=True)
    os.makedirs(state_root)
    pool = Pool(max(2, os.cpu_count() or 1) + 1)
    # All users may leave /ran.
    for seat in pool.free:
        os.chmod(seat.bundle + "/rootfs", 0o777)
    return pool
