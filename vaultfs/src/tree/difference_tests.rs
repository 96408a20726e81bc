//! Differences carry every state of a tree over to another one, and nothing that could not come from a tree is taken.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::entry::{Attributes, Change, Entry, InodeId, InodeKind};

const OWNER: Owner = Owner { uid: 1, gid: 1 };

fn new_tree() -> Tree {
    let options = TreeOptions { owner: OWNER, size_limit: 8 << 20, logical_limit: 1 << 30, entry_limit: 1000 };
    Tree::new(options).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Make(u8, u8, u8),
    Remove(u8, u8),
    Rename(u8, u8, u8, u8, u8),
    Link(u8, u8, u8),
    Write(u8, u32, u16, u8),
    Resize(u8, u32),
    Punch(u8, u32, u32),
    Reserve(u8, u32, u16),
    Attribute(u8, u8, u8),
    Mode(u8, u16),
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (any::<u8>(), 0..6u8, any::<u8>()).prop_map(|(a, b, c)| Step::Make(a, b, c)),
        3 => (any::<u8>(), 0..6u8).prop_map(|(a, b)| Step::Remove(a, b)),
        3 => (any::<u8>(), 0..6u8, any::<u8>(), 0..6u8, 0..3u8).prop_map(|(a, b, c, d, e)| Step::Rename(a, b, c, d, e)),
        1 => (any::<u8>(), any::<u8>(), 0..6u8).prop_map(|(a, b, c)| Step::Link(a, b, c)),
        5 => (any::<u8>(), 0..300_000u32, 1..20_000u16, any::<u8>()).prop_map(|(a, b, c, d)| Step::Write(a, b, c, d)),
        2 => (any::<u8>(), 0..300_000u32).prop_map(|(a, b)| Step::Resize(a, b)),
        2 => (any::<u8>(), 0..300_000u32, 1..100_000u32).prop_map(|(a, b, c)| Step::Punch(a, b, c)),
        1 => (any::<u8>(), 0..300_000u32, 1..20_000u16).prop_map(|(a, b, c)| Step::Reserve(a, b, c)),
        1 => (any::<u8>(), 0..3u8, any::<u8>()).prop_map(|(a, b, c)| Step::Attribute(a, b, c)),
        1 => (any::<u8>(), 0..0o10000u16).prop_map(|(a, b)| Step::Mode(a, b)),
        4 => Just(Step::Snapshot),
    ]
}

/// All inodes with a name, folders apart, so that numbers pick one that is there.
fn pick(tree: &Tree, number: u8, folders: bool) -> Ino {
    let state = tree.state.read();
    let all: Vec<Ino> = state
        .inodes
        .iter()
        .filter(|(ino, inode)| inode.0.is_linked(**ino) && folders == matches!(inode.0.node, inode::Node::Folder(_)))
        .map(|(ino, _)| *ino)
        .collect();
    if all.is_empty() { Ino::ROOT } else { all[usize::from(number) % all.len()] }
}

fn name(number: u8) -> [u8; 1] {
    [b'a' + number]
}

