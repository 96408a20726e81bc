//! Compression of one data record at a time, so that secrets of different files never share a compressor's window.

use crate::crypto::WipedBytes;
use crate::entry::DATA_MAX;
use crate::format::noise::looks_random;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Of the library's levels, the one that packs text as tightly as others' defaults do; twice as slow as the fastest.
const LEVEL: u32 = 4;

/// Bytes that a record never takes when deflated, whatever it holds: a stream that ends for want of room leaves the library's
/// state such that a later one fails.
const ROOM: usize = DATA_MAX + DATA_MAX / 4 + 64;

/// Raw DEFLATE (RFC 1951) for many records in turn. Takes some 500 KiB once there is something to compress.
#[derive(Default)]
pub(super) struct Deflater(Option<Tools>);

struct Tools {
    compress: Compress,
    out: WipedBytes,
    /// Proves each record before it is written: what cannot be read back would be lost.
    inflater: Inflater,
}

impl Tools {
    fn new() -> Self {
        Self { compress: fresh(), out: WipedBytes::zeros(ROOM), inflater: Inflater::default() }
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
        let Tools { compress, out, inflater } = self.0.get_or_insert_with(Tools::new);
        compress.reset();
        let status = compress.compress(bytes, out, FlushCompress::Finish);
        let len = compress.total_out() as usize;
        if !matches!(status, Ok(Status::StreamEnd)) {
            *compress = fresh();
            return None;
        }
        let small = out.get(..len).filter(|_| len < bytes.len())?;
        let is_sound = inflater.inflate(small, bytes.len()) == Some(bytes);
        debug_assert!(is_sound, "what is deflated comes back");
        is_sound.then_some(small)
    }
}

fn fresh() -> Compress {
    Compress::new(Compression::new(LEVEL), false)
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
        if self.out.is_empty() {
            self.out = WipedBytes::zeros(DATA_MAX);
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
    fn digits_of_noise_shrink() {
        let mut noise = vec![0; DATA_MAX];
        getrandom::fill(&mut noise).unwrap();
        let as_text: Vec<u8> = noise.iter().map(|byte| b"0123456789abcdef"[usize::from(byte % 16)]).collect();
        assert!(Deflater::new().deflate(&as_text).is_some_and(|small| small.len() < DATA_MAX * 6 / 10));
    }
}
