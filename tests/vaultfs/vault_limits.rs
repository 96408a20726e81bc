//! What a vault holds at most, and that it is the same after it was closed and opened. An operation that goes past a limit
//! is refused at once: never is a tree made that cannot be committed, or an archive that cannot be opened.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "vault_support.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use support::archive_format::FORMATS;
use support::*;
use vaultfs::entry::{EntryPath, NAME_MAX, PATH_MAX, Timestamp};
use vaultfs::tree::{
    Ino, NewKind, NewNode, RenameMode, SetAttributes, SetTime, Stat, Tree, TreeError, WriteOptions, XattrMode,
};
use vaultfs::vault::{Vault, VaultOptions};

const MIB: u64 = 1 << 20;

fn of_size(size_limit: u64) -> VaultOptions {
    VaultOptions { size_limit, ..patient() }
}

/// Closes a vault, which commits, and opens it again.
fn reopen(vault: Vault, scratch: &Scratch, options: &VaultOptions) -> Vault {
    vault.close().map_err(|(_, error)| error).unwrap();
    try_open(&scratch.archive, options).unwrap().0
}

/// Runs a test with an empty vault of each version.
fn with_vaults(options: &VaultOptions, test: impl Fn(Scratch, Vault)) {
    for format in FORMATS {
        let scratch = scratch_of(format);
        let vault = try_open(&scratch.archive, options).unwrap().0;
        test(scratch, vault);
    }
}

fn make(tree: &Tree, parent: Ino, name: &[u8], kind: NewKind) -> Result<Ino, TreeError> {
    Ok(tree.make(parent, name, NewNode { kind, mode: 0o600, owner: OWNER })?.ino)
}

fn look(tree: &Tree, path: &[u8]) -> Stat {
    tree.resolve(&EntryPath::parse(path).unwrap()).unwrap()
}

#[test]
fn the_longest_names_and_paths_come_back() {
    with_vaults(&patient(), |scratch, vault| {
        let tree = vault.tree();
        assert_eq!(make(tree, Ino::ROOT, &[b'x'; NAME_MAX + 1], NewKind::File), Err(TreeError::NameTooLong));
        make(tree, Ino::ROOT, &[b'x'; NAME_MAX], NewKind::File).unwrap();
        let (mut at, mut path) = (Ino::ROOT, Vec::new());
        while path.len() + NAME_MAX < PATH_MAX {
            at = make(tree, at, &[b'\xe9'; NAME_MAX - 1], NewKind::Folder).unwrap();
            path = [path, vec![b'\xe9'; NAME_MAX - 1], b"/".to_vec()].concat();
        }
        let rest = PATH_MAX - path.len();
        assert_eq!(make(tree, at, &vec![b'f'; rest + 1], NewKind::File), Err(TreeError::NameTooLong));
        let file = make(tree, at, &vec![b'f'; rest], NewKind::File).unwrap();
        path.resize(PATH_MAX, b'f');
        // Many steps instead of long names, and a hard link between the two longest paths.
        let mut deep = Ino::ROOT;
        for _ in 0..PATH_MAX / 2 - 1 {
            deep = make(tree, deep, b"d", NewKind::Folder).unwrap();
        }
        tree.link(file, deep, b"ln").unwrap();
        let steps = [b"d/".repeat(PATH_MAX / 2 - 1), b"ln".to_vec()].concat();
        assert_eq!(steps.len(), PATH_MAX);
        let refused = tree.rename(Ino::ROOT, b"d", Ino::ROOT, b"dd", RenameMode::Replace);
        assert_eq!(refused, Err(TreeError::NameTooLong));
        let vault = reopen(vault, &scratch, &patient());
        let (one, other) = (look(vault.tree(), &path), look(vault.tree(), &steps));
        assert_eq!((one.ino, one.nlink), (other.ino, 2));
        drop(vault);
    });
}

