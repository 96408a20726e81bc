//! `tazpod recover`

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use vaultfs::format::ReadWarning;
use vaultfs::vault::{Recovered, Secret, VaultError, is_version_2, recover_file};

use crate::agent::client::Client;
use crate::agent::machine::forget;
use crate::agent::notice;
use crate::error::{CommandError, CommandResult, Status};
use crate::signals::Hold;
use crate::ui;

use super::way_in::WayIn;
use super::{Global, locked};

/// Files that are named; of more only the number is told. JSON names all.
const SHOWN: usize = 20;

/// Writes what is still authentic in a damaged archive of version 2 into a new one. The damaged one is not changed.
#[derive(clap::Args)]
pub struct Arguments {
    /// The new archive; never over an existing file. It opens with what opened the damaged one, and with nothing else.
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    way_in: WayIn,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let plan = global.plan()?;
    let out = &arguments.out;
    if Client::find(&plan.archive)?.is_some() {
        return Err(CommandError::new(Status::Failure, "the vault is unlocked: all it holds is whole in memory")
            .hint("'tazpod compact' writes the archive anew from there, 'tazpod export' a plain tar"));
    }
    locked::protect_process()?;
    locked::require_archive(&plan)?;
    if !is_version_2(&plan.archive)? {
        let message =
            "an archive of version 1 is authentic as a whole or not at all: no part of a damaged one can be saved";
        return Err(CommandError::new(Status::Damaged, message)
            .hint("restore an older copy of the archive; 'tazpod check' tells whether one opens"));
    }
    if out.symlink_metadata().is_ok() {
        return Err(VaultError::ArchiveExists(out.clone()).into());
    }
    let options = locked::options(&plan)?;
    let recovered = arguments.way_in.try_with(&locked::question(&plan), |secret| {
        // From here on Ctrl-C leaves nothing half done; at the question it ends the program at once.
        let (cancelled, _hold) = interruptible()?;
        match recover_file(&plan.archive, secret, out, &options, &cancelled) {
            Err(_) if cancelled.load(Ordering::Relaxed) => Err(CommandError::interrupted()),
            Err(VaultError::WrongPassphrase) => Err(CommandError::from(VaultError::WrongPassphrase)
                .hint("or the place in the header that it opens is damaged: then nothing can be saved, and only an older copy helps")),
            Err(error @ VaultError::Format { .. }) if matches!(secret, Secret::Identity(_)) => Err(CommandError::from(error)
                .hint("nothing can be saved with this identity; the passphrase or another identity may open what it does not")),
            outcome => outcome.map_err(Into::into),
        }
    })?;
    let canonical = out.canonicalize().unwrap_or_else(|_| out.clone());
    forget(&canonical).map_err(|error| CommandError::caused("the state folder cannot be used", &error))?;
    tell(&recovered, out);
    if arguments.json {
        writeln!(io::stdout(), "{}", to_json(&recovered, out))
            .map_err(|error| CommandError::caused("the report cannot be written", &error))?;
    }
    Ok(())
}

fn interruptible() -> CommandResult<(Arc<AtomicBool>, Hold)> {
    let failed = |error| CommandError::caused("signals cannot be handled", &error);
    let hold = Hold::take().map_err(failed)?;
    let cancelled = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, cancelled.clone()).map_err(failed)?;
    }
    Ok((cancelled, hold))
}

fn tell(recovered: &Recovered, out: &Path) {
    match recovered.commit {
        Some(commit) => {
            ui::say(format!(
                "In place: the state after commit {commit}, {}",
                ui::count(recovered.files, "file", "files")
            ));
        }
        None => ui::say("Not in place: anything; the archive's first part is damaged"),
    }
    if let Some(newest) = recovered.newest.filter(|newest| Some(*newest) > recovered.commit) {
        ui::say(format!("Later commits, up to {newest}, could not be applied"));
    }
    for (offset, reason) in &recovered.damage {
        ui::say(format!("Damaged at byte {offset}: {reason}"));
    }
    if let Some(folder) = &recovered.folder {
        let count = recovered.salvaged.len();
        let files = ui::count(count as u64, "file", "files");
        ui::say(format!("Salvaged into {}, whole in what could not be applied: {files}", text(folder)));
        recovered.salvaged.iter().take(SHOWN).for_each(|(path, commit)| {
            ui::say(format!("  {} (commit {commit})", ui::printable(&text(path))));
        });
        more(count);
    }
    if !recovered.lost.is_empty() {
        ui::say("Lost: later contents of these, which are known in part only");
        recovered.lost.iter().take(SHOWN).for_each(|path| ui::say(format!("  {}", ui::printable(&text(path)))));
        more(recovered.lost.len());
    }
    if recovered.damage.is_empty() {
        ui::say("Nothing is damaged: all of the archive was taken over");
    }
    tell_of_keys(recovered, out);
}

/// Whom the new vault opens for: nobody who cannot be asked gets a way into it.
fn tell_of_keys(recovered: &Recovered, out: &Path) {
    if recovered.is_maker_unproven {
        ui::warn(notice::words(&ReadWarning::UnprovenMaker));
    }
    let out = out.display();
    match &recovered.recipient {
        None => ui::say(format!("Wrote {out}, which opens with the same passphrase: 'tazpod unlock --vault {out}'")),
        Some(name) => ui::say(format!(
            "Wrote {out}, which opens with the same identity, of {}: 'tazpod unlock --vault {out} --identity FILE'",
            ui::printable(name)
        )),
    }
    if recovered.is_passphrase_left_out {
        ui::say(format!("It has no passphrase: 'tazpod passwd --vault {out} --identity FILE' sets one"));
    }
    if recovered.is_header_damaged {
        ui::say("Recipients besides are not taken over: 'tazpod recipient add' adds them again");
    } else if !recovered.left_out.is_empty() {
        let names = ui::printable(&recovered.left_out.join(", "));
        ui::say(format!("Not taken over: {names}; 'tazpod recipient add' adds them again"));
    }
}

fn more(count: usize) {
    if count > SHOWN {
        ui::say(format!("  and {} more", count - SHOWN));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn to_json(recovered: &Recovered, out: &Path) -> Value {
    let damage = recovered.damage.iter().map(|(offset, reason)| json!({ "offset": offset, "reason": reason }));
    let salvaged = recovered.salvaged.iter().map(|(path, commit)| json!({ "path": text(path), "commit": commit }));
    json!({
        "output": out,
        "commit": recovered.commit,
        "newest": recovered.newest,
        "entries": recovered.entries,
        "files": recovered.files,
        "header_damaged": recovered.is_header_damaged,
        "damage": damage.collect::<Vec<_>>(),
        "folder": recovered.folder.as_deref().map(text),
        "salvaged": salvaged.collect::<Vec<_>>(),
        "recipient": recovered.recipient,
        "left_out": recovered.left_out,
        "passphrase_left_out": recovered.is_passphrase_left_out,
        "maker_unproven": recovered.is_maker_unproven,
        "lost": recovered.lost.iter().map(|path| text(path)).collect::<Vec<_>>(),
    })
}
