//! What clients, agent and keeper say to each other. Secrets are not in these types: they follow as frames of raw bytes.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vaultfs::format::v2::RecipientSlot;

use super::auto_lock::Rules;
use super::bridges::{BridgeRequest, BridgeStatus};
use super::leases::{AutoLockStatus, LeaseRequest};
use super::past::{Checked, Restored};
use super::syncing::{ConflictStatus, SyncReport, SyncSettings, SyncStatus};

/// Version of the protocol between a client and an agent; both must have the same.
pub const PROTOCOL: u32 = 5;

/// The first message of an agent on each connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// See [`PROTOCOL`].
    pub protocol: u32,
    /// Version of the program that serves.
    pub version: String,
    /// The agent.
    pub agent_pid: u32,
    /// The keeper beside it, which detaches the mounts after the agent's end.
    pub keeper_pid: u32,
}

/// What a client asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// How it stands. Answer: [`Answer::Status`].
    Status,
    /// Commit now. Answer: [`Answer::Saved`].
    Save,
    /// Synchronise, commit, revoke, end. Answer: [`Answer::Locked`], then the agent ends.
    Lock(LockMode, LastSync),
    /// A secret that opens the vault follows. Answer: [`Answer::Done`].
    ChangeKeys(KeyRequest),
    /// Who can open the vault besides. Answer: [`Answer::Recipients`].
    Recipients,
    /// Commit and write the archive anew.
    Compact,
    /// Answer: [`Answer::Stream`], frames of a tar up to an empty one, then [`Answer::Done`] or a failure.
    Export,
    /// Frames of a tar follow, up to an empty one. Answer: [`Answer::Imported`].
    Import {
        /// Path of a folder within the vault; bytes, perhaps empty.
        into: Vec<u8>,
        /// Whether files that exist are replaced; else they fail the whole import.
        replace: bool,
    },
    /// The commits. Answer: [`Answer::Stream`], frames with a line of JSON a [`Commit`](super::past::Commit), oldest first, up to
    /// an empty one, then [`Answer::Done`] or a failure.
    Log {
        /// Only those that touched this path.
        path: Option<Vec<u8>>,
    },
    /// What was at a path after a commit. Answer: [`Answer::Stream`] (a file) or [`Answer::Listing`] (a folder), frames up to an
    /// empty one, then [`Answer::Done`] or a failure.
    Show {
        /// The commit.
        number: u64,
        /// Path within the vault.
        path: Vec<u8>,
    },
    /// Puts back what was at a path after a commit. Answer: [`Answer::Restored`].
    Restore {
        /// The commit.
        number: u64,
        /// Path within the vault.
        path: Vec<u8>,
        /// Where it goes, when not where it was.
        to: Option<Vec<u8>>,
    },
    /// Verifies the archive. Answer: [`Answer::Stream`], frames with a line of JSON a [`Progress`](super::past::Progress), up to an
    /// empty one, then [`Answer::Checked`] or a failure.
    Check,
    /// Takes over what another copy of the archive has. With [`JoinRequest::with_keys`] two secrets follow: one that opens the vault
    /// as it is, and one that opens the copy. Answer: [`Answer::Joined`].
    Join(JoinRequest),
    /// Other machines may know the heads of these archives, files of the state folder. Answer: [`Answer::NotAncestors`].
    NoteShared(Vec<String>),
    /// Synchronise on your own from now on. Answer: [`Answer::Synchronises`].
    Synchronise(SyncSettings),
    /// A person has settled what was in the way of it. Answer: [`Answer::Done`].
    Settle(SyncSettings),
    /// What came of a synchronisation; with the number of the one that was started on its own. Answer: [`Answer::Done`].
    NoteSync(Option<u64>, SyncReport),
    /// Mounts a further view. Answer: [`Answer::Done`].
    Mount(MountRequest),
    /// Takes a further view away. Answer: [`Answer::Done`].
    Unmount {
        /// Its mount point.
        dir: PathBuf,
    },
    /// Makes bridges. Answer: [`Answer::Bridges`].
    Bridges(Vec<BridgeRequest>),
    /// This connection is a lease from here on, and nothing else. Answer: [`Answer::Done`].
    Lease(LeaseRequest),
    /// Lock after this time, whatever happens until then; nothing: not any more. Answer: [`Answer::Done`].
    LockAfter(Option<Duration>),
}

/// A change of who can open the vault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum KeyRequest {
    /// The new passphrase follows too.
    ChangePassphrase {
        /// Whether the key that content is sealed under stays.
        keep_key: bool,
    },
    /// One more recipient.
    AddRecipient {
        /// What the user calls it.
        label: String,
        /// As age writes it.
        recipient: String,
    },
    /// One recipient less, and a new key.
    RemoveRecipient {
        /// Label or recipient.
        name: String,
    },
}

