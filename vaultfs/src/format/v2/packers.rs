//! Encodes the records of a large segment on several threads, and hands them out in the order in which they came.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use zeroize::Zeroizing;

use crate::entry::Change;

use super::Record;
use super::deflate::Deflater;

/// The most threads: beyond, sealing and writing are what takes the time.
const THREADS_MAX: usize = 4;
/// Records that may be under way for each thread. Each takes up to two times 64 KiB.
const QUEUE: usize = 4;
/// Bytes of a record beside its content, at most.
const FRAME: usize = 32;

type Encoded = Zeroizing<Vec<u8>>;

/// Data on its way to a thread.
struct Job {
    offset: u64,
    bytes: Zeroizing<Vec<u8>>,
    reply: SyncSender<Encoded>,
}

enum Slot {
    Ready(Encoded),
    Waiting(Receiver<Encoded>),
}

/// Some threads that compress. Dropping it ends them.
pub(super) struct Packers {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    queue: VecDeque<Slot>,
}

impl Packers {
    /// Starts a thread for each processor; `None` where there is one only, or none can be started.
    pub fn start() -> Option<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let (sender, receiver) = channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        let start = |_| {
            let receiver = receiver.clone();
            std::thread::Builder::new().name("packer".to_owned()).spawn(move || work(&receiver)).ok()
        };
        let threads: Vec<_> = if count > 1 { (0..count).map_while(start).collect() } else { Vec::new() };
        (!threads.is_empty()).then(|| Self { jobs: Some(sender), threads, queue: VecDeque::new() })
    }

    /// Takes the next record.
    pub fn add(&mut self, record: &Record<'_>) {
        let slot = match (record, &self.jobs) {
            (Record::Change(Change::Data { offset, bytes }), Some(jobs)) => {
                let (reply, answer) = sync_channel(1);
                let job = Job { offset: *offset, bytes: Zeroizing::new(bytes.to_vec()), reply };
                jobs.send(job).expect("the threads take jobs for as long as there is a sender");
                Slot::Waiting(answer)
            }
            _ => {
                let mut encoded = Zeroizing::new(Vec::new());
                record.encode(&mut encoded, &mut Deflater::new());
                Slot::Ready(encoded)
            }
        };
        self.queue.push_back(slot);
    }

    /// Hands out the next record, encoded, once enough are under way.
    pub fn next_due(&mut self) -> Option<Encoded> {
        let is_due = self.queue.len() > QUEUE * self.threads.len();
        if is_due { self.next() } else { None }
    }

    /// Hands out the next record, encoded; waits for it.
    pub fn next(&mut self) -> Option<Encoded> {
        Some(match self.queue.pop_front()? {
            Slot::Ready(encoded) => encoded,
            Slot::Waiting(answer) => answer.recv().expect("a thread answers every job"),
        })
    }
}

impl Drop for Packers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A panic in one was noticed where its answer was waited for.
            let _ = thread.join();
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    let mut deflater = Deflater::new();
    loop {
        let job = jobs.lock().expect("nothing panics with the lock held").recv();
        let Ok(Job { offset, bytes, reply }) = job else { return };
        let mut encoded = Zeroizing::new(Vec::with_capacity(bytes.len() + FRAME));
        Record::Change(Change::Data { offset, bytes: &bytes }).encode(&mut encoded, &mut deflater);
        // The segment may have been given up.
        let _ = reply.send(encoded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::InodeId;

    #[test]
    fn records_come_out_as_they_went_in() {
        let pieces: Vec<Vec<u8>> = (0..300_usize).map(|number| vec![number as u8; 1 + number * 211]).collect();
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
        assert!(found.len() < expected.len(), "some are under way");
        while let Some(encoded) = packers.next() {
            found.extend_from_slice(&encoded);
        }
        assert!(found == expected);
    }

    #[test]
    fn a_segment_that_is_given_up_leaves_no_thread() {
        let mut packers = Packers::start().expect("a machine for tests has several processors");
        for _ in 0..50 {
            packers.add(&Record::Change(Change::Data { offset: 0, bytes: &[1; 60_000] }));
        }
        drop(packers);
    }
}
