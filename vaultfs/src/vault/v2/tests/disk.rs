//! A disk that can lose its power: it logs what is written, synced and renamed, and tells every state that it may be found in.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::store::{Draft, Presence, Store};
use crate::format::v2::{Output, Source};
use crate::vault::VaultError;
use crate::vault::lock::Access;

pub const ARCHIVE: &str = "archive";
pub const WITNESS: &str = "witness";

/// One thing that happened.
#[derive(Clone, Debug)]
enum Operation {
    Write {
        file: usize,
        offset: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        file: usize,
        length: usize,
    },
    Sync {
        file: usize,
    },
    Create {
        file: usize,
        name: String,
    },
    Rename {
        from: String,
        to: String,
    },
    /// A file gets a second name.
    Link {
        from: String,
        to: String,
    },
    SyncFolder,
    /// A commit was acknowledged that brought this state.
    Acknowledged(usize),
}

/// Files by name.
pub type Files = BTreeMap<String, Vec<u8>>;

#[derive(Default)]
struct State {
    log: Vec<Operation>,
    names: BTreeMap<String, usize>,
    files: Vec<Vec<u8>>,
    /// Calls that fail: how many more succeed first.
    failing: Option<Failure>,
}

/// Which calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Every write, after half of its bytes.
    Writes,
    /// Every write and every truncation.
    WritesAndCuts,
    /// Every sync.
    Syncs,
}

/// A disk; clones are the same one.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// A disk that holds some files, all of it durable.
    pub fn with(files: &Files) -> Self {
        let disk = Self::default();
        for (name, bytes) in files {
            let file = disk.create(name);
            disk.write(file, 0, bytes).unwrap();
        }
        disk.0.lock().log.clear();
        disk
    }

    pub fn fail(&self, failure: Option<Failure>) {
        self.0.lock().failing = failure;
    }

    pub fn acknowledge(&self, state: usize) {
        self.0.lock().log.push(Operation::Acknowledged(state));
    }

    /// What is there now, without a loss of power.
    pub fn files(&self) -> Files {
        let state = self.0.lock();
        state.names.iter().map(|(name, &file)| (name.clone(), state.files[file].clone())).collect()
    }

    /// Puts a file there without a word in the log, as somebody else does.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.0.lock();
        state.files.push(bytes.to_vec());
        let file = state.files.len() - 1;
        state.names.insert(name.to_owned(), file);
    }

    /// Changes the bytes of a file where it lies, as a failing disk does.
    pub fn overwrite(&self, name: &str, bytes: &[u8]) {
        let mut state = self.0.lock();
        let file = state.names[name];
        state.files[file] = bytes.to_vec();
    }

    /// Every state that the disk may be found in when the power goes at any moment, with the newest acknowledged state then.
    pub fn each_crash(&self, start: &Files, visit: &mut dyn FnMut(&Files, Option<usize>)) {
        let log = self.0.lock().log.clone();
        let mut acknowledged = None;
        for cut in 0..=log.len() {
            if let Some(Operation::Acknowledged(state)) = cut.checked_sub(1).and_then(|last| log.get(last)) {
                acknowledged = Some(*state);
            }
            each_loss(start, &log[..cut], &mut |files| visit(files, acknowledged));
        }
    }

    fn create(&self, name: &str) -> usize {
        let mut state = self.0.lock();
        state.files.push(Vec::new());
        let file = state.files.len() - 1;
        state.names.insert(name.to_owned(), file);
        state.log.push(Operation::Create { file, name: name.to_owned() });
        file
    }

    fn write(&self, file: usize, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        let fails = matches!(state.failing, Some(Failure::Writes | Failure::WritesAndCuts));
        let bytes = if fails { &bytes[..bytes.len() / 2] } else { bytes };
        overwrite(&mut state.files[file], offset, bytes);
        state.log.push(Operation::Write { file, offset, bytes: bytes.to_vec() });
        if fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn truncate(&self, file: usize, length: usize) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.failing == Some(Failure::WritesAndCuts) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        state.files[file].resize(length, 0);
        state.log.push(Operation::Truncate { file, length });
        Ok(())
    }

    fn sync(&self, file: usize) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.failing == Some(Failure::Syncs) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        state.log.push(Operation::Sync { file });
        Ok(())
    }
}

