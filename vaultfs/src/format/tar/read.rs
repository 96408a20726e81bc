//! Reading a tar that may have been made by an enemy: every name, size and count is checked before it is used.

use std::collections::HashSet;
use std::io::{self, Read};

use tar::EntryType;
use zeroize::Zeroizing;

use crate::entry::{Attributes, Entry, EntryKind, EntryPath, Timestamp, Xattr};
use crate::format::{EntrySink, FormatError, ReadLimits, ReadReport, ReadWarning};

use super::{BLOCK, KIND_RECORD, KIND_SOCKET, XATTR_PREFIX, pax};

/// PAX records and long names of one entry, in bytes: room for 1 MiB of extended attributes.
const EXTENSION_MAX: u64 = 1024 * 1024 + 64 * 1024;
/// Zeros after the end mark that are taken for padding, in bytes (GNU tar fills up to its blocking factor).
const PADDING_MAX: u64 = 16 * 1024 * 1024;
/// Content handed on at a time, in bytes.
const PIECE: usize = 64 * 1024;

/// Reads a whole tar into a sink, to the end of the input.
///
/// # Errors
/// See [`FormatError`]; the sink may have taken a part and must be thrown away.
pub fn read(input: &mut dyn Read, limits: &ReadLimits, sink: &mut dyn EntrySink) -> Result<ReadReport, FormatError> {
    let mut archive = tar::Archive::new(input);
    let mut reader = Reader::new(limits, sink);
    let entries = archive.entries().map_err(|error| damaged(0, &error))?.raw(true);
    for entry in entries {
        let mut entry = entry.map_err(|error| damaged(reader.offset, &error))?;
        reader.offset = entry.raw_header_position();
        reader.take(&mut entry)?;
    }
    let report = reader.finish()?;
    expect_padding(archive.into_inner())?;
    Ok(report)
}

/// What extension headers said of the next entry.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    mtime: Option<Timestamp>,
    ctime: Option<Timestamp>,
    size: Option<u64>,
    is_socket: bool,
    xattrs: Vec<Xattr>,
    present: bool,
}

struct Reader<'a> {
    limits: ReadLimits,
    sink: &'a mut dyn EntrySink,
    report: ReadReport,
    bytes: u64,
    /// Where the present header lies.
    offset: u64,
    next: Extensions,
    folders: HashSet<EntryPath>,
    piece: Zeroizing<Vec<u8>>,
}

impl<'a> Reader<'a> {
    fn new(limits: &ReadLimits, sink: &'a mut dyn EntrySink) -> Self {
        Self {
            limits: *limits,
            sink,
            report: ReadReport::default(),
            bytes: 0,
            offset: 0,
            next: Extensions::default(),
            folders: HashSet::from([EntryPath::root()]),
            piece: Zeroizing::new(vec![0; PIECE]),
        }
    }

    fn take<R: Read>(&mut self, raw: &mut tar::Entry<'_, R>) -> Result<(), FormatError> {
        match raw.header().entry_type() {
            EntryType::XHeader => {
                let records = self.read_extension(raw)?;
                let records = pax::parse(&records).map_err(|reason| self.wrong(reason))?;
                self.next.present = true;
                records.into_iter().try_for_each(|(key, value)| self.take_record(&key, value))
            }
            EntryType::XGlobalHeader => self.read_extension(raw).map(drop),
            EntryType::GNULongName => {
                let name = self.read_extension(raw)?;
                self.next.path.get_or_insert(until_nul(&name));
                self.next.present = true;
                Ok(())
            }
            EntryType::GNULongLink => {
                let target = self.read_extension(raw)?;
                self.next.link.get_or_insert(until_nul(&target));
                self.next.present = true;
                Ok(())
            }
            _ => {
                let extensions = std::mem::take(&mut self.next);
                self.take_entry(raw, extensions)
            }
        }
    }

    fn read_extension<R: Read>(&mut self, raw: &mut tar::Entry<'_, R>) -> Result<Zeroizing<Vec<u8>>, FormatError> {
        let size = raw.header().entry_size().map_err(|error| damaged(self.offset, &error))?;
        if size > EXTENSION_MAX {
            return Err(FormatError::TooLarge { limit: EXTENSION_MAX, unit: "bytes of extended header in one entry" });
        }
        let mut data = Zeroizing::new(Vec::with_capacity(size as usize));
        raw.read_to_end(&mut data).map_err(|error| damaged(self.offset, &error))?;
        if data.len() as u64 == size { Ok(data) } else { Err(self.wrong("an extended header is cut short")) }
    }

