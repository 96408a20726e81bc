//! What `tazpod status` tells of synchronising on its own, and of merges.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::agent::syncing::{ConflictStatus, SyncState, SyncStatus};
use crate::sync::standing::Standing;
use crate::ui;

/// The line of an unlocked vault.
pub fn line(sync: &SyncStatus) -> String {
    let reason = sync.reason.as_deref().map_or_else(String::new, ui::printable);
    let again = sync.next_try.map_or_else(String::new, |at| match at.saturating_sub(now()) {
        0 => "; tried again now".to_owned(),
        left => format!("; tried again in {}", ui::span(left)),
    });
    let state = match sync.state {
        SyncState::Off => format!("off: {reason}"),
        SyncState::Waiting => "on".to_owned(),
        SyncState::Running if reason.is_empty() => "on, under way".to_owned(),
        SyncState::Running => format!("on, under way; before it failed: {reason}"),
        SyncState::Failing => format!("fails: {reason}{again}"),
        SyncState::Stopped => format!("needs you: {reason}{again}"),
    };
    match sync.remote {
        None => state,
        Some(_) => format!("{state}; {}", past(sync.unpushed == Some(true), sync.last_success)),
    }
}

/// The line of a locked vault.
pub fn locked_line(standing: &Standing) -> String {
    past(!standing.pushed, seconds(standing))
}

/// The same for programs.
pub fn locked_json(standing: Option<&Standing>) -> Value {
    json!({
        "unpushed": standing.map(|standing| !standing.pushed),
        "last_success": standing.and_then(seconds),
    })
}

/// The lines about merges; none without.
pub fn conflict_lines(conflicts: &ConflictStatus) -> Vec<String> {
    if conflicts.count == 0 {
        return Vec::new();
    }
    let head = format!("conflicts {} of merges, to be looked at and removed:", conflicts.count);
    let mut lines = vec![head];
    lines.extend(conflicts.files.iter().map(|file| format!("         {}", ui::printable(file))));
    if conflicts.count > conflicts.files.len() as u64 {
        lines.push("         …".to_owned());
    }
    lines
}

fn past(unpushed: bool, last_success: Option<u64>) -> String {
    let state = if unpushed { "not everything is pushed" } else { "everything is pushed" };
    match last_success {
        Some(at) => format!("{state}, last in step {} ago", ui::span(now().saturating_sub(at))),
        None => format!("{state}, never in step yet"),
    }
}

fn seconds(standing: &Standing) -> Option<u64> {
    Some(standing.agreed?.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: SyncState, reason: Option<&str>) -> SyncStatus {
        SyncStatus {
            state,
            reason: reason.map(str::to_owned),
            remote: Some("/stick".to_owned()),
            last_success: Some(now() - 180),
            next_try: Some(now() + 240),
            unpushed: Some(true),
            at_lock_millis: 10_000,
        }
    }

    #[test]
    fn each_state_says_what_is_wrong_and_what_comes_next() {
        let past = "not everything is pushed, last in step 3 min ago";
        assert_eq!(line(&status(SyncState::Waiting, None)), format!("on; {past}"));
        let failing = line(&status(SyncState::Failing, Some("no\u{1b} way")));
        assert!(failing.starts_with("fails: no\u{fffd} way; tried again in ") && failing.ends_with(past), "{failing}");
        let again = line(&status(SyncState::Running, Some("no way")));
        assert_eq!(again, format!("on, under way; before it failed: no way; {past}"));
        assert!(
            line(&status(SyncState::Stopped, Some("other key"))).starts_with("needs you: other key; tried again in")
        );
        let nowhere = SyncStatus { remote: None, unpushed: None, ..status(SyncState::Off, Some("no remote")) };
        assert_eq!(line(&nowhere), "off: no remote");
    }

    #[test]
    fn conflicts_are_listed_and_cut_short() {
        assert!(conflict_lines(&ConflictStatus::default()).is_empty());
        let lines = conflict_lines(&ConflictStatus { count: 3, files: vec!["a\nb".to_owned(), "c".to_owned()] });
        assert_eq!(lines.len(), 4);
        assert!(lines[0].contains("3 of merges") && lines[1].ends_with("a\u{fffd}b"), "{lines:?}");
    }
}
