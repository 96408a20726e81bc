//! The bytes of a v1 archive around and under its cipher: where they lie, the tag over them, and their plaintext in small
//! pieces. Knows no entries.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use zeroize::Zeroizing;

use crate::crypto::{ArchiveKey, GCM_MAX_LEN, GcmDecryptor, GcmVerifier};
use crate::format::{EntrySink, FormatError, ReadLimits, ReadReport, tar};

use super::{NONCE_LEN, PIECE, SALT_LEN, TAG_LEN};

const PREFIX_LEN: u64 = (SALT_LEN + NONCE_LEN) as u64;
/// Bytes around the ciphertext.
const OVERHEAD: u64 = PREFIX_LEN + TAG_LEN as u64;

/// What surrounds the ciphertext.
pub(super) struct Envelope {
    pub salt: [u8; SALT_LEN],
    nonce: [u8; NONCE_LEN],
    tag: [u8; TAG_LEN],
    ciphertext_len: u64,
}

impl Envelope {
    pub fn read<F: Read + Seek>(file: &mut F) -> Result<Self, FormatError> {
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

    /// Decrypts, unpacks and reads the tar, up to the last byte.
    pub fn decrypt<F: Read + Seek>(
        &self,
        file: &mut F,
        key: &ArchiveKey,
        limits: &ReadLimits,
        sink: &mut dyn EntrySink,
    ) -> Result<ReadReport, FormatError> {
        file.seek(SeekFrom::Start(PREFIX_LEN))?;
        let mut gunzip = flate2::bufread::GzDecoder::new(Body::new(file, key, self));
        let outcome = tar::read(&mut gunzip, limits, sink);
        let mut body = gunzip.into_inner();
        let report = outcome.map_err(|error| match (error, body.error.take()) {
            (_, Some(error)) => FormatError::Io(error),
            (FormatError::Io(error), None) => FormatError::Compression(error),
            (error, None) => error,
        })?;
        if !body.fill_buf()?.is_empty() {
            let error =
                io::Error::new(io::ErrorKind::InvalidData, "data follow after the end of the compressed stream");
            return Err(FormatError::Compression(error));
        }
        body.decryptor.verify(&self.tag).map_err(|_| FormatError::WrongPassphraseOrDamaged)?;
        Ok(report)
    }

    /// Checks the tag over the whole file.
    pub fn verify<F: Read + Seek>(&self, file: &mut F, key: &ArchiveKey) -> Result<(), FormatError> {
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
