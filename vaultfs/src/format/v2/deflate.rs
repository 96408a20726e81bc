//! Compression of one data record at a time, so that secrets of different files never share a compressor's window.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use zeroize::Zeroizing;

use crate::entry::DATA_MAX;

/// Raw DEFLATE (RFC 1951) with its buffers, for many records in turn.
pub(super) struct Deflater {
    compress: Compress,
    out: Zeroizing<Vec<u8>>,
}

impl Deflater {
    pub fn new() -> Self {
        Self { compress: Compress::new(Compression::fast(), false), out: Zeroizing::new(vec![0; DATA_MAX]) }
    }

    /// Compresses; `None` when that makes it no shorter.
    pub fn deflate(&mut self, bytes: &[u8]) -> Option<&[u8]> {
        self.compress.reset();
        let room = bytes.len().checked_sub(1)?;
        let status = self.compress.compress(bytes, &mut self.out[..room], FlushCompress::Finish);
        let len = self.compress.total_out() as usize;
        matches!(status, Ok(Status::StreamEnd)).then(|| &self.out[..len])
    }
}

/// The way back.
pub(super) struct Inflater {
    decompress: Decompress,
    out: Zeroizing<Vec<u8>>,
}

impl Inflater {
    pub fn new() -> Self {
        Self { decompress: Decompress::new(false), out: Zeroizing::new(vec![0; DATA_MAX]) }
    }

    /// Decompresses to exactly `length` bytes, at most [`DATA_MAX`]; `None` when the input is anything else.
    pub fn inflate(&mut self, bytes: &[u8], length: usize) -> Option<&[u8]> {
        self.decompress.reset(false);
        let out = self.out.get_mut(..length)?;
        let status = self.decompress.decompress(bytes, out, FlushDecompress::Finish).ok()?;
        let (read, written) = (self.decompress.total_in() as usize, self.decompress.total_out() as usize);
        (status == Status::StreamEnd && read == bytes.len() && written == length).then_some(&*out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shrinks_comes_back_and_the_rest_is_left() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
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
}
