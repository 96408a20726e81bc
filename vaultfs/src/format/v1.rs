//! The archive of the old tool: salt[32], nonce[12], AES-256-GCM of a gzipped tar, tag[16].

use std::io::{Read, Seek, Write};

use crate::crypto::{ArchiveKey, Passphrase};

use super::{EntrySink, EntrySource, FormatError, ReadLimits, ReadReport};

/// Reads an archive in two passes: the tag over the whole file first, so that nothing unauthenticated is parsed,
/// then decryption, with the tag checked again. Never holds more than small buffers of plaintext.
/// Returns the key too, so that a caller can tell later whether a passphrase is the one.
/// # Errors
/// See [`FormatError`].
pub fn read<F: Read + Seek>(
    file: &mut F,
    passphrase: &Passphrase,
    limits: &ReadLimits,
    sink: &mut dyn EntrySink,
) -> Result<ReadReport, FormatError> {
    let _ = (file, passphrase, limits, sink);
    todo!()
}

/// Writes an archive as a stream; the key must be fresh (each archive gets its own salt), the nonce is drawn here.
/// # Errors
/// The source or the output fails.
pub fn write(output: &mut dyn Write, key: &ArchiveKey, source: &mut dyn EntrySource) -> Result<(), FormatError> {
    let _ = (output, key, source);
    todo!()
}
