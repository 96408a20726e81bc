//! An upgrade that another machine made of a vault that is of version 1 here: what it leaves of both sides.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "vault_support.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::archive_format::Format;
use support::*;
use vaultfs::crypto::{KdfCost, Suite};
use vaultfs::format::FormatError;
use vaultfs::tree::{ConflictKind, Tree};
use vaultfs::vault::{
    ArchiveCopy, ArchiveFormat, OLD_SUFFIX, Rekey, Relation, Secret, TakenUpgrade, Vault, VaultError, VaultOptions,
};

const PASSPHRASE: &str = "correct horse";
const COST: KdfCost = KdfCost { memory_kib: 64, passes: 1, lanes: 1 };

/// A machine with an archive of version 1, what another one made of it, and what both began with.
struct Two {
    _scratch: Scratch,
    own: PathBuf,
    theirs: PathBuf,
    base: PathBuf,
}

impl Two {
    fn new() -> Self {
        let scratch = scratch_of(Format::V1);
        let (own, folder) = (scratch.archive.clone(), scratch.folder.path());
        edit(&own, |tree| ["both", "edited", "mine"].iter().for_each(|name| put(tree, name, b"begin")));
        let (theirs, base) = (folder.join("theirs"), folder.join("base"));
        fs::copy(&own, &theirs).unwrap();
        fs::copy(&own, &base).unwrap();
        upgrade(&theirs);
        Self { _scratch: scratch, own, theirs, base }
    }

    fn take(&self) -> Result<TakenUpgrade, VaultError> {
        self.take_with(PASSPHRASE, PASSPHRASE)
    }

    fn take_with(&self, own: &str, theirs: &str) -> Result<TakenUpgrade, VaultError> {
        let (theirs, base) = (copy(&self.theirs, theirs), copy(&self.base, PASSPHRASE));
        Vault::take_upgrade(&self.own, passphrase(own), &theirs, &base, &patient())
    }
}

fn copy(path: &Path, text: &str) -> ArchiveCopy {
    ArchiveCopy::open(path, Secret::Passphrase(passphrase(text)), None, &patient()).unwrap()
}

fn upgrade(archive: &Path) {
    Vault::upgrade(archive, passphrase(PASSPHRASE), Suite::Aes256Gcm, COST, &patient()).unwrap();
}

fn edit(archive: &Path, change: impl FnOnce(&Tree)) {
    let vault = open(archive);
    change(vault.tree());
    vault.close().map_err(|(_, error)| error).unwrap();
}

fn kept(archive: &Path) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(OLD_SUFFIX);
    PathBuf::from(name)
}

fn read(archive: &Path, name: &str) -> Option<Vec<u8>> {
    get(open(archive).tree(), name)
}

#[test]
fn where_nothing_changed_here_the_upgrade_is_taken_byte_for_byte() {
    let two = Two::new();
    edit(&two.theirs, |tree| put(tree, "edited", b"theirs"));
    let old = fs::read(&two.own).unwrap();
    let taken = two.take().unwrap();
    assert!(taken.is_forward && taken.merged.conflicts.is_empty() && taken.merged.changes.is_empty());
    assert_eq!(taken.kept, kept(&two.own.canonicalize().unwrap()));
    assert_eq!(fs::read(&two.own).unwrap(), fs::read(&two.theirs).unwrap());
    assert_eq!(fs::read(&taken.kept).unwrap(), old);
    assert_eq!(read(&two.own, "edited").unwrap(), b"theirs");
}

#[test]
fn what_changed_here_is_merged_by_path_and_is_one_commit_behind_it() {
    let two = Two::new();
    edit(&two.theirs, |tree| {
        put(tree, "edited", b"theirs");
        put(tree, "both", b"theirs");
    });
    edit(&two.own, |tree| {
        put(tree, "mine", b"changed here");
        put(tree, "new", b"1");
        put(tree, "both", b"ours");
    });
    let old = fs::read(&two.own).unwrap();
    let taken = two.take().unwrap();
    assert!(!taken.is_forward);
    assert_eq!(fs::read(&taken.kept).unwrap(), old);
    let [conflict] = taken.merged.conflicts.as_slice() else { panic!("{:?}", taken.merged.conflicts) };
    assert_eq!(conflict.kind, ConflictKind::BothEdited);
    let vault = open(&two.own);
    let found = |name: &str| get(vault.tree(), name).unwrap();
    assert_eq!((found("both"), found("edited")), (b"theirs".to_vec(), b"theirs".to_vec()));
    assert_eq!((found("mine"), found("new")), (b"changed here".to_vec(), b"1".to_vec()));
    assert_eq!(found(&conflict.copy.as_ref().unwrap().to_string()), b"ours");
    // The other machine just goes forward, and further merges go by ids.
    assert_eq!(vault.relation(&copy(&two.theirs, PASSPHRASE)).unwrap(), Relation::OursAhead);
    assert!(fs::read(&two.own).unwrap().starts_with(&fs::read(&two.theirs).unwrap()));
    let other = open(&two.theirs);
    let ours = copy(&two.own, PASSPHRASE);
    assert_eq!(other.relation(&ours).unwrap(), Relation::TheirsAhead);
    other.join(&ours, None).unwrap();
    assert_eq!(get(other.tree(), "mine").unwrap(), b"changed here");
}

