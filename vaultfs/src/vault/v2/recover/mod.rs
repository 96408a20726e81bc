//! Making a new vault of what is authentic in a damaged archive: the newest state that an unbroken run of segments gives, and
//! beside it what later or broken segments still hold whole. Rules: docs/FORMAT.md, "Recovery".

mod opening;
mod parts;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustc_hash::FxHashSet;

use crate::crypto::{MasterKey, Suite};
use crate::entry::{Change, InodeId};
use crate::format::FormatError;
use crate::format::v2::{Archive as Segments, Found, Header, RecipientSlot, Record, Source, VaultId, Witness};
use crate::tree::{KeptContent, Tree};
use crate::vault::archive_file::ArchiveFile;
use crate::vault::keys::Secret;
use crate::vault::{VaultError, VaultOptions, new_tree};

use super::check::read_witness;
use super::compaction::Cancellable;
use super::creation::Begun;
use super::log::Replay;
use super::store::Draft;

use opening::Opener;
use parts::Parts;

/// How often more inodes are looked for behind gaps.
const ROUNDS: usize = 4;

/// What was saved, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The commit whose state is in place; `None`: not even the checkpoint is whole.
    pub commit: Option<u64>,
    /// Entries of that state, the root included, and files among them.
    pub entries: u64,
    /// Files among them.
    pub files: u64,
    /// The highest number of a commit that was seen.
    pub newest: Option<u64>,
    /// The header was damaged too.
    pub is_header_damaged: bool,
    /// Where something is damaged: offset, and what.
    pub damage: Vec<(u64, String)>,
    /// Folder that holds what was salvaged; `None`: nothing.
    pub folder: Option<Vec<u8>>,
    /// Files that are there, with the commit that they were last known from.
    pub salvaged: Vec<(Vec<u8>, u64)>,
    /// Files that changed in commits that cannot be applied and are known in part only; those without a name, by their number.
    pub lost: Vec<Vec<u8>>,
    /// The recipient whose identity opened the archive and opens the new one; `None`: a passphrase did, and does.
    pub recipient: Option<String>,
    /// Who could open the archive besides, and cannot open the new one, as far as an authentic header tells.
    pub left_out: Vec<String>,
    /// The archive had a passphrase, and the new one has none.
    pub is_passphrase_left_out: bool,
    /// An identity opened it, and this machine has not seen this vault under its key: anybody who knows the recipient can have made it.
    pub is_maker_unproven: bool,
}

/// A source of which what cannot be read is zeros, which authenticate nowhere.
struct Forgiving<'a> {
    source: &'a dyn Source,
    cancelled: Arc<AtomicBool>,
}

impl Source for Forgiving<'_> {
    fn length(&self) -> io::Result<u64> {
        self.source.length()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.source.read_exact_at(buffer, offset).is_err() {
            buffer.fill(0);
        }
        Ok(())
    }
}

/// What a damaged archive is read with.
struct Damaged<'a> {
    source: &'a Forgiving<'a>,
    suite: Suite,
    vault_id: VaultId,
    master: MasterKey,
    opener: Opener,
    header: Option<Header>,
}

/// Writes a new vault of what is authentic in an archive; `out` must not exist. It opens for whoever opened this one. When
/// `cancelled` is set, that is given up and nothing is left.
pub(in crate::vault) fn recover(
    source: &dyn Source,
    path: &Path,
    secret: &Secret,
    out: &Path,
    options: &VaultOptions,
    cancelled: &Arc<AtomicBool>,
) -> Result<Recovered, VaultError> {
    let reading = || VaultError::reading(path);
    let source = Forgiving { source, cancelled: cancelled.clone() };
    let damaged = opening::open(&source, secret).map_err(reading())?;
    let mut options = options.clone();
    // What was committed fits, whatever the limit is now.
    options.size_limit = u64::MAX / 4;
    let (tree, mut recovered) = damaged.rebuild(&options)?;
    damaged.tell_of_keys(&options, &mut recovered);
    write(out, secret, &damaged, &options, &tree, cancelled)?;
    Ok(recovered)
}

