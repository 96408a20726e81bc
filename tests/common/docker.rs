//! A real engine: the one that TAZPOD_TEST_DOCKER_HOST names, or one of this test's own in a private place, gone when the test is. And a
//! project of an ordinary user whose container it holds.
#![expect(dead_code, reason = "each test program uses its part of it")]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::user::User;

/// A small image: busybox and a user `dev` with the number 1000.
pub const IMAGE: &str = "tazpod-test/small:1";

/// Makes an authority, and certificates of an engine and of a user by it.
const CERTIFICATES: &str = r#"
set -e; cd "$1"; mkdir -p tls; cd tls
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca-key.pem -out ca.pem 2>/dev/null
for name in server client; do
    openssl req -newkey rsa:2048 -nodes -subj /CN=$name -keyout $name-key.pem -out $name.csr 2>/dev/null
    printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' > extensions
    openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile extensions -out $name.pem 2>/dev/null
done
cp client.pem cert.pem; cp client-key.pem key.pem; chmod -R a+rX .
"#;

/// The way to an engine over TCP.
pub struct Tls {
    pub port: u16,
    pub certificates: PathBuf,
}

impl Tls {
    /// What is exported as DOCKER_HOST, with what goes along.
    pub fn host(&self) -> String {
        let certificates = self.certificates.display();
        format!("tcp://127.0.0.1:{} DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH={certificates}", self.port)
    }
}

/// An engine.
pub struct Engine {
    pub host: String,
    own: Option<Own>,
}

struct Own {
    folder: tempfile::TempDir,
    daemon: Child,
    further: Vec<String>,
}

impl Engine {
    /// The one that is named, else one of our own.
    pub fn new() -> Self {
        match std::env::var("TAZPOD_TEST_DOCKER_HOST") {
            Ok(host) if !host.is_empty() => Self { host, own: None },
            _ => Self::own(),
        }
    }

    /// One that the test may restart.
    pub fn own() -> Self {
        Self::own_with(|_| Vec::new())
    }

    /// The same with further arguments of the program, made of its folder.
    pub fn own_with(further: impl FnOnce(&Path) -> Vec<String>) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "an engine is started by root; else name one in TAZPOD_TEST_DOCKER_HOST"
        );
        let folder = tempfile::Builder::new().prefix("tazpod-docker-").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o711)).unwrap();
        std::fs::write(folder.path().join("config.json"), "{}").unwrap();
        let further = further(folder.path());
        let daemon = start(folder.path(), &further);
        let host = format!("unix://{}", folder.path().join("docker.sock").display());
        let engine = Self { host, own: Some(Own { folder, daemon, further }) };
        engine.wait();
        engine
    }

    /// One that is reached over TLS too, as if it were on another machine.
    pub fn with_tls() -> (Self, Tls) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut certificates = PathBuf::new();
        let engine = Self::own_with(|folder| {
            let folder = folder.display().to_string();
            assert!(Command::new("bash").args(["-c", CERTIFICATES, "bash", &folder]).status().unwrap().success());
            certificates = format!("{folder}/tls").into();
            vec![
                format!("--host=tcp://127.0.0.1:{port}"),
                "--tlsverify".to_owned(),
                format!("--tlscacert={folder}/tls/ca.pem"),
                format!("--tlscert={folder}/tls/server.pem"),
                format!("--tlskey={folder}/tls/server-key.pem"),
            ]
        });
        (engine, Tls { port, certificates })
    }

    /// Ends the engine and starts it again; containers end with it.
    pub fn restart(&mut self) {
        let own = self.own.as_mut().expect("only an engine of our own is restarted");
        end(&mut own.daemon);
        own.daemon = start(own.folder.path(), &own.further);
        self.wait();
    }

    /// Ends it for good.
    pub fn stop(&mut self) {
        end(&mut self.own.as_mut().expect("only an engine of our own is ended").daemon);
    }

    fn wait(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.command(&["version"]).output().unwrap().status.success() {
            assert!(Instant::now() < until, "the engine does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        if let Some(own) = &self.own {
            // Its folder's name is known to this test alone.
            std::fs::set_permissions(own.folder.path().join("docker.sock"), PermissionsExt::from_mode(0o666)).unwrap();
        }
    }

    fn log(&self) -> String {
        self.own
            .as_ref()
            .map_or_else(String::new, |own| std::fs::read_to_string(own.folder.path().join("log")).unwrap_or_default())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", &self.host).args(arguments);
        command
    }

    /// Runs the docker command, which must succeed; returns what it prints.
    pub fn docker(&self, arguments: &[&str]) -> String {
        text(self.command(arguments).output().unwrap(), &format!("docker {arguments:?}"))
    }

    /// Makes [`IMAGE`].
    pub fn with_image(self) -> Self {
        self.import(IMAGE, &["USER dev", "CMD [\"sh\"]"]);
        self
    }

    /// Imports an image of busybox.
    pub fn import(&self, name: &str, changes: &[&str]) {
        self.import_more(name, changes, ":");
    }

    /// The same with more in it, by a script that runs in its root.
    pub fn import_more(&self, name: &str, changes: &[&str], more: &str) {
        let script = "set -e; root=$(mktemp -d); trap 'rm -rf \"$root\"' EXIT; cd \"$root\"
            mkdir -p bin etc root home/dev tmp var && chmod 1777 tmp && cp \"$(command -v busybox)\" bin/busybox
            for name in $(busybox --list); do ln -s busybox bin/$name 2>/dev/null || :; done
            printf 'root:x:0:0:root:/root:/bin/sh\\ndev:x:1000:1000::/home/dev:/bin/sh\\n' > etc/passwd
            printf 'root:x:0:\\ndev:x:1000:\\nextra:x:77:dev\\n' > etc/group
            echo greeting > home/dev/greeting && chown -R 1000:1000 home/dev
            eval \"$0\" && tar -c --numeric-owner .";
        let packed = Command::new("bash").args(["-c", script, more]).output().unwrap();
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        let mut arguments = vec!["import"];
        changes.iter().for_each(|change| arguments.extend(["--change", change]));
        arguments.extend(["-", name]);
        let mut import = self.command(&arguments).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        import.stdin.take().unwrap().write_all(&packed.stdout).unwrap();
        assert!(import.wait().unwrap().success());
    }

    /// What the engine knows of a container.
    pub fn inspect(&self, container: &str) -> serde_json::Value {
        serde_json::from_str::<serde_json::Value>(&self.docker(&["inspect", container])).unwrap()[0].clone()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(own) = &mut self.own else { return };
        // What still runs would hold mounts in the folder.
        let list = "docker ps -aq | xargs -r docker rm -f";
        let _ = Command::new("bash").args(["-c", list]).env("DOCKER_HOST", &self.host).output();
        end(&mut own.daemon);
        // The engine leaves namespaces mounted in its folder.
        let folder = own.folder.path().display().to_string();
        let left = "grep -o \" $0/[^ ]*\" /proc/self/mountinfo | xargs -r umount --lazy";
        let _ = Command::new("bash").args(["-c", left, &folder]).output();
    }
}

