//! What another machine did comes to programs that use the mounts: new content, new names, gone names; open files stay open.
//! Needs root and /dev/fuse.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "mount_support.rs"]
mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use support::*;
use vaultfs::crypto::{KdfCost, Suite};
use vaultfs::entry::EntryPath;
use vaultfs::fuse::{Access, View};
use vaultfs::tree::{Merged, NewKind, NewNode, Owner, RenameMode, Tree, WriteOptions};
use vaultfs::vault::{ArchiveCopy, NewArchive, Vault};

/// Another machine with a copy of the archive as it is now.
fn elsewhere(fixture: &Fixture) -> (Vault, ArchiveCopy) {
    fixture.vault.committer().commit().unwrap();
    let base = fixture.folder.path().join("base.tar.aes");
    fs::copy(fixture.vault.archive(), &base).unwrap();
    let other = fixture.archived();
    (other, fixture.vault.open_copy(&base, None).unwrap())
}

fn put(tree: &Tree, name: &str, content: &[u8]) {
    let name = EntryPath::parse(name.as_bytes()).unwrap();
    let (parent, last) = name.split_last().unwrap();
    let parent = tree.resolve(&parent).unwrap().ino;
    let new = NewNode { kind: NewKind::File, mode: 0o600, owner: Owner::of_this_process() };
    let ino = tree.lookup(parent, last).or_else(|_| tree.make(parent, last, new)).unwrap().ino;
    tree.write(ino, 0, content, WriteOptions::default()).unwrap();
}

/// Takes over what the other machine has, as the agent does.
fn join(fixture: &Fixture, other: &Vault, base: &ArchiveCopy) -> Merged {
    other.committer().commit().unwrap();
    let theirs = fixture.vault.open_copy(other.archive(), None).unwrap();
    fixture.mounts.before_outside_change();
    let merged = fixture.vault.join(&theirs, Some(base)).unwrap();
    fixture.mounts.after_outside_change(&merged.changes);
    merged
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Two mounts, so that both kinds of caching are there, warm.
fn fixture() -> (Fixture, PathBuf, PathBuf) {
    let cost = KdfCost { memory_kib: 64, passes: 1, lanes: 1 };
    let mut fixture = Fixture::of_kind(NewArchive::V2 { suite: Suite::Aes256Gcm, cost }, OPTIONS);
    let whole = fixture.mount("whole", View::whole(Access::ReadWrite));
    fs::create_dir(whole.join("sub")).unwrap();
    for name in ["edited", "gone", "moved", "sub/edited", "sub/gone"] {
        fs::write(whole.join(name), b"begin").unwrap();
    }
    let inner = fixture.mount_subtree("inner", "sub", Access::ReadWrite);
    for folder in [&whole, &inner] {
        names(folder).iter().for_each(|name| drop(fs::read(folder.join(name))));
    }
    (fixture, whole, inner)
}

#[test]
fn readers_see_what_the_other_machine_did() {
    let (fixture, whole, inner) = fixture();
    let (other, base) = elsewhere(&fixture);
    let tree = other.tree();
    let root = vaultfs::tree::Ino::ROOT;
    let sub = tree.lookup(root, b"sub").unwrap().ino;
    put(tree, "edited", b"longer than before");
    put(tree, "sub/edited", b"longer than before");
    put(tree, "sub/new", b"new");
    tree.unlink(root, b"gone").unwrap();
    tree.unlink(sub, b"gone").unwrap();
    tree.rename(root, b"moved", sub, b"moved", RenameMode::Replace).unwrap();
    assert_eq!(join(&fixture, &other, &base).conflicts, []);
    for (folder, expected) in [(&whole, vec!["edited", "sub"]), (&inner, vec!["edited", "moved", "new"])] {
        assert_eq!(names(folder), expected);
        assert_eq!(fs::read(folder.join("edited")).unwrap(), b"longer than before");
        assert_eq!(fs::metadata(folder.join("gone")).unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(fs::read(inner.join("moved")).unwrap(), b"begin");
    assert_eq!(fs::read(whole.join("sub/new")).unwrap(), b"new");
    // What is written through one mount is seen through the other, also where the merge put it.
    fs::write(inner.join("moved"), b"written inside").unwrap();
    assert_eq!(fs::read(whole.join("sub/moved")).unwrap(), b"written inside");
    fs::write(whole.join("sub/moved"), b"written outside").unwrap();
    assert_eq!(fs::read(inner.join("moved")).unwrap(), b"written outside");
}

#[test]
fn open_files_go_on() {
    let (fixture, whole, _) = fixture();
    let (other, base) = elsewhere(&fixture);
    let mut appending = OpenOptions::new().append(true).open(whole.join("edited")).unwrap();
    let gone = File::open(whole.join("gone")).unwrap();
    let local = OpenOptions::new().write(true).open(whole.join("moved")).unwrap();
    local.write_all_at(b"LOCAL", 0).unwrap();
    put(other.tree(), "edited", b"from the other machine\n");
    other.tree().unlink(vaultfs::tree::Ino::ROOT, b"gone").unwrap();
    let parent = vaultfs::tree::Ino::ROOT;
    other.tree().rename(parent, b"moved", parent, b"elsewhere", RenameMode::Replace).unwrap();
    let merged = join(&fixture, &other, &base);
    assert_eq!(merged.conflicts, []);
    appending.write_all(b"and from here\n").unwrap();
    assert_eq!(fs::read(whole.join("edited")).unwrap(), b"from the other machine\nand from here\n");
    let mut held = [0; 5];
    gone.read_exact_at(&mut held, 0).unwrap();
    assert_eq!(&held, b"begin");
    local.write_all_at(b"l", 0).unwrap();
    assert_eq!(fs::read(whole.join("elsewhere")).unwrap(), b"lOCAL", "renamed there, edited here");
    let mut text = String::new();
    File::open(whole.join("elsewhere")).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(fixture.content("elsewhere"), text.as_bytes());
    let removed = merged.changes.removed[0].0;
    drop(gone);
    eventually("what was deleted elsewhere goes when nobody has it open", || fixture.tree().stat(removed).is_err());
    drop((appending, local));
    let (vault, _folder) = fixture.reopened();
    assert_eq!(content(vault.tree(), "elsewhere").unwrap(), text.as_bytes());
}

#[test]
fn copies_of_what_a_view_hides_are_hidden_too() {
    let mut fixture = Fixture::mounted();
    let whole = fixture.whole().to_owned();
    fs::write(whole.join("edited"), b"begin").unwrap();
    let hidden = vec![EntryPath::parse(b"edited").unwrap()];
    let filtered = fixture.mount("filtered", View { hidden, ..View::whole(Access::ReadWrite) });
    let (other, base) = elsewhere(&fixture);
    fs::write(whole.join("edited"), b"a secret of this side").unwrap();
    put(other.tree(), "edited", b"theirs");
    let merged = join(&fixture, &other, &base);
    let copy = merged.conflicts[0].copy.as_ref().unwrap().to_string();
    assert_eq!(fs::read(whole.join(&copy)).unwrap(), b"a secret of this side");
    assert_eq!(fs::metadata(filtered.join(&copy)).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!names(&filtered).contains(&".tazpod-conflicts".to_owned()));
}
