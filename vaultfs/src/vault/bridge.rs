//! Joins `format` and `tree`, which do not know each other: a sink that fills a tree, a source that walks a snapshot.

use std::io;
use std::sync::Arc;

use crate::entry::{Entry, EntryKind, EntryPath};
use crate::format::{EntrySink, EntrySource, SinkError};
use crate::tree::{Ino, Loader, Snapshot, SnapshotEntries, TreeError};

/// Fills a tree with what a reader finds.
pub(super) struct LoaderSink<'a> {
    loader: Loader<'a>,
    last: (EntryPath, Option<Ino>),
    /// How many bytes that are not zero may still come.
    budget: u64,
}

impl<'a> LoaderSink<'a> {
    /// Takes whatever comes.
    pub fn new(loader: Loader<'a>) -> Self {
        Self::with_budget(loader, u64::MAX)
    }

    /// Refuses content beyond `budget` bytes; pieces of zeros do not count, since they become holes.
    pub fn with_budget(loader: Loader<'a>, budget: u64) -> Self {
        Self { loader, last: (EntryPath::root(), None), budget }
    }

    fn refuse(&self, error: TreeError) -> SinkError {
        SinkError { path: self.last.0.clone(), reason: error.to_string() }
    }
}

impl EntrySink for LoaderSink<'_> {
    fn entry(&mut self, entry: Entry) -> Result<(), SinkError> {
        self.last = (entry.path.clone(), None);
        let ino = self.loader.add(entry).map_err(|error| self.refuse(error))?;
        self.last.1 = Some(ino);
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let counted = if bytes.iter().any(|&byte| byte != 0) { bytes.len() as u64 } else { 0 };
        self.budget = self.budget.checked_sub(counted).ok_or_else(|| self.refuse(TreeError::NoSpace))?;
        let ino = self.last.1.ok_or_else(|| self.refuse(TreeError::Invalid))?;
        self.loader.append(ino, bytes).map_err(|error| self.refuse(error))
    }
}

/// Gives a snapshot to a writer.
pub(super) struct SnapshotSource {
    entries: SnapshotEntries,
    /// The file that is read now, and how far.
    file: Option<OpenFile>,
}

struct OpenFile {
    path: EntryPath,
    ino: Ino,
    size: u64,
    offset: u64,
}

impl SnapshotSource {
    pub fn new(snapshot: &Arc<Snapshot>) -> Self {
        Self { entries: snapshot.entries(), file: None }
    }
}

impl EntrySource for SnapshotSource {
    fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let Some((entry, ino)) = self.entries.next() else {
            self.file = None;
            return Ok(None);
        };
        self.file = match entry.kind {
            EntryKind::File { size } => Some(OpenFile { path: entry.path.clone(), ino, size, offset: 0 }),
            _ => None,
        };
        Ok(Some(entry))
    }

    fn read_content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(file) = &mut self.file else { return Ok(0) };
        let wanted = (file.size - file.offset).min(buffer.len() as u64) as usize;
        if wanted == 0 {
            return Ok(0);
        }
        let read = self
            .entries
            .read(file.ino, file.offset, &mut buffer[..wanted])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", file.path)))?;
        if read == 0 {
            let message = format!("{} ends before its size", file.path);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        file.offset += read as u64;
        Ok(read)
    }
}
