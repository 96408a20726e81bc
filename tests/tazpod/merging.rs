//! Machines that edit one vault at once and meet in a folder: what each has afterwards, locked and unlocked.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use user::User;

/// Machines with homes of their own, and the folder where they meet.
struct Machines {
    folder: tempfile::TempDir,
    users: Vec<User>,
}

/// As many machines with one vault, locked.
fn machines(format: &str, count: usize) -> Machines {
    machines_with(format, count, "")
}

/// The same with something more in their configuration.
fn machines_with(format: &str, count: usize, more: &str) -> Machines {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let yaml = format!("remote: {{path: '{}/vault'}}\n{more}", folder.path().display());
    let configure = |user: &User| {
        fs::write(user.home.join("p/.tazpod/config.yaml"), &yaml).unwrap();
        user.shell_ok("cd p && tazpod trust --yes");
    };
    let first = User::with_vault_of(format);
    configure(&first);
    first.unlock();
    first.shell_ok("cd secrets && mkdir folder && echo 0 > both && echo 0 > folder/one && echo 0 > folder/other");
    first.shell_ok("cd p && tazpod setup-storage && tazpod push");
    first.lock();
    let mut users = vec![first];
    for _ in 1..count {
        let user = User::new();
        user.shell_ok("mkdir p && cd p && tazpod init --yes --no-vault");
        configure(&user);
        user.shell_ok("cd p && tazpod pull");
        users.push(user);
    }
    Machines { folder, users }
}

impl Machines {
    fn heads(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.folder.path().join("vault")).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("vault-")).collect()
    }

    /// All have the state of the remote. The bytes may differ where an archive was compacted.
    fn assert_equal(&self) {
        let heads = self.heads();
        assert_eq!(heads.len(), 1, "{heads:?}");
        for (number, user) in self.users.iter().enumerate() {
            let told = sync(user);
            assert!(told.contains("Nothing to synchronise"), "machine {number}: {told}");
        }
        assert_eq!(self.heads(), heads);
    }
}

/// Edits while it is unlocked, and leaves it locked.
fn edit(user: &User, script: &str) {
    user.unlock();
    user.shell_ok(&format!("cd secrets && {script}"));
    user.lock();
}

/// Synchronises, locked or not; returns what it told.
fn sync(user: &User) -> String {
    let (status, _, told) = user.shell("cd p && tazpod sync --passphrase-file ~/pw");
    assert_eq!(status, 0, "{told}");
    told
}

/// All files with their content, sorted by path, of an unlocked vault.
fn look(user: &User) -> String {
    user.shell_ok("cd secrets && find . -type f | sort | xargs -d '\\n' grep -IH . | sort")
}

fn look_locked(user: &User) -> String {
    user.unlock();
    let seen = look(user);
    user.lock();
    seen
}

#[test]
fn edits_of_two_machines_come_together_locked_and_unlocked() {
    for format in user::FORMATS {
        for unlocked in [false, true] {
            let machines = machines(format, 2);
            let [one, other] = machines.users.as_slice() else { panic!() };
            edit(one, "echo 1 > folder/one; echo new > mine; rm folder/other; echo one > both");
            edit(other, "echo 2 > folder/other; echo other > both; echo theirs > theirs");
            if unlocked {
                one.unlock();
                other.unlock();
            }
            sync(one);
            let told = sync(other);
            assert!(told.contains("both: edited on both sides") && told.contains(".tazpod-conflicts/"), "{told}");
            sync(one);
            machines.assert_equal();
            assert!(sync(one).contains("Nothing to synchronise") && sync(other).contains("Nothing to synchronise"));
            let seen = if unlocked { look(one) } else { look_locked(one) };
            assert_eq!(if unlocked { look(other) } else { look_locked(other) }, seen);
            for line in ["./both:one", "./folder/one:1", "./folder/other:2", "./mine:new", "./theirs:theirs"] {
                assert!(seen.lines().any(|seen| seen == line), "{format}: {line} in {seen}");
            }
            let copies: Vec<&str> = seen.lines().filter(|line| line.starts_with("./.tazpod-conflicts/")).collect();
            assert!(copies.len() == 1 && copies[0].ends_with("/both:other"), "{copies:?}");
            let before = other.shell_ok("ls .local/state/tazpod/*/before-*.tar.aes");
            assert_eq!(before.lines().count(), 1, "{before}");
        }
    }
}

