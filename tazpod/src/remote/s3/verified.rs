//! A large archive as the body of a request: read and hashed while it is sent, and never sent to its end unless it is what was
//! described. It is opened anew for each try.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use sha2::Digest as _;

use crate::remote::{Description, Digest};

/// Bytes that are read at a time.
const PIECE: usize = 256 * 1024;

/// Whether some try found that the archive changed.
#[derive(Clone, Default)]
pub struct Changed(Arc<AtomicBool>);

impl Changed {
    /// Whether it did.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The body of an archive.
pub fn body(archive: &Path, description: &Description, changed: &Changed) -> ByteStream {
    let (archive, description, changed) = (archive.to_owned(), *description, changed.clone());
    ByteStream::new(SdkBody::retryable(move || {
        let (file, expected) = (Source::Closed(archive.clone()), description.sha256);
        let (hasher, changed) = (sha2::Sha256::new(), changed.clone());
        SdkBody::from_body_1_x(Verified { file, hasher, left: description.bytes, held: None, expected, changed })
    }))
}

enum Source {
    Closed(PathBuf),
    Open(File),
}

struct Verified {
    file: Source,
    hasher: sha2::Sha256,
    /// Bytes that are still to be sent.
    left: u64,
    /// Read and not sent: the last piece goes only when all of it is right.
    held: Option<Bytes>,
    expected: Digest,
    changed: Changed,
}

impl Verified {
    fn read(&mut self) -> std::io::Result<Bytes> {
        if let Source::Closed(path) = &self.file {
            self.file = Source::Open(File::open(path)?);
        }
        let Source::Open(file) = &mut self.file else { return Err(std::io::ErrorKind::NotFound.into()) };
        let mut piece = Vec::with_capacity(PIECE);
        file.take(PIECE as u64).read_to_end(&mut piece)?;
        self.hasher.update(&piece);
        Ok(piece.into())
    }

    /// The next piece; `None`: that was all.
    fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        if self.left == 0 {
            return Ok(None);
        }
        let piece = match self.held.take() {
            Some(piece) => piece,
            None => self.read()?,
        };
        let following = self.read()?;
        let is_last = following.is_empty();
        let len = piece.len() as u64;
        let is_as_long = if is_last { len == self.left } else { len < self.left };
        if !is_as_long || (is_last && Digest(self.hasher.clone().finalize().into()) != self.expected) {
            self.changed.0.store(true, Ordering::Relaxed);
            return Err("the archive changed while it was sent".into());
        }
        self.left -= len;
        self.held = Some(following);
        Ok(Some(piece))
    }
}

impl Body for Verified {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.next().transpose().map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
