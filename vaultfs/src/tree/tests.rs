//! The tree against what rename(2), fallocate(2), lseek(2) and their kin say.

use std::sync::Arc;

use crate::crypto::PAGE_SIZE;
use crate::entry::{Attributes, Entry, EntryKind, EntryPath, Timestamp};

use super::*;

const PAGE: u64 = PAGE_SIZE as u64;
const OWNER: Owner = Owner { uid: 1000, gid: 1000 };

fn tree_of(size_limit: u64) -> Tree {
    Tree::new(TreeOptions { owner: OWNER, size_limit, logical_limit: 1 << 30, entry_limit: 1000 }).unwrap()
}

fn tree() -> Tree {
    tree_of(64 << 20)
}

fn make(tree: &Tree, parent: Ino, name: &str, kind: NewKind) -> Ino {
    tree.make(parent, name.as_bytes(), NewNode { kind, mode: 0o640, owner: OWNER }).unwrap().ino
}

fn write(tree: &Tree, ino: Ino, offset: u64, data: &[u8]) {
    tree.write(ino, offset, data, WriteOptions::default()).unwrap();
}

fn content(tree: &Tree, ino: Ino) -> Vec<u8> {
    let mut out = vec![0xaa; tree.stat(ino).unwrap().size as usize];
    assert_eq!(tree.read(ino, 0, &mut out).unwrap(), out.len());
    out
}

#[test]
fn writes_at_any_offset_read_back_with_zeros_between() {
    let tree = tree();
    let file = make(&tree, Ino::ROOT, "f", NewKind::File);
    let mut model = Vec::new();
    let pieces = [(10, 5), (4090, 20), (PAGE - 1, 1), (3 * PAGE, 2 * PAGE), (5 * PAGE - 7, 9000), (0, 1), (40_000, 3)];
    for (step, (offset, len)) in pieces.into_iter().enumerate() {
        let data = vec![step as u8 + 1; len as usize];
        write(&tree, file, offset, &data);
        model.resize(model.len().max((offset + len) as usize), 0);
        model[offset as usize..(offset + len) as usize].copy_from_slice(&data);
        assert_eq!(content(&tree, file), model, "after step {step}");
    }
    let mut short = [0; 64];
    assert_eq!(tree.read(file, model.len() as u64 - 2, &mut short).unwrap(), 2);
    assert_eq!(tree.read(file, model.len() as u64 + 9, &mut short).unwrap(), 0);
}

#[test]
fn what_was_cut_off_does_not_come_back() {
    let tree = tree();
    let file = make(&tree, Ino::ROOT, "f", NewKind::File);
    write(&tree, file, 0, &vec![7; 3 * PAGE_SIZE]);
    for size in [PAGE + 100, 3 * PAGE, 50, 2 * PAGE] {
        tree.set_attributes(file, &SetAttributes { size: Some(size), ..SetAttributes::default() }).unwrap();
    }
    let mut expected = vec![7; 50];
    expected.resize(2 * PAGE_SIZE, 0);
    assert_eq!(content(&tree, file), expected);
    assert_eq!(tree.stat(file).unwrap().allocated, 50);
}

#[test]
fn holes_are_found_and_punched() {
    let tree = tree();
    let file = make(&tree, Ino::ROOT, "f", NewKind::File);
    write(&tree, file, 2 * PAGE, &[1; PAGE_SIZE]);
    write(&tree, file, 5 * PAGE, &[1; 10]);
    assert_eq!(tree.seek(file, 0, SeekTarget::Data), Ok(2 * PAGE));
    assert_eq!(tree.seek(file, 0, SeekTarget::Hole), Ok(0));
    assert_eq!(tree.seek(file, 2 * PAGE + 1, SeekTarget::Hole), Ok(3 * PAGE));
    assert_eq!(tree.seek(file, 5 * PAGE + 3, SeekTarget::Hole), Ok(5 * PAGE + 10));
    assert_eq!(tree.seek(file, 5 * PAGE + 10, SeekTarget::Data), Err(TreeError::NoData));

    write(&tree, file, 0, &vec![9; 6 * PAGE_SIZE]);
    tree.allocate(file, 100, 3 * PAGE, AllocateMode::PunchHole).unwrap();
    let mut expected = vec![9; 6 * PAGE_SIZE];
    expected[100..100 + 3 * PAGE_SIZE].fill(0);
    assert_eq!(content(&tree, file), expected);
    assert_eq!(tree.seek(file, 0, SeekTarget::Hole), Ok(PAGE));
    tree.allocate(file, 5 * PAGE + 5, 10, AllocateMode::ZeroRange).unwrap();
    expected[5 * PAGE_SIZE + 5..5 * PAGE_SIZE + 15].fill(0);
    assert_eq!(content(&tree, file), expected);
    tree.allocate(file, 6 * PAGE - 1, 11, AllocateMode::ZeroRange).unwrap();
    assert_eq!(tree.stat(file).unwrap().size, 6 * PAGE + 10);
}

