#!/usr/bin/env python3
"""Writes v1 archives that are encrypted as they should be and hold what nobody should take.

usage: hostile_v1.py FOLDER < PASSPHRASE

Uses nothing of this project: hashlib, cryptography, tarfile, zlib. Prints the names of the files.
"""

import hashlib
import io
import os
import sys
import tarfile
import zlib

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

folder, passphrase = sys.argv[1], sys.stdin.buffer.read().rstrip(b"\n")
salt = os.urandom(32)
key = hashlib.pbkdf2_hmac("sha256", passphrase, salt, 100_000, 32)
END = bytes(1024)


def write(name: str, compressed: bytes):
    nonce = os.urandom(12)
    with open(os.path.join(folder, name), "xb") as file:
        file.write(salt + nonce + AESGCM(key).encrypt(nonce, compressed, None))
    print(name)


def gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def member(name: str, data: bytes = b"", **changes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o600
    for change, value in changes.items():
        setattr(info, change, value)
    head = info.tobuf(tarfile.GNU_FORMAT)
    return head + data + bytes(-len(data) % 512)


def tar(*members: bytes) -> bytes:
    return gzip(b"".join(members) + END)


def pax(records: bytes) -> bytes:
    return member("pax", records, type=tarfile.XHDTYPE)


def record(keyword: bytes, value: bytes) -> bytes:
    """The length in front counts itself; all of them here have two digits."""
    return b"%02d %s=%s\n" % (len(keyword) + len(value) + 5, keyword, value)


GOOD = member("good", b"good")
LINK, SYMLINK, FOLDER = tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE

for name in ["../evil", "a/../../evil", "..", "/etc/evil", "/", "a//../evil", "n" * 256, "/".join(["d" * 200] * 30)]:
    write("name " + name.replace("/", "|")[:40], tar(GOOD, member(name, b"evil")))
write("name with NUL", tar(GOOD, pax(record(b"path", b"evil\0/x")), member("x")))
write("name above in PAX", tar(GOOD, pax(record(b"path", b"../evil")), member("x")))
write("twice", tar(GOOD, member("a", b"1"), member("a", b"2")))
write("twice written differently", tar(GOOD, member("a", b"1"), member("./a", b"2")))
write("folder over a file", tar(member("a", b"1"), member("a", type=FOLDER)))
write("below a file", tar(member("a", b"1"), member("a/b", b"2")))
write("below a link", tar(member("a", type=SYMLINK, linkname="/etc"), member("a/passwd", b"2")))
write("hard link to nothing", tar(GOOD, member("a", type=LINK, linkname="missing")))
write("hard link above", tar(GOOD, member("a", type=LINK, linkname="../../etc/passwd")))
write("hard link to a folder", tar(member("d", type=FOLDER), member("a", type=LINK, linkname="d")))
write("target with NUL", tar(GOOD, pax(record(b"linkpath", b"a\0b")), member("a", type=SYMLINK, linkname="x")))
write("declared 8 GiB", tar(GOOD, member("a", size=8 << 30)))
write("declared 2^62", tar(GOOD, member("a", size=1 << 62)))
write("declared below zero", tar(GOOD, member("a", size=-1)))
write("PAX of 4 GiB", tar(GOOD, member("pax", size=4 << 30, type=tarfile.XHDTYPE)))
write("PAX with a wrong length", tar(GOOD, pax(b"99999 path=a\n"), member("a")))
write("PAX without end", tar(GOOD, pax(b"path=a"), member("a")))
write("unknown kind", tar(GOOD, member("a", b"x", type=b"Z")))
write("header with a wrong sum", tar(GOOD, member("a", b"x").replace(b"a", b"b", 1)))
write("cut within a header", gzip(GOOD + member("a", b"x")[:300]))
write("cut within content", gzip(GOOD + member("a", b"x" * 5000)[:2048]))
write("garbage after the end", gzip(GOOD + END + b"garbage" * 200))
write("garbage after the compressed data", tar(GOOD) + b"garbage")
write("no compression", GOOD + END)
write("nothing inside", b"")
wrong = bytearray(tar(GOOD))
wrong[-8] ^= 1
write("wrong sum of the compressed data", bytes(wrong))
write("compressed data cut", tar(GOOD)[:-12])

# Bombs. Zeros are compressed once and written over and over; the sum at the end is missing, which nobody should come to
# see.
PREFIX = b"\x1f\x8b\x08\0\0\0\0\0\0\3"
PIECE = 16 << 20


def packed(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)


zeros = packed(bytes(PIECE))
write("bomb of one file", PREFIX + packed(member("bomb", size=64 << 30)) + zeros * 1024)
files = (packed(member(f"bomb{number}", size=16 * PIECE)) + zeros * 16 for number in range(64))
write("bomb of large files", PREFIX + b"".join(files))
