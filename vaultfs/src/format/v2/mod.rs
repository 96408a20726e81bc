//! The append-only archive of version 2, as docs/FORMAT.md describes it: header, segments, chain, records. Bytes and changes;
//! knows no files and no trees.

mod chain;
mod cursor;
mod deflate;
mod header;
mod in_order;
mod order;
mod outline;
mod packers;
mod payload;
mod recipients;
mod record;
mod record_reader;
mod salvage;
mod segment;
mod unpackers;
mod witness;

pub use chain::{Chain, Head, Sequence, SharedHead};
pub use header::{HEADER_MAX, Header, MAGIC, VaultId};
pub use outline::{Outline, Passed};
pub use payload::{Output, SegmentWriter};
pub use recipients::{LABEL_MAX, RECIPIENTS_MAX, RecipientSlot};
pub use record::{CommitInfo, MachineId, ParentList, Record};
pub use salvage::{Found, looks_like_v2};
pub use segment::{Archive, Flaw, Segment, SegmentKind, Source};
pub use witness::{WITNESS_LEN, WITNESS_SLOT_LEN, Witness, WitnessPhase};

/// Ancestors that a checkpoint names.
pub const ANCESTORS: usize = 1000;

/// Shared heads that a segment names.
pub const SHARED_MAX: usize = 4096;

/// How long a shared head stays known as an ancestor, in seconds.
pub const SHARED_SECS: i64 = 366 * 24 * 3600;