/// Does a step; what the tree refuses changes nothing.
fn apply(tree: &Tree, step: &Step) -> Result<(), TreeError> {
    let folder = |number| pick(tree, number, true);
    let file = |number| pick(tree, number, false);
    match *step {
        Step::Make(parent, child, kind) => {
            let kind = match kind % 6 {
                0 | 1 => NewKind::Folder,
                2 | 3 => NewKind::File,
                4 => NewKind::Symlink(vec![b'x'; 1 + usize::from(kind)]),
                _ => NewKind::CharDevice(kind.into()),
            };
            tree.make(folder(parent), &name(child), NewNode { kind, mode: 0o600, owner: OWNER }).map(drop)
        }
        Step::Remove(parent, child) => {
            let parent = folder(parent);
            tree.unlink(parent, &name(child)).or_else(|_| tree.remove_folder(parent, &name(child)))
        }
        Step::Rename(from, old, to, new, mode) => {
            let mode = [RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange][usize::from(mode)];
            tree.rename(folder(from), &name(old), folder(to), &name(new), mode)
        }
        Step::Link(target, parent, child) => tree.link(file(target), folder(parent), &name(child)).map(drop),
        Step::Write(target, offset, len, byte) => {
            let data: Vec<u8> = (0..len).map(|at| byte.wrapping_mul(at as u8)).collect();
            tree.write(file(target), offset.into(), &data, WriteOptions::default()).map(drop)
        }
        Step::Resize(target, size) => tree.resize(file(target), size.into()).map(drop),
        Step::Punch(target, offset, len) => {
            tree.allocate(file(target), offset.into(), len.into(), AllocateMode::PunchHole)
        }
        Step::Reserve(target, offset, len) => {
            tree.allocate(file(target), offset.into(), len.into(), AllocateMode::KeepSize)
        }
        Step::Attribute(target, which, value) => {
            let attribute = [b"user.".as_slice(), &name(which)].concat();
            match value % 3 {
                0 => tree.remove_xattr(file(target), &attribute),
                _ => tree.set_xattr(file(target), &attribute, &vec![value; value.into()], XattrMode::Set),
            }
        }
        Step::Mode(target, mode) => {
            let set = SetAttributes { mode: Some(mode.into()), ..SetAttributes::default() };
            tree.set_attributes(folder(target), &set).map(drop)
        }
        Step::Snapshot => Ok(()),
    }
}

/// All that an archive keeps: entries, content, ids.
fn dump(snapshot: &Arc<Snapshot>) -> Vec<(Entry, InodeId, Vec<u8>)> {
    let entries = snapshot.entries();
    let read = snapshot.entries();
    entries
        .map(|(entry, ino)| {
            let inode = &snapshot.inodes().get(&ino).unwrap().0;
            let mut content = match &inode.node {
                inode::Node::File(file) => vec![0xee; file.content.size() as usize],
                _ => Vec::new(),
            };
            if !content.is_empty() {
                assert_eq!(read.read(ino, 0, &mut content).unwrap(), content.len());
            }
            (entry, inode.id, content)
        })
        .collect()
}

/// Carries what changed over to another tree.
fn carry(earlier: Option<&Snapshot>, later: &Snapshot, applier: &mut Applier<'_>) {
    later.changes_since::<TreeError>(earlier, &mut |change| applier.apply(&change)).unwrap();
    applier.end().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_state_is_carried_over(steps in prop::collection::vec(step(), 1..120)) {
        let tree = new_tree();
        let mut snapshots: Vec<Arc<Snapshot>> = vec![Arc::new(tree.snapshot())];
        for step in &steps {
            let _ = apply(&tree, step);
            if matches!(step, Step::Snapshot) {
                snapshots.push(Arc::new(tree.snapshot()));
            }
        }
        snapshots.push(Arc::new(tree.snapshot()));
        let mut copy = new_tree();
        for at in 0..snapshots.len() {
            // One difference from each state to the next; and from nothing to it, in a tree of its own.
            let mut applier = copy.applier();
            for (earlier, later) in snapshots[..=at].iter().scan(None, |last, next| Some((last.replace(next), next))) {
                carry(earlier.map(|earlier| &**earlier), later, &mut applier);
            }
            drop(applier);
            prop_assert_eq!(dump(&Arc::new(copy.snapshot())), dump(&snapshots[at]));
            let mut whole = new_tree();
            carry(None, &snapshots[at], &mut whole.applier());
            prop_assert_eq!(dump(&Arc::new(whole.snapshot())), dump(&snapshots[at]));
            prop_assert_eq!(whole.usage().entries, copy.usage().entries);
            copy = new_tree();
        }
    }
}

fn inode(id: u8, kind: InodeKind) -> Change<'static> {
    Change::Inode { id: InodeId([id; 16]), kind, attributes: Attributes::default() }
}

