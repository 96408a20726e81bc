"""What travelling costs, for scripts/bench: push and pull of an archive and merges of trees, against programs that copy or merge the same.

The S3 server (s3s-fs) is on this machine, so what is measured is the programs, their start included. As in the other parts, what
counts is the median of the ratios within the rounds.
"""

import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager

from bench_archive import ratio, rounds, timed

MIB = 1 << 20
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDOFTHEBENCH", "AWS_SECRET_ACCESS_KEY": "secret of the bench"}


class Machine:
    """A machine with one vault: an archive, a configuration and a state folder of its own in one folder."""

    all = []

    def __init__(self, bench, name, remote):
        self.bench, self.name = bench, name
        self.all.append(self)
        bench.shell(f"mkdir -p {name}/config/tazpod {name}/state {name}/mount")
        (bench.home / name / "config/tazpod/config.yaml").write_text(f"vault: {{size: 1G}}\nremote: {remote}\n")

    def run(self, command, before="", after=""):
        """Runs a command of tazpod; what it tells is kept to itself."""
        folder = f"$PWD/{self.name}"
        return self.bench.shell(f"{before} TAZPOD_SYNC=off XDG_CONFIG_HOME={folder}/config XDG_STATE_HOME={folder}/state "
                                f"tazpod {command} --vault {self.name}/vault.aes {after}", stderr=subprocess.DEVNULL)

    def make(self):
        self.bench.shell(f"bench_driver --make-vault {self.name}/vault.aes")
        self.unlock()

    def unlock(self):
        self.run(f"unlock --mount {self.name}/mount --passphrase-file pw")


@contextmanager
def s3_server(bench):
    """The server, with a bucket; yields a shell's words that let all three programs reach it."""
    root = bench.scratch / "s3"
    (root / "bench").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["s3s-fs", "--access-key", KEYS["AWS_ACCESS_KEY_ID"], "--secret-key", KEYS["AWS_SECRET_ACCESS_KEY"],
               "--host", "127.0.0.1", "--port", str(port), str(root)]
    server = subprocess.Popen(command, env={**os.environ, "RUST_LOG": "off"})
    try:
        until = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if time.monotonic() > until or server.poll() is not None:
                sys.exit("bench: s3s-fs does not listen")
            time.sleep(0.02)
        endpoint = f"http://127.0.0.1:{port}"
        variables = {**KEYS, "AWS_DEFAULT_REGION": "eu-central-1", "RCLONE_CONFIG_S3_TYPE": "s3", "RCLONE_CONFIG_S3_PROVIDER": "Other",
                     "RCLONE_CONFIG_S3_ENV_AUTH": "true", "RCLONE_CONFIG_S3_REGION": "eu-central-1",
                     "RCLONE_CONFIG_S3_ENDPOINT": endpoint}
        yield endpoint, " ".join(f"{name}='{value}'" for name, value in variables.items())
    finally:
        server.kill()
        server.wait()


def copies(bench, count):
    """Push and pull of one large file of noise, and a push of nothing."""
    size = (8 if bench.quick else 64) * MIB
    with s3_server(bench) as (endpoint, words):
        remote = f"{{type: s3, bucket: bench, prefix: tazpod, endpoint: '{endpoint}', region: eu-central-1, retention: 1}}"
        here, there = (Machine(bench, name, remote) for name in ("here", "there"))
        here.make()
        bench.shell(f"head -c {size} /dev/urandom > here/mount/noise")
        aws, rclone = f"{words} /usr/bin/aws --endpoint-url {endpoint} s3 cp --quiet", f"{words} rclone copyto -q"

        def push():
            bench.shell("date +%N > here/mount/changed")
            here.run("save")
            return timed(lambda: here.run("push --unsafe-remote", words))

        def pull():
            shutil.rmtree(bench.home / "there/state")
            (bench.home / "there/vault.aes").unlink(missing_ok=True)
            return timed(lambda: there.run("pull", words))

        def copy(command):
            def work():
                (bench.home / "copied").unlink(missing_ok=True)
                return timed(lambda: bench.shell(command, stderr=subprocess.DEVNULL))
            return work

        push()
        out = rounds(count, push, copy(f"{aws} here/vault.aes s3://bench/aws"), copy(f"{rclone} here/vault.aes s3:bench/rclone"))
        into = rounds(count, pull, copy(f"{aws} s3://bench/aws copied"), copy(f"{rclone} s3:bench/rclone copied"))
        # A program that starts and asks the server one thing.
        idle = rounds(count, lambda: timed(lambda: here.run("push --unsafe-remote", words)),
                      copy(f"{words} rclone lsf s3:bench/rclone"))
    for what, (vault, aws_taken, rclone_taken) in [("push", out), ("pull", into)]:
        print(f"{what} of {size >> 20} MiB: {median_ms(vault)}; aws s3 cp {median_ms(aws_taken)}, rclone copyto {median_ms(rclone_taken)}")
        for name, peer in [("aws s3 cp", aws_taken), ("rclone copyto", rclone_taken)]:
            yield f"{what}: within 1.2 times {name} ({ratio(vault, peer):.2f})", ratio(vault, peer) <= 1.2
    print(f"push of nothing: {median_ms(idle[0])}; rclone lsf {median_ms(idle[1])}")
    yield f"push of nothing: at most the time of rclone lsf ({ratio(*idle):.2f})", ratio(*idle) <= 1


