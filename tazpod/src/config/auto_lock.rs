//! `auto_lock:`, when the vault locks by itself. A project's file that was not trusted may only make that earlier.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::file::scalar;
use super::{ConfigError, units};

/// Default of `auto_lock.grace`.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// The shortest `auto_lock.idle`: less could not be told from a program that thinks.
const IDLE_MIN: Duration = Duration::from_secs(1);

/// `auto_lock:`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct AutoLockSection {
    last_shell: Option<bool>,
    #[serde(deserialize_with = "scalar")]
    grace: Option<String>,
    idle: Option<Value>,
    suspend: Option<bool>,
}

/// When the vault locks by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoLock {
    /// When the last shell and the last program of `run` have ended.
    pub last_shell: bool,
    /// How long after that.
    pub grace: Duration,
    /// After no file operation for so long.
    pub idle: Option<Duration>,
    /// After the machine was suspended.
    pub suspend: bool,
}

impl Default for AutoLock {
    fn default() -> Self {
        Self { last_shell: true, grace: DEFAULT_GRACE, idle: None, suspend: false }
    }
}

impl AutoLock {
    /// What counts, and keys of a project's file that do not because they would make it later.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn resolve(
        project: Option<(&AutoLockSection, bool)>,
        user: &AutoLockSection,
    ) -> Result<(Self, Vec<&'static str>), ConfigError> {
        let users = Self::default().with(user)?;
        let Some((section, is_trusted)) = project else { return Ok((users, Vec::new())) };
        let wanted = users.clone().with(section)?;
        if is_trusted {
            return Ok((wanted, Vec::new()));
        }
        let counts = users.tightened_by(&wanted);
        let refused = [
            ("auto_lock.last_shell", counts.last_shell != wanted.last_shell),
            ("auto_lock.grace", counts.grace != wanted.grace),
            ("auto_lock.idle", counts.idle != wanted.idle),
            ("auto_lock.suspend", counts.suspend != wanted.suspend),
        ];
        Ok((counts, refused.into_iter().filter(|(_, is_refused)| *is_refused).map(|(key, _)| key).collect()))
    }

    fn with(mut self, section: &AutoLockSection) -> Result<Self, ConfigError> {
        self.last_shell = section.last_shell.unwrap_or(self.last_shell);
        self.suspend = section.suspend.unwrap_or(self.suspend);
        if let Some(text) = &section.grace {
            self.grace = duration("auto_lock.grace", text)?;
        }
        match &section.idle {
            None => {}
            Some(Value::Bool(false) | Value::Null) => self.idle = None,
            Some(value) => self.idle = Some(idle(value)?),
        }
        Ok(self)
    }

    fn tightened_by(&self, other: &Self) -> Self {
        Self {
            last_shell: self.last_shell || other.last_shell,
            grace: self.grace.min(other.grace),
            idle: [self.idle, other.idle].into_iter().flatten().min(),
            suspend: self.suspend || other.suspend,
        }
    }
}

fn idle(value: &Value) -> Result<Duration, ConfigError> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let idle = duration("auto_lock.idle", &text)?;
    if idle < IDLE_MIN {
        let reason = format!("'{text}' is too short; 'false' turns it off");
        return Err(ConfigError::Value { key: "auto_lock.idle", reason });
    }
    Ok(idle)
}

fn duration(key: &'static str, text: &str) -> Result<Duration, ConfigError> {
    units::duration(text).map_err(|reason| ConfigError::Value { key, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::ConfigFile;

    fn section(text: &str) -> AutoLockSection {
        ConfigFile::parse(&format!("auto_lock: {text}")).unwrap().0.auto_lock
    }

    fn resolved(project: &str, is_trusted: bool, user: &str) -> (AutoLock, Vec<&'static str>) {
        AutoLock::resolve(Some((&section(project), is_trusted)), &section(user)).unwrap()
    }

    const LATER: &str = "{last_shell: false, grace: 1h}";

    #[test]
    fn a_trusted_file_says_what_it_likes() {
        assert_eq!(resolved("{}", false, "{}"), (AutoLock::default(), vec![]));
        let (counts, refused) = resolved(LATER, true, "{idle: 5m}");
        assert_eq!(counts.grace, Duration::from_secs(3600));
        assert!(!counts.last_shell && counts.idle == Some(Duration::from_secs(300)) && refused.is_empty());
        assert_eq!(resolved("{idle: false}", true, "{idle: 5m}").0.idle, None);
    }

    #[test]
    fn one_that_was_not_trusted_only_locks_earlier() {
        let (counts, refused) = resolved(LATER, false, "{}");
        assert_eq!((counts, refused), (AutoLock::default(), vec!["auto_lock.last_shell", "auto_lock.grace"]));
        let (counts, refused) = resolved("{idle: 90, suspend: true, grace: 0}", false, "{idle: 5m}");
        let idle = Some(Duration::from_secs(90));
        assert_eq!(counts, AutoLock { last_shell: true, grace: Duration::ZERO, idle, suspend: true });
        assert_eq!(refused, Vec::<&str>::new());
        let user = "{idle: 5m, suspend: true, last_shell: true}";
        let (counts, refused) = resolved("{idle: false, suspend: false}", false, user);
        assert!(counts.suspend && counts.idle == Some(Duration::from_secs(300)));
        assert_eq!(refused, ["auto_lock.idle", "auto_lock.suspend"]);
    }

    #[test]
    fn times_are_checked() {
        for (key, text) in
            [("auto_lock.grace", "{grace: soon}"), ("auto_lock.idle", "{idle: 0}"), ("auto_lock.idle", "{idle: yes}")]
        {
            let error = AutoLock::resolve(None, &section(text)).unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        }
    }
}
