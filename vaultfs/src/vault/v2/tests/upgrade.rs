//! The power goes at every step of an upgrade: the archive opens in the one or the other version, with the same tree, and the
//! old file is never lost.

use super::*;
use crate::format;
use crate::format::ReadLimits;
use crate::vault::bridge::{LoaderSink, SnapshotSource};
use crate::vault::v2::{OLD_SUFFIX, replace_old};

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
    let start = Files::from_iter([(ARCHIVE.to_owned(), bytes.clone()), (disk::WITNESS.to_owned(), Vec::new())]);
    let disk = Disk::with(&start);
    let store = DiskStore::open(&disk, Access::ReadWrite);
    let kept = replace_old(store, &passphrase("old"), Suite::Aes256Gcm, CHEAP, &machine(1), &tree.snapshot()).unwrap();
    disk.acknowledge(1);
    let (mut old, mut new, mut opened) = (0, 0, std::collections::HashSet::new());
    disk.each_crash(&start, &mut |files, acknowledged| {
        let archive = &files[ARCHIVE];
        let kept = files.get(kept.to_str().unwrap());
        assert!(*archive == bytes || kept == Some(&bytes), "the old archive is lost");
        if *archive == bytes {
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
            assert_eq!(without_ctime(dump(&vault.tree)), expected);
        }
    });
    assert!(old > 5 && new > 1, "{old} {new}");
    assert!(kept.to_str().unwrap().ends_with(OLD_SUFFIX));
}
