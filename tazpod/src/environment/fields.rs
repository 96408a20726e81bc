//! Single values out of the files that tools keep several in. Errors never show what a file holds.

use serde_json::Value;

use crate::config::FieldFormat;

/// Finds a field.
///
/// # Errors
/// In words for the user.
pub fn find(text: &str, format: FieldFormat, key: &str) -> Result<String, String> {
    let found = match format {
        FieldFormat::Ini => in_ini(text, key),
        FieldFormat::Dotenv => in_dotenv(text, key),
        FieldFormat::Json => {
            let value = serde_json::from_str(text)
                .map_err(|error| format!("this is no JSON (line {}, column {})", error.line(), error.column()))?;
            return scalar(&value, key);
        }
        FieldFormat::Yaml => {
            let value = serde_saphyr::from_str::<Value>(text).map_err(|_| "this is no YAML".to_owned())?;
            return scalar(&value, key);
        }
    };
    found.ok_or_else(|| format!("there is no '{key}'"))
}

/// `section.key`; a section may have points in its name, a key may not. Without a section: what comes before the first.
fn in_ini(text: &str, key: &str) -> Option<String> {
    let (wanted, key) = key.rsplit_once('.').unwrap_or(("", key));
    let (mut section, mut found) = (String::new(), None);
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some((name, _)) = trimmed.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            section = words(name);
        } else if section == words(wanted)
            // What is indented belongs to the line before, in the files of AWS.
            && !line.starts_with([' ', '\t', '#', ';'])
            && let Some((name, value)) = line.split_once('=')
            && name.trim() == key
        {
            found = Some(value.trim().to_owned());
        }
    }
    found
}

fn words(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lines of `NAME=value` or `export NAME=value`; values plain, in single quotes, or in double quotes with `\n`, `\"` and the like. The
/// last one counts, as it would in a shell.
fn in_dotenv(text: &str, key: &str) -> Option<String> {
    let (mut rest, mut found) = (text, None);
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let assignment = line.trim_start();
        let assignment = assignment.strip_prefix("export ").unwrap_or(assignment).trim_start();
        let Some((name, _)) = assignment.split_once('=').filter(|_| !assignment.starts_with('#')) else {
            rest = after;
            continue;
        };
        // The value may go on over lines.
        let at = line.find('=').map_or(line.len(), |at| at + 1);
        let (value, left) = dotenv_value(&rest[at..]);
        if name.trim() == key {
            found = Some(value);
        }
        rest = left;
    }
    found
}

/// Reads a value; returns what follows its line.
fn dotenv_value(text: &str) -> (String, &str) {
    let start = text.trim_start_matches([' ', '\t']);
    let after_line = |text: &'_ str| text.find('\n').map_or(text.len(), |at| at + 1);
    match start.chars().next() {
        Some(quote @ ('\'' | '"')) => {
            let mut value = String::new();
            let mut chars = start[1..].char_indices();
            while let Some((at, char)) = chars.next() {
                match char {
                    _ if char == quote => {
                        let rest = &start[1 + at + 1..];
                        return (value, &rest[after_line(rest)..]);
                    }
                    '\\' if quote == '"' => value.extend(chars.next().map(|(_, char)| unescaped(char))),
                    _ => value.push(char),
                }
            }
            (value, "")
        }
        _ => {
            let line = start.split('\n').next().unwrap_or_default();
            let value = line.split(" #").next().unwrap_or_default().trim();
            (value.to_owned(), &start[after_line(start)..])
        }
    }
}

fn unescaped(char: char) -> char {
    match char {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        other => other,
    }
}

/// `a.b.0`, or a JSON pointer (RFC 6901) where names have points: `/a.b/0`.
fn scalar(value: &Value, key: &str) -> Result<String, String> {
    let found = if key.starts_with('/') {
        value.pointer(key)
    } else {
        key.split('.').try_fold(value, |value, name| match value {
            Value::Array(items) => items.get(name.parse::<usize>().ok()?),
            other => other.get(name),
        })
    };
    match found {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        Some(_) => Err(format!("'{key}' is no single value")),
        None => Err(format!("there is no '{key}'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_as_aws_writes_them() {
        let text = "top = 1\n[default]\naws_access_key_id = AK=1\n; aws_secret = no\ns3 =\n  aws_secret = nested\n[profile lab.eu]\nregion=eu\n[ profile  two ]\nregion = x\r\n";
        let ini = |key: &str| find(text, FieldFormat::Ini, key);
        assert_eq!(ini("default.aws_access_key_id").as_deref(), Ok("AK=1"));
        assert_eq!(ini("profile lab.eu.region").as_deref(), Ok("eu"));
        assert_eq!(ini("profile two.region").as_deref(), Ok("x"));
        assert_eq!(ini("top").as_deref(), Ok("1"));
        for missing in ["default.aws_secret", "default.region", "none.region", "region"] {
            assert!(ini(missing).is_err(), "{missing}");
        }
    }

    #[test]
    fn dotenv_values_may_be_quoted_and_go_on_over_lines() {
        let text = "# C=no\nA=plain # comment\nexport B='it''s'\nC=\"a\\n\\\"b\\\" $x\nD=inner\"\nD = 'x=1' # y\nE=\nF=a#b\nA=last";
        let dotenv = |key: &str| find(text, FieldFormat::Dotenv, key);
        let expected =
            [("A", "last"), ("B", "it"), ("C", "a\n\"b\" $x\nD=inner"), ("D", "x=1"), ("E", ""), ("F", "a#b")];
        for (key, value) in expected {
            assert_eq!(dotenv(key).as_deref(), Ok(value), "{key}");
        }
        assert!(dotenv("inner").is_err() && dotenv("").is_err());
        assert_eq!(find("A='never ends\nB=2", FieldFormat::Dotenv, "A").as_deref(), Ok("never ends\nB=2"));
    }

    #[test]
    fn documents_are_walked_by_names_and_numbers() {
        let json = r#"{"a": {"b": ["x", {"c": 5}]}, "p.q": true, "n": null}"#;
        let yaml = "a:\n  b:\n    - x\n    - c: 5\np.q: true\nn: null\n";
        for (text, format) in [(json, FieldFormat::Json), (yaml, FieldFormat::Yaml)] {
            let field = |key: &str| find(text, format, key);
            assert_eq!(field("a.b.0").as_deref(), Ok("x"));
            assert_eq!(field("a.b.1.c").as_deref(), Ok("5"));
            assert_eq!(field("/p.q").as_deref(), Ok("true"));
            for missing in ["a", "a.b", "n", "a.b.2", "a.b.x", "a.b.0.c", "z", ""] {
                assert!(field(missing).is_err(), "{missing}");
            }
        }
    }

    #[test]
    fn errors_do_not_show_what_a_file_holds() {
        for format in [FieldFormat::Ini, FieldFormat::Dotenv, FieldFormat::Json, FieldFormat::Yaml] {
            let error = find("{SECRET: [", format, "a.b").unwrap_err();
            assert!(!error.contains("SECRET"), "{error}");
        }
    }
}
