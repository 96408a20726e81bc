//! The plaintext passphrase that the old tool left in every archive, and how it is kept out of the tree.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::crypto::Passphrase;
use crate::entry::{Entry, EntryKind, EntryPath};
use crate::format::{EntrySink, ReadWarning, SinkError};

/// Where the old tool left the passphrase in plaintext.
const PASSPHRASE_FILE: &[u8] = b".vault_pass";
/// A longer file than this holds no passphrase (with a line end).
const PASSPHRASE_FILE_MAX: u64 = Passphrase::MAX_LEN as u64 + 2;

/// Drops the plaintext passphrase that the old tool put into every archive. A file of that name which holds anything else is
/// somebody's secret and stays.
pub(super) struct PassphraseFilter<'a> {
    sink: &'a mut dyn EntrySink,
    passphrase: &'a Passphrase,
    /// The suspicious file, until all of it is there.
    held: Option<(Entry, Zeroizing<Vec<u8>>)>,
    /// The dropped file: its other names, when it has some, keep the content.
    dropped: Option<(Entry, Zeroizing<Vec<u8>>)>,
    /// The first of those names.
    kept_at: Option<EntryPath>,
    warnings: Vec<ReadWarning>,
}

impl<'a> PassphraseFilter<'a> {
    pub fn new(sink: &'a mut dyn EntrySink, passphrase: &'a Passphrase) -> Self {
        Self { sink, passphrase, held: None, dropped: None, kept_at: None, warnings: Vec::new() }
    }

    pub fn into_warnings(self) -> Vec<ReadWarning> {
        self.warnings
    }

    /// Takes a further name of the file: the first becomes the file when that was dropped.
    fn take_link(&mut self, mut link: Entry) -> Result<(), SinkError> {
        if let Some((file, content)) = self.dropped.take() {
            self.kept_at = Some(link.path.clone());
            self.sink.entry(Entry { path: link.path, ..file })?;
            return self.sink.content(&content);
        }
        if let Some(target) = self.kept_at.clone() {
            link.kind = EntryKind::HardLink { target };
        }
        self.sink.entry(link)
    }

    fn is_passphrase(&self, content: &[u8]) -> bool {
        let line = content.strip_suffix(b"\n").unwrap_or(content);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        [content, line].into_iter().any(|text| self.passphrase.expose(|passphrase| passphrase.ct_eq(text).into()))
    }
}

impl EntrySink for PassphraseFilter<'_> {
    fn entry(&mut self, entry: Entry) -> Result<(), SinkError> {
        match entry.kind {
            EntryKind::File { size: 1..=PASSPHRASE_FILE_MAX } if entry.path.as_bytes() == PASSPHRASE_FILE => {
                self.held = Some((entry, Zeroizing::new(Vec::with_capacity(PASSPHRASE_FILE_MAX as usize))));
                Ok(())
            }
            EntryKind::HardLink { ref target } if target.as_bytes() == PASSPHRASE_FILE => self.take_link(entry),
            _ => self.sink.entry(entry),
        }
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let Some((entry, mut content)) = self.held.take() else { return self.sink.content(bytes) };
        content.extend_from_slice(bytes);
        let size = if let EntryKind::File { size } = entry.kind { size } else { 0 };
        if (content.len() as u64) < size {
            self.held = Some((entry, content));
        } else if self.is_passphrase(&content) {
            self.warnings.push(ReadWarning::DroppedPassphraseFile);
            self.dropped = Some((entry, content));
        } else {
            self.warnings.push(ReadWarning::KeptPassphraseFile);
            self.sink.entry(entry)?;
            self.sink.content(&content)?;
        }
        Ok(())
    }
}
