//! Segments as they lie in an archive: finding them, checking that they are sound and that each follows from the one before.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::crypto::{
    CHUNK_LEN, CryptoError, Hasher, MasterKey, Position, SegmentKey, StreamCipher, Suite, TAG_LEN, WipedBytes,
};
use crate::format::FormatError;

use super::cursor::Cursor;
use super::record_reader::RecordReader;
use super::{Chain, Head, Record, Sequence, VaultId};

pub(super) const MAGIC: &[u8; 4] = b"TSEG";
/// Bytes of a segment before its payload.
pub(super) const SEGMENT_HEADER_LEN: usize = 88;
/// Of these, what goes into the key.
const KEYED_LEN: usize = 80;
/// The smallest payload: one chunk of 4 KiB with its tag.
pub(super) const PAYLOAD_MIN: u64 = PADDING as u64 + TAG_LEN as u64;
/// Plaintexts are multiples of this, in bytes.
pub(super) const PADDING: usize = 4096;
/// How many headers are looked at behind a flaw.
const CANDIDATES: usize = 64;
/// What is said of a segment whose payload is not what the holder of the key sealed.
const UNAUTHENTIC: &str = "a segment does not authenticate";
/// Bytes of a whole chunk as it lies in an archive.
pub(super) const SEALED_CHUNK: u64 = (CHUNK_LEN + TAG_LEN) as u64;

/// Bytes that segments are read from.
pub trait Source {
    /// How many there are.
    ///
    /// # Errors
    /// The system's.
    fn length(&self) -> io::Result<u64>;

    /// Fills a buffer from an offset on.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` past the end.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl Source for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let piece = self.get(start..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(piece.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// The whole tree.
    Checkpoint,
    /// The difference to the segment before.
    Delta,
}

impl SegmentKind {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Checkpoint => 1,
            Self::Delta => 2,
        }
    }
}

/// A segment that is sound.
#[derive(Clone, Debug)]
pub struct Segment {
    /// What it holds.
    pub kind: SegmentKind,
    /// Where it begins.
    pub offset: u64,
    /// Where it ends.
    pub end: u64,
    /// Its place in the history.
    pub head: Head,
    pub(super) header: [u8; SEGMENT_HEADER_LEN],
}

impl Segment {
    /// Its header.
    pub(super) fn header(&self) -> &[u8; SEGMENT_HEADER_LEN] {
        &self.header
    }

    /// Where its payload begins.
    pub(super) fn payload_offset(&self) -> u64 {
        self.offset + SEGMENT_HEADER_LEN as u64
    }
}

/// A piece of an archive that is no sound segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Where it begins.
    pub offset: u64,
    /// The number of the commit that should be there.
    pub sequence: Sequence,
    /// What is wrong.
    pub reason: &'static str,
    /// Whether it goes on to the end of the archive, as what a crash cuts off does.
    pub is_tail: bool,
}

impl From<Flaw> for FormatError {
    fn from(flaw: Flaw) -> Self {
        Self::Damaged { offset: flaw.offset, sequence: flaw.sequence.0, reason: flaw.reason }
    }
}

/// The segments of one archive.
pub struct Archive<'a> {
    pub(super) source: &'a (dyn Source + 'a),
    pub(super) length: u64,
    suite: Suite,
    master: &'a MasterKey,
    genesis: Chain,
}

