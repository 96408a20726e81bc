//! Opening an archive: which state it holds, whether this machine may believe it, and what of a cut-off end is left behind.

use crate::crypto::MasterKey;
use crate::format::v2::{
    Archive as Segments, CommitInfo, HEADER_MAX, Head, Header, Record, Segment, SegmentKind, SharedHead, Source,
    Witness, WitnessPhase,
};
use crate::format::{FormatError, ReadReport, ReadWarning, SinkError};
use crate::tree::{Applier, Tree, TreeError};
use crate::vault::VaultError;
use crate::vault::keys::Secret;
use crate::vault::lock::Access;

use super::Trust;
use super::copy_read::Kept;
use super::history::History;
use super::store::Store;
use super::whole::Machine;

/// Nanoseconds of a second.
const NANOS: i64 = 1_000_000_000;

/// What is accepted although it looks like an attack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acceptance {
    /// An archive that does not follow from what this machine has seen.
    pub rollback: bool,
    /// A master key that this machine has not seen with the vault.
    pub new_master: bool,
}

/// What was read of an archive.
pub(in crate::vault) struct ArchiveRead {
    pub header: Header,
    /// SHA-256 of the header that the archive had at the head.
    pub header_digest: [u8; 32],
    pub master: MasterKey,
    pub head: Head,
    /// Bytes up to the end of the last sound segment.
    pub length: u64,
    pub checkpoint_bytes: u64,
    pub deltas: u64,
    /// Of the last segment.
    pub last_commit: CommitInfo,
    /// What the head descends from.
    pub history: History,
}

/// An archive that was read to be open for writing.
pub(super) struct Opened {
    pub read: ArchiveRead,
    /// The state that was to be kept.
    pub kept: Option<Kept>,
    pub witness: Option<Witness>,
    /// The archive does not follow from the witness, which was accepted.
    pub rolled_back: bool,
}

/// An archive's header with the key that it wraps.
pub(super) struct Unlocked {
    header: Header,
    master: MasterKey,
    /// An identity opened it, which does not prove who made it.
    pub by_identity: bool,
}

/// Finds the key that a secret opens.
pub(super) fn unlock<S: Store>(store: &S, secret: &Secret) -> Result<Unlocked, FormatError> {
    let header = read_header(store)?;
    let master = secret.unlock(&header).map_err(|error| {
        let seen = store.read_witness().unwrap_or_default();
        told_apart(error, &seen, &header)
    })?;
    Ok(Unlocked { header, master, by_identity: matches!(secret, Secret::Identity(_)) })
}

/// Reads an archive into an empty tree, and keeps the state at a commit. What is cut off behind the last sound segment is left in the file.
pub(super) fn read<S: Store>(
    store: &S,
    Unlocked { header, master, .. }: Unlocked,
    machine: &Machine,
    acceptance: Acceptance,
    keep: Option<Head>,
    tree: &mut Tree,
) -> Result<Opened, FormatError> {
    let seen = find_witness(store, &header, &master, acceptance)?;
    let segments = Segments::new(store, header.suite(), &master, header.vault_id())?;
    let mut reading = Reading { applier: tree.applier(), place: Place::begin(header.bytes().len() as u64) };
    let mut kept = None;
    let flaw = loop {
        if reading.place.at == segments.length() && reading.place.head.is_some() {
            break None;
        }
        match segments.next(reading.place.at, reading.place.head)? {
            Ok(segment) => {
                reading.take(&segments, &segment)?;
                if keep == Some(segment.head) {
                    let tree = reading.applier.fork().map_err(|error| refused(&segment, error))?;
                    kept = Some(Kept { place: reading.place.clone(), tree });
                }
            }
            Err(flaw) => break Some(flaw),
        }
    };
    if let Some(flaw) = flaw
        && !(flaw.is_tail && reading.is_torn_here(seen.witness.as_ref(), machine))
    {
        return Err(flaw.into());
    }
    let opened = reading.place.end(header, master)?.under_its_header()?.after(seen, acceptance)?;
    Ok(Opened { kept, ..opened })
}

