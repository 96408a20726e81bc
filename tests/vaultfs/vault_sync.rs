//! Two machines with one vault: how their archives stand to each other, going forward, merging.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "vault_support.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use support::archive_format::Format;
use support::*;
use vaultfs::crypto::{Identity, Recipient};
use vaultfs::format::FormatError;
use vaultfs::format::v2::{MachineId, Outline};
use vaultfs::tree::{ConflictKind, Ino, RenameMode, Tree};
use vaultfs::vault::{
    ArchiveCopy, KeyChange, Machine, NewRecipient, Rekey, Relation, Secret, Vault, VaultError, VaultOptions, file_hash,
};

/// A machine with its own copy of the archive and its own witness.
struct Home {
    vault: Vault,
    archive: PathBuf,
}

fn home(folder: &Path, number: u8, bytes: &[u8]) -> Home {
    let archive = folder.join(format!("vault-{number}.tar.aes"));
    fs::write(&archive, bytes).unwrap();
    let machine = Machine { id: MachineId([number; 16]), host: format!("host-{number}") };
    let witness = Some(folder.join(format!("witness-{number}")));
    let vault = try_open(&archive, &VaultOptions { machine, witness, ..patient() }).unwrap().0;
    Home { vault, archive }
}

/// Two machines that have the same archive, and that archive.
fn two(format: Format) -> (Scratch, Vec<u8>, Home, Home) {
    let scratch = scratch_of(format);
    {
        let vault = open(&scratch.archive);
        put(vault.tree(), "common", b"begin");
        put(vault.tree(), "edited", b"begin");
        vault.close().map_err(|(_, error)| error).unwrap();
    }
    let begin = fs::read(&scratch.archive).unwrap();
    let (one, other) = (home(scratch.folder.path(), 1, &begin), home(scratch.folder.path(), 2, &begin));
    (scratch, begin, one, other)
}

impl Home {
    fn tree(&self) -> &Tree {
        self.vault.tree()
    }

    fn edit(&self, name: &str, content: &[u8]) {
        put(self.tree(), name, content);
        self.commit();
    }