#[test]
fn a_reservation_is_charged_at_once_and_then_cannot_run_out() {
    let tree = tree_of(20 * PAGE);
    let file = make(&tree, Ino::ROOT, "f", NewKind::File);
    tree.allocate(file, 0, 10 * PAGE, AllocateMode::Extend).unwrap();
    assert_eq!(tree.stat(file).unwrap().allocated, 10 * PAGE);
    assert_eq!(tree.allocate(file, 0, 30 * PAGE, AllocateMode::Extend), Err(TreeError::NoSpace));
    let other = make(&tree, Ino::ROOT, "g", NewKind::File);
    let mut offset = 0;
    while tree.write(other, offset, &[1; 512], WriteOptions::default()).is_ok() {
        offset += 512;
    }
    for page in 0..10 {
        write(&tree, file, page * PAGE + 5, &[3; 17]);
        write(&tree, file, page * PAGE, &[3; PAGE_SIZE]);
    }
}

#[test]
fn quota_returns_to_where_it_was() {
    let tree = tree();
    let empty = tree.usage();
    let folder = make(&tree, Ino::ROOT, "folder", NewKind::Folder);
    let file = make(&tree, folder, "file", NewKind::File);
    write(&tree, file, 3, &vec![1; 100_000]);
    write(&tree, file, 50_000, &[2; 10]);
    tree.set_xattr(file, b"user.note", b"hello", XattrMode::Set).unwrap();
    tree.set_xattr(file, b"user.note", b"hi", XattrMode::Replace).unwrap();
    tree.link(file, Ino::ROOT, b"again").unwrap();
    make(&tree, Ino::ROOT, "link", NewKind::Symlink(b"folder/file".to_vec()));
    tree.rename(Ino::ROOT, b"again", folder, b"a-longer-name", RenameMode::Replace).unwrap();
    tree.allocate(file, 4096, 8192, AllocateMode::PunchHole).unwrap();
    tree.pin(file).unwrap();
    assert_eq!(tree.usage().entries, 3);
    tree.unlink(folder, b"file").unwrap();
    tree.unlink(folder, b"a-longer-name").unwrap();
    tree.unlink(Ino::ROOT, b"link").unwrap();
    tree.remove_folder(Ino::ROOT, b"folder").unwrap();
    assert!(tree.usage().used > empty.used, "an open file without a name still counts");
    assert_eq!(content(&tree, file).len(), 100_003);
    tree.unpin(file, 1);
    assert_eq!(tree.usage(), empty);
    assert_eq!(tree.stat(file), Err(TreeError::NotFound));
}

#[test]
fn a_full_vault_refuses_growth_and_nothing_else() {
    let tree = tree_of(100 * 1024);
    let file = make(&tree, Ino::ROOT, "f", NewKind::File);
    write(&tree, file, 0, &vec![1; 90_000]);
    assert_eq!(tree.write(file, 90_000, &vec![1; 20_000], WriteOptions::default()), Err(TreeError::NoSpace));
    assert_eq!(tree.stat(file).unwrap().size, 90_000, "nothing of a refused write stays");
    write(&tree, file, 0, &vec![2; 90_000]);
    tree.rename(Ino::ROOT, b"f", Ino::ROOT, b"g", RenameMode::Replace).unwrap();
    let huge = SetAttributes { size: Some(1 << 31), ..SetAttributes::default() };
    assert_eq!(tree.set_attributes(file, &huge), Err(TreeError::FileTooLarge));
    tree.unlink(Ino::ROOT, b"g").unwrap();
    let file = make(&tree, Ino::ROOT, "h", NewKind::File);
    write(&tree, file, 0, &vec![1; 90_000]);
}

