#!/usr/bin/env python3
"""Reads a v2 archive with nothing of this project: the standard library, cryptography and argon2-cffi.

usage: read_v2.py [--segments] ARCHIVE < PASSPHRASE
       read_v2.py [--segments] --identity FILE ARCHIVE

An identity (of age, or an SSH private key) is used by the program 'age', which gets the age file of a slot and gives the master.

Written from docs/FORMAT.md alone, in its order: header, segments, records, tree. It verifies all that a reader must
verify without a witness, and prints a JSON object a line for each entry, a folder before what it holds, names in the order of
their bytes: path (the root is ".") and linkname (bytes that are not UTF-8 as lone surrogates), path_hex, type (file, dir,
symlink, hardlink, fifo, socket, char, block), mode (octal digits), size, mtime and ctime (decimal seconds, exact), sha256 of
a file's content, xattrs (values in hexadecimal digits), device. With --segments: an object for each segment instead, with its
offset, kind, number, chain (the chain value after it), and how many records of which type and encoding it has.

Ends with status 3 for a wrong passphrase or identity, 5 for an archive that is damaged or holds something unknown, 1 for other failures.
"""

import argparse
import collections
import hashlib
import hmac
import json
import os
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass, field

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

TAG, CHUNK, BLOCK, SEGMENT_HEADER = 16, 65_536, 4_096, 88
SUITES = {1: AESGCM, 2: ChaCha20Poly1305}
CHECKPOINT, DELTA = 1, 2
RECORDS = ["end", "commit", "inode", "data", "target", "link", "unlink", "set attribute", "remove attribute", "hole", "drop",
           "ancestors", "header", "shared"]
(END, COMMIT, INODE, DATA, TARGET, LINK, UNLINK, SET_ATTRIBUTE, REMOVE_ATTRIBUTE, HOLE, DROP, ANCESTORS,
 HEADER, SHARED) = range(len(RECORDS))
KINDS = {1: "dir", 2: "file", 3: "symlink", 4: "fifo", 5: "socket", 6: "char", 7: "block"}
ROOT = bytes(16)


class WrongPassphrase(Exception):
    """No slot opens with it, or with the identity."""


class Refused(Exception):
    """Damaged, or of a kind that this reader does not know."""


def check(holds: bool, complaint: str) -> None:
    if not holds:
        raise Refused(complaint)


class Cursor:
    """Takes fields off the front of some bytes."""

    def __init__(self, data: bytes, what: str):
        self.data, self.what, self.at = data, what, 0

    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, length: int) -> bytes:
        check(length <= self.left(), f"{self.what} is cut short")
        self.at += length
        return self.data[self.at - length:self.at]

    def rest(self) -> bytes:
        return self.take(self.left())

    def number(self, length: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(length), "little", signed=signed)

    def end(self) -> None:
        check(self.left() == 0, f"{self.what} is {self.left()} bytes too long")


# --- keys -----------------------------------------------------------------------------------------------------------------


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(key)


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """The subkey of XChaCha20 (draft-irtf-cfrg-xchacha, section 2.2)."""
    state = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))

    def turn(word: int, other: int, source: int, bits: int) -> None:
        state[word] = (state[word] + state[other]) & 0xFFFFFFFF
        mixed = state[source] ^ state[word]
        state[source] = (mixed << bits | mixed >> (32 - bits)) & 0xFFFFFFFF

    def quarter_round(a: int, b: int, c: int, d: int) -> None:
        turn(a, b, d, 16)
        turn(c, d, b, 12)
        turn(a, b, d, 8)
        turn(c, d, b, 7)

    for _ in range(10):
        for column in range(4):
            quarter_round(column, 4 + column, 8 + column, 12 + column)
        for column in range(4):
            quarter_round(column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4)
    return struct.pack("<8I", *state[:4], *state[12:])


