//! Writing an archive whole: header and checkpoint, and what else the new file begins with.

use std::time::SystemTime;

use crate::crypto::MasterKey;
use crate::entry::Timestamp;
use crate::format::FormatError;
use crate::format::v2::{CommitInfo, Head, Header, MachineId, Output, Record, SegmentKind, SegmentWriter, SharedHead};
use crate::tree::{Snapshot, TreeError};

use super::history::History;

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
        write_changes(&mut segment, None, snapshot)?;
        segment.finish().map(|(length, _)| length)
    }

    /// Writes the difference between two states, when there is one or `always`; returns the length of the segment in bytes and
    /// the new head.
    pub fn delta(
        &self,
        output: &mut dyn Output,
        after: Head,
        told: &Told<'_>,
        (earlier, later): (&Snapshot, &Snapshot),
    ) -> Result<Option<(u64, Head)>, FormatError> {
        if told.news == News::Changes && !is_different(earlier, later) {
            return Ok(None);
        }
        let place = Head { sequence: after.sequence.next(), chain: after.chain };
        let mut segment = SegmentWriter::begin(output, SegmentKind::Delta, place, self.header.suite(), self.master)?;
        segment.record(&Record::Commit(told.info.clone()))?;
        if told.news == News::Header {
            segment.record(&Record::Header(self.header.digest()))?;
        }
        tell_shared(&mut segment, told.history.untold())?;
        write_changes(&mut segment, Some(earlier), later)?;
        segment.finish().map(Some)
    }
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

fn is_different(earlier: &Snapshot, later: &Snapshot) -> bool {
    /// Stops at the first piece.
    struct Found;
    impl From<TreeError> for Found {
        fn from(_: TreeError) -> Self {
            Self
        }
    }
    later.changes_since(Some(earlier), &mut |_| Err(Found)).is_err()
}

fn write_changes(
    segment: &mut SegmentWriter<'_>,
    earlier: Option<&Snapshot>,
    later: &Snapshot,
) -> Result<(), FormatError> {
    later
        .changes_since(earlier, &mut |change| segment.record(&Record::Change(change)).map_err(WriteError))
        .map_err(|WriteError(error)| error)
}

/// Carries an error of the format through the tree.
struct WriteError(FormatError);

impl From<TreeError> for WriteError {
    fn from(error: TreeError) -> Self {
        Self(FormatError::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string())))
    }
}
