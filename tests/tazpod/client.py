"""One of many programs that work on a vault at the same time.

usage: client.py work KIND FOLDER SEED SECONDS    works, then prints what the folder must hold from now on (JSON)
       client.py check KIND FOLDER < EXPECTED     fails when it holds anything else
"""

import hashlib
import json
import mmap
import os
import random
import sqlite3
import subprocess
import sys
import time


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def tree(folder, skip=()):
    """Everything below a folder: kind, mode, and content, target or attributes."""
    found = {}
    for at, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in skip]
        for name in folders + files:
            path = os.path.join(at, name)
            key = os.path.relpath(path, folder)
            stat = os.lstat(path)
            if os.path.islink(path):
                found[key] = ["link", os.readlink(path)]
            elif os.path.isdir(path):
                found[key] = ["folder", stat.st_mode & 0o7777]
            else:
                attributes = {name: os.getxattr(path, name).hex() for name in sorted(os.listxattr(path))}
                found[key] = ["file", stat.st_mode & 0o7777, stat.st_nlink, digest(path), attributes]
    return found


class Storm:
    """Creates, renames, links, removes."""

    def __init__(self, folder, dice):
        self.folder, self.dice = folder, dice
        self.names = [f"{place}n{number}" for place in ("", "a/", "b/") for number in range(12)]
        for name in ("a", "b"):
            os.makedirs(os.path.join(folder, name), exist_ok=True)

    def step(self):
        name, other = self.dice.choice(self.names), self.dice.choice(self.names)
        path, target = os.path.join(self.folder, name), os.path.join(self.folder, other)
        what = self.dice.randrange(8)
        try:
            if what < 3:
                with open(path, "wb") as file:
                    file.write(self.dice.randbytes(self.dice.randrange(20_000)))
            elif what < 5:
                os.rename(path, target)
            elif what == 5:
                os.link(path, target)
            elif what == 6:
                os.unlink(path)
            else:
                os.symlink(other, path)
        except (FileNotFoundError, FileExistsError, OSError) as error:
            # Names collide, and links lead to nothing or in circles: that is part of it. Nothing else may go wrong.
            import errno
            assert error.errno in (errno.ENOENT, errno.EEXIST, errno.ELOOP), error

    def expected(self):
        return tree(self.folder)

    @staticmethod
    def look(folder):
        return tree(folder)


class Model:
    """Keeps in mind what each file must hold, and looks."""

    def __init__(self, folder, dice):
        self.folder, self.dice, self.held = folder, dice, {}

    def step(self):
        name = f"f{self.dice.randrange(10)}"
        path = os.path.join(self.folder, name)
        held = self.held.get(name)
        what = self.dice.randrange(6)
        if held is None or what == 0:
            self.held[name] = self.dice.randbytes(self.dice.randrange(60_000))
            # As editors save.
            with open(path + ".new", "wb") as file:
                file.write(self.held[name])
                if self.dice.randrange(20) == 0:
                    os.fsync(file.fileno())
            os.rename(path + ".new", path)
        elif what == 1:
            os.unlink(path)
            del self.held[name]
        elif what == 2:
            size = self.dice.randrange(80_000)
            os.truncate(path, size)
            self.held[name] = held[:size].ljust(size, b"\0")
        elif what == 3:
            data = self.dice.randbytes(500)
            with open(path, "ab") as file:
                file.write(data)
            self.held[name] = held + data
        else:
            with open(path, "rb") as file:
                assert file.read() == held, f"{path} holds something else"

    def expected(self):
        return {name: hashlib.sha256(held).hexdigest() for name, held in sorted(self.held.items())}

    @staticmethod
    def look(folder):
        return {name: digest(os.path.join(folder, name)) for name in sorted(os.listdir(folder))}


class Xattr:
    """Extended attributes on a few files."""

    def __init__(self, folder, dice):
        self.folder, self.dice, self.held = folder, dice, {}
        for number in range(4):
            open(os.path.join(folder, f"f{number}"), "wb").close()

    def step(self):
        path = f"f{self.dice.randrange(4)}"
        name = f"user.k{self.dice.randrange(10)}"
        full = os.path.join(self.folder, path)
        if (path, name) in self.held and self.dice.randrange(3) == 0:
            os.removexattr(full, name)
            del self.held[path, name]
        else:
            self.held[path, name] = self.dice.randbytes(self.dice.randrange(3000))
            os.setxattr(full, name, self.held[path, name])
        if (path, name) in self.held:
            assert os.getxattr(full, name) == self.held[path, name]

    def expected(self):
        return {f"{path} {name}": value.hex() for (path, name), value in sorted(self.held.items())}

    @staticmethod
    def look(folder):
        found = {}
        for path in sorted(os.listdir(folder)):
            full = os.path.join(folder, path)
            found.update({f"{path} {name}": os.getxattr(full, name).hex() for name in os.listxattr(full)})
        return dict(sorted(found.items()))