#[test]
fn readers_of_a_mounted_vault_see_what_was_pulled() {
    let machines = machines("v2", 2);
    let [one, other] = machines.users.as_slice() else { panic!() };
    edit(one, "echo longer than before > both; rm folder/one; mkdir new; echo 1 > new/file");
    sync(one);
    other.unlock();
    // A reader that has looked at all of it and holds a file open.
    let script = "cd secrets && exec 3< both && ls -R >/dev/null && cat both folder/one >/dev/null && touch ~/looked && \
                  for _ in $(seq 400); do [ -e ~/go ] && break; sleep 0.05; done; cat <&3; cat both new/file; ls folder";
    let mut command = other.command(script);
    let reader = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    user::eventually("the reader has looked", || other.home.join("looked").exists());
    other.shell_ok("stat -c %i secrets/both > inode");
    other.shell_ok("cd p && tazpod pull && touch ~/go");
    let output = reader.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "longer than before\nlonger than before\n1\nother\n");
    assert_eq!(other.shell_ok("stat -c %i secrets/both"), other.shell_ok("cat inode"));
    machines.assert_equal();
}

#[test]
fn a_passphrase_that_was_changed_elsewhere_is_asked_for_and_nothing_is_lost() {
    for unlocked in [false, true] {
        let machines = machines("v2", 2);
        let [one, other] = machines.users.as_slice() else { panic!() };
        one.shell_ok("umask 077; echo 'quite another one' > new; cd p && tazpod passwd --passphrase-file ~/pw --new-passphrase-file ~/new");
        sync(one);
        edit(other, "echo mine > both");
        other.shell_ok("umask 077; echo 'quite another one' > new; echo wrong > wrong");
        if unlocked {
            other.unlock();
        }
        let archive = fs::read(other.archive()).unwrap();
        for flag in ["", "--remote-passphrase-file ~/wrong", "--remote-passphrase-file ~/pw"] {
            let (status, _, told) = other.shell(&format!("cd p && tazpod sync --passphrase-file ~/pw {flag}"));
            assert!(status == if flag.is_empty() { 2 } else { 3 }, "{flag}: {status} {told}");
            assert!(fs::read(other.archive()).unwrap() == archive, "{flag}");
        }
        if unlocked {
            // Whoever cannot open the vault does not put another key in its place.
            let script = "cd p && tazpod sync --passphrase-file ~/new --remote-passphrase-file ~/new";
            assert_eq!(other.shell(script).0, 3);
            assert!(fs::read(other.archive()).unwrap() == archive);
        }
        let (status, _, told) =
            other.shell("cd p && tazpod sync --passphrase-file ~/pw --remote-passphrase-file ~/new");
        assert!(status == 0 && told.contains("changed elsewhere"), "{status} {told}");
        if unlocked {
            other.lock();
        }
        assert_eq!(other.shell("cd p && tazpod unlock --passphrase-file ~/pw").0, 3);
        other.shell_ok("cd p && tazpod unlock --passphrase-file ~/new");
        assert_eq!(other.shell_ok("cat secrets/both"), "mine\n");
        one.shell_ok("cd p && tazpod sync --passphrase-file ~/new");
        machines.assert_equal();
    }
}

/// Whoever knows a recipient can make an archive of their own that its identity opens; only the passphrase proves where one comes from.
#[test]
fn an_identity_does_not_take_an_archive_under_another_key() {
    let machines = machines("v2", 2);
    let [one, other] = machines.users.as_slice() else { panic!() };
    one.shell_ok("umask 077; cd p && tazpod recovery new --output ~/key --passphrase-file ~/pw");
    sync(one);
    sync(other);
    let key = fs::read_to_string(one.home.join("key")).unwrap();
    other.shell_ok(&format!("umask 077; echo 'quite another one' > new; echo '{}' > key", key.trim()));
    one.shell_ok("umask 077; echo 'quite another one' > new");
    one.shell_ok("cd p && tazpod passwd --passphrase-file ~/pw --new-passphrase-file ~/new");
    sync(one);
    let archive = fs::read(other.archive()).unwrap();
    for unlocked in [false, true] {
        if unlocked {
            other.unlock();
        }
        let (status, _, told) = other.shell("cd p && tazpod pull --identity ~/key");
        assert!(status == 2 && told.contains("terminal"), "{status} {told}");
        assert!(fs::read(other.archive()).unwrap() == archive);
    }
    other.shell_ok("cd p && tazpod pull --identity ~/key --remote-passphrase-file ~/new");
    machines.assert_equal();
}

