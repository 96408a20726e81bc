//! What is done with bytes of an enemy: by the fuzz targets with endless mutations, by an ordinary test with their corpora.
//! Whatever a reader accepts must keep to the limits, and what a tree took from it can be written and read as the same.
#![expect(clippy::unwrap_used, reason = "a finding is a panic")]

#[path = "fuzzed_v2.rs"]
mod version_2;

use std::io::{self, Cursor, Write};
use std::sync::{Arc, OnceLock};

use vaultfs::crypto::{ArchiveKey, Passphrase};
use vaultfs::entry::{Entry, EntryKind};
use vaultfs::format::{self, EntrySink, EntrySource, FormatError, ReadLimits, SinkError};
use vaultfs::tree::{Ino, Loader, Owner, Snapshot, SnapshotEntries, Tree, TreeOptions};

pub use version_2::v2;

const LIMITS: ReadLimits = ReadLimits { total_bytes: 1 << 20, entries: 500 };
const SALT: [u8; 32] = [9; 32];

/// Reads a tar, and what it makes of it again. Tells whether it was accepted.
pub fn tar(data: &[u8]) -> bool {
    round_trip(data, &mut |bytes, sink| format::tar::read(&mut Cursor::new(bytes), &LIMITS, sink), &mut |source| {
        let mut written = Vec::new();
        format::tar::write(&mut written, source).map(|()| written)
    })
}

/// Reads an archive of version 1. The first byte says what the rest is: a whole file, what lies under the cipher, or the
/// tar that lies under the compression too (no fuzzer gets past a cipher by itself). Tells whether it was accepted.
pub fn v1(data: &[u8]) -> bool {
    let Some((how, body)) = data.split_first() else { return false };
    let (key, passphrase) = secrets();
    let sealed = |compressed: &[u8]| {
        let mut file = Vec::new();
        format::v1::seal(&mut file, key, compressed).unwrap();
        file
    };
    let file = match how % 3 {
        0 => body.to_vec(),
        1 => sealed(body),
        _ => sealed(&gzip(body)),
    };
    let mut read = |bytes: &[u8], sink: &mut dyn EntrySink| {
        format::v1::read_with_key(&mut Cursor::new(bytes), key, passphrase, &LIMITS, sink).map(|mut report| {
            // What is told of a plaintext passphrase is told once.
            report.warnings.clear();
            report
        })
    };
    round_trip(&file, &mut read, &mut |source| {
        let mut written = Vec::new();
        format::v1::write(&mut written, key, source).map(|()| written)
    })
}

type Read<'a> = &'a mut dyn FnMut(&[u8], &mut dyn EntrySink) -> Result<format::ReadReport, FormatError>;
type Save<'a> = &'a mut dyn FnMut(&mut dyn EntrySource) -> Result<Vec<u8>, FormatError>;

fn round_trip(data: &[u8], read: Read<'_>, write: Save<'_>) -> bool {
    let mut tree = Tree::new(options()).unwrap();
    let mut filler = Filler { loader: tree.loader(), last: None, entries: 0, bytes: 0, due: 0 };
    let outcome = read(data, &mut filler);
    assert!(filler.bytes <= LIMITS.total_bytes && filler.entries <= LIMITS.entries * 10, "past the limits");
    let Ok(report) = outcome else { return false };
    assert_eq!(filler.due, 0, "a file got less than its size");
    // The plaintext passphrase of the old tool is counted, and dropped on the way.
    assert!((filler.entries..=filler.entries + 1).contains(&report.entries));
    drop(filler);
    let snapshot = Arc::new(tree.snapshot());
    let written = write(&mut Walker::new(&snapshot)).expect("what a tree took can be written");
    let mut again = Tree::new(options()).unwrap();
    let mut filler = Filler { loader: again.loader(), last: None, entries: 0, bytes: 0, due: 0 };
    read(&written, &mut filler).expect("what was written can be read");
    drop(filler);
    assert_eq!(Walker::new(&snapshot).all(), Walker::new(&Arc::new(again.snapshot())).all());
    assert_eq!(tree.usage(), again.usage());
    true
}

fn options() -> TreeOptions {
    let owner = Owner { uid: 1000, gid: 1000 };
    TreeOptions { owner, size_limit: 0, logical_limit: LIMITS.total_bytes, entry_limit: LIMITS.entries }
}

fn secrets() -> &'static (ArchiveKey, Passphrase) {
    static SECRETS: OnceLock<(ArchiveKey, Passphrase)> = OnceLock::new();
    SECRETS.get_or_init(|| {
        let passphrase = Passphrase::new(zeroize::Zeroizing::new(b"correct horse".to_vec())).unwrap();
        (ArchiveKey::derive(&passphrase, SALT).unwrap(), passphrase)
    })
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Fills a tree, counting what comes.
struct Filler<'a> {
    loader: Loader<'a>,
    last: Option<Ino>,
    entries: u64,
    bytes: u64,
    /// What is still to come of the last file.
    due: u64,
}

impl EntrySink for Filler<'_> {
    fn entry(&mut self, entry: Entry) -> Result<(), SinkError> {
        assert_eq!(self.due, 0, "a file got less than its size");
        let path = entry.path.clone();
        self.due = if let EntryKind::File { size } = entry.kind { size } else { 0 };
        self.entries += 1;
        let added = self.loader.add(entry).map_err(|error| SinkError { path, reason: error.to_string() });
        self.last = Some(added?);
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.bytes += bytes.len() as u64;
        self.due = self.due.checked_sub(bytes.len() as u64).expect("a file got more than its size");
        self.loader.append(self.last.unwrap(), bytes).expect("content of the file that was added last");
        Ok(())
    }
}

/// Walks a tree as a writer does.
struct Walker {
    entries: SnapshotEntries,
    file: Option<(Ino, u64)>,
}

impl Walker {
    fn new(snapshot: &Arc<Snapshot>) -> Self {
        Self { entries: snapshot.entries(), file: None }
    }

    fn all(mut self) -> Vec<(Entry, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(mut entry) = self.next_entry().unwrap() {
            let mut content = Vec::new();
            if let EntryKind::File { size } = entry.kind {
                content.resize(size as usize, 0xaa);
                let mut filled = 0;
                while filled < content.len() {
                    filled += self.read_content(&mut content[filled..]).unwrap();
                }
            }
            if entry.path.is_root() {
                // Kept with its times only where it has an entry of its own.
                entry.attributes.mtime = Default::default();
                entry.attributes.ctime = Default::default();
            }
            all.push((entry, content));
        }
        all
    }
}

impl EntrySource for Walker {
    fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let next = self.entries.next();
        self.file = next.as_ref().map(|(_, ino)| (*ino, 0));
        Ok(next.map(|(entry, _)| entry))
    }

    fn read_content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (ino, offset) = self.file.as_mut().unwrap();
        let read = self.entries.read(*ino, *offset, buffer).map_err(io::Error::other)?;
        *offset += read as u64;
        Ok(read)
    }
}
