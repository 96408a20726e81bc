//! The readers against archives of the old tool, of this release, and of an enemy.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::PathBuf;

use proptest::prelude::*;
use sha2::Digest;
use zeroize::Zeroizing;

use crate::crypto::{ArchiveKey, Passphrase};
use crate::entry::{Attributes, Entry, EntryKind, EntryPath, PathError, Timestamp};

use super::*;

const LIMITS: ReadLimits = ReadLimits { total_bytes: 1 << 24, entries: 1000 };

/// Entries with their content, in the order of arrival; a source and a sink.
#[derive(Clone, Debug, Default, PartialEq)]
struct Listing {
    entries: Vec<(Entry, Vec<u8>)>,
    at: usize,
    position: usize,
}

impl EntrySink for Listing {
    fn entry(&mut self, entry: Entry) -> Result<(), SinkError> {
        self.entries.push((entry, Vec::new()));
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.entries.last_mut().expect("content follows an entry").1.extend_from_slice(bytes);
        Ok(())
    }
}

impl EntrySource for Listing {
    fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        self.at += 1;
        self.position = 0;
        Ok(self.entries.get(self.at - 1).map(|(entry, _)| entry.clone()))
    }

    fn read_content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.entries[self.at - 1].1[self.position..];
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.position += len;
        Ok(len)
    }
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/v1").join(name)).unwrap()
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}

const FIXTURE_PASSPHRASE: &str = "correct horse battery staple";

fn read_v1(bytes: &[u8], with: &str) -> Result<(Listing, ReadReport), FormatError> {
    let mut listing = Listing::default();
    let report = v1::read(&mut Cursor::new(bytes), &passphrase(with), &LIMITS, &mut listing)?;
    Ok((listing, report))
}