#[test]
fn what_was_deleted_on_one_side_is_gone_and_what_was_edited_is_not() {
    let two = Two::new();
    let remove = |tree: &Tree, name: &str| tree.unlink(vaultfs::tree::Ino::ROOT, name.as_bytes()).unwrap();
    edit(&two.theirs, |tree| ["edited", "mine"].iter().for_each(|name| remove(tree, name)));
    edit(&two.own, |tree| {
        put(tree, "mine", b"changed here");
        remove(tree, "both");
    });
    two.take().unwrap();
    assert_eq!((read(&two.own, "edited"), read(&two.own, "both")), (None, None));
    assert_eq!(read(&two.own, "mine").unwrap(), b"changed here");
}

#[test]
fn a_passphrase_that_was_changed_with_the_upgrade_opens_the_result() {
    let two = Two::new();
    let theirs = open(&two.theirs);
    theirs.change_passphrase(&passphrase(PASSPHRASE), passphrase("new"), Rekey::NewMaster).unwrap();
    theirs.close().map_err(|(_, error)| error).unwrap();
    edit(&two.own, |tree| put(tree, "mine", b"changed here"));
    two.take_with(PASSPHRASE, "new").unwrap();
    assert!(matches!(try_open(&two.own, &patient()).map(drop), Err(VaultError::WrongPassphrase)));
    let (vault, _) = Vault::open(&two.own, passphrase("new"), &patient()).unwrap();
    assert_eq!(get(vault.tree(), "mine").unwrap(), b"changed here");
}

#[test]
fn two_upgrades_made_apart_become_the_others_vault_by_path_and_content() {
    let two = Two::new();
    upgrade(&two.own);
    let witness = Some(two.own.with_file_name("witness"));
    let options = VaultOptions { witness, ..patient() };
    edit(&two.theirs, |tree| ["edited", "both"].iter().for_each(|name| put(tree, name, b"theirs")));
    let vault = try_open(&two.own, &options).unwrap().0;
    put(vault.tree(), "mine", b"changed here");
    put(vault.tree(), "both", b"ours");
    vault.committer().commit().unwrap();
    let before = fs::read(&two.own).unwrap();
    let (theirs, base) = (copy(&two.theirs, PASSPHRASE), copy(&two.base, PASSPHRASE));
    for refused in [vault.join(&theirs, None), vault.join(&theirs, Some(&theirs))] {
        assert!(matches!(refused, Err(VaultError::Format { source: FormatError::OtherVault, .. })));
    }
    assert_eq!(fs::read(&two.own).unwrap(), before);
    let merged = vault.join(&theirs, Some(&base)).unwrap();
    assert_eq!(merged.conflicts.len(), 1);
    assert!(fs::read(&two.own).unwrap().starts_with(&fs::read(&two.theirs).unwrap()));
    put(vault.tree(), "new", b"goes on");
    vault.close().map_err(|(_, error)| error).unwrap();
    // This machine knows the vault that it is now.
    let vault = try_open(&two.own, &options).unwrap().0;
    let found = |name: &str| get(vault.tree(), name).unwrap();
    assert_eq!((found("both"), found("edited")), (b"theirs".to_vec(), b"theirs".to_vec()));
    assert_eq!((found("mine"), found("new")), (b"changed here".to_vec(), b"goes on".to_vec()));
    assert_eq!(found(&merged.conflicts[0].copy.as_ref().unwrap().to_string()), b"ours");
    assert_eq!(vault.relation(&theirs).unwrap(), Relation::OursAhead);
}

#[test]
fn what_cannot_be_taken_changes_nothing() {
    let two = Two::new();
    let old = fs::read(&two.own).unwrap();
    let unchanged = || {
        assert_eq!(fs::read(&two.own).unwrap(), old);
        assert_eq!(ArchiveFormat::of(&two.own).unwrap(), ArchiveFormat::V1);
    };
    assert!(two.take_with("wrong", PASSPHRASE).is_err());
    unchanged();
    let open_own = open(&two.own);
    assert!(matches!(two.take(), Err(VaultError::Locked(_))));
    drop(open_own);
    unchanged();
    // Of version 1, no upgrade; of version 2, no state that both began with.
    let (theirs, base) = (copy(&two.theirs, PASSPHRASE), copy(&two.base, PASSPHRASE));
    let take = |theirs, base| Vault::take_upgrade(&two.own, passphrase(PASSPHRASE), theirs, base, &patient());
    let refused = take(&base, &base);
    assert!(matches!(refused, Err(VaultError::Format { source: FormatError::Unsupported(_), .. })), "{refused:?}");
    assert!(matches!(take(&theirs, &theirs), Err(VaultError::NoCommonState(_))));
    unchanged();
    // Another old file is in the way.
    fs::write(kept(&two.own), b"of somebody").unwrap();
    assert!(matches!(two.take(), Err(VaultError::ArchiveExists(_))));
    unchanged();
    assert_eq!(fs::read(kept(&two.own)).unwrap(), b"of somebody");
    fs::remove_file(kept(&two.own)).unwrap();
    // What a try before left is no hindrance.
    fs::hard_link(&two.own, kept(&two.own)).unwrap();
    two.take().unwrap();
    assert_eq!(fs::read(kept(&two.own)).unwrap(), old);
    assert!(matches!(take(&theirs, &base), Err(VaultError::Format { source: FormatError::Unsupported(_), .. })));
}
