//! What a mount covers: what it must leave in sight, and what is told.

use std::path::{Path, PathBuf};

use crate::agent::paths;
use crate::config::{self, Plan};
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

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

/// What a mount is going to cover.
pub struct Covered {
    dir: PathBuf,
    entries: u64,
}

impl Covered {
    /// Counts what lies in a folder. One that cannot be looked into is for the mount to complain of.
    pub fn by(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), entries: std::fs::read_dir(dir).map_or(0, |entries| entries.count() as u64) }
    }

    /// Says that it is out of sight, once the mount is there: somebody may look for it in the vault.
    pub fn tell(&self) {
        if self.entries > 0 {
            ui::warn(format!(
                "{} has {} on the disk: out of sight until the vault is locked, and not in it",
                self.dir.display(),
                ui::count(self.entries, "entry", "entries")
            ));
        }
    }
}
