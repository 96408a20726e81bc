//! Searches every log, file, argument list, environment and output for passphrases, content and names while the program is
//! used in all ways, with --debug.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use memchr::memmem;
use user::{FORMATS, PASSPHRASE, User};

const OTHER_PASSPHRASE: &str = "one more quite long passphrase";
const CONTENT: &str = "CONTENT-qzkwvjxyugh";
const NAME: &str = "NAME-wvjqzkxghuy";
/// How a recovery key begins.
const RECOVERY_KEY: &str = "AGE-SECRET-KEY-1";
const NEEDLES: [&str; 5] = [PASSPHRASE, OTHER_PASSPHRASE, CONTENT, NAME, RECOVERY_KEY];

fn find(place: &str, data: &[u8], found: &mut BTreeSet<String>) {
    for needle in NEEDLES {
        if memmem::find(data, needle.as_bytes()).is_some() {
            found.insert(format!("{needle:?} in {place}"));
        }
    }
}

/// Looks at arguments and environments of the program's processes until it is told to stop.
struct Sampler {
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<BTreeSet<String>>,
}

impl Sampler {
    fn start(user: &User) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted, home) = (stop.clone(), seen.clone(), user.home.clone());
        let thread = std::thread::spawn(move || {
            let mut found = BTreeSet::new();
            while !stopped.load(Ordering::Relaxed) {
                counted.fetch_add(sample(&home, &mut found), Ordering::Relaxed);
            }
            found
        });
        Self { stop, seen, thread }
    }

    fn finish(self) -> (usize, BTreeSet<String>) {
        self.stop.store(true, Ordering::Relaxed);
        (self.seen.load(Ordering::Relaxed), self.thread.join().unwrap())
    }
}

/// Looks once at all processes whose home is this one, and counts them.
fn sample(home: &Path, found: &mut BTreeSet<String>) -> usize {
    let mut seen = 0;
    let its_home = format!("HOME={}", home.display());
    for process in std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path())) {
        let Ok(environment) = std::fs::read(process.join("environ")) else { continue };
        if memmem::find(&environment, its_home.as_bytes()).is_none() {
            continue;
        }
        let arguments = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&arguments).replace('\0', " ");
        seen += 1;
        find(&format!("the environment of {words}"), &environment, found);
        find(&format!("the arguments of {words}"), &arguments, found);
    }
    seen
}

/// Files of the test in the home.
const OWN: [&str; 7] = ["pw", "pw2", "input", "e.tar", "f.tar", "key", "key2"];

/// Searches all files below a folder, and their names; the kernel's log and the system's too.
fn search_files(home: &Path, found: &mut BTreeSet<String>) -> usize {
    let mut searched = 0;
    let mut folders = vec![home.to_owned()];
    folders.extend(["/var/log", "/run/log"].map(Into::into));
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            // What the test itself put there, and what was exported on purpose.
            if OWN.iter().any(|name| path == home.join(name)) {
                continue;
            }
            find(&format!("the name {}", path.display()), path.as_os_str().as_encoded_bytes(), found);
            let Ok(metadata) = path.symlink_metadata() else { continue };
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_file() {
                // A log of the system may have been rotated away.
                let Ok(data) = std::fs::read(&path) else { continue };
                find(&format!("{}", path.display()), &data, found);
                searched += 1;
            }
        }
    }
    let kernel = std::process::Command::new("dmesg").output().map(|output| output.stdout).unwrap_or_default();
    find("the kernel's log", &kernel, found);
    searched
}

