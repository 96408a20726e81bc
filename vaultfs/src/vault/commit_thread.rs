//! The thread that writes the archive: waits for what is due, commits, tells the waiters. See `committer` for the locks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use crate::tree::{Revision, Snapshot};

use super::VaultError;
use super::archive::{Archive, Rewrite, RewriteOutcome};
use super::committer::{CommitWaiter, Queue, Shared};

/// Pauses after failures: the first, and the longest. Calls that ask for a commit and fail count too, so the longest is soon
/// reached, and whoever made room is not to wait for long.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(4);

/// How much the thread that compacts steps back: to a tenth of what others get, where they want all there is. Who locks waits for it to
/// notice that, with a MiB at most to be packed before.
const NICENESS: i32 = 10;

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

fn run(shared: &Arc<Shared>) {
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

fn prepare(shared: &Arc<Shared>) {
    let mut archive = shared.archive.lock();
    let Some(archive) = archive.as_mut().filter(|_| shared.access == super::lock::Access::ReadWrite) else { return };
    let prepared = catch_unwind(AssertUnwindSafe(|| {
        archive.prepare();
        archive.begin_rewrite()
    }));
    match prepared {
        Ok(None) => {}
        Ok(Some(work)) => {
            if let Err(error) = rewrite_beside(shared, work) {
                tracing::warn!(%error, "the thread that compacts cannot be started");
                // It is not under way any more; that is told there too.
                let _ = archive.end_rewrite(Box::new(error));
            }
        }
        Err(_) => tracing::error!("preparing the next commit panicked"),
    }
}

/// Has work on the archive done while commits go on.
fn rewrite_beside(shared: &Arc<Shared>, work: Rewrite) -> std::io::Result<()> {
    let owned = shared.clone();
    let spawned = std::thread::Builder::new().name("compactor".to_owned()).spawn(move || {
        match finish_rewrite(&owned, || step_back(work)) {
            Ok(()) | Err(VaultError::Closed(_)) => {}
            Err(error) => tracing::error!(%error, "rewriting the archive failed"),
        }
    });
    // One at a time: the one before has given its outcome.
    *shared.rewriter.lock() = Some(spawned?);
    Ok(())
}

/// Does work on a thread that lets others go first: somebody may wait for the commits beside it. A thread of its own, since none comes back
/// from that, and whoever holds the archive must not be kept waiting.
fn step_back(work: Rewrite) -> RewriteOutcome {
    let work = Mutex::new(Some(work));
    let run = || {
        let work = work.lock().take().expect("it is done once");
        work()
    };
    let niced = || {
        // Linux counts this by thread, with those that it starts.
        if let Err(error) = rustix::process::nice(NICENESS) {
            tracing::debug!(%error, "the thread that compacts keeps its priority");
        }
        run()
    };
    std::thread::scope(|scope| {
        match std::thread::Builder::new().name("rewriter".to_owned()).spawn_scoped(scope, niced) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| Box::new(panic)),
            Err(_) => run(),
        }
    })
}

/// Does work on the archive and has the archive take what comes of it.
fn finish_rewrite(shared: &Shared, work: impl FnOnce() -> RewriteOutcome) -> Result<(), VaultError> {
    let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Box::new(panic));
    let mut archive = shared.archive.lock();
    let archive = archive.as_mut().ok_or_else(|| VaultError::Closed(shared.path.clone()))?;
    let ended = guarded(shared, || archive.end_rewrite(outcome));
    shared.queue.lock().archive_bytes = archive.bytes();
    ended
}

/// Commits and writes the whole archive anew on the caller's thread, while other commits go on.
pub(super) fn compact(shared: &Shared) -> Result<(), VaultError> {
    let _one_at_a_time = shared.compacting.lock();
    let mut work = None;
    commit_with(shared, |archive, snapshot| {
        work = archive.begin_compaction(snapshot)?;
        Ok(())
    })?;
    work.map_or(Ok(()), |work| finish_rewrite(shared, work))
}

/// Runs a commit of another kind on the caller's thread, between the ordinary ones.
pub(super) fn commit_with(
    shared: &Shared,
    work: impl FnOnce(&mut dyn Archive, &Arc<Snapshot>) -> Result<(), VaultError>,
) -> Result<(), VaultError> {
    join(shared, |archive| {
        let snapshot = Arc::new(shared.tree.snapshot());
        work(archive, &snapshot)?;
        Ok(snapshot)
    })
}