#[test]
fn two_hundred_thousand_files_come_back_half_of_them_in_one_folder() {
    const MANY: usize = 100_000;
    let options = of_size(256 * MIB);
    with_vaults(&options, |scratch, vault| {
        let tree = vault.tree();
        let wide = make_folder(tree, Ino::ROOT, "wide");
        (0..MANY).for_each(|number| {
            make(tree, wide, format!("entry-{number:06}").as_bytes(), NewKind::File).unwrap();
        });
        for folder in 0..MANY / 1000 {
            let folder = make_folder(tree, Ino::ROOT, &format!("folder-{folder}"));
            (0..1000).for_each(|number| {
                make(tree, folder, number.to_string().as_bytes(), NewKind::File).unwrap();
            });
        }
        let begun = Instant::now();
        tree.rename(Ino::ROOT, b"wide", Ino::ROOT, b"a-longer-name", RenameMode::Replace).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1), "a rename of a large folder took {:?}", begun.elapsed());
        let usage = tree.usage();
        let vault = reopen(vault, &scratch, &options);
        assert_eq!(vault.tree().usage(), usage);
        let (mut listed, mut last) = (0, 0);
        let wide = look(vault.tree(), b"a-longer-name");
        assert_eq!(wide.size, MANY as u64);
        vault
            .tree()
            .list(wide.ino, 0, &mut |entry| {
                assert!(entry.cookie > last);
                (listed, last) = (listed + 1, entry.cookie);
                true
            })
            .unwrap();
        assert_eq!(listed, MANY);
        for number in 0..MANY {
            vault.tree().unlink(wide.ino, format!("entry-{number:06}").as_bytes()).unwrap();
        }
        vault.tree().remove_folder(Ino::ROOT, b"a-longer-name").unwrap();
        assert_eq!(vault.tree().usage().entries, MANY as u64 + 100);
        vault.close().map_err(|(_, error)| error).unwrap();
    });
}