/// What a user may do, in ways that work and in ways that do not. A program that is handed names or content in an argument
/// would be found by the search, so the shell reads them from files.
const SESSION: &[&str] = &[
    "tazpod --debug unlock --passphrase-file ~/pw",
    "cp -r ~/input/. ~/secrets; mkdir ~/secrets/d; cp -r ~/input/. ~/secrets/d; sync ~/secrets",
    "cd ~/secrets; python3 ~/rename.py; ls -lR",
    "tazpod --debug import ~/input --into imported; tazpod --debug import ~/input --into imported",
    "tazpod --debug export --output ~/e.tar; tazpod --debug export --output ~/e.tar",
    "tazpod --debug status; tazpod --debug status --json; tazpod --debug save; tazpod --debug doctor",
    "tazpod --debug mount d ~/m; tazpod --debug mount nothing ~/n; tazpod --debug unmount ~/m",
    "tazpod --debug passwd --passphrase-file ~/pw2 --new-passphrase-file ~/pw2",
    "tazpod --debug passwd --passphrase-file ~/pw --new-passphrase-file ~/pw2",
    "tazpod --debug lock; tazpod --debug lock --force",
    "tazpod --debug unlock --passphrase-file ~/pw; tazpod --debug export --output ~/f.tar --passphrase-file ~/pw",
    "tazpod --debug unlock --passphrase-fd 7 7< ~/pw2; tazpod --debug lock",
    "tazpod --debug unlock --passphrase-command 'cat ~/pw2'; tazpod --debug lock",
    "TAZPOD_PASSPHRASE_FILE=~/pw2 tazpod --debug unlock; tazpod --debug lock",
    "cat ~/pw2 | tazpod --debug unlock --passphrase-fd 0; tazpod --debug lock",
    "tazpod --debug import ~/e.tar --into again --passphrase-file ~/pw2",
    "tazpod --debug recovery new --output ~/key --passphrase-file ~/pw2; tazpod --debug recovery test --identity ~/key",
    "tazpod --debug unlock --identity ~/key; tazpod --debug recipient list; tazpod --debug recipient add ~/key",
    "tazpod --debug recovery new --output ~/key2 --label two --identity ~/key; tazpod --debug recovery test --identity ~/pw",
    "tazpod --debug passwd --identity ~/key2 --new-passphrase-file ~/pw2; tazpod --debug unlock --identity-fd 5 5< ~/key",
    "tazpod --debug recipient remove two --passphrase-file ~/pw2; tazpod --debug passwd --identity ~/key2; tazpod --debug lock",
    "tazpod --debug unlock --identity ~/key2; tazpod --debug lock",
    "tazpod --debug unlock --passphrase-file ~/pw2; cp -r ~/input/. ~/secrets/d; chmod 500 ~/p/.tazpod/vault",
    "cp -r ~/input/. ~/secrets; sync ~/secrets; tazpod --debug save; tazpod --debug lock; tazpod --debug lock --force",
    "chmod 700 ~/p/.tazpod/vault; tazpod --debug lock",
];

/// Gives a file an attribute, a link and another name.
const RENAME: &str = "import os
for name in filter(os.path.isfile, os.listdir()):
    os.setxattr(name, 'user.a', name.encode())
    os.symlink(name, 'link')
    os.rename(name, 'd/moved')
";

#[test]
fn nothing_secret_is_in_files_outputs_arguments_or_environments() {
    for format in FORMATS {
        let user = User::with_vault_of(format);
        user.shell_ok(&format!("umask 077; printf '%s\\n' '{OTHER_PASSPHRASE}' > pw2"));
        user.shell_ok(&format!("mkdir input; yes {CONTENT} | head -c 300k > input/{NAME}"));
        std::fs::write(user.home.join("rename.py"), RENAME).unwrap();
        let mut found = BTreeSet::new();
        let sampler = Sampler::start(&user);
        for script in SESSION {
            let (status, out, err) = user.shell(&format!("cd p; {script}"));
            assert!(!err.contains("panicked"), "{script}: {err}");
            // Whoever asked may be told a name, in a message that a file exists already; and what a key looks like.
            let told = format!("{out}{err}").replace(NAME, "").replace(&format!("{RECOVERY_KEY}…"), "");
            find(&format!("the output of {script}"), told.as_bytes(), &mut found);
            assert!(status != 101 && status < 128, "{script}: {status} {out}{err}");
        }
        let (processes, sampled) = sampler.finish();
        found.extend(sampled);
        assert!(processes > 100, "only {processes} processes were looked at");
        let searched = search_files(&user.home, &mut found);
        assert!(searched > 4, "only {searched} files were searched");
        assert!(found.is_empty(), "{found:#?}");
        let log = user.shell_ok("cat .local/state/tazpod/*/agent.log");
        assert!(log.contains("DEBUG") || log.contains("INFO") || log.contains("WARN"), "nothing was logged: {log:?}");
    }
}

#[test]
fn the_search_finds_what_is_there() {
    let user = User::new();
    user.shell_ok(&format!("mkdir -p a/b; echo {CONTENT} > a/b/file; touch a/{NAME}"));
    let mut child = user.command(&format!("TOLD='{OTHER_PASSPHRASE}' exec sleep 5 '5'")).spawn().unwrap();
    let mut found = BTreeSet::new();
    user::eventually("the environment is seen", || {
        sample(&user.home, &mut found);
        found.iter().any(|place| place.contains("the environment of sleep"))
    });
    child.kill().unwrap();
    child.wait().unwrap();
    search_files(&user.home, &mut found);
    for needle in [CONTENT, NAME] {
        assert!(found.iter().any(|place| place.contains(needle)), "{found:?}");
    }
}
