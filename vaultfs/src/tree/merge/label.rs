//! Whose edits a conflict folder holds: a time and a host in its name, and what ids of new inodes are made from, so that two
//! machines that merge the same pair make the same tree.

use crate::crypto::Hasher;
use crate::entry::{InodeId, Timestamp};

/// The longest piece of a host's name that goes into a folder's, in bytes.
const HOST_MAX: usize = 64;

/// Names the side that is merged into the other.
#[derive(Clone, Debug)]
pub struct MergeLabel {
    /// Its last commit.
    pub time: Timestamp,
    /// The host that made it.
    pub host: String,
    /// Different for each state of it.
    pub seed: [u8; 32],
}

impl MergeLabel {
    /// The name of its folder: `20261125T070300Z-host`.
    pub(super) fn folder(&self) -> Vec<u8> {
        let safe = |letter: char| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '-' };
        let host: String = self.host.chars().take(HOST_MAX).map(safe).collect();
        let host = if host.is_empty() { "unknown".to_owned() } else { host };
        format!("{}-{host}", utc(self.time.secs)).into_bytes()
    }

    /// The id of the copy of an inode's content, or of the notes.
    pub(super) fn copy_id(&self, of: &InodeId) -> InodeId {
        id(&[b"tazpod/merge/copy", &self.seed, &of.0])
    }
}

/// The id of a folder that a merge makes.
pub(super) fn folder_id(parent: &InodeId, name: &[u8], number: u32) -> InodeId {
    id(&[b"tazpod/merge/folder", &parent.0, &number.to_le_bytes(), name])
}

fn id(pieces: &[&[u8]]) -> InodeId {
    let mut id = [0; 16];
    id.copy_from_slice(&Hasher::hash(pieces)[..16]);
    InodeId(id)
}

/// A time as `YYYYMMDDTHHMMSSZ`; the calendar is Howard Hinnant's `civil_from_days`.
fn utc(secs: i64) -> String {
    let (days, rest) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_by_time_and_host() {
        let label = |secs, host: &str| {
            let time = Timestamp { secs, nanos: 5 };
            String::from_utf8(MergeLabel { time, host: host.to_owned(), seed: [0; 32] }.folder()).unwrap()
        };
        assert_eq!(label(0, "laptop"), "19700101T000000Z-laptop");
        assert_eq!(label(951_782_399, "a/b é"), "20000228T235959Z-a-b--");
        assert_eq!(label(951_782_400, ""), "20000229T000000Z-unknown");
        assert_eq!(label(1_795_590_180, &"x".repeat(300)).len(), 17 + HOST_MAX);
        assert_eq!(label(-1, "x"), "19691231T235959Z-x");
    }
}