/// Writes pieces to the end of a file until there is no room; returns how many bytes arrived.
fn fill(tree: &Tree, ino: Ino, piece: usize) -> u64 {
    for number in 0.. {
        let offset = (number * piece) as u64;
        match tree.write(ino, offset, &noise(piece, number as u64), WriteOptions::default()) {
            Ok(_) => {}
            Err(TreeError::NoSpace) => return offset,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("a vault has an end")
}

#[test]
fn one_file_takes_the_whole_vault_and_nothing_of_it_is_lost() {
    const PIECE: usize = 100_000;
    let options = of_size(24 * MIB);
    with_vaults(&options, |scratch, vault| {
        let tree = vault.tree();
        let file = make(tree, Ino::ROOT, b"all", NewKind::File).unwrap();
        let written = fill(tree, file, PIECE);
        let usage = tree.usage();
        assert!(usage.used <= usage.limit && usage.used + PIECE as u64 > usage.limit - 4096, "{usage:?}");
        assert_eq!(tree.stat(file).unwrap().size, written, "nothing of a refused write stays");
        while make(tree, Ino::ROOT, format!("{}", tree.usage().entries).as_bytes(), NewKind::File).is_ok() {}
        assert_eq!(make(tree, Ino::ROOT, b"one more", NewKind::File), Err(TreeError::NoSpace));
        tree.write(file, 0, &noise(PIECE, 0), WriteOptions::default()).expect("what does not grow is never refused");
        tree.rename(Ino::ROOT, b"all", Ino::ROOT, b"ALL", RenameMode::Replace).unwrap();

        // Opened with less room than it takes: all is there, nothing grows, things can be deleted.
        let usage = tree.usage();
        let small = of_size(MIB);
        let vault = reopen(vault, &scratch, &small);
        let tree = vault.tree();
        assert_eq!(tree.usage().entries, usage.entries);
        let spared = usage.used - tree.usage().used;
        assert!(spared < 100_000, "zeros at the end of a page count no more: {spared} bytes");
        let found = get(tree, "ALL").unwrap();
        assert_eq!(found.len() as u64, written);
        assert!(found.chunks(PIECE).enumerate().all(|(number, piece)| piece == noise(PIECE, number as u64)));
        assert_eq!(make(tree, Ino::ROOT, b"more", NewKind::File), Err(TreeError::NoSpace));
        let ino = look(tree, b"ALL").ino;
        tree.write(ino, 5, b"in place", WriteOptions::default()).unwrap();
        tree.unlink(Ino::ROOT, b"ALL").unwrap();
        make(tree, Ino::ROOT, b"more", NewKind::File).unwrap();
        vault.close().map_err(|(_, error)| error).unwrap();
    });
}

#[test]
fn a_large_sparse_file_comes_back_and_costs_nothing() {
    const SIZE: u64 = 1 << 30;
    with_vaults(&patient(), |scratch, vault| {
        let tree = vault.tree();
        let file = make(tree, Ino::ROOT, b"sparse", NewKind::File).unwrap();
        let size = |size| SetAttributes { size: Some(size), ..SetAttributes::default() };
        for too_large in [1 << 33, i64::MAX as u64, u64::MAX] {
            assert_eq!(tree.set_attributes(file, &size(too_large)), Err(TreeError::FileTooLarge));
        }
        tree.set_attributes(file, &size(SIZE)).unwrap();
        tree.write(file, SIZE / 2 + 5, b"here", WriteOptions::default()).unwrap();
        // Four such files are what any vault may hold of holes; one more could not be opened again.
        let other = make(tree, Ino::ROOT, b"other", NewKind::File).unwrap();
        assert_eq!(tree.set_attributes(other, &size(3 * SIZE + 1)), Err(TreeError::NoSpace));
        let vault = reopen(vault, &scratch, &patient());
        let stat = look(vault.tree(), b"sparse");
        assert_eq!((stat.size, stat.allocated), (SIZE, 9));
        let mut found = [1; 14];
        assert_eq!(vault.tree().read(stat.ino, SIZE / 2, &mut found).unwrap(), 14);
        assert_eq!(&found, b"\0\0\0\0\0here\0\0\0\0\0");
        vault.discard();
    });
}

#[test]
fn links_targets_times_and_modes_at_their_extremes_come_back() {
    let times = [
        (i64::MIN, 0),
        (i64::MIN, 999_999_999),
        (-(1 << 40), 1),
        (-1, 999_999_999),
        (0, 0),
        (1 << 33, 7),
        (1 << 40, 0),
        (i64::MAX, 999_999_999),
    ];
    with_vaults(&patient(), |scratch, vault| {
        let tree = vault.tree();
        let mut expected = BTreeMap::new();
        for (index, (secs, nanos)) in times.into_iter().enumerate() {
            let time = Timestamp { secs, nanos };
            let name = format!("time-{index}");
            let kind = if index % 2 == 0 { NewKind::File } else { NewKind::Folder };
            let ino = make(tree, Ino::ROOT, name.as_bytes(), kind).unwrap();
            let mode = if index == 0 { 0o7777 } else { 0o1111 * index as u32 };
            let set = SetAttributes { mode: Some(mode), mtime: Some(SetTime::At(time)), ..SetAttributes::default() };
            tree.set_attributes(ino, &set).unwrap();
            expected.insert(name, (mode, time));
        }
        let target = vec![b't'; 4095];
        make(tree, Ino::ROOT, b"link", NewKind::Symlink(target.clone())).unwrap();
        let longer = NewKind::Symlink(vec![b't'; 4096]);
        assert_eq!(make(tree, Ino::ROOT, b"longer", longer), Err(TreeError::NameTooLong));
        let vault = reopen(vault, &scratch, &patient());
        for (name, expected) in expected {
            let stat = look(vault.tree(), name.as_bytes());
            assert_eq!((stat.mode, stat.mtime), expected, "{name}");
        }
        assert_eq!(vault.tree().read_link(look(vault.tree(), b"link").ino).unwrap(), target);
        vault.close().map_err(|(_, error)| error).unwrap();
    });
}

#[test]
fn extended_attributes_at_their_limits_come_back() {
    const VALUE: usize = 64 * 1024;
    with_vaults(&patient(), |scratch, vault| {
        let tree = vault.tree();
        let set = |ino, name: &str, value: &[u8]| tree.set_xattr(ino, name.as_bytes(), value, XattrMode::Set);
        let large = make(tree, Ino::ROOT, b"large", NewKind::File).unwrap();
        assert_eq!(set(large, "user.value", &noise(VALUE + 1, 1)), Err(TreeError::AttributesTooLarge));
        let count = (0..100).take_while(|number| set(large, &format!("user.{number}"), &noise(VALUE, *number)).is_ok());
        let values = count.count() as u64;
        assert_eq!(values, 15, "a megabyte of them, names included");
        let many = make(tree, Ino::ROOT, b"many", NewKind::Folder).unwrap();
        let names = (0..).take_while(|number| set(many, &format!("user.={number}"), b"").is_ok()).count();
        assert!(names > 5000, "{names}");
        let long = format!("user.{}", "n".repeat(NAME_MAX - 5));
        let named = make(tree, Ino::ROOT, b"named", NewKind::File).unwrap();
        set(named, &long, b"v").unwrap();
        assert_eq!(set(named, &format!("{long}n"), b"v"), Err(TreeError::Invalid));

        let vault = reopen(vault, &scratch, &patient());
        let tree = vault.tree();
        let large = look(tree, b"large").ino;
        for number in 0..values {
            assert_eq!(tree.xattr(large, format!("user.{number}").as_bytes()).unwrap(), noise(VALUE, number));
        }
        assert_eq!(tree.xattr_names(look(tree, b"many").ino).unwrap().len(), names);
        assert_eq!(tree.xattr(look(tree, b"named").ino, long.as_bytes()).unwrap(), b"v");
        vault.close().map_err(|(_, error)| error).unwrap();
    });
}

#[test]
fn as_many_hard_links_as_elsewhere_come_back_and_go_quickly() {
    const LINKS: u32 = 65_000;
    with_vaults(&patient(), |scratch, vault| {
        let tree = vault.tree();
        let file = make(tree, Ino::ROOT, b"0", NewKind::File).unwrap();
        (1..LINKS).for_each(|number| {
            tree.link(file, Ino::ROOT, number.to_string().as_bytes()).unwrap();
        });
        assert_eq!(tree.link(file, Ino::ROOT, b"more").map(drop), Err(TreeError::TooManyLinks));
        let vault = reopen(vault, &scratch, &patient());
        let tree = vault.tree();
        assert_eq!(look(tree, b"64999").nlink, LINKS);
        assert_eq!(tree.usage().entries, 1);
        let begun = Instant::now();
        (0..LINKS).rev().for_each(|number| tree.unlink(Ino::ROOT, number.to_string().as_bytes()).unwrap());
        let took = begun.elapsed();
        println!("{LINKS} names of one file were removed in {took:?}");
        assert!(took < Duration::from_secs(20), "it took {took:?}");
        assert_eq!(tree.usage().entries, 0);
        vault.close().map_err(|(_, error)| error).unwrap();
    });
}

/// A commit of a tree that was full of paths that are too long failed for ever.
#[test]
fn regression_nothing_that_is_made_keeps_a_vault_from_being_committed() {
    with_vaults(&patient(), |scratch, vault| {
        let tree = vault.tree();
        let mut at = Ino::ROOT;
        let refused = (0..40).find_map(|_| match make(tree, at, &[b'n'; NAME_MAX], NewKind::Folder) {
            Ok(made) => {
                at = made;
                None
            }
            Err(error) => Some(error),
        });
        assert_eq!(refused, Some(TreeError::NameTooLong));
        // Two folders that fit each on its own, but not in each other.
        let other = make_folder(tree, Ino::ROOT, "other");
        assert_eq!(
            tree.rename(Ino::ROOT, &[b'n'; NAME_MAX], other, b"n".repeat(NAME_MAX).as_slice(), RenameMode::Replace),
            Err(TreeError::NameTooLong)
        );
        vault.committer().commit().unwrap();
        reopen(vault, &scratch, &patient()).discard();
    });
}
