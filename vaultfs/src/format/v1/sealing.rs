//! A writer that encrypts: what goes in is plaintext, what comes out is the archive file.

use std::io::{self, Write};

use zeroize::Zeroizing;

use crate::crypto::{ArchiveKey, GCM_MAX_LEN, GcmEncryptor, random};
use crate::format::FormatError;

use super::{NONCE_LEN, PIECE};

/// Encrypts what is written and passes it on in pieces.
pub(super) struct SealingWriter<'a> {
    output: &'a mut dyn Write,
    encryptor: GcmEncryptor,
    piece: Zeroizing<Vec<u8>>,
    total: u64,
}

impl<'a> SealingWriter<'a> {
    /// Writes salt and nonce.
    pub fn start(output: &'a mut dyn Write, key: &ArchiveKey) -> Result<Self, FormatError> {
        let nonce = random::<NONCE_LEN>().map_err(FormatError::Crypto)?;
        output.write_all(key.salt())?;
        output.write_all(&nonce)?;
        let encryptor = GcmEncryptor::new(key, &nonce);
        Ok(Self { output, encryptor, piece: Zeroizing::new(Vec::with_capacity(PIECE)), total: 0 })
    }

    fn seal_piece(&mut self) -> io::Result<()> {
        self.encryptor.update(&mut self.piece);
        self.output.write_all(&self.piece)?;
        self.piece.clear();
        Ok(())
    }

    pub fn finish(mut self) -> Result<(), FormatError> {
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