#[test]
fn rename_follows_the_manual() {
    let tree = tree();
    let rename = |from: &str, to: &str, mode| tree.rename(Ino::ROOT, from.as_bytes(), Ino::ROOT, to.as_bytes(), mode);
    let folder = make(&tree, Ino::ROOT, "folder", NewKind::Folder);
    let inner = make(&tree, folder, "inner", NewKind::Folder);
    let file = make(&tree, Ino::ROOT, "file", NewKind::File);
    make(&tree, Ino::ROOT, "empty", NewKind::Folder);
    assert_eq!(rename("nothing", "x", RenameMode::Replace), Err(TreeError::NotFound));
    assert_eq!(rename("file", "folder", RenameMode::Replace), Err(TreeError::IsFolder));
    assert_eq!(rename("folder", "file", RenameMode::Replace), Err(TreeError::NotFolder));
    assert_eq!(rename("empty", "folder", RenameMode::Replace), Err(TreeError::NotEmpty));
    assert_eq!(rename("file", "folder", RenameMode::NoReplace), Err(TreeError::Exists));
    assert_eq!(rename("file", "nothing", RenameMode::Exchange), Err(TreeError::NotFound));
    assert_eq!(tree.rename(Ino::ROOT, b"folder", inner, b"x", RenameMode::Replace), Err(TreeError::Invalid));
    assert_eq!(tree.rename(folder, b"inner", Ino::ROOT, b"folder", RenameMode::Exchange), Err(TreeError::Invalid));
    rename("folder", "empty", RenameMode::Replace).unwrap();
    assert_eq!(tree.stat(Ino::ROOT).unwrap().nlink, 3);
    tree.rename(Ino::ROOT, b"file", folder, b"inner", RenameMode::Exchange).unwrap();
    assert_eq!(tree.lookup(folder, b"inner").unwrap().ino, file);
    assert_eq!(tree.lookup(Ino::ROOT, b"file").unwrap().ino, inner);
    assert_eq!((tree.stat(Ino::ROOT).unwrap().nlink, tree.stat(folder).unwrap().nlink), (4, 2));
    assert_eq!(tree.path_of(file).unwrap().as_bytes(), b"empty/inner");
    assert!(tree.is_within(file, folder) && !tree.is_within(inner, folder));
}

#[test]
fn both_names_of_a_file_renamed_onto_each_other_stay() {
    let tree = tree();
    let file = make(&tree, Ino::ROOT, "a", NewKind::File);
    tree.link(file, Ino::ROOT, b"b").unwrap();
    tree.rename(Ino::ROOT, b"a", Ino::ROOT, b"b", RenameMode::Replace).unwrap();
    assert_eq!(tree.stat(file).unwrap().nlink, 2);
}

#[test]
fn nothing_can_be_made_in_a_removed_folder() {
    let tree = tree();
    let folder = make(&tree, Ino::ROOT, "folder", NewKind::Folder);
    tree.pin(folder).unwrap();
    tree.remove_folder(Ino::ROOT, b"folder").unwrap();
    let node = NewNode { kind: NewKind::File, mode: 0o600, owner: OWNER };
    assert_eq!(tree.make(folder, b"x", node), Err(TreeError::NotFound));
    assert_eq!(tree.stat(folder).unwrap().nlink, 0);
}

#[test]
fn listing_goes_on_after_entries_came_and_went() {
    let tree = tree();
    for number in 0..10 {
        make(&tree, Ino::ROOT, &format!("f{number}"), NewKind::File);
    }
    let (mut seen, mut last) = (Vec::new(), 0);
    for round in 0.. {
        let before = seen.len();
        tree.list(Ino::ROOT, last, &mut |entry| {
            seen.push(String::from_utf8(entry.name.to_vec()).unwrap());
            last = entry.cookie;
            seen.len() - before < 3
        })
        .unwrap();
        if seen.len() == before {
            break;
        }
        tree.unlink(Ino::ROOT, seen[before].as_bytes()).unwrap();
        if round == 0 {
            make(&tree, Ino::ROOT, "late", NewKind::File);
        }
    }
    let expected: Vec<String> = (0..10).map(|number| format!("f{number}")).chain(["late".into()]).collect();
    assert_eq!(seen, expected);
}

#[test]
fn each_write_has_a_later_time() {
    let tree = tree();
    let file = make(&tree, Ino::ROOT, "f", NewKind::File);
    let mut last = tree.stat(file).unwrap().mtime;
    for _ in 0..1000 {
        write(&tree, file, 0, b"x");
        let mtime = tree.stat(file).unwrap().mtime;
        assert!(mtime > last);
        last = mtime;
    }
}

