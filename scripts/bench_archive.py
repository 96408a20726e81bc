"""What the archive costs, for scripts/bench: commits of small changes, unlocking, compaction, its size.

Each peer does the same work in the same round; what counts is the median of the ratios within the rounds.
"""

import shutil
import statistics
import subprocess
import threading
import time
from pathlib import Path

SMALL, LARGE = 1 << 20, 256 << 20
BLOCK = 64 << 10


def timed(work):
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def rounds(count, *works):
    """Runs some things in turn, in changing order; a list of seconds for each."""
    taken = [[] for _ in works]
    for number in range(count):
        order = list(range(len(works)))
        for index in order if number % 2 == 0 else reversed(order):
            taken[index].append(works[index]())
    return taken


def ratio(over, under):
    return statistics.median(a / b for a, b in zip(over, under))


def driver(bench, *arguments):
    """A function that runs the driver once and returns the seconds that it prints."""
    command = " ".join(map(str, ("bench_driver", *arguments)))
    return lambda: float(bench.shell(command).split("\t")[1])


def committed(bench, name, work, operations):
    """Does something in a vault; returns the bytes and the commits that the archive grew by for each operation."""
    # So that no compaction is due meanwhile.
    bench.shell(f"tazpod compact --vault {name}.aes", stderr=subprocess.DEVNULL)
    before = bench.status(name)
    work()
    after = bench.status(name)
    grown = (after["archive_bytes"] - before["archive_bytes"]) / operations
    return int(grown), (after["commits"] - before["commits"]) / operations


def in_turn(bench, row, count, grown, *folders):
    """Small changes in some folders and appends to a file in turn; lists of seconds, in the same order, those of appends last."""
    return seconds(bench, f"{row} {count} host/append {grown} {' '.join(folders)}")


def seconds(bench, arguments):
    lines = bench.shell(f"bench_driver {arguments}").splitlines()
    return [[float(seconds) for seconds in line.split("\t")[1:]] for line in lines]


def small_changes(bench, count):
    """A 4 KiB change and an editor's save made durable, in a small vault and a large one."""
    size = SMALL if bench.quick else LARGE
    for name in ["small", "large"]:
        bench.vault(name)
    bench.shell(f"bench_driver --make-large small {SMALL}; bench_driver --make-large large {size}; "
                f"bench_driver --make-large null {SMALL}; tazpod compact --vault large.aes; tazpod compact --vault small.aes",
                stderr=subprocess.DEVNULL)
    each = 20
    for what, row in [("a 4 KiB change and fsync", "--fsyncs"), ("an editor's save", "--saves")]:
        grown, _ = committed(bench, "small", lambda: in_turn(bench, row, each, 1, "small"), each)
        small, large, null, append = in_turn(bench, row, count * each, grown, "small", "large", "null")
        floor = [a + b for a, b in zip(null, append)]
        print(f"{what}: {statistics.median(small) * 1e3:.2f} ms; in a vault of {size >> 20} MiB "
              f"{statistics.median(large) * 1e3:.2f} ms; null server {statistics.median(null) * 1e3:.2f} ms and an append "
              f"of {grown} bytes {statistics.median(append) * 1e3:.2f} ms")
        yield f"{what}: within 1.5 times a null server and an append ({ratio(small, floor):.2f})", ratio(small, floor) <= 1.5
        flat = ratio(large, small)
        yield f"{what}: a large vault within 20 % of a small one ({flat:.2f})", flat <= 1.2


def beside_compaction(bench, count):
    """A 4 KiB change made durable while a large vault is compacted because that is due."""
    grown, _ = committed(bench, "small", lambda: in_turn(bench, "--fsyncs", 20, 1, "small"), 20)
    vault, null, append = [], [], []
    for _ in range(min(count, 5)):
        bench.shell("tazpod compact --vault large.aes", stderr=subprocess.DEVNULL)
        taken = seconds(bench, f"--fsyncs-beside-compaction large.aes host/append {grown} large null")
        for all_of_it, of_this_one in zip((vault, null, append), taken):
            all_of_it += of_this_one
    floor = [a + b for a, b in zip(null, append)]
    print(f"a 4 KiB change and fsync beside a compaction: {statistics.median(vault) * 1e3:.2f} ms, at worst {max(vault) * 1e3:.1f} ms "
          f"of {len(vault)}; null server and append meanwhile {statistics.median(floor) * 1e3:.2f} ms, at worst {max(floor) * 1e3:.1f} ms")
    yield f"beside a compaction: within 1.5 times a null server and an append ({ratio(vault, floor):.2f})", ratio(vault, floor) <= 1.5


