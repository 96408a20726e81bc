//! Names of archives and copies in every kind of remote. None has a colon: FAT has no such names.

use std::time::{SystemTime, UNIX_EPOCH};

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
    CopyName(format!("{START}{}-{sequence}{END}", utc(now)))
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

/// A time as `20261125T063546.123Z`, which sorts as text.
pub fn utc(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86400, since.as_secs() % 86400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{:03}Z", since.subsec_millis())
}

/// Year, month and day of a number of days after 1970-01-01 (Howard Hinnant's `civil_from_days`).
pub fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months count from March here.
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let cases = [
            (0, "19700101T000000.000Z"),
            (951_782_399_999, "20000228T235959.999Z"),
            (951_782_400_000, "20000229T000000.000Z"),
            (1_795_588_546_123, "20261125T063546.123Z"),
            (4_107_542_400_000, "21000301T000000.000Z"),
        ];
        for (millis, text) in cases {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_millis(millis)), text);
        }
    }

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
