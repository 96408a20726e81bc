"""Measures, called by scripts/bench: the same work on six file systems, in rounds of changing order, and the vault's own costs.

What counts are ratios within a round, and their median over the rounds: absolute times say little on a busy machine.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench_archive
import bench_container
import bench_travel

PEERS = ["tmpfs", "host", "null", "vault", "shared", "gocryptfs"]
LEGEND = """\
tmpfs: /dev/shm. host: the file system of /var/tmp. null: a FUSE server in memory without ciphers and archive.
vault: tazpod. shared: tazpod with a second mount of the whole vault, where kernels may cache no attributes."""
TWICE = ["create", "small reads", "untar", "sequential write"]
LIKE_TMPFS = ["second stat", "sequential read, warm"]
ACCOUNT = "tazpod-test"
PARTS = ["table", "archive", "travel", "container", "vaults"]


class Bench:
    """Scratch folders, the ordinary user, and the servers, which all end with it."""

    def __init__(self, binaries, archive_format, quick):
        self.format, self.quick = archive_format, quick
        self.scratch = Path(tempfile.mkdtemp(prefix="tazpod-bench.", dir="/var/tmp"))
        self.memory = Path(tempfile.mkdtemp(prefix="tazpod-bench.", dir="/dev/shm"))
        for name in ["tazpod", "null_server", "bench_driver"]:
            folder = binaries if name == "tazpod" else binaries / "examples"
            shutil.copy(folder / name, self.scratch)
        self.home = self.scratch / "home"
        self.home.mkdir()
        os.chmod(self.scratch, 0o755)
        self.user = ["env"]
        if os.geteuid() == 0:
            for folder in (self.home, self.memory):
                shutil.chown(folder, ACCOUNT, ACCOUNT)
            self.user = ["setpriv", "--reuid", ACCOUNT, "--regid", ACCOUNT, "--init-groups", "--", "env"]
        path = f"PATH={self.scratch}:{os.environ['PATH']}:/usr/sbin:/sbin"
        self.user += ["-i", f"HOME={self.home}", path, "LANG=C.UTF-8"]
        self.folders = {"tmpfs": self.memory, "host": self.home / "host"}
        self.started = []

    def shell(self, script, **options):
        """Runs a shell command of the user."""
        command = [*self.user, "bash", "-c", script]
        return subprocess.run(command, cwd=self.home, check=True, text=True, stdout=subprocess.PIPE, **options).stdout

    def start(self, command, folder):
        """Starts a server of the user in the foreground and waits for its mount."""
        self.started.append(subprocess.Popen([*self.user, *command], cwd=self.home, stdout=subprocess.DEVNULL))
        until = time.monotonic() + 20
        while not f" {folder} " in Path("/proc/self/mountinfo").read_text():
            if time.monotonic() > until or self.started[-1].poll() is not None:
                sys.exit(f"bench: {command[0]} did not mount {folder}")
            time.sleep(0.02)

    def vault(self, name):
        """Makes and unlocks a vault. That of version 2 takes a passphrase at no cost, which is not what is measured."""
        make = {"v1": "tazpod init --format v1 --passphrase-file pw --vault", "v2": "bench_driver --make-vault"}[self.format]
        self.shell(f"{make} {name}.aes; mkdir {name}; {self.unlock(name)}",
                   stderr=subprocess.DEVNULL)
        self.folders[name] = self.home / name

    def unlock(self, name):
        return f"tazpod unlock --vault {name}.aes --mount {name} --passphrase-file pw"

    def relock(self, name):
        """Locks a vault and unlocks it again; returns the seconds of the latter."""
        self.shell(f"tazpod lock --vault {name}.aes", stderr=subprocess.DEVNULL)
        begun = time.perf_counter()
        self.shell(self.unlock(name), stderr=subprocess.DEVNULL)
        return time.perf_counter() - begun

    @staticmethod
    def memory_of(pid):
        """RSS and Pss of a process, bytes. The agent's can be read by root only."""
        as_root = [] if os.geteuid() == 0 else ["sudo"]
        command = [*as_root, "cat", f"/proc/{pid}/smaps_rollup"]
        text = subprocess.run(command, check=True, text=True, capture_output=True).stdout
        fields = dict(line.split(":", 1) for line in text.splitlines() if "kB" in line)
        return tuple(int(fields[field].split()[0]) << 10 for field in ("Rss", "Pss"))

    def status(self, name):
        return json.loads(self.shell(f"tazpod status --json --vault {name}.aes"))

    def set_up(self):
        self.shell("umask 077; printf correct-horse-battery > pw; mkdir -p host null gocryptfs cipher .config/tazpod; "
                   "echo 'vault: {size: 1G}' > .config/tazpod/config.yaml; bench_driver --make-tar tar; gocryptfs -q -init -passfile pw cipher")
        for name in ["null", "gocryptfs"]:
            self.folders[name] = self.home / name
        self.start(["null_server", str(self.folders["null"])], self.folders["null"])
        self.start(["gocryptfs", "-q", "-fg", "-passfile", "pw", "cipher", "gocryptfs"], self.folders["gocryptfs"])
        for name in ["vault", "shared"]:
            self.vault(name)
        self.shell("mkdir second; tazpod mount --vault shared.aes . second", stderr=subprocess.DEVNULL)

    def drive(self, peer):
        """Has the driver work on one file system; returns seconds by row."""
        quick = "--quick" if self.quick else ""
        lines = self.shell(f"bench_driver {self.folders[peer]} {self.home}/tar {quick}").splitlines()
        if peer in ("vault", "shared"):
            # The archive is written before it is somebody else's turn.
            self.shell(f"tazpod save --vault {peer}.aes", stderr=subprocess.DEVNULL)
        os.sync()
        return {row: float(seconds) for row, seconds in (line.split("\t") for line in lines)}

    def clean_up(self):
        subprocess.run([*self.user, "bash", "-c", "tazpod lock --all --force --discard; "
                        "for dir in null gocryptfs; do fusermount3 -u -z $dir; done"],
                       cwd=self.home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for server in self.started:
            server.wait(20)
        subprocess.run(["chmod", "-R", "u+rwX", self.home])
        shutil.rmtree(self.scratch)
        shutil.rmtree(self.memory)


def rounds(bench, count):
    """Seconds by peer and row, a list each with one element a round."""
    times = {peer: {} for peer in PEERS}
    for number in range(count):
        order = PEERS[number % len(PEERS):] + PEERS[:number % len(PEERS)]
        for peer in order if number % 2 == 0 else reversed(order):
            for row, seconds in bench.drive(peer).items():
                times[peer].setdefault(row, []).append(seconds)
        print(f"round {number + 1} of {count} done", file=sys.stderr)
    return times


def ratio(times, over, under, row):
    """Median of the ratios within the rounds."""
    return statistics.median(a / b for a, b in zip(times[over][row], times[under][row]))


def print_table(times):
    print(LEGEND)
    print(f"\n{'median milliseconds':24}" + "".join(f"{peer:>11}" for peer in PEERS)
          + f"{'vault/null':>12}{'shared/null':>12}{'gocr/vault':>12}{'vault/tmpfs':>12}")
    for row in times["vault"]:
        cells = "".join(f"{statistics.median(times[peer][row]) * 1000:11.2f}" for peer in PEERS)
        pairs = [("vault", "null"), ("shared", "null"), ("gocryptfs", "vault"), ("vault", "tmpfs")]
        print(f"{row:24}{cells}" + "".join(f"{ratio(times, *pair, row):12.2f}" for pair in pairs))


def table_goals(times):
    """What is aimed for by the table: text, reached or not."""
    for row in times["vault"]:
        against_null = ratio(times, "vault", "null", row)
        yield f"{row}: within 1.5 times the null server ({against_null:.2f})", against_null <= 1.5
        factor = 2 if row in TWICE else 1
        against_peer = ratio(times, "gocryptfs", "vault", row)
        yield f"{row}: {factor} times as fast as gocryptfs ({against_peer:.2f})", against_peer >= factor
    for row in LIKE_TMPFS:
        against_tmpfs = ratio(times, "vault", "tmpfs", row)
        yield f"{row}: within 1.5 times tmpfs ({against_tmpfs:.2f})", against_tmpfs <= 1.5


def seconds_of(work, count):
    """Median seconds of something done several times."""
    taken = []
    for _ in range(count):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def whole_vault(bench, name, count):
    """Unlock, save and memory of a full vault; yields the goals."""
    size = (16 if bench.quick else 64) << 20
    bench.vault(name)
    content = secrets.token_bytes(size) if name == "random" else (b"user = somebody, token = %d\n" * (size // 24))[:size]
    bench.shell(f"cat > {name}/content", input=content.decode("latin1"), encoding="latin1")
    vault = f"--vault {name}.aes"

    def again():
        bench.shell(f"date +%N > {name}/changed; tazpod save {vault}", stderr=subprocess.DEVNULL)

    save = seconds_of(again, count)
    unlocks = [bench.relock(name) for _ in range(count)]
    status = bench.status(name)
    allowed = 1.3 * size + (32 << 20)
    print(f"{name:13} {size >> 20} MiB: unlock {statistics.median(unlocks) * 1000:.0f} ms, save {save * 1000:.0f} ms, "
          f"archive {status['archive_bytes'] / size:.0%}")
    for when in ["after unlock", "5 s after a copy was made and removed"]:
        rss, pss = bench.memory_of(status["agent_pid"])
        print(f"{'':13} memory {when}: RSS {rss >> 20} MiB, Pss {pss >> 20} MiB, allowed {int(allowed) >> 20} MiB")
        yield f"{name}, memory {when}: at most 1.3 times the content and 32 MiB ({rss >> 20} MiB)", rss <= allowed
        bench.shell(f"cat {name}/content > {name}/copy; rm {name}/copy; tazpod save {vault}; sleep 5", stderr=subprocess.DEVNULL)
    bench.shell(f"tazpod lock {vault}", stderr=subprocess.DEVNULL)


def commands(bench, count):
    """What does not depend on the content: unlocking an empty vault, status."""
    bench.vault("empty")
    unlocks = [bench.relock("empty") for _ in range(9)]
    print(f"{'empty':13} unlock {statistics.median(unlocks) * 1000:.0f} ms")
    command = [*bench.user, "tazpod", "status", "--vault", "empty.aes"]

    def status():
        subprocess.run(command, cwd=bench.home, check=True, stdout=subprocess.DEVNULL)

    def nothing():
        subprocess.run([*bench.user, "true"], cwd=bench.home, check=True)

    seconds, floor = seconds_of(status, count), seconds_of(nothing, count)
    print(f"{'status':13} {seconds * 1000:.1f} ms, of which {floor * 1000:.1f} ms are what starting 'true' takes too")
    yield f"status: under 15 ms ({seconds * 1000:.1f})", seconds < 0.015


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures the vault against other file systems.")
    parser.add_argument("--quick", action="store_true", help="less work in fewer rounds")
    parser.add_argument("--rounds", type=int, help="how many rounds (7; 3 with --quick)")
    parser.add_argument("--format", choices=["v1", "v2"], default="v2", help="which archives (v2)")
    parser.add_argument("--only", choices=PARTS, help="one part alone")
    parser.add_argument("--strict", action="store_true", help="ends with status 1 when a goal is not met")
    parser.add_argument("--binaries", type=Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    # A signal that ends this ends the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench = Bench(options.binaries.resolve(), options.format, options.quick)
    wanted = [options.only] if options.only else PARTS
    goals = []
    try:
        bench.set_up()
        if "table" in wanted:
            times = rounds(bench, options.rounds or (3 if options.quick else 7))
            print_table(times)
            print()
            goals += table_goals(times)
        if "archive" in wanted and options.format == "v2":
            goals += bench_archive.measure(bench, options.rounds or (3 if options.quick else 9))
            print()
        if "travel" in wanted and options.format == "v2":
            goals += bench_travel.measure(bench, options.rounds or (3 if options.quick else 9))
            print()
        if "container" in wanted:
            goals += bench_container.measure(bench, options.rounds or (3 if options.quick else 9))
            print()
        if "vaults" in wanted:
            for name in ["random", "compressible"]:
                goals += whole_vault(bench, name, 3 if options.quick else 5)
            goals += commands(bench, 20 if options.quick else 100)
    finally:
        bench.clean_up()
    print()
    for goal, reached in goals:
        print(f"{'met    ' if reached else 'NOT MET'} {goal}")
    sys.exit(1 if options.strict and not all(reached for _, reached in goals) else 0)


if __name__ == "__main__":
    main()
