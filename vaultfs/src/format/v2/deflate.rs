//! Compression of one data record at a time, so that secrets of different files never share a compressor's window.

use crate::crypto::WipedBytes;
use crate::entry::DATA_MAX;
use crate::format::noise::looks_random;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Of the library's levels, the one that packs text as tightly as others' defaults do; twice as slow as the fastest.
const LEVEL: u32 = 4;

/// The shortest input that a compressor is made for, in bytes: a page.
const INPUT_MIN: usize = 4096;

/// Bytes that so many bytes never take when deflated, whatever they are: a stream that ends for want of room leaves the library's
/// state such that a later one fails.
const fn room(input: usize) -> usize {
    input + input / 4 + 64
}

/// Raw DEFLATE (RFC 1951) for many records in turn. Once there is something to compress it takes 300 to 500 KiB, by the longest record:
/// to make and to wipe more would take longer than to compress a small one.
#[derive(Default)]
pub(super) struct Deflater(Option<Tools>);

struct Tools {
    /// Takes as many bytes at most, a power of two.
    input_max: usize,
    compress: Compress,
    out: WipedBytes,
    /// Proves each record before it is written: what cannot be read back would be lost.
    inflater: Inflater,
}

impl Tools {
    fn for_input(len: usize) -> Self {
        let input_max = len.next_power_of_two().max(INPUT_MIN);
        Self {
            input_max,
            compress: fresh(input_max),
            out: WipedBytes::zeros(room(input_max)),
            inflater: Inflater::default(),
        }
    }
}

impl Deflater {
    pub fn new() -> Self {
        Self::default()
    }

    /// Compresses at most [`DATA_MAX`] bytes; `None` when that makes them no shorter.
    pub fn deflate(&mut self, bytes: &[u8]) -> Option<&[u8]> {
        if looks_random(bytes) {
            return None;
        }
        self.0.take_if(|tools| tools.input_max < bytes.len());
        let Tools { input_max, compress, out, inflater } = self.0.get_or_insert_with(|| Tools::for_input(bytes.len()));
        if compress.total_out() > 0 {
            compress.reset();
        }
        let status = compress.compress(bytes, out, FlushCompress::Finish);
        let len = compress.total_out() as usize;
        if !matches!(status, Ok(Status::StreamEnd)) {
            *compress = fresh(*input_max);
            return None;
        }
        let small = out.get(..len).filter(|_| len < bytes.len())?;
        let is_sound = inflater.inflate(small, bytes.len()) == Some(bytes);
        debug_assert!(is_sound, "what is deflated comes back");
        is_sound.then_some(small)
    }
}

/// A compressor whose window takes so many bytes, a power of two, and what it looks ahead, or all that the format allows.
fn fresh(input_max: usize) -> Compress {
    let window_bits = (input_max.ilog2() as u8 + 1).min(15);
    Compress::new_with_window_bits(Compression::new(LEVEL), false, window_bits)
}

/// The way back. Takes some 100 KiB once there is something to inflate.
#[derive(Default)]
pub(super) struct Inflater {
    decompress: Option<Decompress>,
    out: WipedBytes,
}

impl Inflater {
    /// Decompresses to exactly `length` bytes, at most [`DATA_MAX`]; `None` when the input is anything else.
    pub fn inflate(&mut self, bytes: &[u8], length: usize) -> Option<&[u8]> {
        if length > DATA_MAX {
            return None;
        }
        if self.out.len() < length {
            self.out = WipedBytes::zeros(length.next_power_of_two().min(DATA_MAX));
        }
        let out = &mut self.out[..length];
        inflate_with(&mut self.decompress, bytes, out).then_some(&*out)
    }

    /// Decompresses to exactly the bytes that are wanted; false when the input is anything else.
    pub fn inflate_into(&mut self, bytes: &[u8], out: &mut [u8]) -> bool {
        inflate_with(&mut self.decompress, bytes, out)
    }
}

fn inflate_with(decompress: &mut Option<Decompress>, bytes: &[u8], out: &mut [u8]) -> bool {
    let decompress = decompress.get_or_insert_with(|| Decompress::new(false));
    decompress.reset(false);
    let status = decompress.decompress(bytes, out, FlushDecompress::Finish);
    let (read, written) = (decompress.total_in() as usize, decompress.total_out() as usize);
    matches!(status, Ok(Status::StreamEnd)) && read == bytes.len() && written == out.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::noise::RANDOM_MIN;

    #[test]
    fn what_shrinks_comes_back_and_the_rest_is_left() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::default());
        for text in [vec![b'a'; DATA_MAX], b"key = value\n".repeat(50)] {
            let small = deflater.deflate(&text).expect("it shrinks").to_vec();
            assert_eq!(inflater.inflate(&small, text.len()), Some(&text[..]));
            assert!(inflater.inflate(&small, text.len() - 1).is_none());
            assert!(inflater.inflate(&small[..small.len() - 1], text.len()).is_none());
            assert!(inflater.inflate(&[&small[..], b"x"].concat(), text.len()).is_none());
        }
        let noise: [u8; 4096] = crate::crypto::random().unwrap();
        assert!(deflater.deflate(&noise).is_none() && deflater.deflate(b"x").is_none());
    }

    #[test]
    fn noise_never_spoils_what_comes_later() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::default());
        let text = b"key = value\n".repeat(50);
        for rounds in [1, 10, 1000] {
            for _ in 0..rounds {
                let noise: [u8; RANDOM_MIN - 1] = crate::crypto::random().unwrap();
                assert!(deflater.deflate(&noise).is_none());
            }
            let small = deflater.deflate(&text).expect("it shrinks").to_vec();
            assert_eq!(inflater.inflate(&small, text.len()), Some(&text[..]));
        }
    }

    #[test]
    fn records_of_all_lengths_come_back_in_any_order() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::default());
        // What repeats itself only after the longest distance that a small window spans does not shrink, and comes back all the same.
        let mut noise = vec![0; DATA_MAX / 2];
        getrandom::fill(&mut noise).unwrap();
        let twice = [&noise[..], &noise[..]].concat();
        let text = b"key = value, and another one\n".repeat(DATA_MAX / 29 + 1);
        for len in [40, INPUT_MIN, INPUT_MIN + 1, 100, 9000, DATA_MAX, 20_000, DATA_MAX - 1, 4097, 64] {
            let small = deflater.deflate(&text[..len]).expect("it shrinks").to_vec();
            assert_eq!(inflater.inflate(&small, len), Some(&text[..len]));
            if let Some(small) = deflater.deflate(&twice[..len]).map(<[u8]>::to_vec) {
                assert_eq!(inflater.inflate(&small, len), Some(&twice[..len]));
            }
        }
    }

    #[test]
    fn digits_of_noise_shrink() {
        let mut noise = vec![0; DATA_MAX];
        getrandom::fill(&mut noise).unwrap();
        let as_text: Vec<u8> = noise.iter().map(|byte| b"0123456789abcdef"[usize::from(byte % 16)]).collect();
        assert!(Deflater::new().deflate(&as_text).is_some_and(|small| small.len() < DATA_MAX * 6 / 10));
    }
}