#[test]
fn a_snapshot_stays_as_it_was_and_loads_into_an_equal_tree() {
    let tree = tree();
    let folder = make(&tree, Ino::ROOT, "b", NewKind::Folder);
    let file = make(&tree, folder, "file", NewKind::File);
    write(&tree, file, 10 * PAGE + 3, b"secret");
    tree.set_xattr(file, b"user.a", b"1", XattrMode::Create).unwrap();
    tree.link(file, Ino::ROOT, b"a-link").unwrap();
    make(&tree, Ino::ROOT, "c", NewKind::Symlink(b"b/file".to_vec()));
    make(&tree, folder, "pipe", NewKind::Fifo);
    let snapshot = Arc::new(tree.snapshot());
    let before = dump(&snapshot);
    write(&tree, file, 0, &[1; 60_000]);
    tree.unlink(folder, b"pipe").unwrap();
    tree.rename(Ino::ROOT, b"b", Ino::ROOT, b"z", RenameMode::Replace).unwrap();
    assert_eq!(dump(&snapshot), before);
    let names: Vec<&[u8]> = before.iter().map(|(entry, _)| entry.path.as_bytes()).collect();
    assert_eq!(names, [b"" as &[u8], b"a-link", b"b", b"b/file", b"b/pipe", b"c"]);
    assert_eq!(before[3].0.kind, EntryKind::HardLink { target: EntryPath::parse(b"a-link").unwrap() });

    let mut copy = self::tree();
    let mut loader = copy.loader();
    for (entry, content) in &before {
        let ino = loader.add(entry.clone()).unwrap();
        content.chunks(1000).for_each(|piece| loader.append(ino, piece).unwrap());
    }
    drop(loader);
    assert_eq!(dump(&Arc::new(copy.snapshot())), before);
    let loaded = copy.resolve(&EntryPath::parse(b"b/file").unwrap()).unwrap();
    assert_eq!((loaded.allocated, loaded.nlink, loaded.size), (9, 2, 10 * PAGE + 9));
    assert_eq!(copy.revision(), Revision(0));
}

fn dump(snapshot: &Arc<Snapshot>) -> Vec<(Entry, Vec<u8>)> {
    let mut entries = snapshot.entries();
    let mut all = Vec::new();
    while let Some((entry, ino)) = entries.next() {
        let mut bytes = Vec::new();
        if let EntryKind::File { size } = entry.kind {
            bytes.resize(size as usize, 0);
            assert_eq!(entries.read(ino, 0, &mut bytes).unwrap(), size as usize);
        }
        all.push((entry, bytes));
    }
    all
}

#[test]
fn a_loader_refuses_what_does_not_fit_together() {
    let mut tree = tree();
    let mut loader = tree.loader();
    let mut add = |path: &str, kind: EntryKind| {
        let attributes = Attributes { mode: 0o600, mtime: Timestamp::now(), ctime: Timestamp::now() };
        loader.add(Entry { path: EntryPath::parse(path.as_bytes()).unwrap(), kind, attributes, xattrs: Vec::new() })
    };
    let file = EntryKind::File { size: 3 };
    let link = |target: &str| EntryKind::HardLink { target: EntryPath::parse(target.as_bytes()).unwrap() };
    let ino = add("file", file.clone()).unwrap();
    add("folder", EntryKind::Folder).unwrap();
    add("folder", EntryKind::Folder).unwrap();
    add("link", EntryKind::Symlink { target: b"/etc".to_vec() }).unwrap();
    assert_eq!(add("file", file.clone()), Err(TreeError::Exists));
    assert_eq!(add("file", EntryKind::Folder), Err(TreeError::Exists));
    assert_eq!(add("folder", file.clone()), Err(TreeError::Exists));
    assert_eq!(add("", file.clone()), Err(TreeError::Exists));
    assert_eq!(add("none/x", file.clone()), Err(TreeError::NotFound));
    assert_eq!(add("file/x", file.clone()), Err(TreeError::NotFolder));
    assert_eq!(add("link/passwd", file.clone()), Err(TreeError::NotFolder));
    assert_eq!(add("x", link("none")), Err(TreeError::NotFound));
    assert_eq!(add("x", link("folder")), Err(TreeError::NotPermitted));
    let late = add("late", file).unwrap();
    assert_eq!(loader.append(ino, b"x"), Err(TreeError::Invalid), "only the last file takes content");
    loader.append(late, b"ab").unwrap();
    assert_eq!(loader.append(late, b"cd"), Err(TreeError::Invalid), "more than its size");
}

