//! What is wrong in a configuration file, in the words of the file: its line, its key, what that takes. Keys that nobody knows are told
//! with those that may have been meant.

use serde::de::{Deserialize, Deserializer, Error as _, Visitor, value::Error as Refused};
use serde::forward_to_deserialize_any;

use super::auto_lock::AutoLockSection;
use super::container::{BuildSection, ContainerSection};
use super::file::{ConfigFile, VaultSection};
use super::remote::{OldSection, RemoteSection};
use super::sync::SyncKeys;
use super::vpn::VpnSection;
use crate::ui::printable;

/// The longest part of a line that is shown, in characters.
const SHOWN: usize = 60;
/// How alike two keys are that may be mixed up; 1: the same.
const LIKENESS: f32 = 0.7;

/// Tells where a text cannot be read, and why.
pub fn of(error: &serde_saphyr::Error, text: &str) -> String {
    let told = error.without_snippet().to_string();
    let Some(location) = error.location() else { return told };
    let told = told.rsplit_once(" at line ").map_or(told.as_str(), |(told, _)| told);
    let (number, column) = (location.line(), location.column());
    let line = text.lines().nth(usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1)).unwrap_or_default();
    let key = key_at(line, usize::try_from(column).unwrap_or(0));
    let shown: String = printable(line.trim()).chars().take(SHOWN).collect();
    format!("line {number} ({shown}): {}", reason(told, key))
}

/// The key whose value is at a column (from 1), or that begins there.
fn key_at(line: &str, column: usize) -> Option<&str> {
    let split = line.char_indices().nth(column.saturating_sub(1)).map_or(line.len(), |(at, _)| at);
    let (before, after) = line.split_at(split);
    let in_front = before.rsplit_once(':').and_then(|(front, _)| front.rsplit([' ', '{', ',', '[']).next());
    let here = after.split_once(':').map(|(key, _)| key);
    in_front.or(here).map(str::trim).filter(|key| !key.is_empty() && !key.contains([' ', '"', '\'']))
}

fn reason(told: &str, key: Option<&str>) -> String {
    let value = key.map_or_else(|| "what is there".to_owned(), |key| format!("the value of '{key}'"));
    match told {
        "expected mapping start" => match key {
            Some(key) => {
                format!("'{key}' takes keys of its own, like '{key}: {{KEY: VALUE}}' or indented lines below it")
            }
            None => "a configuration consists of lines like 'KEY: VALUE'".to_owned(),
        },
        "expected sequence start" => format!("{value} must be a list, like [A, B]"),
        "expected string scalar" => format!("{value} must be a text"),
        "invalid boolean" => format!("{value} must be true or false"),
        "unclosed quote" => "a quote is not closed".to_owned(),
        "misplaced bracket" => "there is a bracket too many, or one is missing".to_owned(),
        "mapping values are not allowed in this context" => {
            "there must be no ': ' here; is the line indented as those above it? A text with ': ' in it takes quotes"
                .to_owned()
        }
        _ if told.starts_with("tabs disallowed") => "tabs cannot indent a line; use spaces".to_owned(),
        _ if told.starts_with("while parsing") => {
            "the line does not fit those above it; is it indented as they are, and is each bracket closed?".to_owned()
        }
        _ if told.starts_with("budget breached") => "there is more in it than in any configuration".to_owned(),
        _ if told.starts_with("multiple YAML documents") => "a line '---' begins a second configuration".to_owned(),
        _ if told.starts_with("alias ") || told.starts_with("recursive ") => {
            format!("{value} refers by '*' to what is not there; a text that begins with '*' takes quotes")
        }
        _ => longer_reason(told, &value),
    }
}

fn longer_reason(told: &str, value: &str) -> String {
    if let Some(rest) = told.strip_prefix("duplicate mapping key: ") {
        return format!("the key '{}' is there twice", rest.split(',').next().unwrap_or(rest));
    }
    if let Some((_, taken)) =
        told.strip_prefix("unknown variant ").and_then(|rest| rest.split_once(", expected one of "))
    {
        return format!("{value} must be one of: {taken}");
    }
    if let Some((_, taken)) = told.split_once(", expected ").filter(|_| told.starts_with("invalid ")) {
        return format!("{value} must be {taken}");
    }
    if let Some(character) = told.strip_prefix("unexpected character: ") {
        let character = printable(character.trim_matches(['`', '\'']));
        return format!("a text cannot begin with '{character}'; put it into quotes");
    }
    format!("{value} is wrong: {told}")
}

