//! Reading copies of an archive that a vault may be joined with: all of one or a state in it, perhaps from a state on that the vault
//! keeps, since copies of one archive mostly begin with the same bytes.

use std::fs::File;

use crate::format::FormatError;
use crate::format::v2::{Archive as Segments, Head, Source};
use crate::tree::{Snapshot, Tree};
use crate::vault::keys::Secret;

use super::open::{ArchiveRead, Place, Reading, read_header};

/// A state on the way to the last one, from which other copies of the archive may go on.
pub(in crate::vault) struct Kept {
    pub place: Place,
    pub tree: Tree,
}

/// How much of a copy is read.
#[derive(Clone, Copy)]
pub(in crate::vault) enum Wanted<'a> {
    /// All of it.
    All,
    /// All of it, for a vault that may be joined with it: and the newest state on the way that the vault knows.
    AllFor(&'a dyn Ours),
    /// The state at a commit, in which the file may have had another header.
    At(Head),
}

/// What the vault that a copy is read for tells of itself.
pub(in crate::vault) trait Ours {
    /// Whether a commit is its last one or an ancestor of it.
    fn knows(&self, head: &Head) -> bool;

    /// A state that it keeps, where the file begins with the bytes that led to it.
    fn kept(&self, theirs: &File) -> Option<Kept>;
}

/// A copy that was read, and a state on the way to it.
pub(in crate::vault) struct CopyRead {
    pub read: ArchiveRead,
    pub earlier: Option<(ArchiveRead, Snapshot)>,
}

/// Reads an archive that this machine has no witness of into a tree, from a place whose state that is, else an empty one: nothing of
/// it is taken for torn.
pub(in crate::vault) fn read_copy(
    source: &(dyn Source + '_),
    secret: Secret,
    wanted: Wanted<'_>,
    from: Option<Place>,
    tree: &mut Tree,
) -> Result<CopyRead, FormatError> {
    let header = read_header(source)?;
    let master = secret.unlock(&header)?;
    let segments = Segments::new(source, header.suite(), &master, header.vault_id())?;
    let place = from.unwrap_or_else(|| Place::begin(header.bytes().len() as u64));
    let mut reading = Reading { applier: tree.applier(), place };
    let mut earlier = reading.place_if_known(wanted);
    while reading.place.head.is_none_or(|head| reading.place.at < segments.length() && !wanted.is_at(head)) {
        let segment = segments.next(reading.place.at, reading.place.head)??;
        reading.take(&segments, &segment)?;
        earlier = reading.place_if_known(wanted).or(earlier);
    }
    let earlier = earlier.map(|(place, snapshot)| {
        let read = place.end(header.clone(), master.duplicate().map_err(FormatError::Crypto)?)?;
        Ok::<_, FormatError>((read, snapshot))
    });
    let earlier = earlier.transpose()?;
    let read = reading.place.end(header, master)?;
    match wanted {
        Wanted::At(until) if until != read.head => {
            let reason = "it does not hold that commit";
            Err(FormatError::Damaged { offset: read.length, sequence: until.sequence.0, reason })
        }
        Wanted::At(_) => Ok(CopyRead { read, earlier }),
        Wanted::All | Wanted::AllFor(_) => Ok(CopyRead { read: read.under_its_header()?, earlier }),
    }
}

impl Wanted<'_> {
    fn is_at(self, head: Head) -> bool {
        matches!(self, Self::At(until) if until == head)
    }

    fn is_known(self, head: &Head) -> bool {
        matches!(self, Self::AllFor(ours) if ours.knows(head))
    }

    /// Where to begin with a file, and in which state.
    pub fn kept(self, theirs: &File) -> Option<Kept> {
        if let Self::AllFor(ours) = self { ours.kept(theirs) } else { None }
    }
}

impl Reading<'_> {
    fn place_if_known(&self, wanted: Wanted<'_>) -> Option<(Place, Snapshot)> {
        self.place.head.filter(|head| wanted.is_known(head)).map(|_| (self.place.clone(), self.applier.snapshot()))
    }
}
