//! `tazpod recovery`

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use vaultfs::crypto::{CryptoError, Identity, Recipient};
use vaultfs::vault::prove_identity;
use zeroize::Zeroizing;

use crate::config::Plan;
use crate::error::{CommandError, CommandResult};
use crate::ui;

use super::way_in::{IdentitySource, WayIn, ask_recovery_key};
use super::{Global, locked, passphrase, recipient};

/// Makes and tests recovery keys, which open the vault when its passphrase is lost (version 2).
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Makes a recovery key and prints it, once: it is kept nowhere. Works on a locked and on an unlocked vault.
    New {
        /// Writes it into this file in place of standard output (0600, never over an existing one).
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// What it is called in 'tazpod recipient list'.
        #[arg(long, default_value = "recovery")]
        label: String,
        #[command(flatten)]
        way_in: WayIn,
    },
    /// Asks for a recovery key and proves that it opens the archive; changes nothing.
    Test {
        #[command(flatten)]
        identity: IdentitySource,
        #[command(flatten)]
        passphrase: passphrase::Source,
    },
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    locked::protect_process()?;
    let plan = global.plan()?;
    match &arguments.command {
        Command::New { output, label, way_in } => new(&plan, output.as_deref(), label, way_in),
        Command::Test { identity, passphrase } => match identity.read(passphrase)? {
            Some(identity) => test(&plan, &identity),
            None => ask_recovery_key(|identity| test(&plan, &identity)),
        },
    }
}

fn new(plan: &Plan, output: Option<&Path>, label: &str, way_in: &WayIn) -> CommandResult {
    let failed = |error: CryptoError| CommandError::caused("a key cannot be made", &error);
    let identity = Identity::generate().map_err(failed)?;
    let public = Recipient::parse(&identity.recipients()[0]).map_err(failed)?;
    let Some(path) = output else {
        recipient::add_recipient(plan, label, &public, way_in)?;
        let told = identity.expose(ui::print_secret);
        return match told {
            Ok(()) => {
                ui::say(
                    "This is the recovery key. It opens the vault without the passphrase, is shown this once and kept nowhere: print \
                     it or write it down, and keep it where you would keep a key to your house.",
                );
                ui::say("Then try it: 'tazpod recovery test'");
                Ok(())
            }
            Err(error) => Err(CommandError::caused("the recovery key cannot be printed", &error)
                .hint(format!("nobody has it: run 'tazpod recipient remove {label}' and make another one"))),
        };
    };
    // The file comes first: a key that opens the vault and is nowhere would be of no use.
    write(path, &identity, &public)?;
    if let Err(error) = recipient::add_recipient(plan, label, &public, way_in) {
        if let Err(left) = std::fs::remove_file(path) {
            ui::warn(format!("{} is of no use and cannot be removed: {left}", path.display()));
        }
        return Err(error);
    }
    ui::say(format!(
        "The recovery key is in {}: it opens the vault without the passphrase. Bring it to a safe place, away from the archive.",
        path.display()
    ));
    ui::say(format!("Try it: 'tazpod recovery test --identity {}'", path.display()));
    Ok(())
}

/// Writes an identity file as age-keygen does.
fn write(path: &Path, identity: &Identity, public: &Recipient) -> CommandResult {
    let failed = |error: &std::io::Error| CommandError::caused(format!("cannot write {}", path.display()), error);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| failed(&error))?;
    let mut text = Zeroizing::new(Vec::with_capacity(512));
    text.extend_from_slice(format!("# recovery key of a tazpod vault\n# public key: {}\n", public.as_str()).as_bytes());
    identity.expose(|key| text.extend_from_slice(key));
    text.push(b'\n');
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(|error| {
        // Nothing of it is worth keeping.
        let _ = std::fs::remove_file(path);
        failed(&error)
    })
}

fn test(plan: &Plan, identity: &Identity) -> CommandResult {
    let slot = prove_identity(&plan.archive, identity)?;
    ui::say(format!("It opens {}, as '{}'", plan.archive.display(), ui::printable(&slot.label)));
    Ok(())
}
