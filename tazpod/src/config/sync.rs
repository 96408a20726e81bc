//! Synchronising on its own: the section `sync:`, which is a word or a map.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::{ConfigError, file, units};

const DEFAULT_QUIET: Duration = Duration::from_secs(10);
const DEFAULT_EVERY: Duration = Duration::from_secs(5 * 60);
const DEFAULT_AT_LOCK: Duration = Duration::from_secs(10);
/// A store that is asked more often would take it for an attack.
const EVERY_MIN: Duration = Duration::from_millis(500);
/// Longer than this nobody waits for a lock.
const AT_LOCK_MAX: Duration = Duration::from_secs(5 * 60);

/// `sync:` as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncSection(SyncKeys);

/// The keys of the map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SyncKeys {
    automatic: Option<bool>,
    #[serde(deserialize_with = "file::scalar")]
    quiet: Option<String>,
    #[serde(deserialize_with = "file::scalar")]
    every: Option<String>,
    #[serde(deserialize_with = "file::scalar")]
    at_lock: Option<String>,
}

/// Whether a vault is synchronised on its own while it is unlocked, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncPlan {
    /// Whether at all.
    pub automatic: bool,
    /// How long after the last change.
    pub quiet: Duration,
    /// How often without one.
    pub every: Duration,
    /// How long a lock waits for it.
    pub at_lock: Duration,
}

impl SyncSection {
    /// What counts of a file that was not trusted: it may only switch off.
    #[must_use]
    pub fn untrusted(self) -> Self {
        Self(SyncKeys { automatic: self.0.automatic.filter(|automatic| !automatic), ..SyncKeys::default() })
    }

    /// Makes the plan of the project's section, over the user's.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn resolve(&self, user: &Self) -> Result<SyncPlan, ConfigError> {
        let time = |key, own: &Option<String>, user: &Option<String>, default| match own.as_ref().or(user.as_ref()) {
            Some(text) => units::duration(text).map_err(|reason| ConfigError::Value { key, reason }),
            None => Ok(default),
        };
        let (own, user) = (&self.0, &user.0);
        let plan = SyncPlan {
            automatic: own.automatic.or(user.automatic).unwrap_or(true),
            quiet: time("sync.quiet", &own.quiet, &user.quiet, DEFAULT_QUIET)?,
            every: time("sync.every", &own.every, &user.every, DEFAULT_EVERY)?,
            at_lock: time("sync.at_lock", &own.at_lock, &user.at_lock, DEFAULT_AT_LOCK)?,
        };
        let wrong = |key, reason: &str| Err(ConfigError::Value { key, reason: reason.to_owned() });
        match &plan {
            plan if plan.every < EVERY_MIN => wrong("sync.every", "it is at least 500ms"),
            plan if plan.at_lock > AT_LOCK_MAX => wrong("sync.at_lock", "it is at most 5m"),
            _ => Ok(plan),
        }
    }
}

impl<'de> Deserialize<'de> for SyncSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SectionVisitor)
    }
}

struct SectionVisitor;

impl<'de> Visitor<'de> for SectionVisitor {
    type Value = SyncSection;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("true, false, or a map with automatic, quiet, every, at_lock")
    }

    fn visit_bool<E>(self, automatic: bool) -> Result<SyncSection, E> {
        Ok(SyncSection(SyncKeys { automatic: Some(automatic), ..SyncKeys::default() }))
    }

    /// `on` and `off` are texts to some who write YAML, and truth values to others.
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SyncSection, E> {
        match text {
            "on" | "yes" => self.visit_bool(true),
            "off" | "no" => self.visit_bool(false),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_unit<E>(self) -> Result<SyncSection, E> {
        Ok(SyncSection::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SyncSection, A::Error> {
        SyncKeys::deserialize(MapAccessDeserializer::new(map)).map(SyncSection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::ConfigFile;

    fn section(yaml: &str) -> SyncSection {
        let (file, unknown) = ConfigFile::parse(yaml).unwrap();
        assert_eq!(unknown, Vec::<String>::new(), "{yaml}");
        file.sync
    }

    fn plan(project: &str, user: &str) -> SyncPlan {
        section(project).resolve(&section(user)).unwrap()
    }

    #[test]
    fn a_word_or_a_map_says_when() {
        let seconds = Duration::from_secs;
        let default = plan("", "");
        assert_eq!((default.automatic, default.quiet, default.every), (true, seconds(10), seconds(300)));
        assert_eq!(default.at_lock, seconds(10));
        for off in ["sync: false", "sync: off", "sync: {automatic: false}", "sync: no"] {
            assert!(!plan(off, "").automatic, "{off}");
        }
        for on in ["sync: true", "sync: on", "sync:", "sync: {}", "sync: {every: 1m}"] {
            assert!(plan(on, "").automatic, "{on}");
        }
        let both = plan("sync: {quiet: 2s, at_lock: 0}", "sync: {automatic: false, quiet: 1m, every: 1h}");
        let expected = SyncPlan { automatic: false, quiet: seconds(2), every: seconds(3600), at_lock: seconds(0) };
        assert_eq!(both, expected);
    }

    #[test]
    fn a_file_that_is_not_trusted_only_switches_off() {
        let untrusted = |yaml| section(yaml).untrusted().resolve(&section("sync: {every: 1h}")).unwrap();
        assert!(!untrusted("sync: false").automatic);
        assert_eq!(untrusted("sync: {automatic: true, every: 1s}").every, Duration::from_secs(3600));
        let off = section("sync: true").untrusted().resolve(&section("sync: false")).unwrap();
        assert!(!off.automatic);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (yaml, key) in [
            ("sync: {every: 0}", "sync.every"),
            ("sync: {every: often}", "sync.every"),
            ("sync: {quiet: -1s}", "sync.quiet"),
            ("sync: {at_lock: 1h}", "sync.at_lock"),
        ] {
            let error = section(yaml).resolve(&SyncSection::default()).unwrap_err().to_string();
            assert!(error.starts_with(key), "{yaml}: {error}");
        }
        assert!(ConfigFile::parse("sync: sometimes").unwrap_err().contains("line 1"));
        assert_eq!(ConfigFile::parse("sync: {evry: 1m}").unwrap().1, ["sync.evry"]);
    }
}
