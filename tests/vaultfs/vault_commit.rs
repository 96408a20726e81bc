//! The vault's way to disk: open, edit, commit, close; one owner at a time; nobody else's work is ever overwritten.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "vault_support.rs"]
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use support::*;
use vaultfs::format::FormatError;
use vaultfs::tree::Ino;
use vaultfs::vault::{Machine, NewArchive, Rekey, Vault, VaultError, VaultOptions};

#[test]
fn what_is_written_is_there_after_reopening() {
    for scratch in scratches() {
        let vault = open(&scratch.archive);
        let folder = make_folder(vault.tree(), Ino::ROOT, ".aws");
        assert!(folder > Ino::ROOT);
        put(vault.tree(), ".aws/credentials", b"key = value\n");
        let large = noise(300_000, 7);
        put(vault.tree(), "large", &large);
        vault.close().map_err(|(_, error)| error).unwrap();

        let vault = open(&scratch.archive);
        assert_eq!(get(vault.tree(), ".aws/credentials").unwrap(), b"key = value\n");
        assert_eq!(get(vault.tree(), "large").unwrap(), large);
        assert!(!vault.committer().status().dirty);
        assert_eq!(vault.committer().status().archive_bytes, fs::metadata(&scratch.archive).unwrap().len());
        vault.close().map_err(|(_, error)| error).unwrap();
        assert_eq!(names(scratch.folder.path()), ["vault.tar.aes", "vault.tar.aes.lock"]);
        assert_eq!(fs::metadata(&scratch.archive).unwrap().permissions().mode() & 0o7777, 0o600);
    }
}

#[test]
fn creating_never_overwrites() {
    for scratch in scratches() {
        let before = fs::read(&scratch.archive).unwrap();
        let again = Vault::create(&scratch.archive, &passphrase("other"), NewArchive::V1, &Machine::default());
        assert!(matches!(again, Err(VaultError::ArchiveExists(_))), "{again:?}");
        assert_eq!(fs::read(&scratch.archive).unwrap(), before);
        let dangling = scratch.folder.path().join("dangling");
        std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
        assert!(matches!(
            Vault::create(&dangling, &passphrase("other"), NewArchive::V1, &Machine::default()),
            Err(VaultError::ArchiveExists(_))
        ));
    }
}

#[test]
fn a_second_opener_is_told_and_a_later_one_is_not() {
    for scratch in scratches() {
        let vault = open(&scratch.archive);
        assert!(matches!(try_open(&scratch.archive, &patient()), Err(VaultError::Locked(_))));
        let committer = vault.committer();
        vault.discard();
        // A handle that outlives the vault does not keep the lock.
        open(&scratch.archive).discard();
        drop(committer);
    }
}

#[test]
fn wrong_passphrases_and_damage_are_errors_that_change_nothing() {
    let scratch = scratch();
    let refused = Vault::open(&scratch.archive, passphrase("wrong"), &patient()).map(drop);
    assert!(
        matches!(refused, Err(VaultError::Format { source: FormatError::WrongPassphraseOrDamaged, .. })),
        "{refused:?}"
    );
    fs::write(&scratch.archive, b"short").unwrap();
    let refused = try_open(&scratch.archive, &patient()).map(drop);
    assert!(matches!(refused, Err(VaultError::Format { source: FormatError::Truncated { .. }, .. })), "{refused:?}");
    fs::write(&scratch.archive, [b"TAZVAULT".as_slice(), &[0; 200]].concat()).unwrap();
    let refused = try_open(&scratch.archive, &patient()).map(drop);
    assert!(matches!(refused, Err(VaultError::Format { source: FormatError::Unsupported(_), .. })), "{refused:?}");
    fs::remove_file(&scratch.archive).unwrap();
    assert!(matches!(try_open(&scratch.archive, &patient()), Err(VaultError::NoArchive(_))));
}

