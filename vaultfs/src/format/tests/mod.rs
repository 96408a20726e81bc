//! The readers against archives of the old tool, of this release, and of an enemy. Here: what these tests share.

mod hostile;
mod round_trip;
mod v1_archive;

use std::io::{Cursor, Write};
use std::path::PathBuf;

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

/// A tar of raw headers, as an enemy would write it: nothing is checked.
#[derive(Default)]
struct RawTar {
    bytes: Vec<u8>,
    /// Where the last header lies.
    last: usize,
}

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
        self.last = self.bytes.len();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &[u8], content: &[u8]) -> Self {
        self.add(b'0', name, b"", content)
    }

    /// An entry with a PAX header before it.
    fn pax(self, records: &[u8], kind: u8, name: &[u8], content: &[u8]) -> Self {
        self.add(b'x', b"PaxHeaders/0", b"", records).add(kind, name, b"", content)
    }

    /// Changes bytes of the last header, with a new checksum.
    fn with(mut self, at: usize, field: &[u8]) -> Self {
        let header = &mut self.bytes[self.last..self.last + 512];
        header[at..at + field.len()].copy_from_slice(field);
        let mut fixed = ::tar::Header::from_byte_slice(header).clone();
        fixed.set_cksum();
        header.copy_from_slice(fixed.as_bytes());
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = [b" ", key, b"=", value, b"\n"].concat();
    let mut length = body.len() + 1;
    while length.to_string().len() + body.len() != length {
        length = length.to_string().len() + body.len();
    }
    [length.to_string().as_bytes(), &body].concat()
}