#[test]
fn a_passphrase_that_was_changed_here_stays_and_two_changes_are_refused() {
    for both in [false, true] {
        let machines = machines("v2", 2);
        let [one, other] = machines.users.as_slice() else { panic!() };
        edit(one, "echo theirs > both");
        let theirs = if both { "changed there" } else { user::PASSPHRASE };
        for user in [one, other] {
            user.shell_ok(&format!("umask 077; echo 'changed here' > new; echo '{theirs}' > theirs"));
        }
        if both {
            one.shell_ok("cd p && tazpod passwd --passphrase-file ~/pw --new-passphrase-file ~/theirs");
        }
        one.shell_ok("cd p && tazpod sync");
        edit(other, "echo mine > mine");
        other.shell_ok("cd p && tazpod passwd --passphrase-file ~/pw --new-passphrase-file ~/new");
        let archive = fs::read(other.archive()).unwrap();
        let (status, _, told) =
            other.shell("cd p && tazpod sync --passphrase-file ~/new --remote-passphrase-file ~/theirs");
        if both {
            // Neither opens the state that both began with.
            assert!(status == 6 && told.contains("no copy of the state that both began with"), "{status} {told}");
            assert!(fs::read(other.archive()).unwrap() == archive);
            continue;
        }
        assert_eq!(status, 0, "{told}");
        assert_eq!(other.shell("cd p && tazpod unlock --passphrase-file ~/theirs").0, 3);
        other.shell_ok("cd p && tazpod unlock --passphrase-file ~/new");
        assert_eq!(other.shell_ok("cat secrets/both secrets/mine"), "theirs\nmine\n");
        one.shell_ok("cd p && tazpod sync --passphrase-file ~/pw --remote-passphrase-file ~/new");
        machines.assert_equal();
    }
}

/// Who was removed may hold an old key that the passphrase opens too.
#[test]
fn another_key_under_the_same_passphrase_is_taken_when_that_is_accepted_only() {
    for unlocked in [false, true] {
        let machines = machines("v2", 2);
        let [one, other] = machines.users.as_slice() else { panic!() };
        one.shell_ok("umask 077; cd p && tazpod passwd --passphrase-file ~/pw --new-passphrase-file ~/pw");
        sync(one);
        edit(other, "echo mine > mine");
        if unlocked {
            other.unlock();
        }
        let archive = fs::read(other.archive()).unwrap();
        let (status, _, told) = other.shell("cd p && tazpod sync --passphrase-file ~/pw");
        assert!(status == 2 && told.contains("terminal"), "{status} {told}");
        assert!(fs::read(other.archive()).unwrap() == archive);
        other.shell_ok("cd p && tazpod sync --accept-new-key --passphrase-file ~/pw");
        sync(one);
        if unlocked {
            other.lock();
        }
        machines.assert_equal();
    }
}

#[test]
fn what_a_remote_must_not_do_is_refused_and_told() {
    let machines = machines("v2", 2);
    let [one, other] = machines.users.as_slice() else { panic!() };
    let old = (machines.heads().remove(0), fs::read(machines.heads().remove(0)).unwrap());
    edit(one, "echo 1 > both");
    sync(one);
    let local = fs::read(one.archive()).unwrap();
    let replace = |path: &std::path::Path, bytes: &[u8]| {
        machines.heads().iter().for_each(|head| fs::remove_file(head).unwrap());
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    };
    // An older state is put back.
    replace(&old.0, &old.1);
    for edited in [false, true] {
        if edited {
            edit(one, "echo 2 > both");
        }
        for command in ["pull", "sync"] {
            let (status, _, told) = one.shell(&format!("cd p && tazpod {command} --passphrase-file ~/pw"));
            assert!(status == 6 && told.contains("rolled back"), "{command}: {status} {told}");
        }
    }
    assert!(fs::read(one.archive()).unwrap().starts_with(&local) && machines.heads() == [old.0.clone()]);
    // The other machine saw nothing else and goes on.
    assert!(sync(other).contains("Nothing to synchronise"));
    // An older program puts version 1 there.
    let strange = User::with_vault_of("v1");
    let bytes = fs::read(strange.archive()).unwrap();
    let name =
        format!("vault-0-{}.tar.aes", strange.shell_ok("sha256sum p/.tazpod/vault/vault.tar.aes | cut -c-64").trim());
    replace(&old.0.with_file_name(name), &bytes);
    for command in ["pull", "sync"] {
        let (status, _, told) = one.shell(&format!("cd p && tazpod {command} --passphrase-file ~/pw"));
        assert!(status == 6 && told.contains("version 1"), "{command}: {status} {told}");
    }
}

