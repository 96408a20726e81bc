//! Fetches an object: a large one in ranges, several at once. What breaks off is taken up again where it ended, as long as the object
//! stays the same.

use std::ops::Range;
use std::path::Path;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::remote::receive::{Expected, Receiver};
use crate::remote::{Description, Head, RemoteError, Version};

use super::failure::{innermost, is_gone};
use super::{Store, metadata};

/// Objects from this size on come in ranges, in bytes.
const LARGE: u64 = 16 << 20;
/// Bytes of a range.
const RANGE: u64 = 8 << 20;
/// Ranges under way at once, which are in memory.
const RANGES_AT_ONCE: usize = 4;

impl Store {
    /// Fetches an object to a file: a version of it, or whatever is there.
    pub async fn fetch(&self, key: &str, version: Option<&Version>, target: &Path) -> Result<Description, RemoteError> {
        let receiver = Receiver::new(target, &self.transfers)?;
        match version.and_then(|version| self.seen_as_large(version)) {
            Some(head) => self.fetch_in_ranges(key, &head, receiver).await,
            None => self.fetch_through(key, version, receiver).await,
        }
    }

    /// What was told of a version when it was last looked at, where it is large and our own checksum of it is known: stores have none of
    /// a range.
    fn seen_as_large(&self, version: &Version) -> Option<Head> {
        let seen = self.seen.lock().clone();
        seen.filter(|head| head.version == *version && head.bytes >= LARGE && head.sha256.is_some())
    }

    async fn fetch_in_ranges(
        &self,
        key: &str,
        head: &Head,
        mut receiver: Receiver,
    ) -> Result<Description, RemoteError> {
        let place = format!("s3://{}/{key}", self.place.bucket);
        receiver.expect(&place, head.bytes)?;
        let starts = stream::iter((0..head.bytes).step_by(RANGE as usize));
        let ranges = starts.map(|start| self.range(key, &head.version, start..head.bytes.min(start + RANGE)));
        let mut ranges = ranges.buffered(RANGES_AT_ONCE);
        while let Some(pieces) = ranges.next().await {
            pieces?.iter().try_for_each(|piece| receiver.store(&place, piece))?;
        }
        receiver.finish(&place, &Expected { bytes: Some(head.bytes), sha256: head.sha256, state: head.state })
    }

    async fn range(&self, key: &str, version: &Version, range: Range<u64>) -> Result<Vec<Bytes>, RemoteError> {
        let place = || format!("s3://{}/{key}", self.place.bucket);
        let (mut pieces, mut at) = (Vec::new(), range.start);
        for attempt in 1.. {
            let asked = format!("bytes={at}-{}", range.end - 1);
            let mut object = self.object(key, Some(&version.0), Some(asked)).await?;
            let reason = loop {
                match object.body.next().await {
                    Some(Ok(piece)) => {
                        at += piece.len() as u64;
                        self.transfers.add(piece.len() as u64);
                        pieces.push(piece);
                    }
                    Some(Err(error)) => break innermost(&error),
                    None => break "the answer ended early".to_owned(),
                }
                if at > range.end {
                    let reason = "more came of it than was asked for".to_owned();
                    return Err(RemoteError::Damaged { place: place(), reason });
                }
            };
            match at == range.end {
                true => return Ok(pieces),
                false if attempt >= self.patience.attempts => return Err(RemoteError::Cut { place: place(), reason }),
                false => tracing::info!(%reason, at, "a download broke off"),
            }
        }
        unreachable!("the loop ends by returning")
    }

    async fn fetch_through(
        &self,
        key: &str,
        version: Option<&Version>,
        mut receiver: Receiver,
    ) -> Result<Description, RemoteError> {
        let place = format!("s3://{}/{key}", self.place.bucket);
        let mut version = version.map(|version| version.0.clone());
        for attempt in 1.. {
            let range = (receiver.bytes() > 0).then(|| format!("bytes={}-", receiver.bytes()));
            let mut object = self.object(key, version.as_deref(), range).await?;
            let mut expected = metadata::read(object.metadata());
            let left = object.content_length().and_then(|length| u64::try_from(length).ok());
            expected.bytes = left.map(|left| receiver.bytes() + left);
            if let Some(bytes) = expected.bytes {
                receiver.expect(&place, bytes)?;
            }
            version = object.e_tag().map(str::to_owned);
            let broken = take(&place, &mut object, &mut receiver).await?;
            match broken {
                None => return receiver.finish(&place, &expected),
                // All bytes came, and then the SDK found that they do not fit a checksum that the store has of them. (Some stores
                // copy an object and keep the checksum of its parts.) Our own decides where there is one.
                Some(_) if expected.bytes == Some(receiver.bytes()) && expected.sha256.is_some() => {
                    return receiver.finish(&place, &expected);
                }
                Some(_) if expected.bytes == Some(receiver.bytes()) => {
                    let reason = "its checksum is not the one that the store has of it".to_owned();
                    return Err(RemoteError::Damaged { place, reason });
                }
                Some(reason) if attempt >= self.patience.attempts || version.is_none() => {
                    return Err(RemoteError::Cut { place, reason });
                }
                Some(reason) => tracing::info!(%reason, bytes = receiver.bytes(), "a download broke off"),
            }
        }
        unreachable!("the loop ends by returning")
    }

    async fn object(
        &self,
        key: &str,
        version: Option<&str>,
        range: Option<String>,
    ) -> Result<GetObjectOutput, RemoteError> {
        let call = self.client.get_object().bucket(&self.place.bucket).key(key);
        let call = call.set_if_match(version.map(str::to_owned)).set_range(range);
        match call.customize().config_override(self.patience.overrides(0)).send().await {
            // Some stores do not look at If-Match here.
            Ok(object) if version.is_none_or(|version| object.e_tag() == Some(version)) => Ok(object),
            Ok(_) => Err(RemoteError::Changed(format!("s3://{}/{key}", self.place.bucket))),
            Err(error) if is_gone(&error) => Err(RemoteError::Changed(format!("s3://{}/{key}", self.place.bucket))),
            Err(error) => Err(self.failures.of("s3:GetObject", error)),
        }
    }
}

/// Takes bytes until they end; returns why they ended too early.
async fn take(
    place: &str,
    object: &mut GetObjectOutput,
    receiver: &mut Receiver,
) -> Result<Option<String>, RemoteError> {
    loop {
        match object.body.next().await {
            None => return Ok(None),
            Some(Ok(bytes)) => receiver.take(place, &bytes)?,
            Some(Err(error)) => return Ok(Some(innermost(&error))),
        }
    }
}
