//! Secrets on a stream socket: a frame that says which kind it is, then frames of raw bytes.

use std::io::{self, Read, Write};

use vaultfs::crypto::{CryptoError, Identity, Passphrase};
use vaultfs::vault::Secret;

use super::frames;

const PASSPHRASE: &[u8] = b"passphrase";
const IDENTITY: &[u8] = b"identity";
/// An SSH key and its passphrase.
const ENCRYPTED_IDENTITY: &[u8] = b"encrypted identity";

/// Writes a passphrase or an identity.
///
/// # Errors
/// The stream fails; `InvalidInput` for a master, which never leaves its process.
pub fn write(stream: &mut impl Write, secret: &Secret) -> io::Result<()> {
    match secret {
        Secret::Passphrase(passphrase) => {
            frames::write_bytes(stream, PASSPHRASE)?;
            write_passphrase(stream, passphrase)
        }
        Secret::Identity(identity) => {
            let kind = if identity.passphrase().is_some() { ENCRYPTED_IDENTITY } else { IDENTITY };
            frames::write_bytes(stream, kind)?;
            identity.expose(|text| frames::write_bytes(stream, text))?;
            identity.passphrase().map_or(Ok(()), |passphrase| write_passphrase(stream, passphrase))
        }
        Secret::Master(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Reads one; all its frames are taken off the stream also where the inner error says that it is of no use.
///
/// # Errors
/// The stream fails, or its frames are no secret.
pub fn read(stream: &mut impl Read) -> io::Result<Result<Secret, CryptoError>> {
    let kind = frames::read_bytes(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if kind.as_slice() == PASSPHRASE {
        return Ok(read_passphrase(stream)?.map(Secret::Passphrase));
    }
    if kind.as_slice() != IDENTITY && kind.as_slice() != ENCRYPTED_IDENTITY {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let text = frames::read_bytes(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let identity = Identity::new(text);
    if kind.as_slice() == IDENTITY {
        return Ok(identity.map(Secret::Identity));
    }
    let passphrase = read_passphrase(stream)?;
    Ok(identity.and_then(|identity| Ok(Secret::Identity(identity.with_passphrase(passphrase?)))))
}

/// Writes a passphrase alone.
///
/// # Errors
/// The stream fails.
pub fn write_passphrase(stream: &mut impl Write, passphrase: &Passphrase) -> io::Result<()> {
    passphrase.expose(|bytes| frames::write_bytes(stream, bytes))
}

/// Reads a passphrase alone.
///
/// # Errors
/// The stream fails; the inner error: it is empty or too long.
pub fn read_passphrase(stream: &mut impl Read) -> io::Result<Result<Passphrase, CryptoError>> {
    Ok(Passphrase::new(frames::read_bytes(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?))
}
