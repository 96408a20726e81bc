//! `bridges:`, files and folders of the vault that show up at places of their own. Makes a list that fits together; whether a
//! place can be covered is found out when it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::vault_path::vault_path;
use super::{ConfigError, expand_home, home};

const KEY: &str = "bridges";
/// What is bridged when the files say nothing, where the vault has it.
const DEFAULT: (&str, &str) = (".aws", ".aws");

/// Something of the vault and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Path within the vault.
    pub source: String,
    /// Where it shows up: absolute, links on the way resolved, its own name not.
    pub target: PathBuf,
}

/// The default: `~/.aws`, where there is a home.
pub fn default_bridge() -> Option<Bridge> {
    let (source, target) = DEFAULT;
    Some(Bridge { source: source.to_owned(), target: place(&home().ok()?.join(target)) })
}

/// Makes the list that a file asks for.
///
/// # Errors
/// [`ConfigError::Value`].
pub(super) fn resolve(section: &BTreeMap<String, String>) -> Result<Vec<Bridge>, ConfigError> {
    let bridges = section.iter().map(|(source, target)| {
        Ok(Bridge { source: vault_path(source).map_err(wrong)?, target: resolve_target(target)? })
    });
    let bridges = bridges.collect::<Result<Vec<_>, ConfigError>>()?;
    for (index, one) in bridges.iter().enumerate() {
        for other in &bridges[index + 1..] {
            check_apart(one, other).map_err(wrong)?;
        }
    }
    Ok(bridges)
}

/// Refuses bridges that would cover a place that must stay in sight, or lie within the mount point.
///
/// # Errors
/// [`ConfigError::Value`].
pub fn check_places(bridges: &[Bridge], mount: &Path, kept: &[PathBuf]) -> Result<(), ConfigError> {
    let mount = place(mount);
    for Bridge { target, .. } in bridges {
        if nest(target, &mount) {
            let text =
                format!("{} and the mount point {} must not lie in each other", target.display(), mount.display());
            return Err(wrong(text));
        }
        if let Some(kept) = kept.iter().map(|kept| place(kept)).find(|kept| kept.starts_with(target)) {
            return Err(wrong(format!("a bridge at {} would cover {}", target.display(), kept.display())));
        }
    }
    Ok(())
}

fn resolve_target(text: &str) -> Result<PathBuf, ConfigError> {
    let target = expand_home(Path::new(text))?;
    let has_steps_back = target.components().any(|part| part == std::path::Component::ParentDir);
    if !target.is_absolute() || has_steps_back || target.file_name().is_none() || text.contains('\0') {
        return Err(wrong(format!("'{text}' is no place for a bridge; write one like ~/.kube")));
    }
    Ok(place(&target))
}

fn check_apart(one: &Bridge, other: &Bridge) -> Result<(), String> {
    if nest(&one.target, &other.target) {
        let (one, other) = (one.target.display(), other.target.display());
        return Err(format!("the places {one} and {other} must not lie in each other"));
    }
    if nest(Path::new(&one.source), Path::new(&other.source)) {
        return Err(format!("{} and {} of the vault must not lie in each other", one.source, other.source));
    }
    Ok(())
}

fn nest(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Resolves the links on the way to a place, as far as there is one; not the place itself.
fn place(path: &Path) -> PathBuf {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return path.to_owned() };
    match parent.canonicalize() {
        Ok(parent) => parent.join(name),
        Err(_) => place(parent).join(name),
    }
}

fn wrong(reason: String) -> ConfigError {
    ConfigError::Value { key: KEY, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(pairs: &[(&str, &str)]) -> Result<Vec<Bridge>, String> {
        let section = pairs.iter().map(|(source, target)| (source.to_string(), target.to_string())).collect();
        resolve(&section).map_err(|error| error.to_string())
    }

    #[test]
    fn places_are_in_the_home_or_absolute() {
        let home = home().unwrap();
        let found = resolved(&[(".kube/", "~/.kube"), ("./ssh", "/srv/none/ssh/")]).unwrap();
        assert_eq!(found[0], Bridge { source: "ssh".to_owned(), target: "/srv/none/ssh".into() });
        assert_eq!(found[1], Bridge { source: ".kube".to_owned(), target: place(&home.join(".kube")) });
        for bad in [".kube", "~/../x", "", "/", "~other/.kube"] {
            assert!(resolved(&[(".kube", bad)]).unwrap_err().contains("no place"), "{bad}");
        }
        assert!(resolved(&[("../x", "~/.x")]).is_err());
    }

    #[test]
    fn bridges_do_not_nest() {
        for (one, other) in [("/srv/a", "/srv/a"), ("/srv/a", "/srv/a/b"), ("/srv/a/b", "/srv/a")] {
            let reason = resolved(&[("x", one), ("y", other)]).unwrap_err();
            assert!(reason.contains("must not lie in each other"), "{reason}");
        }
        assert!(resolved(&[("x", "/srv/a"), ("x/y", "/srv/b")]).unwrap_err().contains("of the vault"));
        assert!(resolved(&[("x", "/srv/a"), ("xy", "/srv/ab")]).is_ok());
    }

    #[test]
    fn links_on_the_way_hide_no_nesting() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        let at = |name: &str| root.join(name).display().to_string();
        assert!(resolved(&[("x", &at("link/a")), ("y", &at("real/a/b"))]).is_err());
        assert_eq!(resolved(&[("x", &at("link"))]).unwrap()[0].target, root.join("link"), "its own name stays");
    }

    #[test]
    fn the_mount_point_and_what_must_be_seen_are_not_covered() {
        let check = |target: &str, kept: &[&str]| {
            let kept: Vec<PathBuf> = kept.iter().map(PathBuf::from).collect();
            let bridges = [Bridge { source: "x".to_owned(), target: target.into() }];
            check_places(&bridges, Path::new("/home/a/secrets"), &kept).map_err(|error| error.to_string())
        };
        assert!(check("/home/a/.aws", &["/home/a/.local/state/tazpod"]).is_ok());
        for target in ["/home/a/secrets", "/home/a/secrets/x", "/home/a"] {
            assert!(check(target, &[]).unwrap_err().contains("mount point"), "{target}");
        }
        assert!(check("/home/a/.local", &["/home/a/.local/state/tazpod"]).unwrap_err().contains("would cover"));
    }
}
