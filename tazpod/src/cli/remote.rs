//! `tazpod remote`

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::calendar::Utc;
use crate::config::{RemotePlace, Retention};
use crate::error::{CommandError, CommandResult};
use crate::remote::credentials::choose;
use crate::remote::probe::Outcome;
use crate::remote::{Conditions, Head};
use crate::ui;

use super::Global;
use super::remote_access::{RemoteAccess, plans, unsafe_place, vault_files};

/// Looks at the place that the archive travels to.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Shows what is configured; nothing goes over the network.
    Show {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tries whether the place can be read and written, and whether two machines can use it at once.
    Test {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    match arguments.what {
        What::Show { json } => show(global, json),
        What::Test { json } => test(global, json),
    }
}

fn show(global: &Global, json: bool) -> CommandResult {
    let mut lines = described(global)?;
    let outcome = RemoteAccess::open(global)?.remembered();
    lines.push(("conditions", conditions(outcome.as_ref())));
    print(&lines, json)
}

/// What the configuration says, and where credentials would come from.
fn described(global: &Global) -> CommandResult<Vec<(&'static str, Value)>> {
    let (plan, remote) = plans(global)?;
    let mut lines = Vec::new();
    match &remote.place {
        RemotePlace::Directory(folder) => {
            lines.extend([("type", "directory".into()), ("path", folder.display().to_string().into())]);
        }
        RemotePlace::S3(place) => {
            let source = choose(|name| std::env::var(name).ok(), &mut vault_files(&plan)?, place.profile.as_deref());
            lines.extend([
                ("type", "s3".into()),
                ("bucket", place.bucket.as_str().into()),
                ("prefix", place.prefix.as_str().into()),
                ("region", place.region.as_deref().into()),
                ("endpoint", place.endpoint.as_deref().into()),
                ("credentials", source.name().into()),
            ]);
        }
    }
    let retention = match remote.retention {
        Retention::All => Value::Null,
        Retention::Newest(count) => count.into(),
    };
    lines.push(("retention", retention));
    Ok(lines)
}

fn conditions(outcome: Option<&Outcome>) -> Value {
    match outcome {
        None => "never tried: run 'tazpod remote test'".into(),
        Some(outcome) => {
            let at = Utc::of(UNIX_EPOCH + Duration::from_secs(outcome.at));
            format!("{}, tried at {at}", told(&outcome.conditions)).into()
        }
    }
}

fn told(conditions: &Conditions) -> String {
    match conditions {
        Conditions::Kept => "kept".to_owned(),
        Conditions::KeptInOneRequest => "kept (not for parts, so large archives go in one request)".to_owned(),
        Conditions::Broken(reason) => format!("not kept: {reason}"),
    }
}

fn test(global: &Global, json: bool) -> CommandResult {
    let access = RemoteAccess::open(global)?;
    let heads = access.remote.heads()?;
    let copies = access.remote.copies()?;
    let found = access.probe()?;
    let holds: Value = match &heads[..] {
        heads if json => heads.iter().map(archive_json).collect(),
        [] => "nothing".into(),
        heads => heads.iter().map(archive).collect::<Vec<_>>().join("; ").into(),
    };
    let lines = [
        ("place", access.remote.place().into()),
        ("holds", holds),
        ("copies", copies.len().into()),
        ("conditions", told(&found).into()),
    ];
    print(&lines, json)?;
    match found {
        Conditions::Broken(reason) => Err(unsafe_place(&access.remote.place(), &reason)),
        _ => Ok(()),
    }
}

fn archive(head: &Head) -> String {
    let size = ui::size(head.bytes);
    let commit = match &head.state {
        Some(state) if state.vault.is_some() => format!(", commit {}", state.sequence),
        _ => String::new(),
    };
    format!("an archive of {size}{commit}, put at {}", Utc::of(head.modified))
}

fn archive_json(head: &Head) -> Value {
    let commit = head.state.filter(|state| state.vault.is_some()).map(|state| state.sequence);
    json!({"bytes": head.bytes, "time": Utc::of(head.modified).rfc_3339(), "commit": commit})
}

fn print(lines: &[(&'static str, Value)], json: bool) -> CommandResult {
    let text = if json {
        Value::from_iter(lines.iter().map(|(name, value)| (*name, value.clone()))).to_string()
    } else {
        let line = |(name, value): &(&str, Value)| match value {
            Value::Null => format!("{name:<12} -"),
            Value::String(text) => format!("{name:<12} {}", ui::printable(text)),
            other => format!("{name:<12} {other}"),
        };
        lines.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    writeln!(std::io::stdout(), "{text}").map_err(|error| CommandError::caused("it cannot be printed", &error))
}
