//! Fetches an object. What breaks off is taken up again where it ended, as long as the object stays the same.

use std::path::Path;

use aws_sdk_s3::operation::get_object::GetObjectOutput;

use crate::remote::receive::Receiver;
use crate::remote::{Description, RemoteError, Version};

use super::failure::{innermost, is_gone};
use super::{Store, metadata};

impl Store {
    /// Fetches an object to a file: a version of it, or whatever is there.
    pub async fn fetch(&self, key: &str, version: Option<&Version>, target: &Path) -> Result<Description, RemoteError> {
        let place = format!("s3://{}/{key}", self.place.bucket);
        let mut receiver = Receiver::new(target, &self.transfers)?;
        let mut version = version.map(|version| version.0.clone());
        for attempt in 1.. {
            let mut object = self.object_from(key, version.as_deref(), receiver.bytes()).await?;
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

    async fn object_from(&self, key: &str, version: Option<&str>, from: u64) -> Result<GetObjectOutput, RemoteError> {
        let range = (from > 0).then(|| format!("bytes={from}-"));
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
