//! Archives of version 2 read by `read_v2.py`, which was written from docs/FORMAT.md alone: it finds what the library shows after
//! every kind of change, and refuses what was changed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "every_change.rs"]
mod every_change;
#[path = "golden_v2.rs"]
mod golden;
#[path = "python_reader.rs"]
mod python;
#[path = "vault_support.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use every_change::STEPS;
use python::{assert_same, entries, run, segments};
use serde_json::Value;
use support::*;
use vaultfs::crypto::{Identity, KdfCost, Recipient, Suite};
use vaultfs::format::ReadWarning;
use vaultfs::vault::{KeyChange, Machine, NewArchive, NewRecipient, Rekey, Secret, Vault};

const PASSPHRASE: &str = "correct horse";
const BIG: usize = 3 << 20;

fn create(suite: Suite) -> Scratch {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("vault.tar.aes");
    let cost = KdfCost { memory_kib: 64, passes: 1, lanes: 1 };
    Vault::create(&archive, &passphrase(PASSPHRASE), NewArchive::V2 { suite, cost }, &Machine::default()).unwrap();
    Scratch { folder, archive }
}

/// Commits, and compares what the reader finds with the tree.
fn commit_and_compare(vault: &Vault, when: &str) {
    vault.committer().commit().unwrap();
    assert_same(vault.tree(), &entries(vault.archive(), PASSPHRASE), when);
}

fn every_change_is_read(suite: Suite) {
    let scratch = create(suite);
    let vault = open(&scratch.archive);
    commit_and_compare(&vault, "empty");
    for (what, change) in STEPS {
        change(vault.tree(), BIG);
        commit_and_compare(&vault, what);
    }
    vault.close().map_err(|(_, error)| error).unwrap();
    let vault = open(&scratch.archive);
    commit_and_compare(&vault, "opened again");
}

#[test]
fn every_change_sealed_with_aes_gcm_is_read() {
    every_change_is_read(Suite::Aes256Gcm);
}

#[test]
fn every_change_sealed_with_chacha20_poly1305_is_read() {
    every_change_is_read(Suite::ChaCha20Poly1305);
}

/// All steps, small enough that no compaction begins by itself.
fn changed_vault(archive: &Path) -> Vault {
    let vault = open(archive);
    for (_, change) in STEPS {
        change(vault.tree(), 30_000);
        vault.note_shared(vault.head().unwrap());
        vault.committer().commit().unwrap();
    }
    vault
}

#[test]
fn a_compacted_archive_is_read_and_has_the_same_head() {
    let scratch = create(Suite::Aes256Gcm);
    let vault = changed_vault(&scratch.archive);
    let before = segments(&scratch.archive, PASSPHRASE);
    assert_eq!(before.len(), 1 + STEPS.len());
    for encoding in ["data 0", "data 1"] {
        assert!(before.iter().any(|segment| segment["records"][encoding].is_u64()), "{encoding} does not occur");
    }
    vault.compact().unwrap();
    let after = segments(&scratch.archive, PASSPHRASE);
    assert_eq!(after.len(), 1);
    assert_eq!(after[0]["kind"], "checkpoint");
    for segment in before[1..].iter().chain(&after) {
        assert_eq!(segment["records"]["shared"], 1);
    }
    for field in ["number", "chain"] {
        assert_eq!(after[0][field], before.last().unwrap()[field]);
    }
    commit_and_compare(&vault, "compacted");
    put(vault.tree(), "later", b"after the compaction");
    commit_and_compare(&vault, "changed after the compaction");
    assert_eq!(segments(&scratch.archive, PASSPHRASE).len(), 2);
}

#[test]
fn archives_under_a_changed_passphrase_are_read() {
    for rekey in [Rekey::KeepMaster, Rekey::NewMaster] {
        let scratch = create(Suite::ChaCha20Poly1305);
        let vault = changed_vault(&scratch.archive);
        vault.change_passphrase(&passphrase(PASSPHRASE), passphrase("staple"), rekey).unwrap();
        assert_eq!(run(&[], &scratch.archive, PASSPHRASE).status.code(), Some(3), "the old passphrase");
        assert_same(vault.tree(), &entries(&scratch.archive, "staple"), "under another passphrase");
        put(vault.tree(), "later", b"under another passphrase");
        vault.committer().commit().unwrap();
        assert_same(vault.tree(), &entries(&scratch.archive, "staple"), "changed under another passphrase");
    }
}

