//! What extended headers (PAX records, GNU long names) say of the entry that follows them.

use crate::entry::{Timestamp, Xattr};
use crate::format::FormatError;

use super::{HEX_XATTR_PREFIX, KIND_RECORD, KIND_SOCKET, OWN_PREFIX, XATTR_MAX, XATTR_PREFIX, XATTRS_MAX, pax};

/// What was said so far. PAX records overrule GNU names; of two equal records the later counts.
#[derive(Default)]
pub(super) struct Extensions {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub mtime: Option<Timestamp>,
    pub ctime: Option<Timestamp>,
    pub size: Option<u64>,
    pub is_socket: bool,
    pub is_sparse: bool,
    xattrs: Vec<Xattr>,
    /// Names and values of `xattrs`.
    xattr_bytes: u64,
    /// Bytes of all extended headers of the entry.
    pub bytes: u64,
}

/// Why records cannot be taken.
pub(super) enum RecordError {
    /// Against the rules of PAX, in plain words.
    Wrong(&'static str),
    /// A cap, or something unknown.
    Refused(FormatError),
}

impl Extensions {
    /// Takes the body of a PAX header.
    pub fn take_records(&mut self, body: &[u8]) -> Result<(), RecordError> {
        let records = pax::parse(body).map_err(RecordError::Wrong)?;
        records.into_iter().try_for_each(|(key, value)| self.take_record(key, value))
    }

    /// Takes the body of a GNU long name.
    pub fn take_long_name(&mut self, body: &[u8]) {
        self.path.get_or_insert_with(|| until_nul(body));
    }

    /// Takes the body of a GNU long link name.
    pub fn take_long_link(&mut self, body: &[u8]) {
        self.link.get_or_insert_with(|| until_nul(body));
    }

    /// Returns the extended attributes by name.
    pub fn take_xattrs(&mut self) -> Vec<Xattr> {
        let mut xattrs = std::mem::take(&mut self.xattrs);
        // A stable sort, then the last of equal names.
        xattrs.sort_by(|one, other| one.0.cmp(&other.0));
        xattrs.reverse();
        xattrs.dedup_by(|one, other| one.0 == other.0);
        xattrs.reverse();
        xattrs
    }

    fn take_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), RecordError> {
        // A keyword that is not text is nobody's that this reader knows.
        let Ok(key) = std::str::from_utf8(key) else { return Ok(()) };
        match key {
            "path" => self.path = Some(value.to_vec()),
            "linkpath" => self.link = Some(value.to_vec()),
            "mtime" => self.mtime = Some(time(value)?),
            "ctime" => self.ctime = Some(time(value)?),
            "size" => self.size = Some(size(value)?),
            KIND_RECORD if value == KIND_SOCKET => self.is_socket = true,
            _ if key.starts_with("GNU.sparse.") || key == "SCHILY.realsize" => self.is_sparse = true,
            _ => return self.take_prefixed(key, value),
        }
        Ok(())
    }

    fn take_prefixed(&mut self, key: &str, value: &[u8]) -> Result<(), RecordError> {
        if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
            return self.take_xattr(name.as_bytes().to_vec(), value);
        }
        if let Some(digits) = key.strip_prefix(HEX_XATTR_PREFIX) {
            let name = pax::from_hex(digits).ok_or(RecordError::Wrong("an attribute's name is not hexadecimal"))?;
            return self.take_xattr(name, value);
        }
        if key.starts_with(OWN_PREFIX) {
            let shown: String = key.chars().take(100).collect();
            let unknown = format!("the tar holds the unknown record '{}'", shown.escape_debug());
            return Err(RecordError::Refused(FormatError::Unsupported(unknown)));
        }
        Ok(())
    }

    /// Keeps attributes of the `user.` namespace, the only one that a mount of an ordinary user can offer.
    fn take_xattr(&mut self, name: Vec<u8>, value: &[u8]) -> Result<(), RecordError> {
        if !name.starts_with(b"user.") {
            return Ok(());
        }
        if value.len() as u64 > XATTR_MAX {
            return Err(too_large(XATTR_MAX, "bytes in one extended attribute"));
        }
        self.xattr_bytes += (name.len() + value.len()) as u64;
        if self.xattr_bytes > XATTRS_MAX {
            return Err(too_large(XATTRS_MAX, "bytes of extended attributes in one entry"));
        }
        self.xattrs.push((name, value.to_vec()));
        Ok(())
    }
}

fn too_large(limit: u64, unit: &'static str) -> RecordError {
    RecordError::Refused(FormatError::TooLarge { limit, unit })
}

fn time(value: &[u8]) -> Result<Timestamp, RecordError> {
    pax::parse_time(value).ok_or(RecordError::Wrong("a PAX time is not a number"))
}

fn size(value: &[u8]) -> Result<u64, RecordError> {
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).ok_or(RecordError::Wrong("a PAX size is not a number"))
}

fn until_nul(body: &[u8]) -> Vec<u8> {
    body.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
}
