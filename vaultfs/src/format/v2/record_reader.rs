//! Takes records out of a stream of plaintext chunks, holding no more than one record and one chunk.

use zeroize::{Zeroize, Zeroizing};

use crate::crypto::{CHUNK_LEN, CryptoError};
use crate::entry::{InodeId, NAME_MAX};
use crate::format::FormatError;

use super::deflate::Inflater;
use super::order::Order;
use super::record::{DATA, END, INODE, LINK, body_max, decode};
use super::segment::Chunks;
use super::{Record, Segment};

/// Bytes of a record before its body.
const FRAME: usize = 5;
/// Bytes of the body of an inode record, and of a link record without its name.
const INODE_LEN: usize = 61;
const LINK_LEN: usize = 32;
/// Bytes that have to be seen to tell whether such a record begins.
const ANCHOR_MAX: usize = FRAME + LINK_LEN;

/// The longest record of content, and the chunk that it ends in. A buffer that grows leaves its bytes behind.
const HELD_MAX: usize = FRAME + body_max(DATA) + CHUNK_LEN;

pub(super) struct RecordReader<'a> {
    chunks: Chunks<'a>,
    order: Order,
    inflater: Inflater,
    /// Plaintext that is not used up; `at` is where it begins.
    buffer: Zeroizing<Vec<u8>>,
    at: usize,
    offset: u64,
    sequence: u64,
}

impl<'a> RecordReader<'a> {
    pub fn new(chunks: Chunks<'a>, segment: &Segment) -> Self {
        Self {
            chunks,
            order: Order::new(segment.kind),
            inflater: Inflater::new(),
            buffer: Zeroizing::new(Vec::with_capacity(HELD_MAX)),
            at: 0,
            offset: segment.offset,
            sequence: segment.head.sequence.0,
        }
    }

    /// Hands out all records, then checks that nothing but zeros follows; returns the hash of the payload where it was asked for.
    pub fn read(
        mut self,
        take: &mut dyn FnMut(Record<'_>) -> Result<(), FormatError>,
    ) -> Result<Option<[u8; 32]>, FormatError> {
        self.records(take)?;
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
        self.at = self.buffer.len();
        loop {
            match self.fill() {
                Ok(false) => return Ok(false),
                Ok(true) => {}
                Err(error) => {
                    is_gap(error)?;
                    self.at = self.buffer.len();
                    continue;
                }
            }
            while self.buffer.len() - self.at >= ANCHOR_MAX {
                if let Some(kind) = anchor(&self.buffer[self.at..], is_known) {
                    self.order.resume(kind);
                    return Ok(true);
                }
                self.at += 1;
            }
        }
    }

    /// Hands out records up to the one that ends them.
    fn records(&mut self, take: &mut dyn FnMut(Record<'_>) -> Result<(), FormatError>) -> Result<(), FormatError> {
        loop {
            let Some(kind) = self.peek()? else { return Err(self.damaged("its records do not end")) };
            if kind == END {
                return Ok(());
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
            let body = &self.buffer[self.at + FRAME..self.at + FRAME + length];
            let Some(record) = decode(kind, body, &mut self.inflater) else {
                return Err(self.damaged("a record is not what it says"));
            };
            take(record)?;
            self.at += FRAME + length;
        }
    }

    fn end(mut self) -> Result<Option<[u8; 32]>, FormatError> {
        let damaged = self.damaged("its records end in something else");
        if !self.order.may_end() {
            return Err(damaged);
        }
        loop {
            if self.buffer[self.at..].iter().any(|&byte| byte != 0) {
                return Err(damaged);
            }
            self.at = self.buffer.len();
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
        while self.buffer.len() - self.at < len {
            if !self.fill()? {
                return Ok(None);
            }
        }
        Ok(Some(&self.buffer[self.at..self.at + len]))
    }

    /// Adds a chunk; false when there is none.
    fn fill(&mut self) -> Result<bool, FormatError> {
        let used = self.at;
        let held = self.buffer.len() - used;
        self.buffer.copy_within(used.., 0);
        self.buffer[held..].zeroize();
        self.buffer.truncate(held);
        self.at = 0;
        match self.chunks.next()? {
            Some(chunk) => {
                self.buffer.extend_from_slice(chunk);
                Ok(true)
            }
            None => Ok(false),
        }
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
