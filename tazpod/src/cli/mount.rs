//! `tazpod mount` and `tazpod unmount`: further views of an unlocked vault.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::agent::client::Client;
use crate::agent::protocol::MountRequest;
use crate::config;
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

use super::{Global, places, unlock};

/// Mounts a folder of the unlocked vault at a further place.
#[derive(clap::Args)]
pub struct MountArguments {
    /// Folder within the vault; '.' is all of it.
    #[arg(value_name = "FOLDER")]
    folder: OsString,
    /// Where it is mounted.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Mounts it so that it can only be read.
    #[arg(long)]
    read_only: bool,
}

/// Takes a further mount away.
#[derive(clap::Args)]
pub struct UnmountArguments {
    /// Where it is mounted.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub fn run_mount(global: &Global, arguments: &MountArguments) -> CommandResult {
    let dir = config::canonical(&arguments.dir)?;
    let subtree = match arguments.folder.as_bytes() {
        b"." | b"/" => Vec::new(),
        bytes => bytes.to_vec(),
    };
    let plan = global.plan()?;
    places::check_mount(&plan, &dir)?;
    let Some((mut client, status)) = Client::find(&plan.archive)? else {
        unlock::clean_up(&plan)?;
        return Err(CommandError::locked(&plan.archive));
    };
    if let Some(mount) = status.mounts.iter().find(|mount| dir != mount.dir && dir.starts_with(&mount.dir)) {
        let text = format!("{} lies in the vault itself, which is mounted at {}", dir.display(), mount.dir.display());
        return Err(CommandError::new(Status::Usage, text).hint("choose another folder"));
    }
    let covered = places::Covered::by(&dir);
    client.mount(MountRequest { dir: dir.clone(), subtree, read_only: arguments.read_only })?;
    ui::say(format!("Mounted at {}", dir.display()));
    covered.tell();
    Ok(())
}

pub fn run_unmount(global: &Global, arguments: &UnmountArguments) -> CommandResult {
    let dir = config::canonical(&arguments.dir)?;
    global.connect()?.unmount(dir.clone())?;
    ui::say(format!("Unmounted {}", dir.display()));
    Ok(())
}
