//! The history in a bucket.

use std::path::Path;
use std::time::SystemTime;

use crate::remote::{CopyName, Description, HistoryCopy, RemoteError, Version, history, names};

use super::failure::Unmet;
use super::upload::{Condition, NotPut};
use super::{Store, metadata, system_time};

impl Store {
    /// Lists the copies, the newest first.
    pub async fn copies(&self) -> Result<Vec<HistoryCopy>, RemoteError> {
        let folder = format!("{}{}/", self.place.prefix, names::HISTORY);
        let call = self.client.list_objects_v2().bucket(&self.place.bucket).prefix(&folder);
        let mut pages = call.into_paginator().send();
        let mut copies = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.failures.of("s3:ListBucket", error))?;
            for object in page.contents() {
                let Some(name) = object.key().and_then(|key| key.strip_prefix(&folder)) else { continue };
                let Some(sequence) = names::parse_copy(name) else { continue };
                copies.push(HistoryCopy {
                    name: CopyName(name.to_owned()),
                    bytes: u64::try_from(object.size().unwrap_or(0)).unwrap_or(0),
                    modified: system_time(object.last_modified()),
                    sequence,
                });
            }
        }
        history::sort(&mut copies);
        Ok(copies)
    }

    /// Lets the store copy what was just put; where it cannot, or somebody was faster, the archive is sent again.
    pub async fn put_copy(
        &self,
        archive: &Path,
        description: &Description,
        of: &Version,
    ) -> Result<CopyName, RemoteError> {
        let name = names::copy(SystemTime::now(), description.state.sequence);
        let key = self.copy_key(&name);
        if self.copy_within(&key, of).await {
            if self.is_whole(&key, description).await? {
                return Ok(name);
            }
            // The store copied what is there now, whatever it was asked for.
            if let Err(error) = self.remove(&key).await {
                tracing::warn!(%error, key, "a copy with a wrong name stays in the history");
            }
        }
        loop {
            let name = names::copy(SystemTime::now(), description.state.sequence);
            match self.upload(&self.copy_key(&name), archive, description, &Condition::Free).await {
                Ok(_) => return Ok(name),
                Err(NotPut::Failed(error)) => return Err(error),
                // The name holds the time to the millisecond: the next one is free.
                Err(NotPut::Unmet(Unmet::Condition | Unmet::Busy)) => {}
            }
        }
    }

    async fn copy_within(&self, key: &str, of: &Version) -> bool {
        let source = format!("{}/{}", self.place.bucket, self.place.archive_key());
        let call = self.client.copy_object().bucket(&self.place.bucket).key(key).copy_source(percent_encoded(&source));
        match call.copy_source_if_match(&of.0).if_none_match("*").send().await {
            Ok(_) => true,
            Err(error) => {
                tracing::info!(
                    error = super::failure::innermost(&error),
                    "the store copies nothing; the archive is sent again"
                );
                false
            }
        }
    }

    /// Whether an object is the archive, by what the store tells of it.
    async fn is_whole(&self, key: &str, description: &Description) -> Result<bool, RemoteError> {
        let call = self.client.head_object().bucket(&self.place.bucket).key(key);
        let found = call.send().await.map_err(|error| self.failures.of("s3:GetObject", error))?;
        let length = found.content_length().and_then(|length| u64::try_from(length).ok());
        Ok(length == Some(description.bytes) && metadata::read(found.metadata()).sha256 == Some(description.sha256))
    }

    /// Removes an object; one that is gone is no error.
    pub async fn remove(&self, key: &str) -> Result<(), RemoteError> {
        let call = self.client.delete_object().bucket(&self.place.bucket).key(key);
        call.send().await.map(drop).map_err(|error| self.failures.of("s3:DeleteObject", error))
    }
}

/// As a header's value wants it: slashes stay.
fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}
