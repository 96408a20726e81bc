//! What is said about synchronising: what `unlock` asks for, what a synchronisation tells the agent, what `status` tells of it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whether and when an unlocked vault is synchronised on its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SyncSettings {
    /// Why not.
    pub off: Option<SyncOff>,
    /// Names the remote, where there is one.
    pub remote: Option<String>,
    /// How long after the last change.
    pub quiet: Duration,
    /// How often without one.
    pub every: Duration,
    /// How long a lock waits for it.
    pub at_lock: Duration,
    /// Whether the archive is what this machine and the remote last agreed on.
    pub pushed: bool,
    /// When that was, in seconds since the epoch.
    pub last_success: Option<u64>,
}

/// Why a vault is not synchronised on its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncOff {
    /// There is nothing to synchronise with, until there is.
    NoRemote,
    /// Somebody wants it so.
    Asked(String),
}

impl fmt::Display for SyncOff {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRemote => formatter.write_str("no remote is configured"),
            Self::Asked(reason) => formatter.write_str(reason),
        }
    }
}

/// What came of a synchronisation, whoever asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncReport {
    /// The remote holds all up to this commit of the session, and nothing else.
    Same {
        /// The commit.
        commit: u64,
        /// Names the remote.
        remote: String,
    },
    /// What the remote holds was taken over.
    Fetched,
    /// Another one is under way.
    Busy,
    /// The configuration does not want it any more.
    Off(SyncOff),
    /// It may work the next time.
    Failed(String),
    /// It does not work before a person has done something.
    NeedsPerson(String),
}

/// How synchronising stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// It is not done.
    Off,
    /// It waits for a change, or for its time.
    Waiting,
    /// It is under way.
    Running,
    /// It fails, and is tried again.
    Failing,
    /// It needs a person.
    Stopped,
}

/// The same with all that is known. The names are those of `tazpod status --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SyncStatus {
    /// How it stands.
    pub state: SyncState,
    /// Why it is off, or what is wrong.
    pub reason: Option<String>,
    /// Names the remote.
    pub remote: Option<String>,
    /// When it last worked, in seconds since the epoch.
    pub last_success: Option<u64>,
    /// When it is tried again, in seconds since the epoch.
    pub next_try: Option<u64>,
    /// Whether something is here that the remote does not have, as far as this machine knows; null without a remote.
    pub unpushed: Option<bool>,
    /// How long a lock waits for it.
    pub at_lock_millis: u64,
}

/// Files that merges put aside. The names are those of `tazpod status --json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ConflictStatus {
    /// How many.
    pub count: u64,
    /// The first of them, paths within the vault.
    pub files: Vec<String>,
}
