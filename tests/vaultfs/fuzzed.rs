//! What is done with bytes of an enemy: by the fuzz targets with endless mutations, by an ordinary test with their corpora.
//! Whatever a reader accepts must keep to the limits, and what a tree took from it can be written and read as the same.
#![expect(clippy::unwrap_used, reason = "a finding is a panic")]

use std::io::{self, Cursor, Write};
use std::sync::{Arc, OnceLock};

use vaultfs::crypto::{ArchiveKey, CHUNK_LEN, Hasher, KdfCost, MasterKey, Passphrase, Position, StreamCipher, Suite};
use vaultfs::entry::{Change, Entry, EntryKind};
use vaultfs::format::v2::{
    Archive, Chain, CommitInfo, Head, Header, MachineId, Output, Record, SegmentKind, SegmentWriter, Sequence, Source,
    VaultId,
};
use vaultfs::format::{self, EntrySink, EntrySource, FormatError, ReadLimits, SinkError};
use vaultfs::tree::{Ino, Loader, Owner, Snapshot, SnapshotEntries, Tree, TreeError, TreeOptions};

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

/// Reads an archive of version 2. The first byte says what the rest is: a whole file, or the plaintexts of segments, each with
/// its length before it, which are sealed here. Tells whether it was accepted.
pub fn v2(data: &[u8]) -> bool {
    let Some((how, body)) = data.split_first() else { return false };
    let file = if how % 2 == 0 { body.to_vec() } else { v2_file(body) };
    let Some(tree) = v2_tree(file) else { return false };
    let snapshot = Arc::new(tree.snapshot());
    let again = v2_tree(v2_written(&snapshot)).expect("what was written can be read");
    assert_eq!(Walker::new(&snapshot).all(), Walker::new(&Arc::new(again.snapshot())).all());
    assert_eq!(tree.usage(), again.usage());
    true
}

const VAULT: VaultId = VaultId([6; 16]);

fn v2_secrets() -> &'static (MasterKey, Header) {
    static SECRETS: OnceLock<(MasterKey, Header)> = OnceLock::new();
    SECRETS.get_or_init(|| {
        let fill = |bytes: &mut [u8]| {
            bytes.fill(7);
            Ok(())
        };
        let master = MasterKey::fill(fill).unwrap();
        let cost = KdfCost { memory_kib: 8, passes: 1, lanes: 1 };
        let suite = Suite::ChaCha20Poly1305;
        let header = Header::with_passphrase(VAULT, suite, &master, &secrets().1, cost).unwrap();
        (master, header)
    })
}

/// An archive in memory.
struct Bytes(Vec<u8>);

impl Source for Bytes {
    fn length(&self) -> io::Result<u64> {
        self.0.as_slice().length()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.as_slice().read_exact_at(buffer, offset)
    }
}

impl Output for Bytes {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = offset as usize;
        self.0.resize(self.0.len().max(offset + bytes.len()), 0);
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

/// Seals plaintexts as the segments that they would be.
fn v2_file(mut body: &[u8]) -> Vec<u8> {
    let mut file = v2_secrets().1.bytes().to_vec();
    let mut head = Head { sequence: Sequence(0), chain: Chain::genesis(&VAULT) };
    let mut kind = 1;
    while let Some((length, rest)) = body.split_first_chunk::<2>() {
        let (plain, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
        body = rest;
        let segment = v2_segment(kind, &head, plain);
        if kind == 2 {
            let payload = Hasher::hash(&[&segment[88..]]);
            head.chain = Chain(Hasher::hash(&[&segment[..88], &payload]));
        }
        file.extend_from_slice(&segment);
        (head.sequence, kind) = (head.sequence.next(), 2);
    }
    file
}

fn v2_segment(kind: u8, head: &Head, plain: &[u8]) -> Vec<u8> {
    let (master, header) = v2_secrets();
    let mut plain = plain.to_vec();
    plain.resize((plain.len() + 1).next_multiple_of(4096), 0);
    let start = [&b"TSEG"[..], &[kind, 0, 0, 0], &head.sequence.0.to_le_bytes(), &head.chain.0, &[1; 32]].concat();
    let mut cipher = StreamCipher::new(header.suite(), master.segment_key(&[1; 32], &start).unwrap());
    let last = plain.len().div_ceil(CHUNK_LEN) - 1;
    let mut payload = Vec::new();
    for (index, chunk) in plain.chunks(CHUNK_LEN).enumerate() {
        let mut chunk = chunk.to_vec();
        cipher.seal(&mut chunk, if index == last { Position::Last } else { Position::Inner });
        payload.append(&mut chunk);
    }
    [&start[..], &(payload.len() as u64).to_le_bytes(), &payload].concat()
}

fn v2_tree(file: Vec<u8>) -> Option<Tree> {
    let header = Header::parse(&file).ok()?;
    let mut tree = Tree::new(options()).unwrap();
    let source = Bytes(file);
    let segments = Archive::new(&source, header.suite(), &v2_secrets().0, header.vault_id()).unwrap();
    let mut applier = tree.applier();
    let (mut at, mut head) = (header.bytes().len() as u64, None);
    while at < segments.length() || head.is_none() {
        let segment = segments.check(at, head).expect("memory can be read").ok()?;
        let mut take = |record: Record<'_>| match record {
            Record::Change(change) => applier.apply(&change).map_err(|_| FormatError::Header("refused")),
            _ => Ok(()),
        };
        segments.read(&segment, &mut take).ok()?;
        applier.end().ok()?;
        (at, head) = (segment.end, Some(segment.head));
    }
    drop(applier);
    Some(tree)
}

fn v2_written(snapshot: &Snapshot) -> Vec<u8> {
    let (master, header) = v2_secrets();
    let head = Head { sequence: Sequence(0), chain: Chain::genesis(&VAULT) };
    let mut segment = Bytes(Vec::new());
    let mut writer = SegmentWriter::begin(&mut segment, SegmentKind::Checkpoint, head, header.suite(), master).unwrap();
    let (machine, text) = (MachineId::default(), String::new());
    let info = CommitInfo { time_nanos: 0, machine, host: text.clone(), version: text, merged: Vec::new() };
    writer.record(&Record::Commit(info)).unwrap();
    writer.record(&Record::Ancestors(Vec::new())).unwrap();
    writer.record(&Record::Header(header.digest())).unwrap();
    let mut take = |change: Change<'_>| writer.record(&Record::Change(change)).map_err(|_| TreeError::Sealing);
    snapshot.changes_since(None, &mut take).unwrap();
    writer.finish().unwrap();
    [header.bytes(), &segment.0].concat()
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