fn seal_v1(plain_gzip: &[u8], with: &str) -> Vec<u8> {
    let key = ArchiveKey::derive(&passphrase(with), [9; 32]).unwrap();
    let mut encryptor = crate::crypto::GcmEncryptor::new(&key, &[1; 12]);
    let mut body = plain_gzip.to_vec();
    encryptor.update(&mut body);
    [key.salt().as_slice(), &[1; 12], &body, &encryptor.finish()].concat()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn read_tar(bytes: &[u8]) -> Result<(Listing, ReadReport), FormatError> {
    let mut listing = Listing::default();
    let report = tar::read(&mut Cursor::new(bytes), &LIMITS, &mut listing)?;
    Ok((listing, report))
}

/// A tar of raw headers, as an enemy would write it: names are not checked.
#[derive(Default)]
struct RawTar(Vec<u8>);

impl RawTar {
    fn add(mut self, kind: u8, name: &[u8], link: &[u8], content: &[u8]) -> Self {
        let mut header = ::tar::Header::new_ustar();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        header.set_entry_type(::tar::EntryType::new(kind));
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

#[test]
fn an_archive_of_the_old_tool_is_read_as_its_manifest_says() {
    let (listing, report) = read_v1(&fixture("upstream-v1.tar.aes"), FIXTURE_PASSPHRASE).unwrap();
    assert_eq!(report.warnings, [ReadWarning::DroppedPassphraseFile]);
    let found: BTreeMap<String, (String, String, String)> = listing
        .entries
        .iter()
        .map(|(entry, content)| {
            let (kind, digest) = match entry.kind {
                EntryKind::Folder => ("d", "-".to_owned()),
                _ => ("f", sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()),
            };
            let path = String::from_utf8(entry.path.as_bytes().to_vec()).unwrap();
            (path, (kind.to_owned(), format!("{:o}", entry.attributes.mode), digest))
        })
        .collect();
    let manifest = String::from_utf8(fixture("upstream-v1.manifest.tsv")).unwrap();
    let expected: BTreeMap<String, (String, String, String)> = manifest
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>())
        .filter(|fields| fields[0] != ".vault_pass")
        .map(|fields| (fields[0].clone(), (fields[1].clone(), fields[2].clone(), fields[3].clone())))
        .collect();
    assert_eq!(expected.len(), 27);
    assert_eq!(found, expected);
}

#[test]
fn the_other_fixtures_are_read() {
    let (listing, report) = read_v1(&fixture("upstream-v1-symlink.tar.aes"), FIXTURE_PASSPHRASE).unwrap();
    let link = EntryPath::parse(b"link.txt").unwrap();
    assert_eq!(report.warnings, [ReadWarning::SelfSymlink(link.clone())]);
    assert_eq!(listing.entries[0].0.path, link);
    assert_eq!(listing.entries[0].0.kind, EntryKind::Symlink { target: b"link.txt".to_vec() });
    assert_eq!(listing.entries[1].0.path.as_bytes(), b"real.txt");
    let (listing, report) = read_v1(&fixture("upstream-v1-empty.tar.aes"), FIXTURE_PASSPHRASE).unwrap();
    assert_eq!((listing.entries.len(), report), (0, ReadReport::default()));
}

#[test]
fn a_wrong_passphrase_and_every_cut_are_refused_before_anything_is_handed_on() {
    let archive = fixture("upstream-v1-symlink.tar.aes");
    let mut sink = Listing::default();
    let wrong = v1::read(&mut Cursor::new(&archive), &passphrase("wrong"), &LIMITS, &mut sink);
    assert!(matches!(wrong, Err(FormatError::WrongPassphraseOrDamaged)));
    for cut in 0..archive.len() {
        match v1::read(&mut Cursor::new(&archive[..cut]), &passphrase(FIXTURE_PASSPHRASE), &LIMITS, &mut sink) {
            Err(FormatError::Truncated { expected: 60, found }) if cut < 60 => assert_eq!(found, cut as u64),
            Err(FormatError::WrongPassphraseOrDamaged) if cut >= 60 => {}
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
    for at in 0..archive.len() {
        let mut flipped = archive.clone();
        flipped[at] ^= 1 << (at % 8);
        let outcome = v1::read(&mut Cursor::new(&flipped), &passphrase(FIXTURE_PASSPHRASE), &LIMITS, &mut sink);
        assert!(matches!(outcome, Err(FormatError::WrongPassphraseOrDamaged)), "flip at {at}: {outcome:?}");
    }
    assert_eq!(sink, Listing::default());
}

#[test]
fn a_file_named_like_the_leak_that_is_somebodys_secret_stays() {
    for (content, stays) in [(&b"pass"[..], false), (b"pass\n", false), (b"pass\r\n", false), (b"ansible", true)] {
        let tar = RawTar::default().add(b'0', b".vault_pass", b"", content).add(b'0', b"x", b"", b"1").end();
        let (listing, report) = read_v1(&seal_v1(&gzip(&tar), "pass"), "pass").unwrap();
        let kept = listing.entries.iter().find(|(entry, _)| entry.path.as_bytes() == b".vault_pass");
        assert_eq!(kept.map(|(_, content)| content.as_slice()), stays.then_some(content));
        let warning = if stays { ReadWarning::KeptPassphraseFile } else { ReadWarning::DroppedPassphraseFile };
        assert_eq!(report.warnings, [warning]);
    }
    let below = RawTar::default().add(b'0', b"a/.vault_pass", b"", b"pass").end();
    assert_eq!(read_v1(&seal_v1(&gzip(&below), "pass"), "pass").unwrap().0.entries.len(), 2);
}

#[test]
fn damaged_streams_inside_a_sound_envelope_are_refused() {
    let tar = RawTar::default().add(b'0', b"x", b"", &[7; 3000]).end();
    let packed = gzip(&tar);
    let cut = seal_v1(&packed[..packed.len() / 2], "p");
    assert!(matches!(read_v1(&cut, "p"), Err(FormatError::Tar { .. } | FormatError::Compression(_))));
    let mut checksum = packed.clone();
    let at = checksum.len() - 6;
    checksum[at] ^= 1;
    assert!(matches!(read_v1(&seal_v1(&checksum, "p"), "p"), Err(FormatError::Compression(_))));
    let trailing = [packed.as_slice(), b"garbage"].concat();
    assert!(matches!(read_v1(&seal_v1(&trailing, "p"), "p"), Err(FormatError::Compression(_))));
    assert!(matches!(read_v1(&seal_v1(b"", "p"), "p"), Err(FormatError::Tar { .. })));
    assert!(read_v1(&seal_v1(&packed, "p"), "p").is_ok());
}

#[test]
fn unsafe_names_are_refused_by_name() {
    let path_error = |tar: Vec<u8>| match read_tar(&tar) {
        Err(FormatError::Path { source, .. }) => source,
        other => panic!("{other:?}"),
    };
    let file = |name: &[u8]| RawTar::default().add(b'0', name, b"", b"x").end();
    assert_eq!(path_error(file(b"../evil")), PathError::Parent);
    assert_eq!(path_error(file(b"a/../../evil")), PathError::Parent);
    assert_eq!(path_error(file(b"/etc/passwd")), PathError::Absolute);
    assert_eq!(path_error(RawTar::default().add(b'1', b"a", b"../../etc/passwd", b"").end()), PathError::Parent);
    assert_eq!(path_error(RawTar::default().add(b'1', b"a", b"/etc/passwd", b"").end()), PathError::Absolute);
    let long = pax_record(b"path", &[b'x'; 300]);
    assert_eq!(
        path_error(RawTar::default().add(b'x', b"p", b"", &long).add(b'0', b"s", b"", b"").end()),
        PathError::NameTooLong
    );
    let nul = pax_record(b"path", b"a\0b");
    assert_eq!(
        path_error(RawTar::default().add(b'x', b"p", b"", &nul).add(b'0', b"s", b"", b"").end()),
        PathError::Nul
    );
}

fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = [b" ", key, b"=", value, b"\n"].concat();
    let mut length = body.len() + 1;
    while length.to_string().len() + body.len() != length {
        length = length.to_string().len() + body.len();
    }
    [length.to_string().as_bytes(), &body].concat()
}

#[test]
fn names_that_are_not_utf8_and_missing_parents_are_taken() {
    let (listing, report) = read_tar(&RawTar::default().add(b'0', b"a/b/\xff\xfe", b"", b"x").end()).unwrap();
    let paths: Vec<&[u8]> = listing.entries.iter().map(|(entry, _)| entry.path.as_bytes()).collect();
    assert_eq!(paths, [&b"a"[..], b"a/b", b"a/b/\xff\xfe"]);
    assert_eq!(report.entries, 3);
}

#[test]
fn bombs_and_lies_about_size_are_refused() {
    let mut huge = RawTar::default().add(b'0', b"x", b"", b"");
    let mut header = ::tar::Header::from_byte_slice(&huge.0[..512]).clone();
    header.set_size(1 << 40);
    header.set_cksum();
    huge.0[..512].copy_from_slice(header.as_bytes());
    let total = |limit| matches!(limit, FormatError::TooLarge { limit, .. } if limit == LIMITS.total_bytes);
    assert!(total(read_tar(&huge.end()).unwrap_err()));
    let bomb = RawTar::default().add(b'0', b"x", b"", &vec![0; (LIMITS.total_bytes + 1) as usize]).end();
    assert!(total(read_v1(&seal_v1(&gzip(&bomb), "p"), "p").unwrap_err()));
    let many = (0..=LIMITS.entries)
        .fold(RawTar::default(), |tar, number| tar.add(b'0', format!("f{number}").as_bytes(), b"", b""));
    assert!(matches!(read_tar(&many.end()), Err(FormatError::TooLarge { limit: 1000, .. })));
    let extension = RawTar::default().add(b'x', b"p", b"", &vec![b'x'; 2 << 20]).end();
    assert!(matches!(read_tar(&extension), Err(FormatError::TooLarge { .. })));
    let padding = [RawTar::default().end(), vec![0; 20 << 20]].concat();
    assert!(matches!(read_v1(&seal_v1(&gzip(&padding), "p"), "p"), Err(FormatError::Tar { .. })));
}

#[test]
fn what_this_release_does_not_know_is_named() {
    let sparse = RawTar::default().add(b'S', b"x", b"", b"").end();
    assert!(matches!(read_tar(&sparse), Err(FormatError::Unsupported(_))));
    let unknown = RawTar::default().add(b'Q', b"x", b"", b"").end();
    assert!(read_tar(&unknown).unwrap_err().to_string().contains("'Q'"));
    let sparse = pax_record(b"GNU.sparse.major", b"1");
    let sparse = RawTar::default().add(b'x', b"p", b"", &sparse).add(b'0', b"x", b"", b"").end();
    assert!(matches!(read_tar(&sparse), Err(FormatError::Unsupported(_))));
}

#[test]
fn damaged_tars_are_refused_at_any_byte_or_read_the_same() {
    let tar = RawTar::default()
        .add(b'5', b"d/", b"", b"")
        .add(b'x', b"p", b"", &pax_record(b"mtime", b"1.5"))
        .add(b'0', b"d/f", b"", b"content")
        .end();
    for cut in 0..tar.len() {
        // A tar may end without its end mark, but never within a header or content.
        if let Ok((listing, _)) = read_tar(&tar[..cut]) {
            let in_end_mark = cut >= tar.len() - 1024;
            assert!(listing.entries.len() <= 2 && (cut % 512 == 0 || in_end_mark), "cut at {cut}");
        }
    }
    let trailing = [tar.as_slice(), b"x"].concat();
    assert!(matches!(read_tar(&trailing), Err(FormatError::Tar { .. })));
    for at in 0..512 {
        let mut flipped = tar.clone();
        flipped[at] ^= 0x41;
        assert!(matches!(read_tar(&flipped), Err(FormatError::Tar { .. })), "flip at {at} of a header");
    }
}

fn any_entry() -> impl Strategy<Value = (EntryKind, Vec<u8>)> {
    let content = proptest::collection::vec(any::<u8>(), 0..2000);
    prop_oneof![
        content.prop_map(|bytes| (EntryKind::File { size: bytes.len() as u64 }, bytes)),
        Just((EntryKind::Folder, Vec::new())),
        proptest::collection::vec(1_u8.., 1..300).prop_map(|target| (EntryKind::Symlink { target }, Vec::new())),
        Just((EntryKind::Fifo, Vec::new())),
        Just((EntryKind::Socket, Vec::new())),
        (0_u32..4000, 0_u32..255).prop_map(|(major, minor)| {
            (EntryKind::CharDevice { rdev: rustix::fs::makedev(major, minor) }, Vec::new())
        }),
        (0_u32..4000, 0_u32..255).prop_map(|(major, minor)| {
            (EntryKind::BlockDevice { rdev: rustix::fs::makedev(major, minor) }, Vec::new())
        }),
    ]
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    let secs = prop_oneof![-5_000_000_000_i64..50_000_000_000, 1_600_000_000_i64..1_800_000_000];
    (secs, prop_oneof![Just(0), 0_u32..1_000_000_000]).prop_map(|(secs, nanos)| Timestamp { secs, nanos })
}

fn any_listing() -> impl Strategy<Value = Listing> {
    let name = proptest::collection::vec((1_u8..).prop_filter("slash", |&byte| byte != b'/'), 1..255);
    let xattrs =
        proptest::collection::btree_map("user\\.[a-z]{1,20}", proptest::collection::vec(any::<u8>(), 0..60), 0..3);
    let entry = (name, any_entry(), 0_u32..=0o7777, any_time(), any_time(), xattrs);
    proptest::collection::vec(entry, 0..8).prop_map(|entries| {
        let mut listing = Listing::default();
        for (number, (name, (kind, content), mode, mtime, ctime, xattrs)) in entries.into_iter().enumerate() {
            let name = [number.to_string().as_bytes(), &name[..name.len().min(250)]].concat();
            let xattrs = xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
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

#[test]
fn the_longest_paths_come_back() {
    let mut listing = Listing::default();
    let mut path = EntryPath::root();
    while path.as_bytes().len() + 101 <= crate::entry::PATH_MAX {
        path = path.join(&[b'd'; 100]);
        let attributes = Attributes { mode: 0o700, ..Attributes::default() };
        listing
            .entries
            .push((Entry { path: path.clone(), kind: EntryKind::Folder, attributes, xattrs: Vec::new() }, Vec::new()));
    }
    let mut bytes = Vec::new();
    tar::write(&mut bytes, &mut listing.clone()).unwrap();
    assert_eq!(read_tar(&bytes).unwrap().0.entries, listing.entries);
}
