#!/usr/bin/env python3
"""Reads a v1 archive with nothing of this project: hashlib, cryptography and tarfile.

usage: read_v1.py ARCHIVE < PASSPHRASE

Prints a JSON object a line for each entry: path and linkname (bytes that are not UTF-8 as
lone surrogates), path_hex, type (file, dir, symlink, hardlink, fifo, socket, char, block),
mode (octal digits), size, mtime (decimal seconds, exact), sha256 of a file's content, xattrs
(values in hexadecimal digits), device. Ends with status 1 and a message for anything wrong.
"""

import gzip
import hashlib
import io
import json
import sys
import tarfile

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SALT, NONCE, TAG = 32, 12, 16
TYPES = {
    tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.CONTTYPE: "file",
    tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hardlink",
    tarfile.FIFOTYPE: "fifo", tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block",
}


def decrypt(archive: bytes, passphrase: bytes) -> bytes:
    if len(archive) < SALT + NONCE + TAG:
        raise ValueError("shorter than the smallest archive")
    salt, nonce, sealed = archive[:SALT], archive[SALT:SALT + NONCE], archive[SALT + NONCE:]
    key = hashlib.pbkdf2_hmac("sha256", passphrase, salt, 100_000, 32)
    return AESGCM(key).decrypt(nonce, sealed, None)


def describe(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict:
    pax = member.pax_headers
    entry = {
        "path": member.name,
        "path_hex": member.name.encode("utf-8", "surrogateescape").hex(),
        "type": "socket" if pax.get("TAZPOD.kind") == "socket" else TYPES[member.type],
        "mode": f"{member.mode:o}",
        "mtime": pax.get("mtime", str(member.mtime)),
    }
    if entry["type"] == "file":
        content = tar.extractfile(member).read()
        entry["size"] = len(content)
        entry["sha256"] = hashlib.sha256(content).hexdigest()
    if entry["type"] in ("symlink", "hardlink"):
        entry["linkname"] = member.linkname
    if entry["type"] in ("char", "block"):
        entry["device"] = [member.devmajor, member.devminor]
    prefix = "SCHILY.xattr."
    xattrs = {key[len(prefix):]: value.encode("utf-8", "surrogateescape").hex()
              for key, value in pax.items() if key.startswith(prefix)}
    if xattrs:
        entry["xattrs"] = xattrs
    owner = (member.uid, member.gid, member.uname, member.gname)
    if owner not in ((0, 0, "", ""),):
        entry["owner"] = owner
    return entry


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    passphrase = sys.stdin.buffer.read().removesuffix(b"\n")
    try:
        with open(sys.argv[1], "rb") as file:
            packed = decrypt(file.read(), passphrase)
        plain = gzip.decompress(packed)
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
            for member in tar:
                print(json.dumps(describe(tar, member), sort_keys=True))
    except InvalidTag:
        print("the passphrase is wrong, or the archive is damaged", file=sys.stderr)
        return 1
    except (ValueError, OSError, EOFError, tarfile.TarError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
