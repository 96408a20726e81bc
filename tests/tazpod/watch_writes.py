"""Watches the file systems of this machine for texts in files that are written and in names that are made, as root.

usage: watch_writes.py MARKER…

Prints `ready`, then a line for each marker that it finds and where, once. A line of input ends it; then it says how many events it saw. All
file systems but those of FUSE and the kernel's own are watched. Files are read when they are written to, closed and moved, names and
the targets of links when they are made.
"""

import ctypes
import os
import select
import struct
import sys

# <linux/fanotify.h>
CLOEXEC, NONBLOCK, UNLIMITED_QUEUE, UNLIMITED_MARKS, REPORT_DFID_NAME = 0x1, 0x2, 0x10, 0x20, 0xC00
MARK_ADD, MARK_FILESYSTEM = 0x1, 0x100
MODIFY, CLOSE_WRITE, MOVED_TO, CREATE, OVERFLOW, ON_FOLDERS = 0x2, 0x8, 0x80, 0x100, 0x4000, 0x40000000
DFID_NAME = 2
AT_FDCWD = -100
# Nobody's secrets are kept there: these show what the kernel knows.
KERNEL = {"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "debugfs", "tracefs", "securityfs", "pstore", "bpf", "configfs",
          "binfmt_misc", "autofs", "hugetlbfs", "nsfs", "efivarfs", "fusectl", "rpc_pipefs"}
READ_MAX = 64 << 20
OVERLAP = 256

libc = ctypes.CDLL(None, use_errno=True)
libc.open_by_handle_at.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]


def failed(what):
    sys.exit(f"watch_writes: {what}: {os.strerror(ctypes.get_errno())}")


def file_systems():
    """A mount point of each file system that is watched, by its number."""
    found = {}
    for line in open("/proc/self/mountinfo"):
        words = line.split()
        kind = words[words.index("-") + 1]
        point = words[4].encode().decode("unicode_escape")
        if kind.startswith("fuse") or kind in KERNEL or "ro" in words[5].split(","):
            continue
        try:
            found.setdefault(os.stat(point).st_dev, point)
        except OSError:
            continue
    return found.values()


class Watch:
    def __init__(self, markers):
        self.markers, self.events, self.roots, self.found = [marker.encode() for marker in markers], 0, {}, set()
        flags = CLOEXEC | NONBLOCK | UNLIMITED_QUEUE | UNLIMITED_MARKS
        self.writes = libc.fanotify_init(flags, os.O_RDONLY | os.O_LARGEFILE)
        self.names = libc.fanotify_init(flags | REPORT_DFID_NAME, os.O_RDONLY)
        if self.writes < 0 or self.names < 0:
            failed("fanotify_init")
        for point in file_systems():
            for group, mask in [(self.writes, MODIFY | CLOSE_WRITE), (self.names, CREATE | MOVED_TO | ON_FOLDERS)]:
                mark = libc.fanotify_mark(group, MARK_ADD | MARK_FILESYSTEM, ctypes.c_uint64(mask), AT_FDCWD, point.encode())
                if mark < 0:
                    failed(f"fanotify_mark {point}")
            self.roots[struct.pack("<Q", os.statvfs(point).f_fsid)] = os.open(point, os.O_RDONLY | os.O_DIRECTORY)

    def look(self, data, where):
        for marker in self.markers:
            if marker in data and (marker, where) not in self.found:
                self.found.add((marker, where))
                print(f"{marker.decode()} in {where}", flush=True)

    def read(self, file, where):
        """Searches an open file from its beginning, in pieces that overlap."""
        at = 0
        while at < READ_MAX:
            try:
                data = os.pread(file, (1 << 20) + OVERLAP, at)
            except OSError:
                return
            if not data:
                return
            self.look(data, where)
            at += 1 << 20

    def drain(self, group, handle):
        try:
            data = os.read(group, 1 << 18)
        except BlockingIOError:
            return False
        while data:
            length, _, _, start, mask, file, _ = struct.unpack("=IBBHQii", data[:24])
            if mask & OVERFLOW:
                sys.exit("watch_writes: events were lost")
            self.events += 1
            handle(data[start:length], file)
            data = data[length:]
        return True

    def written(self, _, file):
        try:
            self.read(file, os.readlink(f"/proc/self/fd/{file}"))
        finally:
            os.close(file)

    def named(self, info, _):
        """A name was made in a folder, or something moved there."""
        kind, _, length = struct.unpack("=BBH", info[:4])
        if kind != DFID_NAME:
            return
        size, = struct.unpack("=I", info[12:16])
        name = info[20 + size:length].split(b"\0")[0]
        handle = ctypes.create_string_buffer(info[12:20 + size], 8 + size)
        root = self.roots.get(info[4:12])
        folder = -1 if root is None else libc.open_by_handle_at(root, handle, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if folder < 0:
            # It is gone already.
            self.look(name, f"the name {os.fsdecode(name)}")
            return
        try:
            self.look_at(folder, name)
        except OSError:
            # So is what was made.
            pass
        finally:
            os.close(folder)

    def look_at(self, folder, name):
        where = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(name))
        self.look(name, f"the name {where}")
        if os.path.islink(where):
            self.look(os.fsencode(os.readlink(name, dir_fd=folder)), f"the link {where}")
        elif os.path.isfile(where):
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            try:
                self.read(file, where)
            finally:
                os.close(file)

    def run(self):
        print("ready", flush=True)
        over = False
        while True:
            ready, _, _ = select.select([self.writes, self.names] + ([] if over else [sys.stdin]), [], [], 0 if over else None)
            over = over or sys.stdin in ready
            more = [self.drain(self.writes, self.written), self.drain(self.names, self.named)]
            if over and not any(more):
                break
        print(f"events {self.events}", flush=True)


Watch(sys.argv[1:]).run()
