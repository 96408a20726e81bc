//! Archives on a disk that fails, is cut off, and is tampered with.

mod crash;
mod damage;
mod disk;
mod file;
mod log;
mod recipients;
mod recovery;
mod recovery_keys;
mod shared;
mod unique;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::creation::Begun;
use super::*;
use crate::crypto::{KdfCost, Passphrase, Suite, random};
use crate::entry::{Entry, EntryPath};
use crate::format::FormatError;
use crate::format::v2::MachineId;
use crate::tree::{Ino, NewKind, NewNode, Owner, RenameMode, TreeError, WriteOptions, XattrMode};
use crate::vault::{Rekey, VaultOptions, new_tree};

use disk::{ARCHIVE, Disk, DiskStore, Files};

const OWNER: Owner = Owner { uid: 1, gid: 1 };
/// What a test can afford.
const CHEAP: KdfCost = KdfCost { memory_kib: 8, passes: 1, lanes: 1 };

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}

fn machine(byte: u8) -> Machine {
    Machine { id: MachineId([byte; 16]), host: format!("host-{byte}") }
}

fn empty_tree() -> Tree {
    new_tree(&VaultOptions::new(OWNER, 64 << 20, Duration::ZERO)).unwrap()
}

/// What an archive is to keep.
type Dump = Vec<(Entry, Vec<u8>)>;

fn dump(tree: &Tree) -> Dump {
    let snapshot = Arc::new(tree.snapshot());
    let reader = snapshot.entries();
    let with_content = |(entry, ino): (Entry, Ino)| {
        let size = tree.stat(ino).unwrap().size as usize;
        let mut content = vec![0; if matches!(entry.kind, crate::entry::EntryKind::File { .. }) { size } else { 0 }];
        if !content.is_empty() {
            assert_eq!(reader.read(ino, 0, &mut content).unwrap(), size);
        }
        (entry, content)
    };
    snapshot.entries().map(with_content).collect()
}

/// A vault that is open on a disk, with every state that it went through.
struct Open {
    disk: Disk,
    tree: Tree,
    archive: V2Archive<DiskStore>,
}

/// A new vault, and the master that its archive is under.
fn new_vault(suite: Suite) -> (Files, MasterKey) {
    let disk = Disk::default();
    disk.put(ARCHIVE, b"");
    let mut store = DiskStore::open(&disk, Access::ReadWrite);
    let mut draft = store.draft().unwrap();
    let begun = Begun::with_passphrase(&passphrase("old"), suite, CHEAP).unwrap();
    begun.write(&mut draft, &machine(1), &empty_tree().snapshot()).unwrap();
    store.replace(draft).unwrap();
    let files = Files::from_iter([(ARCHIVE.to_owned(), disk.files().remove(ARCHIVE).unwrap())]);
    let master = Header::parse(&files[ARCHIVE]).unwrap().unlock(&passphrase("old")).unwrap();
    (files, master)
}

fn open(files: &Files, master: &MasterKey, machine: &Machine) -> Result<(Open, ReadReport), VaultError> {
    open_on(&Disk::with(files), master, machine, Acceptance::default())
}

fn open_on(
    disk: &Disk,
    master: &MasterKey,
    machine: &Machine,
    acceptance: Acceptance,
) -> Result<(Open, ReadReport), VaultError> {
    let store = DiskStore::open(disk, Access::ReadWrite);
    let mut tree = empty_tree();
    let secret = Secret::Master(master.duplicate().unwrap());
    let (archive, report) = V2Archive::open(store, secret, machine.clone(), acceptance, &mut tree)?;
    Ok((Open { disk: disk.clone(), tree, archive }, report))
}

impl Open {
    fn commit(&mut self) -> Result<(), VaultError> {
        let snapshot = Arc::new(self.tree.snapshot());
        self.archive.commit(&snapshot)
    }

    /// Runs a compaction, due or not; `during` happens while it is under way.
    fn compact_beside(&mut self, during: impl FnOnce(&mut Self)) {
        let rewrite = self.archive.compact_anyway();
        let outcome = rewrite();
        during(self);
        self.archive.end_compaction(outcome).unwrap();
    }

