//! Verifying an archive without changing anything: that every byte is authentic, follows from what was before and says what a
//! tree can be, and that it is what this machine has seen.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::path::Path;

use crate::crypto::MasterKey;
use crate::format::FormatError;
use crate::format::v2::{
    Chain, CommitInfo, Head, Header, Record, Segment, SegmentKind, Sequence, SharedHead, Source, Witness,
};
use crate::tree::KeptContent;
use crate::vault::keys::Secret;
use crate::vault::{VaultError, VaultOptions, new_tree};

use super::history::History;
use super::log::Replay;
use super::open::{read_header, told_apart};

/// Bytes after which progress is told again.
const TELL_AFTER: u64 = 1 << 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Segments that are sound, from the first on.
    pub segments: u64,
    /// Of these, commits since the checkpoint.
    pub commits: u64,
    /// Bytes of the archive that were looked at.
    pub bytes: u64,
    /// Files in the last sound state.
    pub files: u64,
    /// Entries of any kind, the root left out.
    pub entries: u64,
    /// Number of the oldest commit.
    pub oldest: Option<u64>,
    /// Number and chain value of the last sound commit.
    pub head: Option<(u64, [u8; 32])>,
    /// What is to be thought of the archive.
    pub verdict: Verdict,
}

/// What is to be thought of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    #[default]
    Sound,
    /// A write was cut off; what was acknowledged is all there.
    Torn {
        /// Where.
        offset: u64,
        /// Bytes from there on.
        bytes: u64,
    },
    /// Something is damaged.
    Damaged {
        /// Where in the file.
        offset: u64,
        /// The commit that should be there; the first for a header.
        sequence: u64,
        /// What.
        reason: String,
    },
    /// This machine has seen a state that this one does not follow from.
    RolledBack {
        /// The number that it has seen.
        seen: u64,
        /// The last number in the archive.
        found: u64,
    },
    /// This machine has seen another archive under this name.
    OtherVault,
    /// This machine has seen the vault under another master.
    UnknownMaster,
}

/// A source that tells how far it was read.
struct Watched<'a> {
    source: &'a dyn Source,
    done: Cell<u64>,
    tell: RefCell<&'a mut dyn FnMut(u64, u64) -> io::Result<()>>,
}

impl Source for Watched<'_> {
    fn length(&self) -> io::Result<u64> {
        self.source.length()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.source.read_exact_at(buffer, offset)?;
        let (end, total) = (offset + buffer.len() as u64, self.length()?);
        if end >= self.done.get() + TELL_AFTER || (end == total && end > self.done.get()) {
            self.done.set(end);
            (self.tell.borrow_mut())(end, total)?;
        }
        Ok(())
    }
}

/// What the sound part says.
#[derive(Default)]
struct Seen {
    report: CheckReport,
    last_commit: Option<CommitInfo>,
    header_digest: [u8; 32],
    /// What the last sound segment descends from.
    history: History,
}

impl Seen {
    fn head(&self) -> Option<Head> {
        self.report.head.map(|(sequence, chain)| Head { sequence: Sequence(sequence), chain: Chain(chain) })
    }

    fn follows(&self, known: &Head) -> bool {
        self.head() == Some(*known) || self.history.holds(known)
    }

    /// Takes a sound segment that says this of its past.
    fn take(&mut self, segment: &Segment, past: Past) {
        if let Some(before) = self.head() {
            self.history.push(before);
        }
        self.history.extend(past.ancestors);
        self.history.extend_shared(&past.shared);
        self.last_commit = past.commit;
        self.header_digest = past.header.unwrap_or(self.header_digest);
        self.report.segments += 1;
        self.report.commits += u64::from(segment.kind == SegmentKind::Delta);
        self.report.oldest.get_or_insert(segment.head.sequence.0);
        self.report.head = Some((segment.head.sequence.0, segment.head.chain.0));
        self.report.bytes = segment.end;
    }
}

/// What a segment says besides the tree.
#[derive(Default)]
struct Past {
    commit: Option<CommitInfo>,
    header: Option<[u8; 32]>,
    ancestors: Vec<Head>,
    shared: Vec<SharedHead>,
}

impl Past {
    fn note(&mut self, record: &Record<'_>) {
        match record {
            Record::Commit(info) => {
                let time_secs = info.time_nanos.div_euclid(1_000_000_000);
                self.shared.extend(info.merged.iter().map(|&head| SharedHead { time_secs, head }));
                self.commit = Some(info.clone());
            }
            Record::Header(digest) => self.header = Some(*digest),
            Record::Ancestors(heads) => self.ancestors.clone_from(heads),
            Record::Shared(heads) => self.shared.extend(heads),
            Record::Change(_) => {}
        }
    }
}

/// Verifies an archive whose header opened with a master.
pub(super) fn check(
    source: &dyn Source,
    header: &Header,
    master: &MasterKey,
    options: &VaultOptions,
    witness: &[u8],
    progress: &mut dyn FnMut(u64, u64) -> io::Result<()>,
) -> Result<CheckReport, FormatError> {
    let source = Watched { source, done: Cell::new(0), tell: RefCell::new(progress) };
    let mut seen = Seen::default();
    let outcome = match read_header(&source) {
        Ok(found) if found == *header => read_all(&source, header, master, options, &mut seen),
        Ok(_) => Err(FormatError::Header("it was changed")),
        Err(error) => Err(error),
    };
    seen.report.verdict = match outcome {
        Ok(()) => judge(header, master, witness, &seen)?,
        Err(error) => damage(&source, header, master, (options, witness), &seen, error)?,
    };
    Ok(seen.report)
}

