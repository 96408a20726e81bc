//! The cache of tokens that the AWS command line and the AWS libraries share: `~/.aws/sso/cache/<SHA-1 of a name>.json`. Where
//! `~/.aws` is a mount of the vault, it lies in the vault.

use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::time::SystemTime;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use crate::calendar::Utc;
use crate::config;
use crate::remote::RemoteError;
use crate::remote::description::hex;

use super::device::Token;
use super::profile::Session;

/// A file of the cache, as botocore writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    start_url: &'a str,
    region: &'a str,
    access_token: &'a str,
    expires_at: String,
    client_id: &'a str,
    client_secret: &'a str,
    registration_expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
}

/// What is looked at of one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expiry {
    expires_at: String,
}

/// Puts a token in the place of the session's last one, in a file of the user alone; all of it or nothing.
pub fn write(session: &Session, token: &Token) -> Result<(), RemoteError> {
    let path = path(session).ok_or_else(|| RemoteError::Credentials("there is no home folder".to_owned()))?;
    let folder = path.parent().expect("it lies in the cache");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(RemoteError::file("make", folder))?;
    let entry = Entry {
        start_url: &session.start_url,
        region: &session.region,
        access_token: &token.access,
        expires_at: Utc::of(token.expires_at).rfc_3339(),
        client_id: &token.client_id,
        client_secret: &token.client_secret,
        registration_expires_at: Utc::of(token.client_expires_at).rfc_3339(),
        refresh_token: token.refresh.as_ref().map(|token| token.as_str()),
    };
    let error = || RemoteError::file("write", &path);
    let text = serde_json::to_vec(&entry).map(Zeroizing::new).map_err(|failed| error()(failed.into()))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".tazpod-").permissions(PermissionsExt::from_mode(0o600));
    let mut file = builder.tempfile_in(folder).map_err(RemoteError::file("write into", folder))?;
    file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(error())?;
    file.persist(&path).map(drop).map_err(|failed| error()(failed.error))
}

/// Until when a session's token is good; `None`: there is none that can be read.
pub fn expiry(session: &Session) -> Option<SystemTime> {
    let text = Zeroizing::new(std::fs::read(path(session)?).ok()?);
    let entry: Expiry = serde_json::from_slice(&text).ok()?;
    // Old versions of the AWS command line wrote the zone's name.
    let text = entry.expires_at.replace("UTC", "Z");
    SystemTime::try_from(DateTime::from_str(&text, Format::DateTimeWithOffset).ok()?).ok()
}

fn path(session: &Session) -> Option<PathBuf> {
    let name = hex(&Sha1::digest(session.cache_key().as_bytes()));
    Some(config::home().ok()?.join(".aws/sso/cache").join(format!("{name}.json")))
}
