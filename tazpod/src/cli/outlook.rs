//! What `tazpod status` tells people of bridges and of locking by itself.

use std::time::Duration;

use crate::agent::auto_lock::Rules;
use crate::agent::bridges::BridgeStatus;
use crate::agent::leases::AutoLockStatus;
use crate::ui;

/// A line a bridge.
pub fn bridges(bridges: &[BridgeStatus]) -> impl Iterator<Item = String> {
    bridges.iter().map(|bridge| {
        let (source, target) = (ui::printable(&bridge.source), bridge.target.display());
        match &bridge.problem {
            None => format!("bridge   {target} (from {source})"),
            Some(problem) => format!("bridge   {target} (from {source}) is not there: {}", ui::printable(problem)),
        }
    })
}

/// Lines on who needs the vault and when it locks by itself.
pub fn auto_lock(status: &AutoLockStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if !status.leases.is_empty() {
        let leases = status.leases.iter().map(|lease| format!("{} (pid {})", ui::printable(&lease.what), lease.pid));
        lines.push(format!("in use   by {}", leases.collect::<Vec<_>>().join(", ")));
    }
    if let (Some(seconds), Some(reason)) = (status.locks_in_secs, status.reason) {
        let when = if seconds == 0 { "is due".to_owned() } else { format!("in {}", ui::span(seconds)) };
        lines.push(format!("locks    {when}: {}", reason.words()));
    }
    if let Some(refused) = &status.refused {
        lines.push(format!("refused  {}", ui::printable(refused)));
    }
    lines.extend(rules(&status.rules).map(|text| format!("rules    locks {text}")));
    lines
}

fn rules(rules: &Rules) -> Option<String> {
    let span = |time: &Duration| ui::span(time.as_secs());
    let texts = [
        rules.last_lease.then(|| format!("{} after the last shell", span(&rules.grace))),
        rules.idle.as_ref().map(|idle| format!("{} after the last use", span(idle))),
        rules.suspend.then(|| "after suspension".to_owned()),
    ];
    let texts: Vec<String> = texts.into_iter().flatten().collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}