class Mapped:
    """Writes through a shared mapping, and reads it by read(2)."""

    SIZE = 256 * 1024

    def __init__(self, folder, dice):
        self.path, self.dice = os.path.join(folder, "mapped"), dice
        with open(self.path, "wb") as file:
            file.truncate(self.SIZE)
        self.file = open(self.path, "r+b", buffering=0)
        self.map = mmap.mmap(self.file.fileno(), self.SIZE)
        self.held = bytearray(self.SIZE)

    def step(self):
        offset, data = self.dice.randrange(self.SIZE - 5000), self.dice.randbytes(self.dice.randrange(1, 5000))
        self.held[offset:offset + len(data)] = data
        if self.dice.randrange(4) == 0:
            os.pwrite(self.file.fileno(), data, offset)
        else:
            self.map[offset:offset + len(data)] = data
        if self.dice.randrange(10) == 0:
            self.map.flush()
        if self.dice.randrange(5) == 0:
            assert os.pread(self.file.fileno(), self.SIZE, 0) == self.held, "a read does not see the mapping"

    def expected(self):
        # Neither synced nor unmapped: dirty pages come home when the program ends.
        return {"mapped": hashlib.sha256(self.held).hexdigest()}

    @staticmethod
    def look(folder):
        return {"mapped": digest(os.path.join(folder, "mapped"))}


class Database:
    """A database with a journal or a write-ahead log."""

    def __init__(self, folder, dice):
        self.dice, self.rows = dice, {}
        self.file = sqlite3.connect(os.path.join(folder, "db"), isolation_level=None)
        self.file.execute(f"pragma journal_mode={dice.choice(['delete', 'wal', 'truncate'])}")
        self.file.execute("create table t (k integer primary key, v blob)")

    def step(self):
        self.file.execute("begin")
        rows = dict(self.rows)
        for _ in range(self.dice.randrange(1, 20)):
            key, value = self.dice.randrange(300), self.dice.randbytes(self.dice.randrange(900))
            self.file.execute("insert or replace into t values (?, ?)", (key, value))
            rows[key] = value
        if self.dice.randrange(5) == 0:
            self.file.execute("rollback")
        else:
            self.file.execute("commit")
            self.rows = rows

    def expected(self):
        self.file.close()
        return {str(key): hashlib.sha256(value).hexdigest() for key, value in sorted(self.rows.items())}

    @staticmethod
    def look(folder):
        file = sqlite3.connect(os.path.join(folder, "db"))
        assert file.execute("pragma integrity_check").fetchone() == ("ok",)
        rows = file.execute("select k, v from t order by k").fetchall()
        file.close()
        return {str(key): hashlib.sha256(value).hexdigest() for key, value in rows}


class Git:
    """Commits, branches, garbage collection."""

    def __init__(self, folder, dice):
        self.folder, self.dice, self.commits = folder, dice, 0
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments):
        return git(self.folder, *arguments)

    def step(self):
        for _ in range(3):
            with open(os.path.join(self.folder, f"f{self.dice.randrange(20)}"), "wb") as file:
                file.write(self.dice.randbytes(2000))
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", str(self.commits))
        self.commits += 1
        if self.dice.randrange(6) == 0:
            self.git("gc", "-q", "--prune=now")

    def expected(self):
        return {"head": self.git("rev-parse", "HEAD"), "commits": str(self.commits), "tree": tree(self.folder, [".git"])}

    @staticmethod
    def look(folder):
        git(folder, "fsck", "--strict", "--no-progress")
        assert git(folder, "status", "--porcelain") == ""
        commits = git(folder, "rev-list", "--count", "HEAD")
        return {"head": git(folder, "rev-parse", "HEAD"), "commits": commits, "tree": tree(folder, [".git"])}


def git(folder, *arguments):
    identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "gc.auto=0"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"git {arguments}: {done.stderr}"
    return done.stdout.strip()


KINDS = {"storm": Storm, "model": Model, "xattr": Xattr, "mapped": Mapped, "database": Database, "git": Git}


def work(kind, folder, seed, seconds):
    os.mkdir(folder)
    client = KINDS[kind](folder, random.Random(seed))
    end = time.monotonic() + seconds
    steps = 0
    while steps == 0 or time.monotonic() < end:
        client.step()
        steps += 1
    json.dump({"steps": steps, "expected": client.expected()}, sys.stdout)


def check(kind, folder):
    expected = json.load(sys.stdin)["expected"]
    found = KINDS[kind].look(folder)
    for key in sorted(set(expected) | set(found)):
        assert expected.get(key) == found.get(key), f"{kind} {folder} {key}: {found.get(key)}, not {expected.get(key)}"


if sys.argv[1] == "work":
    work(sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
else:
    check(sys.argv[2], sys.argv[3])