fn link(parent: u8, id: u8, name: &'static [u8]) -> Change<'static> {
    Change::Link { parent: InodeId([parent; 16]), id: InodeId([id; 16]), name }
}

fn outcome(changes: &[Change<'_>]) -> Result<(), TreeError> {
    let mut tree = new_tree();
    let mut applier = tree.applier();
    changes.iter().try_for_each(|change| applier.apply(change))?;
    applier.end()
}

#[test]
fn what_could_not_come_from_a_tree_is_refused() {
    use InodeKind::{Fifo, File, Folder, Symlink};
    let unlink = |parent: u8, name| Change::Unlink { parent: InodeId([parent; 16]), name };
    let data = |offset| Change::Data { offset, bytes: b"12345678" };
    let drop = |id: u8| Change::Drop(InodeId([id; 16]));
    assert_eq!(
        outcome(&[inode(1, Folder), inode(2, File { size: 20 }), data(0), data(8), link(0, 1, b"d"), link(1, 2, b"f")]),
        Ok(())
    );
    let hole = |offset, length| Change::Hole { offset, length };
    for wrong in [
        // Without a name, with a missing one, with a bad one, with one that is taken.
        vec![inode(1, Fifo)],
        vec![link(0, 1, b"f")],
        vec![inode(1, Fifo), link(9, 1, b"f")],
        vec![inode(1, Fifo), link(0, 1, b"..")],
        vec![inode(1, Fifo), link(0, 1, b"a/b")],
        vec![inode(1, Fifo), link(0, 1, b"")],
        vec![inode(1, Fifo), inode(2, Fifo), link(0, 1, b"f"), link(0, 2, b"f")],
        vec![unlink(0, b"f")],
        // Parents that are no folders, folders with two names, cycles, the root with a name.
        vec![inode(1, Fifo), inode(2, Fifo), link(0, 1, b"f"), link(1, 2, b"f")],
        vec![inode(1, Folder), link(0, 1, b"a"), link(0, 1, b"b")],
        vec![inode(1, Folder), inode(2, Folder), link(1, 2, b"a"), link(2, 1, b"b")],
        vec![inode(1, Folder), link(1, 1, b"a")],
        vec![inode(1, Folder), link(0, 1, b"a"), link(1, 0, b"b")],
        // Kinds that change, inodes told of twice.
        vec![inode(0, Fifo)],
        vec![inode(1, Fifo), inode(1, Fifo), link(0, 1, b"f")],
        // Content in the wrong place.
        vec![inode(1, File { size: 7 }), data(0), link(0, 1, b"f")],
        vec![inode(1, File { size: 99 }), data(8), data(0), link(0, 1, b"f")],
        vec![inode(1, File { size: 99 }), data(0), data(7), link(0, 1, b"f")],
        vec![inode(1, File { size: 99 }), data(u64::MAX), link(0, 1, b"f")],
        vec![inode(1, File { size: 99 }), hole(0, 0), link(0, 1, b"f")],
        vec![inode(1, File { size: 99 }), hole(50, 50), link(0, 1, b"f")],
        vec![inode(1, File { size: 99 }), hole(1, u64::MAX), link(0, 1, b"f")],
        vec![inode(1, File { size: u64::MAX }), link(0, 1, b"f")],
        vec![inode(1, Folder), data(0), link(0, 1, b"f")],
        vec![data(0)],
        vec![inode(1, File { size: 99 }), link(0, 1, b"f"), data(0)],
        // Symbolic links without a target, or with an impossible one.
        vec![inode(1, Symlink), link(0, 1, b"f")],
        vec![inode(1, Symlink), Change::Target(b""), link(0, 1, b"f")],
        vec![inode(1, Symlink), Change::Target(b"a"), Change::Target(b"b"), link(0, 1, b"f")],
        vec![inode(1, Fifo), Change::Target(b"a"), link(0, 1, b"f")],
        // Attributes.
        vec![inode(0, Folder), Change::SetXattr { name: b"security.x", value: b"" }],
        vec![inode(0, Folder), Change::RemoveXattr(b"user.x")],
        // Drops of what is in use.
        vec![drop(0)],
        vec![drop(1)],
        vec![inode(1, Fifo), link(0, 1, b"f"), drop(1)],
    ] {
        assert!(outcome(&wrong).is_err(), "change {} of {}", wrong.len(), describe(&wrong));
    }
}

fn describe(changes: &[Change<'_>]) -> String {
    changes.iter().map(|change| format!("{:?} ", std::mem::discriminant(change))).collect()
}

/// Folders with names of 255 bytes, one in the other: `depth` of them have a path of `depth` × 256 - 1 bytes.
fn nested(depth: u8) -> Vec<Change<'static>> {
    let folders = (1..=depth).map(|id| inode(id, InodeKind::Folder));
    folders.chain((1..=depth).map(|id| link(id - 1, id, &[b'x'; 255]))).collect()
}

#[test]
fn paths_that_no_archive_holds_are_refused() {
    assert_eq!(outcome(&nested(16)), Ok(()));
    assert_eq!(outcome(&nested(17)), Err(TreeError::NameTooLong));
    for (depth, name, expected) in [(15, &b"x"[..], Ok(())), (16, b"x", Err(TreeError::NameTooLong))] {
        let mut tree = new_tree();
        let mut applier = tree.applier();
        nested(depth).iter().for_each(|change| applier.apply(change).unwrap());
        applier.end().unwrap();
        // One more file below the last, in a difference of its own.
        applier.apply(&inode(99, InodeKind::Fifo)).unwrap();
        applier.apply(&Change::Link { parent: InodeId([depth; 16]), id: InodeId([99; 16]), name }).unwrap();
        assert_eq!(applier.end(), expected);
    }
    // A folder that moves takes along what is below it.
    let mut tree = new_tree();
    let mut applier = tree.applier();
    nested(16).iter().for_each(|change| applier.apply(change).unwrap());
    applier.end().unwrap();
    applier.apply(&inode(99, InodeKind::Folder)).unwrap();
    applier.apply(&Change::Unlink { parent: InodeId::ROOT, name: &[b'x'; 255] }).unwrap();
    applier.apply(&link(0, 99, b"a")).unwrap();
    applier.apply(&link(99, 1, b"b")).unwrap();
    assert_eq!(applier.end(), Ok(()), "shorter by 252 bytes");
    applier.apply(&Change::Unlink { parent: InodeId([99; 16]), name: b"b" }).unwrap();
    applier.apply(&link(99, 1, &[b'b'; 255])).unwrap();
    assert_eq!(applier.end(), Err(TreeError::NameTooLong));
}

#[test]
fn a_small_change_among_many_files_is_found_without_looking_at_them() {
    const FILES: u32 = 20_000;
    let options = TreeOptions { owner: OWNER, size_limit: 64 << 20, logical_limit: 1 << 30, entry_limit: 100_000 };
    let tree = Tree::new(options).unwrap();
    let new = || NewNode { kind: NewKind::File, mode: 0o600, owner: OWNER };
    let inos: Vec<Ino> =
        (0..FILES).map(|number| tree.make(Ino::ROOT, number.to_string().as_bytes(), new()).unwrap().ino).collect();
    let before = tree.snapshot();
    tree.write(inos[inos.len() / 2], 0, b"changed", WriteOptions::default()).unwrap();
    tree.make(Ino::ROOT, b"new", new()).unwrap();
    tree.unlink(Ino::ROOT, b"77").unwrap();
    let after = tree.snapshot();
    inode::COMPARED.set(0);
    let mut changes = 0;
    let mut take = |_: Change<'_>| {
        changes += 1;
        Ok::<(), TreeError>(())
    };
    after.changes_since(Some(&before), &mut take).unwrap();
    let compared = inode::COMPARED.get();
    // The root; the file and its data; the new file; a name less, a name more, an inode less.
    assert_eq!(changes, 7);
    assert!((1..1000).contains(&compared), "{compared} of {FILES} inodes were compared");
}
