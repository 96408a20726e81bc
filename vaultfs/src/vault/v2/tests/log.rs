//! What an archive tells of its past, while commits and compactions go on.

use super::*;
use crate::tree::PathChange;
use crate::vault::v2::{CheckReport, Log, Verdict};
use crate::vault::{HistoryError, VaultError};

fn history(vault: &mut Open) -> Log {
    let options = VaultOptions { machine: machine(1), ..VaultOptions::new(OWNER, 64 << 20, Duration::ZERO) };
    vault.archive.log(&options).unwrap().unwrap()
}

fn log(history: &Log, path: Option<&str>) -> Vec<(u64, Vec<String>)> {
    let path = path.map(|path| EntryPath::parse(path.as_bytes()).unwrap());
    let mut told = Vec::new();
    let mut take = |commit: &crate::vault::Commit| {
        let changes = commit.changes.iter().map(|change| match change {
            PathChange::Created(path) => format!("+{path}"),
            PathChange::Changed(path) => format!("={path}"),
            PathChange::Renamed { from, to } => format!("{from}>{to}"),
            PathChange::Deleted(path) => format!("-{path}"),
        });
        told.push((commit.number, changes.collect()));
        Ok(())
    };
    history.commits(path.as_ref(), &mut take).unwrap();
    told
}

fn check(history: &Log) -> CheckReport {
    history.check(&mut |_, _| Ok(())).unwrap()
}

fn rename(vault: &Open, from: &str, to: &str) {
    let split = |path: &str| {
        let path = EntryPath::parse(path.as_bytes()).unwrap();
        let (parent, name) = path.split_last().map(|(parent, name)| (parent, name.to_vec())).unwrap();
        (vault.tree.resolve(&parent).unwrap().ino, name)
    };
    let ((from, from_name), (to, to_name)) = (split(from), split(to));
    vault.tree.rename(from, &from_name, to, &to_name, RenameMode::Replace).unwrap();
}

/// Commit 1 makes a folder with a file; 2 changes it; 3 moves the folder; 4 saves as editors do; 5 deletes; 6 touches attributes.
fn vault_with_past() -> Open {
    let (files, master) = new_vault(Suite::Aes256Gcm);
    let (mut vault, _) = open(&files, &master, &machine(1)).unwrap();
    vault.make("folder", NewKind::Folder);
    vault.write("folder/file", 0, b"one");
    vault.write("other", 0, b"other");
    vault.commit().unwrap();
    vault.write("folder/file", 0, b"two");
    vault.commit().unwrap();
    rename(&vault, "folder", "moved");
    vault.commit().unwrap();
    vault.write("moved/.file.swp", 0, b"three");
    rename(&vault, "moved/.file.swp", "moved/file");
    vault.commit().unwrap();
    let moved = vault.ino("moved").unwrap();
    vault.tree.unlink(moved, b"file").unwrap();
    vault.commit().unwrap();
    let other = vault.ino("other").unwrap();
    vault.tree.set_xattr(other, b"user.a", b"b", XattrMode::Set).unwrap();
    vault.tree.link(other, Ino::ROOT, b"second").unwrap();
    vault.commit().unwrap();
    vault
}

#[test]
fn commits_tell_what_people_did() {
    let mut vault = vault_with_past();
    let history = history(&mut vault);
    let expected = [
        (0, vec![]),
        (1, vec!["+folder", "+folder/file", "+other"]),
        (2, vec!["=folder/file"]),
        (3, vec!["folder>moved"]),
        (4, vec!["=moved/file"]),
        (5, vec!["-moved/file"]),
        (6, vec!["=other", "+second"]),
    ];
    let found = log(&history, None);
    for ((number, changes), (found_number, found)) in expected.iter().zip(&found) {
        assert_eq!(number, found_number);
        assert_eq!(found, changes, "commit {number}");
    }
    assert_eq!(found.len(), expected.len());
    let touching = |path| log(&history, Some(path)).into_iter().map(|(number, _)| number).collect::<Vec<_>>();
    assert_eq!(touching("moved"), [3, 4, 5]);
    assert_eq!(touching("folder/file"), [1, 2, 3]);
    assert_eq!(touching("other"), [1, 6]);
    assert_eq!(touching("nothing"), Vec::<u64>::new());
}

#[test]
fn every_state_can_be_looked_at_while_commits_and_compactions_go_on() {
    let mut vault = vault_with_past();
    let history = history(&mut vault);
    vault.write("later", 0, b"later");
    vault.commit().unwrap();
    vault.compact_beside(|vault| {
        vault.write("later", 0, b"later still");
        vault.commit().unwrap();
    });
    let at = |number, path: &str| {
        let past = history.at(number, &EntryPath::parse(path.as_bytes()).unwrap())?;
        let mut content = Vec::new();
        past.write_content(&mut content)?;
        Ok::<_, VaultError>(content)
    };
    assert_eq!(at(1, "folder/file").unwrap(), b"one");
    assert_eq!(at(3, "moved/file").unwrap(), b"two");
    assert_eq!(at(4, "moved/file").unwrap(), b"three");
    for (number, path) in [(3, "folder/file"), (5, "moved/file"), (0, "other")] {
        let error = at(number, path).unwrap_err();
        assert!(matches!(error, VaultError::History(HistoryError::NotInCommit { .. })), "{error:?}");
    }
    let error = at(7, "other").unwrap_err();
    let range = HistoryError::NoSuchCommit { number: 7, oldest: 0, newest: 6 };
    assert!(matches!(&error, VaultError::History(found) if *found == range), "{error:?}");
    let folder = history.at(2, &EntryPath::root()).unwrap();
    let names: Vec<Vec<u8>> = folder.list().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [b"folder".to_vec(), b"other".to_vec()]);
    // After the compaction, what was before is gone.
    let later = self::history(&mut vault);
    let error = later.at(3, &EntryPath::root()).err().unwrap();
    let range = HistoryError::NoSuchCommit { number: 3, oldest: 7, newest: 8 };
    assert!(matches!(&error, VaultError::History(found) if *found == range), "{error:?}");
}

#[test]
fn a_check_finds_every_flip_and_nothing_else() {
    let mut vault = vault_with_past();
    let report = check(&history(&mut vault));
    assert_eq!(report.verdict, Verdict::Sound);
    assert_eq!((report.segments, report.commits, report.files), (7, 6, 1));
    assert_eq!(report.bytes, vault.archive.length);
    let sound = vault.disk.files()[ARCHIVE].clone();
    for at in 0..sound.len() {
        // Every byte of headers, one of hundreds of payloads.
        let is_dull =
            at > 300 && at % 97 != 0 && !sound[at.saturating_sub(90)..at].windows(4).any(|word| word == b"TSEG");
        if is_dull {
            continue;
        }
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        vault.disk.overwrite(ARCHIVE, &bytes);
        let report = check(&history(&mut vault));
        assert!(matches!(report.verdict, Verdict::Damaged { .. }), "byte {at}: {report:?}");
        assert_eq!(vault.disk.files()[ARCHIVE], bytes);
    }
    vault.disk.overwrite(ARCHIVE, &sound);
    assert_eq!(check(&history(&mut vault)).verdict, Verdict::Sound);
}
