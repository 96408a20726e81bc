//! The plain tar: ustar with PAX records, as in POSIX.1-2008 pax and the GNU and SCHILY conventions.

mod blocks;
mod extensions;
mod number;
mod pax;
mod read;
mod write;

pub use read::read;
pub use write::write;

/// What only this project writes: unknown records with this prefix are refused.
const OWN_PREFIX: &str = "TAZPOD.";
/// A socket has no type in tar: it is an empty file with this PAX record.
const KIND_RECORD: &str = "TAZPOD.kind";
/// Value of [`KIND_RECORD`].
const KIND_SOCKET: &[u8] = b"socket";
/// Extended attributes, as star, GNU tar, libarchive and Go write them.
const XATTR_PREFIX: &str = "SCHILY.xattr.";
/// An extended attribute whose name no PAX keyword can hold; the name follows in hexadecimal digits.
const HEX_XATTR_PREFIX: &str = "TAZPOD.xattr-hex.";

/// Bytes of a tar block.
const BLOCK: u64 = 512;
/// PAX records and long names of one entry, in bytes: room for [`XATTRS_MAX`], many names and long paths.
const EXTENSION_MAX: u64 = 2 * 1024 * 1024;
/// The largest value of an extended attribute, in bytes (XATTR_SIZE_MAX of Linux).
const XATTR_MAX: u64 = 64 * 1024;
/// Names and values of the extended attributes of one entry, in bytes.
const XATTRS_MAX: u64 = 1024 * 1024;
