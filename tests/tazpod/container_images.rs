//! Images: built, pulled from a registry with credentials, newer ones noticed. With a real engine and a real registry.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/docker.rs"]
mod docker;
mod user;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use docker::{Engine, IMAGE, Lab};
use user::{ACCOUNT, User, eventually};

#[test]
fn an_image_is_built_and_a_failing_step_shows_what_it_printed() {
    let engine = Engine::new().with_image();
    let lab = Lab::of(&engine, User::new_as(ACCOUNT), "image: placeholder\n");
    let image = format!("tazpod-test/{}:built", lab.name);
    let configuration = format!("image: {image}\nbuild: {{dockerfile: images/Dockerfile, context: .}}\n");
    lab.configure(&configuration);
    lab.shell_ok(
        "mkdir images kept ignored && echo 1 > kept/file && echo 2 > ignored/file && echo ignored > .dockerignore
        ln -s file kept/link",
    );
    let dockerfile = |steps: &str| {
        let text = format!("FROM {IMAGE}\nUSER root\nCOPY . /context\n{steps}\nUSER dev\n");
        std::fs::write(lab.user.home.join("p/images/Dockerfile"), text).unwrap();
    };
    dockerfile("RUN find /context | sort; echo on-the-way; exit 3");
    let (status, _, told) = lab.shell("tazpod up");
    assert_eq!(status, 2, "nobody has seen the Dockerfile: {told}");
    assert!(told.contains("images/Dockerfile has not been trusted"), "{told}");
    let (status, _, told) = lab.shell("tazpod trust --yes && tazpod up");
    assert_eq!(status, 8, "{told}");
    assert!(told.contains("on-the-way") && told.contains("returned a non-zero code: 3"), "{told}");
    assert!(told.contains("/context/kept/link") && !told.contains("/context/ignored"), "{told}");
    assert!(!told.contains(".tazpod") || !told.contains("/context/.tazpod"), "the vault was sent: {told}");
    assert_eq!(lab.shell_ok(&format!("docker ps -aq --filter name={}", lab.name)), "");
    assert!(!lab.views().exists(), "a folder of views stays without a container");

    dockerfile("RUN echo first > /built");
    lab.shell_ok("tazpod trust --yes && tazpod up");
    assert_eq!(lab.inside_ok("cat /built /context/kept/link; id -un"), "first\n1\ndev\n");
    dockerfile("RUN echo second > /built");
    lab.shell_ok("tazpod trust --yes");
    assert!(lab.shell_ok("tazpod build 2>&1").contains("'tazpod up --recreate' makes the container of it"));
    assert!(lab.shell_ok("tazpod up 2>&1").contains("there is a newer image"));
    lab.shell_ok("tazpod up --recreate");
    assert_eq!(lab.inside_ok("cat /built"), "second\n");
    dockerfile("RUN echo third > /built");
    lab.shell_ok("tazpod trust --yes && tazpod up --build");
    assert_eq!(lab.inside_ok("cat /built"), "third\n", "what was just built is used");
    let made_of = engine.inspect(&lab.name)["Config"]["Image"].as_str().unwrap().to_owned();
    assert!(made_of.starts_with("tazpod-mapped:"), "{made_of}");
    let derived = lab.shell_ok("docker images -q --filter label=tazpod.account | wc -l");
    dockerfile("RUN echo fourth > /built");
    lab.shell_ok("tazpod trust --yes && tazpod up --build");
    assert_eq!(lab.shell_ok("docker images -q --filter label=tazpod.account | wc -l"), derived, "old ones are removed");
    let (status, _, told) = lab.shell("rm images/Dockerfile; tazpod build");
    assert_eq!(status, 8, "{told}");
    assert!(told.contains("cannot read") && told.contains("Dockerfile"), "{told}");
    lab.configure(&format!("image: {image}\n"));
    assert_eq!(lab.shell("tazpod build").0, 2, "nothing says how");
}

