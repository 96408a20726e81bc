//! `tazpod vpn`: a tunnel by WireGuard in user space, from a container to another network namespace, whose key is in the vault only.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/docker.rs"]
mod docker;
mod user;

use std::process::Command;

use docker::{Engine, Lab};
use user::{ACCOUNT, User};

const IMAGE: &str = "tazpod-test/tunnel:1";
/// What wg-quick and the test take from this machine, with the libraries that they need.
const PROGRAMS: &str =
    "bash sh cat head mktemp rm mkdir chmod stat sort sleep readlink grep sed ip wg wg-quick wireguard-go sysctl";

/// Runs a script of root's, which must succeed.
fn root(script: &str) -> String {
    let output = Command::new("bash").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn import(engine: &Engine) {
    root(&format!(
        "export PATH=$PATH:/usr/sbin:/sbin; root=$(mktemp -d); trap 'rm -rf $root' EXIT; cd $root
         mkdir -p usr/bin usr/sbin usr/lib usr/lib64 etc home/dev tmp run var/lib
         ln -s usr/bin bin; ln -s usr/sbin sbin; ln -s usr/lib lib; ln -s usr/lib64 lib64; ln -s ../run var/run; chmod 1777 tmp
         for name in {PROGRAMS}; do
             file=$(command -v $name); cp -L $file usr/bin/
             ldd $file 2>/dev/null | grep -o '/[^ ]*' | while read -r lib; do mkdir -p .$(dirname $lib); cp -L $lib .$lib; done
         done
         printf 'root:x:0:0:root:/root:/bin/sh\\ndev:x:1000:1000::/home/dev:/bin/sh\\n' > etc/passwd
         printf 'root:x:0:\\ndev:x:1000:\\n' > etc/group
         tar -c --numeric-owner . | DOCKER_HOST={} docker import --change 'USER dev' - {IMAGE}",
        engine.host
    ));
}

/// A network namespace with the other end of the tunnel, gone with this.
struct Peer {
    name: String,
    public: String,
}

impl Peer {
    fn start(container_pid: i64, client: &str, folder: &str) -> Self {
        let name = format!("tazpod-{}", std::process::id());
        let peer = Self { public: root(&format!("wg genkey > {folder}/peer; wg pubkey < {folder}/peer")), name };
        let name = &peer.name;
        root(&format!(
            "ip netns add {name}
             ip link add out{0} type veth peer name in{0}
             ip link set out{0} netns {name}; ip link set in{0} netns {container_pid}
             ip -n {name} address add 10.99.0.1/24 dev out{0}; ip -n {name} link set out{0} up
             nsenter -t {container_pid} -n ip address add 10.99.0.2/24 dev in{0}
             nsenter -t {container_pid} -n ip link set in{0} up
             ip netns exec {name} wireguard-go {name} > /dev/null 2>&1
             ip netns exec {name} wg set {name} listen-port 51820 private-key {folder}/peer peer {client} allowed-ips 10.88.0.2/32
             ip -n {name} address add 10.88.0.1/24 dev {name}; ip -n {name} link set {name} up",
            std::process::id()
        ));
        peer
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let name = &self.name;
        let script = format!("ip netns pids {name} | xargs -r kill; ip -n {name} link del {name}; ip netns del {name}");
        let _ = Command::new("bash").args(["-c", &script]).output();
    }
}

#[test]
fn a_tunnel_is_opened_from_a_file_of_the_vault_and_closed() {
    let engine = Engine::new();
    import(&engine);
    let configuration = format!("image: {IMAGE}\nvpn: {{config: wireguard/wg0.conf}}\n");
    let lab = Lab::of(&engine, User::new_as(ACCOUNT), &format!("{configuration}container: {{privileges: vpn}}\n"));
    let (status, _, told) = lab.shell("tazpod vpn up");
    assert!(status == 4 && told.contains("locked"), "{status} {told}");
    lab.user.unlock();
    let (status, _, told) = lab.shell("tazpod vpn up");
    assert!(status == 1 && told.contains("'vpn.config' names a file of the vault"), "{status} {told}");
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().display();
    let client = root(&format!("wg genkey > {folder}/client; wg pubkey < {folder}/client"));
    let secret = root(&format!("cat {folder}/client"));
    lab.shell_ok("tazpod up");
    let pid = engine.inspect(&lab.name)["State"]["Pid"].as_i64().unwrap();
    let peer = Peer::start(pid, client.trim(), &folder.to_string());
    let text = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.88.0.2/24\n\n[Peer]\nPublicKey = {}\nEndpoint = 10.99.0.1:51820\nAllowedIPs = 10.88.0.1/32\n",
        secret.trim(),
        peer.public.trim()
    );
    lab.user.shell_ok("mkdir secrets/wireguard");
    std::fs::write(lab.user.home.join("conf"), &text).unwrap();
    lab.user.shell_ok("cat conf > secrets/wireguard/wg0.conf");

    let (status, _, told) = lab.shell("tazpod vpn up");
    assert!(status == 0 && told.contains("The tunnel wg0 is up"), "{status} {told}");
    assert!(!told.contains(secret.trim()), "{told}");
    let mut server = Command::new("ip")
        .args(["netns", "exec", &peer.name, "python3", "-m", "http.server", "--bind", "10.88.0.1", "8000"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let ask = "exec 3<>/dev/tcp/10.88.0.1/8000 && printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3 && head -1 <&3";
    let mut answer = String::new();
    user::eventually("something comes through the tunnel", || {
        answer = lab.shell(&format!("tazpod enter -- bash -c '{ask}'")).1;
        answer.contains("200 OK")
    });
    let (status, _, told) = lab.shell("tazpod vpn up");
    assert!(status == 8 && told.contains("already exists"), "{status} {told}");
    let traces = [
        engine.inspect(&lab.name).to_string(),
        engine.docker(&["logs", &lab.name]),
        lab.shell_ok("tazpod enter -u root -- bash -c 'cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; ls -A /dev/shm; true'"),
    ];
    for trace in &traces {
        assert!(!trace.contains(secret.trim()) && !trace.contains("tazpod-vpn."), "{trace}");
    }
    let told = lab.shell_ok("tazpod lock 2>&1");
    assert!(told.contains("The tunnel wg0 stays up; 'tazpod vpn down'"), "{told}");
    lab.user.unlock();
    let (status, _, told) = lab.shell("tazpod vpn down");
    assert!(status == 0 && told.contains("is down"), "{status} {told}");
    assert_eq!(lab.shell_ok("tazpod lock 2>&1"), "Locked\n", "there is no tunnel any more");
    assert_ne!(lab.inside("ip link show wg0").0, 0);
    assert_ne!(lab.shell(&format!("tazpod enter -- bash -c '{ask}'")).0, 0);
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn what_a_tunnel_needs_is_told() {
    let engine = Engine::new().with_image();
    let lab = Lab::new(&engine, ACCOUNT, "");
    let (status, _, told) = lab.shell("tazpod vpn up");
    assert!(status == 2 && told.contains("vpn: {config: wireguard/wg0.conf}"), "{status} {told}");
    lab.configure(&format!("image: {}\nvpn: {{config: wg0.conf}}\n", docker::IMAGE));
    lab.user.unlock();
    lab.user.shell_ok("echo '[Interface]' > secrets/wg0.conf");
    let (status, _, told) = lab.shell("tazpod vpn up");
    assert!(status == 8 && told.contains("there is no container"), "{status} {told}");
    lab.shell_ok("tazpod up");
    let (status, _, told) = lab.shell("tazpod vpn up");
    assert!(status == 8 && told.contains("no wg-quick in the container's image"), "{status} {told}");
    lab.user.shell_ok("cd p && sed -i s/wg0.conf/wg0/ .tazpod/config.yaml && tazpod trust --yes");
    let (status, _, told) = lab.shell("tazpod vpn down");
    assert!(status == 2 && told.contains("<interface>.conf"), "{status} {told}");
}
