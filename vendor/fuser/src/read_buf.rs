use std::mem::align_of;

use crate::ll::fuse_abi as abi;

/// Least size of the content of a request that is received: the value of an extended attribute
/// (`XATTR_SIZE_MAX`), which is as long as that whatever `max_write` is.
const CONTENT_MIN: usize = 64 * 1024;

/// Room for the headers and names of a request.
const HEADER_ROOM: usize = 4096;

/// A buffer that provides an aligned sub-slice for FUSE operations.
///
/// This struct wraps a `Vec<u8>` and provides access to an aligned portion
/// of the buffer, ensuring proper alignment for `fuse_in_header`.
#[derive(Debug)]
pub(crate) struct FuseReadBuf {
    buffer: Vec<u8>,
}

impl FuseReadBuf {
    /// Creates a new `FuseReadBuf` for write requests of up to `max_write` bytes.
    ///
    /// The actual buffer may be slightly larger to accommodate alignment requirements.
    pub(crate) fn new(max_write: u32) -> Self {
        Self {
            buffer: vec![0; CONTENT_MIN.max(max_write as usize) + HEADER_ROOM],
        }
    }

    /// Returns a mutable reference to the aligned portion of the buffer.
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        let alignment = align_of::<abi::fuse_in_header>();
        let off = alignment - (self.buffer.as_ptr() as usize) % alignment;
        if off == alignment {
            &mut self.buffer
        } else {
            &mut self.buffer[off..]
        }
    }
}
