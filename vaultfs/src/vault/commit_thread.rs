//! The thread that writes the archive: waits for what is due, commits, tells the waiters. See `committer` for the locks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::tree::{Revision, Snapshot};

use super::VaultError;
use super::archive::Archive;
use super::committer::{CommitWaiter, Queue, Shared};

/// Pauses after failures: the first, and the longest.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What the thread does next.
enum Work {
    /// Tells these that what they waited for is durable.
    Tell(Vec<CommitWaiter>),
    Commit,
    /// Nothing is due: does what spares the next commit time.
    Prepare,
    Stop,
}

/// Starts the thread.
pub(super) fn start(shared: Arc<Shared>) -> Result<JoinHandle<()>, VaultError> {
    let path = shared.path.clone();
    std::thread::Builder::new()
        .name("committer".to_owned())
        .spawn(move || run(&shared))
        .map_err(VaultError::io("start the thread that writes", &path))
}

fn run(shared: &Shared) {
    let mut prepared = false;
    loop {
        match next(shared, prepared) {
            Work::Tell(waiters) => tell(waiters, &Ok(())),
            Work::Commit => {
                commit(shared);
                prepared = false;
            }
            Work::Prepare => {
                prepare(shared);
                prepared = true;
            }
            Work::Stop => break,
        }
    }
    let left = std::mem::take(&mut shared.queue.lock().waiters);
    tell(left.into_iter().map(|(_, waiter)| waiter).collect(), &Err(shared.closed()));
}

/// Sleeps until there is something to do.
fn next(shared: &Shared, prepared: bool) -> Work {
    let mut queue = shared.queue.lock();
    loop {
        let durable = queue.durable;
        let satisfied = take_waiters(&mut queue, durable);
        if !satisfied.is_empty() {
            return Work::Tell(satisfied);
        }
        if queue.stopping {
            return Work::Stop;
        }
        let due = due(&queue, shared.delay);
        match due {
            Some(at) if at <= Instant::now() => return Work::Commit,
            _ if !prepared => return Work::Prepare,
            Some(at) => {
                shared.wake.wait_until(&mut queue, at);
            }
            None => shared.wake.wait(&mut queue),
        }
    }
}

/// When the next commit is due, if at all.
fn due(queue: &Queue, delay: Duration) -> Option<Instant> {
    if queue.asked && !queue.waiters.is_empty() {
        return Some(Instant::now());
    }
    if let Some((at, _)) = queue.retry {
        return Some(at);
    }
    let limit = queue.first_change.map(|at| at + delay);
    match (queue.soon, limit) {
        (Some(soon), Some(limit)) => Some(soon.min(limit)),
        (soon, limit) => soon.or(limit),
    }
}

fn take_waiters(queue: &mut Queue, up_to: Revision) -> Vec<CommitWaiter> {
    queue.waiters.extract_if(.., |(revision, _)| *revision <= up_to).map(|(_, waiter)| waiter).collect()
}

fn commit(shared: &Shared) {
    let begun = Instant::now();
    {
        let mut queue = shared.queue.lock();
        queue.asked = false;
        queue.first_change = None;
        queue.soon = None;
    }
    let mut archive = shared.archive.lock();
    // Before the snapshot: whatever changes after it is told anew.
    shared.changed.store(false, Ordering::SeqCst);
    let snapshot = Arc::new(shared.tree.snapshot());
    let revision = snapshot.revision();
    if revision <= shared.queue.lock().durable {
        return;
    }
    let outcome = match archive.as_mut() {
        Some(archive) => guarded(shared, || archive.commit(&snapshot)),
        None => Err(VaultError::Closed(shared.path.clone())),
    };
    drop(snapshot);
    let bytes = archive.as_ref().map_or(0, |archive| archive.bytes());
    let (waiters, outcome) = finish(shared, revision, outcome, bytes, begun);
    drop(archive);
    tell(waiters, &outcome);
}

/// Turns a panic of the writer into an error: those who wait must not wait for ever.
fn guarded<T>(shared: &Shared, work: impl FnOnce() -> Result<T, VaultError>) -> Result<T, VaultError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(VaultError::Internal { path: shared.path.clone(), message })
    })
}

type Outcome = Result<(), Arc<VaultError>>;

/// Notes what came of a commit and takes out those who are to be told. The caller holds the archive's lock, so that the
/// notes are in the order of the commits.
fn finish(
    shared: &Shared,
    revision: Revision,
    outcome: Result<(), VaultError>,
    bytes: u64,
    begun: Instant,
) -> (Vec<CommitWaiter>, Outcome) {
    let mut queue = shared.queue.lock();
    queue.last_duration = begun.elapsed();
    queue.archive_bytes = bytes;
    let outcome = outcome.map_err(Arc::new);
    match &outcome {
        Ok(()) => {
            queue.durable = queue.durable.max(revision);
            queue.commits += 1;
            queue.last_commit = Some(SystemTime::now());
            queue.last_error = None;
            queue.retry = None;
        }
        Err(error) => {
            let pause = queue.retry.map_or(RETRY_MIN, |(_, pause)| (pause * 2).min(RETRY_MAX));
            tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "a commit failed and will be tried again");
            queue.retry = Some((Instant::now() + pause, pause));
            queue.last_error = Some(error.clone());
        }
    }
    (take_waiters(&mut queue, revision), outcome)
}

/// Calls the waiters, with no lock held; one that panics does not keep the others waiting.
fn tell(waiters: Vec<CommitWaiter>, outcome: &Outcome) {
    for waiter in waiters {
        let outcome = outcome.clone();
        if catch_unwind(AssertUnwindSafe(move || waiter(outcome))).is_err() {
            tracing::error!("somebody who waited for a commit panicked");
        }
    }
}

fn prepare(shared: &Shared) {
    let mut archive = shared.archive.lock();
    if let Some(archive) = archive.as_mut()
        && shared.access == super::lock::Access::ReadWrite
        && catch_unwind(AssertUnwindSafe(|| archive.prepare())).is_err()
    {
        tracing::error!("preparing the next commit panicked");
    }
}

/// Runs a commit of another kind on the caller's thread, between the ordinary ones.
pub(super) fn commit_with(
    shared: &Shared,
    work: impl FnOnce(&mut dyn Archive, &Arc<Snapshot>) -> Result<(), VaultError>,
) -> Result<(), VaultError> {
    let begun = Instant::now();
    let mut archive = shared.archive.lock();
    let snapshot = Arc::new(shared.tree.snapshot());
    let opened = archive.as_mut().ok_or_else(|| VaultError::Closed(shared.path.clone()))?;
    guarded(shared, || work(opened.as_mut(), &snapshot))?;
    let mut queue = shared.queue.lock();
    queue.durable = queue.durable.max(snapshot.revision());
    queue.commits += 1;
    queue.last_commit = Some(SystemTime::now());
    queue.last_error = None;
    queue.retry = None;
    queue.last_duration = begun.elapsed();
    queue.archive_bytes = opened.bytes();
    drop(queue);
    // Those who waited for one of these revisions are told by the thread.
    shared.wake.notify_all();
    Ok(())
}
