//! The counters against a count from scratch, after random operations of every kind; and the limits that keep a tree such
//! that an archive can hold it.

use super::inode::{NAME_COST, Node};
use super::state::State;
use super::*;
use crate::entry::PATH_MAX;

const PAGE: u64 = crate::crypto::PAGE_SIZE as u64;
const OWNER: Owner = Owner { uid: 1000, gid: 1000 };

fn tree(size_limit: u64, entry_limit: u64) -> Tree {
    Tree::new(TreeOptions { owner: OWNER, size_limit, logical_limit: 1 << 20, entry_limit }).unwrap()
}

fn make(tree: &Tree, parent: Ino, name: &[u8], kind: NewKind) -> Result<Ino, TreeError> {
    Ok(tree.make(parent, name, NewNode { kind, mode: 0o750, owner: OWNER })?.ino)
}

impl State {
    /// Used and logical bytes, entries and further names, counted from what is there. Also checks that places, folders and
    /// subfolder counts say the same.
    fn count_from_scratch(&self) -> (u64, u64, u64, u64) {
        let (mut used, mut logical, mut entries, mut links) = (0, 0, 0, 0);
        for (&ino, inode) in &self.inodes {
            used += inode.0.cost();
            if let Node::File(file) = &inode.0.node {
                logical += file.content.size();
                file.content.assert_counted();
            }
            for place in &inode.0.places {
                let folder = self.folder(place.folder).unwrap();
                let name = folder.name_at(place.cookie).expect("a place has its name");
                assert_eq!(folder.child(name).map(|child| (child.ino, child.cookie)), Some((ino, place.cookie)));
                used += NAME_COST + name.len() as u64;
            }
            entries += u64::from(!inode.0.places.is_empty());
            links += (inode.0.places.len() as u64).saturating_sub(1);
            if let Node::Folder(folder) = &inode.0.node {
                let kinds = folder.entries().map(|(_, child)| &self.inode(child).expect("an entry has its inode").node);
                assert_eq!(folder.subfolders as usize, kinds.filter(|node| matches!(node, Node::Folder(_))).count());
            }
            assert!(inode.0.is_linked(ino) || self.pins.contains(ino), "{ino:?} cannot be reached");
        }
        (used, logical, entries, links)
    }
}

/// A small generator (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// One operation; that it may be refused is part of the game.
fn operation(random: &mut Random, tree: &Tree, pinned: &mut Vec<Ino>) -> Result<(), TreeError> {
    let inodes: Vec<Ino> = tree.state.read().inodes.keys().copied().collect();
    let (ino, folder, other) = (random.pick(&inodes), random.pick(&inodes), random.pick(&inodes));
    let names: [&[u8]; 5] = [b"a", b"b", b"c", b"a-longer-name", b"d"];
    let (name, new_name) = (random.pick(&names), random.pick(&names));
    let (offset, len) = (random.below(6 * PAGE), random.below(3 * PAGE));
    match random.below(16) {
        0 | 1 => make(tree, folder, name, NewKind::Folder).map(drop),
        2 | 3 => make(tree, folder, name, NewKind::File).map(drop),
        4 => make(tree, folder, name, NewKind::Symlink(vec![b'x'; 1 + len as usize % 4000])).map(drop),
        5 if len.is_multiple_of(8) => {
            tree.write_answering(ino, offset, &vec![7; len as usize + 65_536], WriteOptions::default(), || ())
        }
        5 => tree.write(ino, offset, &vec![7; len as usize], WriteOptions::default()).map(drop),
        6 => tree.set_attributes(ino, &SetAttributes { size: Some(offset), ..SetAttributes::default() }).map(drop),
        7 | 8 => {
            let modes = [
                AllocateMode::Extend,
                AllocateMode::KeepSize,
                AllocateMode::PunchHole,
                AllocateMode::ZeroRange,
                AllocateMode::ZeroRangeKeepSize,
            ];
            tree.allocate(ino, offset, len, random.pick(&modes))
        }
        9 => tree.set_xattr(ino, random.pick(&[b"user.x", b"user.y"]), &vec![1; len as usize % 500], XattrMode::Set),
        10 => tree.remove_xattr(ino, b"user.x"),
        11 => tree.link(ino, folder, name).map(drop),
        12 => tree.unlink(folder, name),
        13 => tree.remove_folder(folder, name),
        14 => {
            let mode = random.pick(&[RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange]);
            tree.rename(folder, name, other, new_name, mode)
        }
        _ if pinned.len() < 5 => {
            tree.pin(ino)?;
            pinned.push(ino);
            Ok(())
        }
        _ => {
            tree.unpin(pinned.remove(0), 1);
            Ok(())
        }
    }
}