/// A registry that wants a password.
struct Registry {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("tazpod-registry-").tempdir_in("/tmp").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = |name: &str| folder.path().join(name);
        let hash =
            Command::new("perl").args(["-e", "print crypt('sec', '$2b$05$abcdefghijklmnopqrstuu')"]).output().unwrap();
        std::fs::write(at("htpasswd"), format!("me:{}\n", String::from_utf8(hash.stdout).unwrap())).unwrap();
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n\
             auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            at("data").display(),
            at("htpasswd").display()
        );
        std::fs::write(at("config.yml"), text).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(at("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("scripts/test installs docker-registry");
        let address = format!("127.0.0.1:{port}");
        eventually("the registry listens", || std::net::TcpStream::connect(&address).is_ok());
        Self { child, address, _folder: folder }
    }

    /// Puts an image there, as somebody who may.
    fn push(&self, engine: &Engine, from: &str, to: &str) {
        engine.docker(&["tag", from, to]);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), self.logged_in()).unwrap();
        engine.docker(&["--config", folder.path().to_str().unwrap(), "push", to]);
        engine.docker(&["rmi", to]);
    }

    /// What `docker login` leaves.
    fn logged_in(&self) -> String {
        format!(r#"{{"auths": {{"{}": {{"auth": "bWU6c2Vj"}}}}}}"#, self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_image_is_pulled_with_progress_and_credentials_and_a_newer_one_is_told() {
    let engine = Engine::new().with_image();
    let registry = Registry::start();
    let image = format!("{}/team/lab", registry.address);
    registry.push(&engine, IMAGE, &format!("{image}:latest"));
    let lab = Lab::of(&engine, User::new_as(ACCOUNT), &format!("image: {image}\n"));
    let (status, _, told) = lab.shell("tazpod up");
    assert_eq!(status, 8, "nobody is logged in: {told}");
    assert!(told.contains(&format!("the image {image} cannot be had")) && told.contains("docker login"), "{told}");
    lab.user.shell_ok(&format!("mkdir .docker && echo '{}' > .docker/config.json", registry.logged_in()));
    let told = lab.shell_ok("tazpod up 2>&1");
    assert!(told.contains("Pulling") && !told.contains("iB of"), "no bar without a terminal: {told}");
    assert_eq!(lab.inside_ok("cat greeting ~/greeting 2>/dev/null; true"), "greeting\n");
    assert!(lab.shell_ok("tazpod update 2>&1").contains("is what it was"));

    // A program may keep the password.
    let helper = lab.user.home.with_file_name("docker-credential-test");
    let script = "#!/bin/sh\ncat > ~/asked; echo '{\"Username\": \"me\", \"Secret\": \"sec\"}'\n";
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = format!(r#"{{"credHelpers": {{"{}": "test"}}}}"#, registry.address);
    lab.user.shell_ok(&format!("echo '{config}' > .docker/config.json"));
    assert!(lab.shell_ok("tazpod pull image 2>&1").contains("is what it was"));
    assert_eq!(lab.user.shell_ok("cat asked"), format!("{}\n", registry.address));

    let newer = "tazpod-test/newer:1";
    engine.import(newer, &["USER dev", "ENV NEWER=yes", "CMD [\"sh\"]"]);
    registry.push(&engine, newer, &format!("{image}:latest"));
    engine.docker(&["rmi", newer]);
    let mut terminal = lab.on_terminal("export TERM=xterm; stty rows 24 cols 100; tazpod pull image; echo ended $?");
    let shown = terminal.exp_string("ended 0").unwrap();
    assert!(shown.contains("iB of") && shown.contains("is a newer image now"), "a bar on a terminal: {shown}");
    assert!(shown.contains("'tazpod up --recreate'"), "{shown}");
    assert_eq!(lab.inside_ok("echo $NEWER"), "\n");
    assert!(lab.shell_ok("tazpod up 2>&1").contains("there is a newer image"));
    lab.shell_ok("tazpod up --recreate");
    assert_eq!(lab.inside_ok("echo $NEWER"), "yes\n");
}
