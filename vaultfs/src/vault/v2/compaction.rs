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
use crate::vault::archive::{Archive, Rewrite, RewriteOutcome};
use crate::vault::lock::Access;

use super::history::History;
use super::store::{Draft, Store};
use super::whole::{News, Past, Pen, begin_whole};
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
    running: Option<Running>,
    not_before: Option<Instant>,
}

/// The compaction that is under way.
struct Running {
    /// Set to give it up. Also what it is known by.
    cancelled: Arc<AtomicBool>,
    why: Why,
}

/// Why an archive is compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// It is due.
    Due,
    /// Somebody asked for it, and waits.
    Asked,
}

impl Compactions {
    /// Takes note of a new one; one that is under way is given up.
    fn begin(&mut self, why: Why) -> Arc<AtomicBool> {
        self.cancel();
        let cancelled = Arc::new(AtomicBool::new(false));
        self.running = Some(Running { cancelled: cancelled.clone(), why });
        cancelled
    }

    /// Why the one that ended was begun; `None` where another one has taken its place.
    fn end(&mut self, ended: &Arc<AtomicBool>) -> Option<Why> {
        self.running.take_if(|running| Arc::ptr_eq(&running.cancelled, ended)).map(|running| running.why)
    }

    /// Starts none for some time that nobody asks for, and gives up the one that is under way.
    pub(super) fn put_off(&mut self, time: Duration) {
        if self.running.as_ref().is_some_and(|running| running.why == Why::Due) {
            self.cancel();
        }
        let until = Instant::now() + time;
        self.not_before = Some(self.not_before.map_or(until, |before| before.max(until)));
    }

    pub(super) fn cancel(&self) {
        if let Some(running) = &self.running {
            running.cancelled.store(true, Ordering::Relaxed);
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

/// What came of one.
struct Ended<D> {
    cancelled: Arc<AtomicBool>,
    outcome: Result<Compacted<D>, FormatError>,
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
    fn run(self) -> Ended<D> {
        Ended { cancelled: self.cancelled.clone(), outcome: self.write() }
    }

    fn write(self) -> Result<Compacted<D>, FormatError> {
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
    pub(super) fn begin_due_compaction(&mut self) -> Option<Rewrite> {
        if self.compactions.running.is_some() || !self.is_compaction_due() {
            return None;
        }
        if self.store.room() < self.length.saturating_add(ROOM_FOR_COMMITS) {
            self.compactions.not_before = Some(Instant::now() + PAUSE);
            return None;
        }
        let job = match self.job(Why::Due) {
            Ok(job) => job,
            Err(error) => {
                self.compaction_failed(&error);
                return None;
            }
        };
        Some(Box::new(move || Box::new(job.run()) as RewriteOutcome))
    }

    /// Commits; then the work of a compaction that somebody waits for. `None`: the commit wrote the file whole.
    pub(super) fn begin_asked(&mut self, snapshot: &Arc<Snapshot>) -> Result<Option<Rewrite>, VaultError> {
        let epoch = self.epoch;
        self.commit(snapshot)?;
        if self.deltas == 0 && self.epoch != epoch {
            return Ok(None);
        }
        // Also of an archive without deltas: what lies on the disk may not be what was written.
        let job = self.job(Why::Asked)?;
        Ok(Some(Box::new(move || Box::new(job.run()) as RewriteOutcome)))
    }

    #[cfg(test)]
    pub(super) fn compact_anyway(&mut self) -> Rewrite {
        let job = self.job(Why::Due).unwrap();
        Box::new(move || Box::new(job.run()) as RewriteOutcome)
    }

    #[cfg(test)]
    pub(super) fn compact(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), VaultError> {
        self.begin_asked(snapshot)?.map_or(Ok(()), |work| self.end_compaction(work()))
    }

    fn job(&mut self, why: Why) -> Result<Job<S::Draft>, VaultError> {
        Ok(Job {
            draft: self.store.draft()?,
            header: self.header.clone(),
            master: self.master.duplicate()?,
            commit: self.last_commit.clone(),
            head: self.head,
            history: self.history.clone(),
            snapshot: self.last.clone(),
            length: self.length,
            epoch: self.epoch,
            cancelled: self.compactions.begin(why),
        })
    }

    /// Puts the new file in place, unless the archive was written whole meanwhile. Only who asked for it hears of an error.
    pub(super) fn end_compaction(&mut self, outcome: Box<dyn Any + Send>) -> Result<(), VaultError> {
        let path = self.store.path().to_owned();
        let Ok(ended) = outcome.downcast::<Ended<S::Draft>>() else {
            self.compactions.running = None;
            let error = VaultError::Internal { path, message: "compacting it ended early".to_owned() };
            self.compaction_failed(&error);
            return Err(error);
        };
        let Some(why) = self.compactions.end(&ended.cancelled) else { return Ok(()) };
        let done = match ended.outcome {
            Ok(compacted) if compacted.epoch != self.epoch => Ok(()),
            Ok(compacted) if self.trust == Trust::Sound => self.put_in_place(compacted),
            // A commit failed meanwhile.
            Ok(_) if why == Why::Asked => self.rewrite(&self.last.clone(), News::Changes, None),
            Ok(_) => Ok(()),
            Err(error) => Err(VaultError::writing(&path)(error)),
        };
        match (done, why) {
            (Err(error), Why::Due) => {
                self.compaction_failed(&error);
                Ok(())
            }
            (done, _) => done,
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
