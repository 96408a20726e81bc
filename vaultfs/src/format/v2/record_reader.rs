//! Takes records out of a stream of plaintext chunks, holding no more than one record and one chunk, and of a large segment some
//! records that are inflated ahead.

use std::ops::Range;

use crate::crypto::{CryptoError, WipedBytes};
use crate::entry::{InodeId, NAME_MAX};
use crate::format::FormatError;

use super::deflate::Inflater;
use super::order::Order;
use super::record::{DATA, END, INODE, LINK, body_max, decode};
use super::segment::{Chunks, SEALED_CHUNK};
use super::unpackers::{Batch, Unpackers};
use super::{Record, Segment};

/// Bytes of a record before its body.
const FRAME: usize = 5;
/// Bytes of the body of an inode record, and of a link record without its name.
const INODE_LEN: usize = 61;
const LINK_LEN: usize = 32;
/// Bytes that have to be seen to tell whether such a record begins.
const ANCHOR_MAX: usize = FRAME + LINK_LEN;

/// Room for the longest record of content, and the chunk that it ends in.
const ROOM: usize = FRAME + body_max(DATA) + SEALED_CHUNK as usize;
/// Bytes of a payload from which on it is worth several threads.
const PARALLEL_MIN: u64 = 1024 * 1024;

/// What is said of a record that cannot be read.
const UNTRUE: &str = "a record is not what it says";

/// Where a record lies in the buffer, until more is read.
struct Frame {
    kind: u8,
    body: Range<usize>,
}

pub(super) struct RecordReader<'a> {
    chunks: Chunks<'a>,
    order: Order,
    inflater: Inflater,
    /// Plaintext that is not used up lies from `at` to `end`.
    buffer: WipedBytes,
    at: usize,
    end: usize,
    is_large: bool,
    offset: u64,
    sequence: u64,
}

impl<'a> RecordReader<'a> {
    pub fn new(chunks: Chunks<'a>, segment: &Segment) -> Self {
        let payload = segment.end - segment.payload_offset();
        Self {
            chunks,
            order: Order::new(segment.kind),
            inflater: Inflater::default(),
            buffer: WipedBytes::zeros(payload.min(ROOM as u64) as usize),
            at: 0,
            end: 0,
            is_large: payload >= PARALLEL_MIN,
            offset: segment.offset,
            sequence: segment.head.sequence.0,
        }
    }

