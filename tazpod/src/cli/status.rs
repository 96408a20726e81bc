//! `tazpod status`

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::agent::client::Client;
use crate::agent::paths;
use crate::agent::protocol::Status;
use crate::config::Plan;
use crate::error::{self, CommandError, CommandResult};
use crate::ui;

use super::container_status::{ContainerStatus, Look};
use super::inside::Elsewhere;
use super::{Global, automatic, inside, outlook, sync_status, unlock};

/// Shows whether the vault is unlocked, where, how full it is, and whether everything is saved and sent.
#[derive(clap::Args)]
pub struct Arguments {
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Prints nothing; ends with status 4 when the vault is locked.
    #[arg(long, conflicts_with = "json")]
    check: bool,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult<ExitCode> {
    let plan = match global.plan_or_no_project()? {
        Ok(plan) => plan,
        // Whatever is unlocked.
        Err(error) => return show_all(arguments, error.into()),
    };
    let look = (!arguments.check).then(|| Look::begin(&plan));
    let status = match Client::find(&plan.archive)? {
        Some((_, status)) => Some(status),
        None => {
            unlock::clean_up(&plan)?;
            None
        }
    };
    // While the engine is asked for the rest.
    let (inside, status) = match status {
        None if inside::is_noted(&plan) => match inside::status(&plan) {
            Elsewhere::Unknown(error) if arguments.check => return Err(error),
            Elsewhere::Unknown(error) => (Some(Err(error.summary())), None),
            Elsewhere::Unlocked(name, status) => (Some(Ok(name)), Some(*status)),
            Elsewhere::Locked => (None, None),
        },
        status => (None, status),
    };
    let Some(look) = look else {
        let code = if status.is_some() { 0 } else { error::Status::Locked as u8 };
        return Ok(ExitCode::from(code));
    };
    let containers = look.finish();
    if arguments.json {
        let mut value = status.as_ref().map_or_else(|| Ok(locked_json(&plan)), to_json)?;
        match inside {
            Some(Ok(name)) => {
                value["inside"] = json!(name);
                value["archive"] = json!(plan.archive);
            }
            Some(Err(reason)) => (value["state"], value["reason"]) = (json!("unknown"), json!(reason)),
            None => {}
        }
        value["containers"] = containers.iter().map(ContainerStatus::to_json).collect();
        print(&value.to_string())?;
    } else {
        let vault = status.as_ref().map_or_else(|| locked_text(&plan), to_text);
        let place = inside.map(|inside| match inside {
            Ok(name) => format!("inside   unlocked in the container '{name}'; what is above is there"),
            Err(reason) => format!("inside   nobody knows whether it is unlocked there: {reason}"),
        });
        let lines: Vec<String> = containers.iter().map(ContainerStatus::to_text).collect();
        print(&[vec![vault], place.into_iter().collect(), lines].concat().join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show_all(arguments: &Arguments, no_project: CommandError) -> CommandResult<ExitCode> {
    let mut found = Vec::new();
    for note in paths::all_notes() {
        found.extend(Client::find(&note.archive)?.map(|(_, status)| status));
    }
    if found.is_empty() {
        return Err(no_project);
    }
    if !arguments.check {
        for status in &found {
            print(&if arguments.json { to_json(status)?.to_string() } else { to_text(status) })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> CommandResult {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CommandError::caused("the status cannot be written", &error))
        }
        _ => Ok(()),
    }
}

fn to_json(status: &Status) -> CommandResult<Value> {
    let mut value =
        serde_json::to_value(status).map_err(|error| CommandError::caused("the status cannot be written", &error))?;
    value["state"] = json!("unlocked");
    Ok(value)
}

fn locked_json(plan: &Plan) -> Value {
    json!({
        "state": "locked",
        "archive": plan.archive,
        "archive_exists": plan.archive.exists(),
        "mounts": [],
        "sync": sync_status::locked_json(automatic::standing(plan).as_ref()),
    })
}

fn locked_text(plan: &Plan) -> String {
    let Ok(metadata) = std::fs::metadata(&plan.archive) else {
        return format!("vault    {} (there is none)\nstate    locked", plan.archive.display());
    };
    let text = format!("vault    {} ({})\nstate    locked", plan.archive.display(), ui::size(metadata.len()));
    match automatic::standing(plan) {
        Some(standing) => format!("{text}\nsync     {}", sync_status::locked_line(&standing)),
        None => text,
    }
}

fn to_text(status: &Status) -> String {
    let mut lines =
        vec![format!("vault    {} ({}, {})", status.archive.display(), status.format, ui::size(status.archive_bytes))];
    lines.push(format!("state    unlocked{}", if status.read_only { ", read-only" } else { "" }));
    let is_bridge = |dir: &Path| status.bridges.iter().any(|bridge| bridge.problem.is_none() && bridge.target == dir);
    for mount in status.mounts.iter().filter(|mount| !is_bridge(&mount.dir)) {
        let folder = if mount.subtree.is_empty() {
            String::new()
        } else {
            format!(" (folder {})", ui::printable(&mount.subtree))
        };
        let how = if mount.read_only { ", read-only" } else { "" };
        lines.push(format!("mount    {}{folder}{how}", mount.dir.display()));
    }
    lines.extend(outlook::bridges(&status.bridges));
    lines.push(format!(
        "size     {} of {}, {}, {} open",
        ui::size(status.used_bytes),
        ui::size(status.size_limit_bytes),
        ui::count(status.entries, "entry", "entries"),
        status.open_handles
    ));
    lines.push(format!("changes  {}", changes(status)));
    if let Some(error) = &status.last_error {
        lines.push(format!("error    the last save failed: {}", ui::printable(error)));
    }
    lines.extend(outlook::auto_lock(&status.auto_lock));
    lines.push(format!("sync     {}", sync_status::line(&status.sync)));
    lines.extend(sync_status::conflict_lines(&status.conflicts));
    lines.push(format!(
        "agent    pid {}, up {}, version {}",
        status.agent_pid,
        ui::span(status.uptime_secs),
        status.version
    ));
    lines.join("\n")
}

fn changes(status: &Status) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let state = if status.dirty { "not all saved yet" } else { "all saved" };
    match status.last_commit {
        Some(at) => format!("{state}, last {} ago", ui::span(now.saturating_sub(at))),
        None if status.dirty => state.to_owned(),
        None => "none since the unlock".to_owned(),
    }
}
