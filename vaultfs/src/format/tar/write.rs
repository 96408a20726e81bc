//! Writing a tar: plain ustar where it can say all, PAX records where it cannot. The same tree gives the same bytes.

use std::io::{self, Write};

use tar::{EntryType, Header};
use zeroize::Zeroizing;

use crate::entry::{Entry, EntryKind, EntryPath};
use crate::format::{EntrySource, FormatError};

use super::{
    BLOCK, EXTENSION_MAX, HEX_XATTR_PREFIX, KIND_RECORD, KIND_SOCKET, XATTR_MAX, XATTR_PREFIX, XATTRS_MAX, number, pax,
};

/// Bytes of the name fields of a ustar header.
const FIELD: usize = 100;
/// The latest time that eleven octal digits hold, in seconds.
const OCTAL_MAX: i64 = 0o77_777_777_777;

/// Writes all of a source as a tar, ended by two zero blocks. Owners are 0 and nameless: a vault belongs to whoever unlocks
/// it, and names of local users are nobody's business. The root's own entry is left out unless its mode is not 0700 or it
/// has attributes, since the old tool writes none.
///
/// # Errors
/// The source or the output fails: [`FormatError::Io`]. What the reader would not take is not written:
/// [`FormatError::Path`], [`FormatError::TooLarge`].
pub fn write(output: &mut dyn Write, source: &mut dyn EntrySource) -> Result<(), FormatError> {
    let mut buffer = Zeroizing::new(vec![0; 128 * BLOCK as usize]);
    while let Some(entry) = source.next_entry()? {
        if entry.path.is_root() && entry.attributes.mode == 0o700 && entry.xattrs.is_empty() {
            continue;
        }
        check(&entry)?;
        let size = if let EntryKind::File { size } = entry.kind { size } else { 0 };
        write_headers(output, &entry, size)?;
        copy_content(output, source, size, &mut buffer)?;
    }
    output.write_all(&[0; 2 * BLOCK as usize])?;
    Ok(())
}

/// Refuses what the reader would refuse: an archive that cannot be opened again is worse than a commit that fails.
fn check(entry: &Entry) -> Result<(), FormatError> {
    let target = if let EntryKind::HardLink { target } = &entry.kind { target } else { &entry.path };
    for path in [&entry.path, target] {
        if let Err(source) = EntryPath::parse(path.as_bytes()) {
            let name = path.to_string().chars().take(200).collect();
            return Err(FormatError::Path { offset: 0, name, source });
        }
    }
    if entry.xattrs.iter().any(|(_, value)| value.len() as u64 > XATTR_MAX) {
        return Err(FormatError::TooLarge { limit: XATTR_MAX, unit: "bytes in one extended attribute" });
    }
    let total: u64 = entry.xattrs.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum();
    if total > XATTRS_MAX {
        return Err(FormatError::TooLarge { limit: XATTRS_MAX, unit: "bytes of extended attributes in one entry" });
    }
    Ok(())
}

fn write_headers(output: &mut dyn Write, entry: &Entry, size: u64) -> Result<(), FormatError> {
    let mut name = if entry.path.is_root() { b".".to_vec() } else { entry.path.as_bytes().to_vec() };
    if entry.kind == EntryKind::Folder {
        name.push(b'/');
    }
    let link = match &entry.kind {
        EntryKind::Symlink { target } => target.as_slice(),
        EntryKind::HardLink { target } => target.as_bytes(),
        _ => b"",
    };
    let records = records_for(entry, &name, link);
    if records.len() as u64 > EXTENSION_MAX {
        return Err(FormatError::TooLarge { limit: EXTENSION_MAX, unit: "bytes of extended headers in one entry" });
    }
    if !records.is_empty() {
        write_pax_header(output, &records)?;
    }
    let mut header = Header::new_ustar();
    set_fields(&mut header, entry, size);
    let old = header.as_old_mut();
    copy_field(&mut old.name, &name);
    copy_field(&mut old.linkname, link);
    header.set_cksum();
    output.write_all(header.as_bytes())?;
    Ok(())
}