    fn commit(&self) {
        self.vault.committer().commit().unwrap();
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.archive).unwrap()
    }

    fn copy_of(&self, bytes: &[u8]) -> ArchiveCopy {
        self.vault.open_copy(&self.copy_path(bytes), None).unwrap()
    }

    fn copy_path(&self, bytes: &[u8]) -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // A copy that is still open must not change.
        let path = self.archive.with_extension(format!("fetched-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A copy that may be under another key.
    fn opened(&self, bytes: &[u8], text: &str) -> ArchiveCopy {
        let path = self.copy_path(bytes);
        ArchiveCopy::open(&path, Secret::Passphrase(passphrase(text)), None, &patient()).unwrap()
    }

    fn relation(&self, other: &Home) -> Relation {
        self.vault.relation(&self.copy_of(&other.bytes())).unwrap()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        content(self.tree(), name)
    }
}

fn outline(path: &Path) -> Result<Outline, FormatError> {
    Outline::read(&fs::File::open(path).unwrap())
}

fn content(tree: &Tree, name: &str) -> Vec<u8> {
    let stat = tree.resolve(&path(name)).unwrap();
    let mut bytes = vec![0; stat.size as usize];
    tree.read(stat.ino, 0, &mut bytes).unwrap();
    bytes
}

#[test]
fn archives_stand_to_each_other_as_their_commits_do() {
    let (_scratch, begin, one, other) = two(Format::V2);
    assert_eq!(one.relation(&other), Relation::Same);
    let common = one.vault.head();
    one.edit("common", b"one");
    assert_eq!((one.relation(&other), other.relation(&one)), (Relation::OursAhead, Relation::TheirsAhead));
    other.edit("common", b"other");
    assert_eq!(
        (one.relation(&other), other.relation(&one)),
        (Relation::Diverged { common }, Relation::Diverged { common })
    );
    // What takes no key.
    let path = one.archive.with_extension("begin");
    fs::write(&path, &begin).unwrap();
    assert_eq!(one.vault.relation_to_outline(&outline(&path).unwrap()), Some(Relation::OursAhead));
    assert_eq!(one.vault.relation_to_outline(&outline(&one.archive).unwrap()), Some(Relation::Same));
    assert_eq!(one.vault.relation_to_outline(&outline(&other.archive).unwrap()), None);
    assert_eq!(Some(outline(&one.archive).unwrap().head), one.vault.head());
    one.vault.compact().unwrap();
    assert_eq!(Some(outline(&one.archive).unwrap().head), one.vault.head(), "compacted");
}

#[test]
fn an_archive_that_went_on_elsewhere_is_taken_byte_for_byte() {
    for format in [Format::V1, Format::V2] {
        let (_scratch, begin, one, other) = two(format);
        other.edit("common", b"other");
        other.edit("new", b"1");
        let base = one.copy_of(&begin);
        let merged = one.vault.join(&one.copy_of(&other.bytes()), Some(&base)).unwrap();
        assert_eq!(merged.conflicts, []);
        assert_eq!((one.read("common"), one.read("new")), (b"other".to_vec(), b"1".to_vec()));
        assert_eq!(one.bytes(), other.bytes());
        assert_eq!(file_hash(&one.archive).unwrap(), file_hash(&other.archive).unwrap());
        assert_eq!(one.relation(&other), Relation::Same);
        one.edit("common", b"goes on");
        let archive = one.archive.clone();
        one.vault.close().map_err(|(_, error)| error).unwrap();
        assert_eq!(content(open(&archive).tree(), "common"), b"goes on");
    }
}

#[test]
fn a_merge_is_one_commit_behind_the_others_bytes_and_the_other_goes_forward_to_it() {
    let (_scratch, begin, one, other) = two(Format::V2);
    other.edit("edited", b"other");
    other.edit("theirs", b"2");
    one.edit("edited", b"one");
    put(one.tree(), "mine", b"not committed yet");
    let base = one.copy_of(&begin);
    let merged = one.vault.join(&one.copy_of(&other.bytes()), Some(&base)).unwrap();
    let told: Vec<_> = merged.conflicts.iter().map(|conflict| (conflict.path.to_string(), conflict.kind)).collect();
    assert_eq!(told, [("edited".to_owned(), ConflictKind::BothEdited)]);
    let copy = merged.conflicts[0].copy.as_ref().unwrap().to_string();
    assert!(copy.starts_with(".tazpod-conflicts/") && copy.ends_with("-host-1/edited"), "{copy}");
    assert!(one.bytes().starts_with(&other.bytes()) && one.bytes().len() > other.bytes().len());
    assert_eq!((one.read("edited"), one.read(&copy)), (b"other".to_vec(), b"one".to_vec()));
    assert_eq!((one.read("mine"), one.read("theirs")), (b"not committed yet".to_vec(), b"2".to_vec()));
    assert_eq!((one.relation(&other), other.relation(&one)), (Relation::OursAhead, Relation::TheirsAhead));
    other.vault.join(&other.copy_of(&one.bytes()), None).unwrap();
    assert_eq!(other.bytes(), one.bytes());
    assert_eq!((other.read(&copy), other.read("mine")), (b"one".to_vec(), b"not committed yet".to_vec()));
    // Again changes nothing.
    let before = one.bytes();
    assert!(one.vault.join(&one.copy_of(&other.bytes()), None).unwrap().changes.is_empty());
    assert_eq!(one.bytes(), before);
}

#[test]
fn after_a_merge_the_archive_opens_with_the_witness_of_before() {
    let (scratch, begin, one, other) = two(Format::V2);
    other.edit("edited", b"other");
    (0..5).for_each(|number| one.edit("edited", &[number]));
    let witness = scratch.folder.path().join("witness-1");
    let before = fs::read(&witness).unwrap();
    one.vault.join(&one.copy_of(&other.bytes()), Some(&one.copy_of(&begin))).unwrap();
    let archive = one.archive.clone();
    one.vault.close().map_err(|(_, error)| error).unwrap();
    fs::write(&witness, before).unwrap();
    let again = try_open(&archive, &VaultOptions { witness: Some(witness), ..patient() }).unwrap().0;
    assert_eq!(content(again.tree(), "edited"), b"other");
}

#[test]
fn two_machines_that_merge_the_same_pair_make_the_same_tree() {
    let (scratch, begin, one, other) = two(Format::V2);
    other.edit("edited", b"other");
    one.edit("edited", b"one");
    let third = home(scratch.folder.path(), 3, &one.bytes());
    for machine in [&one, &third] {
        machine.vault.join(&machine.copy_of(&other.bytes()), Some(&machine.copy_of(&begin))).unwrap();
    }
    // Their merges are two commits, and have nothing to tell each other.
    let common = other.vault.head();
    assert!(matches!(one.relation(&third), Relation::Diverged { .. }));
    let base = one.copy_of(&other.bytes());
    assert_eq!(base.head(), common);
    let merged = one.vault.join(&one.copy_of(&third.bytes()), Some(&base)).unwrap();
    assert_eq!((merged.conflicts, merged.changes.is_empty()), (vec![], true));
}

#[test]
fn a_passphrase_that_was_changed_elsewhere_opens_the_merge() {
    let (_scratch, begin, one, other) = two(Format::V2);
    other.edit("edited", b"other");
    let secret = |text: &str| Secret::Passphrase(passphrase(text));
    other.vault.change_passphrase(&passphrase("correct horse"), passphrase("new"), Rekey::NewMaster).unwrap();
    one.edit("common", b"one");
    let path = one.archive.with_extension("theirs");
    fs::write(&path, other.bytes()).unwrap();
    assert!(matches!(one.vault.open_copy(&path, None), Err(VaultError::Format { .. })));
    let theirs = ArchiveCopy::open(&path, secret("new"), None, &patient()).unwrap();
    one.vault.join(&theirs, Some(&one.copy_of(&begin))).unwrap();
    let archive = one.archive.clone();
    one.edit("more", b"under the new key");
    one.vault.close().map_err(|(_, error)| error).unwrap();
    let open_with = |text: &str| Vault::open(&archive, passphrase(text), &patient());
    assert!(matches!(open_with("correct horse").map(drop), Err(VaultError::WrongPassphrase)));
    let again = open_with("new").unwrap().0;
    assert_eq!(
        (content(again.tree(), "common"), content(again.tree(), "edited")),
        (b"one".to_vec(), b"other".to_vec())
    );
}

/// A passphrase that is known to somebody, a recipient who has left: such a change must not be undone by a merge.
#[test]
fn keys_that_only_this_side_changed_stay_changed() {
    for rekey in [Rekey::NewMaster, Rekey::KeepMaster] {
        let (_scratch, begin, one, other) = two(Format::V2);
        other.edit("edited", b"other");
        let (theirs, base) = (one.opened(&other.bytes(), "correct horse"), one.opened(&begin, "correct horse"));
        one.vault.change_passphrase(&passphrase("correct horse"), passphrase("new"), rekey).unwrap();
        one.edit("common", b"one");
        one.vault.join(&theirs, Some(&base)).unwrap();
        one.edit("more", b"after it");
        // Whoever has the copy goes forward, to the new keys.
        other.vault.join(&other.opened(&one.bytes(), "new"), None).unwrap();
        assert_eq!(other.bytes(), one.bytes());
        let (archive, witness) = (one.archive.clone(), one.archive.with_file_name("witness-1"));
        one.vault.close().map_err(|(_, error)| error).unwrap();
        let options = VaultOptions { witness: Some(witness), ..patient() };
        let open_with = |text: &str| Vault::open(&archive, passphrase(text), &options);
        assert!(open_with("correct horse").is_err(), "{rekey:?}");
        let again = open_with("new").unwrap().0;
        let read = |name: &str| content(again.tree(), name);
        assert_eq!((read("common"), read("edited")), (b"one".to_vec(), b"other".to_vec()));
        assert_eq!(read("more"), b"after it");
    }
}

/// Both made somebody a recipient: those of the copy count, and this side is told so by its caller.
#[test]
fn of_two_changes_of_recipients_that_of_the_copy_counts() {
    let (_scratch, begin, one, other) = two(Format::V2);
    let proof = Secret::Passphrase(passphrase("correct horse"));
    let keys = [(&one, "mine"), (&other, "theirs")].map(|(home, name)| {
        home.edit(name, b"edited");
        let key = Identity::generate().unwrap();
        let recipient = NewRecipient::new(name, Recipient::parse(&key.recipients()[0]).unwrap()).unwrap();
        home.vault.change_keys(&proof, KeyChange::AddRecipient(recipient)).unwrap();
        key
    });
    one.vault.join(&one.copy_of(&other.bytes()), Some(&one.copy_of(&begin))).unwrap();
    let names: Vec<String> = one.vault.recipients().unwrap().into_iter().map(|slot| slot.label).collect();
    assert_eq!(names, ["theirs"]);
    let archive = one.archive.clone();
    one.vault.close().map_err(|(_, error)| error).unwrap();
    let [mine, theirs] = keys;
    assert!(Vault::open_with(&archive, Secret::Identity(mine), &patient()).is_err());
    let again = Vault::open_with(&archive, Secret::Identity(theirs), &patient()).unwrap().0;
    assert_eq!(
        (content(again.tree(), "mine"), content(again.tree(), "theirs")),
        (b"edited".to_vec(), b"edited".to_vec())
    );
}

/// Recovery keys are shown once: who has one relies on it.
#[test]
fn a_recovery_key_that_was_made_here_opens_the_merge() {
    let (_scratch, begin, one, other) = two(Format::V2);
    other.edit("edited", b"other");
    let key = Identity::generate().unwrap();
    let recipient = NewRecipient::new("recovery", Recipient::parse(&key.recipients()[0]).unwrap()).unwrap();
    let proof = Secret::Passphrase(passphrase("correct horse"));
    one.vault.change_keys(&proof, KeyChange::AddRecipient(recipient)).unwrap();
    one.vault.join(&one.copy_of(&other.bytes()), Some(&one.copy_of(&begin))).unwrap();
    let archive = one.archive.clone();
    one.vault.close().map_err(|(_, error)| error).unwrap();
    let again = Vault::open_with(&archive, Secret::Identity(key), &patient()).unwrap().0;
    assert_eq!(content(again.tree(), "edited"), b"other");
}

#[test]
fn a_changed_passphrase_of_version_1_stays_changed_whichever_side_did_it() {
    for here in [true, false] {
        let (_scratch, begin, one, other) = two(Format::V1);
        let base = one.opened(&begin, "correct horse");
        let changed = if here { &one } else { &other };
        changed.vault.change_passphrase(&passphrase("correct horse"), passphrase("new"), Rekey::NewMaster).unwrap();
        other.edit("edited", b"other");
        if !here {
            one.edit("common", b"one");
        }
        let theirs = one.opened(&other.bytes(), if here { "correct horse" } else { "new" });
        one.vault.join(&theirs, Some(&base)).unwrap();
        let archive = one.archive.clone();
        one.vault.close().map_err(|(_, error)| error).unwrap();
        let again = Vault::open(&archive, passphrase("new"), &patient()).unwrap().0;
        assert_eq!(content(again.tree(), "edited"), b"other");
    }
}

#[test]
fn what_cannot_be_joined_changes_nothing() {
    let (scratch, begin, one, other) = two(Format::V2);
    one.edit("edited", b"one");
    other.edit("edited", b"other");
    let before = one.bytes();
    let theirs = one.copy_of(&other.bytes());
    assert!(matches!(one.vault.join(&theirs, None), Err(VaultError::NoCommonState(_))));
    let stranger = scratch_of(Format::V2);
    let strange =
        ArchiveCopy::open(&stranger.archive, Secret::Passphrase(passphrase("correct horse")), None, &patient())
            .unwrap();
    let refused = one.vault.join(&strange, Some(&one.copy_of(&begin)));
    assert!(matches!(refused, Err(VaultError::Format { source: FormatError::OtherVault, .. })));
    let old = scratch_of(Format::V1);
    let old =
        ArchiveCopy::open(&old.archive, Secret::Passphrase(passphrase("correct horse")), None, &patient()).unwrap();
    assert!(matches!(one.vault.join(&old, None), Err(VaultError::Format { source: FormatError::Unsupported(_), .. })));
    assert_eq!((one.bytes(), one.read("edited")), (before, b"one".to_vec()));
    drop(scratch);
}

/// The tree is merged already when it turns out that the archive cannot be written.
#[test]
fn a_join_that_fails_half_way_leaves_an_archive_that_holds_the_merge_with_the_next_commit() {
    let (_scratch, begin, one, other) = two(Format::V2);
    // Saved anew by one side, and made alike by both: inodes that go on under another id.
    for name in ["edited", "alike"] {
        put(other.tree(), "temporary", b"the same");
        other.tree().rename(Ino::ROOT, b"temporary", Ino::ROOT, name.as_bytes(), RenameMode::Replace).unwrap();
    }
    other.commit();
    one.edit("alike", b"the same");
    let theirs = one.copy_of(&other.bytes());
    fs::OpenOptions::new().write(true).open(theirs.path()).unwrap().set_len(100).unwrap();
    let refused = one.vault.join(&theirs, Some(&one.copy_of(&begin)));
    assert!(matches!(refused, Err(VaultError::Io { .. })));
    assert_eq!(one.read("edited"), b"the same");
    one.commit();
    let archive = one.archive.clone();
    one.vault.close().map_err(|(_, error)| error).unwrap();
    let again = open(&archive);
    assert_eq!(content(again.tree(), "edited"), b"the same");
    assert_eq!(content(again.tree(), "alike"), b"the same");
}

#[test]
fn the_state_at_a_commit_is_found_in_a_later_archive() {
    let (_scratch, _, one, other) = two(Format::V2);
    let head = one.vault.head().unwrap();
    one.edit("edited", b"one");
    other.edit("common", b"other");
    let path = other.archive.with_extension("base");
    fs::write(&path, other.bytes()).unwrap();
    let base = one.vault.open_copy(&path, Some(head)).unwrap();
    assert_eq!(base.head(), Some(head));
    one.vault.join(&one.copy_of(&other.bytes()), Some(&base)).unwrap();
    assert_eq!((one.read("edited"), one.read("common")), (b"one".to_vec(), b"other".to_vec()));
    let missing = other.vault.open_copy(&path, Some(one.vault.head().unwrap()));
    assert!(matches!(missing.map(drop), Err(VaultError::Format { source: FormatError::Damaged { .. }, .. })));
}

/// What was opened to be joined holds the state that both began with; a vault that kept that state reads only what follows it.
#[test]
fn a_copy_brings_along_what_both_began_with() {
    for keeps in [false, true] {
        let (_scratch, begin, one, other) = two(Format::V2);
        let common = one.vault.head().unwrap();
        one.edit("edited", b"one");
        one.edit("mine", b"mine");
        other.edit("common", b"other");
        let (own, path) = (one.archive.clone(), one.copy_path(&other.bytes()));
        one.vault.close().map_err(|(_, error)| error).unwrap();
        let options = VaultOptions { keep: keeps.then_some(common), ..patient() };
        let vault = try_open(&own, &options).unwrap().0;
        let theirs = vault.open_other(&path, None).unwrap();
        let base = theirs.earlier().unwrap();
        assert_eq!((base.head(), theirs.head()), (Some(common), other.vault.head()));
        // What is damaged in the copy alone is never passed over; what both files begin with is not read again.
        let damage = |path: &Path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[begin.len() - 100] ^= 1;
            fs::write(path, bytes).unwrap();
        };
        let damaged = one_copy(&path);
        damage(&damaged);
        assert!(vault.open_other(&damaged, None).is_err());
        let sound = fs::read(&own).unwrap();
        damage(&own);
        assert_eq!(vault.open_other(&damaged, None).is_ok(), keeps);
        fs::write(&own, sound).unwrap();
        vault.join(&theirs, Some(base)).unwrap();
        let expected = [("edited", "one"), ("mine", "mine"), ("common", "other")];
        expected.iter().for_each(|(name, text)| assert_eq!(content(vault.tree(), name), text.as_bytes(), "{name}"));
        vault.close().map_err(|(_, error)| error).unwrap();
        let again = open(&own);
        expected.iter().for_each(|(name, text)| assert_eq!(content(again.tree(), name), text.as_bytes(), "{name}"));
    }
}

