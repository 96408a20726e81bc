//! Whose project files are believed. A container can write the project folder: what a changed file would widen counts only
//! after its owner has looked at it. What was trusted is kept whole, so that the difference can be shown.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::path_key::path_key;

/// Returns the text of a file that was trusted last; `None`: it never was.
pub fn trusted(file: &Path) -> Option<String> {
    std::fs::read_to_string(place(file)?).ok()
}

/// Trusts a text as the content of a file.
///
/// # Errors
/// `~/.config/tazpod/trusted` cannot be written.
pub fn trust(file: &Path, text: &str) -> io::Result<()> {
    let place = place(file).ok_or_else(|| io::Error::other("there is no home folder"))?;
    let folder = place.parent().expect("it was joined below a folder");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let temporary = place.with_extension("tmp");
    std::fs::write(&temporary, text)?;
    std::fs::rename(temporary, place)
}

fn place(file: &Path) -> Option<PathBuf> {
    Some(super::user_folder()?.join("trusted").join(path_key(file)))
}

/// Shows what changed, a line each.
pub fn difference(old: &str, new: &str) -> String {
    let diff = similar::TextDiff::from_lines(old, new);
    let lines = diff.iter_all_changes().filter_map(|change| {
        let sign = match change.tag() {
            similar::ChangeTag::Delete => '-',
            similar::ChangeTag::Insert => '+',
            similar::ChangeTag::Equal => return None,
        };
        Some(format!("  {sign} {}", crate::ui::printable(change.value().trim_end())))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_shown() {
        assert_eq!(difference("a\nb\n", "a\nc\x1b\n"), "  - b\n  + c\u{fffd}");
    }
}
