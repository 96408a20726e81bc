//! What is said when something with the container is wrong: what, why, what to do, and the exit status. With a real engine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/docker.rs"]
mod docker;
mod user;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use docker::{Engine, IMAGE, Lab, Tls};
use user::{ACCOUNT, User};

#[test]
fn a_wrong_configuration_is_told_with_its_key_and_changes_nothing() {
    let user = User::with_vault();
    for (configuration, key) in [
        ("image: 'not an image'", "image"),
        ("image: i\ncontainer_name: '-'", "container_name"),
        ("image: i\nmode: lxc", "mode"),
        ("image: i\ncontainer: {dns: [nowhere]}", "container.dns"),
        ("image: i\ncontainer: {binds: ['~:/home/me']}", "container.binds"),
        ("image: i\ncontainer: {ports: [none]}", "container.ports"),
        ("image: i\ncontainer: {privileges: everything}", "container.privileges"),
        ("image: i\ncontainer: {ports: 7}", "line 2"),
        ("vault: {}", "no container is configured"),
    ] {
        std::fs::write(user.home.join("p/.tazpod/config.yaml"), configuration).unwrap();
        user.shell_ok("cd p && tazpod trust --yes || true");
        for command in ["up", "enter", "build", "update", "pull image", "logs"] {
            let (status, _, told) = user.shell(&format!("cd p && DOCKER_HOST=unix:///nowhere tazpod {command}"));
            assert_eq!(status, 2, "{configuration}: {command}: {told}");
            assert!(told.contains(key) && told.starts_with("Error: "), "{told}");
        }
    }
    // Neither what is unknown nor what is not trusted stops the vault.
    std::fs::write(user.home.join("p/.tazpod/config.yaml"), "image: i\ncontainer: {colour: red}").unwrap();
    let (status, _, told) = user.shell("cd p && tazpod up");
    assert_eq!(status, 2);
    assert!(told.contains("'container.colour' is unknown") && told.contains("has not been trusted"), "{told}");
    assert!(told.contains("tazpod trust"), "{told}");
    user.unlock();
    assert_eq!(user.status()["containers"], serde_json::json!([]));
}

#[test]
fn an_engine_that_cannot_be_used_is_told_from_one_that_is_not_there() {
    let user = User::with_vault();
    std::fs::write(user.home.join("p/.tazpod/config.yaml"), "image: i").unwrap();
    user.shell_ok("cd p && tazpod trust --yes");
    let at = |name: &str| user.home.parent().unwrap().join(name);
    let _refused = UnixListener::bind(at("forbidden")).unwrap();
    std::fs::set_permissions(at("forbidden"), PermissionsExt::from_mode(0o600)).unwrap();
    let _silent = UnixListener::bind(at("silent")).unwrap();
    std::fs::set_permissions(at("silent"), PermissionsExt::from_mode(0o666)).unwrap();
    let context = "mkdir -p ~/.docker && echo '{\"currentContext\": \"gone\"}' > ~/.docker/config.json;";
    for (setting, told) in [
        (format!("export DOCKER_HOST=unix://{};", at("nothing").display()), "no Docker engine answers"),
        (format!("export DOCKER_HOST=unix://{};", at("forbidden").display()), "usermod -aG docker"),
        ("export DOCKER_HOST=tcp://127.0.0.1:1;".to_owned(), "no Docker engine answers"),
        ("export DOCKER_HOST=ssh://host;".to_owned(), "ssh -L"),
        ("export DOCKER_HOST=nonsense;".to_owned(), "is no place of an engine"),
        (context.to_owned(), "the Docker context 'gone' cannot be read"),
    ] {
        for command in ["up", "enter -- true", "down", "update", "logs"] {
            let (status, _, err) = user.shell(&format!("{setting} cd p && tazpod {command}"));
            assert_eq!(status, 8, "{setting} {command}: {err}");
            assert!(err.contains(told) && err.contains("Hint: "), "{err}");
        }
        let (status, out, _) = user.shell(&format!("{setting} cd p && tazpod status"));
        assert_eq!(status, 0, "status works without an engine");
        assert!(out.contains("unknown"), "{out}");
        user.shell_ok(&format!("{setting} cd p && tazpod doctor | grep -A1 'note   Docker'"));
    }
    greet_only(&at("greets"));
    for name in ["silent", "greets"] {
        let begun = Instant::now();
        let out = user.shell_ok(&format!("export DOCKER_HOST=unix://{}; cd p && tazpod status", at(name).display()));
        assert!(begun.elapsed() < Duration::from_secs(3), "status waits for an engine: {:?}", begun.elapsed());
        assert!(out.contains("state    locked") && out.contains("unknown: the Docker engine at"), "{out}");
        assert!(out.contains(&format!("{name} does not answer")), "{out}");
    }
}

/// An engine that says what it is, and then nothing more.
fn greet_only(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = [0; 16];
            connection.read_exact(&mut request).unwrap();
            if request.starts_with(b"HEAD /_ping") {
                connection.write_all(b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\n\r\n").unwrap();
            }
            held.push(connection);
        }
    });
}

