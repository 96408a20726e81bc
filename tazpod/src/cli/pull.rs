//! `tazpod pull`

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::calendar::Utc;
use crate::error::{CommandError, CommandResult, Status};
use crate::remote::{Description, Head, HistoryCopy, RemoteError, sync_file, sync_folder};
use crate::sync::snapshot;
use crate::ui;

use super::remote_access::{Fetched, RemoteAccess};
use super::take_over::{Taken, Ways, take_over};
use super::{Global, inside, update};

/// How often it is looked again when the remote changes while something is fetched.
const TRIES: usize = 4;

/// Takes over what the remote has. Where both sides went on they are merged, and nothing is lost: what both edited otherwise lies in
/// .tazpod-conflicts. Works locked and unlocked.
#[derive(clap::Args)]
pub struct Arguments {
    /// What to fetch.
    #[arg(value_enum, default_value_t = Fetched::Vault)]
    what: Fetched,
    /// Takes over nothing; writes the remote's archive to this file, which must not exist.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Fetches an older copy, by its index in 'tazpod list vault-history'.
    #[arg(long, value_name = "N", group = "older")]
    index: Option<usize>,
    /// Fetches the newest copy that is not newer than this time in UTC, of the store's clock, like 2026-11-25 or 2026-11-25T06:35.
    #[arg(long, value_name = "TIME", group = "older", value_parser = parse_time)]
    at: Option<String>,
    #[command(flatten)]
    ways: Ways,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    if arguments.what == Fetched::Image {
        return update::pull_image(global);
    }
    let access = RemoteAccess::open(global)?;
    let is_older = arguments.index.is_some() || arguments.at.is_some();
    match &arguments.output {
        Some(output) if is_older => {
            let copy = older_copy(&access, arguments)?;
            fetch_new(output, |target| Ok(access.remote.fetch_copy(&copy.name, target).map(drop)?))
        }
        Some(output) => fetch_new(output, |target| fetch_head(&access, target).map(drop)),
        None if is_older => Err(CommandError::new(Status::Usage, "an older copy does not take the place of the vault")
            .hint("fetch it with --output FILE; 'tazpod restore' puts single files back from the vault's own history")),
        None => {
            inside::try_to_bring_in_step(&access.vault);
            pull(&access, &arguments.ways)?;
            inside::try_to_bring_in_step(&access.vault);
            Ok(())
        }
    }
}

fn pull(access: &RemoteAccess, ways: &Ways) -> CommandResult {
    let _turn = access.turn()?;
    if !access.vault.archive.exists() {
        return first_pull(access);
    }
    let (taken, _) = take_over(access, ways)?;
    access.note_fetched()?;
    tell(access, taken);
    Ok(())
}

/// A time in UTC, or its beginning, as texts of RFC 3339 begin.
fn parse_time(text: &str) -> Result<String, String> {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00";
    let time = text.trim_end_matches('Z').replace(' ', "T");
    let fits = |(found, shape): (u8, &u8)| if *shape == b'0' { found.is_ascii_digit() } else { found == *shape };
    let is_time = matches!(time.len(), 10 | 13 | 16 | 19) && time.bytes().zip(SHAPE).all(fits);
    is_time.then_some(time).ok_or_else(|| "it is no time like 2026-11-25 or 2026-11-25T06:35:46".to_owned())
}

fn tell(access: &RemoteAccess, taken: Taken) {
    match taken {
        Taken::Nothing => ui::say("Nothing to pull"),
        Taken::Ahead => ui::say("Nothing to pull; 'tazpod push' sends what changed here"),
        Taken::Forward => ui::say(format!("Pulled from {}", access.remote.place())),
        Taken::Merged => ui::say("Merged; 'tazpod push' sends the outcome"),
    }
}