    fn take_record(&mut self, key: &str, value: Vec<u8>) -> Result<(), FormatError> {
        let time = |value: &[u8]| pax::parse_time(value).ok_or("a PAX time is not a number");
        match key {
            "path" => self.next.path = Some(value),
            "linkpath" => self.next.link = Some(value),
            "mtime" => self.next.mtime = Some(time(&value).map_err(|reason| self.wrong(reason))?),
            "ctime" => self.next.ctime = Some(time(&value).map_err(|reason| self.wrong(reason))?),
            "size" => {
                let size = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
                self.next.size = Some(size.ok_or_else(|| self.wrong("a PAX size is not a number"))?);
            }
            KIND_RECORD if value == KIND_SOCKET => self.next.is_socket = true,
            KIND_RECORD => return Err(FormatError::Unsupported(format!("an unknown {KIND_RECORD} in the tar"))),
            _ if key.starts_with("GNU.sparse.") => return Err(FormatError::Unsupported("a sparse tar entry".into())),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR_PREFIX).filter(|name| name.starts_with("user.")) {
                    self.next.xattrs.push((name.as_bytes().to_vec(), value));
                }
            }
        }
        Ok(())
    }

    fn take_entry<R: Read>(&mut self, raw: &mut tar::Entry<'_, R>, next: Extensions) -> Result<(), FormatError> {
        let header = raw.header();
        let size = header.entry_size().map_err(|error| damaged(self.offset, &error))?;
        if next.size.is_some_and(|declared| declared != size) {
            return Err(FormatError::Unsupported("a tar entry whose PAX size is not that of its header".into()));
        }
        let name = next.path.clone().unwrap_or_else(|| header.path_bytes().into_owned());
        let path = self.parse_path(&name)?;
        let mtime = match next.mtime {
            Some(time) => time,
            None => header_time(header).ok_or_else(|| self.wrong("a time is not a number"))?,
        };
        let mode = header.mode().map_err(|error| damaged(self.offset, &error))? & 0o7777;
        let kind = self.kind_of(header, &name, &next, size)?;
        let has_content = matches!(kind, EntryKind::File { .. });
        if size > 0 && !has_content && !matches!(kind, EntryKind::HardLink { .. }) {
            return Err(self.wrong("an entry that is no file has content"));
        }
        self.count(if has_content { size } else { 0 })?;
        self.make_parents(&path, mtime)?;
        if kind == EntryKind::Folder {
            self.folders.insert(path.clone());
        }
        if let (EntryKind::Symlink { target }, Some((_, own))) = (&kind, path.split_last())
            && target == own
        {
            self.report.warnings.push(ReadWarning::SelfSymlink(path.clone()));
        }
        let mut xattrs = next.xattrs;
        xattrs.sort();
        let attributes = Attributes { mode, mtime, ctime: next.ctime.unwrap_or(mtime) };
        self.sink.entry(Entry { path, kind, attributes, xattrs })?;
        if has_content { self.copy_content(raw, size) } else { Ok(()) }
    }

    fn kind_of(
        &self,
        header: &tar::Header,
        name: &[u8],
        next: &Extensions,
        size: u64,
    ) -> Result<EntryKind, FormatError> {
        let link = || next.link.clone().or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
        Ok(match header.entry_type() {
            _ if next.is_socket => EntryKind::Socket,
            // Before POSIX a folder was a file whose name ends with a slash.
            EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") && size == 0 => EntryKind::Folder,
            EntryType::Regular | EntryType::Continuous => EntryKind::File { size },
            EntryType::Directory => EntryKind::Folder,
            EntryType::Symlink => {
                let target = link().filter(|target| !target.is_empty() && !target.contains(&0));
                EntryKind::Symlink { target: target.ok_or_else(|| self.wrong("a symbolic link has no valid target"))? }
            }
            EntryType::Link => {
                let target = link().ok_or_else(|| self.wrong("a hard link has no target"))?;
                EntryKind::HardLink { target: self.parse_path(&target)? }
            }
            EntryType::Fifo => EntryKind::Fifo,
            EntryType::Char => EntryKind::CharDevice { rdev: self.device(header)? },
            EntryType::Block => EntryKind::BlockDevice { rdev: self.device(header)? },
            EntryType::GNUSparse => return Err(FormatError::Unsupported("a sparse tar entry".into())),
            other => {
                let kind = other.as_byte().escape_ascii();
                return Err(FormatError::Unsupported(format!("a tar entry of the unknown type '{kind}'")));
            }
        })
    }

    fn device(&self, header: &tar::Header) -> Result<u64, FormatError> {
        let number = |number: io::Result<Option<u32>>| number.map_err(|error| damaged(self.offset, &error));
        let major = number(header.device_major())?.unwrap_or(0);
        let minor = number(header.device_minor())?.unwrap_or(0);
        Ok(rustix::fs::makedev(major, minor))
    }

    fn parse_path(&self, name: &[u8]) -> Result<EntryPath, FormatError> {
        EntryPath::parse(name).map_err(|source| FormatError::Path {
            offset: self.offset,
            name: String::from_utf8_lossy(&name[..name.len().min(200)]).escape_debug().to_string(),
            source,
        })
    }

    /// Checks the caps with one more entry of `size` bytes.
    fn count(&mut self, size: u64) -> Result<(), FormatError> {
        self.report.entries += 1;
        self.bytes = self.bytes.saturating_add(size);
        if self.report.entries > self.limits.entries {
            return Err(FormatError::TooLarge { limit: self.limits.entries, unit: "entries" });
        }
        if self.bytes > self.limits.total_bytes {
            return Err(FormatError::TooLarge { limit: self.limits.total_bytes, unit: "bytes of content" });
        }
        Ok(())
    }

    /// Hands on the folders above an entry that the tar does not hold, as every reader of tar makes them.
    fn make_parents(&mut self, path: &EntryPath, mtime: Timestamp) -> Result<(), FormatError> {
        let mut missing = Vec::new();
        let mut at = path.split_last().map(|(parent, _)| parent);
        while let Some(parent) = at.filter(|parent| !self.folders.contains(parent)) {
            at = parent.split_last().map(|(above, _)| above);
            missing.push(parent);
        }
        for folder in missing.into_iter().rev() {
            self.count(0)?;
            self.folders.insert(folder.clone());
            let attributes = Attributes { mode: 0o755, mtime, ctime: mtime };
            self.sink.entry(Entry { path: folder, kind: EntryKind::Folder, attributes, xattrs: Vec::new() })?;
        }
        Ok(())
    }

    fn copy_content<R: Read>(&mut self, raw: &mut tar::Entry<'_, R>, size: u64) -> Result<(), FormatError> {
        let mut rest = size;
        while rest > 0 {
            let wanted = self.piece.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            let read = raw.read(&mut self.piece[..wanted]).map_err(|error| damaged(self.offset, &error))?;
            if read == 0 {
                return Err(self.wrong("the content of an entry is cut short"));
            }
            self.sink.content(&self.piece[..read])?;
            rest -= read as u64;
        }
        Ok(())
    }

    fn finish(self) -> Result<ReadReport, FormatError> {
        if self.next.present { Err(self.wrong("it ends after an extended header")) } else { Ok(self.report) }
    }

    fn wrong(&self, reason: &str) -> FormatError {
        FormatError::Tar { offset: self.offset, reason: reason.to_owned() }
    }
}