#[test]
fn of_syncs_at_the_same_moment_all_end_well() {
    let machines = machines("v2", 3);
    machines.users.iter().for_each(User::unlock);
    for round in 0..3 {
        let begun = machines.users.iter().enumerate().map(|(number, user)| {
            user.command(&format!("echo 1 > secrets/file{round}-{number}; cd p && tazpod sync")).spawn().unwrap()
        });
        let ended: Vec<_> = begun.collect::<Vec<_>>().into_iter().map(|mut child| child.wait().unwrap()).collect();
        assert!(ended.iter().all(std::process::ExitStatus::success), "round {round}: {ended:?}");
    }
    converge(&machines);
    let seen = look(&machines.users[0]);
    assert_eq!(seen.lines().filter(|line| line.starts_with("./file")).count(), 9, "{seen}");
}

/// Where a folder has no locks, two machines that write at once leave two heads.
#[test]
fn two_heads_in_a_folder_become_one() {
    let machines = machines("v2", 2);
    let [one, other] = machines.users.as_slice() else { panic!() };
    let read = || (machines.heads().remove(0), fs::read(machines.heads().remove(0)).unwrap());
    let write = |(path, bytes): &(PathBuf, Vec<u8>)| fs::write(path, bytes).unwrap();
    let begin = read();
    edit(one, "echo 1 > mine && echo one > both");
    sync(one);
    let first = read();
    fs::remove_file(&first.0).unwrap();
    write(&begin);
    edit(other, "echo 2 > theirs && echo other > both");
    sync(other);
    write(&first);
    assert_eq!(machines.heads().len(), 2);
    let third = User::new();
    third.shell_ok("mkdir p && cd p && tazpod init --yes --no-vault");
    fs::copy(one.home.join("p/.tazpod/config.yaml"), third.home.join("p/.tazpod/config.yaml")).unwrap();
    let (status, _, told) = third.shell("cd p && tazpod trust --yes && tazpod pull");
    assert!(status == 6 && told.contains("tazpod sync"), "{status} {told}");
    sync(one);
    converge(&machines);
    let seen = look_locked(one);
    assert_eq!(look_locked(other), seen);
    for line in ["./mine:1", "./theirs:2"] {
        assert!(seen.lines().any(|seen| seen == line), "{line} in {seen}");
    }
    assert_eq!(seen.lines().filter(|line| line.contains("/both:") || line.contains("./both:")).count(), 2, "{seen}");
}

/// A number from the environment, for long runs.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// SplitMix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((number ^ (number >> 31)) % limit as u64).unwrap()
    }
}

/// All synchronise until they are the same: once to send what each has, once to get it.
fn converge(machines: &Machines) {
    for _ in 0..2 {
        machines.users.iter().for_each(|user| drop(sync(user)));
    }
    machines.assert_equal();
}

#[test]
fn a_sync_that_was_killed_is_caught_up_by_the_next() {
    let machines = machines("v2", 2);
    let [one, other] = machines.users.as_slice() else { panic!() };
    other.unlock();
    for round in 0..setting("TAZPOD_ROUNDS", 4) {
        other.shell_ok(&format!("cd secrets && echo other >> both && echo 1 > other{round}"));
        edit(one, &format!("echo one >> both && echo 1 > one{round} && head -c 300000 /dev/urandom > large{round}"));
        for (user, millis) in [(one, round * 389 % 700), (other, round * 577 % 300)] {
            let seconds = format!("0.{millis:03}");
            user.shell(&format!("cd p && timeout -s KILL {seconds} tazpod sync --passphrase-file ~/pw"));
        }
        converge(&machines);
        let seen = look(other);
        for name in (0..=round).flat_map(|round| [format!("./one{round}:1"), format!("./other{round}:1")]) {
            assert!(seen.lines().any(|line| line == name), "round {round}: {name} in {seen}");
        }
    }
    let seen = look(other);
    let lines = |what: &str| seen.lines().filter(|line| line.ends_with(what)).count() as u64;
    assert!(lines(":one") >= setting("TAZPOD_ROUNDS", 4) && lines(":other") >= setting("TAZPOD_ROUNDS", 4), "{seen}");
}

/// What eight machines did.
struct Story {
    /// Whether the folder where they meet is away.
    is_away: bool,
    /// Lines that were acknowledged by fsync, and that nobody deleted who saw them.
    kept: std::collections::BTreeSet<String>,
    log: Vec<String>,
}

const FILES: &[&str] = &["a", "b", "folder/c", "folder/d"];

