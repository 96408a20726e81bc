//! Values of the vault as variables of the environment: reads them below a mount point, and writes them as shells read them. Knows
//! no agent and no command line.

mod fields;
pub mod shell;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::config::{ValueSource, Variable};

/// The largest value, in bytes; Linux takes no string of the environment that is longer with its name (MAX_ARG_STRLEN, 128 KiB).
const VALUE_MAX: usize = 127 * 1024;
/// The largest file that a field is looked for in.
const FILE_MAX: u64 = 1 << 20;

/// A variable with its value, or why there is none.
pub struct Value {
    /// Name of the variable.
    pub name: String,
    /// The value, in words for the user why not.
    pub value: Result<String, String>,
}

/// Reads the values of all variables; `mount` is where the whole vault is, and `seen` where the program sees it. What is freed is wiped by the program's allocator.
pub fn values(variables: &[Variable], mount: &Path, seen: &Path) -> Vec<Value> {
    let value =
        |variable: &Variable| Value { name: variable.name.clone(), value: value(&variable.source, mount, seen) };
    variables.iter().map(value).collect()
}

fn value(source: &ValueSource, mount: &Path, seen: &Path) -> Result<String, String> {
    let value = match source {
        ValueSource::Path(path) => {
            let path = seen.join(path);
            path.to_str().map(str::to_owned).ok_or_else(|| format!("{} is no UTF-8", path.display()))?
        }
        ValueSource::Content(file) => without_newline(read(mount, file)?),
        ValueSource::Field { file, format, key } => {
            fields::find(&read(mount, file)?, *format, key).map_err(|reason| format!("{file}: {reason}"))?
        }
    };
    check(value)
}

fn read(mount: &Path, file: &str) -> Result<String, String> {
    let path = mount.join(file);
    let cannot = |error: std::io::Error| format!("{file} of the vault cannot be read: {error}");
    // A FIFO would be waited for.
    if !std::fs::metadata(&path).map_err(cannot)?.is_file() {
        return Err(format!("{file} of the vault is no file"));
    }
    let mut text = Vec::new();
    File::open(&path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut text)).map_err(cannot)?;
    if text.len() as u64 > FILE_MAX {
        return Err(format!("{file} of the vault is too large"));
    }
    String::from_utf8(text).map_err(|_| format!("{file} of the vault is no UTF-8"))
}

/// One newline at the end is the editor's.
fn without_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

fn check(value: String) -> Result<String, String> {
    match value {
        value if value.contains('\0') => Err("the value has a NUL in it, which no variable can hold".to_owned()),
        value if value.len() > VALUE_MAX => Err("the value is too large for a variable".to_owned()),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FieldFormat;

    #[test]
    fn files_fields_and_paths_become_values() {
        let folder = tempfile::tempdir().unwrap();
        let mount = folder.path();
        std::fs::write(mount.join("token"), "a b\n\n").unwrap();
        std::fs::write(mount.join("dos"), "a\r\n").unwrap();
        std::fs::write(mount.join("json"), r#"{"a": [1, "x"]}"#).unwrap();
        std::fs::write(mount.join("binary"), [0xff, 0xfe]).unwrap();
        std::fs::write(mount.join("nul"), "a\0b").unwrap();
        std::fs::write(mount.join("large"), "x".repeat(VALUE_MAX + 1)).unwrap();
        let content = |name: &str| value(&ValueSource::Content(name.to_owned()), mount, mount);
        assert_eq!(content("token").unwrap(), "a b\n", "one newline goes");
        assert_eq!(content("dos").unwrap(), "a");
        for (bad, reason) in
            [("binary", "UTF-8"), ("nul", "NUL"), ("large", "too large"), ("none", "cannot be read"), (".", "no file")]
        {
            assert!(content(bad).unwrap_err().contains(reason), "{bad}");
        }
        let path = ValueSource::Path(".kube/config".to_owned());
        assert_eq!(value(&path, mount, Path::new("/home/a/secrets")).unwrap(), "/home/a/secrets/.kube/config");
        let field = ValueSource::Field { file: "json".to_owned(), format: FieldFormat::Json, key: "a.1".to_owned() };
        assert_eq!(value(&field, mount, mount).unwrap(), "x");
    }
}
