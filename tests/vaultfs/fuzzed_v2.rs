//! An enemy's bytes as an archive of version 2. No fuzzer gets past a cipher or a MAC by itself, so the bytes stand for what lies
//! under them: plaintexts, records with fields from small sets, headers.

#[path = "sealing_v2.rs"]
mod sealing;

use std::io;
use std::sync::{Arc, OnceLock};

use vaultfs::crypto::{KdfCost, MacPurpose, MasterKey, Suite};
use vaultfs::entry::Change;
use vaultfs::format::FormatError;
use vaultfs::format::v2::{
    Archive, Chain, CommitInfo, Head, Header, MachineId, Output, Record, SegmentKind, SegmentWriter, Sequence, Source,
    VaultId,
};
use vaultfs::tree::{Snapshot, Tree, TreeError};

use super::{Walker, options, secrets};
use sealing::{Secrets, deflate, first_records, put_record, sealed};

const VAULT: VaultId = VaultId([6; 16]);
/// Segments that a program of records makes at most.
const SEGMENTS_MAX: usize = 20;

/// Reads an archive of version 2. The first byte says what the rest is: a whole file; the plaintexts of segments, each with its
/// length before it, which are sealed here; a program that makes records; a header, whose MAC is made here. Tells whether it was
/// accepted.
pub fn v2(data: &[u8]) -> bool {
    let Some((how, body)) = data.split_first() else { return false };
    let file = match how % 4 {
        0 => body.to_vec(),
        1 => sealed(v2_secrets(), plaintexts(body)),
        2 => sealed(v2_secrets(), Program { bytes: body }.segments()),
        _ => return is_header(body),
    };
    let Some(tree) = tree_of(file) else { return false };
    let snapshot = Arc::new(tree.snapshot());
    let again = tree_of(written(&snapshot)).expect("what was written can be read");
    assert_eq!(Walker::new(&snapshot).all(), Walker::new(&Arc::new(again.snapshot())).all());
    assert_eq!(tree.usage(), again.usage());
    true
}

fn v2_secrets() -> &'static Secrets {
    static SECRETS: OnceLock<Secrets> = OnceLock::new();
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

/// Takes the bytes for those of a header between its beginning and its MAC.
fn is_header(body: &[u8]) -> bool {
    let (master, good) = v2_secrets();
    let length = (16 + body.len() + 32) as u32;
    let mut bytes = [&good.bytes()[..12], &length.to_le_bytes(), body].concat();
    let vault_id: Option<&[u8; 16]> = body.first_chunk();
    let mac = master.mac(MacPurpose::Header, vault_id.unwrap_or(&VAULT.0), &bytes).unwrap();
    bytes.extend_from_slice(&mac);
    let Ok(header) = Header::parse(&bytes) else { return false };
    assert_eq!(header.bytes(), bytes, "a header is all of its bytes");
    header.verify(master).expect("its MAC was made for it");
    assert!(header.recipients().len() <= 32);
    // What a reader understands, it would write as the same bytes, but for a slot of another order.
    let again = header.with_recipients(header.recipients().to_vec(), master).expect("a header that was read");
    assert_eq!(again.bytes().len(), bytes.len());
    Header::parse(again.bytes()).expect("a header that was made").verify(master).expect("by holders of the key");
    // Deriving a key is what costs: what is not cheap is only looked at.
    if header.kdf_cost().is_some_and(|cost| cost.check().is_ok() && cost.memory_kib <= 64 && cost.passes <= 2) {
        assert!(header.unlock(&secrets().1).is_ok() || &header != good);
    }
    true
}

/// Takes the bytes for plaintexts.
fn plaintexts(mut body: &[u8]) -> Vec<Vec<u8>> {
    let mut plains = Vec::new();
    while let Some((length, rest)) = body.split_first_chunk::<2>() {
        let (plain, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
        body = rest;
        plains.push(plain.to_vec());
    }
    plains
}

/// Takes the bytes for choices of records, whose fields come from small sets, so that they often fit each other.
struct Program<'a> {
    bytes: &'a [u8],
}

