//! Inflates the content of a large segment on several threads ahead of who takes the records, in the order of the records.

use crate::crypto::WipedBytes;
use crate::entry::DATA_MAX;

use super::Record;
use super::deflate::Inflater;
use super::in_order::InOrder;
use super::record::{DATA, body_max, decode, packed};

/// Bytes of records, and bytes that they inflate to, that are handed to a thread together (a record more at most).
const TOGETHER: usize = DATA_MAX;

/// Threads that inflate, once there is something for them. Dropping it ends them.
#[derive(Default)]
pub(super) struct Unpackers {
    threads: Option<InOrder<Batch, Batch>>,
    /// There is one processor only.
    is_alone: bool,
    batch: Batch,
    /// Their buffers serve again.
    spare: Vec<Batch>,
}

/// Records that follow each other.
#[derive(Default)]
pub(super) struct Batch {
    bodies: WipedBytes,
    records: Vec<Part>,
    inflated: WipedBytes,
    /// Bytes that the content inflates to.
    wanted: usize,
    /// Of the records, how many are what they say.
    sound: usize,
}

struct Part {
    kind: u8,
    len: usize,
    /// Bytes that its content inflates to.
    inflated: usize,
}

impl Batch {
    fn make_room(&mut self) {
        if self.inflated.is_empty() {
            self.bodies = WipedBytes::with_capacity(TOGETHER + body_max(DATA));
            self.inflated = WipedBytes::zeros(TOGETHER + DATA_MAX);
        }
    }

    fn clear(&mut self) {
        self.bodies.clear();
        self.records.clear();
        (self.wanted, self.sound) = (0, 0);
    }

    fn add(&mut self, kind: u8, body: &[u8], inflated: usize) {
        self.make_room();
        self.bodies.extend_from_slice(body);
        self.records.push(Part { kind, len: body.len(), inflated });
        self.wanted += inflated;
    }

    fn is_full(&self) -> bool {
        self.bodies.len() >= TOGETHER || self.wanted >= TOGETHER
    }

    fn inflate(&mut self, inflater: &mut Inflater) {
        let (mut bodies, mut room) = (&self.bodies[..], &mut self.inflated[..]);
        for part in &self.records {
            let (body, rest) = bodies.split_at(part.len);
            let (out, room_left) = room.split_at_mut(part.inflated);
            if let Some((bytes, _)) = packed(part.kind, body).filter(|_| part.inflated > 0)
                && !inflater.inflate_into(bytes, out)
            {
                return;
            }
            self.sound += 1;
            (bodies, room) = (rest, room_left);
        }
    }

    /// Hands out the records; false at one that is not what it says.
    pub fn each<E>(&self, take: &mut dyn FnMut(Record<'_>) -> Result<(), E>) -> Result<bool, E> {
        let (mut bodies, mut inflated) = (&self.bodies[..], &self.inflated[..]);
        for part in &self.records[..self.sound] {
            let (body, rest) = bodies.split_at(part.len);
            let (content, more) = inflated.split_at(part.inflated);
            let Some(record) = decode(part.kind, body, |_, _| Some(content)) else { return Ok(false) };
            take(record)?;
            (bodies, inflated) = (rest, more);
        }
        Ok(self.sound == self.records.len())
    }
}

impl Unpackers {
    /// Takes the next record; false where the caller may as well read it at once, since all before it were handed out and it has
    /// nothing to inflate, or nobody would do it meanwhile.
    pub fn add(&mut self, kind: u8, body: &[u8]) -> bool {
        let inflated = packed(kind, body).map_or(0, |(_, length)| length);
        if self.is_alone || (inflated == 0 && self.is_idle()) {
            return false;
        }
        if self.threads.is_none() {
            self.threads = InOrder::start("unpacker", worker);
            self.is_alone = self.threads.is_none();
            if self.is_alone {
                return false;
            }
        }
        self.batch.add(kind, body, inflated);
        if self.batch.is_full() {
            self.send();
        }
        true
    }

    /// Hands out the next records that are ready, or waits for them where enough are under way.
    pub fn next_due(&mut self) -> Option<Batch> {
        self.threads.as_mut()?.next_due()
    }

    /// Hands out the next records; waits for them.
    pub fn next(&mut self) -> Option<Batch> {
        if !self.batch.records.is_empty() {
            self.send();
        }
        self.threads.as_mut()?.next()
    }

    /// Takes a batch back whose records were taken.
    pub fn reuse(&mut self, mut batch: Batch) {
        batch.clear();
        self.spare.push(batch);
    }

    fn is_idle(&self) -> bool {
        self.batch.records.is_empty() && self.threads.as_ref().is_none_or(InOrder::is_idle)
    }

    fn send(&mut self) {
        let next = self.spare.pop().unwrap_or_default();
        let batch = std::mem::replace(&mut self.batch, next);
        if let Some(threads) = &mut self.threads {
            threads.add(batch);
        }
    }
}

fn worker() -> impl FnMut(Batch) -> Batch {
    let mut inflater = Inflater::default();
    move |mut batch| {
        batch.inflate(&mut inflater);
        batch
    }
}
