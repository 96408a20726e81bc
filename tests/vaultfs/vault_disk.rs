//! The vault on disks that are full, read-only or taken away by SIGKILL in the middle. Needs root for small file systems.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "vault_support.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::archive_format::{FORMATS, Format};
use support::*;
use vaultfs::format::ReadWarning;
use vaultfs::vault::{Machine, NewArchive, Rekey, Vault, VaultError, VaultOptions};

const ARCHIVE_OF_CHILD: &str = "VAULT_TEST_ARCHIVE";

#[test]
fn nothing_acknowledged_is_lost_when_the_writer_is_killed() {
    for scratch in scratches() {
        let mut acknowledged = 0;
        for round in 0..8u64 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "child_that_writes_until_it_is_killed", "--ignored", "--nocapture"])
                .env(ARCHIVE_OF_CHILD, &scratch.archive)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let output = BufReader::new(child.stdout.take().unwrap());
            let killer = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(400 + round * 137 % 500));
                child.kill().unwrap();
                child.wait().unwrap();
            });
            let acknowledgements: Vec<u64> = output
                .lines()
                .map_while(Result::ok)
                .filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok())
                .collect();
            killer.join().unwrap();
            acknowledged = acknowledgements.last().copied().unwrap_or(acknowledged);

            let vault = open(&scratch.archive);
            let read =
                |name| get(vault.tree(), name).map_or(0, |text| String::from_utf8(text).unwrap().parse().unwrap());
            let (first, second): (u64, u64) = (read("first"), read("second"));
            assert!(second >= acknowledged, "round {round}: {second} is older than {acknowledged}");
            assert!(first == second || first == second + 1, "round {round}: {first} was written before {second}");
            vault.discard();
            let left = names(scratch.folder.path());
            assert_eq!(left, ["vault.tar.aes", "vault.tar.aes.lock"], "round {round}");
        }
        assert!(acknowledged > 20, "the child did next to nothing: {acknowledged}");
    }
}

#[test]
#[ignore = "run by nothing_acknowledged_is_lost_when_the_writer_is_killed"]
fn child_that_writes_until_it_is_killed() {
    let Some(archive) = std::env::var_os(ARCHIVE_OF_CHILD) else { return };
    let options = VaultOptions { commit_delay: Duration::from_millis(1), ..options() };
    let vault = try_open(Path::new(&archive), &options).unwrap().0;
    let begun = get(vault.tree(), "first").map_or(0, |text| String::from_utf8(text).unwrap().parse().unwrap());
    // Renamed into place, so that there is no moment with an empty file.
    let replace = |name: &str, value: u64| {
        put(vault.tree(), "new", value.to_string().as_bytes());
        let root = vaultfs::tree::Ino::ROOT;
        vault.tree().rename(root, b"new", root, name.as_bytes(), vaultfs::tree::RenameMode::Replace).unwrap();
    };
    for value in begun + 1.. {
        replace("first", value);
        replace("second", value);
        vault.committer().commit().unwrap();
        let mut output = std::io::stdout();
        writeln!(output, "acknowledged {value}").and_then(|()| output.flush()).unwrap();
    }
}

#[test]
fn a_full_tmpfs_is_reported_and_recovered_from() {
    for format in FORMATS {
        let disk = SmallDisk::tmpfs("1m");
        full_disk(disk.path(), format);
    }
}

#[test]
fn a_full_ext4_is_reported_and_recovered_from() {
    for format in FORMATS {
        let images = tempfile::tempdir().unwrap();
        let disk = SmallDisk::ext4(2, &images.path().join("disk"));
        full_disk(disk.path(), format);
    }
}

fn full_disk(folder: &Path, format: Format) {
    let archive = folder.join("vault.tar.aes");
    format.create(&archive, &passphrase("correct horse"));
    let vault = try_open(&archive, &options()).unwrap().0;
    put(vault.tree(), "old", &noise(50_000, 1));
    vault.committer().commit().unwrap();
    let before = fs::read(&archive).unwrap();
    let filler = folder.join("filler");
    let filled = fill(&filler);
    assert!(filled > 100_000, "the disk took {filled} bytes");

    put(vault.tree(), "new", b"must not be lost");
    let error = vault.committer().commit().unwrap_err();
    assert!(
        matches!(&*error, VaultError::Io { source, .. } if source.raw_os_error() == Some(28)),
        "not 'no space left': {error:?}"
    );
    let status = vault.committer().status();
    assert!(status.dirty && status.last_error.is_some());
    assert_eq!(fs::read(&archive).unwrap(), before, "the old archive stays whole");
    assert_eq!(names(folder).iter().filter(|name| name.contains(".tmp-")).count(), 0);
    let refused = vault.change_passphrase(&passphrase("correct horse"), passphrase("other"), Rekey::NewMaster);
    assert!(matches!(refused, Err(VaultError::Io { .. })), "{refused:?}");
    let refused = vault.compact();
    assert!(matches!(refused, Err(VaultError::Io { .. })), "{refused:?}");
    let (vault, _) = vault.close().unwrap_err();
    assert_eq!(get(vault.tree(), "new").unwrap(), b"must not be lost");

    fs::remove_file(&filler).unwrap();
    eventually("it commits by itself", || !vault.committer().status().dirty);
    assert!(vault.committer().status().last_error.is_none());
    vault.discard();
    let vault = open(&archive);
    assert_eq!(get(vault.tree(), "new").unwrap(), b"must not be lost");
    assert_eq!(get(vault.tree(), "old").unwrap(), noise(50_000, 1));
    vault.discard();
}

