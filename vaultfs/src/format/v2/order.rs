//! The order that records of a segment come in.

use super::SegmentKind;
use super::record::{
    ANCESTORS, COMMIT, DATA, DROP, HEADER, HOLE, INODE, LINK, REMOVE_XATTR, SET_XATTR, SHARED, TARGET, UNLINK,
};

/// Where in the order the last record stood.
pub(super) struct Order {
    segment: SegmentKind,
    last: Option<u8>,
}

impl Order {
    pub fn new(segment: SegmentKind) -> Self {
        Self { segment, last: None }
    }

    /// Goes on behind a gap with a record of a type.
    pub fn resume(&mut self, kind: u8) {
        self.last = Some(kind);
    }

    /// Tells whether a record of a type may come now.
    pub fn allows(&mut self, kind: u8) -> bool {
        let allowed = match (kind, self.last) {
            (COMMIT, last) => last.is_none(),
            (_, None) => false,
            (ANCESTORS, Some(last)) => last == COMMIT && self.segment == SegmentKind::Checkpoint,
            (HEADER, Some(last)) => match self.segment {
                SegmentKind::Checkpoint => last == ANCESTORS,
                SegmentKind::Delta => last == COMMIT,
            },
            (SHARED, Some(last)) => match self.segment {
                SegmentKind::Checkpoint => last == HEADER,
                SegmentKind::Delta => last == COMMIT || last == HEADER,
            },
            (_, Some(COMMIT | ANCESTORS)) if self.segment == SegmentKind::Checkpoint => false,
            (INODE, Some(last)) => rank(last) <= rank(INODE),
            // What belongs to an inode.
            (TARGET | HOLE | DATA | SET_XATTR | REMOVE_XATTR, Some(last)) => {
                rank(last) == rank(INODE) && step(last) <= step(kind) && (kind != TARGET || last == INODE)
            }
            (UNLINK | LINK | DROP, Some(last)) => rank(last) <= rank(kind),
            _ => false,
        };
        self.last = Some(kind);
        allowed
    }

    /// Tells whether the records may end here.
    pub fn may_end(&self) -> bool {
        match self.segment {
            SegmentKind::Checkpoint => self.last.is_some_and(|last| last != COMMIT && last != ANCESTORS),
            SegmentKind::Delta => self.last.is_some(),
        }
    }
}

/// The place of a type in a segment.
fn rank(kind: u8) -> u8 {
    match kind {
        COMMIT | ANCESTORS | HEADER | SHARED => 0,
        INODE | TARGET | HOLE | DATA | SET_XATTR | REMOVE_XATTR => 1,
        UNLINK => 2,
        LINK => 3,
        _ => 4,
    }
}

/// The place of a type within an inode.
fn step(kind: u8) -> u8 {
    match kind {
        INODE => 0,
        TARGET => 1,
        HOLE => 2,
        DATA => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_sound(segment: SegmentKind, kinds: &[u8]) -> bool {
        let mut order = Order::new(segment);
        kinds.iter().all(|&kind| order.allows(kind)) && order.may_end()
    }

    #[test]
    fn only_the_order_of_the_format_passes() {
        use SegmentKind::{Checkpoint, Delta};
        for (segment, sound) in [
            (Checkpoint, &[COMMIT, ANCESTORS, HEADER][..]),
            (Checkpoint, &[COMMIT, ANCESTORS, HEADER, INODE, TARGET, INODE, HOLE, HOLE, DATA, DATA, SET_XATTR, LINK]),
            (Checkpoint, &[COMMIT, ANCESTORS, HEADER, SHARED, INODE]),
            (Delta, &[COMMIT]),
            (Delta, &[COMMIT, SHARED]),
            (Delta, &[COMMIT, HEADER, SHARED, DROP]),
            (Delta, &[COMMIT, HEADER, INODE, REMOVE_XATTR, SET_XATTR, UNLINK, LINK, DROP]),
            (Delta, &[COMMIT, DROP, DROP]),
        ] {
            assert!(is_sound(segment, sound), "{sound:?}");
        }
        for (segment, wrong) in [
            (Checkpoint, &[][..]),
            (Checkpoint, &[COMMIT]),
            (Checkpoint, &[COMMIT, HEADER]),
            (Checkpoint, &[COMMIT, ANCESTORS, INODE]),
            (Delta, &[COMMIT, ANCESTORS]),
            (Delta, &[INODE]),
            (Delta, &[COMMIT, COMMIT]),
            (Delta, &[COMMIT, INODE, HEADER]),
            (Delta, &[COMMIT, DATA]),
            (Delta, &[COMMIT, UNLINK, DATA]),
            (Delta, &[COMMIT, INODE, DATA, HOLE]),
            (Delta, &[COMMIT, INODE, SET_XATTR, DATA]),
            (Delta, &[COMMIT, INODE, TARGET, TARGET]),
            (Delta, &[COMMIT, LINK, UNLINK]),
            (Delta, &[COMMIT, DROP, INODE]),
            (Delta, &[COMMIT, 14]),
            (Delta, &[COMMIT, SHARED, SHARED]),
            (Delta, &[COMMIT, SHARED, HEADER]),
            (Delta, &[COMMIT, INODE, SHARED]),
            (Checkpoint, &[COMMIT, ANCESTORS, SHARED, HEADER]),
        ] {
            assert!(!is_sound(segment, wrong), "{wrong:?}");
        }
    }
}