#[test]
fn what_the_engine_refuses_is_passed_on_and_nothing_of_others_is_touched() {
    let engine = Engine::new().with_image();
    let lab = Lab::new(&engine, ACCOUNT, "");
    let fails = |command: &str, told: &str| {
        let (status, _, err) = lab.shell(command);
        assert_eq!(status, 8, "{command}: {err}");
        assert!(err.contains(told) && err.contains("Hint: "), "{command}: {err}");
    };
    fails("tazpod enter -- true", "there is no container");
    fails("tazpod logs", "there is no container");
    assert!(lab.shell_ok("tazpod down 2>&1").contains("There is no container"));
    let doctor = lab.shell_ok("tazpod doctor || true");
    assert!(doctor.contains("ok     Docker: ") && doctor.contains("API 1."), "{doctor}");

    // Somebody else's container of that name.
    engine.docker(&["create", "--name", &lab.name, IMAGE]);
    for command in ["up", "up --recreate", "enter -- true", "down"] {
        fails(&format!("tazpod {command}"), "is not of this project: it was made without this tool");
    }
    engine.docker(&["inspect", &lab.name]);
    engine.docker(&["rm", &lab.name]);

    // A project with the same name elsewhere.
    lab.shell_ok("tazpod up");
    lab.shell_ok("mkdir -p ~/q/.tazpod && cp .tazpod/config.yaml ~/q/.tazpod/ && cd ~/q && tazpod trust --yes");
    fails("cd ~/q && tazpod up --recreate", "is not of this project: it is of /");
    fails("cd ~/q && tazpod down", "is not of this project");

    // What the configuration says and the engine cannot do leaves nothing behind, nor takes away what runs.
    lab.configure("image: tazpod-test/missing:1\n");
    fails("tazpod up --recreate", "the image tazpod-test/missing:1 cannot be had");
    assert_eq!(lab.shell_ok(&format!("docker ps -q --filter name={} | wc -l", lab.name)), "1\n");
    assert!(lab.views().exists(), "what runs still needs its views");
    lab.configure(&format!("image: {IMAGE}\nuser: root\n"));
    fails("tazpod up --recreate", "is root");
    lab.configure(&format!("image: {IMAGE}\ncontainer: {{devices: [/dev/no-such-device]}}\n"));
    fails("tazpod up --recreate", "no-such-device");
    assert_eq!(lab.shell_ok(&format!("docker ps -aq --filter name={} | wc -l", lab.name)), "0\n");
    assert_eq!(lab.shell_ok("docker ps -aq --filter name=tazpod-mapping | wc -l"), "0\n");
    assert!(!lab.views().exists(), "a folder of views stays without a container");

    // The home as a project, and a place whose mounts would not be seen.
    lab.shell_ok(&format!(
        "mkdir -p ~/.tazpod && echo 'image: {IMAGE}' > ~/.tazpod/config.yaml && cd && tazpod trust --yes"
    ));
    fails("cd && tazpod up", "your home");
    lab.configure(&format!("image: {IMAGE}\n"));
    let data = lab.user.home.join("private");
    lab.user.shell_ok("mkdir private");
    let data = data.display().to_string();
    for arguments in [&["--bind", &data, &data][..], &["--make-private", &data]] {
        assert!(std::process::Command::new("mount").args(arguments).status().unwrap().success());
    }
    fails("XDG_DATA_HOME=$HOME/private tazpod up", "mount --make-rshared");
    assert!(std::process::Command::new("umount").arg(&data).status().unwrap().success());
}

#[test]
fn an_engine_is_reached_over_tls_and_through_a_context() {
    let (engine, Tls { port, certificates }) = Engine::with_tls();
    let engine = engine.with_image();
    let lab = Lab::new(&engine, ACCOUNT, "");
    let environment = format!("export DOCKER_HOST={};", Tls { port, certificates: certificates.clone() }.host());
    let told = lab.shell_ok(&format!("{environment} tazpod up 2>&1"));
    assert!(told.contains("the engine is on another machine"), "{told}");
    let sum = lab.shell_ok("head -c 1000000 /dev/urandom > data; sha256sum < data");
    assert_eq!(lab.shell_ok(&format!("{environment} tazpod enter -- cat < data | sha256sum")), sum);
    let (status, out, err) =
        lab.shell(&format!("{environment} tazpod enter -- sh -c 'echo out; echo err >&2; exit 42'"));
    assert_eq!((status, out.as_str(), err.as_str()), (42, "out\n", "err\n"));
    let mut shell =
        lab.on_terminal(&format!("{environment} tazpod enter -- sh -c 'echo on-$((40+2)); exit 3'; echo ended $?"));
    shell.exp_string("on-42").unwrap();
    shell.exp_string("ended 3").unwrap();
    // The same by a context; without the certificate nobody gets in.
    lab.shell_ok(&format!(
        "cp -r {0} ~/certificates && docker context create lab --docker \
         host=tcp://127.0.0.1:{port},ca=$HOME/certificates/ca.pem,cert=$HOME/certificates/cert.pem,key=$HOME/certificates/key.pem",
        certificates.display()
    ));
    assert!(
        lab.shell_ok("unset DOCKER_HOST; docker context use lab; tazpod doctor || true")
            .contains("(the context 'lab')")
    );
    assert_eq!(lab.shell_ok("unset DOCKER_HOST; tazpod enter -- echo by-context"), "by-context\n");
    let (status, _, told) = lab.shell(&format!("export DOCKER_HOST=tcp://127.0.0.1:{port}; tazpod enter -- true"));
    assert_eq!(status, 8, "{told}");
    lab.shell_ok(&format!("{environment} tazpod down"));
}
