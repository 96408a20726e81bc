//! The archive of the old tool: salt[32], nonce[12], AES-256-GCM of a gzipped tar, tag[16]. Written and read as a stream,
//! so that no more than small buffers of plaintext are ever in memory.

use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};

use flate2::Compression;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::crypto::{ArchiveKey, GCM_MAX_LEN, GcmDecryptor, GcmEncryptor, GcmVerifier, Passphrase, random};
use crate::entry::{Entry, EntryKind};

use super::{EntrySink, EntrySource, FormatError, ReadLimits, ReadReport, ReadWarning, SinkError, tar};

const SALT_LEN: usize = 32;
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
const PREFIX_LEN: u64 = (SALT_LEN + NONCE_LEN) as u64;
/// Bytes around the ciphertext.
const OVERHEAD: u64 = PREFIX_LEN + TAG_LEN as u64;
/// Bytes read, decrypted or encrypted at a time.
const PIECE: usize = 64 * 1024;
/// Where the old tool left the passphrase in plaintext.
const PASSPHRASE_FILE: &[u8] = b".vault_pass";
/// A longer file than this holds no passphrase (with a line end).
const PASSPHRASE_FILE_MAX: u64 = Passphrase::MAX_LEN as u64 + 2;

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
    envelope.verify(file, &key)?;

    file.seek(SeekFrom::Start(PREFIX_LEN))?;
    let body = Body::new(file, &key, &envelope);
    let mut gunzip = flate2::bufread::GzDecoder::new(body);
    let mut filter = PassphraseFilter { sink, passphrase, held: None, warnings: Vec::new() };
    let outcome = tar::read(&mut gunzip, limits, &mut filter);
    let warnings = filter.warnings;
    let mut body = gunzip.into_inner();
    if let Some(error) = body.error.take() {
        return Err(FormatError::Io(error));
    }
    let mut report = outcome?;
    if !body.fill_buf()?.is_empty() {
        let error = io::Error::new(io::ErrorKind::InvalidData, "data follow after the end of the compressed stream");
        return Err(FormatError::Compression(error));
    }
    body.decryptor.verify(&envelope.tag).map_err(|_| FormatError::WrongPassphraseOrDamaged)?;
    report.warnings.splice(0..0, warnings);
    Ok(report)
}

/// Tells whether a passphrase opens an archive, without reading what it holds.
///
/// # Errors
/// As for [`read`].
pub fn verify<F: Read + Seek>(file: &mut F, passphrase: &Passphrase) -> Result<(), FormatError> {
    let envelope = Envelope::read(file)?;
    let key = ArchiveKey::derive(passphrase, envelope.salt).map_err(FormatError::Crypto)?;
    envelope.verify(file, &key)
}

/// Writes an archive. The key must be fresh (each archive gets its own salt); the nonce is drawn here.
///
/// # Errors
/// [`FormatError::Io`]: the source or the output fails. [`FormatError::TooLarge`]: past what one nonce may encrypt.
pub fn write(output: &mut dyn Write, key: &ArchiveKey, source: &mut dyn EntrySource) -> Result<(), FormatError> {
    let nonce = random::<NONCE_LEN>().map_err(FormatError::Crypto)?;
    output.write_all(key.salt())?;
    output.write_all(&nonce)?;
    let sealed = SealingWriter::new(output, GcmEncryptor::new(key, &nonce));
    // The fastest level: a commit rewrites everything, and level 6 would make it three times slower for a few per cent.
    let mut gzip = flate2::write::GzEncoder::new(sealed, Compression::fast());
    tar::write(&mut gzip, source)?;
    gzip.finish()?.finish()
}

/// What surrounds the ciphertext.
struct Envelope {
    salt: [u8; SALT_LEN],
    nonce: [u8; NONCE_LEN],
    tag: [u8; TAG_LEN],
    ciphertext_len: u64,
}

impl Envelope {
    fn read<F: Read + Seek>(file: &mut F) -> Result<Self, FormatError> {
        let len = file.seek(SeekFrom::End(0))?;
        if len < OVERHEAD {
            return Err(FormatError::Truncated { expected: OVERHEAD, found: len });
        }
        let ciphertext_len = len - OVERHEAD;
        if ciphertext_len > GCM_MAX_LEN {
            return Err(FormatError::TooLarge { limit: GCM_MAX_LEN, unit: "bytes of ciphertext" });
        }
        let mut envelope = Self { salt: [0; SALT_LEN], nonce: [0; NONCE_LEN], tag: [0; TAG_LEN], ciphertext_len };
        file.rewind()?;
        file.read_exact(&mut envelope.salt)?;
        file.read_exact(&mut envelope.nonce)?;
        file.seek(SeekFrom::Start(len - TAG_LEN as u64))?;
        file.read_exact(&mut envelope.tag)?;
        Ok(envelope)
    }