impl<'a> Archive<'a> {
    /// Looks at the bytes of an archive whose header is verified.
    ///
    /// # Errors
    /// Its length cannot be told.
    pub fn new(
        source: &'a (dyn Source + 'a),
        suite: Suite,
        master: &'a MasterKey,
        vault_id: &VaultId,
    ) -> io::Result<Self> {
        Ok(Self { source, length: source.length()?, suite, master, genesis: Chain::genesis(vault_id) })
    }

    /// Bytes of the archive.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Checks the segment at an offset against the one before it, reading and authenticating all of it. The first (`after` is
    /// `None`) must be a checkpoint, all others deltas.
    ///
    /// # Errors
    /// [`FormatError::Io`], [`FormatError::Crypto`]. That it is not sound is the inner error.
    pub fn check(&self, offset: u64, after: Option<Head>) -> Result<Result<Segment, Flaw>, FormatError> {
        let parsed = match self.locate(offset, after)? {
            Ok(parsed) => parsed,
            Err(flaw) => return Ok(Err(flaw)),
        };
        let Some(payload) = self.authenticate(&parsed)? else {
            let is_tail = parsed.end == self.length && !self.anything_sound_after(offset)?;
            let sequence = after.map_or(Sequence(0), |head| head.sequence.next());
            return Ok(Err(Flaw { offset, sequence, reason: UNAUTHENTIC, is_tail }));
        };
        let chain = match parsed.kind {
            SegmentKind::Checkpoint => parsed.head.chain,
            SegmentKind::Delta => Chain(Hasher::hash(&[&parsed.header, &payload])),
        };
        Ok(Ok(Segment { head: Head { chain, ..parsed.head }, ..parsed }))
    }

    /// Checks the segment at an offset as [`Archive::check`] does, and hands out its records in the same pass. Each record is
    /// authentic; that all of them are handed out, and that the segment follows from the one before, is known only when it
    /// turns out to be sound: what was made of the records of any other is to be thrown away.
    ///
    /// # Errors
    /// As for [`Archive::read`]. That the segment is not sound is the inner error; its `is_tail` says only whether it ends the
    /// archive.
    pub fn read_next(
        &self,
        offset: u64,
        after: Option<Head>,
        take: &mut dyn FnMut(Record<'_>) -> Result<(), FormatError>,
    ) -> Result<Result<Segment, Flaw>, FormatError> {
        let sequence = after.map_or(Sequence(0), |head| head.sequence.next());
        let flaw = |reason, is_tail| Ok(Err(Flaw { offset, sequence, reason, is_tail }));
        let parsed = match self.parse(offset)? {
            None => return flaw("it ends within the header of a segment", true),
            Some(parsed) => parsed.and_then(|parsed| self.follows(parsed, after)),
        };
        let parsed = match parsed {
            Ok(parsed) if parsed.end > self.length => return flaw("it ends within a segment", true),
            Ok(parsed) => parsed,
            Err(reason) => return flaw(reason, false),
        };
        let is_delta = parsed.kind == SegmentKind::Delta;
        let chunks = Chunks { hasher: is_delta.then(Hasher::default), ..self.chunks(&parsed)? };
        match RecordReader::new(chunks, &parsed).read(take) {
            Ok(payload) => {
                let chain = payload.map_or(parsed.head.chain, |hash| Chain(Hasher::hash(&[&parsed.header, &hash])));
                Ok(Ok(Segment { head: Head { chain, ..parsed.head }, ..parsed }))
            }
            Err(FormatError::Crypto(CryptoError::Authentication)) => {
                flaw("a segment does not authenticate", parsed.end == self.length)
            }
            Err(error) => Err(error),
        }
    }

    /// The same for who reads the segment next, and everything behind it only then: a checkpoint, which is refused in any case when
    /// it is not authentic, is not read twice. [`Archive::read`] finds that out before it hands out what is in a chunk.
    ///
    /// # Errors
    /// As for [`Archive::check`].
    pub fn next(&self, offset: u64, after: Option<Head>) -> Result<Result<Segment, Flaw>, FormatError> {
        match after {
            None => self.locate(offset, None),
            after => self.check(offset, after),
        }
    }

    /// The same as far as the header tells.
    fn locate(&self, offset: u64, after: Option<Head>) -> Result<Result<Segment, Flaw>, FormatError> {
        let sequence = after.map_or(Sequence(0), |head| head.sequence.next());
        let flaw = |reason, is_tail| Flaw { offset, sequence, reason, is_tail };
        let Some(parsed) = self.parse(offset)? else {
            return Ok(Err(flaw("it ends within the header of a segment", true)));
        };
        let parsed = match parsed.and_then(|parsed| self.follows(parsed, after)) {
            Ok(parsed) => parsed,
            Err(reason) => return Ok(Err(flaw(reason, !self.anything_sound_after(offset)?))),
        };
        if parsed.end > self.length {
            return Ok(Err(flaw("it ends within a segment", !self.anything_sound_after(offset)?)));
        }
        Ok(Ok(parsed))
    }

    /// Hands out the records of a sound segment, in order.
    ///
    /// # Errors
    /// What the function returns; [`FormatError::Damaged`]: the records are not as the format wants them.
    pub fn read(
        &self,
        segment: &Segment,
        take: &mut dyn FnMut(Record<'_>) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        RecordReader::new(self.chunks(segment)?, segment)
            .read(take)
            .map_err(|error| match error {
                FormatError::Crypto(CryptoError::Authentication) => FormatError::Damaged {
                    offset: segment.offset,
                    sequence: segment.head.sequence.0,
                    reason: UNAUTHENTIC,
                },
                other => other,
            })
            .map(drop)
    }

    /// Parses a header; `None`: the archive ends within it. `head.chain` is the field, not yet the segment's own value.
    fn parse(&self, offset: u64) -> Result<Option<Result<Segment, &'static str>>, FormatError> {
        if self.length.saturating_sub(offset) < SEGMENT_HEADER_LEN as u64 {
            return Ok(None);
        }
        let mut header = [0; SEGMENT_HEADER_LEN];
        self.source.read_exact_at(&mut header, offset)?;
        Ok(Some(parse_header(header, offset)))
    }

    /// Checks that a header names the place that the segment before leads to.
    fn follows(&self, parsed: Segment, after: Option<Head>) -> Result<Segment, &'static str> {
        match (after, parsed.kind) {
            (None, SegmentKind::Delta) => Err("the first segment is no checkpoint"),
            (Some(_), SegmentKind::Checkpoint) => Err("a checkpoint follows another segment"),
            (None, SegmentKind::Checkpoint) => {
                let is_first = parsed.head.sequence == Sequence(0);
                let fits = !is_first || parsed.head.chain == self.genesis;
                if fits { Ok(parsed) } else { Err("the first segment is another vault's") }
            }
            (Some(after), SegmentKind::Delta) if parsed.head.sequence != after.sequence.next() => {
                Err("a segment has the wrong number")
            }
            (Some(after), SegmentKind::Delta) if parsed.head.chain != after.chain => {
                Err("a segment does not follow from the one before")
            }
            (Some(_), SegmentKind::Delta) => Ok(parsed),
        }
    }

    /// Authenticates the payload of a segment that lies within the archive; `None` when it is not sound. Returns its hash, zeros
    /// for a checkpoint, whose chain value does not depend on it.
    pub(super) fn authenticate(&self, segment: &Segment) -> Result<Option<[u8; 32]>, FormatError> {
        // A checkpoint's chain value is its field.
        let is_delta = segment.kind == SegmentKind::Delta;
        let mut chunks = Chunks { hasher: is_delta.then(Hasher::default), ..self.chunks(segment)? };
        let mut room = WipedBytes::zeros(chunks.longest());
        loop {
            match chunks.next_into(&mut room) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(Some(chunks.finish().unwrap_or_default())),
                Err(FormatError::Crypto(CryptoError::Authentication)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether a segment of this vault lies anywhere after `offset`: then what is wrong there is no cut-off end. Every segment
    /// says in its own header what it is sealed with.
    fn anything_sound_after(&self, offset: u64) -> Result<bool, FormatError> {
        const WINDOW: usize = 256 * 1024;
        let (mut at, mut candidates) = (offset + 1, 0);
        let mut window = vec![0; WINDOW];
        while self.length.saturating_sub(at) >= SEGMENT_HEADER_LEN as u64 {
            let len = window.len().min((self.length - at) as usize);
            self.source.read_exact_at(&mut window[..len], at)?;
            for found in memchr_magic(&window[..len]) {
                let Some(segment) = self.candidate(at + found as u64)? else { continue };
                candidates += 1;
                // No cut-off write is full of headers: somebody made this, and looking at each may take for ever.
                if candidates > CANDIDATES || self.authenticate(&segment)?.is_some() {
                    return Ok(true);
                }
            }
            // A magic may lie across two windows.
            at += (len - (MAGIC.len() - 1)) as u64;
        }
        Ok(false)
    }

    /// What by its header alone could be a segment.
    fn candidate(&self, offset: u64) -> Result<Option<Segment>, FormatError> {
        let parsed = self.parse(offset)?.and_then(Result::ok);
        Ok(parsed.filter(|segment| segment.end <= self.length))
    }

    pub(super) fn chunks(&self, segment: &Segment) -> Result<Chunks<'a>, FormatError> {
        let key = segment_key(self.master, &segment.header).map_err(FormatError::Crypto)?;
        Ok(Chunks {
            source: self.source,
            cipher: StreamCipher::new(self.suite, key),
            at: segment.offset + SEGMENT_HEADER_LEN as u64,
            end: segment.end,
            hasher: None,
        })
    }
}

/// The chunks of a payload, opened one after the other.
pub(super) struct Chunks<'a> {
    source: &'a (dyn Source + 'a),
    cipher: StreamCipher,
    at: u64,
    end: u64,
    /// Takes the chunks as they lie in the archive.
    hasher: Option<Hasher>,
}

