//! What travels when: the base that both sides last agreed on, what follows from it, and a copy of the archive that stays as it
//! is while it is sent. Decides without a key; knows no merge yet.

pub mod base;
pub mod decision;
pub mod heads;
pub mod snapshot;
