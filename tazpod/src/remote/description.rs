//! What anyone can tell of an archive: which state of which vault it is, and the hash of its bytes. All of it is computed from
//! ciphertext and goes to remotes in the clear.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use vaultfs::format::v2::{Chain, Head, MAGIC, Outline, Sequence};

use super::RemoteError;

/// A SHA-256, in texts 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest(pub [u8; 32]);

/// Which version an archive is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The old tool's.
    V1,
    /// The append-only one.
    V2,
}

/// Which state of which vault an archive is. Compacting changes the bytes and not the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct State {
    /// Version of the archive.
    pub format: Format,
    /// The vault; `None`: version 1 has no id, or the place does not tell.
    pub vault: Option<[u8; 16]>,
    /// Number of the last commit; 0 in version 1.
    pub sequence: u64,
    /// Chain value of the last commit; in version 1 the SHA-256 of all bytes.
    pub head: Digest,
}

impl State {
    /// The last commit; version 1 has none.
    pub fn commit(&self) -> Option<Head> {
        let head = Head { sequence: Sequence(self.sequence), chain: Chain(self.head.0) };
        (self.format == Format::V2).then_some(head)
    }
}

/// An archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Its state.
    pub state: State,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of all its bytes.
    pub sha256: Digest,
}

impl Description {
    /// Reads an archive through.
    ///
    /// # Errors
    /// [`RemoteError::File`]; [`RemoteError::Damaged`]: it claims to be of version 2 and is not.
    pub fn of(archive: &Path) -> Result<Self, RemoteError> {
        Self::of_file(&File::open(archive).map_err(RemoteError::file("read", archive))?, archive)
    }

    /// The same of a file that is open at its beginning.
    ///
    /// # Errors
    /// As above.
    pub fn of_file(file: &File, archive: &Path) -> Result<Self, RemoteError> {
        let (bytes, sha256) = hash(file).map_err(RemoteError::file("read", archive))?;
        Self::of_hashed(file, archive, bytes, sha256)
    }

    /// The same of a file whose size and hash are known.
    ///
    /// # Errors
    /// As above.
    pub fn of_hashed(file: &File, archive: &Path, bytes: u64, sha256: Digest) -> Result<Self, RemoteError> {
        let mut magic = [0; MAGIC.len()];
        if file.read_exact_at(&mut magic, 0).is_err() || &magic != MAGIC {
            let state = State { format: Format::V1, vault: None, sequence: 0, head: sha256 };
            return Ok(Self { state, bytes, sha256 });
        }
        let damaged = |reason: String| RemoteError::Damaged { place: archive.display().to_string(), reason };
        let outline = Outline::read(file).map_err(|error| damaged(error.to_string()))?;
        if outline.length != bytes {
            return Err(damaged(format!("{} bytes follow the last whole commit", bytes - outline.length)));
        }
        let (vault, head) = (Some(outline.vault_id.0), Digest(outline.head.chain.0));
        let state = State { format: Format::V2, vault, sequence: outline.head.sequence.0, head };
        Ok(Self { state, bytes, sha256 })
    }
}

/// Size and hash.
fn hash(mut file: &File) -> std::io::Result<(u64, Digest)> {
    let (mut hasher, mut bytes, mut buffer) = (sha2::Sha256::new(), 0, vec![0; 256 * 1024]);
    loop {
        let len = file.read(&mut buffer)?;
        if len == 0 {
            return Ok((bytes, Digest(hasher.finalize().into())));
        }
        hasher.update(&buffer[..len]);
        bytes += len as u64;
    }
}

impl Format {
    /// The number of the version.
    pub fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// The version with a number.
    pub fn from_number(number: &str) -> Option<Self> {
        match number {
            "1" => Some(Self::V1),
            "2" => Some(Self::V2),
            _ => None,
        }
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from exactly as many hexadecimal digits.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex(&self.0[..8]))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map_err(|()| "it is no SHA-256")
    }
}

impl FromStr for Digest {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        from_hex(text).map(Self).ok_or(())
    }
}