#[test]
fn the_counters_are_what_a_count_from_scratch_gives() {
    let mut refused = 0;
    for seed in 1..=20 {
        let tree = tree(120 * 1024, 25);
        let mut random = Random(seed);
        let mut pinned = Vec::new();
        for step in 0..600 {
            let full = operation(&mut random, &tree, &mut pinned) == Err(TreeError::NoSpace);
            refused += u64::from(full);
            let state = tree.state.read();
            assert_eq!(state.counters(), state.count_from_scratch(), "seed {seed}, step {step}");
            assert!(state.usage().used <= state.options.size_limit, "seed {seed}, step {step}");
            assert!(state.gone.is_empty(), "seed {seed}, step {step}: something gone is kept");
        }
        pinned.into_iter().for_each(|ino| tree.unpin(ino, 1));
        let state = tree.state.read();
        assert_eq!(state.counters(), state.count_from_scratch());
    }
    assert!(refused > 100, "the limits were hardly met");
}

/// Folders in each other from the root on, until their path has `len` bytes; returns the innermost.
fn deep_folder(tree: &Tree, mut len: usize) -> Ino {
    let mut at = Ino::ROOT;
    while len > 0 {
        let name = vec![b'd'; if len > 255 { 200 } else { len }];
        at = make(tree, at, &name, NewKind::Folder).unwrap();
        len = len.saturating_sub(name.len() + 1);
    }
    at
}

#[test]
fn regression_no_path_gets_too_long_for_an_archive() {
    let tree = tree(64 << 20, 1000);
    let deep = deep_folder(&tree, PATH_MAX - 11);
    let file = make(&tree, deep, b"0123456789", NewKind::File).unwrap();
    assert_eq!(tree.path_of(file).unwrap().as_bytes().len(), PATH_MAX);
    assert_eq!(make(&tree, deep, b"0123456789a", NewKind::File), Err(TreeError::NameTooLong));
    assert_eq!(tree.link(file, deep, b"another-link").map(drop), Err(TreeError::NameTooLong));
    let rename = |from: (Ino, &[u8]), to: (Ino, &[u8]), mode| tree.rename(from.0, from.1, to.0, to.1, mode);
    let too_long = (deep, b"0123456789a".as_slice());
    assert_eq!(rename((deep, b"0123456789"), too_long, RenameMode::Replace), Err(TreeError::NameTooLong));
    rename((deep, b"0123456789"), (deep, b"abcdefghij"), RenameMode::Replace).unwrap();
}

#[test]
fn regression_no_folder_moves_to_where_paths_below_it_get_too_long() {
    let tree = tree(64 << 20, 1000);
    deep_folder(&tree, PATH_MAX);
    let top = vec![b'd'; 200];
    let rename = |from: &[u8], to: (Ino, &[u8]), mode| tree.rename(Ino::ROOT, from, to.0, to.1, mode);
    let longer = vec![b'e'; 201];
    assert_eq!(rename(&top, (Ino::ROOT, &longer), RenameMode::Replace), Err(TreeError::NameTooLong));
    let below = make(&tree, Ino::ROOT, b"x", NewKind::Folder).unwrap();
    make(&tree, below, b"y", NewKind::Folder).unwrap();
    assert_eq!(rename(&top, (below, &top[..199]), RenameMode::Replace), Err(TreeError::NameTooLong));
    assert_eq!(rename(&top, (below, b"y"), RenameMode::Exchange).map(drop), Ok(()), "shorter fits");
    assert_eq!(tree.rename(below, b"y", Ino::ROOT, &longer, RenameMode::Replace), Err(TreeError::NameTooLong));
    make(&tree, Ino::ROOT, &longer, NewKind::Folder).unwrap();
    assert_eq!(tree.rename(below, b"y", Ino::ROOT, &longer, RenameMode::Exchange), Err(TreeError::NameTooLong));
    assert_eq!(tree.rename(Ino::ROOT, &longer, below, b"y", RenameMode::Exchange), Err(TreeError::NameTooLong));
    tree.rename(below, b"y", Ino::ROOT, &top, RenameMode::Exchange).unwrap();
    let snapshot = Arc::new(tree.snapshot());
    assert_eq!(snapshot.entries().map(|(entry, _)| entry.path.as_bytes().len()).max(), Some(PATH_MAX));
}

#[test]
fn regression_no_more_names_are_made_than_an_archive_is_read_with() {
    let tree = tree(64 << 20, 3);
    let file = make(&tree, Ino::ROOT, b"f", NewKind::File).unwrap();
    for number in 0..24 {
        tree.link(file, Ino::ROOT, format!("link{number}").as_bytes()).unwrap();
    }
    assert_eq!(tree.link(file, Ino::ROOT, b"one more").map(drop), Err(TreeError::NoSpace));
    tree.unlink(Ino::ROOT, b"link5").unwrap();
    tree.link(file, Ino::ROOT, b"one more").unwrap();
}
