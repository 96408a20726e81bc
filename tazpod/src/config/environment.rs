//! `env:`, variables of the environment whose values lie in the vault.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::ConfigError;
use super::vault_path::vault_path;

const KEY: &str = "env";

/// Variables that make the loader or a shell run something else, that steer this tool, or that shells do not let change. A file of
/// the vault, which may come from another machine, must not set them, whoever trusts the configuration.
const REFUSED: [&str; 29] = [
    "PATH",
    "HOME",
    "SHELL",
    "IFS",
    "ENV",
    "BASH_ENV",
    "PROMPT_COMMAND",
    "PS0",
    "PS1",
    "PS2",
    "PS4",
    "SHELLOPTS",
    "BASHOPTS",
    "BASH_VERSINFO",
    "FPATH",
    "ZDOTDIR",
    "CDPATH",
    "TMPDIR",
    "PWD",
    "OLDPWD",
    "UID",
    "EUID",
    "GID",
    "EGID",
    "PPID",
    "USER",
    "LOGNAME",
    "GCONV_PATH",
    "XDG_RUNTIME_DIR",
];
/// The same for whole families.
const REFUSED_PREFIXES: [&str; 5] = ["LD_", "TAZPOD_", "_", "BASH_FUNC", "fish_"];
/// Special to one of the shells, where capital letters are not.
const REFUSED_SMALL: [&str; 12] = [
    "path",
    "fpath",
    "cdpath",
    "argv",
    "status",
    "pipestatus",
    "version",
    "history",
    "hostname",
    "options",
    "functions",
    "umask",
];

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Where its value comes from.
    pub source: ValueSource,
}

/// Where a value comes from. Paths are within the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueSource {
    /// The path itself, below the mount point.
    Path(String),
    /// The whole content of a file.
    Content(String),
    /// A field of a file.
    Field {
        /// The file.
        file: String,
        /// How it is written.
        format: FieldFormat,
        /// Which field.
        key: String,
    },
}

/// How a file with fields is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldFormat {
    /// Sections and keys, as AWS has them.
    Ini,
    /// Lines of `NAME=value`.
    Dotenv,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

const FORMATS: [(&str, FieldFormat); 4] = [
    ("ini", FieldFormat::Ini),
    ("dotenv", FieldFormat::Dotenv),
    ("json", FieldFormat::Json),
    ("yaml", FieldFormat::Yaml),
];

/// Makes the list that a file asks for.
///
/// # Errors
/// [`ConfigError::Value`], naming the variable.
pub fn resolve(section: &BTreeMap<String, Value>) -> Result<Vec<Variable>, ConfigError> {
    let variables = section.iter().map(|(name, value)| {
        check_name(name)?;
        Ok(Variable { name: name.clone(), source: source(value)? })
    });
    let named = variables.zip(section.keys()).map(|(variable, name)| {
        variable.map_err(|reason: String| ConfigError::Value { key: KEY, reason: format!("{name}: {reason}") })
    });
    named.collect()
}

fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(is_plain) || name.as_bytes()[0].is_ascii_digit() {
        return Err("this is no name of a variable; letters, digits and _ make one".to_owned());
    }
    let is_refused = REFUSED.contains(&name)
        || REFUSED_SMALL.contains(&name)
        || REFUSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    match is_refused {
        true => Err("this variable changes what shells and programs run; a vault does not set it".to_owned()),
        false => Ok(()),
    }
}

fn source(value: &Value) -> Result<ValueSource, String> {
    match value {
        Value::String(file) => Ok(ValueSource::Content(vault_path(file)?)),
        Value::Object(map) => source_of_map(map),
        _ => {
            Err("give a file of the vault, or one of {path: …}, {file: …}, {file: …, ini|dotenv|json|yaml: KEY}"
                .to_owned())
        }
    }
}

fn source_of_map(map: &Map<String, Value>) -> Result<ValueSource, String> {
    if let Some(key) = map.keys().find(|key| !["path", "file"].contains(&key.as_str()) && format_of(key).is_none()) {
        return Err(format!("'{key}' is unknown; there are path, file, ini, dotenv, json, yaml"));
    }
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| format!("'{value}' is no text"));
    let fields = map.iter().filter_map(|(name, value)| Some((format_of(name)?, value)));
    let fields: Vec<_> = fields.collect();
    match (map.get("path"), map.get("file"), fields.as_slice()) {
        (Some(path), None, []) => Ok(ValueSource::Path(vault_path(&text(path)?)?)),
        (None, Some(file), []) => Ok(ValueSource::Content(vault_path(&text(file)?)?)),
        (None, Some(file), [(format, key)]) => {
            Ok(ValueSource::Field { file: vault_path(&text(file)?)?, format: *format, key: text(key)? })
        }
        _ => Err("give either 'path', or 'file' with at most one of ini, dotenv, json, yaml".to_owned()),
    }
}

fn format_of(name: &str) -> Option<FieldFormat> {
    FORMATS.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::ConfigFile;

    fn resolved(text: &str) -> Result<Vec<Variable>, String> {
        let section = ConfigFile::parse(&format!("env:\n  {text}\n")).unwrap().0.env.unwrap();
        resolve(&section).map_err(|error| error.to_string())
    }

    #[test]
    fn every_form_is_understood() {
        let one = |text: &str| resolved(text).unwrap().remove(0).source;
        assert_eq!(one("KUBECONFIG: {path: ./.kube/config}"), ValueSource::Path(".kube/config".to_owned()));
        assert_eq!(one("TOKEN: {file: tokens/github}"), ValueSource::Content("tokens/github".to_owned()));
        assert_eq!(one("TOKEN: tokens/github"), ValueSource::Content("tokens/github".to_owned()));
        for (name, format) in FORMATS {
            let field = ValueSource::Field { file: "f".to_owned(), format, key: "a.b".to_owned() };
            assert_eq!(one(&format!("TOKEN: {{file: f, {name}: a.b}}")), field);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for bad in [
            "A: 1",
            "A: [f]",
            "A: {path: f, file: g}",
            "A: {ini: a.b}",
            "A: {file: f, ini: a, json: b}",
            "A: {file: f, colour: x}",
            "A: {file: ../f}",
            "A: /etc/passwd",
            "A: {}",
        ] {
            assert!(resolved(bad).unwrap_err().starts_with("env: A: "), "{bad}");
        }
    }

    #[test]
    fn names_that_steer_programs_are_refused_whoever_trusts_the_file() {
        for bad in
            ["PATH", "LD_PRELOAD", "BASH_ENV", "IFS", "TAZPOD_VAULT", "_x", "1A", "A-B", "A B", "''", "status", "a=b"]
        {
            assert!(resolved(&format!("{bad}: f")).is_err(), "{bad}");
        }
        assert!(resolved("GITHUB_TOKEN: f").is_ok() && resolved("kubeconfig_2: f").is_ok());
    }
}
