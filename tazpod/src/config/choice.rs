//! What the files say about something that counts only from a trusted file. Commands that do not use it do not stumble over it.

use std::path::{Path, PathBuf};

use super::ConfigError;
use super::file::ConfigFile;

/// A plan for one thing, or why there is none.
#[derive(Clone, Debug)]
pub enum Choice<T> {
    /// The files say nothing.
    Nothing,
    /// It counts.
    Trusted(T),
    /// A project's file that was not trusted as it is, and the keys that would count.
    Untrusted(PathBuf, Vec<&'static str>),
    /// A value is wrong: key and reason.
    Wrong(&'static str, String),
}

/// A project's file.
#[derive(Debug)]
pub struct ProjectFile {
    /// Canonical path.
    pub path: PathBuf,
    /// The project's folder, where relative paths begin.
    pub folder: PathBuf,
    /// What it says.
    pub file: ConfigFile,
    /// Whether its owner has looked at it as it is.
    pub is_trusted: bool,
}

impl<T> Choice<T> {
    /// Takes what the project's file says, if it has any of the keys, else what the user's file says. `resolve` makes the plan from a
    /// file; relative paths in it begin at the folder.
    ///
    /// # Errors
    /// All but [`ConfigError::Value`], which is kept for who asks for the plan.
    pub fn of(
        project: Option<&ProjectFile>,
        user: &ConfigFile,
        keys: impl Fn(&ConfigFile) -> Vec<&'static str>,
        mut resolve: impl FnMut(&ConfigFile, &Path) -> Result<Option<T>, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let (file, folder) = match project.map(|project| (project, keys(&project.file))) {
            Some((project, keys)) if !keys.is_empty() && !project.is_trusted => {
                return Ok(Self::Untrusted(project.path.clone(), keys));
            }
            Some((project, keys)) if !keys.is_empty() => (&project.file, project.folder.as_path()),
            _ => (user, Path::new("")),
        };
        match resolve(file, folder).transpose() {
            Some(outcome) => Self::from(outcome),
            None => Ok(Self::Nothing),
        }
    }

    /// Keeps the error of a wrong value for who asks for the plan.
    ///
    /// # Errors
    /// All but [`ConfigError::Value`].
    pub fn from(outcome: Result<T, ConfigError>) -> Result<Self, ConfigError> {
        match outcome {
            Ok(plan) => Ok(Self::Trusted(plan)),
            Err(ConfigError::Value { key, reason }) => Ok(Self::Wrong(key, reason)),
            Err(error) => Err(error),
        }
    }

    /// The same for a section of its own, whose key is its name and which names no relative path.
    ///
    /// # Errors
    /// As for [`Choice::of`].
    pub fn of_section<S>(
        project: Option<&ProjectFile>,
        user: &ConfigFile,
        key: &'static str,
        section: impl Fn(&ConfigFile) -> Option<&S>,
        resolve: impl Fn(&S) -> Result<T, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let keys = |file: &ConfigFile| section(file).map(|_| key).into_iter().collect();
        Self::of(project, user, keys, |file, _| section(file).map(&resolve).transpose())
    }

    /// The plan; `None`: the files say nothing.
    ///
    /// # Errors
    /// [`ConfigError::Untrusted`], [`ConfigError::Value`].
    pub fn plan(&self) -> Result<Option<&T>, ConfigError> {
        match self {
            Self::Nothing => Ok(None),
            Self::Trusted(plan) => Ok(Some(plan)),
            Self::Untrusted(file, keys) => Err(ConfigError::Untrusted { file: file.clone(), keys: keys.clone() }),
            Self::Wrong(key, reason) => Err(ConfigError::Value { key, reason: reason.clone() }),
        }
    }
}
