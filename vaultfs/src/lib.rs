//! A file system that lives in memory, rests in one encrypted archive and is served through FUSE.
//!
//! Layers, imports pointing to the left only: `entry`, `crypto` <- `format`, `tree` <- `vault` <- `fuse`.
//! `format` and `tree` do not know each other; `vault` joins them. Only `fuse` imports fuser.

pub mod crypto;
pub mod entry;
pub mod format;
pub mod fuse;
pub mod tree;
pub mod vault;

/// The released version, from the file VERSION.
pub const VERSION: &str = env!("VAULTFS_VERSION");