impl Damaged<'_> {
    fn segments(&self) -> Result<Segments<'_>, FormatError> {
        Ok(Segments::new(self.source, self.suite, &self.master, &self.vault_id)?)
    }

    fn rebuild(&self, options: &VaultOptions) -> Result<(Tree, Recovered), VaultError> {
        let read = |error: FormatError| VaultError::reading(Path::new("the damaged archive"))(error);
        let found = self.find_all().map_err(read)?;
        let mut recovered = Recovered { is_header_damaged: self.header.is_none(), ..Recovered::default() };
        recovered.newest = found.iter().map(|found| found.segment.head.sequence.0).max();
        let start = match &self.header {
            Some(header) => header.bytes().len() as u64,
            None => found.first().map_or(0, |found| found.segment.offset),
        };
        let (mut tree, end) = self.sound_state(start, options, &mut recovered)?;
        if recovered.is_header_damaged {
            recovered.damage.insert(0, (0, "the header".to_owned()));
        }
        (recovered.entries, recovered.files) = tree.snapshot().count();
        let later: Vec<&Found> = found.iter().filter(|found| found.segment.offset >= end).collect();
        tell_gaps(&later, end, self.source.length().map_err(VaultError::io("read", Path::new("")))?, &mut recovered);
        if !later.is_empty() {
            let known = self.known_ids(&later).map_err(read)?;
            let mut parts = Parts::new(&mut tree, options)?;
            let segments = self.segments().map_err(read)?;
            for found in later {
                parts.begin(found);
                segments
                    .salvage(&found.segment, &|id| known.contains(id), &mut |record| parts.take(record))
                    .map_err(read)?;
                parts.end(found);
            }
            parts.finish(&mut recovered)?;
        }
        Ok((tree, recovered))
    }

    /// Notes who opens the new archive, and who does not.
    fn tell_of_keys(&self, options: &VaultOptions, recovered: &mut Recovered) {
        let Opener::Recipient(own) = &self.opener else {
            recovered.left_out = self.recipients().iter().map(RecipientSlot::to_string).collect();
            return;
        };
        recovered.recipient = Some(own.to_string());
        let others = self.recipients().iter().filter(|slot| slot.recipient != own.recipient);
        recovered.left_out = others.map(RecipientSlot::to_string).collect();
        recovered.is_passphrase_left_out = self.header.as_ref().is_some_and(|header| header.kdf_cost().is_some());
        let witness = read_witness(options).unwrap_or_default();
        let is_known = matches!(Witness::newest(&witness, &self.vault_id, &self.master), Ok(Some(_)));
        recovered.is_maker_unproven = !is_known;
    }

    fn recipients(&self) -> &[RecipientSlot] {
        self.header.as_ref().map_or(&[], Header::recipients)
    }

    /// All segments, in the order of the file.
    fn find_all(&self) -> Result<Vec<Found>, FormatError> {
        let segments = self.segments()?;
        let (mut all, mut at) = (Vec::new(), 0);
        while let Some(found) = segments.find(at)? {
            // Within one that is damaged the next may begin: its length may be what is wrong.
            at = if found.is_whole { found.segment.end } else { found.segment.offset + 1 };
            all.push(found);
        }
        Ok(all)
    }

    /// The state that the unbroken run of segments from the checkpoint gives, and where the run ends.
    fn sound_state(
        &self,
        start: u64,
        options: &VaultOptions,
        recovered: &mut Recovered,
    ) -> Result<(Tree, u64), VaultError> {
        let mut names = new_tree(options)?;
        let read = |error: FormatError| VaultError::reading(Path::new("the damaged archive"))(error);
        let (mut count, mut reason) = (0, None);
        {
            let mut replay = self.replay(start, &mut names, KeptContent::none()).map_err(read)?;
            loop {
                match replay.next(&mut |_| {}) {
                    Ok(Some(_)) => count += 1,
                    Ok(None) => break,
                    Err(error @ (FormatError::Io(_) | FormatError::Crypto(_))) => return Err(read(error)),
                    Err(error) => {
                        reason = Some((replay.at, error));
                        break;
                    }
                }
            }
        }
        // Anew: part of the first broken segment may have been applied.
        let mut tree = new_tree(options)?;
        let mut replay = self.replay(start, &mut tree, KeptContent::All).map_err(read)?;
        for _ in 0..count {
            replay.next(&mut |_| {}).map_err(read)?;
        }
        recovered.commit = replay.head.map(|head| head.sequence.0);
        let end = replay.at;
        if let Some((offset, error)) = reason {
            let reason = match error {
                FormatError::Damaged { reason, .. } => reason.to_owned(),
                other => other.to_string(),
            };
            recovered.damage.push((offset, reason));
        }
        Ok((tree, end))
    }

    fn replay<'a>(&'a self, start: u64, tree: &'a mut Tree, kept: KeptContent) -> Result<Replay<'a>, FormatError> {
        Ok(Replay { segments: self.segments()?, applier: tree.applier().keeping(kept), at: start, head: None })
    }

    /// The inodes that records tell of which are certain: those before any gap, and those that follow from them.
    fn known_ids(&self, found: &[&Found]) -> Result<FxHashSet<InodeId>, FormatError> {
        let segments = self.segments()?;
        let mut known = FxHashSet::default();
        for _ in 0..ROUNDS {
            let mut told = Vec::new();
            for found in found {
                segments.salvage(&found.segment, &|id| known.contains(id), &mut |record| {
                    if let Some(Record::Change(Change::Inode { id, .. } | Change::Link { id, .. })) = record {
                        told.push(id);
                    }
                })?;
            }
            let before = known.len();
            known.extend(told);
            if known.len() == before {
                break;
            }
        }
        Ok(known)
    }
}

