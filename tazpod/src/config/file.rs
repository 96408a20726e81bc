//! A configuration file as it is written: every key may be missing, unknown ones are told, those of the old tool load.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::ConfigError;
use super::auto_lock::AutoLockSection;
use super::container::{BuildSection, ContainerSection};
use super::remote::{OldSection, RemoteSection, RemoteSections};
use super::sync::SyncSection;
use super::vpn::VpnSection;
use super::words;

/// A file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ConfigFile {
    #[serde(deserialize_with = "or_nothing")]
    pub vault: VaultSection,
    pub remote: Option<RemoteSection>,
    pub aws_sso: Option<OldSection>,
    pub bridges: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "or_nothing")]
    pub auto_lock: AutoLockSection,
    pub env: Option<BTreeMap<String, Value>>,
    pub identity: Option<Vec<String>>,
    #[serde(deserialize_with = "scalar")]
    pub image: Option<String>,
    #[serde(deserialize_with = "scalar")]
    pub container_name: Option<String>,
    #[serde(deserialize_with = "scalar")]
    pub user: Option<String>,
    pub build: Option<BuildSection>,
    pub container: Option<ContainerSection>,
    pub vpn: Option<VpnSection>,
    pub sync: SyncSection,
    // Keys of the old tool that mean nothing any more, or nothing else than what is always so.
    pub mode: Option<Value>,
    pub ghost_mode: Option<Value>,
    pub features: Option<Value>,
    #[serde(rename = "providers")]
    _providers: Option<Value>,
}

/// `vault:`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct VaultSection {
    pub file: Option<PathBuf>,
    pub mount: Option<PathBuf>,
    #[serde(deserialize_with = "scalar")]
    pub size: Option<String>,
    pub commit: Option<CommitMode>,
    #[serde(deserialize_with = "scalar")]
    pub commit_delay: Option<String>,
    pub retention: Option<Value>,
    pub inside: Option<bool>,
}

/// `vault.commit`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitMode {
    /// `close` returns at once.
    Relaxed,
    /// `close` waits for the archive.
    Strict,
}

impl ConfigFile {
    /// Parses a file; `None` when there is none. The names of unknown keys come with it.
    ///
    /// # Errors
    /// [`ConfigError`], with line and column.
    pub fn read(path: &Path) -> Result<Option<(Self, Vec<String>, String)>, ConfigError> {
        // A FIFO would be waited for.
        if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(ConfigError::Read(path.to_owned(), std::io::Error::other("it is no file")));
        }
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(ConfigError::Read(path.to_owned(), std::io::Error::other("it is no text in UTF-8")));
            }
            Err(error) => return Err(ConfigError::Read(path.to_owned(), error)),
        };
        let (file, unknown) = Self::parse(&text).map_err(|reason| ConfigError::Parse(path.to_owned(), reason))?;
        Ok(Some((file, unknown, text)))
    }

    /// Whether it has keys that only the old tool knew.
    pub fn is_of_the_old_tool(&self) -> bool {
        [&self.mode, &self.ghost_mode, &self.features, &self._providers].into_iter().any(Option::is_some)
    }

    /// What it says about remotes.
    pub fn remote_sections(&self) -> RemoteSections<'_> {
        RemoteSections {
            remote: self.remote.as_ref(),
            old: self.aws_sso.as_ref(),
            old_retention: self.vault.retention.as_ref(),
        }
    }

    /// Parses the text of a file.
    pub fn parse(text: &str) -> Result<(Self, Vec<String>), String> {
        // Comments alone are no document.
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok((Self::default(), Vec::new()));
        }
        let mut unknown = Vec::new();
        let file = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
            // A question mark stands for the step into an optional section.
            serde_ignored::deserialize(deserializer, |path| unknown.push(path.to_string().replace(".?", "")))
        });
        file.map(|file| (file, unknown)).map_err(|error| words::of(&error, text))
    }
}

/// A section all of whose keys may be left out, or commented out.
fn or_nothing<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A text that may be written as a bare number: a size, a time, a name.
pub fn scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(serde::de::Error::custom(format!("{other} is neither a number nor a text"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_old_tool_load_without_a_word() {
        let text = "mode: docker\nimage: registry/tazpod:latest\ncontainer_name: lab\nuser: taz\nghost_mode: true\n\
                    features:\n  debug: true\naws_sso:\n  profile: p\n  bucket: b\n  region: eu-central-1\n\
                    vault:\n  retention: 50\nproviders:\n  a:\n    db_host: h\nbuild:\n  dockerfile: D\n  context: .\n";
        let (file, unknown) = ConfigFile::parse(text).unwrap();
        assert_eq!((unknown, file.vault.mount), (Vec::<String>::new(), None));
    }

    #[test]
    fn unknown_keys_are_named_and_errors_say_where() {
        let (file, unknown) =
            ConfigFile::parse("vault:\n  size: 64M\n  colour: red\nremote: {x: 1}\nextra: {a: 1}\n").unwrap();
        assert_eq!(file.vault.size.as_deref(), Some("64M"));
        assert_eq!(unknown, ["vault.colour", "remote.x", "extra"]);
        let error = ConfigFile::parse("vault:\n  commit: sometimes\n").unwrap_err();
        assert!(error.contains("line 2"), "{error}");
        assert!(ConfigFile::parse("vault: [").is_err());
        assert!(ConfigFile::parse("# nothing\n\n").unwrap().1.is_empty());
        assert!(ConfigFile::parse("vault:\n  # size: 1M\nauto_lock:\nsync:\n").unwrap().1.is_empty());
        assert_eq!(ConfigFile::parse("vault: {size: 1024}").unwrap().0.vault.size.as_deref(), Some("1024"));
    }
}