pub(in crate::vault) fn read_header(store: &(dyn Source + '_)) -> Result<Header, FormatError> {
    let mut start = vec![0; store.length()?.min(HEADER_MAX as u64) as usize];
    store.read_exact_at(&mut start, 0)?;
    Header::parse(&start)
}

/// Where a passphrase does not fit, the witness may know whether the header is the one that was here.
pub(super) fn told_apart(error: FormatError, witness: &[u8], header: &Header) -> FormatError {
    let seen = Witness::of_vault(witness, header.vault_id());
    match error {
        FormatError::WrongPassphrase
            if !seen.is_empty() && seen.iter().all(|witness| witness.header != header.digest()) =>
        {
            FormatError::WrongPassphraseOrHeader
        }
        error => error,
    }
}

/// What this machine knows of the vault.
#[derive(Default)]
struct Seen {
    witness: Option<Witness>,
    /// The newest under another master, where that is accepted: nothing proves it, but what it tells of must be there.
    under_other_master: Option<Witness>,
}

fn find_witness<S: Store>(
    store: &S,
    header: &Header,
    master: &MasterKey,
    acceptance: Acceptance,
) -> Result<Seen, FormatError> {
    let file = store.read_witness()?;
    match Witness::newest(&file, header.vault_id(), master) {
        Err(FormatError::UnknownMaster) if acceptance.new_master => {
            let newest = Witness::of_vault(&file, header.vault_id()).into_iter().max_by_key(|witness| witness.number);
            Ok(Seen { witness: None, under_other_master: newest })
        }
        Ok(None) if Witness::is_any(&file) && !acceptance.rollback => Err(FormatError::OtherVault),
        outcome => outcome.map(|witness| Seen { witness, under_other_master: None }),
    }
}

/// What was read so far.
pub(super) struct Reading<'a> {
    pub applier: Applier<'a>,
    pub place: Place,
}

/// How far that is.
#[derive(Clone)]
pub(in crate::vault) struct Place {
    pub(super) at: u64,
    pub(super) head: Option<Head>,
    checkpoint_bytes: u64,
    deltas: u64,
    last_commit: Option<CommitInfo>,
    header_digest: [u8; 32],
    history: History,
}

impl Reading<'_> {
    /// Applies a sound segment.
    pub fn take(&mut self, segments: &Segments<'_>, segment: &Segment) -> Result<(), FormatError> {
        let Self { applier, place } = self;
        segments.read(segment, &mut |record| {
            match record {
                Record::Commit(info) => place.take_commit(info),
                Record::Ancestors(heads) => place.history.extend(heads),
                Record::Header(digest) => place.header_digest = digest,
                Record::Shared(heads) => place.history.extend_shared(&heads),
                Record::Change(change) => applier.apply(&change).map_err(|error| refused(segment, error))?,
            }
            Ok(())
        })?;
        applier.end().map_err(|error| refused(segment, error))?;
        match segment.kind {
            SegmentKind::Checkpoint => place.checkpoint_bytes = segment.end - segment.offset,
            SegmentKind::Delta => place.deltas += 1,
        }
        if let Some(before) = place.head.replace(segment.head) {
            place.history.push(before);
        }
        place.at = segment.end;
        Ok(())
    }

    /// Whether what comes after the last sound segment can be what a crash of this machine cut off: nothing that was
    /// acknowledged is missing then.
    fn is_torn_here(&self, witness: Option<&Witness>, machine: &Machine) -> bool {
        let (Some(witness), Some(head)) = (witness, self.place.head) else { return false };
        let is_ours = self.place.last_commit.as_ref().is_some_and(|commit| commit.machine == machine.id);
        head == witness.head || (follows(head, &self.place.history, witness) && is_ours)
    }
}

impl Place {
    pub(super) fn begin(at: u64) -> Self {
        Self {
            at,
            head: None,
            checkpoint_bytes: 0,
            deltas: 0,
            last_commit: None,
            header_digest: [0; 32],
            history: History::default(),
        }
    }

    /// Bytes of the archive up to it.
    pub fn length(&self) -> u64 {
        self.at
    }

    fn take_commit(&mut self, info: CommitInfo) {
        for &merged in &info.merged {
            self.history.extend_shared(&[SharedHead { time_secs: info.time_nanos / NANOS, head: merged }]);
        }
        self.last_commit = Some(info);
    }