impl Story {
    fn step(&mut self, machines: &Machines, random: &mut Random, number: usize) {
        let at = random.below(machines.users.len());
        let (user, name) = (&machines.users[at], FILES[random.below(FILES.len())]);
        let action = random.below(13);
        // What a command may end with.
        let (done, conflict) = if self.is_away { ([7, 7], [7, 7]) } else { ([0, 0], [0, 6]) };
        let run = |command: &str, allowed: [i32; 2]| {
            let (status, _, told) = user.shell(&format!("cd p && tazpod {command}"));
            assert!(allowed.contains(&status), "step {number}: {command}: {status} {told}");
        };
        self.log.push(format!("step {number}: machine {at}, action {action}, file {name}"));
        match action {
            0..6 => {
                let line = format!("line-{number}-{at}");
                // What came on its own may have taken the file's name away meanwhile: then nothing was acknowledged.
                let script = format!("cd secrets && mkdir -p folder && echo {line} >> {name} && sync {name}");
                if user.shell(&script).0 == 0 {
                    self.kept.insert(line);
                }
            }
            // Between a look and a deletion nothing comes on its own.
            6 if at % 2 == 1 => {
                let seen = user.shell(&format!("cd secrets && cat {name} && rm {name}")).1;
                self.kept.retain(|line| !seen.lines().any(|seen| seen == line));
            }
            6 | 7 => drop(user.shell(&format!("cd secrets && mv {name} moved-{number}"))),
            8 => drop(user.shell(&format!("cd p && timeout -s KILL 0.{:03} tazpod sync", random.below(200)))),
            9 => run("push", conflict),
            10 => run("pull", done),
            11 => self.come_or_go(machines),
            _ => run("sync", done),
        }
    }

    /// The folder goes away, or comes back.
    fn come_or_go(&mut self, machines: &Machines) {
        let (here, away) = (machines.folder.path().join("vault"), machines.folder.path().join("away"));
        let (from, to) = if self.is_away { (away, here) } else { (here, away) };
        fs::rename(from, to).unwrap();
        self.is_away = !self.is_away;
    }
}

/// Every second machine synchronises on its own, and often.
fn unlock_all(machines: &Machines) {
    for (number, user) in machines.users.iter().enumerate() {
        let switch = if number % 2 == 0 { "on" } else { "off" };
        user.shell_ok(&format!("cd p && TAZPOD_SYNC={switch} tazpod unlock --passphrase-file ~/pw"));
    }
}

/// At every copy the history opens as far back as it goes, and the archive is sound.
fn assert_sound(machines: &Machines) {
    for (number, user) in machines.users.iter().enumerate() {
        user.shell_ok("cd p && tazpod check");
        let log: serde_json::Value = serde_json::from_str(&user.shell_ok("cd p && tazpod log --json")).unwrap();
        for commit in log.as_array().unwrap() {
            let (status, _, told) = user.shell(&format!("cd p && tazpod show {} ''", commit["number"]));
            assert_eq!(status, 0, "machine {number}, commit {}: {told}", commit["number"]);
        }
    }
}

/// As many seeds and steps as are wanted, in `scripts/soak`.
#[test]
fn machines_that_do_anything_come_to_the_same_and_lose_nothing() {
    let first = setting("TAZPOD_SEED", 1);
    (first..first + setting("TAZPOD_MACHINE_SEEDS", 1)).for_each(eight_machines);
}

#[test]
fn eight_machines_lose_nothing_with_seed_2() {
    eight_machines(2);
}

#[test]
fn eight_machines_lose_nothing_with_seed_3() {
    eight_machines(3);
}

/// Eight machines edit, push, pull, stay away and are killed, half of them synchronise on their own, and the folder where they meet is
/// away at times: at the end all have the same, and nothing is lost.
fn eight_machines(seed: u64) {
    let machines = machines_with("v2", 8, "sync: {quiet: 300ms, every: 2s}\n");
    unlock_all(&machines);
    let (mut random, mut story) = (Random(seed), Story { is_away: false, kept: Default::default(), log: Vec::new() });
    for number in 0..usize::try_from(setting("TAZPOD_MACHINE_STEPS", 300)).unwrap() {
        story.step(&machines, &mut random, number);
    }
    if story.is_away {
        story.come_or_go(&machines);
    }
    converge(&machines);
    let seen: Vec<String> = machines.users.iter().map(look).collect();
    assert!(seen.iter().all(|other| *other == seen[0]), "seed {seed}: {:#?}", story.log);
    let lost: Vec<&String> =
        story.kept.iter().filter(|line| !seen[0].lines().any(|seen| seen.ends_with(&format!(":{line}")))).collect();
    assert!(lost.is_empty(), "seed {seed}: {lost:?} are lost\n{:#?}\n{}", story.log, seen[0]);
    assert_sound(&machines);
}