fn read_all(
    source: &Watched<'_>,
    header: &Header,
    master: &MasterKey,
    options: &VaultOptions,
    seen: &mut Seen,
) -> Result<(), FormatError> {
    let mut tree = new_tree(options).map_err(|error| FormatError::Io(io::Error::other(error)))?;
    let mut replay = Replay::new(source, header, master, &mut tree, KeptContent::none())?;
    let mut last = replay.applier.snapshot();
    let outcome = loop {
        let mut past = Past::default();
        match replay.next(&mut |record| past.note(record)) {
            Ok(Some(segment)) => seen.take(&segment, past),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
        last = replay.applier.snapshot();
    };
    (seen.report.entries, seen.report.files) = last.count();
    outcome
}

/// Compares an archive that is sound in itself with what this machine knows.
fn judge(header: &Header, master: &MasterKey, witness: &[u8], seen: &Seen) -> Result<Verdict, FormatError> {
    if seen.header_digest != header.digest() {
        let (sequence, _) = seen.report.head.unwrap_or_default();
        let reason = "it is not the one that the last commit tells of".to_owned();
        return Ok(Verdict::Damaged { offset: 0, sequence, reason });
    }
    let found = seen.report.head.map_or(0, |(sequence, _)| sequence);
    Ok(match known(header, master, witness)? {
        Known::Nothing => Verdict::Sound,
        Known::OtherVault => Verdict::OtherVault,
        Known::UnknownMaster => Verdict::UnknownMaster,
        Known::Head(head) if seen.follows(&head) => Verdict::Sound,
        Known::Head(head) => Verdict::RolledBack { seen: head.sequence.0, found },
    })
}

/// Tells a cut-off write from damage.
fn damage(
    source: &Watched<'_>,
    header: &Header,
    master: &MasterKey,
    (options, witness): (&VaultOptions, &[u8]),
    seen: &Seen,
    error: FormatError,
) -> Result<Verdict, FormatError> {
    let (offset, sequence, reason) = match &error {
        FormatError::Damaged { offset, sequence, reason } => (*offset, *sequence, (*reason).to_owned()),
        FormatError::Header(reason) => (0, 0, format!("the header is damaged: {reason}")),
        FormatError::Unsupported(_) | FormatError::Truncated { .. } | FormatError::Rejected(_) => {
            (seen.report.bytes, seen.report.head.map_or(0, |(sequence, _)| sequence + 1), error.to_string())
        }
        _ => return Err(error),
    };
    let damaged = Verdict::Damaged { offset, sequence, reason };
    let (Some(head), Known::Head(known)) = (seen.head(), known(header, master, witness)?) else {
        return Ok(damaged);
    };
    let is_ours = seen.last_commit.as_ref().is_some_and(|commit| commit.machine == options.machine.id);
    if offset != seen.report.bytes || !(head == known || (seen.follows(&known) && is_ours)) {
        return Ok(damaged);
    }
    let segments = crate::format::v2::Archive::new(source, header.suite(), master, header.vault_id())?;
    let is_tail = segments.check(offset, Some(head))?.is_err_and(|flaw| flaw.is_tail);
    Ok(if is_tail { Verdict::Torn { offset, bytes: source.length()? - offset } } else { damaged })
}

/// What this machine knows of the archive's name.
enum Known {
    Nothing,
    OtherVault,
    UnknownMaster,
    Head(Head),
}

fn known(header: &Header, master: &MasterKey, file: &[u8]) -> Result<Known, FormatError> {
    match Witness::newest(file, header.vault_id(), master) {
        Ok(Some(witness)) => Ok(Known::Head(witness.head)),
        Ok(None) if Witness::is_any(file) => Ok(Known::OtherVault),
        Ok(None) => Ok(Known::Nothing),
        Err(FormatError::UnknownMaster) => Ok(Known::UnknownMaster),
        Err(error) => Err(error),
    }
}

/// Verifies an archive from its file alone.
pub(in crate::vault) fn check_file(
    file: &File,
    path: &Path,
    secret: &Secret,
    options: &VaultOptions,
    progress: &mut dyn FnMut(u64, u64) -> io::Result<()>,
) -> Result<CheckReport, VaultError> {
    let reading = || VaultError::reading(path);
    let witness = read_witness(options).map_err(VaultError::io("read what this machine knows of", path))?;
    let header = read_header(file).map_err(reading())?;
    let master = match secret.unlock(&header) {
        Err(FormatError::Header(reason)) => {
            let verdict =
                Verdict::Damaged { offset: 0, sequence: 0, reason: format!("the header is damaged: {reason}") };
            return Ok(CheckReport { verdict, ..CheckReport::default() });
        }
        outcome => outcome.map_err(|error| reading()(told_apart(error, &witness, &header)))?,
    };
    check(file, &header, &master, options, &witness, progress).map_err(reading())
}

/// The witness of an archive that nobody has open.
pub(super) fn read_witness(options: &VaultOptions) -> io::Result<Vec<u8>> {
    match options.witness.as_ref().map(std::fs::read) {
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Some(Ok(bytes)) => Ok(bytes),
        _ => Ok(Vec::new()),
    }
}
