//! The cache of tokens that the AWS command line and the AWS libraries share: `~/.aws/sso/cache/<SHA-1 of a name>.json`. Where
//! `~/.aws` is a mount of the vault, it lies in the vault, and another one beneath.

use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use crate::calendar::Utc;
use crate::config;
use crate::remote::RemoteError;
use crate::remote::description::hex;

use super::device::{Registration, Token};
use super::profile::Session;

/// Where tokens are, in `.aws`.
const FOLDER: &str = "sso/cache";

/// A file of the cache, as botocore writes it. Others leave out what they do not know. What it holds is wiped when it is freed, as all
/// that this program allocates.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    start_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    access_token: String,
    expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

/// The cache within `.aws`.
pub fn within(aws: &Path) -> PathBuf {
    aws.join(FOLDER)
}

/// The cache that everybody uses.
pub fn of_the_home() -> Option<PathBuf> {
    Some(within(&config::home().ok()?.join(".aws")))
}

/// Finds out whether a token can be written, before anybody confirms anything for it.
pub fn require_writable(cache: &Path) -> Result<(), RemoteError> {
    let folder = cache.ancestors().find(|folder| folder.is_dir()).unwrap_or(cache);
    let found = access(folder, Access::WRITE_OK | Access::EXEC_OK);
    found.map_err(|error| RemoteError::file("write into", folder)(error.into()))
}

/// Puts a token in the place of the session's last one, in a file of the user alone; all of it or nothing.
pub fn write(cache: &Path, session: &Session, token: &Token) -> Result<(), RemoteError> {
    let path = path(cache, session);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(cache);
    made.map_err(RemoteError::file("make", cache))?;
    let error = || RemoteError::file("write", &path);
    let text = serde_json::to_vec(&Entry::of(session, token)).map(Zeroizing::new);
    let text = text.map_err(|failed| error()(failed.into()))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".tazpod-").permissions(PermissionsExt::from_mode(0o600));
    let mut file = builder.tempfile_in(cache).map_err(RemoteError::file("write into", cache))?;
    file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(error())?;
    file.persist(&path).map(drop).map_err(|failed| error()(failed.error))
}

/// A session's token; `None`: there is none that can be read.
pub fn read(cache: &Path, session: &Session) -> Option<Token> {
    let text = Zeroizing::new(std::fs::read(path(cache, session)).ok()?);
    serde_json::from_slice::<Entry>(&text).ok()?.token()
}

impl Entry {
    fn of(session: &Session, token: &Token) -> Self {
        let registration = token.registration.as_ref();
        Self {
            start_url: Some(session.start_url.clone()),
            region: Some(session.region.clone()),
            access_token: token.access.to_string(),
            expires_at: Utc::of(token.expires_at).rfc_3339(),
            client_id: registration.map(|client| client.id.clone()),
            client_secret: registration.map(|client| client.secret.to_string()),
            registration_expires_at: registration.map(|client| Utc::of(client.expires_at).rfc_3339()),
            refresh_token: token.refresh.as_ref().map(|token| token.to_string()),
        }
    }

    fn token(self) -> Option<Token> {
        let registration = match (self.client_id, self.client_secret) {
            (Some(id), Some(secret)) => Some(Registration {
                id,
                secret: Zeroizing::new(secret),
                expires_at: self.registration_expires_at.and_then(|text| time(&text)).unwrap_or(UNIX_EPOCH),
            }),
            _ => None,
        };
        Some(Token {
            access: Zeroizing::new(self.access_token),
            expires_at: time(&self.expires_at)?,
            refresh: self.refresh_token.map(Zeroizing::new),
            registration,
        })
    }
}

fn time(text: &str) -> Option<SystemTime> {
    // Old versions of the AWS command line wrote the zone's name.
    let text = text.replace("UTC", "Z");
    SystemTime::try_from(DateTime::from_str(&text, Format::DateTimeWithOffset).ok()?).ok()
}

fn path(cache: &Path, session: &Session) -> PathBuf {
    let name = hex(&Sha1::digest(session.cache_key().as_bytes()));
    cache.join(format!("{name}.json"))
}