/// Writes until nothing fits any more.
fn fill(path: &Path) -> u64 {
    let mut file = fs::File::create(path).unwrap();
    let piece = noise(4096, 9);
    while file.write_all(&piece).is_ok() {}
    let _ = file.sync_all();
    file.metadata().unwrap().len()
}

#[test]
fn failures_do_not_spin() {
    for format in FORMATS {
        let disk = SmallDisk::tmpfs("1m");
        let archive = disk.path().join("vault.tar.aes");
        format.create(&archive, &passphrase("correct horse"));
        let vault = try_open(&archive, &options()).unwrap().0;
        fill(&disk.path().join("filler"));
        put(vault.tree(), "new", b"x");
        assert!(vault.committer().commit().is_err());
        let before = cpu_time();
        std::thread::sleep(Duration::from_millis(1500));
        let used = cpu_time() - before;
        assert!(used < Duration::from_millis(700), "{used:?} of processor time while the disk is full");
        // Asking tries at once, whatever the pause.
        let begun = Instant::now();
        assert!(vault.committer().commit().is_err());
        assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
        vault.discard();
    }
}

fn cpu_time() -> Duration {
    let usage = fs::read_to_string("/proc/thread-self/../../stat").unwrap();
    let fields: Vec<&str> = usage.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[test]
fn a_read_only_medium_is_opened_read_only() {
    for format in FORMATS {
        let disk = SmallDisk::tmpfs("1m");
        let archive = disk.path().join("vault.tar.aes");
        format.create(&archive, &passphrase("correct horse"));
        let vault = open(&archive);
        put(vault.tree(), "a", b"1");
        vault.close().map_err(|(_, error)| error).unwrap();
        disk.remount_read_only();

        let (vault, report) = try_open(&archive, &options()).unwrap();
        assert!(report.read_only);
        assert_eq!(get(vault.tree(), "a").unwrap(), b"1");
        assert!(vault.committer().commit().is_ok(), "there is nothing to commit");
        put(vault.tree(), "b", b"2");
        let error = vault.committer().commit().unwrap_err();
        assert!(matches!(*error, VaultError::ReadOnly(_)), "{error:?}");
        let created = Vault::create(&disk.path().join("other"), &passphrase("p"), NewArchive::V1, &Machine::default());
        assert!(matches!(created, Err(VaultError::ReadOnly(_))), "{created:?}");
        vault.discard();
    }
}

/// Makes the deltas of a version 2 archive outweigh what a compaction asks for.
fn grow(vault: &Vault) {
    for round in 0..6 {
        put(vault.tree(), "large", &noise(400_000, round));
        vault.committer().commit().unwrap();
    }
}

#[test]
fn a_disk_without_room_for_a_compaction_is_no_reason_to_stop() {
    let disk = SmallDisk::tmpfs("4m");
    let archive = disk.path().join("vault.tar.aes");
    Format::V2.create(&archive, &passphrase("correct horse"));
    let vault = try_open(&archive, &options()).unwrap().0;
    // The new file finds no room beside the old one, whether it is due or asked for.
    grow(&vault);
    let filler = disk.path().join("filler");
    let _ = fill(&filler);
    let before = fs::read(&archive).unwrap();
    let refused = vault.compact();
    assert!(matches!(refused, Err(VaultError::Io { .. })), "{refused:?}");
    assert_eq!(fs::read(&archive).unwrap(), before);
    assert_eq!(names(disk.path()).iter().filter(|name| name.contains(".tmp-")).count(), 0);
    fs::remove_file(&filler).unwrap();
    put(vault.tree(), "small", b"1");
    vault.committer().commit().unwrap();
    vault.compact().unwrap();
    assert!(fs::metadata(&archive).unwrap().len() < 500_000);
    vault.close().map_err(|(_, error)| error).unwrap();
    let vault = open(&archive);
    assert_eq!(
        (get(vault.tree(), "small").unwrap(), get(vault.tree(), "large").unwrap()),
        (b"1".to_vec(), noise(400_000, 5))
    );
}

#[test]
fn a_full_disk_under_the_witness_is_told_and_costs_no_commit() {
    let (scratch, disk) = (scratch_of(Format::V2), SmallDisk::tmpfs("64k"));
    let filler = disk.path().join("filler");
    fill(&filler);
    let witnessed = VaultOptions { witness: Some(disk.path().join("head")), ..patient() };
    let warnings = |expected: usize| {
        let (vault, report) = try_open(&scratch.archive, &witnessed).unwrap();
        let told = report.warnings.iter().filter(|warning| matches!(warning, ReadWarning::NoWitness { .. })).count();
        assert_eq!((told, report.warnings.len()), (expected, expected), "{:?}", report.warnings);
        vault
    };
    let vault = warnings(1);
    put(vault.tree(), "a", b"1");
    vault.committer().commit().unwrap();
    vault.change_passphrase(&passphrase("correct horse"), passphrase("correct horse"), Rekey::NewMaster).unwrap();
    vault.close().map_err(|(_, error)| error).unwrap();
    let vault = warnings(1);
    assert_eq!(get(vault.tree(), "a").unwrap(), b"1");
    fs::remove_file(&filler).unwrap();
    // From now on it can be noted down.
    put(vault.tree(), "a", b"2");
    vault.close().map_err(|(_, error)| error).unwrap();
    let older = fs::read(&scratch.archive).unwrap();
    let vault = warnings(0);
    put(vault.tree(), "a", b"3");
    vault.close().map_err(|(_, error)| error).unwrap();
    fs::write(&scratch.archive, older).unwrap();
    let refused = try_open(&scratch.archive, &witnessed).map(drop);
    assert!(matches!(refused, Err(VaultError::Format { .. })), "{refused:?}");
}
