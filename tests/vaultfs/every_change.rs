//! Every kind of change to a tree, in steps that are committed one by one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::support::{OWNER, make_folder, noise, path, put};
use vaultfs::entry::Timestamp;
use vaultfs::tree::{
    AllocateMode, Ino, NewKind, NewNode, RenameMode, SetAttributes, SetTime, Tree, WriteOptions, XattrMode,
};

/// A step: what it is, and the change, given the size of the large file.
pub type Step = (&'static str, fn(&Tree, usize));

/// The steps, in their order.
pub const STEPS: [Step; 12] = [
    ("files and folders", files_and_folders),
    ("symlinks, pipes, sockets, devices", special_files),
    ("attributes set", attributes_set),
    ("a write inside a file", |tree, big| write(tree, "big", big / 2 + 1, &noise(big / 40, 77))),
    ("a shorter file, made longer again", shorter_and_longer),
    ("holes", holes),
    ("hard links, the first name unlinked", hard_links),
    ("attributes replaced and removed", attributes_removed),
    ("renames of files and folders", renames),
    ("exchanges", exchanges),
    ("modes, and times before 1970", modes_and_times),
    ("unlinked and removed", removed),
];

fn ino(tree: &Tree, name: &str) -> Ino {
    tree.resolve(&path(name)).unwrap().ino
}

fn write(tree: &Tree, name: &str, offset: usize, data: &[u8]) {
    tree.write(ino(tree, name), offset as u64, data, WriteOptions::default()).unwrap();
}

fn make(tree: &Tree, name: &[u8], kind: NewKind) {
    tree.make(Ino::ROOT, name, NewNode { kind, mode: 0o640, owner: OWNER }).unwrap();
}

fn rename(tree: &Tree, from: (&str, &str), to: (&str, &str), mode: RenameMode) {
    let (old, new) = (ino(tree, from.0), ino(tree, to.0));
    tree.rename(old, from.1.as_bytes(), new, to.1.as_bytes(), mode).unwrap();
}

fn files_and_folders(tree: &Tree, big: usize) {
    let one = make_folder(tree, Ino::ROOT, "one");
    let two = make_folder(tree, one, "two");
    make_folder(tree, two, "three");
    make_folder(tree, Ino::ROOT, "other");
    put(tree, "big", &noise(big, 1));
    put(tree, "text", &b"compresses very well, ".repeat(big / 200));
    put(tree, "one/small", b"a small file");
    put(tree, "one/two/empty", b"");
    put(tree, "one/two/three/deep", &noise(5_000, 2));
    put(tree, "other/replaced", b"will be replaced");
}

fn special_files(tree: &Tree, _: usize) {
    make(tree, b"link", NewKind::Symlink(b"one/small".to_vec()));
    make(tree, b"long link", NewKind::Symlink(vec![b'x'; 4_095]));
    make(tree, b"bytes \xff\xfe", NewKind::Symlink(b"to \x80".to_vec()));
    make(tree, b"pipe", NewKind::Fifo);
    make(tree, b"socket", NewKind::Socket);
    make(tree, b"tty", NewKind::CharDevice(rustix::fs::makedev(5, 3)));
    make(tree, b"disk", NewKind::BlockDevice(rustix::fs::makedev(300, 70_000)));
    make(tree, &[b'n'; 255], NewKind::File);
    make(tree, "Füße".as_bytes(), NewKind::File);
}

fn attributes_set(tree: &Tree, _: usize) {
    for name in ["", "one", "one/small", "big"] {
        let ino = ino(tree, name);
        for (attribute, value) in [("user.a", &b"\x00\xff value"[..]), ("user.empty", b""), ("user.gone", b"bye")] {
            tree.set_xattr(ino, attribute.as_bytes(), value, XattrMode::Set).unwrap();
        }
    }
    tree.set_xattr(ino(tree, "text"), b"user.\xc3\xa4", &noise(3_000, 3), XattrMode::Create).unwrap();
}

fn attributes_removed(tree: &Tree, _: usize) {
    for name in ["", "one", "big"] {
        let ino = ino(tree, name);
        tree.remove_xattr(ino, b"user.gone").unwrap();
        tree.set_xattr(ino, b"user.a", b"another", XattrMode::Replace).unwrap();
    }
}

fn shorter_and_longer(tree: &Tree, big: usize) {
    let resize = |name, size: usize| {
        let set = SetAttributes { size: Some(size as u64), ..SetAttributes::default() };
        tree.set_attributes(ino(tree, name), &set).unwrap();
    };
    resize("big", big * 2 / 3 + 3);
    resize("big", big * 3 / 4 + 1);
    resize("text", 1_001);
    resize("one/two/empty", 10_000_000);
}

fn holes(tree: &Tree, big: usize) {
    let big = big as u64;
    tree.allocate(ino(tree, "big"), big / 8 + 5, big / 4, AllocateMode::PunchHole).unwrap();
    tree.allocate(ino(tree, "big"), big / 2, 100, AllocateMode::ZeroRange).unwrap();
    write(tree, "one/two/empty", 9_000_001, b"after a long hole");
}

fn hard_links(tree: &Tree, _: usize) {
    for (from, folder, name) in [
        ("one/small", "other", "small"),
        ("one/small", "", "a-small"),
        ("link", "one", "link"),
        ("pipe", "one", "pipe"),
    ] {
        tree.link(ino(tree, from), ino(tree, folder), name.as_bytes()).unwrap();
    }
    tree.unlink(ino(tree, "one"), b"small").unwrap();
}

fn renames(tree: &Tree, _: usize) {
    rename(tree, ("one/two/three", "deep"), ("other", "replaced"), RenameMode::Replace);
    rename(tree, ("", "big"), ("one/two", "large"), RenameMode::NoReplace);
    // What was the child becomes the parent.
    rename(tree, ("one", "two"), ("", "two"), RenameMode::NoReplace);
    rename(tree, ("", "one"), ("two/three", "one"), RenameMode::NoReplace);
}

fn exchanges(tree: &Tree, _: usize) {
    rename(tree, ("", "two"), ("", "text"), RenameMode::Exchange);
    rename(tree, ("text/three/one", "link"), ("other", "small"), RenameMode::Exchange);
    rename(tree, ("", "other"), ("text", "three"), RenameMode::Exchange);
}

fn modes_and_times(tree: &Tree, _: usize) {
    for (name, secs, nanos, mode) in [
        ("", 1_234_567_890, 1, 0o750),
        ("text/large", -2, 500_000_000, 0o4755),
        ("a-small", -62_135_596_800, 999_999_999, 0),
    ] {
        let mtime = Some(SetTime::At(Timestamp { secs, nanos }));
        let set = SetAttributes { mtime, mode: Some(mode), ..SetAttributes::default() };
        tree.set_attributes(ino(tree, name), &set).unwrap();
    }
}

fn removed(tree: &Tree, _: usize) {
    for name in ["long link", "Füße"] {
        tree.unlink(Ino::ROOT, name.as_bytes()).unwrap();
    }
    make_folder(tree, Ino::ROOT, "short-lived");
    tree.remove_folder(Ino::ROOT, b"short-lived").unwrap();
    for name in ["replaced", "small"] {
        tree.unlink(ino(tree, "text/three"), name.as_bytes()).unwrap();
    }
    tree.remove_folder(ino(tree, "text"), b"three").unwrap();
}
