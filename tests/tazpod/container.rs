//! What a container sees of the vault, of the project and of this machine: all that matters, and nothing else. With a real engine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/docker.rs"]
mod docker;
#[path = "../common/overheard.rs"]
mod overheard;
mod user;

use docker::{Engine, IMAGE, Lab};
use overheard::Overheard;
use rustix::process::Signal;
use user::{ACCOUNT, eventually, signal};

/// A secret that must be nowhere but in the vault.
const MARKER: &str = "MARKER-5523";

#[test]
fn the_vault_is_seen_by_the_mapped_user_and_by_nobody_else() {
    let engine = Engine::new().with_image();
    for account in ["1000", "1234", ACCOUNT] {
        let lab = Lab::new(&engine, account, "");
        lab.shell_ok("tazpod up");
        // The image's user has the number 1000 already: nothing but links is added then.
        let of = engine.inspect(&lab.name)["Config"]["Labels"]["tazpod.mapped"].as_str().unwrap().to_owned();
        assert_eq!(of == IMAGE, account == "1000", "{of}");
        let mine = lab.user.shell_ok("id -u; id -g");
        assert_eq!(lab.inside_ok("id -u; id -g"), mine);
        assert_eq!(
            lab.inside_ok("cat ~/greeting; stat -c %u ~ ~/greeting; id -un").lines().collect::<Vec<_>>(),
            ["greeting", mine.lines().next().unwrap(), mine.lines().next().unwrap(), "dev"]
        );
        assert_ne!(lab.inside("ls ~/secrets/file").0, 0, "the vault is locked");

        lab.user.unlock();
        lab.user.shell_ok(&format!("echo {MARKER} > secrets/file"));
        assert_eq!(lab.inside_ok("cat ~/secrets/file"), format!("{MARKER}\n"));
        lab.inside_ok("echo changed-inside >> ~/secrets/file && mkdir ~/secrets/dir");
        assert!(lab.user.shell_ok("cat secrets/file").ends_with("changed-inside\n"));
        let (status, out, _) = lab.shell("tazpod enter -u root -- cat /run/tazpod/secrets/file");
        assert_ne!(status, 0, "root inside reads it");
        assert_eq!(out, "");
        no_privilege(&lab);
        nothing_else(&lab);

        lab.user.lock();
        assert_ne!(lab.inside("cat ~/secrets/file").0, 0, "the vault is locked again");
        lab.user.unlock();
        assert!(lab.inside_ok("cat ~/secrets/file").starts_with(MARKER), "without a restart");
        no_trace(&engine, &lab);
        lab.shell_ok("tazpod down");
        assert_eq!(lab.shell_ok(&format!("docker ps -aq --filter name={}", lab.name)), "");
        assert!(!lab.views().exists());
        assert_eq!(lab.user.status()["mounts"].as_array().unwrap().len(), 1, "the view is gone with the container");
    }
}

fn no_privilege(lab: &Lab) {
    let status = lab.inside_ok("cat /proc/self/status");
    let field = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().split('\t').nth(1).unwrap();
    assert_eq!(field("CapEff"), "0000000000000000");
    assert_eq!(field("CapPrm"), "0000000000000000");
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("CapBnd"), "0000000000000000", "nor can anybody gain one");
    assert_ne!(lab.inside("ls /dev/fuse").0, 0);
}

