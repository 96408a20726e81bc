//! What anyone can tell of an archive without its key: which vault it belongs to and which state it is in. Nothing of this
//! is authenticated; it decides what is worth fetching, never what is believed.

use std::io;

use crate::crypto::Hasher;
use crate::format::FormatError;

use super::segment::{Segment, SegmentKind, Source, parse_header};
use super::{Chain, HEADER_MAX, Head, Header, VaultId};

/// Bytes that are hashed at a time.
const PIECE: usize = 256 * 1024;

/// An archive seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The vault.
    pub vault_id: VaultId,
    /// SHA-256 of the header.
    pub header: [u8; 32],
    /// The last segment.
    pub head: Head,
    /// Where it ends; what comes after it is no whole segment that follows.
    pub length: u64,
}

/// Whether an archive has passed through a state, as far as what it still holds tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It has.
    Yes,
    /// It has not, or not yet.
    No,
    /// It begins after that.
    Unknown,
}

impl Outline {
    /// Tells whether an archive has passed through a state.
    ///
    /// # Errors
    /// As for [`Outline::read`].
    pub fn passed<S: Source + ?Sized>(source: &S, state: Head) -> Result<Passed, FormatError> {
        let mut passed = Passed::No;
        Self::walk(source, |segment, head| {
            if segment.kind == SegmentKind::Checkpoint && head.sequence > state.sequence {
                passed = Passed::Unknown;
            } else if head == state {
                passed = Passed::Yes;
            }
        })?;
        Ok(passed)
    }

    /// Reads an archive from its header to its last whole segment.
    ///
    /// # Errors
    /// [`FormatError::Header`], [`FormatError::Unsupported`], [`FormatError::Truncated`], [`FormatError::Io`].
    pub fn read<S: Source + ?Sized>(source: &S) -> Result<Self, FormatError> {
        Self::walk(source, |_, _| {})
    }

    fn walk<S: Source + ?Sized>(source: &S, mut visit: impl FnMut(&Segment, Head)) -> Result<Self, FormatError> {
        let length = source.length()?;
        let mut start = vec![0; length.min(HEADER_MAX as u64) as usize];
        source.read_exact_at(&mut start, 0)?;
        let header = Header::parse(&start)?;
        let (mut at, mut head) = (header.bytes().len() as u64, None);
        while let Some(segment) = next(source, at, length, head)? {
            let now = Head { chain: chain_of(source, &segment)?, ..segment.head };
            visit(&segment, now);
            (head, at) = (Some(now), segment.end);
        }
        let head = head.ok_or(FormatError::Header("nothing follows it"))?;
        Ok(Self { vault_id: *header.vault_id(), header: header.digest(), head, length: at })
    }
}

/// The segment at an offset, if it is whole and follows the one before by its number and its chain value.
fn next<S: Source + ?Sized>(source: &S, at: u64, length: u64, after: Option<Head>) -> io::Result<Option<Segment>> {
    let mut bytes = [0; super::segment::SEGMENT_HEADER_LEN];
    if length.saturating_sub(at) < bytes.len() as u64 {
        return Ok(None);
    }
    source.read_exact_at(&mut bytes, at)?;
    let Ok(segment) = parse_header(bytes, at) else { return Ok(None) };
    let follows = match after {
        None => segment.kind == SegmentKind::Checkpoint,
        Some(after) => {
            segment.kind == SegmentKind::Delta
                && segment.head.sequence == after.sequence.next()
                && segment.head.chain == after.chain
        }
    };
    Ok((follows && segment.end <= length).then_some(segment))
}