/// A copy of the archive to be joined. Names are of files in the vault's state folder, where nothing else comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The copy. It must not change any more.
    pub theirs: String,
    /// What both sides last agreed on.
    pub base: Option<String>,
    /// Whether it is under another key than the vault.
    pub with_keys: bool,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Joined {
    /// The copy held nothing new.
    Nothing,
    /// The vault is what the copy is.
    Forward,
    /// Both sides had gone on: the vault holds both.
    Merged(Vec<ConflictNote>),
}

/// Something that both sides did otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictNote {
    /// Path within the vault.
    pub path: String,
    /// What was done about it.
    pub what: String,
    /// Where this side's version lies, if it had to make way.
    pub copy: Option<String>,
}

/// A view to be mounted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountRequest {
    /// Mount point, absolute.
    pub dir: PathBuf,
    /// Folder of the vault that becomes the root; bytes, empty for all of it.
    pub subtree: Vec<u8>,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// What a lock does with programs that hold files open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockMode {
    /// Lists them and does not lock.
    Refuse,
    /// Waits for them.
    Wait(Duration),
    /// Revokes what they hold.
    Force,
    /// The same, and loses what cannot be committed.
    ForceAndDiscard,
}

/// Whether a lock has what is not in the remote sent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LastSync {
    /// As long as the configuration says.
    Try,
    /// It does not.
    Skip,
}

/// What an agent answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It worked.
    Done,
    /// To [`Request::Save`]: all up to this commit of the session is in the archive.
    Saved(u64),
    /// To [`Request::Lock`].
    Locked {
        /// Why something is not in the remote that should be.
        unsent: Option<String>,
    },
    /// To [`Request::NoteShared`]: those that the vault does not descend from.
    NotAncestors(Vec<String>),
    /// To [`Request::Synchronise`].
    Synchronises {
        /// Whether it did so before.
        already: bool,
    },
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// Frames follow.
    Stream,
    /// Frames follow, with a line a name.
    Listing,
    /// Number of entries.
    Imported(u64),
    /// To [`Request::Join`].
    Joined(Joined),
    /// To [`Request::Recipients`].
    Recipients(Vec<RecipientEntry>),
    /// To [`Request::Restore`].
    Restored(Box<Restored>),
    /// To [`Request::Check`].
    Checked(Box<Checked>),
    /// To [`Request::Bridges`].
    Bridges(Vec<BridgeStatus>),
    /// It did not work.
    Failed(Failure),
}

/// Somebody who can open the vault with an age identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientEntry {
    /// What the user calls it.
    pub label: String,
    /// As age writes it.
    pub recipient: String,
}

impl From<RecipientSlot> for RecipientEntry {
    fn from(slot: RecipientSlot) -> Self {
        Self { label: slot.label, recipient: slot.recipient }
    }
}

/// How an unlocked vault stands. The names are those of `tazpod status --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Canonical path of the archive.
    pub archive: PathBuf,
    /// Version of the format, `v1` or `v2`.
    pub format: String,
    /// All mounts; the first is the vault's own.
    pub mounts: Vec<MountStatus>,
    /// What shows up outside the mount point, and what does not though it was asked for.
    pub bridges: Vec<BridgeStatus>,
    /// When the vault locks by itself.
    pub auto_lock: AutoLockStatus,
    /// Bytes counted against `size_limit_bytes`.
    pub used_bytes: u64,
    /// `vault.size`.
    pub size_limit_bytes: u64,
    /// Number of entries.
    pub entries: u64,
    /// Most entries that there can be.
    pub entry_limit: u64,
    /// Whether there are changes not yet in the archive.
    pub dirty: bool,
    /// End of the last commit, in seconds since the epoch.
    pub last_commit: Option<u64>,
    /// Why the last commit failed, when it did.
    pub last_error: Option<String>,
    /// Commits since the unlock.
    pub commits: u64,
    /// Size of the archive.
    pub archive_bytes: u64,
    /// Whether the vault can only be read, its archive being on a read-only medium.
    pub read_only: bool,
    /// How synchronising on its own stands.
    pub sync: SyncStatus,
    /// What merges put aside and nobody has removed yet.
    pub conflicts: ConflictStatus,
    /// Open files and folders.
    pub open_handles: u64,
    /// Kind of memory that holds the keys.
    pub secret_memory: String,
    /// The agent.
    pub agent_pid: u32,
    /// The keeper.
    pub keeper_pid: u32,
    /// Seconds since the unlock.
    pub uptime_secs: u64,
    /// Version of the agent.
    pub version: String,
}

