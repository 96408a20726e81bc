//! `tazpod recipient`

use std::fs::File;
use std::io::Read;
use std::path::Path;

use vaultfs::crypto::Recipient;
use vaultfs::vault::{KeyChange, NewRecipient, read_recipients};

use crate::agent::client::Client;
use crate::agent::protocol::{KeyRequest, RecipientEntry};
use crate::config::Plan;
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

use super::way_in::WayIn;
use super::{Global, inside, locked};

/// The longest file that is looked into for a recipient, in bytes.
const FILE_MAX: u64 = 16 * 1024;

/// Says who can open the vault besides its passphrase (version 2). Works on a locked and on an unlocked vault.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Lets the holder of an age key (age1…) or SSH key (ssh-ed25519, ssh-rsa) open the vault.
    Add {
        /// The public key, or a file with one.
        recipient: String,
        /// What it is called here [default: the comment of an SSH key, else the file's name or the key's beginning].
        #[arg(long)]
        label: Option<String>,
        #[command(flatten)]
        way_in: WayIn,
    },
    /// Makes a new key for the vault, and gives it to everybody but this one.
    Remove {
        /// Its label, or its public key.
        name: String,
        #[command(flatten)]
        way_in: WayIn,
    },
    /// Lists who can open the vault. Of a locked vault it shows what the archive says, which nothing proves then.
    List {
        /// Writes JSON.
        #[arg(long)]
        json: bool,
    },
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    match &arguments.command {
        Command::Add { recipient, label, way_in } => add(global, recipient, label.as_deref(), way_in),
        Command::Remove { name, way_in } => remove(global, name, way_in),
        Command::List { json } => list(global, *json),
    }
}

fn add(global: &Global, argument: &str, label: Option<&str>, way_in: &WayIn) -> CommandResult {
    let (recipient, default_label) = find(argument)?;
    let label = label.map_or(default_label, str::to_owned);
    let plan = global.plan()?;
    add_recipient(&plan, &label, &recipient, way_in)?;
    ui::say(format!("{} can open the vault from now on", ui::printable(&label)));
    Ok(())
}

/// Adds a recipient to a vault, locked or not.
pub fn add_recipient(plan: &Plan, label: &str, recipient: &Recipient, way_in: &WayIn) -> CommandResult {
    let checked = || {
        NewRecipient::new(label, recipient.clone()).map_err(|error| CommandError::new(Status::Usage, error.to_string()))
    };
    checked()?;
    let request = KeyRequest::AddRecipient { label: label.to_owned(), recipient: recipient.as_str().to_owned() };
    change(plan, way_in, request, || checked().map(KeyChange::AddRecipient))
}

fn remove(global: &Global, name: &str, way_in: &WayIn) -> CommandResult {
    // An SSH key may come with its comment.
    let name = Recipient::parse(name).map_or_else(|_| name.to_owned(), |key| key.as_str().to_owned());
    let plan = global.plan()?;
    inside::prepare_for_new_key(&plan)?;
    let request = KeyRequest::RemoveRecipient { name: name.clone() };
    change(&plan, way_in, request, || Ok(KeyChange::RemoveRecipient(name.clone())))?;
    ui::say(format!("{} cannot open the vault any more", ui::printable(&name)));
    ui::say(
        "Copies of the archive made before still open with that key: what is in them and must not be known there has to be \
         changed where it is used.",
    );
    Ok(())
}

fn change(
    plan: &Plan,
    way_in: &WayIn,
    request: KeyRequest,
    key_change: impl Fn() -> CommandResult<KeyChange>,
) -> CommandResult {
    let question = locked::question(plan);
    locked::protect_process()?;
    if let Some(mut client) = Client::connect(&plan.archive)? {
        // Before anybody types anything: a vault of version 1 has none.
        client.recipients()?;
        return way_in.try_with(&question, |proof| Ok(client.change_recipients(proof, request.clone())?));
    }
    locked::require_archive(plan)?;
    read_recipients(&plan.archive)?;
    let (vault, proof) = locked::open(plan, way_in, &question)?;
    vault.change_keys(&proof, key_change()?)?;
    vault.close().map_err(|(_, error)| CommandError::caused("the archive cannot be closed", &*error))
}

fn list(global: &Global, json: bool) -> CommandResult {
    let plan = global.plan()?;
    let (recipients, verified) = match Client::connect(&plan.archive)? {
        Some(mut client) => (client.recipients()?, true),
        None => (read_recipients(&plan.archive)?.into_iter().map(RecipientEntry::from).collect(), false),
    };
    if json {
        let value = serde_json::json!({ "verified": verified, "recipients": recipients });
        return print(&value.to_string());
    }
    for RecipientEntry { label, recipient } in &recipients {
        print(&format!("{}\t{}", ui::printable(label), ui::printable(recipient)))?;
    }
    if recipients.is_empty() {
        ui::say(
            "Nobody: only the passphrase opens the vault. 'tazpod recovery new' makes a key for the day when it is lost.",
        );
    }
    if !verified {
        ui::say("The vault is locked: this is what its archive says, and nothing proves it.");
    }
    Ok(())
}

fn print(line: &str) -> CommandResult {
    ui::print(line).map_err(|error| CommandError::caused("the list cannot be written", &error))
}

/// Makes a recipient of an argument, with the label that it has by default.
fn find(argument: &str) -> CommandResult<(Recipient, String)> {
    let parse = |text: &str| Recipient::parse(text);
    let usage = |error: &dyn std::error::Error| CommandError::new(Status::Usage, error.to_string());
    if argument.starts_with("age1") || !Path::new(argument).exists() {
        let recipient = parse(argument).map_err(|error| {
            usage(&error).hint("name a public key (age1…, ssh-ed25519 …, ssh-rsa …) or a file that holds one")
        })?;
        let label = label_of(&recipient, None);
        return Ok((recipient, label));
    }
    let path = Path::new(argument);
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX).read_to_string(&mut text))
        .map_err(|error| CommandError::caused(format!("cannot read {}", path.display()), &error))?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let recipient = match (lines.next(), lines.next()) {
        (Some(line), None) => parse(line),
        (Some(line), Some(_)) if line.starts_with("-----BEGIN") => parse(line),
        (None, _) => return Err(CommandError::new(Status::Usage, format!("there is no key in {}", path.display()))),
        _ => {
            let text = format!("there is more than one key in {}", path.display());
            return Err(CommandError::new(Status::Usage, text).hint("add them one by one, each with a label"));
        }
    };
    let recipient = recipient.map_err(|error| {
        usage(&error).hint("an SSH key's public half is in FILE.pub; 'age-keygen -y FILE' prints that of an age key")
    })?;
    let label = label_of(&recipient, path.file_stem().and_then(|stem| stem.to_str()));
    Ok((recipient, label))
}

fn label_of(recipient: &Recipient, stem: Option<&str>) -> String {
    match (recipient.comment(), stem) {
        ("", Some(stem)) => stem.to_owned(),
        ("", None) => recipient.as_str().chars().take(16).collect(),
        (comment, _) => comment.to_owned(),
    }
}
