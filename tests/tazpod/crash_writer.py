"""Changes a folder at random until it is taken away, and says what it does before it does it.

usage: crash_writer.py FOLDER SEED

Each line on standard output is one system call that changes the folder, or what was acknowledged:
  create NAME | write NAME OFFSET LENGTH | truncate NAME LENGTH | rename FROM TO | unlink NAME | mkdir NAME | rmdir NAME
  ack           an fsync of the file or of its folder returned: all before it is to survive
A write numbered N (counted from 0 over all lines that change) writes the text of N and a blank, over and over.
"""

import os
import random
import stat
import sys

folder, seed = sys.argv[1], int(sys.argv[2])
choose = random.Random(seed)
count = 0


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def change(call, *words):
    """Says it, then does it."""
    global count
    say(*words)
    count += 1
    return call()


def text(length):
    piece = f"{count} ".encode()
    return (piece * (length // len(piece) + 1))[:length]


def sync(path, flags=os.O_RDONLY):
    descriptor = os.open(path, flags)
    os.fsync(descriptor)
    os.close(descriptor)
    say("ack")


def names(of_folders):
    return [name for name in all_names if (name in folders) == of_folders and os.path.lexists(name)]


def write(name, offset, length):
    descriptor = os.open(name, os.O_WRONLY)
    data = text(length)
    change(lambda: os.pwrite(descriptor, data, offset), "write", name, offset, length)
    if choose.random() < 0.3:
        os.fsync(descriptor)
        say("ack")
    os.close(descriptor)


def create(name):
    descriptor = change(lambda: os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "create", name)
    os.close(descriptor)


def replace_counter():
    """What programs do that save with care: a later value is never there without an earlier one."""
    if os.path.lexists("new"):
        change(lambda: os.unlink("new"), "unlink", "new")
    create("new")
    write("new", 0, choose.randint(1, 20))
    change(lambda: os.rename("new", "counter"), "rename", "new", "counter")
    sync(".")


def step():
    files = names(False)
    free = [name for name in all_names if name not in folders and os.path.isdir(os.path.dirname(name) or ".")]
    free = [name for name in free if not os.path.lexists(name)]
    kind = choose.choice(["create", "append", "write", "truncate", "rename", "unlink", "folder", "counter", "write"])
    if kind == "create" and free:
        create(choose.choice(free))
    elif kind in ("append", "write") and files:
        name = choose.choice(files)
        size = os.stat(name).st_size
        offset = size if kind == "append" else choose.randint(0, size + 5000)
        write(name, offset, choose.choice([1, 100, 4096, 10_000, 90_000]))
        if os.stat(name).st_size > 300_000:
            change(lambda: os.truncate(name, 1000), "truncate", name, 1000)
    elif kind == "truncate" and files:
        name, length = choose.choice(files), choose.randint(0, 20_000)
        change(lambda: os.truncate(name, length), "truncate", name, length)
    elif kind == "rename" and files:
        source, target = choose.choice(files), choose.choice(files + free)
        if source != target:
            change(lambda: os.rename(source, target), "rename", source, target)
    elif kind == "unlink" and files:
        name = choose.choice(files)
        change(lambda: os.unlink(name), "unlink", name)
    elif kind == "folder":
        name = choose.choice(folders)
        if not os.path.lexists(name):
            change(lambda: os.mkdir(name), "mkdir", name)
        elif not os.listdir(name):
            change(lambda: os.rmdir(name), "rmdir", name)
    elif kind == "counter":
        replace_counter()
    if choose.random() < 0.2:
        sync(".")


folders = ["d", "e"]
all_names = folders + ["a", "b", "c", "d/a", "d/b", "e/a"]
try:
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    while True:
        step()
except OSError as error:
    # The file system is gone: ENOTCONN, ECONNABORTED, or EIO for what was under way.
    say("end", error.errno)
    sys.exit(0)
