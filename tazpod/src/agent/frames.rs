//! Frames on a stream socket: a length (u32, little-endian), then that many bytes. One read is never taken for one message.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// The largest frame, in bytes.
pub const FRAME_MAX: usize = 1024 * 1024;
/// How much a stream of frames puts into one.
const FRAME_FILL: usize = 64 * 1024;

/// Writes one frame.
///
/// # Errors
/// The stream fails, or the data are larger than [`FRAME_MAX`].
pub fn write_bytes(stream: &mut impl Write, data: &[u8]) -> io::Result<()> {
    if data.len() > FRAME_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a message is too large"));
    }
    stream.write_all(&(data.len() as u32).to_le_bytes())?;
    stream.write_all(data)?;
    stream.flush()
}

/// Reads one frame; `None` when the stream ended before it.
///
/// # Errors
/// The stream fails, ends within the frame, or declares more than [`FRAME_MAX`] bytes.
pub fn read_bytes(stream: &mut impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut length = [0; 4];
    let mut filled = 0;
    while filled < length.len() {
        match stream.read(&mut length[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message declares too large a size"));
    }
    let mut data = Zeroizing::new(vec![0; length]);
    stream.read_exact(&mut data)?;
    Ok(Some(data))
}

/// Writes a message as JSON.
///
/// # Errors
/// As for [`write_bytes`].
pub fn write<T: Serialize>(stream: &mut impl Write, message: &T) -> io::Result<()> {
    write_bytes(stream, &serde_json::to_vec(message)?)
}

/// Reads a message; the end of the stream is an error.
///
/// # Errors
/// As for [`read_bytes`], or the message is none of `T`.
pub fn read<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let data = read_bytes(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(serde_json::from_slice(&data)?)
}

/// Turns what is written into frames; an empty frame ends it.
pub struct FrameWriter<W: Write> {
    stream: W,
    frame: Zeroizing<Vec<u8>>,
}

impl<W: Write> FrameWriter<W> {
    /// Starts writing.
    pub fn new(stream: W) -> Self {
        Self { stream, frame: Zeroizing::new(Vec::with_capacity(FRAME_FILL)) }
    }

    /// Ends the stream of frames.
    ///
    /// # Errors
    /// The stream fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        write_bytes(&mut self.stream, &[])?;
        Ok(self.stream)
    }
}

impl<W: Write> Write for FrameWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let len = data.len().min(FRAME_FILL - self.frame.len());
        self.frame.extend_from_slice(&data[..len]);
        if self.frame.len() == FRAME_FILL {
            self.flush()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.frame.is_empty() {
            write_bytes(&mut self.stream, &self.frame)?;
            self.frame.clear();
        }
        Ok(())
    }
}

/// Reads what a [`FrameWriter`] wrote, up to its end.
pub struct FrameReader<R: Read> {
    stream: R,
    frame: Zeroizing<Vec<u8>>,
    position: usize,
    ended: bool,
}

impl<R: Read> FrameReader<R> {
    /// Starts reading.
    pub fn new(stream: R) -> Self {
        Self { stream, frame: Zeroizing::default(), position: 0, ended: false }
    }

    /// Reads on to the end, so that the stream can be used for other messages.
    ///
    /// # Errors
    /// The stream fails.
    pub fn drain(mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.position == self.frame.len() && !self.ended {
            self.frame = read_bytes(&mut self.stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            self.position = 0;
            self.ended = self.frame.is_empty();
        }
        let len = out.len().min(self.frame.len() - self.position);
        out[..len].copy_from_slice(&self.frame[self.position..self.position + len]);
        self.position += len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time.
    struct Trickle(Vec<u8>);

    impl Read for Trickle {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() || out.is_empty() {
                return Ok(0);
            }
            out[0] = self.0.remove(0);
            Ok(1)
        }
    }

    #[test]
    fn messages_survive_any_cutting_into_reads() {
        let mut bytes = Vec::new();
        write(&mut bytes, &("hello", 1)).unwrap();
        write(&mut bytes, &("world", 2)).unwrap();
        let mut stream = Trickle(bytes);
        assert_eq!(read::<(String, u8)>(&mut stream).unwrap(), ("hello".into(), 1));
        assert_eq!(read::<(String, u8)>(&mut stream).unwrap(), ("world".into(), 2));
        assert!(read_bytes(&mut stream).unwrap().is_none());
    }

    #[test]
    fn lies_and_cuts_are_errors() {
        assert!(read_bytes(&mut Trickle(vec![0xff; 8])).is_err());
        assert!(read_bytes(&mut Trickle(vec![5, 0, 0, 0, 1])).is_err());
        assert!(read_bytes(&mut Trickle(vec![5, 0])).is_err());
    }

    #[test]
    fn a_stream_of_frames_ends_where_it_ends() {
        let mut writer = FrameWriter::new(Vec::new());
        writer.write_all(&vec![7; FRAME_FILL + 10]).unwrap();
        let mut bytes = writer.finish().unwrap();
        bytes.extend_from_slice(b"rest");
        let mut stream = bytes.as_slice();
        let mut data = Vec::new();
        FrameReader::new(&mut stream).read_to_end(&mut data).unwrap();
        assert_eq!((data.len(), stream), (FRAME_FILL + 10, b"rest".as_slice()));
    }
}