fn one_copy(path: &Path) -> PathBuf {
    let copy = path.with_extension("copy");
    fs::copy(path, &copy).unwrap();
    copy
}

/// Where the header is another one, the state on the way is not what the other side began with.
#[test]
fn a_copy_under_another_header_brings_along_nothing() {
    let (_scratch, begin, one, other) = two(Format::V2);
    let (old, new) = (passphrase("correct horse"), passphrase("new"));
    other.vault.change_passphrase(&old, new, Rekey::KeepMaster).unwrap();
    other.edit("common", b"other");
    one.edit("edited", b"one");
    let path = one.copy_path(&other.bytes());
    let theirs = one.vault.open_other(&path, None).unwrap();
    assert!(theirs.earlier().is_none());
    // A file that does not begin as this one does is read as a whole.
    one.vault.join(&theirs, Some(&one.copy_of(&begin))).unwrap();
    assert_eq!((one.read("edited"), one.read("common")), (b"one".to_vec(), b"other".to_vec()));
}

#[test]
fn archives_of_version_1_are_merged_by_path() {
    let (_scratch, begin, one, other) = two(Format::V1);
    other.edit("edited", b"other");
    one.edit("edited", b"one");
    one.edit("mine", b"1");
    let merged = one.vault.join(&one.copy_of(&other.bytes()), Some(&one.copy_of(&begin))).unwrap();
    assert_eq!(merged.conflicts.len(), 1);
    let copy = merged.conflicts[0].copy.as_ref().unwrap().to_string();
    let archive = one.archive.clone();
    one.vault.close().map_err(|(_, error)| error).unwrap();
    let again = open(&archive);
    let read = |name: &str| content(again.tree(), name);
    assert_eq!((read("edited"), read(&copy), read("mine")), (b"other".to_vec(), b"one".to_vec(), b"1".to_vec()));
}