fn start(folder: &Path, further: &[String]) -> Child {
    let at = |name: &str| folder.join(name).display().to_string();
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    // It ends with this test, however that ends.
    Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "--", "dockerd", "--config-file", &at("config.json"), "--data-root", &at("data")])
        .args(["--exec-root", &at("exec"), "--pidfile", &at("pid"), "--host", &format!("unix://{}", at("docker.sock"))])
        .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
        .args(further)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("scripts/test installs dockerd")
}

fn end(daemon: &mut Child) {
    let pid = rustix::process::Pid::from_child(daemon);
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    let until = Instant::now() + Duration::from_secs(30);
    while daemon.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = daemon.kill();
    let _ = daemon.wait();
}

fn text(output: Output, what: &str) -> String {
    let Output { status, stdout, stderr } = output;
    assert!(status.success(), "{what}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// A project in `~/p` with a vault, and a configuration of a container.
pub struct Lab {
    pub user: User,
    pub host: String,
    pub name: String,
    home: PathBuf,
}

impl Lab {
    /// With a small image, and these lines after `image:`.
    pub fn new(engine: &Engine, account: &str, configuration: &str) -> Self {
        Self::of(engine, User::new_as(account), &format!("image: {IMAGE}\n{configuration}"))
    }

    /// With a whole configuration, as a user.
    pub fn of(engine: &Engine, user: User, configuration: &str) -> Self {
        let lab = Self::without_project(engine, user);
        lab.user.shell_ok("mkdir p && cd p && tazpod init --yes --passphrase-file ~/pw");
        lab.configure(configuration);
        lab
    }

    /// A user who has nothing yet.
    pub fn without_project(engine: &Engine, user: User) -> Self {
        let home = user.home.clone();
        share(&home);
        // Tests share an engine.
        let name = format!("lab-{}", home.parent().unwrap().file_name().unwrap().to_string_lossy().to_lowercase());
        Self { user, host: engine.host.clone(), name, home }
    }

    /// Writes and trusts a configuration. Without a word on it the vault stays unlocked between the commands of a test.
    pub fn configure(&self, configuration: &str) {
        let stays = if configuration.contains("auto_lock") { "" } else { "auto_lock: {last_shell: false}\n" };
        let text = format!("container_name: {}\n{stays}{configuration}", self.name);
        std::fs::write(self.home.join("p/.tazpod/config.yaml"), text).unwrap();
        self.user.shell_ok("cd p && tazpod trust --yes");
    }

    fn script(&self, script: &str) -> String {
        format!("export DOCKER_HOST={}; cd ~/p; {script}", self.host)
    }

    /// Runs a shell command in the project: status, output, errors.
    pub fn shell(&self, script: &str) -> (i32, String, String) {
        self.user.shell(&self.script(script))
    }

    /// The same, which must succeed.
    pub fn shell_ok(&self, script: &str) -> String {
        self.user.shell_ok(&self.script(script))
    }

    /// Runs a shell command inside: status, output, errors.
    pub fn inside(&self, script: &str) -> (i32, String, String) {
        self.shell(&format!("tazpod enter -- sh -c '{script}'"))
    }

    /// The same, which must succeed.
    pub fn inside_ok(&self, script: &str) -> String {
        self.shell_ok(&format!("tazpod enter -- sh -c '{script}'"))
    }

    /// The folder that the container's views are mounted in.
    pub fn views(&self) -> PathBuf {
        self.home.join(format!(".local/share/tazpod/mnt/{}", self.name))
    }

    /// A command on a terminal.
    pub fn on_terminal(&self, script: &str) -> rexpect::session::PtySession {
        let mut command = self.user.terminal_command(&self.script(script));
        command.stdin(Stdio::inherit());
        rexpect::session::spawn_command(command, Some(30_000)).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let names = "docker ps -aq --filter label=tazpod.project=$HOME/p | xargs -r docker rm -f";
        self.shell(&format!("{names}; tazpod lock --all --force --discard"));
        let _ = Command::new("umount").args(["--lazy", &self.home.display().to_string()]).status();
    }
}

/// What systemd does with all of a machine: what is mounted in the folder later gets into containers.
fn share(folder: &Path) {
    let folder = folder.display().to_string();
    for arguments in [&["--bind", &folder, &folder][..], &["--make-rshared", &folder]] {
        assert!(Command::new("mount").args(arguments).status().unwrap().success(), "mount {arguments:?} needs root");
    }
}
