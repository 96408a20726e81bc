//! Archives that begin: of a new vault, or in the place of one of an older version.

use std::path::PathBuf;

use crate::crypto::{KdfCost, MasterKey, Passphrase, Suite, random};
use crate::entry::Timestamp;
use crate::format::FormatError;
use crate::format::v2::{Chain, Head, Header, Sequence, VaultId};
use crate::tree::Snapshot;
use crate::vault::VaultError;
use crate::vault::archive_file::ArchiveFile;
use crate::vault::copy::ArchiveCopy;

use super::history::History;
use super::joining::copy_bytes;
use super::store::{Draft, Store, Within};
use super::whole::{Difference, Machine, News, Past, Pen, Told, begin_whole};

/// What is added to the name of an archive of an older version that is kept.
pub const OLD_SUFFIX: &str = ".v1";

/// Makes an archive that does not exist yet.
pub(in crate::vault) fn create(
    mut file: ArchiveFile,
    passphrase: &Passphrase,
    suite: Suite,
    cost: KdfCost,
    machine: &Machine,
    snapshot: &Snapshot,
) -> Result<(), VaultError> {
    let path = file.path().to_owned();
    let begun = Begun::with_passphrase(passphrase, suite, cost).map_err(VaultError::writing(&path))?;
    let mut draft = file.begin_replacement()?;
    begun.write(&mut draft, machine, snapshot).map_err(VaultError::writing(&path))?;
    file.replace(draft)
}

/// Puts an archive of version 2 in the place of an older one, which is kept under another name; returns that.
pub(in crate::vault) fn replace_old<S: Store>(
    mut store: S,
    passphrase: &Passphrase,
    suite: Suite,
    cost: KdfCost,
    machine: &Machine,
    snapshot: &Snapshot,
) -> Result<PathBuf, VaultError> {
    let path = store.path().to_owned();
    let begun = Begun::with_passphrase(passphrase, suite, cost).map_err(VaultError::writing(&path))?;
    let mut draft = store.draft()?;
    begun.write(&mut draft, machine, snapshot).map_err(VaultError::writing(&path))?;
    put_beside_old(store, draft)
}

/// Puts a copy of an archive of version 2, brought to a state by one commit where it is in another, in the place of an older archive,
/// which is kept under another name. Returns that, and whether the copy is in that state as it is.
pub(in crate::vault) fn replace_old_by_copy<S: Store>(
    mut store: S,
    theirs: &ArchiveCopy,
    machine: &Machine,
    snapshot: &Snapshot,
) -> Result<(PathBuf, bool), VaultError> {
    let path = store.path().to_owned();
    let read = theirs.read().ok_or_else(|| {
        let source = FormatError::Unsupported("it is of version 1".to_owned());
        VaultError::Format { path: theirs.path().to_owned(), source }
    })?;
    let mut draft = store.draft()?;
    copy_bytes(theirs, &mut draft, read.length).map_err(VaultError::io("copy to", &path))?;
    let mut history = read.history.clone();
    history.share(read.head, Timestamp::now().secs);
    let told = Told { info: &machine.commit_now(), news: News::Changes, history: &history };
    let pen = Pen { header: &read.header, master: &read.master };
    let mut within = Within { draft: &mut draft, offset: read.length };
    let delta = pen
        .delta(&mut within, read.head, &told, Difference::Between(theirs.snapshot(), snapshot))
        .map_err(VaultError::writing(&path))?;
    put_beside_old(store, draft).map(|kept| (kept, delta.is_none()))
}

/// Puts a written file in the place of an archive that is kept.
fn put_beside_old<S: Store>(mut store: S, mut draft: S::Draft) -> Result<PathBuf, VaultError> {
    draft.sync().map_err(VaultError::io("sync the new file beside", store.path()))?;
    let kept = store.keep_as(OLD_SUFFIX)?;
    store.replace(draft)?;
    Ok(kept)
}

/// A vault that has what it is known by and opened with, and no archive yet: to derive its key takes half a second, and whoever gives up
/// meanwhile leaves no file.
pub(super) struct Begun {
    vault_id: VaultId,
    master: MasterKey,
    header: Header,
}

impl Begun {
    /// Draws a vault id and a master, and has a header made for them.
    pub fn with(header: impl FnOnce(VaultId, &MasterKey) -> Result<Header, FormatError>) -> Result<Self, FormatError> {
        let vault_id = VaultId(random().map_err(FormatError::Crypto)?);
        let master = MasterKey::generate().map_err(FormatError::Crypto)?;
        let header = header(vault_id, &master)?;
        Ok(Self { vault_id, master, header })
    }

    /// The same with a slot for a passphrase.
    pub fn with_passphrase(passphrase: &Passphrase, suite: Suite, cost: KdfCost) -> Result<Self, FormatError> {
        Self::with(|vault_id, master| {
            Header::with_passphrase(vault_id, suite, master, passphrase, cost).map_err(FormatError::Crypto)
        })
    }

    /// Writes its archive, which begins with a state.
    pub fn write<D: Draft>(&self, draft: &mut D, machine: &Machine, snapshot: &Snapshot) -> Result<(), FormatError> {
        let head = Head { sequence: Sequence(0), chain: Chain::genesis(&self.vault_id) };
        let past = Past { commit: &machine.commit_now(), head, history: &History::default() };
        begin_whole(draft, &Pen { header: &self.header, master: &self.master }, &past, snapshot).map(drop)
    }
}