def among_many(bench, count):
    """A 4 KiB change made durable among very many files."""
    files = 20_000 if bench.quick else 200_000
    for name, entries in [("few", 100), ("crowd", files)]:
        bench.vault(name)
        bench.shell(f"bench_driver --make-tar {name}.tar {entries}; tazpod import {name}.tar --vault {name}.aes; rm {name}.tar; "
                    f"bench_driver --make-large {name} {SMALL}; tazpod compact --vault {name}.aes", stderr=subprocess.DEVNULL)
    few, crowd, _ = in_turn(bench, "--fsyncs", count * 20, 1, "few", "crowd")
    flat = ratio(crowd, few)
    print(f"a 4 KiB change and fsync among {files} files: {statistics.median(crowd) * 1e3:.2f} ms, among 100 "
          f"{statistics.median(few) * 1e3:.2f} ms")
    yield f"among {files} files: within 20 % of among 100 ({flat:.2f})", flat <= 1.2
    bench.shell("tazpod lock --vault crowd.aes; tazpod lock --vault few.aes", stderr=subprocess.DEVNULL)


def many_files(bench, count):
    """A thousand files and one fsync."""
    files = 200 if bench.quick else 1000
    work = driver(bench, "--many", "small", files)
    grown, commits = committed(bench, "small", work, 1)
    vault, null, append = rounds(count, work, driver(bench, "--many", "null", files),
                                 driver(bench, "--appends", "host/append", grown, 1))
    floor = [a + b for a, b in zip(null, append)]
    print(f"{files} files, one fsync: {statistics.median(vault) * 1e3:.0f} ms, {commits:.0f} commits; null server "
          f"{statistics.median(null) * 1e3:.0f} ms and an append of {grown} bytes {statistics.median(append) * 1e3:.1f} ms")
    yield f"many files, one fsync: a handful of commits ({commits:.0f})", commits <= 5
    yield f"many files, one fsync: within 1.3 times a null server and an append ({ratio(vault, floor):.2f})", \
        ratio(vault, floor) <= 1.3