    fn change_keys(&mut self, proof: &Secret, change: KeyChange) -> Result<(), VaultError> {
        let snapshot = Arc::new(self.tree.snapshot());
        self.archive.change_keys(proof, change, &snapshot)
    }

    fn set_passphrase(&mut self, old: &str, new: &str, rekey: Rekey) {
        let change = KeyChange::Passphrase { new: passphrase(new), rekey };
        self.change_keys(&Secret::Passphrase(passphrase(old)), change).unwrap();
    }

    fn ino(&self, path: &str) -> Option<Ino> {
        self.tree.resolve(&EntryPath::parse(path.as_bytes()).unwrap()).ok().map(|stat| stat.ino)
    }

    fn make(&self, path: &str, kind: NewKind) -> Ino {
        let path = EntryPath::parse(path.as_bytes()).unwrap();
        let (parent, name) = path.split_last().unwrap();
        let parent = self.tree.resolve(&parent).unwrap().ino;
        self.tree.make(parent, name, NewNode { kind, mode: 0o600, owner: OWNER }).unwrap().ino
    }

    fn write(&self, path: &str, offset: u64, bytes: &[u8]) {
        let ino = self.ino(path).unwrap_or_else(|| self.make(path, NewKind::File));
        self.tree.write(ino, offset, bytes, WriteOptions::default()).unwrap();
    }

    /// One of some changes of every kind.
    fn change(&self, number: usize) -> Result<(), TreeError> {
        let file = format!("file{}", number % 4);
        match number % 7 {
            0 => self.write(&file, 0, format!("content {number}").repeat(20).as_bytes()),
            1 => self.write(&file, 5000 * (number as u64 % 3), &[number as u8; 6000]),
            2 => {
                let folder = format!("folder{number}");
                self.make(&folder, NewKind::Folder);
                self.write(&format!("{folder}/inner"), 0, b"inner");
            }
            3 => drop(self.make(&format!("link{number}"), NewKind::Symlink(b"file0".to_vec()))),
            4 => {
                let ino = self.ino(&file).unwrap_or(Ino::ROOT);
                self.tree.set_xattr(ino, b"user.number", number.to_string().as_bytes(), XattrMode::Set)?;
            }
            5 => {
                let moved = format!("moved{number}");
                self.tree.rename(Ino::ROOT, file.as_bytes(), Ino::ROOT, moved.as_bytes(), RenameMode::Replace)?;
            }
            _ => self.tree.unlink(Ino::ROOT, file.as_bytes())?,
        }
        Ok(())
    }
}

#[test]
fn commits_are_there_after_reopening_and_small() {
    for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        let (files, master) = new_vault(suite);
        let (mut vault, _) = open(&files, &master, &machine(1)).unwrap();
        vault.write("large", 0, &vec![7; 3 << 20]);
        vault.commit().unwrap();
        let before = vault.archive.length;
        vault.write("large", 1 << 20, b"x");
        vault.commit().unwrap();
        let grown = vault.archive.length - before;
        assert!(grown <= 64 * 1024 + 8192, "{grown} bytes for one that changed");
        for number in 0..40 {
            let _ = vault.change(number);
            vault.commit().unwrap();
        }
        let state = dump(&vault.tree);
        let (again, report) = open(&vault.disk.files(), &master, &machine(1)).unwrap();
        assert_eq!(dump(&again.tree), state);
        assert_eq!(again.archive.head, vault.archive.head);
        assert!(report.warnings.is_empty());
    }
}

#[test]
fn a_commit_without_changes_writes_nothing() {
    let (files, master) = new_vault(Suite::Aes256Gcm);
    let (mut vault, _) = open(&files, &master, &machine(1)).unwrap();
    let ino = vault.make("file", NewKind::File);
    vault.tree.unlink(Ino::ROOT, b"file").unwrap();
    vault.commit().unwrap();
    let before = vault.disk.files();
    vault.tree.write(ino, 0, b"nobody sees this", WriteOptions::default()).unwrap_err();
    vault.commit().unwrap();
    assert_eq!(vault.disk.files(), before);
}

