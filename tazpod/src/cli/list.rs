//! `tazpod list`

use std::io::Write;

use serde_json::{Value, json};

use crate::calendar::Utc;
use crate::error::{CommandError, CommandResult};
use crate::remote::HistoryCopy;
use crate::ui;

use super::Global;
use super::remote_access::RemoteAccess;

/// Lists what is kept elsewhere.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Older copies of the archive in the remote, the newest first.
    VaultHistory {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let What::VaultHistory { json } = arguments.what;
    let access = RemoteAccess::open(global)?;
    let copies = access.remote.copies()?;
    let text = if json { to_json(&copies) } else { to_table(&copies) };
    if copies.is_empty() && !json {
        ui::say(format!("There are no copies in {}", access.remote.place()));
        return Ok(());
    }
    writeln!(std::io::stdout(), "{text}").map_err(|error| CommandError::caused("the list cannot be printed", &error))
}

fn to_table(copies: &[HistoryCopy]) -> String {
    let mut lines = vec![format!("{:>5}  {:<23}  {:>10}  {:>8}  NAME", "INDEX", "TIME", "SIZE", "COMMIT")];
    lines.extend(copies.iter().enumerate().map(|(index, copy)| {
        let commit = copy.sequence.map_or_else(|| "-".to_owned(), |sequence| sequence.to_string());
        let (time, size) = (Utc::of(copy.modified).to_string(), ui::size(copy.bytes));
        format!("{:>5}  {time:<23}  {size:>10}  {commit:>8}  {}", index + 1, ui::printable(&copy.name.0))
    }));
    lines.join("\n")
}

fn to_json(copies: &[HistoryCopy]) -> String {
    let list = copies.iter().enumerate().map(|(index, copy)| {
        json!({
            "index": index + 1,
            "name": copy.name.0,
            "time": Utc::of(copy.modified).rfc_3339(),
            "bytes": copy.bytes,
            "commit": copy.sequence,
        })
    });
    Value::from_iter(list).to_string()
}