    /// Hands out all records, then checks that nothing but zeros follows; returns the hash of the payload where it was asked for.
    pub fn read(
        mut self,
        take: &mut dyn FnMut(Record<'_>) -> Result<(), FormatError>,
    ) -> Result<Option<[u8; 32]>, FormatError> {
        match self.is_large {
            true => self.records_ahead(take)?,
            false => self.records(take)?,
        }
        self.end()
    }

    /// Hands out the records of all chunks that are authentic; `None` where some are missing. Behind a gap it goes on at the next
    /// record that names an inode which `is_known`: nobody without the key can know its id, and so have written into a file
    /// what looks like that record.
    pub fn salvage(
        mut self,
        is_known: &dyn Fn(&InodeId) -> bool,
        take: &mut dyn FnMut(Option<Record<'_>>),
    ) -> Result<(), FormatError> {
        loop {
            let outcome = self.records(&mut |record| {
                take(Some(record));
                Ok(())
            });
            match outcome {
                Ok(()) => return Ok(()),
                Err(error) => is_gap(error)?,
            }
            take(None);
            if !self.resume(is_known)? {
                return Ok(());
            }
        }
    }

    /// Finds the next record that an id makes sure of; false when there is none.
    fn resume(&mut self, is_known: &dyn Fn(&InodeId) -> bool) -> Result<bool, FormatError> {
        // What is here already leads into what is missing, or was no record.
        self.at = self.end;
        loop {
            match self.fill() {
                Ok(false) => return Ok(false),
                Ok(true) => {}
                Err(error) => {
                    is_gap(error)?;
                    self.at = self.end;
                    continue;
                }
            }
            while self.end - self.at >= ANCHOR_MAX {
                if let Some(kind) = anchor(&self.buffer[self.at..self.end], is_known) {
                    self.order.resume(kind);
                    return Ok(true);
                }
                self.at += 1;
            }
        }
    }

    /// Hands out records up to the one that ends them.
    fn records(&mut self, take: &mut dyn FnMut(Record<'_>) -> Result<(), FormatError>) -> Result<(), FormatError> {
        while let Some(frame) = self.frame()? {
            self.hand_out(frame, take)?;
        }
        Ok(())
    }

    /// The same with content inflated by other threads meanwhile. What is wrong is told when all before it was handed out.
    fn records_ahead(
        &mut self,
        take: &mut dyn FnMut(Record<'_>) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        let mut unpackers = Unpackers::default();
        let framed = loop {
            match self.frame() {
                Ok(Some(frame)) if unpackers.add(frame.kind, &self.buffer[frame.body.clone()]) => {}
                Ok(Some(frame)) => self.hand_out(frame, take)?,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
            while let Some(batch) = unpackers.next_due() {
                self.hand_out_batch(&batch, take)?;
                unpackers.reuse(batch);
            }
        };
        while let Some(batch) = unpackers.next() {
            self.hand_out_batch(&batch, take)?;
        }
        framed
    }

    fn hand_out(
        &mut self,
        frame: Frame,
        take: &mut dyn FnMut(Record<'_>) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        let inflater = &mut self.inflater;
        let record = decode(frame.kind, &self.buffer[frame.body], move |bytes, length| inflater.inflate(bytes, length));
        let Some(record) = record else { return Err(self.damaged(UNTRUE)) };
        take(record)
    }

    fn hand_out_batch(
        &self,
        batch: &Batch,
        take: &mut dyn FnMut(Record<'_>) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        if batch.each(take)? { Ok(()) } else { Err(self.damaged(UNTRUE)) }
    }

    /// The next record; `None` where they end.
    fn frame(&mut self) -> Result<Option<Frame>, FormatError> {
        let Some(kind) = self.peek()? else { return Err(self.damaged("its records do not end")) };
        if kind == END {
            return Ok(None);
        }
        if !self.order.allows(kind) {
            return Err(self.damaged("a record is not known or not in its place"));
        }
        let length = self.need(FRAME)?.and_then(|frame| frame[1..].try_into().ok()).map(u32::from_le_bytes);
        let Some(length) = length.map(|length| length as usize).filter(|&length| length <= body_max(kind)) else {
            return Err(self.damaged("a record has an impossible length"));
        };
        if self.need(FRAME + length)?.is_none() {
            return Err(self.damaged("a record is cut short"));
        }
        let start = self.at + FRAME;
        self.at = start + length;
        Ok(Some(Frame { kind, body: start..self.at }))
    }

    fn end(mut self) -> Result<Option<[u8; 32]>, FormatError> {
        let damaged = self.damaged("its records end in something else");
        if !self.order.may_end() {
            return Err(damaged);
        }
        loop {
            if self.buffer[self.at..self.end].iter().any(|&byte| byte != 0) {
                return Err(damaged);
            }
            self.at = self.end;
            if !self.fill()? {
                return Ok(self.chunks.finish());
            }
        }
    }

    fn peek(&mut self) -> Result<Option<u8>, FormatError> {
        Ok(self.need(1)?.map(|bytes| bytes[0]))
    }

    /// The next `len` bytes, left where they are; `None` when there are fewer.
    fn need(&mut self, len: usize) -> Result<Option<&[u8]>, FormatError> {
        while self.end - self.at < len {
            if !self.fill()? {
                return Ok(None);
            }
        }
        Ok(Some(&self.buffer[self.at..self.at + len]))
    }

    /// Adds a chunk; false when there is none.
    fn fill(&mut self) -> Result<bool, FormatError> {
        self.buffer.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, self.end - self.at);
        let room = self.end + self.chunks.longest();
        if room > self.buffer.len() {
            let mut larger = WipedBytes::zeros(room.next_multiple_of(ROOM));
            larger[..self.end].copy_from_slice(&self.buffer[..self.end]);
            self.buffer = larger;
        }
        let added = self.chunks.next_into(&mut self.buffer[self.end..])?;
        self.end += added.unwrap_or(0);
        Ok(added.is_some())
    }

    fn damaged(&self, reason: &'static str) -> FormatError {
        FormatError::Damaged { offset: self.offset, sequence: self.sequence, reason }
    }
}

/// Passes on every error but those of bytes that are missing or no records.
fn is_gap(error: FormatError) -> Result<(), FormatError> {
    match error {
        FormatError::Crypto(CryptoError::Authentication) | FormatError::Damaged { .. } => Ok(()),
        error => Err(error),
    }
}

/// The type of a record that begins here and names an inode that is known.
fn anchor(bytes: &[u8], is_known: &dyn Fn(&InodeId) -> bool) -> Option<u8> {
    let length = u32::from_le_bytes(*bytes[1..].first_chunk()?) as usize;
    let id_at = match bytes[0] {
        INODE if length == INODE_LEN => FRAME,
        LINK if (LINK_LEN + 1..=LINK_LEN + NAME_MAX).contains(&length) => FRAME + 16,
        _ => return None,
    };
    let id = InodeId(*bytes[id_at..].first_chunk()?);
    (id != InodeId::ROOT && is_known(&id)).then_some(bytes[0])
}
