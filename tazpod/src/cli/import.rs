//! `tazpod import`

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use vaultfs::entry::EntryPath;
use vaultfs::format;
use vaultfs::vault::OnExisting;

use crate::agent::client::{AgentError, Client};
use crate::config::Plan;
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

use super::folder_source::FolderSource;
use super::way_in::WayIn;
use super::{Global, locked};

/// Copies a folder, a file or a plain tar into the vault. Nothing is changed when anything of it cannot be taken.
#[derive(clap::Args)]
pub struct Arguments {
    /// A folder (its content is taken), a tar (named .tar, or '-' for standard input), or a single file.
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// Folder within the vault that it goes to; made when missing [default: the root].
    #[arg(long, value_name = "FOLDER", default_value = "")]
    into: OsString,
    /// Replaces files that exist in the vault.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    way_in: WayIn,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let plan = global.plan()?;
    let source = &arguments.source;
    let count = if source.as_os_str() == "-" {
        if io::stdin().is_terminal() {
            return Err(CommandError::new(Status::Usage, "a tar is expected on standard input, not a terminal"));
        }
        send(&plan, arguments, &mut io::stdin().lock())?
    } else if source.is_file() && source.extension().is_some_and(|extension| extension == "tar") {
        send(&plan, arguments, &mut File::open(source).map_err(|error| cannot_read(source, &error))?)?
    } else {
        send_folder(&plan, arguments, source)?
    };
    ui::say(format!("Imported {}", ui::count(count, "entry", "entries")));
    Ok(())
}

/// Writes a folder as a tar into a pipe, from a thread of its own.
fn send_folder(plan: &Plan, arguments: &Arguments, folder: &Path) -> CommandResult<u64> {
    let mut source = FolderSource::new(folder).map_err(|error| cannot_read(folder, &error))?;
    let (reader, mut writer) = io::pipe().map_err(|error| CommandError::caused("there is no pipe", &error))?;
    let (outcome, written) = std::thread::scope(|scope| {
        let walk = scope.spawn(move || format::tar::write(&mut writer, &mut source));
        // The tar's end is told only when it was written whole: a cut one is refused by its reader.
        let mut reader = reader;
        let outcome = send(plan, arguments, &mut reader);
        drop(reader);
        (outcome, walk.join())
    });
    match (outcome, written) {
        // Reading the folder failed first, and the tar's end is missing because of it.
        (Err(_), Ok(Err(error))) if !is_broken_pipe(&error) => {
            Err(CommandError::caused(format!("{} cannot be imported", folder.display()), &error)
                .hint("nothing was changed"))
        }
        (outcome, _) => outcome,
    }
}

fn is_broken_pipe(error: &format::FormatError) -> bool {
    matches!(error, format::FormatError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
}

fn send(plan: &Plan, arguments: &Arguments, input: &mut dyn Read) -> CommandResult<u64> {
    let refused = |error: CommandError| {
        match arguments.replace {
        true => error,
        false => error.hint(
            "nothing was changed; files that exist are replaced with --replace, and a full vault is made larger by vault.size",
        ),
    }
    };
    if let Some(mut client) = Client::connect(&plan.archive)? {
        let into = arguments.into.as_bytes().to_vec();
        return client.import(input, into, arguments.replace).map_err(|error: AgentError| refused(error.into()));
    }
    let into = EntryPath::parse(arguments.into.as_bytes())
        .map_err(|error| CommandError::new(Status::Usage, format!("--into: {error}")))?;
    let existing = if arguments.replace { OnExisting::Replace } else { OnExisting::Refuse };
    let (vault, _) = locked::open(plan, &arguments.way_in, &locked::question(plan))?;
    let count = match vault.import(input, &into, existing) {
        Ok(count) => count,
        Err(error) => {
            // Part of it may be in the tree: none of it goes to the archive.
            vault.discard();
            return Err(refused(error.into()));
        }
    };
    vault.close().map_err(|(vault, error)| {
        let mapped = CommandError::caused("the import cannot be saved", &*error);
        vault.discard();
        mapped.hint("nothing was changed")
    })?;
    Ok(count)
}

fn cannot_read(path: &Path, error: &io::Error) -> CommandError {
    CommandError::caused(format!("cannot read {}", path.display()), error)
}