/// The same where the work changes the tree: it returns the state that the archive holds then.
pub(super) fn join(
    shared: &Shared,
    work: impl FnOnce(&mut dyn Archive) -> Result<Arc<Snapshot>, VaultError>,
) -> Result<(), VaultError> {
    let begun = Instant::now();
    let mut archive = shared.archive.lock();
    let opened = archive.as_mut().ok_or_else(|| VaultError::Closed(shared.path.clone()))?;
    let snapshot = guarded(shared, || work(opened.as_mut()))?;
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::mpsc;

    use super::*;
    use crate::tree::{Ino, Merged, NewKind, NewNode, Owner, Tree, TreeOptions};
    use crate::vault::keys::{KeyChange, Secret};
    use crate::vault::lock::Access;
    use crate::vault::{ArchiveCopy, Committer, Relation};

    const OWNER: Owner = Owner { uid: 1, gid: 1 };

    /// What a commit does, in turn; then they all work. A real archive cannot be made to panic.
    enum Act {
        Panic,
        Fail,
        /// Tells that it began, then waits to be let on.
        Wait(mpsc::Sender<()>, mpsc::Receiver<()>),
    }

    struct Scripted {
        acts: VecDeque<Act>,
        seen: Arc<Mutex<Vec<Revision>>>,
    }

    impl Archive for Scripted {
        fn commit(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), VaultError> {
            self.seen.lock().push(snapshot.revision());
            match self.acts.pop_front() {
                Some(Act::Panic) => panic!("as the test wants it"),
                Some(Act::Fail) => Err(VaultError::NoArchive("x".into())),
                Some(Act::Wait(began, go_on)) => {
                    began.send(()).unwrap();
                    go_on.recv().unwrap();
                    Ok(())
                }
                None => Ok(()),
            }
        }

        fn change_keys(&mut self, _: &Secret, _: KeyChange, _: &Arc<Snapshot>) -> Result<(), VaultError> {
            Ok(())
        }

        fn bytes(&self) -> u64 {
            0
        }

        fn secret(&self) -> Result<Secret, VaultError> {
            Err(VaultError::NoArchive("x".into()))
        }

        fn relation(&self, _: &ArchiveCopy) -> Result<Relation, VaultError> {
            Err(VaultError::NoArchive("x".into()))
        }

        fn join(
            &mut self,
            _: &Tree,
            _: &ArchiveCopy,
            _: Option<&ArchiveCopy>,
        ) -> Result<(Merged, Arc<Snapshot>), VaultError> {
            Err(VaultError::NoArchive("x".into()))
        }
    }

    struct Running {
        committer: Committer,
        shared: Arc<Shared>,
        seen: Arc<Mutex<Vec<Revision>>>,
        thread: Option<JoinHandle<()>>,
    }

    fn running(acts: impl IntoIterator<Item = Act>) -> Running {
        let options = TreeOptions { owner: OWNER, size_limit: 1 << 20, logical_limit: 1 << 20, entry_limit: 1000 };
        let tree = Arc::new(Tree::new(options).unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let archive = Box::new(Scripted { acts: acts.into_iter().collect(), seen: seen.clone() });
        let hour = Duration::from_secs(3600);
        let shared = Shared::new(tree.clone(), "x".into(), archive, tree.revision(), hour, Access::ReadWrite);
        let thread = Some(start(shared.clone()).unwrap());
        Running { committer: Committer::new(shared.clone()), shared, seen, thread }
    }

    impl Running {
        fn change(&self, name: &str) {
            let new = NewNode { kind: NewKind::File, mode: 0o600, owner: OWNER };
            self.shared.tree.make(Ino::ROOT, name.as_bytes(), new).unwrap();
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.shared.stop();
            self.thread.take().unwrap().join().unwrap();
        }
    }

    #[test]
    fn a_panic_of_the_writer_is_an_error_and_the_next_commit_works() {
        let running = running([Act::Panic]);
        running.change("a");
        let error = running.committer.commit().unwrap_err();
        assert!(matches!(&*error, VaultError::Internal { message, .. } if message == "as the test wants it"));
        running.committer.commit().unwrap();
        assert!(!running.committer.status().dirty);
    }

    #[test]
    fn what_comes_during_a_commit_shares_the_next_one() {
        let (began_sender, began) = mpsc::channel();
        let (go_on, go_on_receiver) = mpsc::channel();
        let running = running([Act::Wait(began_sender, go_on_receiver)]);
        let (told_sender, told) = mpsc::channel();
        let ask = |number: u32| {
            let sender = told_sender.clone();
            running.committer.commit_then(Box::new(move |outcome| sender.send((number, outcome.is_ok())).unwrap()));
        };
        running.change("a");
        ask(1);
        began.recv().unwrap();
        for number in 2..50 {
            running.change(&format!("{number}"));
            ask(number);
        }
        assert!(told.try_recv().is_err(), "nobody is told before it is durable");
        go_on.send(()).unwrap();
        let answers: Vec<_> = told.iter().take(49).collect();
        assert!(answers.iter().enumerate().all(|(index, answer)| *answer == (index as u32 + 1, true)), "{answers:?}");
        assert_eq!(running.seen.lock().len(), 2);
    }

    #[test]
    fn a_waiter_may_call_the_committer_and_may_panic() {
        let running = running([]);
        running.change("a");
        let (sender, receiver) = mpsc::channel();
        let again = running.committer.clone();
        running.committer.commit_then(Box::new(move |_| {
            again.commit_then(Box::new(move |outcome| sender.send(outcome.is_ok()).unwrap()));
            panic!("as the test wants it");
        }));
        assert!(receiver.recv().unwrap());
        running.change("b");
        running.committer.commit().unwrap();
    }

    #[test]
    fn a_failed_commit_is_tried_again_without_being_asked() {
        let running = running([Act::Fail]);
        running.change("a");
        running.committer.commit().unwrap_err();
        assert!(running.committer.status().last_error.is_some());
        let begun = Instant::now();
        while running.committer.status().dirty {
            assert!(begun.elapsed() < Duration::from_secs(10), "never tried again");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(begun.elapsed() > RETRY_MIN / 2, "tried again without a pause");
        assert!(running.committer.status().last_error.is_none());
    }

    #[test]
    fn who_still_waits_at_the_end_is_told() {
        let (began_sender, began) = mpsc::channel();
        let (go_on, go_on_receiver) = mpsc::channel();
        let running = running([Act::Wait(began_sender, go_on_receiver)]);
        running.change("a");
        running.committer.commit_soon();
        began.recv().unwrap();
        running.change("b");
        let (sender, told) = mpsc::channel();
        running.committer.commit_then(Box::new(move |outcome| sender.send(outcome.is_err()).unwrap()));
        running.shared.stop();
        go_on.send(()).unwrap();
        assert!(told.recv().unwrap());
        assert!(running.committer.commit().is_err());
    }
}
