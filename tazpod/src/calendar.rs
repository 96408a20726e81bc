//! Times as people and file names have them, in UTC.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// A time of day on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    year: u64,
    month: u64,
    day: u64,
    second_of_day: u64,
    millisecond: u32,
}

impl Utc {
    /// A time after 1970.
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (year, month, day) = date(since.as_secs() / 86400);
        Self { year, month, day, second_of_day: since.as_secs() % 86400, millisecond: since.subsec_millis() }
    }

    /// As `20261125T063546.123Z`, which sorts as text and has no colon.
    pub fn compact(&self) -> String {
        let (hour, minute, second) = self.clock();
        format!(
            "{:04}{:02}{:02}T{hour:02}{minute:02}{second:02}.{:03}Z",
            self.year, self.month, self.day, self.millisecond
        )
    }

    /// As RFC 3339 has it, `2026-11-25T06:35:46Z`.
    pub fn rfc_3339(&self) -> String {
        let (hour, minute, second) = self.clock();
        format!("{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", self.year, self.month, self.day)
    }

    fn clock(&self) -> (u64, u64, u64) {
        (self.second_of_day / 3600, self.second_of_day / 60 % 60, self.second_of_day % 60)
    }
}

/// For people: `2026-11-25 06:35:46 UTC`.
impl fmt::Display for Utc {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hour, minute, second) = self.clock();
        let (year, month, day) = (self.year, self.month, self.day);
        write!(formatter, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

/// Year, month and day of a number of days after 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
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
            assert_eq!(Utc::of(UNIX_EPOCH + Duration::from_millis(millis)).compact(), text);
        }
        let utc = Utc::of(UNIX_EPOCH + Duration::from_secs(1_795_588_546));
        assert_eq!(
            (utc.to_string(), utc.rfc_3339()),
            ("2026-11-25 06:35:46 UTC".into(), "2026-11-25T06:35:46Z".into())
        );
    }
}
