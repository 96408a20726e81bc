//! Whatever a tree can hold comes back from a tar and from an archive.

use proptest::prelude::*;

use super::*;

fn any_entry() -> impl Strategy<Value = (EntryKind, Vec<u8>)> {
    let content = proptest::collection::vec(any::<u8>(), 0..2000);
    prop_oneof![
        content.prop_map(|bytes| (EntryKind::File { size: bytes.len() as u64 }, bytes)),
        Just((EntryKind::Folder, Vec::new())),
        proptest::collection::vec(1_u8.., 1..300).prop_map(|target| (EntryKind::Symlink { target }, Vec::new())),
        Just((EntryKind::Fifo, Vec::new())),
        Just((EntryKind::Socket, Vec::new())),
        (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| {
            (EntryKind::CharDevice { rdev: rustix::fs::makedev(major, minor) }, Vec::new())
        }),
        (0_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| {
            (EntryKind::BlockDevice { rdev: rustix::fs::makedev(major, minor) }, Vec::new())
        }),
    ]
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    let secs = prop_oneof![
        -5_000_000_000_i64..50_000_000_000,
        1_600_000_000_i64..1_800_000_000,
        any::<i64>(),
        Just(i64::MIN),
        Just(i64::MAX)
    ];
    (secs, prop_oneof![Just(0), 0_u32..1_000_000_000]).prop_map(|(secs, nanos)| Timestamp { secs, nanos })
}

fn any_listing() -> impl Strategy<Value = Listing> {
    let name = proptest::collection::vec((1_u8..).prop_filter("slash", |&byte| byte != b'/'), 1..255);
    let xattr_name = prop_oneof![
        "user\\.[a-z]{1,20}".prop_map(String::into_bytes),
        proptest::collection::vec(1_u8.., 1..20).prop_map(|name| [b"user.", name.as_slice()].concat()),
        Just(b"user.a=b".to_vec()),
    ];
    let xattrs = proptest::collection::btree_map(xattr_name, proptest::collection::vec(any::<u8>(), 0..60), 0..3);
    let entry = (name, any_entry(), 0_u32..=0o7777, any_time(), any_time(), xattrs);
    proptest::collection::vec(entry, 0..8).prop_map(|entries| {
        let mut listing = Listing::default();
        for (number, (name, (kind, content), mode, mtime, ctime, xattrs)) in entries.into_iter().enumerate() {
            let name = [number.to_string().as_bytes(), &name[..name.len().min(250)]].concat();
            let xattrs = xattrs.into_iter().collect();
            let path = EntryPath::parse(&name).unwrap();
            let attributes = Attributes { mode, mtime, ctime };
            listing.entries.push((Entry { path: path.clone(), kind: kind.clone(), attributes, xattrs }, content));
            if matches!(kind, EntryKind::File { .. }) {
                let link = EntryPath::parse(format!("{number}link").as_bytes()).unwrap();
                let kind = EntryKind::HardLink { target: path };
                let attributes = Attributes { mode, mtime, ctime: mtime };
                listing.entries.push((Entry { path: link, kind, attributes, xattrs: Vec::new() }, Vec::new()));
            }
        }
        listing
    })
}

#[test]
fn whatever_a_tree_can_hold_comes_back() {
    proptest!(ProptestConfig::with_cases(200), |(listing in any_listing())| {
        let mut bytes = Vec::new();
        tar::write(&mut bytes, &mut listing.clone()).unwrap();
        let (read, _) = read_tar(&bytes).unwrap();
        prop_assert_eq!(&read.entries, &listing.entries);
    });
}

#[test]
fn an_archive_written_here_is_read_back() {
    let key = ArchiveKey::derive_fresh(&passphrase("p")).unwrap();
    proptest!(ProptestConfig::with_cases(20), |(listing in any_listing())| {
        let mut bytes = Vec::new();
        v1::write(&mut bytes, &key, &mut listing.clone()).unwrap();
        prop_assert_eq!(&read_v1(&bytes, "p").unwrap().0.entries, &listing.entries);
        prop_assert!(v1::verify(&mut Cursor::new(&bytes), &passphrase("p")).is_ok());
    });
}

