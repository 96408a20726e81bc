//! What a vault was: log, show and restore, on a locked and on an unlocked vault.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use serde_json::Value;
use user::User;

const PW: &str = "--passphrase-file ~/pw";

/// Whether the vault is unlocked while something is tried.
const STATES: [bool; 2] = [true, false];

/// Commit 1 makes a folder of two files, 2 changes one, 3 moves the folder, 4 deletes a file, 5 makes another.
fn with_past() -> User {
    let user = User::with_vault_of("v2");
    make_past(&user);
    user
}

fn make_past(user: &User) {
    user.unlock();
    let steps = [
        "mkdir -m 750 d && echo one > d/a && echo keep > d/b && chmod 640 d/a && touch -d 2020-01-02T03:04:05.123456789Z d/a",
        "echo two > d/a",
        "mv d e",
        "rm e/a",
        "echo later > e/later",
    ];
    // A change may be a commit of its own before it is saved: each step is one rename of what was made outside.
    for step in steps {
        user.shell_ok(&format!("cd secrets && {step} && cd ~/p && tazpod save"));
    }
}

fn log(user: &User, rest: &str) -> Vec<Value> {
    let text = user.shell_ok(&format!("cd p && tazpod log --json {PW} {rest}"));
    serde_json::from_str::<Vec<Value>>(&text).unwrap()
}

/// The newest commit with a change, as JSON shows it.
fn number_of(log: &[Value], how: &str, path: &str) -> u64 {
    let has = |commit: &&Value| {
        let changes = commit["changes"].as_array().unwrap();
        changes.iter().any(|change| change["how"] == how && change["path"] == path)
    };
    log.iter().find(has).unwrap_or_else(|| panic!("{how} {path}: {log:?}"))["number"].as_u64().unwrap()
}

fn in_each_state(check: impl Fn(&User, &str)) {
    for is_unlocked in STATES {
        let user = with_past();
        if !is_unlocked {
            user.lock();
        }
        check(&user, if is_unlocked { "unlocked" } else { "locked" });
    }
}

#[test]
fn the_log_tells_what_changed_newest_first() {
    in_each_state(|user, state| {
        let commits = log(user, "");
        let numbers: Vec<u64> = commits.iter().map(|commit| commit["number"].as_u64().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] == pair[1] + 1), "{state}: {numbers:?}");
        let moved = number_of(&commits, "renamed", "e");
        assert!(number_of(&commits, "changed", "d/a") < moved, "{state}");
        assert!(number_of(&commits, "deleted", "e/a") > moved, "{state}");
        assert!(number_of(&commits, "created", "e/later") == numbers[0], "{state}");
        let oldest = commits.last().unwrap();
        assert!(oldest["oldest"] == true && oldest["number"] == 0, "{state}: {oldest}");
        assert!(commits.iter().all(|commit| commit["version"] == vaultfs::VERSION && commit["host"] != ""), "{state}");
        let text = user.shell_ok(&format!("cd p && TZ='<+0545>-5:45' tazpod log {PW}"));
        assert!(text.contains("renamed  d -> e") && text.contains("+05:45") && text.contains("the oldest"), "{text}");
        let touching = log(user, "e/a");
        assert!(touching.iter().all(|commit| commit["changes"].to_string().contains("\"e")), "{state}: {touching:?}");
        assert_eq!(number_of(&touching, "deleted", "e/a"), number_of(&commits, "deleted", "e/a"));
        assert!(log(user, "nothing").is_empty(), "{state}");
        let refused = user.shell(&format!("cd p && tazpod log {PW} ~/secrets/e"));
        assert!(refused.0 == 2 && refused.2.contains("no path within the vault"), "{refused:?}");
    });
}

#[test]
fn files_are_shown_as_they_were() {
    in_each_state(|user, state| {
        let commits = log(user, "");
        let moved = number_of(&commits, "renamed", "e");
        let show = |number: u64, path: &str| user.shell(&format!("cd p && tazpod show {PW} {number} {path}"));
        assert_eq!(show(moved, "e/a"), (0, "two\n".to_owned(), String::new()), "{state}");
        assert_eq!(show(moved - 1, "d/a").1, "two\n", "{state}");
        assert_eq!(show(moved, "e").1, "a\nb\n", "{state}");
        assert_eq!(show(moved, ".").1, "e/\n", "{state}");
        let (status, out, told) = show(moved, "d/a");
        assert!(status == 1 && out.is_empty() && told.contains("tazpod log"), "{state}: {told}");
        let (status, _, told) = show(10_000, "e/a");
        assert!(
            status == 1 && told.contains(&format!("holds is 0, the newest {}", commits[0]["number"])),
            "{state}: {told}"
        );
        user.shell_ok(&format!("cd p && tazpod compact {PW}"));
        let (status, _, told) = show(moved, "e/a");
        assert!(
            status == 1 && told.contains(&format!("holds is {0}, the newest {0}", commits[0]["number"])),
            "{state}: {told}"
        );
    });
}

