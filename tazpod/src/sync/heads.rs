//! What a remote holds, with the state of each: an archive that another program put there tells nothing, and is fetched.

use std::path::Path;

use crate::remote::{Head, Remote, RemoteError};

use super::base::Base;
use super::snapshot::temporary;

/// Looks at the heads of a remote. What this machine has seen before need not be fetched.
///
/// # Errors
/// Those of the remote.
pub fn look(remote: &dyn Remote, base: Option<&Base>, folder: &Path) -> Result<Vec<Head>, RemoteError> {
    let mut heads = remote.heads()?;
    for head in heads.iter_mut().filter(|head| head.state.is_none()) {
        if base.is_some_and(|base| base.versions.contains(&head.version)) {
            continue;
        }
        let target = temporary(folder)?;
        let description = remote.fetch(&head.version, target.path())?;
        (head.state, head.sha256) = (Some(description.state), Some(description.sha256));
    }
    Ok(heads)
}
