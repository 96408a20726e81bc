//! Makes the bucket, and finds out what the store behind it really does.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, ChecksumAlgorithm, CompletedPart, CreateBucketConfiguration,
    VersioningConfiguration,
};
use tokio::task::JoinSet;

use crate::remote::description::hex;
use crate::remote::{Conditions, RemoteError};

use super::Store;
use super::failure::unmet;
use super::upload::{Condition, NotPut};

/// The region whose name must not be given when a bucket is made.
const UNNAMED_REGION: &str = "us-east-1";
/// Writers that race in a probe, and how often.
const RACERS: usize = 8;
const RACES: usize = 3;

impl Store {
    /// Makes the bucket where it is missing, and turns versioning on where that is allowed.
    pub async fn make_storage(&self) -> Result<Vec<String>, RemoteError> {
        let bucket = &self.place.bucket;
        let list = self.client.list_objects_v2().bucket(bucket).prefix(&self.place.prefix).max_keys(1).send().await;
        let mut told = Vec::new();
        match list.map_err(|error| self.failures.of("s3:ListBucket", error)) {
            Ok(_) => told.push(format!("The bucket {bucket} is there already")),
            Err(RemoteError::NoStorage(_)) => {
                self.make_bucket().await?;
                told.push(format!("Made the bucket {bucket} in {}", self.region));
            }
            Err(error) => return Err(error),
        }
        told.push(match self.turn_versioning_on().await {
            Ok(()) => "Versioning is on: the store keeps what is overwritten or deleted".to_owned(),
            Err(error) => format!("Versioning was not turned on ({error}); it works without"),
        });
        Ok(told)
    }

    async fn make_bucket(&self) -> Result<(), RemoteError> {
        let place = (self.region != UNNAMED_REGION).then(|| {
            let region = BucketLocationConstraint::from(self.region.as_str());
            CreateBucketConfiguration::builder().location_constraint(region).build()
        });
        let call = self.client.create_bucket().bucket(&self.place.bucket).set_create_bucket_configuration(place);
        call.send().await.map(drop).map_err(|error| self.failures.of("s3:CreateBucket", error))
    }

    async fn turn_versioning_on(&self) -> Result<(), RemoteError> {
        let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let call = self.client.put_bucket_versioning().bucket(&self.place.bucket).versioning_configuration(on);
        call.send().await.map(drop).map_err(|error| self.failures.of("s3:PutBucketVersioning", error))
    }

    /// Puts small objects under conditions that hold and that do not, and lets writers race.
    pub async fn probe(&self) -> Result<Conditions, RemoteError> {
        let nonce: [u8; 8] = vaultfs::crypto::random().map_err(|error| RemoteError::Credentials(error.to_string()))?;
        let key = format!("{}probe-{}", self.place.prefix, hex(&nonce));
        let outcome = self.probe_with(&key).await;
        if let Err(error) = self.remove(&key).await {
            tracing::warn!(%error, key, "a small object of the probe stays");
        }
        outcome
    }

    async fn probe_with(&self, key: &str) -> Result<Conditions, RemoteError> {
        let broken = |reason: &str| Ok(Conditions::Broken(reason.to_owned()));
        let Some(first) = self.try_put(key, b"1", &Condition::Free).await? else {
            return broken("it refuses to put an object where there is none, on that condition");
        };
        if self.try_put(key, b"2", &Condition::Free).await?.is_some() {
            return broken("it overwrote an object although none was to be there");
        }
        let strange = Condition::On("\"00000000000000000000000000000000\"".to_owned());
        if self.try_put(key, b"3", &strange).await?.is_some() {
            return broken("it overwrote an object although another version was to be there");
        }
        let Some(mut version) = self.try_put(key, b"4", &Condition::On(first.clone())).await? else {
            return broken("it refuses to overwrite the version that is there");
        };
        if self.try_put(key, b"5", &Condition::On(first)).await?.is_some() {
            return broken("it overwrote an object although an older version was to be there");
        }
        for race in 0..RACES {
            let winners = self.race(key, race, &Condition::On(version.clone())).await?;
            match &winners[..] {
                [winner] => version.clone_from(winner),
                // An answer was lost: nobody knows who won.
                [] => break,
                _ => {
                    return broken(
                        "of several that wrote at once on the same condition, more than one was told that it won",
                    );
                }
            }
        }
        for condition in [Condition::Free, strange] {
            if !self.completes_only_on(&condition, key).await? {
                return Ok(Conditions::KeptInOneRequest);
            }
        }
        Ok(Conditions::Kept)
    }

    /// Tries to complete an upload in parts over an object, on a condition that does not hold.
    async fn completes_only_on(&self, condition: &Condition, key: &str) -> Result<bool, RemoteError> {
        let begun = self.client.create_multipart_upload().bucket(&self.place.bucket).key(key);
        let begun = begun.checksum_algorithm(ChecksumAlgorithm::Crc32).send().await;
        let begun = begun.map_err(|error| self.failures.of("s3:PutObject", error))?;
        let id = begun.upload_id().unwrap_or_default();
        let part = self.client.upload_part().bucket(&self.place.bucket).key(key).upload_id(id).part_number(1);
        let part =
            part.checksum_algorithm(ChecksumAlgorithm::Crc32).body(ByteStream::from_static(b"part")).send().await;
        let part = part.map_err(|error| self.failures.of("s3:PutObject", error))?;
        let part =
            CompletedPart::builder().part_number(1).set_e_tag(part.e_tag).set_checksum_crc32(part.checksum_crc32);
        let outcome = self.complete(key, id, vec![part.build()], condition).await;
        if outcome.is_err() {
            self.abort(key, id).await;
        }
        match outcome {
            Ok(_) => Ok(false),
            Err(NotPut::Unmet(_)) => Ok(true),
            Err(NotPut::Failed(error)) => Err(error),
        }
    }

    /// Writers that all want to follow the same version; returns what those got who were told that they did.
    async fn race(&self, key: &str, race: usize, condition: &Condition) -> Result<Vec<String>, RemoteError> {
        let mut racers = JoinSet::new();
        for racer in 0..RACERS {
            let (free, on) = condition.headers();
            let call = self.client.put_object().bucket(&self.place.bucket).key(key).set_if_none_match(free);
            let body = ByteStream::from(format!("race {race}, racer {racer}").into_bytes());
            racers.spawn(call.set_if_match(on).body(body).send());
        }
        let mut winners = Vec::new();
        while let Some(outcome) = racers.join_next().await {
            match outcome.map_err(|error| self.failures.of_body(&error))? {
                Ok(put) => winners.push(put.e_tag().unwrap_or_default().to_owned()),
                Err(error) if unmet(&error).is_some() => {}
                Err(error) => return Err(self.failures.of("s3:PutObject", error)),
            }
        }
        Ok(winners)
    }

    /// Puts a small object; `None`: the condition was said not to hold, or to be none that the store knows.
    async fn try_put(
        &self,
        key: &str,
        body: &'static [u8],
        condition: &Condition,
    ) -> Result<Option<String>, RemoteError> {
        let (free, on) = condition.headers();
        let call =
            self.client.put_object().bucket(&self.place.bucket).key(key).set_if_none_match(free).set_if_match(on);
        match call.body(ByteStream::from_static(body)).send().await {
            Ok(put) => Ok(Some(put.e_tag().unwrap_or_default().to_owned())),
            Err(error) if unmet(&error).is_some() => Ok(None),
            Err(error) => match self.failures.of("s3:PutObject", error) {
                RemoteError::Server { reason, .. } if reason.starts_with("501") => Ok(None),
                error => Err(error),
            },
        }
    }
}
