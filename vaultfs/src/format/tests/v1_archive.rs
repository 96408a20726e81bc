//! The v1 archive: those of the old tool, wrong passphrases, damage inside and outside the envelope.

use std::collections::BTreeMap;

use sha2::Digest;

use super::*;

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

/// They led to nothing, and the archive could not be opened any more.
#[test]
fn regression_further_names_of_the_dropped_passphrase_keep_its_content() {
    let tar = RawTar::default()
        .file(b".vault_pass", b"pass\n")
        .add(b'1', b"first", b".vault_pass", b"")
        .add(b'1', b"second", b"./.vault_pass", b"")
        .end();
    let (listing, report) = read_v1(&seal_v1(&gzip(&tar), "pass"), "pass").unwrap();
    assert_eq!(report.warnings, [ReadWarning::DroppedPassphraseFile]);
    let found: Vec<_> = listing
        .entries
        .iter()
        .map(|(entry, content)| (entry.path.as_bytes(), &entry.kind, content.as_slice()))
        .collect();
    let link = EntryKind::HardLink { target: EntryPath::parse(b"first").unwrap() };
    assert_eq!(
        found,
        [(b"first".as_slice(), &EntryKind::File { size: 5 }, b"pass\n".as_slice()), (b"second", &link, b"")]
    );
}

#[test]
fn damaged_streams_inside_a_sound_envelope_are_refused() {
    let tar = RawTar::default().add(b'0', b"x", b"", &[7; 3000]).end();
    let packed = gzip(&tar);
    let cut = seal_v1(&packed[..packed.len() / 2], "p");
    assert!(matches!(read_v1(&cut, "p"), Err(FormatError::Compression(_))));
    let mut checksum = packed.clone();
    let at = checksum.len() - 6;
    checksum[at] ^= 1;
    assert!(matches!(read_v1(&seal_v1(&checksum, "p"), "p"), Err(FormatError::Compression(_))));
    let trailing = [packed.as_slice(), b"garbage"].concat();
    assert!(matches!(read_v1(&seal_v1(&trailing, "p"), "p"), Err(FormatError::Compression(_))));
    let twice = [packed.as_slice(), &packed].concat();
    assert!(matches!(read_v1(&seal_v1(&twice, "p"), "p"), Err(FormatError::Compression(_))));
    assert!(matches!(read_v1(&seal_v1(b"", "p"), "p"), Err(FormatError::Compression(_))));
    let no_tar = seal_v1(&gzip(b""), "p");
    assert!(matches!(read_v1(&no_tar, "p"), Err(FormatError::Truncated { expected: 512, found: 0 })));
    assert!(read_v1(&seal_v1(&packed, "p"), "p").is_ok());
}

/// A file that says it has a length, without the bytes.
struct Endless {
    len: u64,
    at: u64,
}

impl io::Read for Endless {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = out.len().min((self.len - self.at) as usize);
        out[..read].fill(0);
        self.at += read as u64;
        Ok(read)
    }
}

impl io::Seek for Endless {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.at = match to {
            io::SeekFrom::Start(at) => at,
            io::SeekFrom::End(back) => self.len.saturating_add_signed(back),
            io::SeekFrom::Current(step) => self.at.saturating_add_signed(step),
        };
        Ok(self.at)
    }
}

#[test]
fn a_file_longer_than_one_nonce_may_encrypt_is_refused_before_it_is_read() {
    let mut file = Endless { len: (1 << 36) - 32 + 60 + 1, at: 0 };
    let refused = v1::verify(&mut file, &passphrase("p"));
    assert!(matches!(refused, Err(FormatError::TooLarge { limit: 68_719_476_704, .. })), "{refused:?}");
    assert_eq!(file.at, file.len, "only the length was looked at");
}

/// A file whose disk fails after some bytes.
struct Failing(Cursor<Vec<u8>>, u64);

impl io::Read for Failing {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.0.position() >= 44 && self.1 == 0 {
            return Err(io::Error::other("the disk is gone"));
        }
        self.1 = self.1.saturating_sub(1);
        self.0.read(out)
    }
}

impl io::Seek for Failing {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn a_failing_disk_is_not_taken_for_damage() {
    let archive = fixture("upstream-v1.tar.aes");
    for reads in 2..14 {
        let mut file = Failing(Cursor::new(archive.clone()), reads);
        let outcome = v1::read(&mut file, &passphrase(FIXTURE_PASSPHRASE), &LIMITS, &mut Listing::default());
        assert!(matches!(outcome, Err(FormatError::Io(_))), "after {reads} reads: {outcome:?}");
    }
}

#[test]
fn a_derived_key_opens_what_its_passphrase_opens() {
    let key = ArchiveKey::derive_fresh(&passphrase("p")).unwrap();
    let tar = RawTar::default().file(b"x", b"content").end();
    let mut archive = Vec::new();
    v1::seal(&mut archive, &key, &gzip(&tar)).unwrap();
    let mut listing = Listing::default();
    v1::read_with_key(&mut Cursor::new(&archive), &key, &passphrase("p"), &LIMITS, &mut listing).unwrap();
    assert_eq!(listing.entries, read_v1(&archive, "p").unwrap().0.entries);
    let other = ArchiveKey::derive_fresh(&passphrase("p")).unwrap();
    let refused = v1::read_with_key(&mut Cursor::new(&archive), &other, &passphrase("p"), &LIMITS, &mut listing);
    assert!(matches!(refused, Err(FormatError::WrongPassphraseOrDamaged)));
}
