//! Buckets of a real server: the contract, credentials, permissions, and what breaks on the way.

mod access;
mod breaking;
mod careless;
mod interoperation;
#[path = "../../../../../tests/common/moto.rs"]
mod moto;
#[path = "../../../../../tests/common/s3s.rs"]
mod s3s;
#[path = "../../../../../tests/common/waiting.rs"]
mod waiting;

use std::time::Duration;

use zeroize::Zeroizing;

use crate::remote::tests::{Bench, head, run};

use super::*;
use moto::{Moto, User};

/// A server, and a user who may do everything.
struct Server {
    moto: Moto,
    user: User,
    parts: Parts,
}

impl Server {
    fn start() -> Self {
        let mut moto = Moto::start();
        let user = moto.user();
        Self { moto, user, parts: Parts::Never }
    }

    /// One that keeps the conditions of uploads in parts.
    fn start_with_parts() -> Self {
        let mut moto = Moto::start_with(&["--conditional-parts"]);
        let user = moto.user();
        Self { moto, user, parts: Parts::Large }
    }

    /// With its bucket made.
    fn ready(&self, bucket: &str) -> S3Remote {
        let remote = self.remote(bucket);
        remote.make_storage().unwrap();
        remote
    }
}

fn place(endpoint: &str, bucket: &str) -> S3Place {
    S3Place {
        bucket: bucket.to_owned(),
        prefix: "tazpod/vault/".to_owned(),
        region: Some("eu-central-1".to_owned()),
        endpoint: Some(endpoint.to_owned()),
        path_style: true,
        profile: None,
    }
}

/// Long enough for a busy machine, short enough for a test.
fn patience() -> Patience {
    Patience {
        connect: Duration::from_secs(2),
        read: Duration::from_secs(30),
        stalled: Duration::from_secs(3),
        attempts: 2,
    }
}

/// What a vault with a user's keys holds.
fn vault_of(user: &User) -> VaultFiles {
    VaultFiles::read(|path| {
        let text = match path {
            "aws_access_key_id" => &user.id,
            "aws_secret_access_key" => &user.secret,
            "aws_session_token" => user.token.as_ref()?,
            _ => return None,
        };
        Some(Zeroizing::new(text.clone().into_bytes()))
    })
}

fn connect(endpoint: &str, bucket: &str, user: &User) -> S3Remote {
    S3Remote::open(&place(endpoint, bucket), &mut vault_of(user), patience(), Parts::Large).unwrap()
}

/// A server that buckets are reached on.
trait Buckets: Sync {
    fn remote(&self, bucket: &str) -> S3Remote;
}

impl Buckets for Server {
    fn remote(&self, bucket: &str) -> S3Remote {
        let place = place(&self.moto.endpoint(), bucket);
        S3Remote::open(&place, &mut vault_of(&self.user), patience(), self.parts).unwrap()
    }
}

impl<T: Buckets> Bench for T {
    fn open(&self, name: &str) -> Box<dyn Remote> {
        Box::new(self.remote(name))
    }

    fn damage_head(&self, name: &str) {
        damage_head(&self.remote(name), name);
    }

    fn plant_copy(&self, name: &str, file: &str, bytes: &[u8]) {
        plant_copy(&self.remote(name), name, file, bytes);
    }

    fn history_files(&self, name: &str) -> Vec<String> {
        history_files(&self.remote(name), name)
    }
}

fn damage_head(remote: &S3Remote, bucket: &str) {
    let key = remote.store.place.archive_key();
    remote.runtime.block_on(async {
        let client = &remote.store.client;
        let object = client.get_object().bucket(bucket).key(&key).send().await.unwrap();
        let metadata = object.metadata().cloned();
        let mut bytes = object.body.collect().await.unwrap().to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let call = client.put_object().bucket(bucket).key(&key).set_metadata(metadata).body(bytes.into());
        call.send().await.unwrap();
    });
}

fn plant_copy(remote: &S3Remote, bucket: &str, file: &str, bytes: &[u8]) {
    let key = remote.store.copy_key(&CopyName(file.to_owned()));
    let call = remote.store.client.put_object().bucket(bucket).key(key).body(bytes.to_vec().into());
    remote.runtime.block_on(call.send()).unwrap();
}

fn history_files(remote: &S3Remote, bucket: &str) -> Vec<String> {
    let call = remote.store.client.list_objects_v2().bucket(bucket).prefix("tazpod/vault/history/");
    let listed = remote.runtime.block_on(call.send()).unwrap();
    listed.contents().iter().map(|object| object.key().unwrap().to_owned()).collect()
}

#[test]
fn a_bucket_keeps_the_contract() {
    let server = Server::start();
    run(&server);
    assert_eq!(server.remote("conditions-are-kept").probe().unwrap(), Conditions::KeptInOneRequest);
}

#[test]
fn a_bucket_that_takes_parts_on_a_condition_keeps_the_contract() {
    let server = Server::start_with_parts();
    run(&server);
    assert_eq!(server.remote("conditions-are-kept").probe().unwrap(), Conditions::Kept);
}
