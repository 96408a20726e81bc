//! Tells what is not worth compressing: keys, images, ciphertext. Trying would take most of a commit's time.

use zeroize::Zeroizing;

/// Fewer bytes show too few of their values to be told.
pub const RANDOM_MIN: usize = 1024;

/// Bytes at the beginning of a block that tell text at once.
const GLANCE: usize = 2048;

/// Tells whether all bytes are about equally frequent: the sum of their squared counts is within 5 % of the least possible,
/// where Huffman codes save less than half a percent, apart from what chance adds to it (as much as there are bytes).
pub fn looks_random(bytes: &[u8]) -> bool {
    // A thirty-second of text in 64 KiB adds more than 5 % already.
    let is_text = bytes.get(..GLANCE).is_some_and(|start| squares(start) > 4 * least(start));
    let len = bytes.len() as u64;
    bytes.len() >= RANDOM_MIN && !is_text && squares(bytes) <= least(bytes) + least(bytes) / 20 + len
}

fn least(bytes: &[u8]) -> u64 {
    let len = bytes.len() as u64;
    len * len / 256
}

fn squares(bytes: &[u8]) -> u64 {
    // Several tables: equal bytes that follow each other would otherwise wait for one another.
    let mut tables = Zeroizing::new([[0_u32; 256]; 4]);
    for piece in bytes.chunks(tables.len()) {
        for (table, &byte) in tables.iter_mut().zip(piece) {
            table[usize::from(byte)] += 1;
        }
    }
    let count = |byte: usize| tables.iter().map(|table| u64::from(table[byte])).sum::<u64>();
    (0..256).map(|byte| count(byte) * count(byte)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_told_from_what_shrinks() {
        let mut noise = vec![0; 64 * 1024];
        getrandom::fill(&mut noise).unwrap();
        assert!(looks_random(&noise) && looks_random(&noise[..4096]));
        let as_text: Vec<u8> = noise.iter().map(|byte| b"0123456789abcdef"[usize::from(byte % 16)]).collect();
        assert!(!looks_random(&as_text) && !looks_random(&[0; 64 * 1024]));
        let half: Vec<u8> = noise[..32 * 1024].iter().chain(&as_text[..32 * 1024]).copied().collect();
        assert!(!looks_random(&half) && !looks_random(&noise[..RANDOM_MIN - 1]));
        let headed: Vec<u8> = as_text[..GLANCE].iter().chain(&noise[GLANCE..]).copied().collect();
        assert!(!looks_random(&headed));
    }
}
