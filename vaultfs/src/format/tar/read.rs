//! Reading a tar that may have been made by an enemy: every name, size and count is checked before it is used.
//! What two programs could read in two ways is refused.

use std::collections::HashSet;
use std::io::Read;

use tar::{EntryType, Header};
use zeroize::Zeroizing;

use crate::entry::{Attributes, Entry, EntryKind, EntryPath, LINKS_PER_ENTRY, Timestamp, Xattr};
use crate::format::{EntrySink, FormatError, ReadLimits, ReadReport, ReadWarning};

use super::blocks::Blocks;
use super::extensions::{Extensions, RecordError};
use super::{BLOCK, EXTENSION_MAX, number};

/// Bytes of extended headers that are passed over for each entry allowed, beside extended attributes.
const EXTENSIONS_PER_ENTRY: u64 = 16 * 1024;

/// Reads a whole tar into a sink, to the end of the input.
///
/// # Errors
/// See [`FormatError`]; an error of the input itself is [`FormatError::Io`]. The sink may have taken a part and must be
/// thrown away.
pub fn read(input: &mut dyn Read, limits: &ReadLimits, sink: &mut dyn EntrySink) -> Result<ReadReport, FormatError> {
    let mut reader = Reader {
        blocks: Blocks::new(input),
        sink,
        budget: Budget::new(limits),
        report: ReadReport::default(),
        folders: HashSet::from([EntryPath::root()]),
    };
    let mut next = None;
    while let Some(header) = reader.blocks.next_header()? {
        reader.take(&header, &mut next)?;
    }
    if next.is_some() { Err(reader.blocks.wrong("the tar ends after an extended header")) } else { Ok(reader.report) }
}

/// What may still come.
struct Budget {
    limits: ReadLimits,
    entries: u64,
    links: u64,
    content: u64,
    xattrs: u64,
    extensions: u64,
}

impl Budget {
    fn new(limits: &ReadLimits) -> Self {
        let extensions = limits.entries.saturating_mul(EXTENSIONS_PER_ENTRY).saturating_add(limits.total_bytes);
        Self {
            limits: *limits,
            entries: limits.entries,
            links: limits.entries.saturating_mul(LINKS_PER_ENTRY),
            content: limits.total_bytes,
            xattrs: limits.total_bytes,
            extensions,
        }
    }

    fn take_entry(&mut self, path: &EntryPath, kind: &EntryKind, xattrs: &[Xattr]) -> Result<(), FormatError> {
        let limits = self.limits;
        match kind {
            EntryKind::HardLink { .. } => {
                spend(&mut self.links, 1, limits.entries.saturating_mul(LINKS_PER_ENTRY), "hard links")?;
            }
            _ if path.is_root() => self.take_extension(0)?,
            _ => spend(&mut self.entries, 1, limits.entries, "entries")?,
        }
        if let EntryKind::File { size } = kind {
            spend(&mut self.content, *size, limits.total_bytes, "bytes of content")?;
        }
        let bytes = xattrs.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum();
        spend(&mut self.xattrs, bytes, limits.total_bytes, "bytes of extended attributes")
    }

    fn take_extension(&mut self, size: u64) -> Result<(), FormatError> {
        spend(&mut self.extensions, size.max(BLOCK), self.limits.total_bytes, "bytes of extended headers")
    }
}

fn spend(left: &mut u64, amount: u64, limit: u64, unit: &'static str) -> Result<(), FormatError> {
    *left = left.checked_sub(amount).ok_or(FormatError::TooLarge { limit, unit })?;
    Ok(())
}

struct Reader<'a> {
    blocks: Blocks<'a>,
    sink: &'a mut dyn EntrySink,
    budget: Budget,
    report: ReadReport,
    folders: HashSet<EntryPath>,
}

