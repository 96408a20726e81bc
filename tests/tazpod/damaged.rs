//! Archives that are damaged, cut off or put back: what `check` says of them and `recover` saves, as an ordinary user.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use user::{PASSPHRASE, User, eventually, signal};

const PW: &str = "--passphrase-file ~/pw";

/// A locked vault: a checkpoint with a file, then commits that make one file each.
fn with_commits() -> User {
    let user = User::with_vault_of("v2");
    user.unlock();
    user.shell_ok("echo first > secrets/first && cd p && tazpod compact");
    for name in ["second", "third", "fourth"] {
        user.shell_ok(&format!("echo {name} > secrets/{name} && cd p && tazpod save"));
    }
    user.lock();
    user
}

/// Where segments begin, the end of the archive last.
fn borders(bytes: &[u8]) -> Vec<usize> {
    let mut at = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let mut borders = vec![at];
    while at < bytes.len() {
        assert_eq!(&bytes[at..at + 4], b"TSEG");
        at += 88 + u64::from_le_bytes(bytes[at + 80..at + 88].try_into().unwrap()) as usize;
        borders.push(at);
    }
    borders
}

fn check(user: &User) -> (i32, Value) {
    let (status, out, told) = user.shell(&format!("cd p && tazpod check --json {PW}"));
    (status, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{status} {out}{told}")))
}

/// All files below a folder with what they hold.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    all.sort();
    all
}

fn vault_folder(user: &User) -> std::path::PathBuf {
    user.archive().parent().unwrap().to_owned()
}

#[test]
fn a_sound_archive_is_told_with_its_counts_locked_and_unlocked() {
    let user = with_commits();
    let size = std::fs::metadata(user.archive()).unwrap().len();
    let (status, report) = check(&user);
    assert!(status == 0 && report["status"] == "sound" && report["format"] == "v2", "{report}");
    assert!(report["files"] == 4 && report["bytes"] == size && report["entries"] == 4, "{report}");
    let (commits, segments) = (report["commits"].as_u64().unwrap(), report["segments"].as_u64().unwrap());
    assert!(commits >= 3 && segments == commits + 1, "{report}");
    user.unlock();
    let unlocked: Value = serde_json::from_str(&user.shell_ok("cd p && tazpod check --json")).unwrap();
    assert_eq!(unlocked, report);
    let (_, out, told) = user.shell("cd p && tazpod check");
    assert!(out.is_empty() && told.contains("is sound") && told.contains("4 files"), "{told}");
    let old = User::with_vault_of("v1");
    let (status, report) = check(&old);
    assert!(status == 0 && report["status"] == "sound" && report["format"] == "v1", "{report}");
    old.unlock();
    assert_eq!(check(&old).0, 0);
}

#[test]
fn every_kind_of_damage_is_found_and_nothing_is_changed() {
    let user = with_commits();
    let sound = std::fs::read(user.archive()).unwrap();
    let borders = borders(&sound);
    let (first, second) = (borders[0], borders[1]);
    let flip = |at: usize| {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        bytes
    };
    let cases = [
        ("the header's recipients", flip(first - 40), 5, "damaged"),
        ("the header's MAC", flip(first - 1), 5, "damaged"),
        ("the header's length", flip(13), 5, "damaged"),
        ("the first segment's header", flip(first + 5), 5, "damaged"),
        ("a segment's chain", flip(second + 20), 5, "damaged"),
        ("a segment's payload", flip(second + 200), 5, "damaged"),
        ("the last byte", flip(sound.len() - 1), 5, "damaged"),
        ("a missing tail", sound[..borders[borders.len() - 2]].to_vec(), 6, "rolled-back"),
        ("a torn write", [&sound[..], b"TSEG\x02\0\0\0torn"].concat(), 0, "torn"),
    ];
    for (what, bytes, status, word) in cases {
        std::fs::write(user.archive(), &bytes).unwrap();
        let before = files(&vault_folder(&user));
        let (found, out, told) = user.shell(&format!("cd p && tazpod check --json {PW}"));
        // A flip in the slot is a passphrase that does not fit.
        if what == "the header's recipients" && found == 3 {
            continue;
        }
        let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{what}: {found} {told}"));
        assert_eq!((found, report["status"].as_str().unwrap()), (status, word), "{what}: {report}");
        if word == "damaged" {
            assert!(
                report["offset"].is_u64() && report["sequence"].is_u64() && report["reason"].is_string(),
                "{report}"
            );
            let (_, _, told) = user.shell(&format!("cd p && tazpod check {PW}"));
            assert!(told.contains("damaged at byte") && told.contains("tazpod recover"), "{what}: {told}");
        }
        assert_eq!(files(&vault_folder(&user)), before, "{what}: something was changed");
    }
    let damaged = flip(second + 200);
    std::fs::write(user.archive(), &damaged).unwrap();
    assert_eq!(check(&user).1["offset"], second);
}