/// Somebody who writes all the time neither loses anything nor keeps a merge from coming to an end.
#[test]
fn a_merge_under_a_busy_writer_ends_and_loses_nothing() {
    let (_scratch, begin, one, other) = two(Format::V2);
    other.edit("edited", b"other");
    (0..300).for_each(|number| put(other.tree(), &format!("file{number}"), &[7; 5000]));
    other.commit();
    let (theirs, base) = (one.copy_of(&other.bytes()), one.copy_of(&begin));
    let (tree, stop) = (one.vault.tree().clone(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let writer = std::thread::spawn(move || {
        let mut count = 0_u32;
        while !stopped.load(Ordering::Relaxed) {
            put(&tree, "common", &count.to_le_bytes());
            put(&tree, &format!("log{}", count % 50), &count.to_le_bytes());
            count += 1;
        }
        count
    });
    one.vault.join(&theirs, Some(&base)).unwrap();
    stop.store(true, Ordering::Relaxed);
    let count = writer.join().unwrap();
    assert!(count > 0);
    one.commit();
    let archive = one.archive.clone();
    one.vault.close().map_err(|(_, error)| error).unwrap();
    let again = open(&archive);
    assert_eq!(content(again.tree(), "common"), (count - 1).to_le_bytes());
    assert_eq!((content(again.tree(), "edited"), content(again.tree(), "file299")), (b"other".to_vec(), vec![7; 5000]));
}
