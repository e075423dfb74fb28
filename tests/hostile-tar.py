#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hostile-tar.py FOLDER: writes one tar archive per attack, and tells on stdout what must become of each.

A line is NAME, a tab, and a regular expression that the one error line must match ("ok" if it must be taken). The
archives are made by hand where no library would write them.
"""
import gzip
import io
import os
import struct
import sys
import tarfile
import time

folder = sys.argv[1]
outside = os.path.abspath(os.path.join(folder, "outside"))
BLOCK = 512


def header(name, size=0, typeflag=b"0", link=b"", mode=0o644, magic=b"ustar\x0000", size_field=None, uid=b"0000000\0", checksum=True, devmajor=b"", devminor=b""):
    if isinstance(name, str):
        name = name.encode()
    h = bytearray(BLOCK)
    h[0:100] = name[:100].ljust(100, b"\0")
    h[100:108] = b"%07o\0" % mode
    h[108:116] = uid.ljust(8, b"\0")
    h[116:124] = b"0000000\0"
    h[124:136] = size_field if size_field is not None else b"%011o\0" % size
    h[136:148] = b"%011o\0" % 1700000000
    h[156:157] = typeflag
    h[157:257] = link[:100].ljust(100, b"\0")
    h[257:265] = magic
    h[329:337] = devmajor.ljust(8, b"\0")
    h[337:345] = devminor.ljust(8, b"\0")
    h[148:156] = b" " * 8
    h[148:156] = b"%06o\0 " % ((sum(h) + (0 if checksum else 1)) & 0o777777)
    return bytes(h)


def padded(data):
    return data + b"\0" * (-len(data) % BLOCK)


def entry(name, data=b"", **kw):
    return header(name, len(data), **kw) + padded(data)


def symlink(name, target):
    return header(name, 0, typeflag=b"2", link=target.encode())


def hardlink(name, target):
    return header(name, 0, typeflag=b"1", link=target.encode())


def directory(name):
    return header(name, 0, typeflag=b"5", mode=0o755)


def pax(records, name="PaxHeader", typeflag=b"x"):
    body = b""
    for key, value in records:
        if isinstance(value, str):
            value = value.encode()
        rest = b" " + key.encode() + b"=" + value + b"\n"
        length = len(rest) + 1
        while len(b"%d" % length) + len(rest) != length:
            length = len(b"%d" % length) + len(rest)
        body += b"%d" % length + rest
    return entry(name, body, typeflag=typeflag)


END = b"\0" * 1024
GOOD = directory("./") + directory("etc") + entry("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
cases = {}


def case(name, expect, data, end=END):
    cases[name] = expect
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data + end)


# Paths
case("dotdot", "'\\.\\.' would lead out", GOOD + entry("../outside/pwned", b"x"))
case("dotdot-inside", "'\\.\\.' would lead out", GOOD + entry("etc/../../outside/pwned", b"x"))
case("dotdot-end", "'\\.\\.' would lead out", GOOD + directory("etc/.."))
case("dotdot-whiteout", "'\\.\\.' would lead out", GOOD + entry("../.wh.outside"))
case("absolute", "ok", GOOD + entry(outside + "/absolute", b"x"))
case("pax-dotdot", "'\\.\\.' would lead out", GOOD + pax([("path", "../outside/pwned")]) + entry("harmless", b"x"))
case("empty-name", "no path|not.*path|root must be|would|Damaged|damaged|unknown|ended|header|path", GOOD + pax([("path", "")]) + header(b"", 0, typeflag=b"2", link=b"x"))
case("long-component", "too long", GOOD + pax([("path", "a" * 300)]) + entry("x", b"x"))
case("long-path", "too long", GOOD + pax([("path", "/".join(["a" * 100] * 50))]) + entry("x", b"x"))
case("deep-path", "too many folders", GOOD + pax([("path", "a/" * 600 + "x")]) + entry("x", b"x"))
case("root-is-file", "root must be a folder", entry("./", b"") + entry(".", b"x"))
# Links
case("symlink-absolute-parent", "is a link", GOOD + symlink("exit", outside) + entry("exit/pwned", b"x"))
case("symlink-relative-parent", "is a link", GOOD + symlink("exit", "../../../../../../../.." + outside) + entry("exit/pwned", b"x"))
case("symlink-inside-parent", "is a link", GOOD + symlink("lib", "etc") + entry("lib/pwned", b"x"))
case("symlink-chain", "is a link", GOOD + symlink("a", "b") + symlink("b", outside) + entry("a/pwned", b"x"))
case("symlink-deep", "is a link", GOOD + directory("d") + symlink("d/e", outside) + entry("d/e/f/g/pwned", b"x"))
case("symlink-proc", "is a link", GOOD + symlink("p", "/proc/self/root") + entry("p/pwned", b"x"))
case("symlink-then-file", "ok", GOOD + symlink("x", outside + "/victim") + entry("x", b"written"))
case("symlink-then-folder", "ok", GOOD + symlink("x", outside) + directory("x") + entry("x/inside", b"x"))
case("symlink-whiteout-parent", "is a link", GOOD + symlink("exit", outside) + entry("exit/.wh.victim"))
case("symlink-opaque-parent", "is a link", GOOD + symlink("exit", outside) + entry("exit/.wh..wh..opq"))
case("hardlink-outside", "'\\.\\.' would lead out", GOOD + hardlink("x", "../outside/victim"))
case("hardlink-absolute", "hard link to .*not in the layer|its folder|No such file", GOOD + hardlink("x", outside + "/victim"))
case("hardlink-missing", "not in the layer", GOOD + hardlink("x", "nothing"))
case("hardlink-through-symlink", "is a link", GOOD + symlink("exit", outside) + hardlink("x", "exit/victim"))
case("hardlink-to-symlink-write", "ok", GOOD + symlink("l", outside + "/victim") + hardlink("h", "l") + entry("h", b"written"))
case("hardlink-folder", "hard link to a folder", GOOD + hardlink("x", "etc"))
case("hardlink-self", "hard link to itself", GOOD + entry("x", b"x") + hardlink("x", "x"))
case("file-as-parent", "is a link or not a folder|not a folder", GOOD + entry("f", b"x") + entry("f/x", b"x"))
case("symlink-long", "too long|link", GOOD + pax([("linkpath", "a" * 5000)]) + symlink("x", "y"))
case("symlink-empty", "without target", GOOD + symlink("x", ""))
# Whiteouts
case("whiteout-dotdot", "whiteout of nothing", GOOD + entry("etc/.wh..."))
case("whiteout-dot", "whiteout of nothing", GOOD + entry("etc/.wh.."))
case("whiteout-empty", "whiteout of nothing", GOOD + entry("etc/.wh."))
case("whiteout-slash", "ok", GOOD + entry("etc/.wh.passwd"))
case("whiteout-device", "taken for a whiteout", GOOD + header("etc/x", 0, typeflag=b"3", devmajor=b"0000000\0", devminor=b"0000000\0"))
case("hardlink-to-whiteout", "hard link to a folder or a whiteout", GOOD + entry("etc/.wh.gone") + hardlink("x", "etc/gone"))
# Attributes
case("xattr-overlay", "would speak to overlayfs", GOOD + pax([("SCHILY.xattr.trusted.overlay.redirect", "/etc")]) + directory("d"))
case("xattr-overlay-opaque", "would speak to overlayfs", GOOD + pax([("SCHILY.xattr.trusted.overlay.opaque", "y")]) + directory("d"))
case("xattr-capability", "malformed file capabilities", GOOD + pax([("SCHILY.xattr.security.capability", b"\1\0\0\2zz")]) + entry("x", b"x"))
case("xattr-huge", "attribute|xattr|too large|Special header|header", GOOD + pax([("SCHILY.xattr.user.big", b"a" * 70000)]) + entry("x", b"x"))
case("xattr-many", "extended attributes|No space", GOOD + pax([("SCHILY.xattr.user.a%d" % i, "b") for i in range(300)]) + entry("x", b"x"))
case("pax-huge", "tar archive|too large|header", GOOD + pax([("comment", b"a" * (2 << 20))]) + entry("x", b"x"))
case("pax-claims-huge", "tar archive|too large|header|runcated", GOOD + header("PaxHeader", 0, typeflag=b"x", size_field=b"77777777777\0"))
case("pax-broken", "tar archive|attribute|header|malformed|ok", GOOD + entry("PaxHeader", b"99999 path=x\n", typeflag=b"x") + entry("x", b"x"))
case("owner-huge", "owner|ok", GOOD + pax([("uid", "99999999999999")]) + entry("x", b"x"))
case("owner-negative", "owner|header|ok", GOOD + entry("x", b"x", uid=b"\xff" * 8))
# Sizes
case("size-negative", "tar archive|header|size|damaged|Damaged|runcated", GOOD + header("x", size_field=b"\xff" * 12))
case("size-huge", "tar archive|bytes|runcated|larger", GOOD + header("x", size_field=b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7))
case("size-terabyte", "bytes|runcated|larger", GOOD + header("x", size_field=b"\x80" + b"\0" * 5 + struct.pack(">Q", 1 << 40)[2:]))
case("sparse-exabyte", "bytes|sparse|runcated|header|tar archive", GOOD + pax([("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "s"), ("GNU.sparse.realsize", str(1 << 60))]) + entry("GNUSparseFile.0/s", padded(b"1\n1152921504606846970\n1\n") + b"x"))
case("longname-claims-huge", "tar archive|too large|header|runcated", GOOD + header("././@LongLink", typeflag=b"L", size_field=b"77777777777\0", magic=b"ustar  \0"))
# Damage
case("truncated-header", "runcated|damaged|Damaged|unexpected|ended", GOOD + entry("x", b"x" * 100)[:300], end=b"")
case("truncated-data", "runcated|damaged", GOOD + header("x", 100000) + b"x" * 1000, end=b"")
case("bad-checksum", "amaged|checksum|header", GOOD + header("x", 1, checksum=False) + padded(b"x"))
case("trailing-garbage", "behind the end", GOOD, end=END + b"garbage" * 1000)
case("trailing-zeros", "ok", GOOD, end=END + b"\0" * 100000)
case("second-archive", "behind the end", GOOD, end=END + GOOD + END)
case("not-a-tar", "nrecognized|tar archive", b"This is a text and no archive.\n" * 100, end=b"")
case("empty", "nrecognized|tar archive|empty", b"", end=b"")
case("zeros", "ok", b"", end=END)
case("random", "nrecognized|tar archive", os.urandom(10000), end=b"")
# Duplicates
case("duplicate-file", "ok", GOOD + entry("x", b"first") + entry("x", b"second"))
case("duplicate-folder-file", "ok", GOOD + directory("x") + entry("x/y", b"y") + entry("x", b"file"))
case("duplicate-file-folder", "ok", GOOD + entry("x", b"file") + directory("x") + entry("x/y", b"y"))
case("duplicate-parent-replaced", "ok", GOOD + directory("d") + entry("d/a", b"a") + entry("d", b"file") + directory("d") + entry("d/b", b"b"))
case("replaced-by-link", "is a link", GOOD + directory("d") + entry("d/a", b"a") + symlink("d", outside) + entry("d/pwned", b"x"))
case("devices", "ok", GOOD + header("null", 0, typeflag=b"3", mode=0o666, devmajor=b"0000001\0", devminor=b"0000003\0") + header("sda", 0, typeflag=b"4", devmajor=b"0000010\0", devminor=b"0000000\0") + header("fifo", 0, typeflag=b"6"))
case("setuid", "ok", GOOD + entry("su", b"x", mode=0o6755))

raw = io.BytesIO()
good = GOOD + entry("x", os.urandom(200000)) + END
packed = gzip.compress(good, 6)


def compressed(name, expect, data):
    cases[name] = expect
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


compressed("gzip-good", "ok", packed)
compressed("gzip-two-members", "ok", gzip.compress(good[:50000]) + gzip.compress(good[50000:]))
compressed("gzip-zeros-behind", "ok", packed + b"\0" * 1000)
compressed("gzip-truncated", "too early", packed[:100000])
compressed("gzip-no-trailer", "too early|checksum", packed[:-8])
compressed("gzip-bad-checksum", "checksum", packed[:-8] + b"\0\0\0\0" + packed[-4:])
compressed("gzip-corrupt", "damaged|checksum|amaged|archive|runcated", packed[:5000] + bytes(255 - b for b in packed[5000:5100]) + packed[5100:])
compressed("gzip-garbage-behind", "damaged|gzip", packed + b"garbage behind the end")
compressed("gzip-header-only", "too early", packed[:10])
compressed("zstd-garbage", "zstd", b"\x28\xb5\x2f\xfd" + b"\xff" * 1000)
compressed("zstd-window", "zstd", b"\x28\xb5\x2f\xfd\x00\xff" + b"\x00" * 100)  # asks for 3.75 TiB of window


# A gzip of zeros that grows a thousand times: 3 GiB in one file.
class Zeros:
    def __init__(self, size):
        self.left = size

    def read(self, n):
        n = min(n, self.left)
        self.left -= n
        return b"\0" * n


if "--bomb" in sys.argv:
    cases["gzip-bomb"] = "grows more than|larger than"
    size = 3 << 30
    with gzip.open(os.path.join(folder, "gzip-bomb"), "wb", 1) as f:
        f.write(GOOD + header("zeros", size))
        zeros = Zeros(size)
        while chunk := zeros.read(1 << 20):
            f.write(chunk)
        f.write(END)

for name, expect in cases.items():
    print(name, expect, sep="\t")
