//! Sizes and times as people write them: `256M`, `1.5s` is not one of them, `500ms` is.

use std::time::Duration;

/// Reads a size in bytes, or with one of the units K, M, G, T (powers of 1024; `KiB` and the like are the same).
///
/// # Errors
/// In words for the user.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" | "kb" => 10,
        "m" | "mib" | "mb" => 20,
        "g" | "gib" | "gb" => 30,
        "t" | "tib" | "tb" => 40,
        _ => return Err(format!("'{text}' is no size; write one like 256M or 1G")),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| format!("'{text}' is no size; write one like 256M or 1G"))
}

/// Reads a time with one of the units ms, s, m, h, d; a bare number counts seconds.
///
/// # Errors
/// In words for the user.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("'{text}' is no time; write one like 30s or 10m")),
    };
    let millis = number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis));
    millis.map(Duration::from_millis).ok_or_else(|| format!("'{text}' is no time; write one like 30s or 10m"))
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_nonsense_refused() {
        assert_eq!(size("256M"), Ok(256 << 20));
        assert_eq!(size("1 GiB"), Ok(1 << 30));
        assert_eq!(size("17"), Ok(17));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "M", "-1", "1.5G", "10X", "99999999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        for bad in ["", "s", "1y", "1.5s", "-2s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