def merges(bench, count):
    """Merging two trees of which each side changed one file in a hundred, locked and unlocked, against git."""
    files = 2000 if bench.quick else 10000
    bench.shell("mkdir meeting")
    remote = f"{{type: directory, path: '{bench.home}/meeting'}}"
    ours, theirs = (Machine(bench, name, remote) for name in ("ours", "theirs"))
    ours.make()
    write_tree(bench, "ours/mount", range(files), "first")
    for command in ("save", "push", "lock"):
        ours.run(command)
    theirs.run("pull")
    for machine, start in [(theirs, 0), (ours, 50)]:
        machine.unlock()
        write_tree(bench, f"{machine.name}/mount", range(start, files, 100), machine.name)
        machine.run("save")
    theirs.run("push")
    theirs.run("lock")
    ours.run("lock")
    git = make_repository(bench, files)

    def restore(folder):
        """Each round begins with what was there before the first: what was written once is quicker to write again."""
        bench.shell(f"if [ -d {folder}.before ]; then rm -rf {folder} && cp -a {folder}.before {folder}; else cp -a {folder} {folder}.before; fi")
        os.sync()

    def merge(unlocked):
        restore("ours")
        if unlocked:
            ours.unlock()
        told = []
        taken = timed(lambda: told.append(ours.run("pull --passphrase-file pw", after="2>&1")))
        if "Merged" not in told[0]:
            raise SystemExit(f"bench: nothing was merged: {told[0]}")
        if unlocked:
            ours.run("lock")
        return taken

    def merge_in_git():
        restore("repository")
        # The copies are new files to it.
        bench.shell(f"{git} update-index -q --refresh")
        return timed(lambda: bench.shell(f"{git} merge -q --no-edit theirs"))

    locked, unlocked, peer = rounds(count, lambda: merge(False), lambda: merge(True), merge_in_git)
    print(f"merge of {files} files: {median_ms(locked)}, unlocked {median_ms(unlocked)}; git merge {median_ms(peer)}")
    for what, taken in [("locked", locked), ("unlocked", unlocked)]:
        yield f"merge, {what}: under half the time of git merge ({ratio(taken, peer):.2f})", ratio(taken, peer) < 0.5


def make_repository(bench, files):
    """The same two trees as branches; returns how git is called there."""
    git = "git -C repository -c user.name=bench -c user.email=bench@localhost -c gc.auto=0"
    bench.shell("git init -q repository")
    for branch, numbers, parent in [("base", range(files), None), ("theirs", range(0, files, 100), "base"),
                                    ("ours", range(50, files, 100), "base")]:
        bench.shell(f"{git} checkout -q -b {branch} {parent or ''}")
        write_tree(bench, "repository", numbers, branch if parent else "first")
        bench.shell(f"{git} add -A && {git} commit -q -m {branch}")
    return git


def write_tree(bench, folder, numbers, text):
    """Writes small files of a tree with a hundred to a folder, as the user."""
    script = ("import os, sys\n"
              "for number in map(int, sys.stdin.read().split()):\n"
              f"    os.makedirs(f'{folder}/{{number // 100}}', exist_ok=True)\n"
              f"    open(f'{folder}/{{number // 100}}/{{number}}', 'w').write(f'{text} {{number}}\\n' * 8)\n")
    (bench.home / "write_tree.py").write_text(script)
    bench.shell("/usr/bin/python3 write_tree.py", input=" ".join(map(str, numbers)))


def median_ms(taken):
    return f"{statistics.median(taken) * 1e3:.0f} ms"


def measure(bench, count):
    """Measures all; yields the goals."""
    try:
        yield from copies(bench, count)
        yield from merges(bench, count)
    finally:
        for machine in Machine.all:
            machine.run("lock --force --discard", after="|| true")