#[test]
fn every_commit_has_its_own_salt_and_nonce() {
    let scratch = scratch();
    let vault = open(&scratch.archive);
    let mut seen = std::collections::HashSet::new();
    for round in 0..5 {
        put(vault.tree(), "a", format!("{round}").as_bytes());
        vault.committer().commit().unwrap();
        let bytes = fs::read(&scratch.archive).unwrap();
        assert!(seen.insert(bytes[..32].to_vec()) && seen.insert(bytes[32..44].to_vec()));
    }
    vault.close().map_err(|(_, error)| error).unwrap();
}

#[test]
fn many_waiters_share_few_commits() {
    for scratch in scratches() {
        let vault = open(&scratch.archive);
        let barrier = Arc::new(Barrier::new(100));
        let threads: Vec<_> = (0..100)
            .map(|thread| {
                let (tree, committer, barrier) = (vault.tree().clone(), vault.committer(), barrier.clone());
                std::thread::spawn(move || {
                    barrier.wait();
                    let (sender, receiver) = mpsc::channel();
                    for file in 0..10 {
                        put(&tree, &format!("{thread}-{file}"), b"x");
                        let wanted = tree.revision();
                        let (sender, committer_then) = (sender.clone(), committer.clone());
                        committer.commit_then(Box::new(move |outcome| {
                            sender.send((outcome, wanted <= committer_then.durable())).unwrap();
                        }));
                    }
                    drop(sender);
                    let answers: Vec<_> = receiver.iter().collect();
                    assert_eq!(answers.len(), 10);
                    assert!(answers.iter().all(|(outcome, durable)| outcome.is_ok() && *durable));
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let commits = vault.committer().status().commits;
        assert!((1..=200).contains(&commits), "{commits} commits for 1,000 waiters");
        vault.close().map_err(|(_, error)| error).unwrap();
        assert_eq!(open(&scratch.archive).tree().usage().entries, 1000);
    }
}

#[test]
fn a_change_is_committed_within_the_delay_and_a_close_sooner() {
    for scratch in scratches() {
        let delay = VaultOptions { commit_delay: Duration::from_millis(800), ..options() };
        let vault = try_open(&scratch.archive, &delay).unwrap().0;
        let begun = Instant::now();
        put(vault.tree(), "a", b"1");
        eventually("the change is committed", || !vault.committer().status().dirty);
        assert!(begun.elapsed() >= Duration::from_millis(700), "{:?}", begun.elapsed());
        assert_eq!(vault.committer().status().commits, 1);

        let begun = Instant::now();
        put(vault.tree(), "a", b"2");
        vault.committer().commit_soon();
        eventually("the close is committed", || !vault.committer().status().dirty);
        assert!(begun.elapsed() < Duration::from_millis(600), "{:?}", begun.elapsed());
        assert_eq!(vault.committer().status().commits, 2);
        std::thread::sleep(Duration::from_millis(1000));
        assert_eq!(vault.committer().status().commits, 2, "nothing changed, nothing is written");
        vault.close().map_err(|(_, error)| error).unwrap();
    }
}

#[test]
fn an_archive_replaced_by_somebody_is_left_alone() {
    for scratch in scratches() {
        let vault = open(&scratch.archive);
        let theirs = noise(5000, 3);
        let beside = scratch.folder.path().join("theirs");
        fs::write(&beside, &theirs).unwrap();
        fs::rename(&beside, &scratch.archive).unwrap();
        refuses_to_overwrite(&scratch, vault, &theirs);
    }
}

#[test]
fn an_archive_overwritten_in_place_by_somebody_is_left_alone() {
    for scratch in scratches() {
        let vault = open(&scratch.archive);
        let theirs = noise(fs::metadata(&scratch.archive).unwrap().len() as usize, 4);
        fs::write(&scratch.archive, &theirs).unwrap();
        refuses_to_overwrite(&scratch, vault, &theirs);
    }
}

#[test]
fn an_archive_that_somebody_appended_to_is_left_alone() {
    for scratch in scratches() {
        let vault = open(&scratch.archive);
        let theirs = [fs::read(&scratch.archive).unwrap(), noise(5000, 3)].concat();
        fs::write(&scratch.archive, &theirs).unwrap();
        refuses_to_overwrite(&scratch, vault, &theirs);
    }
}

#[test]
fn an_archive_taken_away_and_another_put_in_its_place_between_two_commits_is_left_alone() {
    for scratch in scratches() {
        let vault = open(&scratch.archive);
        put(vault.tree(), "a", b"1");
        vault.committer().commit().unwrap();
        fs::remove_file(&scratch.archive).unwrap();
        let theirs = noise(70_000, 5);
        fs::write(&scratch.archive, &theirs).unwrap();
        assert!(vault.compact().is_err_and(|error| matches!(error, VaultError::ChangedElsewhere(_))));
        refuses_to_overwrite(&scratch, vault, &theirs);
    }
}

fn refuses_to_overwrite(scratch: &Scratch, vault: Vault, theirs: &[u8]) {
    put(vault.tree(), "mine", b"kept in memory");
    let error = vault.committer().commit().unwrap_err();
    assert!(matches!(*error, VaultError::ChangedElsewhere(_)), "{error:?}");
    let status = vault.committer().status();
    assert!(status.dirty && status.last_error.is_some());
    assert_eq!(fs::read(&scratch.archive).unwrap(), theirs);
    assert_eq!(get(vault.tree(), "mine").unwrap(), b"kept in memory");
    let (vault, error) = vault.close().unwrap_err();
    assert!(matches!(*error, VaultError::ChangedElsewhere(_)));
    vault.discard();
    assert_eq!(fs::read(&scratch.archive).unwrap(), theirs);
    assert_eq!(names(scratch.folder.path()), ["vault.tar.aes", "vault.tar.aes.lock"]);
}

#[test]
fn an_archive_that_was_only_touched_or_copied_back_is_still_ours() {
    for scratch in scratches() {
        let vault = open(&scratch.archive);
        fs::set_permissions(&scratch.archive, fs::Permissions::from_mode(0o640)).unwrap();
        put(vault.tree(), "a", b"1");
        vault.committer().commit().unwrap();
        let copy = scratch.folder.path().join("copy");
        fs::copy(&scratch.archive, &copy).unwrap();
        fs::rename(&copy, &scratch.archive).unwrap();
        put(vault.tree(), "a", b"2");
        vault.committer().commit().unwrap();
        vault.close().map_err(|(_, error)| error).unwrap();
        assert_eq!(get(open(&scratch.archive).tree(), "a").unwrap(), b"2");
    }
}

#[test]
fn an_archive_that_vanished_is_written_anew() {
    for scratch in scratches() {
        let vault = open(&scratch.archive);
        fs::remove_file(&scratch.archive).unwrap();
        put(vault.tree(), "a", b"1");
        vault.close().map_err(|(_, error)| error).unwrap();
        assert_eq!(get(open(&scratch.archive).tree(), "a").unwrap(), b"1");
    }
}

#[test]
fn a_symbolic_link_to_an_archive_stays_one() {
    for scratch in scratches() {
        let link = scratch.folder.path().join("link");
        std::os::unix::fs::symlink("vault.tar.aes", &link).unwrap();
        let vault = open(&link);
        assert_eq!(vault.archive(), &scratch.archive.canonicalize().unwrap());
        put(vault.tree(), "a", b"1");
        vault.close().map_err(|(_, error)| error).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(get(open(&scratch.archive).tree(), "a").unwrap(), b"1");
    }
}

#[test]
fn temporary_files_go_whatever_bears_their_process_number_now() {
    for scratch in scratches() {
        // The number of a crashed process may be a zombie's, or somebody else's by now.
        let stale = scratch.folder.path().join(format!(".vault.tar.aes.tmp-{}-99999", std::process::id()));
        let strange = scratch.folder.path().join(".vault.tar.aes.tmp-mine");
        [&stale, &strange].into_iter().for_each(|file| fs::write(file, b"x").unwrap());
        let vault = open(&scratch.archive);
        assert_eq!([&stale, &strange].map(|file| file.exists()), [false, true]);
        // Who does not get the lock takes nothing away.
        fs::write(&stale, b"x").unwrap();
        assert!(matches!(try_open(&scratch.archive, &patient()), Err(VaultError::Locked(_))));
        assert!(stale.exists());
        vault.discard();
    }
}

#[test]
fn the_passphrase_changes_only_with_the_old_one() {
    let scratch = scratch();
    let vault = open(&scratch.archive);
    put(vault.tree(), "a", b"1");
    let refused = vault.change_passphrase(&passphrase("wrong"), passphrase("new"), Rekey::NewMaster);
    assert!(matches!(refused, Err(VaultError::WrongPassphrase)), "{refused:?}");
    vault.change_passphrase(&passphrase("correct horse"), passphrase("new"), Rekey::NewMaster).unwrap();
    assert!(!vault.committer().status().dirty, "the change of passphrase was a commit");
    put(vault.tree(), "b", b"2");
    vault.close().map_err(|(_, error)| error).unwrap();
    assert!(try_open(&scratch.archive, &patient()).is_err());
    let vault = Vault::open(&scratch.archive, passphrase("new"), &patient()).unwrap().0;
    assert_eq!((get(vault.tree(), "a").unwrap(), get(vault.tree(), "b").unwrap()), (b"1".to_vec(), b"2".to_vec()));
}

#[test]
fn the_old_tools_passphrase_file_goes_with_the_next_commit() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("vault.tar.aes");
    let plain = tar_with(&[(".vault_pass", b"correct horse"), ("kept", b"yes")]);
    write_v1(&archive, &plain);
    let before = fs::metadata(&archive).unwrap().ino();
    let (vault, report) = try_open(&archive, &patient()).unwrap();
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    assert!(vault.committer().status().dirty);
    vault.close().map_err(|(_, error)| error).unwrap();
    assert_ne!(fs::metadata(&archive).unwrap().ino(), before);
    let (vault, report) = try_open(&archive, &patient()).unwrap();
    assert!(report.warnings.is_empty());
    assert_eq!((get(vault.tree(), ".vault_pass"), get(vault.tree(), "kept")), (None, Some(b"yes".to_vec())));
}

#[test]
fn an_archive_larger_than_the_limit_opens_but_does_not_grow() {
    let scratch = scratch();
    let vault = open(&scratch.archive);
    put(vault.tree(), "a", &noise(100_000, 1));
    vault.close().map_err(|(_, error)| error).unwrap();
    let small = VaultOptions { size_limit: 50_000, ..patient() };
    let vault = try_open(&scratch.archive, &small).unwrap().0;
    assert_eq!(get(vault.tree(), "a").unwrap().len(), 100_000);
    let ino = vault.tree().resolve(&path("a")).unwrap().ino;
    assert_eq!(
        vault.tree().write(ino, 100_000, &noise(9000, 2), Default::default()).unwrap_err(),
        vaultfs::tree::TreeError::NoSpace
    );
}

/// A v1 archive made in Python, so that nothing of ours is proven by itself.
fn write_v1(archive: &std::path::Path, plain: &[u8]) {
    let program = "import sys, os, gzip, hashlib\n\
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM\n\
        salt, nonce = os.urandom(32), os.urandom(12)\n\
        key = hashlib.pbkdf2_hmac('sha256', b'correct horse', salt, 100000, 32)\n\
        data = AESGCM(key).encrypt(nonce, gzip.compress(sys.stdin.buffer.read()), None)\n\
        open(sys.argv[1], 'wb').write(salt + nonce + data)\n";
    let mut python = std::process::Command::new("python3")
        .args(["-c", program])
        .arg(archive)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut python.stdin.take().unwrap(), plain).unwrap();
    assert!(python.wait().unwrap().success());
}

fn tar_with(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}
