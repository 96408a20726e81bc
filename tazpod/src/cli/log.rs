//! `tazpod log`

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;

use jiff::{Timestamp, Zoned, tz::TimeZone};
use serde_json::{Value, json};
use vaultfs::entry::EntryPath;

use crate::agent::client::Client;
use crate::agent::past::{Change, Commit};
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

use super::way_in::WayIn;
use super::{Global, locked};

/// Lists the commits that the archive holds, newest first: number, time, machine, and what changed. Those before the oldest are
/// gone: compaction drops them.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only commits that touched this file or folder of the vault, or something in it.
    #[arg(value_name = "PATH")]
    path: Option<OsString>,
    /// Prints JSON, an array.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    way_in: WayIn,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let plan = global.plan()?;
    let path = arguments.path.as_ref().map(vault_path).transpose()?;
    let mut commits = Vec::new();
    match Client::connect(&plan.archive)? {
        Some(mut client) => {
            let path = path.map(|path| path.as_bytes().to_vec());
            client.log(path, &mut |commit| commits.push(commit))?;
        }
        None => {
            let (vault, _) = locked::open(&plan, &arguments.way_in, &locked::question(&plan))?;
            let mut take = |commit: &vaultfs::vault::Commit| {
                commits.push(Commit::from(commit));
                Ok(())
            };
            vault.log()?.commits(path.as_ref(), &mut take)?;
            vault.discard();
        }
    }
    commits.reverse();
    match show(&commits, arguments.json) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CommandError::caused("the log cannot be written", &error))
        }
        _ => Ok(()),
    }
}

/// Checks a path within the vault.
pub fn vault_path(path: &OsString) -> CommandResult<EntryPath> {
    EntryPath::parse(path.as_bytes()).map_err(|error| {
        let shown = ui::printable(&path.to_string_lossy());
        CommandError::new(Status::Usage, format!("{shown} is no path within the vault: {error}"))
            .hint("paths count from the vault's root: 'folder/file', not '~/secrets/folder/file'")
    })
}

fn show(commits: &[Commit], is_json: bool) -> io::Result<()> {
    let mut output = io::stdout().lock();
    if is_json {
        let values: Vec<Value> = commits.iter().map(to_json).collect();
        return writeln!(output, "{}", Value::from(values));
    }
    let is_terminal = io::stdout().is_terminal();
    for (index, commit) in commits.iter().enumerate() {
        let gap = if index == 0 { "" } else { "\n" };
        let text = to_text(commit);
        writeln!(output, "{gap}{}", if is_terminal { printable_lines(&text) } else { text })?;
    }
    output.flush()
}

fn to_json(commit: &Commit) -> Value {
    let mut value = json!(commit);
    value["time"] = json!(local_time(commit.time_nanos));
    value
}

fn to_text(commit: &Commit) -> String {
    let Commit { number, host, version, .. } = commit;
    let mut lines = vec![format!("commit {number}  {}  {host}  (version {version})", local_time(commit.time_nanos))];
    if commit.oldest {
        lines.push(format!("    the oldest that the archive holds, {}", ui::count(commit.entries, "entry", "entries")));
    }
    if commit.new_header {
        lines.push("    the passphrase or the recipients changed".to_owned());
    }
    if !commit.oldest && !commit.new_header && commit.changes.is_empty() {
        lines.push("    no file changed".to_owned());
    }
    lines.extend(commit.changes.iter().map(|change| match change {
        Change::Created { path } => format!("    created  {path}"),
        Change::Changed { path } => format!("    changed  {path}"),
        Change::Renamed { from, path } => format!("    renamed  {from} -> {path}"),
        Change::Deleted { path } => format!("    deleted  {path}"),
    }));
    lines.join("\n")
}

/// ISO 8601 with the offset of this machine's time zone, to the second.
fn local_time(nanos: i64) -> String {
    let time = Timestamp::from_nanosecond(nanos.into()).unwrap_or_default();
    let local = Zoned::new(time, TimeZone::system());
    local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

fn printable_lines(text: &str) -> String {
    text.split('\n').map(ui::printable).collect::<Vec<_>>().join("\n")
}
