//! `identity:`, folders below `.tazpod` in which the tools of a container keep their settings. They are no secrets of the vault;
//! `up` makes them and links them into the container's home.

use std::path::Path;

use super::file::ConfigFile;
use super::vault_path::vault_path;
use super::{ConfigError, PROJECT_FOLDER};

const KEY: &str = "identity";
/// What the old tool made in each project (without `.aws`, which is a bridge).
const OF_THE_OLD_TOOL: [&str; 5] = [".pi", ".omp", ".gemini", ".claude", ".opencode"];
/// What lies below `.tazpod` and must not be written from a container; `.aws` is a bridge.
const TAKEN: [&str; 4] = ["vault", "config.yaml", ".gitignore", ".aws"];

/// The folders, relative to `.tazpod` and to a home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFolders(Vec<String>);

impl IdentityFolders {
    /// Keys of a file that would make such folders.
    pub fn keys(file: &ConfigFile) -> Vec<&'static str> {
        if file.identity.is_some() || file.is_of_the_old_tool() { vec![KEY] } else { Vec::new() }
    }

    /// What a file asks for; those of the old tool, when it is one of its own.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn of(file: &ConfigFile) -> Result<Option<Self>, ConfigError> {
        match &file.identity {
            Some(section) => Self::resolve(section).map(Some),
            None if file.is_of_the_old_tool() => Ok(Some(Self::of_the_old_tool())),
            None => Ok(None),
        }
    }

    fn resolve(section: &[String]) -> Result<Self, ConfigError> {
        let wrong = |reason| ConfigError::Value { key: KEY, reason };
        let folders = section.iter().map(|text| vault_path(text).map_err(|_| wrong(no_folder(text))));
        let folders = folders.collect::<Result<Vec<_>, _>>()?;
        for (index, folder) in folders.iter().enumerate() {
            if TAKEN.contains(&folder.split('/').next().unwrap_or_default()) {
                return Err(wrong(format!("'{folder}' of {PROJECT_FOLDER} is something else")));
            }
            let nests = |other: &String| Path::new(folder).starts_with(other) || Path::new(other).starts_with(folder);
            if let Some(other) = folders[index + 1..].iter().find(|other| nests(other)) {
                return Err(wrong(format!("'{folder}' and '{other}' must not lie in each other")));
            }
        }
        Ok(Self(folders))
    }

    pub(super) fn of_the_old_tool() -> Self {
        Self(OF_THE_OLD_TOOL.map(str::to_owned).to_vec())
    }

    /// Their names, below `.tazpod` and below a home.
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

fn no_folder(text: &str) -> String {
    format!("'{text}' is no folder below {PROJECT_FOLDER}; write one like .claude")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(folders: &[&str]) -> Result<IdentityFolders, String> {
        let section: Vec<String> = folders.iter().map(|&folder| folder.to_owned()).collect();
        IdentityFolders::resolve(&section).map_err(|error| error.to_string())
    }

    #[test]
    fn folders_are_named_below_the_project_and_the_home() {
        assert_eq!(resolve(&[".claude/", ".config/gh"]).unwrap().names(), [".claude", ".config/gh"]);
        let old = IdentityFolders::of_the_old_tool();
        assert_eq!(resolve(&OF_THE_OLD_TOOL).unwrap(), old, "the default passes its own rules");
    }

    #[test]
    fn what_is_not_for_a_container_to_write_is_refused() {
        for bad in ["vault", "vault/x", "config.yaml", ".aws", "..", "/etc", "", "a/../../b"] {
            assert!(resolve(&[bad]).is_err(), "{bad}");
        }
        assert!(resolve(&[".a", ".a/b"]).is_err() && resolve(&[".a", ".a"]).is_err());
        assert!(resolve(&[".a", ".ab"]).is_ok());
    }
}
