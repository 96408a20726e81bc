//! Names of archives and copies in every kind of remote. None has a colon: FAT has no such names.

use std::time::SystemTime;

use crate::calendar::Utc;

use super::{CopyName, Digest, State};

/// The archive, as people and the old tool know it.
pub const ARCHIVE: &str = "vault.tar.aes";
/// The folder of copies.
pub const HISTORY: &str = "history";
const START: &str = "vault-";
const END: &str = ".tar.aes";

/// Names the file of a head: `vault-<number>-<head>.tar.aes`.
pub fn head_file(state: &State) -> String {
    format!("{START}{}-{}{END}", state.sequence, state.head)
}

/// Number and head that a file's name tells; `None`: it is no head's.
pub fn parse_head_file(name: &str) -> Option<(u64, Digest)> {
    let (number, head) = name.strip_prefix(START)?.strip_suffix(END)?.split_once('-')?;
    Some((parse_number(number)?, head.parse().ok()?))
}

/// Names a copy: `vault-<UTC time>-<number>.tar.aes`.
pub fn copy(now: SystemTime, sequence: u64) -> CopyName {
    CopyName(format!("{START}{}-{sequence}{END}", Utc::of(now).compact()))
}

/// The number that a copy's name tells, if the name is a copy's at all. The old tool's names have none.
pub fn parse_copy(name: &str) -> Option<Option<u64>> {
    let inner = name.strip_prefix(START)?.strip_suffix(END)?;
    if inner.is_empty() || inner.contains('/') {
        return None;
    }
    let ours = inner.split_once("Z-").filter(|(time, _)| time.len() == "20261125T063546.123".len());
    Some(ours.and_then(|(_, number)| parse_number(number)))
}

/// Digits only: `parse` would take a sign.
fn parse_number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_strange_ones_are_not() {
        let state =
            State { format: super::super::description::Format::V2, vault: None, sequence: 12, head: Digest([7; 32]) };
        assert_eq!(parse_head_file(&head_file(&state)), Some((12, Digest([7; 32]))));
        for strange in ["vault.tar.aes", "vault-12-07.tar.aes", "vault-+1-", ".vault-1.tmp", "vault-1.tar.aes"] {
            assert_eq!(parse_head_file(strange), None, "{strange}");
        }
        assert_eq!(parse_copy(&copy(SystemTime::now(), 12).0), Some(Some(12)));
        for old in ["vault-20250102-030405.tar.aes", "vault-2025-01-02T03-04-05Z.tar.aes", "vault-1735787045.tar.aes"] {
            assert_eq!(parse_copy(old), Some(None), "{old}");
        }
        for strange in ["notes.txt", "vault-.tar.aes", "vault.tar.aes", "vault-x/y.tar.aes"] {
            assert_eq!(parse_copy(strange), None, "{strange}");
        }
    }
}
