//! Whether a place keeps the conditions of conditional writes, and what this machine remembers of that.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::path_key::path_key;

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conditions {
    /// They are kept.
    Kept,
    /// They are kept for what is put in one request, and not for what is put in parts.
    KeptInOneRequest,
    /// They are not: two machines can overwrite each other unseen. Why it is known.
    Broken(String),
}

/// The outcome of a probe, and when it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The place.
    pub place: String,
    /// What was found.
    pub conditions: Conditions,
    /// Seconds since 1970.
    pub at: u64,
}

impl Outcome {
    /// What is remembered of a place; `None`: nothing that can be read.
    pub fn remembered(state: &Path, place: &str) -> Option<Self> {
        let outcome: Self = serde_json::from_slice(&std::fs::read(file(state, place)).ok()?).ok()?;
        (outcome.place == place).then_some(outcome)
    }

    /// Remembers what was found now, in a state folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn remember(state: &Path, place: &str, conditions: Conditions) -> io::Result<Self> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let outcome = Self { place: place.to_owned(), conditions, at };
        let mut temporary = tempfile::NamedTempFile::new_in(state)?;
        serde_json::to_writer(&mut temporary, &outcome)?;
        temporary.persist(file(state, place)).map_err(|error| error.error)?;
        Ok(outcome)
    }
}

fn file(state: &Path, place: &str) -> PathBuf {
    state.join(format!("probe-{}.json", path_key(Path::new(place))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_remembered_for_its_place_only() {
        let folder = tempfile::tempdir().unwrap();
        let broken = Conditions::Broken("it overwrote".to_owned());
        assert_eq!(Outcome::remembered(folder.path(), "s3://a"), None);
        let outcome = Outcome::remember(folder.path(), "s3://a", broken.clone()).unwrap();
        assert_eq!(Outcome::remembered(folder.path(), "s3://a"), Some(outcome));
        assert_eq!(Outcome::remembered(folder.path(), "s3://b"), None);
        let again = Outcome::remember(folder.path(), "s3://a", Conditions::Kept).unwrap();
        assert_eq!(Outcome::remembered(folder.path(), "s3://a"), Some(again));
    }
}
