//! `tazpod check`

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;
use vaultfs::vault::{self, CheckReport, VaultError};

use crate::agent::client::{AgentError, Client};
use crate::agent::past::{Checked, Progress};
use crate::agent::protocol::Failure;
use crate::config::Plan;
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

use super::bar::bar;
use super::way_in::WayIn;
use super::{Global, locked};

/// Verifies every byte of the archive, and that it is what this machine has seen. Changes nothing. Ends with 0 when all is
/// well, 5 when it is damaged, 6 when it does not follow from what this machine has seen.
#[derive(clap::Args)]
pub struct Arguments {
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    way_in: WayIn,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult<ExitCode> {
    let plan = global.plan()?;
    let checked = look(&plan, &arguments.way_in)?;
    if arguments.json {
        writeln!(io::stdout(), "{}", json!(checked))
            .map_err(|error| CommandError::caused("the report cannot be written", &error))?;
        return Ok(ExitCode::from(status(&checked)));
    }
    match complaint(&checked) {
        Some(error) => Err(error),
        None => {
            ui::say(to_text(&plan, &checked));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Verifies the archive of a plan, by its agent where it has one.
pub fn look(plan: &Plan, way_in: &WayIn) -> CommandResult<Checked> {
    let bar = bar("{bar:40} {bytes} of {total_bytes}");
    let mut tell = |Progress { done, total }| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let outcome = match Client::connect(&plan.archive)? {
        Some(mut client) => match client.check(&mut tell) {
            // The agent holds the whole of an archive of version 1: what lies in the file opens with its passphrase only.
            Err(AgentError::Refused(Failure::NoHistory(_))) => look_locked(plan, way_in, &mut tell),
            outcome => outcome.map_err(Into::into),
        },
        None => look_locked(plan, way_in, &mut tell),
    };
    bar.finish_and_clear();
    outcome
}

fn look_locked(plan: &Plan, way_in: &WayIn, tell: &mut dyn FnMut(Progress)) -> CommandResult<Checked> {
    locked::protect_process()?;
    locked::require_archive(plan)?;
    let options = locked::options(plan)?;
    let mut progress = |done, total| {
        tell(Progress { done, total });
        Ok(())
    };
    way_in.try_with(&locked::question(plan), |secret| {
        match vault::check_file(&plan.archive, secret, &options, &mut progress) {
            Ok(report) => Ok(Checked::new(&report)),
            Err(VaultError::Format { path, source }) => {
                let error = VaultError::Format { path, source };
                match Failure::from(&error) {
                    Failure::Damaged(reason) => Ok(Checked::new(&damaged(reason))),
                    _ => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    })
}

fn damaged(reason: String) -> CheckReport {
    CheckReport { verdict: vault::Verdict::Damaged { offset: 0, sequence: 0, reason }, ..CheckReport::default() }
}

fn status(checked: &Checked) -> u8 {
    complaint(checked).map_or(0, |error| error.status as u8)
}

fn complaint(checked: &Checked) -> Option<CommandError> {
    let head = checked.head.unwrap_or(0);
    Some(match checked.status.as_str() {
        "sound" | "torn" => return None,
        "damaged" => {
            let (offset, sequence) = (checked.offset.unwrap_or(0), checked.sequence.unwrap_or(0));
            let reason = checked.reason.as_deref().unwrap_or("it cannot be read");
            CommandError::new(
                Status::Damaged,
                format!("the archive is damaged at byte {offset}, commit {sequence}: {reason}"),
            )
            .hint(
                "nothing was changed; restore an older copy of the archive, or see what 'tazpod recover OUT' can save",
            )
        }
        "rolled-back" => {
            let seen = checked.seen.unwrap_or(0);
            Failure::RolledBack(format!(
                "the archive is sound, and older than this machine has seen: it ends with commit {head}, and commit {seen} is known"
            ))
            .into()
        }
        "other-vault" => {
            Failure::RolledBack("the archive is sound, and another one than this machine has seen".to_owned()).into()
        }
        _ => {
            Failure::UnknownKey("the archive is sound, under another key than this machine has seen".to_owned()).into()
        }
    })
}

fn to_text(plan: &Plan, checked: &Checked) -> String {
    let Checked { format, commits, bytes, files, entries, .. } = checked;
    let mut text = format!("{} is sound ({format}, {})", plan.archive.display(), ui::size(*bytes));
    text += &format!("\n{}, {}", ui::count(*files, "file", "files"), ui::count(*entries, "entry", "entries"));
    if let (Some(head), Some(oldest)) = (checked.head, checked.oldest) {
        text += &format!(", commits {oldest} to {head} ({commits} since the last compaction)");
    }
    if let Some(offset) = checked.offset {
        text += &format!(
            "\nA write was cut off at byte {offset}; what was saved is all there, and 'tazpod unlock' leaves the rest aside"
        );
    }
    text
}