#[test]
fn ownership_changes_and_writes_clear_set_id_bits() {
    let tree = tree();
    let file = make(&tree, Ino::ROOT, "f", NewKind::File);
    let mode = |mode| SetAttributes { mode: Some(mode), ..SetAttributes::default() };
    tree.set_attributes(file, &mode(0o6775)).unwrap();
    write(&tree, file, 0, b"x");
    assert_eq!(tree.stat(file).unwrap().mode, 0o6775, "the kernel says when to clear");
    let kill = WriteOptions { kill_suid_sgid: true, ..WriteOptions::default() };
    tree.write(file, 0, b"x", kill).unwrap();
    assert_eq!(tree.stat(file).unwrap().mode, 0o775);
    tree.set_attributes(file, &mode(0o6765)).unwrap();
    let owner = SetAttributes { uid: Some(5), ..SetAttributes::default() };
    assert_eq!(tree.set_attributes(file, &owner).unwrap().mode, 0o2765);
    let folder = make(&tree, Ino::ROOT, "d", NewKind::Folder);
    tree.set_attributes(folder, &SetAttributes { mode: Some(0o2755), gid: Some(7), ..owner }).unwrap();
    let below = make(&tree, folder, "sub", NewKind::Folder);
    let stat = tree.stat(below).unwrap();
    assert_eq!((stat.mode, stat.owner.gid), (0o2640, 7));
}

#[test]
fn appends_of_many_threads_all_arrive() {
    let tree = tree();
    let file = make(&tree, Ino::ROOT, "log", NewKind::File);
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let tree = &tree;
            scope.spawn(move || {
                let options = WriteOptions { append: true, ..WriteOptions::default() };
                for _ in 0..200 {
                    tree.write(file, 0, &[thread; 100], options).unwrap();
                }
            });
        }
    });
    let bytes = content(&tree, file);
    assert_eq!(bytes.len(), 80_000);
    for record in bytes.chunks(100) {
        assert!(record.iter().all(|&byte| byte == record[0]), "a record was torn");
    }
}

#[test]
fn a_long_write_is_seen_whole_by_who_was_told_of_its_answer() {
    let tree = &tree();
    let file = make(tree, Ino::ROOT, "f", NewKind::File);
    let (answered, hear) = std::sync::mpsc::channel::<Vec<u8>>();
    let (looked, seen) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || hear.iter().for_each(|told| looked.send(content(tree, file) == told).unwrap()));
        let mut model = Vec::new();
        for round in 0..40_u64 {
            // From one page to the middle of another; every fourth one is appended.
            let (offset, len) = ((round * 1777) as usize % 30_000, 70_000 + (round * 4001) as usize % 200_000);
            let options = WriteOptions { append: round % 4 == 3, ..WriteOptions::default() };
            let at = if options.append { model.len() } else { offset };
            let data: Vec<u8> = (0..len).map(|index| (index as u64 * 31 / 7 + round) as u8).collect();
            model.resize(model.len().max(at + len), 0);
            model[at..at + len].copy_from_slice(&data);
            let told = model.clone();
            tree.write_answering(file, offset as u64, &data, options, || answered.send(told).unwrap()).unwrap();
            assert!(seen.recv().unwrap(), "an answered write is not there");
        }
        drop(answered);
    });
}

#[test]
fn a_long_write_that_fails_is_not_answered_and_leaves_nothing() {
    let tree = tree_of(200 * 1024);
    let file = make(&tree, Ino::ROOT, "f", NewKind::File);
    let append = WriteOptions { append: true, ..WriteOptions::default() };
    tree.write_answering(file, 0, &[1; 100_000], append, || ()).unwrap();
    let usage = tree.usage();
    for (ino, offset, options, error) in [
        (file, 0, append, TreeError::NoSpace),
        (file, u64::MAX - 5, WriteOptions::default(), TreeError::FileTooLarge),
        (Ino::ROOT, 0, append, TreeError::IsFolder),
        (Ino(4711), 0, append, TreeError::NotFound),
    ] {
        let refused = tree.write_answering(ino, offset, &[2; 150_000], options, || panic!("it was answered"));
        assert_eq!(refused, Err(error));
    }
    assert_eq!(tree.usage(), usage);
    assert_eq!(content(&tree, file), [1; 100_000]);
}
