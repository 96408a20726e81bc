//! No salt is drawn twice, and so no key and nonce serve twice, whatever was retried, forked or put back.

use std::collections::HashMap;

use super::disk::Failure;
use super::*;
use crate::crypto::Hasher;
use crate::format::v2::Source;

/// The salt of each segment that lies in some bytes, with the hash of the segment.
fn salts(bytes: &[u8]) -> impl Iterator<Item = ([u8; 32], [u8; 32])> {
    let header = Header::parse(bytes).unwrap().bytes().len();
    let mut at = header as u64;
    std::iter::from_fn(move || {
        let mut segment = [0; 88];
        bytes.read_exact_at(&mut segment, at).ok()?;
        assert_eq!(&segment[..4], b"TSEG");
        let start = at as usize;
        at += 88 + u64::from_le_bytes(segment[80..].try_into().unwrap());
        Some((segment[48..80].try_into().unwrap(), Hasher::hash(&[bytes.get(start..at as usize)?])))
    })
}

#[test]
fn no_salt_serves_twice() {
    const ROUNDS: usize = 60;
    let (files, master) = new_vault(Suite::Aes256Gcm);
    let mut seen: HashMap<[u8; 32], [u8; 32]> = HashMap::new();
    let mut note = |bytes: &[u8]| {
        for (salt, content) in salts(bytes) {
            assert_eq!(*seen.entry(salt).or_insert(content), content, "a salt serves two segments");
        }
        seen.len()
    };
    let mut segments = 0;
    for round in 0..ROUNDS {
        // Each round forks the same vault: the same numbers, places and contents come again and again.
        let (mut vault, _) = open(&files, &master, &machine(1)).unwrap();
        for number in 0..200 {
            vault.write("file", 0, &[number as u8; 10]);
            if number % 20 == 3 {
                vault.disk.fail(Some(if round % 2 == 0 { Failure::Writes } else { Failure::Syncs }));
                vault.commit().unwrap_err();
                note(&written(&vault));
                vault.disk.fail(None);
            }
            vault.commit().unwrap();
        }
        segments = note(&vault.disk.files()[ARCHIVE]);
    }
    assert!(segments > 10_000, "{segments}");
}

/// The archive with what a failed commit left in it: after a failed sync, a whole segment.
fn written(vault: &Open) -> Vec<u8> {
    vault.disk.files().remove(ARCHIVE).unwrap()
}
