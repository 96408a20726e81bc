//! Locking: nothing uncommitted is lost unless that is asked for, and nothing that was read can be read any more.
//!
//! The kernel's caches outlive an abort and a detach (measured): without the invalidation below, a descriptor that is held
//! goes on reading the secret. So everything is invalidated while it is still served, and again afterwards.

use std::time::{Duration, Instant};

use vaultfs::fuse::OpenPolicy;

use super::protocol::{Failure, Holder, LockMode};
use super::server::Server;

/// How long running requests may take to end.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the kernel may take to tell that a file was closed.
const RELEASE: Duration = Duration::from_millis(500);
/// How often holders are looked for while waiting.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const LOOK_RELEASE: Duration = Duration::from_millis(5);

/// Whether a vault is locked already; held while one caller locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockState {
    /// It is served.
    Unlocked,
    /// Nothing is answered any more; the process is about to end.
    Locked,
}

impl Server {
    /// Has what is not in the remote sent, as long as is said, commits, revokes, and answers nothing any more. After an error the vault
    /// is as unlocked as before.
    ///
    /// # Errors
    /// [`Failure::Busy`], [`Failure::NotCommitted`], [`Failure::ChangedElsewhere`].
    pub(super) fn lock(&self, mode: LockMode, last_sync: Duration) -> Result<(), Failure> {
        let started = Instant::now();
        // Waiting for programs must not keep others from locking by force.
        if matches!(mode, LockMode::Refuse | LockMode::Wait(_)) {
            self.wait_for_holders(mode)?;
        }
        if *self.lock_state.lock() == LockState::Locked {
            return Ok(());
        }
        // What joins the vault with the remote takes the lock's lock.
        self.syncing.finish(last_sync);
        let again = match mode {
            // Who came meanwhile is waited for, too.
            LockMode::Wait(patience) => {
                self.wait_for_holders(LockMode::Wait(patience.saturating_sub(started.elapsed())))
            }
            _ => Ok(()),
        };
        let outcome = again.and_then(|()| self.lock_now(mode));
        if outcome.is_err() {
            self.syncing.lock_failed();
        }
        outcome
    }

    fn lock_now(&self, mode: LockMode) -> Result<(), Failure> {
        let mut state = self.lock_state.lock();
        if *state == LockState::Locked {
            return Ok(());
        }
        self.mounts.refuse_opens(OpenPolicy::Refuse);
        let outcome = self.check_holders(mode).and_then(|()| self.revoke(mode));
        match &outcome {
            Ok(()) => *state = LockState::Locked,
            Err(_) => self.mounts.refuse_opens(OpenPolicy::Allow),
        }
        outcome
    }

    fn wait_for_holders(&self, mode: LockMode) -> Result<(), Failure> {
        let patience = match mode {
            LockMode::Wait(patience) => patience,
            _ => Duration::ZERO,
        };
        let started = Instant::now();
        loop {
            let holders = self.holders()?;
            if holders.is_empty() {
                return Ok(());
            }
            if started.elapsed() >= patience {
                return Err(Failure::Busy(holders));
            }
            std::thread::sleep(LOOK_AGAIN);
            // Somebody else has locked by force: who waited gets what he wanted.
            if *self.lock_state.lock() == LockState::Locked {
                return Ok(());
            }
        }
    }

    /// Once more, with opens refused: who came in between keeps the vault unlocked.
    fn check_holders(&self, mode: LockMode) -> Result<(), Failure> {
        match mode {
            LockMode::Force | LockMode::ForceAndDiscard => Ok(()),
            LockMode::Refuse | LockMode::Wait(_) => match self.holders()? {
                holders if holders.is_empty() => Ok(()),
                holders => Err(Failure::Busy(holders)),
            },
        }
    }

    fn holders(&self) -> Result<Vec<Holder>, Failure> {
        let holders = self.keeper.holders().map_err(Failure::Other)?;
        if !holders.is_empty() {
            return Ok(holders);
        }
        // The keeper cannot look into every process (set-uid ones, those in other process namespaces); the kernel tells
        // of a close a little later than the program sees it.
        let started = Instant::now();
        while self.mounts.open_handles() > 0 {
            if started.elapsed() >= RELEASE {
                let path = match self.mounts.open_handles() {
                    1 => "an open file".to_owned(),
                    several => format!("{several} open files"),
                };
                return Ok(vec![Holder { pid: 0, command: "a process that cannot be looked into".to_owned(), path }]);
            }
            std::thread::sleep(LOOK_RELEASE);
        }
        Ok(Vec::new())
    }

    fn revoke(&self, mode: LockMode) -> Result<(), Failure> {
        // Dirty mapped pages come home before the commit.
        self.mounts.invalidate_all();
        self.save_or_discard(mode)?;
        if !self.mounts.stop_answering(DRAIN) {
            tracing::warn!("requests are still running");
        }
        // What was written between the commit and the stop.
        if self.vault.committer().status().dirty
            && let Err(failure) = self.save_or_discard(mode)
        {
            self.mounts.go_on_answering();
            return Err(failure);
        }
        self.mounts.invalidate_all();
        Ok(())
    }

    fn save_or_discard(&self, mode: LockMode) -> Result<(), Failure> {
        match self.save() {
            Err(failure) if mode == LockMode::ForceAndDiscard => {
                tracing::error!(%failure, "changes are discarded, as was asked");
                Ok(())
            }
            outcome => outcome,
        }
    }
}
