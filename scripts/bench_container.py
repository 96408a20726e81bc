"""What the container costs, for scripts/bench: making it, entering it, reading the vault in it, variables of the vault.

Against the docker command doing the same, with an engine of its own, which takes root.
"""

import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from bench_archive import ratio, rounds, timed

IMAGE = "tazpod-bench"
PROGRAMS = ["sh", "sleep", "true", "cat", "seq"]
SECRETS = "bridges: {}\nauto_lock: {last_shell: false}\nenv: {ONE: one, TWO: {file: two}, THREE: {file: three, ini: default.key}}\n"


class Engine:
    """An engine in a private folder, with one small image, gone with this."""

    def __init__(self, bench):
        self.bench, self.folder = bench, Path(tempfile.mkdtemp(prefix="tazpod-bench-engine."))
        os.chmod(self.folder, 0o711)
        self.host = f"unix://{self.folder}/docker.sock"
        at = [f"--{name}={self.folder}/{name}" for name in ["data-root", "exec-root", "pidfile"]]
        (self.folder / "config.json").write_text("{}")
        with open(self.folder / "log", "wb") as log:
            self.daemon = subprocess.Popen(
                ["dockerd", f"--config-file={self.folder}/config.json", *at, f"--host={self.host}", "--iptables=false",
                 "--ip6tables=false", "--bridge=none"], stdout=log, stderr=log)
        # Views are mounted in the home, and get into containers from a shared mount only.
        for command in [["--bind", bench.home, bench.home], ["--make-rshared", bench.home]]:
            subprocess.run(["mount", *map(str, command)], check=True)

    def __enter__(self):
        until = time.monotonic() + 60
        while subprocess.run(["docker", "-H", self.host, "version"], capture_output=True).returncode:
            if time.monotonic() > until or self.daemon.poll() is not None:
                raise SystemExit(f"bench: dockerd does not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        os.chmod(self.folder / "docker.sock", 0o666)
        root = self.folder / "root"
        for name in ["bin", "etc", "tmp", "home/dev"]:
            (root / name).mkdir(parents=True)
        shutil.copy(shutil.which("busybox"), root / "bin/busybox")
        for name in PROGRAMS:
            (root / "bin" / name).symlink_to("busybox")
        (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\ndev:x:1000:1000::/home/dev:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\ndev:x:1000:\n")
        subprocess.run(f"tar -C {root} -c . | docker -H {self.host} import - {IMAGE}", shell=True, check=True, stdout=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        subprocess.run(f"docker -H {self.host} ps -aq | xargs -r docker -H {self.host} rm -f", shell=True, capture_output=True)
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(30)
        self.bench.shell("cd lab && tazpod lock --force --discard || true", stderr=subprocess.DEVNULL)
        subprocess.run(["umount", "--lazy", str(self.bench.home)])
        left = f"grep -o ' {self.folder}/[^ ]*' /proc/self/mountinfo | xargs -r umount --lazy"
        subprocess.run(left, shell=True, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def median_ms(seconds):
    return f"{statistics.median(seconds) * 1e3:.1f} ms"


def measure(bench, count):
    """Measures all; yields the goals."""
    if os.geteuid() != 0:
        print("the container is not measured: an engine of its own is started by root")
        yield "the container: measured", False
        return
    with Engine(bench) as engine:
        yield from containers(bench, engine, count)


def containers(bench, engine, count):
    def shell(script):
        return bench.shell(f"export DOCKER_HOST={engine.host}; cd lab; {script}", stderr=subprocess.DEVNULL)

    bench.shell("mkdir lab")
    shell("tazpod init --yes --image none --passphrase-file ../pw; tazpod unlock --no-bridges --mount ../lab-secrets --passphrase-file ../pw")
    (bench.home / "lab/.tazpod/config.yaml").write_text(
        f"image: {IMAGE}\ncontainer_name: bench-lab\nvault: {{mount: {bench.home}/lab-secrets}}\n{SECRETS}")
    size = (16 if bench.quick else 64) << 20
    shell("cd ../lab-secrets; echo 1 > one; echo 2 > two; printf '[default]\\nkey = 3\\n' > three; "
          f"head -c {size} /dev/urandom > large; sync")
    shell("tazpod trust --yes; tazpod up")
    mapped = shell("docker inspect --format '{{.Config.Image}}' bench-lab").strip()
    user = shell("docker inspect --format '{{.Config.User}}' bench-lab").strip()
    place = f"{bench.home}/.local/share/tazpod/mnt/bench-lab"
    shell("tazpod down; mkdir -p " + place)
    project = bench.home / "lab"
    run = (f"docker run -d --name peer --init --user {user} --cap-drop ALL --security-opt no-new-privileges -v {project}:/workspace "
           f"-v {project}/.tazpod:/workspace/.tazpod:ro -v {place}:/run/tazpod:ro,rslave -e HOST_CWD={project} -w /workspace "
           f"--hostname bench-lab --entrypoint sleep {mapped} infinity")

    def made(command, removal):
        taken = timed(lambda: shell(command))
        shell(removal)
        return taken

    up, peer = rounds(count, lambda: made("tazpod up", f"tazpod down; mkdir -p {place}"), lambda: made(run, "docker rm -f peer"))
    print(f"up: {median_ms(up)}; docker run {median_ms(peer)}")
    yield f"up: within 1.15 times docker run ({ratio(up, peer):.2f})", ratio(up, peer) <= 1.15
    shell("tazpod up; " + run)
    enter, exec_ = rounds(count * 3, lambda: timed(lambda: shell("tazpod enter --keep-unlocked -- true")),
                          lambda: timed(lambda: shell("docker exec -i peer true")))
    print(f"enter: {median_ms(enter)}; docker exec {median_ms(exec_)}")
    yield f"enter: within 1.15 times docker exec ({ratio(enter, exec_):.2f})", ratio(enter, exec_) <= 1.15
    # The same program in both places: others copy otherwise.
    loop = "for i in $(seq 10); do busybox cat {}/large > /dev/null; done"
    inside, outside, idle = rounds(
        count, lambda: timed(lambda: shell(f"docker exec -i bench-lab sh -c '{loop.format('/run/tazpod/secrets')}'")),
        lambda: timed(lambda: shell(loop.format("../lab-secrets"))), lambda: timed(lambda: shell("docker exec -i bench-lab true")))
    inside = [taken - statistics.median(idle) for taken in inside]
    print(f"reading {size >> 20} MiB ten times inside: {median_ms(inside)}; outside {median_ms(outside)}")
    yield f"reads inside: within 5 % of those outside ({ratio(inside, outside):.2f})", ratio(inside, outside) <= 1.05
    env, nothing = rounds(count * 3, lambda: timed(lambda: shell("tazpod env --shell bash")), lambda: timed(lambda: shell("true")))
    env = statistics.median(a - b for a, b in zip(env, nothing))
    print(f"env: {env * 1e3:.1f} ms")
    yield f"env: under 15 ms ({env * 1e3:.1f})", env < 0.015
    shell("tazpod down; docker rm -f peer")