fn overwrite(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if file.len() < offset + bytes.len() {
        file.resize(offset + bytes.len(), 0);
    }
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// What of a write reached the disk.
#[derive(Clone, Copy)]
enum Reach {
    Whole,
    Nothing,
    /// The first bytes.
    First(usize),
    /// The file grew, and the bytes are zeros.
    Zeros,
}

/// Every state that a crash at the end of a log may leave: of what was not synced, any write may be missing, whole or in part,
/// and renames happen in their order but perhaps not yet.
fn each_loss(start: &Files, log: &[Operation], visit: &mut dyn FnMut(&Files)) {
    let pending: Vec<usize> = (0..log.len()).filter(|&at| is_pending(log, at)).collect();
    let folder_from =
        log.iter().rposition(|operation| matches!(operation, Operation::SyncFolder)).map_or(0, |at| at + 1);
    let moves: Vec<usize> = (folder_from..log.len())
        .filter(|&at| matches!(log[at], Operation::Rename { .. } | Operation::Create { .. } | Operation::Link { .. }))
        .collect();
    // In their order; and that a name was added may be lost although what came later was not.
    let in_order = (0..=moves.len()).map(|lost| moves[moves.len() - lost..].to_vec());
    let links = moves.iter().filter(|&&at| matches!(log[at], Operation::Link { .. })).map(|&at| vec![at]);
    for undone in in_order.chain(links) {
        let undone = undone.as_slice();
        let mut see = |reach: &dyn Fn(usize) -> Reach| visit(&replay(start, log, undone, reach));
        see(&|_| Reach::Whole);
        if pending.is_empty() {
            continue;
        }
        see(&|at| if pending.contains(&at) { Reach::Nothing } else { Reach::Whole });
        for &one in &pending {
            see(&|at| if at == one { Reach::Nothing } else { Reach::Whole });
            see(&|at| if at != one && pending.contains(&at) { Reach::Nothing } else { Reach::Whole });
            let Operation::Write { bytes, .. } = &log[one] else { continue };
            for part in [1, 40, 88, 512, bytes.len() / 2, bytes.len().saturating_sub(1)] {
                see(&|at| if at == one { Reach::First(part) } else { Reach::Whole });
            }
            see(&|at| if at == one { Reach::Zeros } else { Reach::Whole });
        }
    }
}

/// Whether what an operation did to a file may still be lost at the end of a log.
fn is_pending(log: &[Operation], at: usize) -> bool {
    let (Operation::Write { file, .. } | Operation::Truncate { file, .. }) = &log[at] else { return false };
    !log[at..].iter().any(|later| matches!(later, Operation::Sync { file: synced } if synced == file))
}

fn replay(start: &Files, log: &[Operation], undone: &[usize], reach: &dyn Fn(usize) -> Reach) -> Files {
    let mut names: BTreeMap<String, usize> = start.keys().cloned().zip(0..).collect();
    let mut files: Vec<Vec<u8>> = start.values().cloned().collect();
    for (at, operation) in log.iter().enumerate() {
        match (operation, reach(at)) {
            (Operation::Create { name, file }, _) => {
                files.resize_with(files.len().max(file + 1), Vec::new);
                if !undone.contains(&at) {
                    names.insert(name.clone(), *file);
                }
            }
            (Operation::Rename { from, to }, _) if !undone.contains(&at) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            (Operation::Link { from, to }, _) if !undone.contains(&at) => {
                if let Some(&file) = names.get(from) {
                    names.insert(to.clone(), file);
                }
            }
            (Operation::Write { file, offset, bytes }, reach) => match reach {
                Reach::Whole => overwrite(&mut files[*file], *offset, bytes),
                Reach::First(part) => overwrite(&mut files[*file], *offset, &bytes[..part.min(bytes.len())]),
                Reach::Zeros => {
                    let end = files[*file].len().max(offset + bytes.len());
                    files[*file].resize(end, 0);
                }
                Reach::Nothing => {}
            },
            (Operation::Truncate { file, length }, Reach::Whole) => files[*file].resize(*length, 0),
            _ => {}
        }
    }
    names.into_iter().map(|(name, file)| (name, files[file].clone())).collect()
}

/// An archive on such a disk.
pub struct DiskStore {
    disk: Disk,
    file: usize,
    witness: usize,
    access: Access,
}

impl DiskStore {
    pub fn open(disk: &Disk, access: Access) -> Self {
        let find = |name: &str| disk.0.lock().names.get(name).copied();
        let file = find(ARCHIVE).expect("there is an archive");
        let witness = find(WITNESS).unwrap_or_else(|| disk.create(WITNESS));
        Self { disk: disk.clone(), file, witness, access }
    }
}

impl Source for DiskStore {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().files[self.file].len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.0.lock().files[self.file].as_slice().read_exact_at(buffer, offset)
    }
}

