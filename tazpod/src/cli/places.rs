//! Places that a mount must leave in sight.

use std::path::{Path, PathBuf};

use crate::agent::paths;
use crate::config::{self, Plan};
use crate::error::{CommandError, CommandResult, Status};

/// The archive, the project's configuration, and where this tool keeps its own.
pub fn kept(plan: &Plan) -> Vec<PathBuf> {
    let project = plan.project.as_deref().map(config::project_file);
    let own = [project, paths::state_root().ok(), paths::runtime_folder().ok(), config::user_folder()];
    std::iter::once(plan.archive.clone()).chain(own.into_iter().flatten()).collect()
}

/// Refuses to mount something over any of them: the vault could not be locked any more, or lies in itself.
pub fn check_mount(plan: &Plan, mount: &Path) -> CommandResult {
    let place = |path: PathBuf| config::canonical(&path).unwrap_or(path);
    match kept(plan).into_iter().map(place).find(|kept| kept.starts_with(mount)) {
        None => Ok(()),
        Some(kept) => {
            let text = format!("{} would be covered by the mount at {}", kept.display(), mount.display());
            Err(CommandError::new(Status::Usage, text).hint("choose another folder"))
        }
    }
}
