//! `tazpod restore`

use std::ffi::OsString;

use vaultfs::entry::EntryPath;

use crate::agent::client::Client;
use crate::agent::past::Restored;
use crate::config::Plan;
use crate::error::{CommandError, CommandResult};
use crate::ui;

use super::log::vault_path;
use super::way_in::WayIn;
use super::{Global, locked};

/// Puts a file, or a folder with all that was in it, back into the vault as it was after a commit. What is there now is saved
/// first and replaced; files that came later stay. Works on a locked and on an unlocked vault.
#[derive(clap::Args)]
pub struct Arguments {
    /// The commit's number, as 'tazpod log' tells it.
    #[arg(long, value_name = "N")]
    at: u64,
    /// A file or a folder of the vault; '.' is its root.
    #[arg(value_name = "PATH")]
    path: OsString,
    /// Where in the vault it goes [default: where it was].
    #[arg(long, value_name = "PATH")]
    to: Option<OsString>,
    #[command(flatten)]
    way_in: WayIn,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let plan = global.plan()?;
    let path = vault_path(&arguments.path)?;
    let to = arguments.to.as_ref().map(vault_path).transpose()?;
    let restored = match Client::connect(&plan.archive)? {
        Some(mut client) => {
            let bytes = |path: &EntryPath| path.as_bytes().to_vec();
            client.restore(arguments.at, bytes(&path), to.as_ref().map(bytes))?
        }
        None => restore_locked(&plan, arguments, &path, to.as_ref())?,
    };
    tell(&restored, arguments.at);
    Ok(())
}

fn restore_locked(
    plan: &Plan,
    arguments: &Arguments,
    path: &EntryPath,
    to: Option<&EntryPath>,
) -> CommandResult<Restored> {
    let (vault, _) = locked::open(plan, &arguments.way_in, &locked::question(plan))?;
    let restored = match vault.restore(arguments.at, path, to) {
        Ok(restored) => Restored::from(&restored),
        Err(error) => {
            // Part of it may be in the tree: none of it goes to the archive.
            vault.discard();
            return Err(error.into());
        }
    };
    vault.close().map_err(|(vault, error)| {
        let mapped = CommandError::caused("what was put back cannot be saved", &*error);
        vault.discard();
        mapped.hint("nothing was changed")
    })?;
    Ok(restored)
}

fn tell(restored: &Restored, at: u64) {
    let Restored { entries, replaced, replaced_paths, before } = restored;
    ui::say(format!("Restored {} as of commit {at}", ui::count(*entries, "entry", "entries")));
    for path in replaced_paths {
        ui::say(format!("Replaced {}", ui::printable(path)));
    }
    let more = replaced - replaced_paths.len() as u64;
    if more > 0 {
        ui::say(format!("and {more} more"));
    }
    if *replaced > 0 {
        ui::say(format!(
            "What was there before is in commit {before} until the archive is compacted: 'tazpod restore --at {before} PATH' brings it back"
        ));
    }
}