    pub(super) fn end(self, header: Header, master: MasterKey) -> Result<ArchiveRead, FormatError> {
        let (Some(head), Some(last_commit)) = (self.head, self.last_commit) else {
            return Err(FormatError::Header("nothing follows it"));
        };
        let Self { at: length, checkpoint_bytes, deltas, header_digest, history, .. } = self;
        Ok(ArchiveRead { header, header_digest, master, head, length, checkpoint_bytes, deltas, last_commit, history })
    }
}

impl ArchiveRead {
    /// Refuses it when the header in the file is not the one that it tells of.
    pub(super) fn under_its_header(self) -> Result<Self, FormatError> {
        match self.header_digest == self.header.digest() {
            true => Ok(self),
            false => Err(FormatError::Header("it is not the one that the last commit tells of")),
        }
    }

    /// Refuses it when it does not follow from what this machine has seen, unless that is accepted.
    fn after(self, seen: Seen, acceptance: Acceptance) -> Result<Opened, FormatError> {
        let known = seen.witness.as_ref().or(seen.under_other_master.as_ref());
        let rolled_back = known.is_some_and(|witness| !follows(self.head, &self.history, witness));
        match known {
            Some(witness) if rolled_back && !acceptance.rollback => {
                Err(FormatError::RolledBack { seen: witness.head.sequence.0, found: self.head.sequence.0 })
            }
            _ => Ok(Opened { read: self, kept: None, witness: seen.witness, rolled_back }),
        }
    }
}

impl Opened {
    /// Whether the witness tells of exactly this state: it was durable then, since a state is synced before it is confirmed.
    pub fn is_as_witnessed(&self) -> bool {
        let read = &self.read;
        self.witness.as_ref().is_some_and(|witness| {
            witness.phase == WitnessPhase::Confirmed
                && witness.header == read.header.digest()
                && (witness.head, witness.length) == (read.head, read.length)
        })
    }
}

/// Whether a head is what a witness tells of, or descends from it.
fn follows(head: Head, history: &History, witness: &Witness) -> bool {
    head == witness.head || history.holds(&witness.head)
}

/// What an authenticated segment cannot say.
pub(super) fn refused(segment: &Segment, error: TreeError) -> FormatError {
    match error {
        TreeError::NoSpace | TreeError::FileTooLarge | TreeError::Sealing => {
            let path = crate::entry::EntryPath::root();
            FormatError::Rejected(SinkError { path, reason: error.to_string() })
        }
        _ => FormatError::Damaged {
            offset: segment.offset,
            sequence: segment.head.sequence.0,
            reason: "it says what no tree can be",
        },
    }
}

/// Leaves a cut-off end behind and makes the rest durable; what was done is told.
pub(super) fn clean_up<S: Store>(store: &mut S, opened: &Opened) -> Result<(ReadReport, Trust), VaultError> {
    let (mut report, mut trust) = (ReadReport::default(), Trust::Sound);
    if opened.rolled_back {
        report.warnings.push(ReadWarning::RollbackAccepted);
    }
    let path = store.path().to_owned();
    let length = store.length().map_err(VaultError::io("read", &path))?;
    let is_torn = length > opened.read.length;
    if is_torn {
        let bytes = length - opened.read.length;
        let kept = match store.access() {
            Access::ReadWrite => match store.keep_aside(opened.read.length) {
                Ok(name) => {
                    store.truncate(opened.read.length).map_err(VaultError::io("cut", &path))?;
                    Some(name)
                }
                // A full disk is what cuts off writes, and no reason to keep anybody from the vault.
                Err(error) => {
                    tracing::warn!(%error, "the cut-off end of the archive stays where it is until the next commit");
                    trust = Trust::Torn;
                    None
                }
            },
            Access::ReadOnly => None,
        };
        report.warnings.push(ReadWarning::TornEnd { bytes, kept });
    }
    if store.access() == Access::ReadWrite {
        // What was found behind the witness may be in memory only, after a kill.
        if is_torn || !opened.is_as_witnessed() {
            store.sync().map_err(VaultError::io("sync", &path))?;
        }
        store.settle()?;
    }
    Ok((report, trust))
}
