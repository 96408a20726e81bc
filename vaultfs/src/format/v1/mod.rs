//! The archive of the old tool: `salt[32]`, `nonce[12]`, AES-256-GCM of a gzipped tar, `tag[16]`. Written and read as a stream,
//! so that no more than small buffers of plaintext are ever in memory.

mod envelope;
mod gzip;
mod passphrase_file;
mod sealing;

use std::io::{Read, Seek, Write};

use crate::crypto::{ArchiveKey, Passphrase, wiping_stack};

use super::{EntrySink, EntrySource, FormatError, ReadLimits, ReadReport, tar};

use envelope::Envelope;
use gzip::GzipWriter;
use passphrase_file::PassphraseFilter;
use sealing::SealingWriter;

const SALT_LEN: usize = 32;
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
/// Bytes read, decrypted or encrypted at a time.
const PIECE: usize = 64 * 1024;
/// Bytes of stack that reading or writing an archive uses at most down to the last cipher.
const STACK_OF_AN_ARCHIVE: usize = 128 * 1024;

/// Reads an archive in two passes: the tag over the whole file first, so that nothing unauthenticated is parsed, then
/// decryption, with the tag checked again at the end (the file may have changed in between).
///
/// # Errors
/// See [`FormatError`]; a wrong passphrase and a damaged file look alike in this format. The sink may have taken a part and
/// must be thrown away.
pub fn read<F: Read + Seek>(
    file: &mut F,
    passphrase: &Passphrase,
    limits: &ReadLimits,
    sink: &mut dyn EntrySink,
) -> Result<ReadReport, FormatError> {
    let envelope = Envelope::read(file)?;
    let key = ArchiveKey::derive(passphrase, envelope.salt).map_err(FormatError::Crypto)?;
    read_with_key(file, &key, passphrase, limits, sink)
}

/// Reads an archive with the key that was derived from its passphrase and its salt.
///
/// # Errors
/// As for [`read`]; also when the key is that of another salt.
pub fn read_with_key<F: Read + Seek>(
    file: &mut F,
    key: &ArchiveKey,
    passphrase: &Passphrase,
    limits: &ReadLimits,
    sink: &mut dyn EntrySink,
) -> Result<ReadReport, FormatError> {
    wiping_stack::<STACK_OF_AN_ARCHIVE, _>(|| {
        let envelope = Envelope::read(file)?;
        envelope.verify(file, key)?;
        let mut filter = PassphraseFilter::new(sink, passphrase);
        let mut report = envelope.decrypt(file, key, limits, &mut filter)?;
        report.warnings.splice(0..0, filter.into_warnings());
        Ok(report)
    })
}

/// Tells whether a passphrase opens an archive, without reading what it holds.
///
/// # Errors
/// As for [`read`].
pub fn verify<F: Read + Seek>(file: &mut F, passphrase: &Passphrase) -> Result<(), FormatError> {
    let envelope = Envelope::read(file)?;
    let key = ArchiveKey::derive(passphrase, envelope.salt).map_err(FormatError::Crypto)?;
    wiping_stack::<STACK_OF_AN_ARCHIVE, _>(|| envelope.verify(file, &key))
}

/// Writes an archive. The key must be fresh (each archive gets its own salt); the nonce is drawn here.
///
/// # Errors
/// [`FormatError::Io`]: the source or the output fails. [`FormatError::TooLarge`]: past what one nonce may encrypt, or an
/// entry has more attributes than a reader takes. [`FormatError::Path`]: a path is longer than a reader takes.
pub fn write(output: &mut dyn Write, key: &ArchiveKey, source: &mut dyn EntrySource) -> Result<(), FormatError> {
    wiping_stack::<STACK_OF_AN_ARCHIVE, _>(|| {
        let mut gzip = GzipWriter::start(SealingWriter::start(output, key)?)?;
        tar::write(&mut gzip, source)?;
        gzip.finish()?.finish()
    })
}

/// Encrypts a tar that is compressed already into an archive, as it is: for archives that [`write()`] would not make.
///
/// # Errors
/// As for [`write()`].
pub fn seal(output: &mut dyn Write, key: &ArchiveKey, compressed: &[u8]) -> Result<(), FormatError> {
    wiping_stack::<STACK_OF_AN_ARCHIVE, _>(|| {
        let mut writer = SealingWriter::start(output, key)?;
        writer.write_all(compressed)?;
        writer.finish()
    })
}
