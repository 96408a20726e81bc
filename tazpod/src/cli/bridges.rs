//! Which bridges an unlock makes, and what is told of those that cannot be made.

use std::path::Path;

use crate::agent::bridges::{BridgeRequest, BridgeStatus, OnMissing};
use crate::agent::client::Client;
use crate::agent::protocol::Status;
use crate::config::{self, Bridge, ConfigError, Plan};
use crate::error::CommandResult;
use crate::ui;

use super::{Global, places};

/// Finds out what is to be bridged, with the plan that counts after questions. Bridges of a file that is not trusted are told and left
/// out; a wrong list is an error before anybody types a passphrase.
pub fn wanted(global: &Global, plan: Plan) -> CommandResult<(Plan, Vec<BridgeRequest>)> {
    let (plan, configured) = global.part_of(plan, |plan| Ok(plan.bridges()?.map(<[Bridge]>::to_vec)))?;
    let (bridges, missing) = match configured {
        Ok(Some(bridges)) => (bridges, OnMissing::Make),
        // Another archive than the project's is looked at.
        Ok(None) if global.vault.is_some() => (Vec::new(), OnMissing::Skip),
        Ok(None) => (config::default_bridge().into_iter().collect(), OnMissing::Skip),
        Err(untrusted) => {
            ui::warn(format!("{untrusted}: no bridges are made; look at it and run 'tazpod trust'"));
            (Vec::new(), OnMissing::Skip)
        }
    };
    match (check_places(&plan, &bridges), missing) {
        (Ok(()), _) => {}
        // Nobody asked for it.
        (Err(ConfigError::Value { .. }), OnMissing::Skip) => return Ok((plan, Vec::new())),
        (Err(error), _) => return Err(error.into()),
    }
    let request = |bridge: Bridge| BridgeRequest { source: bridge.source.into_bytes(), target: bridge.target, missing };
    Ok((plan, bridges.into_iter().map(request).collect()))
}

/// Refuses a list of which something would hide something else.
pub fn check_places(plan: &Plan, bridges: &[Bridge]) -> Result<(), ConfigError> {
    config::check_places(bridges, &plan.mount, &places::kept(plan))
}

/// Those that an unlocked vault does not have.
pub fn missing(mut wanted: Vec<BridgeRequest>, status: &Status) -> Vec<BridgeRequest> {
    let place = |target: &Path| config::canonical(target).unwrap_or_else(|_| target.to_owned());
    let is_there = |target: &Path| {
        let found = status.bridges.iter().find(|bridge| place(&bridge.target) == place(target));
        found.is_some_and(|bridge| bridge.problem.is_none())
    };
    wanted.retain(|request| !is_there(&request.target));
    wanted
}

/// Has the agent make them; what cannot be made is told.
pub fn make(plan: &Plan, requests: Vec<BridgeRequest>) -> CommandResult {
    if requests.is_empty() {
        return Ok(());
    }
    let Some(mut client) = Client::connect(&plan.archive)? else { return Ok(()) };
    match client.make_bridges(requests) {
        Ok(made) => made.iter().for_each(tell),
        Err(error) if error.is_hang_up() => ui::warn("no bridges are made: the vault was locked meanwhile"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn tell(bridge: &BridgeStatus) {
    let source = ui::printable(&bridge.source);
    match &bridge.problem {
        None => ui::say(format!("Bridged {source} to {}", bridge.target.display())),
        Some(problem) => ui::warn(format!("{source} is not bridged: {}", ui::printable(problem))),
    }
}