#[test]
fn a_file_and_a_folder_come_back_as_they_were() {
    in_each_state(|user, state| {
        let commits = log(user, "");
        let moved = number_of(&commits, "renamed", "e");
        let created = number_of(&commits, "created", "d/a");
        let restore = |rest: &str| user.shell(&format!("cd p && tazpod restore {PW} {rest}"));
        let (status, _, told) = restore(&format!("--at {moved} e/a"));
        assert!(status == 0 && told.contains("Restored 1 entry") && !told.contains("Replaced"), "{state}: {told}");
        let (status, _, told) = restore(&format!("--at {moved} e --to f/g"));
        assert!(status == 0 && told.contains("Restored 3 entries"), "{state}: {told}");
        let (status, _, told) = restore(&format!("--at {moved} e/b --to e/later"));
        assert!(
            status == 0 && told.contains("Replaced e/later") && told.contains("until the archive is compacted"),
            "{state}: {told}"
        );
        let before = told.split("is in commit ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        let newest = log(user, "")[0]["number"].as_u64().unwrap();
        let last = number_of(&commits, "changed", "d/a");
        let exact =
            (created..=last).find(|number| user.shell(&format!("cd p && tazpod show {PW} {number} d/a")).1 == "one\n");
        // The save of the first step may have been cut in two; its last commit has the file's final attributes.
        let exact = (exact.unwrap()..last).last().unwrap_or(exact.unwrap());
        let (status, _, told) = restore(&format!("--at {exact} d --to old"));
        assert_eq!(status, 0, "{state}: {told}");
        if state == "locked" {
            user.unlock();
        }
        assert_eq!(
            user.shell_ok("cd secrets && cat e/a f/g/a f/g/b e/later old/a"),
            "two\ntwo\nkeep\nkeep\none\n",
            "{state}"
        );
        assert_eq!(
            user.shell_ok("cd secrets && stat -c %a old e && stat -c '%a %y' old/a"),
            "750\n750\n640 2020-01-02 03:04:05.123456789 +0000\n",
            "{state}"
        );
        // The way back.
        user.shell_ok(&format!("cd p && tazpod restore --at {before} e/later"));
        assert_eq!(user.shell_ok("cat secrets/e/later"), "later\n", "{state}: {before} of {newest}");
        user.lock();
        user.unlock();
        assert_eq!(user.shell_ok("cat secrets/e/later secrets/old/a"), "later\none\n", "{state}");
    });
}

#[test]
fn a_restore_that_cannot_be_changes_nothing() {
    in_each_state(|user, state| {
        let commits = log(user, "");
        let moved = number_of(&commits, "renamed", "e");
        for (rest, told) in [
            (format!("--at {moved} nothing"), "there was no /nothing"),
            (format!("--at {moved} e/b --to e"), "/e"),
            (format!("--at {moved} e --to e/b"), "/e/b"),
            (format!("--at {moved} e/b --to ../x"), "leads out"),
            ("--at 999999 e".to_owned(), "there is no commit 999999"),
        ] {
            let refused = user.shell(&format!("cd p && tazpod restore {PW} {rest}"));
            assert!((1..=2).contains(&refused.0) && refused.2.contains(told), "{state}: {rest}: {refused:?}");
        }
        assert_eq!(log(user, "").len(), commits.len(), "{state}");
    });
}

#[test]
fn a_whole_vault_comes_back_and_what_came_later_stays() {
    let user = with_past();
    let moved = number_of(&log(&user, ""), "renamed", "e");
    user.shell_ok("rm -r secrets/e && mkdir secrets/other && echo x > secrets/other/x");
    user.shell_ok(&format!("cd p && tazpod restore --at {moved} ."));
    assert_eq!(
        user.shell_ok("cd secrets && find . -type f | sort | xargs tail -n +1"),
        "==> ./e/a <==\ntwo\n\n==> ./e/b <==\nkeep\n\n==> ./other/x <==\nx\n"
    );
}

#[test]
fn what_is_open_goes_on_while_the_past_is_looked_at() {
    let user = with_past();
    user.shell_ok("head -c 20M /dev/urandom > secrets/large && cd p && tazpod compact");
    user.shell_ok("cd p && echo two > ~/secrets/x && tazpod save && echo three > ~/secrets/x && tazpod save");
    // Making a file and writing into it may be two commits.
    let created = number_of(&log(&user, ""), "created", "x");
    let is_two = |number: &u64| user.shell(&format!("cd p && tazpod show {number} x")).1 == "two\n";
    let number = (created..created + 3).find(is_two).expect("a commit holds it");
    let script = format!(
        "cd p; : > ~/failed; for i in 1 2 3 4; do
             (tazpod log > ~/log$i || echo log >> ~/failed) 2>> ~/failed &
             (tazpod show {number} x > ~/show$i || echo show >> ~/failed) 2>> ~/failed &
             (tazpod check 2> ~/check$i || cat ~/check$i >> ~/failed) &
         done
         for i in $(seq 30); do echo $i > ~/secrets/busy; tazpod save; done; wait; cat ~/show* ~/failed ~/secrets/busy"
    );
    assert_eq!(user.shell_ok(&script), "two\ntwo\ntwo\ntwo\n30\n");
    assert!(user.shell_ok("cat log1").contains("created  x"));
}

#[test]
fn version_1_keeps_no_history_and_says_so() {
    let user = User::with_vault_of("v1");
    for command in ["log", "show 0 x", "restore --at 0 x"] {
        let (status, out, told) = user.shell(&format!("cd p && tazpod {command} {PW}"));
        assert!(status == 1 && out.is_empty() && told.contains("tazpod upgrade"), "{command}: {told}");
    }
    user.unlock();
    for command in ["log", "show 0 x", "restore --at 0 x"] {
        let (status, _, told) = user.shell(&format!("cd p && tazpod {command}"));
        assert!(status == 1 && told.contains("tazpod upgrade"), "{command}: {told}");
    }
}

#[test]
fn the_wrong_passphrase_and_no_terminal_are_told_apart() {
    let user = with_past();
    user.lock();
    user.shell_ok("echo wrong > w");
    for command in ["log", "show 1 d/a", "restore --at 1 d/a", "check", "recover ~/out"] {
        let (status, out, _) = user.shell(&format!("cd p && tazpod {command} --passphrase-file ~/w"));
        assert!(status == 3 && out.is_empty(), "{command}: {status}");
        assert_eq!(user.shell(&format!("cd p && tazpod {command}")).0, 2, "{command} without a terminal");
    }
    assert!(!user.home.join("out").exists());
}

#[test]
fn an_identity_opens_wherever_a_passphrase_does() {
    let user = User::with_vault_of("v2");
    user.shell_ok("umask 077; age-keygen -o agekey 2>/dev/null; age-keygen -o other 2>/dev/null");
    user.shell_ok(&format!("age-keygen -y agekey > pub; cd p && tazpod recipient add --label laptop ~/pub {PW}"));
    // Another header writes the archive whole, and so ends its history.
    make_past(&user);
    let commits = log(&user, "");
    let moved = number_of(&commits, "renamed", "e");
    user.lock();
    let old = user.archive().with_extension("aes.v1");
    std::fs::write(&old, "old").unwrap();
    let commands = [
        "log".to_owned(),
        format!("show {moved} e/a"),
        format!("restore --at {moved} e/a"),
        "check".to_owned(),
        "upgrade --remove-old".to_owned(),
        "recover ~/out".to_owned(),
    ];
    for command in &commands {
        let refused = user.shell(&format!("cd p && tazpod {command} --identity ~/other"));
        assert!(refused.0 == 3 && refused.2.contains("laptop (age1"), "{command}: {refused:?}");
        let done = user.shell(&format!("cd p && tazpod {command} --identity ~/agekey"));
        assert_eq!(done.0, 0, "{command}: {done:?}");
    }
    assert!(!old.exists());
    let by_descriptor = user.shell_ok("cd p && tazpod log --json --identity-fd 5 5< ~/agekey");
    let newest = serde_json::from_str::<Vec<Value>>(&by_descriptor).unwrap()[0].clone();
    assert!(newest["number"].as_u64() > commits[0]["number"].as_u64(), "{newest}");
    user.shell_ok("cd p && tazpod unlock --identity ~/agekey");
    assert_eq!(user.shell_ok("cat secrets/e/a"), "two\n");
}

#[test]
fn the_old_archive_goes_only_when_the_new_one_is_sound() {
    let user = User::with_vault_of("v1");
    user.unlock();
    user.shell_ok("echo 1 > secrets/file");
    user.lock();
    let old = user.archive().with_extension("aes.v1");
    let nothing = user.shell(&format!("cd p && tazpod upgrade --remove-old {PW}"));
    assert!(nothing.0 == 1 && nothing.2.contains("nothing to be removed"), "{nothing:?}");
    user.shell_ok(&format!("cd p && tazpod upgrade {PW}"));
    let sound = std::fs::read(user.archive()).unwrap();
    let mut damaged = sound.clone();
    let last = damaged.len() - 20;
    damaged[last] ^= 1;
    std::fs::write(user.archive(), &damaged).unwrap();
    let refused = user.shell(&format!("cd p && tazpod upgrade --remove-old {PW}"));
    assert!(refused.0 == 1 && old.exists(), "{refused:?}");
    std::fs::write(user.archive(), &sound).unwrap();
    assert_eq!(user.shell("cd p && echo wrong > ~/w && tazpod upgrade --remove-old --passphrase-file ~/w").0, 3);
    assert!(old.exists());
    user.shell_ok(&format!("cd p && tazpod upgrade --remove-old {PW}"));
    assert!(!old.exists());
    user.unlock();
    assert_eq!(user.shell_ok("cat secrets/file"), "1\n");
}
