//! What the program inside the container is configured with where the vault is unlocked there: what this machine's plan says of the
//! vault, as a file of the user inside.

use serde_json::{Value, json};

use super::{ConfigError, Plan};

impl Plan {
    /// The text of that file; `None`: the vault is not unlocked inside.
    ///
    /// # Errors
    /// [`ConfigError::NoContainer`], [`ConfigError::Untrusted`], [`ConfigError::Value`].
    pub fn inside_configuration(&self) -> Result<Option<String>, ConfigError> {
        let Some(environment) = &self.container()?.inside else { return Ok(None) };
        // What is wrong in it is told here, before anybody looks for it inside.
        self.environment()?;
        let rules = self.auto_lock()?.0;
        let millis = |time: std::time::Duration| format!("{}ms", time.as_millis());
        let text = json!({
            "vault": {
                "size": self.size_limit,
                "commit": self.commit,
                "commit_delay": millis(self.commit_delay),
            },
            "auto_lock": {
                "last_shell": rules.last_shell,
                "grace": millis(rules.grace),
                "idle": rules.idle.map_or(Value::Bool(false), |idle| millis(idle).into()),
                "suspend": rules.suspend,
            },
            "env": environment,
        });
        // JSON is YAML as well.
        Ok(Some(format!("# Written by 'tazpod up' outside; changes are lost with the container.\n{text:#}\n")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::ConfigFile;

    #[test]
    fn what_is_written_is_read_by_the_program_inside() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(".tazpod/config.yaml");
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        // Of the user's file, where trust is no question.
        let (project, _) = ConfigFile::parse(
            "image: i\nvault: {inside: true, size: 64M, commit: strict}\nauto_lock: {grace: 3s, idle: 2m}\nenv: {A: x/y}\n",
        )
        .unwrap();
        let container = super::super::container::resolve(&project, folder.path(), folder.path()).unwrap().unwrap();
        let overrides = super::super::Overrides { project: Some(folder.path().to_owned()), ..Default::default() };
        let mut plan = super::Plan::load(&overrides).unwrap();
        plan.size_limit = 64 << 20;
        plan.choices.container = super::super::choice::Choice::Trusted(container);
        let text = plan.inside_configuration().unwrap().unwrap();
        let (file, unknown) = ConfigFile::parse(&text).unwrap();
        assert_eq!(unknown, Vec::<String>::new(), "{text}");
        assert_eq!(file.vault.size.as_deref(), Some("67108864"));
        assert_eq!(file.env.unwrap().len(), 1);
        assert!(file.vault.inside.is_none() && file.image.is_none());
    }
}