/// A machine that has no archive yet.
pub fn first_pull(access: &RemoteAccess) -> CommandResult {
    let archive = &access.vault.archive;
    let folder = archive.parent().unwrap_or(Path::new("."));
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| CommandError::caused(format!("cannot make {}", folder.display()), &error))?;
    // What is remembered is what was there, not what an unlocked vault may add at once.
    let (head, description, copy) = fetch_new(archive, |target| {
        let (head, description) = fetch_head(access, target)?;
        // The disk writes the one while the other is made.
        std::thread::scope(|scope| {
            let synced = scope.spawn(|| sync_file(target));
            let copy = snapshot::copy(target, &access.state)?;
            synced.join().expect("syncing does not panic")?;
            Ok((head, description, copy))
        })
    })?;
    access.record(vec![head.version], description, copy)?;
    ui::say("Next: 'tazpod unlock'");
    Ok(())
}

/// Fetches what is there, and looks again when it changes meanwhile.
fn fetch_head(access: &RemoteAccess, target: &Path) -> CommandResult<(Head, Description)> {
    for _ in 1..TRIES {
        let head = only_head(access)?;
        match access.remote.fetch(&head.version, target) {
            Ok(description) => return Ok((head, description)),
            Err(RemoteError::Changed(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let head = only_head(access)?;
    let description = access.remote.fetch(&head.version, target)?;
    Ok((head, description))
}

fn only_head(access: &RemoteAccess) -> CommandResult<Head> {
    let place = access.remote.place();
    match <[Head; 1]>::try_from(access.remote.heads()?) {
        Ok([head]) => Ok(head),
        Err(heads) if heads.is_empty() => {
            let text = format!("{place} holds no archive yet");
            Err(CommandError::new(Status::Failure, text).hint("'tazpod push' on the machine that has one sends it"))
        }
        Err(heads) => {
            let text = format!("{place} holds {} archives that do not know of each other", heads.len());
            Err(CommandError::new(Status::Conflict, text)
                .hint("'tazpod sync' on a machine that has the vault merges them"))
        }
    }
}

fn older_copy(access: &RemoteAccess, arguments: &Arguments) -> CommandResult<HistoryCopy> {
    let copies = access.remote.copies()?;
    let count = copies.len();
    let mut copies = copies.into_iter();
    let (copy, text) = match (arguments.index, &arguments.at) {
        (_, Some(time)) => {
            let is_older = |copy: &HistoryCopy| Utc::of(copy.modified).rfc_3339()[..time.len()] <= **time;
            (copies.find(is_older), format!("there is no copy of {time} or before"))
        }
        (index, None) => {
            let index = index.unwrap_or(1);
            let copy = index.checked_sub(1).and_then(|index| copies.nth(index));
            (copy, format!("there is no copy {index}; there are {count}"))
        }
    };
    copy.ok_or_else(|| CommandError::new(Status::Usage, text).hint("'tazpod list vault-history' lists them"))
}

/// Fetches beside a path and puts the file in its place only while that is free.
fn fetch_new<T>(target: &Path, fetch: impl FnOnce(&Path) -> CommandResult<T>) -> CommandResult<T> {
    let exists = || CommandError::new(Status::Usage, format!("{} exists already", target.display()));
    if target.symlink_metadata().is_ok() {
        return Err(exists().hint("name another file"));
    }
    let name = target.file_name().ok_or_else(|| CommandError::new(Status::Usage, "it is no name of a file"))?;
    let mut beside = name.to_owned();
    beside.push(format!(".fetched-{}", std::process::id()));
    let beside = target.with_file_name(beside);
    let fetched = fetch(&beside)?;
    sync_file(&beside)?;
    let moved = renameat_with(CWD, &beside, CWD, target, RenameFlags::NOREPLACE);
    moved.map_err(|error| match error {
        rustix::io::Errno::EXIST => exists().hint(format!("what was fetched is {}", beside.display())),
        error => {
            CommandError::caused(format!("cannot move {} into place", beside.display()), &std::io::Error::from(error))
        }
    })?;
    sync_folder(target)?;
    ui::say(format!("Fetched {}", target.display()));
    Ok(fetched)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_may_be_cut_short() {
        assert_eq!(parse_time("2026-11-25 06:35:46Z").unwrap(), "2026-11-25T06:35:46");
        assert_eq!(parse_time("2026-11-25").unwrap(), "2026-11-25");
        for wrong in ["", "2026", "2026-11-2", "2026-11-25T06:3", "yesterday..", "2026-11-25T06:35:46+01:00"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }
}