#[test]
fn damage_below_an_unlocked_vault_is_found_and_compacting_heals_it() {
    let user = with_commits();
    user.unlock();
    let bytes = std::fs::read(user.archive()).unwrap();
    let at = borders(&bytes)[1] + 200;
    // As a failing disk does it: nobody wrote, and the times stay.
    let file = std::fs::OpenOptions::new().write(true).open(user.archive()).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[bytes[at] ^ 1], at as u64).unwrap();
    file.set_modified(modified).unwrap();
    let (status, out, told) = user.shell("cd p && tazpod check --json");
    assert!(status == 5 && out.contains("damaged"), "{status} {out}{told}");
    let refused = user.shell(&format!("cd p && tazpod recover ~/out {PW}"));
    assert!(refused.0 == 1 && refused.2.contains("unlocked"), "{refused:?}");
    user.shell_ok("cd p && tazpod compact && tazpod check && tazpod lock");
    user.unlock();
    assert_eq!(user.shell_ok("cat secrets/first secrets/fourth"), "first\nfourth\n");
}

#[test]
fn recover_saves_what_the_damage_did_not_reach() {
    let user = with_commits();
    let sound = std::fs::read(user.archive()).unwrap();
    let borders = borders(&sound);
    let last = borders.len() - 2;
    for (segment, in_place, salvaged) in
        [(0, vec![], vec!["fourth"]), (2, vec!["first"], vec!["fourth"]), (last, vec!["first", "second"], vec![])]
    {
        let mut bytes = sound.clone();
        bytes[borders[segment] + 300] ^= 1;
        std::fs::write(user.archive(), &bytes).unwrap();
        let before = files(&vault_folder(&user));
        let _ = std::fs::remove_file(user.home.join("out"));
        let out = user.shell_ok(&format!("cd p && tazpod recover ~/out --json {PW}"));
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(files(&vault_folder(&user)), before);
        assert!(!report["damage"].as_array().unwrap().is_empty(), "{report}");
        user.shell_ok(&format!("tazpod unlock --vault out --mount r {PW}"));
        for name in in_place {
            assert_eq!(user.shell_ok(&format!("cat r/{name}")), format!("{name}\n"), "segment {segment}: {report}");
        }
        for name in salvaged {
            assert_eq!(user.shell_ok(&format!("cat r/.tazpod-recovered/{name}")), format!("{name}\n"), "{report}");
        }
        user.shell_ok("tazpod lock --vault out");
    }
    let (status, _, told) = user.shell(&format!("cd p && tazpod recover ~/out {PW}"));
    assert!(status == 1 && told.contains("exists already"), "{told}");
}

