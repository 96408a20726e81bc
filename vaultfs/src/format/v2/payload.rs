//! Writes a segment: records in, sealed chunks out, the header last.

use std::io;
use std::ops::Range;

use crate::crypto::{CHUNK_LEN, Hasher, MasterKey, Position, StreamCipher, Suite, WipedBytes, random};
use crate::entry::Change;
use crate::format::FormatError;

use super::deflate::Deflater;
use super::order::Order;
use super::packers::Packers;
use super::record::END;
use super::segment::{PADDING, SEGMENT_HEADER_LEN, make_header, segment_key};
use super::{Chain, Head, Record, SegmentKind};

/// Bytes of a segment that are gathered before they are written: a small commit is one write.
const GATHER: usize = 1024 * 1024;

/// Bytes of content from which on a segment is worth several threads.
const PARALLEL_MIN: usize = 1024 * 1024;

/// Bytes of plaintext that there is room for at first: that of a small commit. More costs it more than all else that is done for it, since
/// all of it is wiped, and perhaps fetched from the system and given back.
const PLAIN_MIN: usize = 2 * PADDING;

/// Takes the bytes of a segment.
pub trait Output {
    /// Writes all of some bytes at an offset from the segment's beginning.
    ///
    /// # Errors
    /// The system's.
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
}

/// A segment that is being written. It is nothing until [`SegmentWriter::finish`] returned.
pub struct SegmentWriter<'a> {
    output: &'a mut (dyn Output + 'a),
    kind: SegmentKind,
    /// Number and chain field.
    place: Head,
    salt: [u8; 32],
    cipher: StreamCipher,
    order: Order,
    deflater: Deflater,
    /// Bytes of content that came so far.
    content: usize,
    packers: Option<Packers>,
    /// Plaintext that fills no chunk yet.
    plain: WipedBytes,
    hasher: Hasher,
    /// Bytes of the segment that are not written yet, from `written` on.
    gathered: Vec<u8>,
    written: u64,
}

impl<'a> SegmentWriter<'a> {
    /// Begins a segment with a fresh salt. For a delta, `place` has its number and the chain value before it; for a checkpoint,
    /// number and chain value of the segment that it stands for.
    ///
    /// # Errors
    /// [`FormatError::Crypto`].
    pub fn begin(
        output: &'a mut (dyn Output + 'a),
        kind: SegmentKind,
        place: Head,
        suite: Suite,
        master: &MasterKey,
    ) -> Result<Self, FormatError> {
        let salt = random().map_err(FormatError::Crypto)?;
        let key = segment_key(master, &make_header(kind, &place, &salt, 0)).map_err(FormatError::Crypto)?;
        Ok(Self {
            output,
            kind,
            place,
            salt,
            cipher: StreamCipher::new(suite, key),
            order: Order::new(kind),
            deflater: Deflater::new(),
            content: 0,
            packers: None,
            plain: WipedBytes::with_capacity(PLAIN_MIN),
            hasher: Hasher::default(),
            gathered: vec![0; SEGMENT_HEADER_LEN],
            written: 0,
        })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`FormatError::Io`].
    ///
    /// # Panics
    /// When records do not come in the order of the format.
    pub fn record(&mut self, record: &Record<'_>) -> Result<(), FormatError> {
        assert!(self.order.allows(record.kind()), "records come in the order of the format");
        if let Record::Change(Change::Data { bytes, .. }) = record {
            let before = self.content;
            self.content += bytes.len();
            if before < PARALLEL_MIN && self.content >= PARALLEL_MIN {
                self.packers = Packers::start();
            }
        }
        match &mut self.packers {
            None => {
                self.plain.make_room(record.len_max());
                record.encode(&mut self.plain, &mut self.deflater);
            }
            Some(packers) => {
                packers.add(record);
                if let Some(batch) = packers.next_due() {
                    self.plain.append(&batch.encoded);
                    packers.reuse(batch);
                }
            }
        }
        self.seal_full()
    }

    /// Seals all full chunks but the last: it stays until more follows, since the last one is sealed as such.
    fn seal_full(&mut self) -> Result<(), FormatError> {
        let mut at = 0;
        while self.plain.len() - at > CHUNK_LEN {
            self.seal(at..at + CHUNK_LEN, Position::Inner)?;
            at += CHUNK_LEN;
        }
        self.plain.drain(..at);
        Ok(())
    }

    /// Seals what is left and writes the header; returns the length of the segment in bytes and its place.
    ///
    /// # Errors
    /// [`FormatError::Io`].
    pub fn finish(mut self) -> Result<(u64, Head), FormatError> {
        assert!(self.order.may_end(), "a segment has its first records");
        while let Some(batch) = self.packers.as_mut().and_then(Packers::next) {
            self.plain.append(&batch.encoded);
            self.seal_full()?;
        }
        self.plain.make_room(PADDING);
        self.plain.push(END);
        let padded = self.plain.len().next_multiple_of(PADDING);
        self.plain.resize(padded, 0);
        self.seal_full()?;
        self.seal(0..self.plain.len(), Position::Last)?;
        let length = self.written + self.gathered.len() as u64;
        let header = make_header(self.kind, &self.place, &self.salt, length - SEGMENT_HEADER_LEN as u64);
        match self.written {
            0 => self.gathered[..SEGMENT_HEADER_LEN].copy_from_slice(&header),
            _ => self.output.write_all_at(&header, 0)?,
        }
        self.output.write_all_at(&self.gathered, self.written)?;
        let chain = match self.kind {
            SegmentKind::Checkpoint => self.place.chain,
            SegmentKind::Delta => Chain(Hasher::hash(&[&header, &self.hasher.finish()])),
        };
        Ok((length, Head { chain, ..self.place }))
    }

    fn seal(&mut self, plain: Range<usize>, position: Position) -> Result<(), FormatError> {
        let start = self.gathered.len();
        self.cipher.seal(&self.plain[plain], &mut self.gathered, position);
        if self.kind == SegmentKind::Delta {
            self.hasher.update(&self.gathered[start..]);
        }
        if self.gathered.len() >= GATHER {
            self.output.write_all_at(&self.gathered, self.written)?;
            self.written += self.gathered.len() as u64;
            self.gathered.clear();
        }
        Ok(())
    }
}
