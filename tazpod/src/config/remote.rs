//! Where an archive travels to: the section `remote:`, or what the old tool's configuration means by its own keys.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::{ConfigError, expand_home};

/// Copies that are kept where nothing else is said.
const DEFAULT_RETENTION: u64 = 50;
/// Bucket, region and folder of the old tool.
const OLD_BUCKET: &str = "tazlab-storage";
const OLD_REGION: &str = "eu-central-1";
const OLD_PREFIX: &str = "tazpod/vault/";

/// `remote:` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RemoteSection {
    #[serde(rename = "type")]
    kind: Option<Kind>,
    path: Option<PathBuf>,
    bucket: Option<String>,
    prefix: Option<String>,
    region: Option<String>,
    endpoint: Option<String>,
    path_style: Option<bool>,
    profile: Option<String>,
    retention: Option<Value>,
}

/// `remote.type`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Directory,
    S3,
}

/// `aws_sso:`, the old tool's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct OldSection {
    profile: Option<String>,
    bucket: Option<String>,
    region: Option<String>,
}

/// How many copies of the archive are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Nothing is ever deleted.
    All,
    /// The newest ones.
    Newest(u64),
}

/// Where the archive travels to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemotePlan {
    /// The place.
    pub place: RemotePlace,
    /// Copies that are kept there.
    pub retention: Retention,
}

/// A place for archives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemotePlace {
    /// A folder.
    Directory(PathBuf),
    /// A bucket.
    S3(S3Place),
}

/// A bucket, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Place {
    /// Its name.
    pub bucket: String,
    /// What the keys of all objects begin with: empty, or with a slash at its end.
    pub prefix: String,
    /// Its region; `None`: as the environment or the profile say.
    pub region: Option<String>,
    /// Of a server that is not Amazon's.
    pub endpoint: Option<String>,
    /// Whether the bucket is named in the path and not in the host's name.
    pub path_style: bool,
    /// The profile that credentials come from; `None`: as the environment says, or `default`.
    pub profile: Option<String>,
}

/// The sections of one file that are about remotes.
#[derive(Clone, Copy, Debug)]
pub struct RemoteSections<'a> {
    /// `remote:`
    pub remote: Option<&'a RemoteSection>,
    /// `aws_sso:`
    pub old: Option<&'a OldSection>,
    /// `vault.retention`
    pub old_retention: Option<&'a Value>,
}

impl RemoteSections<'_> {
    /// The keys that count only from a trusted file.
    pub fn keys(&self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        keys.extend(self.remote.map(|_| "remote"));
        keys.extend(self.old.map(|_| "aws_sso"));
        if !keys.is_empty() {
            keys.extend(self.old_retention.map(|_| "vault.retention"));
        }
        keys
    }

    /// Makes the plan; `base` is what relative paths begin at. `None`: the file names no remote.
    ///
    /// # Errors
    /// [`ConfigError::Value`], [`ConfigError::NoHome`].
    pub fn resolve(&self, base: &Path, warnings: &mut Vec<String>) -> Result<Option<RemotePlan>, ConfigError> {
        let place = match (self.remote, self.old) {
            (Some(remote), old) => remote.place(base, old)?,
            (None, Some(old)) => RemotePlace::S3(S3Place {
                bucket: text(&old.bucket).unwrap_or_else(|| OLD_BUCKET.to_owned()),
                prefix: OLD_PREFIX.to_owned(),
                region: Some(text(&old.region).unwrap_or_else(|| OLD_REGION.to_owned())),
                endpoint: None,
                path_style: false,
                profile: text(&old.profile),
            }),
            (None, None) => return Ok(None),
        };
        let said = self.remote.and_then(|remote| remote.retention.as_ref()).or(self.old_retention);
        Ok(Some(RemotePlan { place, retention: retention(said, warnings) }))
    }
}

impl RemoteSection {
    fn place(&self, base: &Path, old: Option<&OldSection>) -> Result<RemotePlace, ConfigError> {
        let bucket = text(&self.bucket).or_else(|| old.and_then(|old| text(&old.bucket)));
        let kind = match (self.kind, &self.path, &bucket) {
            (Some(kind), ..) => kind,
            (None, Some(_), None) => Kind::Directory,
            (None, None, Some(_)) => Kind::S3,
            _ => return Err(wrong("remote.type", "say 'directory' or 's3'")),
        };
        match kind {
            Kind::Directory => {
                let path = self.path.as_ref().filter(|path| !path.as_os_str().is_empty());
                let path = path.ok_or_else(|| wrong("remote.path", "a directory remote needs the folder's path"))?;
                Ok(RemotePlace::Directory(base.join(expand_home(path)?)))
            }
            Kind::S3 => {
                let bucket = bucket.ok_or_else(|| wrong("remote.bucket", "an s3 remote needs the bucket's name"))?;
                check_endpoint(self.endpoint.as_deref())?;
                Ok(RemotePlace::S3(S3Place {
                    bucket,
                    prefix: prefix(self.prefix.as_deref().unwrap_or(OLD_PREFIX)),
                    region: text(&self.region).or_else(|| old.and_then(|old| text(&old.region))),
                    endpoint: text(&self.endpoint),
                    path_style: self.path_style.unwrap_or(self.endpoint.is_some()),
                    profile: text(&self.profile).or_else(|| old.and_then(|old| text(&old.profile))),
                }))
            }
        }
    }
}

