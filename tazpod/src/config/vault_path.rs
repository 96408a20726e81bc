//! Paths within the vault as a configuration names them.

use std::path::{Component, Path};

/// Takes the path of something below the vault's root, and gives it without `./` and slashes that say nothing.
///
/// # Errors
/// In words for the user.
pub fn vault_path(text: &str) -> Result<String, String> {
    let wrong = || format!("'{text}' is no path within the vault; write one like .aws or tokens/github");
    let mut names = Vec::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => names.push(name.to_str().ok_or_else(wrong)?),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(wrong()),
        }
    }
    match names.is_empty() || text.contains('\0') {
        true => Err(wrong()),
        false => Ok(names.join("/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_the_root_is_taken() {
        assert_eq!(vault_path("./.config//gh/"), Ok(".config/gh".to_owned()));
        assert_eq!(vault_path(".aws"), Ok(".aws".to_owned()));
        for bad in ["", ".", "/", "/etc", "..", "a/../b", "a\0b"] {
            assert!(vault_path(bad).is_err(), "{bad:?}");
        }
    }
}
