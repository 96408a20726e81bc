//! Walks the blocks of a tar: headers with their checksum, content, padding, the end. Knows no entries.

use std::io::{self, Read};

use tar::Header;
use zeroize::Zeroizing;

use crate::format::FormatError;

use super::{BLOCK, number};

/// Zeros after the end mark that are taken for padding, in bytes (GNU tar fills up to its blocking factor).
const PADDING_MAX: u64 = 16 * 1024 * 1024;
/// Bytes read at a time.
const PIECE: usize = 64 * 1024;

/// The input, and how far it was read.
pub(super) struct Blocks<'a> {
    input: &'a mut dyn Read,
    position: u64,
    /// Where the last header lies, for error texts.
    header_at: u64,
    piece: Zeroizing<Vec<u8>>,
}

impl<'a> Blocks<'a> {
    pub fn new(input: &'a mut dyn Read) -> Self {
        Self { input, position: 0, header_at: 0, piece: Zeroizing::new(vec![0; PIECE]) }
    }

    /// Tells where the last header lies.
    pub fn header_at(&self) -> u64 {
        self.header_at
    }

    /// Reads the next header, or the end mark and all that follows it. A tar without an end mark is refused: it may have
    /// been cut between two entries, and a secret would be missing unnoticed.
    pub fn next_header(&mut self) -> Result<Option<Header>, FormatError> {
        self.header_at = self.position;
        let mut header = Header::new_old();
        self.read_exact(header.as_mut_bytes())?;
        if header.as_bytes().iter().all(|&byte| byte == 0) {
            self.expect_padding()?;
            return Ok(None);
        }
        let is = header.as_bytes().iter().map(|&byte| i64::from(byte)).sum::<i64>();
        let field = &header.as_old().cksum;
        // The checksum counts its own field as spaces.
        let expected = is - field.iter().map(|&byte| i64::from(byte)).sum::<i64>() + 8 * i64::from(b' ');
        if number::read(field) != Some(expected) {
            return Err(self.wrong("the checksum of a header does not fit"));
        }
        Ok(Some(header))
    }

    /// Hands on the content of an entry in pieces and passes over its padding.
    pub fn content(
        &mut self,
        size: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        let mut piece = std::mem::take(&mut self.piece);
        let mut rest = size;
        while rest > 0 {
            let wanted = piece.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            self.read_exact(&mut piece[..wanted])?;
            take(&piece[..wanted])?;
            rest -= wanted as u64;
        }
        let padding = (size.next_multiple_of(BLOCK) - size) as usize;
        self.read_exact(&mut piece[..padding])?;
        self.piece = piece;
        Ok(())
    }

    pub fn wrong(&self, reason: &str) -> FormatError {
        FormatError::Tar { offset: self.header_at, reason: reason.to_owned() }
    }

    fn read_exact(&mut self, out: &mut [u8]) -> Result<(), FormatError> {
        let expected = self.position + out.len() as u64;
        let mut filled = 0;
        while filled < out.len() {
            match read_some(self.input, &mut out[filled..])? {
                0 => return Err(FormatError::Truncated { expected, found: self.position }),
                read => {
                    filled += read;
                    self.position += read as u64;
                }
            }
        }
        Ok(())
    }

    /// After the end mark only zeros may follow.
    fn expect_padding(&mut self) -> Result<(), FormatError> {
        let mut padding = 0;
        loop {
            let read = read_some(self.input, &mut self.piece)?;
            padding += read as u64;
            if read == 0 {
                return Ok(());
            }
            if self.piece[..read].iter().any(|&byte| byte != 0) || padding > PADDING_MAX {
                return Err(self.wrong("data follow after the end of the tar"));
            }
        }
    }
}

fn read_some(input: &mut dyn Read, out: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(out) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