fn set_fields(header: &mut Header, entry: &Entry, size: u64) {
    header.set_mode(entry.attributes.mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_mtime(entry.attributes.mtime.secs.clamp(0, OCTAL_MAX) as u64);
    if let EntryKind::CharDevice { rdev } | EntryKind::BlockDevice { rdev } = entry.kind {
        let ustar = header.as_ustar_mut().expect("the header was made as ustar");
        number::write(&mut ustar.dev_major, rustix::fs::major(rdev).into());
        number::write(&mut ustar.dev_minor, rustix::fs::minor(rdev).into());
    }
    let kind = match &entry.kind {
        EntryKind::Folder => EntryType::Directory,
        EntryKind::File { .. } | EntryKind::Socket => EntryType::Regular,
        EntryKind::Symlink { .. } => EntryType::Symlink,
        EntryKind::HardLink { .. } => EntryType::Link,
        EntryKind::Fifo => EntryType::Fifo,
        EntryKind::CharDevice { .. } => EntryType::Char,
        EntryKind::BlockDevice { .. } => EntryType::Block,
    };
    header.set_entry_type(kind);
}

/// The records that the ustar header has no room for.
fn records_for(entry: &Entry, name: &[u8], link: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut records = Zeroizing::new(Vec::new());
    let fits = |field: &[u8]| field.len() <= FIELD && field.is_ascii();
    if [name, link].iter().any(|field| std::str::from_utf8(field).is_err()) {
        pax::push(&mut records, "hdrcharset", b"BINARY");
    }
    if !fits(name) {
        pax::push(&mut records, "path", name);
    }
    if !fits(link) {
        pax::push(&mut records, "linkpath", link);
    }
    let (mtime, ctime) = (entry.attributes.mtime, entry.attributes.ctime);
    if mtime.nanos != 0 || !(0..=OCTAL_MAX).contains(&mtime.secs) {
        pax::push(&mut records, "mtime", pax::format_time(mtime).as_bytes());
    }
    if ctime != mtime {
        pax::push(&mut records, "ctime", pax::format_time(ctime).as_bytes());
    }
    if entry.kind == EntryKind::Socket {
        pax::push(&mut records, KIND_RECORD, KIND_SOCKET);
    }
    for (name, value) in &entry.xattrs {
        match std::str::from_utf8(name) {
            Ok(name) if !name.contains('=') => pax::push(&mut records, &format!("{XATTR_PREFIX}{name}"), value),
            _ => pax::push(&mut records, &format!("{HEX_XATTR_PREFIX}{}", pax::to_hex(name)), value),
        }
    }
    records
}

fn write_pax_header(output: &mut dyn Write, records: &[u8]) -> io::Result<()> {
    let mut header = Header::new_ustar();
    copy_field(&mut header.as_old_mut().name, b"PaxHeaders/entry");
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(records.len() as u64);
    header.set_entry_type(EntryType::XHeader);
    header.set_cksum();
    output.write_all(header.as_bytes())?;
    output.write_all(records)?;
    write_padding(output, records.len() as u64)
}

fn copy_content(output: &mut dyn Write, source: &mut dyn EntrySource, size: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut rest = size;
    while rest > 0 {
        let wanted = buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let read = source.read_content(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file is shorter than its size"));
        }
        output.write_all(&buffer[..read])?;
        rest -= read as u64;
    }
    write_padding(output, size)
}

fn write_padding(output: &mut dyn Write, size: u64) -> io::Result<()> {
    let padding = size.next_multiple_of(BLOCK) - size;
    output.write_all(&[0; BLOCK as usize][..padding as usize])
}

/// Copies what fits; a PAX record tells the rest.
fn copy_field(field: &mut [u8; FIELD], value: &[u8]) {
    let len = value.len().min(FIELD);
    field[..len].copy_from_slice(&value[..len]);
}