impl Chunks<'_> {
    /// Bytes of the longest chunk that is left, as it lies in the archive.
    pub fn longest(&self) -> usize {
        (self.end - self.at).min(SEALED_CHUNK) as usize
    }

    /// Opens the next chunk at the front of a buffer, which has room for the longest; returns how many bytes of plaintext there are.
    /// `None` at the end.
    pub fn next_into(&mut self, room: &mut [u8]) -> Result<Option<usize>, FormatError> {
        let len = self.longest();
        if len == 0 {
            return Ok(None);
        }
        let chunk = &mut room[..len];
        self.source.read_exact_at(chunk, self.at)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(chunk);
        }
        self.at += len as u64;
        let position = if self.at == self.end { Position::Last } else { Position::Inner };
        self.cipher.open(chunk, position).map(Some).map_err(FormatError::Crypto)
    }

    /// The hash of all chunks that were opened, where one was asked for.
    pub fn finish(self) -> Option<[u8; 32]> {
        self.hasher.map(Hasher::finish)
    }
}

/// The key of the segment with a header.
pub(super) fn segment_key(master: &MasterKey, header: &[u8; SEGMENT_HEADER_LEN]) -> Result<SegmentKey, CryptoError> {
    let salt = header[48..KEYED_LEN].try_into().expect("a salt has 32 bytes");
    master.segment_key(salt, &header[..KEYED_LEN])
}