/// Runs a program that must succeed.
fn program(name: &str, arguments: &[&str]) {
    let output = Command::new(name).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes a key with Debian's programs; returns the private file and the recipient.
fn make_key(folder: &Path, kind: &str) -> (PathBuf, Recipient) {
    let path = folder.join(kind);
    let file = path.to_str().unwrap();
    let public = if kind == "age" {
        program("age-keygen", &["-o", file]);
        let output = Command::new("age-keygen").args(["-y", file]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    } else {
        program("ssh-keygen", &["-q", "-t", kind, "-b", "2048", "-N", "", "-C", "a comment", "-f", file]);
        std::fs::read_to_string(path.with_extension("pub")).unwrap()
    };
    (path, Recipient::parse(&public).unwrap())
}

/// That the program `age` opens the slots proves that they are what the format says, and that a recovery key needs nothing of ours.
fn recipients_are_read(suite: Suite) {
    let scratch = create(suite);
    let vault = changed_vault(&scratch.archive);
    let proof = || Secret::Passphrase(passphrase(PASSPHRASE));
    let keys = ["age", "ed25519", "rsa"].map(|kind| make_key(scratch.folder.path(), kind));
    let recovery = Identity::generate().unwrap();
    let recovery_file = scratch.folder.path().join("recovery");
    recovery.expose(|text| std::fs::write(&recovery_file, text)).unwrap();
    let recovery = (recovery_file, Recipient::parse(&recovery.recipients()[0]).unwrap());
    for (path, recipient) in keys.iter().chain([&recovery]) {
        let label = path.file_name().unwrap().to_str().unwrap();
        let added = NewRecipient::new(label, recipient.clone()).unwrap();
        vault.change_keys(&proof(), KeyChange::AddRecipient(added)).unwrap();
    }
    let read_by_all = |when: &str| {
        for (path, _) in keys.iter().chain([&recovery]) {
            assert_same(vault.tree(), &python::entries_as(path, &scratch.archive), when);
        }
        assert_same(vault.tree(), &entries(&scratch.archive, PASSPHRASE), when);
    };
    read_by_all("with recipients");
    vault.change_passphrase(&passphrase(PASSPHRASE), passphrase(PASSPHRASE), Rekey::NewMaster).unwrap();
    put(vault.tree(), "later", b"under another master");
    vault.committer().commit().unwrap();
    read_by_all("under another master");
    vault.change_keys(&proof(), KeyChange::RemoveRecipient("ed25519".to_owned())).unwrap();
    let removed = run(&["--identity", keys[1].0.to_str().unwrap()], &scratch.archive, "");
    assert_eq!(removed.status.code(), Some(3), "{removed:?}");
    assert_same(vault.tree(), &python::entries_as(&keys[0].0, &scratch.archive), "one was removed");
    // And the other way round: the library opens with the keys that Debian's programs made.
    let tree = python::listing(vault.tree());
    vault.close().map_err(|(_, error)| error).unwrap();
    for (path, _) in [&keys[0], &keys[2], &recovery] {
        let identity = Identity::new(std::fs::read(path).unwrap().into()).unwrap();
        let (vault, report) = Vault::open_with(&scratch.archive, Secret::Identity(identity), &options()).unwrap();
        assert_eq!(python::listing(vault.tree()), tree);
        assert_eq!(report.warnings, [ReadWarning::UnprovenMaker], "there is no witness");
    }
}

#[test]
fn archives_sealed_with_aes_gcm_are_read_by_their_recipients() {
    recipients_are_read(Suite::Aes256Gcm);
}

#[test]
fn archives_sealed_with_chacha20_poly1305_are_read_by_their_recipients() {
    recipients_are_read(Suite::ChaCha20Poly1305);
}

/// A small archive, not open, and where its segments begin and end.
fn small_archive() -> (Scratch, Vec<u8>, Vec<usize>) {
    let scratch = create(Suite::Aes256Gcm);
    let vault = open(&scratch.archive);
    for name in ["one", "two", "three"] {
        put(vault.tree(), name, name.as_bytes());
        vault.committer().commit().unwrap();
    }
    vault.close().map_err(|(_, error)| error).unwrap();
    let bytes = std::fs::read(&scratch.archive).unwrap();
    let offset = |segment: &Value| segment["offset"].as_u64().unwrap() as usize;
    let mut borders: Vec<_> = segments(&scratch.archive, PASSPHRASE).iter().map(offset).collect();
    borders.push(bytes.len());
    assert_eq!(borders.len(), 5);
    (scratch, bytes, borders)
}

/// Has the reader read variants of an archive in one process, and returns which of them it takes.
fn taken(variant: &str, places: &str, archive: &Path) -> Vec<usize> {
    let program = format!(
        "import sys; sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True; import read_v2
archive = open(sys.argv[2], 'rb').read()
for at in {places}:
    try: read_v2.read({variant}, sys.argv[3].encode())
    except (read_v2.Refused, read_v2.WrongPassphrase): continue
    print(at)"
    );
    let output = Command::new("python3")
        .args(["-c", &program])
        .arg(python::folder())
        .arg(archive)
        .arg(PASSPHRASE)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn a_flipped_bit_is_refused_everywhere() {
    let (scratch, bytes, borders) = small_archive();
    // All of the header and of the last segment's header; every 17th byte elsewhere.
    let places = format!(
        "[*range({}), *range({}, {}), *range({}, {}, 17)]",
        borders[0],
        borders[3],
        borders[3] + 88,
        borders[0],
        bytes.len()
    );
    let flipped = "archive[:at] + bytes([archive[at] ^ 1 << at % 8]) + archive[at + 1:]";
    assert_eq!(taken(flipped, &places, &scratch.archive), [0; 0]);
}

/// Only a witness tells a cut between segments from an older archive.
#[test]
fn a_cut_is_refused_but_between_segments() {
    let (scratch, bytes, borders) = small_archive();
    let places = format!("sorted({{*range(0, {}, 13), *{:?}}})", bytes.len(), &borders[..]);
    assert_eq!(taken("archive[:at]", &places, &scratch.archive), borders[1..]);
}

fn refused(scratch: &Scratch, bytes: &[u8], status: i32, message: &str) {
    std::fs::write(&scratch.archive, bytes).unwrap();
    let output = run(&[], &scratch.archive, PASSPHRASE);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(status), 0), "{told}");
    assert!(told.contains(message), "{told}");
}

#[test]
fn segments_that_are_swapped_left_out_or_there_twice_are_refused() {
    let (scratch, bytes, borders) = small_archive();
    let order = |numbers: &[usize]| {
        let segments = numbers.iter().map(|number| &bytes[borders[*number]..borders[number + 1]]);
        segments.fold(bytes[..borders[0]].to_vec(), |archive, segment| [&archive, segment].concat())
    };
    assert_eq!(order(&[0, 1, 2, 3]), bytes);
    refused(&scratch, &order(&[0, 2, 1, 3]), 5, "has number 2 and follows number 0");
    refused(&scratch, &order(&[0, 1, 3]), 5, "has number 3 and follows number 1");
    refused(&scratch, &order(&[0, 1, 1, 2, 3]), 5, "has number 1 and follows number 1");
    refused(&scratch, &order(&[0, 1, 2, 0]), 5, "is a checkpoint and not the first");
    refused(&scratch, &order(&[1, 2, 3]), 5, "is the first and no checkpoint");
    refused(&scratch, &order(&[]), 5, "there is no segment");
}

#[test]
fn what_is_wrong_or_unknown_is_named() {
    let (scratch, bytes, borders) = small_archive();
    let output = run(&[], &scratch.archive, "another passphrase");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let with = |offset: usize, byte: u8| {
        let mut changed = bytes.clone();
        changed[offset] = byte;
        changed
    };
    refused(&scratch, &with(8, 3), 5, "version 3 is unknown");
    refused(&scratch, &with(10, 9), 5, "suite 9 is unknown");
    refused(&scratch, &with(33, 7), 5, "slot kind 7 is unknown");
    refused(&scratch, &with(32, 0), 5, "there cannot be 0 slots");
    refused(&scratch, &with(39, 1), 5, "KiB of memory");
    refused(&scratch, &with(borders[1] + 4, 3), 5, "segment kind 3 is unknown");
    refused(&scratch, &with(borders[1] + 100, bytes[borders[1] + 100] ^ 1), 5, "chunk 0 was changed");
    refused(&scratch, &bytes[..bytes.len() - 1], 5, "is cut short");
}