fn damaged(offset: u64, error: &io::Error) -> FormatError {
    FormatError::Tar { offset, reason: error.to_string() }
}

fn until_nul(data: &[u8]) -> Vec<u8> {
    data.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
}

/// The time in a header; base-256 numbers may be negative.
fn header_time(header: &tar::Header) -> Option<Timestamp> {
    let field = &header.as_old().mtime;
    let secs = if field[0] & 0x80 != 0 {
        let low: [u8; 8] = field[4..].try_into().expect("the field has 12 bytes");
        i64::from_be_bytes(low)
    } else {
        i64::try_from(header.mtime().ok()?).ok()?
    };
    Some(Timestamp { secs, nanos: 0 })
}

/// After the end mark only zeros may follow.
fn expect_padding(input: &mut dyn Read) -> Result<(), FormatError> {
    let mut buffer = [0; BLOCK as usize];
    let mut padding = 0;
    loop {
        let read = input.read(&mut buffer).map_err(FormatError::Compression)?;
        padding += read as u64;
        if read == 0 {
            return Ok(());
        }
        if buffer[..read].iter().any(|&byte| byte != 0) || padding > PADDING_MAX {
            return Err(FormatError::Tar { offset: 0, reason: "data follow after its end".to_owned() });
        }
    }
}
