//! Tars that an enemy or a broken disk made, and the exact error of each.

use super::*;

fn refusal(tar: RawTar) -> FormatError {
    read_tar(&tar.end()).expect_err("the tar is refused")
}

fn path_error(tar: RawTar) -> PathError {
    match refusal(tar) {
        FormatError::Path { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

/// The reason for which a tar is damaged.
fn damage(tar: RawTar) -> String {
    match refusal(tar) {
        FormatError::Tar { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

/// The cap that a tar breaks.
fn cap(tar: RawTar) -> (u64, &'static str) {
    match refusal(tar) {
        FormatError::TooLarge { limit, unit } => (limit, unit),
        other => panic!("{other:?}"),
    }
}

fn unsupported(tar: RawTar) -> String {
    match refusal(tar) {
        FormatError::Unsupported(what) => what,
        other => panic!("{other:?}"),
    }
}

fn tar() -> RawTar {
    RawTar::default()
}

#[test]
fn unsafe_names_are_refused_by_name() {
    assert_eq!(path_error(tar().file(b"../evil", b"x")), PathError::Parent);
    assert_eq!(path_error(tar().file(b"a/../../evil", b"x")), PathError::Parent);
    assert_eq!(path_error(tar().file(b"/etc/passwd", b"x")), PathError::Absolute);
    assert_eq!(path_error(tar().add(b'5', b"..", b"", b"")), PathError::Parent);
    assert_eq!(path_error(tar().add(b'1', b"a", b"../../etc/passwd", b"")), PathError::Parent);
    assert_eq!(path_error(tar().add(b'1', b"a", b"/etc/passwd", b"")), PathError::Absolute);
    let path = |value: &[u8]| tar().pax(&pax_record(b"path", value), b'0', b"s", b"");
    assert_eq!(path_error(path(&[b'x'; 300])), PathError::NameTooLong);
    assert_eq!(path_error(path(&b"abcdefg/".repeat(600))), PathError::TooLong);
    assert_eq!(path_error(path(b"a\0b")), PathError::Nul);
    assert_eq!(path_error(path(b"../evil")), PathError::Parent);
    assert_eq!(path_error(tar().add(b'L', b"l", b"", b"../evil\0").file(b"good", b"")), PathError::Parent);
    let prefix = tar().file(b"evil", b"").with(345, b"..");
    assert_eq!(path_error(prefix), PathError::Parent);
    // Where it is, and what it is called, without control characters.
    let error = refusal(tar().file(b"a", b"x").file(b"../\x1b[2J", b""));
    assert!(error.to_string().contains("at byte 1024 of the tar (../\\u{1b}[2J)"), "{error}");
}

#[test]
fn names_that_are_not_utf8_and_missing_parents_are_taken() {
    let (listing, report) = read_tar(&tar().file(b"a/b/\xff\xfe", b"x").file(b"a/b/c", b"").end()).unwrap();
    let paths: Vec<&[u8]> = listing.entries.iter().map(|(entry, _)| entry.path.as_bytes()).collect();
    assert_eq!(paths, [&b"a"[..], b"a/b", b"a/b/\xff\xfe", b"a/b/c"]);
    assert_eq!(listing.entries[0].0.kind, EntryKind::Folder);
    assert_eq!(listing.entries[0].0.attributes.mode, 0o755);
    assert_eq!(report.entries, 4);
}

#[test]
fn the_root_takes_attributes_and_is_no_entry() {
    let (listing, _) = read_tar(&tar().add(b'5', b"./", b"", b"").file(b"./a", b"").end()).unwrap();
    assert!(listing.entries[0].0.path.is_root());
    assert_eq!(listing.entries[0].0.attributes.mode, 0o644);
    assert_eq!(listing.entries[1].0.path.as_bytes(), b"a");
    let full = (0..LIMITS.entries)
        .fold(tar().add(b'5', b"./", b"", b""), |tar, number| tar.file(format!("f{number}").as_bytes(), b""));
    assert_eq!(read_tar(&full.end()).unwrap().0.entries.len() as u64, LIMITS.entries + 1);
}

#[test]
fn lies_about_size_are_refused_before_anything_is_allocated() {
    let content = (LIMITS.total_bytes, "bytes of content");
    assert_eq!(cap(tar().file(b"x", b"").with(124, b"77777777777\0")), content);
    assert_eq!(cap(tar().file(b"x", b"").with(124, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff")), content);
    assert_eq!(cap(tar().pax(&pax_record(b"size", b"18446744073709551615"), b'0', b"x", b"")), content);
    assert_eq!(damage(tar().file(b"x", b"").with(124, &[0xff; 12])), "a size is negative");
    assert_eq!(damage(tar().file(b"x", b"").with(124, b"\x80\xff\xff\xff\0\0\0\0\0\0\0\0")), "a size is not a number");
    assert_eq!(damage(tar().file(b"x", b"").with(124, b"0000000009\0")), "a size is not a number");
    for wrong in [&b"-1"[..], b"+1", b"1.0", b"", b"99999999999999999999"] {
        assert_eq!(damage(tar().pax(&pax_record(b"size", wrong), b'0', b"x", b"")), "a PAX size is not a number");
    }
    // The PAX size is the one that counts.
    let (listing, _) = read_tar(&tar().pax(&pax_record(b"size", b"5"), b'0', b"x", b"12345").end()).unwrap();
    assert_eq!(listing.entries[0].1, b"12345");
    let header_lies = tar().pax(&pax_record(b"size", b"5"), b'0', b"x", b"12345").with(124, b"00000000000\0");
    assert_eq!(read_tar(&header_lies.end()).unwrap().0.entries[0].1, b"12345");
    let too_much = tar().file(b"x", b"12345").with(124, b"00000002000\0").end();
    let refused = read_tar(&too_much[..1536]);
    assert!(matches!(refused, Err(FormatError::Truncated { expected: 2048, found: 1536 })), "{refused:?}");
}

#[test]
fn bombs_are_refused() {
    let content = vec![0; (LIMITS.total_bytes + 1) as usize];
    let bomb = seal_v1(&gzip(&tar().file(b"x", &content).end()), "p");
    let refused = read_v1(&bomb, "p");
    assert!(matches!(refused, Err(FormatError::TooLarge { limit, .. }) if limit == LIMITS.total_bytes), "{refused:?}");
    let many = (0..=LIMITS.entries).fold(tar(), |tar, number| tar.file(format!("f{number}").as_bytes(), b""));
    assert_eq!(cap(many), (LIMITS.entries, "entries"));
    let links = (0..=8 * LIMITS.entries)
        .fold(tar().file(b"f", b""), |tar, number| tar.add(b'1', format!("l{number}").as_bytes(), b"f", b""));
    assert_eq!(cap(links), (8 * LIMITS.entries, "hard links"));
    let deep = [b"d/".repeat(1001), b"f".to_vec()].concat();
    assert_eq!(cap(tar().pax(&pax_record(b"path", &deep), b'0', b"x", b"")), (LIMITS.entries, "entries"));
    let padding = seal_v1(&gzip(&[tar().end(), vec![0; 20 << 20]].concat()), "p");
    assert!(matches!(read_v1(&padding, "p"), Err(FormatError::Tar { .. })));
}

#[test]
fn extended_headers_are_capped_alone_and_together() {
    let one_entry = (2 << 20, "bytes of extended headers in one entry");
    assert_eq!(cap(tar().add(b'x', b"p", b"", &vec![b'x'; (2 << 20) + 1])), one_entry);
    assert_eq!(cap(tar().add(b'x', b"p", b"", b"").with(124, b"77777777777\0")), one_entry);
    assert_eq!(cap(tar().add(b'L', b"p", b"", &vec![b'x'; (2 << 20) + 1])), one_entry);
    let comment = pax_record(b"comment", &vec![b'x'; 1 << 20]);
    assert_eq!(cap(tar().add(b'x', b"p", b"", &comment).pax(&comment, b'0', b"x", b"")), one_entry);
    let limits = ReadLimits { total_bytes: 1 << 20, entries: 10 };
    let global = (0..5).fold(tar(), |tar, _| tar.add(b'g', b"g", b"", &comment)).end();
    let refused = tar::read(&mut Cursor::new(&global), &limits, &mut Listing::default());
    assert!(matches!(refused, Err(FormatError::TooLarge { unit: "bytes of extended headers", .. })), "{refused:?}");
    assert!(read_tar(&tar().add(b'g', b"g", b"", &comment).file(b"x", b"").end()).is_ok());
}

#[test]
fn extended_attributes_are_capped_and_only_those_of_users_are_kept() {
    let attribute = |name: &str, len| pax_record(format!("SCHILY.xattr.{name}").as_bytes(), &vec![b'v'; len]);
    let with = |records: &[u8]| tar().pax(records, b'0', b"x", b"");
    assert_eq!(cap(with(&attribute("user.a", 65_537))), (65_536, "bytes in one extended attribute"));
    let many: Vec<u8> = (0..17).flat_map(|number| attribute(&format!("user.{number}"), 65_000)).collect();
    assert_eq!(cap(with(&many)), (1 << 20, "bytes of extended attributes in one entry"));
    let kept = [attribute("user.b", 65_536), attribute("security.selinux", 10), attribute("user.a", 0)].concat();
    let (listing, _) = read_tar(&with(&kept).end()).unwrap();
    let names: Vec<&[u8]> = listing.entries[0].0.xattrs.iter().map(|(name, _)| name.as_slice()).collect();
    assert_eq!(names, [b"user.a", b"user.b"]);
    let twice = [pax_record(b"SCHILY.xattr.user.a", b"old"), pax_record(b"SCHILY.xattr.user.a", b"new")].concat();
    let (listing, _) = read_tar(&with(&twice).end()).unwrap();
    assert_eq!(listing.entries[0].0.xattrs, [(b"user.a".to_vec(), b"new".to_vec())]);
    assert_eq!(damage(with(&pax_record(b"TAZPOD.xattr-hex.7", b""))), "an attribute's name is not hexadecimal");
    let total = ReadLimits { total_bytes: 100_000, entries: 10 };
    let two = (0..2).fold(tar(), |tar, _| tar.pax(&attribute("user.a", 60_000), b'0', b"x", b"")).end();
    let refused = tar::read(&mut Cursor::new(&two), &total, &mut Listing::default());
    assert!(matches!(refused, Err(FormatError::TooLarge { unit: "bytes of extended attributes", .. })), "{refused:?}");
}

#[test]
fn broken_extended_headers_are_refused() {
    let with = |records: &[u8]| tar().pax(records, b'0', b"x", b"");
    assert_eq!(damage(with(b"x")), "a PAX record has no length");
    assert_eq!(damage(with(b"99 path=a\n")), "a PAX record has a wrong length");
    assert_eq!(damage(with(b"9 path=ab")), "a PAX record does not end with a newline");
    assert_eq!(damage(with(b"7 path\n")), "a PAX record has no value");
    assert_eq!(damage(with(b"8 path\n")), "a PAX record has a wrong length");
    assert_eq!(damage(with(&pax_record(b"mtime", b"yesterday"))), "a PAX time is not a number");
    assert_eq!(damage(with(&pax_record(b"ctime", b"1e9"))), "a PAX time is not a number");
    let at_the_end = tar().add(b'x', b"p", b"", &pax_record(b"mtime", b"1"));
    assert_eq!(damage(at_the_end), "the tar ends after an extended header");
    assert_eq!(damage(tar().add(b'L', b"p", b"", b"name")), "the tar ends after an extended header");
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let no_file = "an entry that is no file has content";
    for kind in [b'1', b'2', b'3', b'4', b'5', b'6'] {
        assert_eq!(damage(tar().add(kind, b"x", b"target", b"content")), no_file, "{}", kind as char);
    }
    let socket = pax_record(b"TAZPOD.kind", b"socket");
    assert_eq!(damage(tar().pax(&socket, b'0', b"x", b"content")), no_file);
    assert_eq!(damage(tar().pax(&socket, b'5', b"x", b"")), "a socket is not written as a file");
    assert_eq!(damage(tar().add(b'2', b"x", b"", b"")), "a symbolic link has no target");
    let nul = tar().pax(&pax_record(b"linkpath", b"a\0b"), b'2', b"x", b"");
    assert_eq!(damage(nul), "the target of a symbolic link is empty or holds a NUL byte");
    assert_eq!(damage(tar().add(b'1', b"x", b"", b"")), "a hard link has no target");
    assert_eq!(damage(tar().add(b'3', b"x", b"", b"").with(329, b"000000x\0")), "a device number is not a number");
    assert_eq!(damage(tar().file(b"x", b"").with(100, b"rw-r--r-")), "a mode is not a number");
    assert_eq!(damage(tar().file(b"x", b"").with(136, b"yesterday\0\0\0")), "a time is not a number");
}

#[test]
fn what_this_release_does_not_know_is_named() {
    assert_eq!(unsupported(tar().add(b'S', b"big", b"", b"")), "the tar holds a sparse file (big)");
    let sparse = pax_record(b"GNU.sparse.major", b"1");
    assert_eq!(unsupported(tar().pax(&sparse, b'0', b"big", b"")), "the tar holds a sparse file (big)");
    assert_eq!(unsupported(tar().add(b'Q', b"x", b"", b"")), "the tar holds an entry of the unknown type 'Q' (x)");
    let kind = tar().pax(&pax_record(b"TAZPOD.kind", b"whiteout"), b'0', b"x", b"");
    assert_eq!(unsupported(kind), "the tar holds the unknown record 'TAZPOD.kind'");
    let future = tar().pax(&pax_record(b"TAZPOD.future", b"1"), b'0', b"x", b"");
    assert_eq!(unsupported(future), "the tar holds the unknown record 'TAZPOD.future'");
    assert!(read_tar(&tar().pax(&pax_record(b"LIBARCHIVE.creationtime", b"1"), b'0', b"x", b"").end()).is_ok());
}

#[test]
fn a_tar_cut_anywhere_is_refused() {
    let whole = tar()
        .add(b'5', b"d/", b"", b"")
        .pax(&pax_record(b"mtime", b"1.5"), b'0', b"d/f", b"content")
        .add(b'L', b"l", b"", b"long")
        .file(b"x", b"")
        .end();
    // One of the two zero blocks is enough; some programs write no more.
    let enough = whole.len() - 512;
    for cut in 0..whole.len() {
        match read_tar(&whole[..cut]) {
            Ok(_) if cut >= enough => {}
            Err(FormatError::Truncated { expected, found }) if cut < enough => {
                assert!(found == cut as u64 && expected > found, "cut at {cut}: {expected} {found}");
            }
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
}

#[test]
fn damage_to_a_header_and_garbage_after_the_end_are_refused() {
    let whole = tar().add(b'5', b"d/", b"", b"").file(b"d/f", b"content").end();
    for at in (0..512).chain(512..1024) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x41;
        let refused = read_tar(&flipped);
        let offset = (at / 512 * 512) as u64;
        assert!(matches!(refused, Err(FormatError::Tar { offset: found, .. }) if found == offset), "{at}: {refused:?}");
    }
    for trailing in [&b"x"[..], &[&[0; 4096][..], b"x"].concat(), &whole] {
        let refused = read_tar(&[whole.as_slice(), trailing].concat());
        assert!(
            matches!(&refused, Err(FormatError::Tar { reason, .. }) if reason.contains("after the end")),
            "{refused:?}"
        );
    }
    assert!(read_tar(&[whole.as_slice(), &[0; 9216]].concat()).is_ok(), "GNU tar pads to 10 KiB");
}

#[test]
fn what_other_programs_write_is_understood() {
    let long = [b'n'; 150];
    let entries = tar()
        .file(b"old-folder/", b"")
        .add(0, b"v7", b"", b"seven")
        .add(b'7', b"contiguous", b"", b"c")
        .add(b'L', b"././@LongLink", b"", &[&long[..], b"\0"].concat())
        .file(&long[..100], b"long")
        .add(b'K', b"././@LongLink", b"", &[&long[..], b"\0"].concat())
        .add(b'2', b"link", &long[..100], b"")
        .file(b"before-1970", b"")
        .with(136, &[&[0xff; 11][..], &[0xfe]].concat())
        .file(b"split", b"")
        .with(345, b"prefix")
        .end();
    let (listing, _) = read_tar(&entries).unwrap();
    let kinds: Vec<(&[u8], &EntryKind)> =
        listing.entries.iter().map(|(entry, _)| (entry.path.as_bytes(), &entry.kind)).collect();
    assert_eq!(kinds[0], (&b"old-folder"[..], &EntryKind::Folder));
    assert_eq!(kinds[1], (&b"v7"[..], &EntryKind::File { size: 5 }));
    assert_eq!(kinds[2], (&b"contiguous"[..], &EntryKind::File { size: 1 }));
    assert_eq!(kinds[3], (&long[..], &EntryKind::File { size: 4 }));
    assert_eq!(kinds[4], (&b"link"[..], &EntryKind::Symlink { target: long.to_vec() }));
    assert_eq!(listing.entries[5].0.attributes.mtime, Timestamp { secs: -2, nanos: 0 });
    assert_eq!(kinds[6], (&b"prefix"[..], &EntryKind::Folder));
    assert_eq!(kinds[7].0, b"prefix/split");
}

#[test]
fn an_error_of_the_sink_or_the_input_is_told_as_such() {
    struct Picky;
    impl EntrySink for Picky {
        fn entry(&mut self, entry: Entry) -> Result<(), SinkError> {
            let reason = "a second entry of that name".to_owned();
            if entry.path.as_bytes() == b"b" { Err(SinkError { path: entry.path, reason }) } else { Ok(()) }
        }
        fn content(&mut self, _: &[u8]) -> Result<(), SinkError> {
            Ok(())
        }
    }
    let two = tar().file(b"a", b"1").file(b"b", b"2").end();
    assert!(matches!(tar::read(&mut two.as_slice(), &LIMITS, &mut Picky), Err(FormatError::Rejected(_))));
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let mut input = io::Read::chain(&two[..700], Broken);
    assert!(matches!(tar::read(&mut input, &LIMITS, &mut Picky), Err(FormatError::Io(_))));
}
