//! What an append-only archive needs of the file that it is. A trait, so that tests can cut the power anywhere.

use std::io;
use std::path::{Path, PathBuf};

use crate::format::v2::{Output, Source};
use crate::vault::VaultError;
use crate::vault::lock::Access;

/// What lies under the archive's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vault) enum Presence {
    /// What was last read or written here.
    Ours,
    /// The same bytes, but not the file that is open here: what is written into that one is not under the name.
    Copy,
    /// Nothing.
    Gone,
    /// Anything else.
    Theirs,
}

/// An archive's file, what lies beside it, and this machine's witness of it. Its lock is held.
pub(in crate::vault) trait Store: Source + Send + 'static {
    /// A file that is going to replace the archive; it vanishes when it is dropped.
    type Draft: Draft;

    /// For messages.
    fn path(&self) -> &Path;

    /// Whether it can be written.
    fn access(&self) -> Access;

    /// Another way to the archive's bytes as it is now: those of this file, whatever is put in its place.
    fn reader(&self) -> io::Result<Box<dyn Source + Send>>;

    /// Looks what is under the archive's name.
    fn presence(&mut self) -> Result<Presence, VaultError>;

    /// Writes into the archive; not durable yet.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the archive.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// Takes what the archive is now for what was last written here. An error says that another file bears the name, or none:
    /// that the archive cannot be looked at is none, and made good before the next write.
    fn settle(&mut self) -> Result<(), VaultError>;

    /// Copies the bytes from an offset on into a file beside the archive, durably; returns the file's name.
    fn keep_aside(&mut self, offset: u64) -> Result<String, VaultError>;

    /// Gives the archive a second name beside it, durably; returns it. Never over another file.
    fn keep_as(&mut self, suffix: &str) -> Result<PathBuf, VaultError>;

    /// Bytes that are free where the archive lies.
    fn room(&self) -> u64;

    /// Starts a file that will replace the archive.
    fn draft(&mut self) -> Result<Self::Draft, VaultError>;

    /// Puts a written file in the archive's place, durably. After an error either of the two may be there.
    fn replace(&mut self, draft: Self::Draft) -> Result<(), VaultError>;

    /// Reads this machine's witness; empty where there is none.
    fn read_witness(&self) -> io::Result<Vec<u8>>;

    /// Writes into the witness; not durable yet.
    fn write_witness(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the witness durable.
    fn sync_witness(&mut self) -> io::Result<()>;
}

/// A file that is written beside an archive.
pub(in crate::vault) trait Draft: Output + Send + 'static {
    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// The end of an archive, as the place of a segment.
pub(super) struct Tail<'a, S> {
    pub store: &'a mut S,
    pub offset: u64,
}

impl<S: Store> Output for Tail<'_, S> {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.store.write_at(bytes, self.offset + offset)
    }
}

/// A place within a draft, as that of a segment.
pub(super) struct Within<'a, D> {
    pub draft: &'a mut D,
    pub offset: u64,
}

impl<D: Draft> Output for Within<'_, D> {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.draft.write_all_at(bytes, self.offset + offset)
    }
}