#[test]
fn what_an_identity_recovers_opens_for_it_and_says_who_is_left_out() {
    let user = with_commits();
    user.shell_ok("umask 077; age-keygen -o agekey 2>/dev/null; age-keygen -o other 2>/dev/null");
    for key in ["agekey", "other"] {
        user.shell_ok(&format!("age-keygen -y {key} > pub; cd p && tazpod recipient add --label {key} ~/pub {PW}"));
    }
    let mut bytes = std::fs::read(user.archive()).unwrap();
    let borders = borders(&bytes);
    bytes[borders[0] + 300] ^= 1;
    std::fs::write(user.archive(), &bytes).unwrap();
    let (status, out, told) = user.shell("cd p && tazpod recover ~/out --json --identity ~/agekey");
    assert_eq!(status, 0, "{told}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert!(report["recipient"].as_str().unwrap().starts_with("agekey (age1"), "{report}");
    assert!(report["left_out"].as_array().unwrap().len() == 1 && report["passphrase_left_out"] == true, "{report}");
    assert_eq!(report["maker_unproven"], false, "this machine has seen the vault: {report}");
    assert!(told.contains("Not taken over: other (age1") && told.contains("tazpod recipient add"), "{told}");
    assert!(told.contains("It has no passphrase") && told.contains("same identity"), "{told}");
    assert_eq!(user.shell(&format!("tazpod unlock --vault out --mount r {PW}")).0, 3);
    assert_eq!(user.shell("tazpod unlock --vault out --mount r --identity ~/other").0, 3);
    // As the messages tell it.
    user.shell_ok("tazpod passwd --vault out --identity agekey --new-passphrase-file pw");
    user.shell_ok(&format!("tazpod unlock --vault out --mount r {PW} && tazpod lock --vault out"));
    let (_, _, told) = user.shell("rm -r .local/state/tazpod; cd p; tazpod recover ~/out2 --identity ~/agekey");
    assert!(told.contains("an identity cannot tell who made an archive"), "{told}");
    let (status, _, told) = user.shell(&format!("cd p && tazpod recover ~/out3 {PW}"));
    assert!(status == 0 && told.contains("same passphrase") && told.contains("Not taken over: agekey"), "{told}");
}

#[test]
fn without_the_slot_nothing_can_be_saved_and_that_is_said() {
    let user = with_commits();
    let mut bytes = std::fs::read(user.archive()).unwrap();
    bytes[100..140].fill(0);
    std::fs::write(user.archive(), &bytes).unwrap();
    let (status, _, told) = user.shell(&format!("cd p && tazpod recover ~/out {PW}"));
    assert!(status == 3 && told.contains("nothing can be saved"), "{status} {told}");
    assert!(!user.home.join("out").exists() && !user.home.join("out.lock").exists());
    let old = User::with_vault_of("v1");
    let (status, _, told) = old.shell(&format!("cd p && tazpod recover ~/out {PW}"));
    assert!(status == 5 && told.contains("version 1") && told.contains("older copy"), "{status} {told}");
}

/// A full disk is a limit on the size of files here: the same error for whoever writes.
#[test]
fn a_recovery_that_cannot_be_written_leaves_nothing() {
    let user = with_large_file();
    user.shell_ok("mkdir there");
    let script = format!("cd p && trap '' XFSZ; ulimit -f 1024; tazpod recover ~/there/out {PW}");
    let (status, _, told) = user.shell(&script);
    assert!(status == 1 && told.contains("cannot write"), "{status} {told}");
    assert_eq!(user.shell_ok("ls -A there"), "");
}

#[test]
fn an_interrupted_recovery_leaves_nothing() {
    let user = with_large_file();
    user.shell_ok("mkdir there");
    let script = format!("cd p && exec tazpod recover ~/there/out {PW}");
    let mut child = user.command(&script).spawn().unwrap();
    eventually("it writes", || !user.shell_ok("ls -A there").is_empty());
    let pid = user.processes().into_iter().next().expect("it runs");
    signal(pid, Signal::INT);
    let status = child.wait().unwrap();
    assert!(status.code() == Some(130), "{status:?}");
    assert_eq!(user.shell_ok("ls -A there"), "");
}

fn with_large_file() -> User {
    let user = User::with_vault_of("v2");
    user.unlock();
    user.shell_ok("head -c 60M /dev/urandom > secrets/large");
    user.lock();
    user
}

/// On a terminal there is a bar, and it is gone at the end.
#[test]
fn a_terminal_shows_how_far_a_check_is() {
    let user = with_large_file();
    let command = user.terminal_command("cd p && TERM=xterm tazpod check");
    let mut session = rexpect::session::spawn_command(command, Some(30_000)).unwrap();
    session.exp_string("Passphrase for").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    session.send_line(PASSPHRASE).unwrap();
    session.exp_string(" of ").unwrap();
    session.exp_string("is sound").unwrap();
    session.exp_eof().unwrap();
}
