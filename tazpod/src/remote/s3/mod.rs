//! A bucket as a remote: Amazon's or any server that speaks its protocol. This folder is the only place that imports the AWS
//! crates; calls into it block, on a runtime of its own.

mod client;
mod copies;
mod counting;
mod download;
mod failure;
mod machine_role;
mod metadata;
pub mod policy;
pub mod single_sign_on;
mod storage;
#[cfg(test)]
mod tests;
mod upload;
mod verified;

use std::path::Path;
use std::time::SystemTime;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::DateTime;
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use crate::config::S3Place;

use super::credentials::VaultFiles;
use super::transfer::Transfers;
use super::{Conditions, CopyName, Description, Head, HistoryCopy, Put, Remote, RemoteError, Version, names};
pub use client::Patience;
use failure::Failures;
pub use upload::Parts;

/// A bucket.
pub struct S3Remote {
    runtime: Runtime,
    store: Store,
}

/// What calls need.
struct Store {
    client: Client,
    place: S3Place,
    region: String,
    patience: Patience,
    parts: Parts,
    transfers: Transfers,
    failures: Failures,
    /// What was last found at the archive's key.
    seen: Mutex<Option<Head>>,
}

/// Names a bucket, and where in it.
pub fn name_of(place: &S3Place) -> String {
    let at = place.endpoint.as_ref().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
    format!("s3://{}/{}{at}", place.bucket, place.prefix)
}

impl S3Remote {
    /// Finds credentials; nothing goes over the network yet.
    ///
    /// # Errors
    /// [`RemoteError::Credentials`]: this process cannot make connections at all.
    pub fn open(
        place: &S3Place,
        vault: &mut VaultFiles,
        patience: Patience,
        parts: Parts,
    ) -> Result<Self, RemoteError> {
        let runtime = runtime()?;
        let store = runtime.block_on(client::connect(place, vault, patience, parts));
        Ok(Self { runtime, store })
    }
}

impl Remote for S3Remote {
    fn set_transfers(&mut self, transfers: Transfers) {
        self.store.transfers = transfers;
    }

    fn place(&self) -> String {
        name_of(&self.store.place)
    }

    fn heads(&self) -> Result<Vec<Head>, RemoteError> {
        self.runtime.block_on(self.store.head()).map(Vec::from_iter)
    }

    fn fetch(&self, version: &Version, target: &Path) -> Result<Description, RemoteError> {
        let key = self.store.place.archive_key();
        self.runtime.block_on(self.store.fetch(&key, Some(version), target))
    }

    fn put(&self, archive: &Path, description: &Description, seen: &[Version]) -> Result<Put, RemoteError> {
        self.runtime.block_on(self.store.put(archive, description, seen))
    }

    fn copies(&self) -> Result<Vec<HistoryCopy>, RemoteError> {
        self.runtime.block_on(self.store.copies())
    }

    fn fetch_copy(&self, copy: &CopyName, target: &Path) -> Result<Description, RemoteError> {
        let key = self.store.copy_key(copy);
        self.runtime.block_on(self.store.fetch(&key, None, target))
    }

    fn put_copy(&self, archive: &Path, description: &Description, of: &Version) -> Result<CopyName, RemoteError> {
        self.runtime.block_on(self.store.put_copy(archive, description, of))
    }

    fn remove_copy(&self, copy: &CopyName) -> Result<(), RemoteError> {
        match names::parse_copy(&copy.0) {
            Some(_) => self.runtime.block_on(self.store.remove(&self.store.copy_key(copy))),
            None => Ok(()),
        }
    }

    fn make_storage(&self) -> Result<Vec<String>, RemoteError> {
        self.runtime.block_on(self.store.make_storage())
    }

    fn probe(&self) -> Result<Conditions, RemoteError> {
        self.runtime.block_on(self.store.probe())
    }
}

impl Store {
    fn copy_key(&self, copy: &CopyName) -> String {
        format!("{}{}/{}", self.place.prefix, names::HISTORY, copy.0)
    }

    /// What is at the archive's key. Where that cannot be told from an answer without a body, the list tells.
    async fn head(&self) -> Result<Option<Head>, RemoteError> {
        let key = self.place.archive_key();
        let call = self.client.head_object().bucket(&self.place.bucket).key(&key);
        let found = match call.customize().config_override(self.patience.overrides(0)).send().await {
            Ok(found) => found,
            Err(error) if failure::has_no_body(&error) => return self.explain_missing_head(&key).await.map(|()| None),
            Err(error) => return Err(self.failures.of("s3:GetObject", error)),
        };
        let told = metadata::read(found.metadata());
        let head = Head {
            version: Version(found.e_tag().unwrap_or_default().to_owned()),
            bytes: u64::try_from(found.content_length().unwrap_or(0)).unwrap_or(0),
            modified: system_time(found.last_modified()),
            state: told.state,
            sha256: told.sha256,
        };
        *self.seen.lock() = Some(head.clone());
        Ok(Some(head))
    }

    /// Ok: there is no such object. (Without the right to list everything a missing object is as forbidden as a secret one.)
    async fn explain_missing_head(&self, key: &str) -> Result<(), RemoteError> {
        let call = self.client.list_objects_v2().bucket(&self.place.bucket).prefix(key).max_keys(1);
        match call.customize().config_override(self.patience.overrides(0)).send().await {
            Ok(list) if list.contents().iter().any(|object| object.key() == Some(key)) => {
                Err(RemoteError::NoPermission { place: self.failures.place.clone(), action: "s3:GetObject" })
            }
            Ok(_) => Ok(()),
            Err(error) => Err(self.failures.of("s3:ListBucket", error)),
        }
    }
}

/// Where calls are made: in this thread, while it waits for them.
fn runtime() -> Result<Runtime, RemoteError> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| RemoteError::Credentials(error.to_string()))
}

/// A time of the store.
fn system_time(time: Option<&DateTime>) -> SystemTime {
    time.and_then(|time| SystemTime::try_from(*time).ok()).unwrap_or(SystemTime::UNIX_EPOCH)
}