impl Reader<'_> {
    /// Takes one header with what belongs to it; `next` gathers what extended headers say of the entry to come.
    fn take(&mut self, header: &Header, next: &mut Option<Extensions>) -> Result<(), FormatError> {
        let size = self.number(&header.as_old().size, "a size")?;
        let size = u64::try_from(size).map_err(|_| self.blocks.wrong("a size is negative"))?;
        match header.entry_type() {
            EntryType::XHeader => {
                let extensions = next.get_or_insert_default();
                let body = self.read_extension(size, &mut extensions.bytes)?;
                extensions.take_records(&body).map_err(|error| self.record_error(error))
            }
            // What is said of all entries (git archive's comment) is nothing that a vault keeps.
            EntryType::XGlobalHeader => self.read_extension(size, &mut 0).map(drop),
            EntryType::GNULongName => {
                let extensions = next.get_or_insert_default();
                let body = self.read_extension(size, &mut extensions.bytes)?;
                extensions.take_long_name(&body);
                Ok(())
            }
            EntryType::GNULongLink => {
                let extensions = next.get_or_insert_default();
                let body = self.read_extension(size, &mut extensions.bytes)?;
                extensions.take_long_link(&body);
                Ok(())
            }
            _ => self.take_entry(header, size, next.take().unwrap_or_default()),
        }
    }

    fn read_extension(&mut self, size: u64, total: &mut u64) -> Result<Zeroizing<Vec<u8>>, FormatError> {
        *total = total.saturating_add(size);
        if *total > EXTENSION_MAX {
            return Err(FormatError::TooLarge { limit: EXTENSION_MAX, unit: "bytes of extended headers in one entry" });
        }
        self.budget.take_extension(size)?;
        let mut body = Zeroizing::new(Vec::with_capacity(size as usize));
        self.blocks.content(size, |piece| {
            body.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(body)
    }

    fn record_error(&self, error: RecordError) -> FormatError {
        match error {
            RecordError::Wrong(reason) => self.blocks.wrong(reason),
            RecordError::Refused(error) => error,
        }
    }

    fn take_entry(&mut self, header: &Header, size: u64, mut next: Extensions) -> Result<(), FormatError> {
        let size = next.size.unwrap_or(size);
        let name = next.path.take().unwrap_or_else(|| header.path_bytes().into_owned());
        let path = self.parse_path(&name)?;
        let kind = self.kind_of(header, &name, &mut next, size)?;
        let is_file = matches!(kind, EntryKind::File { .. });
        if size > 0 && !is_file {
            return Err(self.blocks.wrong("an entry that is no file has content"));
        }
        let mode = self.number(&header.as_old().mode, "a mode")? & 0o7777;
        let mtime = match next.mtime {
            Some(time) => time,
            None => Timestamp { secs: self.number(&header.as_old().mtime, "a time")?, nanos: 0 },
        };
        let attributes = Attributes { mode: mode as u32, mtime, ctime: next.ctime.unwrap_or(mtime) };
        self.make_parents(&path, mtime)?;
        if kind == EntryKind::Folder {
            self.folders.insert(path.clone());
        }
        self.note_self_symlink(&path, &kind);
        self.hand_on(Entry { path, kind, attributes, xattrs: next.take_xattrs() })?;
        let sink = &mut *self.sink;
        if is_file { self.blocks.content(size, |piece| Ok(sink.content(piece)?)) } else { Ok(()) }
    }

    fn kind_of(
        &self,
        header: &Header,
        name: &[u8],
        next: &mut Extensions,
        size: u64,
    ) -> Result<EntryKind, FormatError> {
        let kind = header.entry_type();
        let regular = matches!(kind, EntryType::Regular | EntryType::Continuous);
        if next.is_sparse || kind == EntryType::GNUSparse {
            return Err(FormatError::Unsupported(format!("the tar holds a sparse file ({})", printable(name))));
        }
        if next.is_socket != (regular && next.is_socket) {
            return Err(self.blocks.wrong("a socket is not written as a file"));
        }
        let link = next.link.take().or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
        let link = |missing| link.ok_or_else(|| self.blocks.wrong(missing));
        Ok(match kind {
            _ if next.is_socket => EntryKind::Socket,
            // Before POSIX a folder was a file whose name ends with a slash.
            _ if regular && name.ends_with(b"/") && size == 0 => EntryKind::Folder,
            _ if regular => EntryKind::File { size },
            EntryType::Directory => EntryKind::Folder,
            EntryType::Symlink => {
                let target = link("a symbolic link has no target")?;
                if target.is_empty() || target.contains(&0) {
                    return Err(self.blocks.wrong("the target of a symbolic link is empty or holds a NUL byte"));
                }
                EntryKind::Symlink { target }
            }
            EntryType::Link => EntryKind::HardLink { target: self.parse_path(&link("a hard link has no target")?)? },
            EntryType::Fifo => EntryKind::Fifo,
            EntryType::Char => EntryKind::CharDevice { rdev: self.device(header)? },
            EntryType::Block => EntryKind::BlockDevice { rdev: self.device(header)? },
            other => {
                let shown = other.as_byte().escape_ascii();
                let unknown = format!("the tar holds an entry of the unknown type '{shown}' ({})", printable(name));
                return Err(FormatError::Unsupported(unknown));
            }
        })
    }

    /// The device number; GNU and POSIX have it at the same place.
    fn device(&self, header: &Header) -> Result<u64, FormatError> {
        let bytes = header.as_bytes();
        let part = |field: &[u8]| {
            u32::try_from(self.number(field, "a device number")?)
                .map_err(|_| self.blocks.wrong("a device number is too large"))
        };
        Ok(rustix::fs::makedev(part(&bytes[329..337])?, part(&bytes[337..345])?))
    }

    fn number(&self, field: &[u8], what: &str) -> Result<i64, FormatError> {
        number::read(field).ok_or_else(|| self.blocks.wrong(&format!("{what} is not a number")))
    }

    fn parse_path(&self, name: &[u8]) -> Result<EntryPath, FormatError> {
        let offset = self.blocks.header_at();
        EntryPath::parse(name).map_err(|source| FormatError::Path { offset, name: printable(name), source })
    }

    /// Hands on the folders above an entry that the tar does not hold, as every reader of tar makes them.
    fn make_parents(&mut self, path: &EntryPath, mtime: Timestamp) -> Result<(), FormatError> {
        let mut missing = Vec::new();
        let mut at = path.split_last().map(|(parent, _)| parent);
        while let Some(parent) = at.filter(|parent| !self.folders.contains(parent)) {
            at = parent.split_last().map(|(above, _)| above);
            missing.push(parent);
        }
        for path in missing.into_iter().rev() {
            self.folders.insert(path.clone());
            let attributes = Attributes { mode: 0o755, mtime, ctime: mtime };
            self.hand_on(Entry { path, kind: EntryKind::Folder, attributes, xattrs: Vec::new() })?;
        }
        Ok(())
    }

    fn hand_on(&mut self, entry: Entry) -> Result<(), FormatError> {
        self.budget.take_entry(&entry.path, &entry.kind, &entry.xattrs)?;
        self.report.entries += 1;
        Ok(self.sink.entry(entry)?)
    }

    fn note_self_symlink(&mut self, path: &EntryPath, kind: &EntryKind) {
        if let (EntryKind::Symlink { target }, Some((_, own))) = (kind, path.split_last())
            && target == own
        {
            self.report.warnings.push(ReadWarning::SelfSymlink(path.clone()));
        }
    }
}

fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(200)]).escape_debug().to_string()
}
