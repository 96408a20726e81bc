//! Puts an archive on top of what was seen, in one request or in parts; the store decides whether it is still there. Parts
//! only where a probe found that the store keeps the condition of their completion: some keep only that of a single request.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use aws_smithy_types::base64;
use sha2::Digest as _;
use tokio::task::JoinSet;

use crate::remote::transfer::Direction;
use crate::remote::{Conditions, Description, Digest, Put, PutDone, RemoteError, Version};

use super::counting::Counting;
use super::failure::{Unmet, innermost, unmet};
use super::{Store, metadata};

/// Archives from this size on go in parts where that is safe, and are never in memory as a whole, in bytes.
const LARGE: u64 = 16 << 20;
/// Bytes of a part.
const PART: usize = 8 << 20;
/// Bytes that are read from a file at a time.
const PIECE: usize = 256 * 1024;
/// Parts under way at once, which are in memory.
const PARTS_AT_ONCE: usize = 4;
/// How often a put is tried that another one is in the way of.
const BUSY_TRIES: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// Whether large archives go in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// In one request.
    Never,
    /// Their completion is conditional.
    Large,
}

impl Parts {
    /// As far as a probe allows it.
    pub fn allowed_by(known: Option<&Conditions>) -> Self {
        if known == Some(&Conditions::Kept) { Self::Large } else { Self::Never }
    }
}

/// On what condition an object is written.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Nothing is there.
    Free,
    /// This is there.
    On(String),
}

/// Why something was not put.
pub enum NotPut {
    /// Its condition.
    Unmet(Unmet),
    /// Anything else.
    Failed(RemoteError),
}

impl From<RemoteError> for NotPut {
    fn from(error: RemoteError) -> Self {
        Self::Failed(error)
    }
}

impl Store {
    /// Puts the archive in the place of the version that was seen.
    pub async fn put(&self, archive: &Path, description: &Description, seen: &[Version]) -> Result<Put, RemoteError> {
        let condition = match seen {
            [] => Condition::Free,
            [version] => Condition::On(version.0.clone()),
            _ => return Ok(Put::Conflict),
        };
        let key = self.place.archive_key();
        for attempt in 0..BUSY_TRIES {
            match self.upload(&key, archive, description, &condition).await {
                Ok(version) => return Ok(done(version)),
                // A server that says no before it has read a large body breaks the connection.
                Err(NotPut::Failed(error)) if is_open(&error) => {
                    return self.put_after_all(description, &condition).await.ok_or(error);
                }
                Err(NotPut::Failed(error)) => return Err(error),
                Err(NotPut::Unmet(Unmet::Busy)) => tokio::time::sleep(BUSY_PAUSE * 2_u32.pow(attempt)).await,
                Err(NotPut::Unmet(Unmet::Condition)) => break,
            }
        }
        // A request that was sent again may have met its own success.
        Ok(match self.head().await? {
            Some(head) if head.sha256 == Some(description.sha256) => done(head.version),
            _ => Put::Conflict,
        })
    }

    /// How a put ended whose answer did not come; `None`: nothing happened, or nobody knows.
    async fn put_after_all(&self, description: &Description, condition: &Condition) -> Option<Put> {
        let head = self.head().await.ok()?;
        match (head, condition) {
            (Some(head), _) if head.sha256 == Some(description.sha256) => Some(done(head.version)),
            (None, Condition::Free) => None,
            (Some(head), Condition::On(version)) if head.version.0 == *version => None,
            _ => Some(Put::Conflict),
        }
    }

    /// Writes an object under a condition; returns its version.
    pub async fn upload(
        &self,
        key: &str,
        archive: &Path,
        description: &Description,
        condition: &Condition,
    ) -> Result<Version, NotPut> {
        let file = Reading::open(archive)?;
        let _moving = self.transfers.begin(Direction::Out, description.bytes);
        if description.bytes >= LARGE && self.parts == Parts::Large {
            return self.upload_in_parts(key, file, description, condition).await;
        }
        let body = file.into_body(description).await?;
        let (free, on) = condition.headers();
        let call =
            self.client.put_object().bucket(&self.place.bucket).key(key).set_if_none_match(free).set_if_match(on);
        // The store computes it too and takes nothing else.
        let call = call.checksum_sha256(base64::encode(description.sha256.0));
        let call = call.set_metadata(Some(metadata::write(description))).body(body);
        let call = call.customize().interceptor(Counting(self.transfers.clone()));
        match call.config_override(self.patience.overrides(description.bytes)).send().await {
            Ok(done) => Ok(Version(done.e_tag().unwrap_or_default().to_owned())),
            Err(error) => Err(match unmet(&error) {
                Some(unmet) => NotPut::Unmet(unmet),
                None => NotPut::Failed(self.failures.of("s3:PutObject", error)),
            }),
        }
    }

    async fn upload_in_parts(
        &self,
        key: &str,
        file: Reading<'_>,
        description: &Description,
        condition: &Condition,
    ) -> Result<Version, NotPut> {
        let call = self.client.create_multipart_upload().bucket(&self.place.bucket).key(key);
        let call = call.checksum_algorithm(ChecksumAlgorithm::Crc32).set_metadata(Some(metadata::write(description)));
        let begun = call.customize().config_override(self.patience.overrides(0)).send().await;
        let begun = begun.map_err(|error| self.failures.of("s3:PutObject", error))?;
        let id = begun.upload_id().unwrap_or_default();
        let outcome = match self.upload_parts(key, id, file, description).await {
            Ok(parts) => self.complete(key, id, parts, condition).await,
            Err(error) => Err(error.into()),
        };
        if outcome.is_err() {
            self.abort(key, id).await;
        }
        outcome
    }

