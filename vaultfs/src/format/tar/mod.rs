//! The plain tar: ustar with PAX records, as in POSIX.1-2008 pax and the GNU and SCHILY conventions.

mod pax;
mod read;
mod write;

pub use read::read;
pub use write::write;

/// A socket has no type in tar: it is an empty file with this PAX record.
const KIND_RECORD: &str = "TAZPOD.kind";
/// Value of [`KIND_RECORD`].
const KIND_SOCKET: &[u8] = b"socket";
/// Extended attributes, as star, GNU tar, libarchive and Go write them.
const XATTR_PREFIX: &str = "SCHILY.xattr.";
/// Bytes of a tar block.
const BLOCK: u64 = 512;
