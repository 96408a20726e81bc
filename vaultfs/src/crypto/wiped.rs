//! Buffers of plaintext that leave nothing behind. `Zeroizing<Vec<u8>>` wipes byte after byte, which takes longer than the ciphers
//! take for what is in it; this writes them at once.

use std::ops::{Deref, DerefMut};

use zeroize::Zeroize;

/// Bytes that are wiped when they go, with the room behind them. A vector that grows leaves its bytes behind: it is made as large as it
/// gets, or given room by [`WipedBytes::make_room`].
#[derive(Default)]
pub struct WipedBytes(Vec<u8>);

impl WipedBytes {
    /// Makes an empty buffer with room for so many bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Makes room for so many more bytes, at least twice what there was; wipes what it leaves.
    pub fn make_room(&mut self, additional: usize) {
        if self.0.capacity() - self.0.len() < additional {
            let mut larger = Self::with_capacity((self.0.len() + additional).max(2 * self.0.capacity()));
            larger.0.extend_from_slice(&self.0);
            *self = larger;
        }
    }

    /// Appends some bytes, with room made for them.
    pub fn append(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Makes a buffer of so many zeros.
    pub fn zeros(len: usize) -> Self {
        Self(vec![0; len])
    }
}

impl From<&[u8]> for WipedBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Deref for WipedBytes {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for WipedBytes {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for WipedBytes {
    fn drop(&mut self) {
        self.0.clear();
        self.0.spare_capacity_mut().zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_is_given_room_keeps_its_bytes_and_grows_by_more_than_is_asked_for() {
        let mut bytes = WipedBytes::with_capacity(4);
        bytes.extend_from_slice(b"abcd");
        bytes.make_room(1);
        assert_eq!((&bytes[..], bytes.capacity()), (&b"abcd"[..], 8));
        bytes.make_room(4);
        assert_eq!(bytes.capacity(), 8);
        bytes.make_room(100);
        assert_eq!((&bytes[..], bytes.capacity()), (&b"abcd"[..], 104));
    }
}