impl Program<'_> {
    fn segments(mut self) -> Vec<Vec<u8>> {
        let mut plains = Vec::new();
        while plains.is_empty() || (!self.bytes.is_empty() && plains.len() < SEGMENTS_MAX) {
            let mut plain = first_records(v2_secrets(), plains.is_empty());
            // By rank: inodes with what belongs to them, unlinks, links, drops.
            let mut ranks = [const { Vec::new() }; 4];
            while let Some(choice) = self.byte().filter(|choice| *choice != 0) {
                let rank = usize::from(choice.checked_sub(200).map_or(0, |choice| 1 + choice / 20));
                self.record(choice, &mut ranks[rank.min(3)]);
            }
            ranks.iter().for_each(|records| plain.extend_from_slice(records));
            plains.push(plain);
        }
        plains
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    /// The next byte, below a limit; 0 at the end.
    fn below(&mut self, limit: u8) -> u8 {
        self.byte().unwrap_or(0) % limit
    }

    fn record(&mut self, choice: u8, out: &mut Vec<u8>) {
        let (kind, body) = match choice {
            200..220 => (6, [&self.id()[..], &self.name()].concat()),
            220..240 => (5, [&self.id()[..], &self.id(), &self.name()].concat()),
            240.. => (10, self.id().to_vec()),
            1..80 => (2, self.inode()),
            80..120 => (3, self.data()),
            120..140 => (9, [self.offset().to_le_bytes(), self.offset().to_le_bytes()].concat()),
            140..160 => (4, self.name()),
            160..190 => {
                let name = self.attribute();
                (7, [&[name.len() as u8][..], &name, &self.name()].concat())
            }
            _ => (8, self.attribute()),
        };
        put_record(out, kind, &body);
    }

    fn id(&mut self) -> [u8; 16] {
        [self.below(6); 16]
    }

    fn name(&mut self) -> Vec<u8> {
        match self.below(12) {
            0 => vec![b'n'; 255],
            1 => b"..".to_vec(),
            number => vec![b'a' + number],
        }
    }

    fn attribute(&mut self) -> Vec<u8> {
        [b"user.", &self.name()[..1]].concat()
    }

    /// Offsets and sizes at the borders of pages and blocks.
    fn offset(&mut self) -> u64 {
        let (step, near) = (self.below(8), self.below(3));
        let step = [0, 1, 4096, 8192, 65_536, 131_072, 1 << 20, u64::MAX][usize::from(step)];
        step.saturating_add(near.into())
    }

    fn inode(&mut self) -> Vec<u8> {
        let (id, kind) = (self.id(), self.below(7) + 1);
        let mode = u32::from(self.below(8)) * 0o111;
        let mut body = [&id[..], &[kind], &mode.to_le_bytes()].concat();
        body.extend_from_slice(&[0; 24]);
        let size = if kind == 2 { self.offset() } else { 0 };
        let device = if kind >= 6 { self.offset() } else { 0 };
        body.extend_from_slice(&[size.to_le_bytes(), device.to_le_bytes()].concat());
        body
    }

    fn data(&mut self) -> Vec<u8> {
        let (offset, byte) = (self.offset(), self.below(4));
        let length = [1, 100, 4096, 65_536, 65_537][usize::from(self.below(5))];
        let (bytes, told) = (vec![byte; length], (length as u32).to_le_bytes());
        let (encoding, bytes) = match self.below(4) {
            0 => (0, bytes),
            1 => (1, deflate(&bytes[..length - 1])),
            _ => (1, deflate(&bytes)),
        };
        [&offset.to_le_bytes()[..], &told, &[encoding], &bytes].concat()
    }
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

fn tree_of(file: Vec<u8>) -> Option<Tree> {
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

fn written(snapshot: &Snapshot) -> Vec<u8> {
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