fn folder(path: EntryPath) -> (Entry, Vec<u8>) {
    let attributes = Attributes { mode: 0o700, ..Attributes::default() };
    (Entry { path, kind: EntryKind::Folder, attributes, xattrs: Vec::new() }, Vec::new())
}

/// Folders in folders, down to a path of `len` bytes.
fn deep(len: usize) -> Listing {
    let mut listing = Listing::default();
    let mut path = EntryPath::root();
    while path.as_bytes().len() < len {
        let rest = len - path.as_bytes().len();
        // Not a slash alone at the end.
        path = path.join(&vec![b'd'; if rest > 103 { 100 } else { rest - 1 }]);
        listing.entries.push(folder(path.clone()));
    }
    listing
}

#[test]
fn the_longest_paths_come_back_and_longer_ones_are_not_written() {
    let longest = deep(crate::entry::PATH_MAX);
    assert_eq!(longest.entries.last().unwrap().0.path.as_bytes().len(), 4096);
    let mut bytes = Vec::new();
    tar::write(&mut bytes, &mut longest.clone()).unwrap();
    assert_eq!(read_tar(&bytes).unwrap().0.entries, longest.entries);
    let refused = tar::write(&mut io::sink(), &mut deep(crate::entry::PATH_MAX + 1));
    assert!(matches!(refused, Err(FormatError::Path { source: PathError::TooLong, .. })), "{refused:?}");
}

#[test]
fn the_most_attributes_that_a_file_can_have_come_back() {
    // 64 KiB of names with a NUL each, and 1 MiB of names and values: the limits of Linux and of the tree.
    let name = |number: usize| [b"user.".as_slice(), &[1 + (number / 200) as u8, 130 + (number % 120) as u8]].concat();
    let names: std::collections::BTreeSet<Vec<u8>> =
        (0..8192).map(name).chain((0..2000).map(|at| format!("user.{at}").into_bytes())).collect();
    let xattrs: Vec<_> = names.into_iter().take(6000).map(|name| (name, vec![7; 165])).collect();
    assert_eq!(xattrs.len(), 6000);
    let mut entry = folder(EntryPath::parse(b"f").unwrap());
    entry.0.xattrs = xattrs;
    let listing = Listing { entries: vec![entry], ..Listing::default() };
    let mut bytes = Vec::new();
    tar::write(&mut bytes, &mut listing.clone()).unwrap();
    assert_eq!(read_tar(&bytes).unwrap().0.entries, listing.entries);
}

#[test]
fn attributes_that_a_reader_refuses_are_not_written() {
    let mut large = folder(EntryPath::parse(b"f").unwrap());
    large.0.xattrs = vec![(b"user.a".to_vec(), vec![0; 65_537])];
    let refused = tar::write(&mut io::sink(), &mut Listing { entries: vec![large], ..Listing::default() });
    assert!(matches!(refused, Err(FormatError::TooLarge { limit: 65_536, .. })), "{refused:?}");
}

#[test]
fn the_same_tree_gives_the_same_bytes_and_nothing_of_the_machine() {
    let listing = deep(300);
    let write = || {
        let mut bytes = Vec::new();
        tar::write(&mut bytes, &mut listing.clone()).unwrap();
        bytes
    };
    let bytes = write();
    assert_eq!(bytes, write());
    let header = ::tar::Header::from_byte_slice(&bytes[..512]);
    assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
    assert_eq!((header.username().unwrap(), header.groupname().unwrap()), (Some(""), Some("")));
}

#[test]
fn the_root_is_written_only_when_it_says_something() {
    let mut root = folder(EntryPath::root());
    root.0.attributes.mtime = Timestamp { secs: 5, nanos: 0 };
    let mut listing = Listing { entries: vec![root], ..Listing::default() };
    let write = |listing: &Listing| {
        let mut bytes = Vec::new();
        tar::write(&mut bytes, &mut listing.clone()).unwrap();
        read_tar(&bytes).unwrap().0.entries
    };
    assert_eq!(write(&listing), []);
    listing.entries[0].0.attributes.mode = 0o750;
    assert_eq!(write(&listing), listing.entries);
}
