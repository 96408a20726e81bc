//! The numbers of a tar header: octal digits, or base 256 where those have no room (GNU, star). Knows no header.

/// Reads a number; an empty field is zero. `None` for anything else, and for what does not fit.
pub(super) fn read(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => read_base_256(field),
        _ => read_octal(field),
    }
}

fn read_octal(field: &[u8]) -> Option<i64> {
    let text = field.split(|&byte| byte == 0).find(|part| !part.is_empty()).unwrap_or_default().trim_ascii();
    text.iter().try_fold(0_i64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Two's complement over all bits but the first, most significant byte first.
fn read_base_256(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    let top = if first & 0x40 != 0 { i64::from(*first) - 0x100 } else { i64::from(first & 0x7f) };
    rest.iter().try_fold(top, |number, &byte| number.checked_mul(256)?.checked_add(i64::from(byte)))
}

/// Writes a number: octal digits with a NUL at the end, or base 256 where it has too many.
pub(super) fn write(field: &mut [u8], number: u64) {
    let digits = format!("{number:o}");
    if digits.len() < field.len() {
        field.fill(b'0');
        let end = field.len() - 1;
        field[end - digits.len()..end].copy_from_slice(digits.as_bytes());
        field[end] = 0;
    } else {
        let bytes = number.to_be_bytes();
        let (head, tail) = field.split_at_mut(field.len() - bytes.len().min(field.len()));
        head.fill(0);
        tail.copy_from_slice(&bytes[bytes.len() - tail.len()..]);
        field[0] |= 0x80;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for number in [0, 1, 0o7_777_777, 0o10_000_000, u64::from(u32::MAX)] {
            let mut field = [b'x'; 8];
            write(&mut field, number);
            assert_eq!(read(&field), Some(number as i64), "{number}");
        }
        for number in [0, 0o77_777_777_777, 0o100_000_000_000, i64::MAX as u64] {
            let mut field = [b'x'; 12];
            write(&mut field, number);
            assert_eq!(read(&field), Some(number as i64), "{number}");
        }
    }

    #[test]
    fn what_other_programs_write_is_read() {
        assert_eq!(read(b"0000644\0"), Some(0o644));
        assert_eq!(read(b"   644 \0"), Some(0o644));
        assert_eq!(read(b"644 \0\0\0\0"), Some(0o644));
        assert_eq!(read(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(read(b"        "), Some(0));
        assert_eq!(read(&[0xff; 12]), Some(-1));
        assert_eq!(read(b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0"), Some(i64::MIN));
    }

    #[test]
    fn what_is_no_number_or_too_large_is_refused() {
        for field in [&b"0000648\0"[..], b"+000644\0", b"-1\0\0\0\0\0\0", b"0x1\0\0\0\0\0", b"6 44\0\0\0\0"] {
            assert_eq!(read(field), None, "{field:?}");
        }
        assert_eq!(read(b"\x80\0\0\x01\0\0\0\0\0\0\0\0"), None);
        assert_eq!(read(b"\xff\xff\xff\xff\0\0\0\0\0\0\0\0"), None);
        assert_eq!(read(b"\x80\0\0\0\x80\0\0\0\0\0\0\0"), None);
    }
}
