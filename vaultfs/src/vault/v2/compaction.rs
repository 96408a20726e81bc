//! Compaction: the state at one commit is written as the checkpoint of a new file while commits go on; then the segments that
//! came meanwhile are copied behind it, and the file is put in place. Only that last part keeps a commit waiting.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::crypto::MasterKey;
use crate::format::FormatError;
use crate::format::v2::{CommitInfo, Head, Header, Output, Sequence};
use crate::tree::Snapshot;
use crate::vault::VaultError;
use crate::vault::archive::{Rewrite, RewriteOutcome};
use crate::vault::lock::Access;

use super::history::History;
use super::store::{Draft, Store};
use super::whole::{Past, Pen, begin_whole};
use super::{Trust, V2Archive};

/// Deltas that never make a compaction due, in bytes.
const DELTA_BYTES_MIN: u64 = 1024 * 1024;
/// Deltas that make one due, however small.
const DELTAS_MAX: u64 = 1000;
/// How long after a failure none is tried.
const PAUSE: Duration = Duration::from_secs(60);
/// Bytes that a compaction leaves free for the commits beside it.
const ROOM_FOR_COMMITS: u64 = 16 * 1024 * 1024;
/// Bytes that are copied at a time.
const PIECE: usize = 256 * 1024;

/// What an archive remembers of its compactions.
#[derive(Default)]
pub(super) struct Compactions {
    /// Set to give up the one that is under way.
    running: Option<Arc<AtomicBool>>,
    not_before: Option<Instant>,
}

impl Compactions {
    fn end(&mut self) {
        self.running = None;
    }

    /// Starts none for some time, and gives up the one that is under way.
    pub(super) fn put_off(&mut self, time: Duration) {
        self.cancel();
        let until = Instant::now() + time;
        self.not_before = Some(self.not_before.map_or(until, |before| before.max(until)));
    }

    pub(super) fn cancel(&self) {
        if let Some(running) = &self.running {
            running.store(true, Ordering::Relaxed);
        }
    }
}

/// All that the thread needs, apart from the archive.
struct Job<D> {
    draft: D,
    header: Header,
    master: MasterKey,
    commit: CommitInfo,
    head: Head,
    history: History,
    snapshot: Arc<Snapshot>,
    /// Where the state ends in the present file.
    length: u64,
    epoch: u64,
    cancelled: Arc<AtomicBool>,
}

/// A new file that holds the state, durably.
struct Compacted<D> {
    draft: D,
    /// Bytes of the header and of the checkpoint.
    parts: (u64, u64),
    /// Where the state ended in the file that it was taken from, and its number.
    length: u64,
    sequence: Sequence,
    epoch: u64,
}

impl<D: Draft> Job<D> {
    fn run(self) -> Result<Compacted<D>, FormatError> {
        let Self { draft, header, master, commit, head, history, snapshot, length, epoch, cancelled } = self;
        let mut draft = Cancellable { draft, cancelled };
        let pen = Pen { header: &header, master: &master };
        let past = Past { commit: &commit, head, history: &history };
        let parts = begin_whole(&mut draft, &pen, &past, &snapshot)?;
        draft.sync()?;
        Ok(Compacted { draft: draft.draft, parts, length, sequence: head.sequence, epoch })
    }
}

/// A draft that stops taking bytes when it is of no use any more.
pub(super) struct Cancellable<D> {
    pub draft: D,
    pub cancelled: Arc<AtomicBool>,
}

impl<D: Draft> Output for Cancellable<D> {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        match self.cancelled.load(Ordering::Relaxed) {
            true => Err(std::io::Error::other("writing the new file was given up")),
            false => self.draft.write_all_at(bytes, offset),
        }
    }
}

impl<D: Draft> Draft for Cancellable<D> {
    fn sync(&mut self) -> std::io::Result<()> {
        self.draft.sync()
    }
}