def whole_tree(bench, count):
    """Unlocking and compacting a tree of 2,600 files and 64 MiB, and what is left of it in the archive."""
    bench.vault("tree")
    bench.shell(f"bench_driver --make-tree {bench.memory}/tree; cp -a {bench.memory}/tree/. tree; tazpod compact --vault tree.aes; "
                f"tar -C {bench.memory}/tree -cf - . | zstd -q -3 > tree.tar.zst", stderr=subprocess.DEVNULL)
    size = sum(path.stat().st_size for path in (bench.memory / "tree").rglob("*") if path.is_file())
    packed = bench.status("tree")["archive_bytes"]
    blocks = blocks_one_by_one(bench.memory / "tree")
    print(f"a tree of {size >> 20} MiB: archive {packed / size:.1%}, blocks one by one with zstd -3 {blocks / size:.1%}")
    yield f"archive after compaction: within 3 % of blocks with zstd -3 ({packed / blocks:.3f})", packed <= 1.03 * blocks

    def unpack():
        folder = bench.memory / "unpacked"
        taken = timed(lambda: bench.shell(f"mkdir {folder}; zstd -q -dc tree.tar.zst | tar -C {folder} -x"))
        shutil.rmtree(folder)
        return taken

    unlock, unpacked = rounds(count, lambda: bench.relock("tree"), unpack)
    print(f"unlock of it: {statistics.median(unlock) * 1e3:.0f} ms; zstd and tar into tmpfs {statistics.median(unpacked) * 1e3:.0f} ms")
    yield f"unlock: at most the time of zstd -dc and tar ({ratio(unlock, unpacked):.2f})", ratio(unlock, unpacked) <= 1

    def compacted():
        bench.shell("date +%N > tree/changed; tazpod save --vault tree.aes", stderr=subprocess.DEVNULL)
        return timed(lambda: bench.shell("tazpod compact --vault tree.aes", stderr=subprocess.DEVNULL))

    compact, pack = rounds(count, compacted,
                           lambda: timed(lambda: bench.shell(f"tar -C {bench.memory}/tree -cf - . | zstd -q -3 > tree.tar.zst; "
                                                             "sync tree.tar.zst")))
    print(f"compaction of it: {statistics.median(compact) * 1e3:.0f} ms; tar and zstd -3 {statistics.median(pack) * 1e3:.0f} ms")
    yield f"compaction: under the time of tar and zstd -3 ({ratio(compact, pack):.2f})", ratio(compact, pack) < 1
    pid = bench.status("tree")["agent_pid"]
    rest, _ = bench.memory_of(pid)
    with Peak(bench, pid) as peak:
        bench.shell("date +%N > tree/changed; tazpod compact --vault tree.aes", stderr=subprocess.DEVNULL)
    above = peak.bytes - rest
    print(f"memory while it runs: {above / (1 << 20):.1f} MiB above rest")
    yield f"memory during compaction: at most 64 MiB above rest ({above >> 20} MiB)", above <= 64 << 20


def checks(bench, count):
    """Checking all of an archive: noise, which only has to be authenticated, and a tree, which has to be unpacked."""
    size = bench.status("large")["archive_bytes"]

    def check(name):
        return timed(lambda: bench.shell(f"tazpod check --json --vault {name}.aes", stderr=subprocess.DEVNULL))

    noise, nothing, cipher, tree, unpack = rounds(
        count, lambda: check("large"), lambda: check("nothing"), driver(bench, "--cipher", size), lambda: check("tree"),
        lambda: timed(lambda: bench.shell("zstd -q -dc tree.tar.zst > /dev/null")))
    authentic = [over - under for over, under in zip(noise, nothing)]
    print(f"check of {size >> 20} MiB of noise: {statistics.median(noise) * 1e3:.0f} ms, of nothing "
          f"{statistics.median(nothing) * 1e3:.0f} ms; aes-gcm alone {statistics.median(cipher) * 1e3:.0f} ms")
    yield f"check of noise: at the speed of aes-gcm ({ratio(authentic, cipher):.2f})", ratio(authentic, cipher) <= 1
    print(f"check of the tree: {statistics.median(tree) * 1e3:.0f} ms; zstd -dc {statistics.median(unpack) * 1e3:.0f} ms")
    unpacked = [over - under for over, under in zip(tree, nothing)]
    yield f"check of a tree: at the speed of zstd -dc ({ratio(unpacked, unpack):.2f})", ratio(unpacked, unpack) <= 1


def blocks_one_by_one(folder):
    """Bytes that a tree's files take as blocks compressed one by one with zstd -3, or as they are where that is no shorter."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=3)
    total = 0
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        blocks = (content[start:start + BLOCK] for start in range(0, len(content), BLOCK))
        total += sum(min(len(block), len(compressor.compress(block))) for block in blocks)
    return total


class Peak:
    """The most memory that a process has while this lasts, looked at every few milliseconds."""

    def __init__(self, bench, pid):
        self.bench, self.pid, self.bytes, self.over = bench, pid, 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.over.wait(0.005):
            self.bytes = max(self.bytes, self.bench.memory_of(self.pid)[0])

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def measure(bench, count):
    """Measures all; yields the goals."""
    yield from small_changes(bench, count)
    yield from beside_compaction(bench, count)
    yield from among_many(bench, count)
    yield from many_files(bench, count)
    yield from whole_tree(bench, count)
    bench.vault("nothing")
    yield from checks(bench, count)