/// Passwords do not go through a network in the clear; the archive is encrypted and signatures tell no key, but a host that
/// is not named fully would be somebody else's.
fn check_endpoint(endpoint: Option<&str>) -> Result<(), ConfigError> {
    match endpoint {
        Some(url) if !url.is_empty() && !url.starts_with("https://") && !url.starts_with("http://") => {
            Err(wrong("remote.endpoint", "it begins with https:// (or http://)"))
        }
        _ => Ok(()),
    }
}

fn wrong(key: &'static str, reason: &str) -> ConfigError {
    ConfigError::Value { key, reason: reason.to_owned() }
}

/// An empty text is none.
fn text(value: &Option<String>) -> Option<String> {
    value.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn prefix(text: &str) -> String {
    match text.trim_matches('/') {
        "" => String::new(),
        inner => format!("{inner}/"),
    }
}

/// What cannot be read as a number deletes nothing.
fn retention(said: Option<&Value>, warnings: &mut Vec<String>) -> Retention {
    let number = match said {
        None => Some(DEFAULT_RETENTION),
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(_) => None,
    };
    match number {
        Some(0) => Retention::All,
        Some(count) => Retention::Newest(count),
        None => {
            let said = said.map(Value::to_string).unwrap_or_default();
            warnings.push(format!("retention: {said} is no number of copies; nothing is deleted"));
            Retention::All
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::ConfigFile;

    fn plan(yaml: &str) -> Result<(Option<RemotePlan>, Vec<String>), ConfigError> {
        let (file, unknown) = ConfigFile::parse(yaml).unwrap();
        assert_eq!(unknown, Vec::<String>::new());
        let mut warnings = Vec::new();
        Ok((file.remote_sections().resolve(Path::new("/p"), &mut warnings)?, warnings))
    }

    fn s3(yaml: &str) -> S3Place {
        match plan(yaml).unwrap().0.unwrap().place {
            RemotePlace::S3(place) => place,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_old_configuration_means_the_bucket_and_the_key_that_it_meant() {
        let place = s3("aws_sso:\n  profile: lab\n  bucket: mine\n  region: eu-south-1\nvault:\n  retention: 7\n");
        assert_eq!((place.bucket.as_str(), place.prefix.as_str()), ("mine", "tazpod/vault/"));
        assert_eq!((place.region.as_deref(), place.profile.as_deref()), (Some("eu-south-1"), Some("lab")));
        assert_eq!(plan("aws_sso: {}\nvault: {retention: 7}\n").unwrap().0.unwrap().retention, Retention::Newest(7));
        let place = s3("aws_sso:\n  profile: lab\n  bucket: ''\n");
        assert_eq!((place.bucket.as_str(), place.region.as_deref()), ("tazlab-storage", Some("eu-central-1")));
        assert_eq!(plan("vault: {retention: 7}\nimage: x\n").unwrap().0, None);
    }

    #[test]
    fn the_new_section_goes_before_the_old_one() {
        let place = s3("remote: {type: s3, bucket: b, prefix: /x/y, endpoint: 'https://h', path_style: true}\n\
                        aws_sso: {profile: p, bucket: old, region: r}\n");
        let expected = S3Place {
            bucket: "b".into(),
            prefix: "x/y/".into(),
            region: Some("r".into()),
            endpoint: Some("https://h".into()),
            path_style: true,
            profile: Some("p".into()),
        };
        assert_eq!(place, expected);
        assert_eq!(s3("remote: {bucket: b, prefix: ''}").prefix, "");
        let folder = plan("remote: {type: directory, path: stick}\n").unwrap().0.unwrap();
        assert_eq!(folder.place, RemotePlace::Directory("/p/stick".into()));
        assert_eq!(folder.retention, Retention::Newest(50));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let cases = [
            ("remote: {}", "remote.type"),
            ("remote: {type: s3}", "remote.bucket"),
            ("remote: {type: directory, bucket: b}", "remote.path"),
            ("remote: {bucket: b, path: p}", "remote.type"),
            ("remote: {bucket: b, endpoint: 'localhost:9000'}", "remote.endpoint"),
        ];
        for (yaml, key) in cases {
            let error = plan(yaml).unwrap_err().to_string();
            assert!(error.starts_with(key), "{yaml}: {error}");
        }
        assert!(ConfigFile::parse("remote: {type: ftp}").unwrap_err().contains("line 1"));
    }

    #[test]
    fn zero_and_nonsense_delete_nothing() {
        for (said, told) in [("0", 0), ("'0'", 0), ("-3", 1), ("many", 1), ("1.5", 1), ("[50]", 1), ("true", 1)] {
            let (plan, warnings) = plan(&format!("remote: {{path: p, retention: {said}}}")).unwrap();
            assert_eq!(plan.unwrap().retention, Retention::All, "{said}");
            assert_eq!(warnings.len(), told, "{said}: {warnings:?}");
        }
        let (plan, _) = plan("remote: {path: p, retention: '12'}").unwrap();
        assert_eq!(plan.unwrap().retention, Retention::Newest(12));
    }
}
