//! Watches all file systems of this machine while a vault is used in every way: no content and no name of it is ever written to any file,
//! not for a moment. Needs root for the watching.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use user::{FORMATS, User};

/// Content and a name that nothing else on this machine has; made anew by each test.
struct Markers {
    content: String,
    name: String,
}

impl Markers {
    fn new() -> Self {
        let random = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().replace(['-', '\n'], "");
        Self { content: format!("CONTENT{random}"), name: format!("NAME{random}") }
    }
}

/// The watching program.
struct Watch {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Watch {
    fn start(markers: &Markers) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tazpod/watch_writes.py");
        let mut command = Command::new("python3");
        command.arg(script).args([&markers.content, &markers.name]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut watch = Self { child, output };
        assert_eq!(watch.line(), "ready", "it needs root");
        watch
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Ends it when it has seen all that happened; returns what it found.
    fn finish(mut self) -> Vec<String> {
        writeln!(self.child.stdin.take().unwrap()).unwrap();
        let mut lines: Vec<String> = (&mut self.output).lines().map(Result::unwrap).collect();
        assert!(self.child.wait().unwrap().success());
        let events: u64 = lines.pop().unwrap().strip_prefix("events ").unwrap().parse().unwrap();
        assert!(events > 5, "it saw only {events} events");
        lines
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_watch_finds_what_is_written_anywhere() {
    let markers = Markers::new();
    let watch = Watch::start(&markers);
    let mut expected = Vec::new();
    for place in ["/tmp", "/var/tmp", "/run", "/dev/shm", "/root"] {
        let folder = tempfile::tempdir_in(place).unwrap();
        let path = |name: &str| folder.path().join(name);
        // Gone as soon as it is there, moved, in a name, in a link, in a file without a name.
        fs::write(path("closed"), &markers.content).unwrap();
        fs::remove_file(path("closed")).unwrap();
        fs::create_dir(path(&markers.name)).unwrap();
        std::os::unix::fs::symlink(&markers.content, path("link")).unwrap();
        tempfile::tempfile_in(folder.path()).unwrap().write_all(markers.content.as_bytes()).unwrap();
        fs::write(path("moved"), &markers.content).unwrap();
        fs::rename(path("moved"), path("there")).unwrap();
        // Long enough to be looked at while it is there.
        std::thread::sleep(std::time::Duration::from_millis(500));
        expected.push(folder.path().to_owned());
    }
    let found = watch.finish();
    for folder in expected {
        let folder = folder.display();
        let name = format!("the name {folder}/{}", markers.name);
        let places = ["closed", "there", "#"].map(|name| format!("in {folder}/{name}"));
        for place in places.iter().chain([&name, &format!("the link {folder}/link")]) {
            assert!(found.iter().any(|line| line.contains(place)), "{place} in {found:#?}");
        }
    }
}

/// A second machine with the same vault, and a folder where both meet.
fn machines(format: &str, meeting: &Path) -> [User; 2] {
    fs::set_permissions(meeting, fs::Permissions::from_mode(0o777)).unwrap();
    let yaml = format!("remote: {{path: '{}/vault'}}\n", meeting.display());
    let configure = |user: &User| {
        fs::write(user.home.join("p/.tazpod/config.yaml"), &yaml).unwrap();
        user.shell_ok("cd p && tazpod trust --yes");
    };
    let (one, other) = (User::with_vault_of(format), User::new());
    configure(&one);
    one.shell_ok("cd p && tazpod setup-storage && tazpod push");
    other.shell_ok("mkdir p && cd p && tazpod init --yes --no-vault");
    configure(&other);
    other.shell_ok("cd p && tazpod pull");
    [one, other]
}

/// What an editor does, and what else makes files and names; `$C` and `$N` are the markers.
const EDITS: &str =
    "cd ~/secrets && mkdir -p $N && yes $C | head -c 300000 > $N/large && printf $C > $N.new && mv $N.new $N/file &&
    ln -s $C $N/link && printf $C.$$ >> both && cp -r $N again && rm -r again && sync .";

#[test]
fn nothing_of_a_vault_is_written_anywhere_but_encrypted() {
    for format in FORMATS {
        let (meeting, markers) = (tempfile::tempdir().unwrap(), Markers::new());
        let users = machines(format, meeting.path());
        let [one, other] = &users;
        let watch = Watch::start(&markers);
        let run = |user: &User, script: &str| {
            user.shell_ok(&format!("C={} N={}; {script}", markers.content, markers.name));
        };
        for user in &users {
            user.unlock();
            run(user, EDITS);
            run(user, "cd p && tazpod save && tazpod lock");
        }
        // Locked here, unlocked there; both edited the same file.
        run(one, "cd p && tazpod push && tazpod export --passphrase-file ~/pw | cat > /dev/null");
        other.unlock();
        run(other, "cd p && tazpod pull; cd ~/secrets && ls .tazpod-conflicts && printf $C.2 > $N/file");
        run(other, "cd p && tazpod push && tazpod export | cat > /dev/null");
        run(one, "cd p && tazpod pull --passphrase-file ~/pw && tazpod check --passphrase-file ~/pw");
        run(
            one,
            "cd p && umask 077 && echo another > ~/new && tazpod passwd --passphrase-file ~/pw --new-passphrase-file ~/new",
        );
        run(
            one,
            "cd p && tazpod unlock --passphrase-file ~/new && cd ~/secrets && rm -r $N && printf $C > $N && cd ~/p && tazpod save",
        );
        if *format == "v2" {
            run(one, "cd p && tazpod log $N; tazpod show 1 / | cat; tazpod compact");
        }
        run(one, "cd p && tazpod --debug status && tazpod lock");
        other.lock();
        let found = watch.finish();
        assert_eq!(found, Vec::<String>::new(), "{format}");
    }
}