impl<S: Store> V2Archive<S> {
    fn is_compaction_due(&self) -> bool {
        let deltas = self.length - self.header.bytes().len() as u64 - self.checkpoint_bytes;
        let is_worth_it = deltas > self.checkpoint_bytes.max(DELTA_BYTES_MIN) || self.deltas > DELTAS_MAX;
        let may_start = self.compactions.not_before.is_none_or(|at| at <= Instant::now());
        is_worth_it && may_start && self.trust == Trust::Sound && self.store.access() == Access::ReadWrite
    }

    /// The work of a compaction, for another thread, when one is due and none is under way.
    pub(super) fn begin_compaction(&mut self) -> Option<Rewrite> {
        if self.compactions.running.is_some() || !self.is_compaction_due() {
            return None;
        }
        if self.store.room() < self.length.saturating_add(ROOM_FOR_COMMITS) {
            self.compactions.not_before = Some(Instant::now() + PAUSE);
            return None;
        }
        let job = match self.job() {
            Ok(job) => job,
            Err(error) => {
                self.compaction_failed(&error);
                return None;
            }
        };
        Some(Box::new(move || Box::new(job.run()) as RewriteOutcome))
    }

    #[cfg(test)]
    pub(super) fn compact_anyway(&mut self) -> Rewrite {
        let job = self.job().unwrap();
        Box::new(move || Box::new(job.run()) as RewriteOutcome)
    }

    fn job(&mut self) -> Result<Job<S::Draft>, VaultError> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let job = Job {
            draft: self.store.draft()?,
            header: self.header.clone(),
            master: self.master.duplicate()?,
            commit: self.last_commit.clone(),
            head: self.head,
            history: self.history.clone(),
            snapshot: self.last.clone(),
            length: self.length,
            epoch: self.epoch,
            cancelled: cancelled.clone(),
        };
        self.compactions.running = Some(cancelled);
        Ok(job)
    }

    /// Puts the new file in place, unless the archive was written whole meanwhile.
    pub(super) fn end_compaction(&mut self, outcome: Box<dyn Any + Send>) {
        self.compactions.end();
        let Ok(outcome) = outcome.downcast::<Result<Compacted<S::Draft>, FormatError>>() else {
            tracing::error!("a compaction stopped at a bug");
            self.compactions.not_before = Some(Instant::now() + PAUSE);
            return;
        };
        let path = self.store.path().to_owned();
        let done = match *outcome {
            Ok(compacted) if compacted.epoch != self.epoch || self.trust != Trust::Sound => return,
            Ok(compacted) => self.put_in_place(compacted),
            Err(error) => Err(VaultError::writing(&path)(error)),
        };
        if let Err(error) = done {
            self.compaction_failed(&error);
        }
    }

    fn compaction_failed(&mut self, error: &VaultError) {
        tracing::warn!(%error, "the archive cannot be compacted now");
        self.compactions.not_before = Some(Instant::now() + PAUSE);
    }

    fn put_in_place(&mut self, compacted: Compacted<S::Draft>) -> Result<(), VaultError> {
        let Compacted { mut draft, parts: (header, checkpoint), length, sequence, .. } = compacted;
        let path = self.store.path().to_owned();
        self.copy_tail(&mut draft, header + checkpoint, length).map_err(VaultError::io("copy to", &path))?;
        draft.sync().map_err(VaultError::io("sync the new file beside", &path))?;
        if let Err(error) = self.store.replace(draft) {
            self.trust = Trust::Rewrite;
            return Err(error);
        }
        let copied = self.length - length;
        self.length = header + checkpoint + copied;
        self.checkpoint_bytes = checkpoint;
        self.deltas = self.head.sequence.0 - sequence.0;
        self.epoch += 1;
        self.tell_witness();
        Ok(())
    }

    /// Copies what was committed since the state was taken.
    fn copy_tail(&self, draft: &mut S::Draft, mut to: u64, mut from: u64) -> std::io::Result<()> {
        let mut piece = vec![0; PIECE];
        while from < self.length {
            let len = piece.len().min((self.length - from) as usize);
            self.store.read_exact_at(&mut piece[..len], from)?;
            draft.write_all_at(&piece[..len], to)?;
            (from, to) = (from + len as u64, to + len as u64);
        }
        Ok(())
    }
}