/// One mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountStatus {
    /// Mount point.
    pub dir: PathBuf,
    /// Folder of the vault, empty for all of it.
    pub subtree: String,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// Why something did not work, so that a client can tell it and choose an exit status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// Programs hold files of the vault.
    #[error("programs hold files of the vault open")]
    Busy(Vec<Holder>),
    /// It does not open the vault, or not the private key that it is for.
    #[error("{0}")]
    WrongPassphrase(String),
    /// The identity opens nothing here.
    #[error("{0}")]
    WrongIdentity(String),
    /// The derivation of the key needs more memory than there is.
    #[error("{0}")]
    LittleMemory(String),
    /// An archive of version 1, which has no recipients.
    #[error("{0}")]
    Version1(String),
    /// An identity is not enough.
    #[error("{0}")]
    PassphraseNeeded(String),
    /// An older or another archive than this machine has seen was put in its place.
    #[error("{0}")]
    RolledBack(String),
    /// The master key is not the one that this machine has seen.
    #[error("{0}")]
    UnknownKey(String),
    /// The archive is sound outside and damaged inside, or cut short.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// No archive there.
    #[error("there is no archive at {}", .0.display())]
    NoArchive(PathBuf),
    /// Another process has it.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The changes are not in the archive.
    #[error("the changes cannot be written to the archive: {0}")]
    NotCommitted(String),
    /// Somebody else changed the archive.
    #[error("{0}")]
    ChangedElsewhere(String),
    /// A copy of the archive is under another key than the vault.
    #[error("{0}")]
    OtherKey(String),
    /// A remote holds an older state than it held before.
    #[error("{0}")]
    RemoteRolledBack(String),
    /// Two copies both went on, and what they began with is not there.
    #[error("{0}")]
    NoCommonState(String),
    /// A mount did not work.
    #[error("{0}")]
    Mount(String),
    /// The archive keeps no history.
    #[error("{0}")]
    NoHistory(String),
    /// The history does not hold what was asked for.
    #[error("{0}")]
    NotInHistory(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A program that holds something of the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process.
    pub pid: u32,
    /// Its name.
    pub command: String,
    /// What it holds.
    pub path: String,
}

/// What `unlock` hands to a new agent; what opens the vault follows as frames of raw bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Canonical path of the archive.
    pub archive: PathBuf,
    /// The project that the vault was unlocked for.
    pub project: Option<PathBuf>,
    /// Mount point, absolute.
    pub mount: PathBuf,
    /// `vault.size`, bytes.
    pub size_limit_bytes: u64,
    /// How long a change may wait for a commit.
    pub commit_delay: Duration,
    /// `commit: strict`.
    pub strict_close: bool,
    /// Whether the mount can only be read.
    pub read_only: bool,
    /// Whether other users may come in; for tests of the file system as root.
    pub allow_other: bool,
    /// The machine's id of 16 bytes, for commits of a version 2 archive.
    pub machine_id: [u8; 16],
    /// The machine's name.
    pub host: String,
    /// An archive that does not follow from what this machine has seen is taken.
    pub accept_rollback: bool,
    /// A master key that this machine has not seen with the vault is taken.
    pub accept_new_key: bool,
    /// When the vault locks by itself.
    pub auto_lock: Rules,
    /// Whether and when it is synchronised on its own.
    pub sync: SyncSettings,
}

/// What a new agent says to `unlock`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ready {
    /// It serves.
    Unlocked {
        /// What the user is told.
        notices: Vec<String>,
        /// Whether it can only be read.
        read_only: bool,
    },
    /// It does not, and is gone.
    Failed(Failure),
}

/// What the agent asks of the keeper. One packet each; a descriptor may come with the answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum KeeperRequest {
    /// Mounts and returns the FUSE descriptor.
    Mount {
        /// Where.
        dir: PathBuf,
        /// Kernel-side read-only.
        read_only: bool,
        /// See [`Settings::allow_other`].
        allow_other: bool,
    },
    /// The same over something that is left as it is, or made.
    Bridge {
        /// Where.
        target: PathBuf,
        /// What is bridged.
        kind: BridgeKind,
        /// Kernel-side read-only.
        read_only: bool,
    },
    /// Detaches one mount.
    Unmount {
        /// Where.
        dir: PathBuf,
    },
    /// Who holds something of the mounts.
    Holders,
    /// Starts a process that synchronises, with this number.
    StartSync(u64),
    /// Ends it.
    StopSync,
    /// Files to be removed after the agent's end.
    Remember {
        /// The socket and the note.
        files: Vec<PathBuf>,
    },
}

/// What a bridge covers, and shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BridgeKind {
    /// A folder.
    Folder,
    /// A single file.
    File,
}

/// What the keeper says to the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum KeeperMessage {
    /// The descriptor comes with it.
    Mounted {
        /// Canonical mount point.
        dir: PathBuf,
    },
    /// The same of a bridge.
    Bridged {
        /// Canonical place.
        dir: PathBuf,
        /// What was made for it, outermost first.
        made: Vec<PathBuf>,
        /// The keeper's descriptor of what it covers.
        underneath: i32,
    },
    /// Detached, or remembered.
    Done,
    /// To [`KeeperRequest::StartSync`]: the process, whose number is that of its group, too.
    SyncStarted {
        /// Its number.
        pid: u32,
    },
    /// To [`KeeperRequest::Holders`].
    Holders(Vec<Holder>),
    /// A request failed.
    Failed(String),
    /// Not an answer: a mount was taken away or moved.
    MountLost,
    /// Not an answer: a process that synchronised ended.
    SyncEnded {
        /// Its number.
        number: u64,
        /// In words for the user.
        how: String,
    },
    /// Not an answer: the keeper was told to end.
    Terminate,
}
