//! Ids that name inodes for their life on every machine.

use crate::crypto::{CryptoError, random};
use crate::entry::InodeId;

/// Makes ids: eight bytes drawn at random for each session, then a count. That two sessions of all vaults of one owner draw
/// the same is as good as impossible below 2^30 sessions.
pub(super) struct IdSource {
    session: [u8; 8],
    count: u64,
}

impl IdSource {
    /// Begins a session.
    pub fn new() -> Result<Self, CryptoError> {
        Ok(Self { session: random()?, count: 0 })
    }

    /// An id that was never given before; never the root's.
    pub fn next(&mut self) -> InodeId {
        self.count += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.session);
        id[8..].copy_from_slice(&self.count.to_be_bytes());
        InodeId(id)
    }
}