/// The project is there, `.tazpod` cannot be changed, and of the home nothing else.
fn nothing_else(lab: &Lab) {
    let home = lab.user.home.display().to_string();
    lab.inside_ok("echo work > /workspace/file && rm /workspace/file");
    assert_eq!(lab.inside_ok("echo $HOST_CWD"), format!("{home}/p\n"));
    for script in [
        "echo x >> /workspace/.tazpod/config.yaml",
        "mv /workspace/.tazpod /workspace/moved",
        "rm -rf /workspace/.tazpod/vault",
        "mv /run/tazpod/secrets /run/tazpod/moved",
        "rmdir /run/tazpod/secrets",
        "touch /run/tazpod/file",
        "umount /run/tazpod/secrets",
    ] {
        assert_ne!(lab.inside(script).0, 0, "{script}");
        assert_ne!(lab.shell(&format!("tazpod enter -u root -- sh -c '{script}'")).0, 0, "root: {script}");
    }
    assert!(lab.user.archive().exists());
    assert_eq!(lab.inside_ok("ls -A /run/tazpod"), "secrets\n");
    assert_eq!(lab.inside_ok("ls /home"), "dev\n");
    let mounts = lab.inside_ok("cat /proc/self/mountinfo");
    let shown: Vec<_> = mounts.lines().filter(|line| line.contains(&home) || line.contains("vaultfs")).collect();
    assert_eq!(
        shown.iter().filter(|line| !line.contains("/p ") && !line.contains("/.tazpod ")).count(),
        2,
        "{shown:?}"
    );
    assert_ne!(lab.inside(&format!("ls {home}/pw")).0, 0);
}

fn no_trace(engine: &Engine, lab: &Lab) {
    let inspected = engine.inspect(&lab.name);
    let image = inspected["Config"]["Image"].as_str().unwrap();
    let name = &lab.name;
    for told in [
        inspected.to_string(),
        engine.docker(&["history", "--no-trunc", image]),
        engine.docker(&["inspect", image]),
        engine.docker(&["logs", name]),
        engine.docker(&["diff", name]),
        lab.shell_ok("tazpod enter -- cat /proc/1/environ"),
        lab.shell_ok("tazpod logs"),
    ] {
        assert!(!told.contains(MARKER) && !told.contains(user::PASSPHRASE), "{told}");
    }
}

#[test]
fn the_engine_is_told_nothing_that_is_in_the_vault() {
    let engine = Engine::new().with_image();
    let mut lab = Lab::new(&engine, ACCOUNT, "env: {TOKEN: {file: file}}\n");
    let overheard = Overheard::new(lab.user.home.join("engine.sock"), &engine.host);
    lab.host = overheard.host();
    lab.user.unlock();
    lab.user.shell_ok(&format!("echo {MARKER} > secrets/file"));
    assert!(lab.shell_ok("tazpod env").contains(MARKER));
    for command in [
        "up",
        "enter -- sh -c 'test -s ~/secrets/file'",
        "run -- true",
        "status",
        "logs",
        "up --recreate",
        "lock",
        "down",
    ] {
        lab.shell_ok(&format!("tazpod {command}"));
    }
    assert!(overheard.holds("/containers/create") && overheard.holds("secrets/file"), "it listens");
    assert!(!overheard.holds(MARKER) && !overheard.holds(user::PASSPHRASE));
    lab.user.unlock();
    lab.shell_ok("tazpod up && tazpod enter -- cat /run/tazpod/secrets/file");
    assert!(overheard.holds(MARKER), "what a program inside prints comes by the engine");
}