    async fn upload_parts(
        &self,
        key: &str,
        id: &str,
        mut file: Reading<'_>,
        description: &Description,
    ) -> Result<Vec<CompletedPart>, RemoteError> {
        let (mut running, mut parts, mut number) = (JoinSet::new(), Vec::new(), 0);
        loop {
            let bytes = file.next(PART)?;
            if bytes.is_empty() {
                break;
            }
            number += 1;
            if running.len() == PARTS_AT_ONCE {
                parts.extend(self.joined(running.join_next().await)?);
            }
            let call = self.client.upload_part().bucket(&self.place.bucket).key(key).upload_id(id).part_number(number);
            let overrides = self.patience.overrides(bytes.len() as u64 * PARTS_AT_ONCE as u64);
            let call = call.checksum_algorithm(ChecksumAlgorithm::Crc32).body(ByteStream::from(bytes));
            let call = call.customize().interceptor(Counting(self.transfers.clone()));
            running.spawn(async move {
                let done = call.config_override(overrides).send().await?;
                let part = CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(done.e_tag)
                    .set_checksum_crc32(done.checksum_crc32);
                Ok(part.build())
            });
        }
        while !running.is_empty() {
            parts.extend(self.joined(running.join_next().await)?);
        }
        file.finish(description)?;
        parts.sort_by_key(CompletedPart::part_number);
        Ok(parts)
    }

    fn joined(&self, outcome: Option<PartOutcome>) -> Result<Option<CompletedPart>, RemoteError> {
        match outcome {
            None => Ok(None),
            Some(Ok(Ok(part))) => Ok(Some(part)),
            Some(Ok(Err(error))) => Err(self.failures.of("s3:PutObject", error)),
            Some(Err(error)) => Err(self.failures.of_body(&error)),
        }
    }

    /// Throws parts away; if that fails, the store does by its own rules.
    pub async fn abort(&self, key: &str, id: &str) {
        let call = self.client.abort_multipart_upload().bucket(&self.place.bucket).key(key).upload_id(id);
        if let Err(error) = call.customize().config_override(self.patience.overrides(0)).send().await {
            tracing::warn!(error = innermost(&error), "parts of an upload may stay in the bucket");
        }
    }

    /// Makes an object of parts, under a condition.
    pub async fn complete(
        &self,
        key: &str,
        id: &str,
        parts: Vec<CompletedPart>,
        condition: &Condition,
    ) -> Result<Version, NotPut> {
        let (free, on) = condition.headers();
        let upload = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let call = self.client.complete_multipart_upload().bucket(&self.place.bucket).key(key).upload_id(id);
        let call = call.multipart_upload(upload).set_if_none_match(free).set_if_match(on);
        match call.customize().config_override(self.patience.overrides(0)).send().await {
            Ok(done) => Ok(Version(done.e_tag().unwrap_or_default().to_owned())),
            Err(error) => Err(match unmet(&error) {
                Some(unmet) => NotPut::Unmet(unmet),
                None => NotPut::Failed(self.failures.of("s3:PutObject", error)),
            }),
        }
    }
}

type PartError = aws_sdk_s3::error::SdkError<aws_sdk_s3::operation::upload_part::UploadPartError>;
type PartOutcome = Result<Result<CompletedPart, PartError>, tokio::task::JoinError>;

impl Condition {
    /// Values of `If-None-Match` and `If-Match`.
    pub fn headers(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::Free => (Some("*".to_owned()), None),
            Self::On(version) => (None, Some(version.clone())),
        }
    }
}

/// Whether an error leaves open what the server did.
fn is_open(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Cut { .. } | RemoteError::TimedOut(_) | RemoteError::Server { .. })
}

fn done(version: Version) -> Put {
    Put::Done(PutDone { version, warnings: Vec::new() })
}

/// An archive that is read once, from its beginning to its end, and must be what was described.
struct Reading<'a> {
    path: &'a Path,
    file: File,
    hasher: sha2::Sha256,
}

impl<'a> Reading<'a> {
    fn open(path: &'a Path) -> Result<Self, RemoteError> {
        let file = File::open(path).map_err(RemoteError::file("read", path))?;
        Ok(Self { path, file, hasher: sha2::Sha256::new() })
    }

    /// The next bytes, as many as there are up to a number.
    fn next(&mut self, most: usize) -> Result<Vec<u8>, RemoteError> {
        let mut bytes = Vec::new();
        let read = (&self.file).take(most as u64).read_to_end(&mut bytes);
        read.map_err(RemoteError::file("read", self.path))?;
        self.hasher.update(&bytes);
        Ok(bytes)
    }

    /// The whole of it as the body of a request that can be sent again; large ones are read while they are sent.
    async fn into_body(mut self, description: &Description) -> Result<ByteStream, RemoteError> {
        let large = description.bytes >= LARGE;
        let mut bytes = Vec::new();
        loop {
            let piece = self.next(PART)?;
            if piece.is_empty() {
                break;
            }
            if !large {
                bytes.extend(piece);
            }
        }
        self.finish(description)?;
        if !large {
            return Ok(ByteStream::from(bytes));
        }
        let body = ByteStream::read_from().path(self.path).buffer_size(PIECE).build().await;
        body.map_err(|error| RemoteError::file("read", self.path)(std::io::Error::other(error)))
    }

    fn finish(&mut self, description: &Description) -> Result<(), RemoteError> {
        let found = Digest(self.hasher.clone().finalize().into());
        let ended = self.file.read(&mut [0]).map_err(RemoteError::file("read", self.path))? == 0;
        match ended && found == description.sha256 {
            true => Ok(()),
            false => Err(RemoteError::ArchiveChanged(self.path.to_owned())),
        }
    }
}