def open_xchacha(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    subkey = hchacha20(key, nonce[:16])
    return ChaCha20Poly1305(subkey).decrypt(bytes(4) + nonce[16:], sealed, associated)


# --- header ---------------------------------------------------------------------------------------------------------------


@dataclass
class Header:
    raw: bytes
    suite: type
    vault_id: bytes
    master: bytes


@dataclass
class IdentityFile:
    """What opens a recipient slot, in place of a passphrase."""
    path: str


def read_header(archive: bytes, secret: bytes | IdentityFile) -> Header:
    cursor = Cursor(archive, "the header")
    check(cursor.take(8) == b"TAZVAULT", "this is no archive of version 2")
    version, suite, length = cursor.number(2), cursor.number(2), cursor.number(4)
    check(version == 2, f"version {version} is unknown")
    check(suite in SUITES, f"suite {suite} is unknown")
    check(65 <= length <= 65_536, f"the header cannot be {length} bytes long")
    check(length <= len(archive), "the header is cut short")
    raw = archive[:length]
    vault_id = cursor.take(16)
    slots = read_slots(Cursor(raw[32:-32], "the list of slots"))
    if isinstance(secret, IdentityFile):
        master = open_recipient_slots(slots.get(2, []), secret)
    elif 1 not in slots:
        raise WrongPassphrase("no passphrase opens this archive: it has recipients only")
    else:
        master = open_passphrase_slot(slots[1][0], secret, raw[:12] + vault_id)
    mac = hmac.digest(hkdf(master, vault_id, b"tazpod/v2/header"), raw[:-32], "sha256")
    check(hmac.compare_digest(mac, raw[-32:]), "the header was changed: its MAC does not fit")
    return Header(raw, SUITES[suite], vault_id, master)


def read_slots(cursor: Cursor) -> dict[int, list]:
    """Checks all slots; returns those of each kind: bodies of passphrase slots, recipients with their age files."""
    count = cursor.number(1)
    check(1 <= count <= 33, f"there cannot be {count} slots")
    found = collections.defaultdict(list)
    for _ in range(count):
        kind = cursor.number(1)
        body = cursor.take(cursor.number(2))
        check(kind in (1, 2), f"slot kind {kind} is unknown")
        found[kind].append(read_recipient_slot(Cursor(body, "a recipient slot")) if kind == 2 else body)
    cursor.end()
    check(len(found[1]) <= 1, "there is more than one passphrase slot")
    check(len(found[2]) <= 32, "there are more than 32 recipient slots")
    return {kind: slots for kind, slots in found.items() if slots}


def read_recipient_slot(cursor: Cursor) -> tuple[str, bytes]:
    try:
        cursor.take(cursor.number(1)).decode("utf-8")
        recipient = cursor.take(cursor.number(2)).decode("ascii")
    except UnicodeDecodeError:
        raise Refused("the label or recipient of a slot is no text") from None
    check(len(recipient) <= 1_024, "a recipient is too long")
    file = cursor.take(cursor.number(2))
    check(len(file) <= 4_096, "an age file is too long")
    cursor.end()
    return recipient, file


def open_recipient_slots(slots: list[tuple[str, bytes]], identity: IdentityFile) -> bytes:
    for recipient, file in slots:
        check(file.startswith(b"age-encryption.org/v1\n"), f"the slot of {recipient} holds no age file")
        check(b"\n-> scrypt " not in file, f"the age file of {recipient} is for a passphrase")
        age = subprocess.run(["age", "-d", "-i", identity.path], input=file, capture_output=True, check=False)
        if age.returncode == 0:
            check(len(age.stdout) == 32, f"the master for {recipient} has {len(age.stdout)} bytes")
            return age.stdout
    raise WrongPassphrase("the identity opens none of the recipients' slots")


def open_passphrase_slot(body: bytes, passphrase: bytes, header_part: bytes) -> bytes:
    check(len(body) == 116, f"a passphrase slot cannot be {len(body)} bytes long")
    memory_kib, passes, lanes = struct.unpack_from("<3I", body)
    check(1 <= lanes <= 16, f"Argon2id with {lanes} lanes")
    check(8 * lanes <= memory_kib <= 2 << 20, f"Argon2id with {memory_kib} KiB of memory")
    check(1 <= passes and memory_kib * passes <= 4 << 20, f"Argon2id with {passes} passes over {memory_kib} KiB")
    salt, nonce, sealed = body[12:44], body[44:68], body[68:]
    key = hash_secret_raw(passphrase, salt, passes, memory_kib, lanes, 32, Type.ID, 0x13)
    try:
        return open_xchacha(key, nonce, sealed, header_part + b"\x01" + body[:44])
    except InvalidTag:
        raise WrongPassphrase("the passphrase is wrong, or the header was changed") from None


# --- segments -------------------------------------------------------------------------------------------------------------


@dataclass
class Segment:
    offset: int
    kind: int
    number: int
    chain: bytes
    plaintext: bytes


def read_segments(archive: bytes, header: Header):
    """Yields the segments in order, each verified as far as that goes without its records."""
    offset, number, chain = len(header.raw), None, None
    check(offset < len(archive), "there is no segment")
    while offset < len(archive):
        where = f"the segment at offset {offset}"
        check(offset + SEGMENT_HEADER <= len(archive), f"{where} is cut short")
        head = archive[offset:offset + SEGMENT_HEADER]
        magic, kind, zero, found_number, found_chain, salt, length = struct.unpack("<4sB3sQ32s32sQ", head)
        check(magic == b"TSEG", f"{where} does not begin with TSEG")
        check(kind in (CHECKPOINT, DELTA), f"{where}: segment kind {kind} is unknown")
        check(zero == bytes(3), f"{where}: reserved bytes are not zero")
        payload = archive[offset + SEGMENT_HEADER:offset + SEGMENT_HEADER + length]
        check(len(payload) == length, f"{where} is cut short")
        if chain is None:
            check(kind == CHECKPOINT, f"{where} is the first and no checkpoint")
            genesis = hashlib.sha256(b"tazpod/v2/genesis" + header.vault_id).digest()
            check((found_chain == genesis) == (found_number == 0), f"{where}: number and chain value do not fit")
            number, chain = found_number, found_chain
        else:
            check(kind == DELTA, f"{where} is a checkpoint and not the first")
            check(found_number == number + 1, f"{where} has number {found_number} and follows number {number}")
            check(found_chain == chain, f"{where} does not follow the one before it: its chain field differs")
            number, chain = found_number, hashlib.sha256(head + hashlib.sha256(payload).digest()).digest()
        key = hkdf(header.master, salt, b"tazpod/v2/segment" + head[:80])
        yield Segment(offset, kind, number, chain, open_stream(header.suite(key), payload, where))
        offset += SEGMENT_HEADER + length


def open_stream(aead, payload: bytes, where: str) -> bytes:
    sealed = [payload[at:at + CHUNK + TAG] for at in range(0, len(payload), CHUNK + TAG)]
    check(bool(sealed), f"{where} has no payload")
    plain = []
    for number, chunk in enumerate(sealed):
        nonce = number.to_bytes(11, "big") + (b"\x01" if number == len(sealed) - 1 else b"\x00")
        try:
            plain.append(aead.decrypt(nonce, chunk, None))
        except (InvalidTag, ValueError):
            raise Refused(f"{where}: chunk {number} was changed") from None
    plaintext = b"".join(plain)
    check(plaintext != b"" and len(plaintext) % BLOCK == 0, f"{where} is not padded to {BLOCK} bytes")
    return plaintext


# --- records --------------------------------------------------------------------------------------------------------------


def read_records(plaintext: bytes):
    """Yields (type, body) up to the end mark; nothing but zeros may follow."""
    cursor = Cursor(plaintext, "the sequence of records")
    while (kind := cursor.number(1)) != END:
        check(kind <= SHARED, f"record type {kind} is unknown")
        yield kind, Cursor(cursor.take(cursor.number(4)), f"a record of type {kind}")
    check(not any(cursor.rest()), "the padding holds something")


# Stages of a segment: each record belongs to one, and none comes after one of a later stage.
STAGES = {COMMIT: 0, ANCESTORS: 1, HEADER: 2, SHARED: 2.5, INODE: 3, TARGET: 3, HOLE: 3, DATA: 3, SET_ATTRIBUTE: 3,
          REMOVE_ATTRIBUTE: 3, UNLINK: 4, LINK: 5, DROP: 6}
# The same for what belongs to an inode record.
INODE_STAGES = {TARGET: 1, HOLE: 2, DATA: 3, SET_ATTRIBUTE: 4, REMOVE_ATTRIBUTE: 4}


def check_order(segment: Segment, kinds: list[int]) -> None:
    stages = [STAGES[kind] for kind in kinds]
    check(stages == sorted(stages), "records are not in their order")
    check(kinds.count(COMMIT) == 1, "there must be one commit record")
    check(kinds.count(SHARED) <= 1, "there is more than one record of shared heads")
    if segment.kind == CHECKPOINT:
        check(kinds.count(ANCESTORS) == 1 and kinds.count(HEADER) == 1,
              "a checkpoint must have one record of ancestors and one of the header")
        check(not {HOLE, REMOVE_ATTRIBUTE, UNLINK, DROP} & set(kinds), "a checkpoint takes something away")
    else:
        check(kinds.count(ANCESTORS) == 0 and kinds.count(HEADER) <= 1,
              "a delta has no record of ancestors and at most one of the header")
    stage = None
    for kind in kinds:
        if kind == INODE:
            stage = 0
        elif kind in INODE_STAGES:
            check(stage is not None and stage <= INODE_STAGES[kind], "what belongs to an inode is not in its order")
            stage = INODE_STAGES[kind]


def check_commit(body: Cursor) -> None:
    body.number(8, signed=True)
    body.take(16)
    for _ in ("host", "version"):
        body.take(body.number(1))
    parents = body.number(1)
    check(parents <= 1, f"a commit with {parents} second parents")
    body.take(40 * parents)


def check_ancestors(body: Cursor, checkpoint: int) -> None:
    numbers = []
    while body.left():
        numbers.append(body.number(8))
        body.take(32)
    check(all(one < other for one, other in zip(numbers, numbers[1:] + [checkpoint])), "ancestors are not in rising order")


def check_shared(body: Cursor) -> None:
    heads = []
    while body.left():
        body.number(8, signed=True)
        heads.append((body.number(8), body.take(32)))
    check(all(one < other for one, other in zip(heads, heads[1:])), "shared heads are not in rising order")
    check(len(heads) <= 4_096, f"{len(heads)} shared heads")


# --- tree -----------------------------------------------------------------------------------------------------------------


@dataclass
class Inode:
    kind: int
    mode: int = 0
    mtime: tuple[int, int] = (0, 0)
    ctime: tuple[int, int] = (0, 0)
    size: int = 0
    device: int = 0
    target: bytes | None = None
    blocks: dict[int, bytearray] = field(default_factory=dict)
    attributes: dict[bytes, bytes] = field(default_factory=dict)
    children: dict[bytes, bytes] = field(default_factory=dict)

    def put(self, offset: int, data: bytes) -> None:
        while data:
            index, start = divmod(offset, BLOCK)
            piece = data[:BLOCK - start]
            self.blocks.setdefault(index, bytearray(BLOCK))[start:start + len(piece)] = piece
            offset, data = offset + len(piece), data[len(piece):]

    def clear(self, start: int, end: int) -> None:
        for index in [index for index in self.blocks if start < (index + 1) * BLOCK and index * BLOCK < end]:
            first = max(start - index * BLOCK, 0)
            last = min(end - index * BLOCK, BLOCK)
            self.blocks[index][first:last] = bytes(last - first)
            if last - first == BLOCK:
                del self.blocks[index]

    def sha256(self) -> str:
        digest, zeros = hashlib.sha256(), bytes(BLOCK)
        for offset in range(0, self.size, BLOCK):
            digest.update(self.blocks.get(offset // BLOCK, zeros)[:self.size - offset])
        return digest.hexdigest()


def read_time(body: Cursor) -> tuple[int, int]:
    seconds, nanoseconds = body.number(8, signed=True), body.number(4)
    check(nanoseconds < 1_000_000_000, f"a time has {nanoseconds} nanoseconds")
    return seconds, nanoseconds


def read_name(body: Cursor) -> bytes:
    name = body.rest()
    fits = 1 <= len(name) <= 255 and b"/" not in name and b"\0" not in name and name not in (b".", b"..")
    check(fits, f"{name!r} is no name of an entry")
    return name


def read_attribute_name(name: bytes) -> bytes:
    check(name.startswith(b"user.") and len(name) > 5 and len(name) <= 255 and b"\0" not in name,
          f"{name!r} is no name of an attribute")
    return name


class Tree:
    """All inodes by id, and what the segment at hand has touched."""

    def __init__(self, header: Header):
        self.inodes: dict[bytes, Inode] = {}
        self.names: dict[bytes, set[tuple[bytes, bytes]]] = {}
        self.header_hash = b""
        self.actual_header_hash = hashlib.sha256(header.raw).digest()

    def apply(self, segment: Segment) -> None:
        records = list(read_records(segment.plaintext))
        check_order(segment, [kind for kind, _ in records])
        self.number, self.written, self.inode = segment.number, set(), None
        steps = {COMMIT: check_commit, ANCESTORS: self.ancestors, HEADER: self.header, SHARED: check_shared, INODE: self.begin_inode,
                 TARGET: self.target, HOLE: self.hole, DATA: self.data, SET_ATTRIBUTE: self.set_attribute,
                 REMOVE_ATTRIBUTE: self.remove_attribute, UNLINK: self.unlink, LINK: self.link, DROP: self.drop}
        for kind, body in records:
            if kind not in INODE_STAGES:
                self.end_inode()
            steps[kind](body)
            body.end()
        self.end_inode()
        self.check_names()

    def ancestors(self, body: Cursor) -> None:
        check_ancestors(body, self.number)

    def header(self, body: Cursor) -> None:
        self.header_hash = body.take(32)

    def begin_inode(self, body: Cursor) -> None:
        identity, kind, mode = body.take(16), body.number(1), body.number(4)
        check(identity not in self.written, "an inode is written twice in a segment")
        self.written.add(identity)
        check(kind in KINDS, f"entry kind {kind} is unknown")
        check(mode <= 0o7777, f"mode {mode:o} has unknown bits")
        check(identity != ROOT or KINDS[kind] == "dir", "the root is no folder")
        inode = self.inodes.setdefault(identity, Inode(kind))
        check(inode.kind == kind, "an inode changes its kind")
        inode.mode, inode.mtime, inode.ctime = mode, read_time(body), read_time(body)
        size, inode.device = body.number(8), body.number(8)
        check(size == 0 or KINDS[kind] == "file", "something other than a file has a size")
        check(inode.device == 0 or KINDS[kind] in ("char", "block"), "something other than a device has a number")
        inode.clear(size, max(size, inode.size))
        inode.size = size
        self.inode, self.hole_end, self.data_end, self.attributes_seen = inode, 0, 0, set()

    def end_inode(self) -> None:
        """Ends the inode that was begun: by now a symbolic link has its target."""
        if self.inode and KINDS[self.inode.kind] == "symlink":
            check(self.inode.target is not None, "a symbolic link without a target")
        self.inode = None

    def target(self, body: Cursor) -> None:
        check(KINDS[self.inode.kind] == "symlink", "something other than a symbolic link has a target")
        check(self.inode.target is None, "a symbolic link has a target already")
        target = body.rest()
        check(1 <= len(target) <= 4_095 and b"\0" not in target, "the target of a symbolic link is not allowed")
        self.inode.target = target

    def hole(self, body: Cursor) -> None:
        start, length = body.number(8), body.number(8)
        check(KINDS[self.inode.kind] == "file" and length > 0, "a hole is empty or in no file")
        check(start >= self.hole_end, "holes overlap or are not in rising order")
        self.hole_end = start + length
        check(self.hole_end < 1 << 64, "a hole has no end")
        self.inode.clear(start, start + length)

    def data(self, body: Cursor) -> None:
        start, length, encoding = body.number(8), body.number(4), body.number(1)
        check(KINDS[self.inode.kind] == "file", "something other than a file has data")
        check(1 <= length <= 65_536, f"a record of {length} bytes of data")
        check(start >= self.data_end, "data overlap or are not in rising order")
        self.data_end = start + length
        check(self.data_end <= self.inode.size, "data beyond the size")
        self.inode.put(start, decode(encoding, body.rest(), length))

    def set_attribute(self, body: Cursor) -> None:
        name = read_attribute_name(body.take(body.number(1)))
        value = body.rest()
        check(len(value) <= 65_536, "the value of an attribute is too long")
        self.see_attribute(name)
        self.inode.attributes[name] = value

    def remove_attribute(self, body: Cursor) -> None:
        name = read_attribute_name(body.rest())
        self.see_attribute(name)
        check(self.inode.attributes.pop(name, None) is not None, "an attribute that is not there is removed")

    def see_attribute(self, name: bytes) -> None:
        check(name not in self.attributes_seen, "an attribute is named twice")
        self.attributes_seen.add(name)

    def folder(self, identity: bytes) -> Inode:
        folder = self.inodes.get(identity)
        check(folder is not None and KINDS[folder.kind] == "dir", "a parent does not exist or is no folder")
        return folder

    def unlink(self, body: Cursor) -> None:
        parent, name = body.take(16), read_name(body)
        child = self.folder(parent).children.pop(name, None)
        check(child is not None, f"{name!r} is unlinked and not there")
        self.names[child].discard((parent, name))

    def link(self, body: Cursor) -> None:
        parent, child, name = body.take(16), body.take(16), read_name(body)
        folder = self.folder(parent)
        check(child in self.inodes, f"{name!r} is a name for an inode that does not exist")
        check(child != ROOT, "the root gets a name")
        check(name not in folder.children, f"the name {name!r} is taken")
        names = self.names.setdefault(child, set())
        check(not names or KINDS[self.inodes[child].kind] != "dir", f"{name!r} is a second name for a folder")
        folder.children[name] = child
        names.add((parent, name))

    def drop(self, body: Cursor) -> None:
        identity = body.take(16)
        check(identity in self.inodes and identity != ROOT, "an inode that does not exist is dropped")
        check(identity not in self.written, "an inode is written and dropped in one segment")
        check(not self.names.pop(identity, None), "an inode that has a name is dropped")
        check(not self.inodes.pop(identity).children, "a folder that is not empty is dropped")

    def check_names(self) -> None:
        """What must hold at the end of every segment."""
        check(ROOT in self.inodes, "there is no root")
        check(all(identity == ROOT or self.names.get(identity) for identity in self.inodes), "an inode has no name")
        reached = {identity for _, identity in self.walk()}
        check(len(reached) == len(self.inodes), "an entry cannot be reached from the root")

    def walk(self):
        """Yields the path and id of each entry, a folder before what it holds."""
        pending = [(b"", ROOT)]
        while pending:
            path, identity = pending.pop()
            check(len(path) <= 4_096, "a path is longer than 4,096 bytes")
            yield path, identity
            children = self.inodes[identity].children
            pending.extend((path + b"/" * (path != b"") + name, children[name]) for name in sorted(children, reverse=True))


def decode(encoding: int, data: bytes, length: int) -> bytes:
    check(encoding in (0, 1), f"encoding {encoding} is unknown")
    if encoding == 1:
        inflate = zlib.decompressobj(wbits=-15)
        try:
            data = inflate.decompress(data, length + 1)
        except zlib.error as error:
            raise Refused(f"compressed data are damaged: {error}") from None
        check(inflate.eof and not inflate.unused_data, "compressed data do not end where they should")
    check(len(data) == length, f"data have {len(data)} bytes instead of {length}")
    return data


# --- output ---------------------------------------------------------------------------------------------------------------


def text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def decimal(time: tuple[int, int]) -> str:
    total = time[0] * 1_000_000_000 + time[1]
    seconds, nanoseconds = divmod(abs(total), 1_000_000_000)
    fraction = f".{nanoseconds:09}".rstrip("0") if nanoseconds else ""
    return f"{'-' if total < 0 else ''}{seconds}{fraction}"


def describe(path: bytes, inode: Inode, first: bytes | None) -> dict:
    """An entry in the words of read_v1.py; `first` is the name that an inode was shown under before."""
    kind = "hardlink" if first is not None else KINDS[inode.kind]
    name = path or b"."
    entry = {"path": text(name), "path_hex": name.hex(), "type": kind, "mode": f"{inode.mode:o}",
             "mtime": decimal(inode.mtime), "ctime": decimal(inode.ctime)}
    if kind == "hardlink":
        entry["linkname"] = text(first)
    if kind == "symlink":
        entry["linkname"] = text(inode.target)
    if kind == "file":
        entry["size"], entry["sha256"] = inode.size, inode.sha256()
    if kind in ("char", "block"):
        entry["device"] = [os.major(inode.device), os.minor(inode.device)]
    if inode.attributes and kind != "hardlink":
        entry["xattrs"] = {text(key): value.hex() for key, value in inode.attributes.items()}
    return entry


def describe_segment(segment: Segment) -> dict:
    records = collections.Counter()
    for kind, body in read_records(segment.plaintext):
        records[RECORDS[kind] + (f" {body.data[12]}" if kind == DATA else "")] += 1
    return {"offset": segment.offset, "kind": {CHECKPOINT: "checkpoint", DELTA: "delta"}[segment.kind],
            "number": segment.number, "chain": segment.chain.hex(), "records": records}


def read(archive: bytes, secret: bytes | IdentityFile) -> tuple[Tree, list[dict]]:
    """The tree, and a description of each segment."""
    header = read_header(archive, secret)
    tree, segments = Tree(header), []
    for segment in read_segments(archive, header):
        try:
            tree.apply(segment)
        except Refused as refusal:
            raise Refused(f"the segment at offset {segment.offset} (number {segment.number}): {refusal}") from None
        segments.append(describe_segment(segment))
    check(tree.header_hash == tree.actual_header_hash, "the header is not the one that the last header record tells")
    return tree, segments


def show(tree: Tree) -> None:
    shown: dict[bytes, bytes] = {}
    for path, identity in tree.walk():
        print(json.dumps(describe(path, tree.inodes[identity], shown.get(identity)), sort_keys=True))
        shown.setdefault(identity, path)


def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--segments", action="store_true")
    parser.add_argument("--identity", type=IdentityFile)
    parser.add_argument("archive")
    options = parser.parse_args()
    secret = options.identity or sys.stdin.buffer.read().removesuffix(b"\n")
    try:
        with open(options.archive, "rb") as file:
            tree, segments = read(file.read(), secret)
    except WrongPassphrase as error:
        print(error, file=sys.stderr)
        return 3
    except Refused as error:
        print(error, file=sys.stderr)
        return 5
    except OSError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    if options.segments:
        for segment in segments:
            print(json.dumps(segment, sort_keys=True))
    else:
        show(tree)
    return 0


if __name__ == "__main__":
    sys.exit(main())