#[test]
fn a_killed_agent_leaves_an_error_inside_and_the_next_unlock_repairs_it() {
    let engine = Engine::new().with_image();
    let lab = Lab::new(&engine, ACCOUNT, "");
    lab.shell_ok("tazpod up");
    for both in [false, true] {
        lab.user.unlock();
        lab.user.shell_ok(&format!("echo {MARKER} > secrets/file && cd p && tazpod save"));
        // Also with a file that is held open inside.
        let mut holder = lab
            .user
            .command(&format!(
                "export DOCKER_HOST={}; cd p; tazpod enter -- sh -c 'exec 3< ~/secrets/file; echo ready; read line; cat <&3'",
                lab.host
            ))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut out = std::io::BufReader::new(holder.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        assert_eq!(line, "ready\n");
        let status = lab.user.status();
        let pid = |name: &str| i32::try_from(status[name].as_i64().unwrap()).unwrap();
        if both {
            signal(pid("keeper_pid"), Signal::KILL);
        }
        signal(pid("agent_pid"), Signal::KILL);
        eventually("nothing is read inside", || lab.inside("cat ~/secrets/file").0 != 0);
        std::io::Write::write_all(&mut holder.stdin.take().unwrap(), b"\n").unwrap();
        line.clear();
        std::io::Read::read_to_string(&mut out, &mut line).unwrap();
        assert_eq!(line, "", "what was open is read on");
        assert_ne!(holder.wait().unwrap().code(), Some(0));
        lab.user.unlock();
        assert_eq!(lab.inside_ok("cat ~/secrets/file"), format!("{MARKER}\n"));
        lab.user.lock();
    }
}

#[test]
fn the_vault_is_there_after_a_restart_of_the_container_and_of_the_engine() {
    let mut engine = Engine::own().with_image();
    let lab = Lab::new(&engine, "1234", "");
    lab.user.unlock();
    lab.user.shell_ok(&format!("echo {MARKER} > secrets/file"));
    lab.shell_ok("tazpod up");
    assert_eq!(lab.inside_ok("cat ~/secrets/file"), format!("{MARKER}\n"), "unlocked before up");
    engine.docker(&["restart", "--time", "1", &lab.name]);
    assert_eq!(lab.inside_ok("cat ~/secrets/file"), format!("{MARKER}\n"), "after a restart of the container");
    lab.user.lock();
    engine.restart();
    let (status, _, told) = lab.inside("true");
    assert_eq!(status, 8, "{told}");
    assert!(told.contains("not running") && told.contains("tazpod up"), "{told}");
    lab.user.unlock();
    lab.shell_ok("tazpod up");
    assert_eq!(lab.inside_ok("cat ~/secrets/file"), format!("{MARKER}\n"), "after a restart of the engine");
    engine.restart();
    lab.shell_ok("tazpod up");
    assert_eq!(lab.inside_ok("cat ~/secrets/file"), format!("{MARKER}\n"), "with the vault unlocked all the time");
}

#[test]
fn what_is_configured_is_what_the_engine_has() {
    let engine = Engine::new().with_image();
    let lab = Lab::new(
        &engine,
        "1234",
        "user: somebody
container:
  ssh: true
  ssh_agent: true
  dns: [9.9.9.9]
  network: host
  cap_add: [sys_ptrace]
  devices: ['/dev/null:/dev/also-null:r']
  security_opt: ['seccomp=unconfined']
  binds: ['~/data:/data:ro', '~/data:/more']
  environment: {COLOUR: blue, NUMBER: 7}
  labels: {org.example.team: lab}
  init: false
  privileges: [sudo]
  workdir: /data
  workspace: /project
",
    );
    lab.user.shell_ok("mkdir data .ssh && echo of-data > data/file && echo host > .ssh/known_hosts");
    let agent = "eval $(ssh-agent) > /dev/null; trap 'kill $SSH_AGENT_PID' EXIT;";
    lab.shell_ok(&format!("{agent} tazpod up && tazpod enter -- sh -c 'test -S $SSH_AUTH_SOCK'"));
    let found = engine.inspect(&lab.name);
    let host = &found["HostConfig"];
    let list = |value: &serde_json::Value| {
        value.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(&host["Dns"]), ["9.9.9.9"]);
    assert_eq!(host["NetworkMode"], "host");
    let capabilities = list(&host["CapAdd"]);
    for name in ["SYS_PTRACE", "AUDIT_WRITE", "CHOWN"] {
        assert!(capabilities.iter().any(|found| found.trim_start_matches("CAP_") == name), "{capabilities:?}");
    }
    assert_eq!(list(&host["CapDrop"]), ["ALL"]);
    assert_eq!(list(&host["SecurityOpt"]), ["seccomp=unconfined"], "sudo needs new privileges");
    assert_eq!(host["Devices"][0]["PathInContainer"], "/dev/also-null");
    assert_eq!(host["Devices"][0]["CgroupPermissions"], "r");
    assert_eq!(host["Init"], false);
    assert_eq!(host["Privileged"], false);
    let config = &found["Config"];
    let environment = list(&config["Env"]);
    for variable in ["COLOUR=blue", "NUMBER=7", "SSH_AUTH_SOCK=/run/tazpod-ssh-agent"] {
        assert!(environment.contains(&variable.to_owned()), "{environment:?}");
    }
    assert_eq!(config["Labels"]["org.example.team"], "lab");
    assert_eq!(config["Labels"]["tazpod.project"], lab.user.home.join("p").display().to_string());
    assert_eq!((&config["WorkingDir"], &found["Path"]), (&"/data".into(), &"sleep".into()));
    let mounts: Vec<String> = found["Mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| {
            format!(
                "{} {} {}",
                mount["Destination"].as_str().unwrap(),
                mount["RW"],
                mount["Propagation"].as_str().unwrap()
            )
        })
        .collect();
    for mount in [
        "/project true rprivate",
        "/project/.tazpod false rprivate",
        "/data false rprivate",
        "/more true rprivate",
        "/home/somebody/.ssh false rprivate",
        "/run/tazpod false rslave",
    ] {
        assert!(mounts.contains(&mount.to_owned()), "{mount}: {mounts:?}");
    }
    assert_eq!(lab.inside_ok("id -un; cat /data/file ~/.ssh/known_hosts"), "somebody\nof-data\nhost\n");

    // A change is noticed, and made when that is asked for.
    assert_eq!(
        lab.shell_ok("tazpod up 2>&1"),
        format!("The container '{}' is running already; 'tazpod enter' opens a shell in it\n", lab.name)
    );
    lab.configure(&format!("image: {IMAGE}\nghost_mode: true\ncontainer: {{environment: {{COLOUR: red}}}}\n"));
    let told = lab.shell_ok("tazpod up 2>&1");
    assert!(told.contains("the configuration changed") && told.contains("'ghost_mode' has no effect"), "{told}");
    assert!(lab.shell_ok("tazpod status").contains("the configuration changed"));
    lab.shell_ok("tazpod up --recreate");
    assert_eq!(lab.inside_ok("echo $COLOUR; id -un; pwd"), "red\ndev\n/workspace\n");
    let status: serde_json::Value = serde_json::from_str(&lab.shell_ok("tazpod status --json")).unwrap();
    let container = &status["containers"][0];
    assert_eq!(
        (&container["state"], &container["changed"], &container["image"]),
        (&"running".into(), &false.into(), &IMAGE.into())
    );
}

