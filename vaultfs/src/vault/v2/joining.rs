//! Joining an archive with a copy of it that went on elsewhere: the file becomes the copy's bytes, with one segment behind them
//! that makes of its state what both come to. So who has the copy only goes on, and what is here is never behind it.

use std::sync::Arc;

use crate::crypto::{Hasher, MasterKey};
use crate::entry::Timestamp;
use crate::format::FormatError;
use crate::format::v2::{CommitInfo, Head, Header, Output, Source, WitnessPhase};
use crate::tree::{Matching, MergeLabel, MergeWith, Merged, Snapshot, Tree};
use crate::vault::VaultError;
use crate::vault::archive::ArchiveFormat;
use crate::vault::copy::{ArchiveCopy, Relation};
use crate::vault::lock::Access;

use super::history::History;
use super::open::ArchiveRead;
use super::store::{Draft, Presence, Store, Within};
use super::whole::{Difference, News, Past, Pen, Told, begin_whole};
use super::{Trust, V2Archive};

/// Bytes that are copied at a time.
const PIECE: usize = 256 * 1024;

/// Whose ways to open the archive count: a change of them is an edit, and must not be lost either.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// Only this side changed them.
    Ours,
    /// Anything else.
    Theirs,
}

/// The copy's state in a new file.
struct Ground {
    header: Header,
    master: MasterKey,
    length: u64,
    checkpoint_bytes: u64,
    deltas: u64,
}

impl<S: Store> V2Archive<S> {
    /// Where this archive and another copy of it stand to each other.
    pub(super) fn relation_to(&self, theirs: &ArchiveCopy) -> Result<Relation, VaultError> {
        let read = self.same_vault(theirs)?;
        if read.head == self.head {
            return Ok(Relation::Same);
        }
        Ok(match (self.history.holds(&read.head), read.history.holds(&self.head)) {
            (true, _) => Relation::OursAhead,
            (false, true) => Relation::TheirsAhead,
            (false, false) => Relation::Diverged { common: self.history.common(&read.history) },
        })
    }

    /// Whether both were made of one archive of version 1, which both began with, by two upgrades. That the base is what this vault was
    /// made of is known by whoever calls.
    fn is_upgraded_apart(&self, theirs: &ArchiveCopy, base: &ArchiveCopy) -> bool {
        let is_other = theirs.read().is_some_and(|read| read.header.vault_id() != self.header.vault_id());
        is_other && base.format() == ArchiveFormat::V1
    }

