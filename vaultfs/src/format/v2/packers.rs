//! Encodes the records of a large segment on several threads, and hands them out in the order in which they came.

use crate::crypto::WipedBytes;
use crate::entry::{Change, DATA_MAX};

use super::Record;
use super::deflate::Deflater;
use super::in_order::InOrder;
use super::record::{DATA, body_max};

/// Bytes that are handed to a thread together (a record more at most): small ones are not worth it one by one.
const TOGETHER: usize = DATA_MAX;
/// Bytes of a record of content beside that, at most.
const FRAME: usize = 32;

/// Some threads that compress. Dropping it ends them.
pub(super) struct Packers {
    threads: InOrder<Batch, WipedBytes>,
    batch: Batch,
}

/// Records that follow each other.
struct Batch {
    bytes: WipedBytes,
    /// What the bytes are, piece by piece.
    pieces: Vec<Piece>,
}

enum Piece {
    /// Bytes of the segment.
    Encoded(usize),
    /// Content that belongs at an offset of its file.
    Content(u64, usize),
}

impl Default for Batch {
    fn default() -> Self {
        Self { bytes: WipedBytes::with_capacity(TOGETHER + FRAME + body_max(DATA)), pieces: Vec::new() }
    }
}

impl Batch {
    fn add(&mut self, record: &Record<'_>) {
        let before = self.bytes.len();
        let piece = match record {
            Record::Change(Change::Data { offset, bytes }) => {
                self.bytes.extend_from_slice(bytes);
                Piece::Content(*offset, bytes.len())
            }
            _ => {
                record.encode(&mut self.bytes, &mut Deflater::new());
                Piece::Encoded(self.bytes.len() - before)
            }
        };
        self.pieces.push(piece);
    }

    fn encode(&self, deflater: &mut Deflater) -> WipedBytes {
        let mut encoded = WipedBytes::with_capacity(self.bytes.len() + self.pieces.len() * FRAME);
        let mut rest = &self.bytes[..];
        for piece in &self.pieces {
            let (Piece::Encoded(len) | Piece::Content(_, len)) = *piece;
            let (bytes, after) = rest.split_at(len);
            match *piece {
                Piece::Encoded(_) => encoded.extend_from_slice(bytes),
                Piece::Content(offset, _) => {
                    Record::Change(Change::Data { offset, bytes }).encode(&mut encoded, deflater);
                }
            }
            rest = after;
        }
        encoded
    }
}

impl Packers {
    /// Starts them; `None` where there is one processor only.
    pub fn start() -> Option<Self> {
        let worker = || {
            let mut deflater = Deflater::new();
            move |batch: Batch| batch.encode(&mut deflater)
        };
        InOrder::start("packer", worker).map(|threads| Self { threads, batch: Batch::default() })
    }

    /// Takes the next record.
    pub fn add(&mut self, record: &Record<'_>) {
        self.batch.add(record);
        if self.batch.bytes.len() >= TOGETHER {
            self.threads.add(std::mem::take(&mut self.batch));
        }
    }

    /// Hands out the next records, encoded, if they are ready or enough are under way.
    pub fn next_due(&mut self) -> Option<WipedBytes> {
        self.threads.next_due()
    }

    /// Hands out the next records, encoded; waits for them.
    pub fn next(&mut self) -> Option<WipedBytes> {
        if !self.batch.pieces.is_empty() {
            self.threads.add(std::mem::take(&mut self.batch));
        }
        self.threads.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::InodeId;

    #[test]
    fn records_come_out_as_they_went_in() {
        let pieces: Vec<Vec<u8>> = (0..301_usize).map(|number| vec![number as u8; 1 + number * 211]).collect();
        let records = pieces.iter().enumerate().map(|(number, bytes)| match number % 5 {
            0 => Record::Change(Change::Drop(InodeId([number as u8; 16]))),
            _ => Record::Change(Change::Data { offset: number as u64, bytes }),
        });
        let mut packers = Packers::start().expect("a machine for tests has several processors");
        let (mut expected, mut found, mut deflater) = (Vec::new(), Vec::new(), Deflater::new());
        for record in records {
            record.encode(&mut expected, &mut deflater);
            packers.add(&record);
            while let Some(encoded) = packers.next_due() {
                found.extend_from_slice(&encoded);
            }
        }
        assert!(found.len() < expected.len(), "what is too small for a thread waits");
        while let Some(encoded) = packers.next() {
            found.extend_from_slice(&encoded);
        }
        assert!(found == expected);
    }
}
