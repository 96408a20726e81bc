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
    threads: InOrder<Batch, Batch>,
    batch: Batch,
    /// Their buffers serve again.
    spare: Vec<Batch>,
}

/// Records that follow each other.
pub(super) struct Batch {
    bytes: WipedBytes,
    /// What the bytes are, piece by piece.
    pieces: Vec<Piece>,
    /// The records as a segment holds them.
    pub encoded: WipedBytes,
}

enum Piece {
    /// Bytes of the segment.
    Encoded(usize),
    /// Content that belongs at an offset of its file.
    Content(u64, usize),
}

impl Default for Batch {
    fn default() -> Self {
        let room = TOGETHER + FRAME + body_max(DATA);
        Self { bytes: WipedBytes::with_capacity(room), pieces: Vec::new(), encoded: WipedBytes::default() }
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

    fn encode(&mut self, deflater: &mut Deflater) {
        let room = self.bytes.len() + self.pieces.len() * FRAME;
        if self.encoded.capacity() < room {
            self.encoded = WipedBytes::with_capacity(room.max(self.bytes.capacity()));
        }
        let encoded = &mut *self.encoded;
        let mut rest = &self.bytes[..];
        for piece in &self.pieces {
            let (Piece::Encoded(len) | Piece::Content(_, len)) = *piece;
            let (bytes, after) = rest.split_at(len);
            match *piece {
                Piece::Encoded(_) => encoded.extend_from_slice(bytes),
                Piece::Content(offset, _) => {
                    Record::Change(Change::Data { offset, bytes }).encode(encoded, deflater);
                }
            }
            rest = after;
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.pieces.clear();
        self.encoded.clear();
    }
}

impl Packers {
    /// Starts them; `None` where there is one processor only.
    pub fn start() -> Option<Self> {
        let worker = || {
            let mut deflater = Deflater::new();
            move |mut batch: Batch| {
                batch.encode(&mut deflater);
                batch
            }
        };
        let threads = InOrder::start("packer", worker)?;
        Some(Self { threads, batch: Batch::default(), spare: Vec::new() })
    }

    /// Takes the next record.
    pub fn add(&mut self, record: &Record<'_>) {
        self.batch.add(record);
        if self.batch.bytes.len() >= TOGETHER {
            self.send();
        }
    }

    /// Hands out the next records, encoded, if they are ready or enough are under way.
    pub fn next_due(&mut self) -> Option<Batch> {
        self.threads.next_due()
    }

    /// Hands out the next records, encoded; waits for them.
    pub fn next(&mut self) -> Option<Batch> {
        if !self.batch.pieces.is_empty() {
            self.send();
        }
        self.threads.next()
    }

    /// Takes a batch back that was written.
    pub fn reuse(&mut self, mut batch: Batch) {
        batch.clear();
        self.spare.push(batch);
    }

    fn send(&mut self) {
        let next = self.spare.pop().unwrap_or_default();
        self.threads.add(std::mem::replace(&mut self.batch, next));
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
            while let Some(batch) = packers.next_due() {
                found.extend_from_slice(&batch.encoded);
                packers.reuse(batch);
            }
        }
        assert!(found.len() < expected.len(), "what is too small for a thread waits");
        while let Some(batch) = packers.next() {
            found.extend_from_slice(&batch.encoded);
            packers.reuse(batch);
        }
        assert!(found == expected);
    }
}