/// Names the places between segments, and those within them, that are not authentic.
fn tell_gaps(later: &[&Found], end: u64, length: u64, recovered: &mut Recovered) {
    let mut at = end;
    for found in later {
        let Found { segment, is_whole, .. } = found;
        let number = segment.head.sequence.0;
        if segment.offset > at && !recovered.damage.iter().any(|(offset, _)| *offset == at) {
            recovered.damage.push((at, "nothing here is authentic".to_owned()));
        }
        if !is_whole && !recovered.damage.iter().any(|(offset, _)| *offset == segment.offset) {
            recovered.damage.push((segment.offset, format!("commit {number} is authentic in part only")));
        }
        at = at.max(segment.end);
    }
    if at < length && !recovered.damage.iter().any(|(offset, _)| *offset >= at) {
        recovered.damage.push((at, "nothing here is authentic".to_owned()));
    }
}

fn write(
    out: &Path,
    secret: &Secret,
    damaged: &Damaged<'_>,
    options: &VaultOptions,
    tree: &Tree,
    cancelled: &Arc<AtomicBool>,
) -> Result<(), VaultError> {
    let mut file = ArchiveFile::reserve(out)?;
    let path = file.path().to_owned();
    let mut make = || {
        let header =
            |vault_id, master: &MasterKey| damaged.opener.header(secret, vault_id, Suite::of_this_machine(), master);
        let begun = Begun::with(header).map_err(VaultError::writing(&path))?;
        let draft = file.begin_replacement()?;
        let mut draft = Cancellable { draft, cancelled: cancelled.clone() };
        begun.write(&mut draft, &options.machine, &tree.snapshot()).map_err(VaultError::writing(&path))?;
        draft.sync().map_err(VaultError::io("sync", &path))?;
        file.replace(draft.draft)
    };
    let outcome = make();
    if outcome.is_err() && !path.exists() {
        let mut lock: PathBuf = path.clone();
        lock.as_mut_os_string().push(".lock");
        // It is of no use, and only untidy where it stays.
        let _ = std::fs::remove_file(lock);
    }
    outcome
}
