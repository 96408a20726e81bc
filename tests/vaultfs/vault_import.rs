//! Import and export of plain tars: all or nothing, with modes, times and attributes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "vault_support.rs"]
mod support;

use support::*;
use vaultfs::entry::{EntryPath, Timestamp};
use vaultfs::tree::{Ino, NodeType, SetAttributes, SetTime, TreeError, XattrMode};
use vaultfs::vault::{OnExisting, Vault, VaultError, VaultOptions};

/// A vault with a bit of everything, as a tar.
fn exported() -> Vec<u8> {
    let scratch = scratch();
    let vault = open(&scratch.archive);
    let tree = vault.tree();
    let folder = make_folder(tree, Ino::ROOT, "dir");
    put(tree, "dir/file", b"content");
    put(tree, "dir/large", &noise(200_000, 5));
    let file = tree.resolve(&path("dir/file")).unwrap().ino;
    tree.set_xattr(file, b"user.note", b"value", XattrMode::Create).unwrap();
    tree.link(file, Ino::ROOT, b"hard").unwrap();
    let new = |kind| vaultfs::tree::NewNode { kind, mode: 0o777, owner: OWNER };
    tree.make(folder, b"link", new(vaultfs::tree::NewKind::Symlink(b"file".to_vec()))).unwrap();
    tree.make(folder, b"pipe", new(vaultfs::tree::NewKind::Fifo)).unwrap();
    let old = |mode| SetAttributes {
        mode: Some(mode),
        mtime: Some(SetTime::At(Timestamp { secs: 1_000_000_000, nanos: 123_456_789 })),
        ..SetAttributes::default()
    };
    tree.set_attributes(file, &old(0o640)).unwrap();
    tree.set_attributes(folder, &old(0o750)).unwrap();
    let mut tar = Vec::new();
    vault.export(&mut tar).unwrap();
    vault.discard();
    tar
}

fn import(vault: &Vault, tar: &[u8], into: &str, existing: OnExisting) -> Result<u64, VaultError> {
    vault.import(&mut &*tar, &path(into), existing)
}

#[test]
fn what_was_exported_is_imported_as_it_was() {
    let tar = exported();
    let scratch = scratch();
    let vault = open(&scratch.archive);
    assert_eq!(import(&vault, &tar, "a/b", OnExisting::Refuse).unwrap(), 6);
    let tree = vault.tree();
    let stat = tree.resolve(&path("a/b/dir/file")).unwrap();
    assert_eq!((stat.mode, stat.nlink), (0o640, 2));
    assert_eq!(stat.mtime, Timestamp { secs: 1_000_000_000, nanos: 123_456_789 });
    assert_eq!(tree.xattr(stat.ino, b"user.note").unwrap(), b"value");
    assert_eq!(tree.resolve(&path("a/b/hard")).unwrap().ino, stat.ino);
    assert_eq!(get(tree, "a/b/dir/large").unwrap(), noise(200_000, 5));
    let folder = tree.resolve(&path("a/b/dir")).unwrap();
    assert_eq!((folder.mode, folder.mtime.secs), (0o750, 1_000_000_000));
    assert_eq!(tree.read_link(tree.resolve(&path("a/b/dir/link")).unwrap().ino).unwrap(), b"file");
    assert_eq!(tree.resolve(&path("a/b/dir/pipe")).unwrap().node_type, NodeType::Fifo);
}

#[test]
fn existing_files_are_refused_or_replaced_as_asked() {
    let tar = exported();
    let scratch = scratch();
    let vault = open(&scratch.archive);
    put(vault.tree(), "hard", b"mine");
    let before = vault.tree().revision();
    let refused = import(&vault, &tar, "", OnExisting::Refuse);
    assert!(
        matches!(&refused, Err(VaultError::Tree { path, source: TreeError::Exists }) if path == "/hard"),
        "{refused:?}"
    );
    assert_eq!(vault.tree().revision(), before, "nothing was changed");
    import(&vault, &tar, "", OnExisting::Replace).unwrap();
    assert_eq!(get(vault.tree(), "hard").unwrap(), b"content");
    // Once more over itself, hard links included.
    import(&vault, &tar, "", OnExisting::Replace).unwrap();
    assert_eq!(get(vault.tree(), "dir/large").unwrap(), noise(200_000, 5));
    assert_eq!(vault.tree().usage().entries, 5, "no temporary name is left");
    assert_eq!(vault.tree().resolve(&path("hard")).unwrap().nlink, 2);
}

#[test]
fn a_tar_that_does_not_fit_or_is_broken_changes_nothing() {
    let tar = exported();
    let scratch = scratch();
    let small = VaultOptions { size_limit: 100_000, ..patient() };
    let vault = try_open(&scratch.archive, &small).unwrap().0;
    let before = vault.tree().revision();
    assert!(import(&vault, &tar, "", OnExisting::Refuse).is_err());
    assert!(matches!(import(&vault, &tar[..5000], "", OnExisting::Refuse), Err(VaultError::Import(_))));
    assert_eq!(vault.tree().revision(), before);
    let into = EntryPath::parse(b"file/below").unwrap();
    put(vault.tree(), "file", b"x");
    let before = vault.tree().revision();
    assert!(vault.import(&mut &*tar, &into, OnExisting::Refuse).is_err());
    assert_eq!(vault.tree().revision(), before);
}