/// A checkpoint's header holds its chain value; a delta's is the hash of its header and of the hash of its payload.
fn chain_of<S: Source + ?Sized>(source: &S, segment: &Segment) -> io::Result<Chain> {
    if segment.kind == SegmentKind::Checkpoint {
        return Ok(segment.head.chain);
    }
    let (mut at, mut hasher, mut piece) = (segment.payload_offset(), Hasher::default(), vec![0; PIECE]);
    while at < segment.end {
        let len = piece.len().min((segment.end - at) as usize);
        source.read_exact_at(&mut piece[..len], at)?;
        hasher.update(&piece[..len]);
        at += len as u64;
    }
    Ok(Chain(Hasher::hash(&[segment.header(), &hasher.finish()])))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use zeroize::Zeroizing;

    use super::*;
    use crate::crypto::Passphrase;
    use crate::format::v2::{Archive, MAGIC};

    const GOLDEN: [&str; 2] = ["aes-256-gcm", "chacha20-poly1305"];

    fn fixture(name: &str) -> File {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/v2");
        File::open(format!("{folder}/{name}.tar.aes")).unwrap()
    }

    fn bytes(mut file: File) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// What a holder of the key finds.
    fn opened(file: &File) -> (Header, Head) {
        let mut start = vec![0; 4096];
        file.read_exact_at(&mut start, 0).unwrap();
        let header = Header::parse(&start).unwrap();
        let passphrase = Passphrase::new(Zeroizing::new(b"correct horse battery staple".to_vec())).unwrap();
        let master = header.unlock(&passphrase).unwrap();
        let archive = Archive::new(file, header.suite(), &master, header.vault_id()).unwrap();
        let (mut at, mut head) = (header.bytes().len() as u64, None);
        while at < archive.length() {
            let segment = archive.check(at, head).unwrap().unwrap();
            (at, head) = (segment.end, Some(segment.head));
        }
        (header, head.unwrap())
    }

    #[test]
    fn without_the_key_the_same_head_is_found() {
        for name in GOLDEN {
            let file = fixture(name);
            let outline = Outline::read(&file).unwrap();
            let (header, head) = opened(&file);
            assert_eq!((outline.vault_id, outline.header), (*header.vault_id(), header.digest()));
            assert_eq!((outline.head, outline.length), (head, bytes(file).len() as u64));
            assert!(head.sequence.0 > 0, "the fixture has deltas");
        }
    }

    #[test]
    fn states_that_it_passed_are_known_and_later_ones_are_not() {
        let bytes = bytes(fixture(GOLDEN[0]));
        let whole = Outline::read(&bytes[..]).unwrap();
        let cut = Outline::read(&bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(Outline::passed(&bytes[..], whole.head).unwrap(), Passed::Yes);
        assert_eq!(Outline::passed(&bytes[..], cut.head).unwrap(), Passed::Yes);
        let shorter = &bytes[..cut.length as usize];
        assert_eq!(Outline::passed(shorter, whole.head).unwrap(), Passed::No);
        let other = Head { chain: Chain([1; 32]), ..cut.head };
        assert_eq!(Outline::passed(&bytes[..], other).unwrap(), Passed::No);
        // As after a compaction: it begins with a later checkpoint.
        let start = Header::parse(&bytes[..4096.min(bytes.len())]).unwrap().bytes().len();
        let mut compacted = bytes.clone();
        compacted[start + 8] = 200;
        assert_eq!(Outline::passed(&compacted[..], cut.head).unwrap(), Passed::Unknown);
    }

    #[test]
    fn what_is_cut_off_or_does_not_follow_is_left_out() {
        let bytes = bytes(fixture(GOLDEN[0]));
        let whole = Outline::read(&bytes[..]).unwrap();
        let cut = Outline::read(&bytes[..bytes.len() - 1]).unwrap();
        assert!(cut.head.sequence < whole.head.sequence && cut.length < whole.length);
        let longer = [&bytes[..], &[0; 100]].concat();
        assert_eq!(Outline::read(&longer[..]).unwrap(), whole);
        assert!(Outline::read(&MAGIC[..]).is_err());
        assert!(Outline::read(&b"no archive at all"[..]).is_err());
    }
}
