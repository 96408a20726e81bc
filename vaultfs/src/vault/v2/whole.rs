//! Writing an archive whole: header and checkpoint, and what else the new file begins with.

use std::time::SystemTime;

use crate::crypto::MasterKey;
use crate::entry::{Change, Timestamp};
use crate::format::FormatError;
use crate::format::v2::{CommitInfo, Head, Header, MachineId, Output, Record, SegmentKind, SegmentWriter, SharedHead};
use crate::tree::{Snapshot, TreeError};

use super::history::History;
use super::store::{Draft, Within};

/// Who commits.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Names it.
    pub id: MachineId,
    /// Its name, for people.
    pub host: String,
}

impl Machine {
    pub(super) fn commit_now(&self) -> CommitInfo {
        let Timestamp { secs, nanos } = SystemTime::now().into();
        CommitInfo {
            time_nanos: secs.saturating_mul(1_000_000_000).saturating_add(nanos.into()),
            machine: self.id,
            host: self.host.clone(),
            version: crate::VERSION.to_owned(),
            merged: Vec::new(),
        }
    }
}

/// All that a segment is written with.
pub(super) struct Pen<'a> {
    pub header: &'a Header,
    pub master: &'a MasterKey,
}

/// What is told of the history in a checkpoint.
pub(super) struct Past<'a> {
    /// The commit that the checkpoint stands for.
    pub commit: &'a CommitInfo,
    pub head: Head,
    /// What it descends from.
    pub history: &'a History,
}

impl Pen<'_> {
    /// Writes the whole tree; returns the length of the segment in bytes.
    pub fn checkpoint(
        &self,
        output: &mut dyn Output,
        past: &Past<'_>,
        snapshot: &Snapshot,
    ) -> Result<u64, FormatError> {
        let mut segment =
            SegmentWriter::begin(output, SegmentKind::Checkpoint, past.head, self.header.suite(), self.master)?;
        segment.record(&Record::Commit(past.commit.clone()))?;
        segment.record(&Record::Ancestors(past.history.line().to_vec()))?;
        segment.record(&Record::Header(self.header.digest()))?;
        tell_shared(&mut segment, past.history.shared(Timestamp::now().secs))?;
        Difference::All(snapshot).write(&mut segment)?;
        segment.finish().map(|(length, _)| length)
    }

    /// Writes the difference between two states, when there is one or `always`; returns the length of the segment in bytes and
    /// the new head.
    pub fn delta(
        &self,
        output: &mut dyn Output,
        after: Head,
        told: &Told<'_>,
        difference: Difference<'_>,
    ) -> Result<Option<(u64, Head)>, FormatError> {
        if told.news == News::Changes && !difference.is_any() {
            return Ok(None);
        }
        let place = Head { sequence: after.sequence.next(), chain: after.chain };
        let mut segment = SegmentWriter::begin(output, SegmentKind::Delta, place, self.header.suite(), self.master)?;
        segment.record(&Record::Commit(told.info.clone()))?;
        if told.news == News::Header {
            segment.record(&Record::Header(self.header.digest()))?;
        }
        tell_shared(&mut segment, told.history.untold())?;
        difference.write(&mut segment)?;
        segment.finish().map(Some)
    }
}

/// Writes header and checkpoint; returns the length of both in bytes.
pub(super) fn begin_whole<D: Draft>(
    draft: &mut D,
    pen: &Pen<'_>,
    past: &Past<'_>,
    snapshot: &Snapshot,
) -> Result<(u64, u64), FormatError> {
    draft.write_all_at(pen.header.bytes(), 0)?;
    let offset = pen.header.bytes().len() as u64;
    let checkpoint = pen.checkpoint(&mut Within { draft, offset }, past, snapshot)?;
    Ok((offset, checkpoint))
}

/// What a delta tells besides the changes.
pub(super) struct Told<'a> {
    pub info: &'a CommitInfo,
    pub news: News,
    /// With the shared heads that no segment tells of yet.
    pub history: &'a History,
}

/// What a commit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// What changed, if anything.
    Changes,
    /// A commit of its own, also where nothing changed.
    Event,
    /// Another header.
    Header,
}

fn tell_shared(segment: &mut SegmentWriter<'_>, heads: Vec<SharedHead>) -> Result<(), FormatError> {
    if heads.is_empty() { Ok(()) } else { segment.record(&Record::Shared(heads)) }
}

/// What a segment tells of the tree.
#[derive(Clone, Copy)]
pub(in crate::vault) enum Difference<'a> {
    /// All there is.
    All(&'a Snapshot),
    /// What changed between two states of one tree.
    Since(&'a Snapshot, &'a Snapshot),
    /// What leads from a state of one tree to that of another.
    Between(&'a Snapshot, &'a Snapshot),
}

impl Difference<'_> {
    /// Whether there is any.
    pub fn is_any(self) -> bool {
        /// Stops at the first piece.
        struct Found;
        impl From<TreeError> for Found {
            fn from(_: TreeError) -> Self {
                Self
            }
        }
        self.each(&mut |_| Err(Found)).is_err()
    }

    fn write(self, segment: &mut SegmentWriter<'_>) -> Result<(), FormatError> {
        self.each(&mut |change| segment.record(&Record::Change(change)).map_err(WriteError))
            .map_err(|WriteError(error)| error)
    }

    fn each<E: From<TreeError>>(self, take: &mut dyn FnMut(Change<'_>) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::All(state) => state.changes_since(None, take),
            Self::Since(earlier, later) => later.changes_since(Some(earlier), take),
            Self::Between(earlier, later) => later.changes_from(earlier, take),
        }
    }
}

/// Carries an error of the format through the tree.
struct WriteError(FormatError);

impl From<TreeError> for WriteError {
    fn from(error: TreeError) -> Self {
        Self(FormatError::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string())))
    }
}