/// Tells that a key is unknown.
pub fn unknown(path: &str) -> String {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let known = keys_of(section);
    let near = similar::get_close_matches(name, &known, 1, LIKENESS).first().map(|near| join(section, near));
    let elsewhere = || SECTIONS.iter().find(|other| keys_of(other).contains(&name)).map(|other| join(other, name));
    let text = format!("the key '{}' is unknown", printable(path));
    match near.or_else(elsewhere) {
        Some(meant) => format!("{text}; did you mean '{meant}'?"),
        None if section.is_empty() || known.is_empty() => text,
        None => format!("{text}; '{section}' takes {}", known.join(", ")),
    }
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// Sections with keys of their own; the empty one is the file.
const SECTIONS: [&str; 9] = ["", "vault", "remote", "sync", "auto_lock", "container", "build", "vpn", "aws_sso"];

fn keys_of(section: &str) -> Vec<&'static str> {
    match section {
        "" => fields_of::<ConfigFile>(),
        "vault" => fields_of::<VaultSection>(),
        "remote" => fields_of::<RemoteSection>(),
        "sync" => fields_of::<SyncKeys>(),
        "auto_lock" => fields_of::<AutoLockSection>(),
        "container" => fields_of::<ContainerSection>(),
        "build" => fields_of::<BuildSection>(),
        "vpn" => fields_of::<VpnSection>(),
        "aws_sso" => fields_of::<OldSection>(),
        _ => Vec::new(),
    }
}

/// The names that a type takes.
fn fields_of<T: for<'de> Deserialize<'de>>() -> Vec<&'static str> {
    let mut names = Vec::new();
    // It never gets a value.
    let _ = T::deserialize(Listener(&mut names));
    names
}

/// Listens to what is asked of it.
struct Listener<'a>(&'a mut Vec<&'static str>);

impl<'de> Deserializer<'de> for Listener<'_> {
    type Error = Refused;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Refused> {
        self.0.extend(fields);
        Err(Refused::custom("only the names were wanted"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Refused> {
        Err(Refused::custom("it has no names"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_in_the_words_of_the_file() {
        for (text, told) in [
            ("vault: 5\n", "line 1 (vault: 5): 'vault' takes keys of its own"),
            ("just text\n", "line 1 (just text): a configuration consists of lines"),
            (
                "# x\nvault:\n  commit: sometimes\n",
                "line 3 (commit: sometimes): the value of 'commit' must be one of: relaxed, strict",
            ),
            ("remote: {path: x, type: ftp}\n", "the value of 'type' must be one of: directory, s3"),
            ("sync: maybe\n", "line 1 (sync: maybe): the value of 'sync' must be true, false, or a map with"),
            ("vault:\n\tsize: 1\n", "line 2 (size: 1): tabs cannot indent a line; use spaces"),
            ("vault:\n size: 1\n  mount: x\n", "line 3 (mount: x): there must be no ': ' here; is the line indented"),
            ("vault:\n  size: 1M\n mount: x\n", "line 3 (mount: x): the line does not fit those above it"),
            ("vault:\n  size: [1]\n", "the value of 'size' is wrong: [1] is neither a number nor a text"),
            ("vault: {size: 1}\nvault: {size: 2}\n", "line 2 (vault: {size: 2}): the key 'vault' is there twice"),
            ("bridges: {a: [b]}\n", "the value of 'a' must be a text"),
            ("identity: .claude\n", "the value of 'identity' must be a list, like [A, B]"),
            ("remote: {path_style: perhaps}\n", "the value of 'path_style' must be true or false"),
            ("vault:\n  mount: 'a\n  size: 2\n", "line 2 (mount: 'a): a quote is not closed"),
            ("vault: *nowhere\n", "the value of 'vault' refers by '*' to what is not there"),
            ("image: @x\n", "a text cannot begin with '@'; put it into quotes"),
            ("a: 1\n---\nb: 2\n", "begins a second configuration"),
            ("vault: }\n", "there is a bracket too many"),
        ] {
            let error = ConfigFile::parse(text).unwrap_err();
            assert!(error.contains(told) && error.starts_with("line "), "{text}: {error}");
            for word in ["serde", "mapping", "sequence", "scalar", "variant", "Options", "YAML", "from_str"] {
                assert!(!error.contains(word), "{text}: {error}");
            }
        }
    }

    #[test]
    fn an_unknown_key_is_told_with_what_may_be_meant() {
        assert_eq!(unknown("vault.moutn"), "the key 'vault.moutn' is unknown; did you mean 'vault.mount'?");
        assert_eq!(unknown("brigdes"), "the key 'brigdes' is unknown; did you mean 'bridges'?");
        assert_eq!(unknown("size"), "the key 'size' is unknown; did you mean 'vault.size'?");
        assert_eq!(unknown("remote.every"), "the key 'remote.every' is unknown; did you mean 'sync.every'?");
        assert_eq!(unknown("vpn.colour"), "the key 'vpn.colour' is unknown; 'vpn' takes config, where");
        assert_eq!(unknown("something.else"), "the key 'something.else' is unknown");
    }
}
