//! `tazpod unlock` where the vault is unlocked in the container: what opens it goes to the program there, and nowhere else.

use vaultfs::vault::Secret;
use zeroize::Zeroizing;

use crate::agent::client::Client;
use crate::agent::protocol::Failure;
use crate::config::Plan;
use crate::error::{CommandError, CommandResult, Status};
use crate::inside::call::Side;
use crate::ui;

use super::development::Development;
use super::unlock::Arguments;
use super::{inside, locked};

/// What a vault's place is called.
const PLACE: &str = "~/secrets there";

/// Unlocks it in the container.
pub fn run(development: &Development, arguments: &Arguments) -> CommandResult {
    let plan = &development.plan;
    require_locked_here(plan)?;
    let side = reach(development)?;
    let name = &side.found.name;
    let copies = inside::copies(&side, plan)?;
    if copies.present()?.unlocked {
        ui::say(format!("Unlocked already, in the container '{name}', at {PLACE}"));
        inside::settle(&side, plan)?;
        return Ok(());
    }
    let moved = copies.settle()?;
    if copies.present()?.archive.is_none() {
        return Err(Failure::NoArchive(plan.archive.clone()).into());
    }
    locked::protect_process()?;
    arguments.way_in().try_with(&locked::question(plan), |secret| unlock_with(&side, arguments, secret))?;
    ui::say(format!("Unlocked in the container '{name}', at {PLACE}"));
    // What nobody could merge without a key is merged now.
    if moved.diverged {
        inside::settle(&side, plan)?;
        ui::say("Both copies of the archive had changed: they are merged");
    }
    Ok(())
}

/// The same for who knows already what opens it.
pub fn run_knowing(development: &Development, arguments: &Arguments, secret: &Secret) -> CommandResult {
    let side = reach(development)?;
    inside::copies(&side, &development.plan)?.settle()?;
    unlock_with(&side, arguments, secret)?;
    ui::say(format!("Unlocked in the container '{}', at {PLACE}", side.found.name));
    Ok(())
}

/// What opens the vault is not sent where others could read it.
fn reach(development: &Development) -> CommandResult<Side> {
    if development.engine.is_in_the_clear() {
        let text = format!(
            "the engine at {} is reached without TLS: anybody on the way could read the passphrase",
            development.engine.address()
        );
        return Err(CommandError::new(Status::Container, text).hint(
            "use TLS (DOCKER_TLS_VERIFY=1, DOCKER_CERT_PATH), or forward a port: 'ssh -L 2375:/var/run/docker.sock HOST' and \
             DOCKER_HOST=tcp://localhost:2375",
        ));
    }
    inside::reach(development)
}

/// One vault that is open in two places would be two.
fn require_locked_here(plan: &Plan) -> CommandResult {
    if Client::connect(&plan.archive)?.is_none() {
        return Ok(());
    }
    Err(CommandError::new(
        Status::Failure,
        "the vault is unlocked on this machine, and is to be unlocked in the container",
    )
    .hint("'tazpod lock' first"))
}

/// What opens it goes through the engine's connection to the standard input of the program inside.
fn unlock_with(side: &Side, arguments: &Arguments, secret: &Secret) -> CommandResult {
    let (flag, line) = match secret {
        Secret::Passphrase(passphrase) => ("--passphrase-fd", passphrase.expose(with_line_end)),
        Secret::Identity(identity) if identity.passphrase().is_some() => {
            let text = "a private key with a passphrase of its own does not open a vault in a container";
            return Err(CommandError::new(Status::Usage, text).hint("use the vault's passphrase, or an age identity"));
        }
        Secret::Identity(identity) => ("--identity-fd", identity.expose(with_line_end)),
        Secret::Master(_) => return Err(CommandError::new(Status::Usage, "a key alone does not open a vault inside")),
    };
    let mut words = vec!["unlock", "--no-bridges", "--no-sync", flag, "0"];
    words.extend(arguments.words_for_inside());
    side.call(&words, &line).map(drop)
}

fn with_line_end(secret: &[u8]) -> Zeroizing<Vec<u8>> {
    // Room from the start: growing leaves copies.
    let mut line = Zeroizing::new(Vec::with_capacity(secret.len() + 1));
    line.extend_from_slice(secret);
    line.push(b'\n');
    line
}