#[test]
fn a_container_may_have_a_network_of_its_own_and_what_tunnels_take() {
    let engine = Engine::new().with_image();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let lab = Lab::new(
        &engine,
        ACCOUNT,
        &format!("container: {{mtu: 1300, privileges: vpn, ports: ['127.0.0.1:{port}:80/udp']}}\n"),
    );
    lab.shell_ok("tazpod up");
    assert_eq!(lab.inside_ok("cat /sys/class/net/eth0/mtu"), "1300\n");
    let found = engine.inspect(&lab.name);
    let binding = &found["HostConfig"]["PortBindings"]["80/udp"][0];
    assert_eq!((&binding["HostIp"], &binding["HostPort"]), (&"127.0.0.1".into(), &port.to_string().into()));
    let network = format!("{}-network", lab.name);
    assert_eq!(found["HostConfig"]["NetworkMode"], network);
    lab.shell_ok("tazpod enter -u root -- sh -c 'test -c /dev/net/tun && ip addr add 10.99.0.1/32 dev lo'");
    assert_ne!(lab.inside("ip addr add 10.99.0.2/32 dev lo").0, 0, "only root inside may");
    lab.configure(&format!("image: {IMAGE}\ncontainer: {{mtu: 1200}}\n"));
    lab.shell_ok("tazpod up --recreate");
    assert_eq!(lab.inside_ok("cat /sys/class/net/eth0/mtu"), "1200\n");
    // Root inside can install something where that is asked for, and else nothing.
    let install = "tazpod enter -u root -- sh -c 'echo x > /installed && chown dev /installed'";
    assert_ne!(lab.shell(install).0, 0);
    lab.configure(&format!("image: {IMAGE}\ncontainer: {{privileges: [sudo]}}\n"));
    lab.shell_ok(&format!("tazpod up --recreate && {install}"));
    lab.shell_ok("tazpod down");
    assert_eq!(lab.shell_ok(&format!("docker network ls -q --filter name={network}")), "");
}

