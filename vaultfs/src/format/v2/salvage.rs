//! Finding what is authentic in a damaged archive: segments wherever they lie, and the records of their chunks that open.

use std::io;

use crate::crypto::{CryptoError, Hasher, WipedBytes};
use crate::entry::InodeId;
use crate::format::FormatError;

use super::record_reader::RecordReader;
use super::segment::{Archive, MAGIC, PAYLOAD_MIN, SEGMENT_HEADER_LEN, memchr_magic, parse_header};
use super::{Chain, Head, Record, Segment, SegmentKind};

/// Bytes that are searched at a time.
const WINDOW: usize = 256 * 1024;
/// Chunks of which one must open for a header to count.
const TRIED: usize = 4;

/// A segment of a damaged archive.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it lies and what its header says. Its end is where it was found to end.
    pub segment: Segment,
    /// All of its payload is authentic.
    pub is_whole: bool,
    /// Its place in the history with its own chain value; `None`: a delta that is not whole, of which that is not known.
    pub after: Option<Head>,
}

impl Found {
    fn new(segment: Segment, payload: Option<[u8; 32]>) -> Self {
        let own = |hash: [u8; 32]| Chain(Hasher::hash(&[&segment.header, &hash]));
        let chain = match segment.kind {
            SegmentKind::Checkpoint => Some(segment.head.chain),
            SegmentKind::Delta => payload.map(own),
        };
        let after = chain.map(|chain| Head { chain, ..segment.head });
        Self { segment, is_whole: payload.is_some(), after }
    }
}

/// Whether what may be the beginning of an archive is, or was, one of this version.
pub fn looks_like_v2(start: &[u8]) -> bool {
    let is_header = |at: usize| {
        let header = start[at..].first_chunk::<SEGMENT_HEADER_LEN>();
        header.is_some_and(|header| matches!(header[4], 1 | 2) && header[5..8] == [0; 3])
    };
    start.starts_with(super::MAGIC) || memchr_magic(start).any(is_header)
}

impl Archive<'_> {
    /// Finds the next segment of this vault at or after an offset, whatever lies around it.
    ///
    /// # Errors
    /// [`FormatError::Io`], [`FormatError::Crypto`].
    pub fn find(&self, from: u64) -> Result<Option<Found>, FormatError> {
        let mut from = from;
        while let Some(offset) = self.next_magic(from)? {
            if let Some(found) = self.recognize(offset)? {
                return Ok(Some(found));
            }
            from = offset + 1;
        }
        Ok(None)
    }

    /// Hands out the records of all chunks of a segment that are authentic; `None` where some are missing. Behind a gap, only
    /// an inode that `is_known` tells where a record begins.
    ///
    /// # Errors
    /// [`FormatError::Io`], [`FormatError::Crypto`].
    pub fn salvage(
        &self,
        segment: &Segment,
        is_known: &dyn Fn(&InodeId) -> bool,
        take: &mut dyn FnMut(Option<Record<'_>>),
    ) -> Result<(), FormatError> {
        RecordReader::new(self.chunks(segment)?, segment).salvage(is_known, take)
    }

    fn next_magic(&self, from: u64) -> io::Result<Option<u64>> {
        let (mut at, mut window) = (from, vec![0; WINDOW]);
        while self.length.saturating_sub(at) >= SEGMENT_HEADER_LEN as u64 {
            let len = window.len().min((self.length - at) as usize);
            self.source.read_exact_at(&mut window[..len], at)?;
            if let Some(found) = memchr_magic(&window[..len]).next() {
                return Ok(Some(at + found as u64));
            }
            // A magic may lie across two windows.
            at += (len - (MAGIC.len() - 1)) as u64;
        }
        Ok(None)
    }

    /// Whether a header is a segment's of this vault. Its length is no part of the key: where it leads nowhere, the segment goes
    /// on to the next one or to the end.
    fn recognize(&self, offset: u64) -> Result<Option<Found>, FormatError> {
        if self.length - offset < SEGMENT_HEADER_LEN as u64 {
            return Ok(None);
        }
        let mut header = [0; SEGMENT_HEADER_LEN];
        self.source.read_exact_at(&mut header, offset)?;
        let declared = parse_header(header, offset).ok().map(|segment| segment.end).filter(|&end| end <= self.length);
        let mut shortest = header;
        shortest[80..].copy_from_slice(&PAYLOAD_MIN.to_le_bytes());
        let Ok(parsed) = parse_header(shortest, offset) else { return Ok(None) };
        let payload = offset + SEGMENT_HEADER_LEN as u64;
        let ends = [declared, self.next_magic(payload)?, Some(self.length)];
        let segments: Vec<Segment> = ends
            .into_iter()
            .flatten()
            .filter(|&end| end > payload)
            .map(|end| Segment { end, header, ..parsed.clone() })
            .collect();
        for segment in &segments {
            if let Some(payload) = self.authenticate(segment)? {
                return Ok(Some(Found::new(segment.clone(), Some(payload))));
            }
        }
        for segment in segments {
            if self.opens_somewhere(&segment)? {
                return Ok(Some(Found::new(segment, None)));
            }
        }
        Ok(None)
    }

    fn opens_somewhere(&self, segment: &Segment) -> Result<bool, FormatError> {
        let mut chunks = self.chunks(segment)?;
        let mut room = WipedBytes::zeros(chunks.longest());
        for _ in 0..TRIED {
            match chunks.next_into(&mut room) {
                Ok(chunk) => return Ok(chunk.is_some()),
                Err(FormatError::Crypto(CryptoError::Authentication)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}