#[test]
fn a_compaction_keeps_the_head_and_what_came_meanwhile() {
    let (files, master) = new_vault(Suite::Aes256Gcm);
    let (mut vault, _) = open(&files, &master, &machine(1)).unwrap();
    for number in 0..30 {
        vault.write("file", 0, &vec![number; 100_000]);
        vault.commit().unwrap();
    }
    let before = vault.archive.length;
    vault.compact_beside(|vault| {
        for number in 0..5 {
            let _ = vault.change(number);
            vault.commit().unwrap();
        }
    });
    assert!(vault.archive.length < before && vault.archive.deltas == 5);
    let _ = vault.change(9);
    vault.commit().unwrap();
    let (again, _) = open(&vault.disk.files(), &master, &machine(1)).unwrap();
    assert_eq!(dump(&again.tree), dump(&vault.tree));
    assert_eq!(again.archive.head, vault.archive.head);
}

#[test]
fn a_compaction_that_is_asked_for_takes_the_place_of_one_that_is_due() {
    let (files, master) = new_vault(Suite::Aes256Gcm);
    let (mut vault, _) = open(&files, &master, &machine(1)).unwrap();
    vault.write("file", 0, &vec![1; 100_000]);
    vault.commit().unwrap();
    let due = vault.archive.compact_anyway();
    vault.write("file", 0, &vec![2; 100_000]);
    let asked = vault.archive.begin_asked(&Arc::new(vault.tree.snapshot())).unwrap().unwrap();
    // Whoever wants commits kept does not stop what somebody waits for.
    vault.archive.keep_history(Duration::from_secs(60));
    vault.archive.end_compaction(due()).unwrap();
    assert_eq!(vault.archive.deltas, 2, "nothing came of the one that was due");
    vault.write("file", 0, b"meanwhile");
    vault.commit().unwrap();
    vault.archive.end_compaction(asked()).unwrap();
    assert_eq!(vault.archive.deltas, 1);
    let (again, _) = open(&vault.disk.files(), &master, &machine(1)).unwrap();
    assert_eq!(dump(&again.tree), dump(&vault.tree));
}

#[test]
fn who_asked_for_a_compaction_hears_that_it_was_given_up() {
    let (files, master) = new_vault(Suite::Aes256Gcm);
    let (mut vault, _) = open(&files, &master, &machine(1)).unwrap();
    vault.write("file", 0, &vec![1; 100_000]);
    let asked = vault.archive.begin_asked(&Arc::new(vault.tree.snapshot())).unwrap().unwrap();
    vault.archive.compactions.cancel();
    let error = vault.archive.end_compaction(asked()).unwrap_err();
    assert!(matches!(error, VaultError::Io { operation: "write", .. }), "{error}");
    vault.archive.compact(&Arc::new(vault.tree.snapshot())).unwrap();
    assert_eq!(vault.archive.deltas, 0);
}

#[test]
fn a_compaction_that_was_overtaken_changes_nothing() {
    let (files, master) = new_vault(Suite::Aes256Gcm);
    let (mut vault, _) = open(&files, &master, &machine(1)).unwrap();
    vault.write("file", 0, b"1");
    vault.commit().unwrap();
    vault.compact_beside(|vault| {
        vault.set_passphrase("old", "new", Rekey::NewMaster);
        vault.write("file", 0, b"2");
        vault.commit().unwrap();
    });
    let files = vault.disk.files();
    assert!(open(&files, &master, &machine(1)).is_err(), "the old master opens it");
    let master = Header::parse(&files[ARCHIVE]).unwrap().unlock(&passphrase("new")).unwrap();
    let (again, _) = open(&files, &master, &machine(1)).unwrap();
    assert_eq!(dump(&again.tree), dump(&vault.tree));
}

#[test]
fn somebody_elses_archive_is_left_alone() {
    let (files, master) = new_vault(Suite::Aes256Gcm);
    let (mut vault, _) = open(&files, &master, &machine(1)).unwrap();
    vault.disk.put(ARCHIVE, b"theirs");
    vault.write("file", 0, b"1");
    assert!(matches!(vault.commit(), Err(VaultError::ChangedElsewhere(_))));
    assert_eq!(vault.disk.files()[ARCHIVE], b"theirs");
}
