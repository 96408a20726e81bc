//! What is linked into the user's home inside: the vault, what is bridged of it, and folders of the project in which tools keep their
//! settings when the container is made anew. Nothing of the image makes way for a link.

use std::path::{Path, PathBuf};

use super::accounts::Account;
use super::engine::Engine;
use super::error::ContainerError;
use super::files::{self, Kind, SmallTar};

/// The vault inside.
pub const VAULT: &str = "/run/tazpod/secrets";
/// Its link in the home.
const LINK: &str = "secrets";

/// A symbolic link in the home inside.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Link {
    /// Its place below the home.
    pub name: String,
    /// Where it points to.
    pub target: PathBuf,
}

impl Link {
    /// To the vault.
    pub fn to_vault() -> Self {
        Self { name: LINK.to_owned(), target: VAULT.into() }
    }

    /// From a place of the home to something in the vault.
    pub fn to_part(name: String, source: &str) -> Self {
        Self { name, target: Path::new(VAULT).join(source) }
    }
}

/// Makes the links in a container that was not started yet; returns the names of those whose place is taken.
pub(super) fn place(
    engine: &Engine,
    container: &str,
    account: &Account,
    links: &[Link],
) -> Result<Vec<String>, ContainerError> {
    let owner = (account.uid, account.gid);
    let (mut tar, mut made, mut covered) = (SmallTar::new(), Vec::new(), Vec::new());
    for link in links {
        let kind = |name: &str| engine.kind(container, &format!("{}/{name}", account.home));
        let Some(missing) = missing_folders(&link.name, kind)? else {
            covered.push(link.name.clone());
            continue;
        };
        for folder in missing {
            if !made.contains(&folder) {
                tar.folder(&folder, owner).map_err(files::temporary)?;
                made.push(folder);
            }
        }
        tar.link(&link.name, &link.target, owner).map_err(files::temporary)?;
    }
    engine.upload(container, &account.home, tar.finish().map_err(files::temporary)?)?;
    Ok(covered)
}

/// The folders on the way to a place that are not there; `None`: the place, or one on the way, is taken by something else.
fn missing_folders<E>(name: &str, kind: impl Fn(&str) -> Result<Option<Kind>, E>) -> Result<Option<Vec<String>>, E> {
    let mut missing = Vec::new();
    for (end, _) in name.match_indices('/') {
        match kind(&name[..end])? {
            Some(Kind::Folder) => {}
            None => missing.push(name[..end].to_owned()),
            Some(Kind::Link | Kind::Other) => return Ok(None),
        }
    }
    Ok(matches!(kind(name)?, None | Some(Kind::Link)).then_some(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_image_makes_way() {
        let kind = |name: &str| {
            Ok::<_, ()>(match name {
                ".config" | ".config/gh" => Some(Kind::Folder),
                ".config/old" => Some(Kind::Link),
                ".file" => Some(Kind::Other),
                _ => None,
            })
        };
        let missing = |name| missing_folders(name, kind).unwrap();
        assert_eq!(missing(".aws"), Some(vec![]));
        assert_eq!(missing(".config/nvim"), Some(vec![]));
        assert_eq!(missing(".local/share/x"), Some(vec![".local".to_owned(), ".local/share".to_owned()]));
        assert_eq!(missing(".config/old"), Some(vec![]), "a link is replaced");
        assert_eq!(missing(".config/gh"), None);
        assert_eq!(missing(".file"), None);
        assert_eq!(missing(".file/x"), None);
        assert_eq!(missing(".config/old/x"), None, "nobody knows where that leads");
    }
}
