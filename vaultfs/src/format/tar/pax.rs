//! PAX records: `length key=value newline`, the length counting itself. Values may hold any byte.

use crate::entry::Timestamp;

/// A keyword and its value.
pub(super) type Record<'a> = (&'a [u8], &'a [u8]);

/// Reads records one after the other.
///
/// # Errors
/// A word on what is wrong.
pub(super) fn parse(mut data: &[u8]) -> Result<Vec<Record<'_>>, &'static str> {
    let mut records = Vec::new();
    while !data.is_empty() {
        let space = data.iter().position(|&byte| byte == b' ').ok_or("a PAX record has no length")?;
        let digits = std::str::from_utf8(&data[..space]).ok().filter(|text| !text.starts_with('+'));
        let length = digits.and_then(|text| text.parse::<usize>().ok());
        let length = length.filter(|&length| length > space + 1 && length <= data.len());
        let (record, rest) = data.split_at(length.ok_or("a PAX record has a wrong length")?);
        let body = record[space + 1..].strip_suffix(b"\n").ok_or("a PAX record does not end with a newline")?;
        let equals = body.iter().position(|&byte| byte == b'=').ok_or("a PAX record has no value")?;
        records.push((&body[..equals], &body[equals + 1..]));
        data = rest;
    }
    Ok(records)
}

/// Appends a record.
pub(super) fn push(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Reads a time: decimal seconds, perhaps negative, perhaps with a fraction; digits past nanoseconds are dropped.
pub(super) fn parse_time(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') || fraction.contains('.') {
        return None;
    }
    let secs: u64 = whole.parse().ok()?;
    let nanos: u32 = format!("{fraction:0<9.9}").parse().ok()?;
    let (secs, nanos) = match (negative, nanos) {
        (false, _) => (i64::try_from(secs).ok()?, nanos),
        (true, 0) => (0_i64.checked_sub_unsigned(secs)?, 0),
        (true, _) => (0_i64.checked_sub_unsigned(secs)?.checked_sub(1)?, 1_000_000_000 - nanos),
    };
    Some(Timestamp { secs, nanos })
}

/// Writes a time so that [`parse_time`] gives it back.
pub(super) fn format_time(time: Timestamp) -> String {
    let (sign, secs, nanos) = match (time.secs < 0, time.nanos) {
        (false, nanos) => ("", time.secs as u64, nanos),
        (true, 0) => ("-", time.secs.unsigned_abs(), 0),
        (true, nanos) => ("-", time.secs.unsigned_abs() - 1, 1_000_000_000 - nanos),
    };
    if nanos == 0 { format!("{sign}{secs}") } else { format!("{sign}{secs}.{nanos:09}") }
}

/// Writes bytes as hexadecimal digits.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads hexadecimal digits.
pub(super) fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|value| value as u8);
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_whatever_they_hold() {
        let mut data = Vec::new();
        let values: [&[u8]; 4] = [b"", b"a\nb=c 12 x", b"\0\xff", &[b'x'; 95]];
        for value in values {
            push(&mut data, "SCHILY.xattr.user.k", value);
        }
        let read: Vec<&[u8]> = parse(&data).unwrap().into_iter().map(|(_, value)| value).collect();
        assert_eq!(read, values);
        assert!(data.starts_with(b"24 SCHILY.xattr.user.k=\n"));
    }

    #[test]
    fn broken_records_are_refused() {
        let broken: [&[u8]; 8] =
            [b"x", b"99 a=b\n", b"5 a=b", b"6 a=bX", b"5 ab\n", b"0 a=b\n", b"18446744073709551616 a=b\n", b"+7 a=b\n"];
        for record in broken {
            assert!(parse(record).is_err(), "{record:?}");
        }
    }

    #[test]
    fn times_come_back() {
        for (secs, nanos) in
            [(0, 0), (1, 5), (-1, 0), (-1, 999_999_999), (-2, 1), (i64::MAX, 7), (i64::MIN, 0), (i64::MIN, 7)]
        {
            let time = Timestamp { secs, nanos };
            assert_eq!(parse_time(format_time(time).as_bytes()), Some(time), "{time:?}");
        }
        assert_eq!(parse_time(b"1.5"), Some(Timestamp { secs: 1, nanos: 500_000_000 }));
        assert_eq!(parse_time(b"1.0000000019"), Some(Timestamp { secs: 1, nanos: 1 }));
        for wrong in [&b""[..], b"x", b"1.2.3", b"--1", b"1e5", b"99999999999999999999", b"9223372036854775808", b"+1"]
        {
            assert_eq!(parse_time(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn hexadecimal_digits_come_back() {
        assert_eq!(to_hex(b"\0=\xff"), "003dff");
        assert_eq!(from_hex("003dFF").unwrap(), b"\0=\xff");
        assert!(from_hex("0").is_none() && from_hex("0g").is_none() && from_hex("\u{e9}").is_none());
    }
}
