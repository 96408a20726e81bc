//! The power goes at every step of an upgrade: the archive opens in the one or the other version, with the same tree, and the
//! old file is never lost.

use std::path::Path;

use super::*;
use crate::entry::Timestamp;
use crate::format;
use crate::format::ReadLimits;
use crate::tree::{Matching, MergeLabel, MergeWith};
use crate::vault::bridge::{LoaderSink, SnapshotSource};
use crate::vault::copy::ArchiveCopy;
use crate::vault::v2::{OLD_SUFFIX, replace_old, replace_old_by_copy};

fn old_archive(tree: &Tree) -> Vec<u8> {
    let key = crate::crypto::ArchiveKey::derive_fresh(&passphrase("old")).unwrap();
    let mut bytes = Vec::new();
    format::v1::write(&mut bytes, &key, &mut SnapshotSource::new(&Arc::new(tree.snapshot()))).unwrap();
    bytes
}

fn read_old(bytes: &[u8]) -> Tree {
    let mut tree = empty_tree();
    let mut sink = LoaderSink::new(tree.loader());
    let limits = ReadLimits { total_bytes: 1 << 20, entries: 1000 };
    format::v1::read(&mut std::io::Cursor::new(bytes), &passphrase("old"), &limits, &mut sink).unwrap();
    drop(sink);
    tree
}

/// Apart from what only the newer version keeps.
fn without_ctime(dump: Dump) -> Dump {
    dump.into_iter()
        .map(|(mut entry, content)| {
            entry.attributes.ctime = Default::default();
            (entry, content)
        })
        .collect()
}

#[test]
fn an_upgrade_is_done_or_not_whenever_the_power_goes() {
    let (files, master) = new_vault(Suite::Aes256Gcm);
    let (vault, _) = open(&files, &master, &machine(1)).unwrap();
    for number in 0..9 {
        let _ = vault.change(number);
    }
    let bytes = old_archive(&vault.tree);
    let tree = read_old(&bytes);
    let expected = without_ctime(dump(&tree));
    assert!(expected.len() > 3);
    let cut = Cut::new(&bytes);
    let store = DiskStore::open(&cut.disk, Access::ReadWrite);
    let kept = replace_old(store, &passphrase("old"), Suite::Aes256Gcm, CHEAP, &machine(1), &tree.snapshot()).unwrap();
    cut.check(&kept, &expected);
}

#[test]
fn an_upgrade_of_another_machine_is_taken_or_not_whenever_the_power_goes() {
    let (files, master) = new_vault(Suite::Aes256Gcm);
    let (vault, _) = open(&files, &master, &machine(1)).unwrap();
    vault.write("edited", 0, b"begin");
    vault.write("mine", 0, b"begin");
    let begin = old_archive(&vault.tree);
    let theirs = upgraded_and_edited(&begin);
    let own = read_old(&begin);
    let ino = own.resolve(&EntryPath::parse(b"mine").unwrap()).unwrap().ino;
    own.write(ino, 0, b"other", WriteOptions::default()).unwrap();
    let bytes = old_archive(&own);
    let label = MergeLabel { time: Timestamp::now(), host: String::new(), seed: [0; 32] };
    let base = read_old(&begin).snapshot();
    let with = MergeWith { matching: Matching::Paths, base: &base, remote: theirs.copy.snapshot(), label: &label };
    own.merge(&with).unwrap();
    let cut = Cut::new(&bytes);
    let store = DiskStore::open(&cut.disk, Access::ReadWrite);
    let (kept, is_same) = replace_old_by_copy(store, &theirs.copy, &machine(1), &own.snapshot()).unwrap();
    assert!(!is_same);
    cut.check(&kept, &without_ctime(dump(&own)));
}

/// An upgrade that another machine made and went on from.
struct Theirs {
    copy: ArchiveCopy,
    _file: tempfile::NamedTempFile,
}

fn upgraded_and_edited(old: &[u8]) -> Theirs {
    let tree = read_old(old);
    let disk = Disk::with(&Files::from_iter([(ARCHIVE.to_owned(), old.to_vec())]));
    let store = DiskStore::open(&disk, Access::ReadWrite);
    replace_old(store, &passphrase("old"), Suite::Aes256Gcm, CHEAP, &machine(2), &tree.snapshot()).unwrap();
    let files = Files::from_iter([(ARCHIVE.to_owned(), disk.files().remove(ARCHIVE).unwrap())]);
    let master = Header::parse(&files[ARCHIVE]).unwrap().unlock(&passphrase("old")).unwrap();
    let (mut vault, _) = open(&files, &master, &machine(2)).unwrap();
    vault.write("edited", 0, b"theirs");
    vault.commit().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &vault.disk.files()[ARCHIVE]).unwrap();
    let options = VaultOptions::new(OWNER, 64 << 20, Duration::ZERO);
    let copy = ArchiveCopy::open(file.path(), Secret::Passphrase(passphrase("old")), None, &options).unwrap();
    Theirs { copy, _file: file }
}

/// A disk with an archive of version 1, whose power goes at every step.
struct Cut {
    start: Files,
    disk: Disk,
    bytes: Vec<u8>,
}

impl Cut {
    fn new(bytes: &[u8]) -> Self {
        let start = Files::from_iter([(ARCHIVE.to_owned(), bytes.to_vec()), (disk::WITNESS.to_owned(), Vec::new())]);
        Self { disk: Disk::with(&start), start, bytes: bytes.to_vec() }
    }

    /// What was done is done or not, and the old file is never lost.
    fn check(&self, kept: &Path, expected: &Dump) {
        self.disk.acknowledge(1);
        let (mut old, mut new, mut opened) = (0, 0, std::collections::HashSet::new());
        self.disk.each_crash(&self.start, &mut |files, acknowledged| {
            let archive = &files[ARCHIVE];
            let kept = files.get(kept.to_str().unwrap());
            assert!(*archive == self.bytes || kept == Some(&self.bytes), "the old archive is lost");
            if *archive == self.bytes {
                assert!(acknowledged.is_none());
                old += 1;
                return;
            }
            new += 1;
            // Each is opened once: key derivation takes its time.
            if opened.insert(archive.clone()) {
                let master = Header::parse(archive).unwrap().unlock(&passphrase("old")).unwrap();
                let (vault, _) =
                    open(&Files::from_iter([(ARCHIVE.to_owned(), archive.clone())]), &master, &machine(1)).unwrap();
                assert_eq!(without_ctime(dump(&vault.tree)), *expected);
            }
        });
        assert!(old > 5 && new > 1, "{old} {new}");
        assert!(kept.to_str().unwrap().ends_with(OLD_SUFFIX));
    }
}
