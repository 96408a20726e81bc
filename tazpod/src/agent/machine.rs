//! Which machine this is, and what it remembers of an archive.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use vaultfs::format::v2::MachineId;
use vaultfs::tree::Owner;
use vaultfs::vault::{Acceptance, Machine, VaultOptions};

use super::paths::{VaultKey, state_root};

/// The file of what this machine knows of an archive.
const WITNESS: &str = "head";

/// Returns the id that this machine gave itself for this user, and its name. Where it cannot be kept, it is another one each time:
/// then no write that is cut off is known for this machine's own.
///
/// # Errors
/// There is no randomness.
pub fn this_machine() -> io::Result<Machine> {
    let kept = state_root().map(|root| root.join("machine-id")).and_then(|path| match read_id(&path)? {
        Some(id) => Ok(id),
        None => make_id(&path),
    });
    let id = match kept {
        Ok(id) => id,
        Err(_) => MachineId(vaultfs::crypto::random().map_err(io::Error::other)?),
    };
    Ok(Machine { id, host: rustix::system::uname().nodename().to_string_lossy().into_owned() })
}

/// The file of what this machine knows of an archive.
///
/// # Errors
/// The state folder cannot be used.
pub fn witness(archive: &Path) -> io::Result<PathBuf> {
    Ok(VaultKey::of(archive).lasting_folder()?.join(WITNESS))
}

fn read_id(path: &Path) -> io::Result<Option<MachineId>> {
    let mut bytes = Vec::new();
    match OpenOptions::new().read(true).open(path) {
        Ok(file) => file.take(64).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // One that was cut short is made anew.
    Ok(bytes.try_into().ok().map(MachineId))
}

fn make_id(path: &Path) -> io::Result<MachineId> {
    let id: [u8; 16] = vaultfs::crypto::random().map_err(io::Error::other)?;
    let temporary = path.with_extension(std::process::id().to_string());
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&id)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    // Whoever came last.
    read_id(path)?.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Forgets what this machine knew of an archive that was at a path before.
///
/// # Errors
/// The state folder cannot be used.
pub fn forget(archive: &Path) -> io::Result<()> {
    match std::fs::remove_file(witness(archive)?) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Options of an archive with this machine's witness of it, where there is a place for one.
pub fn vault_options(
    archive: &Path,
    size_limit: u64,
    commit_delay: std::time::Duration,
    machine: Machine,
    acceptance: Acceptance,
) -> VaultOptions {
    let witness = witness(archive).ok();
    VaultOptions {
        machine,
        witness,
        acceptance,
        ..VaultOptions::new(Owner::of_this_process(), size_limit, commit_delay)
    }
}