    fn same_vault<'c>(&self, theirs: &'c ArchiveCopy) -> Result<&'c ArchiveRead, VaultError> {
        let read = read_of(theirs)?;
        match read.header.vault_id() == self.header.vault_id() {
            true => Ok(read),
            false => Err(VaultError::Format { path: theirs.path().to_owned(), source: FormatError::OtherVault }),
        }
    }

    /// Makes tree and archive what both copies come to. After an error the tree may be that already; it is then committed behind
    /// what the archive held.
    pub(super) fn join_with(
        &mut self,
        tree: &Tree,
        theirs: &ArchiveCopy,
        base: Option<&ArchiveCopy>,
    ) -> Result<(Merged, Arc<Snapshot>), VaultError> {
        self.check_replaceable()?;
        let own = self.last.clone();
        let (matching, relation) = match base.is_some_and(|base| self.is_upgraded_apart(theirs, base)) {
            true => (Matching::Paths, Relation::Diverged { common: None }),
            false => (Matching::Ids, self.relation_to(theirs)?),
        };
        // Another vault's history cannot tell of a head of this one.
        let heads = if matching == Matching::Ids { vec![self.head] } else { Vec::new() };
        let (base, merged_heads, keys) = match (relation, base) {
            (Relation::Same | Relation::OursAhead, _) => return Ok((Merged::default(), own)),
            (Relation::TheirsAhead, _) => (&own, Vec::new(), Keys::Theirs),
            (Relation::Diverged { .. }, Some(base)) => (base.snapshot(), heads, self.keys(theirs, base)),
            (Relation::Diverged { .. }, None) => return Err(VaultError::NoCommonState(theirs.path().to_owned())),
        };
        let label = self.label();
        let with = MergeWith { matching, base, remote: theirs.snapshot(), label: &label };
        let merged =
            tree.merge(&with).map_err(|error| super::super::tree_error(&crate::entry::EntryPath::root(), error))?;
        let snapshot = Arc::new(tree.snapshot());
        self.replace_with(theirs, keys, merged_heads, &snapshot)?;
        Ok((merged, snapshot))
    }

    fn keys(&self, theirs: &ArchiveCopy, base: &ArchiveCopy) -> Keys {
        let (Some(theirs), Some(base)) = (theirs.read(), base.read()) else { return Keys::Theirs };
        match base.header_digest == theirs.header_digest && base.header_digest != self.header.digest() {
            true => Keys::Ours,
            false => Keys::Theirs,
        }
    }

    fn check_replaceable(&mut self) -> Result<(), VaultError> {
        if self.store.access() == Access::ReadOnly {
            return Err(VaultError::ReadOnly(self.store.path().to_owned()));
        }
        if self.store.presence()? == Presence::Theirs {
            return Err(VaultError::ChangedElsewhere(self.store.path().to_owned()));
        }
        if self.trust == Trust::Torn {
            self.keep_torn_end()?;
        }
        Ok(())
    }

    /// Names this side by its last commit, so that every machine that merges it makes the same of it.
    fn label(&self) -> MergeLabel {
        let nanos = self.last_commit.time_nanos;
        let (secs, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000) as u32);
        let seed = Hasher::hash(&[b"tazpod/merge/side", &self.head.chain.0]);
        MergeLabel { time: Timestamp { secs, nanos }, host: self.last_commit.host.clone(), seed }
    }

    fn replace_with(
        &mut self,
        theirs: &ArchiveCopy,
        keys: Keys,
        merged_heads: Vec<Head>,
        snapshot: &Arc<Snapshot>,
    ) -> Result<(), VaultError> {
        let read = read_of(theirs)?;
        let path = self.store.path().to_owned();
        let news = if merged_heads.is_empty() { News::Changes } else { News::Event };
        let mut history = read.history.clone();
        self.share_into(&mut history, read.head, &merged_heads);
        let info = CommitInfo { merged: merged_heads, ..self.machine.commit_now() };
        let mut draft = self.store.draft()?;
        let ground = self.lay_ground(&mut draft, theirs, keys)?;
        let pen = Pen { header: &ground.header, master: &ground.master };
        let told = Told { info: &info, news, history: &history };
        let mut within = Within { draft: &mut draft, offset: ground.length };
        let delta = pen
            .delta(&mut within, read.head, &told, Difference::Between(theirs.snapshot(), snapshot))
            .map_err(VaultError::writing(&path))?;
        draft.sync().map_err(VaultError::io("sync the new file beside", &path))?;
        let (bytes, head) = delta.unwrap_or((0, read.head));
        self.announce(&ground, head, ground.length + bytes);
        if let Err(error) = self.store.replace(draft) {
            // It may be there already, only not durably.
            self.trust = Trust::Rewrite;
            return Err(error);
        }
        let Ground { header, master, length, checkpoint_bytes, deltas } = ground;
        (self.header, self.master, self.head) = (header, master, read.head);
        (self.length, self.checkpoint_bytes, self.deltas) = (length + bytes, checkpoint_bytes, deltas);
        (self.history, self.last_commit, self.last) = (history, read.last_commit.clone(), snapshot.clone());
        if delta.is_some() {
            self.advance(head, info, snapshot);
            self.deltas += 1;
        }
        (self.trust, self.must_commit, self.kept) = (Trust::Sound, false, None);
        self.epoch += 1;
        self.tell_witness();
        self.sync_witness();
        Ok(())
    }

    /// Writes the copy's state into a new file: its bytes, or a checkpoint of it under this side's header and master.
    fn lay_ground(&self, draft: &mut S::Draft, theirs: &ArchiveCopy, keys: Keys) -> Result<Ground, VaultError> {
        let (read, path) = (read_of(theirs)?, self.store.path());
        if keys == Keys::Ours {
            let past = Past { commit: &read.last_commit, head: read.head, history: &read.history };
            let written =
                begin_whole(draft, &self.pen(), &past, theirs.snapshot()).map_err(VaultError::writing(path))?;
            let (header, master, length) = (self.header.clone(), self.master.duplicate()?, written.0 + written.1);
            return Ok(Ground { header, master, length, checkpoint_bytes: written.1, deltas: 0 });
        }
        copy_bytes(theirs, draft, read.length).map_err(VaultError::io("copy to", path))?;
        let (header, master) = (read.header.clone(), read.master.duplicate()?);
        let ArchiveRead { length, checkpoint_bytes, deltas, .. } = *read;
        Ok(Ground { header, master, length, checkpoint_bytes, deltas })
    }

    /// What the new head descends from that the copy does not know.
    fn share_into(&self, history: &mut History, theirs: Head, merged_heads: &[Head]) {
        let now = Timestamp::now().secs;
        history.share(theirs, now);
        if !merged_heads.is_empty() {
            history.share_all(&self.history);
            merged_heads.iter().for_each(|&head| history.share(head, now));
        }
    }

    /// Has the witness ready for either file: what is there now is on the disk before another one comes, and another master's is
    /// written as pending.
    fn announce(&mut self, ground: &Ground, head: Head, length: u64) {
        self.tell_witness();
        self.sync_witness();
        if ground.header.digest() != self.header.digest() {
            let witness = self.witness(&ground.header, &ground.master, head, length, WitnessPhase::Pending);
            self.write_witness(&witness, &ground.master);
            self.sync_witness();
        }
    }
}

fn read_of(theirs: &ArchiveCopy) -> Result<&ArchiveRead, VaultError> {
    theirs.read().ok_or_else(|| {
        let source = FormatError::Unsupported("it is of version 1, and this vault is of version 2".to_owned());
        VaultError::Format { path: theirs.path().to_owned(), source }
    })
}

/// Writes the first bytes of a copy into a new file.
pub(super) fn copy_bytes<D: Draft>(theirs: &ArchiveCopy, draft: &mut D, length: u64) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < length {
        let len = piece.len().min((length - at) as usize);
        theirs.source().read_exact_at(&mut piece[..len], at)?;
        Output::write_all_at(draft, &piece[..len], at)?;
        at += len as u64;
    }
    Ok(())
}