    fn verify<F: Read + Seek>(&self, file: &mut F, key: &ArchiveKey) -> Result<(), FormatError> {
        file.seek(SeekFrom::Start(PREFIX_LEN))?;
        let mut verifier = GcmVerifier::new(key, &self.nonce);
        let mut piece = vec![0; PIECE];
        let mut rest = self.ciphertext_len;
        while rest > 0 {
            let wanted = rest.min(PIECE as u64) as usize;
            file.read_exact(&mut piece[..wanted])?;
            verifier.update(&piece[..wanted]);
            rest -= wanted as u64;
        }
        verifier.verify(&self.tag).map_err(|_| FormatError::WrongPassphraseOrDamaged)
    }
}

/// The decrypted bytes of an archive, one small piece at a time.
struct Body<'a, F> {
    file: &'a mut F,
    rest: u64,
    decryptor: GcmDecryptor,
    piece: Zeroizing<Vec<u8>>,
    position: usize,
    /// An error of the file itself, which must not be taken for a damaged stream.
    error: Option<io::Error>,
}

impl<'a, F: Read> Body<'a, F> {
    fn new(file: &'a mut F, key: &ArchiveKey, envelope: &Envelope) -> Self {
        Self {
            file,
            rest: envelope.ciphertext_len,
            decryptor: GcmDecryptor::new(key, &envelope.nonce),
            piece: Zeroizing::new(Vec::with_capacity(PIECE)),
            position: 0,
            error: None,
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        let wanted = self.rest.min(PIECE as u64) as usize;
        self.piece.resize(wanted, 0);
        if let Err(error) = self.file.read_exact(&mut self.piece) {
            self.piece.clear();
            self.position = 0;
            let kind = error.kind();
            self.error = Some(error);
            return Err(io::Error::new(kind, "the archive cannot be read"));
        }
        self.decryptor.update(&mut self.piece);
        self.rest -= wanted as u64;
        self.position = 0;
        Ok(())
    }
}

impl<F: Read> Read for Body<'_, F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let len = available.len().min(out.len());
        out[..len].copy_from_slice(&available[..len]);
        self.consume(len);
        Ok(len)
    }
}

impl<F: Read> BufRead for Body<'_, F> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.piece.len() && self.rest > 0 {
            self.refill()?;
        }
        Ok(&self.piece[self.position..])
    }

    fn consume(&mut self, len: usize) {
        self.position += len;
    }
}

/// Drops the plaintext passphrase that the old tool put into every archive. A file of that name which holds anything else is
/// somebody's secret and stays.
struct PassphraseFilter<'a> {
    sink: &'a mut dyn EntrySink,
    passphrase: &'a Passphrase,
    /// The suspicious file, until all of it is there.
    held: Option<(Entry, Zeroizing<Vec<u8>>)>,
    warnings: Vec<ReadWarning>,
}

impl PassphraseFilter<'_> {
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
        } else {
            self.warnings.push(ReadWarning::KeptPassphraseFile);
            self.sink.entry(entry)?;
            self.sink.content(&content)?;
        }
        Ok(())
    }
}

/// Encrypts what is written and passes it on in pieces.
struct SealingWriter<'a> {
    output: &'a mut dyn Write,
    encryptor: GcmEncryptor,
    piece: Zeroizing<Vec<u8>>,
    total: u64,
}

impl<'a> SealingWriter<'a> {
    fn new(output: &'a mut dyn Write, encryptor: GcmEncryptor) -> Self {
        Self { output, encryptor, piece: Zeroizing::new(Vec::with_capacity(PIECE)), total: 0 }
    }

    fn seal_piece(&mut self) -> io::Result<()> {
        self.encryptor.update(&mut self.piece);
        self.output.write_all(&self.piece)?;
        self.piece.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(), FormatError> {
        if self.total > GCM_MAX_LEN {
            return Err(FormatError::TooLarge { limit: GCM_MAX_LEN, unit: "bytes of ciphertext" });
        }
        self.seal_piece()?;
        self.output.write_all(&self.encryptor.finish())?;
        Ok(())
    }
}

impl Write for SealingWriter<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let len = data.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&data[..len]);
        self.total += len as u64;
        if self.total > GCM_MAX_LEN {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the vault is too large for the v1 format"));
        }
        if self.piece.len() == PIECE {
            self.seal_piece()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