impl Store for DiskStore {
    type Draft = DiskDraft;

    fn path(&self) -> &Path {
        Path::new(ARCHIVE)
    }

    fn access(&self) -> Access {
        self.access
    }

    fn reader(&self) -> io::Result<Box<dyn Source + Send>> {
        Ok(Box::new(Self { disk: self.disk.clone(), ..*self }))
    }

    fn presence(&mut self) -> Result<Presence, VaultError> {
        Ok(match self.disk.0.lock().names.get(ARCHIVE) {
            Some(&file) if file == self.file => Presence::Ours,
            Some(_) => Presence::Theirs,
            None => Presence::Gone,
        })
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.write(self.file, offset as usize, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.sync(self.file)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.disk.truncate(self.file, length as usize)
    }

    fn settle(&mut self) -> Result<(), VaultError> {
        Ok(())
    }

    fn keep_aside(&mut self, offset: u64) -> Result<String, VaultError> {
        let bytes = self.disk.0.lock().files[self.file][offset as usize..].to_vec();
        self.disk.put("archive.torn", &bytes);
        Ok("archive.torn".to_owned())
    }

    fn keep_as(&mut self, suffix: &str) -> Result<PathBuf, VaultError> {
        let kept = format!("{ARCHIVE}{suffix}");
        let mut state = self.disk.0.lock();
        let file = state.names[ARCHIVE];
        state.names.insert(kept.clone(), file);
        state.log.push(Operation::Link { from: ARCHIVE.to_owned(), to: kept.clone() });
        state.log.push(Operation::SyncFolder);
        Ok(kept.into())
    }

    fn room(&self) -> u64 {
        u64::MAX
    }

    fn draft(&mut self) -> Result<DiskDraft, VaultError> {
        let file = self.disk.create("draft");
        Ok(DiskDraft { disk: self.disk.clone(), file })
    }

    fn replace(&mut self, mut draft: DiskDraft) -> Result<(), VaultError> {
        draft.sync().map_err(VaultError::io("sync", Path::new("draft")))?;
        let mut state = self.disk.0.lock();
        state.names.remove("draft");
        state.names.insert(ARCHIVE.to_owned(), draft.file);
        state.log.push(Operation::Rename { from: "draft".to_owned(), to: ARCHIVE.to_owned() });
        state.log.push(Operation::SyncFolder);
        self.file = draft.file;
        Ok(())
    }

    fn read_witness(&self) -> io::Result<Vec<u8>> {
        Ok(self.disk.0.lock().files[self.witness].clone())
    }

    fn write_witness(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.write(self.witness, offset as usize, bytes)
    }

    fn sync_witness(&mut self) -> io::Result<()> {
        self.disk.sync(self.witness)
    }
}

/// A file beside it.
pub struct DiskDraft {
    disk: Disk,
    file: usize,
}

impl Output for DiskDraft {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.write(self.file, offset as usize, bytes)
    }
}

impl Draft for DiskDraft {
    fn sync(&mut self) -> io::Result<()> {
        self.disk.sync(self.file)
    }
}
