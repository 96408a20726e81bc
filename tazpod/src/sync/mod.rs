//! What travels when: the base that both sides last agreed on, what follows from it, copies of the archive that stay as they are
//! while they are sent, and those of before a merge; one at a time. Decides without a key; merging is the vault's.

pub mod base;
pub mod before;
pub mod decision;
pub mod heads;
pub mod settled;
pub mod snapshot;
pub mod standing;
pub mod turn;
pub mod upgraded;