/// Makes the header of a segment; `chain` is the field.
pub(super) fn make_header(
    kind: SegmentKind,
    head: &Head,
    salt: &[u8; 32],
    payload_len: u64,
) -> [u8; SEGMENT_HEADER_LEN] {
    let mut header = [0; SEGMENT_HEADER_LEN];
    header[..4].copy_from_slice(MAGIC);
    header[4] = kind.byte();
    header[8..16].copy_from_slice(&head.sequence.0.to_le_bytes());
    header[16..48].copy_from_slice(&head.chain.0);
    header[48..80].copy_from_slice(salt);
    header[80..].copy_from_slice(&payload_len.to_le_bytes());
    header
}

/// Reads a header; `head.chain` is the field.
pub(super) fn parse_header(header: [u8; SEGMENT_HEADER_LEN], offset: u64) -> Result<Segment, &'static str> {
    let mut cursor = Cursor(&header);
    let fields = (cursor.array(), cursor.u8(), cursor.array::<3>(), cursor.u64(), cursor.array::<32>());
    let (Some(magic), Some(kind), Some(zero), Some(sequence), Some(chain)) = fields else { return Err("it is short") };
    let (Some(_salt), Some(payload)) = (cursor.array::<32>(), cursor.u64()) else { return Err("it is short") };
    if &magic != MAGIC {
        return Err("no segment begins here");
    }
    let kind = match kind {
        1 => SegmentKind::Checkpoint,
        2 => SegmentKind::Delta,
        _ => return Err("a segment is of a kind that is not known"),
    };
    if zero != [0; 3] {
        return Err("a segment has flags that are not known");
    }
    let tail = payload % SEALED_CHUNK;
    let whole = tail == 0 || (tail > TAG_LEN as u64 && (tail - TAG_LEN as u64).is_multiple_of(PADDING as u64));
    let end = (offset + SEGMENT_HEADER_LEN as u64).checked_add(payload);
    let (true, Some(end)) = (payload >= PAYLOAD_MIN && whole, end) else {
        return Err("a segment has an impossible length");
    };
    let head = Head { sequence: Sequence(sequence), chain: Chain(chain) };
    Ok(Segment { kind, offset, end, head, header })
}

pub(super) fn memchr_magic(window: &[u8]) -> impl Iterator<Item = usize> {
    window.windows(MAGIC.len()).enumerate().filter(|(_, piece)| piece == MAGIC).map(|(at, _)| at)
}