#[test]
fn what_an_image_has_in_the_place_of_a_link_stays_and_is_told() {
    let engine = Engine::new().with_image();
    let image = "tazpod-test/taken:1";
    engine.docker(&["run", "--name", "taken", IMAGE, "sh", "-c", "mkdir ~/secrets && echo own > ~/secrets/file"]);
    engine.docker(&["commit", "taken", image]);
    engine.docker(&["rm", "taken"]);
    let lab = Lab::of(&engine, user::User::new_as("1234"), &format!("image: {image}\n"));
    lab.user.unlock();
    lab.user.shell_ok("echo in-the-vault > secrets/file");
    let told = lab.shell_ok("tazpod up 2>&1");
    assert!(told.contains("~/secrets is in the image already") && told.contains("/run/tazpod/secrets"), "{told}");
    assert_eq!(lab.inside_ok("cat ~/secrets/file /run/tazpod/secrets/file"), "own\nin-the-vault\n");
    engine.docker(&["rm", "-f", &lab.name]);
    let told = lab.shell_ok("tazpod down 2>&1");
    assert!(told.contains("There is no container"), "{told}");
    assert_eq!(lab.user.status()["mounts"].as_array().unwrap().len(), 1, "its view goes all the same");
}

#[test]
fn several_commands_at_once_and_a_cut_off_one_leave_one_whole_container() {
    let engine = Engine::new().with_image();
    let lab = Lab::new(&engine, "1234", "");
    // A container that was made and not finished has no link yet.
    lab.shell_ok(&format!(
        "docker create --name {} --label tazpod.project=$HOME/p --label tazpod.configuration=x {IMAGE} > /dev/null && tazpod up",
        lab.name
    ));
    lab.user.unlock();
    lab.user.shell_ok("echo whole > secrets/file");
    assert_eq!(lab.inside_ok("cat ~/secrets/file"), "whole\n");
    lab.shell_ok("tazpod down");
    let told = lab.shell_ok("for round in 1 2 3; do tazpod up 2>&1 & done; wait");
    assert_eq!(told.matches("is up, with").count(), 1, "one makes it: {told}");
    assert_eq!(told.matches("is running already").count(), 2, "the others wait for that: {told}");
    assert_eq!(lab.inside_ok("cat ~/secrets/file"), "whole\n");
    assert_eq!(
        lab.shell_ok("docker ps -aq | wc -l; docker ps -aq --filter name=tazpod-mapping | wc -l").lines().last(),
        Some("0")
    );
    lab.shell_ok("for round in 1 2 3 4; do tazpod enter -- sh -c \"echo $round >> ~/secrets/rounds\" & done; wait");
    assert_eq!(lab.inside_ok("sort ~/secrets/rounds"), "1\n2\n3\n4\n");
    // What is held inside is told as well.
    let mut holder = lab.on_terminal("tazpod enter -- sh -c 'cd ~/secrets && echo in''side && read line'");
    holder.exp_string("inside").unwrap();
    let (status, _, told) = lab.shell("tazpod lock");
    assert_eq!(status, 1, "{told}");
    assert!(told.contains("(pid ") && told.contains("sh"), "{told}");
    holder.send_line("").unwrap();
    holder.exp_eof().unwrap();
    lab.shell_ok("tazpod lock");
}
